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
 * This backend remembers its slots in an array of its own, with the
 * subtransaction each was submitted in.  Transaction callbacks and the exit
 * callback give up what is left, so nothing leaks when an error passes by.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "payload.h"
#include "queue.h"
#include "slots.h"
#include "stats.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A waiting backend looks around at least so often: is any worker there? */
#define WAIT_LIMIT_MS 5000

#define ID_SLOT_BITS 16

/* Reading ahead leaves one of so many slots, documents and bytes alone. */
#define READ_AHEAD_LEAVES 8

/* How often a session looks whether its role is below its limit again. */
#define ROLE_WAIT_MS 50

/* A slot of this backend. */
typedef struct OwnSlot
{
	uint64 generation;		 /* 0 = not ours */
	SubTransactionId subxid; /* Invalid = outlives transactions */
	bool document;			 /* holds an open document */
	bool told;				 /* dsocr_queue_progress has told that it is open */
} OwnSlot;

static OwnSlot *own_slots = NULL; /* [n_slots], NULL before the first request */
static int n_own = 0;
static int n_own_documents = 0;		 /* among them */
static bool in_line = false;		 /* this backend waits for a free slot */
static TimestampTz last_answer;		 /* when this backend took its last outcome */
static void (*collect)(void) = NULL; /* see dsocr_queue_on_wait */

DSOCR_WAIT_EVENT(wait_event_slot, "DsocrSlot")
DSOCR_WAIT_EVENT(wait_event_result, "DsocrResult")

/* ---- slots of this backend ---- */

static void
give_up(int index)
{
	uint64 generation = own_slots[index].generation;
	DsocrSlot *slot = &dsocr_slots[index];

	own_slots[index].generation = 0;
	n_own--;
	n_own_documents -= own_slots[index].document;

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

static void
leave_line(void)
{
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	dsocr_line_leave(dsocr_my_procno);
	LWLockRelease(dsocr_queue_lock);
	in_line = false;
}

static void
end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PARALLEL_PRE_COMMIT ||
		event == XACT_EVENT_PRE_PREPARE)
		return;
	if (in_line)
		leave_line();
	for (int i = 0; n_own > 0 && i < dsocr_shared->n_slots; i++)
	{
		if (own_slots[i].generation != 0 && own_slots[i].subxid != InvalidSubTransactionId)
			give_up(i);
	}
}

static void
end_of_subtransaction(SubXactEvent event, SubTransactionId subxid, SubTransactionId parent,
					  void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	if (in_line && event == SUBXACT_EVENT_ABORT_SUB)
		leave_line();
	for (int i = 0; n_own > 0 && i < dsocr_shared->n_slots; i++)
	{
		if (own_slots[i].generation == 0 || own_slots[i].subxid != subxid)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			give_up(i);
		else
			own_slots[i].subxid = parent;
	}
}

static void
end_of_backend(int code, Datum arg)
{
	if (in_line)
		leave_line();
	for (int i = 0; n_own > 0 && i < dsocr_shared->n_slots; i++)
	{
		if (own_slots[i].generation != 0)
			give_up(i);
	}
}

/* Before the first request of this backend. */
static void
prepare_backend(void)
{
	dsocr_require_preload();
	if (own_slots != NULL)
		return;
	own_slots = MemoryContextAllocZero(TopMemoryContext, sizeof(OwnSlot) * dsocr_shared->n_slots);
	before_shmem_exit(end_of_backend, (Datum) 0);
	RegisterXactCallback(end_of_transaction, NULL);
	RegisterSubXactCallback(end_of_subtransaction, NULL);
}

static DsocrSlot *
slot_of(DsocrHandle h)
{
	if (h.slot < 0 || dsocr_shared == NULL || h.slot >= dsocr_shared->n_slots ||
		own_slots == NULL || h.generation == 0 || own_slots[h.slot].generation != h.generation)
		elog(ERROR, "dsocr request %d is not in use by this process", h.slot);
	return &dsocr_slots[h.slot];
}

/* ---- submit ---- */

/* What waiting for a slot needs to know. */
typedef struct Admission
{
	Size bytes; /* of the payload, and room for the answer */
	DsocrRequestKind kind;
	DsocrPriority priority;
	DsocrCacheKey key;	   /* model 0 = none */
	DsocrHandle joined;	   /* set by join() */
	bool ahead;			   /* beyond what the backend needs to go on */
	bool of_document;	   /* one of the pages of a document that is being read */
	uint64 after;		   /* only when so many slots have been freed */
	bool no_memory;		   /* the wait is for memory, not for a slot */
	TimestampTz give_up;   /* dsocr.queue_timeout, 0 = none */
	TimestampTz deadline;  /* dsocr.timeout, 0 = none */
	TimestampTz submitted; /* now */
} Admission;

static TimestampTz
later(TimestampTz from, int ms)
{
	return ms > 0 ? TimestampTzPlusMilliseconds(from, ms) : 0;
}

/* Milliseconds until the earlier of two times (0 = never), at most limit. */
static long
time_left(TimestampTz a, TimestampTz b, long limit)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = a == 0 ? b : (b == 0 ? a : Min(a, b));

	if (until == 0)
		return limit;
	return Min(TimestampDifferenceMilliseconds(now, until), limit);
}

static void
raise_timeout(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED), errmsg("canceling request due to dsocr.timeout"),
			 errhint("The limit is %d ms. Raise dsocr.timeout, or ask for a smaller mode or "
					 "fewer tokens.",
					 dsocr_timeout)));
}

static void
raise_not_admitted(const Admission *a)
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

/*
 * May this request have a slot now?  Sets no_memory.  What is read ahead
 * leaves an eighth of slots, documents and memory to those who need one to go
 * on: a session that reads ahead and then does something else (its client
 * fetches slowly, it waits for a parallel worker) stops nobody.
 */
static bool
has_room(Admission *a)
{
	int n_slots = dsocr_shared->n_slots;
	int documents = dsocr_slot_documents_max();
	Size limit = dsocr_shared->memory_limit;

	if (!dsocr_line_first(dsocr_my_procno, n_own_documents > 0) ||
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
take_slot(Admission *a)
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
		own_slots[i].generation = generation;
		own_slots[i].document = a->kind == DSOCR_DOCUMENT;
		own_slots[i].told = false;
		own_slots[i].subxid =
			IsTransactionState() ? GetCurrentSubTransactionId() : InvalidSubTransactionId;
		n_own++;
		n_own_documents += own_slots[i].document;
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
 * hurry takes it along.  Queue lock held exclusively.
 */
static bool
join(Admission *a)
{
	for (int i = 0; a->key.model != 0 && i < dsocr_shared->n_slots; i++)
	{
		DsocrSlot *slot = &dsocr_slots[i];

		if ((slot->state != DSOCR_SLOT_FILLING && slot->state != DSOCR_SLOT_QUEUED &&
			 slot->state != DSOCR_SLOT_RUNNING) ||
			slot->key.model != a->key.model ||
			memcmp(slot->key.hash, a->key.hash, sizeof(a->key.hash)) != 0)
			continue;
		if (slot->state == DSOCR_SLOT_QUEUED)
			slot->request.priority = Min(slot->request.priority, a->priority);
		a->joined.slot = i;
		a->joined.generation = slot->generation;
		a->joined.joined = true;
		a->joined.since = a->submitted;
		return true;
	}
	return false;
}

/*
 * Find a slot, standing in line for it; NULL when the request was joined.  A role at its limit is told so at
 * once, but not in the middle of a document.
 */
static DsocrSlot *
admit(Admission *a)
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
		in_line = slot == NULL && !limited && !joined;
		if (in_line)
			dsocr_line_enter(dsocr_my_procno, MyProcPid, a->kind == DSOCR_DOCUMENT,
							 n_own_documents > 0);
		else
			dsocr_line_leave(dsocr_my_procno);
		LWLockRelease(dsocr_queue_lock);

		if (slot != NULL || joined)
			return slot;
		if (limited && !a->of_document)
			raise_role_limit();
		if (a->deadline != 0 && GetCurrentTimestamp() >= a->deadline)
			raise_timeout();
		if (a->give_up != 0 && GetCurrentTimestamp() >= a->give_up)
		{
			if (limited)
				raise_role_limit();
			raise_not_admitted(a);
		}

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 time_left(a->give_up, a->deadline, limited ? ROLE_WAIT_MS : WAIT_LIMIT_MS),
						 wait_event_slot());
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (collect != NULL && n_own > n_own_documents)
			collect();
		if (a->key.model != 0 && dsocr_cache_has(&a->key))
		{
			/* it has come and gone: joined to a request that has ended */
			leave_line();
			a->joined = (DsocrHandle){.joined = true};
			return NULL;
		}
	}
}

/* Bytes of prompt, its NUL and the image. */
static Size
payload_size(const DsocrRequest *r)
{
	size_t size = r->prompt ? strlen(r->prompt) + 1 : 0;

	if (r->image != NULL && !dsocr_add(size, r->image_len, &size))
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("image is too large")));
	return size;
}

/* Copy the request into its slot; false when the server has no more segments. */
static bool
fill(DsocrSlot *slot, const DsocrRequest *r)
{
	Size bytes = payload_size(r);
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

/* What the queue must know to admit a request.  Raises ERROR if it never will. */
static Admission
admission_of(const DsocrRequest *request)
{
	Admission a = {.submitted = GetCurrentTimestamp()};
	size_t bytes = payload_size(request);

	if (!dsocr_add(bytes, request->room, &bytes))
		bytes = SIZE_MAX;
	a.kind = request->kind;
	a.priority = request->priority;
	a.of_document = request->document != 0;
	a.bytes = bytes;
	a.give_up = later(a.submitted, dsocr_queue_timeout);
	a.deadline = later(a.submitted, dsocr_timeout);
	if (a.bytes > dsocr_shared->memory_limit)
	{
		a.no_memory = true;
		raise_not_admitted(&a);
	}
	return a;
}

/* Copy the request into a slot that was just taken; false: no segment. */
static bool
enter(DsocrSlot *slot, DsocrRequest *request, DsocrHandle *h)
{
	*h = (DsocrHandle){.slot = slot - dsocr_slots, .generation = slot->generation};
	request->id = (h->generation << ID_SLOT_BITS) | h->slot;
	if (!fill(slot, request))
	{
		give_up(h->slot);
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
submit(DsocrRequest *request, const DsocrCacheKey *key)
{
	Admission a;
	DsocrHandle h;

	prepare_backend();
	a = admission_of(request);
	if (key != NULL)
		a.key = *key;
	for (;;)
	{
		DsocrSlot *slot = admit(&a);

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
	return submit(request, NULL);
}

/* Is this more than the backend needs to go on? */
static bool
is_ahead(DsocrRequestKind kind)
{
	return n_own > n_own_documents || (kind == DSOCR_DOCUMENT && n_own_documents > 0);
}

static bool
try_submit(DsocrRequest *request, const DsocrCacheKey *key, DsocrHandle *h)
{
	Admission a;
	DsocrSlot *slot = NULL;

	prepare_backend();
	a = admission_of(request);
	a.ahead = is_ahead(a.kind);
	if (key != NULL)
		a.key = *key;
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	if (!join(&a) && !dsocr_slot_role_is_full(GetUserId(), a.kind))
		slot = take_slot(&a);
	LWLockRelease(dsocr_queue_lock);
	if (a.joined.joined)
		*h = a.joined;
	return a.joined.joined || (slot != NULL && enter(slot, request, h));
}

bool
dsocr_queue_try_submit(DsocrRequest *request, DsocrHandle *h)
{
	return try_submit(request, NULL, h);
}

bool
dsocr_queue_submit_equal(DsocrRequest *request, const DsocrCacheKey *key, bool wait, DsocrHandle *h)
{
	if (!wait)
		return try_submit(request, key, h);
	*h = submit(request, key);
	return true;
}

bool
dsocr_queue_has_room(DsocrRequestKind kind, Size bytes)
{
	Admission a = {.kind = kind, .bytes = bytes};
	bool room;

	prepare_backend();
	a.ahead = is_ahead(kind);
	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	room = !dsocr_slot_role_is_full(GetUserId(), kind) && has_room(&a);
	LWLockRelease(dsocr_queue_lock);
	return room;
}

bool
dsocr_queue_opens_documents(DsocrError *err)
{
	bool served = false;

	prepare_backend();
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
	Size bytes = payload_size(request) + request->room;

	prepare_backend();
	return dsocr_shared->memory_limit - Min(bytes, dsocr_shared->memory_limit);
}

void
dsocr_queue_on_wait(void (*function)(void))
{
	collect = function;
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
	return own_slots != NULL && h.generation != 0 && h.slot >= 0 &&
		   h.slot < dsocr_shared->n_slots && own_slots[h.slot].generation == h.generation;
}

void
dsocr_queue_progress(DsocrHandle h, DsocrProgress *progress)
{
	DsocrSlot *slot = slot_of(h);

	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	*progress = slot->progress;
	LWLockRelease(dsocr_queue_lock);
	own_slots[h.slot].told = progress->pages > 0;
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
	TimestampTz deadline = h.joined ? later(since, dsocr_timeout) : slot->deadline;

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
	return dsocr_slot_ended(&dsocr_slots[h.slot]) || (open && !own_slots[h.slot].told);
}

/* The requests of others that this backend waits for; queue lock held. */
static void
watch_joined(const DsocrHandle *handles, int n)
{
	uint64 joined = 0;

	for (int i = 0; i < n; i++)
	{
		if (!handles[i].joined || joined_ended(handles[i]))
			continue;
		joined |= UINT64CONST(1) << handles[i].slot % 64;
		dsocr_slots[handles[i].slot].joined = true;
	}
	dsocr_waiters[dsocr_my_procno].joined = joined;
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
			return w.ended;
		if (w.deadline != 0 && GetCurrentTimestamp() >= w.deadline)
			raise_timeout();
		if (w.absent)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("no dsocr worker is running"),
					 errhint("Look for its reason in the server log; max_worker_processes must "
							 "leave room for one worker per entry of dsocr.devices, and one for "
							 "the page server.")));

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 time_left(w.deadline, 0, WAIT_LIMIT_MS), wait_event_result());
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
	give_up(h.slot);
	last_answer = GetCurrentTimestamp();
}

void
dsocr_queue_cancel(DsocrHandle h)
{
	(void) slot_of(h);
	give_up(h.slot);
}
