/*-------------------------------------------------------------------------
 *
 * pump.c
 *		Moves requests into an engine and its answers out.
 *
 * An engine is given a few requests more than it decodes together; the rest
 * stays in the queue, where priorities count.  A suspect is given to it only
 * when it is empty, and nothing beside it.
 *
 * The successor of an engine that died first reads a blank page: when it dies
 * on a request after that, then by the request, and not by its device or model.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "pump.h"

#include "utils/timestamp.h"

/*
 * Given to an engine beyond what it decodes together: their images are read
 * while the others are written.
 */
#define SPARE_REQUESTS 2
#define SPARE_SHARE 16 /* and one more for so many */

#define TRIAL_ID PG_UINT64_MAX
#define TRIAL_SIDE 64 /* pixels */

void
dsocr_pump_init(DsocrPump *p, int device, DsocrEngineProcess *engine)
{
	memset(p, 0, sizeof(*p));
	p->device = device;
	p->engine = engine;
	p->sending = -1;
}

void
dsocr_pump_clean(char *text)
{
	for (; *text != '\0'; text++)
	{
		if (*text < ' ' || *text > '~')
			*text = '?';
	}
}

/* ---- what is inside the engine ---- */

int
dsocr_pump_busy(const DsocrPump *p)
{
	return p->n_flight - p->n_open;
}

static int
find_flight(const DsocrPump *p, uint64 id)
{
	for (int i = 0; i < p->n_flight; i++)
	{
		if (p->flight[i].id == id)
			return i;
	}
	return -1;
}

/* Nothing is being sent any more. */
static void
end_sending(DsocrPump *p)
{
	p->sending = -1;
	if (p->payload != NULL)
		dsm_detach(p->payload);
	p->payload = NULL;
}

static void
forget_flight(DsocrPump *p, int i)
{
	p->n_open -= p->flight[i].open;
	p->flight[i] = p->flight[--p->n_flight];
	if (p->sending == i)
		end_sending(p);
	else if (p->sending == p->n_flight)
		p->sending = i;
}

static void
note_tokens(DsocrPump *p, DsocrInFlight *f, int32 tokens)
{
	if (tokens > f->tokens)
		p->tokens += tokens - f->tokens;
	f->tokens = tokens;
}

/* ---- frames from the engine ---- */

static bool
take_ready(DsocrPump *p, const DsocrFrameHeader *h, const void *body, DsocrError *err)
{
	DsocrModelInfo info;

	if (!dsocr_parse_ready(h, body, &info, err))
		return false;
	dsocr_pump_clean(info.name);
	dsocr_pump_clean(info.fingerprint);
	dsocr_pump_clean(info.device);
	dsocr_pump_clean(info.weights);
	dsocr_pump_clean(info.sandbox);
	p->ready = true;
	p->proved = p->passed = false;
	p->trial = DSOCR_TRIAL_NONE;
	p->info = info;
	p->most = Min(Max(info.max_sequences, 1), DSOCR_MAX_IN_FLIGHT);
	p->most = Min(p->most + SPARE_REQUESTS + p->most / SPARE_SHARE, DSOCR_MAX_IN_FLIGHT);
	return true;
}

static bool
take_failed(DsocrPump *p, const DsocrFrameHeader *h, const void *body, DsocrError *err)
{
	/* An engine that has a model cannot put the device out of service. */
	if (p->ready || p->engine->state != DSOCR_ENGINE_STARTING)
		return dsocr_fail(err, DSOCR_E_INTERNAL, "failed to load a model that was loaded");
	if (!dsocr_parse_failed(h, body, &p->reason, err))
		return false;
	dsocr_pump_clean(p->reason.message);
	dsocr_pump_clean(p->reason.hint);
	p->failed = true;
	return true;
}

static bool
take_result(DsocrPump *p, const DsocrFrameHeader *h, const void *body, DsocrError *err)
{
	DsocrError status = {0};
	DsocrResult result = {0};
	int i = find_flight(p, h->id);

	if (!dsocr_parse_result(body, h->length, &status, &result, err))
		return false;
	if (i >= 0 && i != p->sending)
	{
		note_tokens(p, &p->flight[i], result.text_tokens);
		if (p->flight[i].cancelled != 0)
			dsocr_dispatch_drop(p->flight[i].handle);
		else
			dsocr_dispatch_finish(p->flight[i].handle, body, h->length, &status, &result,
								  p->info.name);
		forget_flight(p, i);
		if (status.code == DSOCR_OK)
			p->answered = p->proved = true;
	}
	else if (h->id == TRIAL_ID && p->trial == DSOCR_TRIAL_RUNNING)
	{
		p->trial = DSOCR_TRIAL_NONE;
		p->passed = p->proved = status.code == DSOCR_OK;
	}
	dsocr_result_free(&result);
	return true;
}

static bool
take_progress(DsocrPump *p, const DsocrFrameHeader *h, const void *body, DsocrError *err)
{
	DsocrProgress progress;
	int i = find_flight(p, h->id);

	if (!dsocr_parse_progress(h, body, &progress, err))
		return false;
	if (i >= 0)
	{
		DsocrInFlight *f = &p->flight[i];

		note_tokens(p, f, progress.text_tokens);
		if (f->document && !f->open && progress.pages > 0)
		{
			f->open = true;
			p->n_open++;
			p->answered = true;
		}
		dsocr_dispatch_progress(f->handle, &progress);
	}
	return true;
}

static bool
take_frame(DsocrPump *p, const DsocrFrameHeader *h, const void *body, DsocrError *err)
{
	p->engine->heard = GetCurrentTimestamp();
	switch (h->type)
	{
		case DSOCR_FRAME_READY:
			return take_ready(p, h, body, err);
		case DSOCR_FRAME_FAILED:
			return take_failed(p, h, body, err);
		case DSOCR_FRAME_RESULT:
			return take_result(p, h, body, err);
		case DSOCR_FRAME_PROGRESS:
			return take_progress(p, h, body, err);
	}
	return dsocr_fail(err, DSOCR_E_INTERNAL, "frame of type %u is not for the worker", h->type);
}

DsocrPumpState
dsocr_pump_in(DsocrPump *p)
{
	bool open = dsocr_link_read(&p->engine->link);

	for (;;)
	{
		DsocrFrameHeader header;
		const void *body;
		DsocrError err = {0};
		int got = dsocr_link_next(&p->engine->link, &header, &body, &err);

		if (got == 0)
			return open ? DSOCR_PUMP_OPEN : DSOCR_PUMP_CLOSED;
		if (got < 0 || !take_frame(p, &header, body, &err))
		{
			dsocr_pump_clean(err.message);
			ereport(LOG, (errmsg("dsocr worker %s: %s does not keep to the protocol: %s",
								 p->engine->device, dsocr_process_noun(p->engine), err.message)));
			return DSOCR_PUMP_BROKEN;
		}
	}
}

/* ---- requests to the engine ---- */

/* Tell the engine about requests that nobody wants any more. */
static void
cancel_unwanted(DsocrPump *p)
{
	for (int i = 0; i < p->n_flight; i++)
	{
		DsocrInFlight *f = &p->flight[i];

		if (f->cancelled != 0 || dsocr_dispatch_wanted(f->handle))
			continue;
		if (i == p->sending && !dsocr_link_sending_begun(&p->engine->link))
		{
			dsocr_link_withdraw(&p->engine->link);
			dsocr_dispatch_drop(f->handle);
			forget_flight(p, i--);
			continue;
		}
		if (i == p->sending)
			continue; /* its frame has to be finished first */
		if (dsocr_link_send_simple(&p->engine->link, DSOCR_FRAME_CANCEL, f->id, NULL))
			f->cancelled = GetCurrentTimestamp();
	}
}

static void
take_work(DsocrPump *p)
{
	DsocrWork work;
	DsocrError err = {0};
	DsocrInFlight *f;

	if (p->sending >= 0 || p->trial != DSOCR_TRIAL_NONE || dsocr_pump_busy(p) >= p->most ||
		p->n_flight >= DSOCR_MAX_IN_FLIGHT ||
		(p->n_flight > 0 && (p->careful || p->flight[0].suspect)) ||
		!dsocr_dispatch_take(p->device, p->n_flight, &work))
		return;
	if (!dsocr_link_send_request(&p->engine->link, &work.request, &err))
	{
		ereport(LOG, (errmsg("dsocr worker %s: %s", p->engine->device, err.message)));
		if (work.payload != NULL)
			dsm_detach(work.payload);
		dsocr_dispatch_return(work.handle, DSOCR_BLAME_SHARED);
		return;
	}

	/* Silence counts from here when it had nothing to do. */
	if (dsocr_pump_busy(p) == 0)
		p->engine->heard = GetCurrentTimestamp();
	p->sending = p->n_flight++;
	p->payload = work.payload;
	f = &p->flight[p->sending];
	memset(f, 0, sizeof(*f));
	f->handle = work.handle;
	f->id = work.request.id;
	f->suspect = work.suspect;
	f->document = work.request.kind == DSOCR_DOCUMENT;
}

void
dsocr_pump_try(DsocrPump *p)
{
	p->trial = DSOCR_TRIAL_WANTED;
}

static void
begin_trial(DsocrPump *p)
{
	static uint8 image[32 + TRIAL_SIDE * TRIAL_SIDE];
	DsocrRequest r = {.id = TRIAL_ID,
					  .kind = DSOCR_READ,
					  .mode = DSOCR_MODE_TINY,
					  .max_tokens = 1,
					  .max_pixels = TRIAL_SIDE * TRIAL_SIDE,
					  .image = image};
	DsocrError err = {0};
	int head = snprintf((char *) image, 32, "P5 %d %d 255\n", TRIAL_SIDE, TRIAL_SIDE);

	memset(image + head, 255, TRIAL_SIDE * TRIAL_SIDE);
	r.image_len = head + TRIAL_SIDE * TRIAL_SIDE;
	p->trial = DSOCR_TRIAL_NONE;
	if (!dsocr_link_send_request(&p->engine->link, &r, &err))
		return; /* out of memory: then there is no proof */
	p->trial = DSOCR_TRIAL_RUNNING;
	p->engine->heard = GetCurrentTimestamp();
}

DsocrPumpState
dsocr_pump_out(DsocrPump *p, bool take)
{
	for (int i = 0; i < DSOCR_MAX_IN_FLIGHT; i++)
	{
		/* What has just been sent may have been given up meanwhile. */
		cancel_unwanted(p);
		if (p->trial == DSOCR_TRIAL_WANTED)
			begin_trial(p);
		if (take)
			take_work(p);
		if (!dsocr_link_write(&p->engine->link))
			return DSOCR_PUMP_CLOSED;
		if (p->sending < 0 || dsocr_link_sending(&p->engine->link))
			break;
		dsocr_dispatch_sent(p->flight[p->sending].handle);
		end_sending(p);
	}
	return DSOCR_PUMP_OPEN;
}

/* ---- the end ---- */

bool
dsocr_pump_late(const DsocrPump *p, int timeout_ms)
{
	TimestampTz now = GetCurrentTimestamp();

	if ((dsocr_pump_busy(p) > 0 || p->trial == DSOCR_TRIAL_RUNNING) &&
		TimestampDifferenceExceeds(p->engine->heard, now, timeout_ms))
		return true;
	for (int i = 0; i < p->n_flight; i++)
	{
		if (p->flight[i].cancelled != 0 &&
			TimestampDifferenceExceeds(p->flight[i].cancelled, now, timeout_ms))
			return true;
	}
	return false;
}

void
dsocr_pump_return(DsocrPump *p, bool blame)
{
	bool unsent = p->sending >= 0 && !dsocr_link_sending_begun(&p->engine->link);
	bool alone = p->n_flight - unsent == 1 && p->proved;
	DsocrBlame of_sent = !blame ? DSOCR_BLAME_NONE : alone ? DSOCR_BLAME_ALONE : DSOCR_BLAME_SHARED;

	for (int i = 0; i < p->n_flight; i++)
		dsocr_dispatch_return(p->flight[i].handle,
							  unsent && i == p->sending ? DSOCR_BLAME_NONE : of_sent);
	p->n_flight = p->n_open = 0;
	p->trial = DSOCR_TRIAL_NONE;
	end_sending(p);
}
