/*-------------------------------------------------------------------------
 *
 * matmul.c
 *		Products with weight matrices.
 *
 * Rows of one image or sequence (DSOCR_ROWS_ONE) go through oneDNN in tiles
 * of at most DSOCR_TILE_ROWS x DSOCR_TILE_COLS outputs.  The rows of a tile
 * are rounded up to a few sizes, because the library compiles code for each
 * shape.  Rows of different sequences (DSOCR_ROWS_MIXED) go through our own
 * kernel, whose result for a row does not depend on the others.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <string.h>

#define MATMUL_MIXED_PIECE 64 /* rows of W a task, mixed rows */

static size_t
matmul_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- tiles ---- */

int
dsocr_cpu_tile_rows(int m)
{
	int step = m <= 64 ? 16 : 64;

	return (m + step - 1) / step * step;
}

static bool
matmul_fp32(const DsocrCpu *cpu)
{
	return cpu->be.precision == DSOCR_PRECISION_FP32;
}

size_t
dsocr_cpu_tile_x_size(const DsocrCpu *cpu, const DsocrMatrix *w)
{
	return w->cols * (matmul_fp32(cpu) ? sizeof(float) : sizeof(uint16_t));
}

void
dsocr_cpu_tile_x(const DsocrCpu *cpu, const DsocrMatrix *w, void *dst, const float *src, size_t n)
{
	if (matmul_fp32(cpu))
		memcpy(dst, src, n * sizeof(float));
	else
		cpu->isa->vec->to_bf16(dst, src, n);
}

/* One product with rows of W that lie in one piece. */
static bool
matmul_piece(DsocrCpu *cpu, int worker, float *y, size_t y_stride, const void *x, int m,
			 const DsocrMatrix *w, const void *rows, size_t n)
{
	DsocrGemm g = {.bf16 = !matmul_fp32(cpu),
				   .m = dsocr_cpu_tile_rows(m),
				   .n = (int) n,
				   .k = (int) w->cols,
				   .lda = (int64_t) w->cols,
				   .ldb = (int64_t) w->cols,
				   .ldc = (int64_t) y_stride};

	if (!g.bf16 && !w->fp32)
	{
		float *wide = dsocr_cpu_scratch(cpu, worker, DSOCR_SLOT_W_TILE, n * w->cols, sizeof(float));

		if (wide == NULL)
			return false;
		cpu->isa->vec->to_f32(wide, rows, n * w->cols);
		rows = wide;
	}
	return dsocr_onednn_gemm(cpu->onednn, worker, &g, x, rows, y);
}

bool
dsocr_cpu_tile(DsocrCpu *cpu, int worker, float *y, size_t y_stride, const void *x, int m,
			   const DsocrMatrix *w, size_t n_from, size_t n_to)
{
	for (size_t n = n_from; n < n_to;)
	{
		size_t left;
		const void *rows = dsocr_cpu_matrix_row(w, n, &left);
		size_t count = matmul_min(matmul_min(left, n_to - n), DSOCR_TILE_COLS);

		if (!matmul_piece(cpu, worker, y + (n - n_from), y_stride, x, m, w, rows, count))
			return false;
		n += count;
	}
	return true;
}

/* ---- one image or sequence ---- */

typedef struct MatmulOne
{
	DsocrCpu *cpu;
	float *y;
	const float *x;
	char *input; /* rows rounded up, converted */
	size_t rows;
	const DsocrMatrix *w;
	const float *bias;
	const float *residual;
	DsocrActivation act;
	size_t col_tiles;
} MatmulOne;

static void
matmul_convert_task(void *arg, int task, int worker)
{
	MatmulOne *o = arg;
	size_t from = (size_t) task * DSOCR_TILE_ROWS;
	size_t count = matmul_min(DSOCR_TILE_ROWS, o->rows - from);
	size_t row = dsocr_cpu_tile_x_size(o->cpu, o->w);
	char *to = o->input + from * row;

	dsocr_cpu_tile_x(o->cpu, o->w, to, o->x + from * o->w->cols, count * o->w->cols);
	memset(to + count * row, 0, ((size_t) dsocr_cpu_tile_rows((int) count) - count) * row);
}

static void
matmul_tile_task(void *arg, int task, int worker)
{
	MatmulOne *o = arg;
	const DsocrMatrix *w = o->w;
	size_t row = (size_t) task / o->col_tiles * DSOCR_TILE_ROWS;
	size_t col = (size_t) task % o->col_tiles * DSOCR_TILE_COLS;
	size_t rows = matmul_min(DSOCR_TILE_ROWS, o->rows - row);
	size_t cols = matmul_min(DSOCR_TILE_COLS, w->rows - col);
	float *tile = dsocr_cpu_scratch(o->cpu, worker, DSOCR_SLOT_Y_TILE, DSOCR_TILE_ROWS,
									DSOCR_TILE_COLS * sizeof(float));
	bool ok = tile != NULL && dsocr_cpu_tile(o->cpu, worker, tile, DSOCR_TILE_COLS,
											 o->input + row * dsocr_cpu_tile_x_size(o->cpu, w),
											 (int) rows, w, col, col + cols);

	for (size_t r = 0; r < rows; r++)
	{
		size_t at = (row + r) * w->rows + col;

		if (ok)
			o->cpu->isa->vec->finish(o->y + at, tile + r * DSOCR_TILE_COLS,
									 o->bias != NULL ? o->bias + col : NULL,
									 o->residual != NULL ? o->residual + at : NULL, cols, o->act);
		else
			memset(o->y + at, 0, cols * sizeof(float));
	}
	if (!ok)
		__atomic_store_n(&o->cpu->broken, 1, __ATOMIC_RELAXED);
}

static void
matmul_one(DsocrCpu *cpu, MatmulOne *o)
{
	size_t row_tiles = (o->rows + DSOCR_TILE_ROWS - 1) / DSOCR_TILE_ROWS;
	size_t padded = row_tiles * DSOCR_TILE_ROWS;

	o->input =
		dsocr_cpu_scratch(cpu, -1, DSOCR_SLOT_INPUT, padded, dsocr_cpu_tile_x_size(cpu, o->w));
	if (o->input == NULL)
	{
		memset(o->y, 0, o->rows * o->w->rows * sizeof(float));
		return;
	}
	o->col_tiles = (o->w->rows + DSOCR_TILE_COLS - 1) / DSOCR_TILE_COLS;
	dsocr_pool_run(cpu->pool, (int) row_tiles, matmul_convert_task, o);
	dsocr_pool_run(cpu->pool, (int) (row_tiles * o->col_tiles), matmul_tile_task, o);
}

/* ---- rows of different sequences ---- */

void
dsocr_cpu_rows_product(DsocrCpu *cpu, float *const *ys, const float *const *xs, int m,
					   const DsocrMatrix *w, size_t n_from, size_t n_to)
{
	for (size_t n = n_from; n < n_to;)
	{
		size_t left;
		const void *rows = dsocr_cpu_matrix_row(w, n, &left);
		size_t count = matmul_min(left, n_to - n);
		float *to[64];

		for (int r = 0; r < m; r += 64)
		{
			int some = m - r < 64 ? m - r : 64;

			for (int i = 0; i < some; i++)
				to[i] = ys[r + i] + (n - n_from);
			if (w->fp32)
				cpu->isa->matvec->f32(to, xs + r, some, rows, count, w->cols);
			else
				cpu->isa->matvec->bf16(to, xs + r, some, rows, count, w->cols);
		}
		n += count;
	}
}

typedef struct MatmulMixed
{
	DsocrCpu *cpu;
	float **ys;
	const float **xs;
	int rows;
	const DsocrMatrix *w;
	const float *bias;
	const float *residual;
	DsocrActivation act;
} MatmulMixed;

static void
matmul_mixed_task(void *arg, int task, int worker)
{
	MatmulMixed *o = arg;
	const DsocrMatrix *w = o->w;
	size_t from = (size_t) task * MATMUL_MIXED_PIECE;
	size_t to = matmul_min(from + MATMUL_MIXED_PIECE, w->rows);
	float out[64][MATMUL_MIXED_PIECE];

	for (int r0 = 0; r0 < o->rows; r0 += 64)
	{
		int some = o->rows - r0 < 64 ? o->rows - r0 : 64;
		float *ys[64];

		for (int r = 0; r < some; r++)
			ys[r] = out[r];
		dsocr_cpu_rows_product(o->cpu, ys, o->xs + r0, some, w, from, to);
		for (int r = 0; r < some; r++)
			o->cpu->isa->vec->finish(
				o->ys[r0 + r] + from, out[r], o->bias != NULL ? o->bias + from : NULL,
				o->residual != NULL ? o->residual + (size_t) (r0 + r) * w->rows + from : NULL,
				to - from, o->act);
	}
}

static void
matmul_mixed(DsocrCpu *cpu, float *y, const float *x, MatmulMixed *o)
{
	size_t n = (size_t) o->rows;
	void **index = dsocr_cpu_scratch(cpu, -1, DSOCR_SLOT_INDEX, 2 * n, sizeof(void *));

	if (index == NULL)
	{
		memset(y, 0, n * o->w->rows * sizeof(float));
		return;
	}
	o->ys = (float **) index;
	o->xs = (const float **) (index + n);
	for (size_t r = 0; r < n; r++)
	{
		o->ys[r] = y + r * o->w->rows;
		o->xs[r] = x + r * o->w->cols;
	}
	dsocr_pool_run(cpu->pool, (int) ((o->w->rows + MATMUL_MIXED_PIECE - 1) / MATMUL_MIXED_PIECE),
				   matmul_mixed_task, o);
}

void
dsocr_cpu_linear(DsocrBackend *be, void *y, const void *x, int rows, const DsocrMatrix *w,
				 const DsocrVector *bias, DsocrActivation act, const void *residual,
				 DsocrRowKind kind)
{
	DsocrCpu *cpu = (DsocrCpu *) be;
	const float *b = bias != NULL ? bias->v : NULL;

	if (rows <= 0)
		return;
	if (kind == DSOCR_ROWS_MIXED)
	{
		MatmulMixed o = {
			.cpu = cpu, .rows = rows, .w = w, .bias = b, .residual = residual, .act = act};

		matmul_mixed(cpu, y, x, &o);
	}
	else
	{
		MatmulOne o = {.cpu = cpu,
					   .y = y,
					   .x = x,
					   .rows = (size_t) rows,
					   .w = w,
					   .bias = b,
					   .residual = residual,
					   .act = act};

		matmul_one(cpu, &o);
	}
}
