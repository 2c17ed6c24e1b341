/*-------------------------------------------------------------------------
 *
 * main.c
 *		dsocr-pages: documents to page images, for the server and by hand.
 *
 * A program of its own because poppler is GPL and because documents are
 * hostile: neither the server nor the engine links it.
 *
 *-------------------------------------------------------------------------
 */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>

#include "source.h"
#include "supervisor.h"

/* The build gives it; a build by hand has none. */
#ifndef DSOCR_VERSION
#define DSOCR_VERSION "0.1.0"
#endif

#define DEFAULT_MEMORY ((uint64_t) 1 << 30)
#define DEFAULT_PAGE_TIMEOUT_MS 30000
#define MAX_PER_DOCUMENT 4 /* where the option is 0 */
#define MAX_FILE_BYTES ((size_t) 1 << 30)

static const char usage[] =
	"usage: dsocr-pages serve --fd N [options]\n"
	"       dsocr-pages info [--password TEXT] FILE\n"
	"       dsocr-pages render [options] FILE OUT\n"
	"       dsocr-pages version\n"
	"serve: answer a PostgreSQL worker\n"
	"  --fd N               socket to the worker\n"
	"  --processes N        renderers in all, 0 = as many as cores, at least 4 (0)\n"
	"  --per-document N     renderers of one document, 0 = as many as cores, at most 4 (0)\n"
	"  --memory-limit BYTES private memory of a renderer beyond the document, 0 = none (1 GB)\n"
	"  --page-timeout MS    for opening a document and for each page, 0 = none (30000)\n"
	"  --max-pixels N       refuse larger images whatever a request says, 0 = off (0)\n"
	"  --no-sandbox         keep system calls open; for debuggers and sanitizers\n"
	"render: one page of a file to an image\n"
	"  --page N             page from 1 (1)\n"
	"  --dpi N              of PDF pages (144)\n"
	"  --raw                PGM or PPM instead of PNG\n"
	"  --embed              the stored JPEG if the page is one\n"
	"  --crop X1,Y1,X2,Y2   a rectangle in pixels\n"
	"  --draw FILE          draw the shapes listed in a file\n"
	"  --password TEXT      of an encrypted PDF\n";

typedef struct Arguments
{
	DsocrSupervisorOptions serve;
	DsocrSourceOptions source;
	DsocrRequest page;
	const char *drawing; /* a file, NULL = none */
} Arguments;

static const struct option options[] = {
	{"fd", required_argument, NULL, 'f'},
	{"processes", required_argument, NULL, 'n'},
	{"per-document", required_argument, NULL, 'd'},
	{"memory-limit", required_argument, NULL, 'm'},
	{"page-timeout", required_argument, NULL, 't'},
	{"max-pixels", required_argument, NULL, 'x'},
	{"no-sandbox", no_argument, NULL, 's'},
	{"page", required_argument, NULL, 'p'},
	{"dpi", required_argument, NULL, 'r'},
	{"raw", no_argument, NULL, 'w'},
	{"png", no_argument, NULL, 'g'},
	{"embed", no_argument, NULL, 'e'},
	{"crop", required_argument, NULL, 'c'},
	{"draw", required_argument, NULL, 'D'},
	{"password", required_argument, NULL, 'P'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static void
log_line(const char *message)
{
	dprintf(STDERR_FILENO, "dsocr-pages: %s\n", message);
}

static bool
number(const char *value, long long min, long long max, long long *n)
{
	char *end;

	errno = 0;
	*n = strtoll(value, &end, 10);
	if (errno == 0 && end != value && *end == '\0' && *n >= min && *n <= max)
		return true;
	fprintf(stderr, "dsocr-pages: \"%s\" is not a number from %lld to %lld\n", value, min, max);
	return false;
}

static bool
number_int(const char *value, int min, int max, int *n)
{
	long long wide;

	if (!number(value, min, max, &wide))
		return false;
	*n = (int) wide;
	return true;
}

static bool
number_u64(const char *value, uint64_t *n)
{
	long long wide;

	if (!number(value, 0, LLONG_MAX, &wide))
		return false;
	*n = (uint64_t) wide;
	return true;
}

static bool
take_crop(const char *value, int32_t crop[4])
{
	int used = 0;

	if (sscanf(value, "%d,%d,%d,%d%n", &crop[0], &crop[1], &crop[2], &crop[3], &used) == 4 &&
		value[used] == '\0')
		return true;
	fprintf(stderr, "dsocr-pages: \"%s\" is not a rectangle X1,Y1,X2,Y2\n", value);
	return false;
}

/* One option; false when its value is wrong. */
static bool
take_option(Arguments *a, int c, char *value)
{
	switch (c)
	{
		case 'f':
			return number_int(value, 3, INT_MAX, &a->serve.fd);
		case 'n':
			return number_int(value, 0, 256, &a->serve.processes);
		case 'd':
			return number_int(value, 0, 64, &a->serve.per_document);
		case 'm':
			return number_u64(value, &a->serve.memory);
		case 't':
			return number_int(value, 0, INT_MAX, &a->serve.page_timeout_ms);
		case 'x':
			return number_u64(value, &a->serve.max_pixels);
		case 's':
			a->serve.sandbox = false;
			return true;
		case 'p':
			return number_int(value, 1, INT_MAX, &a->page.page);
		case 'r':
			return number_int(value, 1, DSOCR_PAGES_MAX_DPI, &a->source.dpi);
		case 'w':
			a->page.output = DSOCR_PAGE_RAW;
			return true;
		case 'g':
			a->page.output = DSOCR_PAGE_PNG;
			return true;
		case 'e':
			a->page.output = DSOCR_PAGE_EMBED;
			return true;
		case 'c':
			a->page.output = DSOCR_PAGE_CROP;
			return take_crop(value, a->page.crop);
		case 'D':
			a->page.output = DSOCR_PAGE_DRAWN;
			a->drawing = value;
			return true;
		case 'P':
			a->source.password = value;
			return true;
		default:
			return false;
	}
}

static int
run_serve(Arguments *a)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int n = cores < 1 ? 1 : (int) cores;

	if (a->serve.fd < 0)
	{
		fputs(usage, stderr);
		return 2;
	}
	if (a->serve.processes == 0)
		a->serve.processes = n < MAX_PER_DOCUMENT ? MAX_PER_DOCUMENT : n;
	if (a->serve.per_document == 0)
		a->serve.per_document = n < MAX_PER_DOCUMENT ? n : MAX_PER_DOCUMENT;
	return dsocr_supervise(&a->serve);
}

static int
report(const char *file, const DsocrError *err)
{
	fprintf(stderr, "dsocr-pages: %s: %s\n", file, err->message);
	if (err->hint[0] != '\0')
		fprintf(stderr, "%s\n", err->hint);
	return 1;
}

static bool
write_file(const char *path, const DsocrResult *r, DsocrError *err)
{
	FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "wb");
	bool ok = f != NULL && fwrite(r->image, 1, r->image_len, f) == r->image_len;

	ok = f != NULL && fflush(f) == 0 && ok;
	if (f != NULL && f != stdout)
		ok = fclose(f) == 0 && ok;
	return ok || dsocr_fail(err, DSOCR_E_IO, "could not write \"%s\": %s", path, strerror(errno));
}

/* Open the file and, where out is not NULL, make an image of a page. */
static int
run_file(Arguments *a, const char *file, const char *out)
{
	DsocrBuffer bytes = {0};
	DsocrBuffer drawing = {0};
	DsocrSource s = {0};
	DsocrResult result = {0};
	DsocrError err = {0};
	int status = 0;
	bool ok = dsocr_read_file(file, MAX_FILE_BYTES, &bytes, &err);

	a->source.bytes = (const uint8_t *) bytes.data;
	a->source.len = bytes.len;
	ok = ok && dsocr_source_open(&s, &a->source, &err);
	if (ok && out == NULL)
		printf("%s, %d page%s\n", s.format, s.pages, s.pages == 1 ? "" : "s");
	if (ok && a->drawing != NULL)
		ok = dsocr_read_file(a->drawing, MAX_FILE_BYTES, &drawing, &err);
	a->page.prompt = drawing.data;
	if (ok && out != NULL)
	{
		ok = dsocr_source_page(&s, &a->page, &result, &err) && write_file(out, &result, &err);
		if (ok)
			fprintf(stderr, "%d x %d pixels, %zu bytes, %.1f ms\n", result.width, result.height,
					result.image_len, (double) result.timings.preprocess / 1000);
	}
	if (!ok)
		status = report(file, &err);
	dsocr_result_free(&result);
	dsocr_source_close(&s);
	dsocr_buffer_free(&drawing);
	dsocr_buffer_free(&bytes);
	return status;
}

int
main(int argc, char **argv)
{
	Arguments a = {
		.serve = {.fd = -1,
				  .memory = DEFAULT_MEMORY,
				  .page_timeout_ms = DEFAULT_PAGE_TIMEOUT_MS,
				  .sandbox = true,
				  .log = log_line},
		.page = {.kind = DSOCR_PAGE, .page = 1, .output = DSOCR_PAGE_PNG},
	};
	const char *command = argc < 2 ? "" : argv[1];
	int c;

	while (argc > 2 && (c = getopt_long(argc - 1, argv + 1, "", options, NULL)) != -1)
	{
		if (c == 'h')
			command = "help";
		else if (!take_option(&a, c, optarg))
		{
			fputs(usage, stderr);
			return 2;
		}
	}
	argc -= optind + 1;
	argv += optind + 1;
	if (strcmp(command, "serve") == 0 && argc <= 0)
		return run_serve(&a);
	if (strcmp(command, "info") == 0 && argc == 1)
		return run_file(&a, argv[0], NULL);
	if (strcmp(command, "render") == 0 && argc == 2)
		return run_file(&a, argv[0], argv[1]);
	if (strcmp(command, "version") == 0 || strcmp(command, "--version") == 0)
	{
		char libraries[64];

		dsocr_source_versions(libraries, sizeof(libraries));
		printf("dsocr-pages %s (%s)\n", DSOCR_VERSION, libraries);
		return 0;
	}
	if (strcmp(command, "help") == 0 || strcmp(command, "--help") == 0)
	{
		fputs(usage, stdout);
		return 0;
	}
	fputs(usage, stderr);
	return 2;
}
