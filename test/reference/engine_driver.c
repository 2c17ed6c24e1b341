/*-------------------------------------------------------------------------
 *
 * engine_driver.c
 *		What the tests of the engine share: pages, and a driver that keeps results.
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
#include <png.h>

#include "engine_driver.h"

EdPng ed_pages[ED_PAGES];

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

EdPng
ed_draw_page(unsigned seed, int side)
{
	uint8_t *gray = malloc((size_t) side * (size_t) side);
	png_image head = {.version = PNG_IMAGE_VERSION,
					  .width = (png_uint_32) side,
					  .height = (png_uint_32) side,
					  .format = PNG_FORMAT_GRAY};
	png_alloc_size_t len = 0;
	EdPng png;

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
	EdDriver *d = arg;

	assert_true(p->id < 64 && !d->outcomes[p->id].done);
	assert_in_range(p->views_done, 0, p->views);
	/* no number goes back, whatever is read again */
	assert_true(p->views_done >= d->outcomes[p->id].last.views_done);
	assert_true(p->text_tokens >= d->outcomes[p->id].last.text_tokens);
	d->outcomes[p->id].last = *p;
	d->outcomes[p->id].progress++;
}

static void
on_done(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error)
{
	EdDriver *d = arg;
	EdOutcome *o = &d->outcomes[id];

	assert_true(id < 64 && !o->done);
	o->done = true;
	o->error = *error;
	if (error->code != DSOCR_OK)
	{
		assert_null(result);
		assert_int_not_equal(error->message[0], '\0');
		return;
	}
	assert_in_range(result->n_attempts, 1, DSOCR_MAX_ATTEMPTS);
	assert_int_equal(result->attempts[0].finish == DSOCR_FINISH_STOP && result->n_attempts > 1, 0);
	assert_true(result->confidence == (result->text_tokens > 0 ? exp(result->mean_logprob) : 0));
	o->raw = strdup(result->raw);
	o->tokens = result->text_tokens;
	o->prompt_tokens = result->prompt_tokens;
	o->logprob = result->mean_logprob;
	o->finish = result->finish;
	o->mode = result->mode;
	o->n_attempts = result->n_attempts;
	memcpy(o->attempts, result->attempts, sizeof(o->attempts));
}

static void
on_poll(void *arg)
{
	EdDriver *d = arg;

	if (++d->polls == d->cancel_at_poll)
		dsocr_engine_cancel(d->engine, d->cancel_id);
}

DsocrEvents
ed_events(EdDriver *d)
{
	return (DsocrEvents){on_progress, on_done, on_poll, d};
}

static const DsocrRequest plain = {.kind = DSOCR_READ,
								   .task = DSOCR_TASK_TEXT,
								   .mode = DSOCR_MODE_CUSTOM,
								   .spec = {.base_size = ED_SIDE, .image_size = ED_SIDE},
								   .max_tokens = ED_OUTPUT,
								   .ngram_size = 20};

DsocrRequest
ed_request(uint64_t id, int page)
{
	DsocrRequest r = plain;

	r.id = id;
	r.image = ed_pages[page].bytes;
	r.image_len = ed_pages[page].len;
	/* pages differ in length and rule, so that batches are uneven */
	r.max_tokens = ED_OUTPUT - 3 * page;
	if (page % 2)
	{
		r.ngram_size = 3;
		r.ngram_window = 12;
	}
	return r;
}

void
ed_admit(EdDriver *d, const DsocrRequest *r)
{
	DsocrError err = {0};

	if (!dsocr_engine_admit(d->engine, r, &err))
		fail_msg("%s", err.message);
}

void
ed_run(EdDriver *d)
{
	const DsocrEvents events = ed_events(d);
	DsocrError err = {0};

	while (dsocr_engine_step(d->engine, &events, &err))
		;
	assert_int_equal(err.code, DSOCR_OK);
	assert_int_equal(dsocr_engine_pending(d->engine), 0);
}

void
ed_nothing_left(DsocrEngine *e)
{
	int total;
	int left = dsocr_engine_free_pages(e, &total);

	assert_int_equal(left, total);
}

void
ed_free(EdDriver *d)
{
	for (int i = 0; i < 64; i++)
		free(d->outcomes[i].raw);
}

void
ed_same(const EdOutcome *a, const EdOutcome *b)
{
	assert_int_equal(a->error.code, DSOCR_OK);
	assert_int_equal(b->error.code, DSOCR_OK);
	assert_string_equal(a->raw, b->raw);
	assert_int_equal(a->tokens, b->tokens);
	assert_memory_equal(&a->logprob, &b->logprob, sizeof(double));
	assert_int_equal(a->finish, b->finish);
}

/* view_pixels: views encoded together, as on a fast device */
DsocrEngine *
ed_open(int sequences, size_t kv_bytes, DsocrPrecision precision, size_t view_pixels)
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

/* Each page alone. */
void
ed_read_alone(DsocrEngine *e, EdDriver *d)
{
	*d = (EdDriver){.engine = e};
	for (int page = 0; page < ED_PAGES; page++)
	{
		DsocrRequest r = ed_request((uint64_t) page, page);

		ed_admit(d, &r);
		ed_run(d);
		assert_int_equal(d->outcomes[page].error.code, DSOCR_OK);
		assert_true(d->outcomes[page].tokens > 0);
		assert_true(d->outcomes[page].logprob < 0);
		ed_nothing_left(e);
	}
	assert_string_not_equal(d->outcomes[0].raw, d->outcomes[1].raw);
}

/*
 * One batch: size pages in an order of its own, with one victim cancelled at
 * a random poll in every third batch.
 */
void
ed_read_together(DsocrEngine *e, const EdDriver *alone, unsigned seed)
{
	EdDriver d = {.engine = e};
	int n = 2 + (int) (seed % (ED_TOGETHER - 1));
	int victim = seed % 3 == 0 ? (int) (seed / 3) % n : -1;
	int page[ED_TOGETHER];

	srand(seed);
	if (victim >= 0)
	{
		d.cancel_id = (uint64_t) victim;
		d.cancel_at_poll = 1 + rand() % 200;
	}
	for (int i = 0; i < n; i++)
	{
		DsocrRequest r;

		page[i] = rand() % ED_PAGES;
		r = ed_request((uint64_t) i, page[i]);
		r.priority = rand() % 2 ? DSOCR_BULK : DSOCR_INTERACTIVE;
		ed_admit(&d, &r);
	}
	ed_run(&d);
	for (int i = 0; i < n; i++)
	{
		assert_true(d.outcomes[i].done);
		if (i == victim && d.outcomes[i].error.code != DSOCR_OK)
			assert_int_equal(d.outcomes[i].error.code, DSOCR_E_CANCELLED);
		else
			ed_same(&alone->outcomes[page[i]], &d.outcomes[i]);
	}
	ed_nothing_left(e);
	ed_free(&d);
}

void
ed_setup(void)
{
	for (int i = 0; i < ED_PAGES; i++)
		ed_pages[i] = ed_draw_page(100 + (unsigned) i, ED_SIDE + 40 * i);
}

void
ed_teardown(void)
{
	for (int i = 0; i < ED_PAGES; i++)
		free(ed_pages[i].bytes);
}
