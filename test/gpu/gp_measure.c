/*-------------------------------------------------------------------------
 *
 * gp_measure.c
 *		Inputs of operations, and the time that a launch takes.
 *
 *-------------------------------------------------------------------------
 */
#include "gp_measure.h"

#include <stdio.h>
#include <string.h>

#include "device.h"

#define ROUNDS 7
#define ROTATE ((size_t) 256 << 20) /* bytes that inputs and weights rotate through */

GpMeasure gp;

/* ---- inputs ---- */

static float *numbers; /* values to write from */
static size_t n_numbers;

static void
fill(void *p, size_t n)
{
	for (size_t at = 0; at < n; at += n_numbers)
		gp.ops->write(gp.be, dsocr_act(gp.be, p, at), numbers,
					  n - at < n_numbers ? n - at : n_numbers);
}

static int
rotations(size_t bytes, int most)
{
	size_t n = gp.rotate / (bytes > 0 ? bytes : 1) + 1;

	return n < (size_t) most ? (int) n : most;
}

GpRotated
gp_inputs(size_t n, int most)
{
	GpRotated r = {.n = rotations(n * gp.act, most)};
	DsocrError err = {0};

	for (int i = 0; i < r.n; i++)
	{
		r.p[i] = gp_need(gp.ops->alloc(gp.be, n, &err), &err);
		if (i == 0)
			fill(r.p[i], n);
		else
			dsocr_act_copy(gp.be, r.p[i], r.p[0], n);
	}
	return r;
}

void
gp_inputs_free(GpRotated *r)
{
	for (int i = 0; i < r->n; i++)
		gp.ops->free(gp.be, r->p[i]);
	r->n = 0;
}

DsocrMatrix *
gp_matrix(const uint16_t *data, int n, int k)
{
	DsocrTensor t = {.name = "w",
					 .dtype = DSOCR_BF16,
					 .ndim = 2,
					 .shape = {n, k},
					 .count = (int64_t) n * k,
					 .data = data};
	const DsocrTensor *part = &t;
	DsocrError err = {0};

	return gp_need(gp.ops->matrix(gp.be, &part, 1, false, &err), &err);
}

uint16_t *
gp_weights(size_t n, int inputs_of_product)
{
	uint16_t *data = gp_need(dsocr_alloc(n, sizeof(*data), NULL), NULL);
	float scale = 1.7f;

	for (int i = inputs_of_product; i > 1; i /= 4)
		scale /= 2;
	gp_halves(data, n, scale, n);
	return data;
}

GpRotated
gp_matrices(int n, int k, int most)
{
	size_t count = (size_t) n * (size_t) k;
	GpRotated r = {.n = rotations(count * gp.act, most)};
	uint16_t *data = gp_weights(count, k);

	for (int i = 0; i < r.n; i++)
		r.p[i] = gp_matrix(data, n, k);
	dsocr_free(data);
	return r;
}

void
gp_matrices_free(GpRotated *r)
{
	for (int i = 0; i < r->n; i++)
		gp.ops->matrix_free(gp.be, r->p[i]);
	r->n = 0;
}

DsocrVector *
gp_vector(size_t n)
{
	float *v = gp_need(dsocr_alloc(n, sizeof(*v), NULL), NULL);
	DsocrError err = {0};
	DsocrVector *made;

	for (size_t i = 0; i < n; i++)
		v[i] = numbers[i % n_numbers];
	made = gp_need(gp.ops->vector(gp.be, v, n, &err), &err);
	dsocr_free(v);
	return made;
}

/* ---- timing ---- */

/* Is one of the texts of --filter, with | between them, part of the name? */
static bool
filtered(const char *name)
{
	const char *at = gp.options.filter;

	while (at != NULL && *at != '\0')
	{
		size_t n = strcspn(at, "|");

		if (n > 0 && memmem(name, strlen(name), at, n) != NULL)
			return true;
		at += n + (at[n] == '|');
	}
	return gp.options.filter == NULL;
}

bool
gp_wanted(const char *name, double bytes, double flops)
{
	if (!filtered(name))
		return false;
	if (!gp.options.list)
		return true;
	printf("{\"kernel\": \"%s\", \"bytes\": %.0f, \"flops\": %.0f}\n", name, bytes, flops);
	return false;
}

void
gp_need_sync(const char *name)
{
	DsocrError err = {0};

	if (!gp.ops->sync(gp.be, &err))
		gp_die("%s: %s", name, err.message);
}

/* Microseconds of one of n launches in the stream. */
static double
in_stream(const char *name, GpLaunch launch, void *arg, int n)
{
	int64_t start = dsocr_now_us();

	for (int i = 0; i < n; i++)
		launch(arg, i);
	gp_need_sync(name);
	return (double) (dsocr_now_us() - start) / n;
}

static bool
in_graph(GpLaunch launch, void *arg, int n, double *us)
{
	double all[ROUNDS];

	if (!gp.tools->record_begin(gp.be))
		return false;
	for (int i = 0; i < n; i++)
		launch(arg, i);
	if (!gp.tools->record_end(gp.be, ROUNDS, all))
		return false;
	*us = gp_median(all, ROUNDS) / n;
	return true;
}

void
gp_measure(const char *name, double bytes, double flops, bool recordable, GpLaunch launch,
		   void *arg)
{
	const char *how = "stream";
	double rounds[ROUNDS];
	double us;
	int n;

	if (gp.options.once)
	{
		printf("{\"case\": \"%s\"}\n", name);
		fflush(stdout);
	}
	launch(arg, 0);
	gp_need_sync(name);
	if (gp.options.once)
	{
		if (gp.tools != NULL)
		{
			gp.tools->profile(true);
			launch(arg, 1);
			gp_need_sync(name);
			gp.tools->profile(false);
		}
		printf("{\"kernel\": \"%s\", \"bytes\": %.0f, \"flops\": %.0f}\n", name, bytes, flops);
		fflush(stdout);
		return;
	}
	us = in_stream(name, launch, arg, 3);
	n = gp.options.quick ? 2 : us > 5000 ? 2 : us < 100 ? 100 : (int) (10000 / us);
	for (int i = 0; i < ROUNDS; i++)
		rounds[i] = in_stream(name, launch, arg, n);
	us = gp_median(rounds, ROUNDS);
	if (recordable && gp.tools != NULL && in_graph(launch, arg, n, &us))
		how = "graph";
	gp_need_sync(name);
	printf("{\"kernel\": \"%s\", \"us\": %.3f, \"stream_us\": %.3f, \"how\": \"%s\", "
		   "\"bytes\": %.0f, \"flops\": %.0f}\n",
		   name, us, gp_median(rounds, ROUNDS), how, bytes, flops);
	fflush(stdout);
}

void
gp_measure_open(void)
{
	uint64_t seed = 3;
	DsocrError err = {0};

	gp.act = gp.options.backend.precision == DSOCR_PRECISION_FP32 ? 4 : 2;
	gp.rotate = gp.options.quick || gp.options.once ? 0 : ROTATE;
	if (gp.options.list)
		return;
	n_numbers = gp.options.quick ? 1 << 16 : 1 << 22;
	numbers = gp_need(dsocr_alloc(n_numbers, sizeof(*numbers), NULL), NULL);
	for (size_t i = 0; i < n_numbers; i++)
		numbers[i] = (float) (gp_next(&seed) >> 40) / (float) (1 << 23) - 0.999f;
	gp.be = gp_need(dsocr_device_open(&gp.options.backend, &err), &err);
	gp.ops = gp.be->ops;
	gp.act = gp.be->act_size;
	gp.tools = gp_tools_load(gp.options.tools);
	fprintf(stderr, "%s, times from %s\n", gp.be->description,
			gp.tools != NULL ? "recordings" : "the stream");
}
