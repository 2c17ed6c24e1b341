/*-------------------------------------------------------------------------
 *
 * cli_serve.c
 *		dsocr-engine serve: the options of the engine as a child process.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "serve.h"

static const char usage[] =
	"usage: dsocr-engine serve --fd N --model DIR [options]\n"
	"  --fd N                 socket to the worker\n"
	"  --model DIR            model folder\n"
	"  --device NAME          cpu, cuda:N or auto (cpu)\n"
	"  --device-memory BYTES  most memory of a GPU, 0 = what is free (0)\n"
	"  --precision NAME       bf16, fp32, int8 or int4 (bf16)\n"
	"  --threads N            0 = all cores (0)\n"
	"  --max-sequences N      images decoded together, 0 = automatic (0)\n"
	"  --max-pixels N         refuse larger images whatever a request says, 0 = off (0)\n"
	"  --memory-limit BYTES   private memory of the process, 0 = none (0)\n"
	"  --no-sandbox           keep system calls open; for debuggers and sanitizers\n";

static void __attribute__((noreturn)) quit(int status)
{
	_exit(status);
}

/* One option; false when its value is wrong. */
static bool
take_option(DsocrServeOptions *o, int c, const char *value)
{
	long long n;

	switch (c)
	{
		case 'f':
			if (!dsocr_cli_number("fd", value, 3, INT_MAX, &n))
				return false;
			o->fd = (int) n;
			return true;
		case 'm':
			o->engine.model = value;
			return true;
		case 'd':
			o->engine.backend.device = value;
			return true;
		case 'g':
			if (!dsocr_cli_number("device-memory", value, 0, LLONG_MAX, &n))
				return false;
			o->engine.backend.memory = (size_t) n;
			return true;
		case 'p':
			return dsocr_cli_precision(value, &o->engine.backend.precision,
									   &o->engine.backend.weights);
		case 't':
			if (!dsocr_cli_number("threads", value, 0, 4096, &n))
				return false;
			o->engine.backend.threads = (int) n;
			return true;
		case 's':
			if (!dsocr_cli_number("max-sequences", value, 0, 4096, &n))
				return false;
			o->engine.max_sequences = (int) n;
			return true;
		case 'x':
			if (!dsocr_cli_number("max-pixels", value, 0, LLONG_MAX, &n))
				return false;
			o->max_pixels = (uint64_t) n;
			return true;
		case 'l':
			if (!dsocr_cli_number("memory-limit", value, 0, LLONG_MAX, &n))
				return false;
			o->memory_limit = (uint64_t) n;
			return true;
		case 'n':
			o->sandbox = false;
			return true;
		default:
			return false;
	}
}

int
dsocr_cli_serve(int argc, char **argv)
{
	static const struct option options[] = {
		{"fd", required_argument, NULL, 'f'},
		{"model", required_argument, NULL, 'm'},
		{"device", required_argument, NULL, 'd'},
		{"device-memory", required_argument, NULL, 'g'},
		{"precision", required_argument, NULL, 'p'},
		{"threads", required_argument, NULL, 't'},
		{"max-sequences", required_argument, NULL, 's'},
		{"max-pixels", required_argument, NULL, 'x'},
		{"memory-limit", required_argument, NULL, 'l'},
		{"no-sandbox", no_argument, NULL, 'n'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	DsocrServeOptions o = {.fd = -1, .sandbox = true, .log = dsocr_cli_log, .quit = quit};
	char model[PATH_MAX];
	int c;

	o.engine.backend.device = "cpu";
	o.engine.backend.log = dsocr_cli_log;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (c == 'h')
		{
			fputs(usage, stdout);
			return 0;
		}
		if (!take_option(&o, c, optarg))
		{
			fputs(usage, stderr);
			return 2;
		}
	}
	if (optind < argc || o.fd < 0 || o.engine.model == NULL)
	{
		fputs(usage, stderr);
		return 2;
	}
	/* the working directory changes; a folder that is not there is reported by the loader */
	if (realpath(o.engine.model, model) != NULL)
		o.engine.model = model;
	return dsocr_serve(&o);
}
