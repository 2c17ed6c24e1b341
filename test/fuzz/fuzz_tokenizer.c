/*-------------------------------------------------------------------------
 *
 * fuzz_tokenizer.c
 *		Encoding of any bytes, decoding of any ids, reading of any file.
 *
 * The first byte chooses: a text for a sound tokenizer, a list of ids for it,
 * or a tokenizer.json.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "prompt.h"
#include "tokenizer.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char head[] =
	"{\"added_tokens\":[{\"id\":300,\"content\":\"<image>\",\"special\":true},"
	"{\"id\":301,\"content\":\"<l>\",\"lstrip\":true},{\"id\":302,\"content\":\"<r>\",\"rstrip\":"
	"true,"
	"\"normalized\":true},{\"id\":303,\"content\":\"word\",\"single_word\":true},"
	"{\"id\":304,\"content\":\" \\n\",\"rstrip\":true,\"lstrip\":true}],"
	"\"normalizer\":null,\"decoder\":{\"type\":\"ByteLevel\"},\"pre_tokenizer\":{\"type\":"
	"\"Sequence\","
	"\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":"
	"\"\\\\p{N}{1,3}\"}},{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":"
	"\"[^\\r\\n\\\\p{L}\\\\p{P}\\\\p{S}]?[\\\\p{L}\\\\p{M}]+| "
	"?[\\\\p{P}\\\\p{S}]+[\\r\\n]*|\\\\s*[\\r\\n]+|"
	"\\\\s+(?!\\\\S)|\\\\s+\"}},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":"
	"false}]},"
	"\"model\":{\"type\":\"BPE\",\"merges\":[\"a a\",\"a b\",\"aa a\",\"b a\",\"aa b\"],\"vocab\":{"
	"\"aa\":256,\"ab\":257,\"aaa\":258,\"ba\":259,\"aab\":260";

static DsocrTokenizer *
open_text(const void *text, size_t len, DsocrError *err)
{
	int fd = memfd_create("tokenizer", 0);
	char path[64];
	DsocrTokenizer *t;

	if (fd < 0 || (len > 0 && write(fd, text, len) != (ssize_t) len))
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	t = dsocr_tokenizer_open(path, err);
	close(fd);
	return t;
}

/* A tokenizer that knows every byte. */
static DsocrTokenizer *
open_sound(void)
{
	DsocrBuffer text = {0};
	DsocrError err = {0};
	DsocrTokenizer *t;
	int next = 256;

	if (!dsocr_buffer_append(&text, head, strlen(head), &err))
		abort();
	for (int b = 0; b < 256; b++)
	{
		bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

		if (!dsocr_buffer_printf(&text, &err, ",\"\\u%04x\":%d", printable ? b : next++, b))
			abort();
	}
	if (!dsocr_buffer_append(&text, "}}}", 3, &err))
		abort();
	t = open_text(text.data, text.len, &err);
	if (t == NULL)
	{
		fprintf(stderr, "%s\n", err.message);
		abort();
	}
	dsocr_buffer_free(&text);
	return t;
}

/* Without stripping tokens what comes back is what went in, repaired. */
static void
try_text(const DsocrTokenizer *t, const uint8_t *data, size_t size)
{
	DsocrBuffer repaired = {0};
	DsocrBuffer back = {0};
	int32_t *ids;
	size_t n, again, from, to;
	DsocrError err = {0};
	bool strips = false;

	if (!dsocr_tokenizer_encode(t, (const char *) data, size, &ids, &n, &err) ||
		!dsocr_tokenizer_decode(t, ids, n, false, &back, &err) ||
		!dsocr_utf8_repair((const char *) data, size, &repaired, &again, &err))
		abort();
	for (size_t i = 0; i < n; i++)
		strips = strips || ids[i] > 300;
	if (!strips && (back.len != repaired.len || memcmp(back.data, repaired.data, back.len) != 0))
		abort();
	dsocr_free(ids);

	dsocr_utf8_strip(repaired.data, repaired.len, &from, &to);
	if (from > to || to > repaired.len)
		abort();
	/* the prompt ends at the first NUL */
	if (!dsocr_prompt_build(t, repaired.data, true, 3, 300, 1, &ids, &n, &again, &err) ||
		again + 3 > n || ids[again] != 300)
		abort();
	dsocr_free(ids);
	dsocr_buffer_free(&repaired);
	dsocr_buffer_free(&back);
}

static void
try_ids(const DsocrTokenizer *t, const uint8_t *data, size_t size)
{
	size_t n = size / 2;
	int32_t *ids = malloc((n + 1) * sizeof(*ids));
	DsocrBuffer bytes = {0};
	DsocrBuffer text = {0};
	DsocrBuffer twice = {0};
	size_t replaced;
	DsocrError err = {0};

	if (ids == NULL)
		abort();
	for (size_t i = 0; i < n; i++)
		ids[i] = (int16_t) (data[2 * i] | data[2 * i + 1] << 8);
	if (!dsocr_tokenizer_decode(t, ids, n, true, &bytes, &err) ||
		!dsocr_utf8_repair(bytes.data, bytes.len, &text, &replaced, &err) ||
		!dsocr_utf8_repair(text.data, text.len, &twice, &replaced, &err))
		abort();
	/* repaired text is valid */
	if (replaced != 0 || text.len != twice.len)
		abort();
	dsocr_buffer_free(&bytes);
	dsocr_buffer_free(&text);
	dsocr_buffer_free(&twice);
	free(ids);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static DsocrTokenizer *sound;
	DsocrError err = {0};
	DsocrTokenizer *t;

	if (sound == NULL)
		sound = open_sound();
	if (size < 1)
		return 0;
	if (data[0] < 'i')
		try_text(sound, data + 1, size - 1);
	else if (data[0] < '{')
		try_ids(sound, data + 1, size - 1);
	else
	{
		/* the brace is part of the file */
		t = open_text(data, size, &err);
		if (t == NULL &&
			(err.message[0] == '\0' || (err.code != DSOCR_E_MODEL && err.code != DSOCR_E_MEMORY)))
			abort();
		dsocr_tokenizer_close(t);
	}
	return 0;
}
