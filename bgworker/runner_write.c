/*-------------------------------------------------------------------------
 *
 * runner_write.c
 *		Ends jobs: what they gave and that they are done, in one transaction.
 *
 * Many jobs share a transaction.  Should it fail, each of them gets one of its
 * own, and the job that fails alone has failed an attempt.
 *
 * Order of locks: the user's row, then the job, both without waiting.  Whoever
 * changes the row and then looks at its job waits for us at most until this
 * transaction has ended.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "encoding.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "runner_text.h"

#define LOCKED_PAUSE_MS 200		 /* before a row that somebody has locked is tried again */
#define BLAMELESS_PAUSE_MS 1000	 /* before a job is tried again that was not at fault */
#define LONGEST_DELAY_MS 3600000 /* between attempts */
#define NOTIFY_LIMIT 0.5		 /* of the server's notification queue */
#define MAX_TALLIES DSOCR_RUNNER_BATCH
#define SWEEP_ROWS 1000 /* ended jobs that are deleted at a time */

/* What is to be done with a job once the transaction has committed. */
typedef enum Afterwards
{
	AFTER_FORGET,
	AFTER_LOOK,		/* look at its row again */
	AFTER_POSTPONE, /* write it later: somebody has its rows */
	AFTER_WAIT		/* its row waits for another attempt */
} Afterwards;

typedef struct Outcome
{
	DsocrRunnerJob *job;
	Afterwards afterwards;
	TimestampTz until;
	bool ended; /* tell who waits */
} Outcome;

typedef struct Tally
{
	Oid source;
	const char *attachment;
	TimestampTz started;
	int64 jobs;
	int64 pages;
} Tally;

typedef struct Batch
{
	int n;
	Outcome outcomes[DSOCR_RUNNER_BATCH];
	int n_tallies;
	Tally tallies[MAX_TALLIES];
	bool notify;
} Batch;

/* ---- statements ---- */

static DsocrStatement lock_job = {
	"SELECT q.key FROM dsocr.job_queue AS q WHERE q.id OPERATOR(pg_catalog.=) $1"
	" FOR UPDATE SKIP LOCKED",
	1,
	{INT8OID},
	NULL};

static DsocrStatement find_job = {
	"SELECT 1 FROM dsocr.job_queue AS q WHERE q.id OPERATOR(pg_catalog.=) $1", 1, {INT8OID}, NULL};

static DsocrStatement delete_job = {
	"DELETE FROM dsocr.job_queue AS q WHERE q.id OPERATOR(pg_catalog.=) $1", 1, {INT8OID}, NULL};

/* The type of the third parameter is known at run time. */
static DsocrStatement finish_job = {
	"WITH gone AS (DELETE FROM dsocr.job_queue AS q WHERE q.id OPERATOR(pg_catalog.=) $1"
	" RETURNING q.id, q.priority, q.attempts, q.owner, q.queued, q.source, q.key, q.source_column)"
	" INSERT INTO dsocr.job_done (id, priority, attempts, owner, queued, cancelled, source, key,"
	" source_column, result)"
	" SELECT g.id, g.priority, g.attempts OPERATOR(pg_catalog.+) 1::pg_catalog.int2, g.owner,"
	" g.queued, false, g.source, g.key, g.source_column, pg_catalog.to_jsonb($2) FROM gone AS g",
	2,
	{INT8OID, InvalidOid},
	NULL};

static DsocrStatement give_up_job = {
	"WITH gone AS (DELETE FROM dsocr.job_queue AS q WHERE q.id OPERATOR(pg_catalog.=) $1"
	" RETURNING q.*)"
	" INSERT INTO dsocr.job_failed (id, priority, attempts, owner, queued, source, attachment,"
	" key, source_column, options, document, error, sqlstate)"
	" SELECT g.id, g.priority, $2, g.owner, g.queued, g.source, g.attachment, g.key,"
	" g.source_column, g.options, g.document, $3, $4 FROM gone AS g",
	4,
	{INT8OID, INT2OID, TEXTOID, TEXTOID},
	NULL};

static DsocrStatement delay_job = {
	"UPDATE dsocr.job_queue AS q SET attempts = $2, not_before = $3, error = $4, sqlstate = $5"
	" WHERE q.id OPERATOR(pg_catalog.=) $1",
	5,
	{INT8OID, INT2OID, TIMESTAMPTZOID, TEXTOID, TEXTOID},
	NULL};

static DsocrStatement forget_failure = {
	"DELETE FROM dsocr.job_failed AS q WHERE q.source OPERATOR(pg_catalog.=) $1"
	" AND q.attachment OPERATOR(pg_catalog.=) $2"
	" AND pg_catalog.md5(q.key) OPERATOR(pg_catalog.=) pg_catalog.md5($3)"
	" AND q.key OPERATOR(pg_catalog.=) $3",
	3,
	{OIDOID, TEXTOID, TEXTOID},
	NULL};

static DsocrStatement insert_tally = {
	"INSERT INTO dsocr.job_tally (source, attachment, started, ended, jobs, pages)"
	" VALUES ($1, $2, $3, pg_catalog.clock_timestamp(), $4, $5)",
	5,
	{OIDOID, TEXTOID, TIMESTAMPTZOID, INT8OID, INT8OID},
	NULL};

static DsocrStatement insert_quarantine = {
	"INSERT INTO dsocr.job_quarantine (hash, error) VALUES ($1, $2) ON CONFLICT DO NOTHING",
	2,
	{BYTEAOID, TEXTOID},
	NULL};

/* Inside SPI_connect; as the tables' owner. */
static uint64
run(DsocrStatement *statement, Datum *values, const char *nulls)
{
	DsocrAsOwner before;

	dsocr_jobs_as_owner(&before);
	dsocr_jobs_noting = true;
	dsocr_jobs_execute(statement, values, nulls, false);
	dsocr_jobs_noting = false;
	dsocr_jobs_as_before(&before);
	return SPI_processed;
}

/* ---- one job ---- */

static TimestampTz
in_ms(int64 ms)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

/* Lock the row of the job, unless somebody has it or it has changed. */
static bool
take_job(Outcome *o)
{
	Datum values[] = {Int64GetDatum(o->job->id)};
	char *key;

	if (run(&lock_job, values, NULL) > 0)
	{
		key = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		if ((key == NULL) == (o->job->key == NULL) &&
			(key == NULL || strcmp(key, o->job->key) == 0))
			return true;
		o->afterwards = AFTER_LOOK;
		return false;
	}
	o->until = in_ms(LOCKED_PAUSE_MS);
	o->afterwards = run(&find_job, values, NULL) > 0 ? AFTER_POSTPONE : AFTER_FORGET;
	return false;
}

static void
add_tally(Batch *b, const DsocrRunnerJob *job)
{
	Tally *t = NULL;

	for (int i = 0; i < b->n_tallies && t == NULL; i++)
	{
		if (b->tallies[i].source == job->source &&
			strcmp(b->tallies[i].attachment, job->attachment) == 0)
			t = &b->tallies[i];
	}
	if (t == NULL)
	{
		t = &b->tallies[b->n_tallies++];
		*t = (Tally){.source = job->source, .attachment = job->attachment, .started = job->started};
	}
	t->started = Min(t->started, job->started);
	t->jobs++;
	t->pages += job->n_pages;
}

static void
write_tallies(Batch *b)
{
	for (int i = 0; i < b->n_tallies; i++)
	{
		Tally *t = &b->tallies[i];
		Datum values[] = {ObjectIdGetDatum(t->source), CStringGetTextDatum(t->attachment),
						  TimestampTzGetDatum(t->started), Int64GetDatum(t->jobs),
						  Int64GetDatum(t->pages)};

		run(&insert_tally, values, NULL);
	}
}

static void
notify(Batch *b, const DsocrRunnerJob *job)
{
	char id[24];

	snprintf(id, sizeof(id), INT64_FORMAT, job->id);
	if (b->notify)
		Async_Notify("dsocr_done", id);
}

/* What is known of earlier failures of the row. */
static void
forget_failed(const DsocrRunnerJob *job)
{
	Datum row[] = {ObjectIdGetDatum(job->source), CStringGetTextDatum(job->attachment),
				   CStringGetTextDatum(job->key)};

	run(&forget_failure, row, NULL);
}

static void
write_result(Batch *b, Outcome *o)
{
	DsocrRunnerJob *job = o->job;
	Datum values[2] = {Int64GetDatum(job->id)};

	if (job->attachment != NULL)
	{
		run(&delete_job, values, NULL);
		forget_failed(job);
		add_tally(b, job);
	}
	else
	{
		values[1] = dsocr_job_result(job);
		if (!OidIsValid(finish_job.types[1]))
			finish_job.types[1] = dsocr_job_result_type();
		run(&finish_job, values, NULL);
		notify(b, job);
	}
	o->ended = true;
}

static void
write_quarantine(DsocrRunner *r, const DsocrRunnerJob *job)
{
	bytea *hash = palloc(VARHDRSZ + DSOCR_HASH_BYTES);
	Datum values[] = {PointerGetDatum(hash), CStringGetTextDatum(job->error)};

	SET_VARSIZE(hash, VARHDRSZ + DSOCR_HASH_BYTES);
	dsocr_runner_hash(job->document, (uint8 *) VARDATA(hash));
	run(&insert_quarantine, values, NULL);
	if (r->quarantine != NULL)
		hash_search(r->quarantine, VARDATA(hash), HASH_ENTER, NULL);
}

/* Milliseconds until the next attempt. */
static int64
delay_of(int attempts)
{
	int64 ms = dsocr_retry_delay;

	for (int i = 1; i < attempts && ms < LONGEST_DELAY_MS; i++)
		ms *= 2;
	return Min(ms, Max(LONGEST_DELAY_MS, dsocr_retry_delay));
}

/* Messages of the engine are UTF-8, and not all of them are for everybody. */
static char *
error_text(const DsocrRunnerJob *job)
{
	DsocrAsOwner before;
	DsocrError e = job->status;

	if (e.code == DSOCR_OK)
		return job->error;
	dsocr_jobs_as_role(job->role, &before);
	dsocr_error_redact(&e);
	dsocr_jobs_as_before(&before);
	return dsocr_encoding_to_server(pstrdup(e.message), NULL);
}

static void
write_failure(DsocrRunner *r, Batch *b, Outcome *o)
{
	DsocrRunnerJob *job = o->job;
	int attempts = job->attempts + 1;
	char *error;
	Datum values[5];

	if (job->blameless)
	{
		o->afterwards = AFTER_WAIT;
		o->until = in_ms(BLAMELESS_PAUSE_MS);
		return;
	}
	error = error_text(job);
	values[0] = Int64GetDatum(job->id);
	values[1] = Int16GetDatum(Min(attempts, PG_INT16_MAX));
	if (job->final || attempts >= dsocr_max_attempts)
	{
		/* one failure for a row: the last */
		if (job->attachment != NULL)
			forget_failed(job);
		values[2] = CStringGetTextDatum(error);
		values[3] = CStringGetTextDatum(job->sqlstate);
		run(&give_up_job, values, NULL);
		if (job->lost_engine)
			write_quarantine(r, job);
		if (job->attachment == NULL)
			notify(b, job);
		o->ended = true;
		return;
	}
	o->afterwards = AFTER_WAIT;
	o->until = in_ms(delay_of(attempts));
	values[2] = TimestampTzGetDatum(o->until);
	values[3] = CStringGetTextDatum(error);
	values[4] = CStringGetTextDatum(job->sqlstate);
	run(&delay_job, values, NULL);
}

/* Is the row of an attached table as it was read, and ours for now? */
static bool
take_row(Outcome *o)
{
	switch (dsocr_runner_lock_row(o->job))
	{
		case DSOCR_ROW_OK:
		case DSOCR_ROW_FAILED:
			break;
		case DSOCR_ROW_GONE:
			o->job->dropped = true;
			break;
		case DSOCR_ROW_CHANGED:
			o->afterwards = AFTER_LOOK;
			return false;
		case DSOCR_ROW_LOCKED:
			o->afterwards = AFTER_POSTPONE;
			o->until = in_ms(LOCKED_PAUSE_MS);
			return false;
	}
	return true;
}

static void
write_job(DsocrRunner *r, Batch *b, Outcome *o)
{
	DsocrRunnerJob *job = o->job;
	bool row_needed = job->attachment != NULL && !job->dropped && DatumGetPointer(job->document);

	if (row_needed && !take_row(o))
		return;
	if (!take_job(o))
		return;
	if (job->dropped)
	{
		Datum values[] = {Int64GetDatum(job->id)};

		run(&delete_job, values, NULL);
		o->ended = true;
	}
	else if (job->error == NULL && job->attachment != NULL &&
			 dsocr_runner_write_row(job) != DSOCR_ROW_OK && job->error == NULL)
		o->afterwards = AFTER_LOOK;
	else if (job->error != NULL)
		write_failure(r, b, o);
	else
		write_result(b, o);
}

/* ---- many jobs ---- */

static bool
notifications_fit(void)
{
	return DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, (Datum) 0)) <
		   NOTIFY_LIMIT;
}

/* Inside a transaction. */
static void
write_jobs(DsocrRunner *r, Batch *b)
{
	ConstraintsSetStmt *immediate = makeNode(ConstraintsSetStmt);

	/* What users deferred to the commit would run without their restrictions there. */
	immediate->deferred = false;
	AfterTriggerSetState(immediate);
	b->notify = notifications_fit();
	b->n_tallies = 0;
	SPI_connect();
	for (int i = 0; i < b->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		write_job(r, b, &b->outcomes[i]);
	}
	write_tallies(b);
	SPI_finish();
}

DsocrWritten
dsocr_runner_write_one(DsocrRunner *r, DsocrRunnerJob *job)
{
	Batch *b = palloc0(sizeof(Batch));
	Outcome *o = &b->outcomes[0];

	b->n = 1;
	o->job = job;
	o->afterwards = AFTER_FORGET;
	write_jobs(r, b);
	if (o->ended || o->afterwards == AFTER_FORGET)
		return DSOCR_WRITTEN_ENDED;
	return o->afterwards == AFTER_POSTPONE ? DSOCR_WRITTEN_BUSY : DSOCR_WRITTEN_LATER;
}

static void
write_batch(DsocrRunner *r, Batch *b)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	write_jobs(r, b);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* The transaction of a single job has failed: so has the job, if it is not known yet why. */
static void
note_write_error(DsocrRunnerJob *job, const ErrorData *e)
{
	/* A failure that cannot be written either is no failure of the job. */
	if (job->error != NULL)
	{
		job->not_before = in_ms(BLAMELESS_PAUSE_MS);
		return;
	}
	job->error = MemoryContextStrdup(job->context, e->message ? e->message : "unknown error");
	strlcpy(job->sqlstate, unpack_sql_state(e->sqlerrcode), sizeof(job->sqlstate));
	job->blameless = ERRCODE_TO_CATEGORY(e->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK ||
					 e->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

/* false: the transaction failed and nothing of it has happened. */
static bool
try_batch(DsocrRunner *r, Batch *b)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool ok = true;

	for (int i = 0; i < b->n; i++)
	{
		b->outcomes[i].afterwards = AFTER_FORGET;
		b->outcomes[i].ended = false;
	}
	PG_TRY();
	{
		write_batch(r, b);
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
		if (b->n == 1)
			note_write_error(b->outcomes[0].job, e);
		FreeErrorData(e);
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return ok;
}

/* It has committed. */
static void
settle(DsocrRunner *r, Batch *b)
{
	for (int i = 0; i < b->n; i++)
	{
		Outcome *o = &b->outcomes[i];
		int64 id = o->job->id;
		int priority = o->job->priority;

		switch (o->afterwards)
		{
			case AFTER_POSTPONE:
				o->job->not_before = o->until;
				break;
			case AFTER_LOOK:
				dsocr_runner_forget(r, o->job, true);
				break;
			case AFTER_WAIT:
				dsocr_runner_forget(r, o->job, false);
				dsocr_runner_wait_for(r, id, priority, o->until);
				break;
			case AFTER_FORGET:
				dsocr_runner_forget(r, o->job, false);
				break;
		}
		if (o->ended)
			dsocr_jobs_ended(id);
	}
}

void
dsocr_runner_write(DsocrRunner *r)
{
	TimestampTz now = GetCurrentTimestamp();
	Batch *b = palloc(sizeof(Batch));
	dlist_iter iter;

	b->n = 0;
	dlist_foreach (iter, &r->ended)
	{
		DsocrRunnerJob *job = dlist_container(DsocrRunnerJob, node, iter.cur);

		if (b->n == DSOCR_RUNNER_BATCH)
			break;
		if (job->not_before <= now)
			b->outcomes[b->n++].job = job;
	}
	if (b->n > 0 && try_batch(r, b))
		settle(r, b);
	else if (b->n > 0)
	{
		Batch *all = palloc(sizeof(Batch));

		memcpy(all, b, sizeof(Batch));
		for (int i = 0; i < all->n; i++)
		{
			b->n = 1;
			b->outcomes[0].job = all->outcomes[i].job;
			/* again, when it is now known that it failed */
			if (try_batch(r, b) || try_batch(r, b))
				settle(r, b);
		}
		pfree(all);
	}
	r->first_ended = now;
	pfree(b);
}

/* ---- housekeeping ---- */

static DsocrStatement delete_old = {
	"DELETE FROM dsocr.job_done AS d WHERE d.id OPERATOR(pg_catalog.=) ANY (SELECT o.id"
	" FROM dsocr.job_done AS o WHERE o.ended OPERATOR(pg_catalog.<) $1 ORDER BY o.ended LIMIT $2)",
	2,
	{TIMESTAMPTZOID, INT8OID},
	NULL};

static DsocrStatement count_tallies = {
	"SELECT pg_catalog.count(*) FROM dsocr.job_tally AS t", 0, {0}, NULL};

/* Rows of the last minutes stay apart, for the rate. */
static DsocrStatement add_up_tallies = {
	"WITH gone AS (DELETE FROM dsocr.job_tally AS t WHERE t.ended OPERATOR(pg_catalog.<)"
	" (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '10 minutes'::pg_catalog.interval)"
	" RETURNING t.*)"
	" INSERT INTO dsocr.job_tally (source, attachment, started, ended, jobs, pages)"
	" SELECT g.source, g.attachment, pg_catalog.min(g.started), pg_catalog.max(g.ended),"
	" pg_catalog.sum(g.jobs)::pg_catalog.int8, pg_catalog.sum(g.pages)::pg_catalog.int8"
	" FROM gone AS g GROUP BY g.source, g.attachment",
	0,
	{0},
	NULL};

#define MANY_TALLIES 2000

void
dsocr_runner_sweep(DsocrRunner *r)
{
	Datum values[] = {TimestampTzGetDatum(in_ms(-(int64) dsocr_keep_jobs * 60 * 1000)),
					  Int64GetDatum(SWEEP_ROWS)};
	bool isnull;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	run(&delete_old, values, NULL);
	run(&count_tallies, NULL, NULL);
	if (DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) >
		MANY_TALLIES)
		run(&add_up_tallies, NULL, NULL);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}
