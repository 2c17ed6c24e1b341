/*
 * watch.sql
 *		Watching and steering: views, statistics, reload.
 *
 * Who and what of a request is shown to its role and to pg_read_all_stats;
 * the functions see to that themselves, so PUBLIC may use them.
 */
CREATE FUNCTION @extschema@.dsocr_workers(
	OUT device pg_catalog.text,
	OUT state pg_catalog.text,
	OUT pid pg_catalog.int4,
	OUT engine_pid pg_catalog.int4,
	OUT model pg_catalog.text,
	OUT fingerprint pg_catalog.text,
	OUT weights pg_catalog.text,
	OUT sandbox pg_catalog.text,
	OUT memory_bytes pg_catalog.int8,
	OUT private_bytes pg_catalog.int8,
	OUT queued pg_catalog.int4,
	OUT running pg_catalog.int4,
	OUT tokens_per_second pg_catalog.float8,
	OUT restarts pg_catalog.int8,
	OUT started_at pg_catalog.timestamptz,
	OUT error pg_catalog.text,
	OUT hint pg_catalog.text,
	OUT description pg_catalog.text)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE PARALLEL SAFE ROWS 1
AS 'MODULE_PATHNAME', 'dsocr_workers';

COMMENT ON FUNCTION @extschema@.dsocr_workers() IS
'one row for each device; see view dsocr.workers';

CREATE FUNCTION @extschema@.dsocr_requests(
	OUT slot pg_catalog.int4,
	OUT pid pg_catalog.int4,
	OUT role pg_catalog.oid,
	OUT database pg_catalog.oid,
	OUT state pg_catalog.text,
	OUT task pg_catalog.text,
	OUT mode pg_catalog.text,
	OUT page pg_catalog.int4,
	OUT pages pg_catalog.int4,
	OUT device pg_catalog.text,
	OUT views_done pg_catalog.int4,
	OUT views pg_catalog.int4,
	OUT image_tokens pg_catalog.int4,
	OUT text_tokens pg_catalog.int4,
	OUT age pg_catalog.interval,
	OUT attempts pg_catalog.int4,
	OUT waits_for pg_catalog.int4)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE PARALLEL SAFE ROWS 10
AS 'MODULE_PATHNAME', 'dsocr_requests';

COMMENT ON FUNCTION @extschema@.dsocr_requests() IS
'one row for each request in flight; see view dsocr.requests';

CREATE FUNCTION @extschema@.dsocr_stats(
	OUT device pg_catalog.text,
	OUT completed pg_catalog.int8,
	OUT failed pg_catalog.int8,
	OUT cancelled pg_catalog.int8,
	OUT retried pg_catalog.int8,
	OUT cache_hits pg_catalog.int8,
	OUT image_tokens pg_catalog.int8,
	OUT text_tokens pg_catalog.int8,
	OUT waited_ms pg_catalog.float8,
	OUT preprocess_ms pg_catalog.float8,
	OUT encode_ms pg_catalog.float8,
	OUT prefill_ms pg_catalog.float8,
	OUT decode_ms pg_catalog.float8,
	OUT p50_ms pg_catalog.float8,
	OUT p95_ms pg_catalog.float8,
	OUT p99_ms pg_catalog.float8,
	OUT max_ms pg_catalog.float8,
	OUT since pg_catalog.timestamptz)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE PARALLEL SAFE ROWS 2
AS 'MODULE_PATHNAME', 'dsocr_stats';

COMMENT ON FUNCTION @extschema@.dsocr_stats() IS
'counts, tokens and times since the last reset; see view dsocr.stats';

CREATE FUNCTION @extschema@.dsocr_status(
	OUT version pg_catalog.text,
	OUT workers pg_catalog.int4,
	OUT ready pg_catalog.int4,
	OUT slots pg_catalog.int4,
	OUT slots_used pg_catalog.int4,
	OUT waiting pg_catalog.int4,
	OUT queue_memory pg_catalog.int8,
	OUT queue_memory_used pg_catalog.int8,
	OUT model pg_catalog.text,
	OUT cache_size pg_catalog.int8,
	OUT cache_used pg_catalog.int8,
	OUT cache_entries pg_catalog.int8,
	OUT cache_evicted pg_catalog.int8)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE PARALLEL SAFE ROWS 1
AS 'MODULE_PATHNAME', 'dsocr_status';

COMMENT ON FUNCTION @extschema@.dsocr_status() IS
'one row: library version, workers and how many of them are ready, request slots, queue memory in bytes, model, answers that are kept and their memory in bytes';

CREATE FUNCTION @extschema@.dsocr_reload()
RETURNS pg_catalog.int4
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'dsocr_reload';

COMMENT ON FUNCTION @extschema@.dsocr_reload() IS
'start the engines anew, for example after a model folder was repaired; returns the number of workers told to';

CREATE FUNCTION @extschema@.dsocr_stats_reset()
RETURNS pg_catalog.void
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'dsocr_stats_reset_all';

COMMENT ON FUNCTION @extschema@.dsocr_stats_reset() IS
'set the counters of dsocr.stats to zero';

CREATE FUNCTION @extschema@.dsocr_usage(
	OUT role pg_catalog.oid,
	OUT pages pg_catalog.int8,
	OUT cache_hits pg_catalog.int8,
	OUT image_tokens pg_catalog.int8,
	OUT text_tokens pg_catalog.int8,
	OUT device_seconds pg_catalog.float8,
	OUT since pg_catalog.timestamptz)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE PARALLEL SAFE ROWS 10
AS 'MODULE_PATHNAME', 'dsocr_usage';

COMMENT ON FUNCTION @extschema@.dsocr_usage() IS
'what each role used since the last reset; see view dsocr.usage';

CREATE FUNCTION @extschema@.dsocr_cache_clear()
RETURNS pg_catalog.int8
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'dsocr_clear_cache';

COMMENT ON FUNCTION @extschema@.dsocr_cache_clear() IS
'drop all answers that are kept; returns how many there were';

CREATE TABLE dsocr.cache (
	key			pg_catalog.bytea NOT NULL,
	model		pg_catalog.text NOT NULL,
	version		pg_catalog.text NOT NULL,
	created		pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	answer		pg_catalog.bytea NOT NULL
);

-- A publication of all tables must not stop deletes.
ALTER TABLE dsocr.cache REPLICA IDENTITY FULL;

-- Not unique: whoever reads must not wait for the transaction of another reader.
CREATE INDEX cache_key ON dsocr.cache (key);

COMMENT ON TABLE dsocr.cache IS 'answers that are kept where dsocr.cache_table is on, by a hash of document and options; not dumped';
COMMENT ON INDEX dsocr.cache_key IS 'answers by key';

CREATE FUNCTION @extschema@.dsocr_cache_prune(older_than pg_catalog.interval DEFAULT '30 days')
RETURNS pg_catalog.int8
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_prune_cache';

COMMENT ON FUNCTION @extschema@.dsocr_cache_prune(pg_catalog.interval) IS
'delete answers from table dsocr.cache that are older, of another version, or there twice; returns how many there were';

-- These act on the whole server.  Superusers may let others use them.
REVOKE EXECUTE ON FUNCTION @extschema@.dsocr_reload() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.dsocr_stats_reset() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.dsocr_cache_clear() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.dsocr_cache_prune(pg_catalog.interval) FROM PUBLIC;

CREATE VIEW dsocr.workers AS
	SELECT w.device, w.description, w.state, w.pid, w.engine_pid, w.model, w.fingerprint, w.weights, w.sandbox,
		w.memory_bytes, w.private_bytes, w.queued, w.running, w.tokens_per_second, w.restarts,
		w.started_at, w.error, w.hint
	FROM @extschema@.dsocr_workers() AS w;

COMMENT ON VIEW dsocr.workers IS
'devices and their engines: state, model, memory, requests, speed, last trouble; device pages is the page server';
COMMENT ON COLUMN dsocr.workers.memory_bytes IS
'resident memory of the engine; weights are mapped, so engines of one model share most of it';
COMMENT ON COLUMN dsocr.workers.private_bytes IS
'resident memory that is the engine''s own';

CREATE VIEW dsocr.requests AS
	SELECT r.slot, r.pid, pg_catalog.pg_get_userbyid(r.role) AS role, d.datname AS database,
		r.state, r.task, r.mode, r.page, r.pages, r.device, r.views_done, r.views, r.image_tokens, r.text_tokens,
		r.age, r.attempts, r.waits_for
	FROM @extschema@.dsocr_requests() AS r
		LEFT JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) r.database;

COMMENT ON VIEW dsocr.requests IS
'requests in flight: whose, what, how far; documents that are open; sessions that have joined the equal request of another';
COMMENT ON COLUMN dsocr.requests.waits_for IS
'joined: the session whose request it is';

CREATE VIEW dsocr.stats AS
	SELECT s.device, s.completed, s.failed, s.cancelled, s.retried, s.cache_hits, s.image_tokens,
		s.text_tokens, s.waited_ms, s.preprocess_ms, s.encode_ms, s.prefill_ms, s.decode_ms,
		s.p50_ms, s.p95_ms, s.p99_ms, s.max_ms, s.since
	FROM @extschema@.dsocr_stats() AS s;

COMMENT ON VIEW dsocr.stats IS
'what each device did since the last reset, times in milliseconds; device NULL counts requests that ended before they reached one, and pages whose answer was kept';

CREATE VIEW dsocr.usage AS
	SELECT pg_catalog.pg_get_userbyid(u.role) AS role, u.pages, u.cache_hits, u.image_tokens,
		u.text_tokens, u.device_seconds, u.since
	FROM @extschema@.dsocr_usage() AS u;

COMMENT ON VIEW dsocr.usage IS
'pages, tokens and engine time of each role since the last reset: one''s own roles, or all for pg_read_all_stats; shares of time add up to that in which engines had work';

GRANT SELECT ON dsocr.workers, dsocr.requests, dsocr.stats, dsocr.usage TO PUBLIC;
