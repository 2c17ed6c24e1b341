/*-------------------------------------------------------------------------
 *
 * runner_claim.c
 *		Jobs that begin next, and their documents.
 *
 * Of each lane it goes through the ranges that it has not seen yet once, in
 * order.  So a claim costs as much as there are jobs in it, however many dead
 * rows lie behind, for example because an old snapshot keeps them from being
 * removed, and however many jobs wait in other lanes.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner.h"
#include "runner_order.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "utils/array.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define LOCKED_PAUSE_MS 500	  /* before a row that somebody has locked is looked at again */
#define CLAIMED_PAUSE_MS 2000 /* before a job that another session has claimed is */
#define HELD_PAUSE_MS 20	  /* before roles that may have no more are */

/* ---- quarantine ---- */

void
dsocr_runner_hash(Datum document, uint8 *hash)
{
	struct varlena *bytes = (struct varlena *) DatumGetPointer(document);
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	StaticAssertStmt(DSOCR_HASH_BYTES == PG_SHA256_DIGEST_LENGTH, "size of a hash");
	if (pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) VARDATA_ANY(bytes),
							 VARSIZE_ANY_EXHDR(bytes)) < 0 ||
		pg_cryptohash_final(context, hash, DSOCR_HASH_BYTES) < 0)
		elog(ERROR, "could not compute a hash: %s", pg_cryptohash_error(context));
	pg_cryptohash_free(context);
}

static DsocrStatement select_quarantine = {
	"SELECT q.hash FROM dsocr.job_quarantine AS q", 0, {0}, NULL};

/* Inside SPI_connect, as the tables' owner. */
static void
load_quarantine(DsocrRunner *r)
{
	HASHCTL control = {
		.keysize = DSOCR_HASH_BYTES, .entrysize = DSOCR_HASH_BYTES, .hcxt = r->context};
	Oid queue;

	if (r->quarantine != NULL)
		return;
	/* the queue first, as everybody who locks both: DROP EXTENSION */
	queue = get_relname_relid("job_queue", get_namespace_oid("dsocr", false));
	if (OidIsValid(queue))
		LockRelationOid(queue, AccessShareLock);
	dsocr_jobs_execute(&select_quarantine, NULL, NULL, true);
	r->quarantine =
		hash_create("dsocr quarantine", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		bytea *hash = DatumGetByteaPP(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		if (VARSIZE_ANY_EXHDR(hash) == DSOCR_HASH_BYTES)
			hash_search(r->quarantine, VARDATA_ANY(hash), HASH_ENTER, NULL);
	}
}

bool
dsocr_runner_in_quarantine(DsocrRunner *r, Datum document)
{
	uint8 hash[DSOCR_HASH_BYTES];

	if (r->quarantine == NULL || hash_get_num_entries(r->quarantine) == 0)
		return false;
	dsocr_runner_hash(document, hash);
	return hash_search(r->quarantine, hash, HASH_FIND, NULL) != NULL;
}

/* ---- claim ---- */

static DsocrStatement select_jobs = {
	"SELECT q.id, q.attempts, q.owner::pg_catalog.oid, q.not_before, q.source::pg_catalog.oid,"
	" q.attachment, q.key, q.source_column, q.options, q.document FROM dsocr.job_queue AS q"
	" WHERE " DSOCR_ORDER_LANE " OPERATOR(pg_catalog.=) $1"
	" AND " DSOCR_ORDER_ID " OPERATOR(pg_catalog.>=) $2"
	" AND " DSOCR_ORDER_ID " OPERATOR(pg_catalog.<=) $3"
	" ORDER BY " DSOCR_ORDER_ID " LIMIT $4",
	4,
	{INT8OID, INT8OID, INT8OID, INT8OID},
	NULL};

enum
{
	COL_ID = 1,
	COL_ATTEMPTS,
	COL_OWNER,
	COL_NOT_BEFORE,
	COL_SOURCE,
	COL_ATTACHMENT,
	COL_KEY,
	COL_COLUMN,
	COL_OPTIONS,
	COL_DOCUMENT
};

static char *
text_column(HeapTuple row, TupleDesc desc, int n)
{
	bool isnull;
	Datum datum = SPI_getbinval(row, desc, n, &isnull);

	return isnull ? NULL : TextDatumGetCString(datum);
}

/* A job in a context of its own; the document of a queued one is fetched. */
static DsocrRunnerJob *
job_create(DsocrRunner *r, HeapTuple row, TupleDesc desc, int64 lane)
{
	MemoryContext context = AllocSetContextCreate(r->context, "dsocr job", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	DsocrRunnerJob *job = palloc0(sizeof(DsocrRunnerJob));
	bool isnull;
	Datum datum;

	job->context = context;
	job->id = DatumGetInt64(SPI_getbinval(row, desc, COL_ID, &isnull));
	job->lane = lane;
	job->attempts = DatumGetInt16(SPI_getbinval(row, desc, COL_ATTEMPTS, &isnull));
	job->owner = job->role = DatumGetObjectId(SPI_getbinval(row, desc, COL_OWNER, &isnull));
	datum = SPI_getbinval(row, desc, COL_SOURCE, &isnull);
	job->source = isnull ? InvalidOid : DatumGetObjectId(datum);
	job->attachment = text_column(row, desc, COL_ATTACHMENT);
	job->key = text_column(row, desc, COL_KEY);
	job->source_column = text_column(row, desc, COL_COLUMN);
	datum = SPI_getbinval(row, desc, COL_OPTIONS, &isnull);
	if (!isnull)
		job->options = (Jsonb *) PG_DETOAST_DATUM_COPY(datum);
	job->started = GetCurrentTimestamp();
	dsocr_runner_watch_pages(job);
	MemoryContextSwitchTo(caller);
	return job;
}

/* Documents larger than that are refused when they are read: no need to fetch them. */
static bool
too_large(Datum document)
{
	return toast_raw_datum_size(document) - VARHDRSZ > dsocr_jobs_max_bytes();
}

/* Fetch the document that lies in the queue itself. */
static void
fetch_document(DsocrRunner *r, DsocrRunnerJob *job, HeapTuple row, TupleDesc desc)
{
	bool isnull;
	Datum document = SPI_getbinval(row, desc, COL_DOCUMENT, &isnull);

	if (isnull)
		dsocr_runner_fail_job(r, job, "job has no document", "22004", true);
	else if (too_large(document))
		dsocr_runner_fail_job(r, job, "document is larger than dsocr.max_document_bytes", "22P03",
							  true);
	else
	{
		MemoryContext caller = MemoryContextSwitchTo(job->context);

		job->document = PointerGetDatum(PG_DETOAST_DATUM_COPY(document));
		job->bytes = VARSIZE_ANY(DatumGetPointer(job->document));
		MemoryContextSwitchTo(caller);
	}
}

/* Fetch what the job reads; true: it can begin. */
static bool
prepare_job(DsocrRunner *r, DsocrRunnerJob *job, HeapTuple row, TupleDesc desc)
{
	DsocrRowState state = DSOCR_ROW_OK;

	if (OidIsValid(job->source))
		state = dsocr_runner_fetch_row(r, job);
	else
		fetch_document(r, job, row, desc);
	r->bytes += job->bytes;
	if (state == DSOCR_ROW_LOCKED)
	{
		r->bytes -= job->bytes;
		dsocr_runner_wait_for(r, job->id, job->lane,
							  TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOCKED_PAUSE_MS));
		dsocr_jobs_unlock(job->id);
		MemoryContextDelete(job->context);
		return false;
	}
	job->dropped = state == DSOCR_ROW_GONE;
	if (state != DSOCR_ROW_OK)
		dsocr_runner_end_job(r, job);
	if (state != DSOCR_ROW_OK || job->error != NULL)
		return false;
	if (dsocr_runner_in_quarantine(r, job->document))
	{
		dsocr_runner_fail_job(
			r, job,
			"document is in quarantine: engines died of it (dsocr_quarantine_clear "
			"lets it be read again)",
			"58000", true);
		return false;
	}
	return true;
}

void
dsocr_runner_job_options(DsocrRunnerJob *job, DsocrReadOptions *options)
{
	dsocr_read_options_init(options);
	options->priority = DSOCR_BULK;
	options->auto_rotate = dsocr_auto_rotate != DSOCR_ROTATE_OFF;
	dsocr_runner_read_options(job->options, options);
	job->plain = options->task == DSOCR_TASK_GENERATE;
}

/* Let it be read; no transaction is open. */
static void
begin_job(DsocrRunner *r, DsocrRunnerJob *job)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	DsocrReadOptions options;

	dsocr_runner_job_options(job, &options);
	job->reading = dsocr_reading_create(&options, job->document);
	MemoryContextSwitchTo(caller);
	dlist_push_tail(&r->reading, &job->node);
	r->n_reading++;
}

static DsocrStatement find_job = {
	"SELECT q.attempts FROM dsocr.job_queue AS q WHERE q.id OPERATOR(pg_catalog.=) $1",
	1,
	{INT8OID},
	NULL};

/* Since the snapshot that showed it somebody else may have ended it, or an attempt. */
static bool
is_as_it_was(int64 id, int attempts)
{
	Datum values[] = {Int64GetDatum(id)};
	bool isnull;
	bool same;

	PushActiveSnapshot(GetLatestSnapshot());
	dsocr_jobs_execute(&find_job, values, NULL, true);
	same = SPI_processed > 0 &&
		   DatumGetInt16(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) ==
			   attempts;
	SPI_freetuptable(SPI_tuptable);
	PopActiveSnapshot();
	return same;
}

/* Make it ours, so that nobody else reads it at the same time; if not now, look later. */
static bool
claim_job(DsocrRunner *r, int64 id, int64 lane, int attempts)
{
	if (dsocr_jobs_lock(id))
	{
		if (is_as_it_was(id, attempts))
			return true;
		dsocr_jobs_unlock(id);
	}
	dsocr_runner_wait_for(r, id, lane,
						  TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CLAIMED_PAUSE_MS));
	return false;
}

/* Documents may be for workers on other hosts alone, but nobody else queues rows. */
static bool
is_ours(const DsocrRunner *r, HeapTuple row, TupleDesc desc)
{
	bool no_attachment;
	bool no_key;

	if (r->remote || dsocr_run_jobs == DSOCR_RUN_ALL)
		return true;
	(void) SPI_getbinval(row, desc, COL_ATTACHMENT, &no_attachment);
	(void) SPI_getbinval(row, desc, COL_KEY, &no_key);
	return !no_attachment && no_key;
}

/* A request for the rows of a table, which the runner queues, one table at a time. */
static void
take_request(DsocrRunner *r, DsocrRunnerJob *job)
{
	dsocr_jobs_unlock(job->id);
	if (!r->remote && r->backfill == NULL)
		dsocr_runner_begin_backfill(r, job->id, job->lane, job->source, job->attachment);
	else
		dsocr_runner_wait_for(
			r, job->id, job->lane,
			TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										r->remote ? CLAIMED_PAUSE_MS : LOCKED_PAUSE_MS));
	MemoryContextDelete(job->context);
}

/* Look at a row of a lane: a job that can begin, or NULL. */
static DsocrRunnerJob *
take_row(DsocrRunner *r, int64 lane, HeapTuple row, TupleDesc desc)
{
	bool isnull;
	int64 id = DatumGetInt64(SPI_getbinval(row, desc, COL_ID, &isnull));
	DsocrKnownJob *k = hash_search(r->known, &id, HASH_FIND, NULL);
	TimestampTz not_before;
	DsocrRunnerJob *job;

	if (k != NULL && k->job != NULL)
		return NULL;
	not_before = DatumGetTimestampTz(SPI_getbinval(row, desc, COL_NOT_BEFORE, &isnull));
	if (!isnull && not_before > GetCurrentTimestamp())
	{
		dsocr_runner_wait_for(r, id, lane, not_before);
		return NULL;
	}
	if (!is_ours(r, row, desc) ||
		!claim_job(r, id, lane, DatumGetInt16(SPI_getbinval(row, desc, COL_ATTEMPTS, &isnull))))
		return NULL;
	job = job_create(r, row, desc, lane);
	if (job->attachment != NULL && job->key == NULL)
	{
		take_request(r, job);
		return NULL;
	}
	dsocr_runner_know(r, job);
	if (!prepare_job(r, job, row, desc))
		return NULL;
	return job;
}

/* Take so much of a role's quota as its first range has; has_taken of them all are taken. */
static int
take_range(DsocrRunner *r, DsocrRunnerRole *role, int priority, int all, int has_taken,
		   DsocrRunnerJob **jobs)
{
	int64 lane = dsocr_job_lane(priority, role->role);
	DsocrJobRange range = role->unseen[priority]->range[0];
	int64 seen = range.first - 1;
	int n = 0;
	uint64 i;
	SPITupleTable *table;
	uint64 n_rows;
	int quota = role->quota;
	Datum values[] = {Int64GetDatum(lane), Int64GetDatum(range.first), Int64GetDatum(range.last),
					  Int64GetDatum(quota)};

	dsocr_jobs_execute(&select_jobs, values, NULL, true);
	table = SPI_tuptable;
	n_rows = SPI_processed;
	for (i = 0; i < n_rows && !dsocr_runner_is_full(r, role->n_jobs == 0); i++)
	{
		bool isnull;
		DsocrRunnerJob *job = take_row(r, lane, table->vals[i], table->tupdesc);

		seen = DatumGetInt64(SPI_getbinval(table->vals[i], table->tupdesc, COL_ID, &isnull));
		dsocr_runner_count_look(role);
		if (job == NULL)
			continue;
		dsocr_runner_count(role, job);
		/* its jobs are spread among those of the others */
		job->place = DSOCR_JOB_PRIORITIES - priority + (has_taken + n + 0.5) / all;
		jobs[n++] = job;
	}
	dsocr_runner_seen(r, lane, seen, i == n_rows && n_rows < (uint64) quota);
	return n;
}

/*
 * Take a role's quota of one priority.  Ranges of jobs that have gone meanwhile
 * cost no turns: there may be many, and jobs of others behind them.
 */
static int
take_quota(DsocrRunner *r, DsocrRunnerRole *role, int priority, DsocrRunnerJob **jobs)
{
	int quota = role->quota;
	int n = 0;

	while (role->quota > 0 && role->unseen[priority] != NULL &&
		   !dsocr_runner_is_full(r, role->n_jobs == 0))
		n += take_range(r, role, priority, quota, n, jobs + n);
	return n;
}

static int
compare_places(const void *a, const void *b)
{
	const DsocrRunnerJob *x = *(DsocrRunnerJob *const *) a;
	const DsocrRunnerJob *y = *(DsocrRunnerJob *const *) b;

	if (x->place != y->place)
		return x->place < y->place ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

/* Inside a transaction: up to n jobs that can begin, which are claimed. */
int
dsocr_runner_take(DsocrRunner *r, int n, DsocrRunnerJob **jobs)
{
	int n_jobs = 0;
	int n_dealt = 0;
	DsocrAsOwner before;

	SPI_connect();
	dsocr_jobs_as_owner(&before);
	dsocr_jobs_plan_by_index();
	load_quarantine(r);
	dsocr_runner_find_lanes(r);
	dsocr_runner_look_at_roles(r);
	for (int p = DSOCR_JOB_PRIORITIES - 1; p >= 0; p--)
	{
		int dealt;

		/* again, while there are rows that cannot begin */
		while (n_dealt < 4 * n && (dealt = dsocr_runner_deal(r, p, n - n_jobs)) > 0)
		{
			dlist_iter iter;

			n_dealt += dealt;
			dlist_foreach (iter, &r->role_list)
			{
				DsocrRunnerRole *role = dlist_container(DsocrRunnerRole, node, iter.cur);

				if (role->quota > 0)
					n_jobs += take_quota(r, role, p, jobs + n_jobs);
			}
		}
	}
	r->held_until =
		n_dealt > 0 ? 0 : TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HELD_PAUSE_MS);
	for (int i = 0; i < n_jobs; i++)
		dsocr_runner_look_up_share(jobs[i]);
	qsort(jobs, n_jobs, sizeof(jobs[0]), compare_places);
	dsocr_jobs_as_before(&before);
	SPI_finish();
	return n_jobs;
}

void
dsocr_runner_claim(DsocrRunner *r)
{
	DsocrRunnerJob *jobs[DSOCR_MAX_SLOTS];
	int n_jobs;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	n_jobs = dsocr_runner_take(r, Min(2 * r->max_reading, lengthof(jobs)), jobs);
	PopActiveSnapshot();
	CommitTransactionCommand();

	for (int i = 0; i < n_jobs; i++)
		begin_job(r, jobs[i]);
}

/* ---- cancelled ---- */

void
dsocr_runner_drop_cancelled(DsocrRunner *r)
{
	DsocrRunnerJob **gone;
	int n;

	if (r->quarantine != NULL)
		hash_destroy(r->quarantine);
	r->quarantine = NULL;
	if (r->n_reading == 0)
		return;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	n = dsocr_runner_find_gone(&r->reading, r->n_reading, &gone);
	for (int i = 0; i < n; i++)
		dsocr_runner_forget(r, gone[i], false);
	PopActiveSnapshot();
	CommitTransactionCommand();
}
