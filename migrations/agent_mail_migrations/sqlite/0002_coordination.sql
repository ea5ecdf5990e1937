-- Contacts, leases (reservations, build slots, reviews), products, attachments, the agents that are not agents, and
-- projects that are on their way out.

-- Overseer and System: a person's and the service's own mailbox in each project. Nobody registers or acts as them.
ALTER TABLE agents ADD COLUMN is_service INTEGER NOT NULL DEFAULT 0 CHECK (is_service IN (0, 1));
INSERT INTO agents (team_id, project_id, name, program, model, contact_policy, owner, is_service, registered_at,
    last_active_at)
SELECT p.team_id, p.id, s.column1, 'agent-mail', 'none', s.column2, 'service', 1, unixepoch() * 1000000,
    unixepoch() * 1000000
FROM projects p CROSS JOIN (VALUES ('Overseer', 'open'), ('System', 'block_all')) AS s;
INSERT INTO mailboxes (agent_id) SELECT id FROM agents WHERE is_service;

-- A deleted project gives its slug and key away at once, and its rows go later, in small steps.
ALTER TABLE projects ADD COLUMN deleted_at INTEGER;
-- What slug and human_key were: these hold names then that nobody can give.
ALTER TABLE projects ADD COLUMN deleted_slug TEXT;
ALTER TABLE projects ADD COLUMN deleted_key TEXT;
CREATE INDEX projects_deleted ON projects (id) WHERE deleted_at IS NOT NULL;

-- agent_id asked to write to contact_id; once accepted, each may write to the other.
CREATE TABLE contacts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
    agent_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    contact_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    status TEXT NOT NULL CHECK (status IN ('pending', 'accepted', 'rejected')),
    reason TEXT,
    -- How long an acceptance lasts; null: for good.
    ttl INTEGER,
    requested_at INTEGER NOT NULL,
    decided_at INTEGER,
    expires_at INTEGER,
    UNIQUE (agent_id, contact_id)
) STRICT;
CREATE INDEX contacts_by_contact ON contacts (contact_id, agent_id);

CREATE TABLE blocks (
    agent_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    blocked_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    blocked_at INTEGER NOT NULL,
    PRIMARY KEY (agent_id, blocked_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX blocks_by_blocked ON blocks (blocked_id);

-- One row a project, made with its first lease.
CREATE TABLE lease_counters (
    project_id INTEGER PRIMARY KEY REFERENCES projects ON DELETE CASCADE,
    -- The last fence given: the next is higher.
    fence INTEGER NOT NULL DEFAULT 0 CHECK (fence >= 0),
    -- Changes with the set of reservations, so that a decision made outside the lock can be checked inside.
    version INTEGER NOT NULL DEFAULT 0 CHECK (version >= 0)
) STRICT;

CREATE TABLE reservations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
    project_id INTEGER NOT NULL REFERENCES projects ON DELETE CASCADE,
    agent_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    pattern TEXT NOT NULL CHECK (length(CAST(pattern AS BLOB)) BETWEEN 1 AND 1024),
    is_literal INTEGER NOT NULL CHECK (is_literal IN (0, 1)),
    is_exclusive INTEGER NOT NULL CHECK (is_exclusive IN (0, 1)),
    is_advisory INTEGER NOT NULL CHECK (is_advisory IN (0, 1)),
    reason TEXT,
    fence INTEGER NOT NULL CHECK (fence > 0),
    granted_at INTEGER NOT NULL,
    renewed_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- Null: not let go. Whether such a lease is live its expires_at says.
    released_at INTEGER,
    release_kind TEXT CHECK (release_kind IN ('released', 'expired', 'forced', 'transferred', 'retired')),
    released_by TEXT,
    release_reason TEXT,
    UNIQUE (project_id, fence)
) STRICT;
CREATE INDEX reservations_live ON reservations (project_id, expires_at) WHERE released_at IS NULL;
CREATE INDEX reservations_by_agent ON reservations (agent_id, expires_at) WHERE released_at IS NULL;
CREATE INDEX reservations_by_project ON reservations (project_id, id);
-- What was let go a moment ago is kept for the head of a queue.
CREATE INDEX reservations_freed ON reservations (project_id, released_at) WHERE released_at IS NOT NULL;
CREATE INDEX reservations_of_agent ON reservations (agent_id, id);

CREATE TABLE build_slots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
    project_id INTEGER NOT NULL REFERENCES projects ON DELETE CASCADE,
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    type TEXT NOT NULL CHECK (length(type) BETWEEN 1 AND 64),
    capacity INTEGER NOT NULL CHECK (capacity BETWEEN 1 AND 100),
    created_at INTEGER NOT NULL,
    UNIQUE (project_id, name, type)
) STRICT;

CREATE TABLE slot_leases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    slot_id INTEGER NOT NULL REFERENCES build_slots ON DELETE CASCADE,
    agent_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    fence INTEGER NOT NULL CHECK (fence > 0),
    acquired_at INTEGER NOT NULL,
    renewed_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    released_at INTEGER
) STRICT;
CREATE UNIQUE INDEX slot_leases_live ON slot_leases (slot_id, agent_id) WHERE released_at IS NULL;
CREATE INDEX slot_leases_by_agent ON slot_leases (agent_id) WHERE released_at IS NULL;
CREATE INDEX slot_leases_freed ON slot_leases (slot_id, released_at) WHERE released_at IS NOT NULL;

-- A place in a queue for a lease. Asking again keeps it; who does not ask for a minute loses it.
CREATE TABLE lease_tickets (
    -- The order of arrival: given under the project's lease lock.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES projects ON DELETE CASCADE,
    agent_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('reservation', 'slot')),
    -- What is asked for, as canonical JSON: what makes two askings the same.
    wanted TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    asked_at INTEGER NOT NULL,
    UNIQUE (project_id, kind, agent_id, wanted)
) STRICT;
CREATE INDEX lease_tickets_in_order ON lease_tickets (project_id, kind, id);

CREATE TABLE reviews (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
    project_id INTEGER NOT NULL REFERENCES projects ON DELETE CASCADE,
    thread_id INTEGER NOT NULL REFERENCES threads ON DELETE CASCADE,
    message_id INTEGER REFERENCES messages ON DELETE SET NULL,
    requester_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('requested', 'claimed', 'done', 'cancelled')),
    -- A JSON array.
    paths TEXT NOT NULL,
    note TEXT,
    claimer_id INTEGER REFERENCES agents ON DELETE SET NULL,
    fence INTEGER,
    claimed_at INTEGER,
    claim_expires_at INTEGER,
    verdict TEXT CHECK (verdict IN ('approve', 'request_changes', 'comment')),
    created_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE INDEX reviews_by_project ON reviews (project_id, id);
CREATE INDEX reviews_by_claimer ON reviews (claimer_id) WHERE state = 'claimed';
CREATE INDEX reviews_by_thread ON reviews (thread_id);
CREATE INDEX reviews_by_message ON reviews (message_id) WHERE message_id IS NOT NULL;

CREATE TABLE review_reviewers (
    review_id INTEGER NOT NULL REFERENCES reviews ON DELETE CASCADE,
    agent_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    place INTEGER NOT NULL,
    PRIMARY KEY (review_id, agent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX review_reviewers_by_agent ON review_reviewers (agent_id, review_id);

CREATE TABLE products (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    description TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (team_id, name)
) STRICT;

CREATE TABLE product_projects (
    product_id INTEGER NOT NULL REFERENCES products ON DELETE CASCADE,
    project_id INTEGER NOT NULL REFERENCES projects ON DELETE CASCADE,
    linked_at INTEGER NOT NULL,
    PRIMARY KEY (product_id, project_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX product_projects_by_project ON product_projects (project_id, product_id);

-- Bytes are stored once a team; attachments point at them.
CREATE TABLE blobs (
    team_id INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    size INTEGER NOT NULL CHECK (size >= 0),
    content BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (team_id, sha256)
) STRICT;

CREATE TABLE attachments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    public_id TEXT NOT NULL,
    team_id INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
    project_id INTEGER NOT NULL REFERENCES projects ON DELETE CASCADE,
    uploader_id INTEGER NOT NULL REFERENCES agents ON DELETE CASCADE,
    file_name TEXT NOT NULL CHECK (length(file_name) BETWEEN 1 AND 255),
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    sha256 BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (team_id, sha256) REFERENCES blobs (team_id, sha256) ON DELETE CASCADE,
    UNIQUE (team_id, public_id)
) STRICT;
CREATE INDEX attachments_by_blob ON attachments (team_id, sha256);
CREATE INDEX attachments_by_project ON attachments (project_id, id);
CREATE INDEX attachments_by_uploader ON attachments (uploader_id);

CREATE TABLE message_attachments (
    message_id INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
    attachment_id INTEGER NOT NULL REFERENCES attachments ON DELETE CASCADE,
    place INTEGER NOT NULL,
    PRIMARY KEY (message_id, attachment_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_attachments_by_attachment ON message_attachments (attachment_id, message_id);

-- What a team has stored, kept with each change so that a quota is one row to look at. Made with its first blob.
CREATE TABLE team_usage (
    team_id INTEGER PRIMARY KEY REFERENCES teams ON DELETE CASCADE,
    blob_bytes INTEGER NOT NULL DEFAULT 0 CHECK (blob_bytes >= 0)
) STRICT;

CREATE INDEX events_by_team ON events (team_id, id);
