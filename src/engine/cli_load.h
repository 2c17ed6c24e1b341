/*-------------------------------------------------------------------------
 *
 * cli_load.h
 *		dsocr-engine load: files of a folder as rows of a table.
 *
 * cli_load.c has the options and waits for texts, cli_load_batch.c goes from
 * batch to batch; cli_load_files.c finds and reads files, cli_load_db.c and
 * cli_load_table.c are the session of the database, cli_load_show.c is what is
 * seen meanwhile.  A batch is a transaction: what was committed is there, and
 * found by its path when a load is run again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CLI_LOAD_H
#define DSOCR_CLI_LOAD_H

#include <signal.h>

#include "base.h"

/* The longest value that a server takes, with its own overhead. */
#define DSOCR_LOAD_MAX_BYTES 1000000000LL
#define DSOCR_LOAD_MAX_ROWS 10000 /* of a batch */

/* The signal that asked for the end, or 0. */
extern volatile sig_atomic_t dsocr_load_stop;

/* ---- cli_load_files.c ---- */

typedef struct DsocrLoadFile
{
	char *path;		  /* to open it by */
	const char *name; /* the rest of it, below the folder */
	bool named;		  /* by the user, not found in a folder */
	int64_t bytes;	  /* when it was found */
} DsocrLoadFile;

typedef enum DsocrLoadState
{
	DSOCR_LOAD_PENDING,
	DSOCR_LOAD_LOADED,
	DSOCR_LOAD_THERE,	/* the table has it */
	DSOCR_LOAD_SKIPPED, /* nothing to load */
	DSOCR_LOAD_FAILED,
	DSOCR_LOAD_N_STATES
} DsocrLoadState;

/* Told of each path that does not become a file of the list, and why. */
typedef void (*DsocrLoadTell)(void *arg, DsocrLoadState state, const char *path, const char *why);

typedef struct DsocrLoadFiles
{
	DsocrLoadFile *files;
	size_t n;
	size_t cap;
	int64_t bytes;
} DsocrLoadFiles;

/* All files of a folder and below, in order of their names; or one file. */
extern bool dsocr_load_walk(const char *root, bool follow, DsocrLoadTell tell, void *arg,
							DsocrLoadFiles *out, DsocrError *err);
extern void dsocr_load_files_free(DsocrLoadFiles *files);

/*
 * Its bytes, to be freed by dsocr_free; anything but PENDING says in err why
 * there are none.  With any, files that are no documents are read, too.
 */
extern DsocrLoadState dsocr_load_read(const DsocrLoadFile *file, bool follow, bool any,
									  int64_t limit, char **bytes, size_t *len, DsocrError *err);

/* ---- cli_load_db.c ---- */

typedef struct DsocrLoadTarget
{
	const char *conninfo;
	const char *table; /* as in SQL */
	const char *path_column;
	const char *image_column;
	bool create;
	bool attach;
	const char *text_column; /* of an attached table, NULL */
	const char *side_table;
	const char *language;
} DsocrLoadTarget;

typedef struct DsocrLoadDb DsocrLoadDb;

/* The session, with a table that is there. */
extern DsocrLoadDb *dsocr_load_db_open(const DsocrLoadTarget *target, DsocrError *err);
extern void dsocr_load_db_close(DsocrLoadDb *db);

/* Of the table: may several rows have a path?  Largest document; 0: not known. */
extern bool dsocr_load_db_is_unique(const DsocrLoadDb *db);
extern int64_t dsocr_load_db_max_bytes(const DsocrLoadDb *db);

/* REFUSED: this row or these rows alone, the session goes on. */
typedef enum DsocrLoadDone
{
	DSOCR_LOAD_OK,
	DSOCR_LOAD_CONFLICT, /* a row like it is there */
	DSOCR_LOAD_REFUSED,
	DSOCR_LOAD_LOST
} DsocrLoadDone;

extern DsocrLoadDone dsocr_load_db_begin(DsocrLoadDb *db, DsocrError *err);
extern DsocrLoadDone dsocr_load_db_commit(DsocrLoadDb *db, DsocrError *err);
extern DsocrLoadDone dsocr_load_db_rollback(DsocrLoadDb *db, DsocrError *err);
extern DsocrLoadDone dsocr_load_db_put(DsocrLoadDb *db, const char *name, const char *bytes,
									   size_t len, DsocrError *err);

/* Those of n names that are there become THERE, if they were PENDING. */
extern DsocrLoadDone dsocr_load_db_known(DsocrLoadDb *db, const char *const *names,
										 DsocrLoadState *states, int n, DsocrError *err);

/* A row of dsocr.progress. */
typedef struct DsocrLoadProgress
{
	bool attached;
	bool runs;		/* the server runs jobs */
	bool preparing; /* rows are still being queued */
	int64_t done;
	int64_t queued;
	int64_t failed;
	int64_t pages;
	double rate; /* pages a second */
	double left; /* seconds, < 0: not known */
} DsocrLoadProgress;

extern bool dsocr_load_db_progress(DsocrLoadDb *db, DsocrLoadProgress *p, DsocrError *err);

/* Tell of documents that could not be read since the session began, of so many at most. */
extern bool dsocr_load_db_failures(DsocrLoadDb *db, int most, DsocrLoadTell tell, void *arg,
								   DsocrError *err);

/* ---- cli_load_show.c ---- */

/* On a terminal one line that changes; elsewhere a line now and then. */
typedef struct DsocrLoadShow
{
	bool terminal;
	bool line_open;
	int64_t shown_us;
	int64_t line_us; /* between two plain lines */
} DsocrLoadShow;

extern void dsocr_load_show_init(DsocrLoadShow *s, int seconds);

/* part is 0 to 1; text is what stands behind the bar. */
extern void dsocr_load_show(DsocrLoadShow *s, const char *what, double part, const char *text);

/* A line that stays; bytes that a terminal would obey are shown as "?". */
extern void dsocr_load_say(DsocrLoadShow *s, const char *fmt, ...) DSOCR_PRINTF(2, 3);
extern void dsocr_load_show_end(DsocrLoadShow *s);

/* "12 s", "3 min", "1 h 05 min"; "?" below 0. */
extern void dsocr_load_time(char *text, size_t size, double seconds);

/* ---- cli_load.c ---- */

typedef struct DsocrLoad
{
	DsocrLoadTarget target;
	const char *root;
	const char *prefix;
	bool no_wait;
	bool any;
	bool follow;
	long long batch_rows;
	long long batch_bytes;
	long long max_bytes;
	long long lines;

	DsocrLoadDb *db;
	DsocrLoadShow show;
	DsocrLoadFiles files;
	int64_t counts[DSOCR_LOAD_N_STATES];
	int64_t loaded_bytes;
	int64_t seen_bytes;
	int64_t started_us;
	int refused; /* one after the other */
} DsocrLoad;

/* A line for a path that is not loaded, and its count; arg is the DsocrLoad. */
extern void dsocr_load_tell(void *arg, DsocrLoadState state, const char *path, const char *why);

/* ---- cli_load_batch.c ---- */

/* false: the database is of no more use; what was committed is counted. */
extern bool dsocr_load_all(DsocrLoad *l, DsocrError *err);

#endif /* DSOCR_CLI_LOAD_H */
