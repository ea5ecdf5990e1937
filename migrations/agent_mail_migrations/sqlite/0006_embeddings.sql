-- Embeddings of messages, for searches by meaning. Vectors are of one model each: another model's stand beside them
-- until they are complete. Without the sqlite-vec extension all of it can still be written and removed.

CREATE TABLE embedding_models (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
    name TEXT NOT NULL,
    dimensions INTEGER NOT NULL CHECK (dimensions BETWEEN 1 AND 4096),
    -- All mail of the team had its vector once; what came since follows within seconds.
    is_ready INTEGER NOT NULL DEFAULT 0 CHECK (is_ready IN (0, 1)),
    used_at INTEGER NOT NULL,
    UNIQUE (team_id, name, dimensions)
) STRICT;

-- Up to which message a project's mail was embedded: below it nothing is missing, above it something may be.
CREATE TABLE embedding_positions (
    model_id INTEGER NOT NULL REFERENCES embedding_models ON DELETE CASCADE,
    project_id INTEGER NOT NULL REFERENCES projects ON DELETE CASCADE,
    message_id INTEGER NOT NULL,
    -- About how many messages have a vector.
    vectors INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (model_id, project_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX embedding_positions_by_project ON embedding_positions (project_id);

-- float32, little-endian, of length 1; null: the model does not take this text.
CREATE TABLE message_vectors (
    id INTEGER PRIMARY KEY,
    message_id INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
    model_id INTEGER NOT NULL REFERENCES embedding_models ON DELETE CASCADE,
    vector BLOB,
    UNIQUE (message_id, model_id)
) STRICT;
CREATE INDEX message_vectors_by_model ON message_vectors (model_id);

-- The vectors' signs, a bit each, beside what searches filter by: all of a project's are looked through.
CREATE TABLE message_codes (
    model_id INTEGER NOT NULL REFERENCES embedding_models ON DELETE CASCADE,
    project_id INTEGER NOT NULL,
    message_id INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
    sender_id INTEGER NOT NULL,
    thread_id INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    code BLOB NOT NULL,
    PRIMARY KEY (model_id, project_id, message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_codes_by_message ON message_codes (message_id);
