/*-------------------------------------------------------------------------
 *
 * test_preprocess.c
 *		Resizing against a plain loop, plans against the official numbers.
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

#include "preprocess.h"

static uint32_t random_state = 7;

static uint32_t
next_random(void)
{
	random_state = random_state * 1664525 + 1013904223;
	return random_state >> 8;
}

/*
 * Stands before the C library's: allocation number fail_at, counted from 0,
 * fails.
 */
static long fail_at = -1;
static long allocations;

void *
aligned_alloc(size_t alignment, size_t size)
{
	void *p;

	if (allocations++ == fail_at || posix_memalign(&p, alignment, size) != 0)
		return NULL;
	return p;
}

static uint8_t *
random_pixels(int width, int height, int kind)
{
	size_t n = (size_t) width * (size_t) height * 3;
	uint8_t *p = malloc(n);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t) (kind == 0 ? next_random() : next_random() % 2 * 255);
	return p;
}

/* ---- resize ---- */

static double
cubic(double x)
{
	x = fabs(x);
	if (x < 1.0)
		return (1.5 * x - 2.5) * x * x + 1;
	return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0.0;
}

/* One pass along an axis: n values step apart, lines line_step apart. */
static void
plain_pass(const uint8_t *in, int in_size, int in_step, uint8_t *out, int out_size, int out_step,
		   int lines, int in_line, int out_line)
{
	double scale = (double) in_size / out_size;
	double widen = scale < 1 ? 1 : scale;

	for (int i = 0; i < out_size; i++)
	{
		double center = (i + 0.5) * scale;
		int min = (int) (center - 2 * widen + 0.5);
		int max = (int) (center + 2 * widen + 0.5);
		double *w;
		double sum = 0;

		min = min < 0 ? 0 : min;
		max = max > in_size ? in_size : max;
		w = malloc((size_t) (max - min) * sizeof(double));
		assert_non_null(w);
		for (int t = min; t < max; t++)
			sum += w[t - min] = cubic((t - center + 0.5) * (1.0 / widen));
		for (int line = 0; line < lines; line++)
			for (int c = 0; c < 3; c++)
			{
				int64_t total = 1 << 21;

				for (int t = min; t < max; t++)
				{
					double k = w[t - min] / sum * (1 << 22);

					total += (int64_t) (k < 0 ? k - 0.5 : k + 0.5) *
							 in[(ptrdiff_t) line * in_line + (ptrdiff_t) t * in_step + c];
				}
				total >>= 22;
				out[(ptrdiff_t) line * out_line + (ptrdiff_t) i * out_step + c] =
					(uint8_t) (total < 0	 ? 0
							   : total > 255 ? 255
											 : total);
			}
		free(w);
	}
}

static uint8_t *
plain_resize(const uint8_t *in, int in_w, int in_h, int w, int h)
{
	uint8_t *middle = malloc((size_t) w * (size_t) in_h * 3);
	uint8_t *out = malloc((size_t) w * (size_t) h * 3);

	assert_true(middle != NULL && out != NULL);
	if (w == in_w)
		memcpy(middle, in, (size_t) w * (size_t) in_h * 3);
	else
		plain_pass(in, in_w, 3, middle, w, 3, in_h, in_w * 3, w * 3);
	if (h == in_h)
		memcpy(out, middle, (size_t) w * (size_t) h * 3);
	else
		plain_pass(middle, in_h, w * 3, out, h, w * 3, w, 3, 3);
	free(middle);
	return out;
}

static void
check_resize(int in_w, int in_h, int w, int h, int kind)
{
	uint8_t *in = random_pixels(in_w, in_h, kind);
	uint8_t *want = plain_resize(in, in_w, in_h, w, h);
	uint8_t *out;
	DsocrError err = {0};

	assert_true(dsocr_resize_bicubic(in, in_w, in_h, w, h, &out, &err));
	if (memcmp(out, want, (size_t) w * (size_t) h * 3) != 0)
		fail_msg("%d x %d to %d x %d differs", in_w, in_h, w, h);
	dsocr_free(out);
	free(want);
	free(in);
}

static void
test_resize(void **state)
{
	/* one side kept, both kept, tall and narrow, bands that jump */
	static const int sizes[][4] = {{1, 1, 1, 1},	   {1, 1, 7, 9},	   {9, 7, 1, 1},
								   {20, 30, 20, 7},	   {20, 30, 7, 30},	   {13, 11, 13, 11},
								   {3, 5000, 60, 60},  {5000, 3, 60, 60},  {17, 16, 33, 1000},
								   {200, 300, 31, 47}, {64, 64, 640, 640}, {5, 1000, 5, 3}};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int kind = 0; kind < 2; kind++)
			check_resize(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], kind);
	for (int i = 0; i < 300; i++)
		check_resize((int) (1 + next_random() % 70), (int) (1 + next_random() % 70),
					 (int) (1 + next_random() % 70), (int) (1 + next_random() % 70), i % 2);
}

static void
test_resize_refuses(void **state)
{
	uint8_t pixel[3] = {0};
	uint8_t *out;
	DsocrError err = {0};

	assert_false(dsocr_resize_bicubic(pixel, 1, 1, 0, 5, &out, &err));
	assert_int_equal(err.code, DSOCR_E_ARGUMENT);
	assert_null(out);
	assert_false(dsocr_resize_bicubic(pixel, 0, 1, 5, 5, &out, &err));
	assert_false(dsocr_resize_bicubic(pixel, 1, 1, 5, -1, &out, &err));
	assert_false(dsocr_resize_bicubic(pixel, 1, 1, INT32_MAX, INT32_MAX, &out, &err));
	assert_int_equal(err.code, DSOCR_E_MEMORY);
	assert_null(out);
}

/* ---- fitting and grids ---- */

static void
test_contain(void **state)
{
	/* width, height, target, contained size, offset; halves go to even */
	static const int rows[][7] = {
		{2836, 2548, 1280, 1280, 1150, 0, 65}, {900, 104, 256, 256, 30, 0, 113},
		{554, 2710, 1280, 262, 1280, 509, 0},  {64, 64, 100, 100, 100, 0, 0},
		{200, 25, 100, 100, 12, 0, 44},		   {200, 27, 100, 100, 14, 0, 43},
		{25, 200, 101, 13, 101, 44, 0},		   {24, 200, 101, 12, 101, 44, 0},
		{1, 3000, 1024, 1, 1024, 512, 0},	   {3000, 1, 1024, 1024, 1, 0, 512},
		{100000, 1, 16, 16, 1, 0, 8}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		int w;
		int h;
		int x;
		int y;

		dsocr_contain(rows[i][0], rows[i][1], rows[i][2], &w, &h, &x, &y);
		if (w != rows[i][3] || h != rows[i][4] || x != rows[i][5] || y != rows[i][6])
			fail_msg("row %zu: %d x %d at %d, %d", i, w, h, x, y);
	}
}

static void
test_choose_grid(void **state)
{
	/* width, height, tile, most tiles, columns, rows */
	static const int rows[][6] = {
		{1700, 2200, 640, 9, 2, 3},
		{37800, 5040, 640, 9, 8, 1}, /* between 7 and 8, large: the later one */
		{750, 100, 640, 9, 7, 1},	 /* the same, small: the earlier one */
		{42840, 5040, 640, 6, 6, 1},
		{107, 107, 640, 9, 2, 2},
		{2000, 2000, 640, 9, 3, 3}, /* 2 x 2 and 3 x 3 are equal */
		{1280, 1280, 640, 9, 2, 2},
		{1, 20000, 640, 9, 1, 9},
		{100, 80, 640, 2, 1, 2}, /* 1.25 lies between 1 x 2 and 2 x 1 */
		{2000, 1600, 640, 2, 2, 1},
		{5000, 4000, 640, 20, 5, 4},
		{6300, 100, 640, 63, 63, 1}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		int columns;
		int grid_rows;

		dsocr_choose_grid(rows[i][0], rows[i][1], rows[i][2], rows[i][3], &columns, &grid_rows);
		if (columns != rows[i][4] || grid_rows != rows[i][5])
			fail_msg("row %zu: %d x %d", i, columns, grid_rows);
	}
}

static void
test_plan(void **state)
{
	static const struct
	{
		int mode;
		int width;
		int height;
		int views;
		int tokens;
		int valid;
	} cases[] = {
		{DSOCR_MODE_TINY, 1700, 2200, 1, 73, 64},
		{DSOCR_MODE_SMALL, 1700, 2200, 1, 111, 100},
		{DSOCR_MODE_BASE, 1700, 2200, 1, 273, 197},
		{DSOCR_MODE_LARGE, 1700, 2200, 1, 421, 309},
		{DSOCR_MODE_GUNDAM, 1700, 2200, 7, 903, 797},
		{DSOCR_MODE_GUNDAM, 640, 640, 1, 273, 256},
		{DSOCR_MODE_GUNDAM, 641, 400, 7, 893, 759},
		{DSOCR_MODE_GUNDAM_M, 1700, 2200, 7, 2005, 1845},
	};
	DsocrError err = {0};
	DsocrPlan plan;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DsocrViewSpec spec = dsocr_mode_spec((DsocrMode) cases[i].mode);

		assert_true(dsocr_plan(cases[i].width, cases[i].height, &spec, &plan, &err));
		if (plan.views != cases[i].views || plan.image_tokens != cases[i].tokens ||
			plan.valid_image_tokens != cases[i].valid)
			fail_msg("case %zu: %d views, %d tokens, %d valid", i, plan.views, plan.image_tokens,
					 plan.valid_image_tokens);
	}
	/* the vLLM scripts' way, and sizes that are no multiple of 64 */
	assert_true(dsocr_plan(
		1700, 2200,
		&(DsocrViewSpec){
			.base_size = 256, .image_size = 192, .crop = true, .max_tiles = 6, .vllm = true},
		&plan, &err));
	assert_int_equal(plan.image_tokens, 84);
	assert_true(dsocr_plan(
		2400, 160,
		&(DsocrViewSpec){
			.base_size = 512, .image_size = 320, .crop = true, .max_tiles = 6, .vllm = true},
		&plan, &err));
	assert_int_equal(plan.image_tokens, 228);
	assert_true(
		dsocr_plan(10, 10, &(DsocrViewSpec){.base_size = 200, .image_size = 200}, &plan, &err));
	assert_int_equal(plan.image_tokens, 13);
	assert_true(
		dsocr_plan(10, 10, &(DsocrViewSpec){.base_size = 720, .image_size = 720}, &plan, &err));
	assert_int_equal(plan.image_tokens, 157);
}

static void
test_plan_refuses(void **state)
{
	DsocrViewSpec good = dsocr_mode_spec(DSOCR_MODE_GUNDAM);
	DsocrViewSpec bad[5] = {good, good, good, good, good};
	DsocrError err = {0};
	DsocrPlan plan;

	bad[0].base_size = 0;
	bad[1].image_size = 1 << 20;
	bad[2].max_tiles = 1;
	bad[3].max_tiles = DSOCR_MAX_VIEWS;
	bad[4].image_size = -640;
	for (int i = 0; i < 5; i++)
	{
		err.code = DSOCR_OK;
		assert_false(dsocr_plan(1000, 1000, &bad[i], &plan, &err));
		assert_int_equal(err.code, DSOCR_E_ARGUMENT);
	}
	assert_false(dsocr_plan(0, 1000, &good, &plan, &err));
	assert_false(dsocr_plan(1000, -1, &good, &plan, &err));
	good.max_tiles = DSOCR_MAX_VIEWS - 1;
	assert_true(dsocr_plan(1000000, 1, &good, &plan, &err));
	assert_int_equal(plan.views, DSOCR_MAX_VIEWS);
}

/* ---- views ---- */

static void
make_views(DsocrImage *image, DsocrViewSpec spec, DsocrPlan *plan, DsocrViews *views)
{
	DsocrError err = {0};

	assert_true(dsocr_plan(image->width, image->height, &spec, plan, &err));
	assert_true(dsocr_views_make(image, plan, views, &err));
	assert_int_equal(views->n, plan->views);
}

/* Tiles are the squashed picture cut row by row; the last view is padded. */
static void
test_views_of_tiles(void **state)
{
	DsocrViewSpec spec = {.base_size = 96, .image_size = 64, .crop = true, .max_tiles = 9};
	DsocrImage image = {.width = 900, .height = 610, .rgb = random_pixels(900, 610, 0)};
	uint8_t *squashed;
	uint8_t *inner;
	DsocrPlan plan;
	DsocrViews views;

	make_views(&image, spec, &plan, &views);
	assert_int_equal(plan.columns, 3);
	assert_int_equal(plan.rows, 2);
	assert_true(dsocr_resize_bicubic(image.rgb, 900, 610, 192, 128, &squashed, NULL));
	for (int t = 0; t < 6; t++)
	{
		assert_int_equal(views.size[t], 64);
		for (int y = 0; y < 64; y++)
			assert_memory_equal(views.rgb[t] + y * 64 * 3,
								squashed + ((t / 3 * 64 + y) * 192 + t % 3 * 64) * 3, 64 * 3);
	}
	/* 96 x 65 in the middle of 96 x 96: 15.5 goes to 16 */
	assert_true(dsocr_resize_bicubic(image.rgb, 900, 610, 96, 65, &inner, NULL));
	for (int y = 0; y < 96; y++)
	{
		const uint8_t *row = views.rgb[6] + y * 96 * 3;

		if (y >= 16 && y < 16 + 65)
			assert_memory_equal(row, inner + (y - 16) * 96 * 3, 96 * 3);
		else
			for (int i = 0; i < 96 * 3; i++)
				assert_int_equal(row[i], 127);
	}
	dsocr_views_free(&views);
	assert_int_equal(views.n, 0);
	dsocr_free(squashed);
	dsocr_free(inner);
	free(image.rgb);
}

/* Up to 640 pixels a view without tiles is squashed, above it is padded. */
static void
test_views_without_tiles(void **state)
{
	DsocrImage image = {.width = 30, .height = 10, .rgb = random_pixels(30, 10, 0)};
	uint8_t *squashed;
	DsocrPlan plan;
	DsocrViews views;

	make_views(&image, dsocr_mode_spec(DSOCR_MODE_SMALL), &plan, &views);
	assert_true(dsocr_resize_bicubic(image.rgb, 30, 10, 640, 640, &squashed, NULL));
	assert_int_equal(views.size[0], 640);
	assert_memory_equal(views.rgb[0], squashed, 640 * 640 * 3);
	dsocr_free(squashed);
	dsocr_views_free(&views);

	make_views(&image, dsocr_mode_spec(DSOCR_MODE_BASE), &plan, &views);
	assert_int_equal(views.size[0], 1024);
	assert_int_equal(views.rgb[0][0], 127);
	assert_int_equal(views.rgb[0][1024 * 1024 * 3 - 1], 127);
	dsocr_views_free(&views);
	free(image.rgb);
}

/* Where Pillow gives up on a side of 0 there is one column of pixels. */
static void
test_view_of_a_line(void **state)
{
	DsocrViewSpec spec = {.base_size = 64, .image_size = 16, .crop = true, .max_tiles = 2};
	DsocrImage image = {.width = 1, .height = 600};
	DsocrPlan plan;
	DsocrViews views;

	image.rgb = calloc(600, 3);
	assert_non_null(image.rgb);
	make_views(&image, spec, &plan, &views);
	for (int x = 0; x < 64; x++)
		assert_int_equal(views.rgb[0][(20 * 64 + x) * 3], x == 32 ? 0 : 127);
	dsocr_views_free(&views);
	free(image.rgb);
}

/* ---- position tables ---- */

static void
test_positions(void **state)
{
	enum
	{
		SIDE = 16,
		DIM = 3,
		MOST = 24
	};
	static float in[SIDE * SIDE * DIM];
	static float out[MOST * MOST * DIM];
	DsocrError err = {0};

	for (int i = 0; i < SIDE * SIDE * DIM; i++)
		in[i] = (float) next_random() / (1 << 24);
	assert_true(dsocr_resize_positions(in, SIDE, DIM, SIDE, out, &err));
	assert_memory_equal(in, out, sizeof(in));

	/*
	 * A plane that rises evenly stays one away from the edges, wherever the
	 * weights are symmetric or the kernel is not widened.
	 */
	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++)
			for (int c = 0; c < DIM; c++)
				in[(y * SIDE + x) * DIM + c] = (float) (x + 2 * y + 100 * c);
	for (int i = 0; i < 4; i++)
	{
		static const int sides[] = {8, 17, 20, MOST};
		int side = sides[i];
		double scale = (double) SIDE / side;
		int edge = (int) ceil(2 * (scale > 1 ? scale : 1) / scale);

		assert_true(dsocr_resize_positions(in, SIDE, DIM, side, out, &err));
		for (int y = edge; y < side - edge; y++)
			for (int x = edge; x < side - edge; x++)
				for (int c = 0; c < DIM; c++)
				{
					double want =
						((x + 0.5) * scale - 0.5) + 2 * ((y + 0.5) * scale - 0.5) + 100 * c;

					assert_true(fabs(out[(y * side + x) * DIM + c] - want) < 1e-4);
				}
	}
	assert_false(dsocr_resize_positions(in, SIDE, DIM, 0, out, &err));
	assert_int_equal(err.code, DSOCR_E_ARGUMENT);
}

static void
test_relative_positions(void **state)
{
	static const float in[] = {0, 10, 4, 20, 8, 30};
	float out[2 * 6];

	dsocr_resize_relative(in, 3, 2, 3, out);
	assert_memory_equal(in, out, sizeof(in));
	/* 3 to 6: quarters and three quarters, the ends repeated */
	dsocr_resize_relative(in, 3, 2, 6, out);
	assert_true(out[0] == 0 && out[1] == 10);
	assert_true(out[2] == 1 && out[3] == 12.5f);
	assert_true(out[4] == 3 && out[5] == 17.5f);
	assert_true(out[10] == 8 && out[11] == 30);
	/* 3 to 1: the middle */
	dsocr_resize_relative(in, 3, 2, 1, out);
	assert_true(out[0] == 4 && out[1] == 20);
}

/* ---- memory ---- */

/* Tiles, padding and both passes; false with DSOCR_E_MEMORY. */
static bool
everything(const DsocrImage *image, DsocrError *err)
{
	DsocrViewSpec spec = {.base_size = 96, .image_size = 64, .crop = true, .max_tiles = 4};
	static const float table[8 * 8 * 2];
	float positions[9 * 9 * 2];
	DsocrPlan plan;
	DsocrViews views;

	memset(err, 0, sizeof(*err));
	if (!dsocr_plan(image->width, image->height, &spec, &plan, err) ||
		!dsocr_views_make(image, &plan, &views, err))
		return false;
	dsocr_views_free(&views);
	return dsocr_resize_positions(table, 8, 2, 9, positions, err);
}

static void
test_allocations_fail(void **state)
{
	DsocrImage image = {.width = 700, .height = 300, .rgb = random_pixels(700, 300, 0)};
	DsocrError err;
	long n;

	allocations = 0;
	assert_true(everything(&image, &err));
	n = allocations;
	assert_true(n > 15);
	for (fail_at = 0; fail_at < n; fail_at++)
	{
		allocations = 0;
		assert_false(everything(&image, &err));
		assert_int_equal(err.code, DSOCR_E_MEMORY);
	}
	fail_at = -1;
	free(image.rgb);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_resize_refuses),
		cmocka_unit_test(test_contain),
		cmocka_unit_test(test_choose_grid),
		cmocka_unit_test(test_plan),
		cmocka_unit_test(test_plan_refuses),
		cmocka_unit_test(test_views_of_tiles),
		cmocka_unit_test(test_views_without_tiles),
		cmocka_unit_test(test_view_of_a_line),
		cmocka_unit_test(test_positions),
		cmocka_unit_test(test_relative_positions),
		cmocka_unit_test(test_allocations_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
