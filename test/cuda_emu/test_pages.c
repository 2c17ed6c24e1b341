/*-------------------------------------------------------------------------
 *
 * test_pages.c
 *		Key/value pages of the CUDA backend: rotation, prefill, decode.
 *
 * Compared with the reference at lengths on both sides of every border
 * (tile, page, part of a context), and bit by bit with themselves: a row must
 * be the same alone, among others and in another order.
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

/* bf16 may be wrong by so much of the rms at worst, beyond the rounding of the result itself. */
#define WORST 5e-2
#define MEAN 8e-3
#define MAX_SEQUENCES 40
#define LAYER 1
#define THETA 10000.0f

static void
open_backends(DsocrPrecision precision)
{
	static const int32_t listed[2] = {FX_LISTED_A, FX_LISTED_B};
	const DsocrTextShape texts = {
		.slots = FX_SLOTS, .ids = FX_IDS, .pages = FX_PAGES, .whitelist = listed, .n_whitelist = 2};
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

/* scale: of the scores, whose error grows with them since queries and keys are rounded */
static void
compare(const char *what, const float *want, const float *got, size_t n, double scale)
{
	bool bf16 = fx_precision == DSOCR_PRECISION_BF16;
	double square = 0;
	double worst = 0;
	double mean = 0;

	for (size_t i = 0; i < n; i++)
	{
		double d = (double) want[i] - got[i];
		double beyond = fabs(d) - (bf16 ? fabs((double) want[i]) / 128 : 0);

		square += (double) want[i] * want[i];
		mean += d * d;
		if (!(beyond <= worst)) /* a NaN is the worst */
			worst = beyond;
	}
	square = sqrt(square / (double) n);
	mean = sqrt(mean / (double) n);
	if (!(worst <= (bf16 ? WORST * scale : FX_TIGHT) * square + 1e-30 &&
		  mean <= MEAN * square + 1e-30))
		fail_msg("%s: errors of %g and %g on the average, rms %g", what, worst, mean, square);
}

/* ---- sequences ---- */

typedef struct Sequence
{
	int slot;
	int n;
	int n_pages;
	int32_t pages[FX_PAGES];
} Sequence;

/* Pages are dealt out in the order of a walk through all of them. */
typedef struct Memory
{
	DsocrKvShape shape;
	DsocrKv *kv[2];
	int used;
	int step;	 /* no common factor with the number of pages */
	float scale; /* of queries */
	Sequence s[MAX_SEQUENCES];
} Memory;

static size_t
width(const Memory *m)
{
	return (size_t) m->shape.heads * (size_t) m->shape.head_dim;
}

static Memory *
memory_open(int heads, int head_dim, int page_tokens, int pages, float scale)
{
	Memory *m = calloc(1, sizeof(*m));
	DsocrError err;

	assert_non_null(m);
	m->shape = (DsocrKvShape){2, heads, head_dim, page_tokens, pages | 1};
	m->step = 2; /* the number of pages is odd */
	m->scale = scale;
	for (int b = 0; b < 2; b++)
	{
		m->kv[b] = fx_both[b]->ops->kv_open(fx_both[b], &m->shape, &err);
		if (m->kv[b] == NULL)
			fail_msg("%s", err.message);
	}
	return m;
}

static void
memory_close(Memory *m)
{
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->kv_close(fx_both[b], m->kv[b]);
	free(m);
}

static void
grow(Memory *m, int i, int n)
{
	Sequence *s = &m->s[i];

	s->slot = (i * 37 + 5) % FX_SLOTS;
	s->n = n;
	while (s->n_pages * m->shape.page_tokens < n)
	{
		assert_true(m->used < m->shape.pages);
		s->pages[s->n_pages++] = m->used++ * m->step % m->shape.pages;
	}
	fx_length(s->slot, n, s->pages, s->n_pages);
}

/* Rows through rotation and attention of one backend; queries and outputs. */
static void
run_rows(Memory *m, int b, const float *x, const DsocrRows *rows, float *q, float *out)
{
	DsocrBackend *be = fx_both[b];
	size_t dim = width(m);
	size_t n = (size_t) rows->n;
	void *in = fx_act(be, x, n * 3 * dim);
	void *y = be->ops->alloc(be, n * dim, NULL);

	be->ops->run_begin(be, rows, false);
	be->ops->rope_store(be, in, rows, m->kv[b], LAYER, THETA);
	if (out != NULL)
		be->ops->causal_attention(be, y, in, rows, m->kv[b], LAYER);
	be->ops->run_end(be);
	assert_true(be->ops->sync(be, NULL));
	for (size_t r = 0; q != NULL && r < n; r++)
		be->ops->read(be, q + r * dim, dsocr_act(be, in, r * 3 * dim), dim);
	if (out != NULL)
		be->ops->read(be, out, y, n * dim);
	be->ops->free(be, in);
	be->ops->free(be, y);
}

static float *
inputs(const Memory *m, int n)
{
	size_t dim = width(m);
	float *x = fx_numbers((size_t) n * 3 * dim, 1);

	for (size_t i = 0; i < (size_t) n * 3 * dim; i++)
		if (i % (3 * dim) < dim)
			x[i] *= m->scale;
	return x;
}

/* A chunk of a sequence in both backends, compared. */
static void
chunk(Memory *m, int i, int first, int n)
{
	size_t count = (size_t) n * width(m);
	const DsocrRows rows = {n, &m->s[i].slot, first, false};
	float *x = inputs(m, n);
	float *q[2];
	float *out[2];
	char what[128];

	for (int b = 0; b < 2; b++)
	{
		q[b] = fx_numbers(count, 0);
		out[b] = fx_numbers(count, 0);
		run_rows(m, b, x, &rows, q[b], out[b]);
	}
	snprintf(what, sizeof(what), "rows %d .. %d of heads of %d, pages of %d", first, first + n - 1,
			 m->shape.head_dim, m->shape.page_tokens);
	compare("rotation", q[0], q[1], count, 1);
	compare(what, out[0], out[1], count, m->scale);
	for (int b = 0; b < 2; b++)
	{
		dsocr_free(q[b]);
		dsocr_free(out[b]);
	}
	dsocr_free(x);
}

/* Keys and values of positions before the last. */
static void
fill(Memory *m, int i, int n)
{
	grow(m, i, n);
	for (int at = 0; at < n - 1; at += 512)
	{
		const DsocrRows rows = {n - 1 - at < 512 ? n - 1 - at : 512, &m->s[i].slot, at, false};
		float *x = inputs(m, rows.n);

		for (int b = 0; b < 2; b++)
			run_rows(m, b, x, &rows, NULL, NULL);
		dsocr_free(x);
	}
}

/* ---- tests ---- */

static void
check_prefill(int heads, int head_dim, int page_tokens, float scale, const int *sizes, int n)
{
	int total = 0;
	int at = 0;
	Memory *m;

	for (int i = 0; i < n; i++)
		total += sizes[i];
	m = memory_open(heads, head_dim, page_tokens, 2 * (total / page_tokens + 2), scale);
	for (int i = 0; i < n; i++)
	{
		for (int s = 0; s < 2; s++)
		{
			grow(m, s, at + sizes[i]);
			chunk(m, s, at, sizes[i]);
		}
		at += sizes[i];
	}
	memory_close(m);
}

static void
test_prefill(void **state)
{
	static const int odd[] = {1, 31, 33, 64, 5, 130};
	static const int even[] = {200, 57, 64};
	static const int large[] = {512, 100};

	check_prefill(2, 128, 32, 1, odd, 6);
	check_prefill(3, 64, 32, 4, odd, 6);
	check_prefill(1, 128, 32, 4, even, 3);
	check_prefill(1, 128, 32, 1, large, 2);
	check_prefill(2, 64, 8, 1, even, 2);
}

static void
test_prefill_any_shape(void **state)
{
	static const int sizes[] = {3, 40, 65};

	check_prefill(2, 10, 4, 1, sizes, 3);
	check_prefill(3, 7, 5, 1, sizes, 3);
	check_prefill(1, 300, 32, 1, sizes, 3);
	check_prefill(2, 80, 16, 4, sizes, 3);
	check_prefill(1, 1, 1, 1, sizes, 3);
}

/*
 * Decoder rows of which[], -1 for none, with the inputs of their sequences:
 * all of them against `alone`, when it is not NULL, bit by bit.
 */
static void
decode(Memory *m, const float *x, const int *which, int n, const float *alone, float *out)
{
	size_t dim = width(m);
	float *in = fx_numbers((size_t) n * 3 * dim, 1);
	int32_t slots[2 * MAX_SEQUENCES];
	const DsocrRows rows = {n, slots, 0, true};

	for (int r = 0; r < n; r++)
	{
		slots[r] = which[r] < 0 ? -1 : m->s[which[r]].slot;
		if (which[r] >= 0)
			memcpy(in + (size_t) r * 3 * dim, x + (size_t) which[r] * 3 * dim,
				   3 * dim * sizeof(float));
	}
	run_rows(m, 1, in, &rows, NULL, out);
	for (int r = 0; r < n; r++)
		for (size_t i = 0; i < dim; i++)
		{
			float got = out[(size_t) r * dim + i];
			float want = which[r] < 0	 ? 0
						 : alone != NULL ? alone[(size_t) which[r] * dim + i]
										 : got;

			if (memcmp(&got, &want, sizeof(got)) != 0)
				fail_msg("row %d of %d at position %d: %g, alone %g", r, n,
						 which[r] < 0 ? -1 : m->s[which[r]].n - 1, got, want);
		}
	dsocr_free(in);
}

static void
check_decode(int heads, int head_dim, int page_tokens, float scale, const int *lengths, int n)
{
	size_t dim = (size_t) heads * (size_t) head_dim;
	int pages = 0;
	int which[2 * MAX_SEQUENCES];
	int32_t slots[MAX_SEQUENCES];
	const DsocrRows rows = {n, slots, 0, true};
	float *want = fx_numbers((size_t) n * dim, 0);
	float *alone = fx_numbers((size_t) n * dim, 0);
	float *out = fx_numbers(2 * (size_t) n * dim, 0);
	int count = 0;
	Memory *m;
	float *x;
	char what[128];

	for (int i = 0; i < n; i++)
		pages += lengths[i] / page_tokens + 1;
	m = memory_open(heads, head_dim, page_tokens, pages, scale);
	for (int i = 0; i < n; i++)
	{
		fill(m, i, lengths[i]);
		slots[i] = m->s[i].slot;
	}
	x = inputs(m, n);
	run_rows(m, 0, x, &rows, NULL, want);
	for (int i = 0; i < n; i++)
		decode(m, x, &i, 1, NULL, alone + (size_t) i * dim);
	snprintf(what, sizeof(what), "decode of %d, heads of %d, pages of %d", n, head_dim,
			 page_tokens);
	compare(what, want, alone, (size_t) n * dim, scale);
	/* together, then from behind with rows that only fill up */
	for (int i = 0; i < n; i++)
		which[i] = i;
	decode(m, x, which, n, alone, out);
	for (int i = n - 1; i >= 0; i--)
	{
		which[count++] = i;
		if (i % 3 == 0)
			which[count++] = -1;
	}
	decode(m, x, which, count, alone, out);
	memory_close(m);
	dsocr_free(want);
	dsocr_free(alone);
	dsocr_free(out);
	dsocr_free(x);
}

static void
test_decode(void **state)
{
	static const int borders[] = {1,   2,	15,	 16,  17,  31,	32,	 33,  63,  64, 65,
								  127, 128, 129, 255, 256, 257, 300, 511, 512, 513};
	static const int apart[] = {2047, 2048, 2049, 1, 4097};

	check_decode(2, 128, 32, 1, borders, 21);
	check_decode(2, 64, 32, 4, borders, 21);
	check_decode(1, 128, 32, 4, apart, 5);
	check_decode(1, 64, 32, 1, apart, 5);
}

static void
test_decode_any_shape(void **state)
{
	static const int lengths[] = {1, 5, 6, 17, 64, 130, 200};

	check_decode(2, 12, 8, 1, lengths, 7);
	check_decode(3, 7, 5, 1, lengths, 7);
	check_decode(1, 256, 32, 1, lengths, 7);
	check_decode(1, 128, 16, 4, lengths, 7);
}

/* Angles at positions where fp32 has few digits left. */
static void
test_rope_far(void **state)
{
	Memory *m = memory_open(1, 128, 32, FX_PAGES, 1);

	grow(m, 0, FX_IDS);
	for (int position = FX_IDS - 1; position > 0; position -= 2047)
	{
		const DsocrRows rows = {1, &m->s[0].slot, position, false};
		float *x = inputs(m, 1);
		float q[2][128];

		for (int b = 0; b < 2; b++)
			run_rows(m, b, x, &rows, q[b], NULL);
		compare("rotation far away", q[0], q[1], 128, 1);
		dsocr_free(x);
	}
	memory_close(m);
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
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prefill), cmocka_unit_test(test_prefill_any_shape),
		cmocka_unit_test(test_decode), cmocka_unit_test(test_decode_any_shape),
		cmocka_unit_test(test_rope_far)};

	return cmocka_run_group_tests_name("bf16", tests, open_bf16, close_both) +
		   cmocka_run_group_tests_name("fp32", tests, open_fp32, close_both);
}
