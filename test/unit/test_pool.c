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

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs), cmocka_unit_test(test_sleep), cmocka_unit_test(test_parallel)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
