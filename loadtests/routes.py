"""The operations that the load test's agents call, with their REST routes."""

ROUTES = {
    "ensure_project": "POST /api/project/ensure",
    "register_agent": "POST /api/agent/register",
    "list_agents": "GET /api/agent/list",
    "send_message": "POST /api/message/send",
    "reply_message": "POST /api/message/reply",
    "check_inbox": "GET /api/inbox",
    "wait_for_messages": "GET /api/inbox/wait",
    "mark_read": "POST /api/message/read",
    "acknowledge_message": "POST /api/message/acknowledge",
    "search_messages": "GET /api/message/search",
    "get_thread": "GET /api/thread/{thread_id}",
}
