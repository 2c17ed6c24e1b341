/*-------------------------------------------------------------------------
 *
 * pool.h
 *		Threads that share the tasks of one operation.
 *
 * A run hands out tasks 0 .. tasks - 1 to the caller (worker 0) and to the
 * pool's threads, whoever is free.  Results must therefore depend on the
 * task number alone; the worker number only chooses scratch memory.
 *
 * Idle threads watch for work for some tens of microseconds, up to 250 where
 * no other process wants their processor, and then sleep,
 * and a run never waits for a thread that has not taken a task: a machine
 * busy with other work slows the engine by the share it takes, no more.
 * This is why it is not OpenMP: libgomp's threads spin for milliseconds
 * unless the environment says otherwise before the program starts, and its
 * barriers wait for every thread.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CPU_POOL_H
#define DSOCR_CPU_POOL_H

#include "base.h"

typedef struct DsocrPool DsocrPool;
typedef void (*DsocrPoolTask)(void *arg, int task, int worker);

extern DsocrPool *dsocr_pool_open(int threads, DsocrError *err);
extern void dsocr_pool_close(DsocrPool *pool);
extern void dsocr_pool_run(DsocrPool *pool, int tasks, DsocrPoolTask fn, void *arg);

#endif /* DSOCR_CPU_POOL_H */
