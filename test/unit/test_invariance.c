/*-------------------------------------------------------------------------
 *
 * test_invariance.c
 *		Results of the CPU backend do not depend on company or threads.
 *
 * Operations on rows of different sequences must give the same bits for a
 * row alone and in any batch of 1 to 32 rows in any order, with rows without
 * slot between them; those on views the same for a view alone and among
 * others; every operation must give the same bits again, and with any number
 * of threads.
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
#include <cmocka.h>

#include "../reference/fixture.h"
#include "quantize.h"

#define MAX_ROWS 32
#define ROUNDS 40

enum
{
	HEADS = 3,
	HEAD_DIM = 40,
	DIM = HEADS * HEAD_DIM,
	INTER = 70,
	EXPERTS = 9,
	CHOICES = 3,
	PAGE = 5,
	PAGES = 20 /* of one sequence */
};

/* All that the rows of a decoder go through. */
typedef struct Step
{
	DsocrBackend *be;
	FxMatrix qkv;
	FxMatrix wide;
	FxMatrix gate;
	FxMatrix up[EXPERTS];
	FxMatrix down[EXPERTS];
	FxVector norm;
	DsocrExperts *experts;
	DsocrKv *kv;
	int32_t pages[MAX_ROWS][PAGES];
	int32_t positions[MAX_ROWS];
	float *x; /* [MAX_ROWS, DIM] */
} Step;

typedef struct Result
{
	float normed[DIM];
	float qkv[3 * DIM];
	float attended[DIM];
	float activated[INTER];
	float mixed[DIM];
	float scores[EXPERTS];
	float logits[3 * DIM];
	float weights[CHOICES];
	int32_t ids[CHOICES];
	int32_t token;
	float logprob;
} Result;

/* rows x dim values of an activation, row by row into a member of the results */
static void
put(DsocrBackend *be, void *to, const void *act, int rows, size_t dim)
{
	float *host = fx_numbers((size_t) rows * dim, 0);

	be->ops->read(be, host, act, (size_t) rows * dim);
	for (size_t r = 0; r < (size_t) rows; r++)
		memcpy((char *) to + r * sizeof(Result), host + r * dim, dim * sizeof(float));
	dsocr_free(host);
}

/* The same of raw memory, elements of four bytes. */
static void
put_raw(DsocrBackend *be, void *to, const void *raw, int rows, size_t dim)
{
	float *host = fx_numbers((size_t) rows * dim, 0);

	be->ops->raw_read(be, host, raw, (size_t) rows * dim * 4);
	for (size_t r = 0; r < (size_t) rows; r++)
		memcpy((char *) to + r * sizeof(Result), host + r * dim, dim * 4);
	dsocr_free(host);
}

static void *
room(DsocrBackend *be, int rows, size_t dim)
{
	void *act = be->ops->alloc(be, (size_t) rows * dim, NULL);

	assert_non_null(act);
	return act;
}

/* Run the rows of the list through every mixed operation; -1 in it is a row without slot. */
static void
run_rows(Step *s, const int *list, int n, Result *results)
{
	DsocrBackend *be = s->be;
	const DsocrBackendOps *ops = be->ops;
	int32_t slots[MAX_ROWS];
	const DsocrRows rows = {n, slots, 0, true};
	float *host = fx_numbers((size_t) n * DIM, 1);
	void *x;
	void *normed = room(be, n, DIM);
	void *qkv = room(be, n, 3 * DIM);
	void *attended = room(be, n, DIM);
	void *wide = room(be, n, 2 * INTER);
	void *activated = room(be, n, INTER);
	void *mixed = room(be, n, DIM);
	float *logits = ops->raw_alloc(be, (size_t) n * 3 * DIM * 4, NULL);
	float *scores = ops->raw_alloc(be, (size_t) n * EXPERTS * 4, NULL);
	float *weights = ops->raw_alloc(be, (size_t) n * CHOICES * 4, NULL);
	int32_t *ids = ops->raw_alloc(be, (size_t) n * CHOICES * 4, NULL);
	int32_t tokens[MAX_ROWS];
	float logprobs[MAX_ROWS];

	for (int r = 0; r < n; r++)
	{
		slots[r] = list[r];
		if (list[r] < 0)
			continue;
		memcpy(host + r * DIM, s->x + list[r] * DIM, DIM * sizeof(float));
		fx_length(list[r], s->positions[list[r]] + 1, s->pages[list[r]], PAGES);
	}
	x = fx_act(be, host, (size_t) n * DIM);
	ops->run_begin(be, &rows, false);
	ops->rms_norm(be, normed, x, n, DIM, s->norm.v[1], 1e-6f);
	ops->linear(be, qkv, normed, n, s->qkv.m[1], NULL, DSOCR_ACT_NONE, NULL, DSOCR_MIXED);
	ops->rope_store(be, qkv, &rows, s->kv, 1, 10000.0f);
	ops->causal_attention(be, attended, qkv, &rows, s->kv, 1);
	ops->swiglu(be, activated, wide, attended, n, s->wide.m[1], DSOCR_MIXED);
	ops->router(be, ids, weights, scores, attended, &rows, s->gate.m[1], CHOICES);
	ops->experts(be, mixed, attended, n, ids, weights, CHOICES, s->experts, x, DSOCR_MIXED);
	ops->logits(be, logits, normed, n, s->qkv.m[1]);
	ops->pick(be, logits, &rows, 3 * DIM);
	ops->run_end(be);
	assert_true(ops->sync(be, NULL));
	ops->picked(be, tokens, logprobs, n);
	memset(results, 0, (size_t) n * sizeof(*results));
	put(be, results->normed, normed, n, DIM);
	put(be, results->qkv, qkv, n, 3 * DIM);
	put(be, results->attended, attended, n, DIM);
	put(be, results->activated, activated, n, INTER);
	put(be, results->mixed, mixed, n, DIM);
	put_raw(be, results->scores, scores, n, EXPERTS);
	put_raw(be, results->weights, weights, n, CHOICES);
	put_raw(be, results->ids, ids, n, CHOICES);
	put_raw(be, results->logits, logits, n, 3 * DIM);
	for (int r = 0; r < n; r++)
	{
		results[r].token = tokens[r];
		results[r].logprob = logprobs[r];
	}
	ops->free(be, x);
	ops->free(be, normed);
	ops->free(be, qkv);
	ops->free(be, attended);
	ops->free(be, wide);
	ops->free(be, activated);
	ops->free(be, mixed);
	ops->raw_free(be, logits);
	ops->raw_free(be, scores);
	ops->raw_free(be, weights);
	ops->raw_free(be, ids);
	dsocr_free(host);
}

/* Sequences of various lengths, their history filled in. */
static void
step_fill(Step *s)
{
	for (int r = 0; r < MAX_ROWS; r++)
	{
		int n = s->positions[r] = fx_between(0, PAGE * PAGES - 1);
		const int32_t slot = r;
		const DsocrRows rows = {n, &slot, 0, false};
		float *history = fx_numbers((size_t) (n + 1) * 3 * DIM, 1);
		void *qkv = fx_act(s->be, history, (size_t) (n + 1) * 3 * DIM);

		for (int p = 0; p < PAGES; p++)
			s->pages[r][p] = (int32_t) ((r * PAGES + p) * 7 % (MAX_ROWS * PAGES));
		fx_length(r, n + 1, s->pages[r], PAGES);
		if (n > 0)
		{
			s->be->ops->run_begin(s->be, &rows, false);
			s->be->ops->rope_store(s->be, qkv, &rows, s->kv, 1, 10000.0f);
			s->be->ops->run_end(s->be);
		}
		s->be->ops->free(s->be, qkv);
		dsocr_free(history);
	}
}

static Step
step_open(void)
{
	DsocrKvShape shape = {.layers = 2,
						  .heads = HEADS,
						  .head_dim = HEAD_DIM,
						  .page_tokens = PAGE,
						  .pages = MAX_ROWS * PAGES};
	Step s = {.be = fx_both[1]};
	const DsocrMatrix *up[EXPERTS];
	const DsocrMatrix *down[EXPERTS];

	s.qkv = fx_matrix(3 * DIM, DIM, 3, false, 0.1f);
	s.wide = fx_matrix(2 * INTER, DIM, 2, false, 0.1f);
	s.gate = fx_table(EXPERTS, DIM, 0.3f);
	for (int e = 0; e < EXPERTS; e++)
	{
		s.up[e] = fx_matrix(2 * INTER, DIM, 2, false, 0.2f);
		s.down[e] = fx_matrix(DIM, INTER, 1, false, 0.2f);
		up[e] = s.up[e].m[1];
		down[e] = s.down[e].m[1];
	}
	s.experts = s.be->ops->experts_open(s.be, up, down, EXPERTS, NULL);
	assert_non_null(s.experts);
	s.norm = fx_vector(DIM, 0.2f, 1);
	s.kv = s.be->ops->kv_open(s.be, &shape, NULL);
	assert_non_null(s.kv);
	s.x = fx_numbers(MAX_ROWS * DIM, 1);
	step_fill(&s);
	return s;
}

static void
step_close(Step *s)
{
	fx_matrix_free(&s->qkv);
	fx_matrix_free(&s->wide);
	fx_matrix_free(&s->gate);
	for (int e = 0; e < EXPERTS; e++)
	{
		fx_matrix_free(&s->up[e]);
		fx_matrix_free(&s->down[e]);
	}
	fx_vector_free(&s->norm);
	s->be->ops->experts_close(s->be, s->experts);
	s->be->ops->kv_close(s->be, s->kv);
	dsocr_free(s->x);
}

static void
test_batches(void **state)
{
	Step s = step_open();
	Result *alone = calloc(MAX_ROWS, sizeof(*alone));
	Result *batch = calloc(MAX_ROWS, sizeof(*batch));

	for (int r = 0; r < MAX_ROWS; r++)
		run_rows(&s, &r, 1, &alone[r]);
	/* The results are worth comparing: rows differ. */
	assert_memory_not_equal(&alone[0], &alone[1], sizeof(alone[0]));
	for (int round = 0; round < ROUNDS; round++)
	{
		int n = round < MAX_ROWS ? round + 1 : fx_between(1, MAX_ROWS);
		int list[MAX_ROWS];

		for (int i = 0; i < MAX_ROWS; i++)
			list[i] = i;
		for (int i = 0; i < MAX_ROWS - 1; i++)
		{
			int j = fx_between(i, MAX_ROWS - 1);
			int t = list[i];

			list[i] = list[j];
			list[j] = t;
		}
		for (int i = 0; round % 3 == 0 && i < n / 3; i++)
			list[fx_between(0, n - 1)] = -1;
		run_rows(&s, list, n, batch);
		for (int r = 0; r < n; r++)
			if (list[r] >= 0)
				assert_memory_equal(&batch[r], &alone[list[r]], sizeof(batch[r]));
	}
	free(alone);
	free(batch);
	step_close(&s);
}

enum
{
	SIDE = 9,
	N = SIDE * SIDE, /* tokens of a view */
	STAGES = 9		 /* N * DIM values each */
};

/* Weights of an image's operations. */
typedef struct Image
{
	FxMatrix w;
	FxMatrix gate;
	FxVector rel;
	FxVector bias;
	FxMatrix up[EXPERTS];
	FxMatrix down[EXPERTS];
	DsocrExperts *experts;
} Image;

static Image
image_open(void)
{
	Image m = {.w = fx_matrix(3 * DIM, DIM, 1, false, 0.1f)};
	const DsocrMatrix *up[EXPERTS];
	const DsocrMatrix *down[EXPERTS];

	m.gate = fx_table(EXPERTS, DIM, 0.3f);
	m.rel = fx_vector((2 * SIDE - 1) * HEAD_DIM, 0.3f, 0);
	m.bias = fx_vector(3 * DIM, 0.3f, 0);
	for (int e = 0; e < EXPERTS; e++)
	{
		m.up[e] = fx_matrix(2 * INTER, DIM, 2, false, 0.2f);
		m.down[e] = fx_matrix(DIM, INTER, 1, false, 0.2f);
		up[e] = m.up[e].m[1];
		down[e] = m.down[e].m[1];
	}
	m.experts = fx_both[1]->ops->experts_open(fx_both[1], up, down, EXPERTS, NULL);
	assert_non_null(m.experts);
	return m;
}

static void
image_close(Image *m)
{
	fx_both[1]->ops->experts_close(fx_both[1], m->experts);
	for (int e = 0; e < EXPERTS; e++)
	{
		fx_matrix_free(&m->up[e]);
		fx_matrix_free(&m->down[e]);
	}
	fx_matrix_free(&m->w);
	fx_matrix_free(&m->gate);
	fx_vector_free(&m->rel);
	fx_vector_free(&m->bias);
}

/* Operations on the rows of views together; out[views][STAGES * N * DIM]. */
static void
run_views(const Image *m, const float *x, int views, float *out)
{
	DsocrBackend *be = fx_both[1];
	const DsocrBackendOps *ops = be->ops;
	size_t rows = (size_t) views * N;
	int all = views * N;
	const int32_t slot = 0;
	const DsocrRows run = {all, &slot, 0, false};
	void *in = fx_act(be, x, rows * DIM);
	void *qkv = room(be, all, 3 * DIM);
	void *y = room(be, all, DIM);
	int32_t *ids = ops->raw_alloc(be, rows * CHOICES * 4, NULL);
	float *weights = ops->raw_alloc(be, rows * CHOICES * 4, NULL);
	float *host = fx_numbers(rows * 3 * DIM, 0);

	for (int stage = 0; stage < STAGES; stage += stage == 0 ? 3 : 1) /* the first is wide */
	{
		size_t dim = stage == 0 ? 3 * DIM : DIM;

		if (stage == 0)
			ops->linear(be, qkv, in, all, m->w.m[1], m->bias.v[1], DSOCR_ACT_GELU, NULL, N);
		else if (stage == 3)
			ops->grid_attention(be, y, qkv, views, SIDE, HEADS, HEAD_DIM, 0, m->rel.v[1],
								m->rel.v[1], m->bias.v[1]);
		else if (stage == 4)
			ops->grid_attention(be, y, qkv, views, SIDE, HEADS, HEAD_DIM, 7, m->rel.v[1],
								m->rel.v[1], m->bias.v[1]);
		else if (stage == 5)
			ops->attention(be, y, qkv, views, N, HEADS, HEAD_DIM);
		else if (stage == 6)
		{
			ops->run_begin(be, &run, false);
			ops->router(be, ids, weights, NULL, in, &run, m->gate.m[1], CHOICES);
			ops->experts(be, y, in, all, ids, weights, CHOICES, m->experts, NULL, N);
			ops->run_end(be);
		}
		else if (stage == 7)
			ops->layer_norm(be, y, in, all, DIM, m->bias.v[1], m->bias.v[1], 1e-6f);
		else
			ops->rms_norm(be, y, in, all, DIM, m->bias.v[1], 1e-6f);
		ops->read(be, host, stage == 0 ? qkv : y, rows * dim);
		for (size_t v = 0; v < (size_t) views; v++)
			memcpy(out + (v * STAGES + (size_t) stage) * N * DIM, host + v * N * dim,
				   N * dim * sizeof(float));
	}
	assert_true(ops->sync(be, NULL));
	ops->free(be, in);
	ops->free(be, qkv);
	ops->free(be, y);
	ops->raw_free(be, ids);
	ops->raw_free(be, weights);
	dsocr_free(host);
}

/* A view's values do not depend on the views that are computed with it. */
static void
test_views(void **state)
{
	enum
	{
		VIEWS = 3
	};
	Image m = image_open();
	size_t view = (size_t) STAGES * N * DIM;
	float *x = fx_numbers(VIEWS * N * DIM, 1);
	float *together = fx_numbers(VIEWS * view, 0);
	float *alone = fx_numbers(view, 0);

	run_views(&m, x, VIEWS, together);
	for (size_t v = 0; v < VIEWS; v++)
	{
		run_views(&m, x + v * N * DIM, 1, alone);
		assert_memory_equal(alone, together + v * view, view * sizeof(float));
	}
	image_close(&m);
	dsocr_free(x);
	dsocr_free(together);
	dsocr_free(alone);
}

/* The same for one view, all into one array. */
static float *
run_image(size_t *size)
{
	Image m = image_open();
	float *x = fx_numbers(N * DIM, 1);
	float *out = fx_numbers((size_t) STAGES * N * DIM, 0);

	run_views(&m, x, 1, out);
	image_close(&m);
	dsocr_free(x);
	*size = (size_t) STAGES * N * DIM * sizeof(float);
	return out;
}

static const char *isa_in_test;
static DsocrPrecision precision_in_test;

static void
test_threads(void **state)
{
	size_t size;
	float *first;

	fx_seed = 5;
	first = run_image(&size);
	for (int round = 0; round < 6; round++)
	{
		static const int threads[6] = {2, 1, 3, 4, 1, 2};
		float *again;

		fx_close();
		assert_true(fx_open(isa_in_test, precision_in_test, threads[round]));
		fx_seed = 5;
		again = run_image(&size);
		assert_memory_equal(first, again, size);
		dsocr_free(again);
	}
	dsocr_free(first);
}

static int
run_all(const char *isa, DsocrPrecision precision)
{
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_batches),
											  cmocka_unit_test(test_views),
											  cmocka_unit_test(test_threads)};
	char name[64];
	int failed;

	if (!fx_open(isa, precision, 2))
	{
		printf("%s: this machine does not have it\n", isa);
		return 0;
	}
	isa_in_test = isa;
	precision_in_test = precision;
	snprintf(name, sizeof(name), "invariance %s %s", isa,
			 precision == DSOCR_PRECISION_FP32 ? "fp32" : dsocr_quant_name(fx_weights));
	failed = _cmocka_run_group_tests(name, tests, sizeof(tests) / sizeof(tests[0]), NULL, NULL);
	fx_close();
	return failed;
}

int
main(void)
{
	static const char *const sets[] = {"generic", "avx2", "avx512", "vnni", "amx"};
	int failed = 0;

	for (int i = 0; i < 5; i++)
	{
		fx_weights = DSOCR_BF16;
		failed += run_all(sets[i], DSOCR_PRECISION_BF16);
		failed += run_all(sets[i], DSOCR_PRECISION_FP32);
		fx_weights = DSOCR_INT8;
		failed += run_all(sets[i], DSOCR_PRECISION_BF16);
		fx_weights = DSOCR_INT4;
		failed += run_all(sets[i], DSOCR_PRECISION_BF16);
	}
	return failed != 0;
}
