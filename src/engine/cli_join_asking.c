/*-------------------------------------------------------------------------
 *
 * cli_join_asking.c
 *		What a remote worker asks of its page server, and when.
 *
 * Images are asked for as far as the engine takes them: some wait for it, but
 * never more than some bytes of them.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_join.h"

#include <string.h>

#define MAX_OPEN 8	 /* documents at the same time */
#define MAX_BEHIND 4 /* of those that are claimed, that have pages to come */

/* Bytes of images that the engine has not taken, and what one may have before there was any. */
#define MAX_IMAGE_BYTES ((size_t) 64 << 20)
#define FIRST_IMAGE_BYTES ((size_t) 8 << 20)

bool
dsocr_join_pages_are_behind(const DsocrJoin *j)
{
	int n = 0;

	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS && j->jobs.counts[DSOCR_JOB_OPEN] > 0; i++)
	{
		const DsocrJoinJob *job = &j->jobs.jobs[i];

		n += job->state == DSOCR_JOB_OPEN && dsocr_join_document_wants(job->document);
	}
	return n >= MAX_BEHIND;
}

static bool
send(DsocrJoin *j, const void *bytes, size_t n)
{
	if (!dsocr_join_pages_are_busy(j))
		j->pages_heard = dsocr_join_now();
	return dsocr_buffer_append(&j->pages.channel.out, bytes, n, NULL);
}

/* The request of the database, by a number of its own each time. */
static void
open_document(DsocrJoin *j, DsocrJoinJob *job)
{
	DsocrFrameHeader h;

	memcpy(&h, job->frame.data, sizeof(h));
	h.id = j->next_id++;
	memcpy(job->frame.data, &h, sizeof(h));
	if (send(j, job->frame.data, job->frame.len))
		job->document->id = h.id;
}

/* Open those that came first. */
static void
open_documents(DsocrJoin *j)
{
	for (;;)
	{
		DsocrJoinJob *next = NULL;
		int n = 0;

		for (int i = 0; i < DSOCR_JOIN_MAX_JOBS; i++)
		{
			DsocrJoinJob *job = &j->jobs.jobs[i];

			n += dsocr_join_is_open(job);
			if (job->state == DSOCR_JOB_OPEN && job->document->id == 0 &&
				dsocr_join_document_wants(job->document) &&
				(next == NULL || job->document->order < next->document->order))
				next = job;
		}
		if (next == NULL || n >= MAX_OPEN)
			return;
		open_document(j, next);
		if (next->document->id == 0)
			return; /* no memory for now */
	}
}

/* Images that are on the way to the engine, or will be; and their bytes. */
static int
count_images(const DsocrJoin *j, size_t *bytes)
{
	int n = 0;
	size_t most = j->largest_image > 0 ? j->largest_image : FIRST_IMAGE_BYTES;

	*bytes = dsocr_channel_pending(&j->child.channel);
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS; i++)
	{
		const DsocrJoinJob *job = &j->jobs.jobs[i];
		int asked;

		if (job->state == DSOCR_JOB_OPEN)
		{
			asked = dsocr_join_document_count(job->document, DSOCR_PAGE_ASKED);
			n += asked;
			*bytes += (size_t) asked * most;
		}
		else if (job->parent != NULL)
		{
			n++;
			*bytes += job->frame.len;
		}
	}
	*bytes += most;
	return n;
}

static bool
may_ask(const DsocrJoin *j)
{
	size_t bytes;
	int images = count_images(j, &bytes);

	return images == 0 || (images < j->in_flight && bytes < MAX_IMAGE_BYTES);
}

/* The page to be asked for next, 0: none. */
static int
next_page(DsocrJoinDocument *d)
{
	dsocr_join_document_fill(d);
	for (int page = d->next_out; page < d->next_in; page++)
	{
		if (dsocr_join_page(d, page)->state == DSOCR_PAGE_WANTED)
			return page;
	}
	return 0;
}

static bool
ask_page(DsocrJoin *j, DsocrJoinJob *job, int page)
{
	DsocrJoinDocument *d = job->document;
	DsocrBuffer frame = {0};
	DsocrRequest r = {.id = j->next_id++,
					  .kind = DSOCR_PAGE,
					  .priority = d->reading.priority,
					  .max_pixels = d->reading.max_pixels,
					  .document = d->id,
					  .page = page,
					  .max_pages = d->pages,
					  .output = DSOCR_PAGE_RAW};
	bool ok = dsocr_frame_request_head(&frame, &r, NULL) && send(j, frame.data, frame.len);

	dsocr_buffer_free(&frame);
	if (ok)
	{
		dsocr_join_page(d, page)->state = DSOCR_PAGE_ASKED;
		dsocr_join_page(d, page)->ask = r.id;
	}
	return ok;
}

/* The first page that a page server died of, perhaps. */
static int
suspect_page(const DsocrJoinDocument *d)
{
	for (int page = d->next_out; page < d->next_in; page++)
	{
		const DsocrJoinPage *p = dsocr_join_page(d, page);

		if (p->losses > 0 && (p->state == DSOCR_PAGE_WANTED || p->state == DSOCR_PAGE_ASKED))
			return page;
	}
	return 0;
}

/* What a page server may have died of has the next one for itself; false: there is no such thing. */
static bool
ask_suspect(DsocrJoin *j)
{
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS && j->jobs.counts[DSOCR_JOB_OPEN] > 0; i++)
	{
		DsocrJoinJob *job = &j->jobs.jobs[i];
		DsocrJoinDocument *d = job->document;
		int page;

		if (job->state != DSOCR_JOB_OPEN || d->broken.code != DSOCR_OK)
			continue;
		page = suspect_page(d);
		if (page == 0 && (d->deaths == 0 || d->open))
			continue;
		if (dsocr_join_pages_are_busy(j))
			return true;
		if (d->id == 0)
			open_document(j, job);
		else if (page > 0)
			(void) ask_page(j, job, page);
		return true;
	}
	return false;
}

void
dsocr_join_ask_pages(DsocrJoin *j)
{
	if (ask_suspect(j))
		return;
	open_documents(j);
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS; i++)
	{
		DsocrJoinJob *job = &j->jobs.jobs[i];
		int page;

		if (job->state != DSOCR_JOB_OPEN || !job->document->open)
			continue;
		while ((page = next_page(job->document)) > 0 && may_ask(j) && ask_page(j, job, page))
			;
		if (!dsocr_join_document_wants(job->document) &&
			dsocr_join_document_count(job->document, DSOCR_PAGE_ASKED) == 0)
			dsocr_join_close_document(j, job->document);
	}
}
