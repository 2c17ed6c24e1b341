/*-------------------------------------------------------------------------
 *
 * cli_bench.c
 *		dsocr-engine bench: how fast the model is, next to what the machine allows.
 *
 * The machine's limits are measured in the same run: the rate at which its
 * cores read memory together, and the rate of one large matrix product.  One
 * sequence decodes no faster than its weights can be read; encoding and
 * prefill are no faster than their products.  All figures are medians.
 *
 * Memory may be shared with others, whose demand changes within seconds: its
 * rate is measured before and behind each run of decoding, and the share that
 * decoding reaches is the median of the runs' shares.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"
#include "cli_bench.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "device.h"
#include "sequence.h"

#define PROMPT 800 /* positions prefilled */
#define STEPS 24   /* tokens decoded in a run */
#define TOGETHER 8 /* sequences of the second decoding figure */

static const char usage[] = "usage: dsocr-engine bench [options]\n"
							"  --model DIR        model folder (the embedded one)\n"
							"  --mode NAME        page whose encoding is timed (base)\n"
							"  --device NAME      cpu, cuda:N or auto (cpu)\n"
							"  --precision NAME   bf16, fp32, int8 or int4 (bf16)\n"
							"  --threads N        0 = all cores (0)\n"
							"  --runs N           of which the median counts (3)\n";

static int
compare_doubles(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return (x > y) - (x < y);
}

double
dsocr_bench_median(double *values, int n)
{
	qsort(values, (size_t) n, sizeof(*values), compare_doubles);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double
dsocr_bench_seconds_since(int64_t start)
{
	return (double) (dsocr_now_us() - start) / 1e6;
}

/* ---- measurements ---- */

static bool
time_encode(DsocrBench *b, double *seconds)
{
	size_t bytes = (size_t) b->size * (size_t) b->size * 3;
	uint8_t *rgb = dsocr_alloc(bytes, 1, &b->err);
	const uint8_t *view = rgb;
	size_t side = (size_t) (b->size / b->m->config.patch + 3) / 4;
	void *tokens = b->be->ops->alloc(b->be, side * side * (size_t) b->m->config.hidden, &b->err);
	double times[DSOCR_BENCH_RUNS];
	bool ok = rgb != NULL && tokens != NULL;

	for (size_t i = 0; ok && i < bytes; i++)
		rgb[i] = (uint8_t) (i / 48 * 2654435761u >> 24); /* stripes: a page of any content */
	for (int run = -1; ok && run < b->runs; run++)
	{
		int64_t start = dsocr_now_us();

		ok = dsocr_encoder_run(b->m->encoder, &view, 1, b->size, tokens, NULL, NULL, &b->err);
		if (run >= 0)
			times[run] = dsocr_bench_seconds_since(start);
	}
	if (ok)
		*seconds = dsocr_bench_median(times, b->runs);
	dsocr_free(rgb);
	if (tokens != NULL)
		b->be->ops->free(b->be, tokens);
	return ok;
}

static bool
start_sequence(DsocrBench *b, DsocrSequence *s, unsigned seed)
{
	int32_t ids[PROMPT];
	const DsocrPlan no_image = {.views = 0};

	for (int i = 0; i < PROMPT; i++)
		ids[i] =
			(int32_t) (((unsigned) i * 7919u + seed * 104729u) % (unsigned) b->m->config.vocab);
	if (!dsocr_sequence_start(s, b->m, ids, PROMPT, PROMPT + STEPS * (b->runs + 1) + 1, -1,
							  &no_image, &b->err))
		return false;
	if (!dsocr_sequence_reserve(s, b->m, b->kv))
		return dsocr_fail(&b->err, DSOCR_E_MEMORY, "no pages for %d positions", s->cap);
	return dsocr_sequence_embed(s, b->m, &b->err);
}

static bool
prefill(DsocrBench *b, DsocrSequence *s, double *seconds)
{
	DsocrWatch watch = {.tap = NULL};
	int64_t start = dsocr_now_us();

	while (s->filled < s->prompt_len)
		if (!dsocr_sequence_prefill(s, b->m, &watch, &b->err))
			return false;
	*seconds = dsocr_bench_seconds_since(start);
	return true;
}

/* One greedy token for each of n sequences. */
static bool
decode_step(DsocrBench *b, DsocrSequence **list, int n)
{
	DsocrWatch watch = {.tap = NULL};
	int32_t ids[TOGETHER];
	float logprobs[TOGETHER];

	if (!dsocr_sequences_decode(list, n, b->m, &watch, ids, logprobs, &b->err))
		return false;
	for (int i = 0; i < n; i++)
		dsocr_sequence_push(list[i], ids[i]);
	return true;
}

/* What decoding takes, and what it would take if nothing but reading did. */
typedef struct Decoding
{
	double prefill; /* seconds of PROMPT positions */
	double step;	/* seconds */
	double rate;	/* bytes a second that could be read meanwhile */
	double share;	/* of that rate that was reached */
} Decoding;

/* Runs of STEPS tokens for each of n sequences. */
static bool
time_steps(DsocrBench *b, DsocrSequence **list, int n, double bytes, Decoding *d)
{
	double times[DSOCR_BENCH_RUNS];
	double rates[DSOCR_BENCH_RUNS];
	double shares[DSOCR_BENCH_RUNS];
	double before;
	double after;

	for (int run = -1; run < b->runs; run++)
	{
		int64_t start;
		double seconds;

		if (!dsocr_bench_read_once(b, &before))
			return false;
		start = dsocr_now_us();
		for (int i = 0; i < STEPS; i++)
			if (!decode_step(b, list, n))
				return false;
		seconds = dsocr_bench_seconds_since(start) / STEPS;
		if (!dsocr_bench_read_once(b, &after))
			return false;
		if (run < 0) /* the first warms up */
			continue;
		times[run] = seconds;
		rates[run] = 2 / (1 / before + 1 / after);
		shares[run] = bytes / seconds / rates[run];
	}
	d->step = dsocr_bench_median(times, b->runs);
	d->rate = dsocr_bench_median(rates, b->runs);
	d->share = dsocr_bench_median(shares, b->runs);
	return true;
}

static bool
time_decoder(DsocrBench *b, int n, double bytes, Decoding *d)
{
	DsocrSequence s[TOGETHER] = {{0}};
	DsocrSequence *list[TOGETHER];
	double times[TOGETHER];
	int32_t id;
	float logprob;
	bool ok = true;

	for (int i = 0; ok && i < n; i++)
	{
		list[i] = &s[i];
		ok = start_sequence(b, &s[i], (unsigned) i + 1) && prefill(b, &s[i], &times[i]);
		if (ok)
		{
			b->be->ops->picked(b->be, &id, &logprob, 1);
			dsocr_sequence_push(&s[i], id);
		}
	}
	if (ok)
		d->prefill = dsocr_bench_median(times, n);
	ok = ok && time_steps(b, list, n, bytes, d);
	for (int i = 0; i < n; i++)
		dsocr_sequence_end(&s[i], b->m);
	return ok;
}

static void
line(const char *what, double value, const char *unit, double limit)
{
	printf("%-28s %10.4g %-9s limit %10.4g  %5.1f %%\n", what, value, unit, limit,
		   unit[0] == 's' ? 100 * limit / value : 100 * value / limit);
}

static void
decode_line(const char *what, int n, double bytes, const Decoding *d)
{
	printf("%-28s %10.4g tokens/s  limit %10.4g  %5.1f %%\n", what, n / d->step,
		   n * d->rate / bytes, 100 * d->share);
}

static bool
run_bench(DsocrBench *b)
{
	const DsocrConfig *c = &b->m->config;
	double kv_bytes = (double) dsocr_kv_page_bytes(b->be, c) / DSOCR_PAGE_TOKENS * (PROMPT + STEPS);
	double one_bytes = dsocr_bench_decoder_bytes(b, 1) + kv_bytes;
	double many_bytes = dsocr_bench_decoder_bytes(b, TOGETHER) + TOGETHER * kv_bytes;
	Decoding one = {0};
	Decoding many = {0};
	double encode = 0;
	struct rusage usage;

	/* the first prefill maps the weights; the median of the second group does not */
	if (!time_encode(b, &encode) || !time_decoder(b, 1, one_bytes, &one) ||
		!time_decoder(b, TOGETHER, many_bytes, &many))
		return false;
	getrusage(RUSAGE_SELF, &usage);
	if (!dsocr_bench_product(b))
		return false;

	printf("memory reading               %10.4g GB/s\n", one.rate / 1e9);
	printf("matrix product               %10.4g GFLOP/s\n", b->flops_per_s / 1e9);
	line("encode a page", encode, "s", dsocr_bench_encode_flops(c, b->size) / b->flops_per_s);
	printf("first prefill                %10.4g tokens/s\n", PROMPT / one.prefill);
	/* a prompt needs all products of one token but those of lm_head */
	line("prefill", PROMPT / many.prefill, "tokens/s",
		 b->flops_per_s / 2 / (dsocr_bench_decoder_weights(c, 1) - (double) c->hidden * c->vocab));
	decode_line("decode, 1 sequence", 1, one_bytes, &one);
	decode_line("decode, 8 sequences", TOGETHER, many_bytes, &many);
	printf("peak resident memory         %10.4g GiB\n",
		   (double) usage.ru_maxrss / (1 << 20) - (double) DSOCR_BENCH_READ_BYTES / (1 << 30));
	return true;
}

static bool
open_bench(DsocrBench *b, const char *model, const DsocrBackendOptions *options)
{
	int64_t start = dsocr_now_us();
	int cap = PROMPT + STEPS * (b->runs + 1) + 1;

	b->be = dsocr_device_open(options, &b->err);
	if (b->be == NULL)
		return false;
	b->m = dsocr_model_open(b->be, model, NULL, TOGETHER, &b->err);
	if (b->m == NULL)
		return false;
	b->kv = dsocr_kv_cache_open(b->be, &b->m->config, TOGETHER * dsocr_kv_pages(cap), TOGETHER,
								&b->err);
	if (b->kv == NULL)
		return false;
	printf("%s on %s, %s, median of %d runs\n", b->m->config.name, b->be->description,
		   options->precision == DSOCR_PRECISION_FP32
			   ? "fp32"
			   : dsocr_quant_name(dsocr_quantized_dtype(b->m->weights)),
		   b->runs);
	printf("open                         %10.4g s\n", dsocr_bench_seconds_since(start));
	return true;
}

static int
read_options(int argc, char **argv, DsocrBench *b, DsocrBackendOptions *backend, const char **model)
{
	static const struct option options[] = {
		{"model", required_argument, NULL, 'm'},   {"mode", required_argument, NULL, 'o'},
		{"device", required_argument, NULL, 'd'},  {"precision", required_argument, NULL, 'p'},
		{"threads", required_argument, NULL, 't'}, {"runs", required_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},		   {NULL, 0, NULL, 0}};
	long long number;
	int mode = DSOCR_MODE_BASE;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		bool ok = true;

		if (c == 'm')
			*model = optarg;
		else if (c == 'o')
		{
			mode = dsocr_cli_name("mode", optarg, dsocr_mode_names, DSOCR_N_MODES);
			ok = mode >= 0 && mode != DSOCR_MODE_AUTO;
		}
		else if (c == 'd')
			backend->device = optarg;
		else if (c == 'p')
			ok = dsocr_cli_precision(optarg, &backend->precision, &backend->weights);
		else if (c == 't' && (ok = dsocr_cli_number("threads", optarg, 0, 1024, &number)))
			backend->threads = (int) number;
		else if (c == 'r' && (ok = dsocr_cli_number("runs", optarg, 1, DSOCR_BENCH_RUNS, &number)))
			b->runs = (int) number;
		else if (c == 'h')
		{
			fputs(usage, stdout);
			return 0;
		}
		else if (c == '?')
			ok = false;
		if (!ok)
		{
			fputs(usage, stderr);
			return 2;
		}
	}
	if (optind < argc)
	{
		fputs(usage, stderr);
		return 2;
	}
	b->size = dsocr_mode_spec((DsocrMode) mode).base_size;
	return -1;
}

int
dsocr_cli_bench(int argc, char **argv)
{
	DsocrBackendOptions backend = {.device = "cpu", .log = dsocr_cli_log};
	DsocrBench b = {.runs = 3};
	const char *model = NULL;
	char path[4096];
	int status = read_options(argc, argv, &b, &backend, &model);
	bool ok;

	if (status >= 0)
		return status;
	if (model == NULL)
	{
		dsocr_cli_default_model(path, sizeof(path));
		model = path;
	}
	ok = open_bench(&b, model, &backend) && run_bench(&b);
	if (!ok)
		fprintf(stderr, "dsocr-engine: %s\n", b.err.message);
	dsocr_free(b.memory);
	dsocr_kv_cache_close(b.kv);
	dsocr_model_close(b.m);
	if (b.be != NULL)
		b.be->ops->close(b.be);
	return ok ? 0 : 1;
}
