/*-------------------------------------------------------------------------
 *
 * invariance.c
 *		Pages read alone and in company must come out the same, bit for bit.
 *
 *		invariance --model DIR [--device cuda:0] [--precision bf16]
 *				   [--pages 1000] [--batch 64] [--tokens 40] [--seed 1]
 *
 * Every page is read three times: alone in an engine of one place, and twice
 * in engines of many places in different orders, where it meets other pages
 * at every stage.  Text, finish, number of tokens and the mean
 * log-probability must be equal to the last bit.  Sizes, modes, limits and
 * rules of the pages differ.
 *
 *-------------------------------------------------------------------------
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "gp.h"

typedef struct Reading
{
	bool done;
	char *raw;
	int text_tokens;
	DsocrFinish finish;
	double mean_logprob;
	int64_t decode; /* microseconds of steps it was part of */
} Reading;

typedef struct Run
{
	DsocrEngine *engine;
	Reading *readings; /* [pages] */
	int failed;
} Run;

static void
on_done(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error)
{
	Run *run = arg;
	Reading *r = &run->readings[id];

	if (error->code != DSOCR_OK)
	{
		if (run->failed++ == 0)
			printf("page %" PRIu64 ": %s\n", id, error->message);
		return;
	}
	r->done = true;
	r->raw = gp_need(dsocr_strdup(result->raw, NULL), NULL);
	r->text_tokens = result->text_tokens;
	r->finish = result->finish;
	r->mean_logprob = result->mean_logprob;
	r->decode = result->timings.decode;
}

/* Mostly small pages; of a hundred a few of each larger kind. */
static void
make_request(const GpOptions *o, int page, DsocrRequest *request, DsocrBuffer *png)
{
	uint64_t seed = o->seed * 1000003 + (uint64_t) page;
	int kind = gp_between(&seed, 0, o->quick ? 59 : 99);
	int width = gp_between(&seed, 40, 300);
	int height = gp_between(&seed, 40, 300);

	memset(request, 0, sizeof(*request));
	request->mode = kind < 60	? DSOCR_MODE_TINY
					: kind < 92 ? DSOCR_MODE_SMALL
					: kind < 97 ? DSOCR_MODE_BASE
								: DSOCR_MODE_GUNDAM;
	if (request->mode == DSOCR_MODE_GUNDAM)
	{
		width += 500;
		height += 700;
	}
	gp_page(png, width, height, seed);
	request->id = (uint64_t) page;
	request->task = gp_between(&seed, 0, 1) ? DSOCR_TASK_MARKDOWN : DSOCR_TASK_TEXT;
	request->priority = gp_between(&seed, 0, 3) ? DSOCR_BULK : DSOCR_INTERACTIVE;
	request->max_tokens = gp_between(&seed, 1, o->tokens);
	request->ngram_size = gp_between(&seed, 0, 2) ? 8 : 0;
	request->ngram_window = gp_between(&seed, 0, 1) ? 24 : 0;
	request->max_pixels = 1 << 24;
	request->image = (const uint8_t *) png->data;
	request->image_len = png->len;
}

static DsocrEngine *
open_engine(const GpOptions *o, int places)
{
	DsocrEngineOptions options = {
		.model = o->model, .backend = o->backend, .max_sequences = places};
	DsocrError err = {0};

	return gp_need(dsocr_engine_open(&options, &err), &err);
}

/* Read all pages of an order, as many at a time as there are places. */
static double
read_pages(const GpOptions *o, int places, const int *order, Reading *readings)
{
	Run run = {.engine = open_engine(o, places), .readings = readings};
	DsocrEvents events = {.done = on_done, .arg = &run};
	DsocrBuffer png = {0};
	DsocrError err = {0};
	int64_t start = dsocr_now_us();
	double seconds;
	int next = 0;

	if (places > 1)
		printf("%s\n", dsocr_engine_info(run.engine)->device);
	while (next < o->pages || dsocr_engine_pending(run.engine) > 0)
	{
		/* a few waiting, so that nobody has to wait for an arrival */
		while (next < o->pages && dsocr_engine_pending(run.engine) < places + (places > 1 ? 4 : 0))
		{
			DsocrRequest request;

			make_request(o, order[next++], &request, &png);
			if (!dsocr_engine_admit(run.engine, &request, &err))
				gp_die("%s", err.message);
		}
		if (!dsocr_engine_step(run.engine, &events, &err) && err.code != DSOCR_OK)
			gp_die("%s", err.message);
	}
	seconds = (double) (dsocr_now_us() - start) / 1e6;
	dsocr_buffer_free(&png);
	dsocr_engine_close(run.engine);
	gp_check(run.failed == 0, "%d pages could not be read", run.failed);
	return seconds;
}

static bool
same(const Reading *a, const Reading *b)
{
	return a->done && b->done && strcmp(a->raw, b->raw) == 0 && a->text_tokens == b->text_tokens &&
		   a->finish == b->finish &&
		   memcmp(&a->mean_logprob, &b->mean_logprob, sizeof(double)) == 0;
}

static void
compare(const GpOptions *o, const Reading *alone, const Reading *company, const char *what)
{
	int different = 0;

	for (int i = 0; i < o->pages; i++)
	{
		if (same(&alone[i], &company[i]))
		{
			gp_passed++;
			continue;
		}
		gp_failed++;
		if (different++ < 5 && alone[i].done && company[i].done)
			printf("FAIL page %d %s: %d and %d tokens, %.17g and %.17g\n", i, what,
				   alone[i].text_tokens, company[i].text_tokens, alone[i].mean_logprob,
				   company[i].mean_logprob);
	}
}

static void
shuffle(int *order, int n, uint64_t seed)
{
	for (int i = n - 1; i > 0; i--)
	{
		int j = gp_between(&seed, 0, i);
		int t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
}

/* Pages must differ, or equality says nothing. */
static void
check_worth(const GpOptions *o, const Reading *r)
{
	int tokens = 0;
	int distinct = 1;

	for (int i = 0; i < o->pages; i++)
	{
		tokens += r[i].text_tokens;
		distinct += i > 0 && r[i].mean_logprob != r[i - 1].mean_logprob;
	}
	gp_check(distinct > o->pages / 2, "only %d of %d pages differ from the one before", distinct,
			 o->pages);
	printf("%d tokens\n", tokens);
}

int
main(int argc, char **argv)
{
	GpOptions o = {
		.backend = {.device = "cuda:0"}, .pages = 1000, .batch = 64, .tokens = 40, .seed = 1};
	Reading *readings[3];
	int *order;

	gp_options(argc, argv, &o);
	if (o.model == NULL || o.pages < 2 || o.batch < 2 || o.tokens < 1)
		gp_die("usage: invariance --model DIR [options]");
	order = gp_need(dsocr_alloc((size_t) o.pages, sizeof(*order), NULL), NULL);
	for (int i = 0; i < o.pages; i++)
		order[i] = i;
	for (int round = 0; round < 3; round++)
	{
		/* every round has another number of places: buckets are met on the way up and down */
		static const int part[3] = {0, 1, 3};
		int places = round == 0 ? 1 : o.batch / part[round] > 1 ? o.batch / part[round] : 2;
		double seconds;

		readings[round] = gp_need(dsocr_zalloc((size_t) o.pages, sizeof(**readings), NULL), NULL);
		seconds = read_pages(&o, places, order, readings[round]);
		printf("%d pages, %d at a time: %.1f s\n", o.pages, places, seconds);
		fflush(stdout);
		shuffle(order, o.pages, o.seed + (uint64_t) round);
		if (round == 0)
			check_worth(&o, readings[0]);
		else
			compare(&o, readings[0], readings[round],
					round == 1 ? "in company" : "in other company");
	}
	for (int round = 0; round < 3; round++)
	{
		for (int i = 0; i < o.pages; i++)
			dsocr_free(readings[round][i].raw);
		dsocr_free(readings[round]);
	}
	dsocr_free(order);
	return gp_close_line();
}
