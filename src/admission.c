/*-------------------------------------------------------------------------
 *
 * admission.c
 *		How a request gets its slot: at once, standing in line, or by joining
 *		one that is equal.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "admission.h"
#include "own_slots.h"
#include "roles.h"
#include "slots.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

/* Who stands in line looks around at least so often. */
#define WAIT_LIMIT_MS 5000

/* Reading ahead leaves one of so many slots, documents and bytes alone. */
#define READ_AHEAD_LEAVES 8

/* How often a session looks whether its role is below its limit again. */
#define ROLE_WAIT_MS 50

DSOCR_WAIT_EVENT(wait_event_slot, "DsocrSlot")

void (*dsocr_admit_collect)(void) = NULL;

/* What was refused since this process stood in line the last time, without waiting. */
static struct
{
	bool any;
	bool limited; /* something, because its role has reached its limit */
	DsocrAdmission what;
	Oid role;
} refused;

/* ---- time and memory ---- */

TimestampTz
dsocr_admit_later(TimestampTz from, int ms)
{
	return ms > 0 ? TimestampTzPlusMilliseconds(from, ms) : 0;
}

long
dsocr_admit_time_left(TimestampTz a, TimestampTz b, long limit)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = a == 0 ? b : (b == 0 ? a : Min(a, b));

	if (until == 0)
		return limit;
	return Min(TimestampDifferenceMilliseconds(now, until), limit);
}

void
dsocr_admit_raise_timeout(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED), errmsg("canceling request due to dsocr.timeout"),
			 errhint("The limit is %d ms. Raise dsocr.timeout, or ask for a smaller mode or "
					 "fewer tokens.",
					 dsocr_timeout)));
}

Size
dsocr_admit_payload(const DsocrRequest *r)
{
	size_t size = r->prompt ? strlen(r->prompt) + 1 : 0;

	if (r->image != NULL && !dsocr_add(size, r->image_len, &size))
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("image is too large")));
	return size;
}

static void
raise_not_admitted(const DsocrAdmission *a)
{
	if (a->no_memory)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("no room for an image of %zu bytes in the memory of the dsocr queue",
							   a->bytes),
						errhint("Try again when fewer requests are in flight, or raise "
								"dsocr.queue_memory (now %d MB).",
								dsocr_queue_memory / 1024)));
	ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					errmsg("all %d request slots of dsocr are in use", dsocr_shared->n_slots),
					errhint("Try again later, or raise dsocr.queue_timeout (now %d ms) or "
							"dsocr.max_requests.",
							dsocr_queue_timeout)));
}

DsocrAdmission
dsocr_admit_init(const DsocrRequest *request, const DsocrCacheKey *key)
{
	DsocrAdmission a = {.submitted = GetCurrentTimestamp()};
	size_t bytes = dsocr_admit_payload(request);

	if (!dsocr_add(bytes, request->room, &bytes))
		bytes = SIZE_MAX;
	if (key != NULL)
		a.key = *key;
	a.kind = request->kind;
	a.priority = request->priority;
	a.of_document = request->document != 0;
	a.bytes = bytes;
	a.give_up = dsocr_admit_later(a.submitted, dsocr_queue_timeout);
	a.deadline = dsocr_admit_later(a.submitted, dsocr_timeout);
	if (a.bytes > dsocr_shared->memory_limit)
	{
		a.no_memory = true;
		raise_not_admitted(&a);
	}
	return a;
}

/* ---- slots ---- */

/*
 * May this request have a slot now?  Sets no_memory.  What is read ahead
 * leaves an eighth of slots, documents and memory to those who need one to go
 * on: a session that reads ahead and then does something else (its client
 * fetches slowly, it waits for a parallel worker) stops nobody.
 */
static bool
has_room(DsocrAdmission *a)
{
	int n_slots = dsocr_shared->n_slots;
	int documents = dsocr_slot_documents_max();
	Size limit = dsocr_shared->memory_limit;

	if (!dsocr_line_first(dsocr_my_procno, dsocr_own_documents > 0) ||
		dsocr_shared->releases < a->after)
		return false;
	if (a->kind == DSOCR_DOCUMENT)
		n_slots -= DSOCR_SLOTS_TO_OPEN - 1;
	if (a->ahead)
	{
		n_slots -= Max(n_slots / READ_AHEAD_LEAVES, DSOCR_SLOTS_TO_OPEN);
		documents -= Max(documents / READ_AHEAD_LEAVES, 1);
		limit -= limit / READ_AHEAD_LEAVES;
	}
	if (dsocr_shared->n_slots - dsocr_shared->n_free >= n_slots)
		return false;
	if (a->kind == DSOCR_DOCUMENT && dsocr_shared->n_documents >= documents)
		return false;
	a->no_memory = a->bytes > limit - Min(dsocr_shared->memory_used, limit);
	return !a->no_memory;
}

/* Take a free slot, if it is our turn; queue lock held exclusively. */
static DsocrSlot *
take_slot(DsocrAdmission *a)
{
	if (!has_room(a))
		return NULL;
	for (int i = 0; i < dsocr_shared->n_slots; i++)
	{
		DsocrSlot *slot = &dsocr_slots[i];
		uint64 generation = slot->generation;

		if (slot->state != DSOCR_SLOT_FREE)
			continue;
		memset(slot, 0, sizeof(DsocrSlot));
		slot->state = DSOCR_SLOT_FILLING;
		slot->generation = generation;
		slot->owner_procno = dsocr_my_procno;
		slot->owner_pid = MyProcPid;
		slot->role = GetUserId();
		slot->share = dsocr_role_share(slot->role);
		slot->weight = dsocr_role_weight;
		slot->database = MyDatabaseId;
		slot->device = -1;
		slot->submitted = a->submitted;
		slot->deadline = a->deadline;
		slot->memory = a->bytes;
		slot->request.kind = a->kind;
		slot->key = a->key;
		dsocr_shared->memory_used += a->bytes;
		dsocr_shared->n_free--;
		dsocr_shared->n_documents += a->kind == DSOCR_DOCUMENT;
		dsocr_own_add(i);
		dsocr_role_admit(slot);
		dsocr_line_served(dsocr_my_procno);
		return slot;
	}
	return NULL;
}

static void
raise_role_limit(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("role has reached its limit of %d dsocr requests", dsocr_max_requests_per_role),
			 errhint("Wait until its other requests have ended, or raise "
					 "dsocr.max_requests_per_role.")));
}

/*
 * Is an equal request in flight?  Then wait for that one.  Who is in more of a
 * hurry, or whose turn comes earlier, takes it along.  Queue lock held exclusively.
 */
static bool
join(DsocrAdmission *a)
{
	for (int i = 0; a->join && i < dsocr_shared->n_slots; i++)
	{
		DsocrSlot *slot = &dsocr_slots[i];

		if ((slot->state != DSOCR_SLOT_FILLING && slot->state != DSOCR_SLOT_QUEUED &&
			 slot->state != DSOCR_SLOT_RUNNING) ||
			slot->key.model != a->key.model ||
			memcmp(slot->key.hash, a->key.hash, sizeof(a->key.hash)) != 0)
			continue;
		if (slot->state == DSOCR_SLOT_QUEUED)
			slot->request.priority = Min(slot->request.priority, a->priority);
		slot->tag = Min(slot->tag, dsocr_role_turn(dsocr_role_share(GetUserId())));
		slot->joined = true;
		dsocr_waiters[dsocr_my_procno].joined |= UINT64CONST(1) << i % 64;
		a->joined.slot = i;
		a->joined.generation = slot->generation;
		a->joined.joined = true;
		a->joined.since = a->submitted;
		return true;
	}
	return false;
}

/*
 * Whose turn it is may have changed since we were woken: then wake the one.
 * Not ourselves, who go first and find no memory.
 */
static void
stand_in_line(const DsocrAdmission *a)
{
	dsocr_line_enter(dsocr_my_procno, GetUserId(), a->priority, a->kind == DSOCR_DOCUMENT,
					 dsocr_own_documents > 0);
	if (!dsocr_line_first(dsocr_my_procno, dsocr_own_documents > 0))
		dsocr_line_wake();
}

/*
 * A role at its limit is told so at once, but not in the middle of a document.
 */
DsocrSlot *
dsocr_admit_wait(DsocrAdmission *a)
{
	for (;;)
	{
		DsocrSlot *slot;
		bool limited;
		bool joined;

		LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
		joined = join(a);
		limited = !joined && dsocr_slot_role_is_full(GetUserId(), a->kind);
		slot = limited || joined ? NULL : take_slot(a);
		dsocr_own_in_line = slot == NULL && !limited && !joined;
		if (dsocr_own_in_line)
			stand_in_line(a);
		else
			dsocr_line_leave(dsocr_my_procno);
		LWLockRelease(dsocr_queue_lock);

		if (slot != NULL || joined)
			return slot;
		if (limited && !a->of_document)
			raise_role_limit();
		if (a->deadline != 0 && GetCurrentTimestamp() >= a->deadline)
			dsocr_admit_raise_timeout();
		if (a->give_up != 0 && GetCurrentTimestamp() >= a->give_up)
		{
			if (limited)
				raise_role_limit();
			raise_not_admitted(a);
		}

		(void) WaitLatch(
			MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
			dsocr_admit_time_left(a->give_up, a->deadline, limited ? ROLE_WAIT_MS : WAIT_LIMIT_MS),
			wait_event_slot());
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (dsocr_admit_collect != NULL && dsocr_own_count > dsocr_own_documents)
			dsocr_admit_collect();
		if (a->key.model != 0 && dsocr_cache_has(&a->key))
		{
			/* it has come and gone: joined to a request that has ended */
			dsocr_own_leave_line();
			a->joined = (DsocrHandle){.joined = true};
			return NULL;
		}
	}
}

/* Is this more than the backend needs to go on? */
static bool
is_ahead(DsocrRequestKind kind)
{
	return dsocr_own_count > dsocr_own_documents ||
		   (kind == DSOCR_DOCUMENT && dsocr_own_documents > 0);
}

/* ---- for who never waits ---- */

/*
 * To be refused because something is asked for ahead is nothing to stand in
 * line for: what is in flight goes on.  Queue lock held.
 */
static void
note_refusal(const DsocrAdmission *a, bool limited)
{
	if (limited)
		refused.limited = true;
	else if (!refused.any && (!a->ahead || dsocr_shared->n_free == 0 ||
							  !dsocr_line_first(dsocr_my_procno, dsocr_own_documents > 0)))
	{
		refused.any = true;
		refused.what = *a;
		refused.role = GetUserId();
	}
}

/* Its turn has come, or may come. */
static bool
stands(void)
{
	return dsocr_own_stands && !dsocr_waiters[dsocr_my_procno].away;
}

DsocrSlot *
dsocr_admit_try(DsocrAdmission *a)
{
	DsocrSlot *slot = NULL;

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	a->ahead = is_ahead(a->kind) && !stands();
	if (!join(a))
	{
		bool limited = dsocr_slot_role_is_full(GetUserId(), a->kind);

		slot = limited ? NULL : take_slot(a);
		if (slot == NULL)
			note_refusal(a, limited);
		else if (dsocr_own_stands)
		{
			dsocr_line_leave(dsocr_my_procno);
			dsocr_own_stands = false;
		}
	}
	LWLockRelease(dsocr_queue_lock);
	return slot;
}

bool
dsocr_admit_has_room(DsocrRequestKind kind, DsocrPriority priority, Size bytes)
{
	DsocrAdmission a = {.kind = kind, .priority = priority, .bytes = bytes};
	bool limited;
	bool room;

	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	a.ahead = is_ahead(kind) && !stands();
	limited = dsocr_slot_role_is_full(GetUserId(), kind);
	room = !limited && has_room(&a);
	if (!room)
		note_refusal(&a, limited);
	LWLockRelease(dsocr_queue_lock);
	return room;
}

bool
dsocr_admit_stand(bool *limited)
{
	*limited = refused.limited;
	if (!refused.any && !dsocr_own_stands)
	{
		refused.limited = false;
		return false;
	}
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	if (refused.any)
	{
		dsocr_line_enter(dsocr_my_procno, refused.role, refused.what.priority,
						 refused.what.kind == DSOCR_DOCUMENT, dsocr_own_documents > 0);
		refused.what.ahead = false;
		if (has_room(&refused.what))
			SetLatch(MyLatch);
	}
	else
		dsocr_line_leave(dsocr_my_procno);
	dsocr_own_stands = refused.any;
	LWLockRelease(dsocr_queue_lock);
	memset(&refused, 0, sizeof(refused));
	return dsocr_own_stands;
}

void
dsocr_admit_step_aside(void)
{
	if (!dsocr_own_stands)
		return;
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	dsocr_line_step_aside(dsocr_my_procno);
	LWLockRelease(dsocr_queue_lock);
}
