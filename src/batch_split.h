/*-------------------------------------------------------------------------
 *
 * batch_split.h
 *		Puts batch scan nodes into a finished plan.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_BATCH_SPLIT_H
#define DSOCR_BATCH_SPLIT_H

#include "dsocr.h"

#include "nodes/plannodes.h"

/* How many rows of a node will be asked for. */
typedef enum DsocrDemandKind
{
	DSOCR_DEMAND_ALL,	 /* all of them */
	DSOCR_DEMAND_GROWS,	 /* not known: what was asked for tells of what will be */
	DSOCR_DEMAND_BOUNDED /* as many as a LIMIT says, if none is lost above */
} DsocrDemandKind;

typedef struct DsocrDemand
{
	DsocrDemandKind kind;
	Node *count;  /* BOUNDED: expressions of int8 without any Var */
	Node *offset; /* BOUNDED: NULL = 0 */
} DsocrDemand;

/*
 * Have the calls in the output and in the filter of a plan node evaluated by
 * batch scans above it.  Returns the new topmost node, or the plan as it was.
 * next_id is the next free plan_node_id.
 */
extern Plan *dsocr_split_output(Plan *plan, DsocrDemand demand, int *next_id);

/*
 * The same for calls in arguments of the aggregates of an Agg and the
 * set-returning functions of a ProjectSet: by a batch scan below the node.
 */
extern void dsocr_split_input(Plan *plan, DsocrDemand demand, int *next_id);

/* The demand on a node below one that may drop rows or make several of one. */
extern DsocrDemand dsocr_demand_weaken(DsocrDemand demand);

#endif /* DSOCR_BATCH_SPLIT_H */
