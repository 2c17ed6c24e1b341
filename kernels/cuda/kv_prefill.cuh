/*-------------------------------------------------------------------------
 *
 * kv_prefill.cuh
 *		Attention of the rows of one sequence over bf16 pages of 32 positions.
 *
 * A block takes 64 rows of one head and goes through the positions before
 * them two pages at a time.  Its 8 warps are 4 groups of 16 rows by 2 pages:
 * each warp keeps queries and outputs in registers and sees every other page;
 * the two halves are put together at the end.  Pages arrive in shared memory
 * by asynchronous copies, PREFILL_STAGES pairs at a time, with 16-byte chunks
 * swizzled so that ldmatrix finds its rows in different banks.
 *
 * Softmax in fp32 over powers of two; weights are rounded to bf16 for the
 * product with the values.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_KV_PREFILL_CUH
#define DSOCR_KV_PREFILL_CUH

#include "cuda.h"

#define PREFILL_THREADS 256
#define PREFILL_PAGE 32 /* positions */
#define PREFILL_ROWS 64 /* of a block */
#define PREFILL_GROUPS (PREFILL_ROWS / 16)
#define PREFILL_HALVES 2 /* pages at a time */
#define PREFILL_KEYS (PREFILL_HALVES * PREFILL_PAGE)
#define PREFILL_STAGES 3
#define PREFILL_NONE -1e30f /* largest score of no scores: finite, so that differences are too */

/* Arguments of the kernel. */
typedef struct Prefill
{
	__nv_bfloat16 *out;			/* [rows, heads * D] */
	const __nv_bfloat16 *qkv;	/* [rows, 3 * heads * D] */
	const __nv_bfloat16 *layer; /* of the pages */
	size_t page_elements;
	int heads;
	float scale; /* to scores in powers of two */
} Prefill;

/* What a warp has of its 16 rows; fragments as in mma.m16n8k16. */
template <int D> struct PrefillState
{
	uint32_t q[D / 16][4];
	float o[D / 8][4];
	float top[2]; /* rows lane / 4 and lane / 4 + 8 */
	float sum[2];
};

/* Bytes of a stage: keys, then values. */
template <int D>
static __host__ __device__ constexpr int
prefill_stage()
{
	return 2 * PREFILL_KEYS * D * 2;
}

/* Where chunk (8 elements) `chunk` of row `row` lies. */
template <int D>
static __device__ __forceinline__ const unsigned char *
prefill_chunk(const unsigned char *rows, int row, int chunk)
{
	return rows + row * (D * 2) + (chunk ^ (row & 7)) * 16;
}

/* Numbers of the pages that this thread's copies of a stage come from. */
static __device__ __forceinline__ void
prefill_pages(int pages[PREFILL_HALVES], const int32_t *list, int first, int last)
{
#pragma unroll
	for (int h = 0; h < PREFILL_HALVES; h++)
	{
		int at = first / PREFILL_PAGE + h;
		int page = at * PREFILL_PAGE <= last ? list[at] : 0;

		pages[h] = page < 0 ? 0 : page;
	}
}

/*
 * Start the copies of positions first .. first + PREFILL_KEYS - 1 of a head;
 * zeros behind `last`, where anything may lie.
 */
template <int D>
static __device__ __forceinline__ void
prefill_fetch(unsigned char *stage, const Prefill &a, const int pages[PREFILL_HALVES], int head,
			  int first, int last)
{
	const int chunks = D / 8;
	const int copies = PREFILL_KEYS * chunks / PREFILL_THREADS;

#pragma unroll
	for (int i = 0; i < copies; i++)
	{
		int at = (int) threadIdx.x + i * PREFILL_THREADS;
		int row = at / chunks;
		int chunk = at % chunks;
		/* the copies of one i stay in one page */
		int page = pages[i * PREFILL_HALVES / copies];
		const __nv_bfloat16 *key = a.layer + (size_t) page * a.page_elements +
								   (size_t) (head * PREFILL_PAGE + row % PREFILL_PAGE) * D +
								   chunk * 8;
		unsigned char *to = stage + row * (D * 2) + (chunk ^ (row & 7)) * 16;

		dsocr_cp_async16(to, key, first + row <= last);
		dsocr_cp_async16(to + PREFILL_KEYS * D * 2, key + a.page_elements / 2, first + row <= last);
	}
}

/* Queries of rows row .. row + 15, those behind the last row repeat it. */
template <int D>
static __device__ __forceinline__ void
prefill_start(PrefillState<D> *st, const Prefill &a, int row, int n, int head)
{
	int lane = (int) threadIdx.x % 32;
	size_t stride = 3 * (size_t) a.heads * D;
	int upper = row + lane / 4;
	int lower = upper + 8;
	const __nv_bfloat16 *q = a.qkv + (size_t) head * D + lane % 4 * 2;
	const __nv_bfloat16 *from[2] = {q + (size_t) (upper < n ? upper : n - 1) * stride,
									q + (size_t) (lower < n ? lower : n - 1) * stride};

#pragma unroll
	for (int k = 0; k < D / 16; k++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			st->q[k][i] = *(const uint32_t *) (from[i % 2] + k * 16 + i / 2 * 8);
#pragma unroll
	for (int j = 0; j < D / 8; j++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			st->o[j][i] = 0;
	for (int i = 0; i < 2; i++)
	{
		st->top[i] = PREFILL_NONE;
		st->sum[i] = 0;
	}
}

/* Scores of 16 rows and the 32 positions of a page: s[position / 8][] */
template <int D>
static __device__ __forceinline__ void
prefill_scores(float s[4][4], const PrefillState<D> *st, const unsigned char *keys)
{
	int lane = (int) threadIdx.x % 32;
	int row = lane / 16 * 8 + lane % 8;
	int half = lane / 8 % 2;

#pragma unroll
	for (int j = 0; j < 4; j++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			s[j][i] = 0;
#pragma unroll
	for (int k = 0; k < D / 16; k++)
#pragma unroll
		for (int j = 0; j < 4; j += 2)
		{
			uint32_t b[4];

			dsocr_ldmatrix_x4(b, prefill_chunk<D>(keys, j * 8 + row, 2 * k + half));
			dsocr_mma_bf16(s[j], st->q[k], b);
			dsocr_mma_bf16(s[j + 1], st->q[k], b + 2);
		}
}

/*
 * Scores to weights.  The row of s[][i] is at position `position` + i / 2 * 8,
 * the first key at `first`; keys behind the row's position do not count.
 */
template <int D>
static __device__ __forceinline__ void
prefill_weights(float s[4][4], PrefillState<D> *st, float scale, bool masked, int position,
				int first)
{
	int lane = (int) threadIdx.x % 32;

#pragma unroll
	for (int half = 0; half < 2; half++)
	{
		float top = st->top[half];
		float sum = 0;
		float shrink;

#pragma unroll
		for (int j = 0; j < 4; j++)
#pragma unroll
			for (int i = 2 * half; i < 2 * half + 2; i++)
			{
				int key = first + j * 8 + lane % 4 * 2 + i % 2;

				s[j][i] *= scale;
				if (masked && key > position + half * 8)
					s[j][i] = -INFINITY;
				top = fmaxf(top, s[j][i]);
			}
		top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
		top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
		shrink = dsocr_exp2(st->top[half] - top);
		st->top[half] = top;
#pragma unroll
		for (int j = 0; j < 4; j++)
#pragma unroll
			for (int i = 2 * half; i < 2 * half + 2; i++)
			{
				s[j][i] = dsocr_exp2(s[j][i] - top);
				sum += s[j][i];
			}
		st->sum[half] = st->sum[half] * shrink + sum;
#pragma unroll
		for (int j = 0; j < D / 8; j++)
		{
			st->o[j][2 * half] *= shrink;
			st->o[j][2 * half + 1] *= shrink;
		}
	}
}

template <int D>
static __device__ __forceinline__ void
prefill_values(PrefillState<D> *st, const float s[4][4], const unsigned char *values)
{
	int lane = (int) threadIdx.x % 32;

#pragma unroll
	for (int k = 0; k < 2; k++)
	{
		const uint32_t p[4] = {dsocr_pack_bf16(s[2 * k][0], s[2 * k][1]),
							   dsocr_pack_bf16(s[2 * k][2], s[2 * k][3]),
							   dsocr_pack_bf16(s[2 * k + 1][0], s[2 * k + 1][1]),
							   dsocr_pack_bf16(s[2 * k + 1][2], s[2 * k + 1][3])};

#pragma unroll
		for (int j = 0; j < D / 8; j += 2)
		{
			uint32_t b[4];

			dsocr_ldmatrix_x4_trans(b, prefill_chunk<D>(values, k * 16 + lane % 16, j + lane / 16));
			dsocr_mma_bf16(st->o[j], p, b);
			dsocr_mma_bf16(st->o[j + 1], p, b + 2);
		}
	}
}

/* The second half of the warps gives its state to the first through shared memory. */
template <int D>
static __device__ __forceinline__ void
prefill_join(PrefillState<D> *st, float *shared, int group, int half)
{
	const int each = D / 8 * 4 + 4;
	float *at = shared + group * each * 32 + (int) threadIdx.x % 32;

	for (int i = 0; i < 2; i++)
	{
		st->sum[i] += __shfl_xor_sync(0xffffffffu, st->sum[i], 1);
		st->sum[i] += __shfl_xor_sync(0xffffffffu, st->sum[i], 2);
	}
	__syncthreads();
	if (half == 1)
	{
#pragma unroll
		for (int j = 0; j < D / 8; j++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				at[(j * 4 + i) * 32] = st->o[j][i];
		for (int i = 0; i < 2; i++)
		{
			at[(D / 2 + i) * 32] = st->top[i];
			at[(D / 2 + 2 + i) * 32] = st->sum[i];
		}
	}
	__syncthreads();
	if (half == 1)
		return;
#pragma unroll
	for (int i = 0; i < 2; i++)
	{
		float top = fmaxf(st->top[i], at[(D / 2 + i) * 32]);
		float mine = dsocr_exp2(st->top[i] - top);
		float other = dsocr_exp2(at[(D / 2 + i) * 32] - top);
		float sum = mine * st->sum[i] + other * at[(D / 2 + 2 + i) * 32];

#pragma unroll
		for (int j = 0; j < D / 8; j++)
#pragma unroll
			for (int k = 2 * i; k < 2 * i + 2; k++)
				st->o[j][k] = (mine * st->o[j][k] + other * at[(j * 4 + k) * 32]) / sum;
	}
}

template <int D>
static __device__ __forceinline__ void
prefill_leave(const PrefillState<D> *st, const Prefill &a, int row, int n, int head)
{
	int lane = (int) threadIdx.x % 32;

#pragma unroll
	for (int half = 0; half < 2; half++)
	{
		int at = row + lane / 4 + half * 8;
		__nv_bfloat16 *to =
			a.out + ((size_t) at * (size_t) a.heads + (size_t) head) * D + lane % 4 * 2;

		if (at < n)
#pragma unroll
			for (int j = 0; j < D / 8; j++)
				*(uint32_t *) (to + j * 8) =
					dsocr_pack_bf16(st->o[j][2 * half], st->o[j][2 * half + 1]);
	}
}

/* Zeros for the block's rows of a head. */
template <int D>
static __device__ __forceinline__ void
prefill_zeros(const Prefill &a, int row, int n, int head)
{
	for (int i = (int) threadIdx.x; i < PREFILL_ROWS * D; i += PREFILL_THREADS)
		if (row + i / D < n)
			a.out[((size_t) (row + i / D) * (size_t) a.heads + (size_t) head) * D +
				  (size_t) (i % D)] = __float2bfloat16_rn(0.0f);
}

/* Blocks by tile of rows, the last and longest first, and head. */
template <int D>
static __global__ void
__launch_bounds__(PREFILL_THREADS, 1) kv_prefill_kernel(Prefill a, DsocrCudaRows rows)
{
	unsigned char *stages = dsocr_shared<unsigned char>();
	int warp = __shfl_sync(0xffffffffu, (int) threadIdx.x / 32, 0);
	int group = warp % PREFILL_GROUPS;
	int half = warp / PREFILL_GROUPS;
	int head = (int) blockIdx.y;
	int row = (int) (gridDim.x - 1 - blockIdx.x) * PREFILL_ROWS;
	int end = row + PREFILL_ROWS < rows.n ? row + PREFILL_ROWS : rows.n;
	int slot;
	int last = rows.first + end - 1; /* position */
	int steps = last / PREFILL_KEYS + 1;
	int position = rows.first + row + group * 16; /* of the warp's first row */
	const int32_t *list;
	int pages[PREFILL_HALVES];
	PrefillState<D> st;

	dsocr_grid_wait();
	dsocr_grid_release();
	slot = rows.slots[0];
	list = rows.pages + (size_t) (slot < 0 ? 0 : slot) * (size_t) rows.max_pages;
	if (slot < 0 || last >= rows.max_pages * PREFILL_PAGE)
	{
		prefill_zeros<D>(a, row, rows.n, head);
		return;
	}
#pragma unroll
	for (int i = 0; i < PREFILL_STAGES - 1; i++)
	{
		prefill_pages(pages, list, i * PREFILL_KEYS, last);
		if (i < steps)
			prefill_fetch<D>(stages + i * prefill_stage<D>(), a, pages, head, i * PREFILL_KEYS,
							 last);
		dsocr_cp_async_commit();
	}
	prefill_pages(pages, list, (PREFILL_STAGES - 1) * PREFILL_KEYS, last);
	prefill_start<D>(&st, a, row + group * 16, rows.n, head);
	for (int step = 0; step < steps; step++)
	{
		int ahead = step + PREFILL_STAGES - 1;
		int first = step * PREFILL_KEYS + half * PREFILL_PAGE;
		const unsigned char *keys =
			stages + step % PREFILL_STAGES * prefill_stage<D>() + half * PREFILL_PAGE * D * 2;

		dsocr_cp_async_wait<PREFILL_STAGES - 2>();
		__syncthreads();
		if (ahead < steps)
			prefill_fetch<D>(stages + ahead % PREFILL_STAGES * prefill_stage<D>(), a, pages, head,
							 ahead * PREFILL_KEYS, last);
		dsocr_cp_async_commit();
		prefill_pages(pages, list, (ahead + 1) * PREFILL_KEYS, last);
		if (first <= position + 15)
		{
			float s[4][4];

			prefill_scores<D>(s, &st, keys);
			prefill_weights<D>(s, &st, a.scale, first + PREFILL_PAGE - 1 > position,
							   position + (int) threadIdx.x % 32 / 4, first);
			prefill_values<D>(&st, s, keys + PREFILL_KEYS * D * 2);
		}
	}
	dsocr_cp_async_wait<0>();
	prefill_join<D>(&st, (float *) stages, group, half);
	if (half == 0)
		prefill_leave<D>(&st, a, row + group * 16, rows.n, head);
}

#endif /* DSOCR_KV_PREFILL_CUH */
