/*-------------------------------------------------------------------------
 *
 * cli_load_db.h
 *		Shared by the two halves of a load's session: all that knows libpq.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CLI_LOAD_DB_H
#define DSOCR_CLI_LOAD_DB_H

#include <libpq-fe.h>

#include "cli_load.h"

struct DsocrLoadDb
{
	PGconn *connection;
	const DsocrLoadTarget *target;
	char *oid;	 /* of the table, as text */
	char *table; /* quoted, with its schema */
	char *path;	 /* quoted columns */
	char *image;
	char *extension; /* quoted schema of dsocr, NULL without */
	char *started;	 /* when this session began, as text */
	bool unique;
	int64_t max_bytes;
};

/* ---- cli_load_db.c ---- */

/* A message of libpq in one line; returns false. */
extern bool dsocr_load_db_fail(DsocrError *err, const char *what, const char *message);

/* Which kind of failure is this one?  Never OK. */
extern DsocrLoadDone dsocr_load_db_failed(DsocrLoadDb *db, const PGresult *result, DsocrError *err);

/* A statement with text arguments that gives rows, in text; NULL: *err says why. */
extern PGresult *dsocr_load_db_ask(DsocrLoadDb *db, const char *query, int n,
								   const char *const *values, DsocrError *err);
extern DsocrLoadDone dsocr_load_db_command(DsocrLoadDb *db, const char *query, DsocrError *err);

/* Of the first row; NULL if it is that. */
extern const char *dsocr_load_db_field(const PGresult *r, int column);

/* ---- cli_load_table.c ---- */

/* Find the table, or make and attach it as its target says, and prepare the statements of rows. */
extern bool dsocr_load_db_table(DsocrLoadDb *db, DsocrError *err);

#endif /* DSOCR_CLI_LOAD_DB_H */
