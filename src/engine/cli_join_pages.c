/*-------------------------------------------------------------------------
 *
 * cli_join_pages.c
 *		The page server of a remote worker: comes, answers, goes.
 *
 * The bytes of a document stay here until all its pages have been read, so one
 * that a page server was lost with is opened again.  One that is being opened
 * when two page servers die is to blame for that; so is a page that was asked
 * for when two of them died.  After the first death it has the next for itself.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_join.h"

#include <string.h>

#define MAX_DEATHS 2
#define MAX_LOSSES 2
#define MAX_FAILURES 3	  /* starts in a row that came to nothing */
#define SILENCE_MS 120000 /* each page has its own limit there, which is shorter */
#define READ_LIMIT ((size_t) 16 << 20)

bool
dsocr_join_pages_are_busy(const DsocrJoin *j)
{
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS && j->jobs.counts[DSOCR_JOB_OPEN] > 0; i++)
	{
		const DsocrJoinJob *job = &j->jobs.jobs[i];

		if (dsocr_join_is_open(job) &&
			(!job->document->open ||
			 dsocr_join_document_count(job->document, DSOCR_PAGE_ASKED) > 0))
			return true;
	}
	return false;
}

/* ---- the page server comes and goes ---- */

/* A page that was asked for will not come: ask again, but not for ever. */
static void
note_loss(DsocrJoinJob *job, int page)
{
	DsocrJoinPage *p = dsocr_join_page(job->document, page);
	DsocrError lost = {0};

	p->state = DSOCR_PAGE_WANTED;
	if (++p->losses < MAX_LOSSES)
		return;
	dsocr_fail(&lost, DSOCR_E_ENGINE_LOST, "the page server died twice on this page");
	dsocr_join_document_fail_page(job, page, &lost);
}

static void
lose_document(DsocrJoin *j, DsocrJoinJob *job)
{
	DsocrJoinDocument *d = job->document;
	bool opening = !d->open;
	DsocrError lost = {0};

	d->id = 0;
	d->open = false;
	d->deaths = opening ? d->deaths + 1 : 0;
	for (int page = d->next_out; page < d->next_in; page++)
	{
		if (dsocr_join_page(d, page)->state == DSOCR_PAGE_ASKED)
			note_loss(job, page);
	}
	if (d->deaths < MAX_DEATHS)
		return;
	dsocr_fail(&lost, DSOCR_E_ENGINE_LOST, "the page server died twice");
	dsocr_join_fail_document(j, job, &lost);
}

/* It cannot be run here: all that was claimed goes to others, and we come back for images alone. */
static void
do_without_pages(DsocrJoin *j)
{
	DsocrError why = {0};

	dsocr_join_say("cannot run the page server \"%s\": takes no documents of several pages",
				   j->pages_program);
	j->pages_argv[0] = NULL;
	if (j->db == NULL)
		return;
	dsocr_fail(&why, DSOCR_E_IO, "joins again");
	dsocr_join_lose_db(j, &why);
	j->db_pause = (DsocrJoinPause){0};
}

static void
lose_pages(DsocrJoin *j, const char *how)
{
	bool was_ready = j->pages.ready;

	if (was_ready)
		dsocr_join_say("the page server %s", how);
	dsocr_join_child_end(&j->pages, false);
	j->pages.ready = false;
	dsocr_join_pause(&j->pages_pause, DSOCR_JOIN_FIRST_PAUSE_MS, DSOCR_JOIN_LONGEST_PAUSE_MS);
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS; i++)
	{
		if (dsocr_join_is_open(&j->jobs.jobs[i]))
			lose_document(j, &j->jobs.jobs[i]);
	}
	if (!was_ready && ++j->pages_failures >= MAX_FAILURES)
		do_without_pages(j);
}

void
dsocr_join_start_pages(DsocrJoin *j)
{
	DsocrError err = {0};

	if (j->pages_argv[0] == NULL || j->pages.pid != 0 || dsocr_join_is_paused(&j->pages_pause))
		return;
	j->pages_heard = dsocr_join_now();
	if (!dsocr_join_child_start(&j->pages, j->pages_argv, j->pages_fd_text,
								sizeof(j->pages_fd_text), &err))
	{
		dsocr_join_say("%s", err.message);
		lose_pages(j, "could not be started");
	}
}

void
dsocr_join_feed_pages(DsocrJoin *j)
{
	if (j->pages.ready)
		dsocr_join_ask_pages(j);
	if (j->pages.pid != 0 && !dsocr_channel_flush(&j->pages.channel))
		lose_pages(j, "has died");
	else if (j->pages.pid != 0 && (dsocr_join_pages_are_busy(j) || !j->pages.ready) &&
			 dsocr_join_now() - j->pages_heard > SILENCE_MS)
		lose_pages(j, "was silent for too long and has been ended");
}

/* ---- what it answers ---- */

/* The document by its number there, or the one that has asked for a page by this number. */
static DsocrJoinJob *
find_asker(DsocrJoin *j, uint64_t id, int *page)
{
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS && j->jobs.counts[DSOCR_JOB_OPEN] > 0; i++)
	{
		DsocrJoinJob *job = &j->jobs.jobs[i];
		const DsocrJoinDocument *d = job->document;

		*page = 0;
		if (!dsocr_join_is_open(job))
			continue;
		if (d->id == id)
			return job;
		for (*page = d->next_out; *page < d->next_in; (*page)++)
		{
			const DsocrJoinPage *p = dsocr_join_page(d, *page);

			if (p->state == DSOCR_PAGE_ASKED && p->ask == id)
				return job;
		}
	}
	return NULL;
}

/* The image of a page goes to the engine. */
static void
take_image(DsocrJoin *j, DsocrJoinJob *job, int page, const DsocrResult *image)
{
	DsocrJoinDocument *d = job->document;
	DsocrJoinPage *p = dsocr_join_page(d, page);
	DsocrJoinJob *reading = dsocr_join_find(&j->jobs, DSOCR_JOB_FREE, 0);
	DsocrRequest r = d->reading;

	/* it is asked for again where there is no room for it */
	p->state = DSOCR_PAGE_WANTED;
	if (image->image_len > j->largest_image)
		j->largest_image = image->image_len;
	if (reading == NULL)
		return;
	r.id = j->next_id++;
	r.document = d->id;
	r.page = page;
	r.max_pages = d->pages;
	r.prompt = d->prompt;
	r.image = image->image;
	r.image_len = image->image_len;
	if (!dsocr_frame_request_head(&reading->frame, &r, NULL) ||
		!dsocr_buffer_append(&reading->frame, d->prompt, d->prompt == NULL ? 0 : strlen(d->prompt),
							 NULL) ||
		!dsocr_buffer_append(&reading->frame, image->image, image->image_len, NULL))
	{
		dsocr_buffer_free(&reading->frame);
		return;
	}
	p->state = DSOCR_PAGE_READING;
	reading->id = r.id;
	reading->parent = job;
	reading->page = page;
	reading->suspect = p->suspect;
	dsocr_join_set_state(&j->jobs, reading, DSOCR_JOB_WAITING);
}

static void
take_result(DsocrJoin *j, const DsocrFrameHeader *h, const void *body)
{
	int page;
	DsocrJoinJob *job = find_asker(j, h->id, &page);
	DsocrError status = {0};
	DsocrResult result = {0};
	DsocrError err = {0};

	if (job == NULL)
		return; /* it was closed */
	if (body == NULL)
		dsocr_fail(&status, DSOCR_E_MEMORY, "no memory for the image of a page");
	else if (!dsocr_parse_result(body, h->length, &status, &result, &err))
		status = err;
	if (page == 0 && status.code == DSOCR_OK)
		dsocr_fail(&status, DSOCR_E_INTERNAL, "the page server closed the document");
	if (page == 0)
		dsocr_join_fail_document(j, job, &status);
	else if (status.code != DSOCR_OK)
		dsocr_join_document_fail_page(job, page, &status);
	else
		take_image(j, job, page, &result);
	dsocr_result_free(&result);
}

static void
take_progress(DsocrJoin *j, const DsocrFrameHeader *h, const void *body)
{
	int page;
	DsocrJoinJob *job = find_asker(j, h->id, &page);
	DsocrProgress progress = {0};
	DsocrError err = {0};

	if (job == NULL || page != 0 || body == NULL ||
		!dsocr_parse_progress(h, body, &progress, &err) || progress.pages <= 0)
		return;
	job->document->open = true;
	dsocr_join_document_set_pages(job->document, progress.pages);
}

static void
take_frame(DsocrJoin *j, const DsocrFrameHeader *h, const void *body)
{
	j->pages_heard = dsocr_join_now();
	if (h->type == DSOCR_FRAME_READY)
	{
		j->pages.ready = true;
		j->pages_failures = 0;
	}
	else if (h->type == DSOCR_FRAME_PROGRESS)
		take_progress(j, h, body);
	else if (h->type == DSOCR_FRAME_RESULT)
	{
		j->pages_pause = (DsocrJoinPause){0};
		take_result(j, h, body);
	}
}

void
dsocr_join_hear_pages(DsocrJoin *j)
{
	while (j->pages.pid != 0)
	{
		DsocrFrameHeader h;
		DsocrError err = {0};
		void *body = NULL;
		DsocrReadState state = dsocr_channel_read(&j->pages.channel, READ_LIMIT, &h, &body, &err);

		if (state == DSOCR_READ_NOTHING)
			return;
		if (state != DSOCR_READ_FRAME)
		{
			lose_pages(j, state == DSOCR_READ_BAD ? "does not keep to the protocol" : "has died");
			return;
		}
		take_frame(j, &h, body);
		dsocr_free(body);
	}
}
