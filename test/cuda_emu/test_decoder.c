/*-------------------------------------------------------------------------
 *
 * test_decoder.c
 *		A small decoder in operations of the table: prefill in chunks, then
 *		steps of several texts.
 *
 * Each seed is another model, other prompts and another order in which texts
 * take part.  What a text becomes must be the same, bit by bit, whether its
 * steps are recorded or not and whoever runs beside it; in fp32 it must be
 * what the reference writes.
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

#define TEXTS 7
#define STEPS 6
#define MAX_IDS 400
#define MAX_PAGES 64
#define LAYERS 2
#define MAX_EXPERTS 40
#define CHUNK 48

static int first_seed = 1;
static int n_seeds = 3;
static char name[100];

typedef struct Shape
{
	int heads;
	int head_dim;
	int hidden;
	int inter;
	int vocab;
	int experts;
	int top;
	int page_tokens;
} Shape;

typedef struct Layer
{
	FxVector norm;
	FxMatrix qkv;
	FxMatrix out;
	FxVector norm2;
	FxMatrix gate;
	FxMatrix gate_up[MAX_EXPERTS];
	FxMatrix down[MAX_EXPERTS];
	DsocrExperts *experts[2];
} Layer;

typedef struct Prompt
{
	int32_t ids[MAX_IDS];
	int n;
	int ngram_size;
	int ngram_window;
} Prompt;

/* What the texts of one run became. */
typedef struct Result
{
	int32_t ids[TEXTS][STEPS + 1];
	float logprobs[TEXTS][STEPS + 1];
	int n[TEXTS];
	int replayed;
} Result;

static Shape shape;
static FxMatrix table;
static FxVector last_norm;
static Layer layers[LAYERS];
static Prompt prompts[TEXTS];

/* ---- the model ---- */

static void
make_model(int seed)
{
	static const int head_dims[] = {8, 12, 16, 32, 64, 128};
	const DsocrMatrix *gate_up[MAX_EXPERTS];
	const DsocrMatrix *down[MAX_EXPERTS];
	float scale;

	shape = (Shape){.heads = fx_between(1, 3),
					.head_dim = head_dims[fx_between(0, 5)],
					.inter = fx_between(1, 2) == 1 ? fx_between(3, 60) : 8 * fx_between(1, 8),
					.vocab = fx_between(20, 300),
					.experts = seed % 3 == 1 ? MAX_EXPERTS : 5, /* more than a warp has lanes */
					.top = fx_between(1, 3),
					.page_tokens = fx_between(0, 1) == 0 ? 32 : 8};
	shape.hidden = shape.heads * shape.head_dim;
	scale = 1.0f / sqrtf((float) shape.hidden);
	table = fx_matrix(shape.vocab, shape.hidden, 1, false, 1);
	last_norm = fx_vector((size_t) shape.hidden, 0.1f, 1);
	for (int l = 0; l < LAYERS; l++)
	{
		Layer *y = &layers[l];

		y->norm = fx_vector((size_t) shape.hidden, 0.1f, 1);
		y->norm2 = fx_vector((size_t) shape.hidden, 0.1f, 1);
		y->qkv = fx_matrix(3 * shape.hidden, shape.hidden, 3, false, scale);
		y->out = fx_matrix(shape.hidden, shape.hidden, 1, false, scale);
		y->gate = fx_matrix(shape.experts, shape.hidden, 1, false, scale);
		for (int e = 0; e < shape.experts; e++)
		{
			y->gate_up[e] = fx_matrix(2 * shape.inter, shape.hidden, 2, false, scale);
			y->down[e] =
				fx_matrix(shape.hidden, shape.inter, 1, false, 1.0f / sqrtf((float) shape.inter));
		}
		for (int b = 0; b < 2; b++)
		{
			for (int e = 0; e < shape.experts; e++)
			{
				gate_up[e] = y->gate_up[e].m[b];
				down[e] = y->down[e].m[b];
			}
			y->experts[b] =
				fx_both[b]->ops->experts_open(fx_both[b], gate_up, down, shape.experts, NULL);
			assert_non_null(y->experts[b]);
		}
	}
	for (int t = 0; t < TEXTS; t++)
	{
		Prompt *p = &prompts[t];

		p->n = t == 0 ? fx_between(200, 300) : fx_between(1, 90);
		for (int i = 0; i < p->n; i++)
			p->ids[i] = (int32_t) (fx_next() % (uint64_t) shape.vocab);
		p->ngram_size = fx_between(0, 3);
		p->ngram_window = fx_between(0, 1) == 0 ? 0 : fx_between(1, 40);
	}
}

static void
free_model(void)
{
	for (int l = 0; l < LAYERS; l++)
	{
		Layer *y = &layers[l];

		for (int b = 0; b < 2; b++)
			fx_both[b]->ops->experts_close(fx_both[b], y->experts[b]);
		for (int e = 0; e < shape.experts; e++)
		{
			fx_matrix_free(&y->gate_up[e]);
			fx_matrix_free(&y->down[e]);
		}
		fx_vector_free(&y->norm);
		fx_vector_free(&y->norm2);
		fx_matrix_free(&y->qkv);
		fx_matrix_free(&y->out);
		fx_matrix_free(&y->gate);
	}
	fx_matrix_free(&table);
	fx_vector_free(&last_norm);
}

/* ---- running it ---- */

typedef struct Run
{
	DsocrBackend *be;
	int b;
	DsocrKv *kv;
	void *x;   /* [rows, hidden] */
	void *h;   /* normalised */
	void *qkv; /* [rows, 3 * hidden] */
	void *y;
	int32_t *ids; /* [rows, top] */
	float *weights;
	float *logits; /* [rows, vocab] */
} Run;

#define MAX_ROWS 64

static Run
open_run(int b)
{
	Run r = {.be = fx_both[b], .b = b};
	const DsocrKvShape kv = {.layers = LAYERS,
							 .heads = shape.heads,
							 .head_dim = shape.head_dim,
							 .page_tokens = shape.page_tokens,
							 .pages = TEXTS * MAX_PAGES};
	size_t n = MAX_ROWS * (size_t) shape.hidden;

	r.kv = r.be->ops->kv_open(r.be, &kv, NULL);
	r.x = r.be->ops->alloc(r.be, n, NULL);
	r.h = r.be->ops->alloc(r.be, n, NULL);
	r.y = r.be->ops->alloc(r.be, n, NULL);
	r.qkv = r.be->ops->alloc(r.be, 3 * n, NULL);
	r.ids = r.be->ops->raw_alloc(r.be, MAX_ROWS * (size_t) shape.top * 4, NULL);
	r.weights = r.be->ops->raw_alloc(r.be, MAX_ROWS * (size_t) shape.top * 4, NULL);
	r.logits = r.be->ops->raw_alloc(r.be, MAX_ROWS * (size_t) shape.vocab * 4, NULL);
	assert_non_null(r.kv);
	assert_non_null(r.logits);
	return r;
}

static void
close_run(Run *r)
{
	r->be->ops->free(r->be, r->x);
	r->be->ops->free(r->be, r->h);
	r->be->ops->free(r->be, r->y);
	r->be->ops->free(r->be, r->qkv);
	r->be->ops->raw_free(r->be, r->ids);
	r->be->ops->raw_free(r->be, r->weights);
	r->be->ops->raw_free(r->be, r->logits);
	r->be->ops->kv_close(r->be, r->kv);
}

static void
run_layers(Run *r, const DsocrRows *rows)
{
	const DsocrBackendOps *ops = r->be->ops;
	int unit = rows->mixed ? DSOCR_MIXED : rows->n;

	for (int l = 0; l < LAYERS; l++)
	{
		Layer *y = &layers[l];

		ops->rms_norm(r->be, r->h, r->x, rows->n, shape.hidden, y->norm.v[r->b], 1e-6f);
		ops->linear(r->be, r->qkv, r->h, rows->n, y->qkv.m[r->b], NULL, DSOCR_ACT_NONE, NULL, unit);
		ops->rope_store(r->be, r->qkv, rows, r->kv, l, 10000.0f);
		ops->causal_attention(r->be, r->y, r->qkv, rows, r->kv, l);
		ops->linear(r->be, r->x, r->y, rows->n, y->out.m[r->b], NULL, DSOCR_ACT_NONE, r->x, unit);
		ops->rms_norm(r->be, r->h, r->x, rows->n, shape.hidden, y->norm2.v[r->b], 1e-6f);
		ops->router(r->be, r->ids, r->weights, NULL, r->h, rows, y->gate.m[r->b], shape.top);
		ops->experts(r->be, r->x, r->h, rows->n, r->ids, r->weights, shape.top, y->experts[r->b],
					 r->x, unit);
	}
}

/* Logits of row `row` (or all when mixed) and the choice. */
static void
finish_rows(Run *r, const DsocrRows *rows)
{
	const DsocrBackendOps *ops = r->be->ops;
	int n = rows->mixed ? rows->n : 1;
	const void *x =
		dsocr_act(r->be, r->x, rows->mixed ? 0 : (size_t) (rows->n - 1) * (size_t) shape.hidden);

	ops->rms_norm(r->be, r->h, x, n, shape.hidden, last_norm.v[r->b], 1e-6f);
	ops->logits(r->be, r->logits, r->h, n, table.m[r->b]);
	ops->pick(r->be, r->logits, rows, shape.vocab);
}

static void
note(Result *result, int t, int32_t id, float logprob)
{
	result->ids[t][result->n[t]] = id;
	result->logprobs[t][result->n[t]++] = logprob;
}

static void
must_sync(Run *r)
{
	DsocrError err;

	if (!r->be->ops->sync(r->be, &err))
		fail_msg("%s: %s", name, err.message);
}

static void
prefill(Run *r, int t, Result *result)
{
	const DsocrBackendOps *ops = r->be->ops;
	const Prompt *p = &prompts[t];
	int32_t pages[MAX_PAGES];
	int32_t slot = t;
	int32_t id;
	float logprob;

	for (int i = 0; i < MAX_PAGES; i++) /* the pages of all texts lie mixed up */
		pages[i] = (int32_t) ((i * TEXTS + t) * 5 % (TEXTS * MAX_PAGES));
	ops->text_start(r->be, t,
					&(DsocrText){.ids = p->ids,
								 .n = p->n,
								 .prompt_len = p->n,
								 .pages = pages,
								 .n_pages = MAX_PAGES,
								 .ngram_size = p->ngram_size,
								 .ngram_window = p->ngram_window});
	for (int at = 0; at < p->n; at += CHUNK)
	{
		DsocrRows rows = {.n = p->n - at < CHUNK ? p->n - at : CHUNK, .slots = &slot, .first = at};

		assert_true(ops->run_begin(r->be, &rows, false));
		ops->embed(r->be, r->x, table.m[r->b], p->ids + at, rows.n);
		run_layers(r, &rows);
		if (at + rows.n == p->n)
			finish_rows(r, &rows);
		ops->run_end(r->be);
	}
	must_sync(r);
	ops->picked(r->be, &id, &logprob, 1);
	note(result, t, id, logprob);
}

static void
step(Run *r, const int32_t *texts, int n, bool whole, Result *result)
{
	const DsocrBackendOps *ops = r->be->ops;
	int32_t slots[MAX_ROWS];
	int32_t ids[MAX_ROWS];
	float logprobs[MAX_ROWS];
	DsocrRows rows = {.n = ops->bucket(r->be, n), .slots = slots, .mixed = true};

	for (int i = 0; i < rows.n; i++)
		slots[i] = i < n ? texts[i] : -1;
	if (ops->run_begin(r->be, &rows, whole))
	{
		ops->embed_last(r->be, r->x, table.m[r->b], &rows);
		run_layers(r, &rows);
		finish_rows(r, &rows);
	}
	else
		result->replayed++;
	ops->run_end(r->be);
	must_sync(r);
	ops->picked(r->be, ids, logprobs, rows.n);
	for (int i = 0; i < n; i++)
		note(result, texts[i], ids[i], logprobs[i]);
}

typedef enum How
{
	RECORDED,
	LAUNCHED,
	ALONE
} How;

/*
 * Texts in an order of their own: in each step those whose turn it is, from
 * the same seed in every run.
 */
static void
run_texts(int b, How how, Result *result)
{
	Run r = open_run(b);
	uint64_t seed = fx_seed;

	memset(result, 0, sizeof(*result));
	for (int t = 0; t < TEXTS; t++)
		prefill(&r, t, result);
	for (int round = 0; round < 3 * STEPS; round++)
	{
		int32_t texts[TEXTS];
		int n = 0;
		int from = fx_between(0, TEXTS - 1);

		for (int i = 0; i < TEXTS; i++)
		{
			int t = (from + i * 3) % TEXTS;

			if (result->n[t] <= STEPS && (round % 3 == 0 || fx_between(0, 2) > 0))
				texts[n++] = t;
		}
		if (how == ALONE)
			for (int i = 0; i < n; i++)
				step(&r, texts + i, 1, true, result);
		else if (n > 0)
			step(&r, texts, n, how == RECORDED, result);
	}
	close_run(&r);
	fx_seed = seed;
}

static void
same(const Result *a, const Result *b, const char *how)
{
	for (int t = 0; t < TEXTS; t++)
	{
		assert_int_equal(a->n[t], b->n[t]);
		for (int i = 0; i < a->n[t]; i++)
			if (a->ids[t][i] != b->ids[t][i] ||
				memcmp(&a->logprobs[t][i], &b->logprobs[t][i], sizeof(float)) != 0)
				fail_msg("%s: text %d at %d is %d (%.9g), %d (%.9g) %s", name, t, i,
						 (int) a->ids[t][i], (double) a->logprobs[t][i], (int) b->ids[t][i],
						 (double) b->logprobs[t][i], how);
	}
}

static void
check_seed(int seed)
{
	static Result reference, recorded, launched, alone;

	fx_seed = (uint64_t) seed * 7919u;
	make_model(seed);
	snprintf(name, sizeof(name), "seed %d %s heads %d of %d inter %d vocab %d top %d of %d page %d",
			 seed, fx_precision == DSOCR_PRECISION_FP32 ? "fp32" : "bf16", shape.heads,
			 shape.head_dim, shape.inter, shape.vocab, shape.top, shape.experts, shape.page_tokens);
	run_texts(1, RECORDED, &recorded);
	run_texts(1, LAUNCHED, &launched);
	run_texts(1, ALONE, &alone);
	if (recorded.replayed == 0)
		fail_msg("%s: no step was replayed", name);
	assert_int_equal(launched.replayed, 0);
	same(&recorded, &launched, "when launched");
	same(&recorded, &alone, "alone");
	if (fx_precision == DSOCR_PRECISION_FP32)
	{
		run_texts(0, LAUNCHED, &reference);
		for (int t = 0; t < TEXTS; t++)
			for (int i = 0; i < reference.n[t]; i++)
				if (reference.ids[t][i] != recorded.ids[t][i] ||
					fabsf(reference.logprobs[t][i] - recorded.logprobs[t][i]) > 1e-3f)
					fail_msg("%s: text %d at %d is %d (%g), should be %d (%g)", name, t, i,
							 (int) recorded.ids[t][i], (double) recorded.logprobs[t][i],
							 (int) reference.ids[t][i], (double) reference.logprobs[t][i]);
	}
	free_model();
}

static void
run_seeds(DsocrPrecision precision)
{
	for (int seed = first_seed; seed < first_seed + n_seeds; seed++)
	{
		/* with few multiprocessors a block does the work of several */
		setenv("DSOCR_EMU_SMS", seed % 2 == 1 ? "2" : "132", 1);
		assert_true(fx_open("cuda", precision, 1)); /* one model a backend */
		check_seed(seed);
		fx_close();
	}
}

static void
test_bf16(void **state)
{
	run_seeds(DSOCR_PRECISION_BF16);
}

static void
test_fp32(void **state)
{
	run_seeds(DSOCR_PRECISION_FP32);
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
		n_seeds = ((int) strtol(count, NULL, 10) + 19) / 20;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
