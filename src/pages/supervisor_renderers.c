/*-------------------------------------------------------------------------
 *
 * supervisor_renderers.c
 *		The page server's renderers: what they say and how they end.
 *
 * Nothing that a renderer says is believed: it has read a hostile document.
 *
 *-------------------------------------------------------------------------
 */
#include "supervisor_parts.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_ANSWER ((uint64_t) 256 << 20) /* bytes that a renderer may answer */
#define READ_SLICE ((size_t) 4 << 20)
#define IDLE_US ((int64_t) 10 * 1000000) /* then its memory is worth more */

/* ---- renderers ---- */

static void
unlink_renderer(DsocrSupervisor *s, DsocrRenderer *r)
{
	for (DsocrRenderer **at = &s->renderers; *at != NULL; at = &(*at)->next)
	{
		if (*at == r)
		{
			*at = r->next;
			break;
		}
	}
	r->document->n_renderers--;
	if (r->page != NULL || !r->opened)
		r->document->n_busy--;
	s->n_renderers--;
	dsocr_supervisor_free_page(r->page);
	dsocr_free(r);
}

void
dsocr_renderer_stop(DsocrSupervisor *s, DsocrRenderer *r)
{
	dsocr_child_stop(&r->child, &s->ending);
	unlink_renderer(s, r);
}

static int64_t
deadline(const DsocrSupervisor *s)
{
	int ms = s->options->page_timeout_ms;

	return ms == 0 ? 0 : dsocr_now_us() + (int64_t) ms * 1000;
}

DsocrRenderer *
dsocr_renderer_start(DsocrSupervisor *s, DsocrOpenDocument *d, DsocrError *err)
{
	DsocrRenderer *r = dsocr_zalloc(1, sizeof(*r), err);
	bool ok;

	if (r == NULL)
		return NULL;
	(void) madvise(d->map, d->map_len, MADV_DOFORK);
	ok = dsocr_child_start(&r->child, &d->task, dsocr_supervisor_forget, s, err);
	(void) madvise(d->map, d->map_len, MADV_DONTFORK);
	if (!ok)
	{
		dsocr_free(r);
		return NULL;
	}
	r->document = d;
	r->serial = ++s->serial;
	r->deadline_us = deadline(s);
	r->next = s->renderers;
	s->renderers = r;
	s->n_renderers++;
	d->n_renderers++;
	d->n_busy++;
	return r;
}

/* ---- frames from renderers ---- */

static const char foreign[] = "the renderer does not keep to the protocol";

static void
describe(const DsocrRenderer *r, const char *how, DsocrError *err)
{
	if (r->page != NULL)
		dsocr_fail(err, DSOCR_E_IMAGE, "page %d: %.200s", r->page->request.page, how);
	else
		dsocr_fail(err, DSOCR_E_IMAGE, "document could not be opened: %.200s", how);
}

/* A renderer is of no use any more, for the given reason. */
static void
lose(DsocrSupervisor *s, DsocrRenderer *r, const DsocrError *why)
{
	DsocrOpenDocument *d = r->document;

	if (r->page != NULL && !r->page->dropped)
		dsocr_supervisor_status(s, r->page->id, why);
	unlink_renderer(s, r);
	if (d->pages == 0)
	{
		dsocr_supervisor_status(s, d->id, why);
		dsocr_supervisor_close(s, d);
	}
}

/* It has gone, or does what it must not. */
static void
lose_broken(DsocrSupervisor *s, DsocrRenderer *r, const char *what)
{
	DsocrError why = {0};
	char how[128];

	dsocr_child_end(&r->child, &r->document->task, &s->ending, how, sizeof(how));
	describe(r, what == NULL ? how : what, &why);
	lose(s, r, &why);
}

static void
lose_late(DsocrSupervisor *s, DsocrRenderer *r)
{
	char how[64];

	snprintf(how, sizeof(how), "the renderer was stopped after %g s",
			 s->options->page_timeout_ms / 1000.0);
	lose_broken(s, r, how);
}

static bool
take_opened(DsocrSupervisor *s, DsocrRenderer *r, const DsocrFrameHeader *h, const void *body)
{
	DsocrOpenDocument *d = r->document;
	DsocrProgress p;

	if (r->opened || !dsocr_parse_progress(h, body, &p, NULL) || p.id != d->id || p.pages < 1 ||
		(d->pages > 0 && p.pages != d->pages))
		return false;
	r->opened = true;
	r->deadline_us = r->page == NULL ? 0 : deadline(s);
	if (r->page == NULL)
	{
		d->n_busy--;
		r->idle_us = dsocr_now_us();
	}
	if (d->pages == 0)
	{
		d->pages = p.pages;
		dsocr_supervisor_pages(s, d);
	}
	return true;
}

/* Pass an answer on, which was found to be one. */
static void
forward(DsocrSupervisor *s, const DsocrFrameHeader *h, const void *body)
{
	size_t before = s->channel.out.len;

	if (dsocr_buffer_append(&s->channel.out, h, sizeof(*h), NULL) &&
		dsocr_buffer_append(&s->channel.out, body, h->length, NULL))
		return;
	s->channel.out.len = before;
	dsocr_supervisor_fail(s, h->id, DSOCR_E_MEMORY, "out of memory for an image of %llu bytes",
						  (unsigned long long) h->length);
}

static bool
take_result(DsocrSupervisor *s, DsocrRenderer *r, const DsocrFrameHeader *h, const void *body)
{
	DsocrError status = {0};
	DsocrResult result = {0};
	DsocrWantedPage *p = r->page;

	if (!dsocr_parse_result(body, h->length, &status, &result, NULL))
		return false;
	dsocr_result_free(&result);
	if (!r->opened)
	{
		/* why it could not be opened; it ends by itself */
		if (status.code == DSOCR_OK || h->id != r->document->id)
			return false;
		dsocr_child_stop(&r->child, &s->ending);
		lose(s, r, &status);
		return true;
	}
	if (p == NULL || h->id != p->id)
		return false;
	if (!p->dropped)
		forward(s, h, body);
	r->last_page = p->request.page;
	r->page = NULL;
	dsocr_supervisor_free_page(p);
	r->document->n_busy--;
	r->deadline_us = 0;
	r->idle_us = dsocr_now_us();
	if (dsocr_child_is_worn(&r->child, &r->document->task))
		dsocr_renderer_stop(s, r);
	return true;
}

void
dsocr_renderer_read(DsocrSupervisor *s, DsocrRenderer *r)
{
	DsocrChannel *c = &r->child.channel;
	DsocrFrameHeader h;
	DsocrError err = {0};
	void *body;
	bool known = false;

	switch (dsocr_channel_read(c, READ_SLICE, &h, &body, &err))
	{
		case DSOCR_READ_NOTHING:
			if (c->header_got == sizeof(c->header) && c->header.length > MAX_ANSWER)
				lose_broken(s, r, "the image is too large to be sent");
			return;
		case DSOCR_READ_EOF:
			lose_broken(s, r, NULL);
			return;
		case DSOCR_READ_BAD:
			lose_broken(s, r, foreign);
			return;
		case DSOCR_READ_FRAME:
			break;
	}
	if (body == NULL && h.length > 0)
	{
		lose_broken(s, r, "no memory to take the image");
		return;
	}
	/* after a result that is taken the renderer may be gone */
	if (h.type == DSOCR_FRAME_PROGRESS)
		known = take_opened(s, r, &h, body);
	else if (h.type == DSOCR_FRAME_RESULT)
		known = take_result(s, r, &h, body);
	dsocr_supervisor_wipe(body, h.length);
	if (!known)
		lose_broken(s, r, foreign);
}

void
dsocr_renderer_give(DsocrSupervisor *s, DsocrRenderer *r, DsocrWantedPage *p)
{
	DsocrError err = {0};

	r->page = p;
	if (r->opened)
	{
		/* one that still opens is busy already and has its own time for that */
		r->document->n_busy++;
		r->deadline_us = deadline(s);
	}
	if (!dsocr_frame_request_head(&r->child.channel.out, &p->request, &err) ||
		(p->request.prompt != NULL && !dsocr_buffer_append(&r->child.channel.out, p->request.prompt,
														   strlen(p->request.prompt), &err)))
		lose_broken(s, r, "no memory to ask for a page");
}

/* The next renderer of the list that is late, or has had nothing to do for long. */
static DsocrRenderer *
find_overdue(const DsocrSupervisor *s, int64_t now)
{
	for (DsocrRenderer *r = s->renderers; r != NULL; r = r->next)
	{
		if (r->deadline_us > 0 && now > r->deadline_us)
			return r;
		if (r->opened && r->page == NULL && now - r->idle_us > IDLE_US)
			return r;
	}
	return NULL;
}

void
dsocr_renderer_check_times(DsocrSupervisor *s)
{
	int64_t now = dsocr_now_us();
	DsocrRenderer *r;

	/* each call of these may end others, too */
	while (!s->stop && (r = find_overdue(s, now)) != NULL)
	{
		if (r->opened && r->page == NULL)
			dsocr_renderer_stop(s, r);
		else
			lose_late(s, r);
	}
}
