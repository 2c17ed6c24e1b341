/*-------------------------------------------------------------------------
 *
 * test_blocks.c
 *		Products of many rows in the matrix unit.
 *
 * In bf16 a unit of many rows gives the bits of its rows one by one, which
 * take another way.  With weights of 8 and 4 bits a row of a unit gives the
 * same bits whatever rows there are with it, near what the widened weights
 * give.  Both over shapes whose edges fall everywhere.
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

/* y[rows, n] of the cpu backend, in units of so many rows (or mixed) */
static float *
product(const FxMatrix *w, const float *x, int rows, int n, int k, int unit)
{
	DsocrBackend *be = fx_both[1];
	size_t count = (size_t) rows * (size_t) n;
	void *in = fx_act(be, x, (size_t) rows * (size_t) k);
	void *y = be->ops->alloc(be, count, NULL);
	float *host = fx_numbers(count, 0);

	assert_non_null(y);
	be->ops->linear(be, y, in, rows, w->m[1], NULL, DSOCR_ACT_NONE, NULL, unit);
	assert_true(be->ops->sync(be, NULL));
	be->ops->read(be, host, y, count);
	be->ops->free(be, in);
	be->ops->free(be, y);
	return host;
}

static void
check_against_reference(const FxMatrix *w, const float *x, const float *got, int rows, int n, int k)
{
	DsocrBackend *reference = fx_both[0];
	size_t count = (size_t) rows * (size_t) n;
	void *in = fx_act(reference, x, (size_t) rows * (size_t) k);
	void *y = reference->ops->alloc(reference, count, NULL);
	double tolerance = fx_weights == DSOCR_BF16 ? FX_TIGHT : FX_WIDENED;

	reference->ops->linear(reference, y, in, rows, w->m[0], NULL, DSOCR_ACT_NONE, NULL, rows);
	fx_compare("many rows", y, fx_act(fx_both[1], got, count), count, tolerance);
	reference->ops->free(reference, in);
}

static void
check_shape(int rows, int n, int k, int parts)
{
	FxMatrix w = fx_matrix(n, k, parts, false, 1.0f / sqrtf((float) k));
	float *x = fx_numbers((size_t) rows * (size_t) k, 1);
	float *together = product(&w, x, rows, n, k, rows);
	float *alone = product(&w, x, rows, n, k, fx_weights == DSOCR_BF16 ? DSOCR_MIXED : 1);

	if (memcmp(together, alone, (size_t) rows * (size_t) n * sizeof(float)) != 0)
		fail_msg("rows %d n %d k %d parts %d differ", rows, n, k, parts);
	check_against_reference(&w, x, together, rows, n, k);
	dsocr_free(x);
	dsocr_free(together);
	dsocr_free(alone);
	fx_matrix_free(&w);
}

static void
test_shapes(void **state)
{
	static const int shapes[][4] = {{192, 16, 32, 1},	{200, 530, 515, 1}, {257, 96, 100, 2},
									{300, 40, 768, 1},	{513, 48, 300, 3},	{1100, 20, 64, 1},
									{193, 1, 1, 1},		{224, 300, 33, 4},	{209, 257, 257, 2},
									{640, 144, 288, 1}, {17, 270, 290, 3},	{1, 45, 70, 2}};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		check_shape(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
	for (int i = 0; i < 12; i++)
		check_shape(fx_between(1, 400), fx_between(4, 300), fx_between(1, 300),
					fx_between(1, FX_MAX_PARTS));
}

int
main(void)
{
	static const DsocrDtype types[] = {DSOCR_BF16, DSOCR_INT8, DSOCR_INT4};
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes)};
	int failed = 0;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
	{
		char name[64];

		fx_weights = types[i];
		if (!fx_open("amx", DSOCR_PRECISION_BF16, 2))
		{
			printf("amx: this machine does not have it\n");
			return 0;
		}
		snprintf(name, sizeof(name), "blocks %s", dsocr_quant_name(fx_weights));
		failed += _cmocka_run_group_tests(name, tests, 1, NULL, NULL);
		fx_close();
	}
	return failed != 0;
}
