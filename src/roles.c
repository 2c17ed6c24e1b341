/*-------------------------------------------------------------------------
 *
 * roles.c
 *		What roles use, and whose turn it is.
 *
 * The time of a device is divided among the requests it works on: its clock
 * runs at the speed 1 / (requests in work), and a request has used what the
 * clock went on by.
 *
 * Turns are start-time fair queueing over that time.  The turn of a role is what
 * its requests took, divided by its weight.  What its requests in work will take
 * is not known, so each is charged with the mean until it ends: at the engines
 * those in work, in the line for slots all that have one.  The role with the
 * smallest sum goes first.  The virtual time is the turn of the role that was
 * picked last, and nobody who asks lies behind it: who was away has saved up
 * nothing.
 *
 * Nothing of that is kept in a request: a mean that was wrong once would decide
 * about all requests that were waiting then.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "roles.h"

#include <math.h>

#include "utils/timestamp.h"

/* The last entry is for all who find no other. */
#define OTHERS (DSOCR_MAX_ROLES - 1)

/* What a request takes is a mean in which each counts for one of so many. */
#define COST_WEIGHT 16

int
dsocr_role_share(Oid role)
{
	for (int i = 0; i < OTHERS; i++)
	{
		if (dsocr_shared->roles[i].role == InvalidOid)
			dsocr_shared->roles[i].role = role;
		if (dsocr_shared->roles[i].role == role)
			return i;
	}
	return OTHERS;
}

static double
turn_of(const DsocrRole *r)
{
	return Max(r->turn, dsocr_shared->turn - r->charged_in_work);
}

double
dsocr_role_turn(int share)
{
	const DsocrRole *r = &dsocr_shared->roles[share];

	return turn_of(r) + r->charged;
}

double
dsocr_role_start(const DsocrSlot *slot)
{
	const DsocrRole *r = &dsocr_shared->roles[slot->share];

	return Min(r->turn + r->charged_in_work, slot->tag);
}

static void
charge(DsocrSlot *slot)
{
	if (slot->request.kind == DSOCR_READ)
		slot->charge = dsocr_shared->cost / Max(slot->weight, 1);
	dsocr_shared->roles[slot->share].charged += slot->charge;
}

void
dsocr_role_admit(DsocrSlot *slot)
{
	DsocrRole *r = &dsocr_shared->roles[slot->share];

	r->turn = turn_of(r);
	slot->tag = INFINITY;
	charge(slot);
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
	DsocrRole *r = &dsocr_shared->roles[slot->share];
	DsocrDevice *d = &dsocr_shared->devices[slot->device];

	if (slot->request.kind != DSOCR_READ)
		return;
	advance_clock(d);
	d->in_work++;
	slot->clock = d->clock;
	slot->in_work = true;
	dsocr_shared->turn = Max(dsocr_shared->turn, Min(r->turn, slot->tag));
	if (slot->charge == 0)
		charge(slot); /* an engine died on it */
	r->charged_in_work += slot->charge;
}

void
dsocr_role_end_work(DsocrSlot *slot)
{
	DsocrRole *r = &dsocr_shared->roles[slot->share];
	DsocrDevice *d;
	double used;

	/* what was charged in advance is given back, and what was used is charged */
	r->charged -= slot->charge;
	if (slot->in_work)
		r->charged_in_work -= slot->charge;
	slot->charge = 0;
	if (!slot->in_work)
		return;
	d = &dsocr_shared->devices[slot->device];
	advance_clock(d);
	d->in_work--;
	slot->in_work = false;
	used = d->clock - slot->clock;
	r->device_us += used;
	r->turn += used / Max(slot->weight, 1);
	dsocr_shared->cost += (used - dsocr_shared->cost) / COST_WEIGHT;
}

static void
count_page(DsocrRole *r, const DsocrResult *result)
{
	r->pages++;
	r->image_tokens += result->image_tokens;
	r->text_tokens += result->text_tokens;
}

void
dsocr_role_count(int share, const DsocrResult *result)
{
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	count_page(&dsocr_shared->roles[share], result);
	LWLockRelease(dsocr_queue_lock);
}

void
dsocr_role_count_cached(Oid role)
{
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	dsocr_shared->roles[dsocr_role_share(role)].cache_hits++;
	LWLockRelease(dsocr_queue_lock);
}

void
dsocr_role_count_remote(Oid role, const DsocrResult *result, double device_us)
{
	DsocrRole *r;

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	r = &dsocr_shared->roles[dsocr_role_share(role)];
	r->device_us += device_us;
	if (result != NULL)
		count_page(r, result);
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
