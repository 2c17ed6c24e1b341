/*-------------------------------------------------------------------------
 *
 * test_backend_decoder.c
 *		The decoder's operations of the CPU backend against the reference.
 *
 * Causal attention over pages, experts, texts and the choice of the next id;
 * runs like test_backend.c.
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

/* ---- attention over pages ---- */

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
	/* prefill of two sequences in chunks, then one token of each; the row between has no slot */
	for (int step = 0; step < 2 * chunks + 1; step++)
	{
		bool decode = step == 2 * chunks;
		int n = decode ? 3 : chunk;
		const int32_t slots[3] = {decode || step % 2 == 0 ? 5 : 7, -1, 7};
		const DsocrRows rows = {n, slots, step / 2 * chunk, decode};
		float *x = fx_numbers((size_t) n * 3 * dim, 1);
		void *in[2];
		void *y[2];

		fx_length(5, decode ? length + 1 : length, pages.list[0], (length + 1) / page_tokens + 1);
		fx_length(7, length, pages.list[1], (length + 1) / page_tokens + 1);
		for (int b = 0; b < 2; b++)
		{
			in[b] = fx_act(fx_both[b], x, (size_t) n * 3 * dim);
			y[b] = fx_both[b]->ops->alloc(fx_both[b], (size_t) n * dim, NULL);
			fx_both[b]->ops->run_begin(fx_both[b], &rows, false);
			fx_both[b]->ops->rope_store(fx_both[b], in[b], &rows, kv[b], 1, 10000.0f);
			fx_both[b]->ops->causal_attention(fx_both[b], y[b], in[b], &rows, kv[b], 1);
			fx_both[b]->ops->run_end(fx_both[b]);
		}
		fx_compare("causal_attention", y[0], y[1], (size_t) n * dim, fx_rounded());
		/* q is rotated in place, what becomes of k and v there is not said */
		for (int r = 0; r < n; r++)
		{
			float *q[2];

			if (decode && slots[r] < 0)
				continue;
			for (int b = 0; b < 2; b++)
			{
				q[b] = fx_numbers(dim, 0);
				fx_both[b]->ops->read(fx_both[b], q[b],
									  dsocr_act(fx_both[b], in[b], (size_t) r * 3 * dim), dim);
			}
			fx_compare_floats("rope", q[0], q[1], dim, fx_tight());
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
	int32_t slot = 2;
	float *x = fx_numbers(3 * 128, 1);
	void *in[2];
	float q[2][128];

	for (int32_t position = 8191; position > 0; position -= 2047)
	{
		const DsocrRows rows = {1, &slot, position, false};

		fx_length(slot, position + 1, &page, 1);
		for (int b = 0; b < 2; b++)
		{
			DsocrKv *kv = fx_both[b]->ops->kv_open(fx_both[b], &shape, NULL);

			in[b] = fx_act(fx_both[b], x, 3 * 128);
			fx_both[b]->ops->run_begin(fx_both[b], &rows, false);
			fx_both[b]->ops->rope_store(fx_both[b], in[b], &rows, kv, 0, 10000.0f);
			fx_both[b]->ops->run_end(fx_both[b]);
			fx_both[b]->ops->read(fx_both[b], q[b], in[b], 128);
			fx_both[b]->ops->free(fx_both[b], in[b]);
			fx_both[b]->ops->kv_close(fx_both[b], kv);
		}
		fx_compare_floats("rope far", q[0], q[1], 128, fx_tight());
	}
	dsocr_free(x);
}

/* ---- mixture of experts ---- */

static void
check_moe(int rows, int hidden, int inter, int experts, int k, bool residual, bool mixed)
{
	int32_t slots[512];
	const DsocrRows run = {rows, slots, 0, mixed};
	FxMatrix gate = fx_table(experts, hidden, 2.0f / sqrtf((float) hidden));
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

	/* every fifth of the mixed rows only fills up */
	for (int r = 0; r < rows; r++)
		slots[r] = mixed && r % 5 == 3 ? -1 : r % FX_SLOTS;
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
		void *in = fx_act(be, x, n);
		void *route = be->ops->raw_alloc(be, pairs * 4, NULL);
		void *share = be->ops->raw_alloc(be, pairs * 4, NULL);
		void *scores = be->ops->raw_alloc(be, (size_t) rows * (size_t) experts * 4, NULL);
		DsocrExperts *all;

		for (int e = 0; e < experts; e++)
		{
			ups[e] = up[e].m[b];
			downs[e] = down[e].m[b];
		}
		all = be->ops->experts_open(be, ups, downs, experts, NULL);
		assert_non_null(all);
		free(ups); /* only the matrices must stay */
		free(downs);
		y[b] = fx_act(be, add, n);
		be->ops->run_begin(be, &run, false);
		be->ops->router(be, route, share, scores, in, &run, gate.m[b], k);
		ids[b] = malloc(pairs * 4);
		weights[b] = malloc(pairs * 4);
		logits[b] = malloc((size_t) rows * (size_t) experts * 4);
		be->ops->raw_read(be, ids[b], route, pairs * 4);
		be->ops->raw_read(be, weights[b], share, pairs * 4);
		be->ops->raw_read(be, logits[b], scores, (size_t) rows * (size_t) experts * 4);
		be->ops->experts(be, y[b], in, rows, route, share, k, all, residual ? y[b] : NULL,
						 mixed ? DSOCR_MIXED : rows);
		be->ops->router(be, route, share, NULL, in, &run, gate.m[b], k);
		be->ops->raw_free(be, route);
		be->ops->raw_free(be, share);
		be->ops->raw_free(be, scores);
		be->ops->run_end(be);
		be->ops->experts_close(be, all);
		be->ops->free(be, in);
	}
	fx_compare_floats("router logits", logits[0], logits[1], (size_t) rows * (size_t) experts,
					  FX_TIGHT);
	/* what weight no choice has is not said */
	for (int b = 0; b < 2; b++)
		for (size_t i = 0; i < pairs; i++)
			if (ids[b][i] < 0)
				weights[b][i] = 0;
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
	check_moe(1, 64, 48, 8, 2, true, true);
	check_moe(1, 7, 3, 2, 2, false, false);
	check_moe(300, 16, 24, 1, 1, true, false);
	check_moe(70, 16, 24, 1, 1, true, true);
	check_moe(64, 96, 72, 12, 6, true, true);
	for (int i = 0; i < 10; i++)
	{
		int experts = fx_between(1, 20);

		check_moe(fx_between(1, 60), fx_between(1, 100), fx_between(1, 100), experts,
				  fx_between(1, experts), i % 2, fx_between(0, 1));
	}
}

/* Equal logits: the lower expert first. */
static void
test_router_ties(void **state)
{
	DsocrTensor t = {.name = "gate", .dtype = DSOCR_BF16, .ndim = 2, .shape = {5, 4}, .count = 20};
	const DsocrTensor *part = &t;
	uint16_t zero[20] = {0};
	const float x[4] = {1, 2, 3, 4};
	const int32_t slot = 0;
	const DsocrRows run = {1, &slot, 0, false};
	DsocrBackend *be = fx_both[1];
	void *in = fx_act(be, x, 4);
	void *route = be->ops->raw_alloc(be, 3 * 4, NULL);
	void *share = be->ops->raw_alloc(be, 3 * 4, NULL);
	int32_t ids[3];
	float weights[3];
	DsocrMatrix *gate;

	t.data = zero;
	gate = be->ops->matrix(be, &part, 1, false, NULL);
	be->ops->run_begin(be, &run, false);
	be->ops->router(be, route, share, NULL, in, &run, gate, 3);
	be->ops->run_end(be);
	be->ops->raw_read(be, ids, route, sizeof(ids));
	be->ops->raw_read(be, weights, share, sizeof(weights));
	for (int i = 0; i < 3; i++)
	{
		assert_int_equal(ids[i], i);
		assert_true(fabsf(weights[i] - 0.2f) < 1e-6f);
	}
	be->ops->matrix_free(be, gate);
	be->ops->raw_free(be, route);
	be->ops->raw_free(be, share);
	be->ops->free(be, in);
}

static void
test_embed(void **state)
{
	FxMatrix table = fx_table(50, 37, 1);
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

/* ---- texts and the next id ---- */

/*
 * Logits of one row each: a product with a unit matrix, since raw memory
 * cannot be written.  values[vocab, n] become logits[n, vocab] in both.
 */
static void
make_logits(float *logits[2], const float *values, int n, int vocab)
{
	FxMatrix w = fx_matrix_of(vocab, n, values);
	float *one = fx_numbers((size_t) n * (size_t) n, 0);

	for (int i = 0; i < n; i++)
		one[i * n + i] = 1;
	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *x = fx_act(be, one, (size_t) n * (size_t) n);

		logits[b] = be->ops->raw_alloc(be, (size_t) n * (size_t) vocab * sizeof(float), NULL);
		assert_non_null(logits[b]);
		be->ops->logits(be, logits[b], x, n, w.m[b]);
		be->ops->free(be, x);
	}
	fx_matrix_free(&w);
	dsocr_free(one);
}

static void
free_logits(float *logits[2])
{
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->raw_free(fx_both[b], logits[b]);
}

/* Pick for rows in both backends; the same ids and log-probabilities. */
static void
pick_both(float *const logits[2], const DsocrRows *rows, int vocab, int32_t *ids, float *logprobs)
{
	int n = rows->mixed ? rows->n : 1;
	int32_t other[64];
	float others[64];

	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		DsocrError err;

		be->ops->run_begin(be, rows, false);
		be->ops->pick(be, logits[b], rows, vocab);
		be->ops->run_end(be);
		assert_true(be->ops->sync(be, &err));
		be->ops->picked(be, b == 0 ? other : ids, b == 0 ? others : logprobs, n);
	}
	for (int r = 0; r < n; r++)
		if (rows->slots[r] >= 0)
		{
			assert_int_equal(ids[r], other[r]);
			assert_true(fabsf(logprobs[r] - others[r]) < 2e-5f);
		}
}

/* A text over few ids, so that its rule bans some, and the best often. */
static void
random_text(int slot, int vocab)
{
	int32_t ids[400];
	int n = fx_between(1, 400);
	int span = vocab < 40 ? vocab : fx_between(2, 40);

	for (int i = 0; i < n; i++)
		ids[i] = fx_between(0, span - 1);
	fx_text(slot, &(DsocrText){.ids = ids,
							   .n = n,
							   .prompt_len = fx_between(0, n),
							   .ngram_size = fx_between(0, 3),
							   .ngram_window = fx_between(0, 1) * fx_between(1, 300)});
}

static void
test_pick(void **state)
{
	for (int round = 0; round < 16; round++)
	{
		int n = fx_between(1, 9);
		int vocab = fx_between(2, round == 0 ? 129280 : 3000);
		float *x = fx_numbers((size_t) n * (size_t) vocab, 6);
		int32_t slots[9];
		const DsocrRows rows = {n, slots, 0, true};
		float *logits[2];
		int32_t ids[9];
		float logprobs[9];

		for (int r = 0; r < n; r++)
		{
			slots[r] = n > 2 && r == n / 2 ? -1 : 3 * r;
			if (slots[r] >= 0)
				random_text(slots[r], vocab);
			/* the best among the ids of the text, more than one of them */
			for (int i = 0; i < 6; i++)
				x[(size_t) fx_between(0, vocab < 40 ? vocab - 1 : 39) * (size_t) n + (size_t) r] =
					40.0f + (float) (i / 2);
		}
		make_logits(logits, x, n, vocab);
		/* what is picked belongs to the text and changes what is picked next */
		for (int step = 0; step < 4; step++)
			pick_both(logits, &rows, vocab, ids, logprobs);
		free_logits(logits);
		dsocr_free(x);
	}
}

/* Rules one by one, where the answer can be read off. */
static void
test_pick_rules(void **state)
{
	static const float values[20] = {[3] = 9, [4] = 8, [5] = 8, [6] = 7};
	static const int32_t history[] = {4, 3, 9, 9, 9, 4};
	static const struct
	{
		int prompt_len, size, window, expected;
	} cases[] = {
		{0, 0, 0, 3},  /* no rule */
		{0, 1, 0, 5},  /* 3 and 4 have been there */
		{0, 2, 0, 4},  /* 4 3 has been there */
		{0, 2, 90, 3}, /* but 3 is on the whitelist */
		{2, 2, 0, 4},  /* the prompt counts without a window */
		{5, 1, 90, 3}, /* only 4 is output */
		{0, 3, 0, 3},  /* 9 4 has not been there */
		{0, 1, 1, 3},  /* a window of one id */
	};
	const int32_t slot = 9;
	const DsocrRows chunk = {6, &slot, 0, false};
	float *logits[2];
	int32_t id;
	float logprob;

	make_logits(logits, values, 1, 20);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		fx_text(slot, &(DsocrText){.ids = history,
								   .n = 6,
								   .prompt_len = cases[i].prompt_len,
								   .ngram_size = cases[i].size,
								   .ngram_window = cases[i].window});
		pick_both(logits, &chunk, 20, &id, &logprob);
		if (id != cases[i].expected)
			fail_msg("case %zu: id %d, not %d", i, id, cases[i].expected);
	}
	free_logits(logits);
}

/* Whatever the numbers are, the id is one of the vocabulary. */
static void
test_pick_nonsense(void **state)
{
	static const float values[3][4] = {
		{NAN, NAN, NAN, NAN}, {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, {1, 2, INFINITY, NAN}};
	static const int32_t all[4] = {0, 1, 2, 3};
	const int32_t slot = 1;
	const DsocrRows rows = {1, &slot, 0, true};
	DsocrBackend *be = fx_both[1];

	for (int i = 0; i < 6; i++)
	{
		float *logits[2];
		int32_t id = -1;
		float logprob;

		make_logits(logits, values[i / 2], 1, 4);
		fx_text(slot,
				&(DsocrText){.ids = all, .n = 4, .prompt_len = 4, .ngram_size = i % 2 ? 1 : 0});
		be->ops->run_begin(be, &rows, false);
		be->ops->pick(be, logits[1], &rows, 4);
		be->ops->run_end(be);
		be->ops->sync(be, NULL);
		be->ops->picked(be, &id, &logprob, 1);
		assert_in_range(id, 0, 3);
		free_logits(logits);
	}
}

/* The last id of a text, also when it was picked. */
static void
test_embed_last(void **state)
{
	static const float values[50] = {[31] = 2};
	static const int32_t ids[] = {0, 49, 7};
	const int32_t slots[] = {4, -1, 6};
	const int32_t again[] = {31, 7};
	const DsocrRows rows = {3, slots, 0, true};
	const DsocrRows one = {1, slots, 0, true};
	FxMatrix table = fx_table(50, 37, 1);
	float *logits[2];
	float *want = fx_numbers(3 * 37, 0);
	float *got = fx_numbers(3 * 37, 0);
	int32_t id;
	float logprob;

	make_logits(logits, values, 1, 50);
	fx_text(4, &(DsocrText){.ids = ids, .n = 2, .prompt_len = 2});
	fx_text(6, &(DsocrText){.ids = ids, .n = 3, .prompt_len = 3});
	pick_both(logits, &one, 50, &id, &logprob);
	assert_int_equal(id, 31);
	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *x = be->ops->alloc(be, 3 * 37, NULL);

		be->ops->embed(be, x, table.m[b], again, 2);
		be->ops->read(be, want, x, 37);
		be->ops->read(be, want + 2 * 37, dsocr_act(be, x, 37), 37);
		be->ops->run_begin(be, &rows, false);
		be->ops->embed_last(be, x, table.m[b], &rows);
		be->ops->run_end(be);
		be->ops->read(be, got, x, 3 * 37);
		fx_compare_floats("embed_last", want, got, 3 * 37, 0);
		be->ops->free(be, x);
	}
	free_logits(logits);
	fx_matrix_free(&table);
	dsocr_free(want);
	dsocr_free(got);
}

static int
run_all(const char *isa, DsocrPrecision precision)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_causal),	   cmocka_unit_test(test_rope_far),
		cmocka_unit_test(test_moe),		   cmocka_unit_test(test_router_ties),
		cmocka_unit_test(test_embed),	   cmocka_unit_test(test_pick),
		cmocka_unit_test(test_pick_rules), cmocka_unit_test(test_pick_nonsense),
		cmocka_unit_test(test_embed_last)};
	char name[64];
	int failed;

	if (!fx_open(isa, precision, 2))
	{
		printf("%s: this machine does not have it\n", isa);
		return 0;
	}
	snprintf(name, sizeof(name), "backend decoder %s %s", isa,
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
