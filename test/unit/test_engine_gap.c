/*-------------------------------------------------------------------------
 *
 * test_engine_gap.c
 *		How long a text waits for its next token while other pages are read.
 *
 * Counted in attention layers of encoder and prefill between two steps of
 * decoding, not in time: the device's operations are wrapped.
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

#include "../reference/engine_driver.h"
#include "engine_step.h"

#define EVERY_LAYER 1		  /* microseconds: a layer takes longer */
#define NEVER (INT64_MAX / 2) /* not before the end of a view or chunk */
#define OTHERS 4			  /* pages that are read meanwhile */

static DsocrEngine *engine;
static const DsocrBackendOps *plain;
static int layers;	/* since the last step, while somebody writes */
static int longest; /* most of them in front of a step */

static bool out_of_memory; /* what runs next has void results, as sync will tell */
static int until_then;	   /* layers; 0: never */

/* ---- operations that count, and fail ---- */

static void
count_layer(void)
{
	if (until_then > 0 && --until_then == 0)
		out_of_memory = true;
	for (const DsocrJob *job = engine->scheduler.admitted.first; job != NULL; job = job->next)
		if (job->state == DSOCR_JOB_DECODING)
		{
			layers++;
			return;
		}
	layers = 0;
}

static void
grid_attention(DsocrBackend *be, void *out, const void *qkv, int views, int side, int heads,
			   int head_dim, int window, const DsocrVector *rel_h, const DsocrVector *rel_w,
			   const DsocrVector *qkv_bias)
{
	count_layer();
	plain->grid_attention(be, out, qkv, views, side, heads, head_dim, window, rel_h, rel_w,
						  qkv_bias);
}

static void
attention(DsocrBackend *be, void *out, const void *qkv, int views, int n, int heads, int head_dim)
{
	count_layer();
	plain->attention(be, out, qkv, views, n, heads, head_dim);
}

static void
causal_attention(DsocrBackend *be, void *out, const void *qkv, const DsocrRows *rows, DsocrKv *kv,
				 int layer)
{
	if (!rows->mixed)
		count_layer();
	plain->causal_attention(be, out, qkv, rows, kv, layer);
}

static void
pick(DsocrBackend *be, const float *logits, const DsocrRows *rows, int vocab)
{
	if (rows->mixed)
	{
		longest = layers > longest ? layers : longest;
		layers = 0;
	}
	plain->pick(be, logits, rows, vocab);
}

static bool
synchronise(DsocrBackend *be, DsocrError *err)
{
	if (out_of_memory)
	{
		out_of_memory = false;
		return dsocr_fail(err, DSOCR_E_MEMORY, "out of memory in a layer");
	}
	return plain->sync(be, err);
}

/* ---- tests ---- */

/* Page 0 until it writes. */
static void
begin_writing(EdDriver *d, DsocrPriority priority)
{
	const DsocrEvents events = ed_events(d);
	DsocrRequest r = ed_request(0, 0);
	DsocrError err = {0};
	DsocrJob *job;

	r.priority = priority;
	ed_admit(d, &r);
	while ((job = dsocr_scheduler_find(&engine->scheduler, 0)) != NULL &&
		   job->state < DSOCR_JOB_DECODING)
		assert_true(dsocr_engine_step(engine, &events, &err));
	assert_non_null(job);
	assert_int_equal(job->state, DSOCR_JOB_DECODING);
}

/* Pages while page 0 writes: the most layers it waits, all texts as alone. */
static int
read_beside(int64_t gap_us, DsocrPriority writing, const EdDriver *alone)
{
	EdDriver d = {.engine = engine};

	engine->gap_us = gap_us;
	begin_writing(&d, writing);
	layers = longest = 0;
	for (int i = 1; i <= OTHERS; i++)
	{
		DsocrRequest r = ed_request((uint64_t) i, i);

		r.priority = writing;
		ed_admit(&d, &r);
	}
	ed_run(&d);
	for (int i = 0; i <= OTHERS; i++)
		ed_same(&alone->outcomes[i], &d.outcomes[i]);
	ed_nothing_left(engine);
	ed_free(&d);
	return longest;
}

static void
test_one_layer_at_most(void **state)
{
	const DsocrConfig *c = &engine->model->config;
	EdDriver alone;

	ed_read_alone(engine, &alone);
	/* a view at a time, and then a token: what the rule is there for */
	assert_in_range(read_beside(NEVER, DSOCR_INTERACTIVE, &alone), c->sam_layers + c->clip_layers,
					INT32_MAX);
	assert_int_equal(read_beside(EVERY_LAYER, DSOCR_INTERACTIVE, &alone), 1);
	ed_free(&alone);
}

/* Bulk texts have time: pages go first, so that more of them are written together. */
static void
test_bulk_waits(void **state)
{
	const DsocrConfig *c = &engine->model->config;
	EdDriver alone;

	ed_read_alone(engine, &alone);
	assert_in_range(read_beside(EVERY_LAYER, DSOCR_BULK, &alone), c->sam_layers + c->clip_layers,
					INT32_MAX);
	ed_free(&alone);
}

/* Uneven batches with cancels at any poll, a step between all layers. */
static void
test_neighbours_change_nothing(void **state)
{
	EdDriver alone;

	ed_read_alone(engine, &alone);
	engine->gap_us = EVERY_LAYER;
	for (unsigned v = 30; v < 48; v++)
		ed_read_together(engine, &alone, v);
	ed_free(&alone);
}

/* A step in the middle of a view whose memory was short: the view fails, not the text. */
static void
test_trouble_stays_with_its_page(void **state)
{
	const DsocrConfig *c = &engine->model->config;
	EdDriver alone;

	ed_read_alone(engine, &alone);
	engine->gap_us = EVERY_LAYER;
	for (int layer = 1; layer <= c->sam_layers + c->clip_layers + c->layers; layer++)
	{
		EdDriver d = {.engine = engine};
		DsocrRequest r = ed_request(1, 1);

		begin_writing(&d, DSOCR_INTERACTIVE);
		until_then = layer;
		ed_admit(&d, &r);
		ed_run(&d);
		assert_int_equal(until_then, 0);
		ed_same(&alone.outcomes[0], &d.outcomes[0]);
		assert_int_equal(d.outcomes[1].error.code, DSOCR_E_MEMORY);
		ed_nothing_left(engine);
		ed_free(&d);
	}
	ed_free(&alone);
}

static int
setup(void **state)
{
	static DsocrBackendOps counting;

	ed_setup();
	engine = ed_open(ED_TOGETHER, 0, DSOCR_PRECISION_BF16, 0);
	/* one piece of work a step, as on a slow device */
	engine->work_us = 0;
	plain = engine->be->ops;
	counting = *plain;
	counting.grid_attention = grid_attention;
	counting.attention = attention;
	counting.causal_attention = causal_attention;
	counting.pick = pick;
	counting.sync = synchronise;
	engine->be->ops = &counting;
	return 0;
}

static int
teardown(void **state)
{
	dsocr_engine_close(engine);
	ed_teardown();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_layer_at_most),
									   cmocka_unit_test(test_bulk_waits),
									   cmocka_unit_test(test_neighbours_change_nothing),
									   cmocka_unit_test(test_trouble_stays_with_its_page)};

	return cmocka_run_group_tests(tests, setup, teardown);
}
