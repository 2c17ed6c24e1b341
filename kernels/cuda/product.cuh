/*-------------------------------------------------------------------------
 *
 * product.cuh
 *		What all kernels for products with weights share: their arguments, the
 *		rows of a block, what follows the sum.
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
	int m;				  /* with routes: most rows an expert can have */
	int n;
	int k;
	int ldw;
	bool pairs; /* without bias, activation and residual */
	bool wide;
	bool routed;
	bool ahead;	   /* w and routes were there before the kernel in front */
	int x_div;	   /* routed: row of x is choice / x_div; 0: the place itself */
	bool y_order;  /* routed: row of y is the choice; else the place */
	int tile_rows; /* routed: what the routes were cut to */
	int tiles;	   /* routed: most tiles there can be */
	DsocrActivation act;
	DsocrRoutes routes;
} DsocrProduct;

/* product.cu: whichever kernel suits the shape. */
extern void dsocr_cuda_product(DsocrCuda *c, const DsocrProduct *p, const char *what);

/*
 * product.cu: rows that tiles of routes should have when an expert of this
 * shape gets so many choices on average, and of each of `rows` rows one at
 * most.
 */
extern int dsocr_cuda_tile_rows(const DsocrCuda *c, int rows, int hidden, int inter, int average);

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

#endif /* DSOCR_PRODUCT_CUH */
