/*-------------------------------------------------------------------------
 *
 * cli_join_work.c
 *		What a remote worker asks of its database, and when.
 *
 * The server takes the jobs of a session back that has been silent for the
 * time of its lease, so we say that we work four times in it.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_join.h"

#define CLAIM_AT_ONCE 16  /* documents are fetched before the next look at the engine */
#define FIRST_IDLE_MS 100 /* between two looks for jobs where there are none; doubles */
#define LONGEST_IDLE_MS 2000
#define BUSY_PAUSE_MS 200			   /* before a locked row is written again */
#define WRITE_BYTES ((size_t) 4 << 20) /* of answers that share a transaction */
#define KEEP_MS 2000				   /* between two looks for jobs that were cancelled */

void
dsocr_join_lose_db(DsocrJoin *j, const DsocrError *err)
{
	dsocr_join_say("lost the database with %d jobs: %s", dsocr_join_claimed_jobs(&j->jobs),
				   err->message[0] ? err->message : "the session has ended");
	dsocr_join_db_close(j->db);
	j->db = NULL;
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS; i++)
	{
		if (j->jobs.jobs[i].state == DSOCR_JOB_OPEN)
			dsocr_join_drop_document(j, &j->jobs.jobs[i]);
	}
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS; i++)
	{
		DsocrJoinJob *job = &j->jobs.jobs[i];

		if (job->state == DSOCR_JOB_READING)
			dsocr_join_cancel_reading(j, job);
		else if (job->state == DSOCR_JOB_WAITING || job->state == DSOCR_JOB_ANSWERED)
			dsocr_join_drop(&j->jobs, job);
	}
	dsocr_join_pause(&j->db_pause, DSOCR_JOIN_FIRST_PAUSE_MS, DSOCR_JOIN_LONGEST_PAUSE_MS);
}

void
dsocr_join_connect(DsocrJoin *j)
{
	DsocrError err = {0};

	bool opens_documents = j->pages_argv[0] != NULL;

	if (j->db != NULL || !j->child.ready || (opens_documents && !j->pages.ready) ||
		dsocr_join_stops > 0 || dsocr_join_is_paused(&j->db_pause))
		return;
	j->db = dsocr_join_db_open(j->conninfo, &j->info, opens_documents, &err);
	if (j->db != NULL)
	{
		dsocr_join_say("joined the database with model %s (%s) on %s", j->info.name,
					   j->info.fingerprint, j->info.device);
		j->db_pause = (DsocrJoinPause){0};
		j->idle = (DsocrJoinPause){0};
		j->was_joined = true;
		j->kept = dsocr_join_now();
		return;
	}
	dsocr_join_say("%s", err.message);
	/* what has worked once may be a matter of time: rights, a database that is restored */
	if (err.code == DSOCR_E_MODEL || (err.code == DSOCR_E_ARGUMENT && !j->was_joined))
		j->status = DSOCR_JOIN_TURNED_AWAY;
	dsocr_join_pause(&j->db_pause, DSOCR_JOIN_FIRST_PAUSE_MS, DSOCR_JOIN_LONGEST_PAUSE_MS);
}

/* ---- jobs come ---- */

bool
dsocr_join_can_claim(const DsocrJoin *j)
{
	/* an orphan's number could come back while the engine still has it */
	return j->db != NULL && dsocr_join_stops == 0 && !dsocr_join_is_paused(&j->idle) &&
		   !dsocr_join_is_paused(&j->trouble) && j->jobs.counts[DSOCR_JOB_ORPHAN] == 0 &&
		   dsocr_join_open_jobs(&j->jobs) < j->in_flight && (j->max == 0 || j->taken < j->max) &&
		   !dsocr_join_pages_are_behind(j);
}

static void
take_job(DsocrJoin *j, DsocrJoinGiven *given)
{
	DsocrJoinJob *job = dsocr_join_find(&j->jobs, DSOCR_JOB_FREE, 0);
	DsocrError err = {0};

	if (given->frame.len == 0)
	{
		j->written++;
		return;
	}
	job->id = given->id;
	job->frame = given->frame;
	dsocr_join_set_state(&j->jobs, job, DSOCR_JOB_WAITING);
	if (given->page_frame.len == 0)
		return;
	job->document = dsocr_join_document_create(given, j->in_flight, j->next_id++, &err);
	dsocr_buffer_free(&given->page_frame);
	if (job->document != NULL)
		dsocr_join_set_state(&j->jobs, job, DSOCR_JOB_OPEN);
	else
		dsocr_join_fail_job(&j->jobs, job, err.code, err.message);
}

void
dsocr_join_claim(DsocrJoin *j)
{
	DsocrJoinGiven given[CLAIM_AT_ONCE];
	DsocrError err = {0};
	int n = j->in_flight - dsocr_join_open_jobs(&j->jobs);
	int got;

	if (!dsocr_join_can_claim(j))
		return;
	if (j->max > 0 && j->max - j->taken < n)
		n = (int) (j->max - j->taken);
	n = n < CLAIM_AT_ONCE ? n : CLAIM_AT_ONCE;
	got = dsocr_join_db_claim(j->db, n, given, &err);
	if (got < 0)
	{
		dsocr_join_lose_db(j, &err);
		return;
	}
	for (int i = 0; i < got; i++)
		take_job(j, &given[i]);
	j->taken += got;
	/* with jobs in flight there may be no room for more, rather than none */
	j->nothing_left = got == 0 && dsocr_join_open_jobs(&j->jobs) == 0;
	if (got == 0)
		dsocr_join_pause(&j->idle, FIRST_IDLE_MS, LONGEST_IDLE_MS);
	else
		j->idle = (DsocrJoinPause){0};
}

/* ---- jobs are kept ---- */

int64_t
dsocr_join_keep_at(const DsocrJoin *j)
{
	int often = dsocr_join_db_lease(j->db) / 4;

	/* with jobs in flight also to learn which were cancelled */
	return j->kept + (dsocr_join_open_jobs(&j->jobs) > 0 && often > KEEP_MS ? KEEP_MS : often);
}

/* Nobody wants it any more. */
static void
give_up(DsocrJoin *j, uint64_t id)
{
	DsocrJoinJob *job;

	if ((job = dsocr_join_find(&j->jobs, DSOCR_JOB_OPEN, id)) != NULL)
		dsocr_join_drop_document(j, job);
	else if ((job = dsocr_join_find(&j->jobs, DSOCR_JOB_READING, id)) != NULL)
		dsocr_join_cancel_reading(j, job);
	else if ((job = dsocr_join_find(&j->jobs, DSOCR_JOB_WAITING, id)) != NULL ||
			 (job = dsocr_join_find(&j->jobs, DSOCR_JOB_ANSWERED, id)) != NULL)
		dsocr_join_drop(&j->jobs, job);
}

void
dsocr_join_keep(DsocrJoin *j)
{
	uint64_t ids[DSOCR_JOIN_MAX_JOBS];
	DsocrError err = {0};
	int n;

	if (j->db == NULL || dsocr_join_now() < dsocr_join_keep_at(j))
		return;
	n = dsocr_join_db_keep(j->db, DSOCR_JOIN_MAX_JOBS, ids, &err);
	j->kept = dsocr_join_now();
	if (n < 0)
		dsocr_join_lose_db(j, &err);
	for (int i = 0; i < n; i++)
		give_up(j, ids[i]);
}

/* ---- jobs go ---- */

/* What the server could not write is a failed attempt; when that cannot be written, nobody's. */
static void
take_refusal(DsocrJoin *j, DsocrJoinJob *job, const DsocrError *why)
{
	DsocrError err = {0};

	dsocr_join_say("job %llu: %s", (unsigned long long) job->id, why->message);
	if (!job->refused)
	{
		job->refused = true;
		dsocr_join_fail_job(&j->jobs, job, DSOCR_E_INTERNAL, why->message);
		return;
	}
	if (dsocr_join_db_release(j->db, job->id, &err) == DSOCR_JOIN_LOST)
		dsocr_join_lose_db(j, &err);
	else
		dsocr_join_drop(&j->jobs, job);
}

/* Those that have ended from the first on that the database does not have; how many. */
static int
collect_pages(const DsocrJoinDocument *d, DsocrBuffer *frames)
{
	int page = d->next_out;

	while (page < d->next_in && dsocr_join_page(d, page)->state == DSOCR_PAGE_ENDED &&
		   (frames->len == 0 || frames->len + dsocr_join_page(d, page)->answer.len < WRITE_BYTES))
	{
		const DsocrBuffer *answer = &dsocr_join_page(d, page)->answer;

		if (!dsocr_buffer_append(frames, answer->data, answer->len, NULL))
			break;
		page++;
	}
	return page - d->next_out;
}

/* false: there are none for now, or the document has ended. */
static bool
write_some_pages(DsocrJoin *j, DsocrJoinJob *job)
{
	DsocrJoinDocument *d = job->document;
	DsocrBuffer frames = {0};
	DsocrError err = {0};
	int n = collect_pages(d, &frames);
	DsocrJoinWritten written = DSOCR_JOIN_WRITTEN;

	if (n > 0)
		written = dsocr_join_db_pages(j->db, job->id, d->next_out, &frames, &err);
	dsocr_buffer_free(&frames);
	if (written == DSOCR_JOIN_LOST)
		dsocr_join_lose_db(j, &err);
	else if (written == DSOCR_JOIN_REFUSED)
	{
		dsocr_join_say("job %llu: %s", (unsigned long long) job->id, err.message);
		job->refused = true;
		err.code = DSOCR_E_INTERNAL;
		dsocr_join_end_document(j, job, &err);
	}
	if (n == 0 || written != DSOCR_JOIN_WRITTEN)
		return false;
	for (; n > 0; n--)
		dsocr_buffer_free(&dsocr_join_page(d, d->next_out++)->answer);
	return true;
}

/* All pages are with the database, or there are none to be read. */
static bool
is_complete(const DsocrJoinJob *job)
{
	return job->state == DSOCR_JOB_OPEN && job->document->pages > 0 &&
		   job->document->next_out > job->document->last;
}

void
dsocr_join_write_pages(DsocrJoin *j)
{
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS && j->jobs.counts[DSOCR_JOB_OPEN] > 0; i++)
	{
		DsocrJoinJob *job = &j->jobs.jobs[i];

		do
		{
			if (job->state == DSOCR_JOB_OPEN)
				dsocr_join_fail_wanted(job);
		} while (j->db != NULL && job->state == DSOCR_JOB_OPEN && write_some_pages(j, job));
		if (is_complete(job))
			dsocr_join_end_document(j, job, NULL);
	}
}

/* What has become of jobs that were written together. */
static void
settle(DsocrJoin *j, int n, DsocrJoinJob **jobs, const DsocrJoinWritten *written,
	   const DsocrError *err)
{
	for (int i = 0; i < n && j->db != NULL; i++)
	{
		switch (written[i])
		{
			case DSOCR_JOIN_WRITTEN:
				j->written++;
				dsocr_join_drop(&j->jobs, jobs[i]);
				/* the server may have given none because we had so many */
				j->idle = (DsocrJoinPause){0};
				break;
			case DSOCR_JOIN_BUSY:
				jobs[i]->not_before = dsocr_join_now() + BUSY_PAUSE_MS;
				break;
			case DSOCR_JOIN_REFUSED:
				if (n > 1)
					jobs[i]->alone = true;
				else
					take_refusal(j, jobs[i], err);
				break;
			case DSOCR_JOIN_LOST:
				dsocr_join_lose_db(j, err);
				break;
		}
	}
}

/* Answers that share a transaction; one that was refused has its own. */
static int
collect(DsocrJoin *j, int *next, DsocrJoinJob **jobs, DsocrJoinAnswer *answers)
{
	int64_t now = dsocr_join_now();
	size_t bytes = 0;
	int n = 0;

	for (; *next < DSOCR_JOIN_MAX_JOBS && n < DSOCR_JOIN_WRITE_AT_ONCE; (*next)++)
	{
		DsocrJoinJob *job = &j->jobs.jobs[*next];

		if (job->state != DSOCR_JOB_ANSWERED || job->not_before > now)
			continue;
		if (n > 0 && (job->alone || bytes + job->answer.len > WRITE_BYTES))
			break;
		bytes += job->answer.len;
		jobs[n] = job;
		answers[n++] = (DsocrJoinAnswer){job->id, &job->answer, (int64_t) job->device_us};
		if (job->alone)
		{
			(*next)++;
			break;
		}
	}
	return n;
}

void
dsocr_join_write(DsocrJoin *j)
{
	DsocrJoinJob *jobs[DSOCR_JOIN_WRITE_AT_ONCE];
	DsocrJoinAnswer answers[DSOCR_JOIN_WRITE_AT_ONCE];
	DsocrJoinWritten written[DSOCR_JOIN_WRITE_AT_ONCE];
	int next = 0;
	int n;

	if (j->jobs.counts[DSOCR_JOB_ANSWERED] == 0)
		return;
	while (j->db != NULL && (n = collect(j, &next, jobs, answers)) > 0)
	{
		DsocrError err = {0};

		dsocr_join_db_finish(j->db, n, answers, written, &err);
		settle(j, n, jobs, written, &err);
	}
}
