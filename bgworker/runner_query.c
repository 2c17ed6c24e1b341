/*-------------------------------------------------------------------------
 *
 * runner_query.c
 *		Statements on users' tables.
 *
 * They are made from the names that the columns have now, while a lock on the
 * table keeps them; plans are kept by the text of the statement.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner_query.h"

#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"

#define MAX_PLANS 64

typedef struct KeptPlan
{
	char *text;
	SPIPlanPtr plan;
} KeptPlan;

static KeptPlan plans[MAX_PLANS];
static int n_plans = 0;

static SPIPlanPtr
plan_of(DsocrRowQuery *q)
{
	MemoryContext caller;
	SPIPlanPtr plan;

	for (int i = 0; i < n_plans; i++)
	{
		if (strcmp(plans[i].text, q->text.data) == 0)
			return plans[i].plan;
	}
	plan = SPI_prepare(q->text.data, q->n, q->types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	if (n_plans == MAX_PLANS)
	{
		SPI_freeplan(plans[0].plan);
		pfree(plans[0].text);
		memmove(&plans[0], &plans[1], sizeof(KeptPlan) * --n_plans);
	}
	SPI_keepplan(plan);
	caller = MemoryContextSwitchTo(TopMemoryContext);
	plans[n_plans].text = pstrdup(q->text.data);
	plans[n_plans++].plan = plan;
	MemoryContextSwitchTo(caller);
	return plan;
}

void
dsocr_row_query_run(DsocrRowQuery *q)
{
	int rc = SPI_execute_plan(plan_of(q), q->values, q->nulls, false, 0);

	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
}

void
dsocr_row_query_begin(DsocrRowQuery *q)
{
	initStringInfo(&q->text);
	q->n = 0;
}

char *
dsocr_row_query_value(DsocrRowQuery *q, Oid type, Datum value, bool isnull)
{
	q->types[q->n] = type;
	q->values[q->n] = value;
	q->nulls[q->n] = isnull ? 'n' : ' ';
	return psprintf("$%d", ++q->n);
}

const char *
dsocr_row_column_name(Relation rel, AttrNumber column)
{
	return quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(rel), column - 1)->attname));
}

void
dsocr_row_query_table(DsocrRowQuery *q, Relation rel)
{
	appendStringInfo(&q->text, "%s%s",
					 rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ? "" : "ONLY ",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												RelationGetRelationName(rel)));
}

void
dsocr_row_query_key(DsocrRowQuery *q, Relation rel, const DsocrRowKey *key,
					const AttrNumber *columns, char **values)
{
	for (int i = 0; i < key->n; i++)
	{
		Form_pg_attribute a = TupleDescAttr(RelationGetDescr(rel), columns[i] - 1);
		Oid input;
		Oid parameter;
		char *name;

		getTypeInputInfo(a->atttypid, &input, &parameter);
		name = dsocr_row_query_value(
			q, a->atttypid, OidInputFunctionCall(input, values[i], parameter, a->atttypmod), false);
		appendStringInfoString(&q->text, i == 0 ? " WHERE " : " AND ");
		generate_operator_clause(&q->text, dsocr_row_column_name(rel, columns[i]), a->atttypid,
								 key->equality[i], name, a->atttypid);
	}
}
