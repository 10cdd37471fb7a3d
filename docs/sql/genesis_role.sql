-- The role by which the agent looks at a PostgreSQL server and cares for it, with no more than that takes.
-- For PostgreSQL 14 to 16; what differs from 17 on stands at the end. Run it as a superuser, in each database that is
-- configured as a [[database.instance]]:
--
--   psql -X -v ON_ERROR_STOP=1 -v genesis_role=genesis -v owner_role=trading -d trades -f genesis_role.sql
--
-- genesis_role is made if it is missing. owner_role is whoever owns the tables that are cared for; leave it out, and the
-- role looks and ends sessions, and cares for nothing.
\set QUIET on
\if :{?genesis_role}
\else
  \set genesis_role genesis
\endif

SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT 20', :'genesis_role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'genesis_role') \gexec

-- What everybody does, how large everything is, and how far replication is. It reads no table of anybody.
GRANT pg_monitor TO :"genesis_role";
-- To end sessions, but never those of a superuser.
GRANT pg_signal_backend TO :"genesis_role";
-- It needs no room of its own, and its searches can't be led astray.
ALTER ROLE :"genesis_role" SET search_path = pg_catalog;

-- Care (VACUUM, ANALYZE, REINDEX) is for owners up to version 16. Membership gives all of the owner's rights, reading
-- included: leave it out where that is too much. On 17 and later use the variant below instead.
\if :{?owner_role}
  SELECT format('GRANT %I TO %I', :'owner_role', :'genesis_role')
  WHERE current_setting('server_version_num')::int < 170000 \gexec
\endif

-- Where the extensions are installed, their looks at indexes read no rows.
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, :'genesis_role')
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE (e.extname = 'amcheck' AND p.proname = 'bt_index_check')
   OR (e.extname = 'pgstattuple' AND p.proname IN ('pgstatindex', 'pgstattuple_approx')) \gexec

-- In a fleet, where several hosts may care for the database (-v fleet=yes): what keeps out a host that was overtaken.
\if :{?fleet}
  CREATE SCHEMA IF NOT EXISTS genesis_fleet;
  CREATE TABLE IF NOT EXISTS genesis_fleet.fence
    (resource text PRIMARY KEY, token bigint NOT NULL, holder text NOT NULL, taken_at timestamptz NOT NULL DEFAULT now());
  GRANT USAGE ON SCHEMA genesis_fleet TO :"genesis_role";
  GRANT SELECT, INSERT, UPDATE ON genesis_fleet.fence TO :"genesis_role";
\endif

-- Only where the agent makes the backups itself (pg_basebackup reads everything, as any backup does):
--
--   ALTER ROLE :"genesis_role" REPLICATION;
--
-- From 17 on, instead of membership: maintenance of everything, and no reading.
--
--   GRANT pg_maintain TO :"genesis_role";
--
-- or of single tables: GRANT MAINTAIN ON trades, positions TO :"genesis_role";
-- Such a role may not see the statistics by which bloat is estimated: install pgstattuple, so that it is measured. And
-- it may drop no index: what a rebuild leaves that was cut off is told, with the SQL, and the owner drops it.
--
-- From 16 on, so that the agent still gets in when all ordinary slots are taken (and reserved_connections is over 0):
--
--   GRANT pg_use_reserved_connections TO :"genesis_role";
--
-- Up to 15 it keeps one connection open for that.
--
-- Only where trades_probe or a check of yours asks tables: GRANT SELECT ON open_orders TO :"genesis_role";
-- and name them with their schema, as this role looks nowhere by itself.
--
-- Only to have the queries of deadlocks told from the server's log; it lets the role read every file of the server:
--
--   GRANT pg_read_server_files TO :"genesis_role";
--   GRANT EXECUTE ON FUNCTION pg_current_logfile(), pg_stat_file(text), pg_read_binary_file(text, bigint, bigint)
--     TO :"genesis_role";
