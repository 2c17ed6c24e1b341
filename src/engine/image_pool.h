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

#include "preprocess.h"

typedef struct DsocrImagePool DsocrImagePool;
typedef struct DsocrImageTask DsocrImageTask;

/* Errors: DSOCR_E_MEMORY. */
extern DsocrImagePool *dsocr_image_pool_open(int threads, DsocrError *err);

/* Stops what is under way and waits for it; all tasks must have been taken or dropped. */
extern void dsocr_image_pool_close(DsocrImagePool *pool);

/* Would a new task have to queue for long?  True with two unfinished ones a thread. */
extern bool dsocr_image_pool_full(DsocrImagePool *pool);

/*
 * Queue an image whose header said width x height: bytes (from dsocr_alloc)
 * become the task's when this succeeds.  Errors: DSOCR_E_MEMORY.
 */
extern DsocrImageTask *dsocr_image_pool_submit(DsocrImagePool *pool, uint8_t *bytes, size_t len,
											   uint64_t max_pixels, int width, int height,
											   const DsocrPlan *plan, DsocrError *err);

extern bool dsocr_image_task_done(DsocrImageTask *task);

/*
 * The result of a task that is done, and the microseconds it took; the task
 * is gone then.  Errors: those of dsocr_image_decode and dsocr_views_make.
 */
extern bool dsocr_image_task_take(DsocrImageTask *task, DsocrViews *views, int64_t *spent,
								  DsocrError *err);

/* Give up a task in any state, without waiting for it. */
extern void dsocr_image_task_drop(DsocrImageTask *task);

/* Sleep until a task has got done since the last call, or for so long. */
extern void dsocr_image_pool_wait(DsocrImagePool *pool, int64_t microseconds);

#endif /* DSOCR_IMAGE_POOL_H */
