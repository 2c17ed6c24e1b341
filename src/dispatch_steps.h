/*-------------------------------------------------------------------------
 *
 * dispatch_steps.h
 *		Steps on the slots of workers, for dispatch.c and its parts only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_DISPATCH_STEPS_H
#define DSOCR_DISPATCH_STEPS_H

#include "queue.h"
#include "shmem.h"

/* The slot of a request this worker has, NULL when it has moved on; queue lock held. */
extern DsocrSlot *dsocr_dispatch_slot(DsocrHandle h);

/* The slot has failed: its owner hears of it; queue lock held exclusively. */
extern void dsocr_dispatch_fail_slot(DsocrSlot *slot, const DsocrError *why);

/*
 * The request that a device serves next, NULL if there is none: the caller
 * takes it.  Queue lock held exclusively.  The page server has a process for
 * each document that can die in its place, so it has no suspects.
 */
extern DsocrSlot *dsocr_dispatch_next(int device, int in_flight);

#endif /* DSOCR_DISPATCH_STEPS_H */
