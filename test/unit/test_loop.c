/*-------------------------------------------------------------------------
 *
 * test_loop.c
 *		Loops are seen and cut; pages that repeat by nature are left alone.
 *
 * Ids come from the tokenizer of the embedded model, one for a character, and
 * from the official one where the reference data has been unpacked.
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

#include "loop.h"

#define N_TOKENIZERS 2

static const char *const paths[N_TOKENIZERS] = {"models/nano/tokenizer.json",
												"build/golden/tokenizer/tokenizer.json"};
static DsocrTokenizer *tokenizers[N_TOKENIZERS];
static DsocrTokenKind *kinds[N_TOKENIZERS];

typedef struct Seen
{
	size_t n;  /* ids of the text */
	size_t at; /* when the loop was seen */
	int keep;  /* -1: no loop */
} Seen;

static Seen
look(int t, const DsocrBuffer *text)
{
	DsocrError err = {0};
	DsocrLoop *l = dsocr_loop_new(kinds[t], dsocr_tokenizer_size(tokenizers[t]), &err);
	int32_t *ids;
	Seen s = {.keep = -1};

	assert_non_null(l);
	assert_true(dsocr_tokenizer_encode(tokenizers[t], text->data, text->len, &ids, &s.n, &err));
	while (s.keep < 0 && s.at < s.n)
		s.keep = dsocr_loop_push(l, ids[s.at++]);
	dsocr_free(ids);
	dsocr_loop_free(l);
	return s;
}

/* ---- texts ---- */

static unsigned seed;

static unsigned
dice(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

static void
put(DsocrBuffer *b, const char *text)
{
	assert_true(dsocr_buffer_append(b, text, strlen(text), NULL));
}

static void
put_words(DsocrBuffer *b, int n)
{
	static const char *const syllables[] = {"ba",  "cor", "de", "fil", "gu", "ha", "in",  "jo",
											"ker", "lam", "mo", "nus", "or", "pe", "qua", "rit"};

	for (int i = 0; i < n; i++)
	{
		for (unsigned k = 1 + dice(3); k > 0; k--)
			put(b, syllables[dice(16)]);
		put(b, i + 1 < n ? " " : "");
	}
}

static void
put_table(DsocrBuffer *b, int rows, int columns, int kind)
{
	put(b, "<table>");
	for (int r = 0; r < rows; r++)
	{
		put(b, "<tr>");
		for (int c = 0; c < columns; c++)
		{
			char cell[32] = "";

			if (kind == 1 || (kind == 2 && c > 0))
				strcpy(cell, "0.00");
			else if (kind == 2)
				snprintf(cell, sizeof(cell), "%d", r + 1);
			else if (kind == 3)
				snprintf(cell, sizeof(cell), "%u.%u", dice(900), dice(90));
			else if (kind == 4)
				strcpy(cell, dice(2) ? "Yes" : "No");
			put(b, "<td>");
			put(b, cell);
			put(b, "</td>");
		}
		put(b, "</tr>");
	}
	put(b, "</table>");
}

typedef void (*Writer)(DsocrBuffer *b, int n);

static void
tables(DsocrBuffer *b, int n)
{
	put_table(b, 200, 1 + n % 4, n / 4);
}

static void
contents(DsocrBuffer *b, int n)
{
	for (int i = 0; i < 60; i++)
	{
		put_words(b, 2 + (int) dice(4));
		put(b, " ");
		for (unsigned k = 10 + dice(40); k > 0; k--)
			put(b, n == 0 ? "." : ". ");
		assert_true(dsocr_buffer_printf(b, NULL, " %d\n", 3 * i));
	}
}

static void
lists(DsocrBuffer *b, int n)
{
	static const char *const forms[] = {"%d.\n", "%d. A B C D\n", "%d\n", "| %d | yes | 0 |\n"};

	for (int i = 1; i <= 100; i++)
		assert_true(dsocr_buffer_printf(b, NULL, forms[n], i));
}

static void
long_list(DsocrBuffer *b, int n)
{
	for (int i = 1; i <= 200; i++)
	{
		assert_true(dsocr_buffer_printf(b, NULL, "%d. ", i));
		put_words(b, 6);
		put(b, "\n");
	}
}

static void
matrices(DsocrBuffer *b, int n)
{
	int side = 5 * (n / 2 + 1);

	put(b, "\\begin{pmatrix}");
	for (int r = 0; r < side; r++)
		for (int c = 0; c < side; c++)
		{
			put(b, n % 2 == 0 || r != c ? "0" : "1");
			put(b, c + 1 < side ? " & " : " \\\\ ");
		}
	put(b, "\\end{pmatrix}");
}

static void
code(DsocrBuffer *b, int n)
{
	static const char *const names[] = {"mov", "add", "sub", "cmp"};

	if (n == 0)
		for (int i = 0; i < 16; i++)
			put(b, "\t0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,\n");
	else
		for (int i = 0; i < 80; i++)
			assert_true(dsocr_buffer_printf(b, NULL, "\t%s e%cx, [rbp-%u]\n", names[dice(4)],
											(int) ('a' + dice(4)), 4 * dice(9)));
}

static void
sheets(DsocrBuffer *b, int n)
{
	static const char *const labels[] = {
		"Erika Mustermann\nHeidestra\xc3\x9f"
		"e 17\n51147 K\xc3\xb6ln\n\n",
		"Yes\n", "________________________________________________________________\n",
		"ACME Consulting Ltd\nJohn Q. Public\nSenior Vice President\n12 Long Street, "
		"Springfield\nphone +1 555 0100\njohn@acme.example\n\n"};
	static const int copies[] = {30, 32, 40, 10};

	for (int i = 0; i < copies[n]; i++)
		put(b, labels[n]);
}

static void
test_pages_that_repeat(void **state)
{
	static const struct
	{
		Writer write;
		int n;
	} pages[] = {{tables, 20},	{contents, 2}, {lists, 4}, {long_list, 1},
				 {matrices, 6}, {code, 2},	   {sheets, 4}};

	for (size_t p = 0; p < sizeof(pages) / sizeof(pages[0]); p++)
		for (int n = 0; n < pages[p].n; n++)
			for (int t = 0; t < N_TOKENIZERS; t++)
			{
				DsocrBuffer b = {0};
				Seen s;

				if (tokenizers[t] == NULL)
					continue;
				seed = (unsigned) n + 1;
				put_words(&b, 40);
				put(&b, "\n\n");
				pages[p].write(&b, n);
				put_words(&b, 40);
				s = look(t, &b);
				if (s.keep >= 0)
					fail_msg("page %zu, %d, tokenizer %d: cut at %d of %zu ids, seen at %zu", p, n,
							 t, s.keep, s.n, s.at);
				dsocr_buffer_free(&b);
			}
}

/* ---- loops ---- */

/* Head, then unit again and again; most: ids until it must have been seen. */
static void
expect_loop(int t, const char *unit, int units, size_t most)
{
	DsocrBuffer head = {0};
	DsocrBuffer b = {0};
	DsocrBuffer kept = {0};
	int32_t *ids;
	size_t n;
	size_t text;
	Seen s;

	seed = 7;
	put_words(&head, 60);
	put(&head, "\n\n");
	put(&b, head.data);
	for (int i = 0; i < units; i++)
		put(&b, unit);
	s = look(t, &b);
	if (s.keep < 0 || s.at - (size_t) s.keep > most)
		fail_msg("\"%s\", tokenizer %d: seen at %zu, kept %d", unit, t, s.at, s.keep);
	/* what is kept is the head and one copy, give or take a few characters */
	assert_true(dsocr_tokenizer_encode(tokenizers[t], b.data, b.len, &ids, &n, NULL));
	assert_true(dsocr_tokenizer_decode(tokenizers[t], ids, (size_t) s.keep, false, &kept, NULL));
	text = head.len + strlen(unit);
	assert_in_range(kept.len, head.len, text + 32);
	assert_memory_equal(kept.data, b.data, kept.len);
	dsocr_free(ids);
	dsocr_buffer_free(&b);
	dsocr_buffer_free(&head);
	dsocr_buffer_free(&kept);
}

static void
test_exact_loops(void **state)
{
	static const struct
	{
		const char *unit;
		int units;
		size_t most;   /* ids of the official tokenizer */
		size_t most_c; /* characters */
	} loops[] = {
		{"The committee met on Tuesday and agreed the minutes. ", 400, 320, 640},
		{"The committee met on Tuesday and agreed the minutes.\n", 400, 400, 1900},
		{"very ", 3000, 640, 800},
		{"Yes\n", 3000, 400, 400},
		{"0, ", 5000, 900, 900},
		{"\n", 9000, 400, 400},
		{"<td>0</td>", 3000, 900, 900},
		{"<tr><td>1</td><td>2</td></tr>", 900, 2300, 2300},
	};

	for (size_t i = 0; i < sizeof(loops) / sizeof(loops[0]); i++)
		for (int t = 0; t < N_TOKENIZERS; t++)
			if (tokenizers[t] != NULL)
				expect_loop(t, loops[i].unit, loops[i].units,
							t == 0 ? loops[i].most_c : loops[i].most);
}

/* Every period is seen, and the second copy is where the cut is. */
static void
test_every_period(void **state)
{
	int size = dsocr_tokenizer_size(tokenizers[0]);

	for (int period = 1; period <= 400; period += period < 20 ? 1 : 17)
	{
		DsocrLoop *l = dsocr_loop_new(kinds[0], size, NULL);
		int32_t cycle[400];
		int keep = -1;
		int n = 0;

		/* letters that do not repeat earlier */
		seed = (unsigned) period;
		for (int i = 0; i < period; i++)
			cycle[i] = dsocr_tokenizer_id(tokenizers[0], (char[2]){(char) ('a' + dice(26)), 0});
		while (keep < 0 && n < 5000)
		{
			keep = dsocr_loop_push(l, cycle[n % period]);
			n++;
		}
		assert_int_not_equal(keep, -1);
		assert_in_range(keep, 1, period);
		assert_in_range(n, 1, 600 + 11 * period);
		dsocr_loop_free(l);
	}
}

/* The n-gram rule makes a loop change a word in every round; rows may be counted. */
static void
test_varied_loops(void **state)
{
	for (int t = 0; t < N_TOKENIZERS; t++)
		for (int form = 0; form < 4; form++)
		{
			DsocrBuffer b = {0};
			Seen s;

			if (tokenizers[t] == NULL)
				continue;
			seed = 3;
			put_words(&b, 60);
			put(&b, "\n\n");
			for (int i = 1; i < 2000; i++)
				if (form == 0)
				{
					put(&b, "The committee met on Tuesday and then agreed ");
					put_words(&b, 1);
					put(&b, " of the last minutes. ");
				}
				else if (form == 1)
					assert_true(dsocr_buffer_printf(&b, NULL, "Item %d\n", i));
				else if (form == 2)
					assert_true(
						dsocr_buffer_printf(&b, NULL, "<tr><td>%d</td><td>0.00</td></tr>", i));
				else
					assert_true(
						dsocr_buffer_printf(&b, NULL, "Total %u of %u\n", dice(1000), dice(10000)));
			s = look(t, &b);
			if (s.keep < 0)
				fail_msg("form %d, tokenizer %d", form, t);
			assert_in_range(s.keep, 50, 900);
			dsocr_buffer_free(&b);
		}
}

/* Any ids, also such that no tokenizer has: no harm, and the same each time. */
static void
test_random_ids(void **state)
{
	for (unsigned round = 0; round < 40; round++)
	{
		DsocrLoop *a = dsocr_loop_new(kinds[0], 413, NULL);
		DsocrLoop *b = dsocr_loop_new(kinds[0], 413, NULL);
		int n = 0;
		int keep = -1;

		seed = round;
		while (keep < 0 && n < 9000)
		{
			int32_t id = (int32_t) dice(round % 4 == 0 ? 3 : 500) - 20;

			keep = dsocr_loop_push(a, id);
			assert_int_equal(dsocr_loop_push(b, id), keep);
			n++;
		}
		assert_true(keep < n);
		dsocr_loop_free(a);
		dsocr_loop_free(b);
	}
}

static int
set_up(void **state)
{
	for (int t = 0; t < N_TOKENIZERS; t++)
	{
		DsocrError err = {0};

		tokenizers[t] = dsocr_tokenizer_open(paths[t], &err);
		if (tokenizers[t] != NULL)
			kinds[t] = dsocr_token_kinds(tokenizers[t], dsocr_tokenizer_size(tokenizers[t]), &err);
	}
	return kinds[0] != NULL ? 0 : -1;
}

static int
tear_down(void **state)
{
	for (int t = 0; t < N_TOKENIZERS; t++)
	{
		dsocr_tokenizer_close(tokenizers[t]);
		dsocr_free(kinds[t]);
	}
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_that_repeat), cmocka_unit_test(test_exact_loops),
		cmocka_unit_test(test_every_period),	  cmocka_unit_test(test_varied_loops),
		cmocka_unit_test(test_random_ids),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
