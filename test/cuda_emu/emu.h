/*-------------------------------------------------------------------------
 *
 * emu.h
 *		CUDA on the host, for kernels/cuda compiled with DSOCR_CUDA_EMU.
 *
 * Stands in for the CUDA headers and for the device half of device.cuh.  The
 * threads of a block are fibers of one host thread, blocks run one after
 * another.  What needs more than one thread (barriers, shuffles, matrix
 * instructions) is checked: whoever breaks the rules of CUDA ends the process
 * with a message that names kernel, block and thread.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_EMU_H
#define DSOCR_EMU_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <tuple>
#include <utility>

#include "emu_runtime.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict __restrict__
#define __align__(n) __attribute__((aligned(n)))

/*
 * Blocks run one after another, so shared memory is static memory.  The
 * section lets the emulator find and poison it before each block.
 */
#if defined(__clang__)
#define __shared__ static __attribute__((section(".dsocr_shared")))
#else
#define __shared__ static
#endif

#define DSOCR_EMU_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

#include "emu_math.h"
#include "emu_warp.h"

/* ---- where a thread is ---- */

extern uint3 dsocr_emu_thread_idx;
extern uint3 dsocr_emu_block_idx;
extern dim3 dsocr_emu_block_dim;
extern dim3 dsocr_emu_grid_dim;

#define threadIdx dsocr_emu_thread_idx
#define blockIdx dsocr_emu_block_idx
#define blockDim dsocr_emu_block_dim
#define gridDim dsocr_emu_grid_dim
static const int warpSize = 32;

/* ---- dynamic shared memory ---- */

extern void *dsocr_emu_shared(const char *file, int line);

template <typename T>
static inline T *
dsocr_shared(DSOCR_EMU_SITE)
{
	return static_cast<T *>(dsocr_emu_shared(file, line));
}

/* ---- launches ---- */

/* A launch waits in its stream with copies of its arguments. */
typedef struct DsocrEmuLaunch
{
	const char *name; /* source text of the call, the kernel first */
	const char *file;
	int line;
	dim3 grid;
	dim3 block;
	size_t shared;
	bool early; /* may begin before the launch in front has ended */
	std::shared_ptr<void> call;
	size_t call_size;
	void (*run)(void *call);
} DsocrEmuLaunch;

extern cudaError_t dsocr_emu_enqueue(const DsocrEmuLaunch &launch, cudaStream_t stream);

template <typename... Params> struct DsocrEmuCall
{
	void (*kernel)(Params...);
	std::tuple<Params...> args;
};

template <typename... Params>
static void
dsocr_emu_run(void *call)
{
	DsocrEmuCall<Params...> *c = static_cast<DsocrEmuCall<Params...> *>(call);

	std::apply(c->kernel, c->args);
}

template <typename... Params, typename... Args>
static inline cudaError_t
dsocr_emu_launch(bool early, const char *name, const char *file, int line,
				 void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared,
				 cudaStream_t stream, Args... args)
{
	typedef DsocrEmuCall<Params...> Call;
	DsocrEmuLaunch launch;

	static_assert(sizeof...(Params) == sizeof...(Args), "number of kernel arguments");
	launch.name = name;
	launch.file = file;
	launch.line = line;
	launch.grid = grid;
	launch.block = block;
	launch.shared = shared;
	launch.early = early;
	launch.call =
		std::shared_ptr<void>(new Call{kernel, std::tuple<Params...>(static_cast<Params>(args)...)},
							  [](void *p) { delete static_cast<Call *>(p); });
	launch.call_size = sizeof(Call);
	launch.run = dsocr_emu_run<Params...>;
	return dsocr_emu_enqueue(launch, stream);
}

#define dsocr_launch(...) dsocr_emu_launch(false, #__VA_ARGS__, __FILE__, __LINE__, __VA_ARGS__)

/*
 * Kernels never overlap here; but what one that was launched early touches
 * before it waits is checked against the launches that may still run then.
 */
#define dsocr_launch_early(early, ...)                                                             \
	dsocr_emu_launch(early, #__VA_ARGS__, __FILE__, __LINE__, __VA_ARGS__)

extern void dsocr_grid_wait();
extern void dsocr_grid_release();

#endif /* DSOCR_EMU_H */
