/*-------------------------------------------------------------------------
 *
 * pretokenize.h
 *		Cutting text into words by the patterns of tokenizer.json.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PRETOKENIZE_H
#define DSOCR_PRETOKENIZE_H

#include "base.h"

#include <jansson.h>

#define DSOCR_MAX_SPLITS 8

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;

typedef struct DsocrPretokenizer
{
	int n;
	struct pcre2_real_code_8 *patterns[DSOCR_MAX_SPLITS]; /* each cuts the pieces of the last */
} DsocrPretokenizer;

/* A word in the order of the text; false stops the cutting. */
typedef bool (*DsocrWordHandler)(void *arg, const char *word, size_t len, DsocrError *err);

/*
 * Read the "pre_tokenizer" object: a sequence of Split (Regex, Isolated) and
 * one ByteLevel at its end.  Errors: DSOCR_E_MODEL, DSOCR_E_MEMORY.
 */
extern bool dsocr_pretokenizer_read(DsocrPretokenizer *p, json_t *description, DsocrError *err);
extern void dsocr_pretokenizer_free(DsocrPretokenizer *p);

/* Cut valid UTF-8 into words; the words together are the text. */
extern bool dsocr_pretokenizer_split(const DsocrPretokenizer *p, const char *text, size_t len,
									 DsocrWordHandler handler, void *arg, DsocrError *err);

/*
 * Rewrite a pattern in Oniguruma's syntax for PCRE2.  Only what means the
 * same in both, or can be made to, is accepted.
 */
extern bool dsocr_pretokenizer_translate(const char *pattern, DsocrBuffer *out, DsocrError *err);

#endif /* DSOCR_PRETOKENIZE_H */
