/*-------------------------------------------------------------------------
 *
 * cli_join.h
 *		dsocr-engine join: a worker of a database on any host.
 *
 * The process carries frames between the database and an engine of its own:
 * cli_join.c holds the jobs and decides, cli_join_db.c is the session of the
 * database, cli_join_child.c the engine as a child process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CLI_JOIN_H
#define DSOCR_CLI_JOIN_H

#include <sys/types.h>

#include "channel.h"

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
typedef struct DsocrJoinJob
{
	uint64_t id;
	DsocrBuffer frame;
} DsocrJoinJob;

/* Errors: DSOCR_E_IO, worth another try; DSOCR_E_ARGUMENT, not without a change. */
extern DsocrJoinDb *dsocr_join_db_open(const char *conninfo, const DsocrModelInfo *info,
									   DsocrError *err);
extern void dsocr_join_db_close(DsocrJoinDb *db);
extern int dsocr_join_db_socket(const DsocrJoinDb *db);

/* Has the server ended the session? */
extern bool dsocr_join_db_lost(DsocrJoinDb *db);

/* Up to n jobs with their documents; the number of them, or -1: the session is no more of use. */
extern int dsocr_join_db_claim(DsocrJoinDb *db, int n, DsocrJoinJob *jobs, DsocrError *err);

typedef enum DsocrJoinWritten
{
	DSOCR_JOIN_WRITTEN,
	DSOCR_JOIN_BUSY,	/* ask again later */
	DSOCR_JOIN_REFUSED, /* the server could not: *err says why */
	DSOCR_JOIN_LOST		/* the session is no more of use */
} DsocrJoinWritten;

extern DsocrJoinWritten dsocr_join_db_finish(DsocrJoinDb *db, uint64_t id, const void *frame,
											 size_t len, DsocrError *err);
extern DsocrJoinWritten dsocr_join_db_release(DsocrJoinDb *db, uint64_t id, DsocrError *err);

#endif /* DSOCR_CLI_JOIN_H */
