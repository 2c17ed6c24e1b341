/*-------------------------------------------------------------------------
 *
 * test_image_pool.c
 *		Images become the same views on threads, whatever happens to others.
 *
 * To look for races as well:
 *		make BUILD=build/tsan ENGINE_SAN=-fsanitize=thread build/tsan/unit/test_image_pool
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <png.h>

#include "image_pool.h"

#define IMAGES 6
#define MANY 24
#define LONG_US 120000000 /* nothing here takes so long, even under sanitizers */

typedef struct Png
{
	uint8_t *bytes;
	size_t len;
	int side;
	DsocrPlan plan;
	DsocrViews views; /* made on this thread */
} Png;

static Png images[IMAGES];

/* Noise, which takes longest to decode. */
static Png
make_image(unsigned seed, int side)
{
	Png p = {.side = side};
	size_t pixels = (size_t) side * (size_t) side;
	uint8_t *rgb = malloc(3 * pixels);
	png_alloc_size_t len = 6 * pixels + 4096;
	png_image head = {.version = PNG_IMAGE_VERSION,
					  .width = (png_uint_32) side,
					  .height = (png_uint_32) side,
					  .format = PNG_FORMAT_RGB};
	DsocrViewSpec spec = {.base_size = 256, .image_size = 128, .crop = true, .max_tiles = 6};
	DsocrError err = {0};

	p.bytes = malloc(len);
	assert_non_null(rgb);
	assert_non_null(p.bytes);
	for (size_t i = 0; i < 3 * pixels; i++)
	{
		seed = seed * 1103515245 + 12345;
		rgb[i] = (uint8_t) (seed >> 20);
	}
	assert_true(png_image_write_to_memory(&head, p.bytes, &len, 0, rgb, side * 3, NULL));
	p.len = len;
	free(rgb);
	assert_true(dsocr_plan(side, side, &spec, &p.plan, &err));
	return p;
}

static DsocrImageTask *
submit(DsocrImagePool *pool, const Png *p)
{
	DsocrError err = {0};
	uint8_t *bytes = dsocr_alloc(p->len, 1, NULL);
	DsocrImageTask *task;

	assert_non_null(bytes);
	memcpy(bytes, p->bytes, p->len);
	task = dsocr_image_pool_submit(
		pool, bytes, p->len,
		&(DsocrImageWork){.width = p->side, .height = p->side, .plan = p->plan}, &err);
	assert_non_null(task);
	return task;
}

static void
wait_for(DsocrImagePool *pool, DsocrImageTask *task)
{
	int64_t start = dsocr_now_us();

	while (!dsocr_image_task_done(task))
	{
		dsocr_image_pool_wait(pool, 100000);
		assert_true(dsocr_now_us() - start < LONG_US);
	}
}

static void
assert_same(const DsocrViews *a, const DsocrViews *b)
{
	assert_int_equal(a->n, b->n);
	for (int i = 0; i < a->n; i++)
	{
		assert_int_equal(a->size[i], b->size[i]);
		assert_memory_equal(a->rgb[i], b->rgb[i], (size_t) a->size[i] * (size_t) a->size[i] * 3);
	}
}

/* Done, and the same as without threads. */
static void
take_and_compare(DsocrImagePool *pool, DsocrImageTask *task, const Png *p)
{
	DsocrImageOutcome outcome;
	DsocrError err = {0};

	wait_for(pool, task);
	assert_true(dsocr_image_task_take(task, &outcome, &err));
	assert_true(outcome.spent > 0);
	assert_same(&p->views, &outcome.views);
	assert_int_equal(outcome.width, p->side);
	assert_int_equal(outcome.orientation.rotation, 0);
	dsocr_views_free(&outcome.views);
}

static void
test_same_views(void **state)
{
	for (int threads = 1; threads <= 4; threads++)
	{
		DsocrImagePool *pool = dsocr_image_pool_open(threads, NULL);
		DsocrImageTask *tasks[MANY];

		assert_non_null(pool);
		assert_false(dsocr_image_pool_full(pool));
		for (int i = 0; i < MANY; i++)
			tasks[i] = submit(pool, &images[i % IMAGES]);
		for (int i = MANY - 1; i >= 0; i--)
			take_and_compare(pool, tasks[i], &images[i % IMAGES]);
		assert_false(dsocr_image_pool_full(pool));
		dsocr_image_pool_close(pool);
	}
}

/* One thread does them in the order in which they came. */
static void
test_order(void **state)
{
	DsocrImagePool *pool = dsocr_image_pool_open(1, NULL);
	DsocrImageTask *tasks[12];

	for (int i = 0; i < 12; i++)
		tasks[i] = submit(pool, &images[i % IMAGES]);
	assert_true(dsocr_image_pool_full(pool));
	wait_for(pool, tasks[5]);
	for (int i = 0; i < 5; i++)
		assert_true(dsocr_image_task_done(tasks[i]));
	for (int i = 0; i < 12; i++)
		take_and_compare(pool, tasks[i], &images[i % IMAGES]);
	dsocr_image_pool_close(pool);
}

static void
test_errors(void **state)
{
	DsocrImagePool *pool = dsocr_image_pool_open(2, NULL);
	Png cut = images[1];
	Png other = images[2];
	Png junk = images[3];
	const Png *bad[3] = {&cut, &other, &junk};
	static uint8_t text[] = "this is not an image";

	cut.len /= 2;
	other.side++; /* the header said something else */
	junk.bytes = text;
	junk.len = sizeof(text);
	for (int i = 0; i < 3; i++)
	{
		DsocrImageTask *task = submit(pool, bad[i]);
		DsocrImageTask *good = submit(pool, &images[0]);
		DsocrImageOutcome outcome;
		DsocrError err = {0};

		wait_for(pool, task);
		assert_false(dsocr_image_task_take(task, &outcome, &err));
		assert_int_equal(err.code, DSOCR_E_IMAGE);
		assert_int_not_equal(err.message[0], '\0');
		assert_int_equal(outcome.views.n, 0);
		take_and_compare(pool, good, &images[0]);
	}
	dsocr_image_pool_close(pool);
}

/* Dropping in any state: neither waits nor disturbs the neighbours; the memory is counted by tools. */
static void
test_drop(void **state)
{
	DsocrImagePool *pool = dsocr_image_pool_open(2, NULL);
	Png large = make_image(5, 1600);

	for (int round = 0; round < 15; round++)
	{
		DsocrImageTask *first = submit(pool, &large);
		DsocrImageTask *kept = submit(pool, &images[round % IMAGES]);
		DsocrImageTask *queued = submit(pool, &large);
		struct timespec pause = {.tv_nsec = round * 400000};
		int64_t start;

		nanosleep(&pause, NULL);
		start = dsocr_now_us();
		dsocr_image_task_drop(queued);
		dsocr_image_task_drop(first);
		/* without waiting for a whole image, even on a busy machine */
		assert_true(dsocr_now_us() - start < 1000000);
		take_and_compare(pool, kept, &images[round % IMAGES]);
	}
	dsocr_image_pool_close(pool);
	free(large.bytes);
}

/* What is dropped and what is queued when the pool closes is given up. */
static void
test_close(void **state)
{
	Png large = make_image(6, 1600);

	for (int round = 0; round < 9; round++)
	{
		DsocrImagePool *pool = dsocr_image_pool_open(1 + round % 3, NULL);
		DsocrImageTask *tasks[8];
		struct timespec pause = {.tv_nsec = round * 1000000};

		for (int i = 0; i < 8; i++)
			tasks[i] = submit(pool, i % 2 ? &large : &images[i % IMAGES]);
		nanosleep(&pause, NULL);
		for (int i = 0; i < 8; i++)
			dsocr_image_task_drop(tasks[i]);
		dsocr_image_pool_close(pool);
	}
	free(large.bytes);
}

/* The sleep ends when a task does, and otherwise when its time is over. */
static void
test_wait(void **state)
{
	DsocrImagePool *pool = dsocr_image_pool_open(1, NULL);
	int64_t start = dsocr_now_us();
	DsocrImageTask *task;

	dsocr_image_pool_wait(pool, 20000);
	assert_true(dsocr_now_us() - start >= 20000);
	task = submit(pool, &images[0]);
	start = dsocr_now_us();
	dsocr_image_pool_wait(pool, LONG_US);
	assert_true(dsocr_now_us() - start < LONG_US);
	assert_true(dsocr_image_task_done(task));
	take_and_compare(pool, task, &images[0]);
	dsocr_image_pool_close(pool);
}

static int
setup(void **state)
{
	for (int i = 0; i < IMAGES; i++)
	{
		DsocrImage image = {0};
		DsocrError err = {0};

		images[i] = make_image((unsigned) i, i % 2 ? 700 : 150 + 20 * i);
		assert_true(dsocr_image_decode(images[i].bytes, images[i].len, 0, &image, &err));
		assert_true(dsocr_views_make(&image, &images[i].plan, &images[i].views, &err));
		dsocr_image_free(&image);
	}
	assert_true(images[1].views.n > 1);
	return 0;
}

static int
teardown(void **state)
{
	for (int i = 0; i < IMAGES; i++)
	{
		dsocr_views_free(&images[i].views);
		free(images[i].bytes);
	}
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_views), cmocka_unit_test(test_order),
		cmocka_unit_test(test_errors),	   cmocka_unit_test(test_drop),
		cmocka_unit_test(test_close),	   cmocka_unit_test(test_wait),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
