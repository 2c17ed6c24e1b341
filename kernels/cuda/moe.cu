/*-------------------------------------------------------------------------
 *
 * moe.cu
 *		Routed experts.
 *
 * Nothing here waits for the device: one block sorts the choices of all rows
 * by expert and cuts them into tiles of rows, the products launch as many
 * blocks as the worst distribution needs, and blocks without a tile leave.
 *
 * The number of launches and blocks depends on rows * k alone.  Each choice
 * is computed by itself in the order of product.cuh, and a row's choices are
 * added in their order, so neighbours change nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "product.cuh"

#define SORT_WARPS 32
#define SUM_THREADS 64
#define SUM_AHEAD 8

/* ---- choices by expert ---- */

typedef struct SortArgs
{
	const int32_t *ids; /* [n] choices */
	int n;
	int experts;
	int tile_rows;
	int32_t *tiles; /* the rest as in DsocrRoutes */
	int32_t *tile_expert;
	int32_t *tile_first;
	int32_t *expert_end;
	int32_t *order;
} SortArgs;

/*
 * A warp goes over its part of the choices and counts up next[expert]; with
 * start it writes each choice to its place.
 */
static __device__ void
sort_pass(const SortArgs &a, int32_t *next, const int32_t *start, int from, int to, int lane)
{
	for (int base = from; base < to; base += 32)
	{
		int i = base + lane;
		int id = i < to ? a.ids[i] : -1;
		unsigned int same;
		int place = 0;

		if (id >= a.experts)
			id = -1;
		same = __match_any_sync(0xffffffffu, id);
		if (id >= 0)
			place = next[id] + __popc(same & ((1u << lane) - 1));
		__syncwarp();
		if (id >= 0 && same >> lane == 1)
			next[id] = place + 1;
		if (id >= 0 && start != NULL)
			a.order[start[id] + place] = i;
		__syncwarp();
	}
}

/* One block; places in the order of the choices. */
static __global__ void
__launch_bounds__(SORT_WARPS * 32) sort_kernel(const SortArgs a)
{
	int32_t *next = dsocr_shared<int32_t>(); /* [warps, experts] */
	int warps = (int) blockDim.x / 32;
	int warp = (int) threadIdx.x / 32;
	int lane = (int) threadIdx.x % 32;
	int32_t *start = next + warps * a.experts; /* [experts] */
	int32_t *count = start + a.experts;		   /* [experts] */
	int part = (a.n + warps * 32 - 1) / (warps * 32) * 32;
	int from = min(warp * part, a.n);
	int to = min(from + part, a.n);

	dsocr_grid_wait();
	dsocr_grid_release();
	for (int i = (int) threadIdx.x; i < warps * a.experts; i += (int) blockDim.x)
		next[i] = 0;
	__syncthreads();
	sort_pass(a, next + warp * a.experts, NULL, from, to, lane);
	__syncthreads();
	for (int e = (int) threadIdx.x; e < a.experts; e += (int) blockDim.x)
	{
		int sum = 0;

		for (int w = 0; w < warps; w++)
		{
			int some = next[w * a.experts + e];

			next[w * a.experts + e] = sum;
			sum += some;
		}
		count[e] = sum;
	}
	__syncthreads();
	if (warp == 0)
	{
		int places = 0;
		int tiles = 0;

		for (int base = 0; base < a.experts; base += 32)
		{
			int e = base + lane;
			int mine = e < a.experts ? count[e] : 0;
			int my_tiles = (mine + a.tile_rows - 1) / a.tile_rows;
			int upto = mine;
			int tiles_upto = my_tiles;

			for (int d = 1; d < 32; d *= 2)
			{
				int p = __shfl_up_sync(0xffffffffu, upto, d);
				int t = __shfl_up_sync(0xffffffffu, tiles_upto, d);

				upto += lane >= d ? p : 0;
				tiles_upto += lane >= d ? t : 0;
			}
			if (e < a.experts)
			{
				start[e] = places + upto - mine;
				a.expert_end[e] = places + upto;
				for (int t = 0; t < my_tiles; t++)
				{
					a.tile_expert[tiles + tiles_upto - my_tiles + t] = e;
					a.tile_first[tiles + tiles_upto - my_tiles + t] =
						places + upto - mine + t * a.tile_rows;
				}
			}
			places += __shfl_sync(0xffffffffu, upto, 31);
			tiles += __shfl_sync(0xffffffffu, tiles_upto, 31);
		}
		if (lane == 0)
			*a.tiles = tiles;
	}
	__syncthreads();
	sort_pass(a, next + warp * a.experts, start, from, to, lane);
}

/* Most tiles that n choices can make. */
static int
moe_tiles(int n, int experts, int tile_rows)
{
	return n / tile_rows + (n < experts ? n : experts);
}

/* Sort n choices; false when there is no memory for it. */
static bool
moe_sort(DsocrCuda *c, DsocrRoutes *routes, const int32_t *ids, int n, int experts, int tile_rows)
{
	int tiles = moe_tiles(n, experts, tile_rows);
	int warps = (n + 31) / 32 < SORT_WARPS ? (n + 31) / 32 : SORT_WARPS;
	size_t ints = 1 + 2 * (size_t) tiles + (size_t) experts + (size_t) n;
	int32_t *at = (int32_t *) dsocr_cuda_scratch(c, DSOCR_SCRATCH_ROUTES, ints * sizeof(int32_t));
	SortArgs a = {};

	if (at == NULL)
		return false;
	a.ids = ids;
	a.n = n;
	a.experts = experts;
	a.tile_rows = tile_rows;
	a.tiles = at;
	a.tile_expert = a.tiles + 1;
	a.tile_first = a.tile_expert + tiles;
	a.expert_end = a.tile_first + tiles;
	a.order = a.expert_end + experts;
	routes->tiles = a.tiles;
	routes->tile_expert = a.tile_expert;
	routes->tile_first = a.tile_first;
	routes->expert_end = a.expert_end;
	routes->order = a.order;
	return dsocr_cuda_check(
		c,
		dsocr_launch_early(c->early, sort_kernel, dim3(1), dim3((unsigned int) warps * 32),
						   (size_t) (warps + 2) * (size_t) experts * sizeof(int32_t), c->stream, a),
		"expert order");
}

/* ---- weighted sum ---- */

typedef struct SumArgs
{
	void *y;			  /* [rows, hidden] */
	const float *outputs; /* [rows, k, hidden] */
	const int32_t *ids;	  /* [rows, k] */
	const float *weights; /* [rows, k] */
	const void *residual; /* [rows, hidden] or NULL */
	int hidden;
	int k;
	int experts;
	int pieces; /* blocks a row */
} SumArgs;

template <int VEC>
static __device__ __forceinline__ void
sum_load(float v[VEC], const float *from)
{
	if (VEC == 4)
	{
		float4 f = *(const float4 *) from;

		v[0] = f.x;
		v[1 % VEC] = f.y;
		v[2 % VEC] = f.z;
		v[3 % VEC] = f.w;
	}
	else
		v[0] = from[0];
}

template <int VEC>
static __device__ __forceinline__ void
sum_load(float v[VEC], const __nv_bfloat16 *from)
{
	if (VEC == 4)
	{
		uint2 u = *(const uint2 *) from;
		float2 lo = dsocr_unpack_bf16(u.x);
		float2 hi = dsocr_unpack_bf16(u.y);

		v[0] = lo.x;
		v[1 % VEC] = lo.y;
		v[2 % VEC] = hi.x;
		v[3 % VEC] = hi.y;
	}
	else
		v[0] = dsocr_to_float(from[0]);
}

template <int VEC>
static __device__ __forceinline__ void
sum_store(float *to, const float v[VEC])
{
	if (VEC == 4)
		*(float4 *) to = make_float4(v[0], v[1 % VEC], v[2 % VEC], v[3 % VEC]);
	else
		to[0] = v[0];
}

template <int VEC>
static __device__ __forceinline__ void
sum_store(__nv_bfloat16 *to, const float v[VEC])
{
	if (VEC == 4)
		*(uint2 *) to =
			make_uint2(dsocr_pack_bf16(v[0], v[1 % VEC]), dsocr_pack_bf16(v[2 % VEC], v[3 % VEC]));
	else
		to[0] = dsocr_from_float<__nv_bfloat16>(v[0]);
}

/* VEC channels a thread, SUM_AHEAD choices loaded at once. */
template <typename T, int VEC>
static __global__ void
__launch_bounds__(SUM_THREADS) sum_kernel(const SumArgs a)
{
	size_t row = blockIdx.x / (unsigned int) a.pieces;
	int col = (int) (blockIdx.x % (unsigned int) a.pieces * SUM_THREADS + threadIdx.x) * VEC;
	float sum[VEC] = {};
	float old[VEC] = {};
	size_t at = row * (size_t) a.hidden + (size_t) col;

	dsocr_grid_wait();
	dsocr_grid_release();
	if (col >= a.hidden)
		return;
	if (a.residual != NULL)
		sum_load<VEC>(old, (const T *) a.residual + at);
	for (int j0 = 0; j0 < a.k; j0 += SUM_AHEAD)
	{
		float from[SUM_AHEAD][VEC] = {};
		float weight[SUM_AHEAD];
		bool there[SUM_AHEAD];

#pragma unroll
		for (int u = 0; u < SUM_AHEAD; u++)
		{
			size_t choice = row * (size_t) a.k + (size_t) (j0 + u);
			int id = j0 + u < a.k ? a.ids[choice] : -1;

			there[u] = id >= 0 && id < a.experts;
			weight[u] = there[u] ? a.weights[choice] : 0.0f;
			if (there[u])
				sum_load<VEC>(from[u], a.outputs + choice * (size_t) a.hidden + (size_t) col);
		}
#pragma unroll
		for (int u = 0; u < SUM_AHEAD; u++)
#pragma unroll
			for (int i = 0; i < VEC; i++)
				sum[i] = there[u] ? fmaf(weight[u], from[u][i], sum[i]) : sum[i];
	}
#pragma unroll
	for (int i = 0; i < VEC; i++)
		sum[i] += old[i];
	sum_store<VEC>((T *) a.y + at, sum);
}

template <typename T>
static cudaError_t
moe_sum(DsocrCuda *c, SumArgs *a, int rows)
{
	bool whole =
		a->hidden % 4 == 0 && (uintptr_t) a->y % 16 == 0 && (uintptr_t) a->residual % 16 == 0;
	int cols = SUM_THREADS * (whole ? 4 : 1);

	a->pieces = (a->hidden + cols - 1) / cols;
	return dsocr_launch_early(c->early, whole ? sum_kernel<T, 4> : sum_kernel<T, 1>,
							  dim3((unsigned int) rows * (unsigned int) a->pieces),
							  dim3(SUM_THREADS), 0, c->stream, *a);
}

/* ---- the experts ---- */

void
dsocr_cuda_experts(DsocrBackend *be, void *y, const void *x, int rows, const int32_t *ids,
				   const float *weights, int k, const DsocrExperts *experts, const void *residual,
				   int /* unit */)
{
	DsocrCuda *c = (DsocrCuda *) be;
	int n = rows * k;
	int tile_rows = dsocr_cuda_tile_rows(c, rows, experts->hidden, experts->inter, n / experts->n);
	DsocrProduct up = {};
	DsocrProduct down = {};
	SumArgs sum = {};
	void *hidden;
	float *outputs;

	if (n <= 0)
		return;
	hidden = dsocr_cuda_scratch(c, DSOCR_SCRATCH_EXPERTS,
								(size_t) n * (size_t) experts->inter * be->act_size);
	outputs = (float *) dsocr_cuda_scratch(c, DSOCR_SCRATCH_OUTPUTS,
										   (size_t) n * (size_t) experts->hidden * sizeof(float));
	if (hidden == NULL || outputs == NULL ||
		!moe_sort(c, &up.routes, ids, n, experts->n, tile_rows))
		return;

	up.routed = true;
	up.m = rows;
	up.tile_rows = tile_rows;
	up.tiles = moe_tiles(n, experts->n, tile_rows);
	up.x = x;
	up.x_div = k;
	up.w = experts->gate_up;
	up.y = hidden;
	up.n = experts->inter;
	up.k = experts->hidden;
	up.ldw = experts->ld_hidden;
	up.pairs = true;
	dsocr_cuda_product(c, &up, "experts up");

	down.routed = true;
	down.m = rows;
	down.routes = up.routes;
	down.ahead = c->early;
	down.tile_rows = tile_rows;
	down.tiles = up.tiles;
	down.x = hidden;
	down.w = experts->down;
	down.y = outputs;
	down.y_order = true;
	down.wide = true;
	down.n = experts->hidden;
	down.k = experts->inter;
	down.ldw = experts->ld_inter;
	dsocr_cuda_product(c, &down, "experts down");

	sum.y = y;
	sum.outputs = outputs;
	sum.ids = ids;
	sum.weights = weights;
	sum.residual = residual;
	sum.hidden = experts->hidden;
	sum.k = k;
	sum.experts = experts->n;
	dsocr_cuda_check(c,
					 dsocr_cuda_bf16(c) ? moe_sum<__nv_bfloat16>(c, &sum, rows)
										: moe_sum<float>(c, &sum, rows),
					 "experts sum");
}
