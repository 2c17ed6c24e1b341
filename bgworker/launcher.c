/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		Starts a runner in each database that has jobs.
 *
 * The launcher is connected to no database and sleeps until it is told
 * something: by a backend whose transaction has queued jobs, by a runner that
 * ends, by the clock for jobs that wait for their next attempt.  When it
 * starts it does not know where jobs are, so a runner has a look at each
 * database that can be connected to and is no template; it ends at once where
 * there is nothing for it.
 *
 * While runners are there it looks, several times a second, whether somebody
 * waits for one of their databases to be left (DROP, RENAME, CREATE ...
 * TEMPLATE), and lets the runner go: such commands wait for five seconds only.
 *
 * It starts when recovery has ended: a standby runs no jobs until then.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "launcher.h"

#include <limits.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "jobs_shared.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "runner.h"

#define LAUNCHER_RESTART_S 5
#define WATCH_MS 250		  /* how often it looks whether a runner is in the way */
#define STEP_ASIDE_MS 2000	  /* no runner in a database that somebody wants to be left */
#define NO_SLOT_PAUSE_MS 2000 /* when no process can be started */
#define LOG_INTERVAL_MS 60000
#define MAX_STARTED 64

DSOCR_WAIT_EVENT(wait_event_launcher, "DsocrLauncher")

/* A runner that was asked for. */
typedef struct Started
{
	Oid database;
	BackgroundWorkerHandle *handle;
} Started;

typedef struct Launcher
{
	MemoryContext context;
	Oid *unseen; /* databases that no runner has looked at yet */
	int n_unseen;
	Started started[MAX_STARTED];
	int n_started;
	TimestampTz try_again; /* no process could be started: not before */
	TimestampTz last_logged;
} Launcher;

/* ---- databases ---- */

static bool
can_have_jobs(Form_pg_database database)
{
	return database->datallowconn && !database->datistemplate && database->datconnlimit != -2;
}

/* All databases that can have jobs; or, with only, whether that one does. */
static bool
list_databases(Launcher *l, Oid only)
{
	bool found = false;
	TableScanDesc scan;
	HeapTuple tuple;
	Relation rel;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (!can_have_jobs(database))
			continue;
		if (OidIsValid(only))
			found |= database->oid == only;
		else
		{
			MemoryContext caller = MemoryContextSwitchTo(l->context);

			l->unseen = l->unseen == NULL ? palloc(sizeof(Oid))
										  : repalloc(l->unseen, sizeof(Oid) * (l->n_unseen + 1));
			l->unseen[l->n_unseen++] = database->oid;
			MemoryContextSwitchTo(caller);
		}
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return found;
}

static void
look_everywhere(Launcher *l)
{
	l->n_unseen = 0;
	list_databases(l, InvalidOid);
}

/*
 * Does somebody hold, or wait for, a lock on the database that keeps others
 * out?  Whoever connects takes the same lock for a moment.
 */
static bool
is_wanted_alone(Oid database)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (LockAcquire(&tag, RowExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, RowExclusiveLock, true);
	return false;
}

/* ---- runners ---- */

static bool
is_started(const Launcher *l, Oid database)
{
	for (int i = 0; i < l->n_started; i++)
	{
		if (l->started[i].database == database)
			return true;
	}
	return false;
}

/* Forget runners that have ended. */
static void
reap(Launcher *l)
{
	for (int i = 0; i < l->n_started; i++)
	{
		pid_t pid;

		if (GetBackgroundWorkerPid(l->started[i].handle, &pid) != BGWH_STOPPED)
			continue;
		pfree(l->started[i].handle);
		l->started[i--] = l->started[--l->n_started];
	}
}

static bool
start_runner(Launcher *l, Oid database)
{
	BackgroundWorker worker = {0};
	MemoryContext caller;
	bool started;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "dsocr", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "dsocr_runner_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "dsocr job runner", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "dsocr job runner", BGW_MAXLEN);

	caller = MemoryContextSwitchTo(l->context);
	started = RegisterDynamicBackgroundWorker(&worker, &l->started[l->n_started].handle);
	MemoryContextSwitchTo(caller);
	if (started)
	{
		l->started[l->n_started++].database = database;
		return true;
	}
	l->try_again = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), NO_SLOT_PAUSE_MS);
	if (TimestampDifferenceExceeds(l->last_logged, GetCurrentTimestamp(), LOG_INTERVAL_MS))
	{
		l->last_logged = GetCurrentTimestamp();
		ereport(LOG, (errmsg("dsocr jobs wait: no background worker is free"),
					  errhint("Raise max_worker_processes.")));
	}
	return false;
}

/* Is a runner due there? */
static bool
is_due(const DsocrJobDatabase *d, TimestampTz now)
{
	return d->runner_pid == 0 && now >= d->not_before &&
		   (d->wanted || (d->wake_at != 0 && now >= d->wake_at));
}

/* Start runners where they are due, as many as may run; false: others wait. */
static bool
start_due(Launcher *l, const DsocrJobDatabase *list, int n)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < n; i++)
	{
		if (!is_due(&list[i], now) || is_started(l, list[i].database))
			continue;
		if (now < l->try_again || l->n_started >= Min(dsocr_runners, MAX_STARTED))
			return false;
		if (!list_databases(l, list[i].database))
			dsocr_jobs_forget(list[i].database);
		else if (is_wanted_alone(list[i].database))
			dsocr_jobs_want(list[i].database, TimestampTzPlusMilliseconds(now, STEP_ASIDE_MS));
		else if (!start_runner(l, list[i].database))
			return false;
	}
	return true;
}

/* Let databases that nobody has looked at be looked at, as far as there is room. */
static void
start_unseen(Launcher *l)
{
	while (l->n_unseen > 0 && l->n_started < Min(dsocr_runners, MAX_STARTED) &&
		   GetCurrentTimestamp() >= l->try_again)
	{
		DsocrJobDatabase d;
		Oid database = l->unseen[l->n_unseen - 1];

		if (!dsocr_jobs_want(database, 0))
			return;
		l->n_unseen--;
		memset(&d, 0, sizeof(d));
		d.database = database;
		d.wanted = true;
		if (!start_due(l, &d, 1))
			return;
	}
}

/* Let runners leave databases that somebody wants to have for himself. */
static void
step_aside(const DsocrJobDatabase *list, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (list[i].runner_pid == 0 || !is_wanted_alone(list[i].database))
			continue;
		dsocr_jobs_want(list[i].database,
						TimestampTzPlusMilliseconds(GetCurrentTimestamp(), STEP_ASIDE_MS));
		kill(list[i].runner_pid, SIGTERM);
	}
}

/* ---- the loop ---- */

/* Milliseconds until something is due; -1: nothing is. */
static long
patience(const Launcher *l, const DsocrJobDatabase *list, int n)
{
	TimestampTz now = GetCurrentTimestamp();
	long wait = l->n_started > 0 ? WATCH_MS : INT_MAX;

	for (int i = 0; i < n; i++)
	{
		TimestampTz due = list[i].wanted ? now : list[i].wake_at;

		if (list[i].runner_pid != 0 || is_started(l, list[i].database) || due == 0)
			continue;
		due = Max(due, list[i].not_before);
		if (l->n_started >= dsocr_runners)
			continue; /* the end of a runner wakes us */
		due = Max(due, l->try_again);
		wait = Min(wait, TimestampDifferenceMilliseconds(now, due));
	}
	if (l->n_unseen > 0 && l->n_started < dsocr_runners)
		wait = Min(wait, Max(TimestampDifferenceMilliseconds(now, l->try_again), WATCH_MS));
	return wait == INT_MAX ? -1 : wait;
}

static void
launcher_exit(int code, Datum arg)
{
	dsocr_jobs_launcher_detach();
}

static long
step(Launcher *l)
{
	DsocrJobDatabase list[DSOCR_JOB_DATABASES];
	bool all_served = true;
	int n;

	if (dsocr_jobs_lost_some())
		look_everywhere(l);
	reap(l);
	n = dsocr_jobs_list(list);
	if (dsocr_run_jobs != DSOCR_RUN_NONE)
	{
		all_served = start_due(l, list, n);
		start_unseen(l);
	}
	dsocr_jobs_set_waiting(!all_served || l->n_unseen > 0);
	n = dsocr_jobs_list(list);
	step_aside(list, n);
	return dsocr_run_jobs != DSOCR_RUN_NONE ? patience(l, list, n)
											: (l->n_started > 0 ? WATCH_MS : -1);
}

void
dsocr_launcher_main(Datum arg)
{
	Launcher *l = MemoryContextAllocZero(TopMemoryContext, sizeof(Launcher));
	int ran_jobs;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	l->context = TopMemoryContext;
	before_shmem_exit(launcher_exit, (Datum) 0);
	dsocr_jobs_launcher_attach();
	ran_jobs = dsocr_run_jobs;
	look_everywhere(l);
	for (;;)
	{
		long wait;

		CHECK_FOR_INTERRUPTS();
		/* Not 0, which would mean never again. */
		if (ShutdownRequestPending)
			proc_exit(1);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			if (dsocr_run_jobs > ran_jobs)
				look_everywhere(l);
			ran_jobs = dsocr_run_jobs;
		}
		wait = step(l);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (wait >= 0 ? WL_TIMEOUT : 0),
						 wait, wait_event_launcher());
		ResetLatch(MyLatch);
	}
}

void
dsocr_launcher_init(void)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = LAUNCHER_RESTART_S;
	strlcpy(worker.bgw_library_name, "dsocr", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "dsocr_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "dsocr job launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "dsocr job launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
