/*-------------------------------------------------------------------------
 *
 * prompt.h
 *		From a prompt with <image> to the ids that the decoder reads.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PROMPT_H
#define DSOCR_PROMPT_H

#include "tokenizer.h"

#define DSOCR_IMAGE_MARK "<image>"

/*
 * Build the input ids as the official code does: bos_id, the text before the
 * first <image>, image_tokens times image_id, the text behind the last
 * <image>; each text is encoded on its own.  A prompt without <image> stands
 * on both sides of the image, text between two marks is lost: whoever thinks
 * that wrong refuses such prompts before.  strip removes white space at both
 * ends of the prompt first (the transformers path; vLLM keeps it).
 *
 * *ids is allocated with dsocr_alloc; the image begins at (*ids)[*image_at].
 * Errors: DSOCR_E_MEMORY, DSOCR_E_TOO_LONG.
 */
extern bool dsocr_prompt_build(const DsocrTokenizer *t, const char *prompt, bool strip,
							   int image_tokens, int32_t image_id, int32_t bos_id, int32_t **ids,
							   size_t *n, size_t *image_at, DsocrError *err);

#endif /* DSOCR_PROMPT_H */
