/*-------------------------------------------------------------------------
 *
 * test_fuzz.c
 *		Operations of the CUDA backend with shapes from seeds.
 *
 * Each seed is one operation with one shape, compared with the reference and,
 * where rows or views belong to different texts, bit by bit with the same row
 * or view computed alone.  DSOCR_FUZZ_FIRST and DSOCR_FUZZ_SEEDS say which
 * seeds run.
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

#define REFERENCE fx_both[0]
#define CUDA fx_both[1]

static char name[200]; /* of the case that runs */
static int first_seed = 1;
static int n_seeds = 60;

/* Odd numbers, multiples of 8, and the powers of two that have fast kernels. */
static int
any_dim(int most)
{
	switch (fx_between(0, 3))
	{
		case 0:
			return fx_between(1, most < 24 ? most : 24);
		case 1:
			return fx_between(1, most);
		case 2:
			return 8 * fx_between(1, most / 8 > 0 ? most / 8 : 1);
		default:
			return most >= 64 ? 64 * fx_between(1, most / 64) : fx_between(1, most);
	}
}

/* Few rows as a rule, now and then many. */
static int
any_rows(void)
{
	return fx_between(0, 5) == 0 ? fx_between(60, 200) : fx_between(1, 40);
}

static float *
read_act(DsocrBackend *be, const void *act, size_t n)
{
	float *x = fx_numbers(n, 0);

	be->ops->read(be, x, act, n);
	return x;
}

static void
same_bits(const float *together, const float *alone, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(together + i, alone + i, sizeof(float)) != 0)
			fail_msg("%s: value %zu is %.9g alone, %.9g beside others", name, i, (double) alone[i],
					 (double) together[i]);
}

/* Outputs of both, which are freed; those of CUDA are returned. */
static float *
compare(void *const *y, size_t n, double tolerance)
{
	DsocrError err;
	float *want;
	float *got;

	if (!CUDA->ops->sync(CUDA, &err))
		fail_msg("%s: %s", name, err.message);
	want = read_act(REFERENCE, y[0], n);
	got = read_act(CUDA, y[1], n);
	fx_compare_floats(name, want, got, n, tolerance);
	REFERENCE->ops->free(REFERENCE, y[0]);
	CUDA->ops->free(CUDA, y[1]);
	dsocr_free(want);
	return got;
}

/* ---- products ---- */

typedef struct Product
{
	int rows; /* of a unit; of all when mixed */
	int units;
	int unit;
	int n;
	int k;
	int residual; /* 0: none, 1: in place, 2: another */
	bool with_bias;
	DsocrActivation act;
	bool swiglu;
	FxMatrix w;
	FxVector bias;
} Product;

static void *
run_product(DsocrBackend *be, const Product *p, int b, const float *x, const float *add, int rows)
{
	size_t count = (size_t) rows * (size_t) p->n;
	void *in = fx_act(be, x, (size_t) rows * (size_t) p->k);
	void *other = fx_act(be, add, count);
	void *y = fx_act(be, add, count);
	void *wide = be->ops->alloc(be, 2 * count, NULL);

	if (p->swiglu)
		be->ops->swiglu(be, y, wide, in, rows, p->w.m[b], p->unit);
	else
		be->ops->linear(be, y, in, rows, p->w.m[b], p->with_bias ? p->bias.v[b] : NULL, p->act,
						p->residual == 0   ? NULL
						: p->residual == 1 ? y
										   : other,
						p->unit);
	be->ops->free(be, in);
	be->ops->free(be, other);
	be->ops->free(be, wide);
	return y;
}

static void
fuzz_product(void)
{
	Product p = {.rows = any_rows(), .units = fx_between(0, 3), .n = any_dim(300)};
	int all = p.rows * (p.units > 0 ? p.units : 1);
	int one = p.units > 0 ? p.rows : 1;
	int at = p.units > 0 ? fx_between(0, p.units - 1) : fx_between(0, p.rows - 1);
	float *x, *add, *got, *alone;
	void *y[2];
	size_t from;

	p.unit = p.units > 0 ? p.rows : DSOCR_MIXED;
	p.k = any_dim(fx_between(0, 4) == 0 ? 900 : 200);
	p.residual = fx_between(0, 2);
	p.with_bias = fx_between(0, 1) == 1;
	p.act = (DsocrActivation) fx_between(0, 2);
	p.swiglu = fx_between(0, 3) == 0;
	snprintf(name + strlen(name), sizeof(name) - strlen(name),
			 "%s m %d x %d n %d k %d residual %d bias %d act %d", p.swiglu ? "swiglu" : "linear",
			 p.units, p.rows, p.n, p.k, p.residual, p.with_bias, (int) p.act);
	p.w = fx_matrix(p.swiglu ? 2 * p.n : p.n, p.k, p.n >= 4 ? fx_between(1, FX_MAX_PARTS) : 1,
					false, 1.0f / sqrtf((float) p.k));
	p.bias = fx_vector((size_t) p.n, 0.5f, 0);
	x = fx_numbers((size_t) all * (size_t) p.k, 1);
	add = fx_numbers((size_t) all * (size_t) p.n, 1);
	for (int b = 0; b < 2; b++)
		y[b] = run_product(fx_both[b], &p, b, x, add, all);
	got =
		compare(y, (size_t) all * (size_t) p.n, p.swiglu ? fx_rounded() + fx_tight() : fx_tight());
	from = (size_t) at * (size_t) one;
	y[1] = run_product(CUDA, &p, 1, x + from * (size_t) p.k, add + from * (size_t) p.n, one);
	alone = read_act(CUDA, y[1], (size_t) one * (size_t) p.n);
	same_bits(got + from * (size_t) p.n, alone, (size_t) one * (size_t) p.n);
	CUDA->ops->free(CUDA, y[1]);
	dsocr_free(alone);
	dsocr_free(got);
	dsocr_free(x);
	dsocr_free(add);
	fx_matrix_free(&p.w);
	fx_vector_free(&p.bias);
}

/* Logits of mixed rows, and each of them alone. */
static void
fuzz_logits(void)
{
	int rows = any_rows();
	int n = any_dim(400);
	int k = any_dim(200);
	int at = fx_between(0, rows - 1);
	size_t count = (size_t) rows * (size_t) n;
	FxMatrix w = fx_matrix(n, k, 1, false, 1.0f / sqrtf((float) k));
	float *x = fx_numbers((size_t) rows * (size_t) k, 1);
	float *y[3];

	snprintf(name + strlen(name), sizeof(name) - strlen(name), "logits m %d n %d k %d", rows, n, k);
	for (int run = 0; run < 3; run++)
	{
		int b = run > 0;
		DsocrBackend *be = fx_both[b];
		int m = run == 2 ? 1 : rows;
		void *in =
			fx_act(be, x + (run == 2 ? (size_t) at * (size_t) k : 0), (size_t) m * (size_t) k);
		float *out = be->ops->raw_alloc(be, (size_t) m * (size_t) n * sizeof(float), NULL);

		y[run] = fx_numbers(count, 0);
		be->ops->logits(be, out, in, m, w.m[b]);
		be->ops->raw_read(be, y[run], out, (size_t) m * (size_t) n * sizeof(float));
		be->ops->raw_free(be, out);
		be->ops->free(be, in);
	}
	fx_compare_floats(name, y[0], y[1], count, FX_TIGHT);
	same_bits(y[1] + (size_t) at * (size_t) n, y[2], (size_t) n);
	for (int run = 0; run < 3; run++)
		dsocr_free(y[run]);
	dsocr_free(x);
	fx_matrix_free(&w);
}

/* ---- rows ---- */

static void
fuzz_rows(void)
{
	int rows = any_rows();
	int dim = any_dim(700);
	int kind = fx_between(0, 2);
	size_t n = (size_t) rows * (size_t) dim;
	FxVector weight = fx_vector((size_t) dim, 0.2f, 1);
	FxVector bias = fx_vector((size_t) dim, 0.5f, 0);
	float *x = fx_numbers(2 * n, fx_between(0, 1) == 0 ? 1.0f : 2e-3f);
	void *y[2];

	snprintf(name + strlen(name), sizeof(name) - strlen(name), "%s %d x %d",
			 kind == 0	 ? "layer_norm"
			 : kind == 1 ? "rms_norm"
						 : "silu_mul",
			 rows, dim);
	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *in = fx_act(be, x, 2 * n);
		bool in_place = kind < 2 && rows % 2 == 0;

		y[b] = in_place ? in : be->ops->alloc(be, n, NULL);
		if (kind == 0)
			be->ops->layer_norm(be, y[b], in, rows, dim, weight.v[b], bias.v[b], 1e-6f);
		else if (kind == 1)
			be->ops->rms_norm(be, y[b], in, rows, dim, weight.v[b], 1e-6f);
		else
			be->ops->silu_mul(be, y[b], in, rows, dim);
		if (!in_place)
			be->ops->free(be, in);
	}
	dsocr_free(compare(y, n, kind == 2 ? fx_rounded() : fx_tight()));
	dsocr_free(x);
	fx_vector_free(&weight);
	fx_vector_free(&bias);
}

static void
fuzz_layout(void)
{
	int views = fx_between(1, 3);
	int h = fx_between(1, 20);
	int w = fx_between(1, 20);
	int c = any_dim(40);
	int skip = fx_between(0, 2);
	int b_dim = any_dim(60);
	int stride = fx_between(1, 2);
	bool columns = fx_between(0, 1) == 0;
	size_t in_n = (size_t) views * (size_t) (skip + h * w) * (size_t) c;
	size_t other_n = (size_t) views * (size_t) (h * w) * (size_t) b_dim;
	size_t n = columns ? (size_t) views * (size_t) ((h - 1) / stride + 1) *
							 (size_t) ((w - 1) / stride + 1) * 9 * (size_t) c
					   : (size_t) views * (size_t) (h * w) * (size_t) (c + b_dim);
	float *x = fx_numbers(in_n, 1);
	float *other = fx_numbers(other_n, 1);
	void *y[2];

	snprintf(name + strlen(name), sizeof(name) - strlen(name),
			 "%s views %d h %d w %d c %d skip %d b %d stride %d", columns ? "im2col3" : "concat",
			 views, h, w, c, skip, b_dim, stride);
	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *in = fx_act(be, x, in_n);
		void *in_b = fx_act(be, other, other_n);

		y[b] = be->ops->alloc(be, n, NULL);
		if (columns)
			be->ops->im2col3(be, y[b], in, views, h, w, c, stride);
		else
			be->ops->concat(be, y[b], in, c, skip, in_b, b_dim, views, h * w);
		be->ops->free(be, in);
		be->ops->free(be, in_b);
	}
	dsocr_free(compare(y, n, 0));
	dsocr_free(x);
	dsocr_free(other);
}

/* ---- attention of the encoder ---- */

typedef struct Grid
{
	int side;
	int heads;
	int head_dim;
	int window; /* -1: plain attention over side tokens */
	FxVector rel_h;
	FxVector rel_w;
	FxVector bias;
} Grid;

static void *
run_attention(DsocrBackend *be, const Grid *g, int b, const float *qkv, int views)
{
	size_t tokens = (size_t) views * (size_t) (g->window < 0 ? g->side : g->side * g->side);
	size_t dim = (size_t) g->heads * (size_t) g->head_dim;
	void *in = fx_act(be, qkv, tokens * 3 * dim);
	void *y = be->ops->alloc(be, tokens * dim, NULL);

	if (g->window < 0)
		be->ops->attention(be, y, in, views, g->side, g->heads, g->head_dim);
	else
		be->ops->grid_attention(be, y, in, views, g->side, g->heads, g->head_dim, g->window,
								g->rel_h.v[b], g->rel_w.v[b], g->bias.v[b]);
	be->ops->free(be, in);
	return y;
}

static void
fuzz_attention(void)
{
	static const int head_dims[] = {4, 8, 12, 16, 24, 33, 64, 64, 64, 80};
	Grid g = {.heads = fx_between(1, 3), .head_dim = head_dims[fx_between(0, 9)]};
	int views = fx_between(1, 3);
	int at = fx_between(0, views - 1);
	size_t dim = (size_t) g.heads * (size_t) g.head_dim;
	size_t tokens;
	size_t table;
	float *qkv, *got, *alone;
	void *y[2];

	g.window = fx_between(-1, 1) * fx_between(1, 9);
	if (g.window < 0)
		g.window = -1;
	g.side = g.window < 0 ? fx_between(1, 150) : fx_between(1, 15);
	tokens = (size_t) (g.window < 0 ? g.side : g.side * g.side);
	table = (size_t) (g.window > 0 ? 2 * g.window - 1 : 2 * g.side - 1) * (size_t) g.head_dim;
	snprintf(name + strlen(name), sizeof(name) - strlen(name),
			 "attention views %d side %d heads %d of %d window %d", views, g.side, g.heads,
			 g.head_dim, g.window);
	g.rel_h = fx_vector(table, 0.3f, 0);
	g.rel_w = fx_vector(table, 0.3f, 0);
	g.bias = fx_vector(3 * dim, 1, 0);
	qkv = fx_numbers((size_t) views * tokens * 3 * dim, 1);
	for (int b = 0; b < 2; b++)
		y[b] = run_attention(fx_both[b], &g, b, qkv, views);
	got = compare(y, (size_t) views * tokens * dim, fx_rounded());
	y[1] = run_attention(CUDA, &g, 1, qkv + (size_t) at * tokens * 3 * dim, 1);
	alone = read_act(CUDA, y[1], tokens * dim);
	same_bits(got + (size_t) at * tokens * dim, alone, tokens * dim);
	CUDA->ops->free(CUDA, y[1]);
	dsocr_free(alone);
	dsocr_free(got);
	dsocr_free(qkv);
	fx_vector_free(&g.rel_h);
	fx_vector_free(&g.rel_w);
	fx_vector_free(&g.bias);
}

/* ---- seeds ---- */

static void
run_seeds(const char *precision)
{
	static void (*const kinds[])(void) = {fuzz_product, fuzz_product, fuzz_attention,
										  fuzz_logits,	fuzz_rows,	  fuzz_layout};

	for (int seed = first_seed; seed < first_seed + n_seeds; seed++)
	{
		fx_seed = (uint64_t) seed * 1000003u;
		snprintf(name, sizeof(name), "seed %d %s: ", seed, precision);
		kinds[fx_between(0, 5)]();
	}
}

static void
test_bf16(void **state)
{
	assert_true(fx_open("cuda", DSOCR_PRECISION_BF16, 1));
	run_seeds("bf16");
	fx_close();
}

static void
test_fp32(void **state)
{
	assert_true(fx_open("cuda", DSOCR_PRECISION_FP32, 1));
	run_seeds("fp32");
	fx_close();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_bf16), cmocka_unit_test(test_fp32)};
	const char *first = getenv("DSOCR_FUZZ_FIRST");
	const char *count = getenv("DSOCR_FUZZ_SEEDS");

	if (first != NULL)
		first_seed = (int) strtol(first, NULL, 10);
	if (count != NULL)
		n_seeds = (int) strtol(count, NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
