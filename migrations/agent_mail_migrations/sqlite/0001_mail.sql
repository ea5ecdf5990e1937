-- Teams, projects, agents, mail, events, outbox. Every row belongs to a team; no query crosses teams.
-- A row that is written with each message has a foreign key to the nearest row that it goes with, and none that this one
-- implies: a message goes with its thread, a thread and an event with their project, a delivery with its message.
-- Times are microseconds since 1970 in UTC. COLLATE NOCASE ignores the case of ASCII, which is all that names and keys have.

CREATE TABLE facts (
    -- epoch: changes at a restore; cursor_key: signs cursors; oldest_code: the oldest version that may serve
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE teams (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO teams (id, name, created_at) VALUES (1, 'default', unixepoch() * 1000000);

CREATE TABLE projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
    human_key TEXT NOT NULL CHECK (length(human_key) BETWEEN 1 AND 1024),
    slug TEXT NOT NULL CHECK (length(slug) BETWEEN 1 AND 100 AND slug NOT GLOB '*[^a-z0-9-]*'),
    description TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (team_id, slug),
    UNIQUE (team_id, human_key)
) STRICT;

CREATE TABLE agents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
    project_id INTEGER NOT NULL REFERENCES projects ON DELETE CASCADE,
    name TEXT NOT NULL COLLATE NOCASE
        CHECK (length(name) BETWEEN 1 AND 64 AND name NOT GLOB '*[^A-Za-z0-9_-]*' AND name GLOB '[A-Za-z0-9]*'),
    program TEXT NOT NULL,
    model TEXT NOT NULL,
    task_description TEXT,
    contact_policy TEXT NOT NULL CHECK (contact_policy IN ('open', 'auto', 'contacts_only', 'block_all')),
    owner TEXT NOT NULL,
    registered_at INTEGER NOT NULL,
    last_active_at INTEGER NOT NULL,
    retired_at INTEGER,
    UNIQUE (project_id, name)
) STRICT;
CREATE INDEX agents_by_activity ON agents (project_id, last_active_at DESC) WHERE retired_at IS NULL;
CREATE INDEX agents_by_team ON agents (team_id);

CREATE TABLE mailboxes (
    agent_id INTEGER PRIMARY KEY REFERENCES agents ON DELETE CASCADE,
    position INTEGER NOT NULL DEFAULT 0 CHECK (position >= 0),
    unread INTEGER NOT NULL DEFAULT 0 CHECK (unread >= 0)
) STRICT;

CREATE TABLE threads (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id INTEGER NOT NULL,
    project_id INTEGER NOT NULL REFERENCES projects ON DELETE CASCADE,
    key TEXT NOT NULL COLLATE NOCASE
        CHECK (length(key) BETWEEN 1 AND 128 AND key NOT GLOB '*[^A-Za-z0-9._:-]*' AND key GLOB '[A-Za-z0-9]*'),
    subject TEXT NOT NULL,
    message_count INTEGER NOT NULL DEFAULT 0,
    last_message_id INTEGER NOT NULL DEFAULT 0,
    last_message_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (project_id, key)
) STRICT;
CREATE INDEX threads_by_last_message ON threads (project_id, last_message_at DESC, id DESC);
CREATE INDEX threads_by_team ON threads (team_id);

CREATE TABLE thread_participants (
    thread_id INTEGER NOT NULL REFERENCES threads ON DELETE CASCADE,
    agent_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    -- So far only a bcc recipient: known to itself alone.
    is_hidden INTEGER NOT NULL CHECK (is_hidden IN (0, 1)),
    PRIMARY KEY (thread_id, agent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX thread_participants_by_agent ON thread_participants (agent_id, thread_id);

CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    thread_id INTEGER NOT NULL REFERENCES threads ON DELETE CASCADE,
    sender_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    parent_id INTEGER REFERENCES messages ON DELETE SET NULL,
    subject TEXT NOT NULL CHECK (length(subject) BETWEEN 1 AND 200),
    body_md TEXT NOT NULL CHECK (octet_length(body_md) <= 262144),
    priority INTEGER NOT NULL CHECK (priority BETWEEN -1 AND 2),
    ack_required INTEGER NOT NULL CHECK (ack_required IN (0, 1)),
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_by_project ON messages (project_id, id);
CREATE INDEX messages_by_thread ON messages (thread_id, id);
CREATE INDEX messages_by_sender ON messages (sender_id, id);
CREATE INDEX messages_by_team ON messages (team_id, id);
CREATE INDEX messages_by_parent ON messages (parent_id) WHERE parent_id IS NOT NULL;

-- Tokens of the core's search_text in their ASCII form; the rowid is the message's id.
CREATE VIRTUAL TABLE message_text USING fts5 (
    subject, body, wholes,
    content = '', contentless_delete = 1, tokenize = "ascii tokenchars '_'"
);
CREATE TRIGGER message_text_follows_messages AFTER DELETE ON messages BEGIN
    DELETE FROM message_text WHERE rowid = old.id;
END;

CREATE TABLE deliveries (
    agent_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    position INTEGER NOT NULL CHECK (position > 0),
    message_id INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
    project_id INTEGER NOT NULL,
    sender_id INTEGER NOT NULL,
    thread_id INTEGER NOT NULL,
    -- 0 to, 1 cc, 2 bcc
    kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 2),
    -- Where the recipient stood among those of the message.
    place INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    ack_required INTEGER NOT NULL CHECK (ack_required IN (0, 1)),
    created_at INTEGER NOT NULL,
    read_at INTEGER,
    acknowledged_at INTEGER,
    PRIMARY KEY (agent_id, position),
    UNIQUE (message_id, agent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_unread ON deliveries (agent_id, position) WHERE read_at IS NULL;
CREATE INDEX deliveries_by_thread ON deliveries (thread_id, agent_id, position);
CREATE INDEX deliveries_owed_by ON deliveries (agent_id, message_id) WHERE ack_required AND acknowledged_at IS NULL;
CREATE INDEX deliveries_owed_to ON deliveries (sender_id, message_id, agent_id)
    WHERE ack_required AND acknowledged_at IS NULL;
CREATE INDEX deliveries_owed_in ON deliveries (project_id, message_id, agent_id)
    WHERE ack_required AND acknowledged_at IS NULL;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id INTEGER NOT NULL,
    project_id INTEGER NOT NULL REFERENCES projects ON DELETE CASCADE,
    kind TEXT NOT NULL,
    agent_id INTEGER REFERENCES agents ON DELETE SET NULL,
    message_id INTEGER,
    data TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(data)),
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX events_by_project ON events (project_id, id);
CREATE INDEX events_by_agent ON events (agent_id, id);

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id INTEGER NOT NULL REFERENCES events ON DELETE CASCADE,
    topic TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_by_event ON outbox (event_id, topic);
CREATE INDEX outbox_by_topic ON outbox (topic, id);

CREATE TABLE idempotency_keys (
    team_id INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
    principal TEXT NOT NULL,
    agent_id INTEGER NOT NULL,
    operation TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    response TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (team_id, principal, agent_id, operation, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
