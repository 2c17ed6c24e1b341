-- Six roles by every object of the extension: what differs from this output is a change of rights.
CREATE ROLE regress_dsocr_super SUPERUSER;
CREATE ROLE regress_dsocr_owner CREATEROLE CREATEDB;
CREATE ROLE regress_dsocr_monitor IN ROLE pg_monitor;
CREATE ROLE regress_dsocr_stats IN ROLE pg_read_all_stats;
CREATE ROLE regress_dsocr_operator;
CREATE ROLE regress_dsocr_user;
SELECT current_database() AS db \gset
GRANT ALL ON DATABASE :"db" TO regress_dsocr_owner;
GRANT ALL ON SCHEMA public TO regress_dsocr_owner;
GRANT EXECUTE ON FUNCTION dsocr_reload(), dsocr_stats_reset() TO regress_dsocr_operator;

CREATE VIEW member AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS object
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'dsocr'
WHERE d.deptype = 'e';

CREATE FUNCTION rights(role name, classid oid, objid oid) RETURNS text LANGUAGE sql AS $$
SELECT CASE classid::regclass::text
	WHEN 'pg_proc' THEN CASE WHEN has_function_privilege(role, objid, 'EXECUTE') THEN 'X' ELSE '' END
	WHEN 'pg_type' THEN CASE WHEN has_type_privilege(role, objid, 'USAGE') THEN 'U' ELSE '' END
	WHEN 'pg_namespace' THEN
		CASE WHEN has_schema_privilege(role, objid, 'USAGE') THEN 'U' ELSE '' END ||
		CASE WHEN has_schema_privilege(role, objid, 'CREATE') THEN 'C' ELSE '' END
	WHEN 'pg_class' THEN (
		SELECT string_agg(CASE WHEN has_table_privilege(role, objid, p) THEN left(p, 1) END, '' ORDER BY p)
		FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p)
	ELSE '?' END $$;

\pset format unaligned
SELECT object,
	rights('regress_dsocr_super', classid, objid) AS super,
	rights('regress_dsocr_owner', classid, objid) AS owner,
	rights('regress_dsocr_monitor', classid, objid) AS monitor,
	rights('regress_dsocr_stats', classid, objid) AS stats,
	rights('regress_dsocr_operator', classid, objid) AS operator,
	rights('regress_dsocr_user', classid, objid) AS "user"
FROM member WHERE classid <> 'pg_type'::regclass OR object !~ '\[\]$|^type dsocr\.|^type "?_'
ORDER BY object COLLATE "C";
\pset format aligned

-- Nothing runs with the rights of somebody else.
SELECT objid::regprocedure FROM member JOIN pg_proc p ON p.oid = objid
WHERE classid = 'pg_proc'::regclass AND p.prosecdef;

-- What a role without any grants can do, and what it cannot.
SET ROLE regress_dsocr_user;
SELECT count(*) > 0 AS workers FROM dsocr.workers;
SELECT count(*) >= 0 AS requests FROM dsocr.requests;
SELECT count(*) > 0 AS stats FROM dsocr.stats;
SELECT dsocr_text('bad');
SELECT dsocr_reload();
SELECT dsocr_stats_reset();
SET dsocr.model = '/tmp/model';
SET dsocr.weights = 'fp32';
SET dsocr.devices = 'cpu';
SET dsocr.engine_path = '/bin/true';
SET dsocr.max_requests = 1;
SET dsocr.queue_memory = '1MB';
SET dsocr.threads = 1;
SET dsocr.max_image_bytes = '1GB';
SET dsocr.max_pixels = 1;
SET dsocr.max_requests_per_role = 0;
SET dsocr.log_requests = on;
SET dsocr.mode = 'tiny';
SET dsocr.max_tokens = 10;
SET dsocr.on_error = 'null';
SET dsocr.unknown = 1;
\set VERBOSITY sqlstate
SHOW dsocr.model;
SHOW dsocr.engine_path;
DROP VIEW dsocr.stats;
CREATE TABLE dsocr.mine (x int);
INSERT INTO dsocr.workers DEFAULT VALUES;
\set VERBOSITY default
RESET ROLE;
RESET dsocr.mode;
RESET dsocr.max_tokens;
RESET dsocr.on_error;

-- Jobs, their documents and what they gave are for their roles.
SET ROLE regress_dsocr_user;
SELECT dsocr_enqueue('secret', not_before => 'infinity') AS job \gset
SELECT state, owner FROM dsocr.jobs WHERE id = :job;
\set VERBOSITY sqlstate
SELECT count(*) FROM dsocr.job_queue;
SELECT count(*) FROM dsocr.job_done;
SELECT count(*) FROM dsocr.job_failed;
SELECT count(*) FROM dsocr.job_quarantine;
INSERT INTO dsocr.job_queue (owner, document) VALUES ('regress_dsocr_super', 'x');
SELECT nextval('dsocr.job_id');
SELECT dsocr_quarantine_clear();
SELECT dsocr_attach('pg_catalog.pg_largeobject', 'data', 'body');
SELECT dsocr_attach('page', 'image', 'body');
SELECT dsocr_backfill('page', 'image');
SELECT dsocr_forget('page', 'dsocr_image');
SELECT dsocr_enqueue_row('page', '{"name": "note"}', 'image');
SET dsocr.run_jobs = off;
SET dsocr.runners = 64;
SET dsocr.max_attempts = 1000;
\set VERBOSITY default
SET ROLE regress_dsocr_owner;
SELECT count(*) AS seen FROM dsocr.jobs WHERE id = :job;
SELECT dsocr_cancel(:job), dsocr_retry(:job);
\set VERBOSITY sqlstate
SELECT dsocr_wait(:job);
\set VERBOSITY default
-- no function of one's own gets to see more
CREATE FUNCTION leak(int8, text) RETURNS bool COST 0.0001 LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'leaked %', $1; RETURN true; END $$;
SELECT count(*) AS seen FROM dsocr.jobs WHERE leak(id, state) AND id = :job;
DROP FUNCTION leak;
RESET ROLE;
SELECT owner FROM dsocr.jobs WHERE id = :job;
SET ROLE regress_dsocr_user;
SELECT dsocr_cancel(:job);
RESET ROLE;

-- Rights on these two can be given away.
SET ROLE regress_dsocr_operator;
SELECT dsocr_stats_reset();
RESET ROLE;

DELETE FROM dsocr.job_done WHERE id = :job;
DROP FUNCTION rights;
DROP VIEW member;
REVOKE EXECUTE ON FUNCTION dsocr_reload(), dsocr_stats_reset() FROM regress_dsocr_operator;
REVOKE ALL ON SCHEMA public FROM regress_dsocr_owner;
REVOKE ALL ON DATABASE :"db" FROM regress_dsocr_owner;
DROP ROLE regress_dsocr_super, regress_dsocr_owner, regress_dsocr_monitor, regress_dsocr_stats,
	regress_dsocr_operator, regress_dsocr_user;
