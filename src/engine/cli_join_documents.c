/*-------------------------------------------------------------------------
 *
 * cli_join_documents.c
 *		The pages of a document that a remote worker reads.
 *
 * They go through a window of numbers, from the first that the database does
 * not have: WANTED, ASKED of the page server, READING when there is an image
 * for the engine, ENDED.  The database gets them in order, so what is kept
 * does not grow with the document.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_join.h"

#include <string.h>

#define LEAST_WINDOW 8

/* What is asked of the engine for each page. */
static bool
parse_reading(DsocrJoinDocument *d, const DsocrJoinGiven *given, DsocrError *err)
{
	const DsocrBuffer *f = &given->page_frame;
	DsocrFrameHeader h;

	if (f->len < sizeof(h))
		return dsocr_fail(err, DSOCR_E_INTERNAL, "the server sent no request for pages");
	memcpy(&h, f->data, sizeof(h));
	if (!dsocr_frame_check(&h, err))
		return false;
	if (h.type != DSOCR_FRAME_REQUEST || h.length != f->len - sizeof(h) || given->first_page < 1)
		return dsocr_fail(err, DSOCR_E_INTERNAL, "the server sent a malformed request for pages");
	return dsocr_parse_request(&h, f->data + sizeof(h), &d->reading, &d->prompt, err);
}

DsocrJoinDocument *
dsocr_join_document_create(const DsocrJoinGiven *given, int window, uint64_t order, DsocrError *err)
{
	DsocrJoinDocument *d = dsocr_zalloc(1, sizeof(*d), err);

	if (d == NULL)
		return NULL;
	d->window = window < LEAST_WINDOW ? LEAST_WINDOW : window;
	d->entries = dsocr_zalloc((size_t) d->window, sizeof(*d->entries), err);
	if (d->entries == NULL || !parse_reading(d, given, err))
	{
		dsocr_join_document_free(d);
		return NULL;
	}
	d->order = order;
	d->last = given->last_page;
	d->next_out = d->next_in = given->first_page;
	return d;
}

void
dsocr_join_document_free(DsocrJoinDocument *d)
{
	if (d == NULL)
		return;
	for (int page = d->next_out; page < d->next_in; page++)
		dsocr_buffer_free(&dsocr_join_page(d, page)->answer);
	dsocr_free(d->entries);
	dsocr_free(d->prompt);
	dsocr_free(d);
}

void
dsocr_join_document_set_pages(DsocrJoinDocument *d, int pages)
{
	if (d->pages > 0)
		return;
	d->pages = pages;
	d->last = d->last < pages ? d->last : pages;
}

void
dsocr_join_document_fill(DsocrJoinDocument *d)
{
	while (d->pages > 0 && d->next_in <= d->last && d->next_in < d->next_out + d->window)
		*dsocr_join_page(d, d->next_in++) = (DsocrJoinPage){0};
}

bool
dsocr_join_document_wants(const DsocrJoinDocument *d)
{
	return d->broken.code == DSOCR_OK && (d->pages == 0 || d->next_in <= d->last ||
										  dsocr_join_document_count(d, DSOCR_PAGE_WANTED) > 0);
}

int
dsocr_join_document_count(const DsocrJoinDocument *d, DsocrJoinPageState state)
{
	int n = 0;

	for (int page = d->next_out; page < d->next_in; page++)
		n += dsocr_join_page(d, page)->state == state;
	return n;
}

void
dsocr_join_document_fail_page(DsocrJoinJob *job, int page, const DsocrError *why)
{
	DsocrJoinPage *p = dsocr_join_page(job->document, page);

	/* without memory for that much it is asked for again */
	p->state = dsocr_frame_result(&p->answer, job->id, why, NULL, NULL) ? DSOCR_PAGE_ENDED
																		: DSOCR_PAGE_WANTED;
}

/* ---- documents end ---- */

void
dsocr_join_close_document(DsocrJoin *j, DsocrJoinDocument *d)
{
	if (d->id != 0 && j->pages.pid != 0)
		(void) dsocr_frame_simple(&j->pages.channel.out, DSOCR_FRAME_CANCEL, d->id, NULL);
	d->id = 0;
	d->open = false;
}

/* Nobody wants its pages any more. */
static void
drop_pages(DsocrJoin *j, DsocrJoinJob *job)
{
	for (int i = 0; i < DSOCR_JOIN_MAX_JOBS; i++)
	{
		DsocrJoinJob *page = &j->jobs.jobs[i];

		if (page->parent != job)
			continue;
		if (page->state == DSOCR_JOB_READING)
			dsocr_join_cancel_reading(j, page);
		else
			dsocr_join_drop(&j->jobs, page);
	}
	dsocr_join_close_document(j, job->document);
	dsocr_join_document_free(job->document);
	job->document = NULL;
}

void
dsocr_join_drop_document(DsocrJoin *j, DsocrJoinJob *job)
{
	drop_pages(j, job);
	dsocr_join_drop(&j->jobs, job);
}

void
dsocr_join_end_document(DsocrJoin *j, DsocrJoinJob *job, const DsocrError *why)
{
	DsocrResult all = {.pages = job->document->pages};
	DsocrError none = {0};
	const DsocrError *status = why != NULL ? why : &none;

	drop_pages(j, job);
	dsocr_buffer_free(&job->frame);
	if (dsocr_frame_result(&job->answer, job->id, status, &all, NULL))
		dsocr_join_answered(&j->jobs, job);
	else
		dsocr_join_drop(&j->jobs, job);
}

void
dsocr_join_fail_document(DsocrJoin *j, DsocrJoinJob *job, const DsocrError *why)
{
	DsocrJoinDocument *d = job->document;

	dsocr_join_close_document(j, d);
	if (d->pages == 0)
	{
		dsocr_join_end_document(j, job, why);
		return;
	}
	d->broken = *why;
	for (int page = d->next_out; page < d->next_in; page++)
	{
		if (dsocr_join_page(d, page)->state == DSOCR_PAGE_ASKED)
			dsocr_join_page(d, page)->state = DSOCR_PAGE_WANTED;
	}
}

void
dsocr_join_fail_wanted(DsocrJoinJob *job)
{
	DsocrJoinDocument *d = job->document;

	if (d->broken.code == DSOCR_OK)
		return;
	dsocr_join_document_fill(d);
	for (int page = d->next_out; page < d->next_in; page++)
	{
		if (dsocr_join_page(d, page)->state == DSOCR_PAGE_WANTED)
			dsocr_join_document_fail_page(job, page, &d->broken);
	}
}
