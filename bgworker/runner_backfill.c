/*-------------------------------------------------------------------------
 *
 * runner_backfill.c
 *		Queues rows that were there before their table was attached.
 *
 * The request is a job without a key.  One statement, with the rights of the
 * table's owner, lists the keys of all rows that wait for a text; its snapshot
 * was taken after the triggers were there, so every row is either in the list
 * or has gone through the triggers.  The list lies in memory and temporary
 * files; rows are queued some hundred at a time, each with a commit, and the
 * request is deleted with the last of them.  Beginning again does no harm: at
 * most one job waits for a row, and rows that have their text are left out.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "attach.h"
#include "attachment.h"

#define BATCH_ROWS 500
#define FETCH_ROWS 1000
#define BUSY_PAUSE_MS 1000

struct DsocrBackfill
{
	MemoryContext context;
	int64 id; /* of the request */
	int64 lane;
	Oid source;
	char *attachment;
	Oid owner;
	int priority;
	Tuplestorestate *rows; /* (source oid, key text); NULL: to be listed */
	TupleDesc desc;
};

static DsocrStatement delete_request = {
	"DELETE FROM dsocr.job_queue AS q WHERE q.id OPERATOR(pg_catalog.=) $1", 1, {INT8OID}, NULL};

void
dsocr_runner_begin_backfill(DsocrRunner *r, int64 id, int64 lane, Oid source,
							const char *attachment)
{
	MemoryContext context =
		AllocSetContextCreate(r->context, "dsocr backfill", ALLOCSET_DEFAULT_SIZES);
	DsocrBackfill *b = MemoryContextAllocZero(context, sizeof(DsocrBackfill));

	b->context = context;
	b->id = id;
	b->lane = lane;
	b->source = source;
	b->attachment = MemoryContextStrdup(context, attachment);
	r->backfill = b;
}

static void
end_backfill(DsocrRunner *r)
{
	DsocrBackfill *b = r->backfill;

	if (b->rows != NULL)
		tuplestore_end(b->rows);
	MemoryContextDelete(b->context);
	r->backfill = NULL;
}

/* Look at the request again later. */
static void
postpone(DsocrRunner *r)
{
	dsocr_runner_wait_for(r, r->backfill->id, r->backfill->lane,
						  TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BUSY_PAUSE_MS));
	end_backfill(r);
}

/* ---- the list ---- */

static const char *
column_of(Relation rel, const char *table, AttrNumber column)
{
	return psprintf(
		"%s.%s", table,
		quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(rel), column - 1)->attname)));
}

static char *
table_of(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

/* Rows that have no pages in the side table. */
static void
append_side_condition(StringInfo query, Relation rel, const DsocrRowKey *key, const DsocrSide *side)
{
	Relation other = relation_open(side->relid, AccessShareLock);

	appendStringInfo(query, " AND NOT EXISTS (SELECT FROM %s AS s WHERE ", table_of(other));
	for (int i = 0; i < key->n; i++)
	{
		Oid type = get_atttype(RelationGetRelid(rel), key->column[i]);

		if (i > 0)
			appendStringInfoString(query, " AND ");
		generate_operator_clause(query, column_of(other, "s", side->key[i]),
								 get_atttype(side->relid, side->key[i]), key->equality[i],
								 column_of(rel, "t", key->column[i]), type);
	}
	appendStringInfoChar(query, ')');
	relation_close(other, NoLock);
}

static char *
list_query(Relation rel, const DsocrRowKey *key, const DsocrAttachment *a)
{
	bool partitioned = rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	StringInfoData query;

	initStringInfo(&query);
	appendStringInfoString(&query, "SELECT t.tableoid");
	for (int i = 0; i < key->n; i++)
		appendStringInfo(&query, ", %s", column_of(rel, "t", key->column[i]));
	appendStringInfo(&query, " FROM %s%s AS t WHERE %s IS NOT NULL", partitioned ? "" : "ONLY ",
					 table_of(rel), column_of(rel, "t", a->parts.column[DSOCR_PART_IMAGE]));
	if (a->parts.column[DSOCR_PART_TEXT] != 0)
		appendStringInfo(&query, " AND %s IS NULL",
						 column_of(rel, "t", a->parts.column[DSOCR_PART_TEXT]));
	else if (OidIsValid(a->side.relid))
		append_side_condition(&query, rel, key, &a->side);
	else if (a->parts.column[DSOCR_PART_LAYOUT] != 0)
		appendStringInfo(&query, " AND %s IS NULL",
						 column_of(rel, "t", a->parts.column[DSOCR_PART_LAYOUT]));
	return query.data;
}

/* A row of the query as (table, key); the columns of the key are all there is. */
static void
store_row(DsocrBackfill *b, TupleDesc desc, HeapTuple row)
{
	StringInfoData key;
	Datum values[2];
	bool nulls[2] = {false, false};
	bool isnull;
	char *columns[INDEX_MAX_KEYS];

	for (int i = 1; i < desc->natts; i++)
		columns[i - 1] = SPI_getvalue(row, desc, i + 1);
	values[0] = SPI_getbinval(row, desc, 1, &isnull);
	dsocr_row_key_join(&key, columns, desc->natts - 1);
	values[1] = CStringGetTextDatum(key.data);
	tuplestore_putvalues(b->rows, b->desc, values, nulls);
}

static void
list_rows(DsocrBackfill *b, const char *query)
{
	MemoryContext caller = MemoryContextSwitchTo(b->context);
	MemoryContext row_context;
	Portal portal;

	b->desc = CreateTemplateTupleDesc(2);
	TupleDescInitEntry(b->desc, 1, "source", OIDOID, -1, 0);
	TupleDescInitEntry(b->desc, 2, "key", TEXTOID, -1, 0);
	b->rows = tuplestore_begin_heap(false, true, work_mem);
	MemoryContextSwitchTo(caller);
	row_context =
		AllocSetContextCreate(CurrentMemoryContext, "dsocr backfill row", ALLOCSET_DEFAULT_SIZES);
	portal = SPI_cursor_parse_open(NULL, query,
								   &(SPIParseOpenOptions){.read_only = true, .cursorOptions = 0});
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		if (SPI_processed == 0)
			break;
		caller = MemoryContextSwitchTo(row_context);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			store_row(b, SPI_tuptable->tupdesc, SPI_tuptable->vals[i]);
			MemoryContextReset(row_context);
		}
		MemoryContextSwitchTo(caller);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
}

/* false: the table is busy, or there is no attachment any more. */
static bool
make_list(DsocrRunner *r, bool *gone)
{
	DsocrBackfill *b = r->backfill;
	DsocrAttachment a;
	DsocrRowKey key;
	DsocrAsOwner before;
	Relation rel;
	char *query;

	*gone = false;
	if (!ConditionalLockRelationOid(b->source, AccessShareLock))
		return false;
	rel = try_relation_open(b->source, NoLock);
	*gone = rel == NULL || !dsocr_attachment_find(rel, b->attachment, &a) ||
			!dsocr_row_key_describe(rel, &key);
	if (!*gone)
	{
		char *priority = dsocr_json_option(a.options, "priority");

		b->owner = RelationGetForm(rel)->relowner;
		b->priority = priority ? Min(Max(atoi(priority), 0), 9) : DSOCR_JOB_PRIORITY_DEFAULT;
		query = list_query(rel, &key, &a);
		dsocr_jobs_as_role(b->owner, &before);
		list_rows(b, query);
		dsocr_jobs_as_before(&before);
	}
	if (rel != NULL)
		relation_close(rel, NoLock);
	return !*gone;
}

/* ---- the queue ---- */

/* Queue the next rows; false: there are no more. */
static bool
queue_rows(DsocrBackfill *b)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(b->desc, &TTSOpsMinimalTuple);
	char *keys[BATCH_ROWS];
	Oid source = InvalidOid;
	int n = 0;
	bool more = true;

	for (int i = 0; i < BATCH_ROWS; i++)
	{
		bool isnull;
		Oid from;

		more = tuplestore_gettupleslot(b->rows, true, false, slot);
		if (!more)
			break;
		from = DatumGetObjectId(slot_getattr(slot, 1, &isnull));
		if (n > 0 && from != source)
		{
			dsocr_attach_queue(source, b->attachment, b->owner, b->priority, keys, n);
			n = 0;
		}
		source = from;
		keys[n++] = TextDatumGetCString(slot_getattr(slot, 2, &isnull));
	}
	if (n > 0)
		dsocr_attach_queue(source, b->attachment, b->owner, b->priority, keys, n);
	ExecDropSingleTupleTableSlot(slot);
	return more;
}

static void
end_request(int64 id)
{
	Datum values[] = {Int64GetDatum(id)};
	DsocrAsOwner before;

	dsocr_jobs_as_owner(&before);
	dsocr_jobs_execute(&delete_request, values, NULL, false);
	dsocr_jobs_as_before(&before);
}

bool
dsocr_runner_backfill(DsocrRunner *r)
{
	DsocrBackfill *b = r->backfill;
	volatile bool listed = true;
	volatile bool more = true;
	bool no_table = false;
	volatile bool gone = false;
	MemoryContext caller = CurrentMemoryContext;
	volatile bool failed = false;

	if (b == NULL)
		return false;
	StartTransactionCommand();
	PG_TRY();
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		SPI_connect();
		if (b->rows == NULL)
		{
			listed = make_list(r, &no_table);
			gone = no_table;
		}
		else
			more = queue_rows(b);
		if (gone || !more)
			end_request(b->id);
		SPI_finish();
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		ErrorData *e;

		MemoryContextSwitchTo(caller);
		e = CopyErrorData();
		if (e->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			PG_RE_THROW();
		FlushErrorState();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(caller);
		ereport(LOG, (errmsg("dsocr could not queue the rows of table %u: %s", b->source,
							 e->message ? e->message : "unknown error"),
					  errdetail("It is tried again.")));
		FreeErrorData(e);
		failed = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (failed || (!listed && !gone))
		postpone(r);
	else if (gone || !more)
		end_backfill(r);
	return true;
}
