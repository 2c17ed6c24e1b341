/*-------------------------------------------------------------------------
 *
 * faults.c
 *		Too little device memory, and a device that breaks.
 *
 *		faults --model DIR [--device cuda:0] [--tools FILE]
 *
 * With any limit of memory an engine either does not open (DSOCR_E_MEMORY) or
 * reads pages right or not at all (DSOCR_E_MEMORY), and a page that needs too
 * much does not spoil the next.  With gp_tools.so a kernel then writes where
 * it must not: the engine has to report DSOCR_E_DEVICE within its patience
 * and to close.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "gp.h"
#include "gp_tools.h"

#define MB ((size_t) 1 << 20)
#define PAGES 4 /* large, small, large, small */

typedef struct Read
{
	DsocrCode code;
	char *raw;
	char message[256];
} Read;

static void
on_done(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error)
{
	Read *r = (Read *) arg + id;

	r->code = error->code;
	snprintf(r->message, sizeof(r->message), "%s", error->message);
	if (error->code == DSOCR_OK)
		r->raw = gp_need(dsocr_strdup(result->raw, NULL), NULL);
}

static void
admit(DsocrEngine *e, const GpOptions *o, int i, int tokens)
{
	DsocrBuffer png = {0};
	DsocrError err = {0};
	DsocrRequest request = {.id = (uint64_t) i,
							.task = DSOCR_TASK_TEXT,
							.mode = i % 2 || o->quick ? DSOCR_MODE_TINY : DSOCR_MODE_LARGE,
							.max_tokens = tokens,
							.max_pixels = 1 << 24};

	gp_page(&png, 300, 300, (uint64_t) i % 2 + 5);
	request.image = (const uint8_t *) png.data;
	request.image_len = png.len;
	if (!dsocr_engine_admit(e, &request, &err))
		gp_die("%s", err.message);
	dsocr_buffer_free(&png);
}

/* Read the pages with a limit; false when the engine did not open. */
static bool
read_with(const GpOptions *o, size_t limit, Read *reads, DsocrError *err)
{
	DsocrEngineOptions options = {.model = o->model, .backend = o->backend, .max_sequences = 4};
	DsocrEvents events = {.done = on_done, .arg = reads};
	DsocrEngine *e;
	bool ok = true;

	memset(reads, 0, PAGES * sizeof(*reads));
	options.backend.memory = limit;
	options.kv_bytes = 4 * MB;
	e = dsocr_engine_open(&options, err);
	if (e == NULL)
		return false;
	for (int i = 0; i < PAGES; i++)
		admit(e, o, i, o->quick ? 2 : 12);
	while (ok && dsocr_engine_pending(e) > 0)
	{
		memset(err, 0, sizeof(*err));
		ok = dsocr_engine_step(e, &events, err) || err->code == DSOCR_OK;
	}
	gp_check(ok, "with %zu MB: %s", limit / MB, err->message);
	dsocr_engine_close(e);
	return true;
}

static void
free_reads(Read *reads)
{
	for (int i = 0; i < PAGES; i++)
	{
		dsocr_free(reads[i].raw);
		reads[i].raw = NULL;
	}
}

/* One limit; does the engine open? */
static bool
try_limit(const GpOptions *o, size_t limit, const Read *right, int *short_of)
{
	Read reads[PAGES];
	DsocrError err = {0};

	if (!read_with(o, limit, reads, &err))
	{
		gp_check(err.code == DSOCR_E_MEMORY, "with %zu MB: code %d, %s", limit / MB, err.code,
				 err.message);
		return false;
	}
	for (int i = 0; i < PAGES; i++)
	{
		*short_of += reads[i].code == DSOCR_E_MEMORY;
		gp_check(reads[i].code == DSOCR_E_MEMORY ||
					 (reads[i].code == DSOCR_OK && strcmp(reads[i].raw, right[i].raw) == 0),
				 "with %zu MB, page %d: code %d, %s", limit / MB, i, reads[i].code,
				 reads[i].message);
	}
	free_reads(reads);
	return true;
}

static void
check_memory(const GpOptions *o)
{
	Read right[PAGES];
	DsocrError err = {0};
	size_t least = MB;
	int opened = 0;
	int refused = 0;
	int short_of = 0;

	if (!read_with(o, 0, right, &err))
		gp_die("%s", err.message);
	for (int i = 0; i < PAGES; i++)
		if (!gp_check(right[i].code == DSOCR_OK, "page %d: %s", i, right[i].message))
			return;
	while (least < (size_t) 1 << 36 && !try_limit(o, least, right, &short_of))
	{
		refused++;
		least *= 2;
	}
	/* from half of what was enough in small steps up to much more */
	for (int i = o->quick ? 14 : 0; i <= (o->quick ? 18 : 24); i++)
	{
		size_t limit = i <= 16 ? least / 2 + least / 2 * (size_t) i / 16 : least << (i - 16) / 2;

		if (try_limit(o, limit, right, &short_of))
			opened++;
		else
			refused++;
	}
	printf("memory: %d limits refused, %d opened, %d pages did not fit\n", refused, opened,
		   short_of);
	gp_check(opened > 0, "no limit was enough");
	free_reads(right);
}

static void
check_fault(const GpOptions *o, const GpTools *tools)
{
	DsocrEngineOptions options = {.model = o->model, .backend = o->backend, .max_sequences = 4};
	Read reads[PAGES] = {{0}};
	DsocrEvents events = {.done = on_done, .arg = reads};
	DsocrError err = {0};
	DsocrEngine *e = gp_need(dsocr_engine_open(&options, &err), &err);
	int64_t start;
	bool ok = true;

	for (int i = 0; i < PAGES; i++)
		admit(e, o, i, 400);
	for (int i = 0; i < 6 && ok; i++)
		ok = dsocr_engine_step(e, &events, &err);
	gp_check(ok, "before the fault: %s", err.message);
	gp_check(tools->fault(), "the fault did no harm");
	start = dsocr_now_us();
	while (ok && dsocr_now_us() - start < INT64_C(60000000))
		ok = dsocr_engine_step(e, &events, &err) || err.code == DSOCR_OK;
	gp_check(!ok && err.code == DSOCR_E_DEVICE, "behind the fault: code %d, %s", err.code,
			 err.message);
	printf("fault: after %.1f ms: %s\n", (double) (dsocr_now_us() - start) / 1e3, err.message);
	for (int i = 0; i < PAGES; i++)
		if (reads[i].code != DSOCR_OK)
			printf("page %d: %s\n", i, reads[i].message);
	dsocr_engine_close(e);
	free_reads(reads);
	gp_check(dsocr_now_us() - start < INT64_C(60000000), "closing took too long");
	/* a new engine of this process cannot work either, and says so */
	memset(&err, 0, sizeof(err));
	e = dsocr_engine_open(&options, &err);
	gp_check(e == NULL && err.code == DSOCR_E_DEVICE, "opened anew: code %d, %s", err.code,
			 err.message);
	dsocr_engine_close(e);
}

int
main(int argc, char **argv)
{
	GpOptions o = {.backend = {.device = "cuda:0"}};
	const GpTools *tools;

	gp_options(argc, argv, &o);
	if (o.model == NULL)
		gp_die("usage: faults --model DIR [options]");
	check_memory(&o);
	tools = gp_tools_load(o.tools);
	if (tools != NULL)
		check_fault(&o, tools);
	else
		printf("fault: not tried, there is no gp_tools.so\n");
	return gp_close_line();
}
