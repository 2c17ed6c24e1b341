/*-------------------------------------------------------------------------
 *
 * device.cuh
 *		What the kernels use of the GPU beyond plain C++: launches, matrix
 *		instructions, asynchronous copies, wide loads.
 *
 * No other file holds inline assembly or a launch in angle brackets, so that
 * the same kernel sources also run on a host, where test/cuda_emu provides
 * everything in this header (DSOCR_CUDA_EMU).
 *
 * Rules for kernels that keep both ways possible: dynamic shared memory only
 * through dsocr_shared(); warp functions always with the full mask and in
 * uniform control flow; no recursion, no device-side allocation, no printf.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_DEVICE_CUH
#define DSOCR_DEVICE_CUH

#include <stdint.h>

#ifdef DSOCR_CUDA_EMU
#include "emu.h"
#else
#include <cuda_bf16.h>
#include <cuda_runtime.h>

/* Dynamic shared memory of this block, aligned to 128 bytes. */
template <typename T>
static __device__ __forceinline__ T *
dsocr_shared()
{
	extern __shared__ __align__(128) unsigned char dsocr_dynamic_shared[];

	return reinterpret_cast<T *>(dsocr_dynamic_shared);
}

/* D[16,8] += A[16,16] @ B[16,8], bf16 operands; fragments as in PTX mma.m16n8k16. */
static __device__ __forceinline__ void
dsocr_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
				 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
				 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
				 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four, two 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8. */
static __device__ __forceinline__ void
dsocr_ldmatrix_x4(uint32_t r[4], const void *row)
{
	uint32_t at = (uint32_t) __cvta_generic_to_shared(row);

	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
				 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
				 : "r"(at)
				 : "memory");
}

static __device__ __forceinline__ void
dsocr_ldmatrix_x2(uint32_t r[2], const void *row)
{
	uint32_t at = (uint32_t) __cvta_generic_to_shared(row);

	asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
				 : "=r"(r[0]), "=r"(r[1])
				 : "r"(at)
				 : "memory");
}

/* The same, each matrix transposed. */
static __device__ __forceinline__ void
dsocr_ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
	uint32_t at = (uint32_t) __cvta_generic_to_shared(row);

	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
				 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
				 : "r"(at)
				 : "memory");
}

static __device__ __forceinline__ void
dsocr_ldmatrix_x2_trans(uint32_t r[2], const void *row)
{
	uint32_t at = (uint32_t) __cvta_generic_to_shared(row);

	asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
				 : "=r"(r[0]), "=r"(r[1])
				 : "r"(at)
				 : "memory");
}

/* 16 bytes from global to shared memory, both aligned; zeros when not valid. */
static __device__ __forceinline__ void
dsocr_cp_async16(void *shared, const void *global, bool valid)
{
	uint32_t at = (uint32_t) __cvta_generic_to_shared(shared);
	int bytes = valid ? 16 : 0;

	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(global), "r"(bytes)
				 : "memory");
}

static __device__ __forceinline__ void
dsocr_cp_async_commit()
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Wait until at most N of this thread's groups are under way. */
template <int N>
static __device__ __forceinline__ void
dsocr_cp_async_wait()
{
	asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* 16 aligned bytes that are read once: they need not stay in the first cache. */
static __device__ __forceinline__ uint4
dsocr_load_stream(const void *global)
{
	uint4 v;

	asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
				 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
				 : "l"(global));
	return v;
}

/* Barrier `id` (1 .. 15) of `threads` threads, a multiple of 32. */
static __device__ __forceinline__ void
dsocr_bar_sync(int id, int threads)
{
	asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* 2^x as the hardware has it. */
static __device__ __forceinline__ float
dsocr_exp2(float x)
{
	float y;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

/*
 * Wait until everything before this kernel in the stream is done and seen.
 * Each thread of a kernel that was launched early calls it once, before it
 * reads or writes anything that another kernel writes or reads.
 */
static __device__ __forceinline__ void
dsocr_grid_wait()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* From here on the next kernel may start, if it is launched early. */
static __device__ __forceinline__ void
dsocr_grid_release()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/*
 * Put a kernel into the stream.  More than 48 kB of dynamic shared memory is
 * asked for here too.  Early, it may start before the kernels in front of it
 * have ended, and must call dsocr_grid_wait.
 */
template <typename... Params, typename... Args>
static inline cudaError_t
dsocr_launch_early(bool early, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared,
				   cudaStream_t stream, Args... args)
{
	cudaLaunchConfig_t config = {};
	cudaLaunchAttribute attribute = {};

	if (shared > 48 * 1024)
	{
		cudaError_t rc = cudaFuncSetAttribute(
			(const void *) kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int) shared);

		if (rc != cudaSuccess)
			return rc;
	}
	config.gridDim = grid;
	config.blockDim = block;
	config.dynamicSmemBytes = shared;
	config.stream = stream;
	attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
	attribute.val.programmaticStreamSerializationAllowed = 1;
	config.attrs = &attribute;
	config.numAttrs = early ? 1 : 0;
	return cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...);
}

template <typename... Params, typename... Args>
static inline cudaError_t
dsocr_launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
			 Args... args)
{
	return dsocr_launch_early(false, kernel, grid, block, shared, stream, args...);
}
#endif /* DSOCR_CUDA_EMU */

/* Two floats to a pair of bf16, lo in the low half, as the matrix instructions want them. */
static __device__ __forceinline__ uint32_t
dsocr_pack_bf16(float lo, float hi)
{
	__nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
	uint32_t r;

	memcpy(&r, &v, 4);
	return r;
}

/* Both halves of a pair of bf16. */
static __device__ __forceinline__ float2
dsocr_unpack_bf16(uint32_t v)
{
	float2 f;

	f.x = __uint_as_float(v << 16);
	f.y = __uint_as_float(v & 0xffff0000u);
	return f;
}

/* Activation elements are float or bf16; kernels are templates over them. */
static __device__ __forceinline__ float
dsocr_to_float(float v)
{
	return v;
}

static __device__ __forceinline__ float
dsocr_to_float(__nv_bfloat16 v)
{
	return __bfloat162float(v);
}

template <typename T> static __device__ __forceinline__ T dsocr_from_float(float v);

template <>
__device__ __forceinline__ float
dsocr_from_float<float>(float v)
{
	return v;
}

template <>
__device__ __forceinline__ __nv_bfloat16
dsocr_from_float<__nv_bfloat16>(float v)
{
	return __float2bfloat16_rn(v);
}

#endif /* DSOCR_DEVICE_CUH */
