/*-------------------------------------------------------------------------
 *
 * runner_outcome.c
 *		What becomes of a job that has ended: its rows in the tables of the
 *		queue, and the user's row that it writes.
 *
 * Order of locks: the user's row, then the job, both without waiting.  Whoever
 * changes the row and then looks at its job waits for us at most until this
 * transaction has ended.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner_outcome.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "encoding.h"
#include "runner_text.h"
#include "utils/builtins.h"

#define LOCKED_PAUSE_MS 200		 /* before a row that somebody has locked is tried again */
#define LONGEST_DELAY_MS 3600000 /* between attempts */

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

uint64
dsocr_runner_run(DsocrStatement *statement, Datum *values, const char *nulls)
{
	DsocrAsOwner before;

	dsocr_jobs_as_owner(&before);
	dsocr_jobs_noting = true;
	dsocr_jobs_execute(statement, values, nulls, false);
	dsocr_jobs_noting = false;
	dsocr_jobs_as_before(&before);
	return SPI_processed;
}

/* Lock the row of the job, unless somebody has it or it has changed. */
static bool
take_job(DsocrJobOutcome *o)
{
	Datum values[] = {Int64GetDatum(o->job->id)};
	char *key;

	if (dsocr_runner_run(&lock_job, values, NULL) > 0)
	{
		key = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		if ((key == NULL) == (o->job->key == NULL) &&
			(key == NULL || strcmp(key, o->job->key) == 0))
			return true;
		o->afterwards = DSOCR_AFTER_LOOK;
		return false;
	}
	o->until = dsocr_runner_in_ms(LOCKED_PAUSE_MS);
	o->afterwards =
		dsocr_runner_run(&find_job, values, NULL) > 0 ? DSOCR_AFTER_POSTPONE : DSOCR_AFTER_FORGET;
	return false;
}

static void
add_tally(DsocrJobOutcomes *b, const DsocrRunnerJob *job)
{
	DsocrJobTally *t = NULL;

	for (int i = 0; i < b->n_tallies && t == NULL; i++)
	{
		if (b->tallies[i].source == job->source &&
			strcmp(b->tallies[i].attachment, job->attachment) == 0)
			t = &b->tallies[i];
	}
	if (t == NULL)
	{
		t = &b->tallies[b->n_tallies++];
		*t = (DsocrJobTally){
			.source = job->source, .attachment = job->attachment, .started = job->started};
	}
	t->started = Min(t->started, job->started);
	t->jobs++;
	t->pages += job->n_pages;
}

void
dsocr_runner_write_tallies(DsocrJobOutcomes *b)
{
	for (int i = 0; i < b->n_tallies; i++)
	{
		DsocrJobTally *t = &b->tallies[i];
		Datum values[] = {ObjectIdGetDatum(t->source), CStringGetTextDatum(t->attachment),
						  TimestampTzGetDatum(t->started), Int64GetDatum(t->jobs),
						  Int64GetDatum(t->pages)};

		dsocr_runner_run(&insert_tally, values, NULL);
	}
}

static void
notify(DsocrJobOutcomes *b, const DsocrRunnerJob *job)
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

	dsocr_runner_run(&forget_failure, row, NULL);
}

static void
write_result(DsocrJobOutcomes *b, DsocrJobOutcome *o)
{
	DsocrRunnerJob *job = o->job;
	Datum values[2] = {Int64GetDatum(job->id)};

	if (job->attachment != NULL)
	{
		dsocr_runner_run(&delete_job, values, NULL);
		forget_failed(job);
		add_tally(b, job);
	}
	else
	{
		values[1] = dsocr_job_result(job);
		if (!OidIsValid(finish_job.types[1]))
			finish_job.types[1] = dsocr_job_result_type();
		dsocr_runner_run(&finish_job, values, NULL);
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
	dsocr_runner_run(&insert_quarantine, values, NULL);
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
write_failure(DsocrRunner *r, DsocrJobOutcomes *b, DsocrJobOutcome *o)
{
	DsocrRunnerJob *job = o->job;
	int attempts = job->attempts + 1;
	char *error;
	Datum values[5];

	if (job->blameless)
	{
		o->afterwards = DSOCR_AFTER_WAIT;
		o->until = dsocr_runner_in_ms(DSOCR_BLAMELESS_PAUSE_MS);
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
		dsocr_runner_run(&give_up_job, values, NULL);
		if (job->lost_engine)
			write_quarantine(r, job);
		if (job->attachment == NULL)
			notify(b, job);
		o->ended = true;
		return;
	}
	o->afterwards = DSOCR_AFTER_WAIT;
	o->until = dsocr_runner_in_ms(delay_of(attempts));
	values[2] = TimestampTzGetDatum(o->until);
	values[3] = CStringGetTextDatum(error);
	values[4] = CStringGetTextDatum(job->sqlstate);
	dsocr_runner_run(&delay_job, values, NULL);
}

/* Is the row of an attached table as it was read, and ours for now? */
static bool
take_row(DsocrJobOutcome *o)
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
			o->afterwards = DSOCR_AFTER_LOOK;
			return false;
		case DSOCR_ROW_LOCKED:
			o->afterwards = DSOCR_AFTER_POSTPONE;
			o->until = dsocr_runner_in_ms(LOCKED_PAUSE_MS);
			return false;
	}
	return true;
}

void
dsocr_runner_write_job(DsocrRunner *r, DsocrJobOutcomes *b, DsocrJobOutcome *o)
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

		dsocr_runner_run(&delete_job, values, NULL);
		o->ended = true;
	}
	else if (job->error == NULL && job->attachment != NULL &&
			 dsocr_runner_write_row(job) != DSOCR_ROW_OK && job->error == NULL)
		o->afterwards = DSOCR_AFTER_LOOK;
	else if (job->error != NULL)
		write_failure(r, b, o);
	else
		write_result(b, o);
}
