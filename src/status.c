/*-------------------------------------------------------------------------
 *
 * status.c
 *		Functions behind the views dsocr.workers, dsocr.requests, dsocr.stats.
 *
 * Everything is copied out of shared memory first and turned into rows after
 * the lock was released.  Like pg_stat_activity, requests of other roles show
 * who and what only to members of pg_read_all_stats.
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

#include <stdio.h>

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(dsocr_workers);
PG_FUNCTION_INFO_V1(dsocr_requests);
PG_FUNCTION_INFO_V1(dsocr_stats);
PG_FUNCTION_INFO_V1(dsocr_stats_reset_all);
PG_FUNCTION_INFO_V1(dsocr_status);
PG_FUNCTION_INFO_V1(dsocr_reload);
PG_FUNCTION_INFO_V1(dsocr_clear_cache);
PG_FUNCTION_INFO_V1(dsocr_usage);

#define WORKERS_COLUMNS 18
#define REQUESTS_COLUMNS 16
#define STATS_COLUMNS 18
#define STATUS_COLUMNS 13
#define USAGE_COLUMNS 7

static const char *const device_states[] = {"stopped", "starting", "ready", "degraded", "failed"};

static const char *const slot_states[] = {"free", "filling", "queued",	  "running",
										  "done", "failed",	 "cancelled", "freeing"};

/* A row in the making. */
typedef struct Row
{
	Datum values[WORKERS_COLUMNS + STATS_COLUMNS];
	bool nulls[WORKERS_COLUMNS + STATS_COLUMNS];
	int n;
} Row;

static void
put(Row *row, Datum value)
{
	row->nulls[row->n] = false;
	row->values[row->n++] = value;
}

static void
put_null(Row *row)
{
	row->values[row->n] = (Datum) 0;
	row->nulls[row->n++] = true;
}

/* Empty is NULL. */
static void
put_text(Row *row, const char *text)
{
	if (text[0] == '\0')
		put_null(row);
	else
		put(row, CStringGetTextDatum(text));
}

/* 0 is NULL. */
static void
put_number(Row *row, int number)
{
	if (number == 0)
		put_null(row);
	else
		put(row, Int32GetDatum(number));
}

/* Negative is NULL. */
static void
put_float(Row *row, double value)
{
	if (value < 0)
		put_null(row);
	else
		put(row, Float8GetDatum(value));
}

/* Prepare to return rows of so many columns; the SQL side may be of another version. */
static ReturnSetInfo *
begin_rows(FunctionCallInfo fcinfo, int columns)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	dsocr_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	if (rsinfo->setDesc->natts != columns)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("extension dsocr does not fit to its library"),
						errhint("Run \"ALTER EXTENSION dsocr UPDATE\".")));
	return rsinfo;
}

static void
end_row(ReturnSetInfo *rsinfo, Row *row)
{
	Assert(row->n == rsinfo->setDesc->natts);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row->values, row->nulls);
	row->n = 0;
}

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
put_resident(Row *row, int engine_pid, const char *what)
{
	int64 bytes = engine_pid != 0 ? resident_bytes(engine_pid, what) : -1;

	if (bytes < 0)
		put_null(row);
	else
		put(row, Int64GetDatum(bytes));
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
	ReturnSetInfo *rsinfo = begin_rows(fcinfo, WORKERS_COLUMNS);

	for (int i = 0; i < dsocr_shared->n_devices; i++)
	{
		Row row = {.n = 0};
		DsocrDevice d;
		int queued;

		LWLockAcquire(dsocr_queue_lock, LW_SHARED);
		d = dsocr_shared->devices[i];
		queued = count_queued(d.of_pages);
		LWLockRelease(dsocr_queue_lock);

		dsocr_error_redact(&d.error);
		put_text(&row, d.name);
		put_text(&row, device_states[d.state]);
		put_number(&row, d.worker_pid);
		put_number(&row, d.engine_pid);
		put_text(&row, d.of_pages ? "" : d.info.name);
		put_text(&row, d.info.fingerprint);
		put_text(&row, d.info.weights);
		put_text(&row, d.info.sandbox);
		put_resident(&row, d.engine_pid, "VmRSS:");
		put_resident(&row, d.engine_pid, "RssAnon:");
		put(&row, Int32GetDatum(queued));
		put(&row, Int32GetDatum(d.running));
		put(&row, Float8GetDatum(d.tokens_per_second));
		put(&row, Int64GetDatum(d.restarts));
		if (d.started_at == 0)
			put_null(&row);
		else
			put(&row, TimestampTzGetDatum(d.started_at));
		put_text(&row, d.error.message);
		put_text(&row, d.error.hint);
		put_text(&row, d.info.device);
		end_row(rsinfo, &row);
	}
	return (Datum) 0;
}

static const char *
state_name(const DsocrSlot *slot)
{
	if (slot->state == DSOCR_SLOT_RUNNING && slot->request.kind == DSOCR_DOCUMENT &&
		slot->progress.pages > 0)
		return "open";
	return slot_states[slot->state];
}

static const char *
task_name(const DsocrRequest *r)
{
	switch (r->kind)
	{
		case DSOCR_READ:
			break;
		case DSOCR_PROBE:
			return "probe";
		case DSOCR_DOCUMENT:
			return "document";
		case DSOCR_PAGE:
			return "page";
	}
	return dsocr_task_names[r->task];
}

static const char *
mode_name(const DsocrRequest *r)
{
	if (dsocr_kind_is_of_pages(r->kind))
		return "";
	return r->mode < DSOCR_N_MODES ? dsocr_mode_names[r->mode] : "custom";
}

/* Number of the page, and how many the document has; NULL for images by themselves. */
static void
put_pages(Row *row, const DsocrSlot *slot)
{
	const DsocrRequest *r = &slot->request;

	put_number(row, r->kind == DSOCR_DOCUMENT ? 0 : r->page);
	put_number(row, r->kind == DSOCR_DOCUMENT ? slot->progress.pages : r->max_pages);
}

static void
put_request(Row *row, int index, const DsocrSlot *slot, bool visible)
{
	Interval *age = palloc0(sizeof(Interval));

	age->time = Max(GetCurrentTimestamp() - slot->submitted, 0);
	put(row, Int32GetDatum(index));
	put_number(row, visible ? slot->owner_pid : 0);
	if (visible)
	{
		put(row, ObjectIdGetDatum(slot->role));
		put(row, ObjectIdGetDatum(slot->database));
	}
	else
	{
		put_null(row);
		put_null(row);
	}
	put_text(row, state_name(slot));
	if (visible && slot->state != DSOCR_SLOT_FILLING)
	{
		put_text(row, task_name(&slot->request));
		put_text(row, mode_name(&slot->request));
		put_pages(row, slot);
	}
	else
	{
		for (int i = 0; i < 4; i++)
			put_null(row);
	}
	put_text(row, slot->device >= 0 ? dsocr_shared->devices[slot->device].name : "");
	put(row, Int32GetDatum(slot->progress.views_done));
	put(row, Int32GetDatum(slot->progress.views));
	put(row, Int32GetDatum(slot->progress.image_tokens));
	put(row, Int32GetDatum(slot->progress.text_tokens));
	put(row, IntervalPGetDatum(age));
	put(row, Int32GetDatum(slot->attempts));
}

/*
 * dsocr_requests(slot int4, pid int4, role oid, database oid, state text,
 *   task text, mode text, page int4, pages int4, device text,
 *   views_done int4, views int4, image_tokens int4, text_tokens int4, age interval, attempts int4)
 */
Datum
dsocr_requests(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = begin_rows(fcinfo, REQUESTS_COLUMNS);
	bool sees_all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	Size size = sizeof(DsocrSlot) * dsocr_shared->n_slots;
	DsocrSlot *copy = palloc(size);

	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	memcpy(copy, dsocr_slots, size);
	LWLockRelease(dsocr_queue_lock);

	for (int i = 0; i < dsocr_shared->n_slots; i++)
	{
		Row row = {.n = 0};

		if (copy[i].state == DSOCR_SLOT_FREE)
			continue;
		put_request(&row, i, &copy[i], sees_all || has_privs_of_role(GetUserId(), copy[i].role));
		end_row(rsinfo, &row);
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
	ReturnSetInfo *rsinfo = begin_rows(fcinfo, STATS_COLUMNS);

	for (int i = 0; i <= dsocr_shared->n_devices; i++)
	{
		bool nowhere = i == dsocr_shared->n_devices;
		Row row = {.n = 0};
		DsocrStats s;
		TimestampTz since;

		dsocr_stats_read(nowhere ? DSOCR_STATS_NOWHERE : i, &s, &since);
		put_text(&row, nowhere ? "" : dsocr_shared->devices[i].name);
		put(&row, Int64GetDatum(s.completed));
		put(&row, Int64GetDatum(s.failed));
		put(&row, Int64GetDatum(s.cancelled));
		put(&row, Int64GetDatum(s.retried));
		put(&row, Int64GetDatum(s.cache_hits));
		put(&row, Int64GetDatum(s.image_tokens));
		put(&row, Int64GetDatum(s.text_tokens));
		put(&row, Float8GetDatum(s.waited_us / 1000.0));
		put(&row, Float8GetDatum(s.preprocess_us / 1000.0));
		put(&row, Float8GetDatum(s.encode_us / 1000.0));
		put(&row, Float8GetDatum(s.prefill_us / 1000.0));
		put(&row, Float8GetDatum(s.decode_us / 1000.0));
		put_float(&row, dsocr_stats_percentile(&s, 0.50));
		put_float(&row, dsocr_stats_percentile(&s, 0.95));
		put_float(&row, dsocr_stats_percentile(&s, 0.99));
		put_float(&row, s.completed > 0 ? s.longest_us / 1000.0 : -1);
		put(&row, TimestampTzGetDatum(since));
		end_row(rsinfo, &row);
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
	ReturnSetInfo *rsinfo = begin_rows(fcinfo, STATUS_COLUMNS);
	char *model = dsocr_model_path();
	DsocrCacheStatus cache;
	Row row = {.n = 0};
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

	put_text(&row, DSOCR_VERSION);
	put(&row, Int32GetDatum(workers));
	put(&row, Int32GetDatum(ready));
	put(&row, Int32GetDatum(dsocr_shared->n_slots));
	put(&row, Int32GetDatum(used));
	put(&row, Int32GetDatum(waiting));
	put(&row, Int64GetDatum((int64) dsocr_shared->memory_limit));
	put(&row, Int64GetDatum((int64) memory_used));
	put_text(&row, last_dir_separator(model) ? last_dir_separator(model) + 1 : model);
	put(&row, Int64GetDatum(cache.bytes));
	put(&row, Int64GetDatum(cache.used));
	put(&row, Int64GetDatum(cache.entries));
	put(&row, Int64GetDatum(cache.evicted));
	end_row(rsinfo, &row);
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
	ReturnSetInfo *rsinfo = begin_rows(fcinfo, USAGE_COLUMNS);
	DsocrRole *roles = palloc(sizeof(DsocrRole) * DSOCR_MAX_ROLES);
	int n = dsocr_roles_read(roles);
	bool all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	DsocrStats s;
	TimestampTz since;

	dsocr_stats_read(DSOCR_STATS_NOWHERE, &s, &since);
	for (int i = 0; i < n; i++)
	{
		Row row = {.n = 0};

		if (!all && (!OidIsValid(roles[i].role) || !has_privs_of_role(GetUserId(), roles[i].role)))
			continue;
		if (OidIsValid(roles[i].role))
			put(&row, ObjectIdGetDatum(roles[i].role));
		else
			put_null(&row);
		put(&row, Int64GetDatum(roles[i].pages));
		put(&row, Int64GetDatum(roles[i].cache_hits));
		put(&row, Int64GetDatum(roles[i].image_tokens));
		put(&row, Int64GetDatum(roles[i].text_tokens));
		put(&row, Float8GetDatum(roles[i].device_us / 1e6));
		put(&row, TimestampTzGetDatum(since));
		end_row(rsinfo, &row);
	}
	return (Datum) 0;
}
