/*
 * remote.sql
 *		What a worker on another host may call: take jobs, and answer for them.
 *
 * Nobody may but superusers, until it is granted.  A role that may needs no
 * right on any table.  The settings pinned here are those that values of keys
 * and users' policies depend on.
 */
CREATE FUNCTION @extschema@.dsocr_worker_begin(
	protocol pg_catalog.int4,
	release pg_catalog.text,
	fingerprint pg_catalog.text,
	model pg_catalog.text,
	opens_documents pg_catalog.bool DEFAULT false)
RETURNS pg_catalog.int4
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_worker_begin';

COMMENT ON FUNCTION @extschema@.dsocr_worker_begin(pg_catalog.int4, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool) IS
'for remote workers: join with this model, for documents of several pages, too, or not; returns the lease: milliseconds of silence after which the session is ended';

CREATE FUNCTION @extschema@.dsocr_worker_keep()
RETURNS SETOF pg_catalog.int8
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_worker_keep';

COMMENT ON FUNCTION @extschema@.dsocr_worker_keep() IS
'for remote workers: say that the session works on; returns its jobs that nobody wants any more';

CREATE FUNCTION @extschema@.dsocr_worker_claim(
	n pg_catalog.int4,
	length pg_catalog.int4,
	OUT job pg_catalog.int8,
	OUT bytes pg_catalog.int8,
	OUT request pg_catalog.bytea,
	OUT document pg_catalog.bytea,
	OUT page_request pg_catalog.bytea,
	OUT first_page pg_catalog.int4,
	OUT last_page pg_catalog.int4)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
SET row_security = on
SET datestyle = 'ISO, MDY'
SET intervalstyle = 'postgres'
AS 'MODULE_PATHNAME', 'dsocr_worker_claim';

COMMENT ON FUNCTION @extschema@.dsocr_worker_claim(pg_catalog.int4, pg_catalog.int4) IS
'for remote workers: take up to n jobs, which are this session''s until it ends; with the first length bytes of their documents, and what to ask of each page of those that have several';

CREATE FUNCTION @extschema@.dsocr_worker_fetch(
	job pg_catalog.int8,
	first pg_catalog.int8,
	length pg_catalog.int4)
RETURNS pg_catalog.bytea
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_worker_fetch';

COMMENT ON FUNCTION @extschema@.dsocr_worker_fetch(pg_catalog.int8, pg_catalog.int8, pg_catalog.int4) IS
'for remote workers: a part of the document of a job of this session, from byte 0 on';

CREATE FUNCTION @extschema@.dsocr_worker_pages(
	job pg_catalog.int8,
	first pg_catalog.int4,
	answers pg_catalog.bytea)
RETURNS pg_catalog.void
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_worker_pages';

COMMENT ON FUNCTION @extschema@.dsocr_worker_pages(pg_catalog.int8, pg_catalog.int4, pg_catalog.bytea) IS
'for remote workers: what pages of a document of several gave, in order, the first of which has this number; written with the end of the job';

CREATE FUNCTION @extschema@.dsocr_worker_finish(
	job pg_catalog.int8,
	answer pg_catalog.bytea,
	device_us pg_catalog.int8 DEFAULT 0)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
SET row_security = on
SET datestyle = 'ISO, MDY'
SET intervalstyle = 'postgres'
AS 'MODULE_PATHNAME', 'dsocr_worker_finish';

COMMENT ON FUNCTION @extschema@.dsocr_worker_finish(pg_catalog.int8, pg_catalog.bytea, pg_catalog.int8) IS
'for remote workers: write what a job gave, and count what its engine spent on it; false: its row is locked, ask again later';

CREATE FUNCTION @extschema@.dsocr_worker_release(job pg_catalog.int8)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_worker_release';

COMMENT ON FUNCTION @extschema@.dsocr_worker_release(pg_catalog.int8) IS
'for remote workers: give a job back unread';

REVOKE EXECUTE ON FUNCTION
	@extschema@.dsocr_worker_begin(pg_catalog.int4, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool),
	@extschema@.dsocr_worker_keep(),
	@extschema@.dsocr_worker_claim(pg_catalog.int4, pg_catalog.int4),
	@extschema@.dsocr_worker_fetch(pg_catalog.int8, pg_catalog.int8, pg_catalog.int4),
	@extschema@.dsocr_worker_pages(pg_catalog.int8, pg_catalog.int4, pg_catalog.bytea),
	@extschema@.dsocr_worker_finish(pg_catalog.int8, pg_catalog.bytea, pg_catalog.int8),
	@extschema@.dsocr_worker_release(pg_catalog.int8)
	FROM PUBLIC;
