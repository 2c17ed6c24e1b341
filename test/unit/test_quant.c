/*-------------------------------------------------------------------------
 *
 * test_quant.c
 *		Products with weights in 8 and 4 bits, on every instruction set.
 *
 * The reference computes with the widened values.  All instruction sets that
 * have fused multiplication sum the same integers and round alike: the same
 * bits come from each of them.
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
#include "quantize.h"

static bool widens; /* units of rows are multiplied in bf16 */

static double
tolerance(int unit)
{
	if (fx_precision == DSOCR_PRECISION_FP32)
		return FX_TIGHT;
	return widens && unit != DSOCR_MIXED ? FX_WIDENED : FX_GROUPED;
}

/* ---- products ---- */

static void
check_linear(int rows, int n, int k, int n_parts, bool with_bias, int units)
{
	int unit = units > 0 ? rows : DSOCR_MIXED;
	int all = rows * (units > 0 ? units : 1);
	FxMatrix w = fx_matrix(n, k, n_parts, false, 1.0f / sqrtf((float) k));
	FxVector bias = fx_vector((size_t) n, 0.5f, 0);
	float *x = fx_numbers((size_t) all * (size_t) k, 1);
	void *y[2];
	char what[128];

	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *in = fx_act(be, x, (size_t) all * (size_t) k);

		y[b] = be->ops->alloc(be, (size_t) all * (size_t) n, NULL);
		be->ops->linear(be, y[b], in, all, w.m[b], with_bias ? bias.v[b] : NULL, DSOCR_ACT_NONE,
						NULL, unit);
		be->ops->free(be, in);
	}
	snprintf(what, sizeof(what), "linear m %d n %d k %d parts %d units %d", rows, n, k, n_parts,
			 units);
	fx_compare(what, y[0], y[1], (size_t) all * (size_t) n, tolerance(unit));
	dsocr_free(x);
	fx_vector_free(&bias);
	fx_matrix_free(&w);
}

static void
test_linear(void **state)
{
	static const int shapes[][3] = {{1, 1, 1},	   {1, 7, 3},	   {2, 64, 64},	   {5, 33, 17},
									{3, 16, 31},   {4, 17, 32},	   {7, 15, 33},	   {8, 31, 63},
									{17, 130, 65}, {64, 512, 96},  {65, 513, 33},  {257, 96, 100},
									{31, 48, 768}, {33, 200, 129}, {1, 1280, 896}, {300, 40, 96}};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		for (int units = 0; units < 3; units++)
			check_linear(shapes[i][0], shapes[i][1], shapes[i][2], 1, i % 2 == 0, units);
	for (int i = 0; i < 40; i++)
	{
		int n = fx_between(4, 300);

		check_linear(fx_between(1, 80), n, fx_between(1, 200), fx_between(1, FX_MAX_PARTS),
					 fx_between(0, 1), fx_between(0, 3));
	}
}

enum
{
	HIDDEN = 75,
	INTER = 45,
	EXPERTS = 7,
	CHOICES = 3,
	ROWS = 90
};

/* Experts of one layer; some rows have no choice. */
static void
check_experts(int rows, int unit)
{
	FxMatrix up[EXPERTS];
	FxMatrix down[EXPERTS];
	float *x = fx_numbers(ROWS * HIDDEN, 1);
	int32_t ids[ROWS * CHOICES];
	float weights[ROWS * CHOICES];
	void *y[2];

	for (int e = 0; e < EXPERTS; e++)
	{
		up[e] = fx_matrix(2 * INTER, HIDDEN, 2, false, 0.1f);
		down[e] = fx_matrix(HIDDEN, INTER, 1, false, 0.1f);
	}
	for (int i = 0; i < rows * CHOICES; i++)
	{
		ids[i] = i % 11 == 0 ? -1 : fx_between(0, EXPERTS - 1);
		weights[i] = (float) fx_between(1, 100) / 100;
	}
	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		const DsocrMatrix *gate_up[EXPERTS];
		const DsocrMatrix *out[EXPERTS];
		DsocrExperts *experts;
		void *in = fx_act(be, x, (size_t) rows * HIDDEN);

		for (int e = 0; e < EXPERTS; e++)
		{
			gate_up[e] = up[e].m[b];
			out[e] = down[e].m[b];
		}
		experts = be->ops->experts_open(be, gate_up, out, EXPERTS, NULL);
		assert_non_null(experts);
		y[b] = be->ops->alloc(be, (size_t) rows * HIDDEN, NULL);
		be->ops->experts(be, y[b], in, rows, ids, weights, CHOICES, experts, in, unit);
		be->ops->experts_close(be, experts);
		be->ops->free(be, in);
	}
	fx_compare("experts", y[0], y[1], (size_t) rows * HIDDEN, fx_rounded());
	for (int e = 0; e < EXPERTS; e++)
	{
		fx_matrix_free(&up[e]);
		fx_matrix_free(&down[e]);
	}
	dsocr_free(x);
}

static void
test_experts(void **state)
{
	check_experts(1, DSOCR_MIXED);
	check_experts(ROWS, DSOCR_MIXED);
	check_experts(ROWS, ROWS);
	check_experts(ROWS, ROWS / 3);
}

/* Rows of zeros give zeros; one that holds no number spoils itself and no other. */
static void
test_strange_rows(void **state)
{
	static const float strange[] = {NAN, INFINITY, -INFINITY, 1e30f, 1e-40f, 3e38f};
	enum
	{
		N = 20,
		K = 100,
		M = 8
	};
	FxMatrix w = fx_matrix(N, K, 1, false, 0.3f);
	DsocrBackend *be = fx_both[1];
	float *x = fx_numbers(M * K, 1);
	float clean[M * N];
	float mixed[M * N];

	memset(x + 7 * K, 0, K * sizeof(float));
	for (int round = 0; round < 2; round++)
	{
		void *in = fx_act(be, x, M * K);
		void *y = be->ops->alloc(be, M * N, NULL);

		be->ops->linear(be, y, in, M, w.m[1], NULL, DSOCR_ACT_NONE, NULL, DSOCR_MIXED);
		be->ops->read(be, round == 0 ? clean : mixed, y, M * N);
		be->ops->free(be, in);
		be->ops->free(be, y);
		for (int i = 0; i < 6; i++)
			x[i * K + 3 * i] = strange[i];
	}
	for (int i = 0; i < N; i++)
		assert_true(clean[7 * N + i] == 0);
	assert_memory_equal(clean + 6 * N, mixed + 6 * N, 2 * N * sizeof(float));
	for (int i = 0; i < 3 * N; i++)
		assert_false(isfinite(mixed[i]));
	dsocr_free(x);
	fx_matrix_free(&w);
}

/* ---- one instruction set against another ---- */

enum
{
	SAME_N = 100,
	SAME_K = 333,
	SAME_M = 37
};

/* The same product again and again, on every set that fuses. */
static float first_set[SAME_M * SAME_N];
static bool have_first;
static bool fuses;

static void
test_same_on_all(void **state)
{
	DsocrBackend *be = fx_both[1];
	float got[SAME_M * SAME_N];
	float unit[SAME_M * SAME_N];
	FxMatrix w;
	float *x;
	void *in;
	void *y;

	fx_seed = 4711;
	w = fx_matrix(SAME_N, SAME_K, 1, false, 0.1f);
	x = fx_numbers(SAME_M * SAME_K, 1);
	in = fx_act(be, x, SAME_M * SAME_K);
	y = be->ops->alloc(be, SAME_M * SAME_N, NULL);
	be->ops->linear(be, y, in, SAME_M, w.m[1], NULL, DSOCR_ACT_NONE, NULL, DSOCR_MIXED);
	be->ops->read(be, got, y, SAME_M * SAME_N);
	if (have_first && fuses)
		assert_memory_equal(first_set, got, sizeof(got));
	else if (fuses)
		memcpy(first_set, got, sizeof(got));
	have_first |= fuses;

	/* a unit of rows goes the same way, but where it is widened (test_blocks) */
	be->ops->linear(be, y, in, SAME_M, w.m[1], NULL, DSOCR_ACT_NONE, NULL, SAME_M);
	be->ops->read(be, unit, y, SAME_M * SAME_N);
	if (!widens)
		assert_memory_equal(unit, got, sizeof(got));
	be->ops->free(be, in);
	be->ops->free(be, y);
	dsocr_free(x);
	fx_matrix_free(&w);
}

static int
run_all(const char *isa, DsocrPrecision precision)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linear), cmocka_unit_test(test_experts),
		cmocka_unit_test(test_strange_rows), cmocka_unit_test(test_same_on_all)};
	char name[64];
	int failed;

	if (!fx_open(isa, precision, 2))
	{
		printf("%s: this machine does not have it\n", isa);
		return 0;
	}
	snprintf(name, sizeof(name), "quant %s %s %s", isa,
			 precision == DSOCR_PRECISION_FP32 ? "fp32" : "integers", dsocr_quant_name(fx_weights));
	fuses = strcmp(isa, "generic") != 0;
	widens = strcmp(isa, "amx") == 0;
	/* widened weights are another computation */
	failed = _cmocka_run_group_tests(
		name, tests, precision == DSOCR_PRECISION_FP32 ? 2 : sizeof(tests) / sizeof(tests[0]), NULL,
		NULL);
	fx_close();
	return failed;
}

int
main(void)
{
	static const char *const sets[] = {"generic", "avx2", "avx512", "vnni", "amx"};
	int failed = 0;

	for (int four = 0; four < 2; four++)
	{
		fx_weights = four ? DSOCR_INT4 : DSOCR_INT8;
		have_first = false;
		for (int i = 0; i < 5; i++)
			failed += run_all(sets[i], DSOCR_PRECISION_BF16);
		failed += run_all("amx", DSOCR_PRECISION_FP32);
		failed += run_all("generic", DSOCR_PRECISION_FP32);
	}
	return failed != 0;
}
