/*-------------------------------------------------------------------------
 *
 * batch_calls.h
 *		Finds the calls in an expression that can be begun ahead.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_BATCH_CALLS_H
#define DSOCR_BATCH_CALLS_H

#include "dsocr.h"

#include "nodes/primnodes.h"

/* Is this a call of one of the reading functions that return one value? */
extern bool dsocr_batch_is_reading(const FuncExpr *call);

/* Is there such a call anywhere in the expression? */
extern bool dsocr_batch_contains(Node *expr);

/*
 * Append to calls those of an expression, or of a list of expressions or
 * target entries, that are evaluated whenever it is and whose arguments may be
 * evaluated early.  Equal calls come once.
 */
extern List *dsocr_batch_find(Node *expr, List *calls);

#endif /* DSOCR_BATCH_CALLS_H */
