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
 * shape.  Rows and columns that do not exist are set to zero once and never
 * loaded.
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

#define DSOCR_TILE_NO_ROW UINT32_MAX

/* The 16-byte pieces that a thread copies of N rows: piece tid % 8 of every STEPth row. */
template <int N, int STEP> struct DsocrTileRows
{
	static_assert(N % STEP == 0, "threads must divide the pieces");
	const char *base;
	uint32_t at[N / STEP]; /* in pieces from base, or DSOCR_TILE_NO_ROW */
};

template <int N, int STEP>
static __device__ __forceinline__ void
dsocr_tile_copy(char *stage, const DsocrTileRows<N, STEP> &rows, int chunk, bool inside)
{
	int tid = (int) threadIdx.x;

#pragma unroll
	for (int i = 0; i < N / STEP; i++)
		if (rows.at[i] != DSOCR_TILE_NO_ROW)
			dsocr_cp_async16(stage + dsocr_tile_at(tid / 8 + i * STEP, tid % 8),
							 rows.base + (size_t) (rows.at[i] + (uint32_t) chunk * 8) * 16, inside);
}

template <int N, int STEP>
static __device__ __forceinline__ void
dsocr_tile_x_rows(DsocrTileRows<N, STEP> *rows, const DsocrProduct &p, const DsocrProductBlock &b)
{
	int tid = (int) threadIdx.x;

	rows->base = (const char *) p.x;
#pragma unroll
	for (int i = 0; i < N / STEP; i++)
	{
		int row = b.first + tid / 8 + i * STEP;

		rows->at[i] = DSOCR_TILE_NO_ROW;
		if (row < b.end)
			rows->at[i] = (uint32_t) (dsocr_product_x_row(p, row) * (size_t) (p.k / 8)) + tid % 8;
	}
}

template <int N, int STEP>
static __device__ __forceinline__ void
dsocr_tile_w_rows(DsocrTileRows<N, STEP> *rows, const DsocrProduct &p, const DsocrProductBlock &b)
{
	int tid = (int) threadIdx.x;

	rows->base = (const char *) b.w;
#pragma unroll
	for (int i = 0; i < N / STEP; i++)
	{
		int64_t row = dsocr_product_w_row(p, b.col, tid / 8 + i * STEP, 8);

		rows->at[i] = DSOCR_TILE_NO_ROW;
		if (row >= 0)
			rows->at[i] = (uint32_t) row * (uint32_t) (p.ldw / 8) + tid % 8;
	}
}

/* Zeros in place of the rows that there are not, in all stages. */
template <int N, int STEP>
static __device__ __forceinline__ void
dsocr_tile_clear(char *rows_of_stage, int stage_bytes, int stages,
				 const DsocrTileRows<N, STEP> &rows)
{
	int tid = (int) threadIdx.x;

#pragma unroll 1
	for (int s = 0; s < stages; s++)
#pragma unroll
		for (int i = 0; i < N / STEP; i++)
			if (rows.at[i] == DSOCR_TILE_NO_ROW)
				*(uint4 *) (rows_of_stage + s * stage_bytes +
							dsocr_tile_at(tid / 8 + i * STEP, tid % 8)) = make_uint4(0, 0, 0, 0);
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

/* ---- what follows the sums: through shared memory, so that rows are stored in one piece ---- */

#define DSOCR_TILE_PAD 8 /* floats behind each row of sums, against bank conflicts */

template <int MT, int NT>
static __device__ __forceinline__ void
dsocr_tile_spill(float *sums, int stride, const float acc[MT][NT][4], int row0, int col0, int lane)
{
#pragma unroll
	for (int i = 0; i < MT; i++)
#pragma unroll
		for (int j = 0; j < NT; j++)
#pragma unroll
			for (int h = 0; h < 2; h++)
				*(float2 *) (sums + (row0 + i * 16 + h * 8 + lane / 4) * stride + col0 + j * 8 +
							 lane % 4 * 2) = make_float2(acc[i][j][2 * h], acc[i][j][2 * h + 1]);
}

/* Four neighbouring outputs, col and n multiples of 4. */
static __device__ __forceinline__ float4
dsocr_tile_residual(const DsocrProduct &p, size_t at)
{
	uint2 r = *(const uint2 *) ((const __nv_bfloat16 *) p.residual + at);
	float2 a = dsocr_unpack_bf16(r.x);
	float2 b = dsocr_unpack_bf16(r.y);

	return make_float4(a.x, a.y, b.x, b.y);
}

static __device__ __forceinline__ void
dsocr_tile_store(const DsocrProduct &p, size_t at, float4 v)
{
	if (p.wide)
		*(float4 *) ((float *) p.y + at) = v;
	else
		*(uint2 *) ((__nv_bfloat16 *) p.y + at) =
			make_uint2(dsocr_pack_bf16(v.x, v.y), dsocr_pack_bf16(v.z, v.w));
}

/* Sums to which a residual may be added, nothing else. */
template <int TM, int TN, int THREADS>
static __device__ __forceinline__ void
dsocr_tile_finish_sums(const DsocrProduct &p, const DsocrProductBlock &b, const float *sums)
{
	constexpr int AHEAD = 4; /* residuals loaded at once */
	constexpr int GROUPS = TN / 4;

	for (int i0 = (int) threadIdx.x; i0 < (b.end - b.first) * GROUPS; i0 += AHEAD * THREADS)
	{
		float4 r[AHEAD];
		size_t at[AHEAD];
		bool there[AHEAD];

#pragma unroll
		for (int u = 0; u < AHEAD; u++)
		{
			int row = b.first + (i0 + u * THREADS) / GROUPS;
			int col = b.col + (i0 + u * THREADS) % GROUPS * 4;

			there[u] = row < b.end && col < p.n;
			at[u] = there[u] ? dsocr_product_y_row(p, row) * (size_t) p.n + (size_t) col : 0;
			r[u] = there[u] && p.residual != NULL ? dsocr_tile_residual(p, at[u])
												  : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
		}
#pragma unroll
		for (int u = 0; u < AHEAD; u++)
		{
			int i = i0 + u * THREADS;
			int col = b.col + i % GROUPS * 4;
			float4 v;

			if (!there[u])
				continue;
			v = *(const float4 *) (sums + i / GROUPS * (TN + DSOCR_TILE_PAD) + i % GROUPS * 4);
			if (p.bias != NULL)
			{
				float4 bias = *(const float4 *) (p.bias + col);

				v = make_float4(v.x + bias.x, v.y + bias.y, v.z + bias.z, v.w + bias.w);
			}
			if (p.residual != NULL)
				v = make_float4(v.x + r[u].x, v.y + r[u].y, v.z + r[u].z, v.w + r[u].w);
			dsocr_tile_store(p, at[u], v);
		}
	}
}

/* Sums of pairs; n is a multiple of 4. */
template <int TM, int TN, int THREADS>
static __device__ __forceinline__ void
dsocr_tile_finish_pairs(const DsocrProduct &p, const DsocrProductBlock &b, const float *sums)
{
	constexpr int GROUPS = TN / 8; /* of four outputs */

#pragma unroll 1
	for (int i = (int) threadIdx.x; i < (b.end - b.first) * GROUPS; i += THREADS)
	{
		int c = i % GROUPS * 4;
		const float *at = sums + i / GROUPS * (TN + DSOCR_TILE_PAD) + c / 8 * 16 + c % 8;
		float4 g = *(const float4 *) at;
		float4 u = *(const float4 *) (at + 8);

		if (b.col + c < p.n)
			dsocr_tile_store(p,
							 dsocr_product_y_row(p, b.first + i / GROUPS) * (size_t) p.n +
								 (size_t) (b.col + c),
							 make_float4(dsocr_silu(g.x) * u.x, dsocr_silu(g.y) * u.y,
										 dsocr_silu(g.z) * u.z, dsocr_silu(g.w) * u.w));
	}
}

/* Anything that follows a sum, output by output. */
template <int TM, int TN, int THREADS>
static __device__ __forceinline__ void
dsocr_tile_finish_each(const DsocrProduct &p, const DsocrProductBlock &b, const float *sums)
{
	int shift = p.pairs ? 1 : 0;

#pragma unroll 2
	for (int i = (int) threadIdx.x; i < (b.end - b.first) * (TN >> shift); i += THREADS)
	{
		int r = (i << shift) / TN;
		int c = i - r * (TN >> shift);
		const float *row = sums + r * (TN + DSOCR_TILE_PAD);
		float v =
			p.pairs ? dsocr_silu(row[c / 8 * 16 + c % 8]) * row[c / 8 * 16 + c % 8 + 8] : row[c];

		if (b.col + c < p.n)
			dsocr_product_store<__nv_bfloat16>(p, dsocr_product_y_row(p, b.first + r), b.col + c,
											   v);
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
	constexpr int THREADS = WM * WN * 32;
	constexpr int HEAD = STAGES / 2; /* chunks of weights that are asked for early */

	static_assert(TM * (TN + DSOCR_TILE_PAD) * 4 <= STAGES * STAGE, "room for the sums");

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

	if (!p.ahead)
		dsocr_grid_wait();
	if (!dsocr_product_block(p, &b, blockIdx.x, TM, p.pairs ? TN / 2 : TN))
	{
		dsocr_grid_wait();
		return;
	}
	dsocr_tile_x_rows(&x, p, b);
	dsocr_tile_w_rows(&w, p, b);
	/* part of the weights while the kernel in front is still at work on x */
	if (p.ahead)
#pragma unroll 1
		for (int s = 0; s < HEAD && s < chunks; s++)
			dsocr_tile_copy(ring + s * STAGE + TM * DSOCR_TILE_ROW_BYTES, w, s,
							s * DSOCR_TILE_K + tid % 8 * 8 < p.k);
	dsocr_tile_clear(ring, STAGE, min(STAGES, chunks), x);
	dsocr_tile_clear(ring + TM * DSOCR_TILE_ROW_BYTES, STAGE, min(STAGES, chunks), w);
	dsocr_grid_wait();
#pragma unroll 1
	for (int s = 0; s < STAGES - 1; s++)
	{
		bool inside = s * DSOCR_TILE_K + tid % 8 * 8 < p.k;

		if (s < chunks && !(p.ahead && s < HEAD))
			dsocr_tile_copy(ring + s * STAGE + TM * DSOCR_TILE_ROW_BYTES, w, s, inside);
		if (s < chunks)
			dsocr_tile_copy(ring + s * STAGE, x, s, inside);
		dsocr_cp_async_commit();
	}
	dsocr_grid_release();
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
			if (kk < STEPS - 1 || c + 1 < chunks)
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
	__syncthreads();
	dsocr_tile_spill<MT, NT>(dsocr_shared<float>(), TN + DSOCR_TILE_PAD, acc, wm * MT * 16,
							 wn * NT * 8, lane);
	__syncthreads();
	if (p.act != DSOCR_ACT_NONE || p.n % 4 != 0)
		dsocr_tile_finish_each<TM, TN, THREADS>(p, b, dsocr_shared<float>());
	else if (p.pairs)
		dsocr_tile_finish_pairs<TM, TN, THREADS>(p, b, dsocr_shared<float>());
	else
		dsocr_tile_finish_sums<TM, TN, THREADS>(p, b, dsocr_shared<float>());
}

#endif /* DSOCR_TILE_CUH */
