/*-------------------------------------------------------------------------
 *
 * test_vision.c
 *		Attention, norms, activations and pictures of the CUDA backend.
 *
 * Compared with the reference over odd shapes, and bit by bit with
 * themselves: a view or row must be the same whatever stands beside it.
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
#include <math.h>
#include <cmocka.h>

#include "../reference/fixture.h"

/* bf16 may be wrong by so much of the rms at worst, and on the average. */
#define WORST 2e-2
#define MEAN 4e-3

static void
open_backends(DsocrPrecision precision)
{
	DsocrBackendOptions options = {.device = "cuda:0", .precision = precision};
	DsocrError err;

	fx_precision = precision;
	fx_seed = 1;
	fx_both[0] = dsocr_reference_open(&options, &err);
	assert_non_null(fx_both[0]);
	fx_both[1] = dsocr_cuda_open(&options, &err);
	if (fx_both[1] == NULL)
		fail_msg("%s", err.message);
}

/*
 * Compare outputs of both backends and free them.  In fp32 sums come in
 * another order; bf16 rounds the result, and what precedes it once more.
 */
static void
compare(const char *what, void *want, void *got, size_t n)
{
	bool bf16 = fx_precision == DSOCR_PRECISION_BF16;
	float *w = fx_numbers(n, 0);
	float *g = fx_numbers(n, 0);
	double square = 0;
	double worst = 0;
	double mean = 0;
	DsocrError err;

	assert_true(fx_both[1]->ops->sync(fx_both[1], &err));
	fx_both[0]->ops->read(fx_both[0], w, want, n);
	fx_both[1]->ops->read(fx_both[1], g, got, n);
	for (size_t i = 0; i < n; i++)
	{
		double d = (double) w[i] - g[i];
		double beyond = fabs(d) - (bf16 ? fabs((double) w[i]) / 128 : 0);

		square += (double) w[i] * w[i];
		mean += d * d;
		if (!(beyond <= worst)) /* a NaN is the worst */
			worst = beyond;
	}
	square = sqrt(square / (double) n);
	mean = sqrt(mean / (double) n);
	if (!(worst <= (bf16 ? WORST : FX_TIGHT) * square + 1e-30 && mean <= MEAN * square + 1e-30))
		fail_msg("%s: errors of %g and %g on the average, rms %g", what, worst, mean, square);
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->free(fx_both[b], b == 0 ? want : got);
	dsocr_free(w);
	dsocr_free(g);
}

/* Values of an activation of the device. */
static float *
read_back(const void *act, size_t n)
{
	float *x = fx_numbers(n, 0);

	fx_both[1]->ops->read(fx_both[1], x, act, n);
	return x;
}

static void
same_bits(const char *what, const float *a, const float *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(a + i, b + i, sizeof(float)) != 0)
			fail_msg("%s: value %zu is %g alone, %g beside others", what, i, b[i], a[i]);
}

/* ---- attention ---- */

typedef struct Attention
{
	int views;
	int side; /* tokens when there is no grid */
	int heads;
	int head_dim;
	int window; /* 0: whole grid, -1: no grid */
	float scale;
} Attention;

static void
attend(int b, const Attention *a, int views, void *out, const void *in, const FxVector v[3])
{
	DsocrBackend *be = fx_both[b];

	if (a->window < 0)
		be->ops->attention(be, out, in, views, a->side, a->heads, a->head_dim);
	else
		be->ops->grid_attention(be, out, in, views, a->side, a->heads, a->head_dim, a->window,
								v[0].v[b], v[1].v[b], v[2].v[b]);
}

static void
check_attention(const Attention *a)
{
	int reach = a->window > 0 ? a->window : a->side;
	size_t dim = (size_t) a->heads * (size_t) a->head_dim;
	size_t tokens = (size_t) a->side * (size_t) (a->window < 0 ? 1 : a->side);
	size_t n = (size_t) a->views * tokens * dim;
	float *x = fx_numbers(3 * n, a->scale);
	FxVector v[3];
	void *in[2], *out[2], *alone;
	float *all, *one;
	char what[128];
	DsocrError err;

	snprintf(what, sizeof(what), "views %d side %d heads %d of %d window %d", a->views, a->side,
			 a->heads, a->head_dim, a->window);
	for (int i = 0; i < 2; i++)
		v[i] = fx_vector((size_t) (2 * reach - 1) * (size_t) a->head_dim, 0.3f * a->scale, 0);
	v[2] = fx_vector(3 * dim, a->scale, 0);
	for (int b = 0; b < 2; b++)
	{
		in[b] = fx_act(fx_both[b], x, 3 * n);
		out[b] = fx_both[b]->ops->alloc(fx_both[b], n, &err);
		attend(b, a, a->views, out[b], in[b], v);
	}
	all = read_back(out[1], n);
	alone = fx_both[1]->ops->alloc(fx_both[1], n / (size_t) a->views, &err);
	for (int i = 0; i < a->views && a->views > 1; i++)
	{
		size_t from = (size_t) i * n / (size_t) a->views;

		attend(1, a, 1, alone, dsocr_act(fx_both[1], in[1], 3 * from), v);
		one = read_back(alone, n / (size_t) a->views);
		same_bits(what, all + from, one, n / (size_t) a->views);
		dsocr_free(one);
	}
	compare(what, out[0], out[1], n);
	fx_both[1]->ops->free(fx_both[1], alone);
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->free(fx_both[b], in[b]);
	for (int i = 0; i < 3; i++)
		fx_vector_free(&v[i]);
	dsocr_free(all);
	dsocr_free(x);
}

static void
check_attentions(const Attention *cases, int n)
{
	for (int i = 0; i < n; i++)
		check_attention(&cases[i]);
}

/* Windows that divide the side, that do not, that are larger; head sizes of every kernel. */
static void
test_windows(void **state)
{
	static const Attention cases[] = {
		{3, 20, 2, 64, 14, 1.0f}, {1, 14, 1, 64, 14, 1.0f}, {2, 5, 2, 64, 14, 1.0f},
		{1, 16, 3, 64, 7, 1.5f},  {2, 9, 2, 128, 4, 1.0f},	{2, 13, 2, 32, 5, 1.0f},
		{1, 11, 2, 16, 3, 1.0f},  {2, 10, 2, 40, 14, 1.0f}, {1, 18, 1, 72, 9, 1.0f},
		{1, 12, 3, 4, 5, 1.0f},	  {3, 7, 2, 10, 3, 1.0f},	{1, 6, 1, 160, 4, 0.5f},
		{1, 1, 1, 64, 1, 1.0f},	  {2, 24, 1, 64, 23, 0.3f}};

	(void) state;
	check_attentions(cases, sizeof(cases) / sizeof(cases[0]));
}

static void
test_grids(void **state)
{
	static const Attention cases[] = {
		{2, 8, 2, 64, 0, 1.0f},	 {1, 1, 2, 64, 0, 1.0f},  {1, 17, 1, 64, 0, 1.0f},
		{2, 16, 2, 32, 0, 1.0f}, {1, 9, 2, 128, 0, 1.0f}, {1, 20, 2, 24, 0, 1.5f},
		{3, 6, 3, 12, 0, 1.0f},	 {2, 5, 1, 100, 0, 1.0f}, {1, 19, 1, 8, 0, 1.0f}};

	(void) state;
	check_attentions(cases, sizeof(cases) / sizeof(cases[0]));
}

static void
test_sequences(void **state)
{
	static const Attention cases[] = {
		{2, 65, 2, 64, -1, 1.0f},  {3, 101, 1, 64, -1, 1.5f}, {1, 257, 2, 64, -1, 1.0f},
		{1, 1, 1, 64, -1, 1.0f},   {2, 64, 2, 32, -1, 1.0f},  {1, 130, 1, 128, -1, 1.0f},
		{2, 63, 3, 16, -1, 1.0f},  {1, 77, 2, 88, -1, 1.0f},  {2, 33, 2, 6, -1, 1.0f},
		{1, 40, 1, 200, -1, 0.5f}, {2, 70, 2, 56, -1, 4.0f}};

	(void) state;
	check_attentions(cases, sizeof(cases) / sizeof(cases[0]));
}

static void
test_any_shape(void **state)
{
	(void) state;
	for (int i = 0; i < 40; i++)
	{
		Attention a = {.views = fx_between(1, 3),
					   .side = fx_between(1, 20),
					   .heads = fx_between(1, 2),
					   .head_dim = fx_between(0, 1) ? 8 * fx_between(1, 16) : fx_between(4, 128),
					   .window = fx_between(0, 14),
					   .scale = 1.0f};

		if (a.side > 12)
			a.views = 1;
		check_attention(&a);
	}
}

/*
 * Dimensions of the model: the large tiles of queries, by 16 and by 8 columns.
 * The largest take as long as everything else: they wait for DSOCR_TEST_LONG.
 */
static void
test_large_grids(void **state)
{
	static const Attention bf16[] = {{1, 37, 1, 64, 0, 1.0f},  {1, 33, 1, 48, 0, 1.0f},
									 {1, 32, 1, 64, 0, 1.5f},  {2, 40, 1, 64, 0, 1.5f},
									 {1, 32, 12, 64, 0, 1.0f}, {1, 64, 1, 64, 0, 0.5f}};
	static const Attention fp32[] = {{1, 21, 1, 64, 0, 1.0f}, {1, 32, 1, 64, 0, 1.0f}};

	bool all = getenv("DSOCR_TEST_LONG") != NULL;

	(void) state;
	if (fx_precision == DSOCR_PRECISION_FP32)
		check_attentions(fp32, all ? 2 : 1);
	else
		check_attentions(bf16, all ? 6 : 3);
}

/* Scores that grow along the keys: the running maximum must follow. */
static void
test_growing_scores(void **state)
{
	enum
	{
		N = 300,
		DIM = 64
	};
	float *x = fx_numbers(3 * N * DIM, 1);
	void *in[2], *out[2];
	DsocrError err;

	(void) state;
	for (int i = 0; i < N; i++)
		for (int d = 0; d < DIM; d++)
		{
			x[(i * 3 + 0) * DIM + d] = d == 0 ? 8.0f : 0.0f;
			x[(i * 3 + 1) * DIM + d] = d == 0 ? (float) (i / 2) : 0.0f;
		}
	for (int b = 0; b < 2; b++)
	{
		in[b] = fx_act(fx_both[b], x, 3 * N * DIM);
		out[b] = fx_both[b]->ops->alloc(fx_both[b], N * DIM, &err);
		fx_both[b]->ops->attention(fx_both[b], out[b], in[b], 1, N, 1, DIM);
	}
	compare("growing scores", out[0], out[1], N * DIM);
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->free(fx_both[b], in[b]);
	dsocr_free(x);
}

/* ---- norms ---- */

static void
check_norm(int rows, int dim, bool centred, bool in_place, int shift)
{
	size_t n = (size_t) rows * (size_t) dim;
	float *x = fx_numbers(n + (size_t) shift, 2.0f);
	FxVector w = fx_vector((size_t) dim, 0.5f, 1.0f);
	FxVector bias = fx_vector((size_t) dim, 0.5f, 0);
	void *in[2], *out[2];
	float *all, *one;
	char what[64];
	DsocrError err;

	snprintf(what, sizeof(what), "%s norm of %d x %d", centred ? "layer" : "rms", rows, dim);
	for (size_t i = 0; i < n; i++)
		x[i] = dsocr_bf16_to_f32(dsocr_f32_to_bf16(x[i] + 3.0f * (float) centred));
	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *from;

		in[b] = fx_act(be, x, n + (size_t) shift);
		from = dsocr_act(be, in[b], (size_t) shift);
		out[b] = be->ops->alloc(be, n, &err);
		if (in_place)
			be->ops->copy_rows(be, out[b], n, from, n, n, 1);
		if (centred)
			be->ops->layer_norm(be, out[b], in_place ? out[b] : from, rows, dim, w.v[b], bias.v[b],
								1e-6f);
		else
			be->ops->rms_norm(be, out[b], in_place ? out[b] : from, rows, dim, w.v[b], 1e-6f);
	}
	all = read_back(out[1], n);
	compare(what, out[0], out[1], n);
	/* the last row by itself */
	out[1] = fx_both[1]->ops->alloc(fx_both[1], (size_t) dim, &err);
	fx_both[1]->ops->copy_rows(fx_both[1], out[1], 0,
							   dsocr_act(fx_both[1], in[1], (size_t) shift + n - (size_t) dim), 0,
							   (size_t) dim, 1);
	if (centred)
		fx_both[1]->ops->layer_norm(fx_both[1], out[1], out[1], 1, dim, w.v[1], bias.v[1], 1e-6f);
	else
		fx_both[1]->ops->rms_norm(fx_both[1], out[1], out[1], 1, dim, w.v[1], 1e-6f);
	one = read_back(out[1], (size_t) dim);
	if (shift == 0)
		same_bits(what, all + n - (size_t) dim, one, (size_t) dim);
	fx_both[1]->ops->free(fx_both[1], out[1]);
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->free(fx_both[b], in[b]);
	fx_vector_free(&w);
	fx_vector_free(&bias);
	dsocr_free(all);
	dsocr_free(one);
	dsocr_free(x);
}

static void
test_norms(void **state)
{
	static const int dims[] = {1, 8, 24, 100, 256, 264, 768, 1024, 1280, 2048, 2056, 37};

	(void) state;
	for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]); i++)
		for (int centred = 0; centred < 2; centred++)
		{
			check_norm(1 + (int) i % 6, dims[i], centred, i % 2, 0);
			check_norm(3, dims[i], centred, false, 1 + (int) i % 8);
		}
}

/* ---- activations ---- */

static void
test_silu_mul(void **state)
{
	static const int shapes[][2] = {{1, 1}, {3, 8}, {5, 896}, {2, 33}, {1, 6848}, {7, 2056}};

	(void) state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		int rows = shapes[i][0];
		int n = shapes[i][1];
		size_t count = (size_t) rows * (size_t) n;
		float *x = fx_numbers(2 * count, 3.0f);
		void *in[2], *out[2];
		DsocrError err;

		for (int b = 0; b < 2; b++)
		{
			in[b] = fx_act(fx_both[b], x, 2 * count);
			out[b] = fx_both[b]->ops->alloc(fx_both[b], count, &err);
			fx_both[b]->ops->silu_mul(fx_both[b], out[b], in[b], rows, n);
		}
		compare("silu_mul", out[0], out[1], count);
		for (int b = 0; b < 2; b++)
			fx_both[b]->ops->free(fx_both[b], in[b]);
		dsocr_free(x);
	}
}

/* ---- pictures ---- */

static void
check_patches(int views, int size, int patch)
{
	size_t bytes = (size_t) size * (size_t) size * 3;
	size_t n = (size_t) views * (size_t) (size / patch) * (size_t) (size / patch) * 3 *
			   (size_t) patch * (size_t) patch;
	const uint8_t *rgb[4];
	uint8_t *pixels = dsocr_alloc(bytes * (size_t) views, 1, NULL);
	void *out[2];
	char what[64];
	DsocrError err;

	assert_non_null(pixels);
	snprintf(what, sizeof(what), "patches of %d in %d views of %d", patch, views, size);
	for (size_t i = 0; i < bytes * (size_t) views; i++)
		pixels[i] = i < 256 ? (uint8_t) i : (uint8_t) fx_next();
	for (int i = 0; i < views; i++)
		rgb[i] = pixels + bytes * (size_t) (views - 1 - i);
	for (int b = 0; b < 2; b++)
	{
		out[b] = fx_both[b]->ops->alloc(fx_both[b], n, &err);
		fx_both[b]->ops->patches(fx_both[b], out[b], rgb, views, size, patch);
	}
	fx_compare(what, out[0], out[1], n, 0);
	dsocr_free(pixels);
}

static void
test_patches(void **state)
{
	static const int shapes[][3] = {{1, 32, 16}, {3, 48, 16},  {2, 24, 8},	{1, 15, 5},
									{2, 12, 4},	 {1, 160, 16}, {1, 80, 40}, {1, 16, 16}};

	(void) state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		check_patches(shapes[i][0], shapes[i][1], shapes[i][2]);
}

static void
test_im2col3(void **state)
{
	static const int shapes[][5] = {{1, 5, 5, 3, 1}, {2, 8, 6, 16, 2},	{3, 4, 4, 8, 1},
									{1, 1, 1, 7, 2}, {2, 7, 9, 256, 2}, {1, 3, 3, 2056, 1},
									{2, 6, 5, 12, 3}};

	(void) state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
	{
		const int *s = shapes[i];
		size_t n = (size_t) (s[0] * s[1] * s[2] * s[3]);
		size_t rows =
			(size_t) s[0] * (size_t) ((s[1] - 1) / s[4] + 1) * (size_t) ((s[2] - 1) / s[4] + 1);
		float *x = fx_numbers(n, 1.0f);
		void *in[2], *out[2];
		DsocrError err;

		for (int b = 0; b < 2; b++)
		{
			in[b] = fx_act(fx_both[b], x, n);
			out[b] = fx_both[b]->ops->alloc(fx_both[b], rows * 9 * (size_t) s[3], &err);
			fx_both[b]->ops->im2col3(fx_both[b], out[b], in[b], s[0], s[1], s[2], s[3], s[4]);
		}
		fx_compare("im2col3", out[0], out[1], rows * 9 * (size_t) s[3], 0);
		for (int b = 0; b < 2; b++)
			fx_both[b]->ops->free(fx_both[b], in[b]);
		dsocr_free(x);
	}
}

/* ---- main ---- */

static int
open_bf16(void **state)
{
	(void) state;
	open_backends(DSOCR_PRECISION_BF16);
	return 0;
}

static int
open_fp32(void **state)
{
	(void) state;
	open_backends(DSOCR_PRECISION_FP32);
	return 0;
}

static int
close_both(void **state)
{
	(void) state;
	fx_close();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_windows),		cmocka_unit_test(test_grids),
		cmocka_unit_test(test_sequences),	cmocka_unit_test(test_any_shape),
		cmocka_unit_test(test_large_grids), cmocka_unit_test(test_growing_scores),
		cmocka_unit_test(test_norms),		cmocka_unit_test(test_silu_mul),
		cmocka_unit_test(test_patches),		cmocka_unit_test(test_im2col3)};

	return cmocka_run_group_tests_name("bf16", tests, open_bf16, close_both) +
		   cmocka_run_group_tests_name("fp32", tests, open_fp32, close_both);
}
