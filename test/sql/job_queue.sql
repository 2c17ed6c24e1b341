-- Durable jobs: queued, waited for, cancelled, failed, queued again.
CREATE FUNCTION ended(job int8) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..600 LOOP
		PERFORM FROM dsocr.jobs WHERE id = job AND state IN ('queued', 'delayed');
		IF NOT FOUND THEN
			RETURN (SELECT state FROM dsocr.jobs WHERE id = job);
		END IF;
		PERFORM pg_sleep(0.05);
	END LOOP;
	RETURN 'still there';
END $$;

-- a page in the queue, a page in a table
SELECT dsocr_enqueue(image) AS job FROM page WHERE name = 'note' \gset
SELECT btrim(w.markdown) = btrim(r.markdown) AS same, w.pages #>> '{0,status}' AS status, w.error
FROM page, dsocr_read(image) r, dsocr_wait(:job, '60s') w WHERE name = 'note';
SELECT dsocr_enqueue_row('page', '{"name": "note"}', 'image', prompt => E'<image>\nFree OCR.', max_tokens => 5, priority => 9) AS job \gset
SELECT length(raw) <= 5 AS short FROM dsocr_wait(:job, '60s');
SELECT state, owner = current_user::regrole AS mine, priority, attempts, source, key, source_column FROM dsocr.jobs WHERE id = :job;

-- not before the transaction has committed, and never when it does not
BEGIN;
SELECT dsocr_enqueue(image) AS job FROM page WHERE name = 'note' \gset
SELECT dsocr_wait(:job);
ROLLBACK;
SELECT count(*) FROM dsocr.jobs WHERE id = :job;
BEGIN;
SAVEPOINT s;
SELECT dsocr_enqueue(image) AS lost FROM page WHERE name = 'note' \gset
ROLLBACK TO s;
SELECT dsocr_enqueue(image) AS kept FROM page WHERE name = 'note' \gset
COMMIT;
SELECT ended(:kept) AS kept, ended(:lost) AS lost;

-- later, and not at all
SELECT dsocr_enqueue(image, not_before => 'infinity') AS job FROM page WHERE name = 'note' \gset
SELECT state, not_before FROM dsocr.jobs WHERE id = :job;
\set VERBOSITY terse
SELECT dsocr_wait(:job, '100 ms');
\set VERBOSITY default
SELECT dsocr_cancel(:job), dsocr_cancel(:job) AS again, dsocr_cancel(0) AS nothing;
SELECT ended(:job);
\set VERBOSITY terse
SELECT dsocr_wait(:job);
\set VERBOSITY default

-- what cannot be read fails at once
SELECT dsocr_enqueue(image) AS job FROM page WHERE name = 'truncated png' \gset
SELECT ended(:job);
SELECT sqlstate, attempts, reason IS NOT NULL AS reason FROM dsocr.failures WHERE id = :job;
SELECT dsocr_retry(:job), dsocr_retry(0) AS nothing;
SELECT ended(:job);
SELECT attempts FROM dsocr.failures WHERE id = :job;
SELECT dsocr_retry() AS queued;
SELECT ended(:job);
SELECT dsocr_cancel(:job);
SELECT ended(:job);
SELECT dsocr_enqueue_row('page', '{"name": "there is none"}', 'image') AS job \gset
SELECT ended(:job);
SELECT reason, sqlstate FROM dsocr.failures WHERE id = :job;
SELECT dsocr_cancel(:job);

-- wrong arguments are refused when the job is queued
SELECT dsocr_enqueue('');
SELECT dsocr_enqueue('x'::bytea, priority => 10);
SELECT dsocr_enqueue('x'::bytea, max_tokens => 0);
SELECT dsocr_enqueue('x'::bytea, dpi => 5000);
SELECT dsocr_enqueue('x'::bytea, pages => 'empty');
SELECT dsocr_enqueue_row('page', '{"id": 7}', 'image');
SELECT dsocr_enqueue_row('page', '{"name": null}', 'image');
SELECT dsocr_enqueue_row('page', '[1]', 'image');
SELECT dsocr_enqueue_row('page', '{"name": "note"}', 'name');
SELECT dsocr_enqueue_row('page', '{"name": "note"}', 'nothing');
SELECT dsocr_enqueue_row('pg_stat_activity', '{"pid": 1}', 'query');
SELECT dsocr_enqueue(NULL) IS NULL AS nothing;
SELECT dsocr_wait(0);
SELECT dsocr_wait(NULL) IS NULL AS nothing;
BEGIN READ ONLY;
SELECT dsocr_enqueue('x'::bytea);
ROLLBACK;
DROP FUNCTION ended;
