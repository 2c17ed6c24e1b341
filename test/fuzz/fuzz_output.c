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

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DsocrBuffer text = {0};
	DsocrBuffer repaired = {0};
	DsocrResult r = {0};
	DsocrError err = {0};
	size_t replaced;
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
	demand(dsocr_output_parse(repaired.data != NULL ? repaired.data + from : "", to - from,
							  data[0] * 40, data[1] * 40, &r, &err));
	demand_text(r.raw);
	demand_text(r.markdown);
	demand(strlen(r.raw) <= 3 * (to - from));
	demand(strlen(r.markdown) <= strlen(r.raw));
	demand(r.n_blocks >= 0 && (size_t) r.n_blocks <= (to - from) / 30);
	for (int i = 0; i < r.n_blocks; i++)
	{
		const DsocrBlock *b = &r.blocks[i];

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
