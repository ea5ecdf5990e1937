-- What servers of Agent Mail ask of every connection, as what their role brings along: a pooler that lends connections by
-- the transaction does not hand their asking on. Run it once, on PostgreSQL itself, as the role of their DATABASE_URL:
-- a role may do this for itself.  psql --no-psqlrc --set ON_ERROR_STOP=1 --file pooled.sql "$DIRECT_URL"
--
-- The times are milliseconds and must be those of the servers: DATABASE_STATEMENT_TIMEOUT (twice) and _LOCK_TIMEOUT.
BEGIN;
ALTER ROLE CURRENT_USER IN DATABASE :"DBNAME" SET synchronous_commit = 'on';
ALTER ROLE CURRENT_USER IN DATABASE :"DBNAME" SET statement_timeout = '5000';
ALTER ROLE CURRENT_USER IN DATABASE :"DBNAME" SET lock_timeout = '2000';
ALTER ROLE CURRENT_USER IN DATABASE :"DBNAME" SET idle_in_transaction_session_timeout = '5000';
ALTER ROLE CURRENT_USER IN DATABASE :"DBNAME" SET random_page_cost = '1.1';
ALTER ROLE CURRENT_USER IN DATABASE :"DBNAME" SET enable_seqscan = 'off';
ALTER ROLE CURRENT_USER IN DATABASE :"DBNAME" SET jit = 'off';
COMMIT;
