/*-------------------------------------------------------------------------
 *
 * dispatch_steps.h
 *		Steps on the slots of workers, for dispatch.c and its parts only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_DISPATCH_STEPS_H
#define DSOCR_DISPATCH_STEPS_H

#include "shmem.h"

/* The slot of a request this worker has, NULL when it has moved on; queue lock held. */
extern DsocrSlot *dsocr_dispatch_slot(DsocrHandle h);

/* The slot has failed: its owner hears of it; queue lock held exclusively. */
extern void dsocr_dispatch_fail_slot(DsocrSlot *slot, const DsocrError *why);

#endif /* DSOCR_DISPATCH_STEPS_H */
