/*-------------------------------------------------------------------------
 *
 * prompt.c
 *		From a prompt with <image> to the ids that the decoder reads.
 *
 * Source: infer() of the official modeling_deepseekocr.py with the "plain"
 * conversation template.
 *
 *-------------------------------------------------------------------------
 */
#include "prompt.h"

#include <string.h>

/* The texts before the first mark and behind the last one, in text[from, to). */
static void
split_at_marks(const char *text, size_t from, size_t to, size_t *first_end, size_t *last_start)
{
	size_t mark = strlen(DSOCR_IMAGE_MARK);
	bool found = false;

	*first_end = to;
	*last_start = from;
	for (size_t i = from; i + mark <= to;)
	{
		if (memcmp(text + i, DSOCR_IMAGE_MARK, mark) != 0)
		{
			i++;
			continue;
		}
		if (!found)
			*first_end = i;
		found = true;
		i += mark;
		*last_start = i;
	}
}

bool
dsocr_prompt_build(const DsocrTokenizer *t, const char *prompt, bool strip, int image_tokens,
				   int32_t image_id, int32_t bos_id, int32_t **ids, size_t *n, size_t *image_at,
				   DsocrError *err)
{
	size_t from = 0;
	size_t to = strlen(prompt);
	size_t first_end, last_start, total;
	int32_t *before = NULL;
	int32_t *behind = NULL;
	size_t n_before = 0;
	size_t n_behind = 0;
	size_t n_image = image_tokens > 0 ? (size_t) image_tokens : 0;
	int32_t *all = NULL;

	if (strip)
		dsocr_utf8_strip(prompt, to, &from, &to);
	split_at_marks(prompt, from, to, &first_end, &last_start);
	if (dsocr_tokenizer_encode(t, prompt + from, first_end - from, &before, &n_before, err) &&
		dsocr_tokenizer_encode(t, prompt + last_start, to - last_start, &behind, &n_behind, err))
	{
		if (dsocr_add(n_before, n_behind, &total) && dsocr_add(total, n_image, &total) &&
			dsocr_add(total, 1, &total))
			all = dsocr_alloc(total, sizeof(*all), err);
		else
			dsocr_fail(err, DSOCR_E_TOO_LONG, "prompt is too long");
	}
	if (all != NULL)
	{
		all[0] = bos_id;
		memcpy(all + 1, before, n_before * sizeof(*all));
		for (size_t i = 0; i < n_image; i++)
			all[1 + n_before + i] = image_id;
		memcpy(all + 1 + n_before + n_image, behind, n_behind * sizeof(*all));
		*ids = all;
		*n = total;
		*image_at = 1 + n_before;
	}
	dsocr_free(before);
	dsocr_free(behind);
	return all != NULL;
}
