/*-------------------------------------------------------------------------
 *
 * tile_isa.c
 *		Products in the processor's matrix unit (AMX, bf16).
 *
 * The left operand L[n, k] is read as it lies, row-major bf16: weights from
 * the mapping need no packing.  The right operand is packed in groups of up
 * to 16 rows R[c, k]: [k / 2][c][2], pairs of k side by side.  The unit adds
 * the products of an element in the order of k, whatever stands beside it:
 * a result depends on its own two rows alone.
 *
 * Only the avx512 build has the unit; the other tables are empty.
 *
 *-------------------------------------------------------------------------
 */
#include "isa.h"
#include "vec.h"

#if DSOCR_VW == 16 && defined(__x86_64__)

#include "tile.h"

#define TILE_MANY 128  /* right rows that hide the reading of the left */
#define TILE_AHEAD 128 /* columns between fetching and use, for few right rows */
#define TILE_TURN 4	   /* columns from which to transpose takes less than to copy each element */

typedef struct TileProduct
{
	const char *left; /* bf16 rows */
	size_t stride;	  /* bytes from row to row */
	size_t rows;
	size_t k;
	const uint16_t *right; /* packed */
	int cols;
	bool prefetch; /* the rows that follow, as far away as these */
} TileProduct;

/*
 * Load 16 rows x 32 elements of the left operand into a register; what lies
 * outside the matrix is zero and not touched.
 */
#define TILE_LOAD_LEFT(reg, p, row, kb)                                                            \
	do                                                                                             \
	{                                                                                              \
		const char *at_ = (p)->left + (row) * (p)->stride + (kb) *2;                               \
		if ((row) + 16 <= (p)->rows && (kb) + TILE_K <= (p)->k)                                    \
			_tile_loadd(reg, at_, (p)->stride);                                                    \
		else                                                                                       \
		{                                                                                          \
			uint16_t edge_[16][TILE_K];                                                            \
			tile_edge(edge_, p, row, kb);                                                          \
			_tile_loadd(reg, edge_, 64);                                                           \
		}                                                                                          \
	} while (0)

static void __attribute__((noinline))
tile_edge(uint16_t edge[16][TILE_K], const TileProduct *p, size_t row, size_t kb)
{
	size_t count = p->k - kb < TILE_K ? p->k - kb : TILE_K;

	memset(edge, 0, 16 * sizeof(edge[0]));
	for (size_t r = 0; r < 16 && row + r < p->rows; r++)
		memcpy(edge[r], p->left + (row + r) * p->stride + kb * 2, count * 2);
}

VEC_INLINE void
tile_prefetch_16(const char *next, size_t stride)
{
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		_mm_prefetch(next + (size_t) i * stride, _MM_HINT_T0);
}

VEC_INLINE void
tile_prefetch(const TileProduct *p, size_t row, size_t kb)
{
	const char *next = p->left + (row + 32) * p->stride + kb * 2;

#pragma GCC unroll 8
	for (int i = 0; i < 32; i++)
		_mm_prefetch(next + (size_t) i * p->stride, _MM_HINT_T0);
}

/* c[0..1][0..1] = 32 left rows x two groups of 16 */
TILE_TARGET static void
tile_block_22(float c[4][256], const TileProduct *p, size_t row, const uint16_t *right,
			  bool prefetch)
{
	const uint16_t *second = right + dsocr_tile_k(p->k) * 16;

	_tile_zero(0);
	_tile_zero(1);
	_tile_zero(2);
	_tile_zero(3);
	for (size_t kb = 0; kb < p->k; kb += TILE_K)
	{
		TILE_LOAD_LEFT(4, p, row, kb);
		_tile_loadd(6, right + kb * 16, 64);
		_tile_dpbf16ps(0, 4, 6);
		_tile_loadd(7, second + kb * 16, 64);
		_tile_dpbf16ps(1, 4, 7);
		TILE_LOAD_LEFT(5, p, row + 16, kb);
		_tile_dpbf16ps(2, 5, 6);
		_tile_dpbf16ps(3, 5, 7);
		if (prefetch)
			tile_prefetch(p, row, kb);
	}
	_tile_stored(0, c[0], 64);
	_tile_stored(1, c[1], 64);
	_tile_stored(2, c[2], 64);
	_tile_stored(3, c[3], 64);
}

/* c[0] and c[2] = 32 left rows x one group of cols */
TILE_TARGET static void
tile_block_21(float c[4][256], const TileProduct *p, size_t row, const uint16_t *right, int cols,
			  bool prefetch)
{
	size_t stride = 4 * (size_t) cols;

	_tile_zero(0);
	_tile_zero(2);
	for (size_t kb = 0; kb < p->k; kb += TILE_K)
	{
		_tile_loadd(6, right + kb * (size_t) cols, stride);
		TILE_LOAD_LEFT(4, p, row, kb);
		_tile_dpbf16ps(0, 4, 6);
		TILE_LOAD_LEFT(5, p, row + 16, kb);
		_tile_dpbf16ps(2, 5, 6);
		if (prefetch)
			tile_prefetch(p, row, kb);
	}
	_tile_stored(0, c[0], 64);
	_tile_stored(2, c[2], 64);
}

/*
 * c[0..3] = 64 left rows x one group of cols: four sums hide how long the unit
 * takes for one.  Left rows are fetched TILE_AHEAD columns before their use.
 */
TILE_TARGET static void
tile_block_41(float c[4][256], const TileProduct *p, size_t row, const uint16_t *right, int cols)
{
	size_t stride = 4 * (size_t) cols;
	const char *left = p->left + row * p->stride;

	_tile_zero(0);
	_tile_zero(1);
	_tile_zero(2);
	_tile_zero(3);
	for (size_t kb = 0; kb < p->k; kb += TILE_K)
	{
		const char *next = left + (kb + TILE_AHEAD) * 2;

		/* a row's end is the next one's beginning: on with the 64 rows that follow */
		if (kb + TILE_AHEAD >= p->k)
			next += 63 * p->stride;
		_tile_loadd(6, right + kb * (size_t) cols, stride);
		TILE_LOAD_LEFT(4, p, row, kb);
		_tile_dpbf16ps(0, 4, 6);
		tile_prefetch_16(next, p->stride);
		TILE_LOAD_LEFT(5, p, row + 16, kb);
		_tile_dpbf16ps(1, 5, 6);
		tile_prefetch_16(next + 16 * p->stride, p->stride);
		TILE_LOAD_LEFT(4, p, row + 32, kb);
		_tile_dpbf16ps(2, 4, 6);
		tile_prefetch_16(next + 32 * p->stride, p->stride);
		TILE_LOAD_LEFT(5, p, row + 48, kb);
		_tile_dpbf16ps(3, 5, 6);
		tile_prefetch_16(next + 48 * p->stride, p->stride);
	}
	_tile_stored(0, c[0], 64);
	_tile_stored(1, c[1], 64);
	_tile_stored(2, c[2], 64);
	_tile_stored(3, c[3], 64);
}

/* Rows of the left operand become columns of ys. */
VEC_INLINE void
tile_put_columns(float *const *ys, size_t at, size_t rows, const float c[256], int cols)
{
	if (cols >= TILE_TURN)
	{
		__mmask16 mask = (__mmask16) ((1u << rows) - 1);
		__m512i r[16];

		memcpy(r, c, sizeof(r));
		tile_transpose(r);
		for (int i = 0; i < cols; i++)
			_mm512_mask_storeu_epi32(ys[i] + at, mask, r[i]);
	}
	else
		for (int i = 0; i < cols; i++)
			for (size_t r = 0; r < rows; r++)
				ys[i][at + r] = c[r * 16 + (size_t) i];
}

static size_t
tile_rows_left(const TileProduct *p, size_t row)
{
	if (row >= p->rows)
		return 0;
	return p->rows - row < 16 ? p->rows - row : 16;
}

TILE_TARGET static void
tile_product(float *const *ys, const uint16_t *packed, int m, const void *w, size_t n, size_t k)
{
	TileProduct p = {.left = w, .stride = k * 2, .rows = n, .k = k};
	size_t group = dsocr_tile_k(k) * 16;
	_Alignas(64) float c[4][256];
	int configured = 0;
	size_t row = 0;

	for (; m <= 16 && row + 64 <= n; row += 64)
	{
		if (configured != m)
			tile_configure(configured = m);
		tile_block_41(c, &p, row, packed, m);
		for (int i = 0; i < 4; i++)
			tile_put_columns(ys, row + 16 * (size_t) i, 16, c[i], m);
	}
	for (; row < n; row += 32)
	{
		size_t first = tile_rows_left(&p, row);
		size_t second = tile_rows_left(&p, row + 16);

		for (int col = 0; col < m;)
		{
			int cols = m - col < 16 ? m - col : 16;
			const uint16_t *right = packed + (size_t) (col / 16) * group;
			bool pair = m - col >= 32;

			if (configured != cols)
				tile_configure(configured = cols);
			if (pair)
				tile_block_22(c, &p, row, right, col == 0 && m < TILE_MANY);
			else
				tile_block_21(c, &p, row, right, cols, col == 0 && m < TILE_MANY);
			tile_put_columns(ys + col, row, first, c[0], cols);
			tile_put_columns(ys + col, row + 16, second, c[2], cols);
			if (pair)
			{
				tile_put_columns(ys + col + 16, row, first, c[1], 16);
				tile_put_columns(ys + col + 16, row + 16, second, c[3], 16);
			}
			col += pair ? 32 : 16;
		}
	}
	_tile_release();
}

const DsocrTileOps DSOCR_ISA_NAME(dsocr_tile_) = {.pack = tile_pack, .product = tile_product};

#else

const DsocrTileOps DSOCR_ISA_NAME(dsocr_tile_) = {0};

#endif
