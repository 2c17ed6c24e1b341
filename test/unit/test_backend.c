/*-------------------------------------------------------------------------
 *
 * test_backend.c
 *		Every operation of the CPU backend against the reference.
 *
 * The whole list runs once for each instruction set of this machine and each
 * precision, over fixed odd shapes and random ones from fixed seeds.
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
#include <unistd.h>
#include <cmocka.h>

#include "../reference/fixture.h"

/* ---- products ---- */

/* units of rows each; 0: rows of different sequences */
static void
check_linear(int rows, int n, int k, int n_parts, bool with_bias, DsocrActivation activation,
			 int residual, int units)
{
	int unit = units > 0 ? rows : DSOCR_MIXED;
	int all = rows * (units > 0 ? units : 1);
	FxMatrix w = fx_matrix(n, k, n_parts, false, 1.0f / sqrtf((float) k));
	FxVector bias = fx_vector((size_t) n, 0.5f, 0);
	float *x = fx_numbers((size_t) all * (size_t) k, 1);
	float *add = fx_numbers((size_t) all * (size_t) n, 1);
	void *y[2];
	char what[128];

	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *in = fx_act(be, x, (size_t) all * (size_t) k);
		void *other = fx_act(be, add, (size_t) all * (size_t) n);

		y[b] = fx_act(be, add, (size_t) all * (size_t) n);
		be->ops->linear(be, y[b], in, all, w.m[b], with_bias ? bias.v[b] : NULL, activation,
						residual == 0	? NULL
						: residual == 1 ? y[b]
										: other,
						unit);
		be->ops->free(be, in);
		be->ops->free(be, other);
	}
	snprintf(what, sizeof(what), "linear m %d n %d k %d parts %d act %d residual %d units %d", rows,
			 n, k, n_parts, (int) activation, residual, units);
	fx_compare(what, y[0], y[1], (size_t) all * (size_t) n, fx_tight());
	dsocr_free(x);
	dsocr_free(add);
	fx_vector_free(&bias);
	fx_matrix_free(&w);
}

static void
test_linear(void **state)
{
	static const int shapes[][3] = {{1, 1, 1},		{1, 7, 3},	   {2, 64, 64},	  {5, 33, 17},
									{17, 130, 48},	{64, 512, 96}, {65, 513, 33}, {257, 96, 100},
									{300, 40, 768}, {1, 1280, 896}};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		for (int units = 0; units < 3; units++)
			check_linear(shapes[i][0], shapes[i][1], shapes[i][2], 1, i % 2 == 0,
						 (DsocrActivation) (i % 3), (int) (i % 3), units);
	for (int i = 0; i < 40; i++)
	{
		int n = fx_between(4, 300);

		check_linear(fx_between(1, 80), n, fx_between(1, 200), fx_between(1, FX_MAX_PARTS),
					 fx_between(0, 1), (DsocrActivation) fx_between(0, 2), fx_between(0, 2),
					 fx_between(0, 3));
	}
}

/* Weights of other types and convolutions. */
static void
test_matrix(void **state)
{
	enum
	{
		N = 5,
		C = 7
	};
	FxMatrix conv = fx_matrix(N, C * 9, 1, true, 0.2f);
	float *x = fx_numbers(C * 6 * 5, 1);
	float values[6 * 4];
	DsocrTensor t = {
		.name = "f", .dtype = DSOCR_F32, .ndim = 2, .shape = {6, 4}, .count = 24, .data = values};
	const DsocrTensor *part = &t;
	void *y[2];

	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *in = fx_act(be, x, C * 6 * 5);
		void *columns = be->ops->alloc(be, 15 * 9 * C, NULL);

		be->ops->im2col3(be, columns, in, 1, 6, 5, C, 2);
		y[b] = be->ops->alloc(be, 9 * N, NULL);
		be->ops->linear(be, y[b], columns, 9, conv.m[b], NULL, DSOCR_ACT_NONE, NULL, 9);
		be->ops->free(be, in);
		be->ops->free(be, columns);
	}
	fx_compare("convolution", y[0], y[1], 9 * N, fx_tight());
	for (int i = 0; i < 24; i++)
		values[i] = fx_number(1);
	for (int unit = 0; unit <= 3; unit += 3)
	{
		for (int b = 0; b < 2; b++)
		{
			DsocrBackend *be = fx_both[b];
			DsocrMatrix *m = be->ops->matrix(be, &part, 1, false, NULL);
			void *in = fx_act(be, x, 12);

			assert_non_null(m);
			y[b] = be->ops->alloc(be, 18, NULL);
			be->ops->linear(be, y[b], in, 3, m, NULL, DSOCR_ACT_NONE, NULL, unit);
			be->ops->free(be, in);
			be->ops->matrix_free(be, m);
		}
		fx_compare("fp32 weights", y[0], y[1], 18, fx_tight());
	}
	dsocr_free(x);
	fx_matrix_free(&conv);
}

static void
test_matrix_refused(void **state)
{
	float values[24] = {0};
	DsocrTensor a = {
		.name = "a", .dtype = DSOCR_F32, .ndim = 2, .shape = {3, 4}, .count = 12, .data = values};
	DsocrTensor b = {
		.name = "b", .dtype = DSOCR_F32, .ndim = 2, .shape = {4, 3}, .count = 12, .data = values};
	DsocrTensor flat = {
		.name = "flat", .dtype = DSOCR_F32, .ndim = 1, .shape = {12}, .count = 12, .data = values};
	const DsocrTensor *pair[2] = {&a, &b};
	const DsocrTensor *one = &flat;
	DsocrError err = {0};

	assert_null(fx_both[1]->ops->matrix(fx_both[1], pair, 2, false, &err));
	assert_int_equal(err.code, DSOCR_E_MODEL);
	err.code = DSOCR_OK;
	assert_null(fx_both[1]->ops->matrix(fx_both[1], &one, 1, false, &err));
	assert_int_equal(err.code, DSOCR_E_MODEL);
}

/* Products with a form of their own. */
static void
test_swiglu_and_logits(void **state)
{
	for (int round = 0; round < 12; round++)
	{
		int rows = fx_between(1, 40);
		int units = fx_between(0, 2);
		int all = rows * (units > 0 ? units : 1);
		int n = fx_between(1, 120);
		int k = fx_between(1, 150);
		size_t count = (size_t) all * (size_t) n;
		FxMatrix w = fx_matrix(2 * n, k, 2, false, 1.0f / sqrtf((float) k));
		float *x = fx_numbers((size_t) all * (size_t) k, 1);
		float *host[2];
		void *y[2];

		for (int b = 0; b < 2; b++)
		{
			DsocrBackend *be = fx_both[b];
			void *in = fx_act(be, x, (size_t) all * (size_t) k);
			void *wide = be->ops->alloc(be, 2 * count, NULL);
			float *logits = be->ops->raw_alloc(be, 2 * count * sizeof(float), NULL);

			y[b] = be->ops->alloc(be, count, NULL);
			host[b] = fx_numbers(2 * count, 0);
			be->ops->swiglu(be, y[b], wide, in, all, w.m[b], units > 0 ? rows : DSOCR_MIXED);
			be->ops->logits(be, logits, in, all, w.m[b]);
			be->ops->raw_read(be, host[b], logits, 2 * count * sizeof(float));
			be->ops->raw_free(be, logits);
			be->ops->free(be, wide);
			be->ops->free(be, in);
		}
		/* a few values are far larger than most, and gate and up may be rounded before */
		fx_compare("swiglu", y[0], y[1], count, fx_rounded() + fx_tight());
		fx_compare_floats("logits", host[0], host[1], 2 * count, FX_TIGHT);
		dsocr_free(host[0]);
		dsocr_free(host[1]);
		dsocr_free(x);
		fx_matrix_free(&w);
	}
}

/* ---- rows ---- */

static void
check_norm(int rows, int dim, float scale, float eps, bool layer, bool in_place)
{
	FxVector weight = fx_vector((size_t) dim, 0.2f, 1);
	FxVector bias = fx_vector((size_t) dim, 0.5f, 0);
	size_t n = (size_t) rows * (size_t) dim;
	float *x = fx_numbers(n, scale);
	float *y[2];

	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		float *in = fx_act(be, x, n);

		y[b] = in_place ? in : be->ops->alloc(be, n, NULL);
		if (layer)
			be->ops->layer_norm(be, y[b], in, rows, dim, weight.v[b], bias.v[b], eps);
		else
			be->ops->rms_norm(be, y[b], in, rows, dim, weight.v[b], eps);
		if (!in_place)
			be->ops->free(be, in);
	}
	fx_compare(layer ? "layer_norm" : "rms_norm", y[0], y[1], n, fx_tight());
	dsocr_free(x);
	fx_vector_free(&weight);
	fx_vector_free(&bias);
}

static void
test_norm(void **state)
{
	static const int dims[] = {1, 3, 16, 31, 48, 64, 100, 768, 1280};

	for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]); i++)
		for (int layer = 0; layer < 2; layer++)
			for (int tiny = 0; tiny < 2; tiny++)
				check_norm(1 + (int) i * 13, dims[i], tiny ? 2e-3f : 1.0f, 1e-6f, layer,
						   (i + (size_t) tiny) % 2);
}

static void
test_elements(void **state)
{
	for (int round = 0; round < 12; round++)
	{
		int views = fx_between(1, 3);
		int rows = fx_between(1, 40);
		int skip = fx_between(0, 2);
		int a = fx_between(1, 200);
		int c = fx_between(1, 200);
		size_t n = (size_t) views * (size_t) (skip + rows) * 2 * (size_t) a;
		size_t joint = (size_t) views * (size_t) rows * (size_t) (2 * a + c);
		float *x = fx_numbers(n, 3);
		float *t = fx_numbers((size_t) views * (size_t) rows * (size_t) c, 1);
		void *sum[2];
		void *joined[2];
		void *silu[2];

		for (int b = 0; b < 2; b++)
		{
			DsocrBackend *be = fx_both[b];
			void *in = fx_act(be, x, n);
			void *other = fx_act(be, t, (size_t) views * (size_t) rows * (size_t) c);

			sum[b] = fx_act(be, x, n);
			be->ops->add(be, sum[b], in, n / (size_t) views, views);
			joined[b] = be->ops->alloc(be, joint, NULL);
			be->ops->concat(be, joined[b], in, 2 * a, skip, other, c, views, rows);
			silu[b] = be->ops->alloc(be, n / 2, NULL);
			be->ops->silu_mul(be, silu[b], in, views * (skip + rows), a);
			be->ops->free(be, in);
			be->ops->free(be, other);
		}
		fx_compare("add", sum[0], sum[1], n, fx_rounded());
		fx_compare("concat", joined[0], joined[1], joint, 0);
		fx_compare("silu_mul", silu[0], silu[1], n / 2, fx_rounded());
		dsocr_free(x);
		dsocr_free(t);
	}
}

/* Rows with any distance, one row repeated, and one large piece. */
static void
test_copy(void **state)
{
	for (int round = 0; round < 20; round++)
	{
		size_t n = round == 0 ? 300000 : (size_t) fx_between(1, 90);
		size_t rows = round == 0 ? 2 : (size_t) fx_between(1, 60);
		size_t to = n + (round % 3 == 0 ? 0 : (size_t) fx_between(0, 30));
		size_t from = round % 4 == 1 ? 0 : round % 3 == 0 ? n : n + (size_t) fx_between(0, 30);
		float *x = fx_numbers(rows * (from + n), 1);
		float *old = fx_numbers(rows * to, 1);
		void *y[2];

		for (int b = 0; b < 2; b++)
		{
			DsocrBackend *be = fx_both[b];
			void *in = fx_act(be, x, rows * (from + n));

			y[b] = fx_act(be, old, rows * to);
			be->ops->copy_rows(be, y[b], to, in, from, n, rows);
			be->ops->free(be, in);
		}
		fx_compare("copy_rows", y[0], y[1], rows * to, 0);
		dsocr_free(x);
		dsocr_free(old);
	}
}

static void
test_pictures(void **state)
{
	static const int sizes[][2] = {{16, 16}, {64, 16}, {80, 16}, {24, 8}};
	static uint8_t rgb[3][80 * 80 * 3];
	const uint8_t *const list[3] = {rgb[0], rgb[1], rgb[2]};

	for (size_t v = 0; v < 3; v++)
		for (size_t i = 0; i < sizeof(rgb[0]); i++)
			rgb[v][i] = (uint8_t) (v == 0 && i < 256 ? i : fx_next());
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		int views = 1 + (int) i % 3;
		size_t n = (size_t) views * (size_t) sizes[i][0] * (size_t) sizes[i][0] * 3;
		void *y[2];

		for (int b = 0; b < 2; b++)
		{
			y[b] = fx_both[b]->ops->alloc(fx_both[b], n, NULL);
			fx_both[b]->ops->patches(fx_both[b], y[b], list, views, sizes[i][0], sizes[i][1]);
		}
		fx_compare("patches", y[0], y[1], n, 0);
	}
	for (int round = 0; round < 20; round++)
	{
		int h = fx_between(1, 17);
		int w = fx_between(1, 17);
		int c = fx_between(1, 20);
		int stride = fx_between(1, 2);
		int views = fx_between(1, 3);
		size_t n = (size_t) views * (size_t) ((h - 1) / stride + 1) *
				   (size_t) ((w - 1) / stride + 1) * 9 * (size_t) c;
		float *x = fx_numbers((size_t) (views * h * w * c), 1);
		void *y[2];

		for (int b = 0; b < 2; b++)
		{
			void *in = fx_act(fx_both[b], x, (size_t) (views * h * w * c));

			y[b] = fx_both[b]->ops->alloc(fx_both[b], n, NULL);
			fx_both[b]->ops->im2col3(fx_both[b], y[b], in, views, h, w, c, stride);
			fx_both[b]->ops->free(fx_both[b], in);
		}
		fx_compare("im2col3", y[0], y[1], n, 0);
		dsocr_free(x);
	}
}

/* ---- attention ---- */

/* window < 0: plain attention over side tokens */
static void
check_attention(int views, int side, int heads, int head_dim, int window, float scale)
{
	int n = views * (window < 0 ? side : side * side);
	size_t dim = (size_t) heads * (size_t) head_dim;
	int table = window > 0 ? 2 * window - 1 : 2 * side - 1;
	FxVector rel_h = fx_vector((size_t) table * (size_t) head_dim, 0.3f, 0);
	FxVector rel_w = fx_vector((size_t) table * (size_t) head_dim, 0.3f, 0);
	FxVector bias = fx_vector(3 * dim, 1, 0);
	float *qkv = fx_numbers((size_t) n * 3 * dim, scale);
	void *y[2];
	char what[96];

	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *in = fx_act(be, qkv, (size_t) n * 3 * dim);

		y[b] = be->ops->alloc(be, (size_t) n * dim, NULL);
		if (window < 0)
			be->ops->attention(be, y[b], in, views, side, heads, head_dim);
		else
			be->ops->grid_attention(be, y[b], in, views, side, heads, head_dim, window, rel_h.v[b],
									rel_w.v[b], bias.v[b]);
		be->ops->free(be, in);
	}
	snprintf(what, sizeof(what), "attention views %d side %d heads %d of %d window %d", views, side,
			 heads, head_dim, window);
	/* Probabilities may be rounded to bf16 for their product with the values. */
	fx_compare(what, y[0], y[1], (size_t) n * dim, fx_rounded());
	dsocr_free(qkv);
	fx_vector_free(&rel_h);
	fx_vector_free(&rel_w);
	fx_vector_free(&bias);
}

static void
test_attention(void **state)
{
	static const int grids[][4] = {{1, 1, 4, 0},	{4, 2, 12, 0},	 {5, 3, 16, 3}, {14, 2, 64, 14},
								   {16, 1, 64, 14}, {20, 2, 16, 14}, {9, 2, 33, 0}, {7, 2, 24, 7},
								   {13, 2, 64, 0},	{3, 1, 64, 14}};

	for (size_t i = 0; i < sizeof(grids) / sizeof(grids[0]); i++)
		check_attention(1 + (int) i % 3, grids[i][0], grids[i][1], grids[i][2], grids[i][3],
						i == 3 ? 4.0f : 1.0f);
	for (int i = 0; i < 10; i++)
		check_attention(fx_between(1, 3), fx_between(1, 12), fx_between(1, 3), fx_between(1, 70),
						fx_between(0, 6), 1);
	for (int i = 0; i < 10; i++)
		check_attention(fx_between(1, 3), fx_between(1, 300), fx_between(1, 3), fx_between(1, 80),
						-1, 1);
}

static int
run_all(const char *isa, DsocrPrecision precision)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linear),		   cmocka_unit_test(test_matrix),
		cmocka_unit_test(test_matrix_refused), cmocka_unit_test(test_swiglu_and_logits),
		cmocka_unit_test(test_norm),		   cmocka_unit_test(test_elements),
		cmocka_unit_test(test_copy),		   cmocka_unit_test(test_pictures),
		cmocka_unit_test(test_attention)};
	char name[64];
	int failed;

	if (!fx_open(isa, precision, 2))
	{
		printf("%s: this machine does not have it\n", isa);
		return 0;
	}
	snprintf(name, sizeof(name), "backend %s %s", isa,
			 precision == DSOCR_PRECISION_FP32 ? "fp32" : "bf16");
	failed = _cmocka_run_group_tests(name, tests, sizeof(tests) / sizeof(tests[0]), NULL, NULL);
	fx_close();
	return failed;
}

/* Then again without bf16 in oneDNN, as before AVX-512: it reads its environment once. */
int
main(int argc, char **argv)
{
	static const char *const sets[] = {"generic", "avx2", "avx512", "amx", "cuda"};
	int failed = 0;

	for (int i = 0; i < 5; i++)
	{
		failed += run_all(sets[i], DSOCR_PRECISION_BF16);
		failed += run_all(sets[i], DSOCR_PRECISION_FP32);
	}
	if (failed == 0 && !fx_cuda() && getenv("DNNL_MAX_CPU_ISA") == NULL)
	{
		setenv("DNNL_MAX_CPU_ISA", "AVX2", 1);
		execv("/proc/self/exe", argv);
		failed = 1;
	}
	return failed != 0;
}
