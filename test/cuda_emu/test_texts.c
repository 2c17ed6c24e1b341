/*-------------------------------------------------------------------------
 *
 * test_texts.c
 *		Texts of the CUDA backend and the choice of their next ids.
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
#include "sampling.h"

#define MAX_ROWS 64
#define RULED 40 /* ids of the vocabulary in test_rules, and its rows */

static const int32_t listed[2] = {FX_LISTED_A, FX_LISTED_B};

static void
open_backends(DsocrPrecision precision)
{
	const DsocrTextShape texts = {
		.slots = FX_SLOTS, .ids = FX_IDS, .pages = 1, .whitelist = listed, .n_whitelist = 2};
	DsocrBackendOptions options = {.device = "cuda:0", .precision = precision};
	DsocrError err;

	fx_precision = precision;
	fx_seed = 1;
	fx_both[0] = dsocr_reference_open(&options, &err);
	assert_non_null(fx_both[0]);
	fx_both[1] = dsocr_cuda_open(&options, &err);
	if (fx_both[1] == NULL)
		fail_msg("%s", err.message);
	for (int b = 0; b < 2; b++)
		assert_true(fx_both[b]->ops->texts_open(fx_both[b], &texts, &err));
}

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

static void
pick(int b, const float *logits, const DsocrRows *rows, int vocab, int32_t *ids, float *logprobs)
{
	DsocrBackend *be = fx_both[b];

	be->ops->run_begin(be, rows, false);
	be->ops->pick(be, logits, rows, vocab);
	be->ops->run_end(be);
	assert_true(be->ops->sync(be, NULL));
	be->ops->picked(be, ids, logprobs, rows->mixed ? rows->n : 1);
}

/* One step of both backends, compared. */
static void
step(float *logits[2], const DsocrRows *rows, int vocab)
{
	int32_t ids[2][MAX_ROWS];
	float logprobs[2][MAX_ROWS];

	for (int b = 0; b < 2; b++)
		pick(b, logits[b], rows, vocab, ids[b], logprobs[b]);
	for (int r = 0; r < (rows->mixed ? rows->n : 1); r++)
	{
		if (rows->slots[r] < 0)
			continue;
		if (ids[0][r] != ids[1][r] ||
			!(fabsf(logprobs[0][r] - logprobs[1][r]) <= 2e-6f * (1 + fabsf(logprobs[0][r]))))
			fail_msg("row %d of %d, vocabulary %d: id %d (%g), expected %d (%g)", r, rows->n, vocab,
					 ids[1][r], logprobs[1][r], ids[0][r], logprobs[0][r]);
	}
}

/* ---- tests ---- */

/* Rows with rules of all kinds over a vocabulary; with ties every other value is the same. */
static void
check_pick(int n, int vocab, bool mixed, bool ties)
{
	int rows_of_logits = mixed ? n : 1;
	size_t count = (size_t) rows_of_logits * (size_t) vocab;
	float *values = fx_numbers(count, 4);
	int32_t slots[MAX_ROWS];
	int32_t history[400];
	const DsocrRows rows = {n, slots, 0, mixed};
	float *logits[2];

	for (size_t i = 0; ties && i < count; i++)
		values[i] = (float) fx_between(0, 3);
	for (int r = 0; r < n; r++)
	{
		int len = fx_between(1, 400);

		slots[r] = mixed && r % 5 == 4 ? -1 : (r * 7 + 2) % FX_SLOTS;
		/* few different ids: much is banned, and what has been there is likely */
		for (int i = 0; i < len; i++)
			history[i] = fx_between(0, vocab < 4 ? vocab - 1 : 3);
		for (int i = 0; r < rows_of_logits && i < 4 && i < vocab; i++)
			values[(size_t) i * (size_t) rows_of_logits + (size_t) r] += 16;
		if (slots[r] >= 0)
			fx_text(slots[r], &(DsocrText){.ids = history,
										   .n = len,
										   .prompt_len = fx_between(0, len),
										   .ngram_size = fx_between(0, 4),
										   .ngram_window = fx_between(0, 1) * fx_between(1, 90)});
	}
	make_logits(logits, values, rows_of_logits, vocab);
	for (int i = 0; i < 3; i++)
		step(logits, &rows, vocab);
	free_logits(logits);
	dsocr_free(values);
}

static void
test_pick(void **state)
{
	static const int vocabs[] = {1, 2, 5, 413, 8191, 8192, 8193, 8196, 16388};

	for (size_t i = 0; i < sizeof(vocabs) / sizeof(vocabs[0]); i++)
	{
		check_pick(i < 4 ? 24 : 6, vocabs[i], true, false);
		check_pick(6, vocabs[i], true, true);
		check_pick(3, vocabs[i], false, false);
	}
	check_pick(MAX_ROWS, 40, true, false);
}

/* Every id on its own row is the likeliest: it is chosen unless the rule bans it. */
static void
check_rules(const float *logits, const int32_t *history, int n, int prompt_len, int size,
			int window)
{
	int32_t slots[RULED];
	int32_t ids[RULED];
	float logprobs[RULED];
	const DsocrRows rows = {RULED, slots, 0, true};
	DsocrBanList bans = {0};

	assert_true(dsocr_ngram_bans(history, n, prompt_len, size, window, listed, 2, &bans, NULL));
	for (int r = 0; r < RULED; r++)
	{
		slots[r] = r;
		fx_text(r, &(DsocrText){.ids = history,
								.n = n,
								.prompt_len = prompt_len,
								.ngram_size = size,
								.ngram_window = window});
	}
	pick(1, logits, &rows, RULED, ids, logprobs);
	for (int r = 0; r < RULED; r++)
	{
		bool banned = false;

		for (int i = 0; i < bans.n; i++)
			banned |= bans.ids[i] == r;
		if (bans.n < RULED && (ids[r] != r) != banned)
			fail_msg("%d ids, prompt %d, size %d, window %d: id %d is %sbanned", n, prompt_len,
					 size, window, r, banned ? "" : "not ");
	}
	dsocr_free(bans.ids);
}

static void
test_rules(void **state)
{
	float values[RULED * RULED];
	int32_t history[3000];
	float *logits[2];

	for (int i = 0; i < RULED; i++)
		for (int r = 0; r < RULED; r++)
			values[i * RULED + r] = i == r ? 5 : (float) -i;
	make_logits(logits, values, RULED, RULED);
	for (int i = 0; i < 60; i++)
	{
		int n = i % 10 == 9 ? fx_between(1000, 3000) : fx_between(1, 130);
		int different = fx_between(1, 3) * fx_between(1, 13);

		for (int j = 0; j < n; j++)
			history[j] = fx_between(0, different - 1);
		check_rules(logits[1], history, n, fx_between(0, n), fx_between(1, 5),
					i % 2 == 0 ? 0 : fx_between(1, 120));
	}
	check_rules(logits[1], history, 40, 0, 20, 0);
	check_rules(logits[1], history, 5, 5, 6, 90);
	free_logits(logits);
}

/* Nothing is allowed: the choice is still an id, and the text goes on. */
static void
test_all_banned(void **state)
{
	static const int32_t history[] = {0, 1, 2};
	static const float values[3] = {1, 3, 2};
	const int32_t slot = 9;
	const DsocrRows rows = {1, &slot, 0, true};
	float *logits[2];

	fx_text(slot, &(DsocrText){.ids = history, .n = 3, .ngram_size = 1});
	make_logits(logits, values, 1, 3);
	step(logits, &rows, 3);
	free_logits(logits);
}

/* A full text takes no further id, and its neighbour's are its own. */
static void
test_full_text(void **state)
{
	static int32_t history[FX_IDS];
	static const int32_t slots[2] = {20, 21};
	const DsocrRows rows = {2, slots, 0, true};
	DsocrBackend *be = fx_both[1];
	float values[2 * RULED];
	float table[RULED];
	float *logits[2];
	int32_t ids[2];
	float last[2];
	FxMatrix m;
	void *out;

	for (int i = 0; i < RULED; i++)
	{
		values[2 * i] = values[2 * i + 1] = (float) i;
		table[i] = (float) i;
	}
	m = fx_matrix_of(RULED, 1, table);
	out = be->ops->alloc(be, 2, NULL);
	fx_text(slots[0], &(DsocrText){.ids = history, .n = FX_IDS - 1});
	fx_text(slots[1], &(DsocrText){.ids = history, .n = 1});
	make_logits(logits, values, 2, RULED);
	for (int i = 0; i < 3; i++)
	{
		const DsocrRows full = {1, slots, 0, true};

		pick(1, logits[1], &full, RULED, ids, last);
	}
	be->ops->run_begin(be, &rows, false);
	be->ops->embed_last(be, out, m.m[1], &rows);
	be->ops->run_end(be);
	be->ops->read(be, last, out, 2);
	assert_true(last[0] == RULED - 1); /* the one id that there was room for */
	assert_true(last[1] == 0);
	be->ops->free(be, out);
	fx_matrix_free(&m);
	free_logits(logits);
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
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_pick), cmocka_unit_test(test_rules),
									   cmocka_unit_test(test_all_banned),
									   cmocka_unit_test(test_full_text)};

	return cmocka_run_group_tests_name("bf16", tests, open_bf16, close_both) +
		   cmocka_run_group_tests_name("fp32", tests, open_fp32, close_both);
}
