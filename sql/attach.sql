/*
 * attach.sql
 *		Tables whose documents are read as they come.
 *
 * dsocr_attach makes triggers, with the rights of the caller, and these are
 * all that is remembered: what belongs to whom is in their lists of columns,
 * so renaming and dropping columns, tables and schemas, and dump and restore,
 * need nothing of ours.
 */
CREATE FUNCTION @extschema@.dsocr_attach_row()
RETURNS pg_catalog.trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'dsocr_attach_row';

COMMENT ON FUNCTION @extschema@.dsocr_attach_row() IS
'trigger of attached tables: rows that changed become jobs';

CREATE FUNCTION @extschema@.dsocr_attach_statement()
RETURNS pg_catalog.trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'dsocr_attach_statement';

COMMENT ON FUNCTION @extschema@.dsocr_attach_statement() IS
'trigger of attached tables: the end of a statement';

CREATE FUNCTION @extschema@.dsocr_attach_side()
RETURNS pg_catalog.trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'dsocr_attach_side';

COMMENT ON FUNCTION @extschema@.dsocr_attach_side() IS
'trigger that marks the side table of an attached table; never runs';

CREATE FUNCTION @extschema@.dsocr_backfill(source pg_catalog.regclass, image_column pg_catalog.name)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_backfill';

COMMENT ON FUNCTION @extschema@.dsocr_backfill(pg_catalog.regclass, pg_catalog.name) IS
'queue all rows of an attached table that have an image and no text yet; for its owner';

-- Does the column exist, with this type?  Adds it if it is missing.
CREATE FUNCTION @extschema@.dsocr_attach_column(
	source pg_catalog.regclass, column_name pg_catalog.name, type pg_catalog.regtype, part pg_catalog.text)
RETURNS pg_catalog.void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $f$
DECLARE
	found_type regtype;
BEGIN
	SELECT a.atttypid::regtype INTO found_type FROM pg_attribute a
	WHERE a.attrelid = source AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped;
	IF found_type IS NULL THEN
		EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', source, column_name, type);
	ELSIF found_type <> type THEN
		RAISE 'column "%" for % is of type %, not %', column_name, part, found_type, type
			USING ERRCODE = '42804';
	END IF;
END
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_attach_column(pg_catalog.regclass, pg_catalog.name, pg_catalog.regtype, pg_catalog.text) IS
'part of dsocr_attach: adds a column that is missing';

-- The table of pages beside an attached table: one that is there, or a new one.
CREATE FUNCTION @extschema@.dsocr_attach_pages(
	source pg_catalog.regclass, side_table pg_catalog.name, name pg_catalog.name, keys pg_catalog.name[])
RETURNS pg_catalog.void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $f$
DECLARE
	space name := (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source);
	side text := format('%I.%I', space, side_table);
	definition text;
	key_list text := (SELECT string_agg(format('%I', k), ', ') FROM unnest(keys) AS k);
	found_columns text[];
	part text;
BEGIN
	IF to_regclass(side) IS NULL THEN
		SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY array_position(keys, a.attname))
		INTO definition
		FROM pg_attribute a WHERE a.attrelid = source AND a.attname = ANY (keys) AND a.attnum > 0;
		IF keys && ARRAY['page', 'text', 'layout', 'tsv', 'status', 'confidence']::name[] THEN
			RAISE 'a column of the primary key has the name of a column of the side table'
				USING ERRCODE = '42701', HINT = 'Create the side table yourself, and rename its columns later.';
		END IF;
		EXECUTE format('CREATE TABLE %s (%s, page pg_catalog.int4 NOT NULL, text pg_catalog.text, layout pg_catalog.jsonb, '
			'tsv pg_catalog.tsvector, status pg_catalog.text NOT NULL, confidence pg_catalog.float8, '
			'PRIMARY KEY (%s, page), FOREIGN KEY (%s) REFERENCES %s (%s) ON DELETE CASCADE ON UPDATE CASCADE)',
			side, definition, key_list, key_list, source, key_list);
		EXECUTE format('CREATE INDEX ON %s USING gin (tsv)', side);
	END IF;
	IF NOT EXISTS (SELECT FROM pg_constraint c WHERE c.contype = 'f' AND c.conrelid = to_regclass(side) AND c.confrelid = source) THEN
		RAISE 'table % has no foreign key to %', side, source USING ERRCODE = '42830',
			HINT = 'It must refer to the primary key of the attached table.';
	END IF;
	-- The columns that are there, in order; the others are left out.
	SELECT array_agg(p ORDER BY o) INTO found_columns
	FROM unnest(ARRAY['page', 'text', 'layout', 'tsv', 'status', 'confidence']) WITH ORDINALITY AS u(p, o)
	WHERE EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass(side) AND a.attname = p AND a.attnum > 0 AND NOT a.attisdropped);
	IF found_columns IS NULL OR 'page' <> ALL (found_columns) THEN
		RAISE 'table % has no column "page"', side USING ERRCODE = '42703';
	END IF;
	part := replace(array_to_string(found_columns, ' '), 'tsv', 'tsvector');
	EXECUTE format('CREATE TRIGGER %I AFTER UPDATE OF %s ON %s FOR EACH ROW WHEN (false) EXECUTE FUNCTION @extschema@.dsocr_attach_side(%L)',
		name, (SELECT string_agg(format('%I', c), ', ' ORDER BY o) FROM unnest(found_columns) WITH ORDINALITY AS u(c, o)), side, part);
END
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_attach_pages(pg_catalog.regclass, pg_catalog.name, pg_catalog.name, pg_catalog.name[]) IS
'part of dsocr_attach: makes or marks the table of pages';

CREATE FUNCTION @extschema@.dsocr_attach(
	source pg_catalog.regclass,
	image_column pg_catalog.name,
	text_column pg_catalog.name DEFAULT NULL,
	layout_column pg_catalog.name DEFAULT NULL,
	tsvector_column pg_catalog.name DEFAULT NULL,
	side_table pg_catalog.name DEFAULT NULL,
	task pg_catalog.text DEFAULT 'markdown',
	mode @extschema@.dsocr_mode DEFAULT NULL,
	prompt pg_catalog.text DEFAULT NULL,
	language pg_catalog.regconfig DEFAULT 'pg_catalog.simple',
	language_column pg_catalog.name DEFAULT NULL,
	options pg_catalog.jsonb DEFAULT '{}',
	priority pg_catalog.int4 DEFAULT 5,
	backfill pg_catalog.bool DEFAULT true)
RETURNS pg_catalog.void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $f$
DECLARE
	kind "char";
	keys name[];
	parts text[];
	columns name[];
	trigger_name name := left('dsocr_' || image_column, 60);
	settings jsonb;
	unknown text;
BEGIN
	IF source IS NULL OR image_column IS NULL THEN
		RAISE 'source and image_column must not be NULL' USING ERRCODE = '22004';
	END IF;
	IF text_column IS NULL AND layout_column IS NULL AND tsvector_column IS NULL AND side_table IS NULL THEN
		RAISE 'nothing to write to: name a text_column, layout_column, tsvector_column or side_table' USING ERRCODE = '22023';
	END IF;
	IF priority IS NULL OR priority NOT BETWEEN 0 AND 9 THEN
		RAISE 'priority must be between 0 and 9' USING ERRCODE = '22023';
	END IF;
	IF task NOT IN ('markdown', 'text', 'figure', 'describe') THEN
		RAISE 'task must be markdown, text, figure or describe' USING ERRCODE = '22023';
	END IF;
	IF jsonb_typeof(options) <> 'object' THEN
		RAISE 'options must be an object' USING ERRCODE = '22023';
	END IF;
	SELECT k INTO unknown FROM jsonb_object_keys(options) AS k WHERE k NOT IN ('max_tokens', 'dpi', 'first_page', 'last_page');
	IF unknown IS NOT NULL THEN
		RAISE 'unknown option "%"', unknown USING ERRCODE = '22023', HINT = 'Options are max_tokens, dpi, first_page and last_page.';
	END IF;
	SELECT k INTO unknown FROM jsonb_object_keys(options) AS k
	WHERE jsonb_typeof(options -> k) <> 'number' OR (options ->> k)::numeric NOT BETWEEN 1 AND 2147483647;
	IF unknown IS NOT NULL THEN
		RAISE 'option "%" must be a number greater than 0', unknown USING ERRCODE = '22023';
	END IF;

	SELECT c.relkind INTO kind FROM pg_class c WHERE c.oid = source;
	IF kind NOT IN ('r', 'p') THEN
		RAISE '% is not a table', source USING ERRCODE = '42809';
	END IF;
	SELECT array_agg(a.attname ORDER BY k.o) INTO keys
	FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k(n, o)
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n
	WHERE i.indrelid = source AND i.indisprimary AND k.o <= i.indnkeyatts;
	IF keys IS NULL THEN
		RAISE 'table % has no primary key', source USING ERRCODE = '42P16', HINT = 'Jobs find their rows by it.';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
		WHERE a.attrelid = source AND a.attname = image_column AND a.attnum > 0 AND NOT a.attisdropped
			AND 'bytea'::regtype IN (t.oid, t.typbasetype)) THEN
		RAISE 'table % has no column "%" of type bytea', source, image_column USING ERRCODE = '42703';
	END IF;
	IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = source AND t.tgfoid = '@extschema@.dsocr_attach_row()'::regprocedure
		AND t.tgattr[0] = (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = source AND a.attname = image_column)) THEN
		RAISE 'column "%" of table % is attached already', image_column, source USING ERRCODE = '42710',
			HINT = 'Call dsocr_detach first.';
	END IF;

	parts := ARRAY['image'];
	columns := ARRAY[image_column];
	IF text_column IS NOT NULL THEN
		PERFORM @extschema@.dsocr_attach_column(source, text_column, 'text', 'text_column');
		parts := parts || 'text'::text;
		columns := columns || text_column;
	END IF;
	IF layout_column IS NOT NULL THEN
		PERFORM @extschema@.dsocr_attach_column(source, layout_column, 'jsonb', 'layout_column');
		parts := parts || 'layout'::text;
		columns := columns || layout_column;
	END IF;
	IF tsvector_column IS NOT NULL THEN
		PERFORM @extschema@.dsocr_attach_column(source, tsvector_column, 'tsvector', 'tsvector_column');
		parts := parts || 'tsvector'::text;
		columns := columns || tsvector_column;
	END IF;
	IF language_column IS NOT NULL THEN
		IF NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = source AND a.attname = language_column AND a.attnum > 0
			AND NOT a.attisdropped AND a.atttypid IN ('regconfig'::regtype, 'text'::regtype, 'varchar'::regtype, 'name'::regtype)) THEN
			RAISE 'table % has no column "%" of type regconfig or text', source, language_column USING ERRCODE = '42703';
		END IF;
		parts := parts || 'language'::text;
		columns := columns || language_column;
	END IF;
	parts := parts || array_fill('key'::text, ARRAY[cardinality(keys)]);
	columns := columns || keys;
	IF (SELECT count(DISTINCT c) FROM unnest(columns) AS c) <> cardinality(columns) THEN
		RAISE 'a column cannot have two parts' USING ERRCODE = '42701';
	END IF;

	settings := jsonb_strip_nulls(options || jsonb_build_object('task', nullif(task, 'markdown'), 'mode', mode, 'prompt', prompt,
		'language', CASE WHEN language_column IS NULL THEN language::text END));
	EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR DELETE OR UPDATE OF %s ON %s FOR EACH ROW EXECUTE FUNCTION @extschema@.dsocr_attach_row(%L, %L, %L)',
		trigger_name, (SELECT string_agg(format('%I', c), ', ' ORDER BY o) FROM unnest(columns) WITH ORDINALITY AS u(c, o)),
		source, array_to_string(parts, ' '), priority, settings);
	EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.dsocr_attach_statement(%L)',
		left('dsocr_s_' || image_column, 60), source, trigger_name);
	IF side_table IS NOT NULL THEN
		PERFORM @extschema@.dsocr_attach_pages(source, side_table, trigger_name, keys);
	END IF;
	IF backfill THEN
		PERFORM @extschema@.dsocr_backfill(source, image_column);
	END IF;
END
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_attach(pg_catalog.regclass, pg_catalog.name, pg_catalog.name, pg_catalog.name, pg_catalog.name, pg_catalog.name, pg_catalog.text, @extschema@.dsocr_mode, pg_catalog.text, pg_catalog.regconfig, pg_catalog.name, pg_catalog.jsonb, pg_catalog.int4, pg_catalog.bool) IS
'read documents of a table as they come and change, and write their text into columns, which are added, or into a table of pages';

CREATE FUNCTION @extschema@.dsocr_detach(
	source pg_catalog.regclass,
	image_column pg_catalog.name,
	keep pg_catalog.bool DEFAULT true)
RETURNS pg_catalog.bool
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $f$
DECLARE
	trigger_name name;
	drop_columns name[];
	statement_trigger name;
	side regclass;
BEGIN
	SELECT t.tgname,
		(SELECT array_agg(a.attname) FROM unnest(t.tgattr::int2[]) WITH ORDINALITY AS u(n, o)
			JOIN unnest(string_to_array(split_part(encode(t.tgargs, 'escape'), '\000', 1), ' ')) WITH ORDINALITY AS p(part, o) USING (o)
			JOIN pg_attribute a ON a.attrelid = t.tgrelid AND a.attnum = u.n
			WHERE p.part IN ('text', 'layout', 'tsvector'))
	INTO trigger_name, drop_columns
	FROM pg_trigger t JOIN pg_attribute i ON i.attrelid = t.tgrelid AND i.attnum = t.tgattr[0]
	WHERE t.tgrelid = source AND t.tgfoid = '@extschema@.dsocr_attach_row()'::regprocedure AND i.attname = image_column;
	IF trigger_name IS NULL THEN
		RETURN false;
	END IF;
	SELECT t.tgname INTO statement_trigger FROM pg_trigger t
	WHERE t.tgrelid = source AND t.tgfoid = '@extschema@.dsocr_attach_statement()'::regprocedure
		AND split_part(encode(t.tgargs, 'escape'), '\000', 1) = trigger_name::text;
	SELECT t.tgrelid INTO side FROM pg_trigger t JOIN pg_constraint c ON c.conrelid = t.tgrelid AND c.contype = 'f' AND c.confrelid = source
	WHERE t.tgname = trigger_name AND t.tgfoid = '@extschema@.dsocr_attach_side()'::regprocedure;

	EXECUTE format('DROP TRIGGER %I ON %s', trigger_name, source);
	IF statement_trigger IS NOT NULL THEN
		EXECUTE format('DROP TRIGGER %I ON %s', statement_trigger, source);
	END IF;
	IF side IS NOT NULL THEN
		EXECUTE format('DROP TRIGGER %I ON %s', trigger_name, side);
	END IF;
	PERFORM @extschema@.dsocr_forget(source, trigger_name);
	IF NOT keep THEN
		IF side IS NOT NULL THEN
			EXECUTE format('DROP TABLE %s', side);
		END IF;
		IF drop_columns IS NOT NULL THEN
			EXECUTE format('ALTER TABLE %s %s', source, (SELECT string_agg(format('DROP COLUMN %I', c), ', ') FROM unnest(drop_columns) AS c));
		END IF;
	END IF;
	RETURN true;
END
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_detach(pg_catalog.regclass, pg_catalog.name, pg_catalog.bool) IS
'undo dsocr_attach; with keep => false the columns and the table of pages go too; false when it was not attached';

CREATE FUNCTION @extschema@.dsocr_forget(source pg_catalog.regclass, attachment pg_catalog.name)
RETURNS pg_catalog.int8
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dsocr_forget';

COMMENT ON FUNCTION @extschema@.dsocr_forget(pg_catalog.regclass, pg_catalog.name) IS
'part of dsocr_detach: deletes the jobs of an attachment that is no more; for the owner of the table';

/*
 * One row for each attached column: a table, or the root of its partitions.
 * done counts since the table was attached.
 */
CREATE VIEW dsocr.progress WITH (security_barrier) AS
	SELECT a.source, a.image_column, t.done, q.queued, f.failed, t.pages, r.pages_per_second,
		CASE WHEN q.queued OPERATOR(pg_catalog.=) 0 THEN '0'::pg_catalog.interval
			WHEN r.jobs_per_second OPERATOR(pg_catalog.>) 0 THEN
				pg_catalog.make_interval(secs => pg_catalog.round((q.queued::pg_catalog.float8 OPERATOR(pg_catalog./) r.jobs_per_second)::pg_catalog.numeric)::pg_catalog.float8)
		END AS time_left
	FROM (SELECT g.tgrelid::pg_catalog.regclass AS source, g.tgrelid, g.tgname::pg_catalog.text AS attachment, i.attname AS image_column,
			ARRAY(SELECT p.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree(g.tgrelid) AS p UNION SELECT g.tgrelid) AS tables
		FROM pg_catalog.pg_trigger AS g
			JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) g.tgrelid
			JOIN pg_catalog.pg_attribute AS i ON i.attrelid OPERATOR(pg_catalog.=) g.tgrelid AND i.attnum OPERATOR(pg_catalog.=) g.tgattr[0]
		WHERE g.tgfoid OPERATOR(pg_catalog.=) '@extschema@.dsocr_attach_row()'::pg_catalog.regprocedure
			AND g.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
			AND (pg_catalog.pg_has_role(c.relowner, 'USAGE')
				OR pg_catalog.has_table_privilege(g.tgrelid, 'SELECT'))) AS a
		CROSS JOIN LATERAL (SELECT COALESCE(pg_catalog.sum(y.jobs), 0)::pg_catalog.int8 AS done, COALESCE(pg_catalog.sum(y.pages), 0)::pg_catalog.int8 AS pages
			FROM dsocr.job_tally AS y
			WHERE y.source::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (a.tables) AND y.attachment OPERATOR(pg_catalog.=) a.attachment) AS t
		CROSS JOIN LATERAL (SELECT pg_catalog.count(*) AS queued FROM dsocr.job_queue AS j
			WHERE j.source::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (a.tables) AND j.attachment OPERATOR(pg_catalog.=) a.attachment
				AND j.key IS NOT NULL) AS q
		CROSS JOIN LATERAL (SELECT pg_catalog.count(*) AS failed FROM dsocr.job_failed AS j
			WHERE j.source::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (a.tables) AND j.attachment OPERATOR(pg_catalog.=) a.attachment) AS f
		-- the last minute, or what there is of it
		CROSS JOIN LATERAL (SELECT
			pg_catalog.sum(y.pages)::pg_catalog.float8 OPERATOR(pg_catalog./) GREATEST(pg_catalog.date_part('epoch', pg_catalog.max(y.ended) OPERATOR(pg_catalog.-) pg_catalog.min(y.started)), 0.001::pg_catalog.float8) AS pages_per_second,
			pg_catalog.sum(y.jobs)::pg_catalog.float8 OPERATOR(pg_catalog./) GREATEST(pg_catalog.date_part('epoch', pg_catalog.max(y.ended) OPERATOR(pg_catalog.-) pg_catalog.min(y.started)), 0.001::pg_catalog.float8) AS jobs_per_second
			FROM dsocr.job_tally AS y
			WHERE y.source::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (a.tables) AND y.attachment OPERATOR(pg_catalog.=) a.attachment
				AND y.ended OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 minute'::pg_catalog.interval)) AS r;

COMMENT ON VIEW dsocr.progress IS
'attached tables that one may read: rows read since it was attached, rows queued and failed, pages per second of the last minute, time left';

GRANT SELECT ON dsocr.progress TO PUBLIC;
