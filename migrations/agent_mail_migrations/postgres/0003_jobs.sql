-- Background work: what is to be done, how far each follower of the events has come, and what it made.

-- Work of one kind for one subject: a project, a thread. The queue only says where to look; the row is the work.
CREATE TABLE jobs (
    kind text COLLATE "C" NOT NULL,
    subject_id bigint NOT NULL,
    team_id bigint REFERENCES teams ON DELETE CASCADE,
    state text NOT NULL CHECK (state IN ('waiting', 'running', 'dead')),
    is_wanted_again boolean NOT NULL DEFAULT false,
    run_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    fence bigint NOT NULL DEFAULT 0 CHECK (fence >= 0),
    leased_until timestamptz,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, subject_id)
) WITH (fillfactor = 70);
COMMENT ON COLUMN jobs.is_wanted_again IS 'Asked for while it ran: it runs once more';
COMMENT ON COLUMN jobs.team_id IS 'Null: work of no team, such as a sweep';
CREATE INDEX jobs_due ON jobs (run_at) WHERE state <> 'dead';

-- How far a project's archive has come: the last event in it, and the commit that holds it.
CREATE TABLE archives (
    project_id bigint PRIMARY KEY REFERENCES projects ON DELETE CASCADE,
    head text NOT NULL,
    tree text NOT NULL,
    position_xact bigint NOT NULL,
    position_id bigint NOT NULL,
    archived_events bigint NOT NULL DEFAULT 0,
    pushed_head text,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

CREATE TABLE summaries (
    thread_id bigint PRIMARY KEY REFERENCES threads ON DELETE CASCADE,
    engine text NOT NULL,
    up_to_message_id bigint NOT NULL,
    message_count bigint NOT NULL,
    content text NOT NULL,
    notes text NOT NULL,
    is_discarded boolean NOT NULL DEFAULT false,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON COLUMN summaries.content IS 'JSON, as the core''s summaries make it';
COMMENT ON COLUMN summaries.notes IS 'JSON: what was noted of each message, for the next summary to go on from';
COMMENT ON COLUMN summaries.is_discarded IS 'Another is wanted in its place, made from nothing';
