-- Each reading function on pages that can be read.
CREATE FUNCTION plain(t text) RETURNS text LANGUAGE sql
AS $$ SELECT btrim(regexp_replace(t, '\s+', ' ', 'g')) $$;

SELECT name, plain(dsocr_text(image)) AS text FROM page
WHERE name IN ('letter', 'letter.jpg', 'note') ORDER BY name COLLATE "C";
SELECT plain(dsocr_markdown(image)) AS markdown FROM page WHERE name = 'letter';

-- the same answer again, and from the other form of the prompt
SELECT dsocr_text(image) = dsocr_text(image) AS same,
	dsocr_generate(image, E'<image>\nFree OCR.') = dsocr_text(image) AS same_as_generate
FROM page WHERE name = 'letter';

SELECT l #>> '{pages,0,page}' AS page, l #>> '{pages,0,width}' AS width,
	l #>> '{pages,0,height}' AS height, jsonb_typeof(l #> '{pages,0,elements}') AS elements
FROM (SELECT dsocr_layout(image) AS l FROM page WHERE name = 'letter') s;

SELECT plain(r.markdown) AS markdown, plain(r.raw) AS raw, r.finish_reason, r.image_tokens,
	r.valid_image_tokens, r.text_tokens = length(r.raw) AS a_token_a_character,
	r.compression_ratio = r.text_tokens::float8 / r.valid_image_tokens AS ratio,
	r.mean_logprob BETWEEN -1 AND 0 AS certain, r.model, r.error, r.sqlstate
FROM page, dsocr_read(image) r WHERE name = 'letter' \gx
SELECT r.pages #- '{0,timings}' #- '{0,attempts}' #- '{0,confidence}' AS pages,
	(SELECT bool_and(value::float8 >= 0) FROM jsonb_each_text(r.pages #> '{0,timings}')) AS timings,
	(SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(r.pages #> '{0,timings}') key) AS names
FROM page, dsocr_read(image) r WHERE name = 'letter' \gx
SELECT t.raw = r.raw AS same, t.error, t.sqlstate
FROM page, dsocr_read(image) r, dsocr_try(image) t WHERE name = 'note';

-- These need a model that was taught them; here they must only answer.
SET client_min_messages = error;
SELECT dsocr_figure(image, max_tokens => 5) IS NOT NULL AS figure,
	dsocr_describe(image, max_tokens => 5) IS NOT NULL AS description,
	length(dsocr_generate(image, '<image>What is the total?', max_tokens => 5)) <= 5 AS answer
FROM page WHERE name = 'note';
SELECT count(*) FILTER (WHERE b.page <> 1 OR b.content IS NULL) AS wrong
FROM page, dsocr_blocks(image, max_tokens => 5) b WHERE name = 'note';
SELECT count(*) FILTER (WHERE b.page <> 1 OR b.box IS NULL) AS wrong
FROM page, dsocr_locate(image, 'ship', max_tokens => 5) b WHERE name = 'note';
RESET client_min_messages;

-- modes: the argument, and the setting; the model was not taught tiny
SET client_min_messages = error;
SELECT r.pages #>> '{0,mode}' AS mode, r.pages #>> '{0,views}' AS views, r.image_tokens
FROM page, dsocr_read(image, mode => 'tiny', max_tokens => 5) r WHERE name = 'note';
SET dsocr.mode = 'tiny';
SELECT r.pages #>> '{0,mode}' AS mode FROM page, dsocr_read(image, max_tokens => 5) r
WHERE name = 'note';
SELECT r.pages #>> '{0,mode}' AS mode FROM page, dsocr_read(image, mode => 'small') r
WHERE name = 'note';
RESET dsocr.mode;
RESET client_min_messages;

-- pages: an image is its own page 1
SELECT dsocr_text(image, pages => '[1,1]') IS NOT NULL AS page_1,
	dsocr_text(image, pages => '[2,9]') IS NULL AS not_page_1,
	dsocr_text(image, pages => 'empty') IS NULL AS no_page,
	dsocr_text(image, pages => '(,)') IS NOT NULL AS all_pages,
	dsocr_layout(image, pages => '[2,2]') IS NULL AS layout,
	dsocr_read(image, pages => '[2,2]') IS NULL AS read
FROM page WHERE name = 'note';
SELECT count(*) FROM page, dsocr_blocks(image, pages => '[2,2]') WHERE name = 'note';

-- NULL in, NULL out
SELECT dsocr_text(NULL), dsocr_markdown(NULL), dsocr_layout(NULL), dsocr_figure(NULL),
	dsocr_describe(NULL), dsocr_generate(NULL, 'x'), dsocr_read(NULL) IS NULL AS read,
	dsocr_try(NULL) IS NULL AS try;
SELECT dsocr_generate(image, NULL) FROM page WHERE name = 'note';
SELECT count(*) FROM dsocr_blocks(NULL);
SELECT count(*) FROM page, dsocr_locate(image, NULL) WHERE name = 'note';

-- text is cut at max_tokens, with a warning
SELECT dsocr_text(image, max_tokens => 4) FROM page WHERE name = 'letter';
SET dsocr.max_tokens = 3;
SELECT r.finish_reason, r.text_tokens FROM page, dsocr_read(image) r WHERE name = 'letter';
SELECT r.text_tokens FROM page, dsocr_read(image, max_tokens => 2) r WHERE name = 'letter';
\set VERBOSITY sqlstate
SELECT length(dsocr_text(image)) FROM page WHERE name = 'letter';
\set VERBOSITY default
RESET dsocr.max_tokens;

-- the price before paying it
SELECT m AS mode, t.* FROM unnest(enum_range('tiny'::dsocr_mode, NULL)) m,
	dsocr_tokens(1280, 640, m) t;
SELECT (dsocr_tokens(image, 'base')).* FROM page WHERE name = 'wide';
SET client_min_messages = error;
SELECT t.image_tokens = r.image_tokens AS image_tokens,
	t.valid_image_tokens = r.valid_image_tokens AS valid, t.grid = r.pages #>> '{0,grid}' AS grid
FROM page, dsocr_tokens(image) t, dsocr_read(image, max_tokens => 5) r WHERE name = 'wide';
RESET client_min_messages;
SELECT dsocr_tokens(NULL::bytea), dsocr_tokens(NULL, 5), dsocr_tokens(5, NULL);

-- small and narrow pages
SET client_min_messages = error;
SELECT dsocr_text(image, max_tokens => 5) IS NOT NULL AS read FROM page WHERE name = '1x1';
SELECT dsocr_text(image, max_tokens => 5) IS NOT NULL AS read FROM page WHERE name = '40000x2';
RESET client_min_messages;

-- in all places where SQL has expressions
CREATE TABLE read (name text, body text, made dsocr_result);
INSERT INTO read SELECT name, dsocr_text(image), dsocr_read(image) FROM page WHERE name = 'note';
SELECT body = (made).raw AS same FROM read;
PREPARE reading(text) AS SELECT plain(dsocr_text(image)) FROM page WHERE name = $1;
EXECUTE reading('note');
EXECUTE reading('note');
SELECT count(*) FROM page WHERE name = 'note' AND dsocr_text(image) LIKE '%harbour%';
DO $$
BEGIN
	PERFORM dsocr_text('no image');
EXCEPTION WHEN invalid_binary_representation THEN
	RAISE NOTICE 'caught %', SQLSTATE;
END $$;
-- not for generated columns and indexes: the answer depends on settings and model
CREATE TABLE refused (image bytea, body text GENERATED ALWAYS AS (dsocr_text(image)) STORED);
DROP TABLE read;
