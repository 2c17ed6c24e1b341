/*-------------------------------------------------------------------------
 *
 * jobs_shared.h
 *		What backends, launcher and runners tell each other about jobs.
 *
 * Jobs are rows of dsocr.job_queue and nothing here has to survive: shared
 * memory only says where to look.  A transaction that queued jobs publishes,
 * once it has committed, the range of their ids for each lane, which is what
 * jobs of one priority and one role stand in; the runner of the database looks
 * into these ranges and nowhere else, so that it never walks over the remains
 * of jobs that are done.
 *
 * Locking: everything is guarded by one lock of its own, held for a few
 * assignments only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_JOBS_SHARED_H
#define DSOCR_JOBS_SHARED_H

#include "dsocr.h"

#include "datatype/timestamp.h"

#define DSOCR_JOB_PRIORITIES 10 /* 0 to 9, higher ones first */
#define DSOCR_JOB_PRIORITY_DEFAULT 5
#define DSOCR_JOB_DATABASES 256 /* that can have jobs waiting at the same time */
#define DSOCR_JOB_NEWS_LANES 32 /* that are told apart in what was published and not heard */

/* Ids of jobs, both ends inclusive; first > last: none. */
typedef struct DsocrJobRange
{
	int64 first;
	int64 last;
} DsocrJobRange;

/* A lane by its number, which is the first column of index job_queue_order. */
static inline int64
dsocr_job_lane(int priority, Oid owner)
{
	return (int64) priority << 32 | owner;
}

static inline int
dsocr_job_lane_priority(int64 lane)
{
	return (int) (lane >> 32);
}

static inline Oid
dsocr_job_lane_owner(int64 lane)
{
	return (Oid) lane;
}

/* Ids of jobs by their lanes. */
typedef struct DsocrJobIds
{
	int n;
	int64 lane[DSOCR_JOB_NEWS_LANES];
	DsocrJobRange range[DSOCR_JOB_NEWS_LANES];
	DsocrJobRange anywhere; /* in lanes that are not known, or found no room above */
} DsocrJobIds;

/* A database with jobs, as the launcher sees it. */
typedef struct DsocrJobDatabase
{
	Oid database;			/* InvalidOid: the entry is free */
	int runner_pid;			/* 0: none */
	bool wanted;			/* jobs are there that no runner knows of */
	TimestampTz wake_at;	/* start a runner then, 0 = never */
	TimestampTz not_before; /* no start before that, after trouble */
	int failures;			/* runners in a row that ended in an error */
} DsocrJobDatabase;

/* What a runner is told. */
typedef struct DsocrJobNews
{
	DsocrJobIds fresh;
	bool cancelled;	  /* some job was cancelled */
	bool prepared;	  /* the transaction was prepared: its jobs come without a word */
	bool others_wait; /* other databases wait for a runner */
} DsocrJobNews;

static inline void
dsocr_job_range_clear(DsocrJobRange *r)
{
	r->first = PG_INT64_MAX;
	r->last = 0;
}

static inline void
dsocr_job_range_add(DsocrJobRange *r, int64 first, int64 last)
{
	r->first = Min(r->first, first);
	r->last = Max(r->last, last);
}

static inline bool
dsocr_job_range_is_empty(const DsocrJobRange *r)
{
	return r->first > r->last;
}

extern void dsocr_job_ids_clear(DsocrJobIds *ids);
extern void dsocr_job_ids_add(DsocrJobIds *ids, int64 lane, int64 first, int64 last);
extern void dsocr_jobs_shmem_init(void);

/* ---- for backends ---- */

/*
 * Jobs of these ids were queued in this database, and the transaction has
 * committed, or is prepared; cancelled: others were taken away.  Raises no
 * error.
 */
extern void dsocr_jobs_publish(const DsocrJobIds *ids, bool cancelled, bool prepared);

/* Wait until some job of the class of this id has ended, or so many milliseconds. */
extern void dsocr_jobs_prepare_wait(int64 id);
extern bool dsocr_jobs_wait(int64 id, long timeout_ms); /* true: timed out */
extern void dsocr_jobs_end_wait(void);

/* ---- for runners ---- */

/* This process is the runner of this database. */
extern void dsocr_jobs_attach(void);

/* What is new; clears it. */
extern void dsocr_jobs_take(DsocrJobNews *news);

/*
 * The runner ends.  In order: another one is started for what was published
 * meanwhile, when more is known to be there, or at wake_at (0 = never).  Out
 * of order: another one is started after a pause.
 */
extern void dsocr_jobs_detach(bool in_order, bool more, TimestampTz wake_at);

/* Wake who waits for this job. */
extern void dsocr_jobs_ended(int64 id);

/* ---- for the launcher ---- */

extern void dsocr_jobs_launcher_attach(void);
extern void dsocr_jobs_launcher_detach(void);

/* Let a runner look into a database; false when there is no room to remember it. */
extern bool dsocr_jobs_want(Oid database, TimestampTz not_before);

/* The database is no more, or nothing is to be done for it. */
extern void dsocr_jobs_forget(Oid database);

/* Copy all entries in use; the number of them. */
extern int dsocr_jobs_list(DsocrJobDatabase list[DSOCR_JOB_DATABASES]);

/* Others than those with a runner wait for one. */
extern void dsocr_jobs_set_waiting(bool others_wait);

/* Were jobs published for which there was no entry?  Clears it. */
extern bool dsocr_jobs_lost_some(void);

#endif /* DSOCR_JOBS_SHARED_H */
