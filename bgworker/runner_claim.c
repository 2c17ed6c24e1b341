/*-------------------------------------------------------------------------
 *
 * runner_claim.c
 *		Which jobs there are, and which of them begins next.
 *
 * The runner keeps ranges of ids it has not seen yet, for each priority: all
 * of them when it begins, later those that transactions publish when they
 * commit.  It goes through a range once, in order.  So a claim costs as much
 * as there are jobs in it, however many dead rows lie behind, for example
 * because an old snapshot keeps them from being removed.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "utils/array.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define LOCKED_PAUSE_MS 500	  /* before a row that somebody has locked is looked at again */
#define CLAIMED_PAUSE_MS 2000 /* before a job that another session has claimed is */

/* ---- ranges ---- */

void
dsocr_ranges_add(DsocrRanges *ranges, int64 first, int64 last)
{
	DsocrJobRange sorted[DSOCR_RUNNER_RANGES + 1];
	int n = 0;
	bool placed = false;

	if (first > last)
		return;
	for (int i = 0; i < ranges->n; i++)
	{
		DsocrJobRange r = ranges->range[i];

		if (!placed && first < r.first)
		{
			sorted[n++] = (DsocrJobRange){first, last};
			placed = true;
		}
		sorted[n++] = r;
	}
	if (!placed)
		sorted[n++] = (DsocrJobRange){first, last};

	/* Join what overlaps or touches; the nearest two when there are too many. */
	ranges->n = 0;
	for (int i = 0; i < n; i++)
	{
		DsocrJobRange *before = ranges->n > 0 ? &ranges->range[ranges->n - 1] : NULL;

		if (before != NULL &&
			(sorted[i].first - 1 <= before->last || ranges->n == DSOCR_RUNNER_RANGES))
			before->last = Max(before->last, sorted[i].last);
		else
			ranges->range[ranges->n++] = sorted[i];
	}
}

/* Ids below this one have been seen; done: all of the first range. */
static void
ranges_seen(DsocrRanges *ranges, int64 up_to, bool done)
{
	if (!done)
	{
		ranges->range[0].first = up_to + 1;
		done = ranges->range[0].first > ranges->range[0].last;
	}
	if (done)
	{
		ranges->n--;
		memmove(&ranges->range[0], &ranges->range[1], sizeof(DsocrJobRange) * ranges->n);
	}
}

void
dsocr_runner_look_everywhere(DsocrRunner *r)
{
	for (int i = 0; i < DSOCR_JOB_PRIORITIES; i++)
		dsocr_ranges_add(&r->unseen[i], 1, PG_INT64_MAX);
}

bool
dsocr_runner_has_unseen(const DsocrRunner *r)
{
	for (int i = 0; i < DSOCR_JOB_PRIORITIES; i++)
	{
		if (r->unseen[i].n > 0)
			return true;
	}
	return false;
}

/* ---- known jobs ---- */

static DsocrKnownJob *
know(DsocrRunner *r, int64 id, int priority)
{
	bool found;
	DsocrKnownJob *k = hash_search(r->known, &id, HASH_ENTER, &found);

	if (found && k->job == NULL)
		r->n_waiting--;
	k->job = NULL;
	k->not_before = 0;
	k->priority = priority;
	return k;
}

void
dsocr_runner_wait_for(DsocrRunner *r, int64 id, int priority, TimestampTz until)
{
	know(r, id, priority)->not_before = until;
	r->n_waiting++;
	if (r->next_due == 0 || until < r->next_due)
		r->next_due = until;
}

static void
forget_id(DsocrRunner *r, int64 id)
{
	hash_search(r->known, &id, HASH_REMOVE, NULL);
}

void
dsocr_runner_wake_due(DsocrRunner *r)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = 0;
	HASH_SEQ_STATUS status;
	DsocrKnownJob *k;

	if (r->next_due == 0 || now < r->next_due)
		return;
	hash_seq_init(&status, r->known);
	while ((k = hash_seq_search(&status)) != NULL)
	{
		if (k->job != NULL)
			continue;
		if (k->not_before <= now)
		{
			dsocr_ranges_add(&r->unseen[k->priority], k->id, k->id);
			r->n_waiting--;
			forget_id(r, k->id); /* allowed: it is the current one */
		}
		else if (next == 0 || k->not_before < next)
			next = k->not_before;
	}
	r->next_due = next;
}

void
dsocr_runner_forget(DsocrRunner *r, DsocrRunnerJob *job, bool look)
{
	dlist_delete(&job->node);
	if (job->reading != NULL)
	{
		r->n_reading--;
		dsocr_reading_delete(job->reading);
	}
	else
		r->n_ended--;
	r->bytes -= job->bytes;
	forget_id(r, job->id);
	dsocr_jobs_unlock(job->id);
	if (look)
		dsocr_ranges_add(&r->unseen[job->priority], job->id, job->id);
	MemoryContextDelete(job->context);
}

void
dsocr_runner_end_job(DsocrRunner *r, DsocrRunnerJob *job)
{
	if (job->reading != NULL)
	{
		dlist_delete(&job->node);
		r->n_reading--;
		dsocr_reading_delete(job->reading);
		job->reading = NULL;
	}
	if (r->n_ended == 0)
		r->first_ended = GetCurrentTimestamp();
	dlist_push_tail(&r->ended, &job->node);
	r->n_ended++;
}

void
dsocr_runner_fail_job(DsocrRunner *r, DsocrRunnerJob *job, const char *error, const char *sqlstate,
					  bool final)
{
	job->error = MemoryContextStrdup(job->context, error);
	strlcpy(job->sqlstate, sqlstate, sizeof(job->sqlstate));
	job->final = final;
	dsocr_runner_end_job(r, job);
}

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

	if (r->quarantine != NULL)
		return;
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

/* The expression of index job_queue_order. */
#define ORDER_SHIFT 59
#define ORDER_KEY                                                                                  \
	"(q.priority::pg_catalog.int8 OPERATOR(pg_catalog.*) 576460752303423488::pg_catalog.int8"      \
	" OPERATOR(pg_catalog.+) q.id)"

static DsocrStatement select_jobs = {
	"SELECT q.id, q.attempts, q.owner::pg_catalog.oid, q.not_before, q.source::pg_catalog.oid,"
	" q.attachment, q.key, q.source_column, q.options, q.document FROM dsocr.job_queue AS q"
	" WHERE " ORDER_KEY " OPERATOR(pg_catalog.>=) $1 AND " ORDER_KEY " OPERATOR(pg_catalog.<=) $2"
	" ORDER BY " ORDER_KEY " LIMIT $3",
	3,
	{INT8OID, INT8OID, INT8OID},
	NULL};

static int64
order_key(int priority, int64 id)
{
	return ((int64) priority << ORDER_SHIFT) + Min(id, ((int64) 1 << ORDER_SHIFT) - 1);
}

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
job_create(DsocrRunner *r, HeapTuple row, TupleDesc desc, int priority)
{
	MemoryContext context = AllocSetContextCreate(r->context, "dsocr job", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	DsocrRunnerJob *job = palloc0(sizeof(DsocrRunnerJob));
	bool isnull;
	Datum datum;

	job->context = context;
	job->id = DatumGetInt64(SPI_getbinval(row, desc, COL_ID, &isnull));
	job->priority = priority;
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
		dsocr_runner_wait_for(r, job->id, job->priority,
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
	"SELECT 1 FROM dsocr.job_queue AS q WHERE q.id OPERATOR(pg_catalog.=) $1", 1, {INT8OID}, NULL};

/* It may have ended between the snapshot that showed it and the lock. */
static bool
is_still_there(int64 id)
{
	Datum values[] = {Int64GetDatum(id)};
	bool found;

	PushActiveSnapshot(GetLatestSnapshot());
	dsocr_jobs_execute(&find_job, values, NULL, true);
	found = SPI_processed > 0;
	SPI_freetuptable(SPI_tuptable);
	PopActiveSnapshot();
	return found;
}

/* Make it ours, so that nobody else reads it at the same time. */
static bool
claim_job(DsocrRunner *r, int64 id, int priority)
{
	if (!dsocr_jobs_lock(id))
	{
		dsocr_runner_wait_for(r, id, priority,
							  TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CLAIMED_PAUSE_MS));
		return false;
	}
	if (is_still_there(id))
		return true;
	dsocr_jobs_unlock(id);
	return false;
}

/* Look at the rows of one range; those that can begin are put into jobs. */
static int
take_rows(DsocrRunner *r, int priority, DsocrRanges *ranges, int limit, DsocrRunnerJob **jobs,
		  bool *full)
{
	SPITupleTable *table = SPI_tuptable;
	uint64 n_rows = SPI_processed;
	int n = 0;
	int64 seen = ranges->range[0].first - 1;
	TimestampTz now = GetCurrentTimestamp();

	for (uint64 i = 0; i < n_rows; i++)
	{
		HeapTuple row = table->vals[i];
		bool isnull;
		int64 id = DatumGetInt64(SPI_getbinval(row, table->tupdesc, COL_ID, &isnull));
		TimestampTz not_before;
		DsocrRunnerJob *job;
		DsocrKnownJob *k = hash_search(r->known, &id, HASH_FIND, NULL);

		if (n > 0 && r->bytes >= r->max_bytes)
		{
			*full = true;
			break;
		}
		seen = id;
		if (k != NULL && k->job != NULL)
			continue;
		not_before =
			DatumGetTimestampTz(SPI_getbinval(row, table->tupdesc, COL_NOT_BEFORE, &isnull));
		if (!isnull && not_before > now)
		{
			dsocr_runner_wait_for(r, id, priority, not_before);
			continue;
		}
		if (!claim_job(r, id, priority))
			continue;
		job = job_create(r, row, table->tupdesc, priority);
		if (job->attachment != NULL && job->key == NULL)
		{
			dsocr_jobs_unlock(id);
			if (r->remote)
				dsocr_runner_wait_for(r, id, priority,
									  TimestampTzPlusMilliseconds(now, CLAIMED_PAUSE_MS));
			else if (r->backfill == NULL)
				dsocr_runner_begin_backfill(r, id, job->source, job->attachment);
			else
				dsocr_runner_wait_for(r, id, priority,
									  TimestampTzPlusMilliseconds(now, LOCKED_PAUSE_MS));
			MemoryContextDelete(job->context);
			continue;
		}
		know(r, id, priority)->job = job;
		if (prepare_job(r, job, row, table->tupdesc))
			jobs[n++] = job;
	}
	ranges_seen(ranges, seen, !*full && n_rows < (uint64) limit);
	return n;
}

/* Nor collect and sort all that is there: rows come in the order of the index. */
static void
plan_by_index(void)
{
	static const char *const off[] = {"enable_bitmapscan", "enable_sort"};

	for (int i = 0; i < lengthof(off); i++)
		(void) set_config_option(off[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
								 0, false);
}

/* Inside a transaction: up to n jobs that can begin, which are claimed. */
int
dsocr_runner_take(DsocrRunner *r, int n, DsocrRunnerJob **jobs, int *n_looked)
{
	int n_jobs = 0;
	bool full = false;
	uint64 looked = 0;
	DsocrAsOwner before;

	SPI_connect();
	dsocr_jobs_as_owner(&before);
	plan_by_index();
	load_quarantine(r);
	for (int p = DSOCR_JOB_PRIORITIES - 1; p >= 0 && !full && n_jobs < n; p--)
	{
		while (r->unseen[p].n > 0 && !full && n_jobs < n && looked < 4 * (uint64) n)
		{
			DsocrJobRange range = r->unseen[p].range[0];
			Datum values[] = {Int64GetDatum(order_key(p, range.first)),
							  Int64GetDatum(order_key(p, range.last)), Int64GetDatum(n - n_jobs)};

			dsocr_jobs_execute(&select_jobs, values, NULL, true);
			looked += SPI_processed;
			n_jobs += take_rows(r, p, &r->unseen[p], n - n_jobs, jobs + n_jobs, &full);
		}
	}
	dsocr_jobs_as_before(&before);
	SPI_finish();
	*n_looked = (int) looked;
	return n_jobs;
}

int
dsocr_runner_claim(DsocrRunner *r, int n)
{
	DsocrRunnerJob *jobs[DSOCR_MAX_SLOTS];
	int n_jobs;
	int looked;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	n_jobs = dsocr_runner_take(r, Min(n, DSOCR_MAX_SLOTS), jobs, &looked);
	PopActiveSnapshot();
	CommitTransactionCommand();

	for (int i = 0; i < n_jobs; i++)
		begin_job(r, jobs[i]);
	return looked;
}

/* ---- cancelled ---- */

static DsocrStatement select_present = {
	"SELECT q.id FROM dsocr.job_queue AS q WHERE q.id OPERATOR(pg_catalog.=) ANY ($1)",
	1,
	{INT8ARRAYOID},
	NULL};

void
dsocr_runner_drop_cancelled(DsocrRunner *r)
{
	Datum *ids;
	int n = 0;
	dlist_mutable_iter iter;
	DsocrAsOwner before;
	Datum values[1];
	HTAB *present;
	HASHCTL control = {.keysize = sizeof(int64), .entrysize = sizeof(int64)};

	if (r->quarantine != NULL)
		hash_destroy(r->quarantine);
	r->quarantine = NULL;
	if (r->n_reading == 0)
		return;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	dsocr_jobs_as_owner(&before);
	plan_by_index();
	ids = palloc(sizeof(Datum) * r->n_reading);
	dlist_foreach_modify(iter, &r->reading) ids[n++] =
		Int64GetDatum(dlist_container(DsocrRunnerJob, node, iter.cur)->id);
	values[0] = PointerGetDatum(
		construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	dsocr_jobs_execute(&select_present, values, NULL, true);
	control.hcxt = CurrentMemoryContext;
	present = hash_create("dsocr present jobs", n, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		int64 id =
			DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		hash_search(present, &id, HASH_ENTER, NULL);
	}
	dlist_foreach_modify(iter, &r->reading)
	{
		DsocrRunnerJob *job = dlist_container(DsocrRunnerJob, node, iter.cur);

		if (hash_search(present, &job->id, HASH_FIND, NULL) == NULL)
			dsocr_runner_forget(r, job, false);
	}
	dsocr_jobs_as_before(&before);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}
