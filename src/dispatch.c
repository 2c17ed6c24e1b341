/*-------------------------------------------------------------------------
 *
 * dispatch.c
 *		The workers' side of the queue: take, report, finish.
 *
 * A RUNNING slot belongs to the worker of its device.  The owner can do one
 * thing to it: mark it CANCELLED, after which the worker frees it as soon as
 * the engine has let go.  Whatever the worker finds when it comes back to a
 * slot is therefore RUNNING or CANCELLED.  Requests whose engine has gone are
 * handed back in dispatch_lost.c.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "dispatch.h"
#include "dispatch_steps.h"
#include "payload.h"
#include "roles.h"
#include "slots.h"
#include "stats.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

DsocrSlot *
dsocr_dispatch_slot(DsocrHandle h)
{
	DsocrSlot *slot;

	if (h.slot < 0 || h.slot >= dsocr_shared->n_slots)
		return NULL;
	slot = &dsocr_slots[h.slot];
	if (slot->generation != h.generation ||
		(slot->state != DSOCR_SLOT_RUNNING && slot->state != DSOCR_SLOT_CANCELLED))
		return NULL;
	return slot;
}

/* The slot has ended; queue lock held exclusively. */
static void
end_slot(DsocrSlot *slot, DsocrSlotState state)
{
	slot->state = state;
	dsocr_role_end_work(slot);
	dsocr_slot_wake(slot->owner_procno);
	dsocr_slot_wake_joined(slot);
}

void
dsocr_dispatch_fail_slot(DsocrSlot *slot, const DsocrError *why)
{
	slot->status = *why;
	end_slot(slot, DSOCR_SLOT_FAILED);
}

/*
 * Behind PG_CATCH: log the error and go on.  Trouble with the memory of one
 * request must cost that request only: not the worker, its engine and all
 * other requests.
 */
static void
survive_error(MemoryContext context)
{
	MemoryContextSwitchTo(context);
	EmitErrorReport();
	FlushErrorState();
	LWLockReleaseAll();
}

static dsm_segment *
map_payload(dsm_handle payload)
{
	MemoryContext context = CurrentMemoryContext;
	dsm_segment *volatile segment = NULL;

	PG_TRY();
	{
		segment = dsocr_payload_map(payload);
	}
	PG_CATCH();
	{
		survive_error(context);
	}
	PG_END_TRY();
	return segment;
}

/* Fail a request this worker has taken; drop it if nobody wants it. */
static void
fail_taken(DsocrHandle h, const DsocrError *why)
{
	DsocrSlot *slot;
	int device;

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	slot = dsocr_dispatch_slot(h);
	if (slot == NULL)
	{
		LWLockRelease(dsocr_queue_lock);
		return;
	}
	device = slot->device;
	if (slot->state == DSOCR_SLOT_CANCELLED)
	{
		dsocr_slot_release(slot);
		dsocr_stats_cancelled(device);
		return;
	}
	dsocr_dispatch_fail_slot(slot, why);
	LWLockRelease(dsocr_queue_lock);
	dsocr_stats_failed(device);
}

bool
dsocr_dispatch_take(int device, int in_flight, DsocrWork *work)
{
	static const DsocrError no_memory = {.code = DSOCR_E_MEMORY,
										 .message = "could not map the memory of the request",
										 .hint = "Look for the reason in the server log."};
	DsocrSlot *next;
	char *payload = NULL;

	memset(work, 0, sizeof(*work));
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	next = dsocr_dispatch_next(device, in_flight);
	if (next == NULL)
	{
		LWLockRelease(dsocr_queue_lock);
		return false;
	}
	next->state = DSOCR_SLOT_RUNNING;
	next->device = device;
	next->started = GetCurrentTimestamp();
	dsocr_role_begin_work(next);
	work->handle.slot = next - dsocr_slots;
	work->handle.generation = next->generation;
	work->request = next->request;
	work->suspect = next->attempts > 0 && !dsocr_kind_is_of_pages(next->request.kind);
	LWLockRelease(dsocr_queue_lock);

	if (next->payload != DSM_HANDLE_INVALID)
	{
		work->payload = map_payload(next->payload);
		if (work->payload == NULL)
		{
			fail_taken(work->handle, &no_memory);
			return false;
		}
		payload = dsm_segment_address(work->payload);
	}
	if (next->has_prompt)
		work->request.prompt = payload;
	if (next->has_image)
		work->request.image = (uint8_t *) payload + (next->has_prompt ? next->prompt_len + 1 : 0);
	return true;
}

void
dsocr_dispatch_sent(DsocrHandle h)
{
	DsocrSlot *slot;
	dsm_handle payload = DSM_HANDLE_INVALID;

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	slot = dsocr_dispatch_slot(h);
	if (slot != NULL && dsocr_kind_is_of_pages(slot->request.kind))
	{
		payload = slot->payload;
		slot->payload = DSM_HANDLE_INVALID;
	}
	LWLockRelease(dsocr_queue_lock);
	if (payload == DSM_HANDLE_INVALID)
		return;
	dsocr_payload_free(payload);

	/* The slot stays with this worker: its owner can only mark it. */
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	dsocr_shared->memory_used -= slot->memory - slot->request.room;
	slot->memory = slot->request.room;
	dsocr_shared->releases++;
	dsocr_line_wake();
	LWLockRelease(dsocr_queue_lock);
}

bool
dsocr_dispatch_wanted(DsocrHandle h)
{
	DsocrSlot *slot;
	bool wanted;

	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	slot = dsocr_dispatch_slot(h);
	wanted = slot != NULL && slot->state == DSOCR_SLOT_RUNNING;
	LWLockRelease(dsocr_queue_lock);
	return wanted;
}

void
dsocr_dispatch_progress(DsocrHandle h, const DsocrProgress *p)
{
	static const DsocrResult nothing = {0};
	DsocrSlot *slot;
	bool opened = false;
	int device = 0;
	int64 waited = 0;
	int64 total = 0;

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	slot = dsocr_dispatch_slot(h);
	if (slot != NULL)
	{
		opened = slot->state == DSOCR_SLOT_RUNNING && slot->request.kind == DSOCR_DOCUMENT &&
				 slot->progress.pages == 0 && p->pages > 0;
		slot->progress = *p;
	}
	if (opened)
	{
		device = slot->device;
		waited = slot->started - slot->submitted;
		total = GetCurrentTimestamp() - slot->submitted;
		dsocr_slot_wake(slot->owner_procno);
	}
	LWLockRelease(dsocr_queue_lock);

	/* What there was to do for a document is done when it is open. */
	if (opened)
		dsocr_stats_completed(device, &nothing, waited, total);
}

/*
 * Make room for a result of len bytes: the image is not needed any more.
 * Results may use a quarter more than dsocr.queue_memory, so that images that
 * wait do not cost those their answer that were read before them.
 */
static bool
reserve_result(DsocrHandle h, Size len)
{
	DsocrSlot *slot;
	dsm_handle payload;
	bool fits;

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	slot = dsocr_dispatch_slot(h);
	if (slot == NULL)
	{
		LWLockRelease(dsocr_queue_lock);
		return false;
	}
	payload = slot->payload;
	slot->payload = DSM_HANDLE_INVALID;
	LWLockRelease(dsocr_queue_lock);

	dsocr_payload_free(payload);

	/* The slot stays with this worker: its owner can only mark it. */
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	dsocr_shared->memory_used -= slot->memory;
	fits = dsocr_shared->memory_used + len <=
		   dsocr_shared->memory_limit + dsocr_shared->memory_limit / 4;
	slot->memory = fits ? len : 0;
	dsocr_shared->memory_used += slot->memory;
	dsocr_shared->releases++;
	dsocr_line_wake();
	LWLockRelease(dsocr_queue_lock);
	return fits;
}

/* Copy a body into shared memory. */
static dsm_handle
store(const void *body, size_t len)
{
	MemoryContext context = CurrentMemoryContext;
	volatile dsm_handle at = DSM_HANDLE_INVALID;

	PG_TRY();
	{
		at = dsocr_payload_create(body, len, NULL, 0);
	}
	PG_CATCH();
	{
		survive_error(context);
	}
	PG_END_TRY();
	return at;
}

/*
 * Keep the answer, before anybody hears that the request has ended; also that
 * of one which its owner has given up.  Not if the engine got another model
 * while the request was queued.
 */
static void
keep_answer(DsocrHandle h, const void *body, size_t len, const char *model)
{
	const DsocrSlot *slot = &dsocr_slots[h.slot];
	DsocrCacheKey key = {.model = 0};

	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	if (slot->key.model != 0 &&
		slot->key.model == dsocr_cache_model(&dsocr_shared->devices[slot->device].info))
		key = slot->key;
	LWLockRelease(dsocr_queue_lock);
	dsocr_cache_put(&key, body, len, model);
}

void
dsocr_dispatch_finish(DsocrHandle h, const void *body, size_t len, const DsocrError *status,
					  const DsocrResult *result, const char *model)
{
	static const DsocrError no_memory = {.code = DSOCR_E_MEMORY,
										 .message = "no shared memory left for the result",
										 .hint = "Raise dsocr.queue_memory or the space for "
												 "dynamic shared memory."};
	dsm_handle at = reserve_result(h, len) ? store(body, len) : DSM_HANDLE_INVALID;
	DsocrSlot *slot;
	int device;
	int64 waited;
	int64 total;
	int share;
	bool page;
	bool ok;

	if (at == DSM_HANDLE_INVALID)
	{
		fail_taken(h, &no_memory);
		return;
	}
	if (status->code == DSOCR_OK)
		keep_answer(h, body, len, model);
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	slot = dsocr_dispatch_slot(h);
	slot->result = at;
	slot->result_len = len;
	device = slot->device;
	waited = slot->started - slot->submitted;
	total = GetCurrentTimestamp() - slot->submitted;
	if (slot->state == DSOCR_SLOT_CANCELLED)
	{
		dsocr_slot_release(slot);
		dsocr_stats_cancelled(device);
		return;
	}
	ok = status->code == DSOCR_OK;
	share = slot->share;
	page = slot->request.kind == DSOCR_READ;
	strlcpy(slot->model, model, sizeof(slot->model));
	end_slot(slot, ok ? DSOCR_SLOT_DONE : DSOCR_SLOT_FAILED);
	LWLockRelease(dsocr_queue_lock);

	if (ok && page)
		dsocr_role_count(share, result);
	if (ok)
		dsocr_stats_completed(device, result, waited, total);
	else
		dsocr_stats_failed(device);
}

void
dsocr_dispatch_drop(DsocrHandle h)
{
	DsocrSlot *slot;
	int device;
	bool opened; /* a document that was open, and counted then */

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	slot = dsocr_dispatch_slot(h);
	if (slot == NULL || slot->state != DSOCR_SLOT_CANCELLED)
	{
		LWLockRelease(dsocr_queue_lock);
		return;
	}
	device = slot->device;
	opened = slot->request.kind == DSOCR_DOCUMENT && slot->progress.pages > 0;
	dsocr_slot_release(slot);
	if (!opened)
		dsocr_stats_cancelled(device);
}

void
dsocr_dispatch_publish(int device, const DsocrDevice *d)
{
	DsocrDevice *shared = &dsocr_shared->devices[device];

	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	shared->state = d->state;
	shared->refuses = d->refuses;
	shared->engine_pid = d->engine_pid;
	shared->info = d->info;
	shared->error = d->error;
	shared->running = d->running;
	shared->restarts = d->restarts;
	shared->started_at = d->started_at;
	shared->tokens_per_second = d->tokens_per_second;
	LWLockRelease(dsocr_queue_lock);
	if (d->state == DSOCR_DEVICE_READY && !shared->of_pages)
		dsocr_cache_note_model(device, dsocr_cache_model(&d->info));
}

uint64
dsocr_dispatch_reloads(int device)
{
	uint64 reloads;

	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	reloads = dsocr_shared->devices[device].reload;
	LWLockRelease(dsocr_queue_lock);
	return reloads;
}
