/*-------------------------------------------------------------------------
 *
 * jobs.c
 *		Durable jobs: what backends do with them.
 *
 * A job is queued, cancelled and queued again as rows, with the transaction
 * of the caller.  What the runner of the database has to hear of is collected
 * in this process and published when the transaction has committed; ids of
 * subtransactions that were rolled back may be among it and are not found.
 *
 * The functions belong to nobody's rights: they look at who calls, and touch
 * the tables as the tables' owner.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "jobs.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "optimizer/cost.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(dsocr_cancel);
PG_FUNCTION_INFO_V1(dsocr_retry_one);
PG_FUNCTION_INFO_V1(dsocr_retry_all);
PG_FUNCTION_INFO_V1(dsocr_quarantine_clear);
PG_FUNCTION_INFO_V1(dsocr_job_check);
PG_FUNCTION_INFO_V1(dsocr_job_queued);

bool dsocr_jobs_noting = false;

/* Of this transaction. */
static DsocrJobIds noted;
static bool noted_any = false;
static bool noted_cancelled = false;
static bool callback_registered = false;

/* ---- telling the runner ---- */

static void
forget_notes(void)
{
	dsocr_job_ids_clear(&noted);
	noted_any = noted_cancelled = false;
}

/*
 * A prepared transaction is told like a committed one: the runner does not
 * find its jobs, but sees that one is prepared and looks again.
 */
static void
end_of_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			if (noted_any || noted_cancelled)
				dsocr_jobs_publish(&noted, noted_cancelled, event == XACT_EVENT_PREPARE);
			break;
		case XACT_EVENT_ABORT:
			break;
		default:
			return;
	}
	if (noted_any || noted_cancelled)
		forget_notes();
	dsocr_jobs_noting = false;
}

static void
watch_transaction(void)
{
	if (callback_registered)
		return;
	forget_notes();
	RegisterXactCallback(end_of_transaction, NULL);
	callback_registered = true;
}

void
dsocr_jobs_note(int priority, Oid owner, int64 id)
{
	watch_transaction();
	dsocr_job_ids_add(&noted, dsocr_job_lane(priority, owner), id, id);
	noted_any = true;
}

void
dsocr_jobs_note_all(void)
{
	watch_transaction();
	dsocr_job_range_add(&noted.anywhere, 1, PG_INT64_MAX);
	noted_any = true;
}

void
dsocr_jobs_note_cancelled(void)
{
	watch_transaction();
	noted_cancelled = true;
}

/* ---- claims ---- */

/* Advisory locks of a class that no function of the server takes. */
#define CLAIM_CLASS 4

static LOCKTAG
claim_tag(int64 id)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (id >> 32), (uint32) id, CLAIM_CLASS);
	return tag;
}

bool
dsocr_jobs_lock(int64 id)
{
	LOCKTAG tag = claim_tag(id);

	/* what this session has already is not to be counted twice */
	return !dsocr_jobs_has_lock(id) &&
		   LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
dsocr_jobs_unlock(int64 id)
{
	LOCKTAG tag = claim_tag(id);

	if (dsocr_jobs_has_lock(id))
		(void) LockRelease(&tag, ExclusiveLock, true);
}

bool
dsocr_jobs_has_lock(int64 id)
{
	LOCKTAG tag = claim_tag(id);

	return dsocr_lock_is_held(&tag, ExclusiveLock);
}

/* ---- whose rights ---- */

static void
switch_user(Oid user, int flags, DsocrAsOwner *before)
{
	GetUserIdAndSecContext(&before->user, &before->context);
	SetUserIdAndSecContext(user, before->context | flags);
	before->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
dsocr_jobs_as_owner(DsocrAsOwner *before)
{
	Oid schema = get_namespace_oid("dsocr", false);
	Oid table = get_relname_relid("job_queue", schema);
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table dsocr.job_queue does not exist"),
				 errhint("Run CREATE EXTENSION dsocr, or ALTER EXTENSION dsocr UPDATE.")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	switch_user(owner, SECURITY_LOCAL_USERID_CHANGE, before);
}

void
dsocr_jobs_as_role(Oid role, DsocrAsOwner *before)
{
	switch_user(role, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION, before);
}

void
dsocr_jobs_as_before(const DsocrAsOwner *before)
{
	AtEOXact_GUC(false, before->guc_level);
	SetUserIdAndSecContext(before->user, before->context);
}

/* ---- statements ---- */

/*
 * The queue is empty when most plans are made, and a scan of an empty table is
 * cheap: later it would go over all rows that are dead and not removed yet.
 */
static int
execute_by_index(SPIPlanPtr plan, Datum *values, const char *nulls, bool read_only)
{
	bool seqscan = enable_seqscan;
	volatile int rc = 0;

	PG_TRY();
	{
		enable_seqscan = false;
		rc = SPI_execute_plan(plan, values, nulls, read_only, 0);
	}
	PG_FINALLY();
	{
		enable_seqscan = seqscan;
	}
	PG_END_TRY();
	return rc;
}

void
dsocr_jobs_plan_by_index(void)
{
	static const char *const off[] = {"enable_bitmapscan", "enable_sort"};

	for (int i = 0; i < lengthof(off); i++)
		(void) set_config_option(off[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
								 0, false);
}

int
dsocr_jobs_execute(DsocrStatement *statement, Datum *values, const char *nulls, bool read_only)
{
	int rc;

	if (statement->plan == NULL)
	{
		/* Planning for the values at hand would look for the ends of indexes, over dead rows. */
		SPIPlanPtr plan = SPI_prepare_cursor(statement->text, statement->n_types, statement->types,
											 CURSOR_OPT_GENERIC_PLAN);

		if (plan == NULL)
			elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		statement->plan = plan;
	}
	rc = execute_by_index(statement->plan, values, nulls, read_only);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
	return rc;
}

/* Note the jobs (id, priority, owner) that the last statement returned. */
static void
note_returned(void)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		bool isnull;
		int64 id = DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
		int priority = DatumGetInt16(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull));
		Oid owner = DatumGetObjectId(SPI_getbinval(row, SPI_tuptable->tupdesc, 3, &isnull));

		dsocr_jobs_note(priority, owner, id);
	}
}

/* Run a statement in the name of the tables' owner; the number of its rows. */
static uint64
run_as_owner(DsocrStatement *statement, Datum *values, const char *nulls, bool note)
{
	DsocrAsOwner before;
	uint64 n;

	dsocr_jobs_as_owner(&before);
	SPI_connect();
	dsocr_jobs_noting = note;
	dsocr_jobs_execute(statement, values, nulls, false);
	dsocr_jobs_noting = false;
	n = SPI_processed;
	if (note)
		note_returned();
	SPI_finish();
	dsocr_jobs_as_before(&before);
	return n;
}

/* ---- cancel, retry ---- */

static DsocrStatement cancel_queued = {
	"WITH gone AS (DELETE FROM dsocr.job_queue AS q"
	" WHERE q.id OPERATOR(pg_catalog.=) $1 AND pg_catalog.pg_has_role($2, q.owner, 'USAGE')"
	" RETURNING q.*)"
	" INSERT INTO dsocr.job_done (id, priority, attempts, owner, queued, cancelled, source, key,"
	" source_column)"
	" SELECT g.id, g.priority, g.attempts, g.owner, g.queued, true, g.source, g.key,"
	" g.source_column FROM gone AS g",
	2,
	{INT8OID, OIDOID},
	NULL};

static DsocrStatement cancel_failed = {
	"WITH gone AS (DELETE FROM dsocr.job_failed AS q"
	" WHERE q.id OPERATOR(pg_catalog.=) $1 AND pg_catalog.pg_has_role($2, q.owner, 'USAGE')"
	" RETURNING q.*)"
	" INSERT INTO dsocr.job_done (id, priority, attempts, owner, queued, cancelled, source, key,"
	" source_column)"
	" SELECT g.id, g.priority, g.attempts, g.owner, g.queued, true, g.source, g.key,"
	" g.source_column FROM gone AS g",
	2,
	{INT8OID, OIDOID},
	NULL};

#define RETRY(condition)                                                                           \
	"WITH back AS (DELETE FROM dsocr.job_failed AS f WHERE " condition " RETURNING f.*)"           \
	" INSERT INTO dsocr.job_queue (id, priority, owner, queued, source, attachment, key,"          \
	" source_column, options, document)"                                                           \
	" SELECT b.id, b.priority, b.owner, b.queued, b.source, b.attachment, b.key, b.source_column," \
	" b.options, b.document FROM back AS b ORDER BY b.id"                                          \
	" ON CONFLICT DO NOTHING RETURNING id, priority, owner"

static DsocrStatement retry_one = {RETRY("f.id OPERATOR(pg_catalog.=) $2 AND "
										 "pg_catalog.pg_has_role($1, f.owner, 'USAGE')"),
								   2,
								   {OIDOID, INT8OID},
								   NULL};

static DsocrStatement retry_all = {
	RETRY("pg_catalog.pg_has_role($1, f.owner, 'USAGE')"), 1, {OIDOID}, NULL};

static DsocrStatement clear_quarantine = {
	"DELETE FROM dsocr.job_quarantine AS q WHERE $1 IS NULL OR q.hash OPERATOR(pg_catalog.=) $1",
	1,
	{BYTEAOID},
	NULL};

Datum
dsocr_cancel(PG_FUNCTION_ARGS)
{
	Datum values[] = {PG_GETARG_DATUM(0), ObjectIdGetDatum(GetUserId())};

	if (run_as_owner(&cancel_queued, values, NULL, false) == 0)
	{
		if (run_as_owner(&cancel_failed, values, NULL, false) > 0)
			PG_RETURN_BOOL(true);
		/* It may have failed before, and been queued again while we waited for that row. */
		if (run_as_owner(&cancel_queued, values, NULL, false) == 0)
			PG_RETURN_BOOL(false);
	}
	dsocr_jobs_note_cancelled();
	PG_RETURN_BOOL(true);
}

Datum
dsocr_retry_one(PG_FUNCTION_ARGS)
{
	Datum values[] = {ObjectIdGetDatum(GetUserId()), PG_GETARG_DATUM(0)};

	PG_RETURN_BOOL(run_as_owner(&retry_one, values, NULL, true) > 0);
}

Datum
dsocr_retry_all(PG_FUNCTION_ARGS)
{
	Datum values[] = {ObjectIdGetDatum(GetUserId())};

	PG_RETURN_INT64(run_as_owner(&retry_all, values, NULL, true));
}

Datum
dsocr_quarantine_clear(PG_FUNCTION_ARGS)
{
	Datum values[] = {PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0)};
	uint64 n = run_as_owner(&clear_quarantine, values, PG_ARGISNULL(0) ? "n" : NULL, false);

	/* A runner that is there has the list in its memory. */
	dsocr_jobs_note_cancelled();
	PG_RETURN_INT64(n);
}

/* ---- rows from elsewhere ---- */

Datum
dsocr_job_check(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	int attribute;
	bool isnull;
	Oid owner;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("dsocr_job_check must be called by a trigger before INSERT")));
	if (GetUserId() == RelationGetForm(trigger->tg_relation)->relowner || superuser())
		return PointerGetDatum(trigger->tg_trigtuple);

	attribute = SPI_fnumber(RelationGetDescr(trigger->tg_relation), "owner");
	if (attribute <= 0)
		elog(ERROR, "table of jobs has no owners");
	owner = DatumGetObjectId(SPI_getbinval(
		trigger->tg_trigtuple, RelationGetDescr(trigger->tg_relation), attribute, &isnull));
	if (isnull || !is_member_of_role(GetUserId(), owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to queue a job for role \"%s\"",
							   isnull ? "" : GetUserNameFromId(owner, true) ?: "unknown"),
						errhint("Jobs of other roles can be restored by a superuser.")));
	return PointerGetDatum(trigger->tg_trigtuple);
}

Datum
dsocr_job_queued(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("dsocr_job_queued must be called by a trigger")));
	if (!dsocr_jobs_noting)
		dsocr_jobs_note_all();
	return PointerGetDatum(NULL);
}
