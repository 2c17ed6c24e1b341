/*-------------------------------------------------------------------------
 *
 * decoder.h
 *		The mixture-of-experts language model: embeddings to logits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_DECODER_H
#define DSOCR_DECODER_H

#include "encoder.h"

typedef struct DsocrDecoder DsocrDecoder;

/* Router results of one layer, in tests. */
typedef struct DsocrRouterTap
{
	void (*see)(void *arg, int layer, const float *logits, const int32_t *ids, const float *weights,
				int rows, int experts, int k);
	void *arg;
} DsocrRouterTap;

/* The most rows of a chunk and of a step.  Errors: DSOCR_E_MODEL, DSOCR_E_MEMORY. */
extern DsocrDecoder *dsocr_decoder_open(DsocrBackend *be, const DsocrConfig *config,
										const DsocrWeights *weights, int max_rows, int max_step,
										DsocrError *err);
extern void dsocr_decoder_close(DsocrDecoder *d);

/* out[n, hidden] = embeddings of ids, which must lie in 0 .. vocab - 1. */
extern void dsocr_decoder_embed(DsocrDecoder *d, void *out, const int32_t *ids, int n);

/* Who looks on; all may be NULL. */
typedef struct DsocrWatch
{
	const DsocrTap *tap;
	const DsocrRouterTap *router_tap;
	const DsocrPoll *poll;
} DsocrWatch;

/*
 * Run rows->n embeddings x[n, hidden] (overwritten) of one sequence through
 * all layers.  Behind the last row of a prompt (last) the first row of logits
 * is that row's, and the sequence's next id is picked.
 */
extern bool dsocr_decoder_chunk(DsocrDecoder *d, void *x, const DsocrRows *rows, DsocrKv *kv,
								bool last, const DsocrWatch *watch, DsocrError *err);

/*
 * One step of mixed rows, their number what the backend's bucket gave: the
 * logits of all rows and their next ids.  The poll is called between layers
 * but cannot stop a step.
 */
extern bool dsocr_decoder_step(DsocrDecoder *d, const DsocrRows *rows, DsocrKv *kv,
							   const DsocrWatch *watch, DsocrError *err);

/* Pick from the first row of logits once more, for a text that was started anew. */
extern bool dsocr_decoder_pick(DsocrDecoder *d, const DsocrRows *rows, DsocrError *err);

/* Copy the n-th row of logits[vocab] of the last chunk or step. */
extern void dsocr_decoder_logits(const DsocrDecoder *d, int n, float *host);

#endif /* DSOCR_DECODER_H */
