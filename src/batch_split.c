/*-------------------------------------------------------------------------
 *
 * batch_split.c
 *		Puts batch scan nodes into a finished plan.
 *
 * A node whose output or filter has calls keeps the part of its filter that
 * stands before the first call and returns bare columns; what was taken from
 * it is evaluated above, in the same order.  So no call is made for a row that
 * an earlier condition drops, which is also what security barriers rest on.
 * Where a later condition, or the output, has calls that an earlier condition
 * has not, they get a batch scan of their own on top of the one before:
 *
 *		Batch scan				output: text(image)
 *		  Batch scan			filter: markdown(image) ~ 'x' and c > 1
 *			Seq Scan			filter: b = 2
 *
 * The calls stay in the expressions, see batch_scan.c.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "batch_calls.h"
#include "batch_scan.h"
#include "batch_split.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"

DsocrDemand
dsocr_demand_weaken(DsocrDemand demand)
{
	DsocrDemand weaker = {.kind = demand.kind == DSOCR_DEMAND_ALL ? DSOCR_DEMAND_ALL
																  : DSOCR_DEMAND_GROWS};

	return weaker;
}

/* ---- expressions over the columns of another node ---- */

static Var *
column(int varno, int number, const Expr *value)
{
	return makeVar(varno, number, exprType((Node *) value), exprTypmod((Node *) value),
				   exprCollation((Node *) value), 0);
}

/* What only the node itself can compute. */
static bool
is_column(const Node *node)
{
	return IsA(node, Var) || IsA(node, Aggref) || IsA(node, WindowFunc) || IsA(node, GroupingFunc);
}

/* Replace columns of the node by INDEX_VARs; those it has to return are noted. */
static Node *
to_columns(Node *node, List **returned)
{
	TargetEntry *entry = NULL;
	ListCell *cell;

	if (node == NULL)
		return NULL;
	if (!is_column(node))
		return expression_tree_mutator(node, to_columns, returned);
	foreach (cell, *returned)
	{
		if (equal(lfirst_node(TargetEntry, cell)->expr, node))
			entry = lfirst_node(TargetEntry, cell);
	}
	if (entry == NULL)
	{
		entry = makeTargetEntry(copyObject((Expr *) node), list_length(*returned) + 1, NULL, false);
		*returned = lappend(*returned, entry);
	}
	return (Node *) column(INDEX_VAR, entry->resno, entry->expr);
}

/* Replace references to the node below by references to the rows of the batch scan. */
static Node *
to_index(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == OUTER_VAR)
	{
		Var *var = copyObject((Var *) node);

		var->varno = INDEX_VAR;
		return (Node *) var;
	}
	return expression_tree_mutator(node, to_index, context);
}

/* Replace calls that were made further down by what they gave. */
typedef struct Made
{
	List *calls;
	int varno;
	int first; /* column of the first call */
} Made;

static Node *
to_made(Node *node, Made *made)
{
	int i = 0;
	ListCell *cell;

	if (node == NULL)
		return NULL;
	foreach (cell, made->calls)
	{
		if (equal(node, lfirst(cell)))
			return (Node *) column(made->varno, made->first + i, lfirst(cell));
		i++;
	}
	return expression_tree_mutator(node, to_made, made);
}

/* All columns of a plan, as INDEX_VARs. */
static List *
all_columns(const Plan *plan)
{
	List *columns = NIL;
	ListCell *cell;

	foreach (cell, plan->targetlist)
	{
		TargetEntry *entry = flatCopyTargetEntry(lfirst_node(TargetEntry, cell));

		entry->expr = (Expr *) column(INDEX_VAR, entry->resno, entry->expr);
		columns = lappend(columns, entry);
	}
	return columns;
}

/* Columns for the values of calls, behind those that are there. */
static List *
append_calls(List *tlist, const List *calls)
{
	ListCell *cell;

	foreach (cell, calls)
		tlist = lappend(
			tlist, makeTargetEntry(copyObject(lfirst(cell)), list_length(tlist) + 1, NULL, false));
	return tlist;
}

/* ---- the output and the filter of a node ---- */

/* What is left to be evaluated above the plan. */
typedef struct Rest
{
	Plan *plan;		  /* the topmost node so far */
	const Plan *like; /* the node that was split */
	List *qual;		  /* the conditions that are left, in order */
	List *tlist;	  /* the output */
	DsocrDemand demand;
	int *next_id;
} Rest;

static void
put_on_top(Rest *rest, List *tlist, List *qual, List *calls, DsocrDemand demand)
{
	rest->plan = (Plan *) dsocr_batch_scan_make(rest->plan, rest->like, tlist, qual, calls, demand,
												(*rest->next_id)++);
}

/*
 * Take the conditions off the rest that can be evaluated together: the first
 * one has calls, and the others have none that it has not.
 */
static List *
take_conditions(Rest *rest, List **calls)
{
	List *taken = NIL;

	*calls = NIL;
	while (rest->qual != NIL)
	{
		List *found = dsocr_batch_find(linitial(rest->qual), NIL);

		if (*calls == NIL)
			*calls = found;
		else if (list_difference(found, *calls) != NIL)
			break;
		taken = lappend(taken, linitial(rest->qual));
		rest->qual = list_delete_first(rest->qual);
	}
	return taken;
}

/* Calls that were made for the filter and that somebody above needs. */
static List *
needed_above(const Rest *rest, const List *calls)
{
	List *above =
		dsocr_batch_find((Node *) rest->tlist, dsocr_batch_find((Node *) rest->qual, NIL));

	return list_intersection(calls, above);
}

static void
put_filters(Rest *rest)
{
	while (rest->qual != NIL)
	{
		List *calls;
		List *qual = take_conditions(rest, &calls);
		List *output = dsocr_batch_find((Node *) rest->tlist, NIL);
		List *tlist;
		Made made = {.varno = INDEX_VAR, .first = list_length(rest->plan->targetlist) + 1};

		/* nothing new comes after it: the filter and the output in one node */
		if (rest->qual == NIL && list_difference(output, calls) == NIL)
		{
			put_on_top(rest, rest->tlist, qual, calls, rest->demand);
			rest->tlist = NIL;
			return;
		}
		made.calls = needed_above(rest, calls);
		tlist = append_calls(all_columns(rest->plan), made.calls);
		rest->tlist = (List *) to_made((Node *) rest->tlist, &made);
		rest->qual = (List *) to_made((Node *) rest->qual, &made);
		put_on_top(rest, tlist, qual, calls, dsocr_demand_weaken(rest->demand));
	}
}

/* How many conditions stand before the first that has calls; -1 if none has. */
static int
first_with_calls(const List *qual)
{
	ListCell *cell;

	foreach (cell, qual)
	{
		if (dsocr_batch_find(lfirst(cell), NIL) != NIL)
			return foreach_current_index(cell);
	}
	return -1;
}

static bool
current_of_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, CurrentOfExpr))
		return true;
	return expression_tree_walker(node, current_of_walker, context);
}

/*
 * Initplans belong to the topmost node that uses them; those below learn of
 * changes like of those of any other node above them.
 */
static void
move_initplans(Plan *from, Plan *to)
{
	ListCell *cell;

	to->initPlan = list_concat(from->initPlan, to->initPlan);
	foreach (cell, from->initPlan)
	{
		ListCell *param;

		foreach (param, lfirst_node(SubPlan, cell)->setParam)
		{
			from->extParam = bms_add_member(from->extParam, lfirst_int(param));
			from->allParam = bms_add_member(from->allParam, lfirst_int(param));
		}
	}
	from->initPlan = NIL;
}

/* A node that only computes its output from the rows of the one below. */
static bool
is_plain_result(const Plan *plan)
{
	return IsA(plan, Result) && plan->lefttree != NULL && plan->qual == NIL &&
		   ((const Result *) plan)->resconstantqual == NULL;
}

Plan *
dsocr_split_output(Plan *plan, DsocrDemand demand, int *next_id)
{
	Rest rest = {.plan = plan, .like = plan, .demand = demand, .next_id = next_id};
	int keep = first_with_calls(plan->qual);

	if (keep < 0 && dsocr_batch_find((Node *) plan->targetlist, NIL) == NIL)
		return plan;
	if (is_plain_result(plan))
	{
		rest.plan = plan->lefttree;
		rest.tlist = (List *) to_index((Node *) plan->targetlist, NULL);
	}
	else
	{
		List *returned = NIL;

		if (keep >= 0)
			rest.qual = list_copy_tail(plan->qual, keep);
		if (current_of_walker((Node *) rest.qual, NULL))
			return plan;
		rest.qual = (List *) to_columns((Node *) rest.qual, &returned);
		rest.tlist = (List *) to_columns((Node *) plan->targetlist, &returned);
		plan->targetlist = returned;
		if (keep >= 0)
			plan->qual = list_truncate(list_copy(plan->qual), keep);
	}
	put_filters(&rest);
	if (rest.tlist != NIL)
		put_on_top(&rest, rest.tlist, NIL, dsocr_batch_find((Node *) rest.tlist, NIL), demand);
	move_initplans(plan, rest.plan);
	return rest.plan;
}

/* ---- arguments of aggregates and of set-returning functions ---- */

typedef struct Arguments
{
	List *calls; /* those found */
	Made *made;	 /* if set, replace them */
} Arguments;

/* Aggregates evaluate their arguments for each row that their own filter lets pass. */
static Node *
in_aggregates(Node *node, Arguments *arguments)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Aggref) && ((Aggref *) node)->aggfilter == NULL)
	{
		if (arguments->made == NULL)
			arguments->calls = dsocr_batch_find((Node *) ((Aggref *) node)->args, arguments->calls);
		else
		{
			Aggref *copy = copyObject((Aggref *) node);

			copy->args = (List *) to_made((Node *) copy->args, arguments->made);
			return (Node *) copy;
		}
		return node;
	}
	return expression_tree_mutator(node, in_aggregates, arguments);
}

/* The arguments of a function that returns a set; NULL if it is none. */
static List **
set_arguments(Expr *expr)
{
	if (IsA(expr, FuncExpr) && ((FuncExpr *) expr)->funcretset)
		return &((FuncExpr *) expr)->args;
	if (IsA(expr, OpExpr) && ((OpExpr *) expr)->opretset)
		return &((OpExpr *) expr)->args;
	return NULL;
}

static List *
in_set_functions(List *tlist, Arguments *arguments)
{
	ListCell *cell;

	foreach (cell, tlist)
	{
		List **args = set_arguments(lfirst_node(TargetEntry, cell)->expr);

		if (args == NULL)
			continue;
		if (arguments->made == NULL)
			arguments->calls = dsocr_batch_find((Node *) *args, arguments->calls);
		else
			*args = (List *) to_made((Node *) *args, arguments->made);
	}
	return tlist;
}

static void
each_argument(Plan *plan, Arguments *arguments)
{
	List *tlist;

	if (IsA(plan, ProjectSet))
		tlist = in_set_functions(copyObject(plan->targetlist), arguments);
	else
	{
		List *qual = (List *) in_aggregates((Node *) plan->qual, arguments);

		tlist = (List *) in_aggregates((Node *) plan->targetlist, arguments);
		if (arguments->made != NULL)
			plan->qual = qual;
	}
	if (arguments->made != NULL)
		plan->targetlist = tlist;
}

void
dsocr_split_input(Plan *plan, DsocrDemand demand, int *next_id)
{
	Plan *below = plan->lefttree;
	Arguments arguments = {NIL};
	Made made = {.varno = OUTER_VAR};
	List *calls;

	if (below == NULL)
		return;
	each_argument(plan, &arguments);
	if (arguments.calls == NIL)
		return;
	calls = (List *) to_index((Node *) arguments.calls, NULL);
	made.calls = arguments.calls;
	made.first = list_length(below->targetlist) + 1;
	arguments.made = &made;
	each_argument(plan, &arguments);
	plan->lefttree = (Plan *) dsocr_batch_scan_make(
		below, below, append_calls(all_columns(below), calls), NIL, calls, demand, (*next_id)++);
}
