/*-------------------------------------------------------------------------
 *
 * cli_join.h
 *		dsocr-engine join: a worker of a database on any host.
 *
 * The process carries frames between the database and an engine of its own.
 * cli_join.c has the options and the loop, cli_join_jobs.c the jobs in flight,
 * cli_join_engine.c what is said to the engine, cli_join_child.c the engine as
 * a process, cli_join_work.c what is asked of the database and when, and
 * cli_join_db.c the session there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CLI_JOIN_H
#define DSOCR_CLI_JOIN_H

#include <signal.h>
#include <sys/types.h>

#include "channel.h"

#define DSOCR_JOIN_MAX_JOBS 1024

/* Exit statuses, beside 0 = done and 2 = wrong usage. */
#define DSOCR_JOIN_FAILED 1		 /* the engine, or no memory */
#define DSOCR_JOIN_TURNED_AWAY 3 /* the server does not want this worker as it is */

/* Signals that asked for the end: 1 = when jobs in flight have, 2 = now. */
extern volatile sig_atomic_t dsocr_join_stops;

/* ---- cli_join_child.c ---- */

typedef struct DsocrJoinChild
{
	pid_t pid; /* 0: none */
	bool ready;
	DsocrChannel channel;
} DsocrJoinChild;

/* Start the program argv[0]; argv has a place for the descriptor. */
extern bool dsocr_join_child_start(DsocrJoinChild *c, char **argv, char *fd_text, size_t fd_size,
								   DsocrError *err);

/* It is gone, or is to go: end it and wait for it. */
extern void dsocr_join_child_end(DsocrJoinChild *c, bool in_order);

/* ---- cli_join_db.c ---- */

typedef struct DsocrJoinDb DsocrJoinDb;

/* A job as the database gives it: the whole frame of the request. */
typedef struct DsocrJoinGiven
{
	uint64_t id;
	DsocrBuffer frame;
} DsocrJoinGiven;

/*
 * Errors: DSOCR_E_IO, worth another try; DSOCR_E_ARGUMENT, not without a change
 * there; DSOCR_E_MODEL, not without a change here (another release or model).
 */
extern DsocrJoinDb *dsocr_join_db_open(const char *conninfo, const DsocrModelInfo *info,
									   DsocrError *err);
extern void dsocr_join_db_close(DsocrJoinDb *db);
extern int dsocr_join_db_socket(const DsocrJoinDb *db);

/* Milliseconds of silence after which the server takes the jobs back. */
extern int dsocr_join_db_lease(const DsocrJoinDb *db);

/* Has the server ended the session? */
extern bool dsocr_join_db_lost(DsocrJoinDb *db);

/* Up to n jobs with their documents; the number of them, or -1: the session is no more of use. */
extern int dsocr_join_db_claim(DsocrJoinDb *db, int n, DsocrJoinGiven *jobs, DsocrError *err);

/* Keep the jobs; up to n ids of those that nobody wants any more, -1 as above. */
extern int dsocr_join_db_keep(DsocrJoinDb *db, int n, uint64_t *ids, DsocrError *err);

typedef enum DsocrJoinWritten
{
	DSOCR_JOIN_WRITTEN,
	DSOCR_JOIN_BUSY,	/* ask again later */
	DSOCR_JOIN_REFUSED, /* the server could not: *err says why */
	DSOCR_JOIN_LOST		/* the session is no more of use */
} DsocrJoinWritten;

#define DSOCR_JOIN_WRITE_AT_ONCE 16

typedef struct DsocrJoinAnswer
{
	uint64_t id;
	const DsocrBuffer *frame; /* of the result */
	int64_t device_us;
} DsocrJoinAnswer;

/* In one transaction: all are REFUSED or LOST, or each is WRITTEN or BUSY. */
extern void dsocr_join_db_finish(DsocrJoinDb *db, int n, const DsocrJoinAnswer *answers,
								 DsocrJoinWritten *written, DsocrError *err);
extern DsocrJoinWritten dsocr_join_db_release(DsocrJoinDb *db, uint64_t id, DsocrError *err);

/* ---- cli_join_jobs.c ---- */

/*
 * A job is WAITING for the engine, READING in it, or ANSWERED and to be
 * written.  Its claim lives as long as the session of the database; when that
 * is lost, what is READING is cancelled (an ORPHAN until the engine lets go)
 * and all else forgotten: the database gives the jobs to somebody else.
 */
typedef enum DsocrJoinState
{
	DSOCR_JOB_FREE,
	DSOCR_JOB_WAITING,
	DSOCR_JOB_READING,
	DSOCR_JOB_ANSWERED,
	DSOCR_JOB_ORPHAN
} DsocrJoinState;

typedef struct DsocrJoinJob
{
	DsocrJoinState state;
	uint64_t id;
	DsocrBuffer frame;	/* of the request; kept until it is answered */
	DsocrBuffer answer; /* frame of the result */
	bool suspect;		/* an engine died while it was in it */
	bool alone;			/* the server could not write it together with others */
	bool refused;		/* the server could not write its answer */
	int64_t not_before; /* ANSWERED: do not write earlier */
	double clock;		/* READING: that of the jobs when it began */
	double device_us;	/* its share of the engine's time */
} DsocrJoinJob;

typedef struct DsocrJoinJobs
{
	DsocrJoinJob jobs[DSOCR_JOIN_MAX_JOBS];
	int counts[DSOCR_JOB_ORPHAN + 1];
	double clock; /* us; runs at the speed 1 / (jobs that are read) */
	int64_t clock_at;
} DsocrJoinJobs;

extern void dsocr_join_jobs_init(DsocrJoinJobs *t);
extern void dsocr_join_jobs_free(DsocrJoinJobs *t);
extern void dsocr_join_set_state(DsocrJoinJobs *t, DsocrJoinJob *job, DsocrJoinState state);
extern void dsocr_join_drop(DsocrJoinJobs *t, DsocrJoinJob *job);

/* The first in this state; id 0: any. */
extern DsocrJoinJob *dsocr_join_find(DsocrJoinJobs *t, DsocrJoinState state, uint64_t id);

/* Those that the session of the database has claimed. */
extern int dsocr_join_open_jobs(const DsocrJoinJobs *t);

/* The job failed here, before or after the engine. */
extern void dsocr_join_fail_job(DsocrJoinJobs *t, DsocrJoinJob *job, DsocrCode code,
								const char *message);

/* ---- what they share ---- */

/* When to try again what did not work. */
typedef struct DsocrJoinPause
{
	int64_t until;
	int ms;
} DsocrJoinPause;

#define DSOCR_JOIN_FIRST_PAUSE_MS 250
#define DSOCR_JOIN_LONGEST_PAUSE_MS 30000

typedef struct DsocrJoin
{
	const char *conninfo;
	char *argv[32]; /* of the engine */
	char fd_text[16];
	DsocrJoinChild child;
	bool child_was_ready;
	DsocrJoinPause child_pause;
	int64_t heard; /* from the engine, or when it got something to do */
	int engine_timeout_ms;
	DsocrModelInfo info;
	DsocrJoinDb *db;
	bool was_joined;
	int64_t kept; /* when the server last heard that we work */
	DsocrJoinPause db_pause;
	DsocrJoinPause idle;	/* there were no jobs */
	DsocrJoinPause trouble; /* the engine cannot work */
	DsocrJoinJobs jobs;
	int in_flight; /* most jobs at the same time */
	int wanted_in_flight;
	long long max; /* jobs to take, 0 = no end */
	long long taken;
	long long written;
	bool once;
	bool nothing_left; /* the last look found none */
	int status;		   /* not 0: to end with it */
	int64_t reported;
	long long reported_written;
} DsocrJoin;

extern int64_t dsocr_join_now(void); /* ms */
extern void dsocr_join_say(const char *fmt, ...) DSOCR_PRINTF(1, 2);
extern void dsocr_join_pause(DsocrJoinPause *p, int first, int longest);
extern bool dsocr_join_is_paused(const DsocrJoinPause *p);

/* ---- cli_join_engine.c ---- */

extern void dsocr_join_start_engine(DsocrJoin *j);
extern void dsocr_join_hear_engine(DsocrJoin *j);
extern void dsocr_join_feed_engine(DsocrJoin *j);

/* The engine is to forget the job, which is READING. */
extern void dsocr_join_cancel_reading(DsocrJoin *j, DsocrJoinJob *job);

/* ---- cli_join_work.c ---- */

extern void dsocr_join_connect(DsocrJoin *j);
extern void dsocr_join_keep(DsocrJoin *j);
extern void dsocr_join_claim(DsocrJoin *j);
extern void dsocr_join_write(DsocrJoin *j);
extern void dsocr_join_lose_db(DsocrJoin *j, const DsocrError *err);

/* When it is to be heard from again, at the latest. */
extern int64_t dsocr_join_keep_at(const DsocrJoin *j);

/* Could more be claimed now? */
extern bool dsocr_join_can_claim(const DsocrJoin *j);

#endif /* DSOCR_CLI_JOIN_H */
