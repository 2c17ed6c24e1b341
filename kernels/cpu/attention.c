/*-------------------------------------------------------------------------
 *
 * attention.c
 *		Attention among the tokens of one image.
 *
 * Keys and values are packed once for each head (and window), then blocks
 * of DSOCR_ATTEND_ROWS queries run against all keys.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <math.h>
#include <string.h>

typedef struct Attention
{
	DsocrCpu *cpu;
	const DsocrAttendOps *ops;
	float *out;
	const float *qkv;
	const float *padding; /* qkv of a token outside the grid */
	int n;				  /* keys of one head and window */
	int grid;			  /* side of the grid, or 0 */
	int side;			  /* of the grid that the position bias covers, or 0: no bias */
	int windows;		  /* windows side by side */
	int heads;
	size_t head_dim;
	size_t dim;
	char *rel_h; /* packed tables */
	char *rel_w;
	char *keys; /* [heads] packed */
	char *values;
} Attention;

const DsocrAttendOps *
dsocr_cpu_attend(const DsocrCpu *cpu)
{
	return dsocr_cpu_has_unit(cpu) ? cpu->isa->tile_attend : cpu->isa->attend;
}

static Attention
attention_init(DsocrBackend *be, void *out, const void *qkv, int n, int heads, int head_dim)
{
	DsocrCpu *cpu = (DsocrCpu *) be;

	return (Attention){.cpu = cpu,
					   .ops = dsocr_cpu_attend(cpu),
					   .out = out,
					   .qkv = qkv,
					   .n = n,
					   .heads = heads,
					   .head_dim = (size_t) head_dim,
					   .dim = (size_t) heads * (size_t) head_dim};
}

static size_t
attention_keys_bytes(const Attention *a)
{
	return a->ops->keys_bytes((size_t) a->n, a->head_dim);
}

static size_t
attention_values_bytes(const Attention *a)
{
	return a->ops->values_bytes((size_t) a->n, a->head_dim);
}

static void
attention_next_view(Attention *a, size_t tokens)
{
	a->qkv += tokens * 3 * a->dim;
	a->out += tokens * a->dim;
}

/* Queries in blocks; q and out point to count tokens, cells says where they stand. */
static void
attention_blocks(const Attention *a, int worker, const float *const *q, float *const *out,
				 const int *cells, int count, const void *keys, const void *values)
{
	float *scratch = dsocr_cpu_scratch(
		a->cpu, worker, DSOCR_SLOT_SCORES,
		a->ops->scratch((size_t) a->n, a->head_dim, (size_t) a->side), sizeof(float));

	for (int from = 0; from < count; from += DSOCR_ATTEND_ROWS)
	{
		int left = count - from;
		DsocrAttend b = {.q = q + from,
						 .out = out + from,
						 .rows = left < DSOCR_ATTEND_ROWS ? left : DSOCR_ATTEND_ROWS,
						 .head_dim = (int) a->head_dim,
						 .scale = 1.0f / sqrtf((float) a->head_dim),
						 .keys = keys,
						 .values = values,
						 .n = a->n,
						 .side = a->side,
						 .rel_h = a->rel_h,
						 .rel_w = a->rel_w,
						 .cells = cells + from,
						 .scratch = scratch};

		if (scratch != NULL)
			a->ops->block(&b);
		else
			for (int r = 0; r < b.rows; r++)
				memset(b.out[r], 0, a->head_dim * sizeof(float));
	}
}

/* ---- all tokens see all tokens ---- */

static void
attention_pack_task(void *arg, int task, int worker)
{
	const Attention *a = arg;
	size_t n = (size_t) a->n;
	const float **rows = dsocr_cpu_scratch(a->cpu, worker, DSOCR_SLOT_X_TILE, n, sizeof(*rows));

	if (rows == NULL)
		return;
	for (size_t j = 0; j < n; j++)
		rows[j] = a->qkv + j * 3 * a->dim + a->dim + (size_t) task * a->head_dim;
	a->ops->pack_keys(a->keys + (size_t) task * attention_keys_bytes(a), rows, n, a->head_dim);
	for (size_t j = 0; j < n; j++)
		rows[j] += a->dim;
	a->ops->pack_values(a->values + (size_t) task * attention_values_bytes(a), rows, n,
						a->head_dim);
}

static void
attention_fetch(const float *at, size_t n)
{
	for (size_t i = 0; i < n; i += 16)
		__builtin_prefetch(at + i, 0, 2);
}

static void
attention_block_task(void *arg, int task, int worker)
{
	const Attention *a = arg;
	int blocks = (a->n + DSOCR_ATTEND_ROWS - 1) / DSOCR_ATTEND_ROWS;
	size_t head = (size_t) (task / blocks);
	int from = task % blocks * DSOCR_ATTEND_ROWS;
	int count = a->n - from < DSOCR_ATTEND_ROWS ? a->n - from : DSOCR_ATTEND_ROWS;
	int next = a->n - from - DSOCR_ATTEND_ROWS;
	const float *q[DSOCR_ATTEND_ROWS];
	float *out[DSOCR_ATTEND_ROWS];
	int cells[DSOCR_ATTEND_ROWS];

	/* Rows of the next block lie far apart, where no hardware looks for them. */
	for (int r = 0; r < next && r < DSOCR_ATTEND_ROWS; r++)
		attention_fetch(a->qkv + (size_t) (from + DSOCR_ATTEND_ROWS + r) * 3 * a->dim +
							head * a->head_dim,
						a->head_dim);
	for (int r = 0; r < count; r++)
	{
		size_t token = (size_t) (from + r);

		q[r] = a->qkv + token * 3 * a->dim + head * a->head_dim;
		out[r] = a->out + token * a->dim + head * a->head_dim;
		cells[r] = from + r;
	}
	attention_blocks(a, worker, q, out, cells, count, a->keys + head * attention_keys_bytes(a),
					 a->values + head * attention_values_bytes(a));
}

static void
attention_full(Attention *a)
{
	size_t heads = (size_t) a->heads;
	int blocks = (a->n + DSOCR_ATTEND_ROWS - 1) / DSOCR_ATTEND_ROWS;

	a->keys = dsocr_cpu_scratch(a->cpu, -1, DSOCR_SLOT_KEYS, heads, attention_keys_bytes(a));
	a->values = dsocr_cpu_scratch(a->cpu, -1, DSOCR_SLOT_VALUES, heads, attention_values_bytes(a));
	if (a->keys == NULL || a->values == NULL)
	{
		memset(a->out, 0, (size_t) a->n * a->dim * sizeof(float));
		return;
	}
	dsocr_pool_run(a->cpu->pool, a->heads, attention_pack_task, a);
	dsocr_pool_run(a->cpu->pool, a->heads * blocks, attention_block_task, a);
}

void
dsocr_cpu_attention(DsocrBackend *be, void *out, const void *qkv, int views, int n, int heads,
					int head_dim)
{
	Attention a = attention_init(be, out, qkv, n, heads, head_dim);

	for (int v = 0; v < views; v++)
	{
		attention_full(&a);
		attention_next_view(&a, (size_t) n);
	}
}

/* ---- grids ---- */

/* Pointers of one window's tokens, in scratch memory of a worker. */
typedef struct WindowTokens
{
	const float **keys;
	const float **values;
	const float **q; /* only tokens of the grid */
	float **out;
	int *cells;
	char *packed_keys;
	char *packed_values;
} WindowTokens;

static bool
attention_window_alloc(const Attention *a, int worker, WindowTokens *w)
{
	size_t n = (size_t) a->n;
	char *index =
		dsocr_cpu_scratch(a->cpu, worker, DSOCR_SLOT_X_TILE, n, 4 * sizeof(void *) + sizeof(int));
	char *packed = dsocr_cpu_scratch(a->cpu, worker, DSOCR_SLOT_W_KEYS, 1,
									 attention_keys_bytes(a) + attention_values_bytes(a));

	if (index == NULL || packed == NULL)
		return false;
	w->keys = (const float **) index;
	w->values = w->keys + n;
	w->q = w->values + n;
	w->out = (float **) (w->q + n);
	w->cells = (int *) (w->out + n);
	w->packed_keys = packed;
	w->packed_values = packed + attention_keys_bytes(a);
	return true;
}

/* The tokens of one window, one head. */
static void
attention_window_task(void *arg, int task, int worker)
{
	const Attention *a = arg;
	size_t head = (size_t) (task % a->heads) * a->head_dim;
	int row = task / a->heads / a->windows * a->side;
	int col = task / a->heads % a->windows * a->side;
	int count = 0;
	WindowTokens w;

	if (!attention_window_alloc(a, worker, &w))
		return;
	for (int j = 0; j < a->n; j++)
	{
		int y = row + j / a->side;
		int x = col + j % a->side;
		bool inside = y < a->grid && x < a->grid;
		size_t token = (size_t) y * (size_t) a->grid + (size_t) x;
		const float *from = inside ? a->qkv + token * 3 * a->dim : a->padding;

		w.keys[j] = from + a->dim + head;
		w.values[j] = w.keys[j] + a->dim;
		if (!inside)
			continue;
		w.q[count] = from + head;
		w.out[count] = a->out + token * a->dim + head;
		w.cells[count++] = j;
	}
	a->ops->pack_keys(w.packed_keys, w.keys, (size_t) a->n, a->head_dim);
	a->ops->pack_values(w.packed_values, w.values, (size_t) a->n, a->head_dim);
	attention_blocks(a, worker, w.q, w.out, w.cells, count, w.packed_keys, w.packed_values);
}

/* Position tables as keys, last row first: a query's bias is then one run of products. */
static bool
attention_tables(Attention *a, const DsocrVector *rel_h, const DsocrVector *rel_w)
{
	size_t n = 2 * (size_t) a->side - 1;
	size_t bytes = a->ops->keys_bytes(n, a->head_dim);
	const float **rows = dsocr_cpu_scratch(a->cpu, -1, DSOCR_SLOT_INDEX, n, sizeof(*rows));

	a->rel_h = dsocr_cpu_scratch(a->cpu, -1, DSOCR_SLOT_TABLES, 2, bytes);
	if (rows == NULL || a->rel_h == NULL)
		return false;
	a->rel_w = a->rel_h + bytes;
	for (size_t i = 0; i < n; i++)
		rows[i] = rel_h->v + (n - 1 - i) * a->head_dim;
	a->ops->pack_keys(a->rel_h, rows, n, a->head_dim);
	for (size_t i = 0; i < n; i++)
		rows[i] = rel_w->v + (n - 1 - i) * a->head_dim;
	a->ops->pack_keys(a->rel_w, rows, n, a->head_dim);
	return true;
}

void
dsocr_cpu_grid_attention(DsocrBackend *be, void *out, const void *qkv, int views, int side,
						 int heads, int head_dim, int window, const DsocrVector *rel_h,
						 const DsocrVector *rel_w, const DsocrVector *qkv_bias)
{
	int reach = window > 0 ? window : side;
	size_t tokens = (size_t) side * (size_t) side;
	Attention a = attention_init(be, out, qkv, reach * reach, heads, head_dim);

	a.grid = side;
	a.side = reach;
	if (!attention_tables(&a, rel_h, rel_w))
	{
		memset(out, 0, (size_t) views * tokens * a.dim * sizeof(float));
		return;
	}
	a.padding = qkv_bias->v;
	a.windows = window > 0 ? (side + window - 1) / window : 0;
	for (int v = 0; v < views; v++)
	{
		if (window > 0)
			dsocr_pool_run(a.cpu->pool, a.windows * a.windows * heads, attention_window_task, &a);
		else
			attention_full(&a);
		attention_next_view(&a, tokens);
	}
}
