/*-------------------------------------------------------------------------
 *
 * batch_state.h
 *		A batch scan in execution.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_BATCH_STATE_H
#define DSOCR_BATCH_STATE_H

#include "dsocr.h"

#include "ahead.h"
#include "batch_split.h"
#include "executor/tuptable.h"
#include "lib/ilist.h"
#include "nodes/execnodes.h"
#include "read.h"

/* What EXPLAIN ANALYZE tells; of one process. */
typedef struct DsocrBatchCounts
{
	int64 ended;	 /* calls */
	int64 in_flight; /* at each end of a call, those not ended before it, summed up */
	int64 images;
	int64 cache_hits;
	int64 image_tokens;
	int64 text_tokens;
	int64 waited_us;
} DsocrBatchCounts;

/* Of a parallel query, in its shared memory: one for each worker. */
typedef struct DsocrBatchShared
{
	int n_workers;
	DsocrBatchCounts counts[FLEXIBLE_ARRAY_MEMBER];
} DsocrBatchShared;

/* A call in the expressions of the node. */
typedef struct DsocrBatchCall
{
	FuncExpr *expr;	  /* of the plan, over INDEX_VARs */
	ExprState **args; /* its arguments */
	FmgrInfo function;
	FunctionCallInfo fcinfo;
	DsocrFunction kind;
	bool known;
	bool of_subplan;   /* the document comes out of a subplan */
	DsocrAhead *ahead; /* stands in its place for what was begun */
} DsocrBatchCall;

/* A row on its way. */
typedef struct DsocrBatchRow
{
	dlist_node node;
	MemoryContext context; /* everything of the row */
	MinimalTuple tuple;
	Size bytes;								 /* of the context, when all calls had been begun */
	bool *ended;							 /* [n_calls] */
	DsocrCall *calls[FLEXIBLE_ARRAY_MEMBER]; /* [n_calls] */
} DsocrBatchRow;

typedef struct DsocrBatchState
{
	CustomScanState css; /* must be first */
	bool plain;			 /* nothing is begun ahead */
	int n_calls;
	DsocrBatchCall *calls;	  /* [n_calls] */
	MemoryContext context;	  /* of the rows */
	TupleTableSlot *row_slot; /* a row whose calls are being begun */
	ExprContext *row_context; /* and what evaluates their arguments */
	DsocrDemandKind demand;	  /* see there */
	List *limit;			  /* ExprStates: count and offset */
	int64 bound;			  /* BOUNDED: their sum */
	dlist_head rows;		  /* on their way, in order */
	int n_rows;				  /* in that list */
	DsocrBatchRow *current;	  /* given out last */
	int in_flight;			  /* calls that have not ended */
	Size bytes;				  /* of rows, current included */
	int64 emitted;			  /* rows given out since the start */
	int64 rejected;			  /* rows that did not pass the filter */
	bool exhausted;			  /* the node below has no more */
	bool backward;			  /* direction of the last row */
	DsocrReading **waiting;	  /* [max_waiting], for dsocr_reading_wait */
	int max_waiting;
	DsocrBatchCounts own_counts;
	DsocrBatchCounts *counts;	 /* where this process counts */
	DsocrBatchShared *shared;	 /* leader of a parallel query, while it runs */
	DsocrBatchShared *collected; /* and after it */
} DsocrBatchState;

#endif /* DSOCR_BATCH_STATE_H */
