/*-------------------------------------------------------------------------
 *
 * runner_write.c
 *		Ends jobs: what they gave and that they are done, in one transaction.
 *
 * Many jobs share a transaction.  Should it fail, each of them gets one of its
 * own, and the job that fails alone has failed an attempt.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner_outcome.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define NOTIFY_LIMIT 0.5 /* of the server's notification queue */

static bool
notifications_fit(void)
{
	return DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, (Datum) 0)) <
		   NOTIFY_LIMIT;
}

/* Inside a transaction. */
static void
write_jobs(DsocrRunner *r, DsocrJobOutcomes *b)
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
		dsocr_runner_write_job(r, b, &b->outcomes[i]);
	}
	dsocr_runner_write_tallies(b);
	SPI_finish();
}

DsocrWritten
dsocr_runner_write_one(DsocrRunner *r, DsocrRunnerJob *job)
{
	DsocrJobOutcomes *b = palloc0(sizeof(DsocrJobOutcomes));
	DsocrJobOutcome *o = &b->outcomes[0];

	b->n = 1;
	o->job = job;
	o->afterwards = DSOCR_AFTER_FORGET;
	write_jobs(r, b);
	if (o->ended || o->afterwards == DSOCR_AFTER_FORGET)
		return DSOCR_WRITTEN_ENDED;
	return o->afterwards == DSOCR_AFTER_POSTPONE ? DSOCR_WRITTEN_BUSY : DSOCR_WRITTEN_LATER;
}

static void
write_batch(DsocrRunner *r, DsocrJobOutcomes *b)
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
		job->not_before = dsocr_runner_in_ms(DSOCR_BLAMELESS_PAUSE_MS);
		return;
	}
	job->error = MemoryContextStrdup(job->context, e->message ? e->message : "unknown error");
	strlcpy(job->sqlstate, unpack_sql_state(e->sqlerrcode), sizeof(job->sqlstate));
	job->blameless = ERRCODE_TO_CATEGORY(e->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK ||
					 e->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

/* false: the transaction failed and nothing of it has happened. */
static bool
try_batch(DsocrRunner *r, DsocrJobOutcomes *b)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool ok = true;

	for (int i = 0; i < b->n; i++)
	{
		b->outcomes[i].afterwards = DSOCR_AFTER_FORGET;
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
settle(DsocrRunner *r, DsocrJobOutcomes *b)
{
	for (int i = 0; i < b->n; i++)
	{
		DsocrJobOutcome *o = &b->outcomes[i];
		int64 id = o->job->id;
		int64 lane = o->job->lane;

		switch (o->afterwards)
		{
			case DSOCR_AFTER_POSTPONE:
				o->job->not_before = o->until;
				break;
			case DSOCR_AFTER_LOOK:
				dsocr_runner_forget(r, o->job, true);
				break;
			case DSOCR_AFTER_WAIT:
				dsocr_runner_forget(r, o->job, false);
				dsocr_runner_wait_for(r, id, lane, o->until);
				break;
			case DSOCR_AFTER_FORGET:
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
	DsocrJobOutcomes *b = palloc(sizeof(DsocrJobOutcomes));
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
		DsocrJobOutcomes *all = palloc(sizeof(DsocrJobOutcomes));

		memcpy(all, b, sizeof(DsocrJobOutcomes));
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
