-- Tables whose documents are read as they come.
CREATE SCHEMA archive;
CREATE TABLE archive."Scans" (no int, "box ""A""" text, image bytea, PRIMARY KEY ("box ""A""", no));
INSERT INTO archive."Scans" SELECT 1, 'a "b", {c}\', image FROM page WHERE name = 'note';
CREATE FUNCTION drained(t regclass) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..600 LOOP
		PERFORM FROM dsocr.jobs WHERE source IN (SELECT relid FROM pg_partition_tree(t) UNION SELECT t) AND state IN ('queued', 'delayed');
		IF NOT FOUND THEN
			RETURN true;
		END IF;
		PERFORM pg_sleep(0.05);
	END LOOP;
	RETURN false;
END $$;

SELECT dsocr_attach('archive."Scans"', 'image', text_column => 'Body', layout_column => 'layout', tsvector_column => 'words',
	side_table => 'Scan pages', language => 'english', options => '{"max_tokens": 40}');
\d archive."Scan pages"
SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'archive."Scans"'::regclass AND NOT tgisinternal ORDER BY 1;

-- the row that was there, a new one, one without image, one that brings its text
INSERT INTO archive."Scans" SELECT 2, 'new', image FROM page WHERE name = 'note';
INSERT INTO archive."Scans" VALUES (3, 'empty');
INSERT INTO archive."Scans" (no, "box ""A""", image, "Body") VALUES (4, 'bad', 'no image', 'has a text'), (5, 'bad', 'no image', NULL);
SELECT drained('archive."Scans"');
SELECT no, btrim("Body") = (SELECT btrim(dsocr_markdown(image, max_tokens => 40)) FROM page WHERE name = 'note') AS same, layout IS NOT NULL AS layout, words IS NOT NULL AS words
FROM archive."Scans" ORDER BY no;
SELECT no, page, text IS NOT NULL AS text, layout IS NOT NULL AS layout, tsv IS NOT NULL AS tsv, status, confidence BETWEEN 0 AND 1 AS confidence
FROM archive."Scan pages" ORDER BY no;
SELECT source, image_column, done, queued, failed, pages, pages_per_second > 0 AS moves, time_left FROM dsocr.progress;
SELECT source, key, sqlstate FROM dsocr.failures;

-- a good image instead, an image taken away, another key, the same bytes again, the text taken away
SELECT sum(done) AS before FROM dsocr.progress \gset
UPDATE archive."Scans" SET image = (SELECT image FROM page WHERE name = 'note') WHERE no = 5;
UPDATE archive."Scans" SET image = NULL WHERE no = 4;
UPDATE archive."Scans" SET no = 20 WHERE no = 2;
UPDATE archive."Scans" SET image = image || '' WHERE no = 1;
SELECT drained('archive."Scans"');
SELECT no, "Body" IS NOT NULL AS text FROM archive."Scans" ORDER BY no;
SELECT done - :before AS read, failed FROM dsocr.progress;
UPDATE archive."Scans" SET "Body" = NULL WHERE no = 20;
SELECT drained('archive."Scans"');
SELECT count("Body") FROM archive."Scans" WHERE no = 20;
SELECT no FROM archive."Scan pages" ORDER BY no;

-- names may change
ALTER TABLE archive."Scans" RENAME COLUMN image TO picture;
ALTER TABLE archive."Scans" RENAME COLUMN "Body" TO said;
ALTER TABLE archive."Scans" RENAME TO scan;
ALTER TABLE archive."Scan pages" RENAME COLUMN text TO said;
ALTER TABLE archive."Scan pages" RENAME TO "scan's page";
ALTER SCHEMA archive RENAME TO attic;
INSERT INTO attic.scan SELECT 6, 'six', image FROM page WHERE name = 'note';
SELECT drained('attic.scan');
SELECT s.said IS NOT NULL AS said, p.said = s.said AS same FROM attic.scan s JOIN attic."scan's page" p USING (no) WHERE no = 6;

-- rows that go take their jobs along
BEGIN;
INSERT INTO attic.scan SELECT 7, 'x', 'y' FROM page WHERE name = 'note';
DELETE FROM attic.scan WHERE no = 7;
SELECT count(*) FROM dsocr.jobs WHERE source = 'attic.scan'::regclass AND state = 'queued';
INSERT INTO attic.scan SELECT 7, 'x', 'y' FROM page WHERE name = 'note';
SELECT key FROM dsocr.jobs WHERE source = 'attic.scan'::regclass AND state = 'queued';
TRUNCATE attic.scan CASCADE;
SELECT count(*) FROM dsocr.jobs WHERE source = 'attic.scan'::regclass AND state = 'queued';
ROLLBACK;

-- a column that is attached goes with CASCADE only
ALTER TABLE attic.scan DROP COLUMN said;
SELECT dsocr_detach('attic.scan', 'picture', keep => false), dsocr_detach('attic.scan', 'picture');
\d attic.scan
SELECT to_regclass('attic."scan''s page"') IS NULL AS dropped, count(*) FROM dsocr.progress;

-- a partitioned table, a language for each row
CREATE TABLE attic.part (id uuid, year int, image bytea, lang text, PRIMARY KEY (id, year)) PARTITION BY LIST (year);
CREATE TABLE attic.part1 PARTITION OF attic.part FOR VALUES IN (1);
CREATE TABLE attic.part2 (image bytea, year int NOT NULL, lang text, id uuid NOT NULL);
INSERT INTO attic.part SELECT '11111111-1111-1111-1111-111111111111', 1, image, 'english' FROM page WHERE name = 'note';
SELECT dsocr_attach('attic.part', 'image', text_column => 'body', tsvector_column => 'words', language_column => 'lang',
	side_table => 'part_pages', options => '{"max_tokens": 40}');
ALTER TABLE attic.part2 ADD body text, ADD words tsvector;
ALTER TABLE attic.part ATTACH PARTITION attic.part2 FOR VALUES IN (2);
INSERT INTO attic.part SELECT '22222222-2222-2222-2222-222222222222', 2, image FROM page WHERE name = 'note';
SELECT drained('attic.part');
SELECT tableoid::regclass, id, body IS NOT NULL AS body, words IS NOT NULL AS words FROM attic.part ORDER BY id;
SELECT id, year, page, status FROM attic.part_pages ORDER BY id;
SELECT source, done, queued, failed FROM dsocr.progress;
-- dropped with its jobs
INSERT INTO attic.part SELECT '33333333-3333-3333-3333-333333333333', 2, 'bad';
DROP SCHEMA attic CASCADE;
SELECT count(*) FROM dsocr.progress;

-- what cannot be attached
\set VERBOSITY terse
CREATE TABLE without_key (image bytea);
CREATE TABLE with_key (id int PRIMARY KEY, image bytea, other int);
SELECT dsocr_attach('without_key', 'image', 'body');
SELECT dsocr_attach('with_key', 'other', 'body');
SELECT dsocr_attach('with_key', 'image');
SELECT dsocr_attach('with_key', 'image', 'other');
SELECT dsocr_attach('with_key', 'image', 'image');
SELECT dsocr_attach('with_key', 'image', 'body', layout_column => 'body');
SELECT dsocr_attach('with_key', 'image', 'body', priority => 10);
SELECT dsocr_attach('with_key', 'image', 'body', task => 'sing');
SELECT dsocr_attach('with_key', 'image', 'body', options => '{"color": 1}');
SELECT dsocr_attach('with_key', 'image', 'body', options => '{"dpi": "many"}');
SELECT dsocr_attach('with_key', 'image', 'body', language_column => 'other');
SELECT dsocr_attach('with_key', 'image', side_table => 'page');
SELECT dsocr_attach('pg_stat_activity', 'query', 'body');
SELECT dsocr_attach('with_key', 'image', 'body', backfill => false);
SELECT dsocr_attach('with_key', 'image', 'body');
SELECT dsocr_backfill('with_key', 'image'), dsocr_detach('with_key', 'other') AS other, dsocr_detach('with_key', 'image');
SELECT dsocr_backfill('with_key', 'image');
-- triggers of one's own making are no way around types
CREATE TRIGGER t AFTER INSERT ON with_key FOR EACH ROW EXECUTE FUNCTION dsocr_attach_row('image', '5', '{}');
INSERT INTO with_key VALUES (1, 'x', 1);
DROP TRIGGER t ON with_key;
CREATE TRIGGER t AFTER UPDATE OF other ON with_key FOR EACH ROW EXECUTE FUNCTION dsocr_attach_row('image', '5', '{}');
INSERT INTO with_key VALUES (1, 'x', 1);
UPDATE with_key SET other = 2;
\set VERBOSITY default
DROP TABLE with_key, without_key;
DROP FUNCTION drained;
