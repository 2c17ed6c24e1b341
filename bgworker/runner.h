/*-------------------------------------------------------------------------
 *
 * runner.h
 *		Runs the jobs of one database.
 *
 * runner.c is the process and its loop; runner_known.c remembers jobs,
 * runner_lanes.c where others may be, runner_turns.c says whose is next,
 * runner_claim.c fetches them, runner_options.c knows how they are to be read,
 * runner_reading.c lets their readings go on, runner_remote.c gives them to
 * other hosts as the frames of runner_frames.c, runner_rows.c fetches and locks
 * rows of users' tables,
 * runner_targets.c writes them, runner_outcome.c ends a job, runner_write.c
 * many of them, runner_sweep.c deletes what is too old, runner_backfill.c
 * queues rows that were there before a table was attached.
 *
 * A job is in one of these states, all but the last in memory alone:
 *   WAITING   its row says "not before": looked at again then
 *   READING   its document is in flight
 *   ENDED     what it gave, or why it failed, is to be written
 * and gone when its row is deleted or changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_RUNNER_H
#define DSOCR_RUNNER_H

#include "dsocr.h"

#include "access/htup_details.h"
#include "access/detoast.h"
#include "lib/ilist.h"
#include "jobs.h"
#include "reading.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"

/* Jobs that one transaction ends: a commit for many, but no rows locked for long. */
#define DSOCR_RUNNER_BATCH 64
#define DSOCR_RUNNER_RANGES 32 /* of ids, for each priority */

typedef struct DsocrRanges
{
	int n;
	DsocrJobRange range[DSOCR_RUNNER_RANGES]; /* sorted, disjoint */
} DsocrRanges;

/* What a role may have of the engines. */
typedef struct DsocrRunnerShare
{
	Oid role;
	int weight;		  /* dsocr.role_weight */
	int max_requests; /* dsocr.max_requests_per_role */
} DsocrRunnerShare;

/* A role that has, or had, jobs in this database. */
typedef struct DsocrRunnerRole
{
	Oid role; /* key */
	dlist_node node;
	DsocrRunnerShare share;					   /* at the last claim */
	DsocrRanges *unseen[DSOCR_JOB_PRIORITIES]; /* NULL: none */
	int64 seen_up_to[DSOCR_JOB_PRIORITIES];	   /* ids that a claim has passed */
	int n_jobs;								   /* claimed and not ended */
	double own_turn;						   /* what is not in the turn of the server's roles */

	/* as found by the last claim */
	int entry;		/* in the server's table of roles, -1 = not looked for */
	double turn;	/* there */
	double charged; /* there */
	int in_slots;	/* jobs that have a slot */
	int allowed;	/* jobs it may have at a time now */
	int quota;		/* jobs to be taken */
	double sum;		/* of what it has used and is charged with, by its weight */
} DsocrRunnerRole;

typedef struct DsocrRunnerJob
{
	dlist_node node; /* in reading or ended */
	MemoryContext context;
	int64 id;
	int64 lane;
	double place; /* among those that were claimed together */
	int attempts; /* that failed before */
	Oid owner;
	DsocrRunnerRole *counted; /* among its n_jobs; NULL: not */
	Oid role; /* whose rights it runs with: the owner, or that of the attached table */
	DsocrRunnerShare share; /* of that role */
	Oid source;				/* InvalidOid: the document is in the queue */
	char *attachment;		/* NULL: queued by dsocr_enqueue */
	char *key;
	char *source_column;
	Jsonb *options; /* or NULL */

	Datum document; /* plain bytes */
	Size bytes;
	bool has_pointer; /* the row has this toast pointer instead of the bytes */
	char pointer[TOAST_POINTER_SIZE];
	TimestampTz started;
	DsocrReading *reading;
	bool of_pages;	   /* for a remote worker: its pages come one after the other */
	int first_page;	   /* of them, that is to be read */
	int last_page;	   /* PG_INT32_MAX: to the end */
	bool plain;		   /* raw text is what was asked for: there is a prompt */
	DsocrError status; /* of the document */
	DsocrPage *pages;
	int n_pages;
	int max_pages;
	int document_pages;		/* that it has, read or not */
	TimestampTz not_before; /* ENDED: do not try to write earlier, 0 = at once */

	/* what is to be written, where it is no result */
	bool dropped; /* nobody wants it: the row or the attachment is gone */
	char *error;  /* NULL: none */
	char sqlstate[6];
	bool blameless; /* the attempt does not count */
	bool final;		/* no other attempt would help */
	bool lost_engine;
} DsocrRunnerJob;

/* What this process knows of a job by its id. */
typedef struct DsocrKnownJob
{
	int64 id;				/* key */
	DsocrRunnerJob *job;	/* NULL: WAITING */
	TimestampTz not_before; /* WAITING */
	int64 lane;
} DsocrKnownJob;

/* A table whose rows are to be queued. */
typedef struct DsocrBackfill DsocrBackfill;

typedef struct DsocrRunner
{
	MemoryContext context;
	HTAB *known; /* DsocrKnownJob by id */
	dlist_head reading;
	dlist_head ended;
	int n_reading;
	int n_ended;
	int n_waiting; /* of known */
	Size bytes;	   /* of documents in memory */
	Size max_bytes;
	int max_reading;
	HTAB *roles;					   /* DsocrRunnerRole by role; they stay */
	dlist_head role_list;			   /* the same */
	int n_lanes[DSOCR_JOB_PRIORITIES]; /* with something unseen */
	DsocrJobRange anywhere;			   /* unseen, too, in lanes that are to be looked for */
	TimestampTz next_lanes;			   /* remote: when lanes are looked for */
	double turn;					   /* virtual time of turns */
	double cost;					   /* remote: what a job takes, in us of a device */
	TimestampTz held_until;	 /* no role that has jobs may have more now, 0 = none is held */
	TimestampTz next_due;	 /* of WAITING jobs, 0 = none */
	TimestampTz first_ended; /* since when something is to be written */
	TimestampTz idle_since;
	TimestampTz paused_until; /* the engine cannot work: no new jobs */
	int pauses;				  /* in a row */
	int n_lost;				  /* times that engines died on jobs since one was read */
	bool limited;			  /* a role among the readings is at its limit of requests */
	bool others_wait;
	bool yields;   /* makes room for another database */
	bool prepared; /* there are prepared transactions, which may have jobs */
	TimestampTz started;
	TimestampTz next_look;	/* at prepared transactions */
	int prepared_pause;		/* ms between two such looks */
	TimestampTz next_sweep; /* of ended jobs that are too old */
	HTAB *quarantine;		/* hashes of documents; NULL: to be loaded */
	DsocrBackfill *backfill;
	bool remote; /* a session that takes jobs for another host, not the runner */
} DsocrRunner;

/* Entry point for the postmaster; the argument is the database. */
extern PGDLLEXPORT void dsocr_runner_main(Datum arg);

/* ---- runner_reading.c ---- */

/* Let all readings go on; jobs whose document is read end or fail. */
extern void dsocr_runner_advance(DsocrRunner *r);

/* The engine cannot work: no job begins. */
extern bool dsocr_runner_is_paused(const DsocrRunner *r);

/* The results of its pages are freed with the job. */
extern void dsocr_runner_watch_pages(DsocrRunnerJob *job);

/* The next page; its result passes to the job. */
extern void dsocr_runner_keep_page(DsocrRunnerJob *job, DsocrPage *page);

/* Why its pages make the job fail, or NULL: one that might be read next time, or all of them. */
extern const DsocrError *dsocr_runner_failure_of_pages(const DsocrRunnerJob *job);

/* Who is to blame for that it fails, and would another attempt help? */
extern void dsocr_runner_blame(DsocrRunnerJob *job, const DsocrError *why);

/* ---- runner_known.c ---- */

/* A new job is in memory. */
extern void dsocr_runner_know(DsocrRunner *r, DsocrRunnerJob *job);
extern void dsocr_runner_wait_for(DsocrRunner *r, int64 id, int64 lane, TimestampTz until);

/* Waiting jobs whose time has come are unseen again. */
extern void dsocr_runner_wake_due(DsocrRunner *r);

/* Forget a job that is in memory; with look, its row is looked at again. */
extern void dsocr_runner_forget(DsocrRunner *r, DsocrRunnerJob *job, bool look);

/* The job has come to its end in memory. */
extern void dsocr_runner_end_job(DsocrRunner *r, DsocrRunnerJob *job);
extern void dsocr_runner_fail_job(DsocrRunner *r, DsocrRunnerJob *job, const char *error,
								  const char *sqlstate, bool final);

/* Jobs of a list of n that are no more in the queue; inside a transaction. */
extern int dsocr_runner_find_gone(dlist_head *list, int n, DsocrRunnerJob ***gone);

/* ---- runner_lanes.c ---- */

/* A runner knows of no jobs and no roles; its context is set. */
extern void dsocr_runner_init(DsocrRunner *r);

/* Ids of a lane that are to be looked at. */
extern void dsocr_runner_add_unseen(DsocrRunner *r, int64 lane, int64 first, int64 last);

/* Those of the first range up to this one have been seen; done: all of it. */
extern void dsocr_runner_seen(DsocrRunner *r, int64 lane, int64 up_to, bool done);

/* Ids that may be in any lane; all of them: what was queued before this process began. */
extern void dsocr_runner_look_within(DsocrRunner *r, DsocrJobRange range);
extern void dsocr_runner_look_everywhere(DsocrRunner *r);
extern bool dsocr_runner_has_unseen(const DsocrRunner *r);

extern bool dsocr_runner_has_lane(const DsocrRunnerRole *role);

/* Find lanes that are not known; inside SPI_connect, as the tables' owner. */
extern void dsocr_runner_find_lanes(DsocrRunner *r);

/* ---- runner_turns.c ---- */

/* Many bytes are in memory; a role that has no job yet may have more of them. */
extern bool dsocr_runner_is_full(const DsocrRunner *r, bool is_new);

/* Is there a job that may be claimed now, as far as it is known without looking? */
extern bool dsocr_runner_may_claim(DsocrRunner *r);

/* Find out what roles have used and may have; inside SPI_connect, as the tables' owner. */
extern void dsocr_runner_look_at_roles(DsocrRunner *r);

/* Deal up to n jobs of one priority out among the roles, as their quotas; how many. */
extern int dsocr_runner_deal(DsocrRunner *r, int priority, int n);

/* One of its quota was looked at; it is a job that begins. */
extern void dsocr_runner_count_look(DsocrRunnerRole *role);
extern void dsocr_runner_count(DsocrRunnerRole *role, DsocrRunnerJob *job);

/* The job ends, or is given back; an engine elsewhere has worked for it. */
extern void dsocr_runner_uncount(DsocrRunner *r, DsocrRunnerJob *job);
extern void dsocr_runner_count_used(DsocrRunner *r, DsocrRunnerJob *job, int64 device_us);

/* ---- runner_claim.c ---- */

/* Take jobs out of what is unseen, as many as there is room for, and let them begin. */
extern void dsocr_runner_claim(DsocrRunner *r);

/*
 * Up to n of them inside a transaction, and they are only fetched: jobs claimed,
 * their number returned.  Those that cannot begin are in r->ended.
 */
extern int dsocr_runner_take(DsocrRunner *r, int n, DsocrRunnerJob **jobs);

/* How a job is to be read; in its context. */
extern void dsocr_runner_job_options(DsocrRunnerJob *job, DsocrReadOptions *options);

/* Give up what was cancelled meanwhile; the quarantine is read again. */
extern void dsocr_runner_drop_cancelled(DsocrRunner *r);

/* SHA-256 of a document, 32 bytes. */
#define DSOCR_HASH_BYTES 32
extern void dsocr_runner_hash(Datum document, uint8 *hash);
extern bool dsocr_runner_in_quarantine(DsocrRunner *r, Datum document);

/* ---- runner_share.c ---- */

/* Find the shares of roles that have something unseen; inside SPI_connect. */
extern void dsocr_runner_look_up_shares(DsocrRunner *r);

/* That of a job which is counted; inside SPI_connect. */
extern void dsocr_runner_look_up_share(DsocrRunnerJob *job);

/* Let requests be of this share; what it was before. */
extern DsocrRunnerShare dsocr_runner_set_share(DsocrRunnerShare share);

/* ---- runner_rows.c ---- */

typedef enum DsocrRowState
{
	DSOCR_ROW_OK,
	DSOCR_ROW_GONE,	   /* row, document or attachment */
	DSOCR_ROW_LOCKED,  /* by somebody else: try again later */
	DSOCR_ROW_CHANGED, /* not the document that was read */
	DSOCR_ROW_FAILED   /* job->error says why */
} DsocrRowState;

/* Fetch the document of a job from its table; its options where it has an attachment. */
extern DsocrRowState dsocr_runner_fetch_row(DsocrRunner *r, DsocrRunnerJob *job);

/* Lock the row that a job is about, and see whether it is still the one that was read. */
extern DsocrRowState dsocr_runner_lock_row(DsocrRunnerJob *job);

/* Write what the job gave into the attached table. */
extern DsocrRowState dsocr_runner_write_row(DsocrRunnerJob *job);

/* ---- runner_options.c ---- */

/* Read options as a job or an attachment has them. */
extern void dsocr_runner_read_options(const Jsonb *json, DsocrReadOptions *options);
extern char *dsocr_json_option(const Jsonb *json, const char *name);

/* ---- runner_write.c ---- */

/* Write what has ended, as far as it goes. */
extern void dsocr_runner_write(DsocrRunner *r);

/*
 * Write one job within the caller's transaction.  What has become of it is
 * final when that has committed.
 */
typedef enum DsocrWritten
{
	DSOCR_WRITTEN_ENDED, /* and who waits for it is to be told */
	DSOCR_WRITTEN_LATER, /* its row is left for another attempt, or has changed */
	DSOCR_WRITTEN_BUSY	 /* not now: somebody has its rows locked */
} DsocrWritten;

extern DsocrWritten dsocr_runner_write_one(DsocrRunner *r, DsocrRunnerJob *job);

/* ---- runner_sweep.c ---- */

/* Delete ended jobs that are too old, add up tallies. */
extern void dsocr_runner_sweep(DsocrRunner *r);

/* ---- runner_backfill.c ---- */

/* A job whose key is NULL asks for all rows of its table; in its transaction. */
extern void dsocr_runner_begin_backfill(DsocrRunner *r, int64 id, int64 lane, Oid source,
										const char *attachment);

/* Queue some rows in a transaction of its own; false when there is nothing to do. */
extern bool dsocr_runner_backfill(DsocrRunner *r);

#endif /* DSOCR_RUNNER_H */
