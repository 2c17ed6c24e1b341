/*-------------------------------------------------------------------------
 *
 * runner_rows.h
 *		The row of a user's table that a job is about, while it is open.
 *
 * For runner_rows.c and runner_targets.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_RUNNER_ROWS_H
#define DSOCR_RUNNER_ROWS_H

#include "attachment.h"
#include "runner.h"
#include "utils/rel.h"

typedef struct DsocrRowWork
{
	DsocrRunnerJob *job;
	Relation rel;
	DsocrRowKey key;
	char *key_values[INDEX_MAX_KEYS];
	DsocrAttachment attachment; /* of attached tables */
	AttrNumber image;
	DsocrRowState state;
} DsocrRowWork;

/* Write what the job gave into its table and side table; with the rights of its role. */
extern void dsocr_runner_write_targets(DsocrRowWork *work);

#endif /* DSOCR_RUNNER_ROWS_H */
