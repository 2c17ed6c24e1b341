/*-------------------------------------------------------------------------
 *
 * runner_rows.c
 *		Rows of users' tables: fetch the document, write what it gave.
 *
 * All of it runs with the rights of the job's role, restricted and with a
 * search_path of the system alone, in a subtransaction: users' policies and
 * triggers may fail, and what fails is the job.  Nothing here waits for a lock
 * on a table or a row: jobs whose rows are busy come back later.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner_rows.h"

#include "access/detoast.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "attach.h"
#include "runner_query.h"

/* ---- doing something for a job ---- */

static DsocrRowState
fail(DsocrRunnerJob *job, int code, bool final, const char *error)
{
	job->error = MemoryContextStrdup(job->context, error);
	strlcpy(job->sqlstate, unpack_sql_state(code), sizeof(job->sqlstate));
	job->final = final;
	return DSOCR_ROW_FAILED;
}

/* Errors that come again however often it is tried, and those that are nobody's fault. */
static void
classify(DsocrRunnerJob *job)
{
	job->final = strncmp(job->sqlstate, "22", 2) == 0 || strncmp(job->sqlstate, "23", 2) == 0 ||
				 strncmp(job->sqlstate, "42", 2) == 0;
	job->blameless = strncmp(job->sqlstate, "40", 2) == 0 || strcmp(job->sqlstate, "55P03") == 0;
}

/* Call a function as the job's role, in a subtransaction; false: it failed. */
static bool
as_role(DsocrRowWork *work, void (*function)(DsocrRowWork *work))
{
	DsocrRunnerJob *job = work->job;
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	DsocrAsOwner before;
	volatile bool ok = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		dsocr_jobs_as_role(job->role, &before);
		function(work);
		dsocr_jobs_as_before(&before);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *e;

		MemoryContextSwitchTo(job->context);
		e = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		dsocr_attach_writing = false;
		job->error = e->message ? e->message : "unknown error";
		strlcpy(job->sqlstate, unpack_sql_state(e->sqlerrcode), sizeof(job->sqlstate));
		classify(job);
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return ok;
}

/* The column that a job without attachment reads. */
static DsocrRowState
find_column(DsocrRowWork *work)
{
	DsocrRunnerJob *job = work->job;

	work->image = get_attnum(RelationGetRelid(work->rel), job->source_column);
	if (work->image <= 0 ||
		getBaseType(get_atttype(RelationGetRelid(work->rel), work->image)) != BYTEAOID)
		return fail(job, ERRCODE_UNDEFINED_COLUMN, true,
					psprintf("column \"%s\" of the job's table is no document any more",
							 job->source_column));
	return DSOCR_ROW_OK;
}

/* Open the job's table and find out what is where. */
static DsocrRowState
open_row(DsocrRowWork *work, DsocrRunnerJob *job, LOCKMODE mode)
{
	DsocrRowState state = DSOCR_ROW_OK;

	memset(work, 0, sizeof(*work));
	work->job = job;
	if (!ConditionalLockRelationOid(job->source, mode))
		return DSOCR_ROW_LOCKED;
	work->rel = try_relation_open(job->source, NoLock);
	if (work->rel == NULL)
	{
		UnlockRelationOid(job->source, mode);
		return job->attachment ? DSOCR_ROW_GONE
							   : fail(job, ERRCODE_UNDEFINED_TABLE, true,
									  "the table of the job does not exist any more");
	}
	if (job->attachment == NULL)
		state = find_column(work);
	else if (!dsocr_attachment_find(work->rel, job->attachment, &work->attachment))
		state = DSOCR_ROW_GONE;
	else
	{
		job->role = RelationGetForm(work->rel)->relowner;
		work->image = work->attachment.parts.column[DSOCR_PART_IMAGE];
	}
	if (state == DSOCR_ROW_OK && (!dsocr_row_key_describe(work->rel, &work->key) ||
								  !dsocr_row_key_split(job->key, &work->key, work->key_values)))
		state = fail(job, ERRCODE_INVALID_FOREIGN_KEY, true,
					 "the table of the job has another primary key now");
	return state;
}

static void
close_row(DsocrRowWork *work)
{
	/* the lock stays until the end of the transaction */
	if (work->rel != NULL)
		relation_close(work->rel, NoLock);
	work->rel = NULL;
}

/* ---- fetch ---- */

static void
select_image(DsocrRowWork *work, const char *locking)
{
	DsocrRowQuery q;

	dsocr_row_query_begin(&q);
	appendStringInfo(&q.text, "SELECT %s FROM ", dsocr_row_column_name(work->rel, work->image));
	dsocr_row_query_table(&q, work->rel);
	dsocr_row_query_key(&q, work->rel, &work->key, work->key.column, work->key_values);
	appendStringInfoString(&q.text, locking);
	dsocr_row_query_run(&q);
}

static void
fetch_image(DsocrRowWork *work)
{
	DsocrRunnerJob *job = work->job;
	struct varlena *stored;
	bool isnull = true;
	Datum image = (Datum) 0;

	SPI_connect();
	select_image(work, "");
	if (SPI_processed > 0)
		image = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull && job->attachment == NULL)
		work->state = SPI_processed > 0
						  ? fail(job, ERRCODE_NULL_VALUE_NOT_ALLOWED, true, "document is NULL")
						  : fail(job, ERRCODE_NO_DATA_FOUND, true,
								 "row does not exist, or its role may not see it");
	else if (isnull)
		work->state = DSOCR_ROW_GONE;
	else if (toast_raw_datum_size(image) - VARHDRSZ > dsocr_jobs_max_bytes())
		work->state = fail(job, ERRCODE_INVALID_BINARY_REPRESENTATION, true,
						   "document is larger than dsocr.max_document_bytes");
	else
	{
		MemoryContext caller = MemoryContextSwitchTo(job->context);

		stored = (struct varlena *) DatumGetPointer(image);
		job->has_pointer = VARATT_IS_EXTERNAL_ONDISK(stored);
		if (job->has_pointer)
			memcpy(job->pointer, stored, TOAST_POINTER_SIZE);
		job->document = PointerGetDatum(PG_DETOAST_DATUM_COPY(image));
		job->bytes = VARSIZE_ANY(DatumGetPointer(job->document));
		MemoryContextSwitchTo(caller);
	}
	SPI_finish();
}

DsocrRowState
dsocr_runner_fetch_row(DsocrRunner *r, DsocrRunnerJob *job)
{
	DsocrRowWork work;
	DsocrRowState state = open_row(&work, job, AccessShareLock);

	if (state == DSOCR_ROW_OK)
	{
		if (job->attachment != NULL)
		{
			MemoryContext caller = MemoryContextSwitchTo(job->context);

			job->options = DatumGetJsonbPCopy(JsonbPGetDatum(work.attachment.options));
			MemoryContextSwitchTo(caller);
		}
		state = as_role(&work, fetch_image) ? work.state : DSOCR_ROW_FAILED;
	}
	close_row(&work);
	return state;
}

/* ---- lock ---- */

/* Are these the bytes that were read? */
static bool
is_what_was_read(const DsocrRunnerJob *job, Datum image)
{
	struct varlena *stored = (struct varlena *) DatumGetPointer(image);
	struct varlena *read = (struct varlena *) DatumGetPointer(job->document);
	struct varlena *bytes;

	if (job->has_pointer && VARATT_IS_EXTERNAL_ONDISK(stored) &&
		memcmp(stored, job->pointer, TOAST_POINTER_SIZE) == 0)
		return true;
	if (toast_raw_datum_size(image) - VARHDRSZ != VARSIZE_ANY_EXHDR(read))
		return false;
	bytes = PG_DETOAST_DATUM_PACKED(image);
	return memcmp(VARDATA_ANY(bytes), VARDATA_ANY(read), VARSIZE_ANY_EXHDR(read)) == 0;
}

static void
lock_row(DsocrRowWork *work)
{
	bool isnull;
	Datum image;

	SPI_connect();
	select_image(work, " FOR NO KEY UPDATE SKIP LOCKED");
	if (SPI_processed > 0)
	{
		image = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		if (isnull)
			work->state = DSOCR_ROW_GONE;
		else if (!is_what_was_read(work->job, image))
			work->state = DSOCR_ROW_CHANGED;
	}
	else
	{
		select_image(work, "");
		work->state = SPI_processed > 0 ? DSOCR_ROW_LOCKED : DSOCR_ROW_GONE;
	}
	SPI_finish();
}

DsocrRowState
dsocr_runner_lock_row(DsocrRunnerJob *job)
{
	DsocrRowWork work;
	DsocrRowState state = open_row(&work, job, RowExclusiveLock);

	if (state == DSOCR_ROW_OK)
		state = as_role(&work, lock_row) ? work.state : DSOCR_ROW_FAILED;
	close_row(&work);
	return state;
}

/* ---- write ---- */

DsocrRowState
dsocr_runner_write_row(DsocrRunnerJob *job)
{
	DsocrRowWork work;
	DsocrRowState state = open_row(&work, job, RowExclusiveLock);

	if (state == DSOCR_ROW_OK && !as_role(&work, dsocr_runner_write_targets))
		state = DSOCR_ROW_FAILED;
	close_row(&work);
	return state;
}
