/*-------------------------------------------------------------------------
 *
 * attach.c
 *		Triggers of attached tables: rows that changed become jobs.
 *
 * The row trigger only remembers what happened; rows go to the queue many at
 * a time: when the statement ends (its own trigger says so), when there are
 * enough of them, when a subtransaction ends and, for statements on a
 * partition, which have no such trigger, before the commit.
 *
 * At most one job waits for a row.  It reads what is there when it runs, so
 * another change of the row needs no other job; a job that is already running
 * finds, before it writes, that the image is not the one it read.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "attach.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "attachment.h"
#include "jobs.h"

PG_FUNCTION_INFO_V1(dsocr_attach_row);
PG_FUNCTION_INFO_V1(dsocr_attach_statement);
PG_FUNCTION_INFO_V1(dsocr_attach_side);

#define MAX_CHANGES 1000 /* that are remembered before they go to the queue */

typedef enum ChangeKind
{
	CHANGE_NEW,	   /* a row to be read for the first time */
	CHANGE_AGAIN,  /* a row to be read again */
	CHANGE_GONE,   /* nothing to be read any more */
	CHANGE_RENAMED /* the key is another one */
} ChangeKind;

typedef struct Change
{
	ChangeKind kind;
	char *key;
	char *old_key; /* CHANGE_RENAMED */
} Change;

bool dsocr_attach_writing = false;

/*
 * Changes of one attachment that have not gone to the queue yet.  What a
 * subtransaction does lies above what its parent has left, and goes away with
 * it.
 */
typedef struct Pending
{
	struct Pending *below;
	MemoryContext context; /* of this and all strings */
	Oid source;
	Oid owner;
	int priority;
	char attachment[NAMEDATALEN];
	SubTransactionId subxid;
	int n;
	Change changes[MAX_CHANGES];
} Pending;

static Pending *pending = NULL;
static bool callbacks_registered = false;

/* ---- to the queue ---- */

#define SAME_ROW                                                                                   \
	"q.source OPERATOR(pg_catalog.=) $1 AND q.attachment OPERATOR(pg_catalog.=) $2"                \
	" AND pg_catalog.md5(q.key) OPERATOR(pg_catalog.=) pg_catalog.md5(k.key)"                      \
	" AND q.key OPERATOR(pg_catalog.=) k.key"

static DsocrStatement insert_jobs = {
	"INSERT INTO dsocr.job_queue (source, attachment, priority, owner, key)"
	" SELECT $1, $2, $4, $5, k.key FROM pg_catalog.unnest($3) AS k(key)"
	" ON CONFLICT DO NOTHING RETURNING id",
	5,
	{OIDOID, TEXTOID, TEXTARRAYOID, INT2OID, OIDOID},
	NULL};

static DsocrStatement delete_jobs = {
	"DELETE FROM dsocr.job_queue AS q USING pg_catalog.unnest($3) AS k(key) WHERE " SAME_ROW,
	3,
	{OIDOID, TEXTOID, TEXTARRAYOID},
	NULL};

static DsocrStatement delete_failures = {
	"DELETE FROM dsocr.job_failed AS q USING pg_catalog.unnest($3) AS k(key) WHERE " SAME_ROW,
	3,
	{OIDOID, TEXTOID, TEXTARRAYOID},
	NULL};

static DsocrStatement rename_job = {
	"UPDATE dsocr.job_queue AS q SET key = $4 FROM pg_catalog.unnest($3) AS k(key) WHERE " SAME_ROW,
	4,
	{OIDOID, TEXTOID, TEXTARRAYOID, TEXTOID},
	NULL};

static DsocrStatement rename_failure = {"UPDATE dsocr.job_failed AS q SET key = $4 FROM "
										"pg_catalog.unnest($3) AS k(key) WHERE " SAME_ROW,
										4,
										{OIDOID, TEXTOID, TEXTARRAYOID, TEXTOID},
										NULL};

static Datum
text_array(char **strings, int n)
{
	Datum *values = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		values[i] = CStringGetTextDatum(strings[i]);
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

int64
dsocr_attach_queue(Oid source, const char *attachment, Oid owner, int priority, char **keys, int n)
{
	DsocrAsOwner before;
	Datum values[5];
	int64 inserted;

	dsocr_jobs_as_owner(&before);
	SPI_connect();
	values[0] = ObjectIdGetDatum(source);
	values[1] = CStringGetTextDatum(attachment);
	values[2] = text_array(keys, n);
	values[3] = Int16GetDatum(priority);
	values[4] = ObjectIdGetDatum(owner);
	dsocr_jobs_noting = true;
	dsocr_jobs_execute(&insert_jobs, values, NULL, false);
	dsocr_jobs_noting = false;
	inserted = SPI_processed;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		int64 id =
			DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		dsocr_jobs_note(priority, owner, id);
	}
	SPI_finish();
	dsocr_jobs_as_before(&before);
	return inserted;
}

/* Statements on the queue for some rows of the table of the pending changes. */
static void
run_for_rows(DsocrStatement *first, DsocrStatement *second, char **keys, int n, const char *new_key)
{
	DsocrAsOwner before;
	Datum values[4];

	dsocr_jobs_as_owner(&before);
	SPI_connect();
	values[0] = ObjectIdGetDatum(pending->source);
	values[1] = CStringGetTextDatum(pending->attachment);
	values[2] = text_array(keys, n);
	values[3] = new_key ? CStringGetTextDatum(new_key) : (Datum) 0;
	dsocr_jobs_execute(first, values, NULL, false);
	if (SPI_processed > 0)
		dsocr_jobs_note_cancelled();
	if (second != NULL)
		dsocr_jobs_execute(second, values, NULL, false);
	SPI_finish();
	dsocr_jobs_as_before(&before);
}

static void
drop_pending(void)
{
	Pending *p = pending;

	pending = p->below;
	MemoryContextDelete(p->context);
}

/* Changes of one kind, from first to last. */
static void
flush_run(int first, int last)
{
	ChangeKind kind = pending->changes[first].kind;
	int n = last - first + 1;
	char **keys = palloc(sizeof(char *) * n);

	for (int i = 0; i < n; i++)
		keys[i] = kind == CHANGE_RENAMED ? pending->changes[first + i].old_key
										 : pending->changes[first + i].key;
	switch (kind)
	{
		case CHANGE_AGAIN:
			run_for_rows(&delete_failures, NULL, keys, n, NULL);
			/* fall through */
		case CHANGE_NEW:
			dsocr_attach_queue(pending->source, pending->attachment, pending->owner,
							   pending->priority, keys, n);
			break;
		case CHANGE_GONE:
			run_for_rows(&delete_jobs, &delete_failures, keys, n, NULL);
			break;
		case CHANGE_RENAMED:
			run_for_rows(&rename_job, &rename_failure, keys, 1, pending->changes[first].key);
			break;
	}
	pfree(keys);
}

static void
flush(void)
{
	int first = 0;

	if (pending == NULL || pending->subxid != GetCurrentSubTransactionId())
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	for (int i = 1; i <= pending->n; i++)
	{
		if (i == pending->n || pending->changes[i].kind != pending->changes[first].kind ||
			pending->changes[i].kind == CHANGE_RENAMED)
		{
			flush_run(first, i - 1);
			first = i;
		}
	}
	PopActiveSnapshot();
	drop_pending();
}

static void
end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		flush();
	else if (event == XACT_EVENT_ABORT)
	{
		while (pending != NULL)
			drop_pending();
		dsocr_attach_writing = false;
	}
}

static void
end_of_subtransaction(SubXactEvent event, SubTransactionId subxid, SubTransactionId parent,
					  void *arg)
{
	if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
		flush();
	else if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (pending != NULL && pending->subxid >= subxid)
			drop_pending();
	}
}

/* ---- the row trigger ---- */

static void
register_callbacks(void)
{
	if (callbacks_registered)
		return;
	RegisterXactCallback(end_of_transaction, NULL);
	RegisterSubXactCallback(end_of_subtransaction, NULL);
	callbacks_registered = true;
}

/* Changes of another attachment go first. */
static void
prepare_pending(const TriggerData *t)
{
	SubTransactionId subxid = GetCurrentSubTransactionId();
	MemoryContext context;
	Pending *p;

	register_callbacks();
	if (pending != NULL && pending->subxid == subxid &&
		(pending->n == MAX_CHANGES || pending->source != RelationGetRelid(t->tg_relation) ||
		 strcmp(pending->attachment, t->tg_trigger->tgname) != 0))
		flush();
	if (pending != NULL && pending->subxid == subxid)
		return;
	context = AllocSetContextCreate(TopTransactionContext, "dsocr changes", ALLOCSET_DEFAULT_SIZES);
	p = MemoryContextAlloc(context, sizeof(Pending));
	p->below = pending;
	p->context = context;
	p->source = RelationGetRelid(t->tg_relation);
	p->owner = RelationGetForm(t->tg_relation)->relowner;
	p->priority = dsocr_priority_of_trigger(t->tg_trigger);
	strlcpy(p->attachment, t->tg_trigger->tgname, NAMEDATALEN);
	p->subxid = subxid;
	p->n = 0;
	pending = p;
}

static void
add_change(const TriggerData *t, ChangeKind kind, const char *key, const char *old_key)
{
	Change *c;

	prepare_pending(t);
	c = &pending->changes[pending->n];
	c->kind = kind;
	c->key = MemoryContextStrdup(pending->context, key);
	c->old_key = old_key ? MemoryContextStrdup(pending->context, old_key) : NULL;
	pending->n++;
}

/* Are these the same bytes?  Most often the toast pointers tell. */
static bool
same_bytes(Datum a, Datum b)
{
	struct varlena *x = (struct varlena *) DatumGetPointer(a);
	struct varlena *y = (struct varlena *) DatumGetPointer(b);
	bool same;

	if (VARATT_IS_EXTERNAL_ONDISK(x) && VARATT_IS_EXTERNAL_ONDISK(y) &&
		memcmp(x, y, VARSIZE_EXTERNAL(x)) == 0)
		return true;
	if (toast_raw_datum_size(a) != toast_raw_datum_size(b))
		return false;
	x = PG_DETOAST_DATUM_PACKED(a);
	y = PG_DETOAST_DATUM_PACKED(b);
	same = memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) == 0;
	if ((Pointer) x != DatumGetPointer(a))
		pfree(x);
	if ((Pointer) y != DatumGetPointer(b))
		pfree(y);
	return same;
}

static bool
column_is_null(TupleTableSlot *slot, AttrNumber column)
{
	return column == 0 || slot_attisnull(slot, column);
}

/* What an UPDATE means for the job of its row. */
static void
note_update(const TriggerData *t, const DsocrParts *parts, const DsocrRowKey *key)
{
	AttrNumber image = parts->column[DSOCR_PART_IMAGE];
	AttrNumber text = parts->column[DSOCR_PART_TEXT];
	char *old_key = dsocr_row_key_of(t->tg_relation, key, t->tg_trigslot);
	char *new_key = dsocr_row_key_of(t->tg_relation, key, t->tg_newslot);
	bool old_null;
	bool new_null;
	Datum old_image = slot_getattr(t->tg_trigslot, image, &old_null);
	Datum new_image = slot_getattr(t->tg_newslot, image, &new_null);
	bool changed = old_null != new_null || (!new_null && !same_bytes(old_image, new_image));

	if (strcmp(old_key, new_key) != 0)
		add_change(t, CHANGE_RENAMED, new_key, old_key);
	if (changed)
		add_change(t, new_null ? CHANGE_GONE : CHANGE_AGAIN, new_key, NULL);
	/* the text taken away: read it again */
	else if (text != 0 && !new_null && !slot_attisnull(t->tg_trigslot, text) &&
			 slot_attisnull(t->tg_newslot, text))
		add_change(t, CHANGE_AGAIN, new_key, NULL);
}

Datum
dsocr_attach_row(PG_FUNCTION_ARGS)
{
	TriggerData *t = (TriggerData *) fcinfo->context;
	DsocrParts parts;
	DsocrRowKey key;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(t->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(t->tg_event) ||
		!dsocr_parts_of_trigger(t->tg_relation, t->tg_trigger, &parts))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("dsocr_attach_row must be called by a trigger of dsocr_attach")));
	if (dsocr_attach_writing)
		return PointerGetDatum(NULL);
	if (!dsocr_row_key_describe(t->tg_relation, &key))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"%s\" has no primary key, but is attached to dsocr",
							   RelationGetRelationName(t->tg_relation)),
						errhint("Add a primary key, or call dsocr_detach.")));
	if (TRIGGER_FIRED_BY_UPDATE(t->tg_event))
		note_update(t, &parts, &key);
	else if (TRIGGER_FIRED_BY_DELETE(t->tg_event))
		add_change(t, CHANGE_GONE, dsocr_row_key_of(t->tg_relation, &key, t->tg_trigslot), NULL);
	/* a row that comes with its text needs no reading */
	else if (!slot_attisnull(t->tg_trigslot, parts.column[DSOCR_PART_IMAGE]) &&
			 column_is_null(t->tg_trigslot, parts.column[DSOCR_PART_TEXT]))
		add_change(t, CHANGE_NEW, dsocr_row_key_of(t->tg_relation, &key, t->tg_trigslot), NULL);
	return PointerGetDatum(NULL);
}

/* ---- the others ---- */

Datum
dsocr_attach_statement(PG_FUNCTION_ARGS)
{
	TriggerData *t = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_STATEMENT(t->tg_event) ||
		t->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("dsocr_attach_statement must be called by a trigger of dsocr_attach")));
	flush();
	if (TRIGGER_FIRED_BY_TRUNCATE(t->tg_event))
		dsocr_attach_forget(RelationGetRelid(t->tg_relation), t->tg_trigger->tgargs[0]);
	return PointerGetDatum(NULL);
}

/* Marks a side table and its columns; its condition is false. */
Datum
dsocr_attach_side(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("dsocr_attach_side must be called by a trigger of dsocr_attach")));
	return PointerGetDatum(NULL);
}
