-- Background work: what is to be done, how far each follower of the events has come, and what it made.

-- Work of one kind for one subject: a project, a thread. The queue only says where to look; the row is the work.
CREATE TABLE jobs (
    kind TEXT NOT NULL,
    subject_id INTEGER NOT NULL,
    -- Null: work of no team, such as a sweep.
    team_id INTEGER REFERENCES teams ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'dead')),
    -- Asked for while it ran: it runs once more.
    is_wanted_again INTEGER NOT NULL DEFAULT 0 CHECK (is_wanted_again IN (0, 1)),
    run_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    fence INTEGER NOT NULL DEFAULT 0 CHECK (fence >= 0),
    leased_until INTEGER,
    last_error TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (kind, subject_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_due ON jobs (run_at) WHERE state <> 'dead';

-- How far a project's archive has come: the last event in it, and the commit that holds it.
CREATE TABLE archives (
    project_id INTEGER PRIMARY KEY REFERENCES projects ON DELETE CASCADE,
    head TEXT NOT NULL,
    tree TEXT NOT NULL,
    position_xact INTEGER NOT NULL,
    position_id INTEGER NOT NULL,
    archived_events INTEGER NOT NULL DEFAULT 0,
    pushed_head TEXT,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE summaries (
    thread_id INTEGER PRIMARY KEY REFERENCES threads ON DELETE CASCADE,
    engine TEXT NOT NULL,
    up_to_message_id INTEGER NOT NULL,
    message_count INTEGER NOT NULL,
    -- JSON, as the core's summaries make it.
    content TEXT NOT NULL,
    -- JSON: what was noted of each message, for the next summary to go on from.
    notes TEXT NOT NULL,
    -- Another is wanted in its place, made from nothing.
    is_discarded INTEGER NOT NULL DEFAULT 0 CHECK (is_discarded IN (0, 1)),
    made_at INTEGER NOT NULL
) STRICT;
