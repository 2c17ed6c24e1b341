/*-------------------------------------------------------------------------
 *
 * cli_check.c
 *		dsocr-engine check: what kind of reference data a folder holds.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

#include <dirent.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"

static const char usage[] =
	"usage: dsocr-engine check [options] DIR...\n"
	"DIR holds reference data, or folders of it.\n"
	"  --precision NAME   bf16, fp32, int8 or int4, for model cases (bf16 and fp32)\n"
	"  --device NAME      cpu, cuda:N or auto (cpu)\n"
	"  --model DIR        full-size checkpoint for synthetic cases\n"
	"  --tokenizer FILE   tokenizer.json for folders that have none\n"
	"  --threads N        0 = all cores (0)\n"
	"  --json FILE        write the counts of each folder\n"
	"  --verbose          print what passed, too\n";

typedef struct Options
{
	DsocrCheck check; /* counts and settings */
	const char *json;
	json_t *folders; /* array of {dir, kind, passed, failed, seconds} */
} Options;

bool
dsocr_check(DsocrCheck *c, bool ok, const char *what, const char *fmt, ...)
{
	va_list ap;

	if (ok)
		c->passed++;
	else
		c->failed++;
	if (ok && !c->verbose)
		return ok;
	printf("%s %s: ", ok ? "ok  " : "FAIL", what);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	return ok;
}

static bool
holds(const char *dir, const char *name)
{
	char path[PATH_MAX];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s/%s", dir, name);

	return n > 0 && (size_t) n < sizeof(path) && stat(path, &st) == 0;
}

/* Model cases run in both precisions unless one was asked for. */
static void
check_model(Options *o, const char *dir)
{
	DsocrPrecision asked = o->check.precision;

	if (!o->check.both)
	{
		dsocr_check_model(&o->check, dir);
		return;
	}
	o->check.precision = DSOCR_PRECISION_FP32;
	dsocr_check_model(&o->check, dir);
	o->check.precision = DSOCR_PRECISION_BF16;
	dsocr_check_model(&o->check, dir);
	o->check.precision = asked;
}

static const char *
run_kind(Options *o, const char *dir)
{
	if (holds(dir, "config.json") && holds(dir, "cases"))
	{
		check_model(o, dir);
		return "model";
	}
	if (holds(dir, "ops.json"))
	{
		dsocr_check_ops(&o->check, dir);
		return "ops";
	}
	if (holds(dir, "prompts.json"))
	{
		dsocr_check_tokenizer(&o->check, dir);
		return "tokenizer";
	}
	if (holds(dir, "grid.json"))
	{
		dsocr_check_preprocess(&o->check, dir);
		return "preprocess";
	}
	if (holds(dir, "images.json"))
	{
		dsocr_check_images(&o->check, dir);
		return "images";
	}
	if (holds(dir, "ngram.jsonl"))
	{
		dsocr_check_decode(&o->check, dir);
		return "decode";
	}
	if (holds(dir, "tensors.json"))
	{
		dsocr_check_synth(&o->check, dir);
		return "synth";
	}
	if (holds(dir, "cases.jsonl"))
	{
		dsocr_check_output(&o->check, dir);
		return "output";
	}
	return NULL;
}

/* One folder of reference data; false when it holds none. */
static bool
check_folder(Options *o, const char *dir)
{
	int passed = o->check.passed;
	int failed = o->check.failed;
	int64_t start = dsocr_now_us();
	const char *kind = run_kind(o, dir);
	double seconds = (double) (dsocr_now_us() - start) / 1e6;

	if (kind == NULL)
		return false;
	passed = o->check.passed - passed;
	failed = o->check.failed - failed;
	if (passed + failed == 0)
	{
		dsocr_check(&o->check, false, dir, "nothing was compared");
		failed = 1;
	}
	printf("%s: %s, %d passed, %d failed, %.1f s\n", dir, kind, passed, failed, seconds);
	fflush(stdout);
	json_array_append_new(o->folders, json_pack("{sssssisisf}", "dir", dir, "kind", kind, "passed",
												passed, "failed", failed, "seconds", seconds));
	return true;
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* A folder, or else the folders in it. */
static void
check_tree(Options *o, const char *dir)
{
	struct dirent **entries = NULL;
	struct stat st;
	bool any = false;
	int n;

	if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
	{
		dsocr_check(&o->check, false, dir, "no such folder");
		return;
	}
	if (check_folder(o, dir))
		return;
	n = scandir(dir, &entries, NULL, by_name);
	for (int i = 0; i < n; i++)
	{
		char path[PATH_MAX];
		int len = snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);

		if (entries[i]->d_name[0] != '.' && len > 0 && (size_t) len < sizeof(path) &&
			stat(path, &st) == 0 && S_ISDIR(st.st_mode) && check_folder(o, path))
			any = true;
		free(entries[i]);
	}
	free(entries);
	if (!any)
		dsocr_check(&o->check, false, dir, "holds no reference data");
}

/* -1 to go on, else the exit status. */
static int
read_options(int argc, char **argv, Options *o)
{
	static const struct option options[] = {
		{"precision", required_argument, NULL, 'p'},
		{"device", required_argument, NULL, 'd'},
		{"model", required_argument, NULL, 'm'},
		{"tokenizer", required_argument, NULL, 'k'},
		{"threads", required_argument, NULL, 't'},
		{"json", required_argument, NULL, 'j'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	bool ok = true;
	int c;

	while (ok && (c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		long long n = 0;

		if (c == 'h')
		{
			fputs(usage, stdout);
			return 0;
		}
		if (c == 'p')
		{
			ok = dsocr_cli_precision(optarg, &o->check.precision, &o->check.weights);
			o->check.both = false;
		}
		else if (c == 'd')
			o->check.device = optarg;
		else if (c == 'm')
			o->check.model = optarg;
		else if (c == 'k')
			o->check.tokenizer = optarg;
		else if (c == 't')
		{
			ok = dsocr_cli_number("threads", optarg, 0, 4096, &n);
			o->check.threads = (int) n;
		}
		else if (c == 'j')
			o->json = optarg;
		else if (c == 'v')
			o->check.verbose = true;
		else
			ok = false;
	}
	if (!ok || optind == argc)
	{
		fputs(usage, stderr);
		return 2;
	}
	return -1;
}

int
dsocr_cli_check(int argc, char **argv)
{
	Options o = {.check = {.device = "cpu", .precision = DSOCR_PRECISION_FP32, .both = true}};
	int status = read_options(argc, argv, &o);

	if (status >= 0)
		return status;
	o.folders = json_array();
	for (int i = optind; i < argc; i++)
		check_tree(&o, argv[i]);
	if (o.json != NULL)
	{
		json_t *all = json_pack("{sisisO}", "passed", o.check.passed, "failed", o.check.failed,
								"folders", o.folders);

		if (json_dump_file(all, o.json, JSON_INDENT(1)) != 0)
			dsocr_check(&o.check, false, o.json, "could not be written");
		json_decref(all);
	}
	json_decref(o.folders);
	printf("%d passed, %d failed\n", o.check.passed, o.check.failed);
	return o.check.failed == 0 && o.check.passed > 0 ? 0 : 1;
}
