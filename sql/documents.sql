/*
 * documents.sql
 *		Functions that make something of a document and its layout: tables,
 *		pictures of pages, archive formats.
 *
 * As in read.sql none is STRICT, and NULL where a document or layout should
 * be gives NULL, or no rows.
 */
CREATE FUNCTION @extschema@.dsocr_tables(
	layout pg_catalog.jsonb,
	OUT page pg_catalog.int4,
	OUT ord pg_catalog.int4,
	OUT html pg_catalog.text,
	OUT cells pg_catalog.jsonb,
	OUT grid pg_catalog.jsonb,
	OUT complete pg_catalog.bool,
	OUT box pg_catalog.box)
RETURNS SETOF pg_catalog.record
LANGUAGE C STABLE PARALLEL SAFE COST 1000 ROWS 5
AS 'MODULE_PATHNAME', 'dsocr_tables_layout';

COMMENT ON FUNCTION @extschema@.dsocr_tables(pg_catalog.jsonb) IS
'the tables of a layout, taken apart into cells';

CREATE FUNCTION @extschema@.dsocr_hocr(layout pg_catalog.jsonb)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 1000
AS 'MODULE_PATHNAME', 'dsocr_hocr_layout';

COMMENT ON FUNCTION @extschema@.dsocr_hocr(pg_catalog.jsonb) IS
'a layout as hOCR: XHTML with the place of every line';
