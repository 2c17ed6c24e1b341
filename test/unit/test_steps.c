/*-------------------------------------------------------------------------
 *
 * test_steps.c
 *		What a device may rely on when it records the decoder's steps.
 *
 * The CPU backend with some operations replaced: one that wants steps filled
 * up to a few sizes, counts what must not happen inside of a step, or says
 * that it has replayed it.
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

#include "sequence.h"

#define SEQUENCES 6
#define STEPS 8
#define SIDE 128

static const DsocrBackendOps *real;
static DsocrBackendOps ops;
static DsocrBackend *be;
static DsocrModel *model;
static DsocrKvCache *kv;

static bool in_step; /* a whole step */
static bool replay;	 /* claim to have done it */
static int forbidden;
static int operations; /* of a step */
static int allocations;

/* ---- replaced operations ---- */

static int
bucket(const DsocrBackend *b, int n)
{
	return (n + 3) / 4 * 4;
}

static bool
run_begin(DsocrBackend *b, const DsocrRows *rows, bool whole_step)
{
	assert_false(in_step);
	in_step = whole_step;
	if (whole_step)
		assert_int_equal(rows->n % 4, 0);
	return real->run_begin(b, rows, whole_step) && !(whole_step && replay);
}

static void
run_end(DsocrBackend *b)
{
	in_step = false;
	real->run_end(b);
}

static void *
alloc(DsocrBackend *b, size_t n, DsocrError *err)
{
	forbidden += in_step;
	allocations++;
	return real->alloc(b, n, err);
}

static void *
raw_alloc(DsocrBackend *b, size_t bytes, DsocrError *err)
{
	forbidden += in_step;
	allocations++;
	return real->raw_alloc(b, bytes, err);
}

static void
free_act(DsocrBackend *b, void *act)
{
	forbidden += in_step;
	real->free(b, act);
}

static void
write_act(DsocrBackend *b, void *act, const float *host, size_t n)
{
	forbidden += in_step;
	real->write(b, act, host, n);
}

static void
read_act(DsocrBackend *b, float *host, const void *act, size_t n)
{
	forbidden += in_step;
	real->read(b, host, act, n);
}

static void
raw_read(DsocrBackend *b, void *host, const void *p, size_t bytes)
{
	forbidden += in_step;
	real->raw_read(b, host, p, bytes);
}

static void
embed(DsocrBackend *b, void *out, const DsocrMatrix *table, const int32_t *ids, int n)
{
	forbidden += in_step;
	real->embed(b, out, table, ids, n);
}

static void
text_start(DsocrBackend *b, int slot, const DsocrText *text)
{
	forbidden += in_step;
	real->text_start(b, slot, text);
}

static bool
sync_all(DsocrBackend *b, DsocrError *err)
{
	forbidden += in_step;
	return real->sync(b, err);
}

static void
embed_last(DsocrBackend *b, void *out, const DsocrMatrix *table, const DsocrRows *rows)
{
	operations++;
	real->embed_last(b, out, table, rows);
}

static void
linear(DsocrBackend *b, void *y, const void *x, int rows, const DsocrMatrix *w,
	   const DsocrVector *bias, DsocrActivation act, const void *residual, int unit)
{
	operations++;
	real->linear(b, y, x, rows, w, bias, act, residual, unit);
}

static void
pick(DsocrBackend *b, const float *logits, const DsocrRows *rows, int vocab)
{
	operations++;
	real->pick(b, logits, rows, vocab);
}

/* ---- sequences ---- */

/* A prompt of words that depend on seed. */
static void
start(DsocrSequence *s, unsigned seed)
{
	const DsocrPlan no_image = {.views = 0};
	DsocrWatch watch = {.tap = NULL};
	DsocrError err = {0};
	int32_t ids[64];
	int n = 9 + (int) seed * 7;
	float logprob;
	int32_t id;

	for (int i = 0; i < n; i++)
		ids[i] = (int32_t) ((seed * 7919 + (unsigned) i * 104729) % (unsigned) model->config.vocab);
	assert_true(dsocr_sequence_start(s, model, ids, n, n + STEPS + 1, -1, &no_image, &err));
	s->ngram_size = 2;
	assert_true(dsocr_sequence_reserve(s, model, kv));
	assert_true(dsocr_sequence_embed(s, model, &err));
	assert_true(dsocr_sequence_prefill(s, model, &watch, &err));
	real->picked(be, &id, &logprob, 1);
	dsocr_sequence_push(s, id);
}

/* Decode together; the ids and log-probabilities of each. */
static void
decode(DsocrSequence *const *list, int n, int steps, int32_t (*ids)[STEPS],
	   float (*logprobs)[STEPS])
{
	DsocrWatch watch = {.tap = NULL};
	DsocrError err = {0};

	for (int step = 0; step < steps; step++)
	{
		int32_t id[SEQUENCES];
		float logprob[SEQUENCES];

		assert_true(dsocr_sequences_decode(list, n, model, &watch, id, logprob, &err));
		for (int i = 0; i < n; i++)
		{
			ids[i][step] = id[i];
			logprobs[i][step] = logprob[i];
			dsocr_sequence_push(list[i], id[i]);
		}
	}
}

/* ---- tests ---- */

/* Rows that only fill a step up change nothing, and steps do nothing that cannot be recorded. */
static void
test_filled_steps(void **state)
{
	static int32_t alone[SEQUENCES][STEPS];
	static int32_t together[SEQUENCES][STEPS];
	static float logprobs[2][SEQUENCES][STEPS];
	DsocrSequence s[SEQUENCES] = {{0}};
	DsocrSequence *list[SEQUENCES];

	for (int i = 0; i < SEQUENCES; i++)
	{
		list[i] = &s[i];
		start(&s[i], (unsigned) i);
		decode(&list[i], 1, STEPS, &alone[i], &logprobs[0][i]);
		dsocr_sequence_end(&s[i], model);
	}
	assert_memory_not_equal(alone[0], alone[1], sizeof(alone[0]));
	for (int n = SEQUENCES; n > 1; n--)
	{
		for (int i = 0; i < n; i++)
			start(&s[i], (unsigned) i);
		allocations = 0;
		decode(list, n, STEPS, together, logprobs[1]);
		assert_int_equal(allocations, 0);
		for (int i = 0; i < n; i++)
		{
			assert_memory_equal(together[i], alone[i], sizeof(alone[i]));
			assert_memory_equal(logprobs[1][i], logprobs[0][i], sizeof(logprobs[0][i]));
			dsocr_sequence_end(&s[i], model);
		}
	}
	assert_int_equal(forbidden, 0);
}

/* A step that the device has replayed is not launched as well. */
static void
test_replayed_step(void **state)
{
	DsocrSequence s = {0};
	DsocrSequence *list = &s;
	int32_t ids[1][STEPS];
	float logprobs[1][STEPS];

	start(&s, 3);
	operations = 0;
	decode(&list, 1, 1, ids, logprobs);
	assert_true(operations > 2 * model->config.layers);
	operations = 0;
	replay = true;
	decode(&list, 1, 1, ids, logprobs);
	replay = false;
	assert_int_equal(operations, 0);
	dsocr_sequence_end(&s, model);
	assert_int_equal(forbidden, 0);
}

/* A poll that says stop cannot leave half a step in a recording. */
static bool
never_go_on(void *arg)
{
	++*(int *) arg;
	return false;
}

static void
test_step_is_whole(void **state)
{
	DsocrSequence s = {0};
	DsocrSequence *list = &s;
	int polls = 0;
	DsocrPoll poll = {never_go_on, &polls};
	DsocrWatch watch = {.poll = &poll};
	DsocrError err = {0};
	int32_t id;
	float logprob;

	start(&s, 4);
	assert_true(dsocr_sequences_decode(&list, 1, model, &watch, &id, &logprob, &err));
	assert_int_equal(polls, model->config.layers);
	dsocr_sequence_end(&s, model);
}

/* With memory reserved, requests allocate nothing on the device. */
static void
test_reserved(void **state)
{
	/* an image of one view: (side + 1) * side tokens and a separator */
	int side = (SIDE / model->config.patch + 3) / 4;
	const DsocrPlan plan = {.columns = 1,
							.rows = 1,
							.global_size = SIDE,
							.views = 1,
							.image_tokens = side * (side + 1) + 1};
	uint8_t *rgb = calloc(SIDE * SIDE, 3);
	int32_t *ids = calloc((size_t) plan.image_tokens, sizeof(*ids));
	DsocrWatch watch = {.tap = NULL};
	DsocrSequence s[3] = {{0}};
	DsocrSequenceView views[2];
	DsocrError err = {0};

	assert_non_null(rgb);
	assert_non_null(ids);
	assert_true(dsocr_model_embeds_left(model));
	assert_true(dsocr_model_reserve_embeds(model, 2, &err));
	assert_true(dsocr_sequence_room(2, SIDE, model, &err));
	allocations = 0;
	for (int i = 0; i < 3; i++)
	{
		assert_true(dsocr_sequence_start(&s[i], model, ids, plan.image_tokens,
										 plan.image_tokens + 2, 0, &plan, &err));
		assert_true(dsocr_sequence_reserve(&s[i], model, kv));
		assert_int_equal(dsocr_model_embeds_left(model), i < 2);
		assert_int_equal(dsocr_sequence_embed(&s[i], model, &err), i < 2);
		if (i < 2)
			views[i] = (DsocrSequenceView){&s[i], 0, rgb};
	}
	assert_int_equal(err.code, DSOCR_E_MEMORY);
	assert_true(dsocr_sequence_views(views, 2, SIDE, model, &watch, &err));
	assert_true(dsocr_sequence_prefill(&s[0], model, &watch, &err));
	/* what one has given back is another's */
	assert_true(dsocr_model_embeds_left(model));
	assert_true(dsocr_sequence_embed(&s[2], model, &err));
	assert_int_equal(allocations, 0);
	for (int i = 0; i < 3; i++)
		dsocr_sequence_end(&s[i], model);
	free(rgb);
	free(ids);
}

static int
setup(void **state)
{
	const char *dir = getenv("DSOCR_TEST_MODEL");
	DsocrBackendOptions options = {.threads = 2};

	be = dsocr_cpu_open(&options, NULL);
	if (be == NULL)
		return 1;
	real = be->ops;
	ops = *real;
	ops.bucket = bucket;
	ops.run_begin = run_begin;
	ops.run_end = run_end;
	ops.alloc = alloc;
	ops.raw_alloc = raw_alloc;
	ops.free = free_act;
	ops.write = write_act;
	ops.read = read_act;
	ops.raw_read = raw_read;
	ops.embed = embed;
	ops.text_start = text_start;
	ops.sync = sync_all;
	ops.embed_last = embed_last;
	ops.linear = linear;
	ops.pick = pick;
	be->ops = &ops;
	model = dsocr_model_open(be, dir != NULL ? dir : "models/nano", NULL, SEQUENCES, NULL);
	if (model == NULL)
		return 1;
	kv = dsocr_kv_cache_open(be, &model->config, 64, SEQUENCES, NULL);
	return kv == NULL;
}

static int
teardown(void **state)
{
	dsocr_kv_cache_close(kv);
	dsocr_model_close(model);
	be->ops->close(be);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filled_steps),
		cmocka_unit_test(test_replayed_step),
		cmocka_unit_test(test_step_is_whole),
		cmocka_unit_test(test_reserved),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
