/*-------------------------------------------------------------------------
 *
 * supervisor.c
 *		The page server: documents in, images of their pages out.
 *
 * One thread that looks into no document.  It keeps the bytes of every open
 * document and forks renderers for it as they are needed.  A renderer can be
 * given up at any time: the next page starts a new one.  So what a page does
 * to its renderer costs that page alone, and open documents may be more than
 * processes.
 *
 *-------------------------------------------------------------------------
 */
#include "supervisor_parts.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "sandbox.h"

#define MAX_IN_FLIGHT 512			   /* requests that the worker may have here */
#define MAX_UNSENT ((size_t) 24 << 20) /* answers, bytes; then renderers wait */
#define READ_SLICE ((size_t) 4 << 20)
#define KEEP_BYTES ((size_t) 8 << 20)	 /* of an empty buffer */
#define ALIVE_US ((int64_t) 5 * 1000000) /* between signs of life of open documents */
#define TICK_MS 500						 /* how late times are noticed */

void
dsocr_supervisor_stop(DsocrSupervisor *s, int status, const char *message)
{
	if (message != NULL)
		s->options->log(message);
	if (!s->stop)
		s->status = status;
	s->stop = true;
}

void
dsocr_supervisor_fail(DsocrSupervisor *s, uint64_t id, DsocrCode code, const char *fmt, ...)
{
	DsocrError status = {0};
	va_list ap;
	char text[sizeof(status.message)];

	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dsocr_fail(&status, code, "%s", text);
	if (!dsocr_frame_result(&s->channel.out, id, &status, NULL, NULL))
		dsocr_supervisor_stop(s, 1, "no memory to answer a request");
}

void
dsocr_supervisor_status(DsocrSupervisor *s, uint64_t id, const DsocrError *status)
{
	if (!dsocr_frame_result(&s->channel.out, id, status, NULL, NULL))
		dsocr_supervisor_stop(s, 1, "no memory to answer a request");
}

void
dsocr_supervisor_pages(DsocrSupervisor *s, const DsocrOpenDocument *d)
{
	DsocrProgress p = {.id = d->id, .pages = d->pages};

	if (!dsocr_frame_progress(&s->channel.out, &p, NULL))
		dsocr_supervisor_stop(s, 1, "no memory to answer a request");
}

/* ---- who gets a renderer ---- */

/* An idle renderer of a document, best the one that has the page at hand. */
static DsocrRenderer *
find_idle(const DsocrSupervisor *s, const DsocrOpenDocument *d)
{
	DsocrRenderer *found = NULL;

	for (DsocrRenderer *r = s->renderers; r != NULL; r = r->next)
	{
		if (r->document != d || !r->opened || r->page != NULL)
			continue;
		if (r->last_page == d->first->request.page)
			return r;
		if (found == NULL)
			found = r;
	}
	return found;
}

/* The renderer of another document that has been idle longest. */
static DsocrRenderer *
find_spare(const DsocrSupervisor *s, const DsocrOpenDocument *d)
{
	DsocrRenderer *found = NULL;

	for (DsocrRenderer *r = s->renderers; r != NULL; r = r->next)
	{
		if (r->document == d || !r->opened || r->page != NULL)
			continue;
		if (found == NULL || r->idle_us < found->idle_us)
			found = r;
	}
	return found;
}

static bool
goes_before(const DsocrOpenDocument *a, const DsocrOpenDocument *b)
{
	if (a->priority != b->priority)
		return a->priority < b->priority;
	if (a->n_busy != b->n_busy)
		return a->n_busy < b->n_busy;
	return a->order < b->order;
}

/* The document to do something for: the one with the fewest renderers at work. */
static DsocrOpenDocument *
find_waiting(const DsocrSupervisor *s)
{
	DsocrOpenDocument *found = NULL;

	for (DsocrOpenDocument *d = s->documents; d != NULL; d = d->next)
	{
		bool waits = d->pages == 0 ? d->n_renderers == 0 : d->first != NULL;

		if (waits && !d->passed && (found == NULL || goes_before(d, found)))
			found = d;
	}
	return found;
}

static DsocrWantedPage *
take_first(DsocrOpenDocument *d)
{
	DsocrWantedPage *p = d->first;

	if (d->pages == 0 || p == NULL)
		return NULL; /* it has to be opened first */
	d->first = p->next;
	if (d->first == NULL)
		d->last = &d->first;
	p->next = NULL;
	return p;
}

/* Do one thing for a document; false when nothing can be done now. */
static bool
serve_document(DsocrSupervisor *s, DsocrOpenDocument *d)
{
	DsocrRenderer *r = d->pages > 0 ? find_idle(s, d) : NULL;
	DsocrError err = {0};

	if (r == NULL)
	{
		DsocrRenderer *spare = NULL;

		if (d->n_renderers >= s->options->per_document)
			return false;
		if (s->n_renderers >= s->options->processes)
		{
			spare = find_spare(s, d);
			if (spare == NULL)
				return false;
			dsocr_renderer_stop(s, spare);
		}
		r = dsocr_renderer_start(s, d, &err);
	}
	if (r != NULL)
	{
		DsocrWantedPage *p = take_first(d);

		if (p != NULL)
			dsocr_renderer_give(s, r, p);
		return true;
	}
	if (s->n_renderers > 0)
		return false; /* there will be room */
	dsocr_supervisor_status(s, d->id, &err);
	dsocr_supervisor_close(s, d);
	return true;
}

static void
serve_documents(DsocrSupervisor *s)
{
	DsocrOpenDocument *d;

	for (d = s->documents; d != NULL; d = d->next)
		d->passed = false;
	while (!s->stop && dsocr_channel_pending(&s->channel) <= MAX_UNSENT &&
		   (d = find_waiting(s)) != NULL)
	{
		if (!serve_document(s, d))
			d->passed = true;
	}
}

/* ---- the worker ---- */

static void
admit(DsocrSupervisor *s, const DsocrFrameHeader *h, void *body)
{
	DsocrRequest r;
	DsocrError err = {0};
	char *prompt = NULL;

	if (body == NULL && h->length > 0)
		dsocr_supervisor_fail(s, h->id, DSOCR_E_MEMORY,
							  "out of memory for a document of %llu bytes",
							  (unsigned long long) h->length);
	else if (dsocr_parse_request(h, body, &r, &prompt, &err))
		dsocr_supervisor_admit(s, &r);
	else if (err.code == DSOCR_E_MEMORY)
		dsocr_supervisor_status(s, h->id, &err);
	else
		dsocr_supervisor_stop(s, 2, err.message);
	if (prompt != NULL)
		dsocr_supervisor_wipe(prompt, strlen(prompt));
	dsocr_supervisor_wipe(body, h->length);
}

static void
read_worker(DsocrSupervisor *s)
{
	/* many small frames must not keep the renderers waiting */
	for (int i = 0; i < 64 && !s->stop; i++)
	{
		DsocrFrameHeader h;
		DsocrError err = {0};
		void *body;

		switch (dsocr_channel_read(&s->channel, READ_SLICE, &h, &body, &err))
		{
			case DSOCR_READ_NOTHING:
				return;
			case DSOCR_READ_EOF:
				dsocr_supervisor_stop(s, 0, NULL);
				return;
			case DSOCR_READ_BAD:
				dsocr_supervisor_stop(s, 2, err.message);
				return;
			case DSOCR_READ_FRAME:
				break;
		}
		if (h.type == DSOCR_FRAME_REQUEST)
		{
			admit(s, &h, body);
			continue;
		}
		dsocr_free(body);
		if (h.type == DSOCR_FRAME_CANCEL)
			dsocr_supervisor_cancel(s, h.id);
		else if (h.type == DSOCR_FRAME_SHUTDOWN)
			dsocr_supervisor_stop(s, 0, NULL);
		else
			dsocr_supervisor_stop(s, 2, "malformed message: not for the page server");
	}
}

/* ---- the loop ---- */

/* The worker takes silence for a hang, and open documents say nothing. */
static void
say_alive(DsocrSupervisor *s)
{
	int64_t now = dsocr_now_us();

	if (now - s->alive_us < ALIVE_US || dsocr_channel_pending(&s->channel) > 0)
		return;
	s->alive_us = now;
	for (const DsocrOpenDocument *d = s->documents; d != NULL; d = d->next)
		dsocr_supervisor_pages(s, d);
}

static DsocrRenderer *
find_serial(const DsocrSupervisor *s, uint64_t serial)
{
	DsocrRenderer *r = s->renderers;

	while (r != NULL && r->serial != serial)
		r = r->next;
	return r;
}

/* Wait for something to happen, and read what renderers say. */
static void
wait_and_read(DsocrSupervisor *s, struct pollfd *fds, uint64_t *serials)
{
	bool full = dsocr_channel_pending(&s->channel) > MAX_UNSENT;
	int n = 0;

	fds[n++] = (struct pollfd){
		.fd = s->channel.fd,
		.events = (short) (POLLIN | (dsocr_channel_pending(&s->channel) > 0 ? POLLOUT : 0))};
	for (const DsocrRenderer *r = s->renderers; r != NULL; r = r->next)
	{
		serials[n] = r->serial;
		fds[n++] = (struct pollfd){
			.fd = r->child.channel.fd,
			.events = (short) ((full ? 0 : POLLIN) |
							   (dsocr_channel_pending(&r->child.channel) > 0 ? POLLOUT : 0))};
	}
	if (poll(fds, (nfds_t) n, s->documents != NULL || s->ending.n > 0 ? TICK_MS : -1) <= 0)
		return;
	for (int i = 1; i < n; i++)
	{
		/* what one says may have ended another */
		DsocrRenderer *r = fds[i].revents == 0 ? NULL : find_serial(s, serials[i]);

		if (r == NULL || s->stop)
			continue;
		if ((fds[i].revents & POLLOUT) != 0)
			(void) dsocr_channel_flush(&r->child.channel);
		if ((fds[i].revents & ~POLLOUT) != 0)
			dsocr_renderer_read(s, r);
	}
}

static void
loop(DsocrSupervisor *s, struct pollfd *fds, uint64_t *serials)
{
	int64_t full_us = 0; /* since when the worker does not read */

	while (!s->stop)
	{
		wait_and_read(s, fds, serials);
		read_worker(s);
		/* renderers that wait for the worker are not late */
		if (dsocr_channel_pending(&s->channel) > MAX_UNSENT)
			full_us = full_us == 0 ? dsocr_now_us() : full_us;
		else if (full_us != 0)
		{
			int64_t lost = dsocr_now_us() - full_us;

			for (DsocrRenderer *r = s->renderers; r != NULL; r = r->next)
				r->deadline_us += r->deadline_us > 0 ? lost : 0;
			full_us = 0;
		}
		if (full_us == 0)
			dsocr_renderer_check_times(s);
		serve_documents(s);
		say_alive(s);
		dsocr_child_reap(&s->ending);
		if (!dsocr_channel_flush(&s->channel))
			dsocr_supervisor_stop(s, 0, NULL);
		if (dsocr_channel_pending(&s->channel) == 0 && s->channel.out.cap > KEEP_BYTES)
			dsocr_buffer_free(&s->channel.out);
	}
}

static bool
say_ready(DsocrSupervisor *s, DsocrError *err)
{
	DsocrModelInfo info = {.max_sequences = MAX_IN_FLIGHT};
	DsocrRendererTask task = {.memory = s->options->memory, .sandbox = s->options->sandbox};
	char libraries[48];

	snprintf(info.name, sizeof(info.name), "pages");
	dsocr_source_versions(libraries, sizeof(libraries));
	snprintf(info.device, sizeof(info.device), "pages (%s)", libraries);
	dsocr_source_warm();
	dsocr_child_sandbox(&task, info.sandbox, sizeof(info.sandbox));
	return dsocr_frame_ready(&s->channel.out, &info, err);
}

int
dsocr_supervise(const DsocrSupervisorOptions *options)
{
	DsocrSupervisor s = {.options = options, .alive_us = dsocr_now_us()};
	DsocrError err = {0};
	size_t n = (size_t) options->processes + 1;
	struct pollfd *fds = dsocr_alloc(n, sizeof(*fds), &err);
	uint64_t *serials = dsocr_alloc(n, sizeof(*serials), &err);

	(void) mallopt(M_MMAP_THRESHOLD, 64 * 1024);
	if (fds == NULL || serials == NULL || !dsocr_sandbox_child(options->fd, 0, &err) ||
		!dsocr_channel_open(&s.channel, options->fd, &err) || !say_ready(&s, &err))
	{
		dsocr_free(fds);
		dsocr_free(serials);
		if (err.code == DSOCR_E_CANCELLED)
			return 0; /* nobody is there to serve */
		options->log(err.message);
		return 2;
	}
	(void) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	loop(&s, fds, serials);
	while (s.documents != NULL)
		dsocr_supervisor_close(&s, s.documents);
	dsocr_channel_close(&s.channel);
	dsocr_free(fds);
	dsocr_free(serials);
	return s.status;
}
