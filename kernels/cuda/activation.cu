/*-------------------------------------------------------------------------
 *
 * activation.cu
 *		Activation functions, element by element, in fp32.
 *
 * A thread takes V elements: 16 bytes of bf16 where rows and addresses allow
 * it, one element otherwise.
 *
 *-------------------------------------------------------------------------
 */
#include "cuda.h"

#define ACTIVATION_THREADS 256
#define ACTIVATION_VECTOR 8 /* bf16 elements in 16 bytes */

static __device__ __forceinline__ float
activation_gelu(float x)
{
	return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

static __device__ __forceinline__ float
activation_quick_gelu(float x)
{
	return __fdividef(x, 1.0f + expf(-1.702f * x));
}

static __device__ __forceinline__ float
activation_silu(float x)
{
	return __fdividef(x, 1.0f + expf(-x));
}

/* V elements to and from registers; 8 elements are bf16 at a multiple of 16 bytes. */
template <typename T, int V>
static __device__ __forceinline__ void
activation_load(float v[V], const T *from)
{
	if (V == ACTIVATION_VECTOR)
	{
		uint4 raw = *(const uint4 *) from;
		uint32_t pairs[4] = {raw.x, raw.y, raw.z, raw.w};

#pragma unroll
		for (int i = 0; i < V / 2; i++)
		{
			float2 f = dsocr_unpack_bf16(pairs[i]);

			v[2 * i] = f.x;
			v[2 * i + 1] = f.y;
		}
	}
	else
		v[0] = dsocr_to_float(from[0]);
}

template <typename T, int V>
static __device__ __forceinline__ void
activation_store(T *to, const float v[V])
{
	if (V == ACTIVATION_VECTOR)
	{
		uint32_t pairs[4];

#pragma unroll
		for (int i = 0; i < V / 2; i++)
			pairs[i] = dsocr_pack_bf16(v[2 * i], v[2 * i + 1]);
		*(uint4 *) to = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
	}
	else
		to[0] = dsocr_from_float<T>(v[0]);
}

/* y[rows, n] = silu(x[rows, 0 .. n - 1]) * x[rows, n .. 2n - 1]; blockIdx.y counts rows */
template <typename T, int V>
static __global__ void
__launch_bounds__(ACTIVATION_THREADS) activation_silu_mul(T *y, const T *x, int rows, int n)
{
	int at = (blockIdx.x * ACTIVATION_THREADS + threadIdx.x) * V;

	dsocr_grid_wait();
	dsocr_grid_release();
	if (at >= n)
		return;
	for (int row = blockIdx.y; row < rows; row += gridDim.y)
	{
		const T *gate = x + (size_t) row * 2 * n + at;
		float g[V];
		float u[V];

		activation_load<T, V>(g, gate);
		activation_load<T, V>(u, gate + n);
#pragma unroll
		for (int i = 0; i < V; i++)
			g[i] = activation_silu(g[i]) * u[i];
		activation_store<T, V>(y + (size_t) row * n + at, g);
	}
}

/* y[n * V] = act(y) */
template <typename T, int V, DsocrActivation ACT>
static __global__ void
__launch_bounds__(ACTIVATION_THREADS) activation_apply(T *y, size_t n)
{
	size_t step = (size_t) gridDim.x * ACTIVATION_THREADS;

	dsocr_grid_wait();
	dsocr_grid_release();
	for (size_t i = (size_t) blockIdx.x * ACTIVATION_THREADS + threadIdx.x; i < n; i += step)
	{
		float v[V];

		activation_load<T, V>(v, y + i * V);
#pragma unroll
		for (int j = 0; j < V; j++)
			v[j] = ACT == DSOCR_ACT_GELU ? activation_gelu(v[j]) : activation_quick_gelu(v[j]);
		activation_store<T, V>(y + i * V, v);
	}
}

/* ---- launchers ---- */

template <typename T, int V>
static cudaError_t
activation_launch_silu_mul(DsocrCuda *c, void *y, const void *x, int rows, int n)
{
	unsigned across = ((unsigned) (n / V) + ACTIVATION_THREADS - 1) / ACTIVATION_THREADS;
	unsigned down = rows < 65535 ? (unsigned) rows : 65535u;

	return dsocr_launch_early(c->early, activation_silu_mul<T, V>, dim3(across, down),
							  dim3(ACTIVATION_THREADS), 0, c->stream, (T *) y, (const T *) x, rows,
							  n);
}

void
dsocr_cuda_silu_mul(DsocrBackend *be, void *y, const void *x, int rows, int n)
{
	DsocrCuda *c = (DsocrCuda *) be;
	bool wide = dsocr_cuda_bf16(c) && n % ACTIVATION_VECTOR == 0 &&
				((uintptr_t) x | (uintptr_t) y) % 16 == 0;
	cudaError_t rc;

	if (rows <= 0 || n <= 0)
		return;
	if (wide)
		rc = activation_launch_silu_mul<__nv_bfloat16, ACTIVATION_VECTOR>(c, y, x, rows, n);
	else if (dsocr_cuda_bf16(c))
		rc = activation_launch_silu_mul<__nv_bfloat16, 1>(c, y, x, rows, n);
	else
		rc = activation_launch_silu_mul<float, 1>(c, y, x, rows, n);
	dsocr_cuda_check(c, rc, "silu_mul");
}

template <typename T, int V>
static cudaError_t
activation_launch_apply(DsocrCuda *c, void *y, size_t n, DsocrActivation act)
{
	size_t blocks = (n + ACTIVATION_THREADS - 1) / ACTIVATION_THREADS;
	dim3 grid((unsigned) (blocks < (1u << 30) ? blocks : (1u << 30)));

	if (act == DSOCR_ACT_GELU)
		return dsocr_launch_early(c->early, activation_apply<T, V, DSOCR_ACT_GELU>, grid,
								  dim3(ACTIVATION_THREADS), 0, c->stream, (T *) y, n);
	return dsocr_launch_early(c->early, activation_apply<T, V, DSOCR_ACT_QUICK_GELU>, grid,
							  dim3(ACTIVATION_THREADS), 0, c->stream, (T *) y, n);
}

void
dsocr_cuda_activate(DsocrCuda *c, void *y, size_t n, DsocrActivation act)
{
	bool wide = dsocr_cuda_bf16(c) && n % ACTIVATION_VECTOR == 0 && (uintptr_t) y % 16 == 0;
	cudaError_t rc;

	if (n == 0 || act == DSOCR_ACT_NONE)
		return;
	if (wide)
		rc = activation_launch_apply<__nv_bfloat16, ACTIVATION_VECTOR>(c, y, n / ACTIVATION_VECTOR,
																	   act);
	else if (dsocr_cuda_bf16(c))
		rc = activation_launch_apply<__nv_bfloat16, 1>(c, y, n, act);
	else
		rc = activation_launch_apply<float, 1>(c, y, n, act);
	dsocr_cuda_check(c, rc, "activate");
}
