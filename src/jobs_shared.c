/*-------------------------------------------------------------------------
 *
 * jobs_shared.c
 *		What backends, launcher and runners tell each other about jobs.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "jobs_shared.h"

#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#define WAIT_CLASSES 64		/* who waits for a job shares its class with others */
#define FIRST_PAUSE_MS 1000 /* after a runner ended in an error; doubles */
#define LONGEST_PAUSE_MS 60000

typedef struct JobDatabase
{
	DsocrJobDatabase shown;
	int runner_procno;
	bool cancelled;
	bool prepared;
	DsocrJobIds fresh;
} JobDatabase;

typedef struct JobsShared
{
	int launcher_pid; /* 0: none */
	int launcher_procno;
	bool others_wait;
	bool lost;
	JobDatabase databases[DSOCR_JOB_DATABASES];
	ConditionVariable ended[WAIT_CLASSES]; /* have locks of their own */
} JobsShared;

static JobsShared *jobs = NULL;
static LWLock *jobs_lock = NULL;
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

DSOCR_WAIT_EVENT(wait_event_job, "DsocrJob")

/* ---- set up ---- */

static void
request(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(JobsShared)));
	RequestNamedLWLockTranche("dsocr_jobs", 1);
}

static void
startup(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	jobs_lock = &GetNamedLWLockTranche("dsocr_jobs")->lock;
	jobs = ShmemInitStruct("dsocr jobs", sizeof(JobsShared), &found);
	if (!found)
	{
		memset(jobs, 0, sizeof(JobsShared));
		for (int i = 0; i < WAIT_CLASSES; i++)
			ConditionVariableInit(&jobs->ended[i]);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
dsocr_jobs_shmem_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

/* ---- ids ---- */

void
dsocr_job_ids_clear(DsocrJobIds *ids)
{
	ids->n = 0;
	dsocr_job_range_clear(&ids->anywhere);
}

void
dsocr_job_ids_add(DsocrJobIds *ids, int64 lane, int64 first, int64 last)
{
	DsocrJobRange *range = &ids->anywhere;

	/* most often it is the one of the job before */
	for (int i = ids->n - 1; i >= 0 && range == &ids->anywhere; i--)
	{
		if (ids->lane[i] == lane)
			range = &ids->range[i];
	}
	if (range == &ids->anywhere && ids->n < DSOCR_JOB_NEWS_LANES)
	{
		range = &ids->range[ids->n];
		dsocr_job_range_clear(range);
		ids->lane[ids->n++] = lane;
	}
	dsocr_job_range_add(range, first, last);
}

static bool
has_ids(const DsocrJobIds *ids)
{
	return ids->n > 0 || !dsocr_job_range_is_empty(&ids->anywhere);
}

/* ---- entries; the lock is held ---- */

static void
set_latch_of(int procno)
{
	SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

static void
wake_launcher(void)
{
	if (jobs->launcher_pid != 0)
		set_latch_of(jobs->launcher_procno);
}

static JobDatabase *
find(Oid database)
{
	for (int i = 0; i < DSOCR_JOB_DATABASES; i++)
	{
		if (jobs->databases[i].shown.database == database)
			return &jobs->databases[i];
	}
	return NULL;
}

static JobDatabase *
find_or_create(Oid database)
{
	JobDatabase *d = find(database);

	if (d == NULL)
	{
		d = find(InvalidOid);
		if (d == NULL)
			return NULL;
		memset(d, 0, sizeof(*d));
		d->shown.database = database;
		dsocr_job_ids_clear(&d->fresh);
	}
	return d;
}

/* ---- for backends ---- */

void
dsocr_jobs_publish(const DsocrJobIds *ids, bool cancelled, bool prepared)
{
	JobDatabase *d;
	bool queued = has_ids(ids);

	if (jobs == NULL)
		return;

	LWLockAcquire(jobs_lock, LW_EXCLUSIVE);
	/* Who is not there cannot be busy with what was cancelled. */
	d = queued ? find_or_create(MyDatabaseId) : find(MyDatabaseId);
	if (d != NULL)
	{
		for (int i = 0; i < ids->n; i++)
			dsocr_job_ids_add(&d->fresh, ids->lane[i], ids->range[i].first, ids->range[i].last);
		dsocr_job_range_add(&d->fresh.anywhere, ids->anywhere.first, ids->anywhere.last);
		d->cancelled |= cancelled;
		d->prepared |= prepared;
		if (d->shown.runner_pid != 0)
			set_latch_of(d->runner_procno);
		else
			d->shown.wanted |= queued;
	}
	else
		jobs->lost |= queued;
	if (queued && (d == NULL || d->shown.runner_pid == 0))
		wake_launcher();
	LWLockRelease(jobs_lock);
}

static ConditionVariable *
class_of(int64 id)
{
	return &jobs->ended[(uint64) id % WAIT_CLASSES];
}

void
dsocr_jobs_prepare_wait(int64 id)
{
	ConditionVariablePrepareToSleep(class_of(id));
}

bool
dsocr_jobs_wait(int64 id, long timeout_ms)
{
	return ConditionVariableTimedSleep(class_of(id), timeout_ms, wait_event_job());
}

void
dsocr_jobs_end_wait(void)
{
	ConditionVariableCancelSleep();
}

/* ---- for runners ---- */

void
dsocr_jobs_attach(void)
{
	JobDatabase *d;

	LWLockAcquire(jobs_lock, LW_EXCLUSIVE);
	d = find_or_create(MyDatabaseId);
	if (d != NULL)
	{
		d->shown.runner_pid = MyProcPid;
		d->runner_procno = dsocr_my_procno;
		d->shown.wanted = false;
		d->shown.wake_at = 0;
	}
	LWLockRelease(jobs_lock);
	if (d == NULL)
		elog(ERROR, "no room for database %u among those with dsocr jobs", MyDatabaseId);
}

void
dsocr_jobs_take(DsocrJobNews *news)
{
	JobDatabase *d;

	LWLockAcquire(jobs_lock, LW_EXCLUSIVE);
	d = find(MyDatabaseId);
	if (d == NULL || d->shown.runner_pid != MyProcPid)
	{
		LWLockRelease(jobs_lock);
		elog(ERROR, "this process does not run the dsocr jobs of its database");
	}
	news->fresh = d->fresh;
	dsocr_job_ids_clear(&d->fresh);
	news->cancelled = d->cancelled;
	news->prepared = d->prepared;
	news->others_wait = jobs->others_wait;
	d->cancelled = d->prepared = false;
	LWLockRelease(jobs_lock);
}

void
dsocr_jobs_detach(bool in_order, bool more, TimestampTz wake_at)
{
	JobDatabase *d;

	LWLockAcquire(jobs_lock, LW_EXCLUSIVE);
	d = find(MyDatabaseId);
	if (d != NULL && d->shown.runner_pid == MyProcPid)
	{
		d->shown.runner_pid = 0;
		d->shown.wanted = !in_order || more || has_ids(&d->fresh);
		d->shown.wake_at = wake_at;
		d->shown.not_before = 0;
		if (in_order)
			d->shown.failures = 0;
		else
		{
			int pause = FIRST_PAUSE_MS << Min(d->shown.failures, 6);

			d->shown.failures++;
			d->shown.not_before =
				TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Min(pause, LONGEST_PAUSE_MS));
		}
		if (!d->shown.wanted && wake_at == 0)
			d->shown.database = InvalidOid;
	}
	wake_launcher();
	LWLockRelease(jobs_lock);
}

void
dsocr_jobs_ended(int64 id)
{
	ConditionVariableBroadcast(class_of(id));
}

/* ---- for the launcher ---- */

void
dsocr_jobs_launcher_attach(void)
{
	LWLockAcquire(jobs_lock, LW_EXCLUSIVE);
	jobs->launcher_pid = MyProcPid;
	jobs->launcher_procno = dsocr_my_procno;
	LWLockRelease(jobs_lock);
}

void
dsocr_jobs_launcher_detach(void)
{
	LWLockAcquire(jobs_lock, LW_EXCLUSIVE);
	if (jobs->launcher_pid == MyProcPid)
		jobs->launcher_pid = 0;
	LWLockRelease(jobs_lock);
}

bool
dsocr_jobs_want(Oid database, TimestampTz not_before)
{
	JobDatabase *d;

	LWLockAcquire(jobs_lock, LW_EXCLUSIVE);
	d = find_or_create(database);
	if (d != NULL && d->shown.runner_pid == 0)
		d->shown.wanted = true;
	if (d != NULL)
		d->shown.not_before = Max(d->shown.not_before, not_before);
	LWLockRelease(jobs_lock);
	return d != NULL;
}

void
dsocr_jobs_forget(Oid database)
{
	JobDatabase *d;

	LWLockAcquire(jobs_lock, LW_EXCLUSIVE);
	d = find(database);
	if (d != NULL && d->shown.runner_pid == 0)
		d->shown.database = InvalidOid;
	LWLockRelease(jobs_lock);
}

int
dsocr_jobs_list(DsocrJobDatabase list[DSOCR_JOB_DATABASES])
{
	int n = 0;

	LWLockAcquire(jobs_lock, LW_SHARED);
	for (int i = 0; i < DSOCR_JOB_DATABASES; i++)
	{
		if (jobs->databases[i].shown.database != InvalidOid)
			list[n++] = jobs->databases[i].shown;
	}
	LWLockRelease(jobs_lock);
	return n;
}

void
dsocr_jobs_set_waiting(bool others_wait)
{
	LWLockAcquire(jobs_lock, LW_EXCLUSIVE);
	jobs->others_wait = others_wait;
	LWLockRelease(jobs_lock);
}

bool
dsocr_jobs_lost_some(void)
{
	bool lost;

	LWLockAcquire(jobs_lock, LW_EXCLUSIVE);
	lost = jobs->lost;
	jobs->lost = false;
	LWLockRelease(jobs_lock);
	return lost;
}
