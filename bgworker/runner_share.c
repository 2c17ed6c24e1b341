/*-------------------------------------------------------------------------
 *
 * runner_share.c
 *		The share of the engines that the roles of jobs have.
 *
 * A session has the settings of its role; the runner is no session of the
 * roles whose jobs it runs, so it looks up what ALTER ROLE has set for them.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "jobs.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

/* Those for the role in this database come last, and count. */
static DsocrStatement select_settings = {
	"SELECT pg_catalog.split_part(c.c, '=', 1), pg_catalog.split_part(c.c, '=', 2)"
	" FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS c(c)"
	" WHERE s.setrole OPERATOR(pg_catalog.=) $1"
	" AND (s.setdatabase OPERATOR(pg_catalog.=) 0 OR s.setdatabase OPERATOR(pg_catalog.=) $2)"
	" AND pg_catalog.starts_with(c.c, 'dsocr.')"
	" ORDER BY s.setdatabase",
	2,
	{OIDOID, OIDOID},
	NULL};

static void
apply(DsocrRunnerShare *share, const char *name, const char *value)
{
	int number;

	if (!parse_int(value, &number, 0, NULL))
		return;
	if (strcmp(name, "dsocr.role_weight") == 0 && number >= 1 && number <= DSOCR_MAX_WEIGHT)
		share->weight = number;
	else if (strcmp(name, "dsocr.max_requests_per_role") == 0 && number >= 0)
		share->max_requests = number;
}

/* Those of the server and the database are those of this process. */
static DsocrRunnerShare
look_up(Oid role)
{
	DsocrRunnerShare share = {role, dsocr_role_weight, dsocr_max_requests_per_role};
	Datum values[] = {ObjectIdGetDatum(role), ObjectIdGetDatum(MyDatabaseId)};

	dsocr_jobs_execute(&select_settings, values, NULL, true);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;

		apply(&share, SPI_getvalue(row, desc, 1), SPI_getvalue(row, desc, 2));
	}
	return share;
}

void
dsocr_runner_look_up_shares(DsocrRunnerJob **jobs, int n)
{
	for (int i = 0; i < n; i++)
	{
		/* most jobs of a batch have the same role */
		if (i > 0 && jobs[i - 1]->share.role == jobs[i]->role)
			jobs[i]->share = jobs[i - 1]->share;
		else
			jobs[i]->share = look_up(jobs[i]->role);
	}
}

DsocrRunnerShare
dsocr_runner_set_share(DsocrRunnerShare share)
{
	DsocrRunnerShare before = {InvalidOid, dsocr_role_weight, dsocr_max_requests_per_role};

	dsocr_role_weight = share.weight;
	dsocr_max_requests_per_role = share.max_requests;
	return before;
}
