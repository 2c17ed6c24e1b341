/*
 * elements.sql
 *		Elements of layouts, and finding them by words, type and place.
 *
 * An archive keeps them in a table with a row for each box, by a trigger on
 * the table that has the layouts.  Its foreign key, whose name the trigger
 * has, says which table it is and by which columns rows belong together.
 */
CREATE FUNCTION @extschema@.dsocr_elements(
	layout pg_catalog.jsonb,
	page pg_catalog.int4 DEFAULT NULL,
	OUT page pg_catalog.int4,
	OUT ord pg_catalog.int4,
	OUT type pg_catalog.text,
	OUT box pg_catalog.box,
	OUT place pg_catalog.box,
	OUT content pg_catalog.text,
	OUT confidence pg_catalog.float4,
	OUT width pg_catalog.int4,
	OUT height pg_catalog.int4)
RETURNS SETOF pg_catalog.record
LANGUAGE C IMMUTABLE PARALLEL SAFE COST 100 ROWS 20
AS 'MODULE_PATHNAME', 'dsocr_elements';

COMMENT ON FUNCTION @extschema@.dsocr_elements(pg_catalog.jsonb, pg_catalog.int4) IS
'the elements of a layout: box in pixels, place as parts of the page, 0 to 1 from its upper left';

CREATE FUNCTION @extschema@.dsocr_elements_row()
RETURNS pg_catalog.trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on
AS $f$
DECLARE
	layout name := (SELECT a.attname FROM pg_trigger t JOIN pg_attribute a ON a.attrelid = t.tgrelid AND a.attnum = t.tgattr[0]
		WHERE t.tgrelid = TG_RELID AND t.tgname = TG_NAME);
	elements regclass;
	here text;	-- columns of the key in this table
	there text;
	same text;
BEGIN
	SELECT c.conrelid, string_agg(format('($1).%I', h.attname), ', ' ORDER BY k.o), string_agg(format('%I', e.attname), ', ' ORDER BY k.o),
		@extschema@.dsocr_link(c.oid, '($1)', 'e')
	INTO elements, here, there, same
	FROM pg_constraint c CROSS JOIN unnest(c.conkey, c.confkey) WITH ORDINALITY AS k(e, h, o)
		JOIN pg_attribute e ON e.attrelid = c.conrelid AND e.attnum = k.e
		JOIN pg_attribute h ON h.attrelid = c.confrelid AND h.attnum = k.h
	WHERE c.contype = 'f' AND c.conname = TG_ARGV[0] AND c.confrelid = COALESCE(pg_partition_root(TG_RELID)::oid, TG_RELID)
	GROUP BY c.oid, c.conrelid;
	IF elements IS NULL THEN	-- it was dropped
		RETURN NULL;
	END IF;
	IF TG_OP = 'UPDATE' THEN
		EXECUTE format('DELETE FROM %s AS e WHERE %s', elements, same) USING NEW;
	END IF;
	EXECUTE format('INSERT INTO %s (%s, element_page, element, type, box, place, content, confidence) '
		'SELECT %s, e.page, e.ord, e.type, e.box, e.place, e.content, e.confidence '
		'FROM @extschema@.dsocr_elements(($1).%I) AS e WHERE e.place IS NOT NULL', elements, there, here, layout) USING NEW;
	RETURN NULL;
END
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_elements_row() IS
'trigger of tables with layouts: keeps their table of elements';

CREATE FUNCTION @extschema@.dsocr_index_elements(
	source pg_catalog.regclass,
	elements_table pg_catalog.name,
	image_column pg_catalog.name DEFAULT NULL)
RETURNS pg_catalog.void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on
AS $f$
DECLARE
	a record;
	layouts regclass;
	layout name;
	keys name[];
	definition text;
	key_list text;
	elements text;
	link name := left('dsocr_' || elements_table, 60);
BEGIN
	IF source IS NULL OR elements_table IS NULL THEN
		RAISE 'source and elements_table must not be NULL' USING ERRCODE = '22004';
	END IF;
	SELECT * INTO a FROM @extschema@.dsocr_attached(source, image_column);
	layouts := CASE WHEN a.side_columns ? 'layout' THEN a.side ELSE source END;
	layout := CASE WHEN a.side_columns ? 'layout' THEN a.side_columns ->> 'layout' ELSE a.columns ->> 'layout' END;
	IF layout IS NULL THEN
		RAISE 'no layout of table % is kept', source USING ERRCODE = '55000', HINT = 'Attach it with a layout_column or a side_table.';
	END IF;
	SELECT array_agg(c.attname ORDER BY k.o), string_agg(format('%I %s', c.attname, format_type(c.atttypid, c.atttypmod)), ', ' ORDER BY k.o),
		string_agg(format('%I', c.attname), ', ' ORDER BY k.o)
	INTO keys, definition, key_list
	FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k(n, o)
		JOIN pg_attribute c ON c.attrelid = i.indrelid AND c.attnum = k.n
	WHERE i.indrelid = layouts AND i.indisprimary AND k.o <= i.indnkeyatts;
	IF keys IS NULL THEN
		RAISE 'table % has no primary key', layouts USING ERRCODE = '42P16';
	ELSIF keys && ARRAY['element_page', 'element', 'type', 'box', 'place', 'content', 'confidence']::name[] THEN
		RAISE 'a column of the primary key has the name of a column of the table of elements' USING ERRCODE = '42701';
	END IF;
	elements := format('%I.%I', (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = source), elements_table);
	EXECUTE format('CREATE TABLE %s (%s, element_page pg_catalog.int4 NOT NULL, element pg_catalog.int4 NOT NULL, type pg_catalog.text NOT NULL, '
		'box pg_catalog.box NOT NULL, place pg_catalog.box NOT NULL, content pg_catalog.text NOT NULL, confidence pg_catalog.float4, '
		'CONSTRAINT %I FOREIGN KEY (%s) REFERENCES %s (%s) ON DELETE CASCADE ON UPDATE CASCADE)',
		elements, definition, link, key_list, layouts, key_list);
	EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OF %I ON %s FOR EACH ROW EXECUTE FUNCTION @extschema@.dsocr_elements_row(%L)',
		link, layout, layouts, link);
	EXECUTE format('INSERT INTO %s SELECT %s, e.page, e.ord, e.type, e.box, e.place, e.content, e.confidence '
		'FROM %s AS l CROSS JOIN LATERAL @extschema@.dsocr_elements(l.%I) AS e WHERE e.place IS NOT NULL',
		elements, (SELECT string_agg(format('l.%I', k), ', ' ORDER BY o) FROM unnest(keys) WITH ORDINALITY AS u(k, o)), layouts, layout);
	EXECUTE format('CREATE INDEX ON %s (%s)', elements, key_list);
	EXECUTE format('CREATE INDEX ON %s USING gist (place)', elements);
	EXECUTE format('CREATE INDEX ON %s USING gin (pg_catalog.to_tsvector(%L::pg_catalog.regconfig, content))', elements, a.language);
END
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_index_elements(pg_catalog.regclass, pg_catalog.name, pg_catalog.name) IS
'make a table of the elements of an attached table, indexed by place and content and kept up to date, for dsocr_find';

CREATE FUNCTION @extschema@.dsocr_find_query(
	source pg_catalog.regclass,
	what pg_catalog.text DEFAULT NULL,
	region pg_catalog.box DEFAULT NULL,
	types pg_catalog.text[] DEFAULT NULL,
	image_column pg_catalog.name DEFAULT NULL,
	max_rows pg_catalog.int4 DEFAULT 100)
RETURNS pg_catalog.text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on
AS $f$
DECLARE
	a record;
	layouts regclass;
	elements regclass;
	links text;
	side_name text;	-- of the table with the layouts
BEGIN
	IF source IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT * INTO a FROM @extschema@.dsocr_attached(source, image_column);
	layouts := CASE WHEN a.side_columns ? 'layout' THEN a.side ELSE source END;
	side_name := CASE WHEN layouts = source THEN 's' ELSE 'l' END;
	SELECT c.conrelid, @extschema@.dsocr_link(c.oid, side_name, 'e')
	INTO elements, links
	FROM pg_trigger t JOIN pg_constraint c ON c.contype = 'f' AND c.confrelid = layouts
		AND c.conname = split_part(encode(t.tgargs, 'escape'), '\000', 1)
		JOIN pg_class o ON o.oid = source JOIN pg_class b ON b.oid = c.conrelid
	WHERE t.tgrelid = layouts AND t.tgfoid = '@extschema@.dsocr_elements_row()'::regprocedure
		AND pg_has_role(b.relowner, o.relowner, 'MEMBER')
	ORDER BY t.oid LIMIT 1;
	IF elements IS NULL THEN
		RAISE 'table % has no table of elements', source USING ERRCODE = '55000', HINT = 'Call dsocr_index_elements first.';
	END IF;
	-- joined with the attached table, so that who may not see a row finds nothing of it
	RETURN format('SELECT pg_catalog.jsonb_build_object(%s) AS key, e.element_page AS page, e.element AS ord, e.type, e.box, e.place, e.content '
		'FROM %s AS e JOIN %s AS %I ON %s%s WHERE true%s%s%s ORDER BY %s, e.element_page, e.element LIMIT %L',
		(SELECT string_agg(format('%L, s.%I', k, k), ', ') FROM unnest(a.keys) AS k),
		elements, layouts, side_name, links,
		CASE WHEN layouts = source THEN '' ELSE format(' JOIN %s AS s ON %s', source, @extschema@.dsocr_link(a.side_link, 's', 'l')) END,
		CASE WHEN region IS NOT NULL THEN format(' AND e.place OPERATOR(pg_catalog.&&) %L::pg_catalog.box AND pg_catalog.point(e.place) OPERATOR(pg_catalog.<@) %L::pg_catalog.box', region, region) END,
		CASE WHEN what IS NOT NULL THEN format(' AND pg_catalog.to_tsvector(%L::pg_catalog.regconfig, e.content) OPERATOR(pg_catalog.@@) %L::pg_catalog.tsquery',
			a.language, @extschema@.dsocr_tsquery(a.language::regconfig, what)) END,
		CASE WHEN types IS NOT NULL THEN format(' AND e.type OPERATOR(pg_catalog.=) ANY (%L::pg_catalog.text[])', types) END,
		(SELECT string_agg(format('s.%I', k), ', ') FROM unnest(a.keys) AS k), max_rows);
END
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_find_query(pg_catalog.regclass, pg_catalog.text, pg_catalog.box, pg_catalog.text[], pg_catalog.name, pg_catalog.int4) IS
'the statement by which dsocr_find finds elements, to look at with EXPLAIN';

CREATE FUNCTION @extschema@.dsocr_find(
	source pg_catalog.regclass,
	what pg_catalog.text DEFAULT NULL,
	region pg_catalog.box DEFAULT NULL,
	types pg_catalog.text[] DEFAULT NULL,
	image_column pg_catalog.name DEFAULT NULL,
	max_rows pg_catalog.int4 DEFAULT 100,
	OUT key pg_catalog.jsonb,
	OUT page pg_catalog.int4,
	OUT ord pg_catalog.int4,
	OUT type pg_catalog.text,
	OUT box pg_catalog.box,
	OUT place pg_catalog.box,
	OUT content pg_catalog.text)
RETURNS SETOF pg_catalog.record
LANGUAGE plpgsql STABLE ROWS 100
SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on
AS $f$
DECLARE
	statement text := @extschema@.dsocr_find_query(source, what, region, types, image_column, max_rows);
BEGIN
	IF statement IS NOT NULL THEN
		RETURN QUERY EXECUTE statement;
	END IF;
END
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_find(pg_catalog.regclass, pg_catalog.text, pg_catalog.box, pg_catalog.text[], pg_catalog.name, pg_catalog.int4) IS
'find elements of an attached table by words, by type and by the region, 0 to 1, in which their centre lies; needs dsocr_index_elements';
