/*-------------------------------------------------------------------------
 *
 * planner.h
 *		What the planner does for the reading functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PLANNER_H
#define DSOCR_PLANNER_H

#include "dsocr.h"

/* Begins to look at finished plans. */
extern void dsocr_planner_init(void);

#endif /* DSOCR_PLANNER_H */
