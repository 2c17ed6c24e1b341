/*-------------------------------------------------------------------------
 *
 * norm.cu
 *		Normalisation of rows.
 *
 * The fast kernels give a warp to each row and keep the row in registers:
 * it is read once and written once, 16 bytes at a time.  The plain ones give
 * it a block and take any length and alignment.  Both take the variance about
 * the mean in a second pass, and a row's result is its own: which rows stand
 * beside it does not matter.
 *
 *-------------------------------------------------------------------------
 */
#include "cuda.h"

#define NORM_WARPS 4	 /* rows of a block of the fast kernels */
#define NORM_THREADS 256 /* of the plain kernel */
#define NORM_VECTOR 8	 /* bf16 elements in 16 bytes */

static __device__ __forceinline__ float
norm_warp_sum(float v)
{
	for (int i = 16; i > 0; i >>= 1)
		v += __shfl_xor_sync(0xffffffffu, v, i);
	return v;
}

/* Sum over the block; part is [NORM_THREADS / 32]. */
static __device__ __forceinline__ float
norm_block_sum(float v, float *part)
{
	float sum = 0.0f;

	v = norm_warp_sum(v);
	__syncthreads(); /* the last sum has been read */
	if (threadIdx.x % 32 == 0)
		part[threadIdx.x / 32] = v;
	__syncthreads();
	for (int i = 0; i < NORM_THREADS / 32; i++)
		sum += part[i];
	return sum;
}

/* y[row, dim], a block a row; bias NULL: root mean square */
template <typename T>
static __global__ void
norm_plain(T *y, const T *x, int dim, const float *weight, const float *bias, float eps)
{
	__shared__ float part[NORM_THREADS / 32];
	const T *in = x + (size_t) blockIdx.x * dim;
	T *out = y + (size_t) blockIdx.x * dim;
	float mean = 0.0f;
	float square = 0.0f;
	float inverse;

	dsocr_grid_wait();
	dsocr_grid_release();
	if (bias != NULL)
	{
		for (int i = threadIdx.x; i < dim; i += NORM_THREADS)
			mean += dsocr_to_float(in[i]);
		mean = __fdividef(norm_block_sum(mean, part), (float) dim);
	}
	for (int i = threadIdx.x; i < dim; i += NORM_THREADS)
	{
		float d = dsocr_to_float(in[i]) - mean;

		square += d * d;
	}
	inverse = rsqrtf(__fdividef(norm_block_sum(square, part), (float) dim) + eps);
	for (int i = threadIdx.x; i < dim; i += NORM_THREADS)
	{
		float v = (dsocr_to_float(in[i]) - mean) * inverse;

		if (bias != NULL)
			out[i] = dsocr_from_float<T>(v * weight[i] + bias[i]);
		else /* the model rounds before it multiplies */
			out[i] = dsocr_from_float<T>(dsocr_to_float(dsocr_from_float<T>(v)) * weight[i]);
	}
}

/* Eight values of weights; the address is a multiple of 16. */
static __device__ __forceinline__ void
norm_load8(float v[NORM_VECTOR], const float *from)
{
	float4 lo = __ldg((const float4 *) from);
	float4 hi = __ldg((const float4 *) from + 1);

	v[0] = lo.x;
	v[1] = lo.y;
	v[2] = lo.z;
	v[3] = lo.w;
	v[4] = hi.x;
	v[5] = hi.y;
	v[6] = hi.z;
	v[7] = hi.w;
}

/* Lane's part of a row: v[i] are the values at (i * 32 + lane) * 8; zeros behind the end. */
template <int N>
static __device__ __forceinline__ void
norm_load_row(float v[N][NORM_VECTOR], const __nv_bfloat16 *row, int vectors)
{
	int lane = threadIdx.x % 32;

#pragma unroll
	for (int i = 0; i < N; i++)
	{
		uint4 raw = make_uint4(0, 0, 0, 0);
		float2 f;

		if (i * 32 + lane < vectors)
			raw = *((const uint4 *) row + i * 32 + lane);
		f = dsocr_unpack_bf16(raw.x);
		v[i][0] = f.x;
		v[i][1] = f.y;
		f = dsocr_unpack_bf16(raw.y);
		v[i][2] = f.x;
		v[i][3] = f.y;
		f = dsocr_unpack_bf16(raw.z);
		v[i][4] = f.x;
		v[i][5] = f.y;
		f = dsocr_unpack_bf16(raw.w);
		v[i][6] = f.x;
		v[i][7] = f.y;
	}
}

static __device__ __forceinline__ uint4
norm_pack(const float v[NORM_VECTOR])
{
	return make_uint4(dsocr_pack_bf16(v[0], v[1]), dsocr_pack_bf16(v[2], v[3]),
					  dsocr_pack_bf16(v[4], v[5]), dsocr_pack_bf16(v[6], v[7]));
}

/* The same for rows of up to N * 256 values, a multiple of 8: a warp a row. */
template <int N, bool CENTRED>
static __global__ void
__launch_bounds__(NORM_WARPS * 32)
	norm_rows(__nv_bfloat16 *y, const __nv_bfloat16 *x, int rows, int dim, const float *weight,
			  const float *bias, float eps)
{
	int row = blockIdx.x * NORM_WARPS + threadIdx.x / 32;
	int lane = threadIdx.x % 32;
	int vectors = dim / NORM_VECTOR;
	float v[N][NORM_VECTOR];
	float mean = 0.0f;
	float square = 0.0f;
	float inverse;

	dsocr_grid_wait();
	dsocr_grid_release();
	if (row >= rows)
		return;
	norm_load_row<N>(v, x + (size_t) row * dim, vectors);
	if (CENTRED)
	{
#pragma unroll
		for (int i = 0; i < N; i++)
#pragma unroll
			for (int j = 0; j < NORM_VECTOR; j++)
				mean += v[i][j];
		mean = __fdividef(norm_warp_sum(mean), (float) dim);
	}
#pragma unroll
	for (int i = 0; i < N; i++)
	{
		if (i * 32 + lane < vectors)
		{
#pragma unroll
			for (int j = 0; j < NORM_VECTOR; j++)
			{
				v[i][j] -= mean;
				square += v[i][j] * v[i][j];
			}
		}
	}
	inverse = rsqrtf(__fdividef(norm_warp_sum(square), (float) dim) + eps);
#pragma unroll
	for (int i = 0; i < N; i++)
	{
		int at = i * 32 + lane;
		float w[NORM_VECTOR];
		float b[NORM_VECTOR];

		if (at >= vectors)
			continue;
		norm_load8(w, weight + at * NORM_VECTOR);
		if (CENTRED)
			norm_load8(b, bias + at * NORM_VECTOR);
#pragma unroll
		for (int j = 0; j < NORM_VECTOR; j++)
		{
			float d = v[i][j] * inverse;

			if (CENTRED)
				v[i][j] = d * w[j] + b[j];
			else
				v[i][j] = __bfloat162float(__float2bfloat16_rn(d)) * w[j];
		}
		*((uint4 *) (y + (size_t) row * dim) + at) = norm_pack(v[i]);
	}
}

/* ---- launchers ---- */

template <int N>
static cudaError_t
norm_launch_rows(DsocrCuda *c, void *y, const void *x, int rows, int dim, const float *weight,
				 const float *bias, float eps)
{
	dim3 grid((unsigned) (((size_t) rows + NORM_WARPS - 1) / NORM_WARPS));
	__nv_bfloat16 *to = (__nv_bfloat16 *) y;
	const __nv_bfloat16 *from = (const __nv_bfloat16 *) x;

	if (bias != NULL)
		return dsocr_launch_early(c->early, norm_rows<N, true>, grid, dim3(NORM_WARPS * 32), 0,
								  c->stream, to, from, rows, dim, weight, bias, eps);
	return dsocr_launch_early(c->early, norm_rows<N, false>, grid, dim3(NORM_WARPS * 32), 0,
							  c->stream, to, from, rows, dim, weight, bias, eps);
}

template <typename T>
static cudaError_t
norm_launch_plain(DsocrCuda *c, void *y, const void *x, int rows, int dim, const float *weight,
				  const float *bias, float eps)
{
	return dsocr_launch_early(c->early, norm_plain<T>, dim3((unsigned) rows), dim3(NORM_THREADS), 0,
							  c->stream, (T *) y, (const T *) x, dim, weight, bias, eps);
}

static void
norm_launch(DsocrBackend *be, void *y, const void *x, int rows, int dim, const float *weight,
			const float *bias, float eps, const char *name)
{
	DsocrCuda *c = (DsocrCuda *) be;
	bool wide = dsocr_cuda_bf16(c) && dim % NORM_VECTOR == 0 && dim <= 8 * 32 * NORM_VECTOR &&
				((uintptr_t) x | (uintptr_t) y) % 16 == 0;
	cudaError_t rc;

	if (rows <= 0 || dim <= 0)
		return;
	if (wide && dim <= 32 * NORM_VECTOR)
		rc = norm_launch_rows<1>(c, y, x, rows, dim, weight, bias, eps);
	else if (wide && dim <= 4 * 32 * NORM_VECTOR)
		rc = norm_launch_rows<4>(c, y, x, rows, dim, weight, bias, eps);
	else if (wide)
		rc = norm_launch_rows<8>(c, y, x, rows, dim, weight, bias, eps);
	else if (dsocr_cuda_bf16(c))
		rc = norm_launch_plain<__nv_bfloat16>(c, y, x, rows, dim, weight, bias, eps);
	else
		rc = norm_launch_plain<float>(c, y, x, rows, dim, weight, bias, eps);
	dsocr_cuda_check(c, rc, name);
}

void
dsocr_cuda_layer_norm(DsocrBackend *be, void *y, const void *x, int rows, int dim,
					  const DsocrVector *weight, const DsocrVector *bias, float eps)
{
	norm_launch(be, y, x, rows, dim, weight->data, bias->data, eps, "layer_norm");
}

void
dsocr_cuda_rms_norm(DsocrBackend *be, void *y, const void *x, int rows, int dim,
					const DsocrVector *weight, float eps)
{
	norm_launch(be, y, x, rows, dim, weight->data, NULL, eps, "rms_norm");
}
