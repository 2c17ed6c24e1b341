/*
 * dsocr.sql
 *		Beginning of the install script: schema and types.
 *
 * The script is this file and those beside it, in the order that the Makefile
 * names (SQL_PARTS).
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
	page_count			pg_catalog.int4,
	mean_logprob		pg_catalog.float8,
	confidence			pg_catalog.float8,
	model				pg_catalog.text,
	error				pg_catalog.text,
	sqlstate			pg_catalog.text
);

COMMENT ON TYPE @extschema@.dsocr_result IS
'everything that one reading of a document gave';
COMMENT ON COLUMN @extschema@.dsocr_result.markdown IS
'the text with references and boxes removed; figures as image links; pages set apart by comments';
COMMENT ON COLUMN @extschema@.dsocr_result.layout IS
'elements with boxes in pixels, as dsocr_layout returns them';
COMMENT ON COLUMN @extschema@.dsocr_result.raw IS
'what the model wrote, its end token removed';
COMMENT ON COLUMN @extschema@.dsocr_result.finish_reason IS
'the worst of all pages. stop: the model ended the text; length: it was cut at a limit; loop: it was cut where it began to repeat itself; error: a page could not be read';
COMMENT ON COLUMN @extschema@.dsocr_result.image_tokens IS
'vision tokens of all pages, with line ends and separators';
COMMENT ON COLUMN @extschema@.dsocr_result.valid_image_tokens IS
'vision tokens that show the page, padding left out';
COMMENT ON COLUMN @extschema@.dsocr_result.text_tokens IS
'tokens that the model wrote, its end token not counted';
COMMENT ON COLUMN @extschema@.dsocr_result.compression_ratio IS
'text_tokens divided by valid_image_tokens';
COMMENT ON COLUMN @extschema@.dsocr_result.pages IS
'for each page that was read: status (ok, length, loop_cut, undecodable, refused, engine_error), error, size in pixels, rotation, mode, grid, token counts, confidence, attempts, timings in milliseconds';
COMMENT ON COLUMN @extschema@.dsocr_result.page_count IS
'pages of the document, whether they were read or not';
COMMENT ON COLUMN @extschema@.dsocr_result.mean_logprob IS
'mean natural log-probability of the tokens written: a measure of certainty; NULL if none was written';
COMMENT ON COLUMN @extschema@.dsocr_result.confidence IS
'exponential of mean_logprob, 0 to 1: geometric mean of the tokens'' probabilities';
COMMENT ON COLUMN @extschema@.dsocr_result.model IS
'name of the model that answered';
COMMENT ON COLUMN @extschema@.dsocr_result.error IS
'dsocr_try only: why the document could not be read';
COMMENT ON COLUMN @extschema@.dsocr_result.sqlstate IS
'dsocr_try only: SQLSTATE of the error';
