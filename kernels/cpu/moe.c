/*-------------------------------------------------------------------------
 *
 * moe.c
 *		Mixture of experts: router and grouped expert products.
 *
 * The (row, choice) pairs are sorted by expert, so that an expert's weights
 * are read once for all its rows.  Outputs of the pairs are kept apart and
 * summed in the order of the choices.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <string.h>

#define MOE_ROUTER_ROWS 16 /* rows a task */
#define MOE_PIECE 64	   /* weight rows a task, mixed rows */
#define MOE_GROUP 64	   /* rows of X in one product, mixed rows */

/* ---- router ---- */

typedef struct Router
{
	DsocrCpu *cpu;
	const DsocrRows *rows;
	int32_t *ids;
	float *weights;
	float *logits;
	const float *x;
	const DsocrMatrix *gate;
	int k;
} Router;

static void
moe_top(int32_t *ids, float *weights, float *p, int experts, int k)
{
	for (int c = 0; c < k; c++)
	{
		int best = -1;

		/* A chosen expert is marked by -1; probabilities are never negative. */
		for (int e = 0; e < experts; e++)
			if (p[e] != -1.0f && (best < 0 || p[e] > p[best]))
				best = e;
		ids[c] = best;
		weights[c] = p[best];
		p[best] = -1.0f;
	}
}

static void
moe_router_task(void *arg, int task, int worker)
{
	const Router *o = arg;
	size_t experts = o->gate->rows;
	int from = task * MOE_ROUTER_ROWS;
	int left = o->rows->n - from;
	int count = left < MOE_ROUTER_ROWS ? left : MOE_ROUTER_ROWS;
	float *p = dsocr_cpu_scratch(o->cpu, worker, DSOCR_SLOT_SCORES, MOE_ROUTER_ROWS * experts,
								 sizeof(float));
	float *ys[MOE_ROUTER_ROWS];
	const float *xs[MOE_ROUTER_ROWS];

	if (p == NULL)
		return;
	for (int r = 0; r < count; r++)
	{
		ys[r] = p + (size_t) r * experts;
		xs[r] = o->x + (size_t) (from + r) * o->gate->cols;
	}
	dsocr_cpu_rows_product(o->cpu, ys, xs, count, o->gate, 0, experts);
	for (int r = 0; r < count; r++)
	{
		size_t at = (size_t) (from + r);

		if (o->logits != NULL)
			memcpy(o->logits + at * experts, ys[r], experts * sizeof(float));
		o->cpu->isa->vec->softmax(ys[r], experts);
		if (o->rows->mixed && o->rows->slots[at] < 0)
		{
			for (int c = 0; c < o->k; c++)
				o->ids[at * (size_t) o->k + (size_t) c] = -1;
			continue;
		}
		moe_top(o->ids + at * (size_t) o->k, o->weights + at * (size_t) o->k, ys[r], (int) experts,
				o->k);
	}
}

void
dsocr_cpu_router(DsocrBackend *be, int32_t *ids, float *weights, float *logits, const void *x,
				 const DsocrRows *rows, const DsocrMatrix *gate, int k)
{
	Router o = {(DsocrCpu *) be, rows, ids, weights, logits, x, gate, k};
	size_t n = (size_t) rows->n * (size_t) k;

	/* Valid even when scratch memory is refused. */
	memset(ids, 0, n * sizeof(*ids));
	memset(weights, 0, n * sizeof(*weights));
	dsocr_pool_run(o.cpu->pool, (rows->n + MOE_ROUTER_ROWS - 1) / MOE_ROUTER_ROWS, moe_router_task,
				   &o);
}

/* ---- experts ---- */

typedef struct Experts
{
	DsocrCpu *cpu;
	float *y;
	const float *x;
	size_t rows;
	size_t k;
	size_t hidden;
	size_t inter;
	int n_experts;
	const DsocrMatrix *const *gate_up;
	const DsocrMatrix *const *down;
	const int32_t *ids; /* [rows, k] */
	const float *weights;
	const float *residual;
	int *start; /* [n_experts + 1] first pair of each expert */
	int *used;	/* experts with pairs */
	int n_used;
	int *pairs;		  /* [rows * k] row * k + choice, sorted by expert */
	const float **xs; /* [rows * k] input of each sorted pair */
	float **hs;		  /* its activation */
	float **ps;		  /* its output */
	char *xs_packed;  /* for the matrix unit: the same inputs and activations */
	char *hs_packed;
	float *parts; /* [rows * k][hidden] in the order of pairs unsorted */
} Experts;

/* Sort the pairs, those without expert left out; false when there is no memory. */
static bool
moe_group(Experts *o, bool mixed)
{
	const int32_t *ids = o->ids;
	size_t n = o->rows * o->k;
	size_t experts = (size_t) o->n_experts;
	char *index =
		dsocr_cpu_scratch(o->cpu, -1, DSOCR_SLOT_INDEX,
						  3 * n * sizeof(void *) + (n + 2 * experts + 1) * sizeof(int), 1);
	float *hidden =
		mixed ? dsocr_cpu_scratch(o->cpu, -1, DSOCR_SLOT_HIDDEN, n * o->inter, sizeof(float))
			  : NULL;

	o->parts = dsocr_cpu_scratch(o->cpu, -1, DSOCR_SLOT_PARTS, n * o->hidden, sizeof(float));
	if (index == NULL || o->parts == NULL || (mixed && hidden == NULL))
		return false;
	if (mixed && dsocr_cpu_packs(o->cpu, o->gate_up[0]))
	{
		o->xs_packed = dsocr_cpu_scratch(o->cpu, -1, DSOCR_SLOT_INPUT,
										 dsocr_cpu_rows_bytes(o->cpu, (int) n, o->gate_up[0]), 1);
		if (o->xs_packed == NULL)
			return false;
	}
	if (mixed && dsocr_cpu_packs(o->cpu, o->down[0]))
	{
		o->hs_packed = dsocr_cpu_scratch(o->cpu, -1, DSOCR_SLOT_PACKED,
										 dsocr_cpu_rows_bytes(o->cpu, (int) n, o->down[0]), 1);
		if (o->hs_packed == NULL)
			return false;
	}
	o->xs = (const float **) index;
	o->hs = (float **) (o->xs + n);
	o->ps = o->hs + n;
	o->pairs = (int *) (o->ps + n);
	o->start = o->pairs + n;
	o->used = o->start + experts + 1;
	memset(o->start, 0, (experts + 1) * sizeof(int));
	for (size_t i = 0; i < n; i++)
		if (ids[i] >= 0)
			o->start[ids[i] + 1]++;
	for (size_t e = 0; e < experts; e++)
	{
		if (o->start[e + 1] > 0)
			o->used[o->n_used++] = (int) e;
		o->start[e + 1] += o->start[e];
	}
	for (size_t i = 0; i < n; i++)
		if (ids[i] >= 0)
			o->pairs[o->start[ids[i]]++] = (int) i;
	for (size_t e = experts; e > 0; e--)
		o->start[e] = o->start[e - 1];
	o->start[0] = 0;
	for (size_t i = 0; i < (size_t) o->start[experts]; i++)
	{
		size_t pair = (size_t) o->pairs[i];

		o->xs[i] = o->x + pair / o->k * o->hidden;
		o->hs[i] = mixed ? hidden + i * o->inter : NULL;
		o->ps[i] = o->parts + pair * o->hidden;
	}
	return true;
}

/* Columns from .. to of the sum over choices of one row. */
static void
moe_sum(const Experts *o, size_t row, size_t from, size_t to)
{
	float *y = o->y + row * o->hidden;
	float sum[MOE_PIECE];

	for (size_t at = from; at < to; at += MOE_PIECE)
	{
		size_t n = to - at < MOE_PIECE ? to - at : MOE_PIECE;

		memset(sum, 0, n * sizeof(float));
		for (size_t c = 0; c < o->k; c++)
			if (o->ids[row * o->k + c] >= 0)
				o->cpu->isa->vec->axpy(sum, o->weights[row * o->k + c],
									   o->parts + (row * o->k + c) * o->hidden + at, n);
		if (o->residual != NULL)
			o->cpu->isa->vec->add(sum, o->residual + row * o->hidden + at, n);
		memcpy(y + at, sum, n * sizeof(float));
	}
}

/*
 * ys[r][0 .. to - from - 1] of some of an expert's pairs, MOE_GROUP at most,
 * through the matrix unit where there is one.
 */
static void
moe_mixed_product(const Experts *o, float *const *ys, bool down, int e, int pair, int n,
				  size_t from, size_t to)
{
	const DsocrMatrix *w = down ? o->down[e] : o->gate_up[e];
	const char *packed = down ? o->hs_packed : o->xs_packed;

	if (packed != NULL)
		dsocr_cpu_unit_product(o->cpu, ys, packed + dsocr_cpu_rows_bytes(o->cpu, pair, w), n, w,
							   from, to);
	else
		dsocr_cpu_rows_product(o->cpu, ys, (down ? (const float *const *) o->hs : o->xs) + pair, n,
							   w, from, to);
}

/* Pairs of one expert, MOE_GROUP at a time: every group is packed on its own. */
static int
moe_group_size(const Experts *o, int e, int pair)
{
	return o->start[e + 1] - pair < MOE_GROUP ? o->start[e + 1] - pair : MOE_GROUP;
}

static void
moe_mixed_pack(const Experts *o, int e, bool down)
{
	const DsocrMatrix *w = down ? o->down[e] : o->gate_up[e];

	for (int i = o->start[e]; i < o->start[e + 1]; i += MOE_GROUP)
		dsocr_cpu_rows_convert(
			o->cpu, (down ? o->hs_packed : o->xs_packed) + dsocr_cpu_rows_bytes(o->cpu, i, w),
			(down ? (const float *const *) o->hs : o->xs) + i, moe_group_size(o, e, i), w);
}

static void
moe_mixed_pack_x_task(void *arg, int task, int worker)
{
	const Experts *o = arg;

	moe_mixed_pack(o, o->used[task], false);
}

static void
moe_mixed_pack_h_task(void *arg, int task, int worker)
{
	const Experts *o = arg;

	moe_mixed_pack(o, o->used[task], true);
}

/* silu(gate) * up of one expert, MOE_PIECE channels, all its rows. */
static void
moe_mixed_up_task(void *arg, int task, int worker)
{
	const Experts *o = arg;
	size_t pieces = (o->inter + MOE_PIECE - 1) / MOE_PIECE;
	int e = o->used[(size_t) task / pieces];
	size_t from = (size_t) task % pieces * MOE_PIECE;
	size_t to = from + MOE_PIECE < o->inter ? from + MOE_PIECE : o->inter;
	float out[2][MOE_GROUP][MOE_PIECE];

	for (int i = o->start[e]; i < o->start[e + 1]; i += MOE_GROUP)
	{
		int n = moe_group_size(o, e, i);
		float *ys[2][MOE_GROUP];

		for (int r = 0; r < n; r++)
		{
			ys[0][r] = out[0][r];
			ys[1][r] = out[1][r];
		}
		moe_mixed_product(o, ys[0], false, e, i, n, from, to);
		moe_mixed_product(o, ys[1], false, e, i, n, o->inter + from, o->inter + to);
		for (int r = 0; r < n; r++)
			o->cpu->isa->vec->silu_mul(o->hs[i + r] + from, out[0][r], out[1][r], to - from);
	}
}

/* MOE_PIECE output channels of all experts, and their sums. */
static void
moe_mixed_down_task(void *arg, int task, int worker)
{
	const Experts *o = arg;
	size_t from = (size_t) task * MOE_PIECE;
	size_t to = from + MOE_PIECE < o->hidden ? from + MOE_PIECE : o->hidden;

	for (int u = 0; u < o->n_used; u++)
	{
		int e = o->used[u];

		for (int i = o->start[e]; i < o->start[e + 1]; i += MOE_GROUP)
		{
			int n = moe_group_size(o, e, i);
			float *ys[MOE_GROUP];

			for (int r = 0; r < n; r++)
				ys[r] = o->ps[i + r] + from;
			moe_mixed_product(o, ys, true, e, i, n, from, to);
		}
	}
	for (size_t r = 0; r < o->rows; r++)
		moe_sum(o, r, from, to);
}

static size_t
moe_tile_bytes(const Experts *o, int n, const DsocrMatrix *w)
{
	return dsocr_cpu_blocks(o->cpu, w, (size_t) n) ? dsocr_cpu_block_bytes((size_t) n, w)
												   : dsocr_cpu_rows_bytes(o->cpu, n, w);
}

/* y[n][w->rows] of n rows given by pointer, converted at x. */
static bool
moe_tile_product(const Experts *o, int worker, float *y, char *x, const float *const *xs, int n,
				 const DsocrMatrix *w)
{
	if (dsocr_cpu_blocks(o->cpu, w, (size_t) n))
	{
		DsocrBlockRows rows = {(uint16_t *) x, (size_t) n, w->cols};

		o->cpu->isa->block->pack(&rows, 0, xs, rows.rows, false);
		return dsocr_cpu_block_product(o->cpu, worker, y, w->rows, &rows, 0, rows.rows, w, 0,
									   w->rows);
	}
	dsocr_cpu_rows_convert(o->cpu, x, xs, n, w);
	return dsocr_cpu_tile(o->cpu, worker, y, w->rows, x, n, w, 0, w->rows);
}

/* One expert on at most DSOCR_TILE_ROWS of its rows. */
static bool
moe_tile(const Experts *o, int worker, int e, int first, int n)
{
	DsocrCpu *cpu = o->cpu;
	size_t room = (size_t) dsocr_cpu_rows_room(n);
	size_t wide = 2 * o->inter > o->hidden ? 2 * o->inter : o->hidden;
	const float *rows[DSOCR_TILE_ROWS];
	char *x =
		dsocr_cpu_scratch(cpu, worker, DSOCR_SLOT_X_TILE, moe_tile_bytes(o, n, o->gate_up[e]), 1);
	char *h =
		dsocr_cpu_scratch(cpu, worker, DSOCR_SLOT_HIDDEN, moe_tile_bytes(o, n, o->down[e]), 1);
	float *y = dsocr_cpu_scratch(cpu, worker, DSOCR_SLOT_Y_TILE, room * wide, sizeof(float));

	if (x == NULL || h == NULL || y == NULL)
		return false;
	if (!moe_tile_product(o, worker, y, x, o->xs + first, n, o->gate_up[e]))
		return false;
	for (int r = 0; r < n; r++)
	{
		float *row = y + (size_t) r * 2 * o->inter;

		cpu->isa->vec->silu_mul(row, row, row + o->inter, o->inter);
		rows[r] = row;
	}
	if (!moe_tile_product(o, worker, y, h, rows, n, o->down[e]))
		return false;
	for (int r = 0; r < n; r++)
		memcpy(o->ps[first + r], y + (size_t) r * o->hidden, o->hidden * sizeof(float));
	return true;
}

static void
moe_one_task(void *arg, int task, int worker)
{
	const Experts *o = arg;
	int e = o->used[task];

	for (int i = o->start[e]; i < o->start[e + 1]; i += DSOCR_TILE_ROWS)
	{
		int n = o->start[e + 1] - i < DSOCR_TILE_ROWS ? o->start[e + 1] - i : DSOCR_TILE_ROWS;

		if (moe_tile(o, worker, e, i, n))
			continue;
		__atomic_store_n(&o->cpu->broken, 1, __ATOMIC_RELAXED);
		for (int r = 0; r < n; r++)
			memset(o->ps[i + r], 0, o->hidden * sizeof(float));
	}
}

static void
moe_sum_rows(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const Experts *o = arg;

	for (size_t r = from; r < to; r++)
		moe_sum(o, r, 0, o->hidden);
}

static void
moe_mixed(Experts *o)
{
	size_t up_pieces = (o->inter + MOE_PIECE - 1) / MOE_PIECE;
	size_t down_pieces = (o->hidden + MOE_PIECE - 1) / MOE_PIECE;

	if (o->xs_packed != NULL)
		dsocr_pool_run(o->cpu->pool, o->n_used, moe_mixed_pack_x_task, o);
	dsocr_pool_run(o->cpu->pool, (int) ((size_t) o->n_used * up_pieces), moe_mixed_up_task, o);
	if (o->hs_packed != NULL)
		dsocr_pool_run(o->cpu->pool, o->n_used, moe_mixed_pack_h_task, o);
	dsocr_pool_run(o->cpu->pool, (int) down_pieces, moe_mixed_down_task, o);
}

static void
moe_one(Experts *o)
{
	dsocr_pool_run(o->cpu->pool, o->n_used, moe_one_task, o);
	dsocr_cpu_ranges(o->cpu, o->rows, 16, moe_sum_rows, o);
}

void
dsocr_cpu_experts(DsocrBackend *be, void *y, const void *x, int rows, const int32_t *ids,
				  const float *weights, int k, const DsocrExperts *experts, const void *residual,
				  int unit)
{
	bool mixed = unit == DSOCR_MIXED;
	size_t step = (size_t) (mixed ? rows : unit);

	for (size_t from = 0; from < (size_t) rows; from += step)
	{
		Experts o = {.cpu = (DsocrCpu *) be,
					 .rows = step,
					 .k = (size_t) k,
					 .hidden = experts->down[0]->rows,
					 .inter = experts->down[0]->cols,
					 .n_experts = experts->n,
					 .gate_up = experts->gate_up,
					 .down = experts->down,
					 .ids = ids + from * (size_t) k,
					 .weights = weights + from * (size_t) k,
					 .residual = residual};

		o.y = (float *) y + from * o.hidden;
		o.x = (const float *) x + from * o.hidden;
		if (residual != NULL)
			o.residual += from * o.hidden;
		if (!moe_group(&o, mixed))
			memset(o.y, 0, o.rows * o.hidden * sizeof(float));
		else if (mixed)
			moe_mixed(&o);
		else
			moe_one(&o);
	}
}
