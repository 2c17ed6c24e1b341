/*-------------------------------------------------------------------------
 *
 * attention.c
 *		Attention among the tokens of one image.
 *
 * Keys are transposed and values padded once for each head (and window),
 * then blocks of DSOCR_ATTEND_ROWS queries run against all keys.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <math.h>
#include <string.h>

typedef struct Attention
{
	DsocrCpu *cpu;
	float *out;
	const float *qkv;
	const float *padding; /* qkv of a token outside the grid, or NULL */
	const float *rel_h;	  /* or NULL */
	const float *rel_w;
	int n; /* keys of one head and window */
	int side;
	int window; /* side of a window, or 0 */
	int windows;
	int heads;
	int head_dim;
	size_t dim;
	size_t stride;
	size_t v_stride;
	float *keys;   /* [heads][head_dim][stride] */
	float *values; /* [heads][n][v_stride] */
} Attention;

static void
attention_pack_values(const Attention *a, float *to, const float *from)
{
	memcpy(to, from, (size_t) a->head_dim * sizeof(float));
	for (size_t d = (size_t) a->head_dim; d < a->v_stride; d++)
		to[d] = 0;
}

static void
attention_pack_task(void *arg, int task, int worker)
{
	const Attention *a = arg;
	const float *k = a->qkv + a->dim + (size_t) task * a->head_dim;
	float *values = a->values + (size_t) task * a->n * a->v_stride;

	a->cpu->isa->attend->transpose(a->keys + (size_t) task * a->head_dim * a->stride, a->stride, k,
								   3 * a->dim, (size_t) a->n, (size_t) a->head_dim);
	for (size_t j = 0; j < (size_t) a->n; j++)
		attention_pack_values(a, values + j * a->v_stride, k + a->dim + j * 3 * a->dim);
}

static DsocrAttend
attention_block(const Attention *a, float *scores, const int *cells)
{
	return (DsocrAttend){.q_stride = 3 * a->dim,
						 .head_dim = a->head_dim,
						 .scale = 1.0f / sqrtf((float) a->head_dim),
						 .stride = a->stride,
						 .v_stride = a->v_stride,
						 .n = a->n,
						 .side = a->rel_h == NULL ? 0
								 : a->window > 0  ? a->window
												  : a->side,
						 .rel_h = a->rel_h,
						 .rel_w = a->rel_w,
						 .cells = cells,
						 .scores = scores,
						 .out_stride = a->dim};
}

static float *
attention_scores(const Attention *a, int worker)
{
	return dsocr_cpu_scratch(a->cpu, worker, DSOCR_SLOT_SCORES,
							 dsocr_attend_scores(a->stride, a->v_stride, a->side), sizeof(float));
}

static void
attention_block_task(void *arg, int task, int worker)
{
	const Attention *a = arg;
	int blocks = (a->n + DSOCR_ATTEND_ROWS - 1) / DSOCR_ATTEND_ROWS;
	size_t head = (size_t) (task / blocks);
	int from = task % blocks * DSOCR_ATTEND_ROWS;
	int cells[DSOCR_ATTEND_ROWS];
	float *scores = attention_scores(a, worker);
	DsocrAttend b;

	if (scores == NULL)
		return;
	b = attention_block(a, scores, cells);
	b.rows = a->n - from < DSOCR_ATTEND_ROWS ? a->n - from : DSOCR_ATTEND_ROWS;
	for (int r = 0; r < b.rows; r++)
		cells[r] = from + r;
	b.q = a->qkv + (size_t) from * 3 * a->dim + head * (size_t) a->head_dim;
	b.kt = a->keys + head * (size_t) a->head_dim * a->stride;
	b.v = a->values + head * (size_t) a->n * a->v_stride;
	b.out = a->out + (size_t) from * a->dim + head * (size_t) a->head_dim;
	a->cpu->isa->attend->block(&b);
}

/* All tokens see all tokens. */
static void
attention_full(Attention *a)
{
	size_t heads = (size_t) a->heads;
	int blocks = (a->n + DSOCR_ATTEND_ROWS - 1) / DSOCR_ATTEND_ROWS;

	a->keys = dsocr_cpu_scratch(a->cpu, -1, DSOCR_SLOT_KEYS,
								heads * (size_t) a->head_dim * a->stride, sizeof(float));
	a->values = dsocr_cpu_scratch(a->cpu, -1, DSOCR_SLOT_VALUES,
								  heads * (size_t) a->n * a->v_stride, sizeof(float));
	if (a->keys == NULL || a->values == NULL)
	{
		memset(a->out, 0, (size_t) a->n * a->dim * sizeof(float));
		return;
	}
	dsocr_pool_run(a->cpu->pool, a->heads, attention_pack_task, a);
	dsocr_pool_run(a->cpu->pool, a->heads * blocks, attention_block_task, a);
}

/* The tokens of one window, one head. */
static void
attention_window_task(void *arg, int task, int worker)
{
	const Attention *a = arg;
	size_t head = (size_t) (task % a->heads) * (size_t) a->head_dim;
	int row = task / a->heads / a->windows * a->window;
	int col = task / a->heads % a->windows * a->window;
	size_t rows_size = (size_t) a->n * (size_t) a->head_dim;
	size_t kt_size = (size_t) a->head_dim * a->stride;
	int width = a->side - col < a->window ? a->side - col : a->window;
	float *scores = attention_scores(a, worker);
	float *keys =
		dsocr_cpu_scratch(a->cpu, worker, DSOCR_SLOT_W_KEYS,
						  rows_size + kt_size + (size_t) a->n * a->v_stride, sizeof(float));
	float *kt = keys + rows_size;
	int cells[DSOCR_ATTEND_ROWS];
	DsocrAttend b;

	if (keys == NULL || scores == NULL)
		return;
	for (int j = 0; j < a->n; j++)
	{
		int y = row + j / a->window;
		int x = col + j % a->window;
		const float *token = y < a->side && x < a->side
								 ? a->qkv + ((size_t) y * a->side + (size_t) x) * 3 * a->dim
								 : a->padding;

		memcpy(keys + (size_t) j * a->head_dim, token + a->dim + head,
			   (size_t) a->head_dim * sizeof(float));
		attention_pack_values(a, kt + kt_size + (size_t) j * a->v_stride,
							  token + 2 * a->dim + head);
	}
	a->cpu->isa->attend->transpose(kt, a->stride, keys, (size_t) a->head_dim, (size_t) a->n,
								   (size_t) a->head_dim);
	b = attention_block(a, scores, cells);
	b.kt = kt;
	b.v = kt + kt_size;
	for (int y = row; y < row + a->window && y < a->side; y++)
		for (int x = 0; x < width; x += DSOCR_ATTEND_ROWS)
		{
			size_t token = (size_t) y * a->side + (size_t) (col + x);

			b.rows = width - x < DSOCR_ATTEND_ROWS ? width - x : DSOCR_ATTEND_ROWS;
			for (int r = 0; r < b.rows; r++)
				cells[r] = (y - row) * a->window + x + r;
			b.q = a->qkv + token * 3 * a->dim + head;
			b.out = a->out + token * a->dim + head;
			a->cpu->isa->attend->block(&b);
		}
}

static Attention
attention_init(DsocrBackend *be, void *out, const void *qkv, int n, int heads, int head_dim)
{
	return (Attention){.cpu = (DsocrCpu *) be,
					   .out = out,
					   .qkv = qkv,
					   .n = n,
					   .heads = heads,
					   .head_dim = head_dim,
					   .dim = (size_t) heads * (size_t) head_dim,
					   .stride = dsocr_attend_pad((size_t) n),
					   .v_stride = dsocr_attend_pad((size_t) head_dim)};
}

void
dsocr_cpu_grid_attention(DsocrBackend *be, void *out, const void *qkv, int side, int heads,
						 int head_dim, int window, const DsocrVector *rel_h,
						 const DsocrVector *rel_w, const DsocrVector *qkv_bias)
{
	Attention a =
		attention_init(be, out, qkv, window > 0 ? window * window : side * side, heads, head_dim);

	a.rel_h = rel_h->v;
	a.rel_w = rel_w->v;
	a.side = side;
	if (window > 0)
	{
		a.padding = qkv_bias->v;
		a.window = window;
		a.windows = (side + window - 1) / window;
		dsocr_pool_run(a.cpu->pool, a.windows * a.windows * heads, attention_window_task, &a);
	}
	else
		attention_full(&a);
}

void
dsocr_cpu_attention(DsocrBackend *be, void *out, const void *qkv, int n, int heads, int head_dim)
{
	Attention a = attention_init(be, out, qkv, n, heads, head_dim);

	attention_full(&a);
}
