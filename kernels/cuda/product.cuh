/*-------------------------------------------------------------------------
 *
 * product.cuh
 *		What all kernels for products with weights share: their arguments, the
 *		rows of a block, what follows the sum; and the plain kernel.
 *
 * A product is Y[m, n] = finish(X[m, k] @ W[n, k]^T), cut into blocks of so
 * many rows and columns.  With pairs, W is [2 * n, k], gate rows first, and an
 * output is silu(gate) * up: rows of a block's part of W alternate in groups
 * so that both land in the same thread.  With routes, rows are choices sorted
 * by expert and W is the expert's own.
 *
 * The sum over k of an output is one chain in ascending order in every kernel,
 * so it depends neither on the shape of the block nor on the other rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PRODUCT_CUH
#define DSOCR_PRODUCT_CUH

#include "cuda.h"

/* Choices sorted by expert, cut into tiles of rows; all in device memory. */
typedef struct DsocrRoutes
{
	const int32_t *tiles;		/* [1]: how many tiles there are */
	const int32_t *tile_expert; /* [tiles] */
	const int32_t *tile_first;	/* [tiles]: first place in the sorted order */
	const int32_t *expert_end;	/* [experts]: place behind an expert's last */
	const int32_t *order;		/* [places]: the choice, row * k + j */
} DsocrRoutes;

typedef struct DsocrProduct
{
	const void *x;		  /* [m, k] activations */
	const void *w;		  /* [n, ldw] or [2 * n, ldw]; with routes: addresses of such, by expert */
	const float *bias;	  /* [n] or NULL */
	const void *residual; /* [m, n] or NULL */
	void *y;			  /* [m, n] activations, or fp32 when wide */
	int m;				  /* not used with routes */
	int n;
	int k;
	int ldw;
	bool pairs;
	bool wide;
	bool routed;
	int x_div;	  /* routed: row of x is choice / x_div; 0: the place itself */
	bool y_order; /* routed: row of y is the choice; else the place */
	DsocrActivation act;
	DsocrRoutes routes;
} DsocrProduct;

/* The part of a product that a block computes: rows first .. end - 1, columns from col. */
typedef struct DsocrProductBlock
{
	const void *w;
	int first;
	int end;
	int col;
} DsocrProductBlock;

/*
 * Block `index` of tiles of tm x tn outputs; false when it has no work.  The
 * row tiles of one column tile follow each other, so that its weights are
 * read from memory once; with routes the columns of a tile do, since most
 * experts have one tile.
 */
static __device__ __forceinline__ bool
dsocr_product_block(const DsocrProduct &p, DsocrProductBlock *b, unsigned int index, int tm, int tn)
{
	if (p.routed)
	{
		unsigned int col_tiles = (unsigned int) (p.n + tn - 1) / (unsigned int) tn;
		unsigned int tile = index / col_tiles;
		int expert;

		if (tile >= (unsigned int) *p.routes.tiles)
			return false;
		expert = p.routes.tile_expert[tile];
		b->w = ((const void *const *) p.w)[expert];
		b->first = p.routes.tile_first[tile];
		b->end = min(b->first + tm, p.routes.expert_end[expert]);
		b->col = (int) (index % col_tiles) * tn;
		return true;
	}

	unsigned int row_tiles = (unsigned int) (p.m + tm - 1) / (unsigned int) tm;

	b->w = p.w;
	b->first = (int) (index % row_tiles) * tm;
	b->end = min(b->first + tm, p.m);
	b->col = (int) (index / row_tiles) * tn;
	return true;
}

/* Row of x that holds the operand of a row of the product. */
static __device__ __forceinline__ size_t
dsocr_product_x_row(const DsocrProduct &p, int row)
{
	return (size_t) (p.routed && p.x_div > 0 ? p.routes.order[row] / p.x_div : row);
}

static __device__ __forceinline__ size_t
dsocr_product_y_row(const DsocrProduct &p, int row)
{
	return (size_t) (p.routed && p.y_order ? p.routes.order[row] : row);
}

/*
 * Row of W behind row r of the part of a block from output column col; -1
 * when there is none.  With pairs, groups of `group` gate rows and their up
 * rows alternate.
 */
static __device__ __forceinline__ int64_t
dsocr_product_w_row(const DsocrProduct &p, int col, int r, int group)
{
	int c;

	if (!p.pairs)
		return col + r < p.n ? (int64_t) col + r : -1;
	c = col + r / (2 * group) * group + r % group;
	if (c >= p.n)
		return -1;
	return r / group % 2 == 0 ? (int64_t) c : (int64_t) p.n + c;
}

static __device__ __forceinline__ float
dsocr_silu(float x)
{
	return x / (1.0f + expf(-x));
}

static __device__ __forceinline__ float
dsocr_product_act(float v, DsocrActivation act)
{
	if (act == DSOCR_ACT_GELU)
		return 0.5f * v * (1.0f + erff(v * 0.70710678118654752f));
	if (act == DSOCR_ACT_QUICK_GELU)
		return v / (1.0f + expf(-1.702f * v));
	return v;
}

/* What follows the sum of one output, and its store. */
template <typename T>
static __device__ __forceinline__ void
dsocr_product_store(const DsocrProduct &p, size_t row, int col, float v)
{
	size_t at = row * (size_t) p.n + (size_t) col;

	if (p.bias != NULL)
		v += p.bias[col];
	v = dsocr_product_act(v, p.act);
	if (p.residual != NULL)
		v += dsocr_to_float(((const T *) p.residual)[at]);
	if (p.wide)
		((float *) p.y)[at] = v;
	else
		((T *) p.y)[at] = dsocr_from_float<T>(v);
}

/* ---- the plain kernel: any element, any shape ---- */

#define DSOCR_PLAIN_ROWS 32
#define DSOCR_PLAIN_COLS 64 /* rows of W */
#define DSOCR_PLAIN_K 16
#define DSOCR_PLAIN_THREADS 256

/* 256 threads, each with 2 rows and 4 columns of the block. */
template <typename T>
static __global__ void
__launch_bounds__(DSOCR_PLAIN_THREADS) dsocr_product_plain(const DsocrProduct p)
{
	__shared__ float xs[DSOCR_PLAIN_ROWS][DSOCR_PLAIN_K + 1];
	__shared__ float ws[DSOCR_PLAIN_COLS][DSOCR_PLAIN_K + 1];
	DsocrProductBlock b;
	int tid = (int) threadIdx.x;
	int ty = tid / 16;
	int tx = tid % 16;
	float acc[2][4] = {};
	int cols = p.pairs ? DSOCR_PLAIN_COLS / 2 : DSOCR_PLAIN_COLS;

	if (!dsocr_product_block(p, &b, blockIdx.x, DSOCR_PLAIN_ROWS, cols))
		return;
	for (int k0 = 0; k0 < p.k; k0 += DSOCR_PLAIN_K)
	{
		int kk = k0 + tid % DSOCR_PLAIN_K;

		for (int r = tid / DSOCR_PLAIN_K; r < DSOCR_PLAIN_ROWS;
			 r += DSOCR_PLAIN_THREADS / DSOCR_PLAIN_K)
		{
			int row = b.first + r;
			float v = 0;

			if (row < b.end && kk < p.k)
				v = dsocr_to_float(
					((const T *) p.x)[dsocr_product_x_row(p, row) * (size_t) p.k + (size_t) kk]);
			xs[r][tid % DSOCR_PLAIN_K] = v;
		}
		for (int r = tid / DSOCR_PLAIN_K; r < DSOCR_PLAIN_COLS;
			 r += DSOCR_PLAIN_THREADS / DSOCR_PLAIN_K)
		{
			int64_t row = dsocr_product_w_row(p, b.col, r, 1);
			float v = 0;

			if (row >= 0 && kk < p.k)
				v = dsocr_to_float(((const T *) b.w)[(size_t) row * (size_t) p.ldw + (size_t) kk]);
			ws[r][tid % DSOCR_PLAIN_K] = v;
		}
		__syncthreads();
		for (int i = 0; i < DSOCR_PLAIN_K; i++)
			for (int r = 0; r < 2; r++)
				for (int j = 0; j < 4; j++)
					acc[r][j] = fmaf(xs[ty + r * 16][i], ws[tx * 4 + j][i], acc[r][j]);
		__syncthreads();
	}
#pragma unroll
	for (int r = 0; r < 2; r++)
	{
		int row = b.first + ty + r * 16;

		if (row >= b.end)
			continue;
#pragma unroll
		for (int j = 0; j < 4; j++)
		{
			int col = b.col + (p.pairs ? (tx * 4 + j) / 2 : tx * 4 + j);
			float v = p.pairs ? dsocr_silu(acc[r][j]) * acc[r][j | 1] : acc[r][j];

			if (col < p.n && !(p.pairs && j % 2 == 1))
				dsocr_product_store<T>(p, dsocr_product_y_row(p, row), col, v);
		}
	}
}

/* Blocks of a product without routes. */
static inline unsigned int
dsocr_product_blocks(const DsocrProduct *p, int tm, int tn)
{
	return (unsigned int) ((p->m + tm - 1) / tm) * (unsigned int) ((p->n + tn - 1) / tn);
}

#endif /* DSOCR_PRODUCT_CUH */
