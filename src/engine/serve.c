/*-------------------------------------------------------------------------
 *
 * serve.c
 *		The loop between the worker's socket and the engine.
 *
 * One thread.  Between steps, and from inside a step whenever the engine
 * polls, the socket is read and written as far as it goes without blocking.
 * Inside a step requests are only put on a list, cancels go to the engine at
 * once, and the end of the stream ends the process: the worker's death must
 * not wait for a large page.
 *
 * A worker that does not read its answers stops new steps only when
 * MAX_UNSENT bytes are waiting; progress is left out much earlier.
 *
 *-------------------------------------------------------------------------
 */
#include "serve.h"

#include <stdio.h>
#include <string.h>

#include "channel.h"
#include "sandbox.h"

#define MAX_UNSENT ((size_t) 64 << 20)		   /* answers, bytes; then no step is done */
#define MAX_UNSENT_PROGRESS ((size_t) 1 << 20) /* above this, progress is dropped */
#define MAX_HELD ((size_t) 256 << 20)		   /* bodies that wait for the end of a step */
#define READ_SLICE ((size_t) 4 << 20)		   /* bytes read at a time between steps */
#define POLL_INTERVAL_US 1000
#define PROGRESS_INTERVAL_US 50000

/* A request that arrived during a step. */
typedef struct Held
{
	DsocrFrameHeader header;
	void *body;
	struct Held *next;
} Held;

/* When a running request last reported progress. */
typedef struct Reported
{
	uint64_t id;
	int64_t at_us;
} Reported;

typedef struct Server
{
	const DsocrServeOptions *options;
	DsocrEngine *engine;
	DsocrChannel channel;
	Held *first;
	Held **last;
	size_t held_bytes;
	Reported *reported;
	size_t n_reported;
	size_t max_reported;
	int64_t polled_us;
	bool stop;
	int status; /* of the process, once stop is set */
} Server;

static void
stop(Server *s, int status, const char *message)
{
	if (message != NULL)
		s->options->log(message);
	if (!s->stop)
		s->status = status;
	s->stop = true;
}

/* ---- answers ---- */

static void
send_result(Server *s, uint64_t id, const DsocrResult *result, const DsocrError *status)
{
	DsocrError err = {0};

	if (dsocr_frame_result(&s->channel.out, id, status, result, &err))
		return;
	/* no room for the text: say so, which is short */
	if (!dsocr_frame_result(&s->channel.out, id, &err, NULL, NULL))
		stop(s, 1, "no memory to answer a request");
}

static void
forget_progress(Server *s, uint64_t id)
{
	for (size_t i = 0; i < s->n_reported; i++)
	{
		if (s->reported[i].id == id)
		{
			s->reported[i] = s->reported[--s->n_reported];
			return;
		}
	}
}

/* May this request report now?  Remembers it if so. */
static bool
progress_is_due(Server *s, uint64_t id)
{
	int64_t now = dsocr_now_us();
	size_t i = 0;

	while (i < s->n_reported && s->reported[i].id != id)
		i++;
	if (i < s->n_reported && now - s->reported[i].at_us < PROGRESS_INTERVAL_US)
		return false;
	if (i == s->max_reported)
	{
		size_t max = s->max_reported == 0 ? 64 : 2 * s->max_reported;
		Reported *larger = dsocr_alloc(max, sizeof(*larger), NULL);

		if (larger == NULL)
			return false;
		if (i > 0)
			memcpy(larger, s->reported, i * sizeof(*larger));
		dsocr_free(s->reported);
		s->reported = larger;
		s->max_reported = max;
	}
	if (i == s->n_reported)
		s->n_reported++;
	s->reported[i] = (Reported){id, now};
	return true;
}

static void
on_progress(void *arg, const DsocrProgress *progress)
{
	Server *s = arg;

	if (dsocr_channel_pending(&s->channel) > MAX_UNSENT_PROGRESS ||
		!progress_is_due(s, progress->id))
		return;
	/* a report that finds no memory is left out */
	(void) dsocr_frame_progress(&s->channel.out, progress, NULL);
}

/*
 * The device is broken: end at once, before anything is computed on it or a
 * driver's handlers wait for it.  Requests that are left get no answer, so that
 * the worker gives them to the next engine.
 */
static void __attribute__((noreturn)) lose_device(Server *s, const char *message)
{
	s->options->log(message);
	/* what is finished is worth a moment */
	for (int i = 0; i < 5 && dsocr_channel_pending(&s->channel) > 0; i++)
	{
		if (!dsocr_channel_flush(&s->channel))
			break;
		if (dsocr_channel_pending(&s->channel) > 0)
			dsocr_channel_wait(&s->channel, false, 50);
	}
	s->options->quit(1);
}

static void
on_done(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error)
{
	Server *s = arg;

	if (error->code == DSOCR_E_DEVICE)
		lose_device(s, error->message);
	forget_progress(s, id);
	send_result(s, id, result, error);
}

/* ---- requests ---- */

static void
admit(Server *s, const DsocrFrameHeader *h, void *body)
{
	DsocrRequest r;
	DsocrError err = {0};
	char *prompt = NULL;

	if (body == NULL && h->length > 0)
	{
		dsocr_fail(&err, DSOCR_E_MEMORY, "out of memory for an image of %llu bytes",
				   (unsigned long long) h->length);
		send_result(s, h->id, NULL, &err);
		return;
	}
	if (!dsocr_parse_request(h, body, &r, &prompt, &err))
	{
		if (err.code == DSOCR_E_MEMORY)
			send_result(s, h->id, NULL, &err);
		else
			stop(s, 2, err.message);
		dsocr_free(body);
		return;
	}
	if (s->options->max_pixels > 0 && (r.max_pixels == 0 || r.max_pixels > s->options->max_pixels))
		r.max_pixels = s->options->max_pixels;
	if (!dsocr_engine_admit(s->engine, &r, &err))
		send_result(s, h->id, NULL, &err);
	dsocr_free(prompt);
	dsocr_free(body);
}

static void
hold(Server *s, const DsocrFrameHeader *h, void *body)
{
	Held *held = dsocr_alloc(1, sizeof(*held), NULL);

	if (held == NULL)
	{
		DsocrError err = {0};

		dsocr_fail(&err, DSOCR_E_MEMORY, "out of memory for a request");
		send_result(s, h->id, NULL, &err);
		dsocr_free(body);
		return;
	}
	*held = (Held){*h, body, NULL};
	*s->last = held;
	s->last = &held->next;
	s->held_bytes += h->length;
}

static void
admit_held(Server *s)
{
	while (s->first != NULL)
	{
		Held *held = s->first;

		s->first = held->next;
		if (!s->stop)
			admit(s, &held->header, held->body);
		else
			dsocr_free(held->body);
		dsocr_free(held);
	}
	s->last = &s->first;
	s->held_bytes = 0;
}

/* Cancel a request wherever it is. */
static void
cancel(Server *s, uint64_t id)
{
	for (Held **at = &s->first; *at != NULL; at = &(*at)->next)
	{
		Held *held = *at;
		DsocrError err = {0};

		if (held->header.id != id)
			continue;
		*at = held->next;
		if (s->last == &held->next)
			s->last = at;
		s->held_bytes -= held->header.length;
		dsocr_free(held->body);
		dsocr_free(held);
		dsocr_fail(&err, DSOCR_E_CANCELLED, "request was cancelled");
		send_result(s, id, NULL, &err);
		return;
	}
	dsocr_engine_cancel(s->engine, id);
}

/* Read what is there; inside a step, requests are kept for later. */
static void
read_frames(Server *s, bool in_step)
{
	size_t slices = 0;

	while (!s->stop && s->held_bytes < MAX_HELD)
	{
		DsocrFrameHeader h;
		DsocrError err = {0};
		void *body;

		switch (dsocr_channel_read(&s->channel, READ_SLICE, &h, &body, &err))
		{
			case DSOCR_READ_NOTHING:
				return;
			case DSOCR_READ_EOF:
				if (in_step)
					s->options->quit(0);
				stop(s, 0, NULL);
				return;
			case DSOCR_READ_BAD:
				stop(s, 2, err.message);
				return;
			case DSOCR_READ_FRAME:
				break;
		}
		if (h.type == DSOCR_FRAME_REQUEST && in_step)
			hold(s, &h, body);
		else if (h.type == DSOCR_FRAME_REQUEST)
			admit(s, &h, body);
		else
		{
			dsocr_free(body);
			if (h.type == DSOCR_FRAME_CANCEL)
				cancel(s, h.id);
			else if (h.type == DSOCR_FRAME_SHUTDOWN)
			{
				if (in_step)
					s->options->quit(0);
				stop(s, 0, NULL);
			}
			else
				stop(s, 2, "malformed message: not for the engine");
		}
		/* let running requests go on while many arrive */
		if (++slices >= 64 && !in_step)
			return;
	}
}

static void
flush(Server *s)
{
	if (!dsocr_channel_flush(&s->channel))
		stop(s, 0, NULL);
}

/* From inside a step. */
static void
on_poll(void *arg)
{
	Server *s = arg;
	int64_t now = dsocr_now_us();

	if (now - s->polled_us < POLL_INTERVAL_US)
		return;
	s->polled_us = now;
	if (!dsocr_channel_flush(&s->channel))
		s->options->quit(0);
	read_frames(s, true);
	/* what is no frame ends the engine; a step may be long */
	if (s->stop)
		s->options->quit(s->status);
}

/* ---- the loop ---- */

static void
loop(Server *s)
{
	const DsocrEvents events = {on_progress, on_done, on_poll, s};
	bool busy = dsocr_engine_pending(s->engine) > 0;

	while (!s->stop)
	{
		DsocrError err = {0};
		bool full = dsocr_channel_pending(&s->channel) > MAX_UNSENT;

		if (full || !busy)
			dsocr_channel_wait(&s->channel, true, -1);
		flush(s);
		read_frames(s, false);
		if (s->stop || dsocr_channel_pending(&s->channel) > MAX_UNSENT)
			continue;
		busy = dsocr_engine_pending(s->engine) > 0;
		if (!busy)
			continue;
		if (!dsocr_engine_step(s->engine, &events, &err) && err.code != DSOCR_OK)
			lose_device(s, err.message);
		admit_held(s);
		busy = dsocr_engine_pending(s->engine) > 0;
		flush(s);
	}
}

/* Send the rest, for a few seconds: a peer that does not read is given up. */
static void
drain(Server *s)
{
	for (int i = 0; i < 50 && dsocr_channel_pending(&s->channel) > 0; i++)
	{
		if (!dsocr_channel_flush(&s->channel))
			return;
		if (dsocr_channel_pending(&s->channel) > 0)
			dsocr_channel_wait(&s->channel, false, 100);
	}
}

static bool
start(Server *s, DsocrError *err)
{
	DsocrModelInfo info;

	s->engine = dsocr_engine_open(&s->options->engine, err);
	if (s->engine == NULL)
		return false;
	info = *dsocr_engine_info(s->engine);
	snprintf(info.sandbox, sizeof(info.sandbox), "none");
	if (s->options->sandbox)
		dsocr_sandbox_close(strncmp(info.device, "cuda", 4) == 0 ? DSOCR_SANDBOX_GPU
																 : DSOCR_SANDBOX_CPU,
							info.sandbox, sizeof(info.sandbox));
	return dsocr_frame_ready(&s->channel.out, &info, err);
}

int
dsocr_serve(const DsocrServeOptions *options)
{
	Server s = {.options = options, .last = &s.first};
	DsocrError err = {0};

	if (!dsocr_sandbox_child(options->fd, options->memory_limit, &err) ||
		!dsocr_channel_open(&s.channel, options->fd, &err))
	{
		if (err.code == DSOCR_E_CANCELLED)
			return 0; /* nobody is there to serve */
		options->log(err.message);
		return 2;
	}
	if (start(&s, &err))
		loop(&s);
	else
	{
		if (!dsocr_frame_failed(&s.channel.out, &err, NULL))
			s.status = 1;
		drain(&s);
		/* a device that cannot be used may not let go either */
		if (err.code == DSOCR_E_DEVICE)
			options->quit(s.status);
	}
	admit_held(&s); /* frees them: stop is set, or none is there */
	dsocr_engine_close(s.engine);
	dsocr_free(s.reported);
	dsocr_channel_close(&s.channel);
	return s.status;
}
