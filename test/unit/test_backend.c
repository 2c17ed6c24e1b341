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

static void
check_linear(int rows, int n, int k, int n_parts, bool with_bias, DsocrActivation activation,
			 int residual, DsocrRowKind kind)
{
	FxMatrix w = fx_matrix(n, k, n_parts, false, 1.0f / sqrtf((float) k));
	FxVector bias = fx_vector((size_t) n, 0.5f, 0);
	float *x = fx_numbers((size_t) rows * (size_t) k, 1);
	float *add = fx_numbers((size_t) rows * (size_t) n, 1);
	float *y[2];
	char what[128];

	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		float *in = fx_act(be, x, (size_t) rows * (size_t) k);
		float *other = fx_act(be, add, (size_t) rows * (size_t) n);

		y[b] = fx_act(be, add, (size_t) rows * (size_t) n);
		be->ops->linear(be, y[b], in, rows, w.m[b], with_bias ? bias.v[b] : NULL, activation,
						residual == 0	? NULL
						: residual == 1 ? y[b]
										: other,
						kind);
		be->ops->free(be, in);
		be->ops->free(be, other);
	}
	snprintf(what, sizeof(what), "linear m %d n %d k %d parts %d act %d residual %d kind %d", rows,
			 n, k, n_parts, (int) activation, residual, (int) kind);
	fx_compare(what, y[0], y[1], (size_t) rows * (size_t) n, FX_TIGHT);
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
		for (int kind = 0; kind < 2; kind++)
			check_linear(shapes[i][0], shapes[i][1], shapes[i][2], 1, i % 2 == 0,
						 (DsocrActivation) (i % 3), (int) (i % 3), (DsocrRowKind) kind);
	for (int i = 0; i < 40; i++)
	{
		int n = fx_between(4, 300);

		check_linear(fx_between(1, 80), n, fx_between(1, 200), fx_between(1, FX_MAX_PARTS),
					 fx_between(0, 1), (DsocrActivation) fx_between(0, 2), fx_between(0, 2),
					 (DsocrRowKind) fx_between(0, 1));
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
	float *y[2];

	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		float *in = fx_act(be, x, C * 6 * 5);
		void *columns = be->ops->alloc(be, 15 * 9 * C, NULL);

		be->ops->im2col3(be, columns, in, 6, 5, C, 2);
		y[b] = be->ops->alloc(be, 9 * N, NULL);
		be->ops->linear(be, y[b], columns, 9, conv.m[b], NULL, DSOCR_ACT_NONE, NULL,
						DSOCR_ROWS_ONE);
		be->ops->free(be, in);
		be->ops->free(be, columns);
	}
	fx_compare("convolution", y[0], y[1], 9 * N, FX_TIGHT);
	for (int i = 0; i < 24; i++)
		values[i] = fx_number(1);
	for (int kind = 0; kind < 2; kind++)
	{
		for (int b = 0; b < 2; b++)
		{
			DsocrBackend *be = fx_both[b];
			DsocrMatrix *m = be->ops->matrix(be, &part, 1, false, NULL);
			float *in = fx_act(be, x, 12);

			assert_non_null(m);
			y[b] = be->ops->alloc(be, 18, NULL);
			be->ops->linear(be, y[b], in, 3, m, NULL, DSOCR_ACT_NONE, NULL, (DsocrRowKind) kind);
			be->ops->free(be, in);
			be->ops->matrix_free(be, m);
		}
		fx_compare("fp32 weights", y[0], y[1], 18, FX_TIGHT);
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
	fx_compare(layer ? "layer_norm" : "rms_norm", y[0], y[1], n, FX_TIGHT);
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
		int rows = fx_between(1, 40);
		int a = fx_between(1, 200);
		int c = fx_between(1, 200);
		size_t n = (size_t) rows * 2 * (size_t) a;
		float *x = fx_numbers(n, 3);
		float *t = fx_numbers((size_t) rows * (size_t) c, 1);
		void *sum[2];
		void *joined[2];
		void *silu[2];

		for (int b = 0; b < 2; b++)
		{
			DsocrBackend *be = fx_both[b];
			float *in = fx_act(be, x, n);
			float *other = fx_act(be, t, (size_t) rows * (size_t) c);

			sum[b] = fx_act(be, x, n);
			be->ops->add(be, sum[b], in, n);
			be->ops->copy(be, sum[b], in, 1);
			joined[b] = be->ops->alloc(be, (size_t) rows * (size_t) (a + c), NULL);
			be->ops->concat(be, joined[b], in, a, other, c, rows);
			silu[b] = be->ops->alloc(be, n / 2, NULL);
			be->ops->silu_mul(be, silu[b], in, rows, a);
			be->ops->free(be, in);
			be->ops->free(be, other);
		}
		fx_compare("add, copy", sum[0], sum[1], n, 0);
		fx_compare("concat", joined[0], joined[1], (size_t) rows * (size_t) (a + c), 0);
		fx_compare("silu_mul", silu[0], silu[1], n / 2, FX_TIGHT);
		dsocr_free(x);
		dsocr_free(t);
	}
}

static void
test_pictures(void **state)
{
	static const int sizes[][2] = {{16, 16}, {64, 16}, {80, 16}, {24, 8}};
	uint8_t rgb[80 * 80 * 3];

	for (size_t i = 0; i < sizeof(rgb); i++)
		rgb[i] = (uint8_t) (i < 256 ? i : fx_next());
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		size_t n = (size_t) sizes[i][0] * (size_t) sizes[i][0] * 3;
		void *y[2];

		for (int b = 0; b < 2; b++)
		{
			y[b] = fx_both[b]->ops->alloc(fx_both[b], n, NULL);
			fx_both[b]->ops->patches(fx_both[b], y[b], rgb, sizes[i][0], sizes[i][1]);
		}
		fx_compare("patches", y[0], y[1], n, 0);
	}
	for (int round = 0; round < 20; round++)
	{
		int h = fx_between(1, 17);
		int w = fx_between(1, 17);
		int c = fx_between(1, 20);
		int stride = fx_between(1, 2);
		size_t n =
			(size_t) ((h - 1) / stride + 1) * (size_t) ((w - 1) / stride + 1) * 9 * (size_t) c;
		float *x = fx_numbers((size_t) (h * w * c), 1);
		void *y[2];

		for (int b = 0; b < 2; b++)
		{
			float *in = fx_act(fx_both[b], x, (size_t) (h * w * c));

			y[b] = fx_both[b]->ops->alloc(fx_both[b], n, NULL);
			fx_both[b]->ops->im2col3(fx_both[b], y[b], in, h, w, c, stride);
			fx_both[b]->ops->free(fx_both[b], in);
		}
		fx_compare("im2col3", y[0], y[1], n, 0);
		dsocr_free(x);
	}
}

/* ---- attention ---- */

/* window < 0: plain attention over side tokens */
static void
check_attention(int side, int heads, int head_dim, int window, float scale)
{
	int n = window < 0 ? side : side * side;
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
		float *in = fx_act(be, qkv, (size_t) n * 3 * dim);

		y[b] = be->ops->alloc(be, (size_t) n * dim, NULL);
		if (window < 0)
			be->ops->attention(be, y[b], in, n, heads, head_dim);
		else
			be->ops->grid_attention(be, y[b], in, side, heads, head_dim, window, rel_h.v[b],
									rel_w.v[b], bias.v[b]);
		be->ops->free(be, in);
	}
	snprintf(what, sizeof(what), "attention side %d heads %d of %d window %d", side, heads,
			 head_dim, window);
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
		check_attention(grids[i][0], grids[i][1], grids[i][2], grids[i][3], i == 3 ? 4.0f : 1.0f);
	for (int i = 0; i < 10; i++)
		check_attention(fx_between(1, 12), fx_between(1, 3), fx_between(1, 70), fx_between(0, 6),
						1);
	for (int i = 0; i < 10; i++)
		check_attention(fx_between(1, 300), fx_between(1, 3), fx_between(1, 80), -1, 1);
}

/* Pages of several sequences, scattered over the memory. */
typedef struct Pages
{
	int32_t list[8][64];
	int32_t used;
} Pages;

static void
check_causal(int heads, int head_dim, int page_tokens, int chunk, int chunks)
{
	DsocrKvShape shape = {
		.layers = 2, .heads = heads, .head_dim = head_dim, .page_tokens = page_tokens, .pages = 96};
	DsocrKv *kv[2];
	Pages pages = {.used = 0};
	int length = chunk * chunks;
	size_t dim = (size_t) heads * (size_t) head_dim;
	DsocrError err;

	assert_true((length + 2) / page_tokens < 32);
	for (int s = 0; s < 3; s++)
		for (int p = 0; p <= (length + 1) / page_tokens; p++)
			pages.list[s][p] = (pages.used++ * 37) % 96; /* 37 and 96 have no common factor */
	for (int b = 0; b < 2; b++)
	{
		kv[b] = fx_both[b]->ops->kv_open(fx_both[b], &shape, &err);
		assert_non_null(kv[b]);
	}
	assert_int_equal(fx_both[1]->ops->kv_bytes(fx_both[1], &shape),
					 2 * 96 * (size_t) page_tokens * 2 * dim *
						 (fx_precision == DSOCR_PRECISION_FP32 ? 4 : 2));
	/* prefill of two sequences in chunks, then one token of each */
	for (int step = 0; step < 2 * chunks + 1; step++)
	{
		bool decode = step == 2 * chunks;
		int n = decode ? 2 : chunk;
		int32_t positions[64];
		const int32_t *lists[64];
		DsocrRows rows = {decode ? DSOCR_ROWS_MIXED : DSOCR_ROWS_ONE, n, positions, lists};
		float *x = fx_numbers((size_t) n * 3 * dim, 1);
		void *in[2];
		void *y[2];

		for (int r = 0; r < n; r++)
		{
			positions[r] = decode ? length : step / 2 * chunk + r;
			lists[r] = pages.list[decode ? r : step % 2];
		}
		for (int b = 0; b < 2; b++)
		{
			in[b] = fx_act(fx_both[b], x, (size_t) n * 3 * dim);
			y[b] = fx_both[b]->ops->alloc(fx_both[b], (size_t) n * dim, NULL);
			fx_both[b]->ops->rope_store(fx_both[b], in[b], &rows, kv[b], 1, 10000.0f);
			fx_both[b]->ops->causal_attention(fx_both[b], y[b], in[b], &rows, kv[b], 1);
		}
		fx_compare("causal_attention", y[0], y[1], (size_t) n * dim, fx_rounded());
		/* q is rotated in place, what becomes of k and v there is not said */
		for (int r = 0; r < n; r++)
		{
			float *q[2];

			for (int b = 0; b < 2; b++)
			{
				q[b] = fx_numbers(dim, 0);
				fx_both[b]->ops->read(fx_both[b], q[b],
									  dsocr_act(fx_both[b], in[b], (size_t) r * 3 * dim), dim);
			}
			fx_compare_floats("rope", q[0], q[1], dim, FX_TIGHT);
			dsocr_free(q[0]);
			dsocr_free(q[1]);
		}
		for (int b = 0; b < 2; b++)
			fx_both[b]->ops->free(fx_both[b], in[b]);
		dsocr_free(x);
	}
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->kv_close(fx_both[b], kv[b]);
}

static void
test_causal(void **state)
{
	check_causal(1, 4, 1, 3, 2);
	check_causal(2, 32, 4, 9, 3);
	check_causal(10, 128, 16, 33, 2);
	check_causal(2, 80, 5, 40, 2);
	for (int i = 0; i < 8; i++)
		check_causal(fx_between(1, 4), 2 * fx_between(1, 80), fx_between(3, 20), fx_between(1, 40),
					 2);
}

/* Angles at the last position of the context. */
static void
test_rope_far(void **state)
{
	DsocrKvShape shape = {
		.layers = 1, .heads = 1, .head_dim = 128, .page_tokens = 8192, .pages = 1};
	int32_t page = 0;
	const int32_t *list = &page;
	float *x = fx_numbers(3 * 128, 1);
	void *in[2];
	float q[2][128];

	for (int32_t position = 8191; position > 0; position -= 2047)
	{
		DsocrRows rows = {DSOCR_ROWS_ONE, 1, &position, &list};

		for (int b = 0; b < 2; b++)
		{
			DsocrKv *kv = fx_both[b]->ops->kv_open(fx_both[b], &shape, NULL);

			in[b] = fx_act(fx_both[b], x, 3 * 128);
			fx_both[b]->ops->rope_store(fx_both[b], in[b], &rows, kv, 0, 10000.0f);
			fx_both[b]->ops->read(fx_both[b], q[b], in[b], 128);
			fx_both[b]->ops->free(fx_both[b], in[b]);
			fx_both[b]->ops->kv_close(fx_both[b], kv);
		}
		fx_compare_floats("rope far", q[0], q[1], 128, FX_TIGHT);
	}
	dsocr_free(x);
}

/* ---- mixture of experts ---- */

static void
check_moe(int rows, int hidden, int inter, int experts, int k, bool residual, DsocrRowKind kind)
{
	FxMatrix gate = fx_matrix(experts, hidden, 1, false, 2.0f / sqrtf((float) hidden));
	FxMatrix *up = calloc((size_t) experts, sizeof(*up));
	FxMatrix *down = calloc((size_t) experts, sizeof(*down));
	size_t n = (size_t) rows * (size_t) hidden;
	size_t pairs = (size_t) rows * (size_t) k;
	float *x = fx_numbers(n, 1);
	float *add = fx_numbers(n, 1);
	int32_t *ids[2];
	float *weights[2];
	float *logits[2];
	void *y[2];

	for (int e = 0; e < experts; e++)
	{
		up[e] = fx_matrix(2 * inter, hidden, 2, false, 1.0f / sqrtf((float) hidden));
		down[e] = fx_matrix(hidden, inter, 1, false, 1.0f / sqrtf((float) inter));
	}
	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		const DsocrMatrix **ups = calloc((size_t) experts, sizeof(*ups));
		const DsocrMatrix **downs = calloc((size_t) experts, sizeof(*downs));
		float *in = fx_act(be, x, n);
		void *route = be->ops->routing_alloc(be, pairs * 4, NULL);
		void *share = be->ops->routing_alloc(be, pairs * 4, NULL);
		void *scores = be->ops->alloc(be, (size_t) rows * (size_t) experts, NULL);

		for (int e = 0; e < experts; e++)
		{
			ups[e] = up[e].m[b];
			downs[e] = down[e].m[b];
		}
		y[b] = fx_act(be, add, n);
		be->ops->router(be, route, share, scores, in, rows, gate.m[b], k);
		ids[b] = malloc(pairs * 4);
		weights[b] = malloc(pairs * 4);
		logits[b] = malloc((size_t) rows * (size_t) experts * 4);
		be->ops->routing_read(be, ids[b], route, pairs * 4);
		be->ops->routing_read(be, weights[b], share, pairs * 4);
		be->ops->routing_read(be, logits[b], scores, (size_t) rows * (size_t) experts * 4);
		be->ops->experts(be, y[b], in, rows, route, share, k, experts, ups, downs,
						 residual ? y[b] : NULL, kind);
		be->ops->router(be, route, share, NULL, in, rows, gate.m[b], k);
		be->ops->routing_free(be, route);
		be->ops->routing_free(be, share);
		be->ops->free(be, scores);
		be->ops->free(be, in);
		free(ups);
		free(downs);
	}
	fx_compare_floats("router logits", logits[0], logits[1], (size_t) rows * (size_t) experts,
					  FX_TIGHT);
	fx_compare_floats("router weights", weights[0], weights[1], pairs, 1e-4);
	assert_memory_equal(ids[0], ids[1], pairs * 4);
	fx_compare("experts", y[0], y[1], n, fx_rounded());
	for (int e = 0; e < experts; e++)
	{
		fx_matrix_free(&up[e]);
		fx_matrix_free(&down[e]);
	}
	for (int b = 0; b < 2; b++)
	{
		free(ids[b]);
		free(weights[b]);
		free(logits[b]);
	}
	free(up);
	free(down);
	dsocr_free(x);
	dsocr_free(add);
	fx_matrix_free(&gate);
}

static void
test_moe(void **state)
{
	check_moe(1, 64, 48, 8, 2, true, DSOCR_ROWS_MIXED);
	check_moe(1, 7, 3, 2, 2, false, DSOCR_ROWS_ONE);
	check_moe(300, 16, 24, 1, 1, true, DSOCR_ROWS_ONE);
	check_moe(70, 16, 24, 1, 1, true, DSOCR_ROWS_MIXED);
	check_moe(64, 96, 72, 12, 6, true, DSOCR_ROWS_MIXED);
	for (int i = 0; i < 10; i++)
	{
		int experts = fx_between(1, 20);

		check_moe(fx_between(1, 60), fx_between(1, 100), fx_between(1, 100), experts,
				  fx_between(1, experts), i % 2, (DsocrRowKind) fx_between(0, 1));
	}
}

/* Equal logits: the lower expert first. */
static void
test_router_ties(void **state)
{
	DsocrTensor t = {.name = "gate", .dtype = DSOCR_BF16, .ndim = 2, .shape = {5, 4}, .count = 20};
	const DsocrTensor *part = &t;
	uint16_t zero[20] = {0};
	float x[4] = {1, 2, 3, 4};
	int32_t ids[3];
	float weights[3];
	DsocrMatrix *gate;

	t.data = zero;
	gate = fx_both[1]->ops->matrix(fx_both[1], &part, 1, false, NULL);
	fx_both[1]->ops->router(fx_both[1], ids, weights, NULL, x, 1, gate, 3);
	for (int i = 0; i < 3; i++)
	{
		assert_int_equal(ids[i], i);
		assert_true(fabsf(weights[i] - 0.2f) < 1e-6f);
	}
	fx_both[1]->ops->matrix_free(fx_both[1], gate);
}

static void
test_embed(void **state)
{
	FxMatrix table = fx_matrix(50, 37, 1, false, 1);
	int32_t ids[] = {0, 49, 7, 7, 31};
	void *y[2];

	for (int b = 0; b < 2; b++)
	{
		y[b] = fx_both[b]->ops->alloc(fx_both[b], 5 * 37, NULL);
		fx_both[b]->ops->embed(fx_both[b], y[b], table.m[b], ids, 5);
	}
	fx_compare("embed", y[0], y[1], 5 * 37, 0);
	fx_matrix_free(&table);
}

static void
test_pick(void **state)
{
	for (int round = 0; round < 12; round++)
	{
		int n = fx_between(1, 9);
		int vocab = fx_between(2, round == 0 ? 129280 : 3000);
		float *x = fx_numbers((size_t) n * (size_t) vocab, 6);
		int32_t banned[64];
		int32_t start[10];
		DsocrBans bans = {banned, start};
		int32_t ids[2][9];
		float logprobs[2][9];

		start[0] = 0;
		for (int r = 0; r < n; r++)
		{
			int count = fx_between(0, 6);
			float *row = x + (size_t) r * (size_t) vocab;
			int best = 0;

			/* ties are frequent among bf16 numbers; make sure of one at the top */
			for (int i = 1; i < vocab; i++)
				best = row[i] > row[best] ? i : best;
			row[fx_between(0, vocab - 1)] = row[best];
			start[r + 1] = start[r] + count;
			for (int i = 0; i < count; i++)
				banned[start[r] + i] = i < 2 ? best + i : fx_between(0, vocab - 1);
		}
		for (int b = 0; b < 2; b++)
		{
			float *in = fx_act(fx_both[b], x, (size_t) n * (size_t) vocab);

			fx_both[b]->ops->pick(fx_both[b], ids[b], logprobs[b], in, n, vocab,
								  round % 3 == 0 ? NULL : &bans);
			fx_both[b]->ops->free(fx_both[b], in);
		}
		assert_memory_equal(ids[0], ids[1], (size_t) n * 4);
		for (int r = 0; r < n; r++)
			assert_true(fabsf(logprobs[0][r] - logprobs[1][r]) < 2e-5f);
		dsocr_free(x);
	}
}

/* Whatever the numbers are, the id is one of the vocabulary. */
static void
test_pick_nonsense(void **state)
{
	float x[3][4] = {
		{NAN, NAN, NAN, NAN}, {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, {1, 2, INFINITY, NAN}};
	int32_t all[12] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
	int32_t start[4] = {0, 4, 8, 12};
	DsocrBans bans = {all, start};
	int32_t ids[3];
	float logprobs[3];

	for (int banned = 0; banned < 2; banned++)
	{
		fx_both[1]->ops->pick(fx_both[1], ids, logprobs, x, 3, 4, banned ? &bans : NULL);
		for (int r = 0; r < 3; r++)
			assert_in_range(ids[r], 0, 3);
	}
}

static int
run_all(const char *isa, DsocrPrecision precision)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linear),		   cmocka_unit_test(test_matrix),
		cmocka_unit_test(test_matrix_refused), cmocka_unit_test(test_norm),
		cmocka_unit_test(test_elements),	   cmocka_unit_test(test_pictures),
		cmocka_unit_test(test_attention),	   cmocka_unit_test(test_causal),
		cmocka_unit_test(test_rope_far),	   cmocka_unit_test(test_moe),
		cmocka_unit_test(test_router_ties),	   cmocka_unit_test(test_embed),
		cmocka_unit_test(test_pick),		   cmocka_unit_test(test_pick_nonsense)};
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
	static const char *const sets[] = {"generic", "avx2", "avx512", "amx"};
	int failed = 0;

	for (int i = 0; i < 4; i++)
	{
		failed += run_all(sets[i], DSOCR_PRECISION_BF16);
		failed += run_all(sets[i], DSOCR_PRECISION_FP32);
	}
	if (failed == 0 && getenv("DNNL_MAX_CPU_ISA") == NULL)
	{
		setenv("DNNL_MAX_CPU_ISA", "AVX2", 1);
		execv("/proc/self/exe", argv);
		failed = 1;
	}
	return failed != 0;
}
