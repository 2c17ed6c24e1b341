/*-------------------------------------------------------------------------
 *
 * status_requests.c
 *		The function behind the view dsocr.requests.
 *
 * Everything is copied out of shared memory first and turned into rows after
 * the lock was released.  Like pg_stat_activity, requests of other roles show
 * who and what only to members of pg_read_all_stats.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "shmem.h"
#include "view_row.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(dsocr_requests);

#define REQUESTS_COLUMNS 17

static const char *const slot_states[] = {"free", "filling", "queued",	  "running",
										  "done", "failed",	 "cancelled", "freeing"};

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
put_pages(DsocrViewRow *row, const DsocrSlot *slot)
{
	const DsocrRequest *r = &slot->request;

	dsocr_view_number(row, r->kind == DSOCR_DOCUMENT ? 0 : r->page);
	dsocr_view_number(row, r->kind == DSOCR_DOCUMENT ? slot->progress.pages : r->max_pages);
}

static void
put_age(DsocrViewRow *row, TimestampTz since)
{
	Interval *age = palloc0(sizeof(Interval));

	age->time = Max(GetCurrentTimestamp() - since, 0);
	dsocr_view_put(row, IntervalPGetDatum(age));
}

static void
put_who(DsocrViewRow *row, int pid, Oid role, Oid database, bool visible)
{
	if (visible)
	{
		dsocr_view_number(row, pid);
		dsocr_view_put(row, ObjectIdGetDatum(role));
		dsocr_view_put(row, ObjectIdGetDatum(database));
		return;
	}
	for (int i = 0; i < 3; i++)
		dsocr_view_null(row);
}

static void
put_what(DsocrViewRow *row, const DsocrSlot *slot, bool visible)
{
	if (visible && slot->state != DSOCR_SLOT_FILLING)
	{
		dsocr_view_text(row, task_name(&slot->request));
		dsocr_view_text(row, mode_name(&slot->request));
		put_pages(row, slot);
		return;
	}
	for (int i = 0; i < 4; i++)
		dsocr_view_null(row);
}

static void
put_request(DsocrViewRow *row, int index, const DsocrSlot *slot, bool visible)
{
	dsocr_view_put(row, Int32GetDatum(index));
	put_who(row, slot->owner_pid, slot->role, slot->database, visible);
	dsocr_view_text(row, state_name(slot));
	put_what(row, slot, visible);
	dsocr_view_text(row, slot->device >= 0 ? dsocr_shared->devices[slot->device].name : "");
	dsocr_view_put(row, Int32GetDatum(slot->progress.views_done));
	dsocr_view_put(row, Int32GetDatum(slot->progress.views));
	dsocr_view_put(row, Int32GetDatum(slot->progress.image_tokens));
	dsocr_view_put(row, Int32GetDatum(slot->progress.text_tokens));
	put_age(row, slot->submitted);
	dsocr_view_put(row, Int32GetDatum(slot->attempts));
	dsocr_view_null(row);
}

/*
 * A session that waits for the request of another.  What they ask for is the
 * same, but whose request it is may not be for everybody who sees the session.
 */
static void
put_join(DsocrViewRow *row, const DsocrJoin *join, const DsocrSlot *slot, bool visible,
		 bool owner_visible)
{
	if (visible && owner_visible)
		dsocr_view_put(row, Int32GetDatum(join->slot));
	else
		dsocr_view_null(row);
	put_who(row, join->pid, join->role, join->database, visible);
	dsocr_view_text(row, "joined");
	put_what(row, slot, visible);
	/* device, progress */
	for (int i = 0; i < 5; i++)
		dsocr_view_null(row);
	put_age(row, join->since);
	dsocr_view_null(row);
	dsocr_view_number(row, visible && owner_visible ? slot->owner_pid : 0);
}

static void
put_joins(ReturnSetInfo *rsinfo, const DsocrJoin *joins, int n, const DsocrSlot *slots,
		  bool sees_all)
{
	for (int i = 0; i < n; i++)
	{
		const DsocrSlot *slot = &slots[joins[i].slot];
		DsocrViewRow row = {.n = 0};

		put_join(&row, &joins[i], slot, sees_all || has_privs_of_role(GetUserId(), joins[i].role),
				 sees_all || has_privs_of_role(GetUserId(), slot->role));
		dsocr_view_end_row(rsinfo, &row);
	}
}

/*
 * dsocr_requests(slot int4, pid int4, role oid, database oid, state text,
 *   task text, mode text, page int4, pages int4, device text,
 *   views_done int4, views int4, image_tokens int4, text_tokens int4, age interval, attempts int4,
 *   waits_for int4)
 */
Datum
dsocr_requests(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = dsocr_view_begin(fcinfo, REQUESTS_COLUMNS);
	bool sees_all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	Size size = sizeof(DsocrSlot) * dsocr_shared->n_slots;
	DsocrSlot *copy = palloc(size);
	DsocrJoin *joins = palloc(sizeof(DsocrJoin) * dsocr_shared->n_waiters);
	int n_joins = 0;

	/* exclusively: each process writes of whom it waits for while it holds the lock shared */
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	memcpy(copy, dsocr_slots, size);
	for (int i = 0; i < dsocr_shared->n_waiters; i++)
	{
		const DsocrJoin *join = &dsocr_waiters[i].join;

		if (join->generation != 0 && copy[join->slot].generation == join->generation &&
			copy[join->slot].state != DSOCR_SLOT_FREE)
			joins[n_joins++] = *join;
	}
	LWLockRelease(dsocr_queue_lock);

	for (int i = 0; i < dsocr_shared->n_slots; i++)
	{
		DsocrViewRow row = {.n = 0};

		if (copy[i].state == DSOCR_SLOT_FREE)
			continue;
		put_request(&row, i, &copy[i], sees_all || has_privs_of_role(GetUserId(), copy[i].role));
		dsocr_view_end_row(rsinfo, &row);
	}
	put_joins(rsinfo, joins, n_joins, copy, sees_all);
	return (Datum) 0;
}
