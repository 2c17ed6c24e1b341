/*-------------------------------------------------------------------------
 *
 * fuzz_output.c
 *		The model's text, hostile: valid, bounded, consistent results.
 *
 * Bytes are mixed with the tags of references, which a fuzzer finds slowly:
 * bytes 0x80 to 0x87 stand for tags.  The text goes through the same steps as
 * the engine's: repaired, stripped, parsed.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "tokenizer.h"

#define MAX_TOKENS 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pieces[] = {
	"<|ref|>",	  "<|/ref|><|det|>",  "<|/det|>",	"<|ref|>image<|/ref|><|det|>[[",
	"]]<|/det|>", "[[1, 2, 3, 999]]", "\\coloneqq", "\xe2\x96\x81\xf0\x9f\x90\x88",
};

static void
demand(int ok)
{
	if (!ok)
		abort();
}

/* Valid UTF-8: repairing it changes nothing. */
static void
demand_text(const char *s)
{
	DsocrBuffer b = {0};
	size_t replaced = 0;

	demand(s != NULL);
	demand(dsocr_utf8_repair(s, strlen(s), &b, &replaced, NULL));
	demand(replaced == 0);
	dsocr_buffer_free(&b);
}

/* Lines lie in their text, one behind the other, and are likely to some degree. */
static void
demand_lines(const char *text, float confidence, int n, const DsocrLine *lines)
{
	size_t from = 0;

	demand(confidence >= 0 && confidence <= 1);
	for (int i = 0; i < n; i++)
	{
		demand(lines[i].start >= 0 && lines[i].length > 0 && (size_t) lines[i].start >= from);
		demand(lines[i].confidence >= 0 && lines[i].confidence <= 1);
		from = (size_t) lines[i].start + (size_t) lines[i].length;
	}
	demand(from <= strlen(text));
}

/* Tokens of so many bytes each; a last one takes the rest. */
static size_t
spread(size_t *ends, float *logprobs, size_t len, size_t bytes)
{
	size_t n = 0;

	while (n + 1 < MAX_TOKENS && (n + 1) * bytes < len)
	{
		ends[n] = (n + 1) * bytes;
		logprobs[n++] = -0.25F;
	}
	ends[n] = len;
	logprobs[n++] = -4;
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DsocrBuffer text = {0};
	DsocrBuffer repaired = {0};
	DsocrResult r = {0};
	DsocrError err = {0};
	size_t replaced;
	static size_t ends[MAX_TOKENS];
	static float logprobs[MAX_TOKENS];
	DsocrScores scores = {0, ends, logprobs};
	size_t from;
	size_t to;

	if (size < 2)
		return 0;
	for (size_t i = 2; i < size; i++)
	{
		const char *piece = data[i] >= 0x80 && data[i] <= 0x87 ? pieces[data[i] - 0x80] : NULL;

		demand(piece != NULL ? dsocr_buffer_append(&text, piece, strlen(piece), NULL)
							 : dsocr_buffer_append(&text, &data[i], 1, NULL));
	}
	demand(dsocr_utf8_repair(text.data != NULL ? text.data : "", text.len, &repaired, &replaced,
							 NULL));
	dsocr_output_strip(repaired.data != NULL ? repaired.data : "", repaired.len,
					   data[0] & 1 ? "<eos>" : NULL, &from, &to);
	demand(from <= to && to <= repaired.len);
	scores.n = spread(ends, logprobs, to - from, 1 + data[0] % 8);
	demand(dsocr_output_parse_scored(repaired.data != NULL ? repaired.data + from : "", to - from,
									 data[0] * 40, data[1] * 40, &scores, &r, &err));
	demand_lines(r.prefix, r.prefix_confidence, r.n_prefix_lines, r.prefix_lines);
	demand_text(r.raw);
	demand_text(r.markdown);
	demand(strlen(r.raw) <= 3 * (to - from));
	demand(strlen(r.markdown) <= strlen(r.raw));
	demand(r.n_blocks >= 0 && (size_t) r.n_blocks <= (to - from) / 30);
	for (int i = 0; i < r.n_blocks; i++)
	{
		const DsocrBlock *b = &r.blocks[i];

		demand_lines(b->content, b->confidence, b->n_lines, b->lines);

		demand_text(b->label);
		demand_text(b->content);
		demand(strstr(r.raw, b->label) != NULL && strstr(r.raw, b->content) != NULL);
		demand(b->n_boxes >= 0 && (b->n_boxes == 0) == (b->boxes == NULL));
	}
	dsocr_result_free(&r);
	dsocr_buffer_free(&text);
	dsocr_buffer_free(&repaired);
	return 0;
}
