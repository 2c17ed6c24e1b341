/*-------------------------------------------------------------------------
 *
 * bench_pages.c
 *		Speed and memory of the page server on one document.
 *
 *	bench_pages FILE [PAGES [AHEAD [OPTION...]]]
 *
 * Asks for the first PAGES pages (0 = all) as PGM or PPM, AHEAD at a time, of
 * a server started with the options.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../reference/pages_peer.h"

#define AHEAD 8
#define SAMPLE 16 /* pages between two looks at memory */

static uint64_t
memory_kb(int pid, const char *name)
{
	char path[64];
	char line[256];
	uint64_t kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
	{
		if (strncmp(line, name, strlen(name)) == 0)
			kb = strtoull(line + strlen(name), NULL, 10);
	}
	if (f != NULL)
		fclose(f);
	return kb;
}

/* Processor time of a process in milliseconds, user and system. */
static double
cpu_ms(int pid)
{
	char path[64];
	unsigned long user = 0;
	unsigned long system = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (f != NULL)
	{
		if (fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
				   &system) != 2)
			user = system = 0;
		fclose(f);
	}
	return 1000.0 * (double) (user + system) / (double) sysconf(_SC_CLK_TCK);
}

/* Most memory of a renderer that is its own, and their number. */
static uint64_t
look_at_renderers(const Peer *p, int *n, double *cpu)
{
	char path[64];
	uint64_t most = 0;
	int pid;
	FILE *f;

	*n = 0;
	*cpu = 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int) p->pid, (int) p->pid);
	f = fopen(path, "r");
	while (f != NULL && fscanf(f, "%d", &pid) == 1)
	{
		uint64_t kb = memory_kb(pid, "RssAnon:");

		most = kb > most ? kb : most;
		*cpu += cpu_ms(pid);
		++*n;
	}
	if (f != NULL)
		fclose(f);
	return most;
}

int
main(int argc, char **argv)
{
	DsocrBuffer file;
	int ahead = argc > 3 ? atoi(argv[3]) : AHEAD;
	uint64_t most = 0;
	uint64_t bytes = 0;
	int renderers = 0;
	double cpu = 0;
	int failed = 0;
	int next = 1;
	int64_t begin;
	int64_t opened;
	int pages;
	Peer p;

	if (argc < 2 || !dsocr_read_file(argv[1], 1 << 30, &file, NULL))
	{
		fprintf(stderr, "usage: bench_pages FILE [PAGES [AHEAD [OPTION...]]]\n");
		return 2;
	}
	p = dsocr_pages_start(argc > 4 ? (const char *const *) argv + 4 : NULL);
	begin = dsocr_now_us();
	pages = dsocr_pages_open(&p, 1, file.data, file.len);
	opened = dsocr_now_us();
	if (argc > 2 && atoi(argv[2]) > 0 && atoi(argv[2]) < pages)
		pages = atoi(argv[2]);
	for (; next <= pages && next <= ahead; next++)
		dsocr_pages_ask(&p, (uint64_t) next + 1, 1, next, DSOCR_PAGE_RAW);
	for (int done = 1; done <= pages; done++)
	{
		Frame f = dsocr_peer_next(&p, true);

		failed += f.status.code != DSOCR_OK;
		bytes += f.result.image_len;
		dsocr_result_free(&f.result);
		if (next <= pages)
		{
			dsocr_pages_ask(&p, (uint64_t) next + 1, 1, next, DSOCR_PAGE_RAW);
			next++;
		}
		if (done % SAMPLE == 0)
		{
			int n;
			uint64_t kb = look_at_renderers(&p, &n, &cpu);

			most = kb > most ? kb : most;
			renderers = n > renderers ? n : renderers;
		}
	}
	printf("%s: %d pages, %d failed, opened in %.0f ms, %.1f pages/s, %.1f MB/page\n", argv[1],
		   pages, failed, (double) (opened - begin) / 1000,
		   1e6 * pages / (double) (dsocr_now_us() - opened), (double) bytes / pages / 1e6);
	(void) look_at_renderers(&p, &next, &cpu);
	printf("processor time a page: page server %.1f ms, renderers %.1f ms\n", cpu_ms(p.pid) / pages,
		   cpu / pages);
	printf("page server: at most %llu MB; %d renderers: at most %llu MB each\n",
		   (unsigned long long) memory_kb(p.pid, "VmHWM:") / 1024, renderers,
		   (unsigned long long) most / 1024);
	dsocr_peer_finish(&p);
	dsocr_buffer_free(&file);
	return 0;
}
