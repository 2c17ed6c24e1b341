/*-------------------------------------------------------------------------
 *
 * runner_outcome.h
 *		What becomes of jobs that have ended, within one transaction.
 *
 * For runner_outcome.c, runner_write.c and runner_sweep.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_RUNNER_OUTCOME_H
#define DSOCR_RUNNER_OUTCOME_H

#include "runner.h"
#include "utils/timestamp.h"

#define DSOCR_BLAMELESS_PAUSE_MS 1000 /* before a job is tried again that was not at fault */

/* What is to be done with a job once the transaction has committed. */
typedef enum DsocrJobAfterwards
{
	DSOCR_AFTER_FORGET,
	DSOCR_AFTER_LOOK,	  /* look at its row again */
	DSOCR_AFTER_POSTPONE, /* write it later: somebody has its rows */
	DSOCR_AFTER_WAIT	  /* its row waits for another attempt */
} DsocrJobAfterwards;

typedef struct DsocrJobOutcome
{
	DsocrRunnerJob *job;
	DsocrJobAfterwards afterwards;
	TimestampTz until;
	bool ended; /* tell who waits */
} DsocrJobOutcome;

/* Jobs of one attachment in the transaction. */
typedef struct DsocrJobTally
{
	Oid source;
	const char *attachment;
	TimestampTz started;
	int64 jobs;
	int64 pages;
} DsocrJobTally;

typedef struct DsocrJobOutcomes
{
	int n;
	DsocrJobOutcome outcomes[DSOCR_RUNNER_BATCH];
	int n_tallies;
	DsocrJobTally tallies[DSOCR_RUNNER_BATCH];
	bool notify;
} DsocrJobOutcomes;

/* All of these inside SPI_connect. */
extern void dsocr_runner_write_job(DsocrRunner *r, DsocrJobOutcomes *b, DsocrJobOutcome *o);
extern void dsocr_runner_write_tallies(DsocrJobOutcomes *b);

/* As the tables' owner; the number of rows. */
extern uint64 dsocr_runner_run(DsocrStatement *statement, Datum *values, const char *nulls);

static inline TimestampTz
dsocr_runner_in_ms(int64 ms)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

#endif /* DSOCR_RUNNER_OUTCOME_H */
