/*-------------------------------------------------------------------------
 *
 * blocks.c
 *		Products of one image's or sequence's rows in the matrix unit.
 *
 * A task is up to BLOCKS_ROWS rows of X and BLOCKS_COLS of W: enough rows for
 * the work on the weights (block_isa.c) to be a small part, and sums that
 * stay in the second level cache until bias and the rest are added.
 *
 * Quantized matrices are widened to bf16 for these rows.  Rows of different
 * sequences, few as they are, are multiplied in integers (quant_isa.c): that
 * is the other rule of decision 22.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <string.h>

#define BLOCKS_ROWS 512
#define BLOCKS_COLS 256
#define BLOCKS_PACK 64	/* rows packed by a task */
#define BLOCKS_TASKS 16 /* fewer are cut into narrower ones */
#define BLOCKS_FEW 192	/* rows of bf16 that are not worth it: the result is the same */
#define BLOCKS_FAR ((size_t) 4 << 20) /* bytes of a result that caches do not keep */
#define BLOCKS_APART 16				  /* floats by which rows are longer than a power of two */

static size_t
blocks_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

bool
dsocr_cpu_blocks(const DsocrCpu *cpu, const DsocrMatrix *w, size_t m)
{
	return dsocr_cpu_has_unit(cpu) && (w->quant || m >= BLOCKS_FEW);
}

size_t
dsocr_cpu_block_bytes(size_t m, const DsocrMatrix *w)
{
	return dsocr_block_rows(m) * dsocr_tile_k(w->cols) * sizeof(uint16_t);
}

bool
dsocr_cpu_block_product(DsocrCpu *cpu, int worker, float *y, size_t y_stride,
						const DsocrBlockRows *x, size_t first, size_t m, const DsocrMatrix *w,
						size_t n_from, size_t n_to)
{
	void *room = dsocr_cpu_scratch(cpu, worker, DSOCR_SLOT_W_TILE, dsocr_block_room(m), 1);

	if (room == NULL)
		return false;
	for (size_t n = n_from; n < n_to;)
	{
		const DsocrCpuPart *part = dsocr_cpu_matrix_part(w, n);
		DsocrBlockWeights some = {.data = part->data,
								  .first = n - part->first,
								  .n = blocks_min(part->first + part->rows, n_to) - n,
								  .k = w->cols,
								  .quant = w->quant ? &w->shape : NULL};

		cpu->isa->block->product(y + (n - n_from), y_stride, x, first, m, &some, room);
		n += some.n;
	}
	return true;
}

/* ---- one unit ---- */

typedef struct Blocks
{
	DsocrCpu *cpu;
	const DsocrLinear *l;
	DsocrBlockRows x;
	size_t rows; /* of a task */
	size_t cols;
	size_t col_tasks;
} Blocks;

static void
blocks_pack_task(void *arg, int task, int worker)
{
	const Blocks *o = arg;
	const DsocrMatrix *w = o->l->w;
	size_t from = (size_t) task * BLOCKS_PACK;
	size_t count = blocks_min(BLOCKS_PACK, o->l->rows - from);
	const float *xs[BLOCKS_PACK];

	for (size_t r = 0; r < count; r++)
		xs[r] = o->l->x + (from + r) * w->cols;
	o->cpu->isa->block->pack(&o->x, from, xs, count,
							 dsocr_cpu_block_bytes(o->x.rows, w) >= BLOCKS_FAR);
}

static void
blocks_task(void *arg, int task, int worker)
{
	const Blocks *o = arg;
	const DsocrLinear *l = o->l;
	const DsocrVecOps *vec = o->cpu->isa->vec;
	bool far = l->rows * l->w->rows * sizeof(float) >= BLOCKS_FAR;
	size_t row = (size_t) task / o->col_tasks * o->rows;
	size_t rows = blocks_min(o->rows, l->rows - row);
	size_t col = (size_t) task % o->col_tasks * o->cols;
	size_t cols = blocks_min(o->cols, l->w->rows - col);
	size_t stride = o->cols + BLOCKS_APART;
	float *y = dsocr_cpu_scratch(o->cpu, worker, DSOCR_SLOT_Y_TILE, dsocr_block_rows(o->rows),
								 stride * sizeof(float));
	bool ok = y != NULL && dsocr_cpu_block_product(o->cpu, worker, y, stride, &o->x, row, rows,
												   l->w, col, col + cols);

	for (size_t r = 0; r < rows; r++)
	{
		size_t at = (row + r) * l->w->rows + col;

		if (ok)
			(far ? vec->finish_far
				 : vec->finish)(l->y + at, y + r * stride, l->bias != NULL ? l->bias + col : NULL,
								l->residual != NULL ? l->residual + at : NULL, cols, l->act);
		else
			memset(l->y + at, 0, cols * sizeof(float));
	}
	if (!ok)
		__atomic_store_n(&o->cpu->broken, 1, __ATOMIC_RELAXED);
}

void
dsocr_cpu_block_linear(DsocrCpu *cpu, const DsocrLinear *l)
{
	Blocks o = {.cpu = cpu, .l = l, .x = {.rows = l->rows, .k = l->w->cols}, .cols = BLOCKS_COLS};
	size_t row_tasks = (l->rows + BLOCKS_ROWS - 1) / BLOCKS_ROWS;

	o.rows = dsocr_block_rows((l->rows + row_tasks - 1) / row_tasks);
	if (row_tasks * ((l->w->rows + BLOCKS_COLS - 1) / BLOCKS_COLS) < BLOCKS_TASKS)
		o.cols /= 2;
	o.col_tasks = (l->w->rows + o.cols - 1) / o.cols;
	o.x.data =
		dsocr_cpu_scratch(cpu, -1, DSOCR_SLOT_INPUT, dsocr_cpu_block_bytes(l->rows, l->w), 1);
	if (o.x.data == NULL)
	{
		memset(l->y, 0, l->rows * l->w->rows * sizeof(float));
		return;
	}
	dsocr_pool_run(cpu->pool, (int) ((l->rows + BLOCKS_PACK - 1) / BLOCKS_PACK), blocks_pack_task,
				   &o);
	row_tasks = (l->rows + o.rows - 1) / o.rows;
	dsocr_pool_run(cpu->pool, (int) (row_tasks * o.col_tasks), blocks_task, &o);
}
