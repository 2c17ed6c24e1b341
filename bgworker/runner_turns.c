/*-------------------------------------------------------------------------
 *
 * runner_turns.c
 *		Whose job is next, among jobs of one priority.
 *
 * The role whose turn comes first, as the engines count it (src/roles.c), with
 * jobs that have no slot yet charged with the mean, too.  What a job takes of
 * this process is charged on top: roles whose jobs need no engine, because
 * their answers are kept, take turns as well.  That and a virtual time of its
 * own are this process's, since the server's must not run ahead for a database
 * whose jobs leave the engines alone.  A session for another host has that
 * part only: the engine there works for nobody else.
 *
 * A role at its limit is passed over.  What its jobs hold counts for nothing
 * here while they cannot go on, and a few places are for roles that hold none:
 * long documents of one role make nobody wait for their end.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner.h"

#include "miscadmin.h"
#include "roles.h"
#include "shmem.h"
#include "utils/timestamp.h"

#define JOB_US 100.0	 /* what each job costs its role at least */
#define COST_WEIGHT 16	 /* a mean in which each job counts for one of so many */
#define PLACES_FOR_NEW 8 /* of so many places, one more is for roles that hold none */
#define BYTES_FOR_NEW 2	 /* so many times the bytes are for them */
#define UNLIMITED INT_MAX

/* ---- places ---- */

/* Readings that are in the way of others: those that cannot go on are not. */
static int
places_used(DsocrRunner *r)
{
	int used = 0;
	dlist_iter iter;

	dlist_foreach (iter, &r->role_list)
	{
		const DsocrRunnerRole *role = dlist_container(DsocrRunnerRole, node, iter.cur);

		used += Min(role->n_jobs, role->allowed);
	}
	return used;
}

static int
places_for_new(const DsocrRunner *r)
{
	return Max(1, r->max_reading / PLACES_FOR_NEW);
}

bool
dsocr_runner_is_full(const DsocrRunner *r, bool is_new)
{
	return r->bytes / (is_new ? BYTES_FOR_NEW : 1) >= r->max_bytes;
}

bool
dsocr_runner_may_claim(DsocrRunner *r)
{
	int used;
	dlist_iter iter;

	if (!dsocr_runner_has_unseen(r) ||
		(r->held_until != 0 && GetCurrentTimestamp() < r->held_until))
		return false;
	used = places_used(r);
	/* with one at its limit, the places may be used by what cannot go on */
	if ((used < r->max_reading || r->limited) && !dsocr_runner_is_full(r, false))
		return true;
	if (used >= r->max_reading + places_for_new(r) || dsocr_runner_is_full(r, true))
		return false;
	if (!dsocr_job_range_is_empty(&r->anywhere))
		return true;
	dlist_foreach (iter, &r->role_list)
	{
		const DsocrRunnerRole *role = dlist_container(DsocrRunnerRole, node, iter.cur);

		if (role->n_jobs == 0 && dsocr_runner_has_lane(role))
			return true;
	}
	return false;
}

/* ---- what roles have used, and may have ---- */

/* Turns as of now, and who has which slots. */
static void
look_at_slots(DsocrRunner *r)
{
	dlist_iter iter;

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	dlist_foreach (iter, &r->role_list)
	{
		DsocrRunnerRole *role = dlist_container(DsocrRunnerRole, node, iter.cur);

		if (role->n_jobs == 0 && !dsocr_runner_has_lane(role))
			continue;
		if (role->entry < 0)
			role->entry = dsocr_role_share(role->role);
		role->charged = dsocr_shared->roles[role->entry].charged;
		role->turn = dsocr_role_turn(role->entry) - role->charged;
	}
	for (int i = 0; i < dsocr_shared->n_slots; i++)
	{
		const DsocrSlot *slot = &dsocr_slots[i];
		DsocrRunnerRole *role;

		if (slot->state == DSOCR_SLOT_FREE || slot->request.kind == DSOCR_DOCUMENT ||
			(role = hash_search(r->roles, &slot->role, HASH_FIND, NULL)) == NULL)
			continue;
		if (slot->owner_pid == MyProcPid)
			role->in_slots++;
		else if (role->allowed != UNLIMITED)
			role->allowed = Max(role->allowed - 1, 0);
	}
	LWLockRelease(dsocr_queue_lock);
}

void
dsocr_runner_look_at_roles(DsocrRunner *r)
{
	dlist_iter iter;

	dsocr_runner_look_up_shares(r);
	dlist_foreach (iter, &r->role_list)
	{
		DsocrRunnerRole *role = dlist_container(DsocrRunnerRole, node, iter.cur);

		role->allowed = role->share.max_requests > 0 ? role->share.max_requests : UNLIMITED;
		role->in_slots = 0;
		role->turn = role->charged = 0;
	}
	if (!r->remote)
		look_at_slots(r);
}

/* ---- turns ---- */

/* What its jobs that are claimed, or dealt out, are charged with in advance. */
static double
charged(const DsocrRunner *r, const DsocrRunnerRole *role)
{
	double cost = Max(r->remote ? r->cost : dsocr_shared->cost, JOB_US);
	int without_slot = Max(role->n_jobs - role->in_slots, 0) + role->quota;

	return role->charged + without_slot * cost / role->share.weight;
}

/* What it has used, and is charged with. */
static double
sum_of(const DsocrRunner *r, const DsocrRunnerRole *role)
{
	return role->turn + role->own_turn + charged(r, role);
}

/* Does a have its turn before b?  Nobody who asks lies behind the virtual time. */
static bool
goes_before(const DsocrRunner *r, const DsocrRunnerRole *a, const DsocrRunnerRole *b, int priority)
{
	double turn_a = Max(a->sum, r->turn);
	double turn_b;

	if (b == NULL)
		return true;
	turn_b = Max(b->sum, r->turn);
	if (turn_a != turn_b)
		return turn_a < turn_b;
	return a->unseen[priority]->range[0].first < b->unseen[priority]->range[0].first;
}

/* Its quota is one more.  Who was away has saved up nothing. */
static void
give_turn(DsocrRunner *r, DsocrRunnerRole *role)
{
	double in_advance = charged(r, role);

	role->own_turn = Max(role->sum, r->turn) - in_advance - role->turn;
	r->turn = Max(r->turn, role->turn + role->own_turn);
	role->quota++;
	role->sum = sum_of(r, role);
}

static DsocrRunnerRole *
next_role(DsocrRunner *r, int priority, bool only_new)
{
	DsocrRunnerRole *next = NULL;
	dlist_iter iter;

	dlist_foreach (iter, &r->role_list)
	{
		DsocrRunnerRole *role = dlist_container(DsocrRunnerRole, node, iter.cur);
		int has = role->n_jobs + role->quota;

		if (role->unseen[priority] != NULL && has < (only_new ? 1 : role->allowed) &&
			role->allowed > 0 && goes_before(r, role, next, priority))
			next = role;
	}
	return next;
}

int
dsocr_runner_deal(DsocrRunner *r, int priority, int n)
{
	int dealt = 0;
	int places = r->remote ? n : r->max_reading - places_used(r);
	int for_new = places_for_new(r) + Min(places, 0);
	dlist_iter iter;

	if (r->n_lanes[priority] == 0)
		return 0;
	if (dsocr_runner_is_full(r, false))
		places = 0;
	if (r->remote || dsocr_runner_is_full(r, true))
		for_new = 0;
	dlist_foreach (iter, &r->role_list)
	{
		DsocrRunnerRole *role = dlist_container(DsocrRunnerRole, node, iter.cur);

		role->quota = 0;
		role->sum = sum_of(r, role);
	}
	while (dealt < n && (places > 0 || for_new > 0))
	{
		bool only_new = places <= 0;
		DsocrRunnerRole *role = next_role(r, priority, only_new);

		if (role == NULL)
			break;
		give_turn(r, role);
		dealt++;
		if (only_new)
			for_new--;
		else
			places--;
	}
	return dealt;
}

void
dsocr_runner_count_look(DsocrRunnerRole *role)
{
	role->own_turn += JOB_US / role->share.weight;
	role->quota--;
}

void
dsocr_runner_count(DsocrRunnerRole *role, DsocrRunnerJob *job)
{
	job->counted = role;
	role->n_jobs++;
}

void
dsocr_runner_uncount(DsocrRunner *r, DsocrRunnerJob *job)
{
	if (job->counted == NULL)
		return;
	job->counted->n_jobs--;
	job->counted = NULL;
	r->held_until = 0;
}

void
dsocr_runner_count_used(DsocrRunner *r, DsocrRunnerJob *job, int64 device_us)
{
	r->cost += (device_us - r->cost) / COST_WEIGHT;
	if (job->counted != NULL)
		job->counted->own_turn += (double) device_us / job->counted->share.weight;
}
