-- Searching attached tables: rows here bring their texts, so nothing has to be read.
\set SHOW_CONTEXT never
CREATE SCHEMA found;
CREATE TABLE found."My scans" (no int, "box ""A""" text, image bytea, PRIMARY KEY (no, "box ""A"""));
SELECT dsocr_attach('found."My scans"', 'image', side_table => 'pages; --', language => 'english', backfill => false);
INSERT INTO found."My scans" SELECT g, 'it''s' FROM generate_series(1, 2000) AS g;

CREATE FUNCTION found.plan(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || statement;
END $$;
CREATE FUNCTION found.layout(page int, head text, foot text) RETURNS jsonb LANGUAGE sql AS $$
SELECT jsonb_build_object('page', page, 'status', 'ok', 'width', 600, 'height', 800, 'elements', jsonb_build_array(
	jsonb_build_object('type', 'title', 'boxes', '[[50, 40, 350, 60]]'::jsonb, 'text', head),
	jsonb_build_object('type', 'text', 'boxes', '[[400, 700, 560, 720]]'::jsonb, 'text', foot)))
$$;
CREATE FUNCTION found.put(no int, page int, head text, foot text) RETURNS void LANGUAGE sql AS $$
INSERT INTO found."pages; --" (no, "box ""A""", page, text, layout, tsv, status)
VALUES (no, 'it''s', page, head || E'\n' || foot, found.layout(page, head, foot), to_tsvector('english', head || ' ' || foot), 'ok')
$$;
SELECT count(found.put(g, 1, 'Letter number ' || g, 'Grand total ' || g)) FROM generate_series(1, 1990) AS g;
SELECT found.put(1991, 1, 'Two boats arrived', 'Net total 40 <script>alert("&")</script>'),
	found.put(1991, 2, 'The boat sank', 'the total of net and gross'),
	found.put(1992, 1, 'Boatswain', 'Nothing');
-- a page that could not be read is not found, and is no error
INSERT INTO found."pages; --" (no, "box ""A""", page, status) VALUES (1993, 'it''s', 1, 'undecodable');
VACUUM ANALYZE found."pages; --";
VACUUM ANALYZE found."My scans";

-- words, phrases, alternatives, without, beginnings
SELECT key, page, snippet, boxes, width, height FROM dsocr_search('found."My scans"', 'boat');
SELECT key ->> 'no' AS no, page, boxes FROM dsocr_search('found."My scans"', '"net total"');
SELECT key ->> 'no' AS no, page FROM dsocr_search('found."My scans"', 'boat -sank') ORDER BY 1, 2;
SELECT key ->> 'no' AS no, page FROM dsocr_search('found."My scans"', 'sank or boatswain') ORDER BY 1, 2;
SELECT key ->> 'no' AS no, page, boxes @? '$[*] ? (@.text like_regex "^Boat")' AS "Boat..." FROM dsocr_search('found."My scans"', 'boats*') ORDER BY 1, 2;
SELECT dsocr_tsquery('english', q) AS query
FROM unnest(ARRAY['boats*', 'sail* "net total" or -boat* arrived', '"sail*" x*', 'it''s* a\b*', 'or* -"net total" sail*']) AS q;
SELECT count(*), count(DISTINCT key), min(rank) = max(rank) AS "same rank" FROM dsocr_search('found."My scans"', 'grand', max_rows => 30);
SELECT count(DISTINCT key) FROM (
	SELECT key FROM dsocr_search('found."My scans"', 'grand', max_rows => 30)
	UNION ALL SELECT key FROM dsocr_search('found."My scans"', 'grand', max_rows => 30, skip_rows => 30)) AS two;

-- marks, and text that would be a tag
SELECT snippet FROM dsocr_search('found."My scans"', 'gross', start_mark => '[', stop_mark => ']');
SELECT dsocr_snippet('a < b & "boat" <i>x</i> ''y'' ' || chr(2), 'boat'), dsocr_snippet('a < boat', 'boat', 'simple', '"', NULL, false);

-- the indexes are used
SELECT btrim(line) AS line FROM found.plan(dsocr_search_query('found."My scans"', '1234')) AS line WHERE line ~ 'Bitmap Index Scan|place|tsv|content';
SELECT btrim(line) AS line FROM found.plan(dsocr_search_query('found."My scans"', 'boat', language => 'german')) AS line WHERE line ~ 'Bitmap Index Scan|place|tsv|content';

-- nothing of a query or a name becomes a statement
SELECT q, (SELECT count(*) FROM dsocr_search('found."My scans"', q)) AS found
FROM unnest(ARRAY[$$'); DROP TABLE page; --$$, '\', '''', '%s %I %L $1', '& | ! ( <->', '"', $$'x*$$]) AS q ORDER BY q COLLATE "C";
SELECT * FROM dsocr_search('found."My scans"', NULL);
SELECT * FROM dsocr_search(NULL, 'boat');
SELECT * FROM dsocr_search('page', 'boat');
SELECT * FROM dsocr_search('found."My scans"', 'boat', 'no such column');

-- languages of rows, without a side table; text and vectors, or text alone
CREATE TABLE found.letter (id int PRIMARY KEY, image bytea, language text, body text, layout jsonb, words tsvector);
SELECT dsocr_attach('found.letter', 'image', text_column => 'body', layout_column => 'layout', tsvector_column => 'words', language_column => 'language', backfill => false);
CREATE INDEX ON found.letter USING gin (words);
INSERT INTO found.letter (id, language, body) SELECT g, 'english', 'number ' || g FROM generate_series(1, 2000) AS g;
INSERT INTO found.letter (id, language, body) VALUES (3001, 'german', 'Die Häuser'), (3002, 'English', 'houses'), (3003, NULL, 'houses'), (3004, 'pg_catalog.german', 'Haus');
UPDATE found.letter SET words = to_tsvector(COALESCE(language, 'simple')::regconfig, body),
	layout = jsonb_build_object('pages', jsonb_build_array(found.layout(1, 'empty', 'empty'), found.layout(2, 'empty', body)));
VACUUM ANALYZE found.letter;
SELECT key, page, snippet, boxes FROM dsocr_search('found.letter', 'house') ORDER BY key;
SELECT key, page, snippet, boxes FROM dsocr_search('found.letter', 'houses') ORDER BY key;
SELECT key, page, snippet FROM dsocr_search('found.letter', 'Haus') ORDER BY key;
SELECT key FROM dsocr_search('found.letter', 'houses', language => 'english') ORDER BY key;
SELECT count(*) > 0 AS "by index" FROM found.plan(dsocr_search_query('found.letter', 'Häuser')) AS line WHERE line LIKE '%Bitmap Index Scan on letter_words_idx%';
SELECT dsocr_detach('found.letter', 'image');
ALTER TABLE found.letter DROP COLUMN words;
SELECT dsocr_attach('found.letter', 'image', text_column => 'body', layout_column => 'layout', language_column => 'language', backfill => false);
SELECT key, page, snippet FROM dsocr_search('found.letter', 'Haus') ORDER BY key;

-- elements by place
SELECT page, ord, type, box, place, content, width, height FROM dsocr_elements(found.layout(3, 'above', 'below'));
SELECT count(*) FROM dsocr_elements('{"pages": [{"page": 1}, {"page": 2, "width": 9, "height": 9, "elements": [{"type": "text"}]}]}', 2);
SELECT page, ord, line, word, box FROM dsocr_words(found.layout(3, 'two words', 'below'));
SELECT * FROM dsocr_words('{"nothing": 1}');
SELECT * FROM dsocr_find('found."My scans"', 'total');
SELECT dsocr_index_elements('found."My scans"', 'elements of "pages"');
ANALYZE found."elements of ""pages""";
SELECT key ->> 'no' AS no, page, ord, type, box, content FROM dsocr_find('found."My scans"', 'total net', '(0.5,0.5),(1,1)');
SELECT count(*) FROM dsocr_find('found."My scans"', 'total', '(0,0),(0.5,0.5)');
SELECT key ->> 'no' AS no, content FROM dsocr_find('found."My scans"', 'boat*', types => '{title,"a''b"}');
SELECT btrim(line) AS line FROM found.plan(dsocr_find_query('found."My scans"', '1234', '(0.5,0.5),(1,1)')) AS line WHERE line ~ 'Bitmap Index Scan|place|tsv|content';
SELECT btrim(line) AS line FROM found.plan(dsocr_find_query('found."My scans"', region => '(0,0.95),(1,1)')) AS line WHERE line ~ 'Bitmap Index Scan|place|tsv|content';
-- they follow the layouts
UPDATE found."pages; --" SET layout = found.layout(1, 'Another head', 'Sum') WHERE no = 1992;
SELECT content FROM dsocr_find('found."My scans"') WHERE key ->> 'no' = '1992';
SELECT content FROM dsocr_find('found."My scans"', 'another') ORDER BY 1;
UPDATE found."My scans" SET no = 5000 WHERE no = 1992;
SELECT key, content FROM dsocr_find('found."My scans"', 'another');
SELECT found.put(1994, 1, 'Newly read', 'Total');
SELECT key ->> 'no' AS no, content FROM dsocr_find('found."My scans"', 'newly');
DELETE FROM found."My scans" WHERE no = 5000;
SELECT key FROM dsocr_find('found."My scans"', 'another');

-- with the rights of the caller
CREATE ROLE regress_dsocr_reader;
GRANT USAGE ON SCHEMA found TO regress_dsocr_reader;
SET ROLE regress_dsocr_reader;
SELECT count(*) FROM dsocr_search('found."My scans"', 'boat');
RESET ROLE;
GRANT SELECT ON found."pages; --", found."elements of ""pages""" TO regress_dsocr_reader;
SET ROLE regress_dsocr_reader;
SELECT count(*) FROM dsocr_search('found."My scans"', 'boat');
RESET ROLE;
GRANT SELECT (no, "box ""A""") ON found."My scans" TO regress_dsocr_reader;
SET ROLE regress_dsocr_reader;
SELECT count(*) FROM dsocr_search('found."My scans"', 'boat');
SELECT count(*) FROM dsocr_find('found."My scans"', 'boat');
RESET ROLE;
ALTER TABLE found."My scans" ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON found."My scans" USING (no < 1991);
SET ROLE regress_dsocr_reader;
SELECT count(*) FROM dsocr_search('found."My scans"', 'boat');
SELECT count(*) FROM dsocr_find('found."My scans"', 'boat');
SELECT count(*) FROM dsocr_search('found."My scans"', '1234');
RESET ROLE;

SET client_min_messages = warning;
DROP SCHEMA found CASCADE;
DROP ROLE regress_dsocr_reader;
