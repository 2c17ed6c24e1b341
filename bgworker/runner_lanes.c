/*-------------------------------------------------------------------------
 *
 * runner_lanes.c
 *		Where jobs may be that this process has not seen.
 *
 * Jobs of one priority and one role stand in a lane.  For each lane there are
 * ranges of ids that have not been seen: all of them when the process begins,
 * later those that transactions publish when they commit.  Which lanes there
 * are is published, too; where it was not, they are looked for by jumping from
 * one to the next in the index.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner.h"
#include "runner_order.h"

#include "catalog/pg_type.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A session for another host is not told of new lanes; looking may take one part of so many of its time. */
#define LANES_PAUSE_MS 1000
#define LANES_PART 20

/* ---- ranges ---- */

static void
ranges_add(DsocrRanges *ranges, int64 first, int64 last)
{
	DsocrJobRange sorted[DSOCR_RUNNER_RANGES + 1];
	int n = 0;
	bool placed = false;

	for (int i = 0; i < ranges->n; i++)
	{
		DsocrJobRange r = ranges->range[i];

		if (!placed && first < r.first)
		{
			sorted[n++] = (DsocrJobRange){first, last};
			placed = true;
		}
		sorted[n++] = r;
	}
	if (!placed)
		sorted[n++] = (DsocrJobRange){first, last};

	/* Join what overlaps or touches; the nearest two when there are too many. */
	ranges->n = 0;
	for (int i = 0; i < n; i++)
	{
		DsocrJobRange *before = ranges->n > 0 ? &ranges->range[ranges->n - 1] : NULL;

		if (before != NULL &&
			(sorted[i].first - 1 <= before->last || ranges->n == DSOCR_RUNNER_RANGES))
			before->last = Max(before->last, sorted[i].last);
		else
			ranges->range[ranges->n++] = sorted[i];
	}
}

static void
ranges_seen(DsocrRanges *ranges, int64 up_to, bool done)
{
	if (!done)
	{
		ranges->range[0].first = up_to + 1;
		done = ranges->range[0].first > ranges->range[0].last;
	}
	if (done)
	{
		ranges->n--;
		memmove(&ranges->range[0], &ranges->range[1], sizeof(DsocrJobRange) * ranges->n);
	}
}

/* ---- lanes ---- */

void
dsocr_runner_init(DsocrRunner *r)
{
	HASHCTL control = {
		.keysize = sizeof(Oid), .entrysize = sizeof(DsocrRunnerRole), .hcxt = r->context};

	r->roles =
		hash_create("dsocr roles of jobs", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&r->role_list);
	dsocr_job_range_clear(&r->anywhere);
}

static DsocrRunnerRole *
role_of(DsocrRunner *r, int64 lane)
{
	Oid owner = dsocr_job_lane_owner(lane);
	bool found;
	DsocrRunnerRole *role = hash_search(r->roles, &owner, HASH_ENTER, &found);

	if (!found)
	{
		memset(role, 0, sizeof(*role));
		role->role = owner;
		role->entry = -1;
		role->share = (DsocrRunnerShare){.role = owner, .weight = 1};
		dlist_push_tail(&r->role_list, &role->node);
	}
	return role;
}

void
dsocr_runner_add_unseen(DsocrRunner *r, int64 lane, int64 first, int64 last)
{
	DsocrRanges **unseen = &role_of(r, lane)->unseen[dsocr_job_lane_priority(lane)];

	if (first > last)
		return;
	if (*unseen == NULL)
	{
		*unseen = MemoryContextAllocZero(r->context, sizeof(DsocrRanges));
		r->n_lanes[dsocr_job_lane_priority(lane)]++;
	}
	ranges_add(*unseen, first, last);
	r->held_until = 0;
}

void
dsocr_runner_seen(DsocrRunner *r, int64 lane, int64 up_to, bool done)
{
	DsocrRunnerRole *role = role_of(r, lane);
	int priority = dsocr_job_lane_priority(lane);
	DsocrRanges *unseen = role->unseen[priority];

	role->seen_up_to[priority] = Max(role->seen_up_to[priority], up_to);
	ranges_seen(unseen, up_to, done);
	if (unseen->n > 0)
		return;
	pfree(unseen);
	role->unseen[priority] = NULL;
	r->n_lanes[priority]--;
}

void
dsocr_runner_look_within(DsocrRunner *r, DsocrJobRange range)
{
	dsocr_job_range_add(&r->anywhere, range.first, range.last);
	r->held_until = 0;
}

void
dsocr_runner_look_everywhere(DsocrRunner *r)
{
	dsocr_runner_look_within(r, (DsocrJobRange){1, PG_INT64_MAX});
}

bool
dsocr_runner_has_unseen(const DsocrRunner *r)
{
	for (int i = 0; i < DSOCR_JOB_PRIORITIES; i++)
	{
		if (r->n_lanes[i] > 0)
			return true;
	}
	return !dsocr_job_range_is_empty(&r->anywhere);
}

bool
dsocr_runner_has_lane(const DsocrRunnerRole *role)
{
	for (int p = 0; p < DSOCR_JOB_PRIORITIES; p++)
	{
		if (role->unseen[p] != NULL)
			return true;
	}
	return false;
}

/* ---- looking for lanes ---- */

static DsocrStatement select_lane = {"SELECT " DSOCR_ORDER_LANE " FROM dsocr.job_queue AS q"
									 " WHERE " DSOCR_ORDER_LANE " OPERATOR(pg_catalog.>) $1"
									 " ORDER BY " DSOCR_ORDER_LANE " LIMIT 1",
									 1,
									 {INT8OID},
									 NULL};

/* What lies in it behind all that was seen there; the rest is looked at now and then. */
static void
add_newer(DsocrRunner *r, int64 lane)
{
	DsocrRunnerRole *role = role_of(r, lane);
	int priority = dsocr_job_lane_priority(lane);

	if (role->unseen[priority] == NULL)
		dsocr_runner_add_unseen(r, lane, role->seen_up_to[priority] + 1, PG_INT64_MAX);
}

void
dsocr_runner_find_lanes(DsocrRunner *r)
{
	TimestampTz begin = GetCurrentTimestamp();
	DsocrJobRange range = r->anywhere;
	bool newer = r->remote && begin >= r->next_lanes;
	int64 lane = -1;

	if (dsocr_job_range_is_empty(&range) && !newer)
		return;
	for (;;)
	{
		Datum values[] = {Int64GetDatum(lane)};
		bool isnull;

		dsocr_jobs_execute(&select_lane, values, NULL, true);
		if (SPI_processed == 0)
			break;
		lane =
			DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		SPI_freetuptable(SPI_tuptable);
		dsocr_runner_add_unseen(r, lane, range.first, range.last);
		if (newer)
			add_newer(r, lane);
	}
	dsocr_job_range_clear(&r->anywhere);
	r->next_lanes = TimestampTzPlusMilliseconds(
		begin, LANES_PAUSE_MS + (GetCurrentTimestamp() - begin) / 1000 * LANES_PART);
}
