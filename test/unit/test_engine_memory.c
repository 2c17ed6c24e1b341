/*-------------------------------------------------------------------------
 *
 * test_engine_memory.c
 *		Steps of the engine on a device whose memory is short.
 *
 * The device is the CPU with a table of its own: sync says that memory was
 * short when a step of the decoder has more rows than it is let, after the
 * step has been computed and has changed the texts.
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

#include "engine_step.h"

#define PAGES 5
#define TOKENS 12

typedef struct Outcome
{
	bool done;
	DsocrCode code;
	char *raw;
	double logprob;
} Outcome;

static const DsocrBackendOps *plain;
static DsocrBackendOps shortened;
static int most_rows;	  /* of a step that does not run short */
static int fail_step;	  /* the step that runs short whatever it has, 0: none */
static int fail_slot;	  /* texts in it never get memory; -1: none */
static int rows_of_step;  /* mixed rows with a slot, 0: another run */
static bool slot_of_step; /* fail_slot is among them */
static int refused;

static bool
begin(DsocrBackend *be, const DsocrRows *rows, bool whole_step)
{
	rows_of_step = 0;
	slot_of_step = false;
	for (int i = 0; rows->mixed && i < rows->n; i++)
	{
		rows_of_step += rows->slots[i] >= 0;
		slot_of_step |= rows->slots[i] >= 0 && rows->slots[i] == fail_slot;
	}
	return plain->run_begin(be, rows, whole_step);
}

static bool
sync_short(DsocrBackend *be, DsocrError *err)
{
	bool ok = plain->sync(be, err);
	int rows = rows_of_step;
	bool once = true;

	rows_of_step = 0;
	if (!ok || rows == 0)
		return ok;
	if (fail_step > 0)
		fail_step--;
	else
		once = false;
	if (rows <= most_rows && !slot_of_step && !(once && fail_step == 0))
		return ok;
	refused++;
	return dsocr_fail(err, DSOCR_E_MEMORY, "short of memory");
}

static void
on_done(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error)
{
	Outcome *o = (Outcome *) arg + id;

	assert_false(o->done);
	o->done = true;
	o->code = error->code;
	if (result != NULL)
	{
		o->raw = strdup(result->raw);
		o->logprob = result->mean_logprob;
	}
}

static DsocrEngine *
open_engine(void)
{
	DsocrEngineOptions o = {
		.model = getenv("DSOCR_TEST_MODEL") != NULL ? getenv("DSOCR_TEST_MODEL") : "models/nano",
		.backend = {.device = "cpu", .precision = DSOCR_PRECISION_BF16, .threads = 2},
		.max_sequences = PAGES,
		/* who is written together must not depend on how fast the machine is */
		.gap_us = INT64_MAX};
	DsocrError err = {0};
	DsocrEngine *e = dsocr_engine_open(&o, &err);

	if (e == NULL)
		fail_msg("%s", err.message);
	plain = e->be->ops;
	shortened = *plain;
	shortened.run_begin = begin;
	shortened.sync = sync_short;
	e->be->ops = &shortened;
	most_rows = PAGES;
	fail_step = 0;
	fail_slot = -1;
	refused = 0;
	return e;
}

static void
close_engine(DsocrEngine *e)
{
	e->be->ops = plain;
	dsocr_engine_close(e);
}

/* Read one image several times together. */
static void
read_pages(DsocrEngine *e, Outcome *outcomes)
{
	const DsocrEvents events = {.done = on_done, .arg = outcomes};
	DsocrBuffer image = {0};
	DsocrError err = {0};

	memset(outcomes, 0, PAGES * sizeof(*outcomes));
	if (!dsocr_read_file("test/samples/letter.png", (size_t) 1 << 24, &image, &err))
		fail_msg("%s", err.message);
	for (uint64_t i = 0; i < PAGES; i++)
	{
		DsocrRequest r = {.id = i,
						  .mode = DSOCR_MODE_TINY,
						  .max_tokens = TOKENS + (int32_t) i,
						  .image = (const uint8_t *) image.data,
						  .image_len = image.len};

		assert_true(dsocr_engine_admit(e, &r, &err));
	}
	while (dsocr_engine_step(e, &events, &err))
		;
	assert_int_equal(err.code, DSOCR_OK);
	dsocr_buffer_free(&image);
}

static void
free_outcomes(Outcome *outcomes)
{
	for (int i = 0; i < PAGES; i++)
		free(outcomes[i].raw);
}

static void
assert_same(const Outcome *want, const Outcome *got, int but)
{
	for (int i = 0; i < PAGES; i++)
	{
		assert_true(got[i].done);
		if (i == but)
			continue;
		assert_int_equal(got[i].code, DSOCR_OK);
		assert_string_equal(got[i].raw, want[i].raw);
		assert_memory_equal(&got[i].logprob, &want[i].logprob, sizeof(double));
	}
}

/* Steps that do not fit are done in parts, and give the same. */
static void
test_batch_shrinks(void **state)
{
	DsocrEngine *e = open_engine();
	Outcome want[PAGES];
	Outcome got[PAGES];

	read_pages(e, want);
	assert_int_equal(refused, 0);
	for (most_rows = 1; most_rows < PAGES; most_rows++)
	{
		read_pages(e, got);
		assert_true(refused > 0);
		refused = 0;
		assert_same(want, got, -1);
		free_outcomes(got);
	}
	free_outcomes(want);
	close_engine(e);
}

/* A failure that does not come back costs nothing, also for one row alone. */
static void
test_once(void **state)
{
	DsocrEngine *e = open_engine();
	Outcome want[PAGES];
	Outcome got[PAGES];

	read_pages(e, want);
	for (int step = 1; step < TOKENS; step += 2)
	{
		fail_step = step;
		read_pages(e, got);
		assert_int_equal(refused, 1);
		refused = 0;
		assert_same(want, got, -1);
		free_outcomes(got);
	}
	free_outcomes(want);
	close_engine(e);
}

/* Who cannot fit alone fails alone. */
static void
test_one_fails(void **state)
{
	DsocrEngine *e = open_engine();
	Outcome want[PAGES];
	Outcome got[PAGES];
	int failed = -1;

	read_pages(e, want);
	fail_slot = 2;
	read_pages(e, got);
	for (int i = 0; i < PAGES; i++)
	{
		if (got[i].code == DSOCR_OK)
			continue;
		assert_int_equal(failed, -1);
		assert_int_equal(got[i].code, DSOCR_E_MEMORY);
		failed = i;
	}
	assert_int_not_equal(failed, -1);
	assert_same(want, got, failed);
	free_outcomes(want);
	free_outcomes(got);
	close_engine(e);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batch_shrinks),
		cmocka_unit_test(test_once),
		cmocka_unit_test(test_one_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
