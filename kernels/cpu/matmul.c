/*-------------------------------------------------------------------------
 *
 * matmul.c
 *		Products with weight matrices.
 *
 * In bf16 on a processor with a matrix unit, all products go through it: it
 * reads weights as they lie and its result for a row does not depend on the
 * others.  Elsewhere the rows of one image or sequence (a unit) go through
 * oneDNN in tiles of at most DSOCR_TILE_ROWS x DSOCR_TILE_COLS outputs, their
 * rows rounded up to a few sizes, because the library compiles code for each
 * shape; and rows of different sequences (DSOCR_MIXED) go through a kernel of
 * our own that treats each row alike.  Products with quantized matrices are
 * our own, too, for rows of either kind.  Many rows of a unit go through the
 * matrix unit in blocks (blocks.c).
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <string.h>

#define MATMUL_MIXED_PIECE 64 /* rows of W a task, mixed rows */
#define MATMUL_UNIT_PIECE 64  /* columns finished at once after the matrix unit */

static size_t
matmul_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- tiles ---- */

/* Operands of library products: fp32 for parity, and where the library has no bf16. */
static bool
matmul_fp32(const DsocrCpu *cpu)
{
	return cpu->be.precision == DSOCR_PRECISION_FP32 || !cpu->onednn_bf16;
}

bool
dsocr_cpu_has_unit(const DsocrCpu *cpu)
{
	return cpu->isa->tile != NULL && cpu->be.precision == DSOCR_PRECISION_BF16;
}

int
dsocr_cpu_rows_room(int m)
{
	int step = m <= 64 ? 16 : 64;

	return (m + step - 1) / step * step;
}

bool
dsocr_cpu_packs(const DsocrCpu *cpu, const DsocrMatrix *w)
{
	return w->quant || dsocr_cpu_has_unit(cpu);
}

size_t
dsocr_cpu_rows_bytes(const DsocrCpu *cpu, int m, const DsocrMatrix *w)
{
	if (w->quant)
		return (size_t) m * dsocr_quant_row_bytes(&w->shape);
	if (dsocr_cpu_has_unit(cpu))
		return (size_t) m * dsocr_tile_k(w->cols) * sizeof(uint16_t);
	return (size_t) dsocr_cpu_rows_room(m) * w->cols *
		   (matmul_fp32(cpu) ? sizeof(float) : sizeof(uint16_t));
}

void
dsocr_cpu_rows_convert(const DsocrCpu *cpu, void *dst, const float *const *xs, int m,
					   const DsocrMatrix *w)
{
	size_t k = w->cols;
	size_t row = k * (matmul_fp32(cpu) ? sizeof(float) : sizeof(uint16_t));

	if (w->quant)
	{
		cpu->isa->quant->pack(dst, xs, m, k, &w->shape);
		return;
	}
	if (dsocr_cpu_has_unit(cpu))
	{
		cpu->isa->tile->pack(dst, xs, m, k);
		return;
	}
	for (int r = 0; r < m; r++)
	{
		char *to = (char *) dst + (size_t) r * row;

		if (matmul_fp32(cpu))
			memcpy(to, xs[r], row);
		else
			cpu->isa->vec->to_bf16((uint16_t *) to, xs[r], k);
	}
	memset((char *) dst + (size_t) m * row, 0, (size_t) (dsocr_cpu_rows_room(m) - m) * row);
}

/* One product with rows of W that lie in one piece, by the library. */
static bool
matmul_piece(DsocrCpu *cpu, int worker, float *y, size_t y_stride, const void *x, int m,
			 const DsocrMatrix *w, const void *rows, size_t n)
{
	DsocrGemm g = {.bf16 = !matmul_fp32(cpu),
				   .m = dsocr_cpu_rows_room(m),
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

void
dsocr_cpu_unit_product(const DsocrCpu *cpu, float *const *ys, const void *x, int m,
					   const DsocrMatrix *w, size_t n_from, size_t n_to)
{
	for (size_t n = n_from; w->quant && n < n_to;)
	{
		const DsocrCpuPart *part = dsocr_cpu_matrix_part(w, n);
		size_t count = matmul_min(part->first + part->rows, n_to) - n;
		float *to[DSOCR_TILE_ROWS];

		for (int r = 0; r < m; r++)
			to[r] = ys[r] + (n - n_from);
		cpu->isa->quant->product(to, x, m, part->data, n - part->first, count, &w->shape);
		n += count;
	}
	for (size_t n = n_from; !w->quant && n < n_to;)
	{
		size_t left;
		const void *rows = dsocr_cpu_matrix_row(w, n, &left);
		size_t count = matmul_min(left, n_to - n);
		float *to[DSOCR_TILE_ROWS];

		for (int r = 0; r < m; r++)
			to[r] = ys[r] + (n - n_from);
		cpu->isa->tile->product(to, x, m, rows, count, w->cols);
		n += count;
	}
}

bool
dsocr_cpu_tile(DsocrCpu *cpu, int worker, float *y, size_t y_stride, const void *x, int m,
			   const DsocrMatrix *w, size_t n_from, size_t n_to)
{
	if (dsocr_cpu_packs(cpu, w))
	{
		float *ys[DSOCR_TILE_ROWS];

		for (int r = 0; r < m; r++)
			ys[r] = y + (size_t) r * y_stride;
		dsocr_cpu_unit_product(cpu, ys, x, m, w, n_from, n_to);
		return true;
	}
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
	DsocrLinear l;
	char *input; /* rows rounded up, converted */
	size_t col_tiles;
} MatmulOne;

static void
matmul_convert_task(void *arg, int task, int worker)
{
	MatmulOne *o = arg;
	size_t k = o->l.w->cols;
	size_t from = (size_t) task * DSOCR_TILE_ROWS;
	int count = (int) matmul_min(DSOCR_TILE_ROWS, o->l.rows - from);
	const float *xs[DSOCR_TILE_ROWS];

	for (int r = 0; r < count; r++)
		xs[r] = o->l.x + (from + (size_t) r) * k;
	dsocr_cpu_rows_convert(
		o->cpu, o->input + (size_t) task * dsocr_cpu_rows_bytes(o->cpu, DSOCR_TILE_ROWS, o->l.w),
		xs, count, o->l.w);
}

/* Rows and columns of one piece of a tile: product, then bias and the rest while it is cached. */
static void
matmul_tile_piece(const MatmulOne *o, int worker, float *tile, const char *input, size_t row,
				  size_t rows, size_t col, size_t cols)
{
	bool ok = tile != NULL && dsocr_cpu_tile(o->cpu, worker, tile, cols, input, (int) rows, o->l.w,
											 col, col + cols);

	for (size_t r = 0; r < rows; r++)
	{
		size_t at = (row + r) * o->l.w->rows + col;

		if (ok)
			o->cpu->isa->vec->finish(
				o->l.y + at, tile + r * cols, o->l.bias != NULL ? o->l.bias + col : NULL,
				o->l.residual != NULL ? o->l.residual + at : NULL, cols, o->l.act);
		else
			memset(o->l.y + at, 0, cols * sizeof(float));
	}
	if (!ok)
		__atomic_store_n(&o->cpu->broken, 1, __ATOMIC_RELAXED);
}

static void
matmul_tile_task(void *arg, int task, int worker)
{
	MatmulOne *o = arg;
	size_t row_tile = (size_t) task / o->col_tiles;
	size_t row = row_tile * DSOCR_TILE_ROWS;
	size_t col = (size_t) task % o->col_tiles * DSOCR_TILE_COLS;
	size_t rows = matmul_min(DSOCR_TILE_ROWS, o->l.rows - row);
	size_t end = matmul_min(col + DSOCR_TILE_COLS, o->l.w->rows);
	size_t piece = dsocr_cpu_packs(o->cpu, o->l.w) ? MATMUL_UNIT_PIECE : DSOCR_TILE_COLS;
	const char *input = o->input + row_tile * dsocr_cpu_rows_bytes(o->cpu, DSOCR_TILE_ROWS, o->l.w);
	float *tile = dsocr_cpu_scratch(o->cpu, worker, DSOCR_SLOT_Y_TILE, DSOCR_TILE_ROWS,
									DSOCR_TILE_COLS * sizeof(float));

	for (; col < end; col += piece)
		matmul_tile_piece(o, worker, tile, input, row, rows, col, matmul_min(piece, end - col));
}

static void
matmul_one(DsocrCpu *cpu, MatmulOne *o)
{
	size_t row_tiles = (o->l.rows + DSOCR_TILE_ROWS - 1) / DSOCR_TILE_ROWS;

	o->input = dsocr_cpu_scratch(cpu, -1, DSOCR_SLOT_INPUT, row_tiles,
								 dsocr_cpu_rows_bytes(cpu, DSOCR_TILE_ROWS, o->l.w));
	if (o->input == NULL)
	{
		memset(o->l.y, 0, o->l.rows * o->l.w->rows * sizeof(float));
		return;
	}
	o->col_tiles = (o->l.w->rows + DSOCR_TILE_COLS - 1) / DSOCR_TILE_COLS;
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
	char *packed; /* the same for the matrix unit, in groups of 64 */
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
		if (o->packed != NULL)
			dsocr_cpu_unit_product(o->cpu, ys, o->packed + dsocr_cpu_rows_bytes(o->cpu, r0, w),
								   some, w, from, to);
		else
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
	if (dsocr_cpu_packs(cpu, o->w))
	{
		o->packed = dsocr_cpu_scratch(cpu, -1, DSOCR_SLOT_INPUT,
									  dsocr_cpu_rows_bytes(cpu, o->rows, o->w), 1);
		if (o->packed == NULL)
		{
			memset(y, 0, n * o->w->rows * sizeof(float));
			return;
		}
		dsocr_cpu_rows_convert(cpu, o->packed, o->xs, o->rows, o->w);
	}
	dsocr_pool_run(cpu->pool, (int) ((o->w->rows + MATMUL_MIXED_PIECE - 1) / MATMUL_MIXED_PIECE),
				   matmul_mixed_task, o);
}

void
dsocr_cpu_linear(DsocrBackend *be, void *y, const void *x, int rows, const DsocrMatrix *w,
				 const DsocrVector *bias, DsocrActivation act, const void *residual, int unit)
{
	DsocrCpu *cpu = (DsocrCpu *) be;
	const float *b = bias != NULL ? bias->v : NULL;

	if (unit == DSOCR_MIXED)
	{
		MatmulMixed o = {
			.cpu = cpu, .rows = rows, .w = w, .bias = b, .residual = residual, .act = act};

		if (rows > 0)
			matmul_mixed(cpu, y, x, &o);
		return;
	}
	/* the library's order of sums may depend on the number of rows: each unit on its own */
	for (size_t from = 0; from < (size_t) rows; from += (size_t) unit)
	{
		MatmulOne o = {.cpu = cpu,
					   .l = {.y = (float *) y + from * w->rows,
							 .x = (const float *) x + from * w->cols,
							 .rows = (size_t) unit,
							 .w = w,
							 .bias = b,
							 .residual = residual,
							 .act = act}};

		if (residual != NULL)
			o.l.residual += from * w->rows;
		if (dsocr_cpu_blocks(cpu, w, (size_t) unit))
			dsocr_cpu_block_linear(cpu, &o.l);
		else
			matmul_one(cpu, &o);
	}
}

void
dsocr_cpu_swiglu(DsocrBackend *be, void *y, void *wide, const void *x, int rows,
				 const DsocrMatrix *w, int unit)
{
	dsocr_cpu_linear(be, wide, x, rows, w, NULL, DSOCR_ACT_NONE, NULL, unit);
	dsocr_cpu_silu_mul(be, y, wide, rows, (int) (w->rows / 2));
}

void
dsocr_cpu_logits(DsocrBackend *be, float *logits, const void *x, int rows, const DsocrMatrix *w)
{
	dsocr_cpu_linear(be, logits, x, rows, w, NULL, DSOCR_ACT_NONE, NULL, DSOCR_MIXED);
}
