/*-------------------------------------------------------------------------
 *
 * cli_join_jobs.c
 *		The jobs that a remote worker has in flight.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_join.h"

void
dsocr_join_jobs_init(DsocrJoinJobs *t)
{
	t->counts[DSOCR_JOB_FREE] = DSOCR_JOIN_MAX_JOBS;
}

void
dsocr_join_jobs_free(DsocrJoinJobs *t)
{
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS; i++)
	{
		dsocr_buffer_free(&t->jobs[i].frame);
		dsocr_buffer_free(&t->jobs[i].answer);
		dsocr_join_document_free(t->jobs[i].document);
	}
}

void
dsocr_join_set_state(DsocrJoinJobs *t, DsocrJoinJob *job, DsocrJoinState state)
{
	int64_t now = dsocr_now_us();

	if (t->counts[DSOCR_JOB_READING] > 0)
		t->clock += (double) (now - t->clock_at) / t->counts[DSOCR_JOB_READING];
	t->clock_at = now;
	if (job->state == DSOCR_JOB_READING)
		job->device_us += t->clock - job->clock;
	if (state == DSOCR_JOB_READING)
		job->clock = t->clock;
	t->counts[job->state]--;
	t->counts[state]++;
	job->state = state;
}

void
dsocr_join_drop(DsocrJoinJobs *t, DsocrJoinJob *job)
{
	dsocr_buffer_free(&job->frame);
	dsocr_buffer_free(&job->answer);
	dsocr_join_document_free(job->document);
	dsocr_join_set_state(t, job, DSOCR_JOB_FREE);
	*job = (DsocrJoinJob){0};
}

DsocrJoinJob *
dsocr_join_find(DsocrJoinJobs *t, DsocrJoinState state, uint64_t id)
{
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS && t->counts[state] > 0; i++)
	{
		if (t->jobs[i].state == state && (id == 0 || t->jobs[i].id == id))
			return &t->jobs[i];
	}
	return NULL;
}

int
dsocr_join_open_jobs(const DsocrJoinJobs *t)
{
	return DSOCR_JOIN_MAX_JOBS - t->counts[DSOCR_JOB_FREE] - t->counts[DSOCR_JOB_ORPHAN];
}

int
dsocr_join_claimed_jobs(const DsocrJoinJobs *t)
{
	int n = dsocr_join_open_jobs(t);

	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS; i++)
		n -= t->jobs[i].parent != NULL;
	return n;
}

void
dsocr_join_answered(DsocrJoinJobs *t, DsocrJoinJob *job)
{
	DsocrJoinPage *page;

	dsocr_join_set_state(t, job, DSOCR_JOB_ANSWERED);
	if (job->parent == NULL)
		return;
	page = dsocr_join_page(job->parent->document, job->page);
	page->answer = job->answer;
	page->state = DSOCR_PAGE_ENDED;
	job->answer = (DsocrBuffer){0};
	job->parent->device_us += job->device_us;
	dsocr_join_drop(t, job);
}

void
dsocr_join_fail_job(DsocrJoinJobs *t, DsocrJoinJob *job, DsocrCode code, const char *message)
{
	DsocrError status = {0};

	dsocr_fail(&status, code, "%s", message);
	dsocr_buffer_free(&job->answer);
	job->answer = (DsocrBuffer){0};
	if (dsocr_frame_result(&job->answer, job->parent != NULL ? job->parent->id : job->id, &status,
						   NULL, NULL))
	{
		dsocr_join_answered(t, job);
		return;
	}
	if (job->parent != NULL)
		dsocr_join_page(job->parent->document, job->page)->state = DSOCR_PAGE_WANTED;
	dsocr_join_drop(t, job);
}
