/*-------------------------------------------------------------------------
 *
 * gp.c
 *		Options, pages and counting for the programs in this folder.
 *
 *-------------------------------------------------------------------------
 */
#include "gp.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../reference/make_image.h"

int gp_passed;
int gp_failed;

/* ---- options ---- */

static long long
number(const char *name, const char *value, long long max)
{
	char *end;
	long long n;

	errno = 0;
	n = strtoll(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || n < 0 || n > max)
	{
		fprintf(stderr, "--%s needs a number from 0 to %lld, not \"%s\"\n", name, max, value);
		exit(2);
	}
	return n;
}

void
gp_options(int argc, char **argv, GpOptions *o)
{
	static const struct option options[] = {{"model", required_argument, NULL, 'm'},
											{"device", required_argument, NULL, 'd'},
											{"memory", required_argument, NULL, 'M'},
											{"precision", required_argument, NULL, 'p'},
											{"tools", required_argument, NULL, 'T'},
											{"threads", required_argument, NULL, 't'},
											{"pages", required_argument, NULL, 'n'},
											{"batch", required_argument, NULL, 'b'},
											{"tokens", required_argument, NULL, 'k'},
											{"seed", required_argument, NULL, 's'},
											{"filter", required_argument, NULL, 'f'},
											{"quick", no_argument, NULL, 'q'},
											{"list", no_argument, NULL, 'l'},
											{"once", no_argument, NULL, 'o'},
											{NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c)
		{
			case 'm':
				o->model = optarg;
				break;
			case 'd':
				o->backend.device = optarg;
				break;
			case 'M':
				o->backend.memory = (size_t) number("memory", optarg, 1 << 24) << 20;
				break;
			case 'p':
				if (strcmp(optarg, "bf16") != 0 && strcmp(optarg, "fp32") != 0)
					gp_die("--precision needs bf16 or fp32");
				o->backend.precision =
					optarg[0] == 'b' ? DSOCR_PRECISION_BF16 : DSOCR_PRECISION_FP32;
				break;
			case 'T':
				o->tools = optarg;
				break;
			case 't':
				o->backend.threads = (int) number("threads", optarg, 256);
				break;
			case 'n':
				o->pages = (int) number("pages", optarg, 1000000);
				break;
			case 'b':
				o->batch = (int) number("batch", optarg, 512);
				break;
			case 'k':
				o->tokens = (int) number("tokens", optarg, 8192);
				break;
			case 's':
				o->seed = (uint64_t) number("seed", optarg, INT64_MAX);
				break;
			case 'f':
				o->filter = optarg;
				break;
			case 'q':
				o->quick = true;
				break;
			case 'l':
				o->list = true;
				break;
			case 'o':
				o->once = true;
				break;
			default:
				exit(2);
		}
	if (optind < argc)
	{
		fprintf(stderr, "%s: what is \"%s\"?\n", argv[0], argv[optind]);
		exit(2);
	}
}

/* ---- counting ---- */

bool
gp_check(bool ok, const char *fmt, ...)
{
	va_list ap;

	if (ok)
	{
		gp_passed++;
		return true;
	}
	gp_failed++;
	printf("FAIL ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	return false;
}

int
gp_close_line(void)
{
	printf("%d passed, %d failed\n", gp_passed, gp_failed);
	fflush(stdout);
	return gp_failed == 0 && gp_passed > 0 ? 0 : 1;
}

void
gp_die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

void *
gp_need(void *p, const DsocrError *err)
{
	if (p == NULL)
		gp_die("%s", err != NULL && err->message[0] != '\0' ? err->message : "out of memory");
	return p;
}

/* ---- numbers and pages ---- */

uint64_t
gp_next(uint64_t *seed)
{
	uint64_t z = *seed += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

int
gp_between(uint64_t *seed, int low, int high)
{
	return low + (int) (gp_next(seed) % (uint64_t) (high - low + 1));
}

void
gp_halves(uint16_t *out, size_t n, float scale, uint64_t seed)
{
	uint16_t table[4096];

	for (size_t i = 0; i < 4096; i++)
		table[i] = dsocr_f32_to_bf16(scale *
									 ((float) (gp_next(&seed) >> 40) / (float) (1 << 23) - 0.999f));
	for (size_t i = 0; i < n; i++)
		out[i] = table[(i * UINT64_C(2654435761) >> 11 ^ i >> 7) & 4095];
}

/* Strokes of a line of text: blocks of random width with a ragged edge. */
static void
draw_line(uint16_t *gray, int width, int top, int height, uint64_t *seed)
{
	int x = gp_between(seed, width / 30, width / 12);
	int end = width - gp_between(seed, width / 30, width / 4);

	while (x < end)
	{
		int stroke = gp_between(seed, 1, 1 + height / 2);
		int from = top + gp_between(seed, 0, height / 2);
		uint16_t ink = (uint16_t) gp_between(seed, 0, 90);

		for (int y = from; y < top + height; y++)
			for (int i = x; i < x + stroke && i < end; i++)
				gray[(size_t) y * (size_t) width + (size_t) i] = ink;
		x += stroke + gp_between(seed, 1, gp_between(seed, 0, 5) == 0 ? height : 2);
	}
}

void
gp_page(DsocrBuffer *png, int width, int height, uint64_t seed)
{
	size_t n = (size_t) width * (size_t) height;
	uint16_t *gray = gp_need(dsocr_alloc(n, sizeof(*gray), NULL), NULL);
	int line = gp_between(&seed, 5, 9 + height / 40);
	uint16_t paper = (uint16_t) gp_between(&seed, 215, 255);
	MkPng page = {.width = (uint32_t) width, .height = (uint32_t) height, .depth = 8};

	for (size_t i = 0; i < n; i++)
		gray[i] = paper;
	for (int top = gp_between(&seed, 2, height / 10 + 3); top + line < height;
		 top += line + gp_between(&seed, 2, line))
		draw_line(gray, width, top, line, &seed);
	page.samples = gray;
	png->len = 0;
	mk_png(png, &page);
	dsocr_free(gray);
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return (x > y) - (x < y);
}

double
gp_median(double *values, int n)
{
	qsort(values, (size_t) n, sizeof(*values), by_value);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}
