/*-------------------------------------------------------------------------
 *
 * own_slots.c
 *		The slots of this backend, and how they end with it.
 *
 * Each is remembered with the subtransaction it was submitted in.  Transaction
 * callbacks and the exit callback give up what is left, so nothing leaks when
 * an error passes by.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "own_slots.h"
#include "slots.h"
#include "stats.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

DsocrOwnSlot *dsocr_own_slots = NULL;
int dsocr_own_count = 0;
int dsocr_own_documents = 0;
bool dsocr_own_in_line = false;
bool dsocr_own_stands = false;
bool dsocr_own_joined = false;

void
dsocr_own_give_up(int index)
{
	uint64 generation = dsocr_own_slots[index].generation;
	DsocrSlot *slot = &dsocr_slots[index];

	dsocr_own_slots[index].generation = 0;
	dsocr_own_count--;
	dsocr_own_documents -= dsocr_own_slots[index].document;

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	if (slot->generation != generation)
		LWLockRelease(dsocr_queue_lock); /* cannot happen */
	else if (slot->state == DSOCR_SLOT_RUNNING)
	{
		slot->state = DSOCR_SLOT_CANCELLED;
		slot->owner_pid = 0;
		dsocr_slot_wake_joined(slot);
		dsocr_slot_wake_workers();
		LWLockRelease(dsocr_queue_lock);
	}
	else
	{
		bool waited = slot->state == DSOCR_SLOT_QUEUED;

		dsocr_slot_release(slot);
		if (waited)
			dsocr_stats_cancelled(DSOCR_STATS_NOWHERE);
	}
}

void
dsocr_own_leave_line(void)
{
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	dsocr_line_leave(dsocr_my_procno);
	LWLockRelease(dsocr_queue_lock);
	dsocr_own_in_line = false;
}

/* Shared suffices for our own entry: who reads it holds the lock exclusively. */
void
dsocr_own_leave_joined(void)
{
	if (!dsocr_own_joined)
		return;
	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	dsocr_waiters[dsocr_my_procno].join = (DsocrJoin){0};
	LWLockRelease(dsocr_queue_lock);
	dsocr_own_joined = false;
}

static void
end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PARALLEL_PRE_COMMIT ||
		event == XACT_EVENT_PRE_PREPARE)
		return;
	if (dsocr_own_in_line)
		dsocr_own_leave_line();
	dsocr_own_leave_joined();
	for (int i = 0; dsocr_own_count > 0 && i < dsocr_shared->n_slots; i++)
	{
		if (dsocr_own_slots[i].generation != 0 &&
			dsocr_own_slots[i].subxid != InvalidSubTransactionId)
			dsocr_own_give_up(i);
	}
}

static void
end_of_subtransaction(SubXactEvent event, SubTransactionId subxid, SubTransactionId parent,
					  void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	if (dsocr_own_in_line && event == SUBXACT_EVENT_ABORT_SUB)
		dsocr_own_leave_line();
	dsocr_own_leave_joined();
	for (int i = 0; dsocr_own_count > 0 && i < dsocr_shared->n_slots; i++)
	{
		if (dsocr_own_slots[i].generation == 0 || dsocr_own_slots[i].subxid != subxid)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			dsocr_own_give_up(i);
		else
			dsocr_own_slots[i].subxid = parent;
	}
}

static void
end_of_backend(int code, Datum arg)
{
	if (dsocr_own_in_line || dsocr_own_stands)
		dsocr_own_leave_line();
	dsocr_own_leave_joined();
	for (int i = 0; dsocr_own_count > 0 && i < dsocr_shared->n_slots; i++)
	{
		if (dsocr_own_slots[i].generation != 0)
			dsocr_own_give_up(i);
	}
}

void
dsocr_own_prepare(void)
{
	dsocr_require_preload();
	if (dsocr_own_slots != NULL)
		return;
	dsocr_own_slots =
		MemoryContextAllocZero(TopMemoryContext, sizeof(DsocrOwnSlot) * dsocr_shared->n_slots);
	before_shmem_exit(end_of_backend, (Datum) 0);
	RegisterXactCallback(end_of_transaction, NULL);
	RegisterSubXactCallback(end_of_subtransaction, NULL);
}

/* A slot that was taken; its state is FILLING. */
void
dsocr_own_add(int index)
{
	DsocrOwnSlot *own = &dsocr_own_slots[index];

	own->generation = dsocr_slots[index].generation;
	own->document = dsocr_slots[index].request.kind == DSOCR_DOCUMENT;
	own->told = false;
	own->subxid = IsTransactionState() ? GetCurrentSubTransactionId() : InvalidSubTransactionId;
	dsocr_own_count++;
	dsocr_own_documents += own->document;
}
