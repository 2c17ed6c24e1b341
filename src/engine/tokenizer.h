/*-------------------------------------------------------------------------
 *
 * tokenizer.h
 *		Byte-level BPE from a Hugging Face tokenizer.json, exact.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_TOKENIZER_H
#define DSOCR_TOKENIZER_H

#include "base.h"

typedef struct DsocrTokenizer DsocrTokenizer;

/* Read PATH (tokenizer.json).  Errors: DSOCR_E_MODEL, DSOCR_E_MEMORY. */
extern DsocrTokenizer *dsocr_tokenizer_open(const char *path, DsocrError *err);
extern void dsocr_tokenizer_close(DsocrTokenizer *t);

/*
 * Encode len bytes of UTF-8 (invalid bytes are replaced by U+FFFD first).
 * Added tokens in the text are recognised; no BOS is put in front.  *ids is
 * allocated with dsocr_alloc.
 */
extern bool dsocr_tokenizer_encode(const DsocrTokenizer *t, const char *text, size_t len,
								   int32_t **ids, size_t *n, DsocrError *err);

/*
 * Append the bytes of n ids to out; ids unknown to the tokenizer give nothing.
 * Bytes are raw: a character may be split over ids (see dsocr_utf8_repair).
 */
extern bool dsocr_tokenizer_decode(const DsocrTokenizer *t, const int32_t *ids, size_t n,
								   bool skip_special, DsocrBuffer *out, DsocrError *err);

/* Replace invalid UTF-8 by U+FFFD the way Rust's from_utf8_lossy does; returns how many. */
extern bool dsocr_utf8_repair(const char *bytes, size_t len, DsocrBuffer *out, size_t *replaced,
							  DsocrError *err);

/* Id of a token by its exact content ("<image>", "<td>"), -1 if there is none. */
extern int32_t dsocr_tokenizer_id(const DsocrTokenizer *t, const char *content);

/* Number of ids: one more than the highest. */
extern int32_t dsocr_tokenizer_size(const DsocrTokenizer *t);

/* Strip Unicode white space at both ends as Python's str.strip does: bytes [*from, *to). */
extern void dsocr_utf8_strip(const char *text, size_t len, size_t *from, size_t *to);

#endif /* DSOCR_TOKENIZER_H */
