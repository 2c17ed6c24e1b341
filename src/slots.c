/*-------------------------------------------------------------------------
 *
 * slots.c
 *		Steps on request slots that backends and workers have in common.
 *
 * Backends that find no free slot stand in line, in the order of class, turn of
 * the role and time.  Only the first in line may take one; whoever leaves the
 * line wakes the next, so one free slot wakes one process and no wake-up is
 * lost.  Turns change while somebody is being woken: who finds that another
 * one goes first wakes that one.
 *
 * An open document keeps its slot while its pages, which need slots too, are
 * read one after the other.  So that this cannot come to a halt, documents get
 * at most half of the slots, and never the last free one; and who waits in line
 * to open one must not stand before those who have one open: the place may
 * become free when they have read it to its end, and only then.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "payload.h"
#include "roles.h"
#include "slots.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

/* Longer than a worker that ended takes to come again. */
#define WORKER_ABSENT_MS 15000

void
dsocr_slot_wake(int procno)
{
	SetLatch(&GetPGProcByNumber(procno)->procLatch);
}

void
dsocr_slot_wake_joined(DsocrSlot *slot)
{
	uint64 bit = UINT64CONST(1) << (slot - dsocr_slots) % 64;

	for (int i = 0; slot->joined && i < dsocr_shared->n_waiters; i++)
	{
		if (dsocr_waiters[i].joined & bit)
			dsocr_slot_wake(i);
	}
	slot->joined = false;
}

void
dsocr_slot_wake_workers(void)
{
	for (int i = 0; i < dsocr_shared->n_devices; i++)
	{
		if (dsocr_shared->devices[i].worker_pid != 0)
			dsocr_slot_wake(dsocr_shared->devices[i].worker_procno);
	}
}

bool
dsocr_slot_abandoned(const DsocrDevice *d, TimestampTz since)
{
	return d->worker_pid == 0 &&
		   TimestampDifferenceExceeds(Max(since, d->worker_changed), GetCurrentTimestamp(),
									  WORKER_ABSENT_MS);
}

bool
dsocr_slot_alive(int procno, int pid)
{
	return GetPGProcByNumber(procno)->pid == pid;
}

/*
 * Memory is freed without the lock: the slot is FREEING meanwhile, which
 * nobody else touches.
 */
void
dsocr_slot_release(DsocrSlot *slot)
{
	dsm_handle payload = slot->payload;
	dsm_handle result = slot->result;

	Assert(LWLockHeldByMeInMode(dsocr_queue_lock, LW_EXCLUSIVE));
	Assert(slot->state != DSOCR_SLOT_FREE && slot->state != DSOCR_SLOT_FREEING);

	dsocr_slot_wake_joined(slot);
	dsocr_role_end_work(slot);
	slot->state = DSOCR_SLOT_FREEING;
	slot->generation++;
	slot->owner_pid = 0;
	slot->payload = DSM_HANDLE_INVALID;
	slot->result = DSM_HANDLE_INVALID;
	LWLockRelease(dsocr_queue_lock);

	dsocr_payload_free(payload);
	dsocr_payload_free(result);

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	slot->state = DSOCR_SLOT_FREE;
	dsocr_shared->memory_used -= slot->memory;
	slot->memory = 0;
	dsocr_shared->n_free++;
	dsocr_shared->n_documents -= slot->request.kind == DSOCR_DOCUMENT;
	dsocr_shared->releases++;
	dsocr_line_wake();
	LWLockRelease(dsocr_queue_lock);
}

int
dsocr_slot_documents_max(void)
{
	return dsocr_shared->n_slots / 2;
}

bool
dsocr_slot_role_is_full(Oid role, DsocrRequestKind kind)
{
	int used = 0;

	if (dsocr_max_requests_per_role == 0)
		return false;
	for (int i = 0; i < dsocr_shared->n_slots; i++)
	{
		const DsocrSlot *slot = &dsocr_slots[i];

		if (slot->state != DSOCR_SLOT_FREE && slot->role == role &&
			(slot->request.kind == DSOCR_DOCUMENT) == (kind == DSOCR_DOCUMENT))
			used++;
	}
	return used >= dsocr_max_requests_per_role;
}

void
dsocr_line_enter(int procno, Oid role, DsocrPriority priority, bool wants, bool holds)
{
	DsocrWaiter *waiter = &dsocr_waiters[procno];

	waiter->wants = wants;
	waiter->holds = holds;
	waiter->away = false;
	waiter->priority = priority;
	waiter->share = dsocr_role_share(role);
	if (waiter->ticket != 0)
		return;
	waiter->ticket = ++dsocr_shared->next_ticket;
	waiter->pid = MyProcPid;
	dsocr_shared->n_waiting++;
	dsocr_line_wake(); /* it may go before the one that was woken */
}

void
dsocr_line_leave(int procno)
{
	DsocrWaiter *waiter = &dsocr_waiters[procno];

	if (waiter->ticket == 0)
		return;
	waiter->ticket = 0;
	dsocr_shared->n_waiting--;
	dsocr_line_wake();
}

void
dsocr_line_served(int procno)
{
	dsocr_shared->line_picks += dsocr_waiters[procno].ticket != 0;
}

void
dsocr_line_step_aside(int procno)
{
	dsocr_waiters[procno].away = true;
	dsocr_line_wake();
}

/* Does a come before b? */
static bool
stands_before(const DsocrWaiter *a, const DsocrWaiter *b)
{
	if (a->priority != b->priority &&
		dsocr_shared->line_picks % DSOCR_LINE_ANY_CLASS != DSOCR_LINE_ANY_CLASS - 1)
		return a->priority < b->priority;
	if (a->share != b->share)
	{
		double turn_a = dsocr_role_turn(a->share);
		double turn_b = dsocr_role_turn(b->share);

		if (turn_a != turn_b)
			return turn_a < turn_b;
	}
	return a->ticket < b->ticket;
}

/* The first process of some kind, -1 when there is none. */
static int
first_waiting(bool with_wants, bool holders_alone)
{
	int head = -1;

	for (int i = 0; i < dsocr_shared->n_waiters; i++)
	{
		const DsocrWaiter *waiter = &dsocr_waiters[i];

		if (waiter->ticket == 0 || waiter->away || (waiter->wants && !with_wants) ||
			(!waiter->holds && holders_alone))
			continue;
		if (head < 0 || stands_before(waiter, &dsocr_waiters[head]))
			head = i;
	}
	return head;
}

/*
 * The number of the process whose turn it is, -1 when nobody waits for what
 * there is.  With stuck it is one that waits to open a document and finds one
 * slot: those who have one open go before it.
 */
static int
line_head(bool *stuck)
{
	bool full = dsocr_shared->n_documents >= dsocr_slot_documents_max();
	int head;
	int holder;

	*stuck = false;
	if (dsocr_shared->n_waiting == 0)
		return -1;
	head = first_waiting(!full, false);
	if (head < 0 || !dsocr_waiters[head].wants || dsocr_shared->n_free >= DSOCR_SLOTS_TO_OPEN)
		return head;
	holder = first_waiting(false, true);
	*stuck = holder < 0;
	return holder < 0 ? head : holder;
}

bool
dsocr_line_first(int procno, bool holds)
{
	bool stuck;
	int head = line_head(&stuck);

	return head < 0 || head == procno || (stuck && holds);
}

void
dsocr_line_wake(void)
{
	bool stuck;
	int head;

	if (dsocr_shared->n_free > 0 && (head = line_head(&stuck)) >= 0)
		dsocr_slot_wake(head);
}
