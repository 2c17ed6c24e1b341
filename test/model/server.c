/*-------------------------------------------------------------------------
 *
 * server.c
 *		What the server gives to each process of the model.
 *
 * An ERROR ends the model: nothing here is meant to raise one.
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

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

bool server_in_transaction;
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
	return server_in_transaction;
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

/* ---- the process ---- */

static int next_pid = 1000;

void
server_begin_process(int number)
{
	LWLockAcquire(dsocr_queue_lock, LW_EXCLUSIVE);
	MyProcPid = next_pid++ * MODEL_PROCESSES + number;
	MyProc->pid = MyProcPid;
	LWLockRelease(dsocr_queue_lock);
	role = 10 + model_random(3);
}

void
server_end_process(void)
{
	end_of_process(0, (Datum) 0);
}

void
server_end_transaction(bool commits)
{
	end_of_transaction(commits ? XACT_EVENT_COMMIT : XACT_EVENT_ABORT, NULL);
}

void
server_open(const Model *model, int number)
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
}
