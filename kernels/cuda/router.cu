/*-------------------------------------------------------------------------
 *
 * router.cu
 *		The router: which experts a row goes to.
 *
 * All in fp32 on the ordinary units, since a choice is a comparison.  One
 * launch: for few rows the experts of a row are spread over several blocks,
 * so that one multiprocessor need not read the whole gate, and the block that
 * is ready last chooses.
 *
 *-------------------------------------------------------------------------
 */
#include "cuda.h"

#define ROUTER_WARPS 8

static __device__ __forceinline__ float
router_warp_sum(float v)
{
	for (int d = 16; d > 0; d /= 2)
		v += __shfl_xor_sync(0xffffffffu, v, d);
	return v;
}

static __device__ __forceinline__ float
router_warp_max(float v)
{
	for (int d = 16; d > 0; d /= 2)
		v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
	return v;
}

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
	float *logits;	  /* [n, experts] */
	int32_t *ready;	  /* [n]: blocks of a row that are, all 0 between launches */
	int groups;		  /* blocks a row */
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

/* Softmax p[experts] of a row's logits and its k largest; one warp. */
static __device__ void
router_choose(const RouterArgs &a, float *p, int row, int lane)
{
	bool idle = a.rows.mixed && dsocr_row_slot(a.rows, row) < 0;
	float top = -INFINITY;
	float sum = 0;

	for (int e = lane; e < a.experts; e += 32)
	{
		p[e] = __ldcg(&a.logits[(size_t) row * (size_t) a.experts + (size_t) e]);
		top = fmaxf(top, p[e]);
	}
	top = router_warp_max(top);
	for (int e = lane; e < a.experts; e += 32)
	{
		p[e] = expf(p[e] - top);
		sum += p[e];
	}
	sum = router_warp_sum(sum);
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

/* Sums over lanes of rows and experts: lane r * PER + e keeps that of row r and expert e. */
template <int ROWS, int PER>
static __device__ __forceinline__ float
router_reduce(const float acc[ROWS][PER], int lane)
{
	float mine = 0;

#pragma unroll
	for (int r = 0; r < ROWS; r++)
#pragma unroll
		for (int e = 0; e < PER; e++)
		{
			float v = router_warp_sum(acc[r][e]);

			if (lane == r * PER + e)
				mine = v;
		}
	return mine;
}

/*
 * Logits of ROWS rows and PER experts by one warp: each lane takes every 32nd
 * group of 8 channels, AHEAD groups are loaded at once.  A row's sums are the
 * same for any ROWS.  Lane r * PER + e gets that of row r and expert e.
 */
template <typename T, int ROWS, int PER, int AHEAD>
static __device__ __forceinline__ float
router_logits(const RouterArgs &a, int first, int e0, int lane)
{
	float acc[ROWS][PER] = {};

	for (int from = lane * 8; from < a.hidden; from += 256 * AHEAD)
	{
		float g[AHEAD][PER][8];

#pragma unroll
		for (int i = 0; i < AHEAD; i++)
#pragma unroll
			for (int e = 0; e < PER; e++)
				router_load(g[i][e],
							(const T *) a.gate +
								(size_t) min(e0 + e, a.experts - 1) * (size_t) a.ld,
							from + i * 256, a.hidden, true);
		dsocr_grid_wait();
#pragma unroll
		for (int i = 0; i < AHEAD; i++)
#pragma unroll
			for (int r = 0; r < ROWS; r++)
			{
				float x[8];

				router_load(x,
							(const T *) a.x + (size_t) min(first + r, a.n - 1) * (size_t) a.hidden,
							from + i * 256, a.hidden, a.aligned);
#pragma unroll
				for (int e = 0; e < PER; e++)
#pragma unroll
					for (int c = 0; c < 8; c++)
						acc[r][e] = fmaf(x[c], g[i][e][c], acc[r][e]);
			}
	}
	return router_reduce<ROWS, PER>(acc, lane);
}

/* The last block of a row that is ready chooses. */
template <typename T, int ROWS, int PER, int AHEAD>
static __global__ void
__launch_bounds__(ROUTER_WARPS * 32) router_kernel(const RouterArgs a)
{
	__shared__ int last;
	int warp = (int) threadIdx.x / 32;
	int lane = (int) threadIdx.x % 32;
	int first = (int) blockIdx.x / a.groups * ROWS;

	for (int e0 = ((int) blockIdx.x % a.groups * ROUTER_WARPS + warp) * PER; e0 < a.experts;
		 e0 += a.groups * ROUTER_WARPS * PER)
	{
		int r = lane / PER;
		int e = e0 + lane % PER;
		float mine = router_logits<T, ROWS, PER, AHEAD>(a, first, e0, lane);

		if (r < ROWS && first + r < a.n && e < a.experts)
			a.logits[(size_t) (first + r) * (size_t) a.experts + (size_t) e] = mine;
	}
	dsocr_grid_wait();
	dsocr_grid_release();
	__threadfence();
	__syncthreads();
	if (threadIdx.x == 0)
	{
		last = a.groups == 1 || atomicAdd(&a.ready[first], 1) == a.groups - 1;
		if (last && a.groups > 1)
			a.ready[first] = 0;
		__threadfence();
	}
	__syncthreads();
	if (last && warp < ROWS && first + warp < a.n)
		router_choose(a, dsocr_shared<float>() + warp * a.experts, first + warp, lane);
}

template <typename T, int ROWS, int PER, int AHEAD>
static cudaError_t
router_launch(DsocrCuda *c, RouterArgs *a)
{
	int rows = (a->n + ROWS - 1) / ROWS;

	a->groups = (a->experts + ROUTER_WARPS * PER - 1) / (ROUTER_WARPS * PER);
	if (a->ready == NULL || a->n > DSOCR_CUDA_MAX_ROWS)
		a->groups = 1;
	return dsocr_launch_early(c->early, router_kernel<T, ROWS, PER, AHEAD>,
							  dim3((unsigned int) rows * (unsigned int) a->groups),
							  dim3(ROUTER_WARPS * 32),
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
	if (logits == NULL)
		logits = (float *) dsocr_cuda_scratch(c, DSOCR_SCRATCH_ROUTES,
											  (size_t) rows->n * (size_t) gate->n * sizeof(float));
	if (logits == NULL)
		return;
	a.ids = ids;
	a.weights = weights;
	a.logits = logits;
	a.ready = c->texts.counters;
	a.x = x;
	a.gate = gate->data;
	a.n = rows->n;
	a.hidden = gate->k;
	a.ld = gate->ld;
	a.experts = gate->n;
	a.k = k;
	a.aligned = gate->k % 8 == 0 && (uintptr_t) x % 16 == 0;
	a.rows = dsocr_cuda_rows(c, rows);
	/* 5 groups of 256 channels are one row of the usual width */
	if (!dsocr_cuda_bf16(c))
		rc = router_launch<float, 1, 4, 1>(c, &a);
	else if (rows->n <= 32)
		rc = router_launch<__nv_bfloat16, 1, 1, 5>(c, &a);
	else
		rc = router_launch<__nv_bfloat16, 4, 4, 1>(c, &a);
	dsocr_cuda_check(c, rc, "router");
}
