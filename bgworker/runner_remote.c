/*-------------------------------------------------------------------------
 *
 * runner_remote.c
 *		Jobs for workers on other hosts: what their sessions call.
 *
 * The session stands for the worker: it holds the claims (locks of jobs), the
 * documents until they are fetched, and the code of the runner fetches and
 * writes rows with the rights of each job's role.  The session's own role has
 * no rights but to call these functions.
 *
 * What comes from a worker is believed no more than what comes from an engine:
 * frames are checked by the reader of frames, and a job must be the session's.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner_frames.h"

#include "access/xact.h"
#include "engine/protocol.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "opening.h"
#include "result.h"
#include "roles.h"
#include "shmem.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(dsocr_worker_begin);
PG_FUNCTION_INFO_V1(dsocr_worker_keep);
PG_FUNCTION_INFO_V1(dsocr_worker_claim);
PG_FUNCTION_INFO_V1(dsocr_worker_fetch);
PG_FUNCTION_INFO_V1(dsocr_worker_pages);
PG_FUNCTION_INFO_V1(dsocr_worker_finish);
PG_FUNCTION_INFO_V1(dsocr_worker_release);

#define MAX_CLAIMS 1024				 /* of a session */
#define MAX_CHUNK (16 << 20)		 /* bytes of a document at a time */
#define LOOK_AGAIN_MS 60000			 /* through the whole queue */
#define PAGES_PAUSE_MS 60000		 /* before a document of pages is looked at again */
#define MAX_BYTES ((Size) 256 << 20) /* of documents of a session */
#define MAX_HELD ((Size) 1 << 30)	 /* of them and of pages that have come */

/* A job that a statement of the current transaction has ended. */
typedef struct Settled
{
	DsocrRunnerJob *job;
	DsocrWritten written;
	int64 device_us; /* that the worker's engine spent on it */
} Settled;

typedef struct Session
{
	DsocrRunner runner; /* all jobs are in its list of ended ones: it has none to read */
	char model[64];
	char fingerprint[33];
	bool opens_documents; /* of several pages */
	TimestampTz next_look;
	int n_settled;
	Settled settled[MAX_CLAIMS];
} Session;

static Session *session = NULL;

/* ---- the session ---- */

static Session *
my_session(void)
{
	if (session == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this session has not joined as a dsocr worker"),
						errhint("Call dsocr_worker_begin first.")));
	return session;
}

/* Has a statement of this transaction ended it? */
static bool
is_settled(const Session *s, const DsocrRunnerJob *job)
{
	for (int i = 0; i < s->n_settled; i++)
	{
		if (s->settled[i].job == job)
			return true;
	}
	return false;
}

/* A job is claimed here, by this session, still. */
static DsocrRunnerJob *
my_job(Session *s, int64 id)
{
	DsocrKnownJob *k = hash_search(s->runner.known, &id, HASH_FIND, NULL);

	if (k == NULL || k->job == NULL || !dsocr_jobs_has_lock(id))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("job %lld is not claimed by this session", (long long) id)));
	if (is_settled(s, k->job))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("job %lld was ended by this transaction", (long long) id)));
	return k->job;
}

/* For its role: also pages of a job that is to be read again. */
static void
count_work(const Settled *d)
{
	dsocr_role_count_remote(d->job->role, NULL, d->device_us);
	for (int i = 0; i < d->job->n_pages; i++)
	{
		if (d->job->pages[i].status.code == DSOCR_OK && !d->job->pages[i].cached)
			dsocr_role_count_remote(d->job->role, &d->job->pages[i].result, 0);
	}
}

static void
end_of_transaction(XactEvent event, void *arg)
{
	Session *s = arg;

	/* its end would not be ours to see */
	if (event == XACT_EVENT_PRE_PREPARE && s->n_settled > 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot PREPARE a transaction that has ended jobs")));
	if (event == XACT_EVENT_COMMIT)
	{
		for (int i = 0; i < s->n_settled; i++)
		{
			Settled *d = &s->settled[i];
			int64 id = d->job->id;

			count_work(d);
			dsocr_runner_count_used(&s->runner, d->job, d->device_us);
			dsocr_runner_forget(&s->runner, d->job, d->written == DSOCR_WRITTEN_LATER);
			if (d->written == DSOCR_WRITTEN_ENDED)
				dsocr_jobs_ended(id);
		}
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		s->n_settled = 0;
}

static void
settle(Session *s, DsocrRunnerJob *job, DsocrWritten written, int64 device_us)
{
	if (written != DSOCR_WRITTEN_BUSY && s->n_settled < MAX_CLAIMS)
		s->settled[s->n_settled++] = (Settled){job, written, device_us};
}

static void
create_session(void)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "dsocr remote worker", ALLOCSET_DEFAULT_SIZES);
	Session *s = MemoryContextAllocZero(context, sizeof(Session));
	HASHCTL control = {
		.keysize = sizeof(int64), .entrysize = sizeof(DsocrKnownJob), .hcxt = context};

	s->runner.context = context;
	s->runner.known =
		hash_create("dsocr claimed jobs", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dsocr_runner_init(&s->runner);
	dlist_init(&s->runner.reading);
	dlist_init(&s->runner.ended);
	s->runner.max_bytes = MAX_BYTES;
	s->runner.remote = true;
	RegisterXactCallback(end_of_transaction, s);
	session = s;
}

static void
set(const char *name, int64 value)
{
	char text[24];

	snprintf(text, sizeof(text), INT64_FORMAT, value);
	(void) set_config_option(name, text, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SET, true, 0,
							 false);
}

/*
 * The lease: a session that says nothing for so long is ended, and its jobs
 * are free.  TCP notices a host that vanished in the same time.
 */
static void
set_lease(void)
{
	int seconds = dsocr_worker_lease / 1000;

	set("idle_session_timeout", dsocr_worker_lease);
	set("idle_in_transaction_session_timeout", dsocr_worker_lease);
	set("tcp_keepalives_idle", Max(1, seconds / 3));
	set("tcp_keepalives_interval", Max(1, seconds / 6));
	set("tcp_keepalives_count", 3);
	set("tcp_user_timeout", dsocr_worker_lease);
}

/* The worker is of the release that this server is of, and has the model it wants. */
static void
check_worker(int protocol, const char *release, const char *fingerprint)
{
	const char *wanted = dsocr_worker_fingerprint;

	if (protocol != DSOCR_PROTOCOL_VERSION || strcmp(release, DSOCR_VERSION) != 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("the worker is dsocr %s (protocol %d), this server %s (protocol %d)",
							   release, protocol, DSOCR_VERSION, DSOCR_PROTOCOL_VERSION),
						errhint("Install the same release of dsocr on both.")));
	if (wanted != NULL && wanted[0] != '\0' && strcmp(wanted, fingerprint) != 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the worker has another model than this database wants"),
						errdetail("The model's fingerprint is %s, dsocr.worker_fingerprint is %s.",
								  fingerprint, wanted)));
}

Datum
dsocr_worker_begin(PG_FUNCTION_ARGS)
{
	char *model = text_to_cstring(PG_GETARG_TEXT_PP(3));

	dsocr_require_preload();
	check_worker(PG_GETARG_INT32(0), text_to_cstring(PG_GETARG_TEXT_PP(1)),
				 text_to_cstring(PG_GETARG_TEXT_PP(2)));
	if (session == NULL)
		create_session();
	strlcpy(session->model, model, sizeof(session->model));
	text_to_cstring_buffer(PG_GETARG_TEXT_PP(2), session->fingerprint,
						   sizeof(session->fingerprint));
	session->opens_documents = PG_GETARG_BOOL(4);
	set_lease();
	PG_RETURN_INT32(dsocr_worker_lease);
}

/* ---- keep ---- */

/* That the session asked is what keeps its jobs; those that were cancelled are no more its. */
Datum
dsocr_worker_keep(PG_FUNCTION_ARGS)
{
	Session *s = my_session();
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	DsocrRunnerJob **gone;
	int n;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (s->runner.n_ended == 0)
		return (Datum) 0;
	PushActiveSnapshot(GetLatestSnapshot());
	n = dsocr_runner_find_gone(&s->runner.ended, s->runner.n_ended, &gone);
	PopActiveSnapshot();
	for (int i = 0; i < n; i++)
	{
		Datum values[] = {Int64GetDatum(gone[i]->id)};
		bool nulls[] = {false};

		if (is_settled(s, gone[i]))
			continue;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		dsocr_runner_forget(&s->runner, gone[i], false);
	}
	return (Datum) 0;
}

/* ---- claim ---- */

/*
 * What is known already is written here and now; false: the worker reads it,
 * and what stands in the way of writing is told when it has.
 */
static bool
write_kept(Session *s, DsocrRunnerJob *job)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile DsocrWritten written = DSOCR_WRITTEN_BUSY;

	if (!dsocr_job_find_kept(job, s->fingerprint, s->model))
		return false;
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		written = dsocr_runner_write_one(&s->runner, job);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *e;

		MemoryContextSwitchTo(caller);
		e = CopyErrorData();
		if (e->sqlerrcode == ERRCODE_QUERY_CANCELED || e->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		dsocr_jobs_noting = false;
		written = DSOCR_WRITTEN_BUSY;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	if (written == DSOCR_WRITTEN_BUSY)
		return false;
	dsocr_runner_end_job(&s->runner, job);
	settle(s, job, written, 0);
	return true;
}

/* Is it for this worker?  Documents of several pages are not for those that cannot open them. */
static bool
is_for_worker(Session *s, DsocrRunnerJob *job)
{
	int64 id = job->id;
	int64 lane = job->lane;

	if (!dsocr_opening_kind(job->document, &job->of_pages, &job->status))
	{
		dsocr_runner_fail_job(&s->runner, job, job->status.message,
							  unpack_sql_state(dsocr_error_sqlstate(job->status.code)), true);
		settle(s, job, dsocr_runner_write_one(&s->runner, job), 0);
		return false;
	}
	if (!job->of_pages)
		return !write_kept(s, job);
	if (s->opens_documents)
		return true;
	dlist_push_tail(&s->runner.ended, &job->node);
	s->runner.n_ended++;
	dsocr_runner_forget(&s->runner, job, false);
	dsocr_runner_wait_for(&s->runner, id, lane,
						  TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PAGES_PAUSE_MS));
	return false;
}

/* length bytes of its document from first on, or what there is. */
static bytea *
part_of(const DsocrRunnerJob *job, int64 first, int length)
{
	const char *bytes = VARDATA_ANY(DatumGetPointer(job->document));
	int64 size = VARSIZE_ANY_EXHDR(DatumGetPointer(job->document));
	bytea *part;

	if (first < 0 || length < 0 || first > size)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there is no such part of the document")));
	length = (int) Min(Min(length, MAX_CHUNK), size - first);
	part = palloc(VARHDRSZ + length);
	SET_VARSIZE(part, VARHDRSZ + length);
	memcpy(VARDATA(part), bytes + first, length);
	return part;
}

static void
give_job(Session *s, DsocrRunnerJob *job, int length, ReturnSetInfo *result)
{
	Datum values[7] = {0};
	bool nulls[7] = {false};

	dlist_push_tail(&s->runner.ended, &job->node);
	s->runner.n_ended++;
	values[0] = Int64GetDatum(job->id);
	values[1] = Int64GetDatum((int64) VARSIZE_ANY_EXHDR(DatumGetPointer(job->document)));
	values[2] = PointerGetDatum(dsocr_job_request(job));
	values[3] = PointerGetDatum(part_of(job, 0, length));
	nulls[4] = nulls[5] = nulls[6] = !job->of_pages;
	if (job->of_pages)
	{
		values[4] = PointerGetDatum(dsocr_job_page_request(job));
		values[5] = Int32GetDatum(job->first_page);
		values[6] = Int32GetDatum(job->last_page);
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Jobs that ended before they were read: their row is gone, or they are in quarantine. */
static void
write_ended(Session *s)
{
	dlist_iter iter;

	dlist_foreach (iter, &s->runner.ended)
	{
		DsocrRunnerJob *job = dlist_container(DsocrRunnerJob, node, iter.cur);

		if (!is_settled(s, job) && (job->dropped || job->error != NULL))
			settle(s, job, dsocr_runner_write_one(&s->runner, job), 0);
	}
}

/* The worker learns of jobs that ended here, so that it does not think that there are none. */
static void
tell_ended(const Session *s, int first, int n, ReturnSetInfo *result)
{
	for (int i = first; i < s->n_settled && n > 0; i++, n--)
	{
		Datum values[7] = {Int64GetDatum(s->settled[i].job->id)};
		bool nulls[7] = {false, true, true, true, true, true, true};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

Datum
dsocr_worker_claim(PG_FUNCTION_ARGS)
{
	Session *s = my_session();
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	/* not more locks than the server's table of them has room for, should all sessions have as many */
	int n = Min(PG_GETARG_INT32(0), Min(MAX_CLAIMS, max_locks_per_xact) - s->runner.n_ended);
	DsocrRunnerJob *jobs[MAX_CLAIMS];
	TimestampTz now = GetCurrentTimestamp();
	int settled = s->n_settled;
	int given = 0;
	int taken;

	InitMaterializedSRF(fcinfo, 0);
	if (n <= 0 || s->runner.bytes >= s->runner.max_bytes)
		return (Datum) 0;
	dsocr_runner_wake_due(&s->runner);
	if (now >= s->next_look || !dsocr_runner_has_unseen(&s->runner))
	{
		s->next_look = TimestampTzPlusMilliseconds(now, LOOK_AGAIN_MS);
		dsocr_runner_look_everywhere(&s->runner);
	}
	PushActiveSnapshot(GetLatestSnapshot());
	taken = dsocr_runner_take(&s->runner, n, jobs);
	PopActiveSnapshot();
	for (int i = 0; i < taken; i++)
	{
		if (!is_for_worker(s, jobs[i]))
			continue;
		give_job(s, jobs[i], PG_GETARG_INT32(1), result);
		given++;
	}
	write_ended(s);
	tell_ended(s, settled, n - given, result);
	return (Datum) 0;
}

/* ---- fetch, finish, release ---- */

Datum
dsocr_worker_fetch(PG_FUNCTION_ARGS)
{
	DsocrRunnerJob *job = my_job(my_session(), PG_GETARG_INT64(0));

	PG_RETURN_BYTEA_P(part_of(job, PG_GETARG_INT64(1), PG_GETARG_INT32(2)));
}

/* Pages of a document, which are written with the end of its job. */
Datum
dsocr_worker_pages(PG_FUNCTION_ARGS)
{
	Session *s = my_session();
	DsocrRunnerJob *job = my_job(s, PG_GETARG_INT64(0));

	dsocr_job_take_pages(job, s->model, PG_GETARG_INT32(1), PG_GETARG_BYTEA_PP(2), &s->runner.bytes,
						 MAX_HELD);
	PG_RETURN_VOID();
}

Datum
dsocr_worker_finish(PG_FUNCTION_ARGS)
{
	Session *s = my_session();
	DsocrRunnerJob *job = my_job(s, PG_GETARG_INT64(0));
	bytea *answer = PG_GETARG_BYTEA_PP(1);
	int64 device_us = PG_GETARG_INT64(2);
	DsocrWritten written;

	if (device_us < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("time of the device must not be negative")));
	/* it cannot have worked for longer than it has been here */
	device_us = Min(device_us, GetCurrentTimestamp() - MyStartTimestamp);
	dsocr_job_take_answer(job, s->model, answer);
	written = dsocr_runner_write_one(&s->runner, job);
	settle(s, job, written, device_us);
	PG_RETURN_BOOL(written != DSOCR_WRITTEN_BUSY);
}

Datum
dsocr_worker_release(PG_FUNCTION_ARGS)
{
	Session *s = my_session();

	dsocr_runner_forget(&s->runner, my_job(s, PG_GETARG_INT64(0)), true);
	PG_RETURN_BOOL(true);
}
