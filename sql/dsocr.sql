/*
 * dsocr.sql
 *		Install script of the extension.
 *
 * Functions and types live in the schema of the extension, tables and views
 * in schema dsocr.  Every name is qualified, so that nothing in the schema of
 * the extension or in pg_temp can stand in for a name of pg_catalog.  Nothing
 * is created OR REPLACE or IF NOT EXISTS: an object that is already there is
 * somebody else's, and installing fails.
 */
\echo Use "CREATE EXTENSION dsocr" to load this file. \quit

-- The extension may itself have been installed into a schema named dsocr.
DO LANGUAGE plpgsql $do$
BEGIN
	IF '@extschema@' OPERATOR(pg_catalog.<>) 'dsocr' THEN
		PERFORM FROM pg_catalog.pg_namespace AS n WHERE n.nspname OPERATOR(pg_catalog.=) 'dsocr';
		IF FOUND THEN
			RAISE 'schema "dsocr" already exists' USING
				ERRCODE = '42P06',
				HINT = 'Drop or rename the schema, or install into it: CREATE EXTENSION dsocr SCHEMA dsocr.';
		END IF;
		CREATE SCHEMA dsocr;
		COMMENT ON SCHEMA dsocr IS 'what dsocr is doing: workers, requests, statistics';
		GRANT USAGE ON SCHEMA dsocr TO PUBLIC;
	END IF;
END
$do$;

-- ---------------------------------------------------------------------------
-- Types
-- ---------------------------------------------------------------------------

CREATE TYPE @extschema@.dsocr_mode AS ENUM
	('auto', 'tiny', 'small', 'base', 'large', 'gundam', 'gundam_m');

COMMENT ON TYPE @extschema@.dsocr_mode IS
'how an image is cut into views for the model; auto is what the model''s own configuration names';

CREATE TYPE @extschema@.dsocr_result AS (
	markdown			pg_catalog.text,
	layout				pg_catalog.jsonb,
	raw					pg_catalog.text,
	finish_reason		pg_catalog.text,
	image_tokens		pg_catalog.int4,
	valid_image_tokens	pg_catalog.int4,
	text_tokens			pg_catalog.int4,
	compression_ratio	pg_catalog.float8,
	pages				pg_catalog.jsonb,
	mean_logprob		pg_catalog.float8,
	model				pg_catalog.text,
	error				pg_catalog.text,
	sqlstate			pg_catalog.text
);

COMMENT ON TYPE @extschema@.dsocr_result IS
'everything that one reading of a document gave';
COMMENT ON COLUMN @extschema@.dsocr_result.markdown IS
'the text with references and boxes removed; figures as image links';
COMMENT ON COLUMN @extschema@.dsocr_result.layout IS
'elements with boxes in pixels, as dsocr_layout returns them';
COMMENT ON COLUMN @extschema@.dsocr_result.raw IS
'what the model wrote, its end token removed';
COMMENT ON COLUMN @extschema@.dsocr_result.finish_reason IS
'stop: the model ended the text; length: the text was cut at a limit';
COMMENT ON COLUMN @extschema@.dsocr_result.image_tokens IS
'vision tokens of all pages, with line ends and separators';
COMMENT ON COLUMN @extschema@.dsocr_result.valid_image_tokens IS
'vision tokens that show the page, padding left out';
COMMENT ON COLUMN @extschema@.dsocr_result.text_tokens IS
'tokens that the model wrote, its end token not counted';
COMMENT ON COLUMN @extschema@.dsocr_result.compression_ratio IS
'text_tokens divided by valid_image_tokens';
COMMENT ON COLUMN @extschema@.dsocr_result.pages IS
'for each page: status, size in pixels, mode, grid, token counts, timings in milliseconds';
COMMENT ON COLUMN @extschema@.dsocr_result.mean_logprob IS
'mean natural log-probability of the tokens written: a measure of certainty; NULL if none was written';
COMMENT ON COLUMN @extschema@.dsocr_result.model IS
'name of the model that answered';
COMMENT ON COLUMN @extschema@.dsocr_result.error IS
'dsocr_try only: why the document could not be read';
COMMENT ON COLUMN @extschema@.dsocr_result.sqlstate IS
'dsocr_try only: SQLSTATE of the error';

-- ---------------------------------------------------------------------------
-- Reading
--
-- None of these is STRICT: their optional arguments default to NULL.  A NULL
-- document, prompt or "what" gives NULL, or no rows.  STABLE and not
-- IMMUTABLE: the answer depends on the settings and on the model.
-- ---------------------------------------------------------------------------

CREATE FUNCTION @extschema@.dsocr_markdown(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 100000
AS 'MODULE_PATHNAME', 'dsocr_markdown';

COMMENT ON FUNCTION @extschema@.dsocr_markdown(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4) IS
'read a page image as markdown, tables as HTML';

CREATE FUNCTION @extschema@.dsocr_text(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 100000
AS 'MODULE_PATHNAME', 'dsocr_text';

COMMENT ON FUNCTION @extschema@.dsocr_text(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4) IS
'read a page image as plain text';

CREATE FUNCTION @extschema@.dsocr_layout(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL)
RETURNS pg_catalog.jsonb
LANGUAGE C STABLE PARALLEL SAFE COST 100000
AS 'MODULE_PATHNAME', 'dsocr_layout';

COMMENT ON FUNCTION @extschema@.dsocr_layout(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4) IS
'read a page image as elements in reading order, with boxes in pixels';

CREATE FUNCTION @extschema@.dsocr_blocks(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	OUT page pg_catalog.int4,
	OUT ord pg_catalog.int4,
	OUT type pg_catalog.text,
	OUT box pg_catalog.box,
	OUT content pg_catalog.text)
RETURNS SETOF pg_catalog.record
LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 50
AS 'MODULE_PATHNAME', 'dsocr_blocks';

COMMENT ON FUNCTION @extschema@.dsocr_blocks(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4) IS
'read a page image as rows: one for each element and box, box NULL where an element has none';

CREATE FUNCTION @extschema@.dsocr_figure(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 100000
AS 'MODULE_PATHNAME', 'dsocr_figure';

COMMENT ON FUNCTION @extschema@.dsocr_figure(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4) IS
'read a figure: chart to HTML table, chemical formula to SMILES';

CREATE FUNCTION @extschema@.dsocr_describe(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 100000
AS 'MODULE_PATHNAME', 'dsocr_describe';

COMMENT ON FUNCTION @extschema@.dsocr_describe(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4) IS
'describe an image in words';

CREATE FUNCTION @extschema@.dsocr_locate(
	document pg_catalog.bytea,
	what pg_catalog.text,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	OUT page pg_catalog.int4,
	OUT box pg_catalog.box)
RETURNS SETOF pg_catalog.record
LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 5
AS 'MODULE_PATHNAME', 'dsocr_locate';

COMMENT ON FUNCTION @extschema@.dsocr_locate(pg_catalog.bytea, pg_catalog.text, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4) IS
'find what is named in an image: boxes in pixels';

CREATE FUNCTION @extschema@.dsocr_generate(
	document pg_catalog.bytea,
	prompt pg_catalog.text,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 100000
AS 'MODULE_PATHNAME', 'dsocr_generate';

COMMENT ON FUNCTION @extschema@.dsocr_generate(pg_catalog.bytea, pg_catalog.text, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4) IS
'answer any prompt about an image: what the model wrote, unchanged';

CREATE FUNCTION @extschema@.dsocr_read(
	document pg_catalog.bytea,
	prompt pg_catalog.text DEFAULT NULL,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL)
RETURNS @extschema@.dsocr_result
LANGUAGE C STABLE PARALLEL SAFE COST 100000
AS 'MODULE_PATHNAME', 'dsocr_read';

COMMENT ON FUNCTION @extschema@.dsocr_read(pg_catalog.bytea, pg_catalog.text, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4) IS
'read a page image and return everything known about the run; without a prompt, the one for markdown';

CREATE FUNCTION @extschema@.dsocr_try(
	document pg_catalog.bytea,
	prompt pg_catalog.text DEFAULT NULL,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL)
RETURNS @extschema@.dsocr_result
LANGUAGE C STABLE PARALLEL SAFE COST 100000
AS 'MODULE_PATHNAME', 'dsocr_try';

COMMENT ON FUNCTION @extschema@.dsocr_try(pg_catalog.bytea, pg_catalog.text, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4) IS
'like dsocr_read, but a failure becomes error and sqlstate of the result';

CREATE FUNCTION @extschema@.dsocr_tokens(
	width pg_catalog.int4,
	height pg_catalog.int4,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	OUT grid pg_catalog.text,
	OUT views pg_catalog.int4,
	OUT image_tokens pg_catalog.int4,
	OUT valid_image_tokens pg_catalog.int4)
RETURNS pg_catalog.record
LANGUAGE C STABLE PARALLEL SAFE COST 10000
AS 'MODULE_PATHNAME', 'dsocr_tokens_size';

COMMENT ON FUNCTION @extschema@.dsocr_tokens(pg_catalog.int4, pg_catalog.int4, @extschema@.dsocr_mode) IS
'what an image of this size would cost: tiles (columns x rows), views, vision tokens';

CREATE FUNCTION @extschema@.dsocr_tokens(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	OUT grid pg_catalog.text,
	OUT views pg_catalog.int4,
	OUT image_tokens pg_catalog.int4,
	OUT valid_image_tokens pg_catalog.int4)
RETURNS pg_catalog.record
LANGUAGE C STABLE PARALLEL SAFE COST 10000
AS 'MODULE_PATHNAME', 'dsocr_tokens_document';

COMMENT ON FUNCTION @extschema@.dsocr_tokens(pg_catalog.bytea, @extschema@.dsocr_mode) IS
'what this image would cost: tiles (columns x rows), views, vision tokens';

-- ---------------------------------------------------------------------------
-- Watching and steering
--
-- Who and what of a request is shown to its role and to pg_read_all_stats;
-- the functions see to that themselves, so PUBLIC may use them.
-- ---------------------------------------------------------------------------

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
	OUT device pg_catalog.text,
	OUT views_done pg_catalog.int4,
	OUT views pg_catalog.int4,
	OUT image_tokens pg_catalog.int4,
	OUT text_tokens pg_catalog.int4,
	OUT age pg_catalog.interval,
	OUT attempts pg_catalog.int4)
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
	OUT model pg_catalog.text)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE PARALLEL SAFE ROWS 1
AS 'MODULE_PATHNAME', 'dsocr_status';

COMMENT ON FUNCTION @extschema@.dsocr_status() IS
'one row: library version, workers and how many of them are ready, request slots, queue memory in bytes, model';

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

-- These two act on the whole server.  Superusers may let others use them.
REVOKE EXECUTE ON FUNCTION @extschema@.dsocr_reload() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @extschema@.dsocr_stats_reset() FROM PUBLIC;

CREATE VIEW dsocr.workers AS
	SELECT w.device, w.description, w.state, w.pid, w.engine_pid, w.model, w.fingerprint, w.weights, w.sandbox,
		w.memory_bytes, w.queued, w.running, w.tokens_per_second, w.restarts, w.started_at,
		w.error, w.hint
	FROM @extschema@.dsocr_workers() AS w;

COMMENT ON VIEW dsocr.workers IS
'devices and their engines: state, model, memory, requests, speed, last trouble';

CREATE VIEW dsocr.requests AS
	SELECT r.slot, r.pid, pg_catalog.pg_get_userbyid(r.role) AS role, d.datname AS database,
		r.state, r.task, r.mode, r.device, r.views_done, r.views, r.image_tokens, r.text_tokens,
		r.age, r.attempts
	FROM @extschema@.dsocr_requests() AS r
		LEFT JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) r.database;

COMMENT ON VIEW dsocr.requests IS
'requests in flight: whose, what, how far';

CREATE VIEW dsocr.stats AS
	SELECT s.device, s.completed, s.failed, s.cancelled, s.retried, s.image_tokens,
		s.text_tokens, s.waited_ms, s.preprocess_ms, s.encode_ms, s.prefill_ms, s.decode_ms,
		s.p50_ms, s.p95_ms, s.p99_ms, s.max_ms, s.since
	FROM @extschema@.dsocr_stats() AS s;

COMMENT ON VIEW dsocr.stats IS
'what each device did since the last reset, times in milliseconds; device NULL counts requests that ended before they reached one';

GRANT SELECT ON dsocr.workers, dsocr.requests, dsocr.stats TO PUBLIC;
