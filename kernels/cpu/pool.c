/*-------------------------------------------------------------------------
 *
 * pool.c
 *		Threads that share the tasks of one operation.
 *
 * One 64-bit word holds the run's number (high half) and the next task (low
 * half).  A thread takes a task by compare-and-swap on that word, so that a
 * task taken proves that the run was still open and fn, arg and tasks were
 * its own.  The caller returns when done reaches tasks.
 *
 * To wake a sleeping thread costs as long as a small operation takes, so
 * threads watch for work for longer than that.  But where others want the
 * processor, a thread that watches keeps the one that it waits for from
 * running: whom the kernel has put aside lately, watches for a moment only.
 *
 *-------------------------------------------------------------------------
 */
#include "pool.h"

#include <linux/futex.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define POOL_SPINS 1000		  /* pauses before sleeping, 20 to 50 microseconds */
#define POOL_LONG_SPINS 5000  /* where nobody else wants the processor */
#define POOL_DISTURBED 100000 /* microseconds that a thread remembers who does */

/* What a thread knows of others on its processor. */
typedef struct PoolPeace
{
	long switches; /* times that the kernel has put it aside */
	int64_t until; /* was disturbed lately, dsocr_now_us */
} PoolPeace;

struct DsocrPool
{
	_Alignas(64) _Atomic uint64_t cursor;
	_Alignas(64) _Atomic uint32_t done;
	_Alignas(64) _Atomic uint32_t run; /* number of the latest run, the threads' futex */
	_Atomic uint32_t sleepers;
	_Atomic uint32_t caller_sleeps;
	_Atomic int tasks;
	_Atomic(DsocrPoolTask) fn;
	_Atomic(void *) arg;
	atomic_bool closing;
	int threads;	 /* with the caller */
	int started;	 /* threads of the pool that run */
	PoolPeace peace; /* of the caller */
	struct PoolThread
	{
		DsocrPool *pool;
		pthread_t thread;
		int worker;
		PoolPeace peace;
	} * members;
};

static void
pool_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

static void
pool_wait(_Atomic uint32_t *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void
pool_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static bool
pool_disturbed(PoolPeace *peace)
{
	struct rusage usage;

	if (getrusage(RUSAGE_THREAD, &usage) == 0 && usage.ru_nivcsw != peace->switches)
	{
		peace->switches = usage.ru_nivcsw;
		peace->until = dsocr_now_us() + POOL_DISTURBED;
		return true;
	}
	return peace->until != 0 && dsocr_now_us() < peace->until;
}

/* Watch a word for a while: true when it has reached the value, or else has left it. */
static bool
pool_watch(_Atomic uint32_t *word, uint32_t value, bool reach, PoolPeace *peace)
{
	for (int i = 0; i < POOL_LONG_SPINS; i++)
	{
		uint32_t now = atomic_load(word);

		if (reach ? now >= value : now != value)
			return true;
		if (i == POOL_SPINS && pool_disturbed(peace))
			return false;
		pool_pause();
	}
	return false;
}

/* Take tasks of a run until none is left. */
static void
pool_work(DsocrPool *pool, uint32_t run, int worker)
{
	uint64_t cursor = atomic_load(&pool->cursor);

	while ((uint32_t) (cursor >> 32) == run)
	{
		int tasks = atomic_load(&pool->tasks);
		DsocrPoolTask fn = atomic_load(&pool->fn);
		void *arg = atomic_load(&pool->arg);
		uint32_t task = (uint32_t) cursor;

		if (task >= (uint32_t) tasks)
			return;
		if (!atomic_compare_exchange_weak(&pool->cursor, &cursor, cursor + 1))
			continue;
		fn(arg, (int) task, worker);
		if (atomic_fetch_add(&pool->done, 1) + 1 == (uint32_t) tasks &&
			atomic_load(&pool->caller_sleeps))
			pool_wake(&pool->done);
		cursor = atomic_load(&pool->cursor);
	}
}

static void *
pool_thread(void *arg)
{
	struct PoolThread *self = arg;
	DsocrPool *pool = self->pool;
	uint32_t seen = 0;

	for (;;)
	{
		uint32_t run;

		pool_watch(&pool->run, seen, false, &self->peace);
		while ((run = atomic_load(&pool->run)) == seen)
		{
			atomic_fetch_add(&pool->sleepers, 1);
			pool_wait(&pool->run, seen);
			atomic_fetch_sub(&pool->sleepers, 1);
		}
		if (atomic_load(&pool->closing))
			return NULL;
		seen = run;
		pool_work(pool, run, self->worker);
	}
}

static void
pool_announce(DsocrPool *pool, uint32_t run)
{
	atomic_store(&pool->run, run);
	if (atomic_load(&pool->sleepers) > 0)
		pool_wake(&pool->run);
}

void
dsocr_pool_run(DsocrPool *pool, int tasks, DsocrPoolTask fn, void *arg)
{
	uint32_t run = atomic_load(&pool->run) + 1;
	uint32_t done;

	if (tasks <= 0)
		return;
	if (tasks == 1 || pool->started == 0)
	{
		for (int i = 0; i < tasks; i++)
			fn(arg, i, 0);
		return;
	}
	/*
	 * Close the old run before its count and function change: a thread that
	 * still looks for a task of it must not take one by the new count.
	 */
	atomic_store(&pool->cursor, (uint64_t) run << 32 | UINT32_MAX);
	atomic_store(&pool->tasks, tasks);
	atomic_store(&pool->fn, fn);
	atomic_store(&pool->arg, arg);
	atomic_store(&pool->done, 0);
	atomic_store(&pool->cursor, (uint64_t) run << 32);
	pool_announce(pool, run);
	pool_work(pool, run, 0);
	if (pool_watch(&pool->done, (uint32_t) tasks, true, &pool->peace))
		return;
	atomic_store(&pool->caller_sleeps, 1);
	while ((done = atomic_load(&pool->done)) < (uint32_t) tasks)
		pool_wait(&pool->done, done);
	atomic_store(&pool->caller_sleeps, 0);
}

DsocrPool *
dsocr_pool_open(int threads, DsocrError *err)
{
	DsocrPool *pool = dsocr_zalloc(1, sizeof(*pool), err);
	sigset_t all;
	sigset_t before;

	if (pool == NULL)
		return NULL;
	pool->threads = threads;
	pool->members = dsocr_zalloc((size_t) threads, sizeof(*pool->members), err);
	if (pool->members == NULL)
	{
		dsocr_free(pool);
		return NULL;
	}
	/* Signals are for the thread that drives the engine. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	for (int i = 1; i < threads; i++)
	{
		struct PoolThread *t = &pool->members[i];

		t->pool = pool;
		t->worker = i;
		if (pthread_create(&t->thread, NULL, pool_thread, t) != 0)
			break;
		pool->started++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pool->started != threads - 1)
	{
		dsocr_pool_close(pool);
		dsocr_fail(err, DSOCR_E_MEMORY, "could not start %d threads", threads);
		return NULL;
	}
	return pool;
}

void
dsocr_pool_close(DsocrPool *pool)
{
	if (pool == NULL)
		return;
	atomic_store(&pool->closing, true);
	pool_announce(pool, atomic_load(&pool->run) + 1);
	for (int i = 1; i <= pool->started; i++)
		pthread_join(pool->members[i].thread, NULL);
	dsocr_free(pool->members);
	dsocr_free(pool);
}
