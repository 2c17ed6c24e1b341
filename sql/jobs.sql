/*
 * jobs.sql
 *		Durable jobs: tables, functions, views.
 *
 * A job is a row of dsocr.job_queue until it has ended.  It is claimed without
 * writing (a claim is in the memory of the one runner of the database and ends
 * with it), so a job that goes well is one INSERT and one DELETE, and the
 * DELETE is in the same transaction as what the job gave.
 *
 * Nobody but the owner of the database sees the tables: pg_dump needs them,
 * and what it dumps are the owner's own rows of this database.  Others look
 * through the views, which show jobs of roles that they belong to.
 */
CREATE SEQUENCE dsocr.job_id;

COMMENT ON SEQUENCE dsocr.job_id IS 'numbers of jobs';

CREATE TABLE dsocr.job_queue (
	id			pg_catalog.int8 NOT NULL DEFAULT pg_catalog.nextval('dsocr.job_id'),
	priority	pg_catalog.int2 NOT NULL DEFAULT 5
		CONSTRAINT priority_in_range CHECK (priority OPERATOR(pg_catalog.>=) 0 AND priority OPERATOR(pg_catalog.<=) 9),
	attempts	pg_catalog.int2 NOT NULL DEFAULT 0,
	owner		pg_catalog.regrole NOT NULL,
	queued		pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	not_before	pg_catalog.timestamptz,
	source		pg_catalog.regclass,
	attachment	pg_catalog.text,
	key			pg_catalog.text,
	source_column	pg_catalog.text,
	options		pg_catalog.jsonb,
	document	pg_catalog.bytea,
	error		pg_catalog.text,
	sqlstate	pg_catalog.text,
	CONSTRAINT job_queue_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
	autovacuum_vacuum_insert_scale_factor = 0.2, fillfactor = 90);

ALTER TABLE dsocr.job_queue ALTER COLUMN document SET STORAGE EXTERNAL;

-- Jobs of one priority and one role are a lane, and taken in this order; which
-- lane is next the runner knows.  Expressions and not columns: a job looked for
-- by its number must never be looked for in this index.
CREATE INDEX job_queue_order ON dsocr.job_queue
	((priority::pg_catalog.int8 OPERATOR(pg_catalog.*) 4294967296::pg_catalog.int8 OPERATOR(pg_catalog.+) owner::pg_catalog.oid::pg_catalog.int8),
	(id OPERATOR(pg_catalog.+) 0::pg_catalog.int8));

-- At most one job for a row of an attached table: it reads what is there when it runs.
CREATE UNIQUE INDEX job_queue_row ON dsocr.job_queue (source, attachment, pg_catalog.md5(key))
	WHERE attachment IS NOT NULL;

COMMENT ON TABLE dsocr.job_queue IS 'jobs that have not ended; see view dsocr.jobs';
COMMENT ON INDEX dsocr.job_queue_pkey IS 'jobs by number';
COMMENT ON INDEX dsocr.job_queue_order IS 'jobs by priority and role, in the order in which they are taken';
COMMENT ON INDEX dsocr.job_queue_row IS 'jobs by the row that they read';

CREATE TABLE dsocr.job_failed (
	id			pg_catalog.int8 NOT NULL,
	priority	pg_catalog.int2 NOT NULL,
	attempts	pg_catalog.int2 NOT NULL,
	owner		pg_catalog.regrole NOT NULL,
	queued		pg_catalog.timestamptz NOT NULL,
	failed		pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	source		pg_catalog.regclass,
	attachment	pg_catalog.text,
	key			pg_catalog.text,
	source_column	pg_catalog.text,
	options		pg_catalog.jsonb,
	document	pg_catalog.bytea,
	error		pg_catalog.text NOT NULL,
	sqlstate	pg_catalog.text NOT NULL,
	CONSTRAINT job_failed_pkey PRIMARY KEY (id)
);

ALTER TABLE dsocr.job_failed ALTER COLUMN document SET STORAGE EXTERNAL;

CREATE INDEX job_failed_row ON dsocr.job_failed (source, attachment, pg_catalog.md5(key))
	WHERE attachment IS NOT NULL;

COMMENT ON TABLE dsocr.job_failed IS 'jobs that were given up; see view dsocr.failures';
COMMENT ON INDEX dsocr.job_failed_pkey IS 'failed jobs by number';
COMMENT ON INDEX dsocr.job_failed_row IS 'failed jobs by the row that they read';

CREATE TABLE dsocr.job_done (
	id			pg_catalog.int8 NOT NULL,
	priority	pg_catalog.int2 NOT NULL,
	attempts	pg_catalog.int2 NOT NULL,
	owner		pg_catalog.regrole NOT NULL,
	queued		pg_catalog.timestamptz NOT NULL,
	ended		pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	cancelled	pg_catalog.bool NOT NULL,
	source		pg_catalog.regclass,
	key			pg_catalog.text,
	source_column	pg_catalog.text,
	result		pg_catalog.jsonb,
	CONSTRAINT job_done_pkey PRIMARY KEY (id)
);

CREATE INDEX job_done_ended ON dsocr.job_done (ended);

COMMENT ON TABLE dsocr.job_done IS 'jobs that have ended, with what they gave, for dsocr.keep_jobs';
COMMENT ON INDEX dsocr.job_done_pkey IS 'ended jobs by number';
COMMENT ON INDEX dsocr.job_done_ended IS 'ended jobs by age';

-- Jobs of attached tables leave nothing but a count; rows are added up from time to time.
CREATE TABLE dsocr.job_tally (
	source		pg_catalog.regclass NOT NULL,
	attachment	pg_catalog.text NOT NULL,
	started		pg_catalog.timestamptz NOT NULL,
	ended		pg_catalog.timestamptz NOT NULL,
	jobs		pg_catalog.int8 NOT NULL,
	pages		pg_catalog.int8 NOT NULL
);

-- A publication of all tables must not stop deletes.
ALTER TABLE dsocr.job_tally REPLICA IDENTITY FULL;

COMMENT ON TABLE dsocr.job_tally IS 'how many rows of attached tables were read; see view dsocr.progress';

CREATE TABLE dsocr.job_quarantine (
	hash		pg_catalog.bytea NOT NULL,
	error		pg_catalog.text NOT NULL,
	since		pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	CONSTRAINT job_quarantine_pkey PRIMARY KEY (hash)
);

COMMENT ON TABLE dsocr.job_quarantine IS 'SHA-256 of documents that killed engines: jobs do not touch them again';
COMMENT ON INDEX dsocr.job_quarantine_pkey IS 'quarantined documents by hash';

-- What a dump has to bring along.
SELECT pg_catalog.pg_extension_config_dump('dsocr.job_id', '');
SELECT pg_catalog.pg_extension_config_dump('dsocr.job_queue', '');
SELECT pg_catalog.pg_extension_config_dump('dsocr.job_failed', '');
SELECT pg_catalog.pg_extension_config_dump('dsocr.job_done', '');
SELECT pg_catalog.pg_extension_config_dump('dsocr.job_tally', '');
SELECT pg_catalog.pg_extension_config_dump('dsocr.job_quarantine', '');

GRANT SELECT, INSERT ON dsocr.job_queue, dsocr.job_failed, dsocr.job_done, dsocr.job_tally,
	dsocr.job_quarantine TO pg_database_owner;
GRANT SELECT, UPDATE ON SEQUENCE dsocr.job_id TO pg_database_owner;

/*
 * Rows that come from elsewhere than the functions below, that is from a dump:
 * nobody may give jobs to roles that he does not belong to, and a runner is
 * told to look.
 */
CREATE FUNCTION @extschema@.dsocr_job_check()
RETURNS pg_catalog.trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'dsocr_job_check';

COMMENT ON FUNCTION @extschema@.dsocr_job_check() IS
'trigger of the tables of jobs: checks the owner of jobs that come from a dump';

CREATE FUNCTION @extschema@.dsocr_job_queued()
RETURNS pg_catalog.trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'dsocr_job_queued';

COMMENT ON FUNCTION @extschema@.dsocr_job_queued() IS
'trigger of dsocr.job_queue: tells the runner of the database';

CREATE TRIGGER dsocr_job_check BEFORE INSERT ON dsocr.job_queue
	FOR EACH ROW EXECUTE FUNCTION @extschema@.dsocr_job_check();
CREATE TRIGGER dsocr_job_check BEFORE INSERT ON dsocr.job_failed
	FOR EACH ROW EXECUTE FUNCTION @extschema@.dsocr_job_check();
CREATE TRIGGER dsocr_job_queued AFTER INSERT ON dsocr.job_queue
	FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.dsocr_job_queued();

CREATE FUNCTION @extschema@.dsocr_enqueue(
	document pg_catalog.bytea,
	prompt pg_catalog.text DEFAULT NULL,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	priority pg_catalog.int4 DEFAULT 5,
	not_before pg_catalog.timestamptz DEFAULT NULL)
RETURNS pg_catalog.int8
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_enqueue_document';

COMMENT ON FUNCTION @extschema@.dsocr_enqueue(pg_catalog.bytea, pg_catalog.text, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.int4, pg_catalog.timestamptz) IS
'queue a document to be read once this transaction has committed; returns the number of the job';

CREATE FUNCTION @extschema@.dsocr_enqueue_row(
	source pg_catalog.regclass,
	key pg_catalog.jsonb,
	document_column pg_catalog.name,
	prompt pg_catalog.text DEFAULT NULL,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	priority pg_catalog.int4 DEFAULT 5,
	not_before pg_catalog.timestamptz DEFAULT NULL)
RETURNS pg_catalog.int8
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_enqueue_row';

COMMENT ON FUNCTION @extschema@.dsocr_enqueue_row(pg_catalog.regclass, pg_catalog.jsonb, pg_catalog.name, pg_catalog.text, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.int4, pg_catalog.timestamptz) IS
'queue a document that is in a table, by its primary key, such as {"id": 7}; it is read as it is when the job runs';

CREATE FUNCTION @extschema@.dsocr_wait(
	job pg_catalog.int8,
	timeout pg_catalog.interval DEFAULT NULL)
RETURNS @extschema@.dsocr_result
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_wait';

COMMENT ON FUNCTION @extschema@.dsocr_wait(pg_catalog.int8, pg_catalog.interval) IS
'wait until a job has ended and return what it gave; raises the error of a failed job';

CREATE FUNCTION @extschema@.dsocr_cancel(job pg_catalog.int8)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_cancel';

COMMENT ON FUNCTION @extschema@.dsocr_cancel(pg_catalog.int8) IS
'take a job out of the queue; false when it has already ended';

CREATE FUNCTION @extschema@.dsocr_retry(job pg_catalog.int8)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_retry_one';

COMMENT ON FUNCTION @extschema@.dsocr_retry(pg_catalog.int8) IS
'queue a failed job again, with all its attempts; false when it has not failed';

CREATE FUNCTION @extschema@.dsocr_retry()
RETURNS pg_catalog.int8
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_retry_all';

COMMENT ON FUNCTION @extschema@.dsocr_retry() IS
'queue all failed jobs of one''s own roles again; returns how many';

CREATE FUNCTION @extschema@.dsocr_quarantine_clear(hash pg_catalog.bytea DEFAULT NULL)
RETURNS pg_catalog.int8
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_quarantine_clear';

COMMENT ON FUNCTION @extschema@.dsocr_quarantine_clear(pg_catalog.bytea) IS
'let jobs read a quarantined document again, or all of them; returns how many';

REVOKE EXECUTE ON FUNCTION @extschema@.dsocr_quarantine_clear(pg_catalog.bytea) FROM PUBLIC;

CREATE VIEW dsocr.jobs WITH (security_barrier) AS
	SELECT q.id,
		CASE WHEN q.not_before OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() THEN 'delayed' ELSE 'queued' END AS state,
		q.owner, q.priority, q.attempts, q.queued, q.not_before, NULL::pg_catalog.timestamptz AS ended,
		q.source, q.key, COALESCE(q.source_column, q.attachment) AS source_column, q.error, q.sqlstate
	FROM dsocr.job_queue AS q
	WHERE pg_catalog.pg_has_role(q.owner, 'USAGE')
	UNION ALL
	SELECT f.id, 'failed', f.owner, f.priority, f.attempts, f.queued, NULL, f.failed,
		f.source, f.key, COALESCE(f.source_column, f.attachment), f.error, f.sqlstate
	FROM dsocr.job_failed AS f
	WHERE pg_catalog.pg_has_role(f.owner, 'USAGE')
	UNION ALL
	SELECT d.id, CASE WHEN d.cancelled THEN 'cancelled' ELSE 'done' END, d.owner, d.priority, d.attempts,
		d.queued, NULL, d.ended, d.source, d.key, d.source_column, NULL, NULL
	FROM dsocr.job_done AS d
	WHERE pg_catalog.pg_has_role(d.owner, 'USAGE');

COMMENT ON VIEW dsocr.jobs IS
'jobs of roles that one belongs to: queued, delayed (until not_before, after an attempt failed), failed, done, cancelled';

CREATE VIEW dsocr.failures WITH (security_barrier) AS
	SELECT f.id, f.owner, f.error AS reason, f.sqlstate, f.attempts, f.queued, f.failed, f.source, f.key,
		COALESCE(f.source_column, f.attachment) AS source_column
	FROM dsocr.job_failed AS f
	WHERE pg_catalog.pg_has_role(f.owner, 'USAGE');

COMMENT ON VIEW dsocr.failures IS
'jobs that were given up, and why; dsocr_retry queues them again';

GRANT SELECT ON dsocr.jobs, dsocr.failures TO PUBLIC;
