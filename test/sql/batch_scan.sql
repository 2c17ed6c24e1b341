-- Reading ahead: the same results as row by row, with real pages.
CREATE TABLE batch AS
	SELECT i AS id, CASE WHEN i % 4 = 0 THEN NULL WHEN i = 5 THEN substr(image, 1, 200) ELSE image END AS image
	FROM page, generate_series(1, 6) i WHERE name = 'note';
ANALYZE batch;
EXPLAIN (COSTS off) SELECT id, dsocr_text(image, 'tiny') FROM batch;
EXPLAIN (COSTS off) SELECT count(dsocr_text(image, 'tiny')) FROM batch WHERE dsocr_markdown(image) ~ 'x' AND id > 2;
-- not where plain evaluation might not come
EXPLAIN (COSTS off) SELECT CASE WHEN id > 3 THEN dsocr_text(image) END FROM batch WHERE id = 1 OR dsocr_text(image) > '';
SET dsocr.batch_scan = off;
EXPLAIN (COSTS off) SELECT id, dsocr_text(image, 'tiny') FROM batch;
CREATE TABLE by_row AS SELECT id, (r).markdown, (r).error, (r).sqlstate
	FROM (SELECT id, dsocr_try(image, mode => 'tiny') AS r FROM batch OFFSET 0) b;
SET dsocr.batch_scan = on;
CREATE TABLE by_batch AS SELECT id, (r).markdown, (r).error, (r).sqlstate
	FROM (SELECT id, dsocr_try(image, mode => 'tiny') AS r FROM batch OFFSET 0) b;
SELECT count(*) AS rows, count(b.markdown) AS texts, count(b.error) AS errors,
	count(*) FILTER (WHERE a IS NOT DISTINCT FROM b) AS equal FROM by_row a JOIN by_batch b USING (id);
-- an error comes at its row
\set SHOW_CONTEXT never
SELECT id, dsocr_text(image, 'tiny') > '' AS text FROM batch WHERE id > 3;
SELECT id, dsocr_text(image, 'tiny') > '' AS text FROM batch LIMIT 4;
SET dsocr.on_error = 'null';
SELECT id, dsocr_text(image, 'tiny') > '' AS text FROM batch WHERE id > 3;
RESET dsocr.on_error;
DROP TABLE batch, by_row, by_batch;
