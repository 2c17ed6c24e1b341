/*-------------------------------------------------------------------------
 *
 * tokenizer_bpe.h
 *		Vocabulary and merge rules of a byte-level BPE.
 *
 * Tokens are kept as the file writes them: each byte of text stands there as
 * one printable character (a space is U+0120, and so on).
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_TOKENIZER_BPE_H
#define DSOCR_TOKENIZER_BPE_H

#include "base.h"

#include <jansson.h>

#define DSOCR_MAX_TOKEN_ID ((1 << 24) - 1)

typedef struct DsocrMerge
{
	int32_t left; /* -1: the slot is free */
	int32_t right;
	int32_t rank;
	int32_t merged;
} DsocrMerge;

typedef struct DsocrBpe
{
	int32_t size;	 /* highest id + 1 */
	int32_t n;		 /* tokens */
	char *pool;		 /* all tokens, one after the other */
	uint32_t *start; /* [size] where in the pool */
	int32_t *length; /* [size] bytes, -1 for an id without token */
	int32_t *slots;	 /* [slot_mask + 1] ids by hash of the token, -1 free */
	uint32_t slot_mask;
	DsocrMerge *merges; /* [merge_mask + 1] by hash of the pair */
	uint32_t merge_mask;
	int32_t byte_ids[256]; /* id of a single byte, -1 if there is none */
	bool ignore_merges;	   /* a word that is a token is that token */
} DsocrBpe;

/* A list of ids that grows. */
typedef struct DsocrIds
{
	int32_t *ids;
	size_t n;
	size_t cap;
} DsocrIds;

extern bool dsocr_ids_append(DsocrIds *list, int32_t id, DsocrError *err);
extern bool dsocr_ids_reserve(DsocrIds *list, size_t more, DsocrError *err);

/* Memory of one encoding, used again from word to word; start with zeros. */
typedef struct DsocrBpeWork
{
	struct DsocrBpeSymbol *symbols;
	size_t symbols_cap;
	struct DsocrBpeCandidate *heap;
	size_t heap_cap;
	DsocrBuffer spelled;
} DsocrBpeWork;

extern void dsocr_bpe_work_free(DsocrBpeWork *w);

/* Read the "model" object of tokenizer.json.  Errors: DSOCR_E_MODEL, DSOCR_E_MEMORY. */
extern bool dsocr_bpe_read(DsocrBpe *b, json_t *model, DsocrError *err);
extern void dsocr_bpe_free(DsocrBpe *b);

/* Append the ids of a word of raw bytes; time n log n, whatever the bytes. */
extern bool dsocr_bpe_encode(const DsocrBpe *b, const char *word, size_t len, DsocrBpeWork *w,
							 DsocrIds *out, DsocrError *err);

/* Id of a token as the file writes it, -1 if there is none. */
extern int32_t dsocr_bpe_find(const DsocrBpe *b, const char *token, size_t len);

/* NULL when the two ids do not merge. */
extern const DsocrMerge *dsocr_bpe_find_merge(const DsocrBpe *b, int32_t left, int32_t right);

#endif /* DSOCR_TOKENIZER_BPE_H */
