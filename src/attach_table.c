/*-------------------------------------------------------------------------
 *
 * attach_table.c
 *		What concerns all rows of an attached table at once.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "attach.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "attachment.h"
#include "jobs.h"

PG_FUNCTION_INFO_V1(dsocr_backfill);
PG_FUNCTION_INFO_V1(dsocr_forget);

#define OF_TABLE                                                                                   \
	" WHERE q.attachment OPERATOR(pg_catalog.=) $2"                                                \
	" AND q.source::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT $1 UNION ALL"                \
	" SELECT t.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1) AS t)"

static DsocrStatement delete_jobs = {
	"DELETE FROM dsocr.job_queue AS q" OF_TABLE, 2, {OIDOID, TEXTOID}, NULL};

static DsocrStatement delete_failures = {
	"DELETE FROM dsocr.job_failed AS q" OF_TABLE, 2, {OIDOID, TEXTOID}, NULL};

static DsocrStatement delete_tallies = {
	"DELETE FROM dsocr.job_tally AS q" OF_TABLE, 2, {OIDOID, TEXTOID}, NULL};

static DsocrStatement insert_request = {
	"INSERT INTO dsocr.job_queue (source, attachment, owner) VALUES ($1, $2, $3) RETURNING id",
	3,
	{OIDOID, TEXTOID, OIDOID},
	NULL};

int64
dsocr_attach_forget(Oid source, const char *attachment)
{
	Datum values[] = {ObjectIdGetDatum(source), CStringGetTextDatum(attachment)};
	DsocrAsOwner before;
	int64 n;

	dsocr_jobs_as_owner(&before);
	SPI_connect();
	dsocr_jobs_execute(&delete_jobs, values, NULL, false);
	n = SPI_processed;
	dsocr_jobs_execute(&delete_failures, values, NULL, false);
	n += SPI_processed;
	dsocr_jobs_execute(&delete_tallies, values, NULL, false);
	SPI_finish();
	dsocr_jobs_as_before(&before);
	dsocr_jobs_note_cancelled();
	return n;
}

static void
require_owner(Relation rel)
{
	if (!has_privs_of_role(GetUserId(), RelationGetForm(rel)->relowner))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(rel->rd_rel->relkind),
					   RelationGetRelationName(rel));
}

Datum
dsocr_forget(PG_FUNCTION_ARGS)
{
	Relation rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	int64 n;

	require_owner(rel);
	n = dsocr_attach_forget(RelationGetRelid(rel), NameStr(*PG_GETARG_NAME(1)));
	table_close(rel, NoLock);
	PG_RETURN_INT64(n);
}

/* The attachment of a column, or NULL. */
static const char *
attachment_of(Relation rel, AttrNumber column)
{
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];
		DsocrAttachment a;

		if (trigger->tgnattr > 0 && trigger->tgattr[0] == column &&
			dsocr_attachment_find(rel, trigger->tgname, &a) &&
			a.parts.column[DSOCR_PART_IMAGE] == column)
			return trigger->tgname;
	}
	return NULL;
}

Datum
dsocr_backfill(PG_FUNCTION_ARGS)
{
	Relation rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	const char *column = NameStr(*PG_GETARG_NAME(1));
	const char *attachment = attachment_of(rel, get_attnum(RelationGetRelid(rel), column));
	Datum values[3];
	DsocrAsOwner before;
	bool isnull;
	int64 id;

	require_owner(rel);
	if (attachment == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("column \"%s\" of table \"%s\" is not attached", column,
							   RelationGetRelationName(rel)),
						errhint("Call dsocr_attach first.")));
	values[0] = ObjectIdGetDatum(RelationGetRelid(rel));
	values[1] = CStringGetTextDatum(attachment);
	values[2] = ObjectIdGetDatum(RelationGetForm(rel)->relowner);
	dsocr_jobs_as_owner(&before);
	SPI_connect();
	dsocr_jobs_noting = true;
	dsocr_jobs_execute(&insert_request, values, NULL, false);
	dsocr_jobs_noting = false;
	id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	dsocr_jobs_as_before(&before);
	dsocr_jobs_note(DSOCR_JOB_PRIORITY_DEFAULT, RelationGetForm(rel)->relowner, id);
	table_close(rel, NoLock);
	PG_RETURN_BOOL(true);
}
