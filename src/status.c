/*-------------------------------------------------------------------------
 *
 * status.c
 *		Functions behind the views dsocr.workers, dsocr.stats and dsocr.usage.
 *
 * Everything is copied out of shared memory first and turned into rows after
 * the lock was released.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "cache.h"
#include "result.h"
#include "roles.h"
#include "shmem.h"
#include "slots.h"
#include "stats.h"
#include "view_row.h"

#include <stdio.h>

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(dsocr_workers);
PG_FUNCTION_INFO_V1(dsocr_stats);
PG_FUNCTION_INFO_V1(dsocr_stats_reset_all);
PG_FUNCTION_INFO_V1(dsocr_status);
PG_FUNCTION_INFO_V1(dsocr_reload);
PG_FUNCTION_INFO_V1(dsocr_clear_cache);
PG_FUNCTION_INFO_V1(dsocr_usage);

#define WORKERS_COLUMNS 18
#define STATS_COLUMNS 18
#define STATUS_COLUMNS 13
#define USAGE_COLUMNS 7

static const char *const device_states[] = {"stopped", "starting", "ready", "degraded", "failed"};

/*
 * Resident memory of a process in bytes, by a line of its status ("VmRSS:",
 * all; "RssAnon:", without mapped files); -1 when it cannot be told.
 */
static int64
resident_bytes(int pid, const char *what)
{
	char path[64];
	char line[128];
	int64 kb = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	if (file == NULL)
		return -1;
	while (kb < 0 && fgets(line, sizeof(line), file) != NULL)
	{
		if (strncmp(line, what, strlen(what)) == 0)
			kb = strtoll(line + strlen(what), NULL, 10);
	}
	fclose(file);
	return kb < 0 ? -1 : kb * 1024;
}

/* Resident memory of an engine, which may have none; null when it cannot be told. */
static void
put_resident(DsocrViewRow *row, int engine_pid, const char *what)
{
	int64 bytes = engine_pid != 0 ? resident_bytes(engine_pid, what) : -1;

	if (bytes < 0)
		dsocr_view_null(row);
	else
		dsocr_view_put(row, Int64GetDatum(bytes));
}

/* Requests that wait for a device of this kind. */
static int
count_queued(bool of_pages)
{
	int n = 0;

	for (int i = 0; i < dsocr_shared->n_slots; i++)
		n += dsocr_slots[i].state == DSOCR_SLOT_QUEUED &&
			 dsocr_kind_is_of_pages(dsocr_slots[i].request.kind) == of_pages;
	return n;
}

/*
 * dsocr_workers(device text, state text, pid int4, engine_pid int4,
 *   model text, fingerprint text, weights text, sandbox text,
 *   memory_bytes int8, private_bytes int8, queued int4, running int4,
 *   tokens_per_second float8, restarts int8, started_at timestamptz, error text, hint text,
 *   description text)
 */
Datum
dsocr_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = dsocr_view_begin(fcinfo, WORKERS_COLUMNS);

	for (int i = 0; i < dsocr_shared->n_devices; i++)
	{
		DsocrViewRow row = {.n = 0};
		DsocrDevice d;
		int queued;

		LWLockAcquire(dsocr_queue_lock, LW_SHARED);
		d = dsocr_shared->devices[i];
		queued = count_queued(d.of_pages);
		LWLockRelease(dsocr_queue_lock);

		dsocr_error_redact(&d.error);
		dsocr_view_text(&row, d.name);
		dsocr_view_text(&row, device_states[d.state]);
		dsocr_view_number(&row, d.worker_pid);
		dsocr_view_number(&row, d.engine_pid);
		dsocr_view_text(&row, d.of_pages ? "" : d.info.name);
		dsocr_view_text(&row, d.info.fingerprint);
		dsocr_view_text(&row, d.info.weights);
		dsocr_view_text(&row, d.info.sandbox);
		put_resident(&row, d.engine_pid, "VmRSS:");
		put_resident(&row, d.engine_pid, "RssAnon:");
		dsocr_view_put(&row, Int32GetDatum(queued));
		dsocr_view_put(&row, Int32GetDatum(d.running));
		dsocr_view_put(&row, Float8GetDatum(d.tokens_per_second));
		dsocr_view_put(&row, Int64GetDatum(d.restarts));
		if (d.started_at == 0)
			dsocr_view_null(&row);
		else
			dsocr_view_put(&row, TimestampTzGetDatum(d.started_at));
		dsocr_view_text(&row, d.error.message);
		dsocr_view_text(&row, d.error.hint);
		dsocr_view_text(&row, d.info.device);
		dsocr_view_end_row(rsinfo, &row);
	}
	return (Datum) 0;
}

/*
 * dsocr_stats(device text, completed int8, failed int8, cancelled int8,
 *   retried int8, image_tokens int8, text_tokens int8, waited_ms float8,
 *   preprocess_ms float8, encode_ms float8, prefill_ms float8,
 *   decode_ms float8, p50_ms float8, p95_ms float8, p99_ms float8,
 *   max_ms float8, since timestamptz)
 *
 * The row without device counts requests that ended before they reached one.
 */
Datum
dsocr_stats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = dsocr_view_begin(fcinfo, STATS_COLUMNS);

	for (int i = 0; i <= dsocr_shared->n_devices; i++)
	{
		bool nowhere = i == dsocr_shared->n_devices;
		DsocrViewRow row = {.n = 0};
		DsocrStats s;
		TimestampTz since;

		dsocr_stats_read(nowhere ? DSOCR_STATS_NOWHERE : i, &s, &since);
		dsocr_view_text(&row, nowhere ? "" : dsocr_shared->devices[i].name);
		dsocr_view_put(&row, Int64GetDatum(s.completed));
		dsocr_view_put(&row, Int64GetDatum(s.failed));
		dsocr_view_put(&row, Int64GetDatum(s.cancelled));
		dsocr_view_put(&row, Int64GetDatum(s.retried));
		dsocr_view_put(&row, Int64GetDatum(s.cache_hits));
		dsocr_view_put(&row, Int64GetDatum(s.image_tokens));
		dsocr_view_put(&row, Int64GetDatum(s.text_tokens));
		dsocr_view_put(&row, Float8GetDatum(s.waited_us / 1000.0));
		dsocr_view_put(&row, Float8GetDatum(s.preprocess_us / 1000.0));
		dsocr_view_put(&row, Float8GetDatum(s.encode_us / 1000.0));
		dsocr_view_put(&row, Float8GetDatum(s.prefill_us / 1000.0));
		dsocr_view_put(&row, Float8GetDatum(s.decode_us / 1000.0));
		dsocr_view_float(&row, dsocr_stats_percentile(&s, 0.50));
		dsocr_view_float(&row, dsocr_stats_percentile(&s, 0.95));
		dsocr_view_float(&row, dsocr_stats_percentile(&s, 0.99));
		dsocr_view_float(&row, s.completed > 0 ? s.longest_us / 1000.0 : -1);
		dsocr_view_put(&row, TimestampTzGetDatum(since));
		dsocr_view_end_row(rsinfo, &row);
	}
	return (Datum) 0;
}

/* dsocr_stats_reset_all() returns void */
Datum
dsocr_stats_reset_all(PG_FUNCTION_ARGS)
{
	dsocr_require_preload();
	dsocr_stats_reset();
	dsocr_roles_reset();
	PG_RETURN_VOID();
}

/*
 * dsocr_status(version text, workers int4, ready int4, slots int4,
 *   slots_used int4, waiting int4, queue_memory int8, queue_memory_used int8,
 *   model text, cache_size int8, cache_used int8, cache_entries int8,
 *   cache_evicted int8): one row; model names the folder's last component.
 */
Datum
dsocr_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = dsocr_view_begin(fcinfo, STATUS_COLUMNS);
	char *model = dsocr_model_path();
	DsocrCacheStatus cache;
	DsocrViewRow row = {.n = 0};
	int ready = 0;
	int workers = 0;
	int used;
	int waiting;
	Size memory_used;

	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	for (int i = 0; i < dsocr_shared->n_devices; i++)
	{
		workers += dsocr_shared->devices[i].worker_pid != 0;
		ready += dsocr_shared->devices[i].state == DSOCR_DEVICE_READY;
	}
	used = dsocr_shared->n_slots - dsocr_shared->n_free;
	waiting = dsocr_shared->n_waiting;
	memory_used = dsocr_shared->memory_used;
	LWLockRelease(dsocr_queue_lock);
	dsocr_cache_status(&cache);

	dsocr_view_text(&row, DSOCR_VERSION);
	dsocr_view_put(&row, Int32GetDatum(workers));
	dsocr_view_put(&row, Int32GetDatum(ready));
	dsocr_view_put(&row, Int32GetDatum(dsocr_shared->n_slots));
	dsocr_view_put(&row, Int32GetDatum(used));
	dsocr_view_put(&row, Int32GetDatum(waiting));
	dsocr_view_put(&row, Int64GetDatum((int64) dsocr_shared->memory_limit));
	dsocr_view_put(&row, Int64GetDatum((int64) memory_used));
	dsocr_view_text(&row, last_dir_separator(model) ? last_dir_separator(model) + 1 : model);
	dsocr_view_put(&row, Int64GetDatum(cache.bytes));
	dsocr_view_put(&row, Int64GetDatum(cache.used));
	dsocr_view_put(&row, Int64GetDatum(cache.entries));
	dsocr_view_put(&row, Int64GetDatum(cache.evicted));
	dsocr_view_end_row(rsinfo, &row);
	return (Datum) 0;
}

/*
 * dsocr_reload() returns int4: the number of workers that were told to finish
 * what they have and start their engine anew.  Not for PUBLIC.
 */
Datum
dsocr_reload(PG_FUNCTION_ARGS)
{
	int told = 0;

	dsocr_require_preload();
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	for (int i = 0; i < dsocr_shared->n_devices; i++)
	{
		dsocr_shared->devices[i].reload++;
		told += dsocr_shared->devices[i].worker_pid != 0;
	}
	dsocr_slot_wake_workers();
	LWLockRelease(dsocr_queue_lock);
	PG_RETURN_INT32(told);
}

/* dsocr_cache_clear() returns int8: the number of answers that were dropped.  Not for PUBLIC. */
Datum
dsocr_clear_cache(PG_FUNCTION_ARGS)
{
	dsocr_require_preload();
	PG_RETURN_INT64(dsocr_cache_clear());
}

/*
 * dsocr_usage(role oid, pages int8, cache_hits int8, image_tokens int8,
 *   text_tokens int8, device_seconds float8, since timestamptz): of the
 *   caller's roles, or of all for pg_read_all_stats.  role NULL: of those for
 *   whom there was no place.
 */
Datum
dsocr_usage(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = dsocr_view_begin(fcinfo, USAGE_COLUMNS);
	DsocrRole *roles = palloc(sizeof(DsocrRole) * DSOCR_MAX_ROLES);
	int n = dsocr_roles_read(roles);
	bool all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	DsocrStats s;
	TimestampTz since;

	dsocr_stats_read(DSOCR_STATS_NOWHERE, &s, &since);
	for (int i = 0; i < n; i++)
	{
		DsocrViewRow row = {.n = 0};

		if (!all && (!OidIsValid(roles[i].role) || !has_privs_of_role(GetUserId(), roles[i].role)))
			continue;
		if (OidIsValid(roles[i].role))
			dsocr_view_put(&row, ObjectIdGetDatum(roles[i].role));
		else
			dsocr_view_null(&row);
		dsocr_view_put(&row, Int64GetDatum(roles[i].pages));
		dsocr_view_put(&row, Int64GetDatum(roles[i].cache_hits));
		dsocr_view_put(&row, Int64GetDatum(roles[i].image_tokens));
		dsocr_view_put(&row, Int64GetDatum(roles[i].text_tokens));
		dsocr_view_put(&row, Float8GetDatum(roles[i].device_us / 1e6));
		dsocr_view_put(&row, TimestampTzGetDatum(since));
		dsocr_view_end_row(rsinfo, &row);
	}
	return (Datum) 0;
}
