/*-------------------------------------------------------------------------
 *
 * main.c
 *		dsocr-engine: one executable for the server and the command line.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Command
{
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} Command;

static int run_version(int argc, char **argv);
static int run_help(int argc, char **argv);

static const Command commands[] = {
	{"ocr", dsocr_cli_ocr, "read images: ocr [options] FILE..."},
	{"check", dsocr_cli_check, "compare with reference data: check [options] DIR..."},
	{"bench", dsocr_cli_bench, "measure speed"},
	{"quantize", dsocr_cli_quantize, "write a model folder in 8 or 4 bits"},
	{"synth", dsocr_cli_synth, "write a model of full size from a formula"},
	{"info", dsocr_cli_info, "describe a model: info [--model DIR]"},
#ifdef DSOCR_WITH_LIBPQ
	{"load", dsocr_cli_load, "put a folder of documents into a table: load --table NAME FOLDER"},
	{"join", dsocr_cli_join, "work for a database: join [options] CONNINFO"},
#endif
	{"serve", dsocr_cli_serve, "answer a PostgreSQL worker (started by the server)"},
	{"version", run_version, "print the version"},
	{"help", run_help, "print this text"},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void
print_usage(FILE *out)
{
	fprintf(out, "usage: dsocr-engine COMMAND [arguments]\n\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-10s%s\n", commands[i].name, commands[i].summary);
	fprintf(out, "\n`dsocr-engine COMMAND --help` lists the options of a command.\n");
}

static int
run_version(int argc, char **argv)
{
	printf("dsocr-engine %s\n", DSOCR_VERSION);
	return 0;
}

static int
run_help(int argc, char **argv)
{
	print_usage(stdout);
	return 0;
}

/* Write a folder name to path; does a model lie there? */
static bool DSOCR_PRINTF(3, 4) try_model(char *path, size_t size, const char *fmt, ...)
{
	char config[PATH_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(path, size, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t) n >= size)
		return false;
	n = snprintf(config, sizeof(config), "%s/config.json", path);
	return n > 0 && (size_t) n < sizeof(config) && access(config, R_OK) == 0;
}

void
dsocr_cli_default_model(char *path, size_t size)
{
	const char *named = getenv("DSOCR_MODEL");
	char exe[PATH_MAX];
	char *bin;	  /* "/bin" at the end of the executable's folder */
	char *parent; /* "/15" before it on Debian */
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (named != NULL && named[0] != '\0')
	{
		snprintf(path, size, "%s", named);
		return;
	}
	if (n > 0)
	{
		exe[n] = '\0';
		*strrchr(exe, '/') = '\0';
		/* a plain prefix; a build of PostgreSQL; the source tree */
		if (try_model(path, size, "%s/../share/dsocr/nano", exe) ||
			try_model(path, size, "%s/../share/postgresql/dsocr/nano", exe) ||
			try_model(path, size, "%s/models/nano", exe) ||
			try_model(path, size, "%s/../models/nano", exe))
			return;
		/* lib/postgresql/15/bin, with the share folder beside lib */
		bin = strrchr(exe, '/');
		if (bin != NULL)
		{
			*bin = '\0';
			parent = strrchr(exe, '/');
			if (parent != NULL &&
				try_model(path, size, "%s/../../../share/postgresql%s/dsocr/nano", exe, parent))
				return;
		}
	}
	snprintf(path, size, "models/nano");
}

void
dsocr_cli_log(const char *message)
{
	dprintf(STDERR_FILENO, "dsocr-engine: %s\n", message);
}

bool
dsocr_cli_number(const char *option, const char *value, long long min, long long max,
				 long long *number)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || v < min || v > max)
	{
		fprintf(stderr, "dsocr-engine: --%s needs a number from %lld to %lld, not \"%s\"\n", option,
				min, max, value);
		return false;
	}
	*number = v;
	return true;
}

int
dsocr_cli_name(const char *option, const char *value, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(value, names[i]) == 0)
			return i;
	}
	fprintf(stderr, "dsocr-engine: --%s: \"%s\" is not one of", option, value);
	for (int i = 0; i < n; i++)
		fprintf(stderr, " %s", names[i]);
	fputc('\n', stderr);
	return -1;
}

bool
dsocr_cli_precision(const char *value, DsocrPrecision *precision, DsocrDtype *weights)
{
	static const char *const names[] = {"bf16", "fp32", "int8", "int4"};
	static const DsocrDtype types[] = {DSOCR_BF16, DSOCR_BF16, DSOCR_INT8, DSOCR_INT4};
	int i = dsocr_cli_name("precision", value, names, 4);

	if (i < 0)
		return false;
	*precision = i == 1 ? DSOCR_PRECISION_FP32 : DSOCR_PRECISION_BF16;
	*weights = types[i];
	return true;
}

int
main(int argc, char **argv)
{
	if (argc < 2)
	{
		print_usage(stderr);
		return 2;
	}
	if (strcmp(argv[1], "--version") == 0)
		return run_version(argc - 1, argv + 1);
	if (strcmp(argv[1], "--help") == 0)
		return run_help(argc - 1, argv + 1);
	for (size_t i = 0; i < N_COMMANDS; i++)
	{
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	}
	fprintf(stderr, "dsocr-engine: unknown command \"%s\"\n\n", argv[1]);
	print_usage(stderr);
	return 2;
}
