/*-------------------------------------------------------------------------
 *
 * runner_reading.c
 *		The readings of jobs: lets them go on, keeps what they give.
 *
 * A reading that ends makes its job end or fail.  Trouble of the engine says
 * nothing about a document: then no job begins for a while.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "result.h"
#include "storage/lwlock.h"
#include "utils/elog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FIRST_PAUSE_MS 1000 /* when the engine cannot work; doubles */
#define LONGEST_PAUSE_MS 60000
#define MANY_LOST 3 /* engines lost on jobs in a row, after which there are pauses */

void
dsocr_runner_keep_page(DsocrRunnerJob *job, DsocrPage *page)
{
	if (job->n_pages == job->max_pages)
	{
		job->max_pages = Max(1, 2 * job->max_pages);
		job->pages = job->pages == NULL
						 ? MemoryContextAllocZero(job->context, sizeof(DsocrPage) * job->max_pages)
						 : repalloc_huge(job->pages, sizeof(DsocrPage) * job->max_pages);
	}
	job->pages[job->n_pages++] = *page;
	memset(&page->result, 0, sizeof(page->result));
}

static void
free_pages(void *arg)
{
	DsocrRunnerJob *job = arg;

	for (int i = 0; i < job->n_pages; i++)
		dsocr_result_free(&job->pages[i].result);
	job->n_pages = 0;
}

void
dsocr_runner_watch_pages(DsocrRunnerJob *job)
{
	MemoryContextCallback *callback =
		MemoryContextAlloc(job->context, sizeof(MemoryContextCallback));

	callback->func = free_pages;
	callback->arg = job;
	MemoryContextRegisterResetCallback(job->context, callback);
}

bool
dsocr_runner_is_paused(const DsocrRunner *r)
{
	return r->paused_until != 0 && GetCurrentTimestamp() < r->paused_until;
}

/* Would another attempt help? */
static bool
may_pass(DsocrCode code)
{
	return code != DSOCR_E_IMAGE && code != DSOCR_E_ARGUMENT && code != DSOCR_E_TOO_LONG;
}

/*
 * Engine and device are in trouble: say nothing about the document, and wait.
 * All readings hear of it at once, which is one trouble.
 */
static void
pause_reading(DsocrRunner *r)
{
	int64 ms = FIRST_PAUSE_MS << Min(r->pauses, 6);

	if (dsocr_runner_is_paused(r))
		return;
	r->pauses++;
	r->paused_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Min(ms, LONGEST_PAUSE_MS));
}

void
dsocr_runner_blame(DsocrRunnerJob *job, const DsocrError *why)
{
	job->status = *why;
	job->blameless =
		why->code == DSOCR_E_MODEL || why->code == DSOCR_E_DEVICE || why->code == DSOCR_E_CANCELLED;
	job->lost_engine = why->code == DSOCR_E_ENGINE_LOST;
	job->final = !may_pass(why->code);
}

static void
fail_by(DsocrRunner *r, DsocrRunnerJob *job, const DsocrError *why)
{
	dsocr_runner_blame(job, why);
	r->n_lost += job->lost_engine;
	/* where engines die on all there is, a whole archive must not be given up in an hour */
	if (job->blameless || r->n_lost >= MANY_LOST)
		pause_reading(r);
	dsocr_runner_fail_job(r, job, why->message, unpack_sql_state(dsocr_error_sqlstate(why->code)),
						  job->final);
}

const DsocrError *
dsocr_runner_failure_of_pages(const DsocrRunnerJob *job)
{
	const DsocrError *first = NULL;
	const DsocrError *passing = NULL;
	int failed = 0;

	for (int i = 0; i < job->n_pages; i++)
	{
		const DsocrError *status = &job->pages[i].status;

		if (status->code == DSOCR_OK)
			continue;
		failed++;
		if (first == NULL)
			first = status;
		if (passing == NULL && may_pass(status->code))
			passing = status;
	}
	/* the last attempt keeps what it has */
	if (passing != NULL && job->attempts + 1 < dsocr_max_attempts)
		return passing;
	return failed > 0 && failed == job->n_pages ? first : NULL;
}

static void
end_reading(DsocrRunner *r, DsocrRunnerJob *job)
{
	const DsocrError *failure = dsocr_reading_status(job->reading);

	if (failure->code == DSOCR_OK)
		failure = dsocr_runner_failure_of_pages(job);
	job->document_pages = dsocr_reading_pages(job->reading);
	if (failure != NULL)
	{
		DsocrError why = *failure;

		fail_by(r, job, &why);
		return;
	}
	r->pauses = 0;
	r->n_lost = 0;
	r->paused_until = 0;
	dsocr_runner_end_job(r, job);
}

/* Let a reading go on; what it raises is a failure of its job. */
static void
advance(DsocrRunner *r, DsocrRunnerJob *job)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	volatile bool ok = true;
	DsocrRunnerShare share;
	Oid user;
	int security;

	GetUserIdAndSecContext(&user, &security);
	share = dsocr_runner_set_share(job->share);
	PG_TRY();
	{
		DsocrPage *page;

		/* the request is the role's, for limits and for those who look */
		SetUserIdAndSecContext(job->role, security | SECURITY_LOCAL_USERID_CHANGE);
		dsocr_reading_advance(job->reading);
		while ((page = dsocr_reading_next(job->reading)) != NULL)
			dsocr_runner_keep_page(job, page);
		SetUserIdAndSecContext(user, security);
	}
	PG_CATCH();
	{
		ErrorData *e;

		SetUserIdAndSecContext(user, security);
		MemoryContextSwitchTo(job->context);
		e = CopyErrorData();
		FlushErrorState();
		LWLockReleaseAll();
		if (IsTransactionState())
			AbortCurrentTransaction(); /* of the table of answers */
		MemoryContextSwitchTo(job->context);
		dsocr_runner_fail_job(r, job, e->message ? e->message : "unknown error",
							  unpack_sql_state(e->sqlerrcode), false);
		ok = false;
	}
	PG_END_TRY();
	(void) dsocr_runner_set_share(share);
	MemoryContextSwitchTo(caller);
	if (ok && dsocr_reading_ended(job->reading))
		end_reading(r, job);
}

void
dsocr_runner_advance(DsocrRunner *r)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &r->reading)
		advance(r, dlist_container(DsocrRunnerJob, node, iter.cur));
}
