/*-------------------------------------------------------------------------
 *
 * test_engine.c
 *		Requests through the whole engine, with the embedded model.
 *
 * The pages are drawn here: rows of digits.  What matters is that a page's
 * tokens and log-probabilities are the same to the last bit whatever else is
 * read with it, and that nothing stays behind.  The model folder is
 * models/nano unless DSOCR_TEST_MODEL names another, the device the CPU unless
 * DSOCR_TEST_DEVICE does.
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
#include <png.h>

#include "engine.h"

#define PAGES 6
#define VARIATIONS 24
#define MOST_TOGETHER 16
#define SIDE 192
#define OUTPUT 24

typedef struct Png
{
	uint8_t *bytes;
	size_t len;
} Png;

/* What became of a request. */
typedef struct Outcome
{
	bool done;
	DsocrError error;
	char *raw;
	int32_t tokens;
	int32_t prompt_tokens;
	double logprob;
	DsocrFinish finish;
	int progress; /* reports */
} Outcome;

typedef struct Driver
{
	DsocrEngine *engine;
	Outcome outcomes[64]; /* by request id */
	int polls;
	int cancel_at_poll; /* cancel request cancel_id then; 0 = never */
	uint64_t cancel_id;
} Driver;

static Png pages[PAGES];
static DsocrEngine *engine;

/* ---- pages ---- */

/* 3 x 5 digits, a row in three bits. */
static const uint8_t digits[10][5] = {
	{7, 5, 5, 5, 7}, {2, 6, 2, 2, 7}, {7, 1, 7, 4, 7}, {7, 1, 7, 1, 7}, {5, 5, 7, 1, 1},
	{7, 4, 7, 1, 7}, {7, 4, 7, 5, 7}, {7, 1, 2, 2, 2}, {7, 5, 7, 5, 7}, {7, 5, 7, 1, 7}};

static void
draw_digit(uint8_t *gray, int side, int x, int y, int digit)
{
	for (int row = 0; row < 20; row++)
		for (int col = 0; col < 12; col++)
			if (digits[digit][row / 4] >> (2 - col / 4) & 1 && x + col < side && y + row < side)
				gray[(y + row) * side + x + col] = 20;
}

static Png
draw_page(unsigned seed, int side)
{
	uint8_t *gray = malloc((size_t) side * (size_t) side);
	png_image head = {.version = PNG_IMAGE_VERSION,
					  .width = (png_uint_32) side,
					  .height = (png_uint_32) side,
					  .format = PNG_FORMAT_GRAY};
	png_alloc_size_t len = 0;
	Png png;

	assert_non_null(gray);
	memset(gray, 250, (size_t) side * (size_t) side);
	for (int y = 8; y + 20 < side; y += 34)
		for (int x = 8; x + 12 < side; x += 16)
		{
			seed = seed * 1103515245 + 12345;
			if (seed >> 16 & 7)
				draw_digit(gray, side, x, y, (int) ((seed >> 20) % 10));
		}
	assert_true(png_image_write_get_memory_size(head, len, 0, gray, side, NULL));
	png.bytes = malloc(len);
	png.len = len;
	assert_true(png_image_write_to_memory(&head, png.bytes, &len, 0, gray, side, NULL));
	png.len = len;
	free(gray);
	return png;
}

/* ---- driving ---- */

static void
on_progress(void *arg, const DsocrProgress *p)
{
	Driver *d = arg;

	assert_true(p->id < 64 && !d->outcomes[p->id].done);
	assert_in_range(p->views_done, 0, p->views);
	d->outcomes[p->id].progress++;
}

static void
on_done(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error)
{
	Driver *d = arg;
	Outcome *o = &d->outcomes[id];

	assert_true(id < 64 && !o->done);
	o->done = true;
	o->error = *error;
	if (error->code != DSOCR_OK)
	{
		assert_null(result);
		assert_int_not_equal(error->message[0], '\0');
		return;
	}
	o->raw = strdup(result->raw);
	o->tokens = result->text_tokens;
	o->prompt_tokens = result->prompt_tokens;
	o->logprob = result->mean_logprob;
	o->finish = result->finish;
}

static void
on_poll(void *arg)
{
	Driver *d = arg;

	if (++d->polls == d->cancel_at_poll)
		dsocr_engine_cancel(d->engine, d->cancel_id);
}

static const DsocrRequest plain = {.kind = DSOCR_READ,
								   .task = DSOCR_TASK_TEXT,
								   .mode = DSOCR_MODE_CUSTOM,
								   .spec = {.base_size = SIDE, .image_size = SIDE},
								   .max_tokens = OUTPUT,
								   .ngram_size = 20};

static DsocrRequest
request_of(uint64_t id, int page)
{
	DsocrRequest r = plain;

	r.id = id;
	r.image = pages[page].bytes;
	r.image_len = pages[page].len;
	/* pages differ in length and rule, so that batches are uneven */
	r.max_tokens = OUTPUT - 3 * page;
	if (page % 2)
	{
		r.ngram_size = 3;
		r.ngram_window = 12;
	}
	return r;
}

static void
admit(Driver *d, const DsocrRequest *r)
{
	DsocrError err = {0};

	if (!dsocr_engine_admit(d->engine, r, &err))
		fail_msg("%s", err.message);
}

static void
run(Driver *d)
{
	const DsocrEvents events = {on_progress, on_done, on_poll, d};
	DsocrError err = {0};

	while (dsocr_engine_step(d->engine, &events, &err))
		;
	assert_int_equal(err.code, DSOCR_OK);
	assert_int_equal(dsocr_engine_pending(d->engine), 0);
}

static void
assert_nothing_left(DsocrEngine *e)
{
	int total;
	int left = dsocr_engine_free_pages(e, &total);

	assert_int_equal(left, total);
}

static void
driver_free(Driver *d)
{
	for (int i = 0; i < 64; i++)
		free(d->outcomes[i].raw);
}

static void
assert_same(const Outcome *a, const Outcome *b)
{
	assert_int_equal(a->error.code, DSOCR_OK);
	assert_int_equal(b->error.code, DSOCR_OK);
	assert_string_equal(a->raw, b->raw);
	assert_int_equal(a->tokens, b->tokens);
	assert_memory_equal(&a->logprob, &b->logprob, sizeof(double));
	assert_int_equal(a->finish, b->finish);
}

/* view_pixels: views encoded together, as on a fast device */
static DsocrEngine *
open_engine_with(int sequences, size_t kv_bytes, DsocrPrecision precision, size_t view_pixels)
{
	const char *model = getenv("DSOCR_TEST_MODEL");
	DsocrEngineOptions o = {
		.model = model != NULL ? model : "models/nano",
		.backend = {.device = getenv("DSOCR_TEST_DEVICE"), .precision = precision, .threads = 2},
		.max_sequences = sequences,
		.kv_bytes = kv_bytes,
		.view_pixels = view_pixels};
	DsocrError err = {0};
	DsocrEngine *e = dsocr_engine_open(&o, &err);

	if (e == NULL)
		fail_msg("%s", err.message);
	return e;
}

static DsocrEngine *
open_engine(int sequences, size_t kv_bytes, DsocrPrecision precision)
{
	return open_engine_with(sequences, kv_bytes, precision, 0);
}

/* ---- tests ---- */

/* Each page alone. */
static void
read_alone(DsocrEngine *e, Driver *d)
{
	*d = (Driver){.engine = e};
	for (int page = 0; page < PAGES; page++)
	{
		DsocrRequest r = request_of((uint64_t) page, page);

		admit(d, &r);
		run(d);
		assert_int_equal(d->outcomes[page].error.code, DSOCR_OK);
		assert_true(d->outcomes[page].tokens > 0);
		assert_true(d->outcomes[page].logprob < 0);
		assert_nothing_left(e);
	}
	assert_string_not_equal(d->outcomes[0].raw, d->outcomes[1].raw);
}

/*
 * One batch: size pages in an order of its own, with one victim cancelled at
 * a random poll in every third batch.
 */
static void
read_together(DsocrEngine *e, const Driver *alone, unsigned seed)
{
	Driver d = {.engine = e};
	int n = 2 + (int) (seed % (MOST_TOGETHER - 1));
	int victim = seed % 3 == 0 ? (int) (seed / 3) % n : -1;
	int page[MOST_TOGETHER];

	srand(seed);
	if (victim >= 0)
	{
		d.cancel_id = (uint64_t) victim;
		d.cancel_at_poll = 1 + rand() % 200;
	}
	for (int i = 0; i < n; i++)
	{
		DsocrRequest r;

		page[i] = rand() % PAGES;
		r = request_of((uint64_t) i, page[i]);
		r.priority = rand() % 2 ? DSOCR_BULK : DSOCR_INTERACTIVE;
		admit(&d, &r);
	}
	run(&d);
	for (int i = 0; i < n; i++)
	{
		assert_true(d.outcomes[i].done);
		if (i == victim && d.outcomes[i].error.code != DSOCR_OK)
			assert_int_equal(d.outcomes[i].error.code, DSOCR_E_CANCELLED);
		else
			assert_same(&alone->outcomes[page[i]], &d.outcomes[i]);
	}
	assert_nothing_left(e);
	driver_free(&d);
}

static void
test_neighbours_change_nothing(void **state)
{
	Driver alone;

	read_alone(engine, &alone);
	for (unsigned v = 0; v < VARIATIONS; v++)
		read_together(engine, &alone, v);
	driver_free(&alone);
}

static void
test_neighbours_change_nothing_in_fp32(void **state)
{
	DsocrEngine *e = open_engine(MOST_TOGETHER, 0, DSOCR_PRECISION_FP32);
	Driver alone;

	read_alone(e, &alone);
	for (unsigned v = 7; v < 11; v++)
		read_together(e, &alone, v);
	driver_free(&alone);
	dsocr_engine_close(e);
}

/* Views of several requests in one run of the encoder, some of them cancelled. */
static void
test_views_together(void **state)
{
	DsocrEngine *e = open_engine_with(MOST_TOGETHER, 0, DSOCR_PRECISION_BF16, 5 * SIDE * SIDE);
	Driver alone;

	read_alone(engine, &alone);
	for (unsigned v = 15; v < 27; v++)
		read_together(e, &alone, v);
	driver_free(&alone);
	dsocr_engine_close(e);
}

/* Requests with views of several sizes: tiles and global views of different pages. */
static void
test_tiles_together(void **state)
{
	DsocrEngine *e = open_engine_with(4, 0, DSOCR_PRECISION_BF16, (size_t) 2 << 20);
	Driver alone = {.engine = engine};
	Driver together = {.engine = e};

	for (uint64_t i = 0; i < 6; i++)
	{
		DsocrRequest r = request_of(i, (int) i % PAGES);

		/* pages above 640 pixels have tiles, of two sizes in turn */
		Png large = draw_page((unsigned) i, i % 3 == 2 ? 300 : 660);

		r.spec = (DsocrViewSpec){.base_size = i % 2 ? 192 : 256,
								 .image_size = 128,
								 .crop = true,
								 .max_tiles = 2 + (int) i};
		r.image = large.bytes;
		r.image_len = large.len;
		admit(&alone, &r);
		run(&alone);
		admit(&together, &r);
		free(large.bytes);
	}
	run(&together);
	for (int i = 0; i < 6; i++)
		assert_same(&alone.outcomes[i], &together.outcomes[i]);
	assert_nothing_left(e);
	driver_free(&alone);
	driver_free(&together);
	dsocr_engine_close(e);
}

/* Closing with images, views and tokens under way frees all. */
static void
test_close_under_way(void **state)
{
	Png large = draw_page(3, 3000);

	for (int steps = 0; steps < 9; steps++)
	{
		Driver d = {.engine = open_engine_with(4, 0, DSOCR_PRECISION_BF16, steps % 2 << 20)};
		const DsocrEvents events = {on_progress, on_done, on_poll, &d};

		for (uint64_t i = 0; i < 7; i++)
		{
			DsocrRequest r = request_of(i, (int) i % PAGES);

			if (i % 3 == 1)
			{
				r.image = large.bytes;
				r.image_len = large.len;
			}
			admit(&d, &r);
		}
		for (int i = 0; i < steps; i++)
			assert_true(dsocr_engine_step(d.engine, &events, NULL));
		dsocr_engine_close(d.engine);
		driver_free(&d);
	}
	free(large.bytes);
}

/* A page is read while the large image that came before it is still decoded. */
static void
test_large_image_blocks_nobody(void **state)
{
	Driver d = {.engine = engine};
	const DsocrEvents events = {on_progress, on_done, on_poll, &d};
	Png large = draw_page(3, 9000);
	DsocrRequest r = request_of(0, 0);
	DsocrError err = {0};

	r.image = large.bytes;
	r.image_len = large.len;
	admit(&d, &r);
	r = request_of(1, 1);
	admit(&d, &r);
	while (!d.outcomes[1].done)
		assert_true(dsocr_engine_step(engine, &events, &err));
	assert_false(d.outcomes[0].done);
	assert_int_equal(d.outcomes[1].error.code, DSOCR_OK);
	run(&d);
	assert_int_equal(d.outcomes[0].error.code, DSOCR_OK);
	assert_nothing_left(engine);
	free(large.bytes);
	driver_free(&d);
}

/* Few places and pages: requests queue up, the texts stay. */
static void
test_small_engine(void **state)
{
	DsocrEngine *e = open_engine(3, (size_t) 1 << 20, DSOCR_PRECISION_BF16);
	Driver alone;

	read_alone(engine, &alone);
	for (unsigned v = 11; v < 15; v++)
		read_together(e, &alone, v);
	driver_free(&alone);
	dsocr_engine_close(e);
}

/* Bad images fail alone; good ones between them are read as ever. */
static void
test_bad_images_between_good(void **state)
{
	static const uint8_t junk[] = "this is not an image";
	Driver alone;
	Driver d = {.engine = engine};
	DsocrRequest r;

	read_alone(engine, &alone);
	for (int i = 0; i < 9; i++)
	{
		r = request_of((uint64_t) i, i % PAGES);
		if (i % 3 == 0)
			r.image_len = r.image_len * (size_t) (1 + i) / 12; /* cut off */
		if (i % 3 == 1)
		{
			r.image = junk;
			r.image_len = sizeof(junk);
		}
		admit(&d, &r);
	}
	r = request_of(9, 0);
	r.image = NULL;
	r.image_len = 0;
	admit(&d, &r);
	r = request_of(10, 0);
	r.max_pixels = SIDE;
	admit(&d, &r);
	run(&d);
	for (int i = 0; i < 11; i++)
	{
		if (i % 3 == 2 && i < 9)
			assert_same(&alone.outcomes[i % PAGES], &d.outcomes[i]);
		else
			assert_int_equal(d.outcomes[i].error.code, DSOCR_E_IMAGE);
	}
	assert_nothing_left(engine);
	driver_free(&alone);
	driver_free(&d);
}

/* A cancel takes effect in every state, at once, and once. */
static void
test_cancel(void **state)
{
	Driver d = {.engine = engine};
	const DsocrEvents events = {on_progress, on_done, on_poll, &d};
	DsocrError err = {0};

	for (int steps = 0; steps < 12; steps++)
	{
		DsocrRequest r = request_of((uint64_t) steps, 0);
		int polls;

		admit(&d, &r);
		for (int i = 0; i < steps; i++)
			assert_true(dsocr_engine_step(engine, &events, &err));
		dsocr_engine_cancel(engine, r.id);
		dsocr_engine_cancel(engine, r.id);
		polls = d.polls;
		assert_false(dsocr_engine_step(engine, &events, &err));
		assert_int_equal(d.polls, polls); /* no layer was run for it */
		assert_int_equal(d.outcomes[steps].error.code, DSOCR_E_CANCELLED);
		assert_nothing_left(engine);
	}
	dsocr_engine_cancel(engine, 4711); /* nobody's */

	/* between two layers of the encoder */
	d.cancel_id = 20;
	d.cancel_at_poll = d.polls + 3;
	{
		DsocrRequest r = request_of(20, 1);

		admit(&d, &r);
	}
	run(&d);
	assert_int_equal(d.outcomes[20].error.code, DSOCR_E_CANCELLED);
	assert_int_equal(d.polls, d.cancel_at_poll);
	assert_nothing_left(engine);

	/* between two rows of a large image */
	d.cancel_id = 21;
	d.cancel_at_poll = d.polls + 1;
	{
		Png large = draw_page(1, 1500);
		DsocrRequest r = request_of(21, 1);

		r.image = large.bytes;
		r.image_len = large.len;
		admit(&d, &r);
		free(large.bytes);
	}
	run(&d);
	assert_int_equal(d.outcomes[21].error.code, DSOCR_E_CANCELLED);
	assert_int_equal(d.polls, d.cancel_at_poll);
	assert_int_equal(d.outcomes[21].progress, 0);
	assert_nothing_left(engine);
	driver_free(&d);
}

static void
expect_refusal(const DsocrRequest *r, DsocrCode code, bool with_hint)
{
	Driver d = {.engine = engine};
	DsocrError err = {0};

	if (dsocr_engine_admit(engine, r, &err))
	{
		run(&d);
		assert_true(d.outcomes[r->id].done);
		err = d.outcomes[r->id].error;
	}
	assert_int_equal(err.code, code);
	assert_true(err.message[0] != '\0');
	if (with_hint)
		assert_true(err.hint[0] != '\0');
	assert_nothing_left(engine);
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
	DsocrRequest r = request_of(1, 0);

	r.max_tokens = -1;
	expect_refusal(&r, DSOCR_E_ARGUMENT, false);
	r = request_of(1, 0);
	r.ngram_size = -1;
	expect_refusal(&r, DSOCR_E_ARGUMENT, false);
	r = request_of(1, 0);
	r.mode = (DsocrMode) 99;
	expect_refusal(&r, DSOCR_E_ARGUMENT, false);
	r = request_of(1, 0);
	r.task = (DsocrTask) 99;
	expect_refusal(&r, DSOCR_E_ARGUMENT, false);
	r = request_of(1, 0);
	r.spec.image_size = 0;
	expect_refusal(&r, DSOCR_E_ARGUMENT, false);
	for (size_t i = 0; i < sizeof(bad_prompts) / sizeof(*bad_prompts); i++)
	{
		r = request_of(1, 0);
		r.task = DSOCR_TASK_GENERATE;
		r.prompt = bad_prompts[i];
		expect_refusal(&r, DSOCR_E_ARGUMENT, i >= 2);
	}
	for (size_t i = 0; i < sizeof(bad_words) / sizeof(*bad_words); i++)
	{
		r = request_of(1, 0);
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
	DsocrRequest r = request_of(1, 0);

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
	r = request_of(1, 0);
	r.max_tokens = 0;
	expect_refusal(&r, DSOCR_E_MEMORY, true);
	dsocr_engine_close(engine);
	engine = whole;
}

static void
test_generate_equals_task(void **state)
{
	Driver d = {.engine = engine};
	DsocrRequest r = request_of(0, 2);

	admit(&d, &r);
	r.id = 1;
	r.task = DSOCR_TASK_GENERATE;
	r.prompt = " <image>\nFree OCR. "; /* stripped, as official */
	admit(&d, &r);
	r.id = 2;
	r.task = DSOCR_TASK_LOCATE;
	r.prompt = "total";
	admit(&d, &r);
	run(&d);
	assert_same(&d.outcomes[0], &d.outcomes[1]);
	assert_int_equal(d.outcomes[2].error.code, DSOCR_OK);
	assert_true(d.outcomes[2].prompt_tokens > d.outcomes[0].prompt_tokens);
	assert_int_equal(d.outcomes[0].finish, DSOCR_FINISH_LENGTH);
	assert_true(d.outcomes[0].progress > 0);
	driver_free(&d);
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
	r.image = pages[0].bytes;
	r.image_len = pages[0].len;
	assert_true(dsocr_engine_admit(engine, &r, &err));
	assert_false(dsocr_engine_step(engine, &events, &err));
	assert_int_equal(p.n, 2);
	assert_int_equal(p.result.width, SIDE);
	assert_int_equal(p.result.mode, dsocr_engine_info(engine)->auto_mode);
	assert_nothing_left(engine);
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
	assert_true(a->parameters > 0);
	assert_int_equal(a->weight_bytes, 2 * a->parameters);
	assert_int_equal(b->max_sequences, 1);
	dsocr_engine_close(e);
}

static int
setup(void **state)
{
	for (int i = 0; i < PAGES; i++)
		pages[i] = draw_page(100 + (unsigned) i, SIDE + 40 * i);
	engine = open_engine(MOST_TOGETHER, 0, DSOCR_PRECISION_BF16);
	return 0;
}

static int
teardown(void **state)
{
	dsocr_engine_close(engine);
	for (int i = 0; i < PAGES; i++)
		free(pages[i].bytes);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_neighbours_change_nothing),
		cmocka_unit_test(test_neighbours_change_nothing_in_fp32),
		cmocka_unit_test(test_views_together),
		cmocka_unit_test(test_tiles_together),
		cmocka_unit_test(test_large_image_blocks_nobody),
		cmocka_unit_test(test_close_under_way),
		cmocka_unit_test(test_small_engine),
		cmocka_unit_test(test_bad_images_between_good),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_generate_equals_task),
		cmocka_unit_test(test_probe),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
