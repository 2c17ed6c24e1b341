/*-------------------------------------------------------------------------
 *
 * cache_table.c
 *		Answers that are kept in table dsocr.cache.
 *
 * The table is behind the pool in shared memory: it is asked for what is not
 * there, and gets what was read.  There is no unique index, so an insert waits
 * for no other transaction, and two that read the same at the same time leave
 * two rows, of which one is as good as the other.
 *
 * Nobody but the owner of the extension has rights on the table; others get at
 * an answer through its key alone, which they have by having the document.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "cache.h"
#include "jobs.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(dsocr_prune_cache);

/* What is undone after the table was used. */
typedef struct Access
{
	MemoryContext context;
	bool own; /* a transaction of ours */
	Oid user;
	int security;
	DsocrAsOwner before;
} Access;

static void
end_own_transaction(Access *a)
{
	if (!a->own)
		return;
	PopActiveSnapshot();
	CommitTransactionCommand();
	SetUserIdAndSecContext(a->user, a->security);
}

/* The job runner reads outside of transactions.  What it loses by a crash is read again. */
static void
begin_own_transaction(Access *a)
{
	a->own = !IsTransactionState();
	if (!a->own)
		return;
	GetUserIdAndSecContext(&a->user, &a->security);
	SetUserIdAndSecContext(GetSessionUserId(), 0);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
}

/* False when there is no such table: a database without the extension, or an older one. */
static bool
begin(Access *a)
{
	Oid schema;

	a->context = CurrentMemoryContext;
	begin_own_transaction(a);
	schema = get_namespace_oid("dsocr", true);
	if (!OidIsValid(schema) || !OidIsValid(get_relname_relid("cache", schema)))
	{
		end_own_transaction(a);
		MemoryContextSwitchTo(a->context);
		return false;
	}
	dsocr_jobs_as_owner(&a->before);
	SPI_connect();
	return true;
}

static void
end(Access *a)
{
	SPI_finish();
	dsocr_jobs_as_before(&a->before);
	end_own_transaction(a);
	MemoryContextSwitchTo(a->context);
}

static Datum
key_datum(const DsocrCacheKey *key)
{
	bytea *b = palloc(VARHDRSZ + DSOCR_DIGEST_BYTES);

	SET_VARSIZE(b, VARHDRSZ + DSOCR_DIGEST_BYTES);
	memcpy(VARDATA(b), key->hash, DSOCR_DIGEST_BYTES);
	return PointerGetDatum(b);
}

static DsocrStatement select_answer = {
	"SELECT c.answer, c.model FROM dsocr.cache AS c WHERE c.key OPERATOR(pg_catalog.=) $1 LIMIT 1",
	1,
	{BYTEAOID},
	NULL};

static DsocrStatement insert_answer = {
	"INSERT INTO dsocr.cache (key, model, version, answer) VALUES ($1, $2, $3, $4)",
	4,
	{BYTEAOID, TEXTOID, TEXTOID, BYTEAOID},
	NULL};

/* Copy the answer out of the row that was found; it is in the caller's context. */
static void *
copy_answer(const Access *a, Size *len, char *model)
{
	TupleDesc desc = SPI_tuptable->tupdesc;
	HeapTuple row = SPI_tuptable->vals[0];
	bool isnull;
	bytea *answer = DatumGetByteaPP(SPI_getbinval(row, desc, 1, &isnull));
	char *name = SPI_getvalue(row, desc, 2);
	void *body;

	*len = VARSIZE_ANY_EXHDR(answer);
	body = MemoryContextAlloc(a->context, Max(*len, 1));
	memcpy(body, VARDATA_ANY(answer), *len);
	strlcpy(model, name, DSOCR_CACHE_MODEL_BYTES);
	return body;
}

void *
dsocr_cache_table_get(const DsocrCacheKey *key, Size *len, char *model)
{
	Access a;
	Datum values[1];
	void *body = NULL;

	if (!dsocr_cache_table || key->model == 0 || !begin(&a))
		return NULL;
	values[0] = key_datum(key);
	dsocr_jobs_execute(&select_answer, values, NULL, true);
	if (SPI_processed > 0)
		body = copy_answer(&a, len, model);
	end(&a);
	return body;
}

void
dsocr_cache_table_put(const DsocrCacheKey *key, const void *body, Size len, const char *model)
{
	Access a;
	Datum values[4];
	bytea *answer;

	if (!dsocr_cache_table || key->model == 0 || len > MaxAllocSize - VARHDRSZ ||
		RecoveryInProgress() || IsInParallelMode() || (IsTransactionState() && XactReadOnly) ||
		!begin(&a))
		return;
	answer = palloc(VARHDRSZ + len);
	SET_VARSIZE(answer, VARHDRSZ + len);
	memcpy(VARDATA(answer), body, len);
	values[0] = key_datum(key);
	values[1] = CStringGetTextDatum(model);
	values[2] = CStringGetTextDatum(DSOCR_VERSION);
	values[3] = PointerGetDatum(answer);
	dsocr_jobs_execute(&insert_answer, values, NULL, false);
	end(&a);
}

static DsocrStatement delete_answers = {
	"DELETE FROM dsocr.cache AS c WHERE c.created OPERATOR(pg_catalog.<=)"
	" (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) $1)"
	" OR c.version OPERATOR(pg_catalog.<>) $2"
	" OR EXISTS (SELECT FROM dsocr.cache AS o WHERE o.key OPERATOR(pg_catalog.=) c.key"
	" AND o.ctid OPERATOR(pg_catalog.>) c.ctid)",
	2,
	{INTERVALOID, TEXTOID},
	NULL};

/*
 * dsocr_cache_prune(older_than interval) returns int8: the number of rows that
 * were deleted: older ones, of another version, and those that are there
 * twice.  Not for PUBLIC.
 */
Datum
dsocr_prune_cache(PG_FUNCTION_ARGS)
{
	Access a;
	Datum values[] = {PG_GETARG_DATUM(0), CStringGetTextDatum(DSOCR_VERSION)};
	int64 n;

	if (!begin(&a))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table dsocr.cache does not exist"),
				 errhint("Run CREATE EXTENSION dsocr, or ALTER EXTENSION dsocr UPDATE.")));
	dsocr_jobs_execute(&delete_answers, values, NULL, false);
	n = (int64) SPI_processed;
	end(&a);
	PG_RETURN_INT64(n);
}
