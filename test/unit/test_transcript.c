/*-------------------------------------------------------------------------
 *
 * test_transcript.c
 *		Ids to texts: whose tokens make whose confidence, and what a cut leaves.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "output_lines.h"
#include "transcript.h"

static DsocrTokenizer *tokenizer;

typedef struct Page
{
	int32_t *ids;
	float *logprobs;
	size_t n;
	DsocrResult result;
} Page;

static void
fill(Page *p, bool loop)
{
	DsocrTranscript in = {.ids = p->ids,
						  .logprobs = p->logprobs,
						  .n = (int) p->n,
						  .loop = loop,
						  .width = 999,
						  .height = 999};
	DsocrError err = {0};

	dsocr_result_free(&p->result);
	assert_true(dsocr_transcript_fill(tokenizer, &in, &p->result, &err));
}

/* The text's ids, all with probability 1/2. */
static Page
page_of(const char *text, bool loop)
{
	Page p = {0};

	assert_true(dsocr_tokenizer_encode(tokenizer, text, strlen(text), &p.ids, &p.n, NULL));
	p.logprobs = calloc(p.n + 1, sizeof(float));
	for (size_t i = 0; i < p.n; i++)
		p.logprobs[i] = logf(0.5F);
	fill(&p, loop);
	return p;
}

static void
page_free(Page *p)
{
	dsocr_free(p->ids);
	free(p->logprobs);
	dsocr_result_free(&p->result);
}

#define BLOCK(label, boxes) "<|ref|>" label "<|/ref|><|det|>" boxes "<|/det|>"

#define TABLE "<table><tr><td>a</td></tr><tr><td>b</td></tr></table>"

static const char *const sample =
	"  before\nthe first \n\n" BLOCK("title", "[[1,2,3,4]]") "\n# Title\n\n" BLOCK(
		"text", "[[1,2,3,4]]") "\n one<br>two <br/>\n\n three\n" BLOCK("table",
																	   "[[5,6,7,8]]") "\n" TABLE
																					  "\n";

static void
expect_lines(const char *text, int n, const DsocrLine *lines, const char *const *want)
{
	for (int i = 0; i < n; i++)
	{
		assert_non_null(want[i]);
		assert_int_equal(lines[i].length, strlen(want[i]));
		assert_memory_equal(text + lines[i].start, want[i], strlen(want[i]));
		assert_true(fabsf(lines[i].confidence - 0.5F) < 1e-6F);
	}
	assert_null(want[n]);
}

static void
test_lines(void **state)
{
	static const char *const prefix[] = {"before", "the first", NULL};
	static const char *const text[] = {"one", "two", "three", NULL};
	static const char *const rows[] = {"<table><tr><td>a</td></tr>", "<tr><td>b</td></tr></table>",
									   NULL};
	Page p = page_of(sample, false);
	DsocrResult *r = &p.result;

	expect_lines(r->prefix, r->n_prefix_lines, r->prefix_lines, prefix);
	assert_int_equal(r->n_blocks, 3);
	assert_int_equal(r->blocks[0].n_lines, 1);
	expect_lines(r->blocks[1].content, r->blocks[1].n_lines, r->blocks[1].lines, text);
	expect_lines(r->blocks[2].content, r->blocks[2].n_lines, r->blocks[2].lines, rows);
	assert_true(fabsf(r->prefix_confidence - 0.5F) < 1e-6F);
	assert_true(fabs(r->confidence - 0.5) < 1e-6);
	assert_int_equal(r->text_tokens, p.n);
	for (int b = 0; b < 3; b++)
		assert_true(fabsf(r->blocks[b].confidence - 0.5F) < 1e-6F);
	page_free(&p);

	/* nothing at all, and nothing but blanks */
	p = page_of("", false);
	assert_true(p.result.confidence == 0 && p.result.n_prefix_lines == 0);
	page_free(&p);
	p = page_of(" \n ", false);
	assert_string_equal(p.result.raw, "");
	assert_true(p.result.confidence > 0 && p.result.prefix_confidence == 0);
	assert_int_equal(p.result.n_prefix_lines, 0);
	page_free(&p);
}

/* Confidences that a doubt changes: bits of where they are. */
static int
changed_places(const DsocrResult *a, const DsocrResult *b, int *blocks, int *lines)
{
	int prefix = a->prefix_confidence != b->prefix_confidence;

	*blocks = *lines = 0;
	for (int i = 0; i < a->n_prefix_lines; i++)
		*lines += a->prefix_lines[i].confidence != b->prefix_lines[i].confidence;
	assert_true(*lines <= prefix);
	for (int k = 0; k < a->n_blocks; k++)
	{
		int here = 0;

		for (int i = 0; i < a->blocks[k].n_lines; i++)
			here += a->blocks[k].lines[i].confidence != b->blocks[k].lines[i].confidence;
		*lines += here;
		*blocks += a->blocks[k].confidence != b->blocks[k].confidence;
		/* a line's token is one of its block's */
		assert_true(here == 0 || a->blocks[k].confidence > b->blocks[k].confidence);
	}
	return prefix;
}

static int
table_tokens(void)
{
	int32_t *ids;
	size_t n;

	assert_true(dsocr_tokenizer_encode(tokenizer, TABLE, strlen(TABLE), &ids, &n, NULL));
	dsocr_free(ids);
	return (int) n;
}

/* A token that the model doubted lowers its own line, its block and the page, and nothing else. */
static void
test_doubt_stays_where_it_is(void **state)
{
	Page p = page_of(sample, false);
	Page q = page_of(sample, false);
	int in_lines = 0;

	for (size_t i = 0; i < p.n; i++)
	{
		int blocks;
		int lines;
		int prefix;

		q.logprobs[i] = logf(0.01F);
		fill(&q, false);
		prefix = changed_places(&p.result, &q.result, &blocks, &lines);
		assert_true(q.result.confidence < p.result.confidence);
		/* blanks at both ends of the page are stripped and belong to nothing */
		assert_int_equal(prefix + blocks, i >= 2 && i + 1 < p.n);
		assert_true(lines <= 1);
		in_lines += lines;
		q.logprobs[i] = logf(0.5F);
	}
	/* before, the first, # Title, one, two, three, and the table; a token is a character or tag */
	assert_int_equal(in_lines, 6 + 9 + 7 + 3 + 3 + 5 + table_tokens());
	page_free(&p);
	page_free(&q);
}

static unsigned seed;

static unsigned
dice(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

/* Each token counts at most once among blocks, and once among lines, whatever the ids. */
static void
test_tokens_count_once(void **state)
{
	int size = dsocr_tokenizer_size(tokenizer);
	int tags[4];

	tags[0] = dsocr_tokenizer_id(tokenizer, "<|ref|>");
	tags[1] = dsocr_tokenizer_id(tokenizer, "<|/ref|>");
	tags[2] = dsocr_tokenizer_id(tokenizer, "<|det|>");
	tags[3] = dsocr_tokenizer_id(tokenizer, "<|/det|>");
	for (seed = 1; seed < 60000; seed += 97)
	{
		unsigned round = seed;
		Page p = {.n = dice(200)};
		double lost = 0;
		double sum = 0;
		int next = 0;

		p.ids = dsocr_alloc(p.n, sizeof(*p.ids), NULL);
		p.logprobs = calloc(p.n + 1, sizeof(float));
		for (size_t i = 0; i < p.n; i++)
		{
			p.ids[i] = (int32_t) dice((unsigned) size + 8) - 4;
			if (dice(4) == 0)
				p.ids[i] = tags[next++ % 4];
			p.logprobs[i] = -(float) dice(1000) / 100;
			sum += p.logprobs[i];
		}
		fill(&p, dice(2) == 0);
		assert_in_range(p.result.text_tokens, 0, p.n);
		if (p.result.text_tokens == (int) p.n && p.n > 0)
			assert_true(fabs(p.result.mean_logprob - sum / (double) p.n) < 1e-9);
		for (int b = 0; b < p.result.n_blocks; b++)
		{
			const DsocrBlock *block = &p.result.blocks[b];
			int32_t from = 0;

			assert_true(block->confidence >= 0 && block->confidence <= 1);
			for (int i = 0; i < block->n_lines; i++)
			{
				assert_true(block->lines[i].start >= from && block->lines[i].length > 0);
				from = block->lines[i].start + block->lines[i].length;
				assert_true(block->lines[i].confidence >= 0 && block->lines[i].confidence <= 1);
			}
			assert_true((size_t) from <= strlen(block->content));
		}
		lost += strlen(p.result.raw) > 0 && p.result.confidence == 0;
		assert_true(lost == 0 || p.result.mean_logprob < -700);
		page_free(&p);
		seed = round;
	}
}

/* Sums over ranges that cover a text are the sum over all of it. */
static void
test_sums(void **state)
{
	static const char text[] = " ab \n\n c d<br> ";
	static const size_t ends[] = {2, 2, 4, 6, 8, 9, 10, 14, 15};
	static const float logprobs[] = {-1, -2, -4, -8, -16, -32, -64, -128, -256};
	const DsocrScores s = {9, ends, logprobs};
	double sum;

	/* a token without bytes is nobody's */
	assert_int_equal(dsocr_scores_sum(&s, text, 0, sizeof(text) - 1, &sum), 8);
	assert_true(sum == -1 - 4 - 8 - 16 - 32 - 64 - 128 - 256);
	/* " a" has its first letter in the line */
	assert_int_equal(dsocr_scores_sum(&s, text, 1, 3, &sum), 2);
	assert_true(sum == -1 - 4);
	for (size_t cut = 0; cut < sizeof(text); cut++)
	{
		double before;
		double behind;
		size_t n = dsocr_scores_sum(&s, text, 0, cut, &before);

		n += dsocr_scores_sum(&s, text, cut, sizeof(text) - 1, &behind);
		assert_int_equal(n, 8);
		assert_true(before + behind == -509);
	}
}

/* Bytes that are no UTF-8, and NUL, become longer; the tokens keep to their lines. */
static void
test_repaired_text(void **state)
{
	static const char *const want[] = {"a\xef\xbf\xbd", "b\xef\xbf\xbd", "c", NULL};
	int32_t half = -1;
	Page p = {.n = 7};

	/* a token that is the first half of a character */
	for (int32_t id = 0; id < dsocr_tokenizer_size(tokenizer) && half < 0; id++)
	{
		DsocrBuffer b = {0};

		assert_true(dsocr_tokenizer_decode(tokenizer, &id, 1, false, &b, NULL));
		if (b.len == 1 && (unsigned char) b.data[0] == 0xc3)
			half = id;
		dsocr_buffer_free(&b);
	}
	assert_true(half >= 0);
	p.ids = dsocr_alloc(p.n, sizeof(*p.ids), NULL);
	p.logprobs = calloc(p.n, sizeof(float));
	for (size_t i = 0; i < p.n; i++)
	{
		static const char *const texts[] = {"a", NULL, "\n", "b", NULL, "\n", "c"};

		p.ids[i] = texts[i] != NULL ? dsocr_tokenizer_id(tokenizer, texts[i]) : half;
		if (p.ids[i] < 0)
			p.ids[i] =
				dsocr_tokenizer_id(tokenizer, "\xc4\x8a"); /* as the file writes a line feed */
		p.logprobs[i] = logf(0.5F);
	}
	fill(&p, false);
	expect_lines(p.result.prefix, p.result.n_prefix_lines, p.result.prefix_lines, want);
	p.logprobs[4] = -9; /* the half behind b */
	fill(&p, false);
	assert_true(p.result.prefix_lines[0].confidence == 0.5F);
	assert_true(p.result.prefix_lines[1].confidence < 0.1F);
	assert_true(p.result.prefix_lines[2].confidence == 0.5F);
	page_free(&p);
}

/* What a loop's cut leaves behind: no half markup, and tables that are closed. */
static void
test_cut_text(void **state)
{
	static const struct
	{
		const char *text;
		const char *raw;
		const char *markdown;
	} cases[] = {
		{"plain text", "plain text", "plain text"},
		{"a < b and", "a < b and", "a < b and"},
		{"text <t", "text", "text"},
		{"text <|ref|>tab", "text", "text"},
		{"text <|ref|>a<|/ref|><|det|>[[1,2", "text", "text"},
		{"<table><tr><td>a</td></tr>", "<table><tr><td>a</td></tr>",
		 "<table><tr><td>a</td></tr></table>"},
		{"<table><tr><td>a", "<table><tr><td>a", "<table><tr><td>a</td></tr></table>"},
		{"<table><tr><td>a</td><td", "<table><tr><td>a</td>", "<table><tr><td>a</td></tr></table>"},
		{"<table><tr><td>a</td></tr></table>", "<table><tr><td>a</td></tr></table>",
		 "<table><tr><td>a</td></tr></table>"},
		{"<table><tr><td>" BLOCK("text", "[[1,2,3,4]]") "x",
		 "<table><tr><td>" BLOCK("text", "[[1,2,3,4]]") "x", "<table><tr><td>x"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Page p = page_of(cases[i].text, true);
		Page whole = page_of(cases[i].text, false);

		assert_string_equal(p.result.raw, cases[i].raw);
		assert_string_equal(p.result.markdown, cases[i].markdown);
		assert_true(p.result.text_tokens <= whole.result.text_tokens);
		assert_true(fabs(p.result.confidence - 0.5) < 1e-6);
		/* without a loop nothing is touched */
		assert_string_equal(whole.result.raw, cases[i].text);
		page_free(&p);
		page_free(&whole);
	}
}

static int
set_up(void **state)
{
	DsocrError err = {0};

	tokenizer = dsocr_tokenizer_open("models/nano/tokenizer.json", &err);
	return tokenizer != NULL ? 0 : -1;
}

static int
tear_down(void **state)
{
	dsocr_tokenizer_close(tokenizer);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_doubt_stays_where_it_is),
		cmocka_unit_test(test_tokens_count_once),
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_repaired_text),
		cmocka_unit_test(test_cut_text),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
