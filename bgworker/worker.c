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
 * Suspects run alone, so the one that kills engines fails by itself; and after
 * a blank page, so that an engine which reads nothing fails none.
 *
 * The worker is connected to no database: it shows in pg_stat_activity and
 * absorbs barriers, and stands in the way of no DROP DATABASE.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "worker.h"

#include "pump.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#define WORKER_RESTART_S 5
#define SWEEP_MS 5000 /* how often dead owners are looked for */
#define IDLE_WAIT_MS 5000
#define REAP_WAIT_MS 10
#define RATE_MS 1000		  /* interval of the token rate */
#define HEALTHY_MS 60000	  /* an engine that lives so long was no failure */
#define CAREFUL_AFTER 2		  /* failures in a row after which requests run one at a time */
#define REFUSE_AFTER 5		  /* failures in a row after which requests do not wait */
#define LOG_FAILURES 5		  /* failures in a row that are all logged */
#define LOG_INTERVAL_MS 60000 /* between later ones */

typedef struct Worker
{
	int device;
	DsocrEngineProcess engine;
	DsocrPump pump;
	DsocrDevice shown; /* what was published last */
	DsocrDevice now;   /* the same, up to date */

	/* what the engine was started with */
	char model[MAXPGPATH];
	int weights;
	int threads;
	int gpu_memory;
	int max_sequences;
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
	d->running = dsocr_pump_busy(&w->pump);
	d->started_at = w->engine.pid != 0 ? w->engine.started : 0;
	if (memcmp(&w->shown, d, sizeof(DsocrDevice)) == 0)
		return;
	if ((w->shown.running > 0) != (d->running > 0))
		pgstat_report_activity(d->running > 0 ? STATE_RUNNING : STATE_IDLE, NULL);
	w->shown = *d;
	dsocr_dispatch_publish(w->device, d);
}

static void
update_rate(Worker *w, TimestampTz now)
{
	double seconds = (now - w->rate_since) / 1e6;
	double rate;

	if (seconds * 1000 < RATE_MS)
		return;
	rate = 0.5 * w->now.tokens_per_second + 0.5 * w->pump.tokens / seconds;
	w->now.tokens_per_second = rate < 0.05 ? 0 : rate;
	w->pump.tokens = 0;
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
	dsocr_pump_clean(w->now.error.message);
	dsocr_pump_clean(w->now.error.hint);
	w->failures++;
	w->wait_for_reload = until_reload;
	schedule_start(w);
	if (worth_logging(w))
		ereport(LOG, (errmsg("dsocr worker %s: %s", w->engine.device, why->message),
					  why->hint[0] != '\0' && (w->gave_reason || why->code != DSOCR_E_DEVICE)
						  ? errhint("%s", why->hint)
						  : 0));
}

static void
start_engine(Worker *w)
{
	char *model = dsocr_model_path();
	DsocrEngineCommand command = {.model = w->model,
								  .precision = dsocr_weights_name(dsocr_weights),
								  .threads = dsocr_threads,
								  .gpu_memory = dsocr_gpu_memory,
								  .max_sequences = dsocr_max_sequences};
	DsocrError err = {0};

	strlcpy(w->model, model, sizeof(w->model));
	pfree(model);
	w->weights = dsocr_weights;
	w->threads = dsocr_threads;
	w->gpu_memory = dsocr_gpu_memory;
	w->max_sequences = dsocr_max_sequences;
	w->reloads = dsocr_dispatch_reloads(w->device);
	w->drain = w->expected = w->gave_reason = w->wait_for_reload = false;
	if (!dsocr_process_start(&w->engine, &command, &err))
	{
		/* Waiting for a program that is not there helps nobody. */
		if (err.code == DSOCR_E_MODEL || err.code == DSOCR_E_DEVICE)
			w->failures = Max(w->failures, REFUSE_AFTER);
		note_failure(w, &err, false);
		return;
	}
	if (w->was_started)
		w->now.restarts++;
	w->was_started = true;
}

/* Give up the engine: what it had goes back to the queue. */
static void
lose_engine(Worker *w, bool now, const char *why)
{
	if (why != NULL)
		ereport(LOG, (errmsg("dsocr worker %s: %s (PID %d) %s", w->engine.device,
							 dsocr_process_noun(&w->engine), (int) w->engine.pid, why)));
	dsocr_pump_return(&w->pump, !w->expected);
	dsocr_process_lose(&w->engine, now);
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
	snprintf(why.message, sizeof(why.message), "the %s %s", dsocr_process_noun(&w->engine), how);
	snprintf(why.hint, sizeof(why.hint), "Look for more in the server log.");
	note_failure(w, &why, false);
}

/* Would an engine be started otherwise than the present one was? */
static bool
settings_changed(const Worker *w)
{
	char *model = dsocr_model_path();
	bool changed = strcmp(model, w->model) != 0 || w->weights != dsocr_weights ||
				   w->threads != dsocr_threads || w->gpu_memory != dsocr_gpu_memory ||
				   w->max_sequences != dsocr_max_sequences;

	pfree(model);
	return changed && !w->engine.of_pages;
}

/* A reload was asked for, or a setting has changed: start anew when idle. */
static void
reconsider(Worker *w, bool forced)
{
	bool changed = forced || settings_changed(w);

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

/*
 * A page server takes requests meanwhile: documents are open until all of
 * their pages were asked for, so it would never be idle.
 */
static void
drain_engine(Worker *w)
{
	if (!w->drain || w->pump.n_flight > 0 ||
		(w->engine.state != DSOCR_ENGINE_READY && w->engine.state != DSOCR_ENGINE_STARTING))
		return;
	w->expected = true;
	w->failures = 0;
	dsocr_process_stop(&w->engine);
}

/* ---- the engine at work ---- */

static void
note_ready(Worker *w)
{
	w->pump.ready = false;
	if (w->engine.state != DSOCR_ENGINE_STARTING)
		return;
	w->now.info = w->pump.info;
	memset(&w->now.error, 0, sizeof(w->now.error));
	w->engine.state = DSOCR_ENGINE_READY;
	if (w->failures > 0 && !w->engine.of_pages)
		dsocr_pump_try(&w->pump);
	if (!worth_logging(w))
		return;
	if (w->engine.of_pages)
		ereport(LOG, (errmsg("dsocr worker %s: page server (PID %d) is ready", w->engine.device,
							 (int) w->engine.pid)));
	else
		ereport(LOG, (errmsg("dsocr worker %s: engine (PID %d) is ready with model \"%s\"",
							 w->engine.device, (int) w->engine.pid, w->now.info.name)));
}

/* Read from the engine and heed what it said; false when it was given up. */
static bool
listen_to(Worker *w)
{
	DsocrPumpState state = dsocr_pump_in(&w->pump);

	if (w->pump.ready)
		note_ready(w);
	if (w->pump.failed)
	{
		/* Memory and devices may be there later; a model does not get better by itself. */
		w->pump.failed = false;
		w->gave_reason = true;
		note_failure(w, &w->pump.reason,
					 w->pump.reason.code == DSOCR_E_MODEL ||
						 w->pump.reason.code == DSOCR_E_ARGUMENT);
	}
	if (w->pump.answered)
	{
		/* An engine that has answered is a good one. */
		w->pump.answered = false;
		w->failures = 0;
	}
	if (w->pump.passed)
	{
		/* It was not the device, nor the model; but requests that kill may still be there. */
		w->pump.passed = false;
		w->failures = Min(w->failures, CAREFUL_AFTER);
	}
	if (state != DSOCR_PUMP_OPEN)
		lose_engine(w, state == DSOCR_PUMP_BROKEN, NULL);
	return state == DSOCR_PUMP_OPEN;
}

/* Is the engine well?  Gives it up if not. */
static void
watch(Worker *w)
{
	TimestampTz now = GetCurrentTimestamp();

	if (w->engine.state == DSOCR_ENGINE_STARTING)
	{
		if (TimestampDifferenceExceeds(w->engine.heard, now, dsocr_engine_timeout))
			lose_engine(w, true, "did not become ready within dsocr.engine_timeout");
	}
	else if (dsocr_pump_late(&w->pump, dsocr_engine_timeout))
		lose_engine(w, true, "did not answer within dsocr.engine_timeout");
	else if (TimestampDifferenceExceeds(w->engine.started, now, HEALTHY_MS))
		w->failures = 0;
}

/* One round with an engine that is loading or ready. */
static void
work_with(Worker *w)
{
	if (!listen_to(w))
		return;
	w->pump.careful = w->failures >= CAREFUL_AFTER && !w->engine.of_pages;
	if (w->engine.state == DSOCR_ENGINE_READY &&
		dsocr_pump_out(&w->pump, !w->drain || w->engine.of_pages) != DSOCR_PUMP_OPEN)
	{
		/* It may have left an answer behind. */
		if (listen_to(w))
			lose_engine(w, false, NULL);
		return;
	}
	watch(w);
	drain_engine(w);
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
			work_with(w);
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
			if (w->pump.n_flight > 0 || w->engine.state == DSOCR_ENGINE_STARTING)
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
	w->last_sweep = w->rate_since = GetCurrentTimestamp();
	dsocr_process_init(&w->engine, dsocr_shared->devices[w->device].name,
					   dsocr_shared->devices[w->device].of_pages);
	dsocr_pump_init(&w->pump, w->device, &w->engine);
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

static void
register_worker(int device, const char *name)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = WORKER_RESTART_S;
	worker.bgw_main_arg = Int32GetDatum(device);
	strlcpy(worker.bgw_library_name, "dsocr", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "dsocr_worker_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "dsocr worker %s", name);
	snprintf(worker.bgw_type, BGW_MAXLEN, "dsocr worker %s", name);
	RegisterBackgroundWorker(&worker);
}

void
dsocr_worker_init(void)
{
	char names[DSOCR_MAX_DEVICES][DSOCR_DEVICE_NAME_MAX];
	int n = dsocr_device_list(dsocr_devices, names);

	/* The numbers are those of the devices in shared memory. */
	for (int i = 0; i < n; i++)
		register_worker(i, names[i]);
	if (dsocr_page_server)
		register_worker(n, DSOCR_PAGES_DEVICE);
}
