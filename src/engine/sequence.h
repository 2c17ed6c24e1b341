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
	int32_t slot;	  /* of the text in the backend */
	DsocrKvCache *kv; /* where pages and slot come from */
	int ngram_size;	  /* rule for the next ids, set behind start; 0: none */
	int ngram_window;
} DsocrSequence;

/* A view of a sequence's image: size x size pixels, the plan's number view (tiles first). */
typedef struct DsocrSequenceView
{
	DsocrSequence *sequence;
	int view;
	const uint8_t *rgb;
} DsocrSequenceView;

#define DSOCR_MAX_TOGETHER 64 /* views encoded in one run */

/*
 * Start a sequence of n prompt ids that may grow to cap ids; the plan's image
 * tokens lie at image_at.  Errors: DSOCR_E_MEMORY, DSOCR_E_ARGUMENT (an id
 * outside the vocabulary).
 */
extern bool dsocr_sequence_start(DsocrSequence *s, const DsocrModel *m, const int32_t *ids, int n,
								 int cap, int image_at, const DsocrPlan *plan, DsocrError *err);

/*
 * Give a started sequence that has not run yet another prompt, of at most cap
 * ids; what was reserved and the rule stay.  Starts the text anew when it has
 * been started.  Errors as above.
 */
extern bool dsocr_sequence_restart(DsocrSequence *s, DsocrModel *m, const int32_t *ids, int n,
								   int image_at, const DsocrPlan *plan, DsocrError *err);
extern void dsocr_sequence_end(DsocrSequence *s, DsocrModel *m);

/*
 * Reserve a slot, and pages for all cap positions; false when they are not
 * free now.  Starts the text.
 */
extern bool dsocr_sequence_reserve(DsocrSequence *s, DsocrModel *m, DsocrKvCache *kv);

/* Start the text in the backend anew, with the ids and the rule that s has now. */
extern void dsocr_sequence_text(const DsocrSequence *s, DsocrModel *m);

/* Embeddings of all ids; newlines and separator of the image in their places. */
extern bool dsocr_sequence_embed(DsocrSequence *s, DsocrModel *m, DsocrError *err);

/*
 * Encode n views of one size together (n <= DSOCR_MAX_TOGETHER) and put their
 * tokens in their places.
 */
extern bool dsocr_sequence_views(const DsocrSequenceView *list, int n, int size, DsocrModel *m,
								 const DsocrWatch *watch, DsocrError *err);

/* Make the buffers for encoding n views of a size together. */
extern bool dsocr_sequence_room(int n, int size, DsocrModel *m, DsocrError *err);

/*
 * Run one chunk of the prompt.  Behind the last one (filled == prompt_len) the
 * first id has been picked; it is the backend's first of picked().
 */
extern bool dsocr_sequence_prefill(DsocrSequence *s, DsocrModel *m, const DsocrWatch *watch,
								   DsocrError *err);

/*
 * Feed the last id of each of n sequences (n <= max_sequences of the model).
 * The next id of list[i] is ids[i].
 */
extern bool dsocr_sequences_decode(DsocrSequence *const *list, int n, DsocrModel *m,
								   const DsocrWatch *watch, int32_t *ids, float *logprobs,
								   DsocrError *err);

/* Append an id; the caller keeps n below cap. */
extern void dsocr_sequence_push(DsocrSequence *s, int32_t id);

#endif /* DSOCR_SEQUENCE_H */
