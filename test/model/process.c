/*-------------------------------------------------------------------------
 *
 * process.c
 *		A process of the model: a backend that asks, or a worker that answers.
 *
 * Stands in for what the server gives each process.  An ERROR ends the model:
 * nothing here is meant to raise one.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include "dispatch.h"
#include "own_slots.h"
#include "queue.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#define MOST_OWN 3
#define MOST_IN_FLIGHT 4

/* ---- what the server has for a process ---- */

MemoryContext CurrentMemoryContext = NULL;
MemoryContext TopMemoryContext = NULL;
volatile sig_atomic_t InterruptPending = false;
Oid MyDatabaseId = 1;
struct Latch *MyLatch;
PGPROC *MyProc;
int MyProcPid;
PROC_HDR *ProcGlobal;
sigjmp_buf *PG_exception_stack = NULL;
ErrorContextCallback *error_context_stack = NULL;
#ifdef MODEL_PROC_NUMBERS
ProcNumber MyProcNumber;
#endif

bool dsocr_log_requests = false;
int dsocr_max_requests_per_role = 0;
int dsocr_queue_memory = 1024;
int dsocr_queue_timeout = 0;
int dsocr_timeout = 0;
int dsocr_role_weight = 1;
DsocrShared *dsocr_shared;
DsocrSlot *dsocr_slots;
DsocrWaiter *dsocr_waiters;
LWLock *dsocr_queue_lock;
LWLock *dsocr_stats_lock;

static bool in_transaction;
static Oid role;
static XactCallback end_of_transaction;
static pg_on_exit_callback end_of_process;

void
dsocr_require_preload(void)
{
}

bool
IsTransactionState(void)
{
	return in_transaction;
}

SubTransactionId
GetCurrentSubTransactionId(void)
{
	return TopSubTransactionId;
}

Oid
GetUserId(void)
{
	return role;
}

void
RegisterXactCallback(XactCallback callback, void *arg)
{
	end_of_transaction = callback;
}

void
RegisterSubXactCallback(SubXactCallback callback, void *arg)
{
}

void
before_shmem_exit(pg_on_exit_callback function, Datum arg)
{
	end_of_process = function;
}

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	return calloc(1, size);
}

void
ProcessInterrupts(void)
{
	model_fail("an interrupt");
}

/* ---- errors ---- */

static char message[256];

bool
errstart(int elevel, const char *domain)
{
	return elevel >= ERROR;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

int
errcode(int sqlerrcode)
{
	return 0;
}

int
errhidestmt(bool hide_stmt)
{
	return 0;
}

int
errhint(const char *fmt, ...)
{
	return 0;
}

static int
keep_message(const char *fmt, va_list ap)
{
	vsnprintf(message, sizeof(message), fmt, ap);
	return 0;
}

int
errmsg(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	keep_message(fmt, ap);
	va_end(ap);
	return 0;
}

int
errmsg_internal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	keep_message(fmt, ap);
	va_end(ap);
	return 0;
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	model_fail("%s: %s", funcname, message);
}

void
EmitErrorReport(void)
{
}

void
FlushErrorState(void)
{
}

/* ---- a backend ---- */

typedef struct Asked
{
	DsocrHandle handle;
	uint64 token; /* what the answer must bring back */
} Asked;

static Asked asked[MOST_OWN];
static int n_asked;
static uint64 next_token;
static int next_pid = 1000;

/* A process of another pid in the same place. */
static void
begin_process(int number)
{
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	MyProcPid = next_pid++ * MODEL_PROCESSES + number;
	MyProc->pid = MyProcPid;
	LWLockRelease(dsocr_queue_lock);
	role = 10 + model_random(3);
}

static void
forget(int i)
{
	asked[i] = asked[--n_asked];
}

static void
ask(bool wait)
{
	uint64 token = ((uint64) MyProc->pgprocno << 48) | ++next_token;
	DsocrRequest request = {.kind = DSOCR_READ,
							.priority = model_random(2) ? DSOCR_BULK : DSOCR_INTERACTIVE,
							.image = (const uint8_t *) &token,
							.image_len = sizeof(token),
							.room = 2 * sizeof(token)};
	DsocrHandle h;

	if (wait)
	{
		h = dsocr_queue_submit(&request);
		model_came(MyLatch, "a slot");
	}
	else if (!dsocr_queue_try_submit(&request, &h))
		return;
	asked[n_asked++] = (Asked){.handle = h, .token = token};
}

static void
take_answer(int i)
{
	DsocrError status = {0};
	DsocrResult result;
	char model[64];
	uint64 token;

	dsocr_queue_fetch(asked[i].handle, &status, &result, model);
	token = ((uint64) (uint32) result.image_tokens << 32) | (uint32) result.text_tokens;
	if (status.code == DSOCR_OK && token != asked[i].token)
		model_fail("the answer of another request");
	if (status.code != DSOCR_OK && status.code != DSOCR_E_IMAGE &&
		status.code != DSOCR_E_ENGINE_LOST)
		model_fail("an answer with error %d: %s", status.code, status.message);
	forget(i);
}

static void
wait_for_answer(void)
{
	DsocrHandle handles[MOST_OWN];
	int i;

	for (i = 0; i < n_asked; i++)
		handles[i] = asked[i].handle;
	i = dsocr_queue_wait_any(handles, n_asked);
	model_came(MyLatch, "an answer");
	take_answer(i);
}

/* It dies, in order or by SIGKILL, and another one takes its place. */
static void
die(int number)
{
	if (model_random(2))
		end_of_process(0, (Datum) 0);
	else
	{
		memset(dsocr_own_slots, 0, sizeof(DsocrOwnSlot) * dsocr_shared->n_slots);
		dsocr_own_count = 0;
		dsocr_own_in_line = dsocr_own_stands = false;
	}
	n_asked = 0;
	in_transaction = false;
	begin_process(number);
}

static void
end_transaction(void)
{
	if (in_transaction)
	{
		end_of_transaction(model_random(2) ? XACT_EVENT_ABORT : XACT_EVENT_COMMIT, NULL);
		/* those from outside of it live on */
		for (int i = n_asked - 1; i >= 0; i--)
		{
			if (!dsocr_queue_holds(asked[i].handle))
				forget(i);
		}
	}
	in_transaction = !in_transaction;
}

static void
run_backend(int number)
{
	begin_process(number);
	while (model_count())
	{
		unsigned what = model_random(100);

		if (n_asked == 0)
			ask(true);
		else if (what < 30 && n_asked < MOST_OWN)
			ask(false);
		else if (what < 75)
			wait_for_answer();
		else if (what < 85)
		{
			int i = (int) model_random((unsigned) n_asked);

			if (dsocr_queue_poll(asked[i].handle) && model_random(2))
				take_answer(i);
			else
			{
				dsocr_queue_cancel(asked[i].handle);
				forget(i);
			}
		}
		else if (what < 98)
			end_transaction();
		else
			die(number);
	}
	if (dsocr_own_slots != NULL)
		end_of_process(0, (Datum) 0);
}

/* ---- a worker ---- */

static DsocrHandle in_flight[MOST_IN_FLIGHT];
static uint64 tokens[MOST_IN_FLIGHT];
static int n_in_flight;
static DsocrHandle old; /* that has ended here */

static void
let_go(int i, int device)
{
	model_let_go(in_flight[i].slot, in_flight[i].generation, device);
}

static void
drop(int i)
{
	n_in_flight--;
	in_flight[i] = in_flight[n_in_flight];
	tokens[i] = tokens[n_in_flight];
}

static bool
take(int device)
{
	DsocrWork work;

	if (n_in_flight == MOST_IN_FLIGHT || !dsocr_dispatch_take(device, n_in_flight, &work))
		return false;
	model_came(MyLatch, "work");
	model_take(work.handle.slot, work.handle.generation, device);
	in_flight[n_in_flight] = work.handle;
	memcpy(&tokens[n_in_flight], work.request.image, sizeof(uint64));
	n_in_flight++;
	dsm_detach(work.payload);
	dsocr_dispatch_sent(work.handle);
	return true;
}

/* Nobody wants it any more. */
static void
give_up(int i, int device)
{
	let_go(i, device);
	dsocr_dispatch_drop(in_flight[i]);
	old = in_flight[i];
	drop(i);
}

/* A step for one of the requests in the engine. */
static void
work_on(int i, int device)
{
	DsocrHandle h = in_flight[i];
	unsigned what = model_random(10);

	if (!dsocr_dispatch_wanted(h) && what < 8)
		give_up(i, device);
	else if (what < 3)
	{
		DsocrProgress progress = {.id = 1, .views = 1};

		dsocr_dispatch_progress(h, &progress);
	}
	else if (what < 4)
	{
		let_go(i, device);
		dsocr_dispatch_return(h, model_random(2));
		drop(i);
	}
	else
	{
		DsocrError status = {.code = what < 5 ? DSOCR_E_IMAGE : DSOCR_OK};
		DsocrResult result = {0};
		uint64 body[2] = {tokens[i], (uint64) status.code};

		let_go(i, device);
		dsocr_dispatch_finish(h, body, sizeof(body), &status, &result, "model");
		old = h;
		drop(i);
	}
}

/* The engine speaks of something that has ended: nobody is hurt. */
static void
speak_late(void)
{
	DsocrProgress progress = {.id = 2, .views = 2};

	if (dsocr_dispatch_wanted(old))
		model_fail("a request that has ended is wanted");
	dsocr_dispatch_progress(old, &progress);
	dsocr_dispatch_drop(old);
	dsocr_dispatch_return(old, true);
}

/* The engine is busy.  Who gives up a request wakes the worker, which tells the engine. */
static void
wait_for_engine(int device)
{
	long ms =
		model_random(20) == 0 ? 50 : 1; /* now and then until nobody else has anything to do */

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, 0);
	ResetLatch(MyLatch);
	for (int i = n_in_flight - 1; i >= 0; i--)
	{
		if (dsocr_dispatch_wanted(in_flight[i]))
			continue;
		model_came(MyLatch, "a cancellation");
		give_up(i, device);
	}
	/* what had to wait for room in the engine is taken without a call */
	model_heard(MyLatch);
}

/* The engine dies, or the worker, with or without a chance to clean up. */
static void
die_working(int number, int device)
{
	for (int i = 0; i < n_in_flight; i++)
		let_go(i, device);
	n_in_flight = 0;
	if (model_random(2))
		dsocr_dispatch_detach(device, model_random(2));
	begin_process(number);
	dsocr_dispatch_attach(device);
}

static void
run_worker(int number)
{
	int device = number - MODEL_BACKENDS;

	begin_process(number);
	dsocr_dispatch_attach(device);
	while (!model_all_done())
	{
		(void) model_count();
		while (take(device))
			;
		if (model_random(50) == 0)
			speak_late();
		if (n_in_flight > 0 && model_random(8) == 0)
			wait_for_engine(device);
		else if (n_in_flight > 0)
			work_on((int) model_random((unsigned) n_in_flight), device);
		else
		{
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1000, 0);
			ResetLatch(MyLatch);
			dsocr_dispatch_sweep();
		}
		if (model_random(500) == 0)
			die_working(number, device);
		if (model_random(200) == 0)
			dsocr_dispatch_sweep();
	}
	while (n_in_flight > 0)
		work_on(0, device);
	dsocr_dispatch_detach(device, false);
	dsocr_dispatch_sweep();
}

void model_process(const Model *model, int number);

void
model_process(const Model *model, int number)
{
	dsocr_shared = model->shared;
	dsocr_slots = model->slots;
	dsocr_waiters = model->waiters;
	dsocr_queue_lock = model->queue_lock;
	dsocr_stats_lock = model->stats_lock;
	ProcGlobal = model->procs;
	MyProc = GetPGProcByNumber(number);
	MyLatch = &MyProc->procLatch;
#ifdef MODEL_PROC_NUMBERS
	MyProcNumber = number;
#endif
	if (number < MODEL_BACKENDS)
		run_backend(number);
	else
		run_worker(number);
}
