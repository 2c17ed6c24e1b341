/*-------------------------------------------------------------------------
 *
 * test_ladder.c
 *		Pages that are read again in a larger mode, and the choice of the first.
 *
 * The embedded model under a dsocr.json that allows it more modes than it was
 * trained for: what it reads then is nonsense, but always the same nonsense.
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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <png.h>

#include "../reference/engine_driver.h"

#define THREE_MODES "\"mode\": \"base\", \"modes\": [\"tiny\", \"small\", \"base\"]"
#define FOUR_MODES "\"mode\": \"base\", \"modes\": [\"tiny\", \"small\", \"base\", \"gundam\"]"
#define FOLDER "build/ladder-model"
#define END 1	 /* the token, in the vocabulary of the embedded model */
#define LAYERS 4 /* of its decoder */

static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors",
									"model.safetensors.index.json"};
static DsocrEngine *engine; /* tiny, small, base and gundam; usually base */
static DsocrBuffer receipt;

static DsocrEngine *
open_with(const char *modes, int sequences, size_t kv_bytes)
{
	DsocrEngine *e;
	FILE *f = fopen(FOLDER "/dsocr.json", "w");

	assert_non_null(f);
	fprintf(f, "{%s, \"prompts\": {\"text\": \"<image>\\nFree OCR.\"}}", modes);
	assert_int_equal(fclose(f), 0);
	setenv("DSOCR_TEST_MODEL", FOLDER, 1);
	e = ed_open(sequences, kv_bytes, DSOCR_PRECISION_BF16, 0);
	return e;
}

/* Page 0 to 5 are digits, 6 is the receipt of the samples. */
static DsocrRequest
request(uint64_t id, int page, DsocrMode mode, int max_tokens)
{
	DsocrRequest r = ed_request(id, page < ED_PAGES ? page : 0);

	if (page >= ED_PAGES)
	{
		r.image = (const uint8_t *) receipt.data;
		r.image_len = receipt.len;
	}
	r.mode = mode;
	r.max_tokens = max_tokens;
	r.ladder = true;
	return r;
}

static void
read_one(DsocrEngine *e, const DsocrRequest *r, EdDriver *d)
{
	*d = (EdDriver){.engine = e};
	ed_admit(d, r);
	ed_run(d);
	ed_nothing_left(e);
	assert_true(d->outcomes[r->id].done);
}

static void
expect_attempts(const EdOutcome *o, int n, const DsocrMode *modes)
{
	assert_int_equal(o->error.code, DSOCR_OK);
	assert_int_equal(o->n_attempts, n);
	for (int i = 0; i < n; i++)
		assert_int_equal(o->attempts[i].mode, modes[i]);
	for (int i = 0; i + 1 < n; i++)
		assert_int_not_equal(o->attempts[i].finish, DSOCR_FINISH_STOP);
}

/* Cut everywhere: three readings, and the longest text is the answer. */
static void
test_cut_pages_climb(void **state)
{
	static const DsocrMode up[] = {DSOCR_MODE_TINY, DSOCR_MODE_SMALL, DSOCR_MODE_BASE};
	EdDriver d;
	EdDriver alone[3];
	DsocrRequest r = request(1, 2, DSOCR_MODE_TINY, 10);
	const EdOutcome *o = &d.outcomes[1];
	bool found = false;
	size_t longest = 0;

	read_one(engine, &r, &d);
	expect_attempts(o, 3, up);
	assert_int_equal(o->finish, DSOCR_FINISH_LENGTH);
	/* the last report counts what all readings wrote */
	assert_true(o->last.views == 3 && o->last.views_done == 3);
	for (int i = 0; i < 3; i++)
	{
		DsocrRequest single = request(1, 2, up[i], 10);

		single.ladder = false;
		read_one(engine, &single, &alone[i]);
		assert_int_equal(alone[i].outcomes[1].n_attempts, 1);
		assert_int_equal(alone[i].outcomes[1].tokens, o->attempts[i].text_tokens);
		if (strlen(alone[i].outcomes[1].raw) > longest)
			longest = strlen(alone[i].outcomes[1].raw);
		if (up[i] == o->mode)
		{
			ed_same(o, &alone[i].outcomes[1]);
			found = true;
		}
		ed_free(&alone[i]);
	}
	assert_true(found);
	assert_int_equal(strlen(o->raw), longest);
	ed_free(&d);

	/* from the second rung on; gundam of a small page is base, so there is no third */
	r.mode = DSOCR_MODE_SMALL;
	read_one(engine, &r, &d);
	expect_attempts(o, 2, up + 1);
	ed_free(&d);
	/* a mode of the caller's own has no next one */
	r = ed_request(1, 0);
	r.ladder = true;
	read_one(engine, &r, &d);
	assert_int_equal(o->n_attempts, 1);
	ed_free(&d);
}

static const DsocrMode rungs[] = {DSOCR_MODE_TINY, DSOCR_MODE_SMALL, DSOCR_MODE_BASE};

/* How many tokens a reading without the ladder gives; -1 when it does not stop before so many. */
static int
tokens_alone(const EdPng *page, DsocrMode mode, int limit)
{
	DsocrRequest r = request(1, 0, mode, limit);
	EdDriver d;
	int tokens;

	r.image = page->bytes;
	r.image_len = page->len;
	r.ladder = false;
	read_one(engine, &r, &d);
	tokens = d.outcomes[1].finish == DSOCR_FINISH_STOP ? d.outcomes[1].tokens : -1;
	ed_free(&d);
	return tokens;
}

/*
 * A page that the smaller modes write more of than base, which stops by itself; to
 * be freed.  What they write the model's rounding decides, so small pages with a few
 * large digits are drawn until there is one.
 */
static EdPng
page_shortest_in_base(void)
{
	for (int i = 0; i < 200; i++)
	{
		EdPng page = ed_draw_page(300 + (unsigned) i, 40 + 4 * (i % 20));
		int shorter = 600;

		for (int k = 0; k < 2 && shorter > 1; k++)
		{
			int tokens = tokens_alone(&page, rungs[k], 600);

			if (tokens >= 0 && tokens < shorter)
				shorter = tokens;
		}
		/* base costs most, so it reads no more than is needed to know */
		if (shorter > 1 && tokens_alone(&page, DSOCR_MODE_BASE, shorter - 1) >= 0)
			return page;
		free(page.bytes);
	}
	fail_msg("no page is shortest in base");
	return (EdPng){0};
}

/* What stops is the answer, however short it is. */
static void
test_first_stop_wins(void **state)
{
	EdPng page = page_shortest_in_base();
	DsocrRequest r = request(1, 0, DSOCR_MODE_BASE, 600);
	EdDriver d;
	EdDriver alone;

	r.image = page.bytes;
	r.image_len = page.len;
	r.ladder = false;
	read_one(engine, &r, &alone);
	assert_int_equal(alone.outcomes[1].finish, DSOCR_FINISH_STOP);
	r.ladder = true;
	read_one(engine, &r, &d);
	expect_attempts(&d.outcomes[1], 1, rungs + 2);
	ed_same(&d.outcomes[1], &alone.outcomes[1]);
	ed_free(&d);

	/* just enough for this mode; the smaller ones would write more */
	r.max_tokens = alone.outcomes[1].tokens + 1;
	r.mode = DSOCR_MODE_TINY;
	read_one(engine, &r, &d);
	expect_attempts(&d.outcomes[1], 3, rungs);
	ed_same(&d.outcomes[1], &alone.outcomes[1]);
	assert_true(d.outcomes[1].attempts[0].text_tokens > d.outcomes[1].tokens);
	ed_free(&d);
	ed_free(&alone);
	free(page.bytes);
}

/* A cancel ends the request in every step of every reading, and nothing stays behind. */
static void
test_cancel(void **state)
{
	DsocrRequest r = request(1, 1, DSOCR_MODE_TINY, 6);
	int steps = 0;
	bool ended = false;

	for (; !ended; steps += 2)
	{
		EdDriver d = {.engine = engine};
		const DsocrEvents events = ed_events(&d);
		DsocrError err = {0};

		ed_admit(&d, &r);
		for (int i = 0; i < steps && !ended; i++)
			ended = !dsocr_engine_step(engine, &events, &err);
		dsocr_engine_cancel(engine, r.id);
		while (dsocr_engine_step(engine, &events, &err))
			;
		assert_true(d.outcomes[1].done);
		assert_int_equal(d.outcomes[1].error.code, ended ? DSOCR_OK : DSOCR_E_CANCELLED);
		assert_int_equal(dsocr_engine_pending(engine), 0);
		ed_nothing_left(engine);
		ed_free(&d);
	}
	/* three readings of at least six steps each */
	assert_true(steps > 18);
	for (int poll = 1; poll < 60; poll += 9)
	{
		EdDriver d = {.engine = engine, .cancel_id = 1, .cancel_at_poll = poll};

		ed_admit(&d, &r);
		ed_run(&d);
		assert_true(d.outcomes[1].done);
		ed_nothing_left(engine);
		ed_free(&d);
	}
}

/* Bytes of a page of key/value memory. */
static size_t
page_bytes(void)
{
	int total;

	dsocr_engine_free_pages(engine, &total);
	return (size_t) dsocr_engine_info(engine)->kv_bytes / (size_t) total;
}

/* Pages for one reading at a time, and many that want several: no one waits for ever. */
static void
test_no_deadlock(void **state)
{
	DsocrEngine *e = open_with(THREE_MODES, 4, 12 * page_bytes());
	EdDriver d = {.engine = e};
	EdDriver alone;

	for (uint64_t id = 0; id < 9; id++)
	{
		DsocrRequest r = request(id, (int) (id % ED_PAGES), DSOCR_MODE_TINY, 8);

		r.priority = id % 3 == 0 ? DSOCR_BULK : DSOCR_INTERACTIVE;
		ed_admit(&d, &r);
	}
	ed_run(&d);
	ed_nothing_left(e);
	for (uint64_t page = 0; page < ED_PAGES; page++)
	{
		DsocrRequest r = request(1, (int) page, DSOCR_MODE_TINY, 8);

		read_one(engine, &r, &alone);
		for (uint64_t id = page; id < 9; id += ED_PAGES)
		{
			assert_true(d.outcomes[id].done);
			ed_same(&d.outcomes[id], &alone.outcomes[1]);
			assert_int_equal(d.outcomes[id].n_attempts, alone.outcomes[1].n_attempts);
		}
		ed_free(&alone);
	}
	ed_free(&d);
	dsocr_engine_close(e);
}

/* The second reading needs more memory than there is: the first one's result stands. */
static void
test_no_memory_for_more(void **state)
{
	/* a page holds 32 tokens; the image takes 73 in mode tiny, 111 in small and 273 in base */
	DsocrEngine *e = open_with(THREE_MODES, 2, 5 * page_bytes());
	static const DsocrMode up[] = {DSOCR_MODE_TINY, DSOCR_MODE_SMALL};
	DsocrRequest r = request(1, 2, DSOCR_MODE_TINY, 10);
	EdDriver d;

	read_one(e, &r, &d);
	expect_attempts(&d.outcomes[1], 2, up);
	assert_int_equal(d.outcomes[1].finish, DSOCR_FINISH_LENGTH);
	assert_non_null(d.outcomes[1].raw);
	ed_free(&d);
	/* without an earlier one it is refused */
	r.mode = DSOCR_MODE_BASE;
	read_one(e, &r, &d);
	assert_int_equal(d.outcomes[1].error.code, DSOCR_E_MEMORY);
	ed_free(&d);
	dsocr_engine_close(e);
}

/* Zeroes rows of a matrix of a file of weights; all with n 0. */
static void
take_away(DsocrBuffer *weights, const char *name, size_t row, size_t n)
{
	uint64_t header;
	const char *at;
	size_t first;
	size_t rows;
	size_t width;

	memcpy(&header, weights->data, sizeof(header));
	at = memmem(weights->data + 8, header, name, strlen(name));
	assert_non_null(at);
	assert_int_equal(sscanf(strstr(at, "\"shape\":[") + 9, "%zu,%zu", &rows, &width), 2);
	assert_int_equal(sscanf(strstr(at, "\"data_offsets\":[") + 16, "%zu", &first), 1);
	n = n == 0 ? rows : n;
	first += 8 + header + row * width * 2;
	assert_true(first + n * width * 2 <= weights->len);
	memset(weights->data + first, 0, n * width * 2);
}

/*
 * The same model without attention and without an end: each token follows from
 * the one before, so that where no n-gram rule stops it, it must go in circles.
 */
static DsocrEngine *
open_endless(void)
{
	DsocrBuffer weights = {0};
	DsocrError err = {0};
	FILE *f;

	assert_true(dsocr_read_file("models/nano/model.safetensors", 1 << 26, &weights, &err));
	take_away(&weights, "\"lm_head.weight\"", END, 1);
	for (int i = 0; i < LAYERS; i++)
	{
		char name[64];

		snprintf(name, sizeof(name), "\"model.layers.%d.self_attn.o_proj.weight\"", i);
		take_away(&weights, name, 0, 0);
	}
	unlink(FOLDER "/model.safetensors");
	f = fopen(FOLDER "/model.safetensors", "w");
	assert_non_null(f);
	assert_int_equal(fwrite(weights.data, 1, weights.len, f), weights.len);
	assert_int_equal(fclose(f), 0);
	dsocr_buffer_free(&weights);
	return open_with(FOUR_MODES, 4, 0);
}

/* As much as that loop takes to be seen, and more. */
static void
read_without_detector(DsocrRequest *r, EdDriver *d)
{
	const DsocrEngineOptions options = {.model = FOLDER,
										.backend = {.device = "cpu", .threads = 2},
										.max_sequences = 1,
										.keep_loops = true};
	DsocrError err = {0};
	DsocrEngine *e = dsocr_engine_open(&options, &err);

	assert_non_null(e);
	r->max_tokens = 1300;
	read_one(e, r, d);
	dsocr_engine_close(e);
}

/* The text stands up to the loop, with the numbers that it would have alone. */
static void
test_loop(void **state)
{
	DsocrEngine *endless = open_endless();
	DsocrRequest r = request(1, ED_PAGES, DSOCR_MODE_SMALL, 0);
	const EdOutcome *o;
	EdDriver d;
	EdDriver whole;

	r.ngram_size = 0;
	r.ladder = false;
	read_one(endless, &r, &d);
	o = &d.outcomes[1];
	assert_int_equal(o->finish, DSOCR_FINISH_LOOP);
	assert_int_equal(o->attempts[0].finish, DSOCR_FINISH_LOOP);
	assert_in_range(o->tokens, 0, 1000);
	assert_true(o->last.text_tokens > o->tokens);
	/* as much as was kept, read on purpose */
	r.max_tokens = o->tokens > 0 ? o->tokens : 1;
	read_one(endless, &r, &whole);
	if (o->tokens > 0)
	{
		assert_string_equal(o->raw, whole.outcomes[1].raw);
		assert_int_equal(o->tokens, whole.outcomes[1].tokens);
		assert_memory_equal(&o->logprob, &whole.outcomes[1].logprob, sizeof(double));
	}
	ed_free(&whole);
	/* nobody looks */
	read_without_detector(&r, &whole);
	assert_int_not_equal(whole.outcomes[1].finish, DSOCR_FINISH_LOOP);
	assert_true(whole.outcomes[1].tokens > 1200);
	if (o->tokens > 0)
		assert_memory_equal(o->raw, whole.outcomes[1].raw, strlen(o->raw));
	ed_free(&whole);
	ed_free(&d);
	/* a loop is read again as well */
	r.max_tokens = 0;
	r.ladder = true;
	read_one(endless, &r, &d);
	assert_true(o->n_attempts > 1);
	assert_int_equal(o->attempts[0].finish, DSOCR_FINISH_LOOP);
	ed_free(&d);
	dsocr_engine_close(endless);
}

/* Large letters are read in a smaller mode than usual, exactly as if it had been named. */
static void
test_choice(void **state)
{
	DsocrRequest r = request(1, ED_PAGES, DSOCR_MODE_AUTO, 40);
	DsocrRequest named = request(1, ED_PAGES, DSOCR_MODE_SMALL, 40);
	DsocrEngine *e;
	EdDriver d;
	EdDriver other;

	r.ladder = named.ladder = false;
	read_one(engine, &r, &d);
	assert_int_equal(d.outcomes[1].mode, DSOCR_MODE_SMALL);
	read_one(engine, &named, &other);
	ed_same(&d.outcomes[1], &other.outcomes[1]);
	assert_int_equal(d.outcomes[1].prompt_tokens, other.outcomes[1].prompt_tokens);
	ed_free(&d);
	ed_free(&other);

	/* turned pages are looked at when they are upright; the room for tokens is that of the mode */
	r.auto_rotate = named.auto_rotate = true;
	r.max_tokens = named.max_tokens = 0;
	read_one(engine, &r, &d);
	read_one(engine, &named, &other);
	ed_same(&d.outcomes[1], &other.outcomes[1]);
	ed_free(&d);
	ed_free(&other);
	r.auto_rotate = false;
	r.max_tokens = 40;

	/* digits that are not read as text say nothing: the usual mode */
	r = request(1, 0, DSOCR_MODE_AUTO, 10);
	r.ladder = false;
	e = open_with("\"mode\": \"tiny\", \"modes\": [\"tiny\", \"base\"]", 2, 0);
	read_one(e, &r, &d);
	assert_true(d.outcomes[1].mode == DSOCR_MODE_TINY || d.outcomes[1].mode == DSOCR_MODE_BASE);
	ed_free(&d);
	dsocr_engine_close(e);
	/* one mode alone leaves no choice and no ladder */
	e = open_with("\"mode\": \"small\", \"modes\": [\"small\"]", 2, 0);
	r.ladder = true;
	read_one(e, &r, &d);
	assert_int_equal(d.outcomes[1].mode, DSOCR_MODE_SMALL);
	assert_int_equal(d.outcomes[1].n_attempts, 1);
	ed_free(&d);
	dsocr_engine_close(e);
}

static int
set_up(void **state)
{
	char here[4096];
	DsocrError err = {0};

	ed_setup();
	if (getcwd(here, sizeof(here)) == NULL || (mkdir("build", 0777) != 0 && access("build", F_OK)))
		return -1;
	mkdir(FOLDER, 0777);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
	{
		char from[8192];
		char to[256];

		snprintf(from, sizeof(from), "%s/models/nano/%s", here, files[i]);
		snprintf(to, sizeof(to), FOLDER "/%s", files[i]);
		unlink(to);
		if (symlink(from, to) != 0)
			return -1;
	}
	if (!dsocr_read_file("test/samples/receipt.png", 1 << 20, &receipt, &err))
		return -1;
	engine = open_with(FOUR_MODES, 4, 0);
	return 0;
}

static int
tear_down(void **state)
{
	dsocr_engine_close(engine);
	dsocr_buffer_free(&receipt);
	ed_teardown();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_pages_climb),
		cmocka_unit_test(test_first_stop_wins),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_no_deadlock),
		cmocka_unit_test(test_no_memory_for_more),
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_loop),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
