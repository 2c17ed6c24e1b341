/*-------------------------------------------------------------------------
 *
 * cli_join_options.c
 *		dsocr-engine join: options.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>

#include "cli_join.h"

#define MAX_ENGINE_ARGS 28

static const char usage[] =
	"usage: dsocr-engine join [options] CONNINFO\n"
	"Takes jobs from a database with the extension dsocr and writes what they give.\n"
	"\n"
	"  CONNINFO               of libpq: 'host=db dbname=scans user=worker sslmode=verify-full';\n"
	"                         '' takes all of it from PGHOST, PGSERVICE, ...  A password is\n"
	"                         better kept in ~/.pgpass: everybody sees the command line\n"
	"  --model DIR            model folder (the embedded one)\n"
	"  --device NAME          cpu, cuda:N or auto (cpu)\n"
	"  --device-memory BYTES  most memory of a GPU, 0 = what is free (0)\n"
	"  --precision NAME       bf16, fp32, int8 or int4 (bf16)\n"
	"  --threads N            0 = all cores (0)\n"
	"  --max-sequences N      images decoded together, 0 = automatic (0)\n"
	"  --memory-limit BYTES   private memory of the engine, 0 = none (0)\n"
	"  --engine-timeout S     silence after which a busy engine is replaced (120)\n"
	"  --in-flight N          jobs taken at the same time, 0 = twice what is decoded together (0)\n"
	"  --max N                end after so many jobs, 0 = never (0)\n"
	"  --once                 end when there are no more jobs\n"
	"  --engine PROGRAM       of the engine (this one)\n"
	"  --pages PROGRAM        of the page server, '' = none: takes no documents of several pages\n"
	"                         (dsocr-pages beside this one)\n"
	"\n"
	"The first SIGINT or SIGTERM lets jobs in flight end, the second does not.\n"
	"Exit status: 0 done, 1 the engine cannot work, 2 wrong usage, 3 turned away by the\n"
	"server (rights, release, model).  A server that is not there is waited for.\n";

/* An option that is the engine's own. */
static void
pass_on(DsocrJoin *j, int *n, const char *name, const char *value)
{
	j->argv[(*n)++] = (char *) name;
	j->argv[(*n)++] = (char *) value;
}

static bool
take_number(DsocrJoin *j, int c, const char *value)
{
	long long number;

	if (c == 'i' && dsocr_cli_number("in-flight", value, 0, DSOCR_JOIN_MAX_JOBS / 2, &number))
		j->wanted_in_flight = (int) number;
	else if (c == 't' && dsocr_cli_number("engine-timeout", value, 1, 86400, &number))
		j->engine_timeout_ms = (int) number * 1000;
	else
		return c == 'x' && dsocr_cli_number("max", value, 0, LLONG_MAX, &j->max);
	return true;
}

static bool
take_option(DsocrJoin *j, int *n, int c, const char *value)
{
	static const char *const passed[] = {"--device",  "--device-memory", "--precision",
										 "--threads", "--max-sequences", "--memory-limit"};

	if (c >= 1 && c <= 6)
	{
		pass_on(j, n, passed[c - 1], value);
		return *n < MAX_ENGINE_ARGS;
	}
	if (c == 'o')
		j->once = true;
	else if (c == 'e')
		j->argv[0] = (char *) value;
	else if (c == 'p')
		snprintf(j->pages_program, sizeof(j->pages_program), "%s", value);
	else
		return take_number(j, c, value);
	return true;
}

static const struct option options[] = {
	{"model", required_argument, NULL, 'm'},
	{"device", required_argument, NULL, 1},
	{"device-memory", required_argument, NULL, 2},
	{"precision", required_argument, NULL, 3},
	{"threads", required_argument, NULL, 4},
	{"max-sequences", required_argument, NULL, 5},
	{"memory-limit", required_argument, NULL, 6},
	{"engine-timeout", required_argument, NULL, 't'},
	{"in-flight", required_argument, NULL, 'i'},
	{"max", required_argument, NULL, 'x'},
	{"once", no_argument, NULL, 'o'},
	{"engine", required_argument, NULL, 'e'},
	{"pages", required_argument, NULL, 'p'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

int
dsocr_join_take_options(DsocrJoin *j, int argc, char **argv, char *model, size_t size)
{
	int n = 4; /* the program, serve, --fd and its number */
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (c == 'h')
		{
			fputs(usage, stdout);
			return 0;
		}
		if (c == 'm')
			snprintf(model, size, "%s", optarg);
		else if (c == '?' || !take_option(j, &n, c, optarg))
			break;
	}
	if (c != -1 || optind != argc - 1)
	{
		fputs(usage, stderr);
		return 2;
	}
	pass_on(j, &n, "--model", model);
	j->conninfo = argv[optind];
	return -1;
}
