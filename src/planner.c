/*-------------------------------------------------------------------------
 *
 * planner.c
 *		Puts batch scans into finished plans.
 *
 * The planner knows nothing of batch scans: it makes its plan as ever, and
 * what it has made is gone through from the leaves up.  Only node types that
 * are listed here are touched; everything else keeps its calls, which are
 * then evaluated row by row.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "planner.h"
#include "batch_calls.h"
#include "batch_scan.h"
#include "batch_split.h"

#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"

static planner_hook_type next_planner = NULL;

typedef struct Rewrite
{
	int next_id; /* the next free plan_node_id */
} Rewrite;

/* What a node is to the one above it. */
typedef struct Place
{
	DsocrDemand demand;
	bool marks; /* the one above goes back to rows it has marked */
} Place;

static Plan *rewrite(Plan *plan, Place place, Rewrite *r);

/* ---- all nodes of a plan ---- */

/* The lists of children that some nodes have. */
static List *
children_of(const Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_Append:
			return ((const Append *) plan)->appendplans;
		case T_MergeAppend:
			return ((const MergeAppend *) plan)->mergeplans;
		case T_SubqueryScan:
			return list_make1(((const SubqueryScan *) plan)->subplan);
		case T_CustomScan:
			return ((const CustomScan *) plan)->custom_plans;
		case T_BitmapAnd:
			return ((const BitmapAnd *) plan)->bitmapplans;
		case T_BitmapOr:
			return ((const BitmapOr *) plan)->bitmapplans;
		default:
			return NIL;
	}
}

typedef struct Survey
{
	bool has_calls;
	int last_id; /* the largest plan_node_id */
} Survey;

static void
survey(const Plan *plan, Survey *s)
{
	ListCell *cell;

	if (plan == NULL)
		return;
	check_stack_depth();
	s->last_id = Max(s->last_id, plan->plan_node_id);
	s->has_calls = s->has_calls || dsocr_batch_contains((Node *) plan->targetlist) ||
				   dsocr_batch_contains((Node *) plan->qual);
	survey(plan->lefttree, s);
	survey(plan->righttree, s);
	foreach (cell, children_of(plan))
		survey(lfirst(cell), s);
}

static Survey
survey_statement(const PlannedStmt *stmt)
{
	Survey s = {false};
	ListCell *cell;

	survey(stmt->planTree, &s);
	foreach (cell, stmt->subplans)
		survey(lfirst(cell), &s);
	return s;
}

/* ---- demand ---- */

static const DsocrDemand demand_all = {DSOCR_DEMAND_ALL};
static const DsocrDemand demand_grows = {DSOCR_DEMAND_GROWS};

static bool
has_param_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind != PARAM_EXTERN)
		return true;
	if (IsA(node, SubPlan))
		return true;
	return expression_tree_walker(node, has_param_walker, context);
}

/* Can it be evaluated anywhere in the plan? */
static bool
is_free(Node *expr)
{
	return !has_param_walker(expr, NULL) && !contain_volatile_functions(expr);
}

static DsocrDemand
limited_demand(const Limit *limit, DsocrDemand demand)
{
	DsocrDemand bounded = {DSOCR_DEMAND_BOUNDED, limit->limitCount, limit->limitOffset};

	if (limit->limitCount == NULL)
		return demand.kind == DSOCR_DEMAND_ALL ? demand : demand_grows;
	if (limit->limitOption != LIMIT_OPTION_COUNT || !is_free(limit->limitCount) ||
		!is_free(limit->limitOffset))
		return demand_grows;
	return bounded;
}

/* What a node asks of its only or its outer child. */
static DsocrDemand
outer_demand(const Plan *plan, DsocrDemand demand)
{
	switch (nodeTag(plan))
	{
		case T_Limit:
			return limited_demand((const Limit *) plan, demand);

			/* take everything before they give anything */
		case T_Sort:
		case T_Hash:
		case T_ModifyTable:
			return demand_all;
		case T_Agg:
			if (((const Agg *) plan)->aggstrategy != AGG_SORTED)
				return demand_all;
			return dsocr_demand_weaken(demand);

			/* give each row that they get, or pass on what others give */
		case T_Result:
		case T_Material:
		case T_LockRows:
		case T_Gather:
		case T_GatherMerge:
		case T_Append:
		case T_MergeAppend:
		case T_SubqueryScan:
			return plan->qual == NIL ? demand : dsocr_demand_weaken(demand);

			/* may end before their children do */
		case T_MergeJoin:
			return demand_grows;
		default:
			return dsocr_demand_weaken(demand);
	}
}

static DsocrDemand
inner_demand(const Plan *plan, DsocrDemand demand)
{
	return IsA(plan, HashJoin) ? demand_all : demand_grows;
}

/* ---- rewriting ---- */

static void
rewrite_list(List *plans, Place place, Rewrite *r)
{
	ListCell *cell;

	foreach (cell, plans)
		lfirst(cell) = rewrite(lfirst(cell), place, r);
}

/*
 * Batch scans in parallel workers share nothing but what they count, and get
 * the memory for it only as nodes that are aware of others.
 */
static void
count_together(Plan *plan)
{
	ListCell *cell;

	if (plan == NULL)
		return;
	check_stack_depth();
	if (dsocr_batch_scan_calls(plan) != NIL)
		plan->parallel_aware = true;
	count_together(plan->lefttree);
	count_together(plan->righttree);
	foreach (cell, children_of(plan))
		count_together(lfirst(cell));
}

static void
rewrite_children(Plan *plan, Place place, Rewrite *r)
{
	Place outer = {outer_demand(plan, place.demand), IsA(plan, Result) && place.marks};
	Place inner = {inner_demand(plan, place.demand),
				   IsA(plan, MergeJoin) && !((MergeJoin *) plan)->skip_mark_restore};

	switch (nodeTag(plan))
	{
		case T_Append:
			rewrite_list(((Append *) plan)->appendplans, outer, r);
			break;
		case T_MergeAppend:
			rewrite_list(((MergeAppend *) plan)->mergeplans, outer, r);
			break;
		case T_SubqueryScan:
			((SubqueryScan *) plan)->subplan = rewrite(((SubqueryScan *) plan)->subplan, outer, r);
			break;
		case T_CustomScan: /* others may know their children by their types */
		case T_ForeignScan:
		case T_BitmapHeapScan:
			break;
		default:
			plan->lefttree = rewrite(plan->lefttree, outer, r);
			plan->righttree = rewrite(plan->righttree, inner, r);
	}
	if (IsA(plan, Gather) || IsA(plan, GatherMerge))
		count_together(plan->lefttree);
}

/* Can what the node evaluates last be evaluated above it? */
static bool
can_split_output(const Plan *plan)
{
	switch (nodeTag(plan))
	{
		case T_SeqScan:
		case T_SampleScan:
		case T_IndexScan:
		case T_IndexOnlyScan:
		case T_BitmapHeapScan:
		case T_TidScan:
		case T_TidRangeScan:
		case T_SubqueryScan:
		case T_FunctionScan:
		case T_ValuesScan:
		case T_TableFuncScan:
		case T_CteScan:
		case T_NamedTuplestoreScan:
		case T_WorkTableScan:
		case T_NestLoop:
		case T_MergeJoin:
		case T_HashJoin:
		case T_Group:
		case T_Gather:
		case T_GatherMerge:
			return true;
		case T_Agg:
			/* what partial aggregates give has another type than they say */
			return ((const Agg *) plan)->aggsplit == AGGSPLIT_SIMPLE ||
				   ((const Agg *) plan)->aggsplit == AGGSPLIT_FINAL_DESERIAL;
		case T_ForeignScan:
			return ((const ForeignScan *) plan)->operation == CMD_SELECT;
		case T_Result:
			/* one row: there is nothing to read ahead */
			return plan->lefttree != NULL;
		case T_WindowAgg:
			/* its conditions refer to its own output */
			return plan->qual == NIL && ((const WindowAgg *) plan)->runCondition == NIL;
		default:
			return false;
	}
}

static Plan *
rewrite(Plan *plan, Place place, Rewrite *r)
{
	if (plan == NULL)
		return NULL;
	check_stack_depth();
	rewrite_children(plan, place, r);
	if (IsA(plan, Agg) || IsA(plan, ProjectSet))
		dsocr_split_input(plan, outer_demand(plan, place.demand), &r->next_id);

	/* rows would have to be kept to go back; what runs asynchronously has its own way of waiting */
	if (place.marks || plan->async_capable || !can_split_output(plan))
		return plan;
	return dsocr_split_output(plan, place.demand, &r->next_id);
}

static void
rewrite_statement(PlannedStmt *stmt)
{
	Place root = {stmt->commandType == CMD_SELECT ? demand_grows : demand_all};
	Place below = {demand_grows};
	Survey s = survey_statement(stmt);
	Rewrite r;

	if (!s.has_calls)
		return;
	r.next_id = s.last_id + 1;
	rewrite_list(stmt->subplans, below, &r);
	stmt->planTree = rewrite(stmt->planTree, root, &r);
}

static PlannedStmt *
make_plan(Query *query, const char *text, int options, ParamListInfo params)
{
	return next_planner ? next_planner(query, text, options, params)
						: standard_planner(query, text, options, params);
}

/* A parallel query can put nothing into table dsocr.cache, so it is planned again. */
static PlannedStmt *
plan_statement(Query *query, const char *text, int options, ParamListInfo params)
{
	bool writes = dsocr_cache_table && dsocr_cache && (options & CURSOR_OPT_PARALLEL_OK) != 0;
	Query *copy = writes ? copyObject(query) : NULL;
	PlannedStmt *stmt = make_plan(query, text, options, params);

	if (writes && stmt->parallelModeNeeded && survey_statement(stmt).has_calls)
		stmt = make_plan(copy, text, options & ~CURSOR_OPT_PARALLEL_OK, params);

	if (dsocr_batch_scan && stmt->planTree != NULL)
		rewrite_statement(stmt);
	return stmt;
}

void
dsocr_planner_init(void)
{
	next_planner = planner_hook;
	planner_hook = plan_statement;
}
