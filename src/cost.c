/*-------------------------------------------------------------------------
 *
 * cost.c
 *		What the planner is told about the cost of reading.
 *
 * The COST of the functions is that of a page in mode base.  The mode and
 * max_tokens of a call, where they are known, and the size of the documents
 * move it, so that of two conditions the cheaper one is evaluated first.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "read.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/supportnodes.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(dsocr_read_support);

/* Operators that a page in mode base costs as much as; COST in the SQL script. */
#define PAGE_OPERATORS 100000

/* Text that a page has, in tokens; what it costs to write is what counts beside the image. */
#define PAGE_TEXT_TOKENS 400

/* Columns of such widths hold pointers to documents that are stored out of line. */
#define TOASTED_WIDTH_MIN 18
#define TOASTED_WIDTH_MAX 64

/* Image tokens of a page, by mode; gundam: with the usual number of tiles. */
static const int image_tokens[DSOCR_N_MODES] = {
	[DSOCR_MODE_AUTO] = 256,	  [DSOCR_MODE_TINY] = 64,	[DSOCR_MODE_SMALL] = 100,
	[DSOCR_MODE_BASE] = 256,	  [DSOCR_MODE_LARGE] = 400, [DSOCR_MODE_GUNDAM] = 856,
	[DSOCR_MODE_GUNDAM_M] = 1737,
};

/* Is the argument, wherever it stands, a constant that is not NULL? */
static Const *
constant(Node *arg)
{
	if (arg == NULL || !IsA(arg, Const) || ((Const *) arg)->constisnull)
		return NULL;
	return (Const *) arg;
}

/*
 * How much more than a page in mode base?  mode is known by its type, and
 * max_tokens is the second argument behind it.
 */
static double
page_factor(const FuncExpr *call)
{
	int mode = dsocr_mode;
	int text = PAGE_TEXT_TOKENS;
	int at = 0;
	Const *c;

	while (at < list_length(call->args) && !type_is_enum(exprType(list_nth(call->args, at))))
		at++;
	c = at < list_length(call->args) ? constant(list_nth(call->args, at)) : NULL;
	if (c != NULL)
		mode = dsocr_mode_from_enum(DatumGetObjectId(c->constvalue));
	c = at + 2 < list_length(call->args) ? constant(list_nth(call->args, at + 2)) : NULL;
	if (c != NULL && c->consttype == INT4OID)
		text = Min(text, Max(DatumGetInt32(c->constvalue), 1));
	else if (dsocr_max_tokens > 0)
		text = Min(text, dsocr_max_tokens);
	return (double) (image_tokens[mode] + text) /
		   (image_tokens[DSOCR_MODE_BASE] + PAGE_TEXT_TOKENS);
}

/* Average bytes of what a table stores out of line for each row. */
static double
toast_width(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	double rows;
	Oid toast;
	double pages = 0;

	if (!HeapTupleIsValid(tuple))
		return 0;
	rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
	toast = ((Form_pg_class) GETSTRUCT(tuple))->reltoastrelid;
	ReleaseSysCache(tuple);
	if (!OidIsValid(toast) || rows < 1)
		return 0;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(toast));
	if (HeapTupleIsValid(tuple))
	{
		pages = ((Form_pg_class) GETSTRUCT(tuple))->relpages;
		ReleaseSysCache(tuple);
	}
	return pages * BLCKSZ / rows;
}

/* Average bytes of the document, 0 where that is not known. */
static double
document_width(PlannerInfo *root, Node *document)
{
	Var *var = (Var *) document;
	RangeTblEntry *rte;
	double width;

	if (root == NULL || !IsA(document, Var) || var->varlevelsup != 0 || var->varno <= 0 ||
		var->varno >= root->simple_rel_array_size || var->varattno <= 0)
		return 0;
	rte = root->simple_rte_array[var->varno];
	if (rte == NULL || rte->rtekind != RTE_RELATION)
		return 0;
	width = get_attavgwidth(rte->relid, var->varattno);
	if (width >= TOASTED_WIDTH_MIN && width <= TOASTED_WIDTH_MAX)
		return Max(width, toast_width(rte->relid));
	return width;
}

Datum
dsocr_read_support(PG_FUNCTION_ARGS)
{
	Node *request = (Node *) PG_GETARG_POINTER(0);
	SupportRequestCost *cost = (SupportRequestCost *) request;
	FuncExpr *call;

	if (!IsA(request, SupportRequestCost) || cost->node == NULL || !IsA(cost->node, FuncExpr))
		PG_RETURN_POINTER(NULL);
	call = (FuncExpr *) cost->node;
	if (call->args == NIL)
		PG_RETURN_POINTER(NULL);
	cost->startup = 0;
	cost->per_tuple = PAGE_OPERATORS * cpu_operator_cost * page_factor(call) +
					  document_width(cost->root, linitial(call->args)) / BLCKSZ * seq_page_cost;
	PG_RETURN_POINTER(cost);
}
