-- Webhooks: who is told of events, how far each of them has come, and what came of the last deliveries.

CREATE TABLE webhooks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
    -- Null: the events of all projects of the team.
    project_id INTEGER REFERENCES projects ON DELETE CASCADE,
    url TEXT NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    -- JSON: the kinds of events; none: all.
    kinds TEXT NOT NULL,
    -- As it is: what is sent is signed with it.
    secret TEXT NOT NULL,
    -- Where it stands among the events.
    position_xact INTEGER NOT NULL,
    position_id INTEGER NOT NULL,
    -- Of the delivery that fails, if one does.
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    failing_since INTEGER,
    next_attempt_at INTEGER,
    -- Null: it is enabled.
    disabled_at INTEGER,
    disabled_reason TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX webhooks_by_team ON webhooks (team_id, id);
CREATE INDEX webhooks_by_project ON webhooks (project_id) WHERE project_id IS NOT NULL;

CREATE TABLE webhook_deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id INTEGER NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    position_xact INTEGER NOT NULL,
    -- No foreign key: the event may be forgotten.
    event_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('delivered', 'waiting', 'failed')),
    attempts INTEGER NOT NULL CHECK (attempts > 0),
    status_code INTEGER,
    error TEXT,
    created_at INTEGER NOT NULL,
    attempted_at INTEGER NOT NULL,
    UNIQUE (webhook_id, event_id)
) STRICT;
CREATE INDEX webhook_deliveries_in_order ON webhook_deliveries (webhook_id, id);
