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

/* max_rows: the most rows of one run.  Errors: DSOCR_E_MODEL, DSOCR_E_MEMORY. */
extern DsocrDecoder *dsocr_decoder_open(DsocrBackend *be, const DsocrConfig *config,
										const DsocrWeights *weights, int max_rows, DsocrError *err);
extern void dsocr_decoder_close(DsocrDecoder *d);

/* out[n, hidden] = embeddings of ids, which must lie in 0 .. vocab - 1. */
extern void dsocr_decoder_embed(DsocrDecoder *d, void *out, const int32_t *ids, int n);

/*
 * Run rows->n embeddings x[n, hidden] (overwritten) through all layers.  For
 * each of the n_logits rows logit_rows[i] the logits are left in
 * dsocr_decoder_logits(): [n_logits, vocab].  Taps and poll may be NULL.
 */
extern bool dsocr_decoder_run(DsocrDecoder *d, void *x, const DsocrRows *rows, DsocrKv *kv,
							  const int32_t *logit_rows, int n_logits, const DsocrTap *tap,
							  const DsocrRouterTap *router_tap, const DsocrPoll *poll,
							  DsocrError *err);

extern const void *dsocr_decoder_logits(const DsocrDecoder *d);

#endif /* DSOCR_DECODER_H */
