/*-------------------------------------------------------------------------
 *
 * bench_model.c
 *		Encoder, prefill and decoding of a model, as told line by line.
 *
 *		bench_model --model DIR [--device cuda:0] [--precision bf16]
 *					[--memory MB] [--tools FILE] [--batch 512] [--quick]
 *
 * Reads commands, one a line, and answers each with one JSON object a line;
 * {"error": TEXT} when it could not be done.
 *
 *		info
 *		copy BYTES					device to device, with gp_tools.so
 *		product N					bf16 [N, N] x [N, N] through linear
 *		encode SIZE VIEWS			views of SIZE pixels together
 *		prefill TOKENS
 *		decode BATCH CONTEXT		a step of so many rows at that context
 *		trace encode ...			the same with the time of each operation
 *		quit
 *
 * Times are in milliseconds, medians.  Each step of decoding waits for its
 * ids as the engine does.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gp_model.h"
#include "gp_trace.h"

#define MAX_RUNS 60
#define STEPS 24 /* of one timing */
#define BUDGET_US 1000000

typedef struct Bench
{
	GpModel g;
	bool quick;
	bool trace; /* print operations instead of times */
	DsocrError err;
} Bench;

/* What is timed; false stops with an error. */
typedef bool (*Work)(Bench *b, void *arg);

typedef struct Timed
{
	double ms; /* median */
	double fastest;
	int runs;
} Timed;

static bool
time_work(Bench *b, Work work, void *arg, int warm, Timed *t)
{
	double times[MAX_RUNS];
	double sum = 0;
	int least = b->quick ? 1 : 5;

	memset(t, 0, sizeof(*t));
	for (int i = 0; i < (b->quick ? 1 : warm); i++)
		if (!work(b, arg))
			return false;
	while (t->runs < least || (!b->quick && t->runs < MAX_RUNS && sum < BUDGET_US))
	{
		int64_t start = dsocr_now_us();

		if (!work(b, arg))
			return false;
		times[t->runs] = (double) (dsocr_now_us() - start);
		sum += times[t->runs++];
	}
	t->ms = gp_median(times, t->runs) / 1e3;
	t->fastest = times[0] / 1e3; /* sorted */
	return true;
}

static bool
fail(const Bench *b)
{
	char text[sizeof(b->err.message)];
	size_t n = 0;

	for (const char *p = b->err.message; *p != '\0'; p++)
		text[n++] = *p == '"' || *p == '\\' || (unsigned char) *p < 32 ? '\'' : *p;
	text[n] = '\0';
	printf("{\"error\": \"%s\"}\n", text);
	return false;
}

/* Time work and answer; with trace, one run of it operation by operation. */
static bool
answer(Bench *b, Work work, void *arg, double items, const char *unit)
{
	Timed t;

	if (!time_work(b, work, arg, 3, &t))
		return fail(b);
	printf("{\"ms\": %.5f, \"fastest\": %.5f, \"runs\": %d", t.ms, t.fastest, t.runs);
	if (unit != NULL)
		printf(", \"%s\": %.3f", unit, 1e3 * items / t.ms);
	if (b->trace)
	{
		gp_trace_on();
		if (!work(b, arg))
			memset(&t, 0, sizeof(t));
		gp_trace_off();
		printf(", \"ops\": ");
		gp_trace_print();
	}
	printf("}\n");
	return true;
}

/* ---- ceilings ---- */

typedef struct Product
{
	int n;
	DsocrMatrix *w;
	void *x;
	void *y;
} Product;

static bool
work_product(Bench *b, void *arg)
{
	const Product *p = arg;

	b->g.be->ops->linear(b->g.be, p->y, p->x, p->n, p->w, NULL, DSOCR_ACT_NONE, NULL, p->n);
	return b->g.be->ops->sync(b->g.be, &b->err);
}

static bool
do_product(Bench *b, int n)
{
	const DsocrBackendOps *ops = b->g.be->ops;
	size_t count = (size_t) n * (size_t) n;
	uint16_t *values = dsocr_alloc(count, sizeof(*values), &b->err);
	float *host = dsocr_alloc((size_t) n, sizeof(*host), &b->err);
	DsocrTensor t = {
		.name = "product", .ndim = 2, .shape = {n, n}, .count = (int64_t) count, .data = values};
	const DsocrTensor *part = &t;
	Product p = {.n = n};
	bool ok = false;

	if (values != NULL && host != NULL)
	{
		gp_halves(values, count, 0.05f, 1);
		for (int i = 0; i < n; i++)
			host[i] = dsocr_bf16_to_f32(values[i]);
		p.w = ops->matrix(b->g.be, &part, 1, false, &b->err);
		p.x = p.w != NULL ? ops->alloc(b->g.be, count, &b->err) : NULL;
		p.y = p.x != NULL ? ops->alloc(b->g.be, count, &b->err) : NULL;
	}
	for (int i = 0; p.y != NULL && i < n; i++)
	{
		for (int j = 0; j < n; j++)
			host[j] = dsocr_bf16_to_f32(values[((size_t) i * 31 + (size_t) j) % count]);
		ops->write(b->g.be, dsocr_act(b->g.be, p.x, (size_t) i * (size_t) n), host, (size_t) n);
	}
	ok = p.y != NULL ? answer(b, work_product, &p, 2.0 * n * (double) count, "flops_per_s")
					 : fail(b);
	if (p.y != NULL)
		ops->free(b->g.be, p.y);
	if (p.x != NULL)
		ops->free(b->g.be, p.x);
	if (p.w != NULL)
		ops->matrix_free(b->g.be, p.w);
	dsocr_free(values);
	dsocr_free(host);
	return ok;
}

/* ---- the encoder ---- */

typedef struct Encode
{
	int size;
	int views;
	const uint8_t *rgb[DSOCR_MAX_TOGETHER];
	void *tokens;
} Encode;

static bool
work_encode(Bench *b, void *arg)
{
	const Encode *e = arg;

	return dsocr_encoder_run(b->g.m->encoder, e->rgb, e->views, e->size, e->tokens, NULL, NULL,
							 &b->err) &&
		   b->g.be->ops->sync(b->g.be, &b->err);
}

static bool
do_encode(Bench *b, int size, int views)
{
	const DsocrBackendOps *ops = b->g.be->ops;
	size_t bytes = (size_t) size * (size_t) size * 3;
	size_t side = (size_t) (size / b->g.m->config.patch + 3) / 4;
	Encode e = {.size = size, .views = views};
	uint8_t *rgb = NULL;
	uint64_t seed = 5;
	bool ok;

	if (views < 1 || views > DSOCR_MAX_TOGETHER)
		dsocr_fail(&b->err, DSOCR_E_ARGUMENT, "views: 1 to %d", DSOCR_MAX_TOGETHER);
	else
		rgb = dsocr_alloc(bytes, (size_t) views, &b->err);
	if (rgb == NULL)
		return fail(b);
	for (size_t i = 0; i < bytes * (size_t) views; i++)
		rgb[i] = i % 48 ? rgb[i - 1] : (uint8_t) gp_next(&seed);
	for (int i = 0; i < views; i++)
		e.rgb[i] = rgb + (size_t) i * bytes;
	e.tokens =
		ops->alloc(b->g.be, (size_t) views * side * side * (size_t) b->g.m->config.hidden, &b->err);
	ok = e.tokens != NULL ? answer(b, work_encode, &e, views, "views_per_s") : fail(b);
	if (e.tokens != NULL)
		ops->free(b->g.be, e.tokens);
	dsocr_free(rgb);
	return ok;
}

/* ---- the decoder ---- */

static bool
work_prefill(Bench *b, void *arg)
{
	DsocrWatch watch = {0};
	DsocrSequence s = {0};
	int n = *(int *) arg;
	bool ok = gp_model_start(&b->g, &s, n, n + 1, false, 11, &b->err);

	while (ok && s.filled < s.prompt_len)
		ok = dsocr_sequence_prefill(&s, b->g.m, &watch, &b->err);
	dsocr_sequence_end(&s, b->g.m);
	return ok;
}

static bool
do_prefill(Bench *b, int n)
{
	if (!gp_model_room(&b->g, 1, n + 1, &b->err))
		return fail(b);
	return answer(b, work_prefill, &n, n, "tokens_per_s");
}

typedef struct Decode
{
	int batch;
	int steps; /* of one call */
	DsocrSequence *s;
	DsocrSequence **list;
	int32_t *ids;
	float *logprobs;
	int context;
} Decode;

/* So many steps from the context on; then the texts are what they were. */
static bool
work_steps(Bench *b, void *arg)
{
	const Decode *d = arg;
	DsocrWatch watch = {0};

	for (int step = 0; step < d->steps; step++)
	{
		if (!dsocr_sequences_decode(d->list, d->batch, b->g.m, &watch, d->ids, d->logprobs,
									&b->err))
			return false;
		for (int i = 0; i < d->batch; i++)
			dsocr_sequence_push(d->list[i], d->ids[i]);
	}
	return true;
}

static void
rewind_texts(Bench *b, const Decode *d)
{
	for (int i = 0; i < d->batch; i++)
	{
		d->s[i].n = d->context;
		dsocr_sequence_text(&d->s[i], b->g.m);
	}
}

static bool
time_steps(Bench *b, Decode *d)
{
	double times[MAX_RUNS];
	double sum = 0;
	int runs = 0;

	for (int run = -1; run < 1 || (!b->quick && run < 15 && (run < 5 || sum < BUDGET_US)); run++)
	{
		int64_t start;

		rewind_texts(b, d);
		if (!b->g.be->ops->sync(b->g.be, &b->err))
			return fail(b);
		start = dsocr_now_us();
		if (!work_steps(b, d))
			return fail(b);
		if (run < 0)
			continue; /* recorded here */
		times[runs] = (double) (dsocr_now_us() - start) / 1e3 / d->steps;
		sum += times[runs++] * d->steps * 1e3;
	}
	printf("{\"ms\": %.5f, \"runs\": %d, \"steps\": %d", gp_median(times, runs), runs, d->steps);
	printf(", \"fastest\": %.5f, \"tokens_per_s\": %.2f", times[0],
		   1e3 * d->batch / gp_median(times, runs));
	if (b->trace)
	{
		d->steps = 1;
		rewind_texts(b, d);
		gp_trace_on();
		if (!work_steps(b, d))
			d->steps = 0;
		gp_trace_off();
		printf(", \"ops\": ");
		gp_trace_print();
	}
	printf("}\n");
	return true;
}

static bool
do_decode(Bench *b, int batch, int context)
{
	size_t n = (size_t) batch;
	Decode d = {.batch = batch, .steps = b->quick ? 3 : STEPS, .context = context};
	bool ok = batch >= 1 && batch <= b->g.m->max_sequences && context >= 1;

	if (!ok)
		dsocr_fail(&b->err, DSOCR_E_ARGUMENT, "batch: 1 to %d", b->g.m->max_sequences);
	else
	{
		d.s = dsocr_zalloc(n, sizeof(*d.s), &b->err);
		d.list = dsocr_alloc(n, sizeof(*d.list), &b->err);
		d.ids = dsocr_alloc(n, sizeof(*d.ids), &b->err);
		d.logprobs = dsocr_alloc(n, sizeof(*d.logprobs), &b->err);
		ok = d.s != NULL && d.list != NULL && d.ids != NULL && d.logprobs != NULL &&
			 gp_model_room(&b->g, batch, context + STEPS + 1, &b->err);
	}
	for (int i = 0; ok && i < batch; i++)
	{
		d.list[i] = &d.s[i];
		ok = gp_model_start(&b->g, &d.s[i], context, context + STEPS + 1, true, (uint64_t) i + 1,
							&b->err);
	}
	ok = ok ? time_steps(b, &d) : fail(b);
	for (int i = 0; d.s != NULL && i < batch; i++)
		if (d.s[i].ids != NULL)
			dsocr_sequence_end(&d.s[i], b->g.m);
	dsocr_free(d.s);
	dsocr_free(d.list);
	dsocr_free(d.ids);
	dsocr_free(d.logprobs);
	return ok;
}

/* ---- commands ---- */

static void
do_info(const Bench *b)
{
	char facts[1024] = "null";

	if (b->g.tools != NULL && !b->g.tools->facts(b->g.be, facts, sizeof(facts)))
		snprintf(facts, sizeof(facts), "null");
	printf("{\"description\": \"%s\", \"open_s\": %.3f, \"facts\": %s, \"precision\": \"%s\", "
		   "\"threads\": %d, \"view_pixels\": %zu}\n",
		   b->g.be->description, b->g.seconds, facts,
		   b->g.be->precision == DSOCR_PRECISION_FP32 ? "fp32" : "bf16", b->g.be->threads,
		   b->g.be->view_pixels);
}

static void
do_copy(const Bench *b, long long bytes)
{
	if (b->g.tools == NULL)
		printf("{\"error\": \"copies are measured with gp_tools.so\"}\n");
	else
		printf("{\"bytes_per_s\": %.0f}\n", b->g.tools->copy((size_t) bytes, b->quick ? 1 : 20));
}

/* False when it is time to go. */
static bool
obey(Bench *b, const char *line)
{
	char word[16] = "";
	long long x = 0;
	long long y = 0;
	int n;

	memset(&b->err, 0, sizeof(b->err));
	b->trace = strncmp(line, "trace ", 6) == 0;
	if (b->trace)
		line += 6;
	n = sscanf(line, "%15s %lld %lld", word, &x, &y) - 1;
	if (strcmp(word, "quit") == 0)
		return false;
	if (strcmp(word, "info") == 0)
		do_info(b);
	else if (strcmp(word, "copy") == 0 && n == 1 && x > 0)
		do_copy(b, x);
	else if (strcmp(word, "product") == 0 && n == 1 && x > 0 && x <= 32768)
		do_product(b, (int) x);
	else if (strcmp(word, "encode") == 0 && n == 2 && x > 0 && x <= 4096)
		do_encode(b, (int) x, (int) y);
	else if (strcmp(word, "prefill") == 0 && n == 1 && x > 0 && x <= 8000)
		do_prefill(b, (int) x);
	else if (strcmp(word, "decode") == 0 && n == 2 && y <= 8000)
		do_decode(b, (int) x, (int) y);
	else
		printf("{\"error\": \"what is this command?\"}\n");
	fflush(stdout);
	/* a broken device answers nothing any more */
	return b->err.code != DSOCR_E_DEVICE;
}

int
main(int argc, char **argv)
{
	GpOptions o = {.backend = {.device = "cuda:0"}, .batch = 512};
	Bench b = {.quick = false};
	char line[256];

	gp_options(argc, argv, &o);
	if (o.model == NULL || o.batch < 1)
		gp_die("usage: bench_model --model DIR [options]");
	b.quick = o.quick;
	gp_model_open(&b.g, &o, o.batch);
	while (fgets(line, sizeof(line), stdin) != NULL && obey(&b, line))
		;
	if (b.err.code == DSOCR_E_DEVICE)
		gp_die("%s", b.err.message);
	gp_model_close(&b.g);
	return 0;
}
