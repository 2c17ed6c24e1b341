/*-------------------------------------------------------------------------
 *
 * supervisor_documents.c
 *		The page server's open documents and the pages asked for.
 *
 * The bytes of a document lie in a mapping that no renderer of another
 * document inherits.  Everything else of it that passes through this process
 * is in pieces of memory that are wiped when they are freed, or go back to the
 * system, and are forgotten by a new renderer while they are in use.
 *
 *-------------------------------------------------------------------------
 */
#include "supervisor_parts.h"

#include <string.h>
#include <sys/mman.h>

#define MAPPED_FROM (64 * 1024) /* larger pieces of memory leave no trace when freed */
#define CPU_TIMES 10			/* processor time of a renderer, in times of a page's limit */

/* ---- memory ---- */

/* Free what held bytes of a document. */
void
dsocr_supervisor_wipe(void *bytes, size_t n)
{
	/* larger pieces go back to the system as they are freed */
	if (bytes != NULL && n < MAPPED_FROM)
		explicit_bzero(bytes, n);
	dsocr_free(bytes);
}

void
dsocr_supervisor_free_page(DsocrWantedPage *p)
{
	if (p == NULL)
		return;
	if (p->request.prompt != NULL)
		dsocr_supervisor_wipe((char *) p->request.prompt, strlen(p->request.prompt));
	dsocr_free(p);
}

static void
forget_channel(DsocrChannel *c)
{
	if (c->body != NULL)
		dsocr_child_forget(c->body, c->body_got);
	if (c->out.data != NULL)
		dsocr_child_forget(c->out.data, c->out.cap);
}

/* In a new renderer: nothing of others is to be found here. */
void
dsocr_supervisor_forget(void *arg)
{
	DsocrSupervisor *s = arg;

	forget_channel(&s->channel);
	for (DsocrRenderer *r = s->renderers; r != NULL; r = r->next)
		forget_channel(&r->child.channel);
	for (DsocrOpenDocument *d = s->documents; d != NULL; d = d->next)
	{
		for (DsocrWantedPage *p = d->first; p != NULL; p = p->next)
		{
			if (p->request.prompt != NULL)
				explicit_bzero((char *) p->request.prompt, strlen(p->request.prompt));
		}
	}
}

/* ---- documents ---- */

static DsocrOpenDocument *
find_document(const DsocrSupervisor *s, uint64_t id)
{
	DsocrOpenDocument *d = s->documents;

	while (d != NULL && d->id != id)
		d = d->next;
	return d;
}

/* Stop its renderers and fail its pages. */
void
dsocr_supervisor_close(DsocrSupervisor *s, DsocrOpenDocument *d)
{
	DsocrRenderer *next;

	for (DsocrOpenDocument **at = &s->documents; *at != NULL; at = &(*at)->next)
	{
		if (*at == d)
		{
			*at = d->next;
			break;
		}
	}
	for (DsocrRenderer *r = s->renderers; r != NULL; r = next)
	{
		next = r->next;
		if (r->document != d)
			continue;
		if (r->page != NULL && !r->page->dropped)
			dsocr_supervisor_fail(s, r->page->id, DSOCR_E_IO, "document was closed");
		dsocr_renderer_stop(s, r);
	}
	while (d->first != NULL)
	{
		DsocrWantedPage *p = d->first;

		d->first = p->next;
		dsocr_supervisor_fail(s, p->id, DSOCR_E_IO, "document was closed");
		dsocr_supervisor_free_page(p);
	}
	(void) munmap(d->map, d->map_len);
	dsocr_free(d);
}

static void
admit_document(DsocrSupervisor *s, const DsocrRequest *r)
{
	size_t password = r->prompt == NULL ? 0 : strlen(r->prompt) + 1;
	uint64_t max_pixels = s->options->max_pixels;
	DsocrOpenDocument *d = dsocr_zalloc(1, sizeof(*d), NULL);
	size_t len;

	if (d != NULL && dsocr_add(r->image_len, password + 1, &len))
	{
		d->map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		d->map_len = len;
	}
	if (d == NULL || d->map == NULL || d->map == MAP_FAILED)
	{
		dsocr_free(d);
		dsocr_supervisor_fail(s, r->id, DSOCR_E_MEMORY, "out of memory for a document of %zu bytes",
							  r->image_len);
		return;
	}
	if (r->image_len > 0)
		memcpy(d->map, r->image, r->image_len);
	if (password > 0)
		memcpy((char *) d->map + r->image_len, r->prompt, password);
	(void) madvise(d->map, d->map_len, MADV_DONTFORK);
	if (max_pixels == 0 || (r->max_pixels > 0 && r->max_pixels < max_pixels))
		max_pixels = r->max_pixels;
	d->task = (DsocrRendererTask){
		.document = r->id,
		.source = {.bytes = d->map,
				   .len = r->image_len,
				   .password = password > 0 ? (char *) d->map + r->image_len : NULL,
				   .dpi = r->dpi,
				   .max_pages = r->max_pages,
				   .max_pixels = max_pixels},
		.memory = s->options->memory,
		.cpu_seconds = (int) ((int64_t) s->options->page_timeout_ms * CPU_TIMES / 1000),
		.sandbox = s->options->sandbox};
	if (s->options->page_timeout_ms > 0 && d->task.cpu_seconds < CPU_TIMES)
		d->task.cpu_seconds = CPU_TIMES;
	d->id = r->id;
	d->priority = r->priority;
	d->last = &d->first;
	d->order = s->order++;
	d->next = s->documents;
	s->documents = d;
}

static void
admit_page(DsocrSupervisor *s, const DsocrRequest *r)
{
	DsocrOpenDocument *d = find_document(s, r->document);
	DsocrWantedPage *p;

	if (d == NULL)
	{
		dsocr_supervisor_fail(s, r->id, DSOCR_E_IO, "document is not open");
		return;
	}
	p = dsocr_zalloc(1, sizeof(*p), NULL);
	if (p == NULL)
	{
		dsocr_supervisor_fail(s, r->id, DSOCR_E_MEMORY, "out of memory for a request");
		return;
	}
	p->id = r->id;
	p->request = *r;
	p->request.image = NULL;
	p->request.image_len = 0;
	if (r->prompt != NULL)
	{
		p->request.prompt = dsocr_strdup(r->prompt, NULL);
		if (p->request.prompt == NULL)
		{
			dsocr_supervisor_fail(s, r->id, DSOCR_E_MEMORY, "out of memory for a request");
			dsocr_free(p);
			return;
		}
	}
	*d->last = p;
	d->last = &p->next;
}

void
dsocr_supervisor_admit(DsocrSupervisor *s, const DsocrRequest *r)
{
	switch (r->kind)
	{
		case DSOCR_DOCUMENT:
			admit_document(s, r);
			break;
		case DSOCR_PAGE:
			admit_page(s, r);
			break;
		case DSOCR_READ:
		case DSOCR_PROBE:
			dsocr_supervisor_fail(s, r->id, DSOCR_E_ARGUMENT, "the page server reads no text");
			break;
	}
}

/* Take a waiting page out of its document. */
static DsocrWantedPage *
take_waiting(DsocrOpenDocument *d, uint64_t id)
{
	for (DsocrWantedPage **at = &d->first; *at != NULL; at = &(*at)->next)
	{
		DsocrWantedPage *p = *at;

		if (p->id != id)
			continue;
		*at = p->next;
		if (d->last == &p->next)
			d->last = at;
		return p;
	}
	return NULL;
}

static bool
cancel_page(DsocrSupervisor *s, uint64_t id)
{
	/* a renderer cannot be interrupted: it finishes for nobody */
	for (DsocrRenderer *r = s->renderers; r != NULL; r = r->next)
	{
		if (r->page == NULL || r->page->id != id || r->page->dropped)
			continue;
		r->page->dropped = true;
		return true;
	}
	for (DsocrOpenDocument *d = s->documents; d != NULL; d = d->next)
	{
		DsocrWantedPage *p = take_waiting(d, id);

		if (p == NULL)
			continue;
		dsocr_supervisor_free_page(p);
		return true;
	}
	return false;
}

void
dsocr_supervisor_cancel(DsocrSupervisor *s, uint64_t id)
{
	DsocrOpenDocument *d = find_document(s, id);

	if (d != NULL)
		dsocr_supervisor_close(s, d);
	else if (!cancel_page(s, id))
		return;
	dsocr_supervisor_fail(s, id, DSOCR_E_CANCELLED, "request was cancelled");
}
