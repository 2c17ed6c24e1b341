/*-------------------------------------------------------------------------
 *
 * jobs_enqueue.c
 *		dsocr_enqueue and dsocr_wait.
 *
 * What can be known to be wrong is refused when the job is queued; whether a
 * document can be read turns out when it runs.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "jobs.h"

#include "access/detoast.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rangetypes.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "attachment.h"
#include "layout.h"
#include "read.h"
#include "reading.h"
#include "shmem.h"

PG_FUNCTION_INFO_V1(dsocr_enqueue_document);
PG_FUNCTION_INFO_V1(dsocr_enqueue_row);
PG_FUNCTION_INFO_V1(dsocr_wait);

#define WAIT_LIMIT_MS 2000 /* a waiting backend looks at least so often */

/* ---- options ---- */

/* Arguments (prompt, mode, pages, max_tokens, dpi) from n on; NULL when none is given. */
typedef struct OptionArguments
{
	FunctionCallInfo fcinfo;
	JsonbParseState *state;
	int n;
	bool any;
} OptionArguments;

static bool
given(OptionArguments *a, int offset)
{
	return !a->fcinfo->args[a->n + offset].isnull;
}

static Datum
argument(OptionArguments *a, int offset)
{
	return a->fcinfo->args[a->n + offset].value;
}

static void
push_pages(OptionArguments *a)
{
	RangeType *pages = DatumGetRangeTypeP(argument(a, 2));
	TypeCacheEntry *type = range_get_typcache(a->fcinfo, RangeTypeGetOid(pages));
	RangeBound lower;
	RangeBound upper;
	bool empty;

	range_deserialize(type, pages, &lower, &upper, &empty);
	if (empty || (!upper.infinite && DatumGetInt32(upper.val) <= 1))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("pages must contain a page, the first of which is 1")));
	if (!lower.infinite)
		dsocr_json_int(&a->state, "first_page", Max(DatumGetInt32(lower.val), 1));
	if (!upper.infinite)
		dsocr_json_int(&a->state, "last_page", DatumGetInt32(upper.val) - 1);
}

static void
push_number(OptionArguments *a, int offset, const char *name, int limit)
{
	int value = DatumGetInt32(argument(a, offset));

	if (value <= 0 || value > limit)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s must be between 1 and %d", name, limit)));
	dsocr_json_int(&a->state, name, value);
}

static Datum
options_argument(FunctionCallInfo fcinfo, int n, bool *isnull)
{
	OptionArguments a = {.fcinfo = fcinfo, .n = n};

	*isnull = true;
	for (int i = 0; i < 5; i++)
	{
		if (given(&a, i))
			*isnull = false;
	}
	if (*isnull)
		return (Datum) 0;

	pushJsonbValue(&a.state, WJB_BEGIN_OBJECT, NULL);
	if (given(&a, 0))
	{
		if (toast_raw_datum_size(argument(&a, 0)) - VARHDRSZ > DSOCR_MAX_PROMPT_BYTES)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("prompt is longer than %d bytes", DSOCR_MAX_PROMPT_BYTES)));
		dsocr_json_text(&a.state, "prompt", TextDatumGetCString(argument(&a, 0)));
	}
	if (given(&a, 1))
		dsocr_json_text(
			&a.state, "mode",
			(char *) dsocr_mode_names[dsocr_mode_from_enum(DatumGetObjectId(argument(&a, 1)))]);
	if (given(&a, 2))
		push_pages(&a);
	if (given(&a, 3))
		push_number(&a, 3, "max_tokens", PG_INT32_MAX);
	if (given(&a, 4))
		push_number(&a, 4, "dpi", DSOCR_MAX_DPI);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&a.state, WJB_END_OBJECT, NULL)));
}

static int
priority_argument(FunctionCallInfo fcinfo, int n)
{
	int priority = PG_ARGISNULL(n) ? DSOCR_JOB_PRIORITY_DEFAULT : PG_GETARG_INT32(n);

	if (priority < 0 || priority >= DSOCR_JOB_PRIORITIES)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("priority must be between 0 and %d", DSOCR_JOB_PRIORITIES - 1)));
	return priority;
}

/* ---- enqueue ---- */

enum
{
	COL_PRIORITY,
	COL_OWNER,
	COL_NOT_BEFORE,
	COL_SOURCE,
	COL_KEY,
	COL_COLUMN,
	COL_OPTIONS,
	COL_DOCUMENT,
	N_COLS
};

static DsocrStatement insert_job = {
	"INSERT INTO dsocr.job_queue (priority, owner, not_before, source, key, source_column,"
	" options, document) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
	N_COLS,
	{INT2OID, OIDOID, TIMESTAMPTZOID, OIDOID, TEXTOID, TEXTOID, JSONBOID, BYTEAOID},
	NULL};

/* The options begin at argument n. */
static Datum
enqueue(FunctionCallInfo fcinfo, int n, Datum *values, char *nulls)
{
	int priority = priority_argument(fcinfo, n + 5);
	DsocrAsOwner before;
	bool no_options;
	bool isnull;
	int64 id;

	dsocr_require_preload();
	values[COL_PRIORITY] = Int16GetDatum(priority);
	values[COL_OWNER] = ObjectIdGetDatum(GetUserId());
	values[COL_NOT_BEFORE] = fcinfo->args[n + 6].value;
	values[COL_OPTIONS] = options_argument(fcinfo, n, &no_options);
	nulls[COL_PRIORITY] = nulls[COL_OWNER] = ' ';
	nulls[COL_NOT_BEFORE] = PG_ARGISNULL(n + 6) ? 'n' : ' ';
	nulls[COL_OPTIONS] = no_options ? 'n' : ' ';

	dsocr_jobs_as_owner(&before);
	SPI_connect();
	dsocr_jobs_noting = true;
	dsocr_jobs_execute(&insert_job, values, nulls, false);
	dsocr_jobs_noting = false;
	id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	dsocr_jobs_as_before(&before);
	dsocr_jobs_note(priority, GetUserId(), id);
	PG_RETURN_INT64(id);
}

Datum
dsocr_enqueue_document(PG_FUNCTION_ARGS)
{
	Datum values[N_COLS] = {0};
	char nulls[N_COLS];
	Size size;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	size = toast_raw_datum_size(PG_GETARG_DATUM(0)) - VARHDRSZ;
	if (size == 0 || size > dsocr_jobs_max_bytes())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 size == 0 ? errmsg("document is empty")
						   : errmsg("document has %zu bytes, more than dsocr.max_document_bytes",
									(size_t) size)));
	memset(nulls, 'n', sizeof(nulls));
	values[COL_DOCUMENT] = PG_GETARG_DATUM(0);
	nulls[COL_DOCUMENT] = ' ';
	return enqueue(fcinfo, 1, values, nulls);
}

Datum
dsocr_enqueue_row(PG_FUNCTION_ARGS)
{
	Datum values[N_COLS] = {0};
	char nulls[N_COLS];

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	memset(nulls, 'n', sizeof(nulls));
	values[COL_SOURCE] = PG_GETARG_DATUM(0);
	values[COL_KEY] = CStringGetTextDatum(dsocr_row_key_from_jsonb(
		PG_GETARG_OID(0), PG_GETARG_JSONB_P(1), NameStr(*PG_GETARG_NAME(2))));
	values[COL_COLUMN] = CStringGetTextDatum(NameStr(*PG_GETARG_NAME(2)));
	nulls[COL_SOURCE] = nulls[COL_KEY] = nulls[COL_COLUMN] = ' ';
	return enqueue(fcinfo, 3, values, nulls);
}

/* ---- wait ---- */

static DsocrStatement look_at_job = {
	"SELECT 'q'::pg_catalog.text, q.owner::pg_catalog.oid, NULL::pg_catalog.jsonb, q.error,"
	" q.sqlstate, q.attempts, q.xmin FROM dsocr.job_queue AS q"
	" WHERE q.id OPERATOR(pg_catalog.=) $1"
	" UNION ALL SELECT 'f', f.owner, NULL, f.error, f.sqlstate, f.attempts, NULL"
	" FROM dsocr.job_failed AS f WHERE f.id OPERATOR(pg_catalog.=) $1"
	" UNION ALL SELECT CASE WHEN d.cancelled THEN 'c' ELSE 'd' END, d.owner, d.result, NULL, NULL,"
	" d.attempts, NULL FROM dsocr.job_done AS d WHERE d.id OPERATOR(pg_catalog.=) $1",
	1,
	{INT8OID},
	NULL};

typedef struct JobState
{
	char state; /* q(ueued), f(ailed), c(ancelled), d(one), 0: there is none */
	bool uncommitted;
	int attempts;
	Jsonb *result;
	char *error;
	char *sqlstate;
} JobState;

static char *
column_text(int n, MemoryContext context)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, n);

	return value == NULL ? NULL : MemoryContextStrdup(context, value);
}

/* Where the job stands now, whatever the snapshot of the transaction. */
static void
look(int64 id, JobState *s)
{
	MemoryContext context = CurrentMemoryContext;
	Oid caller = GetUserId();
	Datum values[] = {Int64GetDatum(id)};
	DsocrAsOwner before;

	memset(s, 0, sizeof(*s));
	dsocr_jobs_as_owner(&before);
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	dsocr_jobs_execute(&look_at_job, values, NULL, true);
	if (SPI_processed > 0)
	{
		HeapTuple row = SPI_tuptable->vals[0];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		Datum result = SPI_getbinval(row, desc, 3, &isnull);
		Datum xmin;

		s->state = SPI_getvalue(row, desc, 1)[0];
		if (!isnull)
		{
			MemoryContext spi = MemoryContextSwitchTo(context);

			s->result = (Jsonb *) PG_DETOAST_DATUM_COPY(result);
			MemoryContextSwitchTo(spi);
		}
		s->error = column_text(4, context);
		s->sqlstate = column_text(5, context);
		s->attempts = DatumGetInt16(SPI_getbinval(row, desc, 6, &isnull));
		xmin = SPI_getbinval(row, desc, 7, &isnull);
		s->uncommitted =
			!isnull && TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin));
		/* who may not see it learns nothing of it */
		if (!has_privs_of_role(caller, DatumGetObjectId(SPI_getbinval(row, desc, 2, &isnull))))
			s->state = 0;
	}
	PopActiveSnapshot();
	SPI_finish();
	dsocr_jobs_as_before(&before);
}

static void
raise_failed(int64 id, const JobState *s)
{
	const char *c = s->sqlstate;
	int code =
		strlen(c) == 5 ? MAKE_SQLSTATE(c[0], c[1], c[2], c[3], c[4]) : ERRCODE_INTERNAL_ERROR;

	ereport(ERROR, (errcode(code), errmsg_internal("%s", s->error),
					errdetail_plural("Job %lld failed after %d attempt.",
									 "Job %lld failed after %d attempts.", s->attempts,
									 (long long) id, s->attempts)));
}

static Datum
result_of_json(FunctionCallInfo fcinfo, Jsonb *json)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid type = get_func_rettype(fcinfo->flinfo->fn_oid);
	Oid types[] = {JSONBOID};
	Datum values[] = {JsonbPGetDatum(json)};
	Datum result = (Datum) 0;
	bool isnull = true;
	char *query = psprintf("SELECT pg_catalog.jsonb_populate_record(NULL::%s, $1)",
						   format_type_be_qualified(type));

	SPI_connect();
	if (SPI_execute_with_args(query, 1, types, values, NULL, true, 1) == SPI_OK_SELECT &&
		SPI_processed == 1)
	{
		result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		if (!isnull)
		{
			MemoryContext spi = MemoryContextSwitchTo(caller);

			result = datumCopy(result, false, -1);
			MemoryContextSwitchTo(spi);
		}
	}
	SPI_finish();
	if (isnull)
		PG_RETURN_NULL();
	return result;
}

static TimestampTz
deadline_argument(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		return DT_NOEND;
	return DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()), PG_GETARG_DATUM(n)));
}

Datum
dsocr_wait(PG_FUNCTION_ARGS)
{
	TimestampTz deadline;
	int64 id;
	JobState s;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	dsocr_require_preload();
	id = PG_GETARG_INT64(0);
	deadline = deadline_argument(fcinfo, 1);
	for (;;)
	{
		TimestampTz now;

		dsocr_jobs_prepare_wait(id);
		look(id, &s);
		if (s.state != 'q')
			break;
		if (s.uncommitted)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("job %lld was queued by this transaction", (long long) id),
							errhint("Jobs run when they are committed: wait in a transaction that "
									"begins later.")));
		now = GetCurrentTimestamp();
		if (now >= deadline)
			ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
							errmsg("job %lld has not ended within the timeout", (long long) id),
							s.error ? errdetail("Attempt %d failed: %s", s.attempts, s.error) : 0));
		(void) dsocr_jobs_wait(
			id, Min(TimestampDifferenceMilliseconds(now, deadline) + 1, WAIT_LIMIT_MS));
	}
	dsocr_jobs_end_wait();

	if (s.state == 'f')
		raise_failed(id, &s);
	if (s.state == 'c')
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
						errmsg("job %lld was cancelled", (long long) id)));
	if (s.state == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("job %lld does not exist", (long long) id),
						errhint("Ended jobs are kept for dsocr.keep_jobs.")));
	if (s.result == NULL)
		PG_RETURN_NULL();
	return result_of_json(fcinfo, s.result);
}
