/*-------------------------------------------------------------------------
 *
 * test_engine_rotate.c
 *		Pages on their side or head, and pages of a TIFF, through the engine.
 *
 * A quarter turn loses nothing, so the text must be that of the upright page,
 * to the last token; with tiles the plan is another one once the page is
 * upright.
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
#include "../reference/engine_driver.h"

#define WIDTH 660
#define HEIGHT 900

static DsocrEngine *engine;
static DsocrImage page; /* the letter of the samples, on a larger sheet */

typedef struct Answer
{
	char *raw;
	int32_t width;
	int32_t height;
	int32_t rotation;
	float skew;
	int32_t columns;
	int32_t rows;
	int32_t prompt_tokens;
	DsocrError error;
} Answer;

static void
on_done(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error)
{
	Answer *a = arg;

	a->error = *error;
	if (error->code != DSOCR_OK)
		return;
	a->raw = strdup(result->raw);
	a->width = result->width;
	a->height = result->height;
	a->rotation = result->rotation;
	a->skew = result->skew;
	a->columns = result->grid_columns;
	a->rows = result->grid_rows;
	a->prompt_tokens = result->prompt_tokens;
}

static Answer
ask(const DsocrRequest *r)
{
	Answer a = {0};
	const DsocrEvents events = {.done = on_done, .arg = &a};
	DsocrError err = {0};

	if (!dsocr_engine_admit(engine, r, &err))
		fail_msg("%s", err.message);
	while (dsocr_engine_pending(engine) > 0)
	{
		if (!dsocr_engine_step(engine, &events, &err) && err.code != DSOCR_OK)
			fail_msg("%s", err.message);
	}
	ed_nothing_left(engine);
	return a;
}

/* Read the page laid on its side or head, and askew. */
static Answer
read_turned(int turn, float skew, bool tiles, bool rotate)
{
	DsocrImage image = {.width = page.width, .height = page.height};
	size_t bytes = (size_t) WIDTH * HEIGHT * 3;
	DsocrOrientation askew = {0, skew};
	DsocrOrientation turned = {turn, 0};
	DsocrRequest r = ed_request(0, 0);
	DsocrBuffer pnm = {0};
	DsocrError err = {0};
	Answer a;

	image.rgb = dsocr_alloc(bytes, 1, NULL);
	assert_non_null(image.rgb);
	memcpy(image.rgb, page.rgb, bytes);
	assert_true(dsocr_orient_apply(&image, &askew, NULL, &err));
	assert_true(dsocr_orient_apply(&image, &turned, NULL, &err));
	assert_true(dsocr_buffer_printf(&pnm, &err, "P6 %d %d 255\n", image.width, image.height));
	assert_true(dsocr_buffer_append(&pnm, image.rgb,
									(size_t) image.width * (size_t) image.height * 3, &err));
	r.spec = (DsocrViewSpec){.base_size = 256, .image_size = 128, .crop = tiles, .max_tiles = 6};
	r.image = (const uint8_t *) pnm.data;
	r.image_len = pnm.len;
	r.auto_rotate = rotate;
	a = ask(&r);
	assert_int_equal(a.error.code, DSOCR_OK);
	assert_int_equal(a.width, image.width);
	assert_int_equal(a.height, image.height);
	dsocr_buffer_free(&pnm);
	dsocr_image_free(&image);
	return a;
}

static void
test_turned_pages(void **state)
{
	if (!dsocr_orient_init())
		skip();
	for (int tiles = 0; tiles < 2; tiles++)
	{
		Answer upright = read_turned(0, 0, tiles, false);
		Answer left = read_turned(90, 0, tiles, false);

		/* otherwise there would be nothing to test */
		assert_string_not_equal(upright.raw, left.raw);
		assert_int_equal(left.rotation, 0);
		if (tiles)
			assert_true(upright.columns != left.columns);
		for (int turn = 0; turn < 360; turn += 90)
		{
			Answer a = read_turned(turn, 0, tiles, true);

			assert_int_equal(a.rotation, (360 - turn) % 360);
			assert_true(a.skew == 0);
			assert_string_equal(a.raw, upright.raw);
			assert_int_equal(a.columns, upright.columns);
			assert_int_equal(a.rows, upright.rows);
			assert_int_equal(a.prompt_tokens, upright.prompt_tokens);
			free(a.raw);
		}
		free(upright.raw);
		free(left.raw);
	}
}

static void
test_skewed_pages(void **state)
{
	if (!dsocr_orient_init())
		skip();
	for (int i = 0; i < 2; i++)
	{
		float skew = i == 0 ? 3.0F : -4.0F;
		Answer a = read_turned(i * 180, skew, true, true);

		assert_int_equal(a.rotation, i * 180);
		assert_true(fabsf(a.skew + skew) < 0.2F);
		free(a.raw);
	}
}

static void
test_pages_of_tiff(void **state)
{
#ifdef DSOCR_WITH_TIFF
	/* 37 x 23 three times, and 11 x 31 */
	static const int sizes[][2] = {{37, 23}, {37, 23}, {37, 23}, {37, 23}, {11, 31}};
	DsocrRequest r = ed_request(0, 0);
	DsocrBuffer b = {0};
	Answer a;

	assert_true(dsocr_read_file("test/fuzz/corpus/tiff/pages.tif", 100000, &b, NULL));
	r.image = (const uint8_t *) b.data;
	r.image_len = b.len;
	for (r.page = 0; r.page <= 4; r.page++)
	{
		a = ask(&r);
		assert_int_equal(a.error.code, DSOCR_OK);
		assert_int_equal(a.width, sizes[r.page][0]);
		assert_int_equal(a.height, sizes[r.page][1]);
		free(a.raw);
	}
	r.page = 5;
	a = ask(&r);
	assert_int_equal(a.error.code, DSOCR_E_IMAGE);
	assert_string_equal(a.error.message, "TIFF image has no page 5");
	dsocr_buffer_free(&b);
	/* an image of one page may be any page of a document */
	r = ed_request(0, 0);
	r.page = 7;
	a = ask(&r);
	assert_int_equal(a.error.code, DSOCR_OK);
	free(a.raw);
#else
	skip();
#endif
}

static int
setup(void **state)
{
	DsocrBuffer b = {0};
	DsocrImage letter;

	ed_setup();
	engine = ed_open(2, 0, DSOCR_PRECISION_BF16, 0);
	assert_true(dsocr_read_file("test/samples/letter.png", 10000000, &b, NULL));
	assert_true(dsocr_image_decode((const uint8_t *) b.data, b.len, 0, &letter, NULL));
	dsocr_buffer_free(&b);
	page = (DsocrImage){.width = WIDTH, .height = HEIGHT};
	page.rgb = dsocr_alloc((size_t) WIDTH * HEIGHT, 3, NULL);
	assert_non_null(page.rgb);
	memset(page.rgb, 255, (size_t) WIDTH * HEIGHT * 3);
	for (int y = 0; y < letter.height; y++)
		memcpy(page.rgb + ((size_t) (y + 100) * WIDTH + 10) * 3,
			   letter.rgb + (size_t) y * (size_t) letter.width * 3, (size_t) letter.width * 3);
	dsocr_image_free(&letter);
	return 0;
}

static int
teardown(void **state)
{
	dsocr_image_free(&page);
	dsocr_engine_close(engine);
	ed_teardown();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_turned_pages),
		cmocka_unit_test(test_skewed_pages),
		cmocka_unit_test(test_pages_of_tiff),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
