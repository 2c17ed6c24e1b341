/*-------------------------------------------------------------------------
 *
 * test_blas.c
 *		How the CUDA backend uses cuBLASLt, with a stand-in for the library.
 *
 * The stand-in computes what its arguments say, so a matrix that is described
 * wrongly gives wrong numbers; and it refuses every algorithm that would make
 * results depend on the number of rows.
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
#include "fake_cublaslt.h"

static int n_logged;

static void
count_line(const char *message)
{
	n_logged++;
}

static int
open_backends(void **state)
{
	DsocrBackendOptions o = {.device = "cuda:0",
							 .precision = DSOCR_PRECISION_BF16,
							 .memory = (size_t) 512 << 20,
							 .log = count_line};
	DsocrError err = {0};

	fx_precision = o.precision;
	fx_seed = 3;
	fx_both[0] = dsocr_reference_open(&o, &err);
	fx_both[1] = dsocr_cuda_open(&o, &err);
	return fx_both[0] != NULL && fx_both[1] != NULL ? 0 : -1;
}

static int
close_backends(void **state)
{
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->close(fx_both[b]);
	return 0;
}

/* y = act(x w^T + bias) + residual on both; with `in_place` the residual is y. */
static void
check_linear(int rows, int n, int k, bool with_bias, bool in_place, bool other, int unit,
			 DsocrActivation act)
{
	FxMatrix w = fx_matrix(n, k, 1, false, 1.0f / sqrtf((float) k));
	FxVector bias = fx_vector((size_t) n, 1, 0);
	size_t count = (size_t) rows * (size_t) n;
	float *x = fx_numbers((size_t) rows * (size_t) k, 1);
	float *add = fx_numbers(count, 1);
	void *y[2];
	char what[128];

	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *in = fx_act(be, x, (size_t) rows * (size_t) k);
		void *residual = fx_act(be, add, count);

		y[b] = fx_act(be, add, count);
		be->ops->linear(be, y[b], in, rows, w.m[b], with_bias ? bias.v[b] : NULL, act,
						in_place ? y[b]
						: other	 ? residual
								 : NULL,
						unit);
		be->ops->free(be, in);
		be->ops->free(be, residual);
	}
	snprintf(what, sizeof(what), "linear %d x %d x %d", rows, n, k);
	fx_compare(what, y[0], y[1], count, FX_ROUNDED);
	free(x);
	free(add);
	fx_vector_free(&bias);
	fx_matrix_free(&w);
}

static void
test_products(void **state)
{
	const int before = fake_counts.products;

	check_linear(64, 40, 24, false, false, false, 64, DSOCR_ACT_NONE);
	check_linear(64, 40, 24, true, false, false, 64, DSOCR_ACT_NONE);
	check_linear(130, 16, 64, true, true, false, 65, DSOCR_ACT_NONE);
	check_linear(130, 16, 64, false, false, true, 65, DSOCR_ACT_NONE);
	check_linear(96, 72, 8, true, false, true, 48, DSOCR_ACT_NONE);
	check_linear(96, 72, 8, true, false, false, 48, DSOCR_ACT_GELU);
	check_linear(1000, 8, 16, true, false, false, 500, DSOCR_ACT_QUICK_GELU);
	assert_int_equal(fake_counts.products, before + 7);
}

/* These go elsewhere, and give the same. */
static void
test_not_taken(void **state)
{
	const int before = fake_counts.products;

	check_linear(64, 40, 23, true, false, false, 64, DSOCR_ACT_NONE);
	check_linear(64, 41, 24, true, false, false, 64, DSOCR_ACT_NONE);
	check_linear(64, 40, 24, true, false, false, DSOCR_MIXED, DSOCR_ACT_NONE);
	check_linear(8, 40, 24, true, false, false, 4, DSOCR_ACT_NONE);
	check_linear(64, 40, 24, true, false, true, 64, DSOCR_ACT_GELU);
	assert_int_equal(fake_counts.products, before);
}

/* More rows than a call takes, cut between units. */
static void
test_many_rows(void **state)
{
	fake_counts.most_rows = 0;
	check_linear(70 * 1000, 8, 8, true, true, false, 1000, DSOCR_ACT_NONE);
	assert_int_equal(fake_counts.most_rows, 65000);
}

/* An algorithm is asked for once for each kind of product, whatever the number of views. */
static void
test_pinned(void **state)
{
	int before;

	check_linear(64, 48, 32, true, false, false, 64, DSOCR_ACT_NONE);
	before = fake_counts.asked;
	for (int views = 1; views < 12; views += 3)
		check_linear(64 * views, 48, 32, true, false, false, 64, DSOCR_ACT_NONE);
	/* units that are classed alike */
	check_linear(50, 48, 32, true, false, false, 50, DSOCR_ACT_NONE);
	assert_int_equal(fake_counts.asked, before);
	check_linear(64, 48, 32, false, false, false, 64, DSOCR_ACT_NONE);
	check_linear(64, 48, 40, true, false, false, 64, DSOCR_ACT_NONE);
	check_linear(128, 48, 32, true, false, false, 128, DSOCR_ACT_NONE);
	assert_int_equal(fake_counts.asked, before + 3);
}

/* Without an algorithm that may be used our own kernels do it, which is said once. */
static void
test_none(void **state)
{
	const int before = fake_counts.products;

	n_logged = 0;
	fake_counts.none = 1;
	for (int k = 80; k <= 96; k += 8)
		for (int i = 0; i < 2; i++)
			check_linear(64, 48, k, true, false, false, 64, DSOCR_ACT_NONE);
	fake_counts.none = 0;
	assert_int_equal(fake_counts.products, before);
	assert_int_equal(n_logged, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_products),  cmocka_unit_test(test_not_taken),
		cmocka_unit_test(test_many_rows), cmocka_unit_test(test_pinned),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, open_backends, close_backends);
}
