/*-------------------------------------------------------------------------
 *
 * test_quant_loss.c
 *		What quantized weights change in the logits of whole models.
 *
 * A model and the same in 8 and 4 bits read the same prompts and write, step
 * by step, as long as they agree; their logits are compared each time.  With
 * arguments MODEL QUANTIZED it measures these two and checks nothing.
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

#include "sequence.h"

#define PROMPTS 24
#define STEPS 12
#define LONGEST 96 /* prompt */

typedef struct Side
{
	DsocrBackend *be;
	DsocrModel *m;
	DsocrKvCache *kv;
	DsocrSequence s;
	int32_t id; /* its choice */
} Side;

typedef struct Loss
{
	int compared;					/* rows of logits */
	int agreed;						/* with the same largest one */
	int whole;						/* prompts after which both wrote the same to the end */
	double errors[PROMPTS * STEPS]; /* rms of the difference, relative to that of the logits */
	double margin;					/* largest between first and second where they disagreed, */
									/* relative to the rms */
} Loss;

static void
side_open(Side *side, const char *model, DsocrPrecision precision, DsocrDtype weights)
{
	DsocrBackendOptions options = {.device = "cpu", .precision = precision, .weights = weights};
	DsocrError err = {0};

	memset(side, 0, sizeof(*side));
	side->be = dsocr_cpu_open(&options, &err);
	side->m = side->be != NULL ? dsocr_model_open(side->be, model, NULL, 1, &err) : NULL;
	side->kv = side->m != NULL ? dsocr_kv_cache_open(side->be, &side->m->config,
													 dsocr_kv_pages(LONGEST + STEPS + 1), 1, &err)
							   : NULL;
	if (side->kv == NULL)
		fail_msg("%s: %s", model, err.message);
}

static void
side_close(Side *side)
{
	dsocr_kv_cache_close(side->kv);
	dsocr_model_close(side->m);
	side->be->ops->close(side->be);
}

/* Read a prompt; the choice behind it is left in id. */
static void
side_prompt(Side *side, const int32_t *ids, int n)
{
	const DsocrPlan no_image = {.views = 0};
	DsocrWatch watch = {.tap = NULL};
	DsocrError err = {0};
	float logprob;
	bool ok;

	memset(&side->s, 0, sizeof(side->s));
	ok = dsocr_sequence_start(&side->s, side->m, ids, n, n + STEPS, -1, &no_image, &err) &&
		 dsocr_sequence_reserve(&side->s, side->m, side->kv) &&
		 dsocr_sequence_embed(&side->s, side->m, &err);
	while (ok && side->s.filled < side->s.prompt_len)
		ok = dsocr_sequence_prefill(&side->s, side->m, &watch, &err);
	if (!ok)
		fail_msg("%s", err.message);
	side->be->ops->picked(side->be, &side->id, &logprob, 1);
}

static void
side_step(Side *side)
{
	DsocrSequence *list = &side->s;
	DsocrWatch watch = {.tap = NULL};
	DsocrError err = {0};
	float logprob;

	dsocr_sequence_push(&side->s, side->id);
	if (!dsocr_sequences_decode(&list, 1, side->m, &watch, &side->id, &logprob, &err))
		fail_msg("%s", err.message);
}

static void
compare(Loss *loss, Side *a, Side *b)
{
	size_t vocab = (size_t) a->m->config.vocab;
	float *x = dsocr_alloc(vocab, sizeof(float), NULL);
	float *y = dsocr_alloc(vocab, sizeof(float), NULL);
	double error = 0;
	double square = 0;
	double second = -INFINITY;

	assert_true(x != NULL && y != NULL);
	dsocr_decoder_logits(a->m->decoder, 0, x);
	dsocr_decoder_logits(b->m->decoder, 0, y);
	for (size_t i = 0; i < vocab; i++)
	{
		error += ((double) x[i] - y[i]) * ((double) x[i] - y[i]);
		square += (double) x[i] * x[i];
		if ((int32_t) i != a->id && x[i] > second)
			second = x[i];
	}
	loss->errors[loss->compared++] = sqrt(error / square);
	loss->agreed += a->id == b->id;
	if (a->id != b->id)
		loss->margin = fmax(loss->margin, (x[a->id] - second) / sqrt(square / (double) vocab));
	dsocr_free(x);
	dsocr_free(y);
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return (x > y) - (x < y);
}

static Loss
measure(Side *a, Side *b, const char *what)
{
	Loss loss = {.compared = 0};
	uint64_t seed = 12345;

	for (int p = 0; p < PROMPTS; p++)
	{
		int32_t ids[LONGEST];
		int n = 8 + p * (LONGEST - 8) / PROMPTS;
		int step = 0;

		for (int i = 0; i < n; i++)
		{
			seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
			ids[i] = (int32_t) ((seed >> 33) % (uint64_t) a->m->config.vocab);
		}
		side_prompt(a, ids, n);
		side_prompt(b, ids, n);
		compare(&loss, a, b);
		while (a->id == b->id && ++step < STEPS)
		{
			side_step(a);
			side_step(b);
			compare(&loss, a, b);
		}
		loss.whole += step == STEPS;
		dsocr_sequence_end(&a->s, a->m);
		dsocr_sequence_end(&b->s, b->m);
	}
	qsort(loss.errors, (size_t) loss.compared, sizeof(double), by_value);
	printf("%s: logits differ by %.4f of their rms (median; 90 %% below %.4f, largest %.4f); the "
		   "largest is the same in %d of %d, margin elsewhere at most %.3f rms; %d of %d texts of "
		   "%d tokens agree\n",
		   what, loss.errors[loss.compared / 2], loss.errors[loss.compared * 9 / 10],
		   loss.errors[loss.compared - 1], loss.agreed, loss.compared, loss.margin, loss.whole,
		   PROMPTS, STEPS);
	return loss;
}

/*
 * In place of the original: median error, and the share of equal choices.
 * The weights of the tiny models are random, which makes them far more
 * sensitive than a trained one.
 */
static void
check_model(const char *model, DsocrDtype weights, double error, double agreed)
{
	char what[128];
	Side a;
	Side b;
	Loss loss;

	side_open(&a, model, DSOCR_PRECISION_BF16, DSOCR_BF16);
	side_open(&b, model, DSOCR_PRECISION_BF16, weights);
	snprintf(what, sizeof(what), "%s in %s", model, dsocr_quant_name(weights));
	loss = measure(&a, &b, what);
	assert_true(loss.errors[0] > 0); /* they are not the same computation */
	assert_true(loss.errors[loss.compared / 2] < error);
	assert_true(loss.agreed >= agreed * loss.compared);
	side_close(&a);
	side_close(&b);
}

static void
test_int8(void **state)
{
	check_model("build/golden/tiny-a", DSOCR_INT8, 0.04, 0.9);
	check_model("build/golden/tiny-b", DSOCR_INT8, 0.04, 0.9);
	check_model("models/nano", DSOCR_INT8, 0.04, 0.9);
}

static void
test_int4(void **state)
{
	check_model("build/golden/tiny-a", DSOCR_INT4, 0.45, 0.55);
	check_model("build/golden/tiny-b", DSOCR_INT4, 0.45, 0.55);
	check_model("models/nano", DSOCR_INT4, 0.45, 0.55);
}

int
main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {cmocka_unit_test(test_int8),
											  cmocka_unit_test(test_int4)};

	if (argc == 3)
	{
		Side a;
		Side b;

		side_open(&a, argv[1], DSOCR_PRECISION_BF16, DSOCR_BF16);
		side_open(&b, argv[2], DSOCR_PRECISION_BF16, DSOCR_BF16);
		measure(&a, &b, argv[2]);
		side_close(&a);
		side_close(&b);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
