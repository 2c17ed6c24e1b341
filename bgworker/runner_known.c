/*-------------------------------------------------------------------------
 *
 * runner_known.c
 *		Which jobs this process has seen: they are in memory, or wait there for
 *		their time.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* ---- known jobs ---- */

static DsocrKnownJob *
know(DsocrRunner *r, int64 id, int64 lane)
{
	bool found;
	DsocrKnownJob *k = hash_search(r->known, &id, HASH_ENTER, &found);

	if (found && k->job == NULL)
		r->n_waiting--;
	k->job = NULL;
	k->not_before = 0;
	k->lane = lane;
	return k;
}

void
dsocr_runner_know(DsocrRunner *r, DsocrRunnerJob *job)
{
	know(r, job->id, job->lane)->job = job;
}

void
dsocr_runner_wait_for(DsocrRunner *r, int64 id, int64 lane, TimestampTz until)
{
	know(r, id, lane)->not_before = until;
	r->n_waiting++;
	if (r->next_due == 0 || until < r->next_due)
		r->next_due = until;
}

static void
forget_id(DsocrRunner *r, int64 id)
{
	hash_search(r->known, &id, HASH_REMOVE, NULL);
}

void
dsocr_runner_wake_due(DsocrRunner *r)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = 0;
	HASH_SEQ_STATUS status;
	DsocrKnownJob *k;

	if (r->next_due == 0 || now < r->next_due)
		return;
	hash_seq_init(&status, r->known);
	while ((k = hash_seq_search(&status)) != NULL)
	{
		if (k->job != NULL)
			continue;
		if (k->not_before <= now)
		{
			dsocr_runner_add_unseen(r, k->lane, k->id, k->id);
			r->n_waiting--;
			forget_id(r, k->id); /* allowed: it is the current one */
		}
		else if (next == 0 || k->not_before < next)
			next = k->not_before;
	}
	r->next_due = next;
}

void
dsocr_runner_forget(DsocrRunner *r, DsocrRunnerJob *job, bool look)
{
	dlist_delete(&job->node);
	if (job->reading != NULL)
	{
		r->n_reading--;
		dsocr_reading_delete(job->reading);
	}
	else
		r->n_ended--;
	r->bytes -= job->bytes;
	dsocr_runner_uncount(r, job);
	forget_id(r, job->id);
	dsocr_jobs_unlock(job->id);
	if (look)
		dsocr_runner_add_unseen(r, job->lane, job->id, job->id);
	MemoryContextDelete(job->context);
}

void
dsocr_runner_end_job(DsocrRunner *r, DsocrRunnerJob *job)
{
	if (job->reading != NULL)
	{
		dlist_delete(&job->node);
		r->n_reading--;
		dsocr_reading_delete(job->reading);
		job->reading = NULL;
	}
	dsocr_runner_uncount(r, job);
	if (r->n_ended == 0)
		r->first_ended = GetCurrentTimestamp();
	dlist_push_tail(&r->ended, &job->node);
	r->n_ended++;
}

void
dsocr_runner_fail_job(DsocrRunner *r, DsocrRunnerJob *job, const char *error, const char *sqlstate,
					  bool final)
{
	job->error = MemoryContextStrdup(job->context, error);
	strlcpy(job->sqlstate, sqlstate, sizeof(job->sqlstate));
	job->final = final;
	dsocr_runner_end_job(r, job);
}

/* ---- gone ---- */

static DsocrStatement select_present = {
	"SELECT q.id FROM dsocr.job_queue AS q WHERE q.id OPERATOR(pg_catalog.=) ANY ($1)",
	1,
	{INT8ARRAYOID},
	NULL};

/* The ids of what the statement gave. */
static HTAB *
ids_found(void)
{
	HASHCTL control = {
		.keysize = sizeof(int64), .entrysize = sizeof(int64), .hcxt = CurrentMemoryContext};
	HTAB *found = hash_create("dsocr present jobs", (long) SPI_processed + 1, &control,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		int64 id =
			DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		hash_search(found, &id, HASH_ENTER, NULL);
	}
	return found;
}

int
dsocr_runner_find_gone(dlist_head *list, int n, DsocrRunnerJob ***gone)
{
	Datum *ids = palloc(sizeof(Datum) * n);
	int n_ids = 0;
	int n_gone = 0;
	dlist_iter iter;
	DsocrAsOwner before;
	Datum values[1];
	HTAB *present;

	*gone = palloc(sizeof(DsocrRunnerJob *) * n);
	dlist_foreach (iter, list)
		ids[n_ids++] = Int64GetDatum(dlist_container(DsocrRunnerJob, node, iter.cur)->id);
	values[0] = PointerGetDatum(
		construct_array(ids, n_ids, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	SPI_connect();
	dsocr_jobs_as_owner(&before);
	dsocr_jobs_plan_by_index();
	dsocr_jobs_execute(&select_present, values, NULL, true);
	present = ids_found();
	dlist_foreach (iter, list)
	{
		DsocrRunnerJob *job = dlist_container(DsocrRunnerJob, node, iter.cur);

		if (hash_search(present, &job->id, HASH_FIND, NULL) == NULL)
			(*gone)[n_gone++] = job;
	}
	dsocr_jobs_as_before(&before);
	SPI_finish();
	return n_gone;
}
