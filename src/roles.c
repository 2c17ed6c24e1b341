/*-------------------------------------------------------------------------
 *
 * roles.c
 *		What roles use, and whose turn it is.
 *
 * Turns are start-time fair queueing: a role's turn advances by 1 / weight with
 * each request, and never lies behind the virtual time, which is the turn of
 * the request that was picked last.  So who was away has saved up nothing.
 *
 * The time of a device is divided among the requests it works on: its clock
 * runs at the speed 1 / (requests in work), and a request has used what the
 * clock went on by.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "roles.h"

#include "utils/timestamp.h"

static DsocrRole *
find_role(Oid role)
{
	for (int i = 0; i < DSOCR_MAX_ROLES - 1; i++)
	{
		if (dsocr_shared->roles[i].role == role || dsocr_shared->roles[i].role == InvalidOid)
			return &dsocr_shared->roles[i];
	}
	return &dsocr_shared->roles[DSOCR_MAX_ROLES - 1];
}

DsocrRole *
dsocr_role_entry(Oid role)
{
	DsocrRole *r = find_role(role);

	if (r->role == InvalidOid && r != &dsocr_shared->roles[DSOCR_MAX_ROLES - 1])
		r->role = role;
	return r;
}

double
dsocr_role_turn(Oid role)
{
	return Max(find_role(role)->turn, dsocr_shared->turn);
}

double
dsocr_role_line_turn(Oid role)
{
	return Max(find_role(role)->line_turn, dsocr_shared->line_turn);
}

void
dsocr_role_picked(Oid role, int weight)
{
	dsocr_shared->turn = dsocr_role_turn(role);
	dsocr_role_entry(role)->turn = dsocr_shared->turn + 1.0 / Max(weight, 1);
}

void
dsocr_role_left_line(Oid role, int weight)
{
	dsocr_shared->line_turn = dsocr_role_line_turn(role);
	dsocr_role_entry(role)->line_turn = dsocr_shared->line_turn + 1.0 / Max(weight, 1);
	dsocr_shared->line_picks++;
}

static void
advance_clock(DsocrDevice *d)
{
	TimestampTz now = GetCurrentTimestamp();

	if (d->in_work > 0 && now > d->clock_at)
		d->clock += (double) (now - d->clock_at) / d->in_work;
	d->clock_at = now;
}

void
dsocr_role_begin_work(DsocrSlot *slot)
{
	DsocrDevice *d = &dsocr_shared->devices[slot->device];

	if (slot->request.kind != DSOCR_READ)
		return;
	advance_clock(d);
	d->in_work++;
	slot->clock = d->clock;
	slot->in_work = true;
}

void
dsocr_role_end_work(DsocrSlot *slot)
{
	DsocrDevice *d;

	if (!slot->in_work)
		return;
	d = &dsocr_shared->devices[slot->device];
	advance_clock(d);
	d->in_work--;
	dsocr_role_entry(slot->role)->device_us += d->clock - slot->clock;
	slot->in_work = false;
}

void
dsocr_role_count(Oid role, const DsocrResult *result)
{
	DsocrRole *r;

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	r = dsocr_role_entry(role);
	r->pages++;
	r->image_tokens += result->image_tokens;
	r->text_tokens += result->text_tokens;
	LWLockRelease(dsocr_queue_lock);
}

void
dsocr_role_count_cached(Oid role)
{
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	dsocr_role_entry(role)->cache_hits++;
	LWLockRelease(dsocr_queue_lock);
}

int
dsocr_roles_read(DsocrRole copy[DSOCR_MAX_ROLES])
{
	int n = 0;

	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	for (int i = 0; i < DSOCR_MAX_ROLES; i++)
	{
		const DsocrRole *r = &dsocr_shared->roles[i];

		if (r->pages > 0 || r->cache_hits > 0 || r->device_us > 0)
			copy[n++] = *r;
	}
	LWLockRelease(dsocr_queue_lock);
	return n;
}

void
dsocr_roles_reset(void)
{
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	for (int i = 0; i < DSOCR_MAX_ROLES; i++)
	{
		DsocrRole *r = &dsocr_shared->roles[i];

		r->pages = r->cache_hits = r->image_tokens = r->text_tokens = 0;
		r->device_us = 0;
	}
	LWLockRelease(dsocr_queue_lock);
}
