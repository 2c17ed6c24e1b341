/*-------------------------------------------------------------------------
 *
 * product.cu
 *		Kernels for products with weights and the choice between them.
 *
 *-------------------------------------------------------------------------
 */
#include "tile.cuh"

/* ---- the plain kernel: any element, any shape ---- */

#define PLAIN_ROWS 32
#define PLAIN_COLS 64 /* rows of W */
#define PLAIN_K 16
#define PLAIN_THREADS 256

/* Each thread has 2 rows and 4 columns of the block. */
template <typename T>
static __global__ void
__launch_bounds__(PLAIN_THREADS) product_plain(const DsocrProduct p)
{
	__shared__ float xs[PLAIN_ROWS][PLAIN_K + 1];
	__shared__ float ws[PLAIN_COLS][PLAIN_K + 1];
	DsocrProductBlock b;
	int tid = (int) threadIdx.x;
	int ty = tid / 16;
	int tx = tid % 16;
	float acc[2][4] = {};

	if (!dsocr_product_block(p, &b, blockIdx.x, PLAIN_ROWS, p.pairs ? PLAIN_COLS / 2 : PLAIN_COLS))
		return;
	for (int k0 = 0; k0 < p.k; k0 += PLAIN_K)
	{
		int kk = k0 + tid % PLAIN_K;

		for (int r = tid / PLAIN_K; r < PLAIN_ROWS; r += PLAIN_THREADS / PLAIN_K)
		{
			int row = b.first + r;
			float v = 0;

			if (row < b.end && kk < p.k)
				v = dsocr_to_float(
					((const T *) p.x)[dsocr_product_x_row(p, row) * (size_t) p.k + (size_t) kk]);
			xs[r][tid % PLAIN_K] = v;
		}
		for (int r = tid / PLAIN_K; r < PLAIN_COLS; r += PLAIN_THREADS / PLAIN_K)
		{
			int64_t row = dsocr_product_w_row(p, b.col, r, 1);
			float v = 0;

			if (row >= 0 && kk < p.k)
				v = dsocr_to_float(((const T *) b.w)[(size_t) row * (size_t) p.ldw + (size_t) kk]);
			ws[r][tid % PLAIN_K] = v;
		}
		__syncthreads();
		for (int i = 0; i < PLAIN_K; i++)
			for (int r = 0; r < 2; r++)
				for (int j = 0; j < 4; j++)
					acc[r][j] = fmaf(xs[ty + r * 16][i], ws[tx * 4 + j][i], acc[r][j]);
		__syncthreads();
	}
	for (int i = 0; i < 8; i++)
	{
		int row = b.first + ty + i / 4 * 16;
		int j = i % 4;
		int col = b.col + (p.pairs ? (tx * 4 + j) / 2 : tx * 4 + j);
		float v = p.pairs ? dsocr_silu(acc[i / 4][j]) * acc[i / 4][j | 1] : acc[i / 4][j];

		if (row < b.end && col < p.n && !(p.pairs && j % 2 == 1))
			dsocr_product_store<T>(p, dsocr_product_y_row(p, row), col, v);
	}
}

/* ---- shapes ---- */

typedef cudaError_t ProductLaunch(DsocrCuda *c, const DsocrProduct *p, unsigned int blocks);

typedef struct ProductShape
{
	int rows;
	int cols; /* rows of W */
	size_t shared;
	ProductLaunch *launch;
} ProductShape;

template <typename T>
static cudaError_t
plain_launch(DsocrCuda *c, const DsocrProduct *p, unsigned int blocks)
{
	return dsocr_launch(product_plain<T>, dim3(blocks), dim3(PLAIN_THREADS), 0, c->stream, *p);
}

static const ProductShape plain_bf16 = {PLAIN_ROWS, PLAIN_COLS, 0, plain_launch<__nv_bfloat16>};
static const ProductShape plain_fp32 = {PLAIN_ROWS, PLAIN_COLS, 0, plain_launch<float>};

template <int MT, int NT, int WM, int WN, int STAGES>
constexpr size_t
tile_shared()
{
	return (size_t) STAGES * (size_t) (MT * 16 * WM + NT * 8 * WN) * DSOCR_TILE_ROW_BYTES;
}

template <int MT, int NT, int WM, int WN, int STAGES, int BLOCKS>
static cudaError_t
tile_launch(DsocrCuda *c, const DsocrProduct *p, unsigned int blocks)
{
	return dsocr_launch_early(c->early, dsocr_product_tile<MT, NT, WM, WN, STAGES, BLOCKS>,
							  dim3(blocks), dim3(WM * WN * 32),
							  tile_shared<MT, NT, WM, WN, STAGES>(), c->stream, *p);
}

/* Shared memory is about 100 kB for two blocks a multiprocessor, 48 to 64 for more. */
#define TILE_SHAPE(mt, nt, wm, wn, stages, blocks)                                                 \
	{                                                                                              \
		mt * 16 * wm, nt * 8 * wn, tile_shared<mt, nt, wm, wn, stages>(),                          \
			tile_launch<mt, nt, wm, wn, stages, blocks>                                            \
	}

/* By rows, then columns. */
static const ProductShape tiles[] = {
	TILE_SHAPE(1, 2, 1, 1, 16, 3), /* 16 x 16 */
	TILE_SHAPE(1, 2, 1, 2, 8, 4),  /* 16 x 32 */
	TILE_SHAPE(1, 2, 1, 4, 6, 3),  /* 16 x 64 */
	TILE_SHAPE(2, 2, 1, 2, 6, 4),  /* 32 x 32 */
	TILE_SHAPE(2, 2, 1, 4, 5, 3),  /* 32 x 64 */
	TILE_SHAPE(2, 2, 2, 2, 5, 3),  /* 64 x 32 */
	TILE_SHAPE(2, 4, 2, 2, 4, 3),  /* 64 x 64 */
	TILE_SHAPE(2, 8, 2, 2, 4, 2),  /* 64 x 128 */
	TILE_SHAPE(4, 4, 2, 2, 4, 2),  /* 128 x 64 */
	TILE_SHAPE(4, 8, 2, 2, 3, 2),  /* 128 x 128 */
	TILE_SHAPE(4, 8, 2, 4, 4, 1),  /* 128 x 256 */
};

#define N_TILES ((int) (sizeof(tiles) / sizeof(tiles[0])))

static unsigned int
product_ceil(int a, int b)
{
	return (unsigned int) ((a + b - 1) / b);
}

static unsigned int
product_blocks(const DsocrProduct *p, const ProductShape *s)
{
	unsigned int row_tiles = p->routed ? (unsigned int) p->tiles : product_ceil(p->m, s->rows);

	return row_tiles * product_ceil(p->n, p->pairs ? s->cols / 2 : s->cols);
}

/*
 * Time of a product in tiles of a shape, up to a factor: the multiprocessor
 * with the most blocks, each bound by what it reads (32 bytes a cycle) or by
 * the matrix unit (1200 products a cycle), and something for its start.
 */
static int64_t
product_cost(const DsocrCuda *c, const DsocrProduct *p, const ProductShape *s)
{
	int rows = p->m > s->rows ? s->rows : p->m;
	int64_t turns = (product_blocks(p, s) + (unsigned int) c->sms - 1) / (unsigned int) c->sms;
	int64_t bytes = (int64_t) (rows + s->cols) * 2 * 1200;
	int64_t sums = (int64_t) s->rows * s->cols * 32;

	return turns * ((bytes > sums ? bytes : sums) + 12000);
}

/* Alignment follows from the shape when operands start with a row of a buffer. */
static bool
product_fits_tiles(const DsocrCuda *c, const DsocrProduct *p)
{
	int64_t rows = p->routed ? (int64_t) p->tiles * p->tile_rows : p->m;

	if (!dsocr_cuda_bf16(c) || p->k % 8 != 0 || (uintptr_t) p->x % 16 != 0)
		return false;
	/* tiles count in pieces of 8 elements with 32 bits */
	if (rows * (p->k / 8) >= INT32_MAX || 2 * (int64_t) p->n * (p->ldw / 8) >= INT32_MAX)
		return false;
	return p->n % 4 != 0 ||
		   ((uintptr_t) p->y % (p->wide ? 16 : 8) == 0 && (uintptr_t) p->residual % 8 == 0);
}

static const ProductShape *
product_shape(const DsocrCuda *c, const DsocrProduct *p)
{
	const ProductShape *best = dsocr_cuda_bf16(c) ? &plain_bf16 : &plain_fp32;
	int64_t least = INT64_MAX;

	if (!product_fits_tiles(c, p))
		return best;
	for (int i = 0; i < N_TILES; i++)
	{
		const ProductShape *s = &tiles[i];
		int64_t cost = product_cost(c, p, s);

		if (s->shared > c->shared_max)
			continue;
		/* half of the rows would do */
		if (p->routed ? s->rows != p->tile_rows : s->rows > 16 && s->rows / 2 >= p->m)
			continue;
		if (cost < least)
		{
			least = cost;
			best = s;
		}
	}
	return best;
}

void
dsocr_cuda_product(DsocrCuda *c, const DsocrProduct *p, const char *what)
{
	const ProductShape *s = product_shape(c, p);

	dsocr_cuda_check(c, s->launch(c, p, product_blocks(p, s)), what);
}

int
dsocr_cuda_tile_rows(const DsocrCuda *c, int rows, int hidden, int inter, int average)
{
	if (!dsocr_cuda_bf16(c) || hidden % 8 != 0 || inter % 8 != 0)
		return PLAIN_ROWS;
	if (rows <= 16)
		return 16;
	return rows <= 32 || average <= 12 ? 32 : 64;
}
