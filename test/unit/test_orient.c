/*-------------------------------------------------------------------------
 *
 * test_orient.c
 *		Turned and skewed pages: found, made upright, and boxes mapped back.
 *
 * The pages are those of test/samples.  A page is laid on its side or askew
 * by the same code that makes it upright, so its own correctness is tested
 * first, on single pixels.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "orient.h"

static const int turns[] = {0, 90, 180, 270};

static DsocrImage
blank(int width, int height, uint8_t value)
{
	DsocrImage image = {.width = width, .height = height};

	image.rgb = dsocr_alloc((size_t) width * (size_t) height, 3, NULL);
	assert_non_null(image.rgb);
	memset(image.rgb, value, (size_t) width * (size_t) height * 3);
	return image;
}

static DsocrImage
copy_of(const DsocrImage *image)
{
	DsocrImage copy = blank(image->width, image->height, 0);

	memcpy(copy.rgb, image->rgb, (size_t) copy.width * (size_t) copy.height * 3);
	return copy;
}

static uint8_t *
pixel(DsocrImage *image, int x, int y)
{
	assert_in_range(x, 0, image->width - 1);
	assert_in_range(y, 0, image->height - 1);
	return image->rgb + ((size_t) y * (size_t) image->width + (size_t) x) * 3;
}

static void
paint(DsocrImage *image, const int32_t box[4], uint8_t value)
{
	for (int y = box[1]; y < box[3]; y++)
		for (int x = box[0]; x < box[2]; x++)
			memset(pixel(image, x, y), value, 3);
}

static void
apply(DsocrImage *image, int rotation, float skew)
{
	DsocrOrientation o = {rotation, skew};
	DsocrError err = {0};
	int width;
	int height;

	dsocr_orient_size(&o, image->width, image->height, &width, &height);
	assert_true(dsocr_orient_apply(image, &o, NULL, &err));
	assert_int_equal(image->width, width);
	assert_int_equal(image->height, height);
}

/* The smallest box that holds all pixels darker than this. */
static void
dark_box(DsocrImage *image, int below, int32_t box[4])
{
	box[0] = box[1] = INT32_MAX;
	box[2] = box[3] = 0;
	for (int y = 0; y < image->height; y++)
		for (int x = 0; x < image->width; x++)
			if (*pixel(image, x, y) < below)
			{
				box[0] = x < box[0] ? x : box[0];
				box[1] = y < box[1] ? y : box[1];
				box[2] = x + 1 > box[2] ? x + 1 : box[2];
				box[3] = y + 1 > box[3] ? y + 1 : box[3];
			}
}

/* A corner of the page is where it must be after each turn. */
static void
test_turns(void **state)
{
	static const int corner[4][2] = {{0, 0}, {4, 0}, {6, 4}, {0, 6}};

	for (int i = 0; i < 4; i++)
	{
		DsocrImage image = blank(7, 5, 255);

		*pixel(&image, 0, 0) = 1;
		apply(&image, turns[i], 0);
		assert_int_equal(image.width, i % 2 ? 5 : 7);
		assert_int_equal(*pixel(&image, corner[i][0], corner[i][1]), 1);
		dsocr_image_free(&image);
	}
}

/* Quarter turns lose nothing, so the way back is exact. */
static void
test_boxes_turned(void **state)
{
	static const int32_t boxes[][4] = {
		{0, 0, 1, 1}, {0, 0, 37, 23}, {36, 22, 37, 23}, {5, 7, 11, 8}, {3, 0, 4, 23}};

	for (int i = 0; i < 4; i++)
		for (size_t b = 0; b < sizeof(boxes) / sizeof(boxes[0]); b++)
		{
			DsocrImage image = blank(37, 23, 255);
			DsocrOrientation o = {turns[i], 0};
			int32_t box[4];

			paint(&image, boxes[b], 0);
			apply(&image, turns[i], 0);
			dark_box(&image, 128, box);
			dsocr_orient_unmap_box(&o, 37, 23, box);
			assert_memory_equal(box, boxes[b], sizeof(box));
			dsocr_image_free(&image);
		}
}

/*
 * After straightening, the box found on the upright page must cover the one
 * on the stored page, and exceed it by no more than the turned corners do.
 */
static void
test_boxes_skewed(void **state)
{
	static const int32_t boxes[][4] = {
		{100, 50, 130, 60}, {0, 0, 40, 30}, {270, 380, 300, 400}, {20, 200, 280, 210}};

	for (int i = 0; i < 4; i++)
		for (int s = -14; s <= 14; s++)
			for (size_t b = 0; b < sizeof(boxes) / sizeof(boxes[0]); b++)
			{
				DsocrOrientation o = {turns[i], (float) s / 2};
				DsocrImage image = blank(300, 400, 255);
				double a = fabs((double) o.skew) * M_PI / 180;
				int w = boxes[b][2] - boxes[b][0];
				int h = boxes[b][3] - boxes[b][1];
				/* twice turned by the angle, and what blur and whole pixels add */
				double more_x = 2 * (h * sin(a) + w * sin(a) * sin(a)) + 6;
				double more_y = 2 * (w * sin(a) + h * sin(a) * sin(a)) + 6;
				int32_t box[4];

				paint(&image, boxes[b], 0);
				apply(&image, o.rotation, o.skew);
				dark_box(&image, 128, box);
				dsocr_orient_unmap_box(&o, 300, 400, box);
				for (int k = 0; k < 2; k++)
				{
					assert_true(box[k] <= boxes[b][k] + 1);
					assert_true(box[k + 2] >= boxes[b][k + 2] - 1);
					assert_true(box[k] >= 0);
				}
				assert_true(box[2] <= 300 && box[3] <= 400);
				assert_true(box[2] - box[0] <= w + more_x);
				assert_true(box[3] - box[1] <= h + more_y);
				dsocr_image_free(&image);
			}
}

static void
test_boxes_clamped(void **state)
{
	DsocrOrientation none = {0};
	DsocrOrientation turned = {180, 0};
	int32_t box[4] = {-5, -7, 2000, 3000};

	/* left alone, as the official code does */
	dsocr_orient_unmap_box(&none, 100, 200, box);
	assert_int_equal(box[0], -5);
	assert_int_equal(box[3], 3000);
	dsocr_orient_unmap_box(&turned, 100, 200, box);
	assert_memory_equal(box, ((int32_t[]){0, 0, 100, 200}), sizeof(box));
}

/* Every pixel of the stored page is still there, what is new has the border's colour. */
static void
test_nothing_is_cut_off(void **state)
{
	for (int s = -14; s <= 14; s++)
	{
		DsocrImage image = blank(200, 120, 240);
		float skew = (float) s / 2;
		int64_t dark = 0;
		int32_t corners[4][4] = {
			{0, 0, 6, 6}, {194, 0, 200, 6}, {0, 114, 6, 120}, {194, 114, 200, 120}};

		for (int i = 0; i < 4; i++)
			paint(&image, corners[i], 0);
		apply(&image, 0, skew);
		for (int y = 0; y < image.height; y++)
			for (int x = 0; x < image.width; x++)
			{
				uint8_t v = *pixel(&image, x, y);

				dark += 240 - v;
			}
		if (abs(s) > 3)
			assert_int_equal(*pixel(&image, s > 0 ? 0 : image.width - 1, image.height - 1), 240);
		/* four corners of 36 pixels, but for rounding */
		assert_true(llabs(dark - 4 * 36 * 240) < 4 * 36 * 240 / 8);
		dsocr_image_free(&image);
	}
}

static void
test_plain_stays_plain(void **state)
{
	for (int v = 0; v < 256; v += 51)
	{
		DsocrImage image = blank(90, 70, (uint8_t) v);

		apply(&image, 90, 3.3F);
		for (size_t i = 0; i < (size_t) image.width * (size_t) image.height * 3; i++)
			assert_int_equal(image.rgb[i], v);
		dsocr_image_free(&image);
	}
}

/* ---- finding out ---- */

static bool
read_sample(const char *name, DsocrImage *image)
{
	DsocrBuffer b = {0};
	DsocrError err = {0};
	char path[256];
	bool ok;

	snprintf(path, sizeof(path), "test/samples/%s", name);
	ok = dsocr_read_file(path, 10000000, &b, &err) &&
		 dsocr_image_decode((const uint8_t *) b.data, b.len, 0, image, &err);
	dsocr_buffer_free(&b);
	if (!ok)
		fail_msg("%s: %s", path, err.message);
	return ok;
}

static void
check_found(const DsocrImage *page, int rotation, float skew)
{
	DsocrImage image = copy_of(page);
	DsocrOrientation o;
	DsocrError err = {0};

	/* lay it askew, then on its side */
	apply(&image, 0, -skew);
	apply(&image, (360 - rotation) % 360, 0);
	assert_true(dsocr_orient_detect(&image, NULL, &o, &err));
	if (o.rotation != rotation || fabsf(o.skew - skew) > 0.25F)
		fail_msg("turned by %d and %.2f, found %d and %.2f", rotation, (double) skew, o.rotation,
				 (double) o.skew);
	dsocr_image_free(&image);
}

static void
test_found(void **state)
{
	static const char *const samples[] = {"letter.png", "notice.png"};
	static const float skews[] = {0, -4.5F, 1.2F, 6.5F};
	DsocrImage page;

	if (!dsocr_orient_init())
		skip();
	for (int n = 0; n < 2; n++)
	{
		assert_true(read_sample(samples[n], &page));
		for (int i = 0; i < 4; i++)
			check_found(&page, turns[i], skews[(i + n) % 4]);
		dsocr_image_free(&page);
	}
}

/* White on black, grey on grey, small and large. */
static void
test_found_on_other_pages(void **state)
{
	DsocrImage page;

	if (!dsocr_orient_init())
		skip();
	assert_true(read_sample("letter.png", &page));
	for (size_t i = 0; i < (size_t) page.width * (size_t) page.height * 3; i++)
		page.rgb[i] = (uint8_t) (255 - page.rgb[i]);
	check_found(&page, 180, 0);
	check_found(&page, 90, 0);
	for (size_t i = 0; i < (size_t) page.width * (size_t) page.height * 3; i++)
		page.rgb[i] = (uint8_t) (160 - page.rgb[i] / 4);
	check_found(&page, 270, 2.5F);
	dsocr_image_free(&page);
}

/* Nothing to read: no turn, no failure. */
static void
test_nothing_to_find(void **state)
{
	static const int sizes[][2] = {{1, 1},	  {64, 64},	  {3000, 2},
								   {2, 3000}, {500, 400}, {100000, 70}};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int noise = 0; noise < 3; noise++)
		{
			DsocrImage image = blank(sizes[i][0], sizes[i][1], noise == 0 ? 255 : 0);
			DsocrOrientation o = {1, 1};
			DsocrError err = {0};
			uint32_t r = 1;

			for (size_t p = 0; noise == 2 && p < (size_t) image.width * (size_t) image.height; p++)
			{
				r = r * 1664525 + 1013904223;
				memset(image.rgb + 3 * p, (int) (r >> 24), 3);
			}
			assert_true(dsocr_orient_detect(&image, NULL, &o, &err));
			assert_int_equal(o.rotation, 0);
			assert_true(o.skew == 0);
			dsocr_image_free(&image);
		}
}

static bool
never(void *arg)
{
	return false;
}

static void
test_cancelled(void **state)
{
	DsocrPoll poll = {.go_on = never};
	DsocrImage image = blank(300, 300, 255);
	DsocrOrientation o = {0, 2};
	DsocrError err = {0};

	assert_false(dsocr_orient_apply(&image, &o, &poll, &err));
	assert_int_equal(err.code, DSOCR_E_CANCELLED);
	assert_int_equal(image.width, 300);
	if (dsocr_orient_init())
	{
		err.code = DSOCR_OK;
		assert_false(dsocr_orient_detect(&image, &poll, &o, &err));
		assert_int_equal(err.code, DSOCR_E_CANCELLED);
	}
	dsocr_image_free(&image);
}

/* A large page is shrunk before it is looked at. */
static void
test_large_page(void **state)
{
	DsocrImage image = blank(10000, 10000, 255);
	DsocrOrientation o;
	DsocrError err = {0};
	int64_t start;

	if (!dsocr_orient_init())
		skip();
	for (int y = 500; y < 9500; y += 130)
		for (int x = 400; x < 9500; x += 40)
			if ((x / 40 * 7 + y / 130 * 3) % 6 != 0)
				paint(&image, (int32_t[]){x, y - 20 * (x / 40 % 3 == 0), x + 25, y + 60}, 20);
	start = dsocr_now_us();
	assert_true(dsocr_orient_detect(&image, NULL, &o, &err));
	printf("100 million pixels: %.0f ms\n", (double) (dsocr_now_us() - start) / 1000);
	/* sanitizers and neighbours may take their time */
	assert_true(dsocr_now_us() - start < 3000000);
	assert_int_equal(o.rotation % 180, 0);
	dsocr_image_free(&image);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_boxes_turned),
		cmocka_unit_test(test_boxes_skewed),
		cmocka_unit_test(test_boxes_clamped),
		cmocka_unit_test(test_nothing_is_cut_off),
		cmocka_unit_test(test_plain_stays_plain),
		cmocka_unit_test(test_found),
		cmocka_unit_test(test_found_on_other_pages),
		cmocka_unit_test(test_nothing_to_find),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_large_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
