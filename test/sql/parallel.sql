-- Reading in parallel workers gives what reading in one process gives.
CREATE TABLE scan AS SELECT i, image FROM page, generate_series(1, 8) i WHERE name = 'note';
ALTER TABLE scan SET (parallel_workers = 2);
ANALYZE scan;
CREATE TABLE alone AS SELECT i, dsocr_text(image) AS body FROM scan;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS off) SELECT i, dsocr_text(image) AS body FROM scan;
SELECT count(*) AS read, count(*) FILTER (WHERE p.body = a.body) AS same
FROM (SELECT i, dsocr_text(image) AS body FROM scan) p JOIN alone a USING (i);
\set SHOW_CONTEXT never
-- an error in a worker is the statement's error; warnings come through
SELECT dsocr_text(substr(image, 1, 200)) FROM scan;
SET dsocr.on_error = 'null';
SELECT count(dsocr_text(substr(image, 1, 200))) FROM scan;
RESET dsocr.on_error;
DROP TABLE scan, alone;
