-- Speed of searches: psql -v pages=100000 -f test/bench/search.sql, as a superuser, in a database with dsocr.
-- Pages have 160 words of 50,000, of which the n-th comes with a probability of 1/n; medians of 20 queries each,
-- by the clock and by the processor.
\set ON_ERROR_STOP on
\pset footer off
\if :{?pages}
\else
	\set pages 100000
\endif
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS search_bench CASCADE;
CREATE SCHEMA search_bench;
SET search_path = search_bench, public;
SELECT setseed(0.5) \gset ignored_

CREATE FUNCTION word(n int) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT string_agg(substr('bcdfglmnprstvz', 1 + (n / f) % 14, 1) || substr('aeiou', 1 + (n / f) / 14 % 5, 1), '') || 'x' FROM (VALUES (1), (70), (4900)) AS v(f) $$;
CREATE TABLE words AS SELECT n, word(n) FROM generate_series(1, 50000) AS n;
CREATE INDEX ON words (n) INCLUDE (word);
CREATE TABLE scan (id int PRIMARY KEY, image bytea);
SELECT dsocr_attach('scan', 'image', side_table => 'page', backfill => false) \gset ignored_
INSERT INTO scan SELECT generate_series(1, :pages);
DROP INDEX page_tsv_idx;
-- 16 lines of 10 words, down the page
INSERT INTO page (id, page, status, text, tsv, layout)
SELECT s.id, 1, 'ok', t.text, to_tsvector('simple', t.text), jsonb_build_object('page', 1, 'status', 'ok', 'width', 1000, 'height', 1400, 'elements', t.elements)
FROM scan AS s CROSS JOIN LATERAL (
	SELECT string_agg(l.line, E'\n' ORDER BY l.n) AS text,
		jsonb_agg(jsonb_build_object('type', 'text', 'text', l.line, 'boxes', jsonb_build_array(jsonb_build_array(l.n % 2 * 500, l.n * 80, l.n % 2 * 500 + 480, l.n * 80 + 40))) ORDER BY l.n) AS elements
	FROM (SELECT i / 10 AS n, string_agg(word((50000 ^ random())::int), ' ') AS line FROM generate_series(0, 159) AS i WHERE s.id > 0 GROUP BY 1) AS l
) AS t;
CREATE INDEX page_tsv_idx ON page USING gin (tsv);
VACUUM ANALYZE;
SELECT count(*) AS pages, pg_size_pretty(pg_total_relation_size('page')) AS "all of the table", pg_size_pretty(pg_relation_size('page_tsv_idx')) AS "its index" FROM page;

CREATE FUNCTION busy() RETURNS numeric LANGUAGE sql AS $$ SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::numeric / 1e6 $$;
CREATE FUNCTION took(statement text, n int, OUT median numeric, OUT processor numeric, OUT hits int8) LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz;
	start_busy numeric;
	times numeric[];
	processor_times numeric[];
	most int8 := 0;
BEGIN
	FOR i IN 0 .. n LOOP	-- the first one only warms up
		start := clock_timestamp();
		start_busy := busy();
		EXECUTE statement INTO hits USING i;
		most := most + hits;
		IF i > 0 THEN
			processor_times := processor_times || round(busy() - start_busy, 1);
			times := times || round(extract(epoch FROM clock_timestamp() - start) * 1000, 1);
		END IF;
	END LOOP;
	SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY t), percentile_disc(0.5) WITHIN GROUP (ORDER BY p), most / (n + 1)
	INTO median, processor, hits FROM unnest(times, processor_times) AS u(t, p);
END $$;

SELECT dsocr_index_elements('scan', 'element') \gset ignored_
ANALYZE element;

SELECT v.what, t.median AS "ms", t.processor AS "processor, ms", t.hits AS "rows, mean"
FROM (VALUES
	(1, 'a rare word', $$SELECT count(*) FROM dsocr_search('scan', word(30000 + $1))$$),
	(2, 'two words', $$SELECT count(*) FROM dsocr_search('scan', word(300 + $1) || ' ' || word(400 + $1))$$),
	(3, 'a phrase', $$SELECT count(*) FROM dsocr_search('scan', '"' || word(20 + $1) || ' ' || word(30 + $1) || '"')$$),
	(4, 'the beginning of a word', $$SELECT count(*) FROM dsocr_search('scan', left(word(2000 + $1), 4) || '*')$$),
	(5, 'a word of 1 page in 7', $$SELECT count(*) FROM dsocr_search('scan', word(100 + $1))$$),
	(6, 'a word of 3 pages in 4', $$SELECT count(*) FROM dsocr_search('scan', word(10))$$),
	(7, 'a rare word in the lower right', $$SELECT count(*) FROM dsocr_find('scan', word(3000 + $1), '(0.5,0.5),(1,1)')$$),
	(8, 'a corner alone', $$SELECT count(*) FROM dsocr_find('scan', region => '(0,0),(0.5,0.05)')$$)) AS v(n, what, statement)
	CROSS JOIN LATERAL took(v.statement, CASE WHEN v.n = 6 THEN 3 ELSE 20 END) AS t
ORDER BY v.n;
DROP SCHEMA search_bench CASCADE;
