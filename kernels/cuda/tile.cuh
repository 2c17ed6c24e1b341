/*-------------------------------------------------------------------------
 *
 * tile.cuh
 *		The product by matrix instructions: bf16, rows of whole 16 bytes.
 *
 * A block has WM x WN warps, a warp MT x NT instruction tiles of 16 rows and
 * 8 columns.  Chunks of 64 elements of k of all its rows and columns go
 * through a ring of shared memory, filled by asynchronous copies STAGES - 1
 * chunks ahead; 16-byte pieces are swizzled so that neither the copies nor
 * the fragment loads have bank conflicts.
 *
 * An output is one chain of instructions over k in steps of 16, whatever the
 * shape.  Rows and columns that do not exist are not loaded: what lies in
 * shared memory in their place reaches only outputs that are not stored.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_TILE_CUH
#define DSOCR_TILE_CUH

#include "product.cuh"

#define DSOCR_TILE_K 64			 /* elements a chunk */
#define DSOCR_TILE_ROW_BYTES 128 /* of a chunk */

/* Where the 16 bytes `piece` (0 .. 7) of a row lie in a stage. */
static __device__ __forceinline__ int
dsocr_tile_at(int row, int piece)
{
	return row * DSOCR_TILE_ROW_BYTES + ((piece ^ (row & 7)) << 4);
}

/* The 16-byte pieces that a thread copies of N rows: piece tid % 8 of every STEPth row. */
template <int N, int STEP> struct DsocrTileRows
{
	static_assert(N % STEP == 0, "threads must divide the pieces");
	const __nv_bfloat16 *from[N / STEP]; /* NULL: no such row */
};

template <int N, int STEP>
static __device__ __forceinline__ void
dsocr_tile_copy(char *stage, const DsocrTileRows<N, STEP> &rows, int chunk, bool inside)
{
	int tid = (int) threadIdx.x;

#pragma unroll
	for (int i = 0; i < N / STEP; i++)
		if (rows.from[i] != NULL)
			dsocr_cp_async16(stage + dsocr_tile_at(tid / 8 + i * STEP, tid % 8),
							 rows.from[i] + (size_t) chunk * DSOCR_TILE_K, inside);
}

/* Fragments of one step of 16 in k. */
template <int MT, int NT> struct DsocrTileStep
{
	uint32_t a[MT][4];
	uint32_t b[NT / 2][4]; /* two columns tiles each */
};

template <int MT, int NT>
static __device__ __forceinline__ void
dsocr_tile_load(DsocrTileStep<MT, NT> *s, const char *a, const char *b, int kk, int lane)
{
	int at_a = ((2 * kk) ^ (lane / 16) ^ (lane & 7)) << 4;
	int at_b = ((2 * kk) ^ (lane / 8 & 1) ^ (lane & 7)) << 4;

#pragma unroll
	for (int i = 0; i < MT; i++)
		dsocr_ldmatrix_x4(s->a[i], a + (i * 16 + lane % 16) * DSOCR_TILE_ROW_BYTES + at_a);
#pragma unroll
	for (int j = 0; j < NT / 2; j++)
		dsocr_ldmatrix_x4(s->b[j],
						  b + (j * 16 + lane / 16 * 8 + lane % 8) * DSOCR_TILE_ROW_BYTES + at_b);
}

/* Two neighbouring outputs; col is even. */
static __device__ __forceinline__ void
dsocr_tile_store(const DsocrProduct &p, size_t row, int col, float v0, float v1)
{
	size_t at = row * (size_t) p.n + (size_t) col;

	if (p.n % 2 != 0)
	{
		if (col < p.n)
			dsocr_product_store<__nv_bfloat16>(p, row, col, v0);
		if (col + 1 < p.n)
			dsocr_product_store<__nv_bfloat16>(p, row, col + 1, v1);
		return;
	}
	if (col >= p.n)
		return;
	if (p.bias != NULL)
	{
		float2 bias = *(const float2 *) (p.bias + col);

		v0 += bias.x;
		v1 += bias.y;
	}
	v0 = dsocr_product_act(v0, p.act);
	v1 = dsocr_product_act(v1, p.act);
	if (p.residual != NULL)
	{
		float2 r = dsocr_unpack_bf16(*(const uint32_t *) ((const __nv_bfloat16 *) p.residual + at));

		v0 += r.x;
		v1 += r.y;
	}
	if (p.wide)
		*(float2 *) ((float *) p.y + at) = make_float2(v0, v1);
	else
		*(uint32_t *) ((__nv_bfloat16 *) p.y + at) = dsocr_pack_bf16(v0, v1);
}

/* The outputs of a warp whose first row and column these are. */
template <int MT, int NT>
static __device__ __forceinline__ void
dsocr_tile_finish(const DsocrProduct &p, const float acc[MT][NT][4], int row0, int end, int col0,
				  int lane)
{
#pragma unroll
	for (int i = 0; i < 2 * MT; i++)
	{
		int row = row0 + i * 8 + lane / 4;
		int h = i % 2 * 2;

		if (row >= end)
			continue;

		size_t y_row = dsocr_product_y_row(p, row);

		if (p.pairs)
		{
#pragma unroll
			for (int j = 0; j < NT; j += 2)
			{
				const float *g = acc[i / 2][j] + h;
				const float *u = acc[i / 2][j + 1] + h;

				dsocr_tile_store(p, y_row, col0 + j * 4 + lane % 4 * 2, dsocr_silu(g[0]) * u[0],
								 dsocr_silu(g[1]) * u[1]);
			}
		}
		else
		{
#pragma unroll
			for (int j = 0; j < NT; j++)
				dsocr_tile_store(p, y_row, col0 + j * 8 + lane % 4 * 2, acc[i / 2][j][h],
								 acc[i / 2][j][h + 1]);
		}
	}
}

template <int MT, int NT, int WM, int WN, int STAGES, int BLOCKS>
static __global__ void
__launch_bounds__(WM *WN * 32, BLOCKS) dsocr_product_tile(const DsocrProduct p)
{
	constexpr int TM = MT * 16 * WM;
	constexpr int TN = NT * 8 * WN;
	constexpr int STEP = WM * WN * 4; /* rows that all threads copy at once */
	constexpr int STAGE = (TM + TN) * DSOCR_TILE_ROW_BYTES;
	constexpr int STEPS = DSOCR_TILE_K / 16;
	char *ring = dsocr_shared<char>();
	int tid = (int) threadIdx.x;
	int lane = tid % 32;
	int wm = tid / 32 / WN;
	int wn = tid / 32 % WN;
	int chunks = (p.k + DSOCR_TILE_K - 1) / DSOCR_TILE_K;
	DsocrProductBlock b;
	DsocrTileRows<TM, STEP> x;
	DsocrTileRows<TN, STEP> w;
	DsocrTileStep<MT, NT> step[2];
	float acc[MT][NT][4] = {};

	if (!dsocr_product_block(p, &b, blockIdx.x, TM, p.pairs ? TN / 2 : TN))
		return;
#pragma unroll
	for (int i = 0; i < TM / STEP; i++)
	{
		int row = b.first + tid / 8 + i * STEP;

		x.from[i] = NULL;
		if (row < b.end)
			x.from[i] = (const __nv_bfloat16 *) p.x + dsocr_product_x_row(p, row) * (size_t) p.k +
						tid % 8 * 8;
	}
#pragma unroll
	for (int i = 0; i < TN / STEP; i++)
	{
		int64_t row = dsocr_product_w_row(p, b.col, tid / 8 + i * STEP, 8);

		w.from[i] = NULL;
		if (row >= 0)
			w.from[i] = (const __nv_bfloat16 *) b.w + (size_t) row * (size_t) p.ldw + tid % 8 * 8;
	}

#pragma unroll
	for (int s = 0; s < STAGES - 1; s++)
	{
		if (s < chunks)
		{
			bool inside = s * DSOCR_TILE_K + tid % 8 * 8 < p.k;

			dsocr_tile_copy(ring + s * STAGE + TM * DSOCR_TILE_ROW_BYTES, w, s, inside);
			dsocr_tile_copy(ring + s * STAGE, x, s, inside);
		}
		dsocr_cp_async_commit();
	}
	dsocr_cp_async_wait<STAGES - 2>();
	__syncthreads();

	const int a_at = wm * MT * 16 * DSOCR_TILE_ROW_BYTES;
	const int b_at = (TM + wn * NT * 8) * DSOCR_TILE_ROW_BYTES;
	int read = 0;
	int write = STAGES - 1;

	dsocr_tile_load(&step[0], ring + a_at, ring + b_at, 0, lane);
	for (int c = 0; c < chunks; c++)
	{
#pragma unroll
		for (int kk = 0; kk < STEPS; kk++)
		{
			if (kk == STEPS - 1)
			{
				dsocr_cp_async_wait<STAGES - 2>();
				__syncthreads();
				read = read == STAGES - 1 ? 0 : read + 1;
			}
			dsocr_tile_load(&step[(kk + 1) % 2], ring + read * STAGE + a_at,
							ring + read * STAGE + b_at, (kk + 1) % STEPS, lane);
			if (kk == 0)
			{
				/* the stage that everybody left before the last barrier */
				int next = c + STAGES - 1;

				if (next < chunks)
				{
					bool inside = next * DSOCR_TILE_K + tid % 8 * 8 < p.k;

					dsocr_tile_copy(ring + write * STAGE + TM * DSOCR_TILE_ROW_BYTES, w, next,
									inside);
					dsocr_tile_copy(ring + write * STAGE, x, next, inside);
				}
				dsocr_cp_async_commit();
				write = write == STAGES - 1 ? 0 : write + 1;
			}
#pragma unroll
			for (int i = 0; i < MT; i++)
#pragma unroll
				for (int j = 0; j < NT; j++)
					dsocr_mma_bf16(acc[i][j], step[kk % 2].a[i], step[kk % 2].b[j / 2] + j % 2 * 2);
		}
	}
	dsocr_tile_finish<MT, NT>(p, acc, b.first + wm * MT * 16, b.end,
							  b.col + wn * NT * (p.pairs ? 4 : 8), lane);
}

#endif /* DSOCR_TILE_CUH */
