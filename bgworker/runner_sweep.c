/*-------------------------------------------------------------------------
 *
 * runner_sweep.c
 *		Deletes ended jobs that are too old, adds up tallies.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner_outcome.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/snapmgr.h"

#define SWEEP_ROWS 1000 /* ended jobs that are deleted at a time */

static DsocrStatement delete_old = {
	"DELETE FROM dsocr.job_done AS d WHERE d.id OPERATOR(pg_catalog.=) ANY (SELECT o.id"
	" FROM dsocr.job_done AS o WHERE o.ended OPERATOR(pg_catalog.<) $1 ORDER BY o.ended LIMIT $2)",
	2,
	{TIMESTAMPTZOID, INT8OID},
	NULL};

static DsocrStatement count_tallies = {
	"SELECT pg_catalog.count(*) FROM dsocr.job_tally AS t", 0, {0}, NULL};

/* Rows of the last minutes stay apart, for the rate. */
static DsocrStatement add_up_tallies = {
	"WITH gone AS (DELETE FROM dsocr.job_tally AS t WHERE t.ended OPERATOR(pg_catalog.<)"
	" (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '10 minutes'::pg_catalog.interval)"
	" RETURNING t.*)"
	" INSERT INTO dsocr.job_tally (source, attachment, started, ended, jobs, pages)"
	" SELECT g.source, g.attachment, pg_catalog.min(g.started), pg_catalog.max(g.ended),"
	" pg_catalog.sum(g.jobs)::pg_catalog.int8, pg_catalog.sum(g.pages)::pg_catalog.int8"
	" FROM gone AS g GROUP BY g.source, g.attachment",
	0,
	{0},
	NULL};

#define MANY_TALLIES 2000

void
dsocr_runner_sweep(DsocrRunner *r)
{
	Datum values[] = {TimestampTzGetDatum(dsocr_runner_in_ms(-(int64) dsocr_keep_jobs * 60 * 1000)),
					  Int64GetDatum(SWEEP_ROWS)};
	bool isnull;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	dsocr_runner_run(&delete_old, values, NULL);
	dsocr_runner_run(&count_tallies, NULL, NULL);
	if (DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) >
		MANY_TALLIES)
		dsocr_runner_run(&add_up_tallies, NULL, NULL);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}
