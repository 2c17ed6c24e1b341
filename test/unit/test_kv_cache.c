/*-------------------------------------------------------------------------
 *
 * test_kv_cache.c
 *		Pages are handed out once, come back exactly, and turns are fair.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kv_cache.h"
#include "scheduler.h"

#define PAGES 50

static DsocrBackend *be;
static const DsocrConfig config = {.layers = 2, .heads = 2, .head_dim = 8};

static void
test_page_arithmetic(void **state)
{
	assert_int_equal(dsocr_kv_pages(0), 0);
	assert_int_equal(dsocr_kv_pages(1), 1);
	assert_int_equal(dsocr_kv_pages(DSOCR_PAGE_TOKENS), 1);
	assert_int_equal(dsocr_kv_pages(DSOCR_PAGE_TOKENS + 1), 2);
	assert_int_equal(dsocr_kv_pages(INT32_MAX), INT32_MAX / DSOCR_PAGE_TOKENS + 1);
	/* keys and values of all layers in fp32 */
	assert_int_equal(dsocr_kv_page_bytes(be, &config), 2 * 2 * 2 * 8 * DSOCR_PAGE_TOKENS * 4);
}

/* Random owners: no page has two, and the counts always add up. */
static void
test_accounting(void **state)
{
	DsocrKvCache *kv = dsocr_kv_cache_open(be, &config, PAGES, 1, NULL);
	int32_t held[8][PAGES];
	int n_held[8] = {0};
	int refused = 0;

	assert_non_null(kv);
	srand(2);
	for (int round = 0; round < 20000; round++)
	{
		int who = rand() % 8;
		int owner[PAGES];
		int sum = 0;

		if (n_held[who] > 0)
		{
			assert_true(dsocr_kv_release(kv, held[who], n_held[who]));
			n_held[who] = 0;
		}
		else
		{
			int n = rand() % 16;
			int left = dsocr_kv_free(kv);
			bool ok = dsocr_kv_reserve(kv, held[who], n);

			assert_int_equal(ok, n <= left);
			n_held[who] = ok ? n : 0;
			refused += !ok;
		}
		memset(owner, -1, sizeof(owner));
		for (int i = 0; i < 8; i++)
			for (int j = 0; j < n_held[i]; j++)
			{
				assert_in_range(held[i][j], 0, PAGES - 1);
				assert_int_equal(owner[held[i][j]], -1);
				owner[held[i][j]] = i;
				sum++;
			}
		assert_int_equal(dsocr_kv_free(kv), PAGES - sum);
	}
	assert_true(refused > 100);
	dsocr_kv_cache_close(kv);
}

static void
test_wrong_release(void **state)
{
	DsocrKvCache *kv = dsocr_kv_cache_open(be, &config, 4, 1, NULL);
	int32_t pages[4];
	int32_t twice[2];

	assert_non_null(kv);
	assert_false(dsocr_kv_reserve(kv, pages, 5));
	assert_false(dsocr_kv_reserve(kv, pages, -1));
	assert_true(dsocr_kv_reserve(kv, pages, 3));
	twice[0] = twice[1] = pages[0];
	assert_false(dsocr_kv_release(kv, twice, 2));
	assert_false(dsocr_kv_release(kv, (int32_t[]){pages[1], 99}, 2));
	assert_false(dsocr_kv_release(kv, (int32_t[]){-1}, 1));
	assert_int_equal(dsocr_kv_free(kv), 1);
	assert_true(dsocr_kv_release(kv, pages, 3));
	assert_false(dsocr_kv_release(kv, pages, 3));
	assert_int_equal(dsocr_kv_free(kv), 4);
	dsocr_kv_cache_close(kv);
}

static void
test_slots(void **state)
{
	DsocrKvCache *kv = dsocr_kv_cache_open(be, &config, 4, 3, NULL);
	bool seen[3] = {false};

	assert_non_null(kv);
	for (int i = 0; i < 3; i++)
	{
		int slot = dsocr_kv_take_slot(kv);

		assert_in_range(slot, 0, 2);
		assert_false(seen[slot]);
		seen[slot] = true;
	}
	assert_int_equal(dsocr_kv_take_slot(kv), -1);
	dsocr_kv_give_slot(kv, 1);
	assert_int_equal(dsocr_kv_take_slot(kv), 1);
	dsocr_kv_cache_close(kv);
}

/* A job that only a scheduler looks at. */
static DsocrJob *
job_of(uint64_t id, DsocrPriority priority)
{
	DsocrJob *job = dsocr_zalloc(1, sizeof(*job), NULL);

	assert_non_null(job);
	job->request.id = id;
	job->request.priority = priority;
	return job;
}

static void
test_turns(void **state)
{
	DsocrScheduler s;
	char order[41] = {0};

	dsocr_scheduler_init(&s, 100);
	for (uint64_t i = 0; i < 30; i++)
		dsocr_scheduler_add(&s, job_of(i, DSOCR_INTERACTIVE));
	for (uint64_t i = 100; i < 110; i++)
		dsocr_scheduler_add(&s, job_of(i, DSOCR_BULK));
	for (int i = 0; i < 40; i++)
	{
		DsocrJob *job = dsocr_scheduler_next(&s);

		assert_non_null(job);
		order[i] = job->request.priority == DSOCR_BULK ? 'b' : 'i';
		dsocr_scheduler_admit(&s, job);
		assert_int_equal(job->state, DSOCR_JOB_IMAGE);
	}
	/* one bulk request after four interactive ones, then what is left */
	assert_string_equal(order, "iiiibiiiibiiiibiiiibiiiibiiiibiiiibiibbb");
	assert_null(dsocr_scheduler_next(&s));
	assert_int_equal(s.active, 40);
	assert_int_equal(s.waiting, 0);

	/* images: the oldest of each kind by the same rule, nobody overtakes */
	assert_null(dsocr_scheduler_work(&s));
	for (int i = 0; i < 10; i++)
	{
		DsocrJob *job = dsocr_scheduler_image(&s);

		assert_ptr_equal(job, dsocr_scheduler_image(&s));
		dsocr_scheduler_image_taken(&s, job);
		assert_int_equal(job->request.id, i % 5 == 4 ? 100 + i / 5 : i - i / 5);
		job->state = DSOCR_JOB_PIXELS;
	}

	/* and work */
	assert_null(dsocr_scheduler_work(&s));
	for (DsocrJob *job = s.admitted.first; job != NULL; job = job->next)
		job->state = job->request.id % 2 ? DSOCR_JOB_PREFILL : DSOCR_JOB_VIEWS;
	assert_null(dsocr_scheduler_image(&s));
	for (int i = 0; i < 10; i++)
		assert_int_equal(dsocr_scheduler_work(&s)->request.id, i % 5 == 4 ? 100 : 0);
	for (uint64_t i = 0; i < 110; i++)
	{
		DsocrJob *job = dsocr_scheduler_find(&s, i);

		assert_true((job == NULL) == (i >= 30 && i < 100));
		if (job != NULL)
			dsocr_scheduler_remove(&s, job);
		dsocr_free(job);
	}
	assert_int_equal(s.active, 0);
	assert_null(dsocr_scheduler_work(&s));
}

static void
test_places(void **state)
{
	DsocrScheduler s;
	DsocrJob *jobs[4];
	DsocrJob *list[2];

	dsocr_scheduler_init(&s, 2);
	for (uint64_t i = 0; i < 4; i++)
	{
		jobs[i] = job_of(i, DSOCR_BULK);
		dsocr_scheduler_add(&s, jobs[i]);
	}
	dsocr_scheduler_admit(&s, dsocr_scheduler_next(&s));
	dsocr_scheduler_admit(&s, dsocr_scheduler_next(&s));
	assert_null(dsocr_scheduler_next(&s)); /* all places taken */
	jobs[0]->state = DSOCR_JOB_DECODING;
	jobs[1]->state = DSOCR_JOB_DECODING;
	assert_int_equal(dsocr_scheduler_decoding(&s, list), 2);
	assert_ptr_equal(list[0], jobs[0]);
	assert_null(dsocr_scheduler_work(&s));

	/* probes need no place */
	jobs[3]->request.kind = DSOCR_PROBE;
	assert_ptr_equal(dsocr_scheduler_probe(&s), jobs[3]);
	dsocr_scheduler_remove(&s, jobs[3]);
	assert_null(dsocr_scheduler_probe(&s));
	dsocr_scheduler_remove(&s, jobs[1]);
	assert_ptr_equal(dsocr_scheduler_next(&s), jobs[2]);
	assert_int_equal(s.active, 1);
	assert_int_equal(s.waiting, 1);
	for (int i = 0; i < 4; i++)
		dsocr_free(jobs[i]);
}

static int
setup(void **state)
{
	DsocrBackendOptions options = {.precision = DSOCR_PRECISION_FP32};

	be = dsocr_reference_open(&options, NULL);
	return be == NULL;
}

static int
teardown(void **state)
{
	be->ops->close(be);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page_arithmetic), cmocka_unit_test(test_accounting),
		cmocka_unit_test(test_wrong_release),	cmocka_unit_test(test_slots),
		cmocka_unit_test(test_turns),			cmocka_unit_test(test_places),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
