/*-------------------------------------------------------------------------
 *
 * runner.c
 *		Runs the jobs of one database: the process and its loop.
 *
 * There is one runner in a database at a time, which a lock of its own makes
 * sure of, so a job is claimed by being in its memory: nothing is written for
 * a claim, and when the runner is gone all its claims are.
 *
 * Documents are read outside of transactions.  There is one transaction for
 * each batch of jobs that begin and one for each batch that ends; no snapshot
 * lives longer than that.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "queue.h"
#include "shmem.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define GROUP_MS 10		 /* that a result waits for others to share its commit */
#define LIMIT_WAIT_MS 20 /* readings of a role at its limit are tried again */
#define BUSY_WAIT_MS 200
#define STAND_MS 10 /* that it stands in line, whatever else there is to do */
#define IDLE_WAIT_MS 1000
#define SLICE_MS 20000		 /* after which it makes room for another database */
#define FIRST_PREPARED_MS 50 /* after a transaction was prepared its jobs are looked for; doubles */
#define PREPARED_LOOK_MS 5000 /* the longest pause */
#define SWEEP_MS 60000
#define RUNNER_LOCK_KEY 0x64736f63

DSOCR_WAIT_EVENT(wait_event_runner, "DsocrRunner")

static volatile sig_atomic_t was_terminated = false;

/* How it ends, for the exit callback. */
static bool ends_in_order = false;
static bool ends_with_more = false;
static TimestampTz ends_until = 0;

static void
handle_terminate(SIGNAL_ARGS)
{
	was_terminated = true;
	die(postgres_signal_arg);
}

static void
runner_exit(int code, Datum arg)
{
	dsocr_jobs_detach(ends_in_order || was_terminated, ends_with_more || was_terminated,
					  ends_until);
}

static void
end_in_order(bool more, TimestampTz wake_at)
{
	ends_in_order = true;
	ends_with_more = more;
	ends_until = wake_at;
	proc_exit(0);
}

/* ---- the loop ---- */

static void
hear(DsocrRunner *r)
{
	DsocrJobNews news;

	dsocr_jobs_take(&news);
	for (int i = 0; i < news.fresh.n; i++)
		dsocr_runner_add_unseen(r, news.fresh.lane[i], news.fresh.range[i].first,
								news.fresh.range[i].last);
	if (!dsocr_job_range_is_empty(&news.fresh.anywhere))
		dsocr_runner_look_within(r, news.fresh.anywhere);
	r->others_wait = news.others_wait;
	if (news.prepared)
	{
		r->prepared = true;
		r->prepared_pause = FIRST_PREPARED_MS;
		r->next_look = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), r->prepared_pause);
	}
	if (news.cancelled)
		dsocr_runner_drop_cancelled(r);
}

static DsocrStatement select_prepared = {
	"SELECT 1 FROM pg_catalog.pg_prepared_xacts AS p"
	" WHERE p.database OPERATOR(pg_catalog.=) pg_catalog.current_database() LIMIT 1",
	0,
	{0},
	NULL};

/* Jobs of prepared transactions come without a word. */
static void
look_for_prepared(DsocrRunner *r)
{
	TimestampTz now = GetCurrentTimestamp();
	bool before = r->prepared;

	if (max_prepared_xacts == 0 || now < r->next_look)
		return;
	r->prepared_pause = Min(Max(2 * r->prepared_pause, FIRST_PREPARED_MS), PREPARED_LOOK_MS);
	r->next_look = TimestampTzPlusMilliseconds(now, r->prepared_pause);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	dsocr_jobs_execute(&select_prepared, NULL, NULL, true);
	r->prepared = SPI_processed > 0;
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (r->prepared || before)
		dsocr_runner_look_everywhere(r);
}

static bool
can_claim(DsocrRunner *r)
{
	return !r->yields && !dsocr_runner_is_paused(r) && r->n_ended < 4 * DSOCR_RUNNER_BATCH &&
		   dsocr_runner_may_claim(r);
}

/* Is there something to write now?  Jobs that share a commit wait for each other a little. */
static bool
should_write(const DsocrRunner *r)
{
	return r->n_ended >= DSOCR_RUNNER_BATCH ||
		   (r->n_ended > 0 &&
			(r->n_reading == 0 ||
			 TimestampDifferenceExceeds(r->first_ended, GetCurrentTimestamp(), GROUP_MS)));
}

static bool
has_nothing(const DsocrRunner *r)
{
	return r->n_reading == 0 && r->n_ended == 0 && r->backfill == NULL &&
		   (r->yields || !dsocr_runner_has_unseen(r));
}

/* Nothing to do: wait a while for more, then end. */
static void
consider_end(DsocrRunner *r)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz wake_at = r->next_due;

	if (!has_nothing(r))
	{
		r->idle_since = 0;
		return;
	}
	if (r->yields)
		end_in_order(true, 0);
	if (r->idle_since == 0)
		r->idle_since = now;
	if (!r->others_wait &&
		!TimestampDifferenceExceeds(r->idle_since, now, dsocr_runner_idle_timeout))
		return;
	r->next_look = 0;
	look_for_prepared(r);
	if (dsocr_runner_has_unseen(r) && !r->prepared)
		return;
	dsocr_runner_sweep(r);
	if (r->prepared)
		wake_at = wake_at == 0 ? r->next_look : Min(wake_at, r->next_look);
	end_in_order(false, wake_at);
}

static long
until(TimestampTz now, TimestampTz then, long wait)
{
	return then == 0 ? wait : Min(wait, TimestampDifferenceMilliseconds(now, then));
}

static long
patience(DsocrRunner *r)
{
	TimestampTz now = GetCurrentTimestamp();
	long wait = IDLE_WAIT_MS;

	if (can_claim(r) || should_write(r) || r->backfill != NULL)
		return should_write(r) && !can_claim(r) && r->n_reading == 0 ? 1 : 0;
	if (r->n_reading > 0)
		wait = r->limited ? LIMIT_WAIT_MS : BUSY_WAIT_MS;
	if (r->n_ended > 0)
		wait = Min(wait, GROUP_MS);
	wait = until(now, r->next_due, wait);
	wait = until(now, r->paused_until, wait);
	if (r->held_until > now)
		wait = until(now, r->held_until, wait);
	if (r->prepared)
		wait = until(now, r->next_look, wait);
	if (r->idle_since != 0)
		wait = until(now, TimestampTzPlusMilliseconds(r->idle_since, dsocr_runner_idle_timeout + 1),
					 wait);
	return Max(wait, 1);
}

static void
step(DsocrRunner *r)
{
	TimestampTz now = GetCurrentTimestamp();

	hear(r);
	look_for_prepared(r);
	dsocr_runner_wake_due(r);
	r->yields = r->others_wait && TimestampDifferenceExceeds(r->started, now, SLICE_MS);
	dsocr_runner_advance(r);
	if (can_claim(r))
	{
		dsocr_runner_claim(r);
		dsocr_runner_advance(r);
	}
	if (should_write(r))
		dsocr_runner_write(r);
	(void) dsocr_runner_backfill(r);
	if (now >= r->next_sweep)
	{
		r->next_sweep = TimestampTzPlusMilliseconds(now, SWEEP_MS);
		dsocr_runner_sweep(r);
	}
}

static void
reconfigure(DsocrRunner *r)
{
	int before = dsocr_run_jobs;

	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	if (dsocr_run_jobs == DSOCR_RUN_NONE)
		end_in_order(false, 0);
	/* documents were passed over */
	if (dsocr_run_jobs > before)
		dsocr_runner_look_everywhere(r);
}

/* ---- begin ---- */

/* One runner for each database; the lock goes with the process. */
static bool
is_only_runner(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, RUNNER_LOCK_KEY, 0, 3);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

static DsocrStatement select_any = {"SELECT 1 FROM dsocr.job_queue LIMIT 1", 0, {0}, NULL};

/* Is there the extension, and a job? */
static bool
has_jobs(DsocrRunner *r)
{
	Oid schema;
	bool found = false;
	DsocrAsOwner before;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	schema = get_namespace_oid("dsocr", true);
	if (OidIsValid(get_extension_oid("dsocr", true)) && OidIsValid(schema) &&
		OidIsValid(get_relname_relid("job_queue", schema)))
	{
		SPI_connect();
		dsocr_jobs_as_owner(&before);
		dsocr_jobs_execute(&select_any, NULL, NULL, true);
		found = SPI_processed > 0;
		dsocr_jobs_as_before(&before);
		SPI_finish();
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	return found;
}

/* What the database or its owner has set must not disturb. */
static void
set_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"row_security", "on"},
		{"dsocr.queue_timeout", "0"},
		{"dsocr.timeout", "0"},
		{"statement_timeout", "0"},
		{"lock_timeout", "5s"},
		{"default_transaction_isolation", "read committed"},
		{"application_name", "dsocr job runner"},
		{"check_function_bodies", "on"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

static DsocrRunner *
create(void)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "dsocr runner", ALLOCSET_DEFAULT_SIZES);
	DsocrRunner *r = MemoryContextAllocZero(context, sizeof(DsocrRunner));
	HASHCTL control = {
		.keysize = sizeof(int64), .entrysize = sizeof(DsocrKnownJob), .hcxt = context};

	r->context = context;
	r->known = hash_create("dsocr jobs", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dsocr_runner_init(r);
	dlist_init(&r->reading);
	dlist_init(&r->ended);
	r->max_reading = Max(1, dsocr_shared->n_slots / 2);
	r->max_bytes = dsocr_shared->memory_limit / 2;
	r->started = GetCurrentTimestamp();
	r->next_sweep = TimestampTzPlusMilliseconds(r->started, SWEEP_MS);
	dsocr_runner_look_everywhere(r);
	return r;
}

void
dsocr_runner_main(Datum arg)
{
	DsocrRunner *r;
	MemoryContext step_context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handle_terminate);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	set_settings();
	if (!is_only_runner())
		proc_exit(0);
	before_shmem_exit(runner_exit, (Datum) 0);
	dsocr_jobs_attach();
	r = create();
	/* In this order: a transaction that is prepared no more shows its jobs. */
	look_for_prepared(r);
	if (!has_jobs(r) && !r->prepared)
		end_in_order(false, 0);
	pgstat_report_activity(STATE_RUNNING, "dsocr jobs");

	step_context =
		AllocSetContextCreate(TopMemoryContext, "dsocr runner step", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		bool stands;
		long wait;

		if (was_terminated)
			proc_exit(0);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reconfigure(r);
		MemoryContextSwitchTo(step_context);
		dsocr_runner_advance(r); /* while it stands in line */
		dsocr_queue_step_aside();
		step(r);
		/* autovacuum goes by what we report */
		(void) pgstat_report_stat(has_nothing(r));
		consider_end(r);
		MemoryContextReset(step_context);
		stands = dsocr_queue_stand(&r->limited);
		wait = patience(r);
		if (stands)
			wait = Max(wait, STAND_MS);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait,
						 wait_event_runner());
		ResetLatch(MyLatch);
	}
}
