/*-------------------------------------------------------------------------
 *
 * queue.c
 *		The callers' side of the queue: submit, wait, fetch, cancel.
 *
 * The image is copied into shared memory while its slot is FILLING, which
 * belongs to this backend alone.  From QUEUED on every step is taken under
 * the queue lock; a change of state is followed by setting the latch of who
 * waits for it, and waiters look again after each wake-up.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "admission.h"
#include "own_slots.h"
#include "payload.h"
#include "queue.h"
#include "slots.h"
#include "stats.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

/* A waiting backend looks around at least so often: is any worker there? */
#define WAIT_LIMIT_MS 5000

#define ID_SLOT_BITS 16

static TimestampTz last_answer; /* when this backend took its last outcome */

DSOCR_WAIT_EVENT(wait_event_result, "DsocrResult")

static DsocrSlot *
slot_of(DsocrHandle h)
{
	if (h.slot < 0 || dsocr_shared == NULL || h.slot >= dsocr_shared->n_slots ||
		dsocr_own_slots == NULL || h.generation == 0 ||
		dsocr_own_slots[h.slot].generation != h.generation)
		elog(ERROR, "dsocr request %d is not in use by this process", h.slot);
	return &dsocr_slots[h.slot];
}

/* ---- submit ---- */

/* Copy the request into its slot; false when the server has no more segments. */
static bool
fill(DsocrSlot *slot, const DsocrRequest *r)
{
	Size bytes = dsocr_admit_payload(r);
	Size prompt_bytes = r->prompt ? strlen(r->prompt) + 1 : 0;

	slot->request = *r;
	slot->request.prompt = NULL;
	slot->request.image = NULL;
	slot->has_prompt = r->prompt != NULL;
	slot->has_image = r->image != NULL;
	slot->prompt_len = prompt_bytes > 0 ? prompt_bytes - 1 : 0;
	slot->progress.id = r->id;
	if (bytes == 0)
		return true;

	slot->payload = dsocr_payload_create(r->prompt, prompt_bytes, r->image,
										 r->image != NULL ? r->image_len : 0);
	return slot->payload != DSM_HANDLE_INVALID;
}

/* Copy the request into a slot that was just taken; false: no segment. */
static bool
enter(DsocrSlot *slot, DsocrRequest *request, DsocrHandle *h)
{
	*h = (DsocrHandle){.slot = slot - dsocr_slots, .generation = slot->generation};
	request->id = (h->generation << ID_SLOT_BITS) | h->slot;
	if (!fill(slot, request))
	{
		dsocr_own_give_up(h->slot);
		return false;
	}
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	slot->sequence = ++dsocr_shared->next_sequence;
	slot->state = DSOCR_SLOT_QUEUED;
	dsocr_slot_wake_workers();
	LWLockRelease(dsocr_queue_lock);
	return true;
}

/* Submit, standing in line. */
static DsocrHandle
submit(DsocrRequest *request, const DsocrCacheKey *key, bool join)
{
	DsocrAdmission a;
	DsocrHandle h;

	dsocr_own_prepare();
	a = dsocr_admit_init(request, key);
	a.join = join;
	for (;;)
	{
		DsocrSlot *slot = dsocr_admit_wait(&a);

		if (slot == NULL)
			return a.joined;
		if (enter(slot, request, &h))
			return h;
		/* Go on when somebody has freed a segment. */
		LWLockAcquire(dsocr_queue_lock, LW_SHARED);
		a.after = dsocr_shared->releases + 1;
		LWLockRelease(dsocr_queue_lock);
		a.no_memory = true;
	}
}

DsocrHandle
dsocr_queue_submit(DsocrRequest *request)
{
	return submit(request, NULL, false);
}

static bool
try_submit(DsocrRequest *request, const DsocrCacheKey *key, bool join, DsocrHandle *h)
{
	DsocrAdmission a;
	DsocrSlot *slot;

	dsocr_own_prepare();
	a = dsocr_admit_init(request, key);
	a.join = join;
	slot = dsocr_admit_try(&a);
	if (a.joined.joined)
		*h = a.joined;
	return a.joined.joined || (slot != NULL && enter(slot, request, h));
}

bool
dsocr_queue_try_submit(DsocrRequest *request, DsocrHandle *h)
{
	return try_submit(request, NULL, false, h);
}

bool
dsocr_queue_submit_keyed(DsocrRequest *request, const DsocrCacheKey *key, bool join, bool wait,
						 DsocrHandle *h)
{
	if (!wait)
		return try_submit(request, key, join, h);
	*h = submit(request, key, join);
	return true;
}

bool
dsocr_queue_has_room(DsocrRequestKind kind, DsocrPriority priority, Size bytes)
{
	dsocr_own_prepare();
	return dsocr_admit_has_room(kind, priority, bytes);
}

bool
dsocr_queue_stand(bool *limited)
{
	dsocr_own_prepare();
	return dsocr_admit_stand(limited);
}

void
dsocr_queue_step_aside(void)
{
	dsocr_admit_step_aside();
}

bool
dsocr_queue_opens_documents(DsocrError *err)
{
	bool served = false;

	dsocr_own_prepare();
	for (int i = 0; i < dsocr_shared->n_devices; i++)
		served = served || dsocr_shared->devices[i].of_pages;
	if (served && dsocr_slot_documents_max() > 0)
		return true;
	dsocr_fail(err, DSOCR_E_DEVICE,
			   served ? "dsocr.max_requests leaves no room for documents"
					  : "the page server, which opens documents, is switched off");
	return dsocr_hint(err, "An administrator can set %s and restart the server.",
					  served ? "dsocr.max_requests to 2 or more" : "dsocr.page_server to on");
}

Size
dsocr_queue_memory_for(const DsocrRequest *request)
{
	Size bytes = dsocr_admit_payload(request) + request->room;

	dsocr_own_prepare();
	return dsocr_shared->memory_limit - Min(bytes, dsocr_shared->memory_limit);
}

void
dsocr_queue_on_wait(void (*function)(void))
{
	dsocr_admit_collect = function;
}

/* ---- wait and fetch ---- */

bool
dsocr_queue_poll(DsocrHandle h)
{
	DsocrSlot *slot = slot_of(h);
	bool ended;

	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	ended = dsocr_slot_ended(slot);
	LWLockRelease(dsocr_queue_lock);
	return ended;
}

/* Has the request that the handle is joined to ended?  Queue lock held. */
static bool
joined_ended(DsocrHandle h)
{
	const DsocrSlot *slot = &dsocr_slots[h.slot];

	return slot->generation != h.generation ||
		   (slot->state != DSOCR_SLOT_FILLING && slot->state != DSOCR_SLOT_QUEUED &&
			slot->state != DSOCR_SLOT_RUNNING);
}

bool
dsocr_queue_joined_ended(DsocrHandle h)
{
	bool ended;

	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	ended = joined_ended(h);
	LWLockRelease(dsocr_queue_lock);
	return ended;
}

bool
dsocr_queue_holds(DsocrHandle h)
{
	return dsocr_own_slots != NULL && h.generation != 0 && h.slot >= 0 &&
		   h.slot < dsocr_shared->n_slots && dsocr_own_slots[h.slot].generation == h.generation;
}

void
dsocr_queue_progress(DsocrHandle h, DsocrProgress *progress)
{
	DsocrSlot *slot = slot_of(h);

	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	*progress = slot->progress;
	LWLockRelease(dsocr_queue_lock);
	dsocr_own_slots[h.slot].told = progress->pages > 0;
}

/* Has no worker for such requests been there for a while?  Queue lock held. */
static bool
workers_absent(TimestampTz since, bool of_pages)
{
	for (int i = 0; i < dsocr_shared->n_devices; i++)
	{
		if (dsocr_shared->devices[i].of_pages == of_pages &&
			!dsocr_slot_abandoned(&dsocr_shared->devices[i], since))
			return false;
	}
	return true;
}

/* What waiting for one of several requests needs to know. */
typedef struct Watch
{
	int ended;			  /* index of the request, -1 = none yet */
	bool absent;		  /* nobody is there to serve one of them */
	TimestampTz deadline; /* the earliest, 0 = none */
} Watch;

/*
 * dsocr.timeout is the patience with one request.  Where a session has several
 * in flight, they wait for each other: time counts from its last answer on.
 */
static TimestampTz
deadline_of(DsocrHandle h)
{
	const DsocrSlot *slot = &dsocr_slots[h.slot];
	TimestampTz since = h.joined ? h.since : slot->submitted;
	TimestampTz deadline = h.joined ? dsocr_admit_later(since, dsocr_timeout) : slot->deadline;

	if (deadline == 0 || since >= last_answer)
		return deadline;
	return deadline + (last_answer - since);
}

/* Has it ended, or is it a document that has been opened?  Queue lock held. */
static bool
has_news(DsocrHandle h, bool open)
{
	if (h.joined)
		return joined_ended(h);
	return dsocr_slot_ended(&dsocr_slots[h.slot]) || (open && !dsocr_own_slots[h.slot].told);
}

/* The requests of others that this backend waits for; queue lock held. */
static void
watch_joined(const DsocrHandle *handles, int n)
{
	DsocrWaiter *waiter = &dsocr_waiters[dsocr_my_procno];
	const DsocrHandle *first = NULL;
	uint64 joined = 0;

	for (int i = 0; i < n; i++)
	{
		if (!handles[i].joined || joined_ended(handles[i]))
			continue;
		joined |= UINT64CONST(1) << handles[i].slot % 64;
		dsocr_slots[handles[i].slot].joined = true;
		if (first == NULL || handles[i].since < first->since)
			first = &handles[i];
	}
	waiter->joined = joined;
	waiter->join = (DsocrJoin){0};
	dsocr_own_joined = first != NULL;
	if (first != NULL)
		waiter->join = (DsocrJoin){first->generation, first->slot,	MyProcPid,
								   GetUserId(),		  MyDatabaseId, first->since};
}

static Watch
look(const DsocrHandle *handles, int n, TimestampTz since)
{
	Watch w = {.ended = -1};

	/* shared suffices for our own entry: who reads it holds the lock exclusively */
	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	watch_joined(handles, n);
	for (int i = 0; i < n && w.ended < 0; i++)
	{
		const DsocrSlot *slot = &dsocr_slots[handles[i].slot];
		bool open =
			!handles[i].joined && slot->request.kind == DSOCR_DOCUMENT && slot->progress.pages > 0;
		TimestampTz deadline = deadline_of(handles[i]);

		if (has_news(handles[i], open))
			w.ended = i;
		else if (!open && deadline != 0 && (w.deadline == 0 || deadline < w.deadline))
			w.deadline = deadline;
		if (workers_absent(since, dsocr_kind_is_of_pages(slot->request.kind)))
			w.absent = true;
	}
	LWLockRelease(dsocr_queue_lock);
	return w;
}

int
dsocr_queue_wait_any(const DsocrHandle *handles, int n)
{
	TimestampTz began = GetCurrentTimestamp();

	for (int i = 0; i < n; i++)
	{
		if (!handles[i].joined)
			(void) slot_of(handles[i]);
	}

	for (;;)
	{
		Watch w = look(handles, n, began);

		if (w.ended >= 0)
		{
			dsocr_own_leave_joined();
			return w.ended;
		}
		if (w.deadline != 0 && GetCurrentTimestamp() >= w.deadline)
			dsocr_admit_raise_timeout();
		if (w.absent)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("no dsocr worker is running"),
					 errhint("Look for its reason in the server log; max_worker_processes must "
							 "leave room for one worker per entry of dsocr.devices, and one for "
							 "the page server.")));

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 dsocr_admit_time_left(w.deadline, 0, WAIT_LIMIT_MS), wait_event_result());
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
log_request(const DsocrSlot *slot, const DsocrError *status, const DsocrResult *result)
{
	double ms = (GetCurrentTimestamp() - slot->submitted) / 1000.0;

	if (status->code == DSOCR_OK && slot->request.kind == DSOCR_PAGE)
		ereport(LOG, (errmsg("dsocr request: %.0f ms, image of page %d, %dx%d pixels", ms,
							 slot->request.page, result->width, result->height),
					  errhidestmt(true)));
	else if (status->code == DSOCR_OK)
		ereport(LOG, (errmsg("dsocr request: %.0f ms, %dx%d pixels, %d views, %d image tokens, "
							 "%d text tokens, %d retries",
							 ms, result->width, result->height, result->views, result->image_tokens,
							 result->text_tokens, slot->attempts),
					  errhidestmt(true)));
	else
		ereport(LOG, (errmsg("dsocr request: %.0f ms, failed: %s", ms, status->message),
					  errhidestmt(true)));
}

void
dsocr_queue_fetch(DsocrHandle h, DsocrError *status, DsocrResult *result, char *model)
{
	DsocrSlot *slot = slot_of(h);

	if (!dsocr_queue_poll(h))
		elog(ERROR, "dsocr request %d has not ended", h.slot);

	/* An ended slot belongs to its owner: no lock is needed to read it. */
	memset(result, 0, sizeof(DsocrResult));
	*status = slot->status;
	if (slot->result != DSM_HANDLE_INVALID)
	{
		dsm_segment *segment = dsocr_payload_map(slot->result);
		DsocrError err = {0};

		if (!dsocr_parse_result(dsm_segment_address(segment), slot->result_len, status, result,
								&err))
			*status = err;
		dsm_detach(segment);
	}
	strlcpy(model, slot->model, sizeof(slot->model));
	if (dsocr_log_requests)
		log_request(slot, status, result);
	dsocr_own_give_up(h.slot);
	last_answer = GetCurrentTimestamp();
}

void
dsocr_queue_cancel(DsocrHandle h)
{
	(void) slot_of(h);
	dsocr_own_give_up(h.slot);
}
