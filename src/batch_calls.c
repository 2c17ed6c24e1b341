/*-------------------------------------------------------------------------
 *
 * batch_calls.c
 *		Finds the calls in an expression that can be begun ahead.
 *
 * A call is begun ahead only if plain evaluation would reach it for certain:
 * not behind a CASE, COALESCE, AND or OR that may pass it by.  In node types
 * that are not known here nothing is found, so what later versions of the
 * server bring is evaluated as always.
 *
 * A function is told by the C code that would run, whatever its name and
 * schema: one that is SECURITY DEFINER or has settings of its own runs other
 * code first, and is not found.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "batch_calls.h"
#include "read.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/syscache.h"

/* ---- which functions are ours ---- */

typedef struct KnownFunction
{
	Oid oid; /* hash key */
	bool reads;
} KnownFunction;

static HTAB *known = NULL; /* what was found out about functions; emptied by changes of pg_proc */
static bool known_is_stale = false;

static void
forget_functions(Datum arg, int cache, uint32 hash)
{
	known_is_stale = true;
}

static HTAB *
known_functions(void)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(KnownFunction)};

	if (known != NULL && !known_is_stale)
		return known;
	if (known == NULL)
		CacheRegisterSyscacheCallback(PROCOID, forget_functions, (Datum) 0);
	else
		hash_destroy(known);
	known = NULL;
	known_is_stale = false;
	known = hash_create("dsocr functions", 64, &control, HASH_ELEM | HASH_BLOBS);
	return known;
}

/*
 * Would the function run our code?  Looking at the code loads the library of
 * the function, so only those are looked at that have a name of ours in it.
 */
static bool
runs_our_code(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool maybe = false;
	DsocrFunction kind;
	FmgrInfo info;

	if (!HeapTupleIsValid(tuple))
		return false;
	if (((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId)
	{
		bool isnull;
		Datum symbol = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);

		maybe = !isnull && strncmp(TextDatumGetCString(symbol), "dsocr_", 6) == 0;
	}
	ReleaseSysCache(tuple);
	if (!maybe)
		return false;
	fmgr_info(function, &info);
	return dsocr_call_function(info.fn_addr, &kind);
}

bool
dsocr_batch_is_reading(const FuncExpr *call)
{
	KnownFunction *f;
	bool reads;
	bool found;

	if (call->funcid < FirstNormalObjectId || call->funcretset || list_length(call->args) == 0)
		return false;
	f = hash_search(known_functions(), &call->funcid, HASH_FIND, NULL);
	if (f != NULL)
		return f->reads;
	reads = runs_our_code(call->funcid);
	f = hash_search(known_functions(), &call->funcid, HASH_ENTER, &found);
	f->reads = reads;
	return reads;
}

/* ---- calls in expressions ---- */

static bool
contains_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && dsocr_batch_is_reading((FuncExpr *) node))
		return true;
	return expression_tree_walker(node, contains_walker, context);
}

bool
dsocr_batch_contains(Node *expr)
{
	return contains_walker(expr, NULL);
}

/* A value that only exists while an expression around it is evaluated. */
static bool
borrows_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, CaseTestExpr) || IsA(node, CoerceToDomainValue))
		return true;
	return expression_tree_walker(node, borrows_walker, context);
}

/*
 * May the arguments be evaluated some rows early?  Not if that can be seen,
 * and not if another reading has to end before.
 */
static bool
can_begin(const FuncExpr *call)
{
	Node *args = (Node *) call->args;

	return !contain_volatile_functions(args) && !dsocr_batch_contains(args) &&
		   !borrows_walker(args, NULL);
}

static List *
find_first(const List *exprs, List *calls)
{
	return exprs == NIL ? calls : dsocr_batch_find((Node *) linitial(exprs), calls);
}

/* The first condition of a CASE is always evaluated, the others may not be. */
static List *
find_in_case(const CaseExpr *expr, List *calls)
{
	calls = dsocr_batch_find((Node *) expr->arg, calls);
	if (expr->args != NIL)
		calls = dsocr_batch_find((Node *) linitial_node(CaseWhen, expr->args)->expr, calls);
	return calls;
}

static List *
find_in_function(FuncExpr *call, List *calls)
{
	calls = dsocr_batch_find((Node *) call->args, calls);
	if (dsocr_batch_is_reading(call) && can_begin(call))
		calls = list_append_unique(calls, call);
	return calls;
}

List *
dsocr_batch_find(Node *expr, List *calls)
{
	ListCell *cell;

	if (expr == NULL)
		return calls;
	check_stack_depth();
	switch (nodeTag(expr))
	{
		case T_List:
			foreach (cell, (List *) expr)
				calls = dsocr_batch_find(lfirst(cell), calls);
			return calls;
		case T_TargetEntry:
			return dsocr_batch_find((Node *) ((TargetEntry *) expr)->expr, calls);
		case T_FuncExpr:
			return find_in_function((FuncExpr *) expr, calls);
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			return dsocr_batch_find((Node *) ((OpExpr *) expr)->args, calls);
		case T_ScalarArrayOpExpr:
			return dsocr_batch_find((Node *) ((ScalarArrayOpExpr *) expr)->args, calls);
		case T_BoolExpr:
			return find_first(((BoolExpr *) expr)->args, calls);
		case T_CaseExpr:
			return find_in_case((CaseExpr *) expr, calls);
		case T_CoalesceExpr:
			return find_first(((CoalesceExpr *) expr)->args, calls);
		case T_MinMaxExpr:
			return dsocr_batch_find((Node *) ((MinMaxExpr *) expr)->args, calls);
		case T_RowExpr:
			return dsocr_batch_find((Node *) ((RowExpr *) expr)->args, calls);
		case T_ArrayExpr:
			return dsocr_batch_find((Node *) ((ArrayExpr *) expr)->elements, calls);
		case T_SubscriptingRef:
			return dsocr_batch_find((Node *) ((SubscriptingRef *) expr)->refexpr, calls);
		case T_FieldSelect:
			return dsocr_batch_find((Node *) ((FieldSelect *) expr)->arg, calls);
		case T_RelabelType:
			return dsocr_batch_find((Node *) ((RelabelType *) expr)->arg, calls);
		case T_CoerceViaIO:
			return dsocr_batch_find((Node *) ((CoerceViaIO *) expr)->arg, calls);
		case T_ArrayCoerceExpr:
			return dsocr_batch_find((Node *) ((ArrayCoerceExpr *) expr)->arg, calls);
		case T_ConvertRowtypeExpr:
			return dsocr_batch_find((Node *) ((ConvertRowtypeExpr *) expr)->arg, calls);
		case T_CollateExpr:
			return dsocr_batch_find((Node *) ((CollateExpr *) expr)->arg, calls);
		case T_NullTest:
			return dsocr_batch_find((Node *) ((NullTest *) expr)->arg, calls);
		case T_BooleanTest:
			return dsocr_batch_find((Node *) ((BooleanTest *) expr)->arg, calls);
		case T_CoerceToDomain:
			return dsocr_batch_find((Node *) ((CoerceToDomain *) expr)->arg, calls);
		default:
			return calls;
	}
}
