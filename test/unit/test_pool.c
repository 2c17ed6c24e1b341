/*-------------------------------------------------------------------------
 *
 * test_pool.c
 *		Every task of a run is done once, by a worker of the pool.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "pool.h"

#define MAX_TASKS 100
#define BACK_TO_BACK_US 1000000

typedef struct Count
{
	int threads;
	int done[MAX_TASKS];
	int strangers; /* calls with a worker number outside the pool */
} Count;

static void
count_task(void *arg, int task, int worker)
{
	Count *c = arg;

	__atomic_fetch_add(&c->done[task], 1, __ATOMIC_RELAXED);
	if (worker < 0 || worker >= c->threads)
		__atomic_fetch_add(&c->strangers, 1, __ATOMIC_RELAXED);
}

static void
check_run(DsocrPool *pool, int threads, int tasks)
{
	Count c = {.threads = threads};

	dsocr_pool_run(pool, tasks, count_task, &c);
	for (int i = 0; i < MAX_TASKS; i++)
		assert_int_equal(c.done[i], i < tasks);
	assert_int_equal(c.strangers, 0);
}

static void
test_runs(void **state)
{
	for (int threads = 1; threads <= 5; threads++)
	{
		DsocrError err;
		DsocrPool *pool = dsocr_pool_open(threads, &err);

		assert_non_null(pool);
		for (int run = 0; run < 2000; run++)
			check_run(pool, threads, run % (MAX_TASKS + 1));
		dsocr_pool_close(pool);
	}
}

/* Threads that have gone to sleep wake up again. */
static void
test_sleep(void **state)
{
	DsocrError err;
	DsocrPool *pool = dsocr_pool_open(3, &err);

	assert_non_null(pool);
	for (int run = 0; run < 20; run++)
	{
		usleep(3000);
		check_run(pool, 3, MAX_TASKS);
	}
	dsocr_pool_close(pool);
}

static void
hold_task(void *arg, int task, int worker)
{
	int *arrived = arg;

	/* All tasks must be in hand at once: each thread takes one. */
	__atomic_fetch_add(arrived, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 10000 && __atomic_load_n(arrived, __ATOMIC_SEQ_CST) < 3; i++)
		usleep(1000);
}

static void
test_parallel(void **state)
{
	DsocrError err;
	DsocrPool *pool = dsocr_pool_open(3, &err);
	int arrived = 0;
	int64_t start = dsocr_now_us();

	assert_non_null(pool);
	dsocr_pool_run(pool, 3, hold_task, &arrived);
	assert_int_equal(arrived, 3);
	assert_true(dsocr_now_us() - start < 8000000);
	dsocr_pool_close(pool);
}

typedef struct Tally
{
	uint32_t calls;
	uint32_t wrong; /* calls for a task that the run does not have */
	uint32_t tasks;
} Tally;

static void
tally_task(void *arg, int task, int worker)
{
	Tally *t = arg;

	__atomic_fetch_add(&t->calls, 1, __ATOMIC_RELAXED);
	if ((uint32_t) task >= t->tasks)
		__atomic_fetch_add(&t->wrong, 1, __ATOMIC_RELAXED);
}

/*
 * A run with few tasks and at once one with many: a thread that still looks
 * for work of the first must not take a task of the second by mistake.
 */
static void
test_back_to_back(void **state)
{
	DsocrError err;
	DsocrPool *pool = dsocr_pool_open(4, &err);
	Tally few = {.tasks = 2};
	Tally many = {.tasks = 7};
	uint32_t rounds = 0;
	int64_t end = dsocr_now_us() + BACK_TO_BACK_US;

	assert_non_null(pool);
	while (dsocr_now_us() < end)
		for (int i = 0; i < 1000; i++, rounds++)
		{
			dsocr_pool_run(pool, (int) few.tasks, tally_task, &few);
			dsocr_pool_run(pool, (int) many.tasks, tally_task, &many);
		}
	dsocr_pool_close(pool);
	assert_int_equal(few.wrong, 0);
	assert_int_equal(many.wrong, 0);
	assert_int_equal(few.calls, rounds * few.tasks);
	assert_int_equal(many.calls, rounds * many.tasks);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs), cmocka_unit_test(test_sleep), cmocka_unit_test(test_parallel),
		cmocka_unit_test(test_back_to_back)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
