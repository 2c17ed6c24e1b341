/*-------------------------------------------------------------------------
 *
 * kv_decode.cuh
 *		Attention of mixed rows over bf16 pages of 32 positions.
 *
 * One query a row: every key and value is read once, and nothing but reading
 * them takes time.  A row's context is cut into parts, an item of work is one
 * part of one head, and a fixed number of blocks takes items from a list that
 * each block makes for itself out of the lengths of the texts; so the launch
 * is the same for all lengths.  In a block each warp streams every fourth
 * page of the part through registers, the next tile on its way while this one
 * is used.  The block that finishes the last part of a head puts the parts
 * together in their order.
 *
 * How a context is cut depends on its own length alone: parts of 128
 * positions, longer ones where that would be more than 16.  So a row's result
 * does not depend on the other rows, nor on which block computes what.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_KV_DECODE_CUH
#define DSOCR_KV_DECODE_CUH

#include "cuda.h"

#define DECODE_THREADS 128
#define DECODE_WARPS (DECODE_THREADS / 32)
#define DECODE_BLOCKS 4 /* on a multiprocessor */
#define DECODE_PAGE 32	/* positions */
#define DECODE_UNIT (DECODE_WARPS * DECODE_PAGE)
#define DECODE_PARTS 16
#define DECODE_LOADS 8	   /* of 16 bytes that a lane has under way, for keys and for values */
#define DECODE_NONE -1e30f /* largest score of no scores: finite, so that differences are too */
#define DECODE_ROWS_EACH (DSOCR_CUDA_MAX_ROWS / DECODE_THREADS)

/* Counters of DsocrKv. */
#define DECODE_TAKEN 0	  /* items beyond the first of each block */
#define DECODE_FINISHED 1 /* blocks */
#define DECODE_HEADS 2	  /* first of [rows, heads]: parts that are done */

/* Arguments of the kernel. */
typedef struct Decode
{
	__nv_bfloat16 *out;			/* [rows, heads * D] */
	const __nv_bfloat16 *qkv;	/* [rows, 3 * heads * D] */
	const __nv_bfloat16 *layer; /* of the pages */
	size_t page_elements;
	float *parts;  /* [rows, heads, DECODE_PARTS, D]: outputs, not divided yet */
	float2 *sums;  /* [rows, heads, DECODE_PARTS]: largest score, sum of exponentials */
	int *counters; /* see above */
	int heads;
	float scale; /* to scores in powers of two */
} Decode;

/* Rows of this run; parts of row r are start[r] .. start[r + 1) - 1. */
typedef struct DecodeList
{
	int start[DSOCR_CUDA_MAX_ROWS + 1];
	int slot[DSOCR_CUDA_MAX_ROWS];
	int n[DSOCR_CUDA_MAX_ROWS]; /* positions; 0 without slot */
} DecodeList;

/* What one block is to do: positions first .. end - 1. */
typedef struct DecodeItem
{
	int row; /* -1: nothing is left */
	int head;
	int part;
	int parts;
	int first;
	int end;
} DecodeItem;

/* Partial results of the warps of a block. */
template <int D> struct DecodeMerge
{
	float o[DECODE_WARPS][D];
	float top[DECODE_WARPS];
	float sum[DECODE_WARPS];
};

/*
 * A value that is the same in all lanes, so that the compiler knows it to be:
 * otherwise it expects the lanes to part at every branch, and puts each
 * shuffle behind one.
 */
static __device__ __forceinline__ int
decode_uniform(int v)
{
	return __shfl_sync(0xffffffffu, v, 0);
}

/* Positions of a part of a context of n. */
static __device__ __forceinline__ int
decode_part_size(int n)
{
	int units = (n + DECODE_UNIT - 1) / DECODE_UNIT;
	int each = (units + DECODE_PARTS - 1) / DECODE_PARTS;

	return (each > 0 ? each : 1) * DECODE_UNIT;
}

/* A row without slot has one part of no positions, which leaves zeros. */
static __device__ __forceinline__ int
decode_parts(int n)
{
	int size = decode_part_size(n);

	return n > 0 ? (n + size - 1) / size : 1;
}

/* All threads; behind it comes a barrier. */
static __device__ void
decode_list(DecodeList *list, const DsocrCudaRows &rows)
{
	__shared__ int totals[DECODE_WARPS];
	int tid = (int) threadIdx.x;
	int counts[DECODE_ROWS_EACH];
	int sum = 0;
	int before;

#pragma unroll
	for (int i = 0; i < DECODE_ROWS_EACH; i++)
	{
		int row = tid * DECODE_ROWS_EACH + i;
		int slot = row < rows.n ? dsocr_row_slot(rows, row) : -1;
		int n = slot < 0 ? 0 : dsocr_row_position(rows, row, slot) + 1;

		if (n > rows.max_pages * DECODE_PAGE)
			n = rows.max_pages * DECODE_PAGE;
		counts[i] = row < rows.n ? decode_parts(n) : 0;
		list->slot[row] = slot;
		list->n[row] = n;
		sum += counts[i];
	}
	before = sum;
	for (int d = 1; d < 32; d *= 2)
	{
		int other = __shfl_up_sync(0xffffffffu, before, (unsigned int) d);

		if (tid % 32 >= d)
			before += other;
	}
	if (tid % 32 == 31)
		totals[tid / 32] = before;
	before -= sum;
	__syncthreads();
	for (int w = 0; w < tid / 32; w++)
		before += totals[w];
#pragma unroll
	for (int i = 0; i < DECODE_ROWS_EACH; i++)
	{
		list->start[tid * DECODE_ROWS_EACH + i] = before;
		before += counts[i];
	}
	if (tid == DECODE_THREADS - 1)
		list->start[DSOCR_CUDA_MAX_ROWS] = before;
}

/* Item number i; heads of a part are neighbours. */
static __device__ DecodeItem
decode_item(const DecodeList *list, int i, int heads, int n_rows)
{
	DecodeItem item = {-1, 0, 0, 0, 0, 0};
	int at = i / heads;
	int low = 0;
	int high = n_rows;
	int size;

	if (at >= list->start[DSOCR_CUDA_MAX_ROWS])
		return item;
	while (high - low > 1)
	{
		int middle = (low + high) / 2;

		if (list->start[middle] <= at)
			low = middle;
		else
			high = middle;
	}
	item.row = low;
	item.head = i % heads;
	item.part = at - list->start[low];
	item.parts = list->start[low + 1] - list->start[low];
	size = decode_part_size(list->n[low]);
	item.first = item.part * size;
	item.end = item.first + size < list->n[low] ? item.first + size : list->n[low];
	return item;
}

static __device__ __forceinline__ DecodeItem
decode_uniform_item(const DecodeItem *shared)
{
	DecodeItem item;

	item.row = decode_uniform(shared->row);
	item.head = decode_uniform(shared->head);
	item.part = decode_uniform(shared->part);
	item.parts = decode_uniform(shared->parts);
	item.first = decode_uniform(shared->first);
	item.end = decode_uniform(shared->end);
	return item;
}

/* ---- streaming ---- */

/* A lane's state: 8 of the D dimensions of every position that its lane group sees. */
typedef struct DecodeState
{
	float q[8]; /* scaled */
	float o[8];
	float top;
	float sum;
} DecodeState;

/*
 * DECODE_LOADS times 16 bytes; lane groups of D / 8 lanes take a position
 * each.  Positions behind `last` repeat it: they are never counted, and what
 * lies there may be anything.
 */
template <int D>
static __device__ __forceinline__ void
decode_load(uint4 x[DECODE_LOADS], const __nv_bfloat16 *tile, int last)
{
	int lane = (int) threadIdx.x % 32;

#pragma unroll
	for (int j = 0; j < DECODE_LOADS; j++)
	{
		int at = j * (256 / D) + lane / (D / 8);

		at = at < last ? at : last;
		x[j] = dsocr_load_stream(tile + at * D + lane % (D / 8) * 8);
	}
}

/* What this lane's dimensions give to the scores. */
static __device__ __forceinline__ void
decode_dots(float s[DECODE_LOADS], const uint4 k[DECODE_LOADS], const float q[8])
{
#pragma unroll
	for (int j = 0; j < DECODE_LOADS; j++)
	{
		const uint32_t pairs[4] = {k[j].x, k[j].y, k[j].z, k[j].w};

		s[j] = 0;
#pragma unroll
		for (int i = 0; i < 4; i++)
		{
			float2 f = dsocr_unpack_bf16(pairs[i]);

			s[j] += q[2 * i] * f.x;
			s[j] += q[2 * i + 1] * f.y;
		}
	}
}

/* The sum over the lane group; -inf for positions behind `last`. */
template <int D>
static __device__ __forceinline__ void
decode_scores(float s[DECODE_LOADS], int last)
{
	int lane = (int) threadIdx.x % 32;

#pragma unroll
	for (int d = D / 16; d > 0; d /= 2)
#pragma unroll
		for (int j = 0; j < DECODE_LOADS; j++)
			s[j] += __shfl_xor_sync(0xffffffffu, s[j], d);
#pragma unroll
	for (int j = 0; j < DECODE_LOADS; j++)
		if (j * (256 / D) + lane / (D / 8) > last)
			s[j] = -INFINITY;
}

/* Scores to weights; what was summed so far is brought to the new largest score. */
static __device__ __forceinline__ void
decode_weights(DecodeState *st, float s[DECODE_LOADS])
{
	float top = st->top;
	float shrink;

#pragma unroll
	for (int j = 0; j < DECODE_LOADS; j++)
		top = fmaxf(top, s[j]);
	shrink = dsocr_exp2(st->top - top);
	st->top = top;
	st->sum *= shrink;
#pragma unroll
	for (int i = 0; i < 8; i++)
		st->o[i] *= shrink;
#pragma unroll
	for (int j = 0; j < DECODE_LOADS; j++)
	{
		s[j] = dsocr_exp2(s[j] - top);
		st->sum += s[j];
	}
}

static __device__ __forceinline__ void
decode_values(DecodeState *st, const float weights[DECODE_LOADS], const uint4 v[DECODE_LOADS])
{
#pragma unroll
	for (int j = 0; j < DECODE_LOADS; j++)
	{
		const uint32_t pairs[4] = {v[j].x, v[j].y, v[j].z, v[j].w};

#pragma unroll
		for (int i = 0; i < 4; i++)
		{
			float2 f = dsocr_unpack_bf16(pairs[i]);

			st->o[2 * i] += weights[j] * f.x;
			st->o[2 * i + 1] += weights[j] * f.y;
		}
	}
}

/* First position of a warp's tile number t. */
template <int D>
static __device__ __forceinline__ int
decode_position(int first, int warp, int t)
{
	const int tile = DECODE_LOADS * 256 / D;
	const int tiles = DECODE_PAGE / tile;

	return first + (t / tiles * DECODE_WARPS + warp) * DECODE_PAGE + t % tiles * tile;
}

/*
 * Keys of the head at `position`, which starts tile t.  The lanes hold the
 * page numbers of the warp's next 32 pages.
 */
template <int D>
static __device__ __forceinline__ const __nv_bfloat16 *
decode_tile(const Decode &a, const int32_t *pages, int max_pages, const DecodeItem &item, int *mine,
			int t, int position)
{
	const int tiles = DECODE_PAGE * D / (DECODE_LOADS * 256);
	int number = t / tiles;
	int page;

	if (number % 32 == 0 && t % tiles == 0)
	{
		int at = position / DECODE_PAGE + (int) threadIdx.x % 32 * DECODE_WARPS;

		*mine = at < max_pages && at * DECODE_PAGE < item.end ? pages[at] : 0;
	}
	page = __shfl_sync(0xffffffffu, *mine, number % 32);
	return a.layer + (size_t) (page < 0 ? 0 : page) * a.page_elements +
		   (size_t) (item.head * DECODE_PAGE + position % DECODE_PAGE) * D;
}

/* The warp's pages of the item. */
template <int D>
static __device__ __forceinline__ void
decode_stream(DecodeState *st, const Decode &a, const int32_t *pages, int max_pages,
			  const DecodeItem &item)
{
	size_t values = a.page_elements / 2;
	uint4 k[DECODE_LOADS];
	uint4 v[DECODE_LOADS];
	float s[DECODE_LOADS];
	const __nv_bfloat16 *tile;
	int warp = decode_uniform((int) threadIdx.x / 32);
	int position = decode_position<D>(item.first, warp, 0);
	int mine = 0;

	if (position >= item.end)
		return;
	tile = decode_tile<D>(a, pages, max_pages, item, &mine, 0, position);
	decode_load<D>(k, tile, item.end - 1 - position);
	decode_load<D>(v, tile + values, item.end - 1 - position);
	for (int t = 1;; t++)
	{
		int next = decode_position<D>(item.first, warp, t);
		bool more = next < item.end;

		decode_dots(s, k, st->q);
		if (more)
		{
			tile = decode_tile<D>(a, pages, max_pages, item, &mine, t, next);
			decode_load<D>(k, tile, item.end - 1 - next);
		}
		decode_scores<D>(s, item.end - 1 - position);
		decode_weights(st, s);
		decode_values(st, s, v);
		if (!more)
			break;
		decode_load<D>(v, tile + values, item.end - 1 - next);
		position = next;
	}
}

/* ---- putting together ---- */

/* The lane groups' states to one, in the first group. */
template <int D>
static __device__ __forceinline__ void
decode_join_lanes(DecodeState *st)
{
	float top = st->top;
	float shrink;

#pragma unroll
	for (int d = D / 8; d < 32; d *= 2)
		top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
	shrink = dsocr_exp2(st->top - top);
	st->top = top;
	st->sum *= shrink;
#pragma unroll
	for (int i = 0; i < 8; i++)
		st->o[i] *= shrink;
#pragma unroll
	for (int d = D / 8; d < 32; d *= 2)
	{
		st->sum += __shfl_xor_sync(0xffffffffu, st->sum, d);
#pragma unroll
		for (int i = 0; i < 8; i++)
			st->o[i] += __shfl_xor_sync(0xffffffffu, st->o[i], d);
	}
}

/* Dimension threadIdx.x of the block's result; top and sum as well. */
template <int D>
static __device__ __forceinline__ float
decode_join_warps(DecodeMerge<D> *merge, DecodeState *st)
{
	int lane = (int) threadIdx.x % 32;
	int warp = (int) threadIdx.x / 32;
	float o = 0;

	decode_join_lanes<D>(st);
	if (lane < D / 8)
	{
		float4 *to = (float4 *) &merge->o[warp][lane * 8];

		to[0] = make_float4(st->o[0], st->o[1], st->o[2], st->o[3]);
		to[1] = make_float4(st->o[4], st->o[5], st->o[6], st->o[7]);
	}
	if (lane == 0)
	{
		merge->top[warp] = st->top;
		merge->sum[warp] = st->sum;
	}
	__syncthreads();
	st->top = merge->top[0];
	for (int w = 1; w < DECODE_WARPS; w++)
		st->top = fmaxf(st->top, merge->top[w]);
	st->sum = 0;
	for (int w = 0; w < DECODE_WARPS; w++)
	{
		float shrink = dsocr_exp2(merge->top[w] - st->top);

		st->sum += shrink * merge->sum[w];
		o += shrink * merge->o[w][threadIdx.x % D];
	}
	return o;
}

/* The parts of one head of a row, in their order. */
template <int D>
static __device__ __forceinline__ float
decode_join_parts(const Decode &a, size_t at, int parts)
{
	const float2 *sums = a.sums + at * DECODE_PARTS;
	const float *o = a.parts + at * DECODE_PARTS * D + threadIdx.x % D;
	float top = DECODE_NONE;
	float sum = 0;
	float out = 0;

	for (int i = 0; i < parts; i++)
		top = fmaxf(top, __ldcg(&sums[i]).x);
	for (int i = 0; i < parts; i++)
	{
		float2 part = __ldcg(&sums[i]);
		float shrink = dsocr_exp2(part.x - top);

		sum += shrink * part.y;
		out += shrink * __ldcg(&o[(size_t) i * D]);
	}
	return out / sum;
}

/* Leave the item's result; the last block of a head's parts writes the output. */
template <int D>
static __device__ __forceinline__ void
decode_leave(const Decode &a, const DecodeItem &item, DecodeMerge<D> *merge, int *last,
			 DecodeState *st)
{
	size_t at = (size_t) item.row * (size_t) a.heads + (size_t) item.head;
	float o = decode_join_warps<D>(merge, st);
	int tid = (int) threadIdx.x;

	if (item.parts == 1)
	{
		if (tid < D)
			a.out[at * D + (size_t) tid] = __float2bfloat16_rn(st->sum > 0 ? o / st->sum : 0.0f);
		return;
	}
	if (tid < D)
		a.parts[(at * DECODE_PARTS + (size_t) item.part) * D + (size_t) tid] = o;
	if (tid == 0)
		a.sums[at * DECODE_PARTS + (size_t) item.part] = make_float2(st->top, st->sum);
	__syncthreads();
	if (tid == 0)
	{
		int *done = a.counters + DECODE_HEADS + at;

		__threadfence(); /* of what the whole block wrote: the barrier came first */
		*last = atomicAdd(done, 1) == item.parts - 1;
		if (*last)
			atomicExch(done, 0);
	}
	__syncthreads();
	if (!*last)
		return;
	__threadfence();
	o = decode_join_parts<D>(a, at, item.parts);
	if (tid < D)
		a.out[at * D + (size_t) tid] = __float2bfloat16_rn(o);
}

template <int D>
static __device__ __forceinline__ void
decode_start(DecodeState *st, const Decode &a, const DecodeItem &item)
{
	size_t dim = (size_t) a.heads * D;
	uint4 q = *(const uint4 *) (a.qkv + (size_t) item.row * 3 * dim + (size_t) item.head * D +
								threadIdx.x % (D / 8) * 8);
	const uint32_t pairs[4] = {q.x, q.y, q.z, q.w};

#pragma unroll
	for (int i = 0; i < 4; i++)
	{
		float2 f = dsocr_unpack_bf16(pairs[i]);

		st->q[2 * i] = f.x * a.scale;
		st->q[2 * i + 1] = f.y * a.scale;
	}
#pragma unroll
	for (int i = 0; i < 8; i++)
		st->o[i] = 0;
	st->top = DECODE_NONE;
	st->sum = 0;
}

template <int D>
static __global__ void
__launch_bounds__(DECODE_THREADS, DECODE_BLOCKS) kv_decode_kernel(Decode a, DsocrCudaRows rows)
{
	__shared__ DecodeList list;
	__shared__ __align__(16) DecodeMerge<D> merge;
	__shared__ DecodeItem shared_item;
	__shared__ int last;
	bool leader = threadIdx.x == 0;

	dsocr_grid_wait();
	dsocr_grid_release();
	decode_list(&list, rows);
	__syncthreads();
	if (leader)
		shared_item = decode_item(&list, (int) blockIdx.x, a.heads, rows.n);
	__syncthreads();
	for (;;)
	{
		DecodeItem item = decode_uniform_item(&shared_item);
		DecodeState st;
		const int32_t *pages;
		int next = 0;

		if (item.row < 0)
			break;
		if (leader) /* early, because it takes a while to arrive */
			next = (int) gridDim.x + atomicAdd(a.counters + DECODE_TAKEN, 1);
		decode_start<D>(&st, a, item);
		pages = rows.pages + (size_t) (list.slot[item.row] < 0 ? 0 : list.slot[item.row]) *
								 (size_t) rows.max_pages;
		decode_stream<D>(&st, a, pages, rows.max_pages, item);
		decode_leave<D>(a, item, &merge, &last, &st);
		__syncthreads();
		if (leader)
			shared_item = decode_item(&list, next, a.heads, rows.n);
		__syncthreads();
	}
	if (leader && atomicAdd(a.counters + DECODE_FINISHED, 1) == (int) gridDim.x - 1)
	{
		atomicExch(a.counters + DECODE_TAKEN, 0);
		atomicExch(a.counters + DECODE_FINISHED, 0);
	}
}

#endif /* DSOCR_KV_DECODE_CUH */
