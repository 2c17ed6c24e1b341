/*-------------------------------------------------------------------------
 *
 * bench_engine.c
 *		Whole pages through the engine: latency of one, throughput of many.
 *
 *		bench_engine --model DIR [--device cuda:0] [--precision bf16]
 *					 [--batch 256] [--quick]
 *
 * Commands and answers as in bench_model:
 *
 *		info
 *		page MODE TOKENS			one page of one view or gundam, from PNG to text
 *		pages MODE N TOKENS			N pages as fast as the engine takes them
 *		quit
 *
 * A model of random weights does not end a text by itself: every page gets
 * its number of tokens, and the answer says how many there were.  Pages of
 * gundam mode are drawn with 1240 x 1754 pixels, which is six tiles and the
 * global view; the others with 1000 x 1000.
 *
 *-------------------------------------------------------------------------
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "gp.h"

#define MAX_RUNS 9

typedef struct Totals
{
	int pages;
	int failed;
	int64_t tokens;
	int64_t image_tokens;
	DsocrTimings timings; /* sums */
	DsocrError first;
} Totals;

typedef struct Bench
{
	DsocrEngine *engine;
	bool quick;
	double open_s;
	DsocrBuffer *pages; /* some PNG files */
	int n_pages;
	uint64_t next_id;
	Totals totals;
	DsocrError err;
} Bench;

static void
on_done(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error)
{
	Totals *t = arg;

	if (error->code != DSOCR_OK)
	{
		if (t->failed++ == 0)
			t->first = *error;
		return;
	}
	t->pages++;
	t->tokens += result->text_tokens;
	t->image_tokens += result->image_tokens;
	t->timings.queued += result->timings.queued;
	t->timings.preprocess += result->timings.preprocess;
	t->timings.encode += result->timings.encode;
	t->timings.prefill += result->timings.prefill;
	t->timings.decode += result->timings.decode;
}

/* A few different pages, drawn once for a mode. */
static void
draw(Bench *b, DsocrMode mode)
{
	bool gundam = mode == DSOCR_MODE_GUNDAM || mode == DSOCR_MODE_GUNDAM_M;

	for (int i = 0; i < b->n_pages; i++)
		gp_page(&b->pages[i], gundam ? 1240 : 1000, gundam ? 1754 : 1000, (uint64_t) i + 77);
}

/* Read n pages, all of them admitted at once; seconds, or -1. */
static double
read_pages(Bench *b, DsocrMode mode, int n, int tokens)
{
	DsocrEvents events = {.done = on_done, .arg = &b->totals};
	int64_t start = dsocr_now_us();

	memset(&b->totals, 0, sizeof(b->totals));
	for (int i = 0; i < n; i++)
	{
		const DsocrBuffer *png = &b->pages[i % b->n_pages];
		DsocrRequest request = {.id = b->next_id++,
								.task = DSOCR_TASK_MARKDOWN,
								.priority = DSOCR_BULK,
								.mode = mode,
								.max_tokens = tokens,
								.ngram_size = 30,
								.ngram_window = 90,
								.max_pixels = 1 << 26,
								.image = (const uint8_t *) png->data,
								.image_len = png->len};

		if (!dsocr_engine_admit(b->engine, &request, &b->err))
			return -1;
	}
	while (dsocr_engine_pending(b->engine) > 0)
		if (!dsocr_engine_step(b->engine, &events, &b->err) && b->err.code != DSOCR_OK)
			return -1;
	if (b->totals.failed > 0)
	{
		b->err = b->totals.first;
		return -1;
	}
	return (double) (dsocr_now_us() - start) / 1e6;
}

static void
fail(const Bench *b)
{
	char text[sizeof(b->err.message)];
	size_t n = 0;

	for (const char *p = b->err.message; *p != '\0'; p++)
		text[n++] = *p == '"' || *p == '\\' || (unsigned char) *p < 32 ? '\'' : *p;
	text[n] = '\0';
	printf("{\"error\": \"%s\"}\n", text);
}

static void
print_timings(const Bench *b)
{
	const Totals *t = &b->totals;
	double n = 1e3 * (t->pages > 0 ? t->pages : 1);

	printf(", \"tokens\": %" PRId64 ", \"image_tokens\": %" PRId64
		   ", \"mean_ms\": {\"queued\": %.3f, \"preprocess\": %.3f, "
		   "\"encode\": %.3f, \"prefill\": %.3f, \"decode\": %.3f}}\n",
		   t->tokens, t->image_tokens, (double) t->timings.queued / n,
		   (double) t->timings.preprocess / n, (double) t->timings.encode / n,
		   (double) t->timings.prefill / n, (double) t->timings.decode / n);
}

static void
do_page(Bench *b, DsocrMode mode, int tokens)
{
	double times[MAX_RUNS];
	int runs = b->quick ? 1 : 3;

	draw(b, mode);
	for (int run = b->quick ? 0 : -1; run < runs; run++)
	{
		double seconds = read_pages(b, mode, 1, tokens);

		if (seconds < 0)
		{
			fail(b);
			return;
		}
		if (run >= 0)
			times[run] = seconds * 1e3;
	}
	printf("{\"ms\": %.3f, \"runs\": %d", gp_median(times, runs), runs);
	print_timings(b);
}

static void
do_pages(Bench *b, DsocrMode mode, int n, int tokens)
{
	double seconds;

	draw(b, mode);
	seconds = read_pages(b, mode, n, tokens);
	if (seconds < 0)
	{
		fail(b);
		return;
	}
	printf("{\"ms\": %.3f, \"pages\": %d, \"pages_per_s\": %.4f, \"tokens_per_s\": %.2f",
		   seconds * 1e3, n, n / seconds, (double) b->totals.tokens / seconds);
	print_timings(b);
}

static int
mode_of(const char *name)
{
	for (int i = 0; i < DSOCR_N_MODES; i++)
		if (strcmp(dsocr_mode_names[i], name) == 0)
			return i;
	return -1;
}

static bool
obey(Bench *b, const char *line)
{
	char word[16] = "";
	char mode[16] = "";
	int x = 0;
	int y = 0;
	int n = sscanf(line, "%15s %15s %d %d", word, mode, &x, &y);

	memset(&b->err, 0, sizeof(b->err));
	if (strcmp(word, "quit") == 0)
		return false;
	if (strcmp(word, "info") == 0)
		printf("{\"description\": \"%s\", \"open_s\": %.3f, \"max_sequences\": %d, "
			   "\"kv_bytes\": %" PRId64 "}\n",
			   dsocr_engine_info(b->engine)->device, b->open_s,
			   dsocr_engine_info(b->engine)->max_sequences, dsocr_engine_info(b->engine)->kv_bytes);
	else if (strcmp(word, "page") == 0 && n == 3 && mode_of(mode) >= 0 && x > 0)
		do_page(b, (DsocrMode) mode_of(mode), x);
	else if (strcmp(word, "pages") == 0 && n == 4 && mode_of(mode) >= 0 && x > 0 && y > 0)
		do_pages(b, (DsocrMode) mode_of(mode), x, y);
	else
		printf("{\"error\": \"what is this command?\"}\n");
	fflush(stdout);
	return b->err.code != DSOCR_E_DEVICE;
}

int
main(int argc, char **argv)
{
	GpOptions o = {.backend = {.device = "cuda:0"}, .batch = 256};
	Bench b = {.n_pages = 8};
	DsocrEngineOptions options = {0};
	int64_t start = dsocr_now_us();
	char line[256];
	DsocrError err = {0};

	gp_options(argc, argv, &o);
	if (o.model == NULL || o.batch < 1)
		gp_die("usage: bench_engine --model DIR [options]");
	b.quick = o.quick;
	if (o.quick)
		b.n_pages = 2;
	b.pages = gp_need(dsocr_zalloc((size_t) b.n_pages, sizeof(*b.pages), NULL), NULL);
	options.model = o.model;
	options.backend = o.backend;
	options.max_sequences = o.batch;
	options.keep_loops = true; /* made-up weights write nothing else */
	/* 2,048 positions for every place */
	options.kv_bytes = o.quick ? 0 : (size_t) o.batch * 2048 * 61440;
	b.engine = gp_need(dsocr_engine_open(&options, &err), &err);
	b.open_s = (double) (dsocr_now_us() - start) / 1e6;
	while (fgets(line, sizeof(line), stdin) != NULL && obey(&b, line))
		;
	if (b.err.code == DSOCR_E_DEVICE)
		gp_die("%s", b.err.message);
	dsocr_engine_close(b.engine);
	return 0;
}
