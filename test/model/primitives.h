/*-------------------------------------------------------------------------
 *
 * primitives.h
 *		Locks, latches, segments and time of all processes of the model.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_MODEL_PRIMITIVES_H
#define DSOCR_MODEL_PRIMITIVES_H

#include "model.h"

/* Before the processes begin. */
extern void primitives_open(const Model *model);

/* The number of a segment that is still there, or -1. */
extern int primitives_segment_left(void);

/* Waits for a latch, and those among them that ran out. */
extern long long primitives_waits(void);
extern long long primitives_expired_waits(void);

#endif /* DSOCR_MODEL_PRIMITIVES_H */
