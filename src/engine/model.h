/*-------------------------------------------------------------------------
 *
 * model.h
 *		A model folder, loaded: config, tokenizer, weights and both networks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_MODEL_H
#define DSOCR_MODEL_H

#include "decoder.h"
#include "loop.h"
#include "quantize.h"
#include "tokenizer.h"

/*
 * Rows of a prefill chunk.  Chunks start at multiples of it from the
 * sequence's own beginning, whatever else runs, so that the sums behind a
 * text never change.
 */
#define DSOCR_CHUNK 512

#define DSOCR_MAX_WHITELIST 2

typedef struct DsocrModel
{
	DsocrBackend *be; /* owned by the caller */
	DsocrConfig config;
	DsocrWeights *weights;
	DsocrQuantized *quantized; /* matrices that were quantized at load, or NULL */
	int64_t quantize_us;
	DsocrTokenizer *tokenizer;
	DsocrEncoder *encoder;
	DsocrDecoder *decoder;
	int32_t image_id;						/* of "<image>" */
	int32_t whitelist[DSOCR_MAX_WHITELIST]; /* <td>, </td>: never banned by the window rule */
	int n_whitelist;
	DsocrTokenKind *kinds; /* [config.vocab] for the loop detector; NULL: there is none */
	void *tokens;		   /* vision tokens of the views encoded together */
	size_t tokens_cap;
	int max_sequences;
	int32_t *slots; /* [DSOCR_CHUNK] rows of a decoder step */

	/*
	 * Memory for the embeddings of prompts, [max_positions, hidden] each;
	 * none: allocated for every prompt.
	 */
	int n_embeds;
	int free_embeds; /* the first so many of the list are free */
	void **embeds;
} DsocrModel;

/*
 * Load DIR on a backend, for at most max_sequences (1 .. DSOCR_CHUNK) that
 * decode together.  tokenizer is a tokenizer.json to use instead of the
 * folder's own, or NULL.  Errors: DSOCR_E_MODEL, DSOCR_E_MEMORY.
 */
extern DsocrModel *dsocr_model_open(DsocrBackend *be, const char *dir, const char *tokenizer,
									int max_sequences, DsocrError *err);
extern void dsocr_model_close(DsocrModel *m);

/*
 * Make now what later requests would allocate, on a device whose memory the
 * key/value pages are going to fill: embeddings of n prompts.
 */
extern bool dsocr_model_reserve_embeds(DsocrModel *m, int n, DsocrError *err);

/* May another prompt be embedded?  Not while all embeddings reserved are in use. */
extern bool dsocr_model_embeds_left(const DsocrModel *m);

/*
 * 32 hex digits that change with the config, the tokenizer or the weights: a
 * digest of the small files, of names, types and shapes of all tensors and of
 * samples of their bytes.
 */
extern bool dsocr_model_fingerprint(const DsocrModel *m, const char *dir, char out[33],
									DsocrError *err);

#endif /* DSOCR_MODEL_H */
