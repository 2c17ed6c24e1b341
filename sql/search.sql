/*
 * search.sql
 *		Searching attached tables by words.
 *
 * Everything runs with the rights of the caller: statements are made of
 * quoted names and literals, and name the attached table itself, so that its
 * privileges and policies hold for what lies beside it too.
 */
CREATE FUNCTION @extschema@.dsocr_words(
	layout pg_catalog.jsonb,
	OUT page pg_catalog.int4,
	OUT ord pg_catalog.int4,
	OUT line pg_catalog.int4,
	OUT word pg_catalog.text,
	OUT box pg_catalog.box,
	OUT width pg_catalog.int4,
	OUT height pg_catalog.int4)
RETURNS SETOF pg_catalog.record
LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000 ROWS 500
AS 'MODULE_PATHNAME', 'dsocr_words';

COMMENT ON FUNCTION @extschema@.dsocr_words(pg_catalog.jsonb) IS
'the words of a layout and where on the page they lie';

/*
 * What people type into a search box, as of websearch_to_tsquery, and word*
 * for all words that begin so.  Time grows with the third power of the words of
 * a query, in ts_headline, so there is a limit to them.
 */
CREATE FUNCTION @extschema@.dsocr_tsquery(language pg_catalog.regconfig, query pg_catalog.text)
RETURNS pg_catalog.tsquery
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on
SET client_min_messages = warning
AS $f$
DECLARE
	part text;
	word text;
	one tsquery;
	all_of tsquery;
	any_of tsquery;
	either bool := false;
	words int4;
BEGIN
	IF octet_length(query) > 4096 THEN
		RAISE 'query is too long' USING ERRCODE = '54000', DETAIL = format('It has %s bytes, the limit is 4096.', octet_length(query));
	END IF;
	-- many in a row are more than the parser can bear
	query := regexp_replace(query, '(^|\s)-[-\s]*-', '\1-', 'g');
	IF query !~ '[^\s"*]\*(\s|$)' THEN
		all_of := websearch_to_tsquery(language, query);
	ELSE
		FOR part IN SELECT m[1] FROM regexp_matches(query, '(-?"[^"]*"?|[^\s"]+)', 'g') AS m LOOP
			IF lower(part) = 'or' AND all_of IS NOT NULL THEN
				either := true;
				CONTINUE;
			END IF;
			word := ltrim(part, '-');
			IF word LIKE '_%*' AND word NOT LIKE '"%' THEN
				word := rtrim(word, '*');
				one := to_tsquery(language, '''' || replace(replace(word, '\', '\\'), '''', '''''') || ''':*');
			ELSE
				one := websearch_to_tsquery(language, word);
			END IF;
			IF part LIKE '-%' THEN
				one := !! one;
			END IF;
			IF either THEN
				any_of := CASE WHEN any_of IS NULL THEN all_of ELSE any_of || all_of END;
				all_of := one;
				either := false;
			ELSE
				all_of := CASE WHEN all_of IS NULL THEN one ELSE all_of && one END;
			END IF;
		END LOOP;
		all_of := CASE WHEN any_of IS NULL THEN all_of ELSE any_of || all_of END;
	END IF;
	words := (numnode(all_of) + 1) / 2;
	IF words > 100 THEN
		RAISE 'query has too many words' USING ERRCODE = '54000', DETAIL = format('It has %s words, the limit is 100.', words);
	END IF;
	RETURN all_of;
END
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_tsquery(pg_catalog.regconfig, pg_catalog.text) IS
'what is typed into a search box: as websearch_to_tsquery, and word* for words that begin so';

-- Boxes of the words that a query is about, a row for each page that has some.
CREATE FUNCTION @extschema@.dsocr_hits(
	layout pg_catalog.jsonb,
	query pg_catalog.tsquery,
	language pg_catalog.regconfig DEFAULT 'pg_catalog.simple',
	OUT page pg_catalog.int4,
	OUT boxes pg_catalog.jsonb,
	OUT width pg_catalog.int4,
	OUT height pg_catalog.int4)
RETURNS SETOF pg_catalog.record
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on
AS $f$
	-- words and phrases that must be there; words of a phrase count only beside each other
	WITH unit AS MATERIALIZED (
		SELECT u[1]::tsquery AS whole,
			(SELECT string_agg(l[1], ' | ')::tsquery
				FROM regexp_matches(u[1], $r$('(?:[^'\\]|''|\\.)*'(?::[*A-D]+)?)$r$, 'g') AS l) AS words,
			(SELECT COALESCE(sum(CASE d[1] WHEN '-' THEN 1 ELSE d[1]::int4 END), 0)::int4
				FROM regexp_matches(u[1], '<(-|\d+)>', 'g') AS d) AS span
		FROM regexp_matches(querytree(query),
			$r$('(?:[^'\\]|''|\\.)*'(?::[*A-D]+)?(?: <(?:-|\d+)> '(?:[^'\\]|''|\\.)*'(?::[*A-D]+)?)*)$r$, 'g') AS u
	), asked AS MATERIALIZED (
		SELECT string_agg(u.words::text, ' | ')::tsquery AS any_word,
			string_agg(u.words::text, ' | ') FILTER (WHERE u.span = 0)::tsquery AS single
		FROM unit AS u
	), word AS MATERIALIZED (
		SELECT w.page, w.ord, w.word, w.box, w.width, w.height, row_number() OVER (PARTITION BY w.page ORDER BY w.n)::int4 AS n
		FROM @extschema@.dsocr_words(layout) WITH ORDINALITY AS w(page, ord, line, word, box, width, height, n)
	), line AS MATERIALIZED (
		-- pages without any of the words are not looked at word by word
		SELECT w.page, array_agg(w.word ORDER BY w.n) AS words FROM word AS w GROUP BY w.page
		HAVING to_tsvector(language, string_agg(w.word, ' ' ORDER BY w.n)) @@ (SELECT a.any_word FROM asked AS a)
	), hit AS (
		SELECT w.* FROM line AS l JOIN word AS w USING (page) CROSS JOIN asked AS a CROSS JOIN LATERAL to_tsvector(language, w.word) AS lexemes
		WHERE lexemes @@ a.single OR EXISTS (SELECT FROM unit AS u WHERE u.span > 0 AND lexemes @@ u.words
			AND to_tsvector(language, array_to_string(l.words[w.n - u.span : w.n + u.span], ' ')) @@ u.whole)
	)
	SELECT h.page,
		jsonb_agg(jsonb_build_object('ord', h.ord, 'text', h.word, 'box', jsonb_build_array(
			(h.box[1])[0]::int4, (h.box[1])[1]::int4, (h.box[0])[0]::int4, (h.box[0])[1]::int4)) ORDER BY h.n),
		min(h.width), min(h.height)
	FROM hit AS h GROUP BY h.page ORDER BY h.page
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_hits(pg_catalog.jsonb, pg_catalog.tsquery, pg_catalog.regconfig) IS
'pixel boxes of the words of a layout that a query is about, a row for each page that has some';

/*
 * A piece of text around the hits.  Marks stand for themselves: ts_headline
 * gets characters that no text has, so what it returns can be escaped first.
 */
CREATE FUNCTION @extschema@.dsocr_snippet(
	content pg_catalog.text,
	query pg_catalog.tsquery,
	language pg_catalog.regconfig DEFAULT 'pg_catalog.simple',
	start_mark pg_catalog.text DEFAULT '<mark>',
	stop_mark pg_catalog.text DEFAULT '</mark>',
	escape_html pg_catalog.bool DEFAULT true)
RETURNS pg_catalog.text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on
AS $f$
	SELECT replace(replace(CASE WHEN escape_html
			THEN replace(replace(replace(replace(replace(h, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;')
			ELSE h END, chr(2), COALESCE(start_mark, '')), chr(3), COALESCE(stop_mark, ''))
	FROM ts_headline(language, translate(content, chr(2) || chr(3), ''), query,
		'StartSel="' || chr(2) || '", StopSel="' || chr(3) || '", MaxFragments=2, MinWords=8, MaxWords=20') AS h
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_snippet(pg_catalog.text, pg_catalog.tsquery, pg_catalog.regconfig, pg_catalog.text, pg_catalog.text, pg_catalog.bool) IS
'a piece of a text around the words of a query, which are marked; safe to put into HTML unless escape_html is false';

/*
 * How rows of two tables belong together by a foreign key, with the operators
 * that it goes by: rows of the first, named pk here, have the primary key.
 */
CREATE FUNCTION @extschema@.dsocr_link(link pg_catalog.oid, pk pg_catalog.text, fk pg_catalog.text)
RETURNS pg_catalog.text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
AS $f$
	SELECT string_agg(format('%s.%I OPERATOR(%I.%s) %s.%I', pk, r.attname, n.nspname, o.oprname, fk, f.attname), ' AND ' ORDER BY k.o)
	FROM pg_constraint AS c CROSS JOIN unnest(c.conkey, c.confkey, c.conpfeqop) WITH ORDINALITY AS k(f, r, op, o)
		JOIN pg_attribute AS f ON f.attrelid = c.conrelid AND f.attnum = k.f
		JOIN pg_attribute AS r ON r.attrelid = c.confrelid AND r.attnum = k.r
		JOIN pg_operator AS o ON o.oid = k.op
		JOIN pg_namespace AS n ON n.oid = o.oprnamespace
	WHERE c.oid = link
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_link(pg_catalog.oid, pg_catalog.text, pg_catalog.text) IS
'part of dsocr_search: the condition by which rows belong together by a foreign key';

-- The columns and tables of an attachment, by what its triggers say.
CREATE FUNCTION @extschema@.dsocr_attached(
	source pg_catalog.regclass,
	image_column pg_catalog.name DEFAULT NULL,
	OUT columns pg_catalog.jsonb,
	OUT side pg_catalog.regclass,
	OUT side_columns pg_catalog.jsonb,
	OUT side_link pg_catalog.oid,
	OUT keys pg_catalog.name[],
	OUT language pg_catalog.text)
RETURNS pg_catalog.record
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on
AS $f$
DECLARE
	attachment name;
	n int8;
BEGIN
	SELECT count(*) OVER (), t.tgname, p.columns,
		COALESCE(convert_from(decode(split_part(encode(t.tgargs, 'escape'), '\000', 3), 'escape'), getdatabaseencoding())::jsonb ->> 'language', 'simple')
	INTO n, attachment, columns, language
	FROM pg_trigger t
		JOIN pg_attribute i ON i.attrelid = t.tgrelid AND i.attnum = t.tgattr[0]
		CROSS JOIN LATERAL (SELECT jsonb_object_agg(w.part, a.attname) AS columns
			FROM unnest(t.tgattr::int2[]) WITH ORDINALITY AS u(n, o)
				JOIN unnest(string_to_array(split_part(encode(t.tgargs, 'escape'), '\000', 1), ' ')) WITH ORDINALITY AS w(part, o) USING (o)
				JOIN pg_attribute a ON a.attrelid = t.tgrelid AND a.attnum = u.n
			WHERE w.part <> 'key') AS p
	WHERE t.tgrelid = source AND t.tgfoid = '@extschema@.dsocr_attach_row()'::regprocedure
		AND (image_column IS NULL OR i.attname = image_column);
	IF attachment IS NULL THEN
		RAISE 'table % is not attached', source USING ERRCODE = '55000', HINT = 'Call dsocr_attach first.';
	ELSIF n > 1 THEN
		RAISE 'table % has several attached columns', source USING ERRCODE = '42702', HINT = 'Name one as image_column.';
	END IF;
	SELECT array_agg(a.attname ORDER BY k.o) INTO keys
	FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k(n, o)
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n
	WHERE i.indrelid = source AND i.indisprimary AND k.o <= i.indnkeyatts;
	SELECT t.tgrelid,
		(SELECT jsonb_object_agg(w.part, a.attname)
			FROM unnest(t.tgattr::int2[]) WITH ORDINALITY AS u(n, o)
				JOIN unnest(string_to_array(split_part(encode(t.tgargs, 'escape'), '\000', 1), ' ')) WITH ORDINALITY AS w(part, o) USING (o)
				JOIN pg_attribute a ON a.attrelid = t.tgrelid AND a.attnum = u.n),
		c.oid
	INTO side, side_columns, side_link
	FROM pg_trigger t JOIN pg_constraint c ON c.conrelid = t.tgrelid AND c.contype = 'f' AND c.confrelid = source
		JOIN pg_class o ON o.oid = source JOIN pg_class b ON b.oid = t.tgrelid
	WHERE t.tgname = attachment AND t.tgfoid = '@extschema@.dsocr_attach_side()'::regprocedure
		-- tables that others hang on have no say in what is found
		AND pg_has_role(b.relowner, o.relowner, 'MEMBER')
	ORDER BY t.oid LIMIT 1;
END
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_attached(pg_catalog.regclass, pg_catalog.name) IS
'part of dsocr_search: columns and side table of an attached table';

CREATE FUNCTION @extschema@.dsocr_search_query(
	source pg_catalog.regclass,
	query pg_catalog.text,
	image_column pg_catalog.name DEFAULT NULL,
	max_rows pg_catalog.int4 DEFAULT 20,
	skip_rows pg_catalog.int4 DEFAULT 0,
	language pg_catalog.regconfig DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
SET standard_conforming_strings = on
AS $f$
DECLARE
	a record;
	by_page bool;	-- rows of the side table, or of the table itself
	text_part text;
	layout_part text;
	vector text;
	language_part text;
	found_in text;
	asked text;
	spoken text;
	words tsquery;
BEGIN
	IF source IS NULL OR query IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT * INTO a FROM @extschema@.dsocr_attached(source, image_column);
	by_page := a.side IS NOT NULL AND a.side_columns ?| ARRAY['tsvector', 'text'];
	IF by_page THEN
		text_part := 'p.' || quote_ident(a.side_columns ->> 'text');
		vector := 'p.' || quote_ident(a.side_columns ->> 'tsvector');
		layout_part := COALESCE('p.' || quote_ident(a.side_columns ->> 'layout'), 's.' || quote_ident(a.columns ->> 'layout'));
	ELSE
		text_part := 's.' || quote_ident(a.columns ->> 'text');
		vector := 's.' || quote_ident(a.columns ->> 'tsvector');
		layout_part := 's.' || quote_ident(a.columns ->> 'layout');
	END IF;
	IF vector IS NULL AND text_part IS NULL THEN
		RAISE 'table % has no text to search in', source USING ERRCODE = '55000',
			HINT = 'Attach it with a tsvector_column, a text_column or a side_table.';
	END IF;

	-- The language is that of the caller, of the row, or of the table.
	IF language IS NOT NULL OR NOT a.columns ? 'language' THEN
		language := COALESCE(language, a.language::regconfig);
		spoken := format('%L::pg_catalog.regconfig', language);
		words := @extschema@.dsocr_tsquery(language, query);
		IF numnode(words) = 0 THEN
			RETURN NULL;
		END IF;
		asked := format('%L::pg_catalog.tsquery', words);
		found_in := format('%s OPERATOR(pg_catalog.@@) %s',
			COALESCE(vector, format('pg_catalog.to_tsvector(%s, %s)', spoken, text_part)), asked);
	ELSE
		language_part := format('pg_catalog.lower(s.%I::pg_catalog.text)', a.columns ->> 'language');
		-- Constant queries, one for each language that makes another of it: an index can be asked for all.
		WITH config AS (
			SELECT c.oid::regconfig AS config, @extschema@.dsocr_tsquery(c.oid::regconfig, query) AS asked,
				ARRAY[lower(c.oid::regconfig::text), lower(format('%I.%I', n.nspname, c.cfgname))] AS names
			FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace
		), branch AS (
			SELECT c.asked, min(c.config::text) AS config,
				format('(%s OPERATOR(pg_catalog.=) ANY (%L::pg_catalog.text[])%s)', language_part, array_agg(DISTINCT k.name),
					CASE WHEN bool_or(c.config = 'simple'::regconfig) THEN format(' OR %s IS NULL', language_part) ELSE '' END) AS condition
			FROM config c CROSS JOIN unnest(c.names) AS k(name)
			WHERE numnode(c.asked) > 0
			GROUP BY c.asked, CASE WHEN vector IS NULL THEN c.config END
		)
		SELECT string_agg(format('%s AND %s OPERATOR(pg_catalog.@@) %L::pg_catalog.tsquery', b.condition,
				COALESCE(vector, format('pg_catalog.to_tsvector(%L::pg_catalog.regconfig, %s)', b.config, text_part)), b.asked), ' OR '),
			'CASE ' || string_agg(format('WHEN %s THEN %L::pg_catalog.tsquery', b.condition, b.asked), ' ') || ' END'
		INTO found_in, asked FROM branch b;
		IF found_in IS NULL THEN
			RETURN NULL;
		END IF;
		SELECT 'CASE ' || string_agg(format('WHEN %s OPERATOR(pg_catalog.=) ANY (%L::pg_catalog.text[]) THEN %L::pg_catalog.regconfig',
				language_part, ARRAY[lower(c.oid::regconfig::text), lower(format('%I.%I', n.nspname, c.cfgname))], c.oid::regconfig), ' ')
			|| ' ELSE ''pg_catalog.simple''::pg_catalog.regconfig END'
		INTO spoken FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace;
	END IF;

	RETURN format('SELECT pg_catalog.jsonb_build_object(%s) AS key, %s AS page, '
		'pg_catalog.ts_rank(%s, %s, 1) AS rank, %s AS content, %s AS layout, %s AS query, %s AS language '
		'FROM %s AS s%s WHERE %s ORDER BY rank DESC, %s LIMIT %L OFFSET %L',
		(SELECT string_agg(format('%L, s.%I', k, k), ', ') FROM unnest(a.keys) AS k),
		CASE WHEN by_page THEN format('p.%I', a.side_columns ->> 'page') ELSE 'NULL::pg_catalog.int4' END,
		COALESCE(vector, format('pg_catalog.to_tsvector(%s, %s)', spoken, text_part)), asked,
		COALESCE(text_part, 'NULL::pg_catalog.text'), COALESCE(layout_part, 'NULL::pg_catalog.jsonb'), asked, spoken,
		source,
		CASE WHEN by_page THEN format(' JOIN %s AS p ON %s', a.side, @extschema@.dsocr_link(a.side_link, 's', 'p')) END,
		found_in,
		(SELECT string_agg(format('s.%I', k), ', ') FROM unnest(a.keys) AS k) || CASE WHEN by_page THEN ', 2' ELSE '' END,
		max_rows, COALESCE(skip_rows, 0));
END
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_search_query(pg_catalog.regclass, pg_catalog.text, pg_catalog.name, pg_catalog.int4, pg_catalog.int4, pg_catalog.regconfig) IS
'the statement by which dsocr_search finds pages, to look at with EXPLAIN; NULL if there is no word to look for';

CREATE FUNCTION @extschema@.dsocr_search(
	source pg_catalog.regclass,
	query pg_catalog.text,
	image_column pg_catalog.name DEFAULT NULL,
	max_rows pg_catalog.int4 DEFAULT 20,
	skip_rows pg_catalog.int4 DEFAULT 0,
	language pg_catalog.regconfig DEFAULT NULL,
	start_mark pg_catalog.text DEFAULT '<mark>',
	stop_mark pg_catalog.text DEFAULT '</mark>',
	escape_html pg_catalog.bool DEFAULT true,
	OUT key pg_catalog.jsonb,
	OUT page pg_catalog.int4,
	OUT rank pg_catalog.float4,
	OUT snippet pg_catalog.text,
	OUT boxes pg_catalog.jsonb,
	OUT width pg_catalog.int4,
	OUT height pg_catalog.int4)
RETURNS SETOF pg_catalog.record
LANGUAGE plpgsql STABLE ROWS 20
SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
SET standard_conforming_strings = on
AS $f$
DECLARE
	statement text := @extschema@.dsocr_search_query(source, query, image_column, max_rows, skip_rows, language);
BEGIN
	IF statement IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY EXECUTE 'SELECT f.key, COALESCE(f.page, h.page), f.rank, '
		'@extschema@.dsocr_snippet(COALESCE(f.content, (SELECT string_agg(e.content, chr(10)) FROM @extschema@.dsocr_elements(f.layout, f.page) AS e)), '
		'f.query, f.language, $1, $2, $3), h.boxes, h.width, h.height '
		'FROM (' || statement || ') AS f LEFT JOIN LATERAL ('
			-- of long documents only the pages up to the first that has a hit are taken apart
			'SELECT CASE WHEN l.one ? ''page'' THEN b.page ELSE l.n::int4 END AS page, b.boxes, b.width, b.height '
			'FROM jsonb_array_elements(CASE WHEN jsonb_typeof(f.layout -> ''pages'') = ''array'' THEN f.layout -> ''pages'' '
				'WHEN f.layout IS NULL THEN ''[]'' ELSE jsonb_build_array(f.layout) END) WITH ORDINALITY AS l(one, n) '
			'CROSS JOIN LATERAL @extschema@.dsocr_hits(l.one, f.query, f.language) AS b '
			'WHERE f.page IS NULL OR f.page::text = COALESCE(l.one ->> ''page'', l.n::text) LIMIT 1) AS h ON true '
		'ORDER BY f.rank DESC, f.key, f.page'
		USING start_mark, stop_mark, escape_html;
END
$f$;

COMMENT ON FUNCTION @extschema@.dsocr_search(pg_catalog.regclass, pg_catalog.text, pg_catalog.name, pg_catalog.int4, pg_catalog.int4, pg_catalog.regconfig, pg_catalog.text, pg_catalog.text, pg_catalog.bool) IS
'search an attached table: pages, best first, with a marked piece of their text and the boxes of the words found';
