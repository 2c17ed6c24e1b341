/*-------------------------------------------------------------------------
 *
 * batch_scan.c
 *		The plan node that begins to read documents some rows ahead.
 *
 * It takes rows from the node below, begins the calls that its output and its
 * filter will make for each, and gives rows out in order once the calls of the
 * first one have ended.  The calls stay in the expressions, with stand-ins for
 * their arguments (ahead.h); so it is plain evaluation that takes their values
 * and raises their errors, row by row, each where it belongs.
 *
 * Rows on their way, and how far the node reads ahead, are in batch_rows.c.
 *
 * Rescans give up what is in flight.  A cursor that turns round drops the rows
 * ahead and goes back row by row.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "ahead.h"
#include "batch_explain.h"
#include "batch_rows.h"
#include "batch_scan.h"
#include "batch_state.h"
#include "read.h"

#include "common/int.h"
#include "executor/executor.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/memutils.h"

/* ---- the plan node ---- */

static Node *create_state(CustomScan *plan);

static const CustomScanMethods scan_methods = {"DsocrBatch", create_state};

/* The elements of custom_private and of custom_exprs. */
enum
{
	PRIVATE_DEMAND, /* list of one integer */
	PRIVATE_CALLS	/* list of FuncExpr over INDEX_VARs */
};

enum
{
	EXPRS_COUNT,
	EXPRS_OFFSET
};

/* The rows of the plan below, as it returns them. */
static List *
rows_of(const Plan *outer)
{
	List *rows = NIL;
	ListCell *cell;

	foreach (cell, outer->targetlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		Node *value = (Node *) entry->expr;
		Var *var = makeVar(OUTER_VAR, entry->resno, exprType(value), exprTypmod(value),
						   exprCollation(value), 0);

		rows = lappend(rows, makeTargetEntry((Expr *) var, entry->resno, NULL, false));
	}
	return rows;
}

static List *
limit_exprs(const DsocrDemand *demand)
{
	Node *none = (Node *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(0), false,
									FLOAT8PASSBYVAL);

	if (demand->kind != DSOCR_DEMAND_BOUNDED)
		return NIL;
	return list_make2(copyObject(demand->count),
					  demand->offset != NULL ? copyObject(demand->offset) : none);
}

CustomScan *
dsocr_batch_scan_make(Plan *outer, const Plan *like, List *tlist, List *qual, List *calls,
					  DsocrDemand demand, int plan_node_id)
{
	CustomScan *scan = makeNode(CustomScan);
	Plan *plan = &scan->scan.plan;

	*plan = *like;
	plan->type = T_CustomScan;
	plan->parallel_aware = false;
	plan->async_capable = false;
	plan->plan_node_id = plan_node_id;
	plan->targetlist = tlist;
	plan->qual = qual;
	plan->lefttree = outer;
	plan->righttree = NULL;
	plan->initPlan = NIL;
	plan->extParam = bms_copy(like->extParam);
	plan->allParam = bms_copy(like->allParam);
	scan->scan.scanrelid = 0;
	scan->flags = ExecSupportsBackwardScan(outer) ? CUSTOMPATH_SUPPORT_BACKWARD_SCAN : 0;
	scan->custom_private = list_make2(list_make1_int(demand.kind), copyObject(calls));
	scan->custom_exprs = limit_exprs(&demand);
	scan->custom_scan_tlist = rows_of(outer);
	scan->methods = &scan_methods;
	return scan;
}

List *
dsocr_batch_scan_calls(const Plan *plan)
{
	if (!IsA(plan, CustomScan) || ((const CustomScan *) plan)->methods != &scan_methods)
		return NIL;
	return list_nth(((const CustomScan *) plan)->custom_private, PRIVATE_CALLS);
}

void
dsocr_batch_scan_init(void)
{
	RegisterCustomScanMethods(&scan_methods);
}

/* ---- stand-ins ---- */

/* A constant for the document; makeConst would want its bytes. */
static Const *
stand_in(const DsocrBatchCall *c)
{
	Const *document = makeNullConst(exprType(linitial(c->expr->args)), -1, InvalidOid);

	document->constvalue = dsocr_ahead_document(c->ahead);
	document->constisnull = false;
	return document;
}

/* In expressions, replace the arguments of calls by stand-ins for what was begun. */
static Node *
put_stand_ins(Node *node, DsocrBatchState *s)
{
	if (node == NULL)
		return NULL;
	for (int i = 0; IsA(node, FuncExpr) && i < s->n_calls; i++)
	{
		FuncExpr *call;
		ListCell *cell;

		if (!equal(node, s->calls[i].expr))
			continue;
		call = copyObject((FuncExpr *) node);
		foreach (cell, call->args)
			lfirst(cell) = makeNullConst(exprType(lfirst(cell)), -1, InvalidOid);
		linitial(call->args) = stand_in(&s->calls[i]);
		return (Node *) call;
	}
	return expression_tree_mutator(node, put_stand_ins, s);
}

static void
prepare_call(DsocrBatchState *s, DsocrBatchCall *c, FuncExpr *expr)
{
	PlanState *ps = &s->css.ss.ps;
	int i = 0;
	ListCell *cell;

	c->expr = expr;
	fmgr_info(expr->funcid, &c->function);
	fmgr_info_set_expr((Node *) expr, &c->function);
	c->known = dsocr_call_function(c->function.fn_addr, &c->kind);
	c->fcinfo = palloc0(SizeForFunctionCallInfo(list_length(expr->args)));
	InitFunctionCallInfoData(*c->fcinfo, &c->function, list_length(expr->args), expr->inputcollid,
							 NULL, NULL);
	c->args = palloc(sizeof(ExprState *) * list_length(expr->args));
	foreach (cell, expr->args)
		c->args[i++] = ExecInitExpr(lfirst(cell), ps);
	c->of_subplan = contain_subplans(linitial(expr->args));
	c->ahead = dsocr_ahead_create(CurrentMemoryContext);
}

/*
 * Compile the expressions of the node anew, with stand-ins.  What the server
 * has compiled before is of the plan itself, which others may be running too.
 */
static void
prepare_expressions(DsocrBatchState *s, List *calls)
{
	PlanState *ps = &s->css.ss.ps;
	Plan *plan = ps->plan;
	TupleDesc desc = s->css.ss.ss_ScanTupleSlot->tts_tupleDescriptor;
	ListCell *cell;

	ps->subPlan = NIL;
	s->calls = palloc0(sizeof(DsocrBatchCall) * list_length(calls));
	foreach (cell, calls)
	{
		prepare_call(s, &s->calls[s->n_calls], lfirst_node(FuncExpr, cell));
		if (!s->calls[s->n_calls++].known)
			elog(ERROR, "function %u does not read documents", lfirst_node(FuncExpr, cell)->funcid);
	}
	ps->qual = ExecInitQual((List *) put_stand_ins((Node *) plan->qual, s), ps);
	if (ps->ps_ProjInfo != NULL)
		ps->ps_ProjInfo =
			ExecBuildProjectionInfo((List *) put_stand_ins((Node *) plan->targetlist, s),
									ps->ps_ExprContext, ps->ps_ResultTupleSlot, ps, desc);
}

/* ---- the node in execution ---- */

/* Let the expressions see a row. */
static void
show_row(DsocrBatchState *s, DsocrBatchRow *row)
{
	ExprContext *econtext = s->css.ss.ps.ps_ExprContext;
	TupleTableSlot *slot = s->css.ss.ss_ScanTupleSlot;

	ExecStoreMinimalTuple(row->tuple, slot, false);
	econtext->ecxt_scantuple = slot;
	for (int i = 0; i < s->n_calls; i++)
		dsocr_ahead_set(s->calls[i].ahead, row->calls[i]);
}

/* Move on to the next row in the direction of the query. */
static bool
move(DsocrBatchState *s)
{
	DsocrBatchRow *row;
	bool back = ScanDirectionIsBackward(s->css.ss.ps.state->es_direction);

	if (back && !s->backward)
		dsocr_batch_turn_round(s);
	s->backward = back;
	if (s->current != NULL)
		dsocr_batch_forget_row(s, s->current);
	s->current = NULL;
	row = back ? dsocr_batch_previous_row(s) : dsocr_batch_next_row(s);
	s->current = row;
	return row != NULL;
}

/* dsocr.batch_scan was switched off after the plan was made: rows pass, calls are plain. */
static bool
pass(DsocrBatchState *s)
{
	TupleTableSlot *slot = ExecProcNode(outerPlanState(s));

	if (TupIsNull(slot))
		return false;
	ExecCopySlot(s->css.ss.ss_ScanTupleSlot, slot);
	s->css.ss.ps.ps_ExprContext->ecxt_scantuple = s->css.ss.ss_ScanTupleSlot;
	return true;
}

static TupleTableSlot *
execute(CustomScanState *node)
{
	DsocrBatchState *s = (DsocrBatchState *) node;
	PlanState *ps = &node->ss.ps;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		ResetExprContext(ps->ps_ExprContext);
		if (s->plain ? !pass(s) : !move(s))
			return NULL;
		if (!s->plain)
			show_row(s, s->current);
		if (ps->qual == NULL || ExecQual(ps->qual, ps->ps_ExprContext))
			break;
		s->rejected++;
		InstrCountFiltered1(node, 1);
	}
	s->emitted++;
	return ps->ps_ProjInfo != NULL ? ExecProject(ps->ps_ProjInfo) : node->ss.ss_ScanTupleSlot;
}

/* Rows that a LIMIT above will ask for. */
static int64
compute_bound(DsocrBatchState *s)
{
	int64 bound = 0;
	ListCell *cell;

	foreach (cell, s->limit)
	{
		bool isnull;
		int64 value = DatumGetInt64(
			ExecEvalExprSwitchContext(lfirst(cell), s->css.ss.ps.ps_ExprContext, &isnull));

		/* without a limit */
		if (isnull && foreach_current_index(cell) == EXPRS_COUNT)
			return -1;
		if (!isnull && value > 0 && pg_add_s64_overflow(bound, value, &bound))
			return -1;
	}
	return bound;
}

static void
start(DsocrBatchState *s)
{
	CustomScan *plan = (CustomScan *) s->css.ss.ps.plan;

	s->demand = linitial_int(list_nth(plan->custom_private, PRIVATE_DEMAND));
	if (s->demand == DSOCR_DEMAND_BOUNDED)
	{
		s->bound = compute_bound(s);
		if (s->bound < 0)
			s->demand = DSOCR_DEMAND_GROWS;
	}
	s->exhausted = s->backward = false;
	s->emitted = s->rejected = 0;
}

static void
begin(CustomScanState *node, EState *estate, int eflags)
{
	DsocrBatchState *s = (DsocrBatchState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	PlanState *ps = &node->ss.ps;
	TupleDesc desc = node->ss.ss_ScanTupleSlot->tts_tupleDescriptor;

	outerPlanState(node) = ExecInitNode(outerPlan(plan), estate, eflags);

	/* rows are minimal tuples, which the server did not know when it made the slot */
	ExecInitScanTupleSlot(estate, &node->ss, desc, &TTSOpsMinimalTuple);
	if (ps->ps_ProjInfo == NULL)
	{
		ps->resultops = &TTSOpsMinimalTuple;
		ps->resultopsfixed = ps->resultopsset = true;
	}
	s->plain = !dsocr_batch_scan;
	s->row_slot = ExecInitExtraTupleSlot(estate, desc, &TTSOpsMinimalTuple);
	s->row_context = CreateExprContext(estate);
	s->context = AllocSetContextCreate(estate->es_query_cxt, "dsocr batch", ALLOCSET_DEFAULT_SIZES);
	s->waiting = palloc(sizeof(DsocrReading *));
	s->max_waiting = 1;
	s->counts = &s->own_counts;
	dlist_init(&s->rows);
	s->limit = ExecInitExprList(plan->custom_exprs, ps);
	prepare_expressions(s, s->plain ? NIL : dsocr_batch_scan_calls(ps->plan));
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		start(s);
}

static void
rescan(CustomScanState *node)
{
	DsocrBatchState *s = (DsocrBatchState *) node;

	dsocr_batch_forget_rows(s);
	start(s);
	if (outerPlanState(node)->chgParam == NULL)
		ExecReScan(outerPlanState(node));
}

static void
end(CustomScanState *node)
{
	dsocr_batch_forget_rows((DsocrBatchState *) node);
	ExecEndNode(outerPlanState(node));
}

static const CustomExecMethods exec_methods = {
	.CustomName = "DsocrBatch",
	.BeginCustomScan = begin,
	.ExecCustomScan = execute,
	.EndCustomScan = end,
	.ReScanCustomScan = rescan,
	.EstimateDSMCustomScan = dsocr_batch_estimate,
	.InitializeDSMCustomScan = dsocr_batch_share,
	.ReInitializeDSMCustomScan = dsocr_batch_share_again,
	.InitializeWorkerCustomScan = dsocr_batch_join,
	.ShutdownCustomScan = dsocr_batch_collect,
	.ExplainCustomScan = dsocr_batch_explain,
};

static Node *
create_state(CustomScan *plan)
{
	DsocrBatchState *s = palloc0(sizeof(DsocrBatchState));

	NodeSetTag(s, T_CustomScanState);
	s->css.methods = &exec_methods;
	return (Node *) s;
}
