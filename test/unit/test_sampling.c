/*-------------------------------------------------------------------------
 *
 * test_sampling.c
 *		No-repeat n-gram rules against a literal transcription of them.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sampling.h"

#define MAX_IDS 300
#define VOCAB 40

/*
 * The rule as it is written down: go through all n-grams of the text that
 * may be looked at, and forbid the last id of those that begin with what was
 * written last.
 */
static void
forbidden(const int32_t *ids, int n, int prompt_len, int size, int window, const int32_t *whitelist,
		  int n_whitelist, bool out[VOCAB])
{
	const int32_t *text = window > 0 ? ids + prompt_len : ids;
	int len = window > 0 ? n - prompt_len : n;
	int first = window > 0 && len > window ? len - window : 0;

	memset(out, 0, sizeof(bool) * VOCAB);
	for (int i = first; i + size <= len; i++)
		if (memcmp(text + i, text + len - (size - 1), sizeof(*ids) * (size_t) (size - 1)) == 0)
			out[text[i + size - 1]] = true;
	for (int i = 0; window > 0 && i < n_whitelist; i++)
		out[whitelist[i]] = false;
}

static void
test_random_texts(void **state)
{
	static const int32_t whitelist[] = {3, 4};
	int32_t ids[MAX_IDS];
	int seen = 0;

	srand(1);
	for (int round = 0; round < 4000; round++)
	{
		int n = rand() % MAX_IDS;
		int vocab = 2 + rand() % (VOCAB - 2);
		int prompt_len = n > 0 ? rand() % (n + 1) : 0;
		int size = 1 + rand() % 6;
		int window = rand() % 3 ? rand() % 100 : 0;
		bool expected[VOCAB];
		DsocrBanList bans = {0};

		for (int i = 0; i < n; i++)
			ids[i] = rand() % vocab;
		forbidden(ids, n, prompt_len, size, window, whitelist, 2, expected);
		assert_true(dsocr_ngram_bans(ids, n, prompt_len, size, window, whitelist, 2, &bans, NULL));
		for (int i = 0; i < bans.n; i++)
		{
			assert_true(expected[bans.ids[i]]);
			if (i > 0)
				assert_true(bans.ids[i] > bans.ids[i - 1]);
			expected[bans.ids[i]] = false;
		}
		for (int i = 0; i < VOCAB; i++)
			assert_false(expected[i]);
		seen += bans.n;
		dsocr_free(bans.ids);
	}
	assert_true(seen > 1000);
}

static void
test_written_example(void **state)
{
	/*                           0  1  2  3  4  5  6  7  8 */
	static const int32_t ids[] = {5, 6, 7, 5, 6, 8, 9, 5, 6};
	DsocrBanList bans = {0};

	/* "5 6" was followed by 7 and by 8 */
	assert_true(dsocr_ngram_bans(ids, 9, 3, 3, 0, NULL, 0, &bans, NULL));
	assert_int_equal(bans.n, 2);
	assert_int_equal(bans.ids[0], 7);
	assert_int_equal(bans.ids[1], 8);

	/* the prompt is not looked at with a window; lists are appended to */
	assert_true(dsocr_ngram_bans(ids, 9, 3, 3, 100, NULL, 0, &bans, NULL));
	assert_int_equal(bans.n, 3);
	assert_int_equal(bans.ids[2], 8);
	bans.n = 0;

	/* "5 6 8" begins six ids before the end */
	assert_true(dsocr_ngram_bans(ids, 9, 3, 3, 6, NULL, 0, &bans, NULL));
	assert_int_equal(bans.n, 1);
	bans.n = 0;
	assert_true(dsocr_ngram_bans(ids, 9, 3, 3, 5, NULL, 0, &bans, NULL));
	assert_int_equal(bans.n, 0);

	/* whitelisted ids are free, but only in the window rule */
	assert_true(dsocr_ngram_bans(ids, 9, 3, 3, 6, (int32_t[]){8}, 1, &bans, NULL));
	assert_int_equal(bans.n, 0);
	assert_true(dsocr_ngram_bans(ids, 9, 3, 3, 0, (int32_t[]){8}, 1, &bans, NULL));
	assert_int_equal(bans.n, 2);
	dsocr_free(bans.ids);
}

static void
test_no_rule(void **state)
{
	static const int32_t ids[] = {1, 1, 1, 1};
	DsocrBanList bans = {0};

	assert_true(dsocr_ngram_bans(ids, 4, 0, 0, 0, NULL, 0, &bans, NULL));
	assert_true(dsocr_ngram_bans(ids, 4, 0, 0, 90, NULL, 0, &bans, NULL));
	assert_true(dsocr_ngram_bans(ids, 0, 0, 3, 0, NULL, 0, &bans, NULL));
	assert_true(dsocr_ngram_bans(ids, 4, 0, 9, 0, NULL, 0, &bans, NULL));
	assert_int_equal(bans.n, 0);
	assert_null(bans.ids);
}

/* All steps of a text of 8192 tokens must stay far below the model's own time. */
static void
test_long_text_is_cheap(void **state)
{
	int n = 8192;
	int32_t *ids = dsocr_alloc((size_t) n, sizeof(*ids), NULL);
	int64_t start = dsocr_now_us();
	DsocrBanList bans = {0};

	assert_non_null(ids);
	for (int i = 0; i < n; i++)
	{
		ids[i] = i % 30; /* a loop, the worst that matters */
		bans.n = 0;
		assert_true(dsocr_ngram_bans(ids, i + 1, 0, 35, 0, NULL, 0, &bans, NULL));
		assert_int_equal(bans.n, i >= 63 ? 1 : 0);
	}
	assert_true(dsocr_now_us() - start < 5000000);
	dsocr_free(bans.ids);
	dsocr_free(ids);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written_example),
		cmocka_unit_test(test_random_texts),
		cmocka_unit_test(test_no_rule),
		cmocka_unit_test(test_long_text_is_cheap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
