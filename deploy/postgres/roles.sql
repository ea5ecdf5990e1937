-- Two roles for Agent Mail: the owner, as which `agent-mail migrate` changes the schema, and the application, as which the
-- servers read and write rows and nothing else. Run it in the mail's database as an administrator; again at any time, to
-- set passwords anew:  psql --no-psqlrc --set ON_ERROR_STOP=1 --file roles.sql  with both passwords in the environment.

\getenv owner_password AGENT_MAIL_OWNER_PASSWORD
\getenv app_password AGENT_MAIL_APP_PASSWORD
-- Unset variables end it here: they stay as they are written, which is no SQL.
SELECT length(:'owner_password') > 0 AND length(:'app_password') > 0 AS has_passwords;

BEGIN;
SET LOCAL password_encryption = 'scram-sha-256';
-- Passwords are to stay out of the server's log; administrators of managed databases may not say so.
SELECT set_config('log_statement', 'none', true) FROM pg_roles WHERE rolname = current_user AND rolsuper;

SELECT format('CREATE ROLE %I', name) FROM (VALUES ('agent_mail_owner'), ('agent_mail_app')) AS roles (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE agent_mail_owner LOGIN PASSWORD :'owner_password';
ALTER ROLE agent_mail_app LOGIN PASSWORD :'app_password';

-- Nobody else comes in, and nobody but the owner makes anything: no tables, no temporary ones, no schemas.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO agent_mail_owner, agent_mail_app', current_database()) \gexec
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO agent_mail_owner;
GRANT USAGE ON SCHEMA public TO agent_mail_app;

-- What the owner makes, in this migration or in a later one, the application may use. The second half is for a schema
-- that is there already.
GRANT agent_mail_owner TO CURRENT_USER;
ALTER DEFAULT PRIVILEGES FOR ROLE agent_mail_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO agent_mail_app;
ALTER DEFAULT PRIVILEGES FOR ROLE agent_mail_owner IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO agent_mail_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO agent_mail_app;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO agent_mail_app;
COMMIT;
