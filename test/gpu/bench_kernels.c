/*-------------------------------------------------------------------------
 *
 * bench_kernels.c
 *		Each operation of the table at the official model's dimensions.
 *
 *		bench_kernels [--device cuda:0] [--precision bf16] [--tools FILE]
 *					  [--filter TEXT] [--list] [--once] [--quick]
 *
 * Writes one JSON object a line: name, least bytes that the operation must
 * move, floating point operations, microseconds a launch.  With gp_tools.so
 * many launches are recorded and replayed, so that the host has no part in
 * the time ("graph"); without it, and where an operation reads host memory,
 * they are put into the stream one after another ("stream").  Weights and
 * inputs rotate through more memory than the caches hold.
 *
 * --list writes bytes and operations alone and needs no device.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gp_measure.h"

#define PAGE_TOKENS 32
#define CONTEXT 1000
#define MAX_BATCH 512
#define SPARE_IDS 4096 /* that pick may append */

/* The model, or a small one of odd shape to try the program. */
typedef struct Dims
{
	int hidden, heads, vocab, experts, top, inter, shared, dense, chunk, context, batch;
	int sam, sam_heads, sam_side, tile_side, large_side, window, neck, net2, net3;
	int clip, clip_heads, product;
} Dims;

static const Dims real_dims = {.hidden = 1280,
							   .heads = 10,
							   .vocab = 129280,
							   .experts = 64,
							   .top = 6,
							   .inter = 896,
							   .shared = 1792,
							   .dense = 6848,
							   .chunk = 512,
							   .context = CONTEXT,
							   .batch = MAX_BATCH,
							   .sam = 768,
							   .sam_heads = 12,
							   .sam_side = 64,
							   .tile_side = 40,
							   .large_side = 80,
							   .window = 14,
							   .neck = 256,
							   .net2 = 512,
							   .net3 = 1024,
							   .clip = 1024,
							   .clip_heads = 16,
							   .product = 8192};

static const Dims small_dims = {.hidden = 64,
								.heads = 2,
								.vocab = 1000,
								.experts = 8,
								.top = 2,
								.inter = 48,
								.shared = 96,
								.dense = 160,
								.chunk = 48,
								.context = 70,
								.batch = 8,
								.sam = 48,
								.sam_heads = 3,
								.sam_side = 8,
								.tile_side = 5,
								.large_side = 10,
								.window = 7,
								.neck = 24,
								.net2 = 32,
								.net3 = 64,
								.clip = 64,
								.clip_heads = 4,
								.product = 128};

static Dims d;
/* ---- products ---- */

typedef struct Linear
{
	int rows, unit;
	GpRotated x, y, w;
	DsocrVector *bias;
	DsocrActivation activation;
	bool residual;
} Linear;

static void
launch_linear(void *arg, int i)
{
	const Linear *l = arg;
	void *y = l->y.p[i % l->y.n];

	gp.ops->linear(gp.be, y, l->x.p[i % l->x.n], l->rows, l->w.p[i % l->w.n], l->bias,
				   l->activation, l->residual ? y : NULL, l->unit);
}

/* views of rows each; mixed when views is 0 */
static void
bench_linear(const char *what, int views, int rows, int n, int k, bool bias,
			 DsocrActivation activation, bool residual)
{
	Linear l = {.rows = rows * (views > 0 ? views : 1),
				.unit = views > 0 ? rows : DSOCR_MIXED,
				.activation = activation,
				.residual = residual};
	double bytes = (double) gp.act * ((double) l.rows * k +
									  (double) l.rows * n * (residual ? 2 : 1) + (double) n * k);
	double flops = 2.0 * l.rows * (double) n * k;
	char name[96];

	snprintf(name, sizeof(name), "linear %s %dx[%d,%d]x[%d]", what, views > 0 ? views : 1, rows, k,
			 n);
	if (!gp_wanted(name, bytes, flops))
		return;
	l.x = gp_inputs((size_t) l.rows * (size_t) k, 8);
	l.y = gp_inputs((size_t) l.rows * (size_t) n, 8);
	l.w = gp_matrices(n, k, views > 0 ? 2 : 16);
	l.bias = bias ? gp_vector((size_t) n) : NULL;
	gp_measure(name, bytes, flops, true, launch_linear, &l);
	gp_inputs_free(&l.x);
	gp_inputs_free(&l.y);
	gp_matrices_free(&l.w);
	if (l.bias != NULL)
		gp.ops->vector_free(gp.be, l.bias);
}

typedef struct Swiglu
{
	int rows, unit;
	GpRotated x, y, w;
	void *wide;
} Swiglu;

static void
launch_swiglu(void *arg, int i)
{
	const Swiglu *s = arg;

	gp.ops->swiglu(gp.be, s->y.p[i % s->y.n], s->wide, s->x.p[i % s->x.n], s->rows,
				   s->w.p[i % s->w.n], s->unit);
}

static void
bench_swiglu(const char *what, int rows, int unit, int n)
{
	Swiglu s = {.rows = rows, .unit = unit};
	double flops = 4.0 * rows * (double) n * d.hidden;
	double bytes =
		(double) gp.act * ((double) rows * (d.hidden + n) + 2.0 * (double) n * (double) d.hidden);
	size_t r = (size_t) rows;
	DsocrError err = {0};
	char name[96];

	snprintf(name, sizeof(name), "swiglu %s [%d,%d]x[2*%d]", what, rows, d.hidden, n);
	if (!gp_wanted(name, bytes, flops))
		return;
	s.x = gp_inputs(r * (size_t) d.hidden, 4);
	s.y = gp_inputs(r * (size_t) n, 4);
	s.w = gp_matrices(2 * n, d.hidden, 12);
	s.wide = gp_need(gp.ops->alloc(gp.be, r * 2 * (size_t) n, &err), &err);
	gp_measure(name, bytes, flops, true, launch_swiglu, &s);
	gp.ops->free(gp.be, s.wide);
	gp_inputs_free(&s.x);
	gp_inputs_free(&s.y);
	gp_matrices_free(&s.w);
}

/* ---- rows ---- */

typedef struct Rows
{
	GpRotated x, y;
	DsocrVector *weight;
	int rows, dim, views, side, stride;
	const uint8_t *rgb[8];
} Rows;

static void
launch_layer_norm(void *arg, int i)
{
	const Rows *r = arg;

	gp.ops->layer_norm(gp.be, r->y.p[i % r->y.n], r->x.p[i % r->x.n], r->rows, r->dim, r->weight,
					   r->weight, 1e-6f);
}

static void
launch_rms_norm(void *arg, int i)
{
	const Rows *r = arg;

	gp.ops->rms_norm(gp.be, r->y.p[i % r->y.n], r->x.p[i % r->x.n], r->rows, r->dim, r->weight,
					 1e-6f);
}

static void
launch_add(void *arg, int i)
{
	const Rows *r = arg;

	gp.ops->add(gp.be, r->x.p[i % r->x.n], r->y.p[0], (size_t) r->rows * (size_t) r->dim, r->views);
}

static void
launch_concat(void *arg, int i)
{
	const Rows *r = arg;

	gp.ops->concat(gp.be, r->y.p[i % r->y.n], r->x.p[i % r->x.n], r->dim, 1,
				   r->x.p[(i + 1) % r->x.n], r->dim, r->views, r->rows);
}

static void
launch_copy(void *arg, int i)
{
	const Rows *r = arg;

	gp.ops->copy_rows(gp.be, r->y.p[i % r->y.n], (size_t) r->dim, r->x.p[i % r->x.n],
					  (size_t) r->dim, (size_t) r->dim, (size_t) r->rows);
}

static void
launch_im2col(void *arg, int i)
{
	const Rows *r = arg;

	gp.ops->im2col3(gp.be, r->y.p[i % r->y.n], r->x.p[i % r->x.n], r->views, r->side, r->side,
					r->dim, r->stride);
}

static void
launch_patches(void *arg, int i)
{
	const Rows *r = arg;

	gp.ops->patches(gp.be, r->y.p[i % r->y.n], r->rgb, r->views, 16 * r->side, 16);
}

static void
bench_rows(const char *what, GpLaunch launch, Rows r, size_t x, size_t y, double bytes)
{
	char name[96];

	snprintf(name, sizeof(name), "%s %dx[%d,%d]", what, r.views, r.rows, r.dim);
	if (!gp_wanted(name, bytes, 0))
		return;
	r.x = gp_inputs(x, 32);
	r.y = gp_inputs(y, 32);
	r.weight = gp_vector((size_t) r.dim);
	gp_measure(name, bytes, 0, launch != launch_patches, launch, &r);
	gp_inputs_free(&r.x);
	gp_inputs_free(&r.y);
	gp.ops->vector_free(gp.be, r.weight);
}

static void
bench_all_rows(void)
{
	int p = d.sam_side * d.sam_side;
	int t = p / 16;
	size_t sam = (size_t) p * (size_t) d.sam;
	size_t neck = (size_t) p * (size_t) d.neck;
	size_t net2 = (size_t) p / 4 * (size_t) d.net2;
	size_t clip = (size_t) (t + 1) * (size_t) d.clip;
	size_t hidden = (size_t) d.chunk * (size_t) d.hidden;
	size_t pixels = (size_t) p * 256 * 3;
	Rows r = {.views = 1, .rows = p, .dim = d.sam, .side = d.sam_side, .stride = 1};
	uint8_t *rgb = gp_need(dsocr_alloc(pixels, 1, NULL), NULL);
	double a = (double) gp.act;

	for (size_t i = 0; i < pixels; i++)
		rgb[i] = (uint8_t) (i * 2654435761u >> 13);
	for (int i = 0; i < 8; i++)
		r.rgb[i] = rgb;
	bench_rows("layer_norm sam", launch_layer_norm, r, sam, sam, 2 * a * (double) sam);
	bench_rows("add sam positions", launch_add, r, sam, sam, 3 * a * (double) sam);
	bench_rows("copy_rows sam", launch_copy, r, sam, sam, 2 * a * (double) sam);
	r.dim = 768;
	bench_rows("patches", launch_patches, r, 1, pixels, (a + 1) * (double) pixels);
	r.dim = d.neck;
	bench_rows("im2col3 neck", launch_im2col, r, neck, 9 * neck, 10 * a * (double) neck);
	r.stride = 2;
	bench_rows("im2col3 net_2", launch_im2col, r, neck, 9 * neck / 4 + neck,
			   a * (double) neck * (1 + 9.0 / 4));
	r.side /= 2;
	r.dim = d.net2;
	bench_rows("im2col3 net_3", launch_im2col, r, net2, 9 * net2 / 4 + net2,
			   a * (double) net2 * (1 + 9.0 / 4));
	for (r.views = 1; r.views <= 8; r.views *= 8)
	{
		size_t v = (size_t) r.views;

		r.dim = d.clip;
		r.rows = (t + 1) * r.views;
		bench_rows("layer_norm clip", launch_layer_norm, r, v * clip, v * clip,
				   2 * a * (double) (v * clip));
		r.rows = t;
		bench_rows("concat", launch_concat, r, v * clip, 2 * v * clip, 4 * a * (double) (v * clip));
	}
	r.views = 1;
	r.dim = d.hidden;
	r.rows = d.chunk;
	bench_rows("rms_norm prefill", launch_rms_norm, r, hidden, hidden, 2 * a * (double) hidden);
	dsocr_free(rgb);
}

/* ---- attention of the encoder ---- */

typedef struct Grid
{
	GpRotated qkv, out;
	int views, n, side, heads, window;
	DsocrVector *rel, *bias;
} Grid;

static void
launch_grid(void *arg, int i)
{
	const Grid *g = arg;

	gp.ops->grid_attention(gp.be, g->out.p[i % g->out.n], g->qkv.p[i % g->qkv.n], g->views, g->side,
						   g->heads, d.sam / g->heads, g->window, g->rel, g->rel, g->bias);
}

static void
launch_attention(void *arg, int i)
{
	const Grid *g = arg;

	gp.ops->attention(gp.be, g->out.p[i % g->out.n], g->qkv.p[i % g->qkv.n], g->views, g->n,
					  g->heads, d.clip / g->heads);
}

static void
bench_grid(int views, int side, int window)
{
	Grid g = {.views = views, .side = side, .heads = d.sam_heads, .window = window};
	double span = window > 0 ? window : side;
	double padded = window > 0 ? (double) ((side + window - 1) / window * window) : side;
	double n = (double) views * side * side;
	double flops = 4.0 * views * padded * padded * d.sam * (span * span + span);
	double bytes = 4.0 * (double) gp.act * n * d.sam;
	size_t count = (size_t) n * (size_t) d.sam;
	char name[96];

	snprintf(name, sizeof(name), "grid_attention %s %dx[%dx%d]", window > 0 ? "windows" : "global",
			 views, side, side);
	if (!gp_wanted(name, bytes, flops))
		return;
	g.qkv = gp_inputs(3 * count, 4);
	g.out = gp_inputs(count, 4);
	g.rel = gp_vector((size_t) (2 * (int) span - 1) * (size_t) (d.sam / d.sam_heads));
	g.bias = gp_vector(3 * (size_t) d.sam);
	gp_measure(name, bytes, flops, true, launch_grid, &g);
	gp_inputs_free(&g.qkv);
	gp_inputs_free(&g.out);
	gp.ops->vector_free(gp.be, g.rel);
	gp.ops->vector_free(gp.be, g.bias);
}

static void
bench_attention(int views, int n)
{
	Grid g = {.views = views, .n = n, .heads = d.clip_heads};
	double flops = 4.0 * views * (double) n * n * d.clip;
	double bytes = 4.0 * (double) gp.act * views * (double) n * d.clip;
	size_t count = (size_t) views * (size_t) n * (size_t) d.clip;
	char name[96];

	snprintf(name, sizeof(name), "attention clip %dx[%d]", views, n);
	if (!gp_wanted(name, bytes, flops))
		return;
	g.qkv = gp_inputs(3 * count, 16);
	g.out = gp_inputs(count, 16);
	gp_measure(name, bytes, flops, true, launch_attention, &g);
	gp_inputs_free(&g.qkv);
	gp_inputs_free(&g.out);
}

static void
bench_encoder(void)
{
	int p = d.sam_side * d.sam_side;
	int t = p / 16 + 1;

	for (int views = 1; views <= 4; views *= 4)
	{
		bench_linear("sam qkv", views, p, 3 * d.sam, d.sam, true, DSOCR_ACT_NONE, false);
		bench_linear("sam proj", views, p, d.sam, d.sam, true, DSOCR_ACT_NONE, true);
		bench_linear("sam lin1", views, p, 4 * d.sam, d.sam, true, DSOCR_ACT_GELU, false);
		bench_linear("sam lin2", views, p, d.sam, 4 * d.sam, true, DSOCR_ACT_NONE, true);
	}
	bench_linear("neck 3x3", 1, p, d.neck, 9 * d.neck, false, DSOCR_ACT_NONE, false);
	bench_linear("net_2", 1, p / 4, d.net2, 9 * d.neck, false, DSOCR_ACT_NONE, false);
	bench_linear("net_3", 1, p / 16, d.net3, 9 * d.net2, false, DSOCR_ACT_NONE, false);
	for (int views = 1; views <= 8; views *= 8)
	{
		bench_linear("clip qkv", views, t, 3 * d.clip, d.clip, true, DSOCR_ACT_NONE, false);
		bench_linear("clip out", views, t, d.clip, d.clip, true, DSOCR_ACT_NONE, true);
		bench_linear("clip fc1", views, t, 4 * d.clip, d.clip, true, DSOCR_ACT_QUICK_GELU, false);
		bench_linear("clip fc2", views, t, d.clip, 4 * d.clip, true, DSOCR_ACT_NONE, true);
		bench_attention(views, t);
	}
	bench_linear("projector", 1, p / 16, d.hidden, 2 * d.clip, true, DSOCR_ACT_NONE, false);
	for (int views = 1; views <= 4; views *= 4)
	{
		bench_grid(views, d.sam_side, d.window);
		bench_grid(views, d.sam_side, 0);
		bench_grid(views, d.tile_side, d.window);
		bench_grid(views, d.tile_side, 0);
	}
	bench_grid(1, d.large_side, d.window);
	bench_grid(1, d.large_side, 0);
}

/* ---- the decoder ---- */

typedef struct Step
{
	DsocrRows rows;
	int32_t slots[MAX_BATCH];
	GpRotated x, qkv, out;
	DsocrKv *kv;
	int layers;
	GpRotated gates;
	DsocrExperts *experts[2];
	GpRotated up[2], down[2]; /* their matrices */
	int32_t *ids;
	float *weights;
	float *logits;
	GpRotated head;
} Step;

static Step s;
static bool ready; /* keys and values are filled in */

static void
launch_rope(void *arg, int i)
{
	gp.ops->rope_store(gp.be, s.qkv.p[i % s.qkv.n], &s.rows, s.kv, i % s.layers, 10000.0f);
}

static void
launch_causal(void *arg, int i)
{
	gp.ops->causal_attention(gp.be, s.out.p[i % s.out.n], s.qkv.p[i % s.qkv.n], &s.rows, s.kv,
							 i % s.layers);
}

static void
launch_embed_last(void *arg, int i)
{
	gp.ops->embed_last(gp.be, s.out.p[i % s.out.n], s.head.p[0], &s.rows);
}

static void
launch_router(void *arg, int i)
{
	gp.ops->router(gp.be, s.ids, s.weights, NULL, s.x.p[i % s.x.n], &s.rows,
				   s.gates.p[i % s.gates.n], d.top);
}

static void
launch_experts(void *arg, int i)
{
	void *x = s.x.p[i % s.x.n];
	void *out = s.out.p[i % s.out.n];

	gp.ops->experts(gp.be, out, x, s.rows.n, s.ids, s.weights, d.top, s.experts[i % 2], out,
					s.rows.mixed ? DSOCR_MIXED : s.rows.n);
}

static void
launch_logits(void *arg, int i)
{
	gp.ops->logits(gp.be, s.logits, s.x.p[i % s.x.n], s.rows.mixed ? s.rows.n : 1,
				   s.head.p[i % s.head.n]);
}

static void
launch_pick(void *arg, int i)
{
	gp.ops->pick(gp.be, s.logits, &s.rows, d.vocab);
}

static int
pages_of_slot(void)
{
	return (d.context + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

/* Texts of `context` ids in all slots. */
static void
start_texts(void)
{
	size_t n = (size_t) d.context;
	int32_t *ids = gp_need(dsocr_alloc(n, sizeof(*ids), NULL), NULL);
	int32_t *pages = gp_need(dsocr_alloc((size_t) pages_of_slot(), sizeof(*pages), NULL), NULL);
	uint64_t seed = 7;

	for (int slot = 0; slot < d.batch; slot++)
	{
		DsocrText text = {.ids = ids,
						  .n = d.context,
						  .prompt_len = d.context / 2,
						  .pages = pages,
						  .n_pages = pages_of_slot(),
						  .ngram_size = 30,
						  .ngram_window = 90};

		for (int i = 0; i < d.context; i++)
			ids[i] = gp_between(&seed, 0, d.vocab - 1);
		for (int i = 0; i < text.n_pages; i++)
			pages[i] = i * d.batch + slot;
		gp.ops->text_start(gp.be, slot, &text);
	}
	gp_need_sync("texts");
	dsocr_free(ids);
	dsocr_free(pages);
}

static void
begin(const DsocrRows *rows)
{
	s.rows = *rows;
	(void) gp.ops->run_begin(gp.be, rows, false);
	if (ready)
	{
		launch_router(NULL, 0); /* what experts and pick need, whatever is measured */
		launch_logits(NULL, 0);
	}
}

static void
end(void)
{
	gp.ops->run_end(gp.be);
	gp_need_sync("run");
}

/* One chunk of a sequence. */
static void
begin_chunk(int slot, int first, int n)
{
	s.slots[0] = slot;
	begin(&(DsocrRows){.n = n, .slots = s.slots, .first = first});
}

static void
begin_mixed(int n)
{
	for (int i = 0; i < n; i++)
		s.slots[i] = i;
	begin(&(DsocrRows){.n = n, .slots = s.slots, .mixed = true});
}

/* Keys and values of all positions of all slots. */
static void
fill_kv(void)
{
	for (int slot = 0; slot < d.batch; slot++)
		for (int first = 0; first < d.context; first += d.chunk)
		{
			int left = d.context - first;

			begin_chunk(slot, first, left < d.chunk ? left : d.chunk);
			for (int layer = 0; layer < s.layers; layer++)
				launch_rope(NULL, slot * s.layers + layer);
			end();
		}
}

static void
open_experts(int layer)
{
	size_t up = 2 * (size_t) d.inter * (size_t) d.hidden;
	uint16_t *data = gp_weights(up, d.hidden);
	const DsocrMatrix *ups[64];
	const DsocrMatrix *downs[64];
	DsocrError err = {0};

	for (int e = 0; e < d.experts; e++)
	{
		ups[e] = gp_matrix(data, 2 * d.inter, d.hidden);
		downs[e] = gp_matrix(data, d.hidden, d.inter);
	}
	s.experts[layer] = gp_need(gp.ops->experts_open(gp.be, ups, downs, d.experts, &err), &err);
	dsocr_free(data);
}

/* What all decoder cases work on; it lives until the program ends. */
static void
open_decoder(void)
{
	DsocrTextShape texts = {
		.slots = d.batch, .ids = d.context + SPARE_IDS, .pages = pages_of_slot()};
	DsocrKvShape shape = {.layers = s.layers,
						  .heads = d.heads,
						  .head_dim = d.hidden / d.heads,
						  .page_tokens = PAGE_TOKENS,
						  .pages = pages_of_slot() * d.batch};
	size_t rows = (size_t) (d.chunk > d.batch ? d.chunk : d.batch);
	DsocrError err = {0};

	if (!gp.ops->texts_open(gp.be, &texts, &err))
		gp_die("%s", err.message);
	s.kv = gp_need(gp.ops->kv_open(gp.be, &shape, &err), &err);
	s.x = gp_inputs(rows * (size_t) d.hidden, 8);
	s.qkv = gp_inputs(rows * 3 * (size_t) d.hidden, 8);
	s.out = gp_inputs(rows * (size_t) d.hidden, 8);
	s.gates = gp_matrices(d.experts, d.hidden, 8);
	s.head = gp_matrices(d.vocab, d.hidden, 2);
	for (int layer = 0; layer < 2; layer++)
		open_experts(layer);
	s.ids = gp_need(gp.ops->raw_alloc(gp.be, rows * (size_t) d.top * 4, &err), &err);
	s.weights = gp_need(gp.ops->raw_alloc(gp.be, rows * (size_t) d.top * 4, &err), &err);
	s.logits =
		gp_need(gp.ops->raw_alloc(gp.be, (size_t) d.batch * (size_t) d.vocab * 4, &err), &err);
	start_texts();
	fill_kv();
	ready = true;
}

/* Expert weights that rows touch when each chooses at random. */
static double
touched(int rows)
{
	double missed = 1;

	for (int i = 0; i < rows; i++)
		missed *= 1 - (double) d.top / d.experts;
	return d.experts * (1 - missed);
}

static void
decoder_case(const char *what, int n, double bytes, double flops, GpLaunch launch)
{
	char name[96];

	snprintf(name, sizeof(name), "%s %d", what, n);
	if (gp_wanted(name, bytes, flops))
		gp_measure(name, bytes, flops, true, launch, NULL);
}

static void
experts_case(const char *what, int n)
{
	double a = (double) gp.act;
	double weights = touched(n) * 3 * d.inter * (double) d.hidden;
	double flops = 6.0 * n * d.top * d.inter * (double) d.hidden;

	decoder_case(what, n, a * (weights + 3.0 * n * d.hidden), flops, launch_experts);
}

static void
bench_mixed(int n)
{
	double a = (double) gp.act;
	double h = d.hidden;
	double kv = 2.0 * a * n * d.context * h;

	if (!gp.options.list)
		begin_mixed(n);
	decoder_case("decode embed_last", n, 2 * a * n * h, 0, launch_embed_last);
	decoder_case("decode rope_store", n, 5 * a * n * h, 0, launch_rope);
	decoder_case("decode attention", n, kv + 2 * a * n * h, 4.0 * n * d.context * h, launch_causal);
	decoder_case("decode router", n, a * h * (n + d.experts), 2.0 * n * h * d.experts,
				 launch_router);
	experts_case("decode experts", n);
	decoder_case("decode logits", n, a * h * (n + (double) d.vocab) + 4.0 * n * d.vocab,
				 2.0 * n * h * d.vocab, launch_logits);
	decoder_case("decode pick", n, 4.0 * n * d.vocab, 0, launch_pick);
	if (!gp.options.list)
	{
		end();
		start_texts(); /* picks have made them longer */
	}
	bench_linear("decode qkv", 0, n, 3 * d.hidden, d.hidden, false, DSOCR_ACT_NONE, false);
	bench_linear("decode o", 0, n, d.hidden, d.hidden, false, DSOCR_ACT_NONE, true);
	bench_swiglu("decode shared", n, DSOCR_MIXED, d.shared);
	bench_linear("decode shared down", 0, n, d.hidden, d.shared, false, DSOCR_ACT_NONE, true);
	bench_swiglu("decode dense", n, DSOCR_MIXED, d.dense);
	bench_linear("decode dense down", 0, n, d.hidden, d.dense, false, DSOCR_ACT_NONE, true);
}

static void
bench_chunk(int first)
{
	double a = (double) gp.act;
	double h = d.hidden;
	int n = d.context - first < d.chunk ? d.context - first : d.chunk;
	double keys = n * (first + (n + 1) / 2.0);
	char what[64];

	if (!gp.options.list)
		begin_chunk(0, first, n);
	snprintf(what, sizeof(what), "prefill attention from %d,", first);
	decoder_case(what, n, a * h * (2.0 * n + 2.0 * (first + n)), 4.0 * keys * h, launch_causal);
	if (first == 0)
	{
		decoder_case("prefill rope_store", n, 5 * a * n * h, 0, launch_rope);
		decoder_case("prefill router", n, a * h * (n + d.experts), 2.0 * n * h * d.experts,
					 launch_router);
		experts_case("prefill experts", n);
		decoder_case("prefill logits of row", 1, a * h * (1 + (double) d.vocab), 2.0 * h * d.vocab,
					 launch_logits);
	}
	if (!gp.options.list)
		end();
	if (first > 0)
		return;
	bench_linear("prefill qkv", 1, n, 3 * d.hidden, d.hidden, false, DSOCR_ACT_NONE, false);
	bench_linear("prefill o", 1, n, d.hidden, d.hidden, false, DSOCR_ACT_NONE, true);
	bench_swiglu("prefill shared", n, n, d.shared);
	bench_linear("prefill shared down", 1, n, d.hidden, d.shared, false, DSOCR_ACT_NONE, true);
	bench_swiglu("prefill dense", n, n, d.dense);
	bench_linear("prefill dense down", 1, n, d.hidden, d.dense, false, DSOCR_ACT_NONE, true);
}

static void
bench_decoder(void)
{
	static const int batches[] = {1, 8, 32, 64, 128, 256, 512};

	s.layers = 2;
	if (!gp.options.list)
	{
		/* all layers of one sequence are more than the second cache holds */
		if (!gp.options.once && !gp.options.quick && gp.ops->memory(gp.be) / 3 > (size_t) 16 << 30)
			s.layers = 12;
		open_decoder();
	}
	bench_chunk(0);
	bench_chunk(d.chunk < d.context ? d.chunk : 0);
	for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++)
		if (batches[i] <= d.batch)
			bench_mixed(batches[i]);
}

int
main(int argc, char **argv)
{
	gp.options.backend.device = "cuda:0";
	gp_options(argc, argv, &gp.options);
	gp_measure_open();
	d = gp.options.quick ? small_dims : real_dims;
	bench_linear("large product", 1, d.product, d.product, d.product, false, DSOCR_ACT_NONE, false);
	bench_encoder();
	bench_all_rows();
	if (gp.options.filter == NULL || strstr(gp.options.filter, "decode") != NULL ||
		strstr(gp.options.filter, "prefill") != NULL)
		bench_decoder();
	/* the device's memory goes with the process: freeing all of it one by one takes longer */
	return 0;
}
