-- Legal holds: projects of which nothing may go.

CREATE TABLE legal_holds (
    project_id INTEGER PRIMARY KEY REFERENCES projects ON DELETE CASCADE,
    reason TEXT,
    -- The principal.
    placed_by TEXT NOT NULL,
    placed_at INTEGER NOT NULL
) STRICT;
