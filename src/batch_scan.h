/*-------------------------------------------------------------------------
 *
 * batch_scan.h
 *		The plan node that begins to read documents some rows ahead.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_BATCH_SCAN_H
#define DSOCR_BATCH_SCAN_H

#include "dsocr.h"

#include "batch_split.h"
#include "nodes/plannodes.h"

/* Makes the node known to the server. */
extern void dsocr_batch_scan_init(void);

/*
 * A batch scan over the rows of a plan.  tlist and qual are evaluated on them
 * as INDEX_VARs, calls are those in them to begin ahead.  It takes over the
 * costs of like.
 */
extern CustomScan *dsocr_batch_scan_make(Plan *outer, const Plan *like, List *tlist, List *qual,
										 List *calls, DsocrDemand demand, int plan_node_id);

/* Is the plan such a node?  Then its calls, else NIL. */
extern List *dsocr_batch_scan_calls(const Plan *plan);

#endif /* DSOCR_BATCH_SCAN_H */
