-- Legal holds: projects of which nothing may go.

CREATE TABLE legal_holds (
    project_id bigint PRIMARY KEY REFERENCES projects ON DELETE CASCADE,
    reason text,
    placed_by text NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN legal_holds.placed_by IS 'The principal';
