/*-------------------------------------------------------------------------
 *
 * image_pool.h
 *		Threads that turn encoded images into views, beside the model.
 *
 * A large image takes seconds; the device and all neighbours go on meanwhile.
 * A task belongs to the thread that submits it; the pool's threads touch
 * nothing but the task.  They start when the pool is opened, so that a process
 * may be closed up behind it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_IMAGE_POOL_H
#define DSOCR_IMAGE_POOL_H

#include "orient.h"
#include "preprocess.h"

typedef struct DsocrImagePool DsocrImagePool;
typedef struct DsocrImageTask DsocrImageTask;

/* Errors: DSOCR_E_MEMORY. */
extern DsocrImagePool *dsocr_image_pool_open(int threads, DsocrError *err);

/* Stops what is under way and waits for it; all tasks must have been taken or dropped. */
extern void dsocr_image_pool_close(DsocrImagePool *pool);

/* Would a new task have to queue for long?  True with two unfinished ones a thread. */
extern bool dsocr_image_pool_full(DsocrImagePool *pool);

/* What to do with an image. */
typedef struct DsocrImageWork
{
	uint64_t max_pixels;
	int page;  /* of a TIFF, from 1; 0 = the first */
	int width; /* as its header said */
	int height;
	bool orient;	/* make it upright and level; then the plan is made anew from plan.spec */
	uint32_t modes; /* choose one of them by a look at the page; 0: as planned */
	DsocrMode mode; /* planned; the usual one where there is a choice */
	DsocrPlan plan;
} DsocrImageWork;

/* What became of it. */
typedef struct DsocrImageOutcome
{
	DsocrViews views; /* the caller's */
	DsocrMode mode;
	DsocrPlan plan;				  /* that they were made by */
	DsocrOrientation orientation; /* zero where nothing was done */
	int width;					  /* of the upright image, which the views show */
	int height;
	int64_t spent; /* microseconds */
} DsocrImageOutcome;

/*
 * Queue an image: bytes (from dsocr_alloc) become the task's when this
 * succeeds.  Errors: DSOCR_E_MEMORY.
 */
extern DsocrImageTask *dsocr_image_pool_submit(DsocrImagePool *pool, uint8_t *bytes, size_t len,
											   const DsocrImageWork *work, DsocrError *err);

extern bool dsocr_image_task_done(DsocrImageTask *task);

/*
 * The result of a task that is done; the task is gone then.  Errors: those of
 * dsocr_image_decode, dsocr_orient_apply, dsocr_plan and dsocr_views_make.
 */
extern bool dsocr_image_task_take(DsocrImageTask *task, DsocrImageOutcome *outcome,
								  DsocrError *err);

/* Give up a task in any state, without waiting for it. */
extern void dsocr_image_task_drop(DsocrImageTask *task);

/* Sleep until a task has got done since the last call, or for so long. */
extern void dsocr_image_pool_wait(DsocrImagePool *pool, int64_t microseconds);

#endif /* DSOCR_IMAGE_POOL_H */
