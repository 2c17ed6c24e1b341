/*-------------------------------------------------------------------------
 *
 * test_engine.c
 *		Requests through the whole engine, with the embedded model.
 *
 * What matters is that a page's tokens and log-probabilities are the same to
 * the last bit whatever else is read with it, and that nothing stays behind.
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

#define VARIATIONS 24

static DsocrEngine *engine;

static DsocrEngine *
open_engine(int sequences, size_t kv_bytes, DsocrPrecision precision)
{
	return ed_open(sequences, kv_bytes, precision, 0);
}

static void
test_neighbours_change_nothing(void **state)
{
	EdDriver alone;

	ed_read_alone(engine, &alone);
	for (unsigned v = 0; v < VARIATIONS; v++)
		ed_read_together(engine, &alone, v);
	ed_free(&alone);
}

static void
test_neighbours_change_nothing_in_fp32(void **state)
{
	DsocrEngine *e = open_engine(ED_TOGETHER, 0, DSOCR_PRECISION_FP32);
	EdDriver alone;

	ed_read_alone(e, &alone);
	for (unsigned v = 7; v < 11; v++)
		ed_read_together(e, &alone, v);
	ed_free(&alone);
	dsocr_engine_close(e);
}

/* Few places and pages: requests queue up, the texts stay. */
static void
test_small_engine(void **state)
{
	DsocrEngine *e = open_engine(3, (size_t) 1 << 20, DSOCR_PRECISION_BF16);
	EdDriver alone;

	ed_read_alone(engine, &alone);
	for (unsigned v = 11; v < 15; v++)
		ed_read_together(e, &alone, v);
	ed_free(&alone);
	dsocr_engine_close(e);
}

/* A cancel takes effect in every state, at once, and once. */
static void
test_cancel(void **state)
{
	EdDriver d = {.engine = engine};
	const DsocrEvents events = ed_events(&d);
	DsocrError err = {0};

	for (int steps = 0; steps < 12; steps++)
	{
		DsocrRequest r = ed_request((uint64_t) steps, 0);
		int polls;

		ed_admit(&d, &r);
		for (int i = 0; i < steps; i++)
			assert_true(dsocr_engine_step(engine, &events, &err));
		dsocr_engine_cancel(engine, r.id);
		dsocr_engine_cancel(engine, r.id);
		polls = d.polls;
		assert_false(dsocr_engine_step(engine, &events, &err));
		assert_int_equal(d.polls, polls); /* no layer was run for it */
		assert_int_equal(d.outcomes[steps].error.code, DSOCR_E_CANCELLED);
		ed_nothing_left(engine);
	}
	dsocr_engine_cancel(engine, 4711); /* nobody's */

	/* between two layers of the encoder */
	d.cancel_id = 20;
	d.cancel_at_poll = d.polls + 3;
	{
		DsocrRequest r = ed_request(20, 1);

		ed_admit(&d, &r);
	}
	ed_run(&d);
	assert_int_equal(d.outcomes[20].error.code, DSOCR_E_CANCELLED);
	assert_int_equal(d.polls, d.cancel_at_poll);
	ed_nothing_left(engine);

	/* between two rows of a large image */
	d.cancel_id = 21;
	d.cancel_at_poll = d.polls + 1;
	{
		EdPng large = ed_draw_page(1, 1500);
		DsocrRequest r = ed_request(21, 1);

		r.image = large.bytes;
		r.image_len = large.len;
		ed_admit(&d, &r);
		free(large.bytes);
	}
	ed_run(&d);
	assert_int_equal(d.outcomes[21].error.code, DSOCR_E_CANCELLED);
	assert_int_equal(d.polls, d.cancel_at_poll);
	assert_int_equal(d.outcomes[21].progress, 0);
	ed_nothing_left(engine);
	ed_free(&d);
}

static void
expect_refusal(const DsocrRequest *r, DsocrCode code, bool with_hint)
{
	EdDriver d = {.engine = engine};
	DsocrError err = {0};

	if (dsocr_engine_admit(engine, r, &err))
	{
		ed_run(&d);
		assert_true(d.outcomes[r->id].done);
		err = d.outcomes[r->id].error;
	}
	assert_int_equal(err.code, code);
	assert_true(err.message[0] != '\0');
	if (with_hint)
		assert_true(err.hint[0] != '\0');
	ed_nothing_left(engine);
}

static void
test_arguments(void **state)
{
	static const char *const bad_prompts[] = {NULL, "", "Free OCR.", "<image><image>\nFree OCR."};
	static const char *const bad_words[] = {"", "<image>", "a <|ref|> b",
											"<\xef\xbd\x9c"
											"end\xe2\x96\x81of"
											"\xe2\x96\x81"
											"sentence\xef\xbd\x9c>"};
	DsocrRequest r = ed_request(1, 0);

	r.max_tokens = -1;
	expect_refusal(&r, DSOCR_E_ARGUMENT, false);
	r = ed_request(1, 0);
	r.ngram_size = -1;
	expect_refusal(&r, DSOCR_E_ARGUMENT, false);
	r = ed_request(1, 0);
	r.mode = (DsocrMode) 99;
	expect_refusal(&r, DSOCR_E_ARGUMENT, false);
	r = ed_request(1, 0);
	r.task = (DsocrTask) 99;
	expect_refusal(&r, DSOCR_E_ARGUMENT, false);
	r = ed_request(1, 0);
	r.spec.image_size = 0;
	expect_refusal(&r, DSOCR_E_ARGUMENT, false);
	for (size_t i = 0; i < sizeof(bad_prompts) / sizeof(*bad_prompts); i++)
	{
		r = ed_request(1, 0);
		r.task = DSOCR_TASK_GENERATE;
		r.prompt = bad_prompts[i];
		expect_refusal(&r, DSOCR_E_ARGUMENT, i >= 2);
	}
	for (size_t i = 0; i < sizeof(bad_words) / sizeof(*bad_words); i++)
	{
		r = ed_request(1, 0);
		r.task = DSOCR_TASK_LOCATE;
		r.prompt = bad_words[i];
		expect_refusal(&r, DSOCR_E_ARGUMENT, i >= 1);
	}
}

static void
test_limits(void **state)
{
	size_t n = 65536;
	DsocrError err = {0};
	char *prompt = malloc(n + 1);
	DsocrEngine *whole = engine;
	DsocrRequest r = ed_request(1, 0);

	/* a prompt longer than the context */
	assert_non_null(prompt);
	for (size_t i = 0; i < n; i++)
		prompt[i] = "q z"[i % 3];
	memcpy(prompt, "<image>", 7);
	prompt[n] = '\0';
	r.task = DSOCR_TASK_GENERATE;
	r.prompt = prompt;
	expect_refusal(&r, DSOCR_E_TOO_LONG, true);

	/* longer than any prompt that fits: not even looked at, since that takes time */
	prompt = realloc(prompt, n + 2);
	assert_non_null(prompt);
	memcpy(prompt + n, "z", 2);
	r.prompt = prompt;
	assert_false(dsocr_engine_admit(engine, &r, &err));
	assert_int_equal(err.code, DSOCR_E_TOO_LONG);
	r.task = DSOCR_TASK_LOCATE;
	assert_false(dsocr_engine_admit(engine, &r, &err));
	assert_int_equal(err.code, DSOCR_E_TOO_LONG);
	r.task = DSOCR_TASK_GENERATE;
	free(prompt);

	/* more than the key/value memory will ever hold */
	engine = open_engine(2, (size_t) 400 << 10, DSOCR_PRECISION_BF16);
	r = ed_request(1, 0);
	r.max_tokens = 0;
	expect_refusal(&r, DSOCR_E_MEMORY, true);
	dsocr_engine_close(engine);
	engine = whole;
}

static void
test_generate_equals_task(void **state)
{
	EdDriver d = {.engine = engine};
	DsocrRequest r = ed_request(0, 2);

	ed_admit(&d, &r);
	r.id = 1;
	r.task = DSOCR_TASK_GENERATE;
	r.prompt = " <image>\nFree OCR. "; /* stripped, as official */
	ed_admit(&d, &r);
	r.id = 2;
	r.task = DSOCR_TASK_LOCATE;
	r.prompt = "total";
	ed_admit(&d, &r);
	ed_run(&d);
	ed_same(&d.outcomes[0], &d.outcomes[1]);
	assert_int_equal(d.outcomes[2].error.code, DSOCR_OK);
	assert_true(d.outcomes[2].prompt_tokens > d.outcomes[0].prompt_tokens);
	assert_int_equal(d.outcomes[0].finish, DSOCR_FINISH_LENGTH);
	assert_true(d.outcomes[0].progress > 0);
	ed_free(&d);
}

typedef struct Probe
{
	int n;
	DsocrResult result; /* numbers only */
} Probe;

static void
on_probe(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error)
{
	Probe *p = arg;

	assert_int_equal(error->code, DSOCR_OK);
	assert_string_equal(result->markdown, "");
	p->n++;
	p->result = *result;
}

static void
test_probe(void **state)
{
	Probe p = {0};
	const DsocrEvents events = {.done = on_probe, .arg = &p};
	DsocrRequest r = {.id = 1,
					  .kind = DSOCR_PROBE,
					  .mode = DSOCR_MODE_GUNDAM,
					  .probe_width = 1700,
					  .probe_height = 2200};
	DsocrError err = {0};

	assert_true(dsocr_engine_admit(engine, &r, &err));
	assert_false(dsocr_engine_step(engine, &events, &err));
	assert_int_equal(p.n, 1);
	assert_int_equal(p.result.grid_columns, 2);
	assert_int_equal(p.result.grid_rows, 3);
	assert_int_equal(p.result.views, 7);
	assert_int_equal(p.result.image_tokens, 903);
	assert_int_equal(p.result.valid_image_tokens, 797);

	r.mode = DSOCR_MODE_AUTO;
	r.image = ed_pages[0].bytes;
	r.image_len = ed_pages[0].len;
	assert_true(dsocr_engine_admit(engine, &r, &err));
	assert_false(dsocr_engine_step(engine, &events, &err));
	assert_int_equal(p.n, 2);
	assert_int_equal(p.result.width, ED_SIDE);
	assert_int_equal(p.result.mode, dsocr_engine_info(engine)->auto_mode);
	ed_nothing_left(engine);
}

/* Two engines on one folder agree on who they are. */
static void
test_info(void **state)
{
	const DsocrModelInfo *a = dsocr_engine_info(engine);
	DsocrEngine *e = open_engine(1, 0, DSOCR_PRECISION_FP32);
	const DsocrModelInfo *b = dsocr_engine_info(e);

	assert_int_equal(strlen(a->fingerprint), 32);
	assert_int_equal(strspn(a->fingerprint, "0123456789abcdef"), 32);
	assert_string_equal(a->fingerprint, b->fingerprint);
	assert_string_equal(a->weights, "bf16");
	assert_string_equal(b->weights, "fp32");
	assert_int_equal(a->modes, 1U << DSOCR_MODE_SMALL);
	assert_true(a->parameters > 0);
	assert_int_equal(a->weight_bytes, 2 * a->parameters);
	assert_int_equal(b->max_sequences, 1);
	dsocr_engine_close(e);
}

static int
setup(void **state)
{
	ed_setup();
	engine = ed_open(ED_TOGETHER, 0, DSOCR_PRECISION_BF16, 0);
	return 0;
}

static int
teardown(void **state)
{
	dsocr_engine_close(engine);
	ed_teardown();
	return 0;
}

/* Kilobytes that a line of a file says, such as "RssAnon:  123 kB"; the first behind a line with `from`. */
static long
kilobytes(const char *path, const char *from, const char *name)
{
	FILE *f = fopen(path, "r");
	char line[512];
	bool there = from == NULL;
	long kb = -1;

	assert_non_null(f);
	while (kb < 0 && fgets(line, sizeof(line), f) != NULL)
	{
		if (!there)
			there = strstr(line, from) != NULL;
		else if (strncmp(line, name, strlen(name)) == 0)
			kb = strtol(line + strlen(name), NULL, 10);
	}
	fclose(f);
	return kb;
}

/* Engines of one model share its file's pages: none is copied, whatever was read. */
static void
test_weights_are_shared(void **state)
{
	long before = kilobytes("/proc/self/status", NULL, "RssAnon:");
	DsocrEngine *e = open_engine(2, (size_t) 1 << 20, DSOCR_PRECISION_BF16);
	long own = kilobytes("/proc/self/status", NULL, "RssAnon:") - before;
	EdDriver alone;

	ed_read_alone(e, &alone);
	ed_free(&alone);
	assert_true(kilobytes("/proc/self/smaps", "model.safetensors", "Rss:") > 0);
	assert_int_equal(kilobytes("/proc/self/smaps", "model.safetensors", "Anonymous:"), 0);
	/* nor are they kept in another form */
	assert_in_range(own, 0, dsocr_engine_info(e)->weight_bytes / 1024 / 4);
	dsocr_engine_close(e);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		/* first, before there is memory that others have left */
		cmocka_unit_test(test_weights_are_shared),
		cmocka_unit_test(test_neighbours_change_nothing),
		cmocka_unit_test(test_neighbours_change_nothing_in_fp32),
		cmocka_unit_test(test_small_engine),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_generate_equals_task),
		cmocka_unit_test(test_probe),
		cmocka_unit_test(test_info),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
