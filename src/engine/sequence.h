/*-------------------------------------------------------------------------
 *
 * sequence.h
 *		One input sequence on its way through the model.
 *
 * Ids first, then embeddings: the text's from the table, the image's from
 * the encoder view by view.  Prefill runs them through the decoder in chunks,
 * then the sequence grows by one id a step.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SEQUENCE_H
#define DSOCR_SEQUENCE_H

#include "kv_cache.h"
#include "model.h"
#include "preprocess.h"

typedef struct DsocrSequence
{
	int32_t *ids; /* [cap] prompt, then output */
	int n;
	int cap;
	int prompt_len;
	int image_at;	/* first image token, -1 without image */
	DsocrPlan plan; /* of the image */
	void *embeds;	/* [prompt_len, hidden], freed after prefill */
	int filled;		/* positions in the key/value pages */
	int32_t *pages; /* [n_pages] */
	int n_pages;
	DsocrKvCache *kv; /* where the pages come from */
} DsocrSequence;

/* Who looks on; all may be NULL. */
typedef struct DsocrWatch
{
	const DsocrTap *tap;
	const DsocrRouterTap *router_tap;
	const DsocrPoll *poll;
} DsocrWatch;

/*
 * Start a sequence of n prompt ids that may grow to cap ids; the plan's image
 * tokens lie at image_at.  Errors: DSOCR_E_MEMORY, DSOCR_E_ARGUMENT (an id
 * outside the vocabulary).
 */
extern bool dsocr_sequence_start(DsocrSequence *s, const DsocrModel *m, const int32_t *ids, int n,
								 int cap, int image_at, const DsocrPlan *plan, DsocrError *err);
extern void dsocr_sequence_end(DsocrSequence *s, const DsocrModel *m);

/* Reserve pages for all cap positions; false when they are not free now. */
extern bool dsocr_sequence_reserve(DsocrSequence *s, DsocrKvCache *kv);

/* Embeddings of all ids; newlines and separator of the image in their places. */
extern bool dsocr_sequence_embed(DsocrSequence *s, DsocrModel *m, DsocrError *err);

/* Encode view number view (tiles first) and put its tokens in their places. */
extern bool dsocr_sequence_view(DsocrSequence *s, DsocrModel *m, const uint8_t *rgb, int size,
								int view, const DsocrWatch *watch, DsocrError *err);

/*
 * Run one chunk of the prompt.  After the last one (filled == prompt_len) the
 * logits of the prompt's last position are in dsocr_decoder_logits.
 */
extern bool dsocr_sequence_prefill(DsocrSequence *s, DsocrModel *m, const DsocrWatch *watch,
								   DsocrError *err);

/*
 * Feed the last id of each of n sequences (n <= DSOCR_CHUNK); x is
 * [n, hidden] of work memory.  Row i of dsocr_decoder_logits is sequence i.
 */
extern bool dsocr_sequences_decode(DsocrSequence *const *list, int n, void *x, DsocrModel *m,
								   const DsocrWatch *watch, DsocrError *err);

/* Append an id; the caller keeps n below cap. */
extern void dsocr_sequence_push(DsocrSequence *s, int32_t id);

#endif /* DSOCR_SEQUENCE_H */
