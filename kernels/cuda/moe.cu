/*-------------------------------------------------------------------------
 *
 * moe.cu
 *		Router and routed experts.
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

#define ROUTER_WARPS 16
#define ROUTER_EXPERTS 4 /* at once for a warp */
#define SORT_WARPS 32
#define SUM_THREADS 64

static __device__ __forceinline__ float
moe_warp_sum(float v)
{
	for (int d = 16; d > 0; d /= 2)
		v += __shfl_xor_sync(0xffffffffu, v, d);
	return v;
}

static __device__ __forceinline__ float
moe_warp_max(float v)
{
	for (int d = 16; d > 0; d /= 2)
		v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
	return v;
}

/* ---- router ---- */

/* Eight elements of a row, zeros behind its end; aligned says that all rows are whole. */
static __device__ __forceinline__ void
router_load(float v[8], const __nv_bfloat16 *row, int at, int k, bool aligned)
{
	if (aligned)
	{
		uint4 u = at < k ? *(const uint4 *) (row + at) : make_uint4(0, 0, 0, 0);
		uint32_t w[4] = {u.x, u.y, u.z, u.w};

#pragma unroll
		for (int i = 0; i < 4; i++)
		{
			float2 f = dsocr_unpack_bf16(w[i]);

			v[2 * i] = f.x;
			v[2 * i + 1] = f.y;
		}
		return;
	}
#pragma unroll
	for (int i = 0; i < 8; i++)
		v[i] = at + i < k ? dsocr_to_float(row[at + i]) : 0.0f;
}

static __device__ __forceinline__ void
router_load(float v[8], const float *row, int at, int k, bool aligned)
{
#pragma unroll
	for (int i = 0; i < 8; i++)
		v[i] = at + i < k ? row[at + i] : 0.0f;
}

typedef struct RouterArgs
{
	int32_t *ids;	  /* [n, k] */
	float *weights;	  /* [n, k] */
	float *logits;	  /* [n, experts] or NULL */
	const void *x;	  /* [n, hidden] */
	const void *gate; /* [experts, ld] */
	int n;
	int hidden;
	int ld;
	int experts;
	int k;
	bool aligned; /* rows of x are whole groups of 16 bytes */
	DsocrCudaRows rows;
} RouterArgs;

/* Softmax of a row's logits p[experts] in place and its k largest; one warp. */
static __device__ void
router_choose(const RouterArgs &a, float *p, int row, int lane)
{
	bool idle = a.rows.mixed && dsocr_row_slot(a.rows, row) < 0;
	float top = -INFINITY;
	float sum = 0;

	for (int e = lane; e < a.experts; e += 32)
		top = fmaxf(top, p[e]);
	top = moe_warp_max(top);
	for (int e = lane; e < a.experts; e += 32)
	{
		p[e] = expf(p[e] - top);
		sum += p[e];
	}
	sum = moe_warp_sum(sum);
	for (int e = lane; e < a.experts; e += 32)
		p[e] /= sum;
	for (int c = 0; c < a.k; c++)
	{
		float best = -1.0f;
		int id = -1;

		for (int e = lane; e < a.experts; e += 32)
			if (p[e] > best)
			{
				best = p[e];
				id = e;
			}
		for (int d = 16; d > 0; d /= 2)
		{
			float other = __shfl_xor_sync(0xffffffffu, best, d);
			int other_id = __shfl_xor_sync(0xffffffffu, id, d);

			if (other > best || (other == best && other_id >= 0 && (id < 0 || other_id < id)))
			{
				best = other;
				id = other_id;
			}
		}
		if (lane == 0)
		{
			a.ids[(size_t) row * (size_t) a.k + (size_t) c] = idle ? -1 : id;
			a.weights[(size_t) row * (size_t) a.k + (size_t) c] = idle || id < 0 ? 0.0f : best;
		}
		if (id >= 0 && id % 32 == lane)
			p[id] = -1.0f;
	}
}

/*
 * ROWS rows a block: each warp takes ROUTER_EXPERTS experts at a time, each
 * lane every 32nd group of 8 channels, in fp32.  A row's sums are the same
 * for any ROWS.
 */
template <typename T, int ROWS>
static __global__ void
__launch_bounds__(ROUTER_WARPS * 32) router_kernel(const RouterArgs a)
{
	float *p = dsocr_shared<float>(); /* [ROWS, experts] */
	int warp = (int) threadIdx.x / 32;
	int lane = (int) threadIdx.x % 32;
	int first = (int) blockIdx.x * ROWS;

	for (int e0 = warp * ROUTER_EXPERTS; e0 < a.experts; e0 += ROUTER_WARPS * ROUTER_EXPERTS)
	{
		float acc[ROWS][ROUTER_EXPERTS] = {};

		for (int at = lane * 8; at < a.hidden; at += 256)
		{
			float x[ROWS][8];

#pragma unroll
			for (int r = 0; r < ROWS; r++)
				router_load(x[r],
							(const T *) a.x + (size_t) min(first + r, a.n - 1) * (size_t) a.hidden,
							at, a.hidden, a.aligned);
#pragma unroll
			for (int e = 0; e < ROUTER_EXPERTS; e++)
			{
				float g[8];

				router_load(
					g, (const T *) a.gate + (size_t) min(e0 + e, a.experts - 1) * (size_t) a.ld, at,
					a.hidden, true);
#pragma unroll
				for (int r = 0; r < ROWS; r++)
#pragma unroll
					for (int i = 0; i < 8; i++)
						acc[r][e] = fmaf(x[r][i], g[i], acc[r][e]);
			}
		}
#pragma unroll
		for (int r = 0; r < ROWS; r++)
#pragma unroll
			for (int e = 0; e < ROUTER_EXPERTS; e++)
			{
				float v = moe_warp_sum(acc[r][e]);

				if (lane == 0 && e0 + e < a.experts)
					p[r * a.experts + e0 + e] = v;
			}
	}
	__syncthreads();
	if (warp >= ROWS || first + warp >= a.n)
		return;
	if (a.logits != NULL)
		for (int e = lane; e < a.experts; e += 32)
			a.logits[(size_t) (first + warp) * (size_t) a.experts + (size_t) e] =
				p[warp * a.experts + e];
	__syncwarp();
	router_choose(a, p + warp * a.experts, first + warp, lane);
}

template <typename T, int ROWS>
static cudaError_t
router_launch(DsocrCuda *c, const RouterArgs *a)
{
	dim3 grid((unsigned int) ((a->n + ROWS - 1) / ROWS));

	return dsocr_launch(router_kernel<T, ROWS>, grid, dim3(ROUTER_WARPS * 32),
						(size_t) ROWS * (size_t) a->experts * sizeof(float), c->stream, *a);
}

void
dsocr_cuda_router(DsocrBackend *be, int32_t *ids, float *weights, float *logits, const void *x,
				  const DsocrRows *rows, const DsocrMatrix *gate, int k)
{
	DsocrCuda *c = (DsocrCuda *) be;
	RouterArgs a = {};
	cudaError_t rc;

	if (rows->n <= 0)
		return;
	a.ids = ids;
	a.weights = weights;
	a.logits = logits;
	a.x = x;
	a.gate = gate->data;
	a.n = rows->n;
	a.hidden = gate->k;
	a.ld = gate->ld;
	a.experts = gate->n;
	a.k = k;
	a.aligned = gate->k % 8 == 0 && (uintptr_t) x % 16 == 0;
	a.rows = dsocr_cuda_rows(c, rows);
	if (dsocr_cuda_bf16(c))
		rc = rows->n <= 16 ? router_launch<__nv_bfloat16, 1>(c, &a)
						   : router_launch<__nv_bfloat16, 4>(c, &a);
	else
		rc = router_launch<float, 1>(c, &a);
	dsocr_cuda_check(c, rc, "router");
}

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
		int before = 0;
		int after = 0;
		int place = 0;

		if (id >= a.experts)
			id = -1;
		for (int s = 0; s < 32; s++)
		{
			int other = __shfl_sync(0xffffffffu, id, s);

			before += other == id && s < lane;
			after += other == id && s > lane;
		}
		if (id >= 0)
			place = next[id] + before;
		__syncwarp();
		if (id >= 0 && after == 0)
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
	return dsocr_cuda_check(c,
							dsocr_launch(sort_kernel, dim3(1), dim3((unsigned int) warps * 32),
										 (size_t) (warps + 2) * (size_t) experts * sizeof(int32_t),
										 c->stream, a),
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

/* VEC channels a thread. */
template <typename T, int VEC>
static __global__ void
__launch_bounds__(SUM_THREADS) sum_kernel(const SumArgs a)
{
	size_t row = blockIdx.x / (unsigned int) a.pieces;
	int col = (int) (blockIdx.x % (unsigned int) a.pieces * SUM_THREADS + threadIdx.x) * VEC;
	float sum[VEC] = {};
	T *y = (T *) a.y + row * (size_t) a.hidden + (size_t) col;
	const T *residual = (const T *) a.residual + row * (size_t) a.hidden + (size_t) col;

	if (col >= a.hidden)
		return;
	for (int j = 0; j < a.k; j++)
	{
		size_t choice = row * (size_t) a.k + (size_t) j;
		const float *from = a.outputs + choice * (size_t) a.hidden + (size_t) col;
		int id = a.ids[choice];
		float weight = a.weights[choice];

		if (id < 0 || id >= a.experts)
			continue;
#pragma unroll
		for (int i = 0; i < VEC; i++)
			sum[i] = fmaf(weight, from[i], sum[i]);
	}
#pragma unroll
	for (int i = 0; i < VEC; i++)
		y[i] =
			dsocr_from_float<T>(sum[i] + (a.residual != NULL ? dsocr_to_float(residual[i]) : 0.0f));
}

template <typename T>
static cudaError_t
moe_sum(DsocrCuda *c, SumArgs *a, int rows)
{
	a->pieces = (a->hidden + SUM_THREADS - 1) / SUM_THREADS;
	return dsocr_launch(sum_kernel<T, 1>, dim3((unsigned int) rows * (unsigned int) a->pieces),
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
	down.routes = up.routes;
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
