/*-------------------------------------------------------------------------
 *
 * batch_explain.h
 *		What EXPLAIN shows of a batch scan, and how workers tell it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_BATCH_EXPLAIN_H
#define DSOCR_BATCH_EXPLAIN_H

#include "dsocr.h"

#include "access/parallel.h"
#include "nodes/execnodes.h"

struct ExplainState;

/* Methods of CustomExecMethods. */
extern Size dsocr_batch_estimate(CustomScanState *node, ParallelContext *pcxt);
extern void dsocr_batch_share(CustomScanState *node, ParallelContext *pcxt, void *shared);
extern void dsocr_batch_share_again(CustomScanState *node, ParallelContext *pcxt, void *shared);
extern void dsocr_batch_join(CustomScanState *node, shm_toc *toc, void *shared);
extern void dsocr_batch_collect(CustomScanState *node);
extern void dsocr_batch_explain(CustomScanState *node, List *ancestors, struct ExplainState *es);

#endif /* DSOCR_BATCH_EXPLAIN_H */
