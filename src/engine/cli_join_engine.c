/*-------------------------------------------------------------------------
 *
 * cli_join_engine.c
 *		What a remote worker and its engine say to each other.
 *
 * When the engine dies, or is silent for too long, those jobs that it had are
 * read again one at a time; one that kills it once more, alone, is reported as
 * the one to blame.  The next engine first reads a blank page, so that one that
 * can read nothing blames none: its jobs go to other workers.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_join.h"

#include <stdio.h>
#include <string.h>

#define TROUBLE_PAUSE_MS 5000 /* without new jobs after model or device failed */
#define READ_LIMIT ((size_t) 16 << 20)
#define TRIAL_SIDE 64		/* pixels */
#define MAX_FAILED_STARTS 2 /* in a row, and the jobs are for others */

/* Does it owe us something? */
static bool
is_busy(const DsocrJoin *j)
{
	return j->jobs.counts[DSOCR_JOB_READING] + j->jobs.counts[DSOCR_JOB_ORPHAN] > 0;
}

/* Read it again, alone; the image of a page is to be made once more. */
static void
suspect(DsocrJoin *j, DsocrJoinJob *job)
{
	DsocrJoinPage *page;

	job->suspect = true;
	if (job->parent == NULL)
	{
		dsocr_join_set_state(&j->jobs, job, DSOCR_JOB_WAITING);
		return;
	}
	page = dsocr_join_page(job->parent->document, job->page);
	page->suspect = true;
	page->state = DSOCR_PAGE_WANTED;
	dsocr_join_drop(&j->jobs, job);
}

/* Engines do not work here, which says nothing about documents. */
static void
give_jobs_back(DsocrJoin *j)
{
	DsocrError why = {0};

	if (j->db == NULL)
		return;
	dsocr_fail(&why, DSOCR_E_DEVICE, "the engine does not come back");
	dsocr_join_lose_db(j, &why);
}

static void
lose_engine(DsocrJoin *j, const char *how)
{
	bool was_ready = j->child.ready;

	if (j->trial != 0)
		dsocr_join_say("the engine %s on a blank page", how);
	else
		dsocr_join_say("the engine %s with %d images", how, j->jobs.counts[DSOCR_JOB_READING]);
	j->child_died = true;
	j->trial = 0;
	dsocr_join_child_end(&j->child, false);
	j->child.ready = false;
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS; i++)
	{
		DsocrJoinJob *job = &j->jobs.jobs[i];

		if (job->state == DSOCR_JOB_ORPHAN)
			dsocr_join_drop(&j->jobs, job);
		else if (job->state == DSOCR_JOB_READING && job->suspect)
			dsocr_join_fail_job(&j->jobs, job, DSOCR_E_ENGINE_LOST,
								"the engine died twice on this request");
		else if (job->state == DSOCR_JOB_READING)
			suspect(j, job);
	}
	dsocr_join_pause(&j->child_pause, DSOCR_JOIN_FIRST_PAUSE_MS, DSOCR_JOIN_LONGEST_PAUSE_MS);
	if (!was_ready && ++j->failed_starts >= MAX_FAILED_STARTS)
		give_jobs_back(j);
}

void
dsocr_join_start_engine(DsocrJoin *j)
{
	DsocrError err = {0};

	if (j->child.pid != 0 || dsocr_join_is_paused(&j->child_pause))
		return;
	j->heard = dsocr_join_now();
	if (dsocr_join_child_start(&j->child, j->argv, j->fd_text, sizeof(j->fd_text), &err))
		return;
	dsocr_join_say("%s", err.message);
	dsocr_join_pause(&j->child_pause, DSOCR_JOIN_FIRST_PAUSE_MS, DSOCR_JOIN_LONGEST_PAUSE_MS);
}

void
dsocr_join_cancel_reading(DsocrJoin *j, DsocrJoinJob *job)
{
	dsocr_join_set_state(&j->jobs, job, DSOCR_JOB_ORPHAN);
	job->parent = NULL;
	(void) dsocr_frame_simple(&j->child.channel.out, DSOCR_FRAME_CANCEL, job->id, NULL);
}

/* Hand documents to the engine: all, or suspects one at a time. */
static void
send_jobs(DsocrJoin *j)
{
	bool suspects = false;

	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS; i++)
	{
		DsocrJoinJob *job = &j->jobs.jobs[i];

		suspects |=
			(job->state == DSOCR_JOB_WAITING || job->state == DSOCR_JOB_READING) && job->suspect;
	}
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS; i++)
	{
		DsocrJoinJob *job = &j->jobs.jobs[i];

		if (job->state != DSOCR_JOB_WAITING ||
			(suspects && (!job->suspect || j->jobs.counts[DSOCR_JOB_READING] > 0)))
			continue;
		if (!dsocr_buffer_append(&j->child.channel.out, job->frame.data, job->frame.len, NULL))
			return;
		if (!is_busy(j))
			j->heard = dsocr_join_now();
		dsocr_join_set_state(&j->jobs, job, DSOCR_JOB_READING);
		if (job->parent != NULL)
			dsocr_buffer_free(&job->frame);
	}
}

void
dsocr_join_feed_engine(DsocrJoin *j)
{
	if (j->child.ready)
		send_jobs(j);
	if (j->child.pid != 0 && !dsocr_channel_flush(&j->child.channel))
		lose_engine(j, "has died");
	else if (j->child.pid != 0 && (is_busy(j) || !j->child.ready) &&
			 dsocr_join_now() - j->heard > j->engine_timeout_ms)
		lose_engine(j, "was silent for too long and has been ended");
}

/* ---- frames ---- */

/* A blank page for an engine that follows a dead one; false: none is due, or there is no memory. */
static bool
begin_trial(DsocrJoin *j)
{
	uint8_t image[32 + TRIAL_SIDE * TRIAL_SIDE];
	int head = snprintf((char *) image, 32, "P5 %d %d 255\n", TRIAL_SIDE, TRIAL_SIDE);
	DsocrBuffer frame = {0};
	DsocrRequest r = {.id = j->next_id++,
					  .kind = DSOCR_READ,
					  .mode = DSOCR_MODE_TINY,
					  .max_tokens = 1,
					  .max_pixels = TRIAL_SIDE * TRIAL_SIDE,
					  .image = image,
					  .image_len = (size_t) head + TRIAL_SIDE * TRIAL_SIDE};
	bool ok;

	memset(image + head, 255, TRIAL_SIDE * TRIAL_SIDE);
	ok = j->child_died && dsocr_frame_request_head(&frame, &r, NULL) &&
		 dsocr_buffer_append(&frame, image, r.image_len, NULL) &&
		 dsocr_buffer_append(&j->child.channel.out, frame.data, frame.len, NULL);
	dsocr_buffer_free(&frame);
	j->trial = ok ? r.id : 0;
	return ok;
}

/* It works, whatever it says of the page. */
static void
begin_work(DsocrJoin *j)
{
	j->trial = 0;
	j->failed_starts = 0;
	j->child.ready = true;
}

static void
take_ready(DsocrJoin *j, const DsocrFrameHeader *h, const void *body)
{
	DsocrModelInfo info = {0};
	DsocrError err = {0};

	if (!dsocr_parse_ready(h, body, &info, &err))
	{
		dsocr_join_say("%s", err.message);
		lose_engine(j, "was ended");
		return;
	}
	if (j->db != NULL && strcmp(info.fingerprint, j->info.fingerprint) != 0)
	{
		dsocr_fail(&err, DSOCR_E_IO, "the engine has come back with another model");
		dsocr_join_lose_db(j, &err);
		j->db_pause = (DsocrJoinPause){0};
	}
	j->info = info;
	if (!begin_trial(j))
		begin_work(j);
	j->child_was_ready = true;
	j->in_flight = j->wanted_in_flight > 0 ? j->wanted_in_flight : 2 * j->info.max_sequences;
	if (j->in_flight < 1)
		j->in_flight = 1;
	if (j->in_flight > DSOCR_JOIN_MAX_JOBS / 2)
		j->in_flight = DSOCR_JOIN_MAX_JOBS / 2;
}

/* Trouble of model or device says nothing about documents: wait before taking more. */
static void
note_trouble(DsocrJoin *j, const DsocrFrameHeader *h, const void *body)
{
	DsocrError status = {0};
	DsocrResult result = {0};
	DsocrError err = {0};

	if (!dsocr_parse_result(body, h->length, &status, &result, &err))
		return;
	dsocr_result_free(&result);
	if (status.code == DSOCR_E_MODEL || status.code == DSOCR_E_DEVICE)
	{
		dsocr_join_say("the engine cannot work: %s", status.message);
		j->trouble.until = dsocr_join_now() + TROUBLE_PAUSE_MS;
	}
	j->child_pause = (DsocrJoinPause){0};
}

static void
take_result(DsocrJoin *j, const DsocrFrameHeader *h, const void *body)
{
	DsocrFrameHeader header = *h;
	DsocrJoinJob *job = dsocr_join_find(&j->jobs, DSOCR_JOB_ORPHAN, h->id);

	if (job != NULL)
	{
		dsocr_join_drop(&j->jobs, job);
		return;
	}
	job = dsocr_join_find(&j->jobs, DSOCR_JOB_READING, h->id);
	if (job == NULL)
		return;
	/* the database knows the document alone */
	header.id = job->parent != NULL ? job->parent->id : job->id;
	dsocr_buffer_free(&job->frame);
	if (body == NULL || !dsocr_buffer_append(&job->answer, &header, sizeof(header), NULL) ||
		!dsocr_buffer_append(&job->answer, body, h->length, NULL))
		dsocr_join_fail_job(&j->jobs, job, DSOCR_E_MEMORY, "no memory for the result");
	else
	{
		note_trouble(j, h, body);
		dsocr_join_answered(&j->jobs, job);
	}
}

static void
take_failed(DsocrJoin *j, const DsocrFrameHeader *h, const void *body)
{
	DsocrError why = {0};
	DsocrError err = {0};

	if (dsocr_parse_failed(h, body, &why, &err))
		dsocr_join_say("%s", why.message);
	lose_engine(j, "has ended");
	if (!j->child_was_ready)
		j->status = DSOCR_JOIN_FAILED;
}

static void
take_frame(DsocrJoin *j, const DsocrFrameHeader *h, const void *body)
{
	j->heard = dsocr_join_now();
	if (h->type == DSOCR_FRAME_READY)
		take_ready(j, h, body);
	else if (h->type == DSOCR_FRAME_FAILED)
		take_failed(j, h, body);
	else if (h->type == DSOCR_FRAME_RESULT && j->trial != 0 && h->id == j->trial)
		begin_work(j);
	else if (h->type == DSOCR_FRAME_RESULT)
		take_result(j, h, body);
}

void
dsocr_join_hear_engine(DsocrJoin *j)
{
	while (j->child.pid != 0)
	{
		DsocrFrameHeader h;
		DsocrError err = {0};
		void *body = NULL;
		DsocrReadState state = dsocr_channel_read(&j->child.channel, READ_LIMIT, &h, &body, &err);

		if (state == DSOCR_READ_NOTHING)
			return;
		if (state != DSOCR_READ_FRAME)
		{
			lose_engine(j, state == DSOCR_READ_BAD ? "does not keep to the protocol" : "has died");
			return;
		}
		take_frame(j, &h, body);
		dsocr_free(body);
	}
}
