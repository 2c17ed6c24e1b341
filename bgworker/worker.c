/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The background worker of a device: pumps slots to the engine and back.
 *
 * One loop, nothing in it blocks but the wait at its end.  The engine may die
 * at any moment; the worker does not: a configuration that cannot work leaves
 * it alive in state FAILED, where it refuses requests with the reason until a
 * reload, and an engine that keeps dying is started again with growing pauses.
 *
 * After a crash every request the engine had been given is a suspect.
 * Suspects run alone, so the one that kills engines fails by itself.
 *
 * The worker is connected to no database: it shows in pg_stat_activity and
 * absorbs barriers, and stands in the way of no DROP DATABASE.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "worker.h"

#include "dispatch.h"
#include "engine_process.h"
#include "stats.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#define MAX_IN_FLIGHT 64 /* requests inside an engine */
#define SPARE_REQUESTS 2 /* given to an engine beyond what it decodes together */
#define WORKER_RESTART_S 5
#define SWEEP_MS 5000 /* how often dead owners are looked for */
#define IDLE_WAIT_MS 5000
#define REAP_WAIT_MS 10
#define RATE_MS 1000		  /* interval of the token rate */
#define HEALTHY_MS 60000	  /* an engine that lives so long was no failure */
#define REFUSE_AFTER 5		  /* failures in a row after which requests do not wait */
#define LOG_FAILURES 5		  /* failures in a row that are all logged */
#define LOG_INTERVAL_MS 60000 /* between later ones */

/* A request inside the engine. */
typedef struct InFlight
{
	DsocrHandle handle;
	uint64 id;			   /* on the wire */
	bool suspect;		   /* runs alone */
	TimestampTz cancelled; /* when the engine was told to stop it, 0 = it was not */
	int32 tokens;		   /* of its last progress report */
} InFlight;

typedef struct Worker
{
	int device;
	DsocrEngineProcess engine;
	InFlight flight[MAX_IN_FLIGHT];
	int n_flight;
	int sending;	   /* index in flight of the request being written, -1 none */
	DsocrDevice shown; /* what was published last */
	DsocrDevice now;   /* the same, up to date */

	/* what the engine was started with */
	char model[MAXPGPATH];
	int weights;
	int threads;
	uint64 reloads;
	bool drain;			  /* to be stopped when nothing is in flight */
	bool expected;		  /* its end is no failure */
	bool gave_reason;	  /* it sent FAILED */
	bool was_started;	  /* there was an engine before */
	int failures;		  /* in a row */
	bool wait_for_reload; /* the configuration cannot work */
	TimestampTz next_start;
	TimestampTz last_logged;
	TimestampTz last_sweep;
	TimestampTz rate_since;
	int64 rate_tokens;
} Worker;

/* Pauses before the next start, by failures in a row. */
static const int pauses_ms[] = {0, 0, 100, 500, 1000, 2000, 5000, 10000, 20000, 30000};

/* For the exit callback, which has room for nothing larger than a pointer. */
static Worker *this_worker = NULL;

/* ---- what the worker shows ---- */

static void
show(Worker *w)
{
	DsocrDevice *d = &w->now;

	if (w->wait_for_reload)
		d->state = DSOCR_DEVICE_FAILED;
	else if (w->engine.state == DSOCR_ENGINE_READY)
		d->state = DSOCR_DEVICE_READY;
	else
		d->state = w->failures > 0 ? DSOCR_DEVICE_DEGRADED : DSOCR_DEVICE_STARTING;
	d->refuses = w->wait_for_reload ||
				 (w->failures >= REFUSE_AFTER && w->engine.state != DSOCR_ENGINE_READY);
	d->engine_pid = w->engine.pid;
	d->running = w->n_flight;
	d->started_at = w->engine.pid != 0 ? w->engine.started : 0;
	if (memcmp(&w->shown, d, sizeof(DsocrDevice)) == 0)
		return;
	if ((w->shown.running > 0) != (d->running > 0))
		pgstat_report_activity(d->running > 0 ? STATE_RUNNING : STATE_IDLE, NULL);
	w->shown = *d;
	dsocr_dispatch_publish(w->device, d);
}

/* Text from the engine goes to views and logs of any encoding: keep it ASCII. */
static void
clean(char *text)
{
	for (; *text != '\0'; text++)
	{
		if (*text < ' ' || *text > '~')
			*text = '?';
	}
}

static void
note_tokens(Worker *w, InFlight *f, int32 tokens)
{
	if (tokens > f->tokens)
		w->rate_tokens += tokens - f->tokens;
	f->tokens = tokens;
}

static void
update_rate(Worker *w, TimestampTz now)
{
	double seconds = (now - w->rate_since) / 1e6;
	double rate;

	if (seconds * 1000 < RATE_MS)
		return;
	rate = 0.5 * w->now.tokens_per_second + 0.5 * w->rate_tokens / seconds;
	w->now.tokens_per_second = rate < 0.05 ? 0 : rate;
	w->rate_tokens = 0;
	w->rate_since = now;
}

/* ---- the engine comes and goes ---- */

static void
schedule_start(Worker *w)
{
	int pause = pauses_ms[Min(w->failures, (int) lengthof(pauses_ms) - 1)];

	w->next_start = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
}

static bool
worth_logging(Worker *w)
{
	TimestampTz now = GetCurrentTimestamp();

	if (w->failures > LOG_FAILURES &&
		!TimestampDifferenceExceeds(w->last_logged, now, LOG_INTERVAL_MS))
		return false;
	w->last_logged = now;
	return true;
}

/* The configuration cannot work, or cannot work now. */
static void
note_failure(Worker *w, const DsocrError *why, bool until_reload)
{
	w->now.error = *why;
	w->failures++;
	w->wait_for_reload = until_reload;
	schedule_start(w);
	if (worth_logging(w))
		ereport(LOG, (errmsg("dsocr worker %s: %s", w->engine.device, why->message),
					  why->code != DSOCR_E_DEVICE && why->hint[0] != '\0' ? errhint("%s", why->hint)
																		  : 0));
}

static void
start_engine(Worker *w)
{
	char *model = dsocr_model_path();
	DsocrEngineCommand command = {.model = w->model,
								  .precision = dsocr_weights_name(dsocr_weights),
								  .threads = dsocr_threads};
	DsocrError err = {0};

	strlcpy(w->model, model, sizeof(w->model));
	pfree(model);
	w->weights = dsocr_weights;
	w->threads = dsocr_threads;
	w->reloads = dsocr_dispatch_reloads(w->device);
	w->drain = w->expected = w->gave_reason = w->wait_for_reload = false;
	if (!dsocr_process_start(&w->engine, &command, &err))
	{
		/* Waiting for a program that is not there helps nobody. */
		if (err.code == DSOCR_E_MODEL)
			w->failures = Max(w->failures, REFUSE_AFTER);
		note_failure(w, &err, false);
		return;
	}
	if (w->was_started)
		w->now.restarts++;
	w->was_started = true;
}

static void
forget_flight(Worker *w, int i)
{
	w->flight[i] = w->flight[--w->n_flight];
	if (w->sending == i)
		w->sending = -1;
	else if (w->sending == w->n_flight)
		w->sending = i;
}

/* Give up the engine: what it had goes back to the queue. */
static void
lose_engine(Worker *w, bool now, const char *why)
{
	bool unsent = w->sending >= 0 && !dsocr_link_sending_begun(&w->engine.link);

	if (why != NULL)
		ereport(LOG, (errmsg("dsocr worker %s: engine (PID %d) %s", w->engine.device,
							 (int) w->engine.pid, why)));
	dsocr_process_lose(&w->engine, now);
	for (int i = 0; i < w->n_flight; i++)
		dsocr_dispatch_return(w->flight[i].handle, !w->expected && !(unsent && i == w->sending));
	w->n_flight = 0;
	w->sending = -1;
}

/* The engine has gone: why, and when to try again. */
static void
engine_ended(Worker *w, const char *how)
{
	DsocrError why = {.code = DSOCR_E_DEVICE};

	memset(&w->now.info, 0, sizeof(w->now.info));
	if (w->expected)
	{
		w->wait_for_reload = false;
		w->next_start = 0;
		return;
	}
	if (w->gave_reason)
		return; /* the reason was noted when it came */
	snprintf(why.message, sizeof(why.message), "the engine %s", how);
	snprintf(why.hint, sizeof(why.hint), "Look for more in the server log.");
	note_failure(w, &why, false);
}

/* A reload was asked for, or a setting has changed: start anew when idle. */
static void
reconsider(Worker *w, bool forced)
{
	char *model = dsocr_model_path();
	bool changed = forced || strcmp(model, w->model) != 0 || w->weights != dsocr_weights ||
				   w->threads != dsocr_threads;

	pfree(model);
	w->reloads = dsocr_dispatch_reloads(w->device);
	if (w->engine.state != DSOCR_ENGINE_STARTING && w->engine.state != DSOCR_ENGINE_READY)
	{
		/* Whatever was wrong may be right now. */
		w->wait_for_reload = false;
		w->failures = 0;
		w->next_start = 0;
	}
	else if (changed || w->wait_for_reload)
		w->drain = true;
}

static void
drain_engine(Worker *w)
{
	if (!w->drain || w->n_flight > 0 ||
		(w->engine.state != DSOCR_ENGINE_READY && w->engine.state != DSOCR_ENGINE_STARTING))
		return;
	w->expected = true;
	w->failures = 0;
	dsocr_process_stop(&w->engine);
}

/* ---- frames from the engine ---- */

static int
find_flight(const Worker *w, uint64 id)
{
	for (int i = 0; i < w->n_flight; i++)
	{
		if (w->flight[i].id == id)
			return i;
	}
	return -1;
}

static bool
take_ready(Worker *w, const DsocrFrameHeader *h, const void *body, DsocrError *err)
{
	DsocrModelInfo info;

	if (!dsocr_parse_ready(h, body, &info, err))
		return false;
	if (w->engine.state != DSOCR_ENGINE_STARTING)
		return true;
	clean(info.name);
	clean(info.fingerprint);
	clean(info.device);
	clean(info.weights);
	clean(info.sandbox);
	w->now.info = info;
	memset(&w->now.error, 0, sizeof(w->now.error));
	w->engine.state = DSOCR_ENGINE_READY;
	if (worth_logging(w))
		ereport(LOG, (errmsg("dsocr worker %s: engine (PID %d) is ready with model \"%s\"",
							 w->engine.device, (int) w->engine.pid, info.name)));
	return true;
}

static bool
take_failed(Worker *w, const DsocrFrameHeader *h, const void *body, DsocrError *err)
{
	DsocrError why = {0};

	if (!dsocr_parse_failed(h, body, &why, err))
		return false;
	clean(why.message);
	clean(why.hint);
	w->gave_reason = true;

	/* Memory and devices may be there later; a model does not get better by itself. */
	note_failure(w, &why, why.code == DSOCR_E_MODEL || why.code == DSOCR_E_ARGUMENT);
	return true;
}

static bool
take_result(Worker *w, const DsocrFrameHeader *h, const void *body, DsocrError *err)
{
	DsocrError status = {0};
	DsocrResult result = {0};
	int i = find_flight(w, h->id);

	if (!dsocr_parse_result(body, h->length, &status, &result, err))
		return false;
	if (i >= 0 && i != w->sending)
	{
		note_tokens(w, &w->flight[i], result.text_tokens);
		if (w->flight[i].cancelled != 0)
			dsocr_dispatch_drop(w->flight[i].handle);
		else
			dsocr_dispatch_finish(w->flight[i].handle, body, h->length, &status, &result,
								  w->now.info.name);
		forget_flight(w, i);
		if (status.code == DSOCR_OK)
			w->failures = 0; /* an engine that has answered is a good one */
	}
	dsocr_result_free(&result);
	return true;
}

static bool
take_frame(Worker *w, const DsocrFrameHeader *h, const void *body, DsocrError *err)
{
	DsocrProgress progress;
	int i;

	w->engine.heard = GetCurrentTimestamp();
	switch (h->type)
	{
		case DSOCR_FRAME_READY:
			return take_ready(w, h, body, err);
		case DSOCR_FRAME_FAILED:
			return take_failed(w, h, body, err);
		case DSOCR_FRAME_RESULT:
			return take_result(w, h, body, err);
		case DSOCR_FRAME_PROGRESS:
			if (!dsocr_parse_progress(h, body, &progress, err))
				return false;
			i = find_flight(w, h->id);
			if (i >= 0)
			{
				note_tokens(w, &w->flight[i], progress.text_tokens);
				dsocr_dispatch_progress(w->flight[i].handle, &progress);
			}
			return true;
	}
	return dsocr_fail(err, DSOCR_E_INTERNAL, "frame of type %u is not for the worker", h->type);
}

/* Read and handle what the engine has sent. */
static void
pump_in(Worker *w)
{
	bool open = dsocr_link_read(&w->engine.link);

	for (;;)
	{
		DsocrFrameHeader header;
		const void *body;
		DsocrError err = {0};
		int got = dsocr_link_next(&w->engine.link, &header, &body, &err);

		if (got == 0)
			break;
		if (got < 0 || !take_frame(w, &header, body, &err))
		{
			clean(err.message);
			ereport(LOG, (errmsg("dsocr worker %s: engine does not keep to the protocol: %s",
								 w->engine.device, err.message)));
			lose_engine(w, true, NULL);
			return;
		}
	}
	if (!open)
		lose_engine(w, false, NULL);
}

/* ---- requests to the engine ---- */

/* Tell the engine about requests that nobody wants any more. */
static void
pump_cancels(Worker *w)
{
	for (int i = 0; i < w->n_flight; i++)
	{
		InFlight *f = &w->flight[i];

		if (f->cancelled != 0 || dsocr_dispatch_wanted(f->handle))
			continue;
		if (i == w->sending && !dsocr_link_sending_begun(&w->engine.link))
		{
			dsocr_link_withdraw(&w->engine.link);
			dsocr_dispatch_drop(f->handle);
			forget_flight(w, i--);
			continue;
		}
		if (i == w->sending)
			continue; /* its frame has to be finished first */
		if (dsocr_link_send_simple(&w->engine.link, DSOCR_FRAME_CANCEL, f->id, NULL))
			f->cancelled = GetCurrentTimestamp();
	}
}

static bool
may_take(const Worker *w)
{
	int limit = Min(Max(w->now.info.max_sequences, 1) + SPARE_REQUESTS, MAX_IN_FLIGHT);

	if (w->engine.state != DSOCR_ENGINE_READY || w->drain || w->sending >= 0 ||
		w->n_flight >= limit)
		return false;
	return w->n_flight == 0 || !w->flight[0].suspect;
}

static void
take_work(Worker *w)
{
	DsocrWork work;
	DsocrError err = {0};
	InFlight *f;

	if (!may_take(w) || !dsocr_dispatch_take(w->device, w->n_flight, &work))
		return;
	if (!dsocr_link_send_request(&w->engine.link, &work.request, &err))
	{
		ereport(LOG, (errmsg("dsocr worker %s: %s", w->engine.device, err.message)));
		dsocr_dispatch_return(work.handle, true);
		return;
	}

	/* Silence counts from here when it had nothing to do. */
	if (w->n_flight == 0)
		w->engine.heard = GetCurrentTimestamp();
	w->sending = w->n_flight++;
	f = &w->flight[w->sending];
	memset(f, 0, sizeof(*f));
	f->handle = work.handle;
	f->id = work.request.id;
	f->suspect = work.suspect;
}

/* Write what the socket takes; false when the engine has gone. */
static bool
pump_out(Worker *w)
{
	for (int i = 0; i < MAX_IN_FLIGHT; i++)
	{
		take_work(w);
		if (!dsocr_link_write(&w->engine.link))
		{
			/* It may have left an answer behind. */
			pump_in(w);
			if (w->engine.state == DSOCR_ENGINE_READY)
				lose_engine(w, false, NULL);
			return false;
		}
		if (w->sending < 0 || dsocr_link_sending(&w->engine.link))
			break;
		w->sending = -1;
	}
	return true;
}

/* Has the engine been silent, or sat on a cancelled request, for too long? */
static void
watch(Worker *w, TimestampTz now)
{
	bool busy = w->engine.state == DSOCR_ENGINE_STARTING || w->n_flight > 0;
	bool late = busy && TimestampDifferenceExceeds(w->engine.heard, now, dsocr_engine_timeout);

	for (int i = 0; i < w->n_flight && !late; i++)
		late = w->flight[i].cancelled != 0 &&
			   TimestampDifferenceExceeds(w->flight[i].cancelled, now, dsocr_engine_timeout);
	if (late)
		lose_engine(w, true,
					w->engine.state == DSOCR_ENGINE_STARTING
						? "did not become ready within dsocr.engine_timeout"
						: "did not answer within dsocr.engine_timeout");
}

/* ---- the loop ---- */

static void
step(Worker *w)
{
	TimestampTz now = GetCurrentTimestamp();
	char how[128];

	dsocr_process_log(&w->engine);
	switch (w->engine.state)
	{
		case DSOCR_ENGINE_STOPPED:
			if (!w->wait_for_reload && now >= w->next_start)
				start_engine(w);
			break;
		case DSOCR_ENGINE_STARTING:
		case DSOCR_ENGINE_READY:
			pump_in(w);
			if (w->engine.state == DSOCR_ENGINE_READY)
			{
				pump_cancels(w);
				(void) pump_out(w);
			}
			if (w->engine.state == DSOCR_ENGINE_READY && w->failures > 0 &&
				TimestampDifferenceExceeds(w->engine.started, now, HEALTHY_MS))
				w->failures = 0;
			if (w->engine.state == DSOCR_ENGINE_READY || w->engine.state == DSOCR_ENGINE_STARTING)
				watch(w, now);
			drain_engine(w);
			break;
		case DSOCR_ENGINE_STOPPING:
			if (!dsocr_link_read(&w->engine.link) || !dsocr_link_write(&w->engine.link))
				dsocr_process_lose(&w->engine, false);
			/* fall through */
		case DSOCR_ENGINE_DYING:
			if (dsocr_process_reap(&w->engine, how, sizeof(how)))
				engine_ended(w, how);
			break;
	}
	update_rate(w, now);
	show(w);
	if (w->now.refuses)
		dsocr_dispatch_refuse(w->device);
	if (TimestampDifferenceExceeds(w->last_sweep, now, SWEEP_MS))
	{
		dsocr_dispatch_sweep();
		w->last_sweep = now;
	}
}

/* Milliseconds until something is due. */
static long
patience(const Worker *w)
{
	TimestampTz now = GetCurrentTimestamp();
	long wait = IDLE_WAIT_MS;

	switch (w->engine.state)
	{
		case DSOCR_ENGINE_STOPPED:
			if (!w->wait_for_reload)
				wait = Min(wait, TimestampDifferenceMilliseconds(now, w->next_start));
			break;
		case DSOCR_ENGINE_STARTING:
		case DSOCR_ENGINE_READY:
			if (w->n_flight > 0 || w->engine.state == DSOCR_ENGINE_STARTING)
				wait = Min(wait, dsocr_engine_timeout);
			if (w->now.tokens_per_second > 0)
				wait = Min(wait, RATE_MS);
			break;
		case DSOCR_ENGINE_STOPPING:
		case DSOCR_ENGINE_DYING:
			wait = REAP_WAIT_MS;
			break;
	}
	return wait;
}

static void
worker_exit(int code, Datum arg)
{
	Worker *w = this_worker;

	dsocr_process_end(&w->engine);
	dsocr_dispatch_detach(w->device, !ShutdownRequestPending);
}

void
dsocr_worker_main(Datum arg)
{
	Worker *w = MemoryContextAllocZero(TopMemoryContext, sizeof(Worker));

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	w->device = DatumGetInt32(arg);
	w->sending = -1;
	w->last_sweep = w->rate_since = GetCurrentTimestamp();
	dsocr_process_init(&w->engine, dsocr_shared->devices[w->device].name);
	this_worker = w;
	before_shmem_exit(worker_exit, (Datum) 0);
	dsocr_dispatch_attach(w->device);
	pgstat_report_activity(STATE_IDLE, NULL);

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();

		/* Not 0, which would mean never again. */
		if (ShutdownRequestPending)
			proc_exit(1);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			reconsider(w, false);
		}
		if (w->reloads != dsocr_dispatch_reloads(w->device))
			reconsider(w, true);
		step(w);
		dsocr_process_wait(&w->engine, patience(w));
	}
}

void
dsocr_worker_init(void)
{
	char names[DSOCR_MAX_DEVICES][DSOCR_DEVICE_NAME_MAX];
	int n = dsocr_device_list(dsocr_devices, names);

	for (int i = 0; i < n; i++)
	{
		BackgroundWorker worker = {0};

		worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
		worker.bgw_start_time = BgWorkerStart_ConsistentState;
		worker.bgw_restart_time = WORKER_RESTART_S;
		worker.bgw_main_arg = Int32GetDatum(i);
		strlcpy(worker.bgw_library_name, "dsocr", BGW_MAXLEN);
		strlcpy(worker.bgw_function_name, "dsocr_worker_main", BGW_MAXLEN);
		snprintf(worker.bgw_name, BGW_MAXLEN, "dsocr worker %s", names[i]);
		snprintf(worker.bgw_type, BGW_MAXLEN, "dsocr worker %s", names[i]);
		RegisterBackgroundWorker(&worker);
	}
}
