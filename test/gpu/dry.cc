/*-------------------------------------------------------------------------
 *
 * dry.cc
 *		A device that runs nothing and tells what it would have launched.
 *
 * Linked before the emulator (test/cuda_emu), whose functions of the same
 * names it replaces: memory is a range of addresses that nobody can touch,
 * copies do nothing, and a launch becomes a line on the standard output:
 *
 *		{"launch": SYMBOL OFFSET, "grid": [x, y, z], "block": [x, y, z], "shared": BYTES}
 *
 * So the shapes of all launches at the official dimensions are known without
 * a GPU.  Host decisions that depend on results are not to be trusted.
 *
 *-------------------------------------------------------------------------
 */
#include "emu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <sys/mman.h>

#define ADDRESSES ((size_t) 1 << 40)
#define MEMORY ((size_t) 80 << 30)

static char *addresses;
static size_t taken;

extern "C" cudaError_t
dsocr_emu_malloc(void **p, size_t bytes)
{
	if (addresses == NULL)
	{
		void *range =
			mmap(NULL, ADDRESSES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (range == MAP_FAILED)
			return cudaErrorMemoryAllocation;
		addresses = (char *) range;
	}
	if (bytes > ADDRESSES - taken - 512)
		return cudaErrorMemoryAllocation;
	*p = addresses + taken;
	taken += (bytes + 511) / 256 * 256;
	return cudaSuccess;
}

extern "C" cudaError_t
cudaFree(void *)
{
	return cudaSuccess;
}

extern "C" cudaError_t
cudaMemGetInfo(size_t *available, size_t *total)
{
	*available = *total = MEMORY;
	return cudaSuccess;
}

extern "C" cudaError_t
cudaMemcpyAsync(void *, const void *, size_t, cudaMemcpyKind, cudaStream_t)
{
	return cudaSuccess;
}

extern "C" cudaError_t
cudaMemsetAsync(void *, int, size_t, cudaStream_t)
{
	return cudaSuccess;
}

cudaError_t
dsocr_emu_enqueue(const DsocrEmuLaunch &launch, cudaStream_t)
{
	/* the call starts with the address of the kernel's code on the host */
	char *kernel = *static_cast<char **>(launch.call.get());
	Dl_info where;

	if (dladdr(kernel, &where) == 0)
		return cudaErrorInvalidValue;
	printf("{\"launch\": %zu, \"grid\": [%u, %u, %u], \"block\": [%u, %u, %u], \"shared\": %zu}\n",
		   (size_t) (kernel - static_cast<char *>(where.dli_fbase)), launch.grid.x, launch.grid.y,
		   launch.grid.z, launch.block.x, launch.block.y, launch.block.z, launch.shared);
	return cudaSuccess;
}
