/*
 * read.sql
 *		Functions that read documents.
 *
 * None of these is STRICT: their optional arguments default to NULL.  A NULL
 * document, prompt or "what" gives NULL, or no rows.  STABLE and not
 * IMMUTABLE: the answer depends on the settings and on the model.
 */
/*
 * The planner asks what a call costs: by mode, max_tokens and document.
 */
CREATE FUNCTION @extschema@.dsocr_read_support(request pg_catalog.internal)
RETURNS pg_catalog.internal
LANGUAGE C STRICT STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'dsocr_read_support';

COMMENT ON FUNCTION @extschema@.dsocr_read_support(pg_catalog.internal) IS
'tell the planner what reading a document costs';

CREATE FUNCTION @extschema@.dsocr_markdown(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 100000
SUPPORT @extschema@.dsocr_read_support
AS 'MODULE_PATHNAME', 'dsocr_markdown';

COMMENT ON FUNCTION @extschema@.dsocr_markdown(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'read a document as markdown, tables as HTML';

CREATE FUNCTION @extschema@.dsocr_text(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 100000
SUPPORT @extschema@.dsocr_read_support
AS 'MODULE_PATHNAME', 'dsocr_text';

COMMENT ON FUNCTION @extschema@.dsocr_text(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'read a document as plain text';

CREATE FUNCTION @extschema@.dsocr_layout(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.jsonb
LANGUAGE C STABLE PARALLEL SAFE COST 100000
SUPPORT @extschema@.dsocr_read_support
AS 'MODULE_PATHNAME', 'dsocr_layout';

COMMENT ON FUNCTION @extschema@.dsocr_layout(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'read a document as pages of elements in reading order, with boxes in pixels';

CREATE FUNCTION @extschema@.dsocr_blocks(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL,
	OUT page pg_catalog.int4,
	OUT ord pg_catalog.int4,
	OUT type pg_catalog.text,
	OUT box pg_catalog.box,
	OUT content pg_catalog.text,
	OUT status pg_catalog.text,
	OUT confidence pg_catalog.float4)
RETURNS SETOF pg_catalog.record
LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 50
SUPPORT @extschema@.dsocr_read_support
AS 'MODULE_PATHNAME', 'dsocr_blocks';

COMMENT ON FUNCTION @extschema@.dsocr_blocks(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'read a document as rows: one for each element and box, box NULL where an element has none; one with page and status for a page that could not be read';

CREATE FUNCTION @extschema@.dsocr_figure(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 100000
SUPPORT @extschema@.dsocr_read_support
AS 'MODULE_PATHNAME', 'dsocr_figure';

COMMENT ON FUNCTION @extschema@.dsocr_figure(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'read a figure: chart to HTML table, chemical formula to SMILES';

CREATE FUNCTION @extschema@.dsocr_describe(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 100000
SUPPORT @extschema@.dsocr_read_support
AS 'MODULE_PATHNAME', 'dsocr_describe';

COMMENT ON FUNCTION @extschema@.dsocr_describe(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'describe an image, or each page, in words';

CREATE FUNCTION @extschema@.dsocr_locate(
	document pg_catalog.bytea,
	what pg_catalog.text,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL,
	OUT page pg_catalog.int4,
	OUT box pg_catalog.box)
RETURNS SETOF pg_catalog.record
LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 5
SUPPORT @extschema@.dsocr_read_support
AS 'MODULE_PATHNAME', 'dsocr_locate';

COMMENT ON FUNCTION @extschema@.dsocr_locate(pg_catalog.bytea, pg_catalog.text, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'find what is named on the pages of a document: boxes in pixels';

CREATE FUNCTION @extschema@.dsocr_generate(
	document pg_catalog.bytea,
	prompt pg_catalog.text,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 100000
SUPPORT @extschema@.dsocr_read_support
AS 'MODULE_PATHNAME', 'dsocr_generate';

COMMENT ON FUNCTION @extschema@.dsocr_generate(pg_catalog.bytea, pg_catalog.text, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'answer any prompt about an image, or each page: what the model wrote, unchanged';

CREATE FUNCTION @extschema@.dsocr_read(
	document pg_catalog.bytea,
	prompt pg_catalog.text DEFAULT NULL,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL)
RETURNS @extschema@.dsocr_result
LANGUAGE C STABLE PARALLEL SAFE COST 100000
SUPPORT @extschema@.dsocr_read_support
AS 'MODULE_PATHNAME', 'dsocr_read';

COMMENT ON FUNCTION @extschema@.dsocr_read(pg_catalog.bytea, pg_catalog.text, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'read a document and return everything known about the run, with a status for each page; without a prompt, the one for markdown';

CREATE FUNCTION @extschema@.dsocr_try(
	document pg_catalog.bytea,
	prompt pg_catalog.text DEFAULT NULL,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL)
RETURNS @extschema@.dsocr_result
LANGUAGE C STABLE PARALLEL SAFE COST 100000
SUPPORT @extschema@.dsocr_read_support
AS 'MODULE_PATHNAME', 'dsocr_try';

COMMENT ON FUNCTION @extschema@.dsocr_try(pg_catalog.bytea, pg_catalog.text, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
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
'what this document would cost: tiles (columns x rows; NULL where pages differ), views, vision tokens';
