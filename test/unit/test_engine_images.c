/*-------------------------------------------------------------------------
 *
 * test_engine_images.c
 *		Images and views on their way through the engine.
 *
 * Images are decoded on threads, views of several requests encoded together:
 * texts stay the same to the last bit, nobody waits for others' images, and
 * nothing stays behind.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../reference/engine_driver.h"

static DsocrEngine *engine;

/* Views of several requests in one run of the encoder, some of them cancelled. */
static void
test_views_together(void **state)
{
	DsocrEngine *e = ed_open(ED_TOGETHER, 0, DSOCR_PRECISION_BF16, 5 * ED_SIDE * ED_SIDE);
	EdDriver alone;

	ed_read_alone(engine, &alone);
	for (unsigned v = 15; v < 27; v++)
		ed_read_together(e, &alone, v);
	ed_free(&alone);
	dsocr_engine_close(e);
}

/* Requests with views of several sizes: tiles and global views of different pages. */
static void
test_tiles_together(void **state)
{
	DsocrEngine *e = ed_open(4, 0, DSOCR_PRECISION_BF16, (size_t) 2 << 20);
	EdDriver alone = {.engine = engine};
	EdDriver together = {.engine = e};

	for (uint64_t i = 0; i < 6; i++)
	{
		DsocrRequest r = ed_request(i, (int) i % ED_PAGES);

		/* pages above 640 pixels have tiles, of two sizes in turn */
		EdPng large = ed_draw_page((unsigned) i, i % 3 == 2 ? 300 : 660);

		r.spec = (DsocrViewSpec){.base_size = i % 2 ? 192 : 256,
								 .image_size = 128,
								 .crop = true,
								 .max_tiles = 2 + (int) i};
		r.image = large.bytes;
		r.image_len = large.len;
		ed_admit(&alone, &r);
		ed_run(&alone);
		ed_admit(&together, &r);
		free(large.bytes);
	}
	ed_run(&together);
	for (int i = 0; i < 6; i++)
		ed_same(&alone.outcomes[i], &together.outcomes[i]);
	ed_nothing_left(e);
	ed_free(&alone);
	ed_free(&together);
	dsocr_engine_close(e);
}

/* Closing with images, views and tokens under way frees all. */
static void
test_close_under_way(void **state)
{
	EdPng large = ed_draw_page(3, 3000);

	for (int steps = 0; steps < 9; steps++)
	{
		EdDriver d = {.engine = ed_open(4, 0, DSOCR_PRECISION_BF16, steps % 2 << 20)};
		const DsocrEvents events = ed_events(&d);

		for (uint64_t i = 0; i < 7; i++)
		{
			DsocrRequest r = ed_request(i, (int) i % ED_PAGES);

			if (i % 3 == 1)
			{
				r.image = large.bytes;
				r.image_len = large.len;
			}
			ed_admit(&d, &r);
		}
		for (int i = 0; i < steps; i++)
			assert_true(dsocr_engine_step(d.engine, &events, NULL));
		dsocr_engine_close(d.engine);
		ed_free(&d);
	}
	free(large.bytes);
}

/* A page is read while the large image that came before it is still decoded. */
static void
test_large_image_blocks_nobody(void **state)
{
	EdDriver d = {.engine = engine};
	const DsocrEvents events = ed_events(&d);
	EdPng large = ed_draw_page(3, 9000);
	DsocrRequest r = ed_request(0, 0);
	DsocrError err = {0};

	r.image = large.bytes;
	r.image_len = large.len;
	ed_admit(&d, &r);
	r = ed_request(1, 1);
	ed_admit(&d, &r);
	while (!d.outcomes[1].done)
		assert_true(dsocr_engine_step(engine, &events, &err));
	assert_false(d.outcomes[0].done);
	assert_int_equal(d.outcomes[1].error.code, DSOCR_OK);
	ed_run(&d);
	assert_int_equal(d.outcomes[0].error.code, DSOCR_OK);
	ed_nothing_left(engine);
	free(large.bytes);
	ed_free(&d);
}

/* While there is nothing but an image to wait for, steps sleep, and poll all the same. */
static void
test_sleeps_for_images(void **state)
{
	EdDriver d = {.engine = engine};
	const DsocrEvents events = ed_events(&d);
	EdPng large = ed_draw_page(3, 6000);
	DsocrRequest r = ed_request(0, 0);
	int64_t start = dsocr_now_us();
	int64_t spent;
	int steps = 0;

	r.image = large.bytes;
	r.image_len = large.len;
	ed_admit(&d, &r);
	while (d.outcomes[0].progress == 0)
	{
		assert_true(dsocr_engine_step(engine, &events, NULL));
		steps++;
	}
	spent = dsocr_now_us() - start;
	assert_true(steps > 4);
	assert_true(steps < 10 + spent / 2000);
	assert_true(d.polls >= steps - 1);
	ed_run(&d);
	assert_int_equal(d.outcomes[0].error.code, DSOCR_OK);
	free(large.bytes);
	ed_free(&d);
}

/* Bad images fail alone; good ones between them are read as ever. */
static void
test_bad_images_between_good(void **state)
{
	static const uint8_t junk[] = "this is not an image";
	EdDriver alone;
	EdDriver d = {.engine = engine};
	DsocrRequest r;

	ed_read_alone(engine, &alone);
	for (int i = 0; i < 9; i++)
	{
		r = ed_request((uint64_t) i, i % ED_PAGES);
		if (i % 3 == 0)
			r.image_len = r.image_len * (size_t) (1 + i) / 12; /* cut off */
		if (i % 3 == 1)
		{
			r.image = junk;
			r.image_len = sizeof(junk);
		}
		ed_admit(&d, &r);
	}
	r = ed_request(9, 0);
	r.image = NULL;
	r.image_len = 0;
	ed_admit(&d, &r);
	r = ed_request(10, 0);
	r.max_pixels = ED_SIDE;
	ed_admit(&d, &r);
	ed_run(&d);
	for (int i = 0; i < 11; i++)
	{
		if (i % 3 == 2 && i < 9)
			ed_same(&alone.outcomes[i % ED_PAGES], &d.outcomes[i]);
		else
			assert_int_equal(d.outcomes[i].error.code, DSOCR_E_IMAGE);
	}
	ed_nothing_left(engine);
	ed_free(&alone);
	ed_free(&d);
}

static int
setup(void **state)
{
	ed_setup();
	engine = ed_open(ED_TOGETHER, 0, DSOCR_PRECISION_BF16, 0);
	return 0;
}

static int
teardown(void **state)
{
	dsocr_engine_close(engine);
	ed_teardown();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_views_together),	  cmocka_unit_test(test_tiles_together),
		cmocka_unit_test(test_close_under_way),	  cmocka_unit_test(test_large_image_blocks_nobody),
		cmocka_unit_test(test_sleeps_for_images), cmocka_unit_test(test_bad_images_between_good),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
