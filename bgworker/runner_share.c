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
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"

/* Those for a role in this database come last, and count. */
static DsocrStatement select_settings = {
	"SELECT s.setrole, pg_catalog.split_part(c.c, '=', 1), pg_catalog.split_part(c.c, '=', 2)"
	" FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS c(c)"
	" WHERE s.setrole OPERATOR(pg_catalog.=) ANY ($1)"
	" AND (s.setdatabase OPERATOR(pg_catalog.=) 0 OR s.setdatabase OPERATOR(pg_catalog.=) $2)"
	" AND pg_catalog.starts_with(c.c, 'dsocr.')"
	" ORDER BY s.setdatabase",
	2,
	{OIDARRAYOID, OIDOID},
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
default_share(Oid role)
{
	return (DsocrRunnerShare){role, dsocr_role_weight, dsocr_max_requests_per_role};
}

/* The settings of some roles, one after the other in SPI_tuptable. */
static void
select_for(Datum *roles, int n)
{
	Datum values[] = {
		PointerGetDatum(construct_array(roles, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT)),
		ObjectIdGetDatum(MyDatabaseId)};

	dsocr_jobs_execute(&select_settings, values, NULL, true);
}

static void
apply_row(HeapTuple row, DsocrRunnerShare *share)
{
	TupleDesc desc = SPI_tuptable->tupdesc;

	apply(share, SPI_getvalue(row, desc, 2), SPI_getvalue(row, desc, 3));
}

void
dsocr_runner_look_up_shares(DsocrRunner *r)
{
	int n = 0;
	Datum *roles = palloc(sizeof(Datum) * (hash_get_num_entries(r->roles) + 1));
	dlist_iter iter;

	dlist_foreach (iter, &r->role_list)
	{
		DsocrRunnerRole *role = dlist_container(DsocrRunnerRole, node, iter.cur);

		if (!dsocr_runner_has_lane(role))
			continue;
		role->share = default_share(role->role);
		roles[n++] = ObjectIdGetDatum(role->role);
	}
	if (n == 0)
		return;
	select_for(roles, n);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		bool isnull;
		Oid oid = DatumGetObjectId(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
		DsocrRunnerRole *role = hash_search(r->roles, &oid, HASH_FIND, NULL);

		apply_row(row, &role->share);
	}
	SPI_freetuptable(SPI_tuptable);
}

void
dsocr_runner_look_up_share(DsocrRunnerJob *job)
{
	Datum role = ObjectIdGetDatum(job->role);

	if (job->counted->role == job->role)
	{
		job->share = job->counted->share;
		return;
	}
	/* the table has got another owner meanwhile */
	job->share = default_share(job->role);
	select_for(&role, 1);
	for (uint64 i = 0; i < SPI_processed; i++)
		apply_row(SPI_tuptable->vals[i], &job->share);
	SPI_freetuptable(SPI_tuptable);
}

DsocrRunnerShare
dsocr_runner_set_share(DsocrRunnerShare share)
{
	DsocrRunnerShare before = {InvalidOid, dsocr_role_weight, dsocr_max_requests_per_role};

	dsocr_role_weight = share.weight;
	dsocr_max_requests_per_role = share.max_requests;
	return before;
}
