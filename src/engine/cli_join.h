/*-------------------------------------------------------------------------
 *
 * cli_join.h
 *		dsocr-engine join: a worker of a database on any host.
 *
 * The process carries frames between the database and an engine of its own,
 * and a page server where documents have several pages.  cli_join.c has the
 * loop, cli_join_options.c the options, cli_join_jobs.c the jobs in flight,
 * cli_join_documents.c those of several pages, cli_join_engine.c what is said
 * to the engine, cli_join_asking.c what to the page server, cli_join_pages.c
 * what that answers, cli_join_child.c both as processes, cli_join_work.c what
 * is asked of the database and when, and cli_join_db.c the session there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CLI_JOIN_H
#define DSOCR_CLI_JOIN_H

#include <limits.h>
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

/* A job as the database gives it: the whole frame of the request; none: it has ended already. */
typedef struct DsocrJoinGiven
{
	uint64_t id;
	DsocrBuffer frame;
	DsocrBuffer page_frame; /* to be asked of each page, where there are several */
	int first_page;
	int last_page;
} DsocrJoinGiven;

/*
 * Errors: DSOCR_E_IO, worth another try; DSOCR_E_ARGUMENT, not without a change
 * there; DSOCR_E_MODEL, not without a change here (another release or model).
 */
extern DsocrJoinDb *dsocr_join_db_open(const char *conninfo, const DsocrModelInfo *info,
									   bool opens_documents, DsocrError *err);
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

/* Results of pages of a job, the first of which has this number; never BUSY. */
extern DsocrJoinWritten dsocr_join_db_pages(DsocrJoinDb *db, uint64_t id, int first,
											const DsocrBuffer *frames, DsocrError *err);
extern DsocrJoinWritten dsocr_join_db_release(DsocrJoinDb *db, uint64_t id, DsocrError *err);

/* ---- cli_join_jobs.c ---- */

/*
 * A job is WAITING for the engine, READING in it, or ANSWERED and to be
 * written.  One of several pages is OPEN instead until it is ANSWERED, and each
 * of its pages, from when there is an image of it until it is read, is an entry
 * of its own, WAITING or READING, with a parent.  Its claim lives as long as
 * the session of the database; when that is lost, what is READING is cancelled
 * (an ORPHAN until the engine lets go) and all else forgotten: the database
 * gives the jobs to somebody else.
 */
typedef enum DsocrJoinState
{
	DSOCR_JOB_FREE,
	DSOCR_JOB_WAITING,
	DSOCR_JOB_READING,
	DSOCR_JOB_OPEN,
	DSOCR_JOB_ANSWERED,
	DSOCR_JOB_ORPHAN
} DsocrJoinState;

/* Numbers that are ours, for pages and open documents: those of jobs are smaller. */
#define DSOCR_JOIN_OWN_IDS (UINT64_C(1) << 63)

typedef struct DsocrJoinDocument DsocrJoinDocument; /* its pages */

typedef struct DsocrJoinJob
{
	DsocrJoinState state;
	uint64_t id;
	struct DsocrJoinJob *parent; /* whose page it is */
	int page;
	DsocrJoinDocument *document; /* OPEN */
	DsocrBuffer frame;	/* of the request; kept until it is answered, a page's until it is sent */
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

/* What the session of the database has claimed, pages that are in work counted. */
extern int dsocr_join_open_jobs(const DsocrJoinJobs *t);

/* The same without them. */
extern int dsocr_join_claimed_jobs(const DsocrJoinJobs *t);

/* Its answer is there: it is ANSWERED, and of a page the document has it. */
extern void dsocr_join_answered(DsocrJoinJobs *t, DsocrJoinJob *job);

/* The job failed here, before or after the engine. */
extern void dsocr_join_fail_job(DsocrJoinJobs *t, DsocrJoinJob *job, DsocrCode code,
								const char *message);

/* ---- cli_join_documents.c ---- */

/* A page from when its document's turn has come to when the database has it. */
typedef enum DsocrJoinPageState
{
	DSOCR_PAGE_WANTED,
	DSOCR_PAGE_ASKED,	/* of the page server */
	DSOCR_PAGE_READING, /* there is an entry among the jobs */
	DSOCR_PAGE_ENDED
} DsocrJoinPageState;

typedef struct DsocrJoinPage
{
	DsocrJoinPageState state;
	uint64_t ask;		/* ASKED */
	int losses;			/* page servers that died while it was ASKED */
	bool suspect;		/* an engine died while it was in it */
	DsocrBuffer answer; /* ENDED: frame of the result */
} DsocrJoinPage;

struct DsocrJoinDocument
{
	uint64_t order; /* smaller: came earlier */
	uint64_t id;	/* at the page server; 0: it does not have it */
	bool open;
	int deaths;		   /* page servers that died while it was being opened */
	DsocrError broken; /* why no more pages can be made, else DSOCR_OK */
	DsocrRequest reading;
	char *prompt;
	int pages;	  /* that it has, 0: not known yet */
	int last;	  /* that is to be read */
	int next_out; /* the first that the database does not have */
	int next_in;  /* the first that has no entry */
	int window;
	DsocrJoinPage *entries;
};

static inline DsocrJoinPage *
dsocr_join_page(const DsocrJoinDocument *d, int page)
{
	return &d->entries[page % d->window];
}

/* The pages of a job that was given; false: no memory, or it is malformed. */
extern DsocrJoinDocument *dsocr_join_document_create(const DsocrJoinGiven *given, int window,
													 uint64_t order, DsocrError *err);
extern void dsocr_join_document_free(DsocrJoinDocument *d);

/* It has so many pages. */
extern void dsocr_join_document_set_pages(DsocrJoinDocument *d, int pages);

/* Let pages enter the window. */
extern void dsocr_join_document_fill(DsocrJoinDocument *d);

/* Are there pages that are still to be asked for? */
extern bool dsocr_join_document_wants(const DsocrJoinDocument *d);

/* How many pages are in this state. */
extern int dsocr_join_document_count(const DsocrJoinDocument *d, DsocrJoinPageState state);

/* A page could not be read. */
extern void dsocr_join_document_fail_page(DsocrJoinJob *job, int page, const DsocrError *why);

/* Does the page server have it, open or on the way? */
static inline bool
dsocr_join_is_open(const DsocrJoinJob *job)
{
	return job->state == DSOCR_JOB_OPEN && job->document->id != 0;
}

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
	char *pages_argv[5]; /* of the page server; none: takes no documents of several pages */
	char pages_fd_text[16];
	char pages_program[PATH_MAX];
	DsocrJoinChild pages;
	int pages_failures; /* starts in a row that came to nothing */
	DsocrJoinPause pages_pause;
	int64_t pages_heard;
	size_t largest_image; /* of a page so far, bytes */
	uint64_t next_id;	  /* of our own */
	DsocrJoinChild child;
	bool child_was_ready;
	bool child_died;   /* one, at some time: the next begins with a trial */
	uint64_t trial;	   /* number of the blank page that it reads first, 0: none */
	int failed_starts; /* in a row: not loaded, or dead of that page */
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

/* ---- cli_join_options.c ---- */

/* -1: go on; else the exit status. */
extern int dsocr_join_take_options(DsocrJoin *j, int argc, char **argv, char *model, size_t size);

/* ---- cli_join_pages.c ---- */

extern void dsocr_join_start_pages(DsocrJoin *j);
extern void dsocr_join_hear_pages(DsocrJoin *j);
extern void dsocr_join_feed_pages(DsocrJoin *j);

/* Does it owe us something?  A document that is open and idle does not. */
extern bool dsocr_join_pages_are_busy(const DsocrJoin *j);

/* ---- cli_join_asking.c ---- */

/* Open documents, ask for pages of all of them, close those whose pages are all there. */
extern void dsocr_join_ask_pages(DsocrJoin *j);

/* Are there so many documents with pages to come that more should wait? */
extern bool dsocr_join_pages_are_behind(const DsocrJoin *j);

/* ---- cli_join_documents.c, documents end ---- */

/* The page server need not have it any more. */
extern void dsocr_join_close_document(DsocrJoin *j, DsocrJoinDocument *d);

/* It cannot be opened (again): pages that are left will fail, or all of it does. */
extern void dsocr_join_fail_document(DsocrJoin *j, DsocrJoinJob *job, const DsocrError *why);

/* Of such a document: what cannot be made any more fails. */
extern void dsocr_join_fail_wanted(DsocrJoinJob *job);

/* It has ended, with all its pages or for this reason, or nobody wants it any more. */
extern void dsocr_join_end_document(DsocrJoin *j, DsocrJoinJob *job, const DsocrError *why);
extern void dsocr_join_drop_document(DsocrJoin *j, DsocrJoinJob *job);

/* ---- cli_join_work.c ---- */

extern void dsocr_join_connect(DsocrJoin *j);
extern void dsocr_join_keep(DsocrJoin *j);
extern void dsocr_join_claim(DsocrJoin *j);

/* Pages that have been read, and then jobs that have ended. */
extern void dsocr_join_write_pages(DsocrJoin *j);
extern void dsocr_join_write(DsocrJoin *j);
extern void dsocr_join_lose_db(DsocrJoin *j, const DsocrError *err);

/* When it is to be heard from again, at the latest. */
extern int64_t dsocr_join_keep_at(const DsocrJoin *j);

/* Could more be claimed now? */
extern bool dsocr_join_can_claim(const DsocrJoin *j);

#endif /* DSOCR_CLI_JOIN_H */
