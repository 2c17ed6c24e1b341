/*-------------------------------------------------------------------------
 *
 * job.h
 *		One request inside the engine, from its arrival to its result.
 *
 * A job knows how to take its own next step; the scheduler decides when, and
 * which views are encoded with those of others.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_JOB_H
#define DSOCR_JOB_H

#include "image_pool.h"
#include "request.h"
#include "sequence.h"

typedef enum DsocrJobState
{
	DSOCR_JOB_WAITING,	/* not admitted; nothing is held but the request and what was read before */
	DSOCR_JOB_IMAGE,	/* admitted, pages reserved; image to be decoded */
	DSOCR_JOB_PIXELS,	/* the image is with the pool, or its views wait for embeddings */
	DSOCR_JOB_VIEWS,	/* views to be encoded */
	DSOCR_JOB_PREFILL,	/* prompt to be run */
	DSOCR_JOB_DECODING, /* writes a token a step */
	DSOCR_JOB_FINISHED	/* end token or limit reached */
} DsocrJobState;

typedef struct DsocrJob DsocrJob;
struct DsocrJob
{
	DsocrJob *next;		  /* in the queue, or among the admitted */
	DsocrRequest request; /* prompt and image are copies */
	char *prompt;
	uint8_t *image;
	DsocrJobState state;
	bool cancelled;

	/* readings that have ended; the best one's result while has_best */
	int n_attempts;
	DsocrAttempt attempts[DSOCR_MAX_ATTEMPTS];
	bool has_best;
	DsocrResult best;
	int views_before; /* in those readings */
	int written;	  /* tokens, in those and this one */

	/* after prepare */
	bool prepared;
	DsocrMode mode;
	uint32_t choices; /* of the mode, by a look at the page; 0: none */
	DsocrPlan plan;
	int width; /* page as stored, its orientation tag applied, pixels */
	int height;
	DsocrOrientation orientation; /* what the page was turned by, after the image is collected */
	int upright_width;			  /* of the page that the views show */
	int upright_height;
	DsocrSequence sequence;
	int max_output;

	DsocrImageTask *task; /* while the image is with the pool */
	DsocrViews views;
	int views_done;
	float *logprobs; /* of the output tokens, room for as many as there may be */
	DsocrLoop *loop; /* looks for one in them, or NULL */
	DsocrFinish finish;
	DsocrTimings timings;
	int64_t arrived; /* dsocr_now_us */
};

/* Are the arguments of a request such that it can be served? */
extern bool dsocr_job_check(const DsocrRequest *r, const DsocrModel *m, DsocrError *err);

/* Check and copy a request.  Errors: DSOCR_E_ARGUMENT, DSOCR_E_MEMORY. */
extern DsocrJob *dsocr_job_new(const DsocrRequest *request, DsocrModel *m, DsocrError *err);

/* Frees everything; pages go back to their cache. */
extern void dsocr_job_free(DsocrJob *job, DsocrModel *m);

/*
 * Look at the image's header and find out what the request costs: plan,
 * input ids, output limit.  Cheap, and done once.
 */
extern bool dsocr_job_prepare(DsocrJob *job, const DsocrModel *m, const DsocrKvCache *kv,
							  DsocrError *err);

/* Bytes of pixels that the job holds, or would hold while its image is decoded. */
extern size_t dsocr_job_pixel_bytes(const DsocrJob *job);

/* Hand the image to the pool. */
extern bool dsocr_job_submit(DsocrJob *job, DsocrImagePool *pool, DsocrError *err);

/* Go on to the views when they are there and their embeddings can be made. */
extern bool dsocr_job_collect(DsocrJob *job, DsocrModel *m, DsocrError *err);

/* Side of the view that is next; its job is in DSOCR_JOB_VIEWS. */
extern int dsocr_job_view_size(const DsocrJob *job);

/* The next views of that size, at most room of them; how many there are. */
extern int dsocr_job_views(DsocrJob *job, int size, DsocrSequenceView *list, int room);

/* So many views have been encoded, in a run that took so long. */
extern void dsocr_job_views_done(DsocrJob *job, int n, int64_t spent);

/* Run one prefill chunk; behind the last one comes the first token. */
extern bool dsocr_job_prefill(DsocrJob *job, DsocrModel *m, const DsocrPoll *poll, DsocrError *err);

/* The next token has been chosen; may finish the job. */
extern void dsocr_job_token(DsocrJob *job, const DsocrModel *m, int32_t id, float logprob);

extern DsocrProgress dsocr_job_progress(const DsocrJob *job);

/*
 * The job has finished a reading: keep its result if it is the best one so
 * far.  What stops by itself is better than what was cut, else the longer text
 * is.  Errors: DSOCR_E_MEMORY.
 */
extern bool dsocr_job_keep(DsocrJob *job, const DsocrModel *m, DsocrError *err);

/*
 * Start again in the next mode up: gives back all that is held and goes to
 * DSOCR_JOB_WAITING.  False when the result stands: it was not cut, the
 * request does not want it, there is no such mode, or the image is gone.
 */
extern bool dsocr_job_again(DsocrJob *job, DsocrModel *m);

/* The best result; the caller's then.  Only where there is one. */
extern void dsocr_job_answer(DsocrJob *job, DsocrResult *result);

#endif /* DSOCR_JOB_H */
