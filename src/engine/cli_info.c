/*-------------------------------------------------------------------------
 *
 * cli_info.c
 *		dsocr-engine info: what a model folder holds and how it would run.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>

#include "config.h"
#include "device.h"
#include "engine.h"
#include "preprocess.h"

static const char usage[] = "usage: dsocr-engine info [options]\n"
							"  --model DIR        model folder (the embedded one)\n"
							"  --device NAME      cpu, cuda:N or auto (cpu)\n"
							"  --precision NAME   bf16, fp32, int8 or int4 (bf16)\n"
							"  --threads N        0 = all cores (0)\n";

static void
print_dimensions(const DsocrConfig *c)
{
	int global = 0;

	for (int i = 0; i < c->sam_layers; i++)
		global += c->sam_global[i] ? 1 : 0;
	printf("SAM            width %d, %d layers (%d global), %d heads, window %d, patch %d\n",
		   c->sam_width, c->sam_layers, global, c->sam_heads, c->sam_window, c->patch);
	printf("compressor     %d, %d, %d channels\n", c->neck_channels, c->net2_channels,
		   c->net3_channels);
	printf("CLIP           width %d, %d layers, %d heads\n", c->clip_width, c->clip_layers,
		   c->clip_heads);
	printf("decoder        width %d, %d layers, %d heads, %d positions, vocabulary %d\n", c->hidden,
		   c->layers, c->heads, c->max_positions, c->vocab);
	printf("experts        %d routed, %d a token, %d shared, width %d; %d dense layers of %d\n",
		   c->experts, c->experts_per_token, c->shared_experts, c->expert_inter, c->first_dense,
		   c->dense_inter);
}

/* Tokens of a page of A4 in each mode. */
static void
print_modes(const DsocrConfig *c)
{
	const int width = 1240;
	const int height = 1754;

	printf("modes          of a page of %d x %d pixels\n", width, height);
	for (int m = DSOCR_MODE_AUTO + 1; m < DSOCR_N_MODES; m++)
	{
		DsocrViewSpec spec = dsocr_mode_spec((DsocrMode) m);
		DsocrPlan plan;
		DsocrError err = {0};

		if (!dsocr_plan(width, height, &spec, &plan, &err))
			printf("  %-9s    %s\n", dsocr_mode_names[m], err.message);
		else
			printf("  %-9s    %d x %d tiles, %d views, %d image tokens%s\n", dsocr_mode_names[m],
				   plan.columns, plan.rows, plan.views, plan.image_tokens,
				   (DsocrMode) m == c->auto_mode ? " (auto)" : "");
	}
}

static void
print_device(void *arg, const char *device, const char *what)
{
	printf("  %-12s %s\n", device, what);
}

static int
print_model(const DsocrEngineOptions *options)
{
	DsocrConfig config = {0};
	DsocrError err = {0};
	DsocrEngine *e;
	const DsocrModelInfo *info;

	if (!dsocr_config_read(options->model, &config, &err))
	{
		fprintf(stderr, "dsocr-engine: %s\n", err.message);
		return 1;
	}
	e = dsocr_engine_open(options, &err);
	if (e == NULL)
	{
		fprintf(stderr, "dsocr-engine: %s\n", err.message);
		dsocr_config_free(&config);
		return 1;
	}
	info = dsocr_engine_info(e);
	printf("model          %s\n", info->name);
	printf("folder         %s\n", options->model);
	printf("fingerprint    %s\n", info->fingerprint);
	printf("device         %s\n", info->device);
	printf("weights        %s\n", info->weights);
	print_dimensions(&config);
	printf("parameters     %lld\n", (long long) info->parameters);
	printf("weight memory  %.1f MiB\n", (double) info->weight_bytes / (1 << 20));
	printf("page memory    %.1f MiB, %d sequences together\n", (double) info->kv_bytes / (1 << 20),
		   info->max_sequences);
	print_modes(&config);
	dsocr_engine_close(e);
	dsocr_config_free(&config);
	return 0;
}

int
dsocr_cli_info(int argc, char **argv)
{
	static const struct option options[] = {
		{"model", required_argument, NULL, 'm'},
		{"device", required_argument, NULL, 'd'},
		{"precision", required_argument, NULL, 'p'},
		{"threads", required_argument, NULL, 't'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	DsocrEngineOptions o = {.backend = {.device = "cpu", .log = dsocr_cli_log}};
	char model[PATH_MAX];
	long long n = 0;
	bool ok = true;
	int status;
	int c;

	while (ok && (c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (c == 'h')
		{
			fputs(usage, stdout);
			return 0;
		}
		if (c == 'm')
			o.model = optarg;
		else if (c == 'd')
			o.backend.device = optarg;
		else if (c == 'p')
			ok = dsocr_cli_precision(optarg, &o.backend.precision, &o.backend.weights);
		else if (c == 't')
			ok = dsocr_cli_number("threads", optarg, 0, 4096, &n);
		else
			ok = false;
	}
	if (!ok || optind < argc)
	{
		fputs(usage, stderr);
		return 2;
	}
	o.backend.threads = (int) n;
	if (o.model == NULL)
	{
		dsocr_cli_default_model(model, sizeof(model));
		o.model = model;
	}
	status = print_model(&o);
	printf("devices\n");
	dsocr_device_list(print_device, NULL);
	return status;
}
