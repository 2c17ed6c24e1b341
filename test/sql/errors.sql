-- Bad input: each is refused with an error that names the reason.
\pset format unaligned
CREATE FUNCTION outcome(image bytea, prompt text DEFAULT NULL) RETURNS text LANGUAGE sql
AS $$ SELECT coalesce(t.sqlstate || ': ' || t.error, 'read') FROM dsocr_try(image, prompt, max_tokens => 8) t $$;
SET client_min_messages = error;

SELECT outcome('');
SELECT outcome('This is text, not an image.');
SELECT outcome('\x00');
SELECT name, outcome(image) FROM page
WHERE name IN ('truncated png', 'truncated jpeg', 'wrong crc', '0x0', '1000000x1000000')
ORDER BY name COLLATE "C";
SELECT outcome(decode(repeat('00', 100000000), 'hex'));
SET dsocr.max_image_bytes = '128MB';
SELECT outcome(decode(repeat('00', 100000000), 'hex'));
RESET dsocr.max_image_bytes;
SET dsocr.max_pixels = 1000;
SELECT outcome(image) FROM page WHERE name = 'note';
RESET dsocr.max_pixels;
SET dsocr.max_image_bytes = '1kB';
SELECT outcome(image) ~ '^22P03: document has \d+ bytes, more than dsocr.max_image_bytes \(1kB\)$'
FROM page WHERE name = 'note';
RESET dsocr.max_image_bytes;

-- prompts
SELECT outcome(image, 'No image tag.') FROM page WHERE name = 'note';
SELECT outcome(image, '<image><image>Two.') FROM page WHERE name = 'note';
SELECT outcome(image, '') FROM page WHERE name = 'note';
SELECT outcome(image, '<image>' || repeat('long ', 2000)) FROM page WHERE name = 'note';
SELECT outcome(image, '<image>' || repeat('x', 1100000)) FROM page WHERE name = 'note';
RESET client_min_messages;

-- the same as errors, with hints
\set VERBOSITY default
SELECT dsocr_text('');
SELECT dsocr_text('This is text, not an image.');
SELECT dsocr_layout(image) FROM page WHERE name = 'truncated png';
SELECT dsocr_read(image) FROM page WHERE name = 'truncated jpeg';
SELECT * FROM page, dsocr_blocks(image) WHERE name = '0x0';
SELECT dsocr_tokens(image) FROM page WHERE name = '1000000x1000000';
SET dsocr.max_image_bytes = '1kB';
SELECT dsocr_text(convert_to(repeat('x', 1025), 'UTF8'));
RESET dsocr.max_image_bytes;

-- arguments
SELECT dsocr_text(image, 'enormous') FROM page WHERE name = 'note';
SELECT dsocr_text(image, max_tokens => 0) FROM page WHERE name = 'note';
SELECT dsocr_text(image, max_tokens => -1) FROM page WHERE name = 'note';
SELECT dsocr_text(image, dpi => 0) FROM page WHERE name = 'note';
SELECT dsocr_text(image, dpi => 100000) FROM page WHERE name = 'note';
SELECT (dsocr_try(image, max_tokens => 0)).sqlstate FROM page WHERE name = 'note';
SELECT dsocr_tokens(0, 10);
SELECT dsocr_tokens(10, -10, 'base');
SELECT dsocr_tokens(2000000000, 2000000000);

-- on_error: a bad document becomes NULL, nothing else does
SET dsocr.on_error = 'null';
SELECT dsocr_text('bad'), dsocr_layout('bad'), dsocr_read('bad') IS NULL AS read,
	dsocr_tokens('bad'::bytea);
SELECT count(*) FROM dsocr_blocks('bad');
SELECT name, dsocr_text(image) IS NOT NULL AS read FROM page
WHERE name IN ('note', '0x0', 'wrong crc') ORDER BY name COLLATE "C";
SELECT (dsocr_try('bad')).sqlstate;
SELECT dsocr_text(image, max_tokens => 0) FROM page WHERE name = 'note';
SELECT dsocr_generate(image, 'No image tag.') FROM page WHERE name = 'note';
SELECT dsocr_generate(image, '<image>' || repeat('long ', 2000)) FROM page WHERE name = 'note';
SET dsocr.on_error = 'warning';
SELECT dsocr_text('bad');
SELECT dsocr_text('');
\set VERBOSITY sqlstate
SELECT dsocr_text('bad');
\set VERBOSITY default
SET dsocr.on_error = 'nonsense';
RESET dsocr.on_error;

-- a cancelled statement is cancelled, whatever dsocr.on_error says
SET dsocr.on_error = 'null';
SET statement_timeout = '1ms';
SELECT dsocr_text(image) FROM page WHERE name = 'letter';
RESET statement_timeout;
RESET dsocr.on_error;
SELECT dsocr_text(image) IS NOT NULL AS read FROM page WHERE name = 'note';
