/*
 * documents.sql
 *		Functions that make something of a document and its layout: pictures of
 *		pages, tables, geometry, archive formats.
 *
 * As in read.sql none is STRICT, and NULL where a document should be gives
 * NULL, or no rows.
 */
CREATE FUNCTION @extschema@.dsocr_pages(
	document pg_catalog.bytea,
	pages pg_catalog.int4range DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL,
	OUT page pg_catalog.int4,
	OUT width pg_catalog.int4,
	OUT height pg_catalog.int4,
	OUT image pg_catalog.bytea)
RETURNS SETOF pg_catalog.record
LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 10
AS 'MODULE_PATHNAME', 'dsocr_pages';

COMMENT ON FUNCTION @extschema@.dsocr_pages(pg_catalog.bytea, pg_catalog.int4range, pg_catalog.int4, pg_catalog.text) IS
'the pages of a document as PNG images';

CREATE FUNCTION @extschema@.dsocr_overlay(
	document pg_catalog.bytea,
	page pg_catalog.int4 DEFAULT 1,
	layout pg_catalog.jsonb DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.bytea
LANGUAGE C STABLE PARALLEL SAFE COST 100000
AS 'MODULE_PATHNAME', 'dsocr_overlay';

COMMENT ON FUNCTION @extschema@.dsocr_overlay(pg_catalog.bytea, pg_catalog.int4, pg_catalog.jsonb, pg_catalog.int4, pg_catalog.text) IS
'a page as PNG image with the boxes of its layout drawn; without a layout the page is read';

CREATE FUNCTION @extschema@.dsocr_images(
	document pg_catalog.bytea,
	layout pg_catalog.jsonb DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL,
	types pg_catalog.text[] DEFAULT NULL,
	OUT page pg_catalog.int4,
	OUT ord pg_catalog.int4,
	OUT name pg_catalog.text,
	OUT image pg_catalog.bytea,
	OUT label pg_catalog.text)
RETURNS SETOF pg_catalog.record
LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 10
AS 'MODULE_PATHNAME', 'dsocr_images';

COMMENT ON FUNCTION @extschema@.dsocr_images(pg_catalog.bytea, pg_catalog.jsonb, pg_catalog.int4range, pg_catalog.int4, pg_catalog.text, pg_catalog.text[]) IS
'the figures of a document cut out as PNG images, under the names that markdown links to';

CREATE FUNCTION @extschema@.dsocr_tables(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL,
	OUT page pg_catalog.int4,
	OUT ord pg_catalog.int4,
	OUT html pg_catalog.text,
	OUT cells pg_catalog.jsonb,
	OUT grid pg_catalog.jsonb,
	OUT complete pg_catalog.bool,
	OUT box pg_catalog.box,
	OUT status pg_catalog.text)
RETURNS SETOF pg_catalog.record
LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 5
AS 'MODULE_PATHNAME', 'dsocr_tables_document';

COMMENT ON FUNCTION @extschema@.dsocr_tables(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'read the tables of a document, taken apart into cells';

CREATE FUNCTION @extschema@.dsocr_tables(
	layout pg_catalog.jsonb,
	OUT page pg_catalog.int4,
	OUT ord pg_catalog.int4,
	OUT html pg_catalog.text,
	OUT cells pg_catalog.jsonb,
	OUT grid pg_catalog.jsonb,
	OUT complete pg_catalog.bool,
	OUT box pg_catalog.box,
	OUT status pg_catalog.text)
RETURNS SETOF pg_catalog.record
LANGUAGE C STABLE PARALLEL SAFE COST 1000 ROWS 5
AS 'MODULE_PATHNAME', 'dsocr_tables_layout';

COMMENT ON FUNCTION @extschema@.dsocr_tables(pg_catalog.jsonb) IS
'the tables of a layout, taken apart into cells';

CREATE FUNCTION @extschema@.dsocr_hocr(
	document pg_catalog.bytea,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 100000
AS 'MODULE_PATHNAME', 'dsocr_hocr_document';

COMMENT ON FUNCTION @extschema@.dsocr_hocr(pg_catalog.bytea, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'read a document as hOCR: XHTML with the place of every line';

CREATE FUNCTION @extschema@.dsocr_hocr(
	layout pg_catalog.jsonb)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 1000
AS 'MODULE_PATHNAME', 'dsocr_hocr_layout';

COMMENT ON FUNCTION @extschema@.dsocr_hocr(pg_catalog.jsonb) IS
'a layout as hOCR: XHTML with the place of every line';

CREATE FUNCTION @extschema@.dsocr_searchable_pdf(
	document pg_catalog.bytea,
	layout pg_catalog.jsonb DEFAULT NULL,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.bytea
LANGUAGE C STABLE PARALLEL SAFE COST 100000
AS 'MODULE_PATHNAME', 'dsocr_searchable_pdf';

COMMENT ON FUNCTION @extschema@.dsocr_searchable_pdf(pg_catalog.bytea, pg_catalog.jsonb, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'a document as PDF: its pages as images with invisible text over them; without a layout it is read';

CREATE FUNCTION @extschema@.dsocr_html(
	document pg_catalog.bytea,
	layout pg_catalog.jsonb DEFAULT NULL,
	mode @extschema@.dsocr_mode DEFAULT NULL,
	pages pg_catalog.int4range DEFAULT NULL,
	max_tokens pg_catalog.int4 DEFAULT NULL,
	dpi pg_catalog.int4 DEFAULT NULL,
	password pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE C STABLE PARALLEL SAFE COST 100000
AS 'MODULE_PATHNAME', 'dsocr_html';

COMMENT ON FUNCTION @extschema@.dsocr_html(pg_catalog.bytea, pg_catalog.jsonb, @extschema@.dsocr_mode, pg_catalog.int4range, pg_catalog.int4, pg_catalog.int4, pg_catalog.text) IS
'a document as one HTML file: scans and text side by side; without a layout it is read';

CREATE FUNCTION @extschema@.dsocr_geometry(description pg_catalog.text)
RETURNS pg_catalog.jsonb
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'dsocr_geometry';

COMMENT ON FUNCTION @extschema@.dsocr_geometry(pg_catalog.text) IS
'lines, points and circles of a drawing as dsocr_figure writes it; NULL if the text is no such drawing';

CREATE FUNCTION @extschema@.dsocr_table_cells(
	html pg_catalog.text,
	OUT ord pg_catalog.int4,
	OUT cells pg_catalog.jsonb,
	OUT grid pg_catalog.jsonb,
	OUT complete pg_catalog.bool)
RETURNS SETOF pg_catalog.record
LANGUAGE C IMMUTABLE PARALLEL SAFE COST 100 ROWS 1
AS 'MODULE_PATHNAME', 'dsocr_table_cells';

COMMENT ON FUNCTION @extschema@.dsocr_table_cells(pg_catalog.text) IS
'the tables of a text, as dsocr_figure writes one for a chart, taken apart into cells';

CREATE FUNCTION @extschema@.dsocr_smiles_check(
	formula pg_catalog.text,
	OUT valid pg_catalog.bool,
	OUT "position" pg_catalog.int4,
	OUT reason pg_catalog.text)
RETURNS pg_catalog.record
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10
AS 'MODULE_PATHNAME', 'dsocr_formula_check';

COMMENT ON FUNCTION @extschema@.dsocr_smiles_check(pg_catalog.text) IS
'is a chemical formula, as dsocr_figure writes it, well-formed SMILES, and where is it not; NULL if it does not look like one';
