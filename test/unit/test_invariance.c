/*-------------------------------------------------------------------------
 *
 * test_invariance.c
 *		Results of the CPU backend do not depend on company or threads.
 *
 * Operations on rows of different sequences must give the same bits for a
 * row alone and in any batch of 1 to 32 rows in any order; every operation
 * must give the same bits again, and with any number of threads.
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
	float wide[2 * INTER];
	float activated[INTER];
	float mixed[DIM];
	float logits[EXPERTS];
	float weights[CHOICES];
	int32_t ids[CHOICES];
	int32_t token;
	float logprob;
} Result;

static void
put(void *to, const float *from, size_t row, size_t dim)
{
	memcpy(to, from + row * dim, dim * sizeof(float));
}

/* Run the rows of the list through every mixed operation. */
static void
run_rows(Step *s, const int *list, int n, Result *results)
{
	DsocrBackend *be = s->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrMatrix *up[EXPERTS];
	const DsocrMatrix *down[EXPERTS];
	int32_t positions[MAX_ROWS];
	const int32_t *pages[MAX_ROWS];
	DsocrRows rows = {DSOCR_ROWS_MIXED, n, positions, pages};
	size_t count = (size_t) n;
	float *x = fx_numbers(count * DIM, 0);
	float *normed = fx_numbers(count * DIM, 0);
	float *qkv = fx_numbers(count * 3 * DIM, 0);
	float *attended = fx_numbers(count * DIM, 0);
	float *wide = fx_numbers(count * 2 * INTER, 0);
	float *activated = fx_numbers(count * INTER, 0);
	float *mixed = fx_numbers(count * DIM, 0);
	float logits[MAX_ROWS * EXPERTS];
	float weights[MAX_ROWS * CHOICES];
	int32_t ids[MAX_ROWS * CHOICES];
	int32_t tokens[MAX_ROWS];
	float logprobs[MAX_ROWS];

	for (int e = 0; e < EXPERTS; e++)
	{
		up[e] = s->up[e].m[1];
		down[e] = s->down[e].m[1];
	}
	for (int r = 0; r < n; r++)
	{
		memcpy(x + r * DIM, s->x + list[r] * DIM, DIM * sizeof(float));
		positions[r] = s->positions[list[r]];
		pages[r] = s->pages[list[r]];
	}
	ops->rms_norm(be, normed, x, n, DIM, s->norm.v[1], 1e-6f);
	ops->linear(be, qkv, normed, n, s->qkv.m[1], NULL, DSOCR_ACT_NONE, NULL, DSOCR_ROWS_MIXED);
	ops->rope_store(be, qkv, &rows, s->kv, 1, 10000.0f);
	ops->causal_attention(be, attended, qkv, &rows, s->kv, 1);
	ops->linear(be, wide, attended, n, s->wide.m[1], NULL, DSOCR_ACT_GELU, NULL, DSOCR_ROWS_MIXED);
	ops->silu_mul(be, activated, wide, n, INTER);
	ops->router(be, ids, weights, logits, attended, n, s->gate.m[1], CHOICES);
	ops->experts(be, mixed, attended, n, ids, weights, CHOICES, EXPERTS, up, down, x,
				 DSOCR_ROWS_MIXED);
	ops->pick(be, tokens, logprobs, qkv, n, 3 * DIM, NULL);
	memset(results, 0, count * sizeof(*results));
	for (size_t r = 0; r < count; r++)
	{
		put(results[r].normed, normed, r, DIM);
		put(results[r].qkv, qkv, r, 3 * DIM);
		put(results[r].attended, attended, r, DIM);
		put(results[r].wide, wide, r, 2 * INTER);
		put(results[r].activated, activated, r, INTER);
		put(results[r].mixed, mixed, r, DIM);
		put(results[r].logits, logits, r, EXPERTS);
		put(results[r].weights, weights, r, CHOICES);
		memcpy(results[r].ids, ids + r * CHOICES, sizeof(results[r].ids));
		results[r].token = tokens[r];
		results[r].logprob = logprobs[r];
	}
	dsocr_free(x);
	dsocr_free(normed);
	dsocr_free(qkv);
	dsocr_free(attended);
	dsocr_free(wide);
	dsocr_free(activated);
	dsocr_free(mixed);
}

/* Sequences of various lengths, their history filled in. */
static void
step_fill(Step *s)
{
	for (int r = 0; r < MAX_ROWS; r++)
	{
		int n = s->positions[r] = fx_between(0, PAGE * PAGES - 1);
		int32_t positions[PAGE * PAGES];
		const int32_t *pages[PAGE * PAGES];
		DsocrRows rows = {DSOCR_ROWS_ONE, n, positions, pages};
		float *history = fx_numbers((size_t) (n + 1) * 3 * DIM, 1);

		for (int p = 0; p < PAGES; p++)
			s->pages[r][p] = (int32_t) ((r * PAGES + p) * 7 % (MAX_ROWS * PAGES));
		for (int p = 0; p < n; p++)
		{
			positions[p] = p;
			pages[p] = s->pages[r];
		}
		if (n > 0)
			s->be->ops->rope_store(s->be, history, &rows, s->kv, 1, 10000.0f);
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

	s.qkv = fx_matrix(3 * DIM, DIM, 3, false, 0.1f);
	s.wide = fx_matrix(2 * INTER, DIM, 2, false, 0.1f);
	s.gate = fx_matrix(EXPERTS, DIM, 1, false, 0.3f);
	for (int e = 0; e < EXPERTS; e++)
	{
		s.up[e] = fx_matrix(2 * INTER, DIM, 2, false, 0.2f);
		s.down[e] = fx_matrix(DIM, INTER, 1, false, 0.2f);
	}
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
		run_rows(&s, list, n, batch);
		for (int r = 0; r < n; r++)
			assert_memory_equal(&batch[r], &alone[list[r]], sizeof(batch[r]));
	}
	free(alone);
	free(batch);
	step_close(&s);
}

/* Operations on the rows of one image, all into one array. */
static float *
run_image(size_t *size)
{
	enum
	{
		SIDE = 9,
		N = SIDE * SIDE
	};
	DsocrBackend *be = fx_both[1];
	const DsocrBackendOps *ops = be->ops;
	FxMatrix w = fx_matrix(3 * DIM, DIM, 1, false, 0.1f);
	FxMatrix gate = fx_matrix(EXPERTS, DIM, 1, false, 0.3f);
	FxVector rel = fx_vector((2 * SIDE - 1) * HEAD_DIM, 0.3f, 0);
	FxVector bias = fx_vector(3 * DIM, 0.3f, 0);
	FxMatrix up[EXPERTS];
	FxMatrix down[EXPERTS];
	const DsocrMatrix *ups[EXPERTS];
	const DsocrMatrix *downs[EXPERTS];
	int32_t ids[N * CHOICES];
	float weights[N * CHOICES];
	float *x = fx_numbers(N * DIM, 1);
	float *out = fx_numbers(N * DIM * 8, 0);
	float *y = out + N * DIM * 3;

	for (int e = 0; e < EXPERTS; e++)
	{
		up[e] = fx_matrix(2 * INTER, DIM, 2, false, 0.2f);
		down[e] = fx_matrix(DIM, INTER, 1, false, 0.2f);
		ups[e] = up[e].m[1];
		downs[e] = down[e].m[1];
	}
	ops->linear(be, out, x, N, w.m[1], bias.v[1], DSOCR_ACT_GELU, NULL, DSOCR_ROWS_ONE);
	ops->grid_attention(be, y, out, SIDE, HEADS, HEAD_DIM, 0, rel.v[1], rel.v[1], bias.v[1]);
	ops->grid_attention(be, y + N * DIM, out, SIDE, HEADS, HEAD_DIM, 7, rel.v[1], rel.v[1],
						bias.v[1]);
	ops->attention(be, y + 2 * N * DIM, out, N, HEADS, HEAD_DIM);
	ops->router(be, ids, weights, NULL, x, N, gate.m[1], CHOICES);
	ops->experts(be, y + 3 * N * DIM, x, N, ids, weights, CHOICES, EXPERTS, ups, downs, NULL,
				 DSOCR_ROWS_ONE);
	ops->layer_norm(be, y + 4 * N * DIM, x, N, DIM, bias.v[1], bias.v[1], 1e-6f);
	for (int e = 0; e < EXPERTS; e++)
	{
		fx_matrix_free(&up[e]);
		fx_matrix_free(&down[e]);
	}
	fx_matrix_free(&w);
	fx_matrix_free(&gate);
	fx_vector_free(&rel);
	fx_vector_free(&bias);
	dsocr_free(x);
	*size = N * DIM * 8 * sizeof(float);
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
			 precision == DSOCR_PRECISION_FP32 ? "fp32" : "bf16");
	failed = _cmocka_run_group_tests(name, tests, sizeof(tests) / sizeof(tests[0]), NULL, NULL);
	fx_close();
	return failed;
}

int
main(void)
{
	static const char *const sets[] = {"generic", "avx2", "avx512", "amx"};
	int failed = 0;

	for (int i = 0; i < 4; i++)
	{
		failed += run_all(sets[i], DSOCR_PRECISION_BF16);
		failed += run_all(sets[i], DSOCR_PRECISION_FP32);
	}
	return failed != 0;
}
