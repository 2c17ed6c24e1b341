/*-------------------------------------------------------------------------
 *
 * gp_trace.c
 *		A table of operations that keeps a diary.
 *
 *-------------------------------------------------------------------------
 */
#include "gp_trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gp.h"

#define MAX_EVENTS 16000
#define MAX_MATRICES 8192
#define MAX_KINDS 512

typedef struct Shape
{
	const DsocrMatrix *w;
	int n, k;
} Shape;

typedef struct Kind
{
	char what[80];
	int times;
	double us;
} Kind;

static const DsocrBackendOps *real;
static DsocrBackendOps table;
static const GpTools *tools;
static Shape shapes[MAX_MATRICES]; /* by address of the matrix */
static bool on;
static bool plain_steps;
static int steps_replayed;
static int steps_all;
static char (*events)[80]; /* [MAX_EVENTS] */
static double *ends;	   /* microseconds, where there are no tools */
static int n_events;

/* ---- matrices ---- */

static Shape *
shape_of(const DsocrMatrix *w)
{
	size_t at = ((size_t) w >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 51;

	for (size_t i = 0; i < MAX_MATRICES; i++)
	{
		Shape *s = &shapes[(at + i) % MAX_MATRICES];

		if (s->w == w || s->w == NULL)
			return s;
	}
	gp_die("too many matrices");
}

static DsocrMatrix *
trace_matrix(DsocrBackend *be, const DsocrTensor *const *parts, int n_parts, bool channel_last,
			 DsocrError *err)
{
	DsocrMatrix *w = real->matrix(be, parts, n_parts, channel_last, err);
	Shape *s;

	if (w == NULL)
		return NULL;
	s = shape_of(w);
	*s = (Shape){.w = w};
	for (int i = 0; i < n_parts; i++)
		s->n += (int) parts[i]->shape[0];
	s->k = (int) (parts[0]->count / parts[0]->shape[0]);
	return w;
}

/* ---- the diary ---- */

static void DSOCR_PRINTF(2, 3) note(DsocrBackend *be, const char *fmt, ...)
{
	va_list ap;

	if (!on || n_events == MAX_EVENTS)
		return;
	va_start(ap, fmt);
	vsnprintf(events[n_events], sizeof(events[0]), fmt, ap);
	va_end(ap);
	if (tools != NULL)
		tools->mark(be);
	else
	{
		DsocrError err = {0};

		real->sync(be, &err);
		ends[n_events] = (double) dsocr_now_us();
	}
	n_events++;
}

/* NAME(arguments) runs the real one and writes it down. */
#define TRACED(name, params, args, ...)                                                            \
	static void trace_##name params                                                                \
	{                                                                                              \
		real->name args;                                                                           \
		note(be, __VA_ARGS__);                                                                     \
	}

TRACED(copy_rows,
	   (DsocrBackend * be, void *dst, size_t dst_stride, const void *src, size_t src_stride,
		size_t n, size_t rows),
	   (be, dst, dst_stride, src, src_stride, n, rows), "copy_rows [%zu,%zu]", rows, n)
TRACED(linear,
	   (DsocrBackend * be, void *y, const void *x, int rows, const DsocrMatrix *w,
		const DsocrVector *bias, DsocrActivation act, const void *residual, int unit),
	   (be, y, x, rows, w, bias, act, residual, unit), "linear [%d,%d]x[%d]%s", rows,
	   shape_of(w)->k, shape_of(w)->n, unit == DSOCR_MIXED ? " mixed" : "")
TRACED(swiglu,
	   (DsocrBackend * be, void *y, void *wide, const void *x, int rows, const DsocrMatrix *w,
		int unit),
	   (be, y, wide, x, rows, w, unit), "swiglu [%d,%d]x[%d]%s", rows, shape_of(w)->k,
	   shape_of(w)->n, unit == DSOCR_MIXED ? " mixed" : "")
TRACED(logits, (DsocrBackend * be, float *logits, const void *x, int rows, const DsocrMatrix *w),
	   (be, logits, x, rows, w), "logits [%d,%d]x[%d]", rows, shape_of(w)->k, shape_of(w)->n)
TRACED(layer_norm,
	   (DsocrBackend * be, void *y, const void *x, int rows, int dim, const DsocrVector *weight,
		const DsocrVector *bias, float eps),
	   (be, y, x, rows, dim, weight, bias, eps), "layer_norm [%d,%d]", rows, dim)
TRACED(rms_norm,
	   (DsocrBackend * be, void *y, const void *x, int rows, int dim, const DsocrVector *weight,
		float eps),
	   (be, y, x, rows, dim, weight, eps), "rms_norm [%d,%d]", rows, dim)
TRACED(add, (DsocrBackend * be, void *x, const void *t, size_t n, int repeats),
	   (be, x, t, n, repeats), "add %d x %zu", repeats, n)
TRACED(concat,
	   (DsocrBackend * be, void *out, const void *a, int dim_a, int skip, const void *b, int dim_b,
		int views, int rows),
	   (be, out, a, dim_a, skip, b, dim_b, views, rows), "concat %d x [%d,%d+%d]", views, rows,
	   dim_a, dim_b)
TRACED(patches,
	   (DsocrBackend * be, void *out, const uint8_t *const *rgb, int views, int size, int patch),
	   (be, out, rgb, views, size, patch), "patches %d x %d", views, size)
TRACED(im2col3,
	   (DsocrBackend * be, void *out, const void *x, int views, int h, int w, int channels,
		int stride),
	   (be, out, x, views, h, w, channels, stride), "im2col3 %d x [%dx%d,%d] / %d", views, h, w,
	   channels, stride)
TRACED(grid_attention,
	   (DsocrBackend * be, void *out, const void *qkv, int views, int side, int heads, int head_dim,
		int window, const DsocrVector *rel_h, const DsocrVector *rel_w, const DsocrVector *bias),
	   (be, out, qkv, views, side, heads, head_dim, window, rel_h, rel_w, bias),
	   "grid_attention %d x [%dx%d] %s", views, side, side, window > 0 ? "windows" : "global")
TRACED(attention,
	   (DsocrBackend * be, void *out, const void *qkv, int views, int n, int heads, int head_dim),
	   (be, out, qkv, views, n, heads, head_dim), "attention %d x [%d]", views, n)
TRACED(embed, (DsocrBackend * be, void *out, const DsocrMatrix *t, const int32_t *ids, int n),
	   (be, out, t, ids, n), "embed %d", n)
TRACED(embed_last, (DsocrBackend * be, void *out, const DsocrMatrix *t, const DsocrRows *rows),
	   (be, out, t, rows), "embed_last %d", rows->n)
TRACED(rope_store,
	   (DsocrBackend * be, void *qkv, const DsocrRows *rows, DsocrKv *kv, int layer, float theta),
	   (be, qkv, rows, kv, layer, theta), "rope_store %d", rows->n)
TRACED(causal_attention,
	   (DsocrBackend * be, void *out, const void *qkv, const DsocrRows *rows, DsocrKv *kv,
		int layer),
	   (be, out, qkv, rows, kv, layer), "causal_attention %d%s", rows->n,
	   rows->mixed ? " mixed" : "")
TRACED(silu_mul, (DsocrBackend * be, void *y, const void *x, int rows, int n), (be, y, x, rows, n),
	   "silu_mul [%d,%d]", rows, n)
TRACED(router,
	   (DsocrBackend * be, int32_t *ids, float *weights, float *logits, const void *x,
		const DsocrRows *rows, const DsocrMatrix *gate, int k),
	   (be, ids, weights, logits, x, rows, gate, k), "router %d", rows->n)
TRACED(experts,
	   (DsocrBackend * be, void *y, const void *x, int rows, const int32_t *ids,
		const float *weights, int k, const DsocrExperts *ex, const void *residual, int unit),
	   (be, y, x, rows, ids, weights, k, ex, residual, unit), "experts %d%s", rows,
	   unit == DSOCR_MIXED ? " mixed" : "")
TRACED(pick, (DsocrBackend * be, const float *logits, const DsocrRows *rows, int vocab),
	   (be, logits, rows, vocab), "pick %d", rows->mixed ? rows->n : 1)

static bool
trace_run_begin(DsocrBackend *be, const DsocrRows *rows, bool whole_step)
{
	bool todo = real->run_begin(be, rows, whole_step && !plain_steps && !on);

	if (whole_step)
	{
		steps_all++;
		steps_replayed += !todo;
	}
	note(be, "run_begin %d", rows->n);
	return todo;
}

void
gp_trace_table(DsocrBackend *be, const GpTools *t)
{
	real = be->ops;
	tools = t;
	events = gp_need(dsocr_alloc(MAX_EVENTS, sizeof(*events), NULL), NULL);
	ends = gp_need(dsocr_alloc(MAX_EVENTS, sizeof(*ends), NULL), NULL);
	table = *real;
	table.matrix = trace_matrix;
	table.copy_rows = trace_copy_rows;
	table.linear = trace_linear;
	table.swiglu = trace_swiglu;
	table.logits = trace_logits;
	table.layer_norm = trace_layer_norm;
	table.rms_norm = trace_rms_norm;
	table.add = trace_add;
	table.concat = trace_concat;
	table.patches = trace_patches;
	table.im2col3 = trace_im2col3;
	table.grid_attention = trace_grid_attention;
	table.attention = trace_attention;
	table.embed = trace_embed;
	table.embed_last = trace_embed_last;
	table.rope_store = trace_rope_store;
	table.causal_attention = trace_causal_attention;
	table.silu_mul = trace_silu_mul;
	table.router = trace_router;
	table.experts = trace_experts;
	table.pick = trace_pick;
	table.run_begin = trace_run_begin;
	be->ops = &table;
}

void
gp_trace_plain_steps(bool plain)
{
	plain_steps = plain;
}

void
gp_trace_steps(int *replayed, int *all)
{
	*replayed = steps_replayed;
	*all = steps_all;
}

void
gp_trace_on(void)
{
	n_events = 0;
	on = true;
}

void
gp_trace_off(void)
{
	on = false;
}

static int
by_time(const void *a, const void *b)
{
	double x = ((const Kind *) a)->us;
	double y = ((const Kind *) b)->us;

	return (x < y) - (x > y);
}

void
gp_trace_print(void)
{
	static Kind kinds[MAX_KINDS];
	double *us = gp_need(dsocr_zalloc(MAX_EVENTS, sizeof(*us), NULL), NULL);
	int n = 0;

	/* the first moment is the start of the second operation */
	if (tools != NULL)
		tools->marks(us, MAX_EVENTS - 1);
	else
		for (int i = 0; i + 1 < n_events; i++)
			us[i] = ends[i + 1] - ends[i];
	for (int i = 1; i < n_events; i++)
	{
		int k = 0;

		while (k < n && strcmp(kinds[k].what, events[i]) != 0)
			k++;
		if (k == MAX_KINDS)
			break;
		if (k == n)
		{
			kinds[n] = (Kind){.times = 0};
			snprintf(kinds[n++].what, sizeof(kinds[0].what), "%s", events[i]);
		}
		kinds[k].times++;
		kinds[k].us += us[i - 1];
	}
	qsort(kinds, (size_t) n, sizeof(kinds[0]), by_time);
	printf("[");
	for (int k = 0; k < n; k++)
		printf("%s{\"op\": \"%s\", \"times\": %d, \"us\": %.2f}", k > 0 ? ", " : "", kinds[k].what,
			   kinds[k].times, kinds[k].us);
	printf("]");
	dsocr_free(us);
	n_events = 0;
}
