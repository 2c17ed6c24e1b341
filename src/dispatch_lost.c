/*-------------------------------------------------------------------------
 *
 * dispatch_lost.c
 *		What becomes of requests whose engine, worker or owner has gone.
 *
 * A request is handed back to the queue for another attempt, or fails where
 * another would not help or nobody is left to make it.  What the dead have
 * left in shared memory is freed.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "dispatch.h"
#include "dispatch_steps.h"
#include "roles.h"
#include "slots.h"
#include "stats.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

/* Why a slot whose engine has gone cannot be handed back; false: it can. */
static bool
is_lost(const DsocrSlot *slot, DsocrError *why)
{
	bool sent = slot->payload == DSM_HANDLE_INVALID;

	if (slot->request.kind == DSOCR_PAGE || (slot->request.kind == DSOCR_DOCUMENT && sent))
		dsocr_fail(why, DSOCR_E_ENGINE_LOST, "the page server died");
	else if (slot->attempts > 1)
		dsocr_fail(why, DSOCR_E_ENGINE_LOST,
				   slot->request.kind == DSOCR_DOCUMENT ? "the page server died twice"
														: "the engine died twice on this request");
	else
		return false;
	dsocr_hint(why, "Look for the reason in the server log; the image may be damaged, or memory "
					"may be short.");
	return true;
}

/*
 * Hand back a slot whose engine has gone; queue lock held on entry, released
 * on return.
 */
static void
return_slot(DsocrSlot *slot, DsocrBlame blame)
{
	int device = slot->device;
	bool cancelled = slot->state == DSOCR_SLOT_CANCELLED;
	bool failed = false;
	DsocrError lost = {0};

	if (cancelled)
		dsocr_slot_release(slot);
	else
	{
		if (blame != DSOCR_BLAME_NONE)
		{
			slot->attempts++;
			slot->died_alone = blame == DSOCR_BLAME_ALONE;
		}
		failed = is_lost(slot, &lost);
		if (failed)
			dsocr_dispatch_fail_slot(slot, &lost);
		else
		{
			slot->state = DSOCR_SLOT_QUEUED;
			slot->returned = GetCurrentTimestamp();
			dsocr_role_end_work(slot);
			slot->device = -1;
			slot->started = 0;
			memset(&slot->progress, 0, sizeof(slot->progress));
			dsocr_slot_wake_workers();
		}
		LWLockRelease(dsocr_queue_lock);
	}

	if (cancelled)
		dsocr_stats_cancelled(device);
	else if (failed)
		dsocr_stats_failed(device);
	else if (blame)
		dsocr_stats_retried(device);
}

/* Hand back all slots of a device; used where no list of them is at hand. */
static void
return_all(int device, bool blame)
{
	for (int i = 0; i < dsocr_shared->n_slots; i++)
	{
		DsocrSlot *slot = &dsocr_slots[i];

		LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
		if ((slot->state == DSOCR_SLOT_RUNNING || slot->state == DSOCR_SLOT_CANCELLED) &&
			slot->device == device)
			return_slot(slot, blame);
		else
			LWLockRelease(dsocr_queue_lock);
	}
}

void
dsocr_dispatch_attach(int device)
{
	DsocrDevice *d = &dsocr_shared->devices[device];

	/* Left by a worker that died without a chance to clean up. */
	return_all(device, true);

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	d->worker_pid = MyProcPid;
	d->worker_procno = dsocr_my_procno;
	d->worker_changed = GetCurrentTimestamp();
	LWLockRelease(dsocr_queue_lock);
}

void
dsocr_dispatch_detach(int device, bool blame)
{
	DsocrDevice *d = &dsocr_shared->devices[device];

	return_all(device, blame);
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	d->worker_pid = 0;
	d->worker_changed = GetCurrentTimestamp();
	d->state = DSOCR_DEVICE_STOPPED;
	d->refuses = false;
	d->engine_pid = 0;
	d->running = 0;
	LWLockRelease(dsocr_queue_lock);
}

void
dsocr_dispatch_return(DsocrHandle h, DsocrBlame blame)
{
	DsocrSlot *slot;

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	slot = dsocr_dispatch_slot(h);
	if (slot != NULL)
		return_slot(slot, blame);
	else
		LWLockRelease(dsocr_queue_lock);
}

void
dsocr_dispatch_refuse(int device)
{
	static const DsocrError gone = {.code = DSOCR_E_DEVICE, .message = "the engine has died"};
	static const DsocrError suspect = {.code = DSOCR_E_ENGINE_LOST,
									   .message = "the engine died on this request",
									   .hint = "Look for the reason in the server log."};
	const DsocrDevice *d = &dsocr_shared->devices[device];
	/* between the death of an engine and the reason for it */
	const DsocrError *why = d->error.code != DSOCR_OK ? &d->error : &gone;
	int failed = 0;
	bool all = true;

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	for (int i = 0; i < dsocr_shared->n_devices; i++)
		all = all && (dsocr_shared->devices[i].of_pages != d->of_pages ||
					  dsocr_shared->devices[i].refuses ||
					  dsocr_slot_abandoned(&dsocr_shared->devices[i], d->worker_changed));
	for (int i = 0; all && i < dsocr_shared->n_slots; i++)
	{
		if (dsocr_slots[i].state != DSOCR_SLOT_QUEUED ||
			dsocr_kind_is_of_pages(dsocr_slots[i].request.kind) != d->of_pages)
			continue;
		/* one that was not alone may be innocent */
		dsocr_dispatch_fail_slot(&dsocr_slots[i], dsocr_slots[i].died_alone ? &suspect : why);
		failed++;
	}
	LWLockRelease(dsocr_queue_lock);
	for (int i = 0; i < failed; i++)
		dsocr_stats_failed(DSOCR_STATS_NOWHERE);
}

void
dsocr_dispatch_sweep(void)
{
	for (int i = 0; i < dsocr_shared->n_slots; i++)
	{
		DsocrSlot *slot = &dsocr_slots[i];

		LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
		if (slot->owner_pid == 0 || slot->state == DSOCR_SLOT_FREE ||
			slot->state == DSOCR_SLOT_FREEING ||
			dsocr_slot_alive(slot->owner_procno, slot->owner_pid))
			LWLockRelease(dsocr_queue_lock);
		else if (slot->state == DSOCR_SLOT_RUNNING)
		{
			slot->state = DSOCR_SLOT_CANCELLED;
			slot->owner_pid = 0;
			dsocr_slot_wake_joined(slot);
			dsocr_slot_wake_workers();
			LWLockRelease(dsocr_queue_lock);
		}
		else
			dsocr_slot_release(slot);
	}

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	for (int i = 0; dsocr_shared->n_waiting > 0 && i < dsocr_shared->n_waiters; i++)
	{
		if (dsocr_waiters[i].ticket != 0 && !dsocr_slot_alive(i, dsocr_waiters[i].pid))
			dsocr_line_leave(i);
	}
	LWLockRelease(dsocr_queue_lock);
}
