/*-------------------------------------------------------------------------
 *
 * test_faults.cu
 *		Kernels that are wrong on purpose: each must be caught, by name.
 *
 * Every case runs in a child; what it prints before it dies must contain the
 * text that the present build promises.  Cases that only some builds can see
 * must end without a report in the others.
 *
 *-------------------------------------------------------------------------
 */
#include "device.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(DSOCR_TEST_RACE)
#define BUILD 2
#elif defined(__has_feature) && __has_feature(address_sanitizer)
#define BUILD 1
#else
#define BUILD 0
#endif

static cudaStream_t stream;

/* ---- memory between threads ---- */

static __global__ void
missing_barrier(int *out)
{
	int *s = dsocr_shared<int>();

	s[threadIdx.x] = (int) threadIdx.x;
	out[threadIdx.x] = s[63 - threadIdx.x];
}

/* The same where the bytes were written before. */
static __global__ void
missing_third_barrier(int *out)
{
	int *s = dsocr_shared<int>();

	s[threadIdx.x] = 0;
	__syncthreads();
	out[threadIdx.x] = s[threadIdx.x];
	s[threadIdx.x] = (int) threadIdx.x;
	out[threadIdx.x] += s[63 - threadIdx.x];
}

static __global__ void
missing_barrier_static(int *out)
{
	__shared__ int s[64];

	s[threadIdx.x] = (int) threadIdx.x;
	out[threadIdx.x] = s[63 - threadIdx.x];
}

static __global__ void
missing_second_barrier(int *out)
{
	int *s = dsocr_shared<int>();
	int v;

	s[threadIdx.x] = (int) threadIdx.x;
	__syncthreads();
	v = s[(threadIdx.x + 1) % 64];
	s[threadIdx.x] = 2 * v;
	__syncthreads();
	out[threadIdx.x] = s[threadIdx.x];
}

/* A shuffle brings lanes together but does not order their memory. */
static __global__ void
missing_syncwarp(int *out)
{
	int *s = dsocr_shared<int>();
	int lane = (int) threadIdx.x;

	s[lane] = lane;
	lane = __shfl_xor_sync(0xffffffffu, lane, 1);
	out[threadIdx.x] = s[lane];
}

static __global__ void
wrong_named_barrier(int *out)
{
	int *s = dsocr_shared<int>();

	s[threadIdx.x] = (int) threadIdx.x;
	/* pairs of warps meet, but everybody looks at the other pair */
	dsocr_bar_sync(1 + (int) threadIdx.x / 64, 64);
	out[threadIdx.x] = s[(threadIdx.x + 64) % 128];
}

static __global__ void
ldmatrix_race(uint32_t *out)
{
	uint16_t *s = dsocr_shared<uint16_t>();
	uint32_t r[2];

	for (int i = 0; i < 8; i++)
		s[8 * threadIdx.x + (unsigned) i] = 1;
	dsocr_ldmatrix_x2(r, s + 8 * (31 - threadIdx.x));
	out[threadIdx.x] = r[0];
}

static __global__ void
between_blocks_write(int *out)
{
	if (threadIdx.x == 0)
		out[0] = (int) blockIdx.x;
}

static __global__ void
between_blocks_read(int *out)
{
	if (threadIdx.x == 0)
		out[blockIdx.x] = blockIdx.x > 0 ? out[blockIdx.x - 1] : 1;
}

/* The last block adds up what all have written; good if each waits for its own threads. */
template <bool BARRIER, bool FENCE>
static __device__ void
last_block_adds(int *out)
{
	__shared__ int last;
	int sum = 0;

	out[64 + 64 * blockIdx.x + threadIdx.x] = (int) threadIdx.x;
	if (BARRIER)
		__syncthreads();
	if (threadIdx.x == 0)
	{
		if (FENCE)
			__threadfence();
		last = atomicAdd(out + 1, 1) == (int) gridDim.x - 1;
	}
	__syncthreads();
	if (!last)
		return;
	__threadfence();
	if (threadIdx.x != 0)
		return;
	for (int i = 0; i < 64 * (int) gridDim.x; i++)
		sum += out[64 + i];
	out[0] = sum;
}

static __global__ void
last_block(int *out)
{
	last_block_adds<true, true>(out);
}

static __global__ void
last_block_unfenced(int *out)
{
	last_block_adds<true, false>(out);
}

static __global__ void
last_block_unordered(int *out)
{
	last_block_adds<false, true>(out);
}

/* Each thread has a fence of its own, and the barrier comes behind it. */
static __global__ void
last_block_all_fences(int *out)
{
	__threadfence();
	out[64 + 64 * blockIdx.x + threadIdx.x] = 0;
	__threadfence();
	__syncthreads();
	if (threadIdx.x == 0 && atomicAdd(out + 1, 1) == (int) gridDim.x - 1)
	{
		__threadfence();
		out[0] = out[64 + 63];
	}
}

static __global__ void
atomic_and_read(int *out)
{
	atomicAdd(out, 1);
	if (threadIdx.x == 33)
		out[1] = out[0];
}

/* ---- cp.async ---- */

static __global__ void
async_unwaited(float *out, const float *in)
{
	float *s = dsocr_shared<float>();

	dsocr_cp_async16(s + 4 * threadIdx.x, in + 4 * threadIdx.x, true);
	dsocr_cp_async_commit();
	out[threadIdx.x] = s[4 * threadIdx.x];
	dsocr_cp_async_wait<0>();
}

/* The wait lets one group be under way: the one that is used. */
static __global__ void
async_wrong_group(float *out, const float *in)
{
	float *s = dsocr_shared<float>();

	dsocr_cp_async16(s + 4 * threadIdx.x, in, true);
	dsocr_cp_async_commit();
	dsocr_cp_async16(s + 256 + 4 * threadIdx.x, in, true);
	dsocr_cp_async_commit();
	dsocr_cp_async_wait<1>();
	out[threadIdx.x] = s[256 + 4 * threadIdx.x];
	dsocr_cp_async_wait<0>();
}

static __global__ void
async_uncommitted(float *out, const float *in)
{
	float *s = dsocr_shared<float>();

	dsocr_cp_async16(s + 4 * threadIdx.x, in, true);
	dsocr_cp_async_wait<0>();
	out[threadIdx.x] = s[4 * threadIdx.x];
}

static __global__ void
async_without_barrier(float *out, const float *in)
{
	float *s = dsocr_shared<float>();

	dsocr_cp_async16(s + 4 * threadIdx.x, in + 4 * threadIdx.x, true);
	dsocr_cp_async_commit();
	dsocr_cp_async_wait<0>();
	out[threadIdx.x] = s[4 * (63 - threadIdx.x)];
}

/* The next tile is asked for while other threads still read the last one. */
static __global__ void
async_too_early(float *out, const float *in)
{
	float *s = dsocr_shared<float>();
	float sum = 0;

	for (int i = 0; i < 2; i++)
	{
		dsocr_cp_async16(s + 4 * threadIdx.x, in + 4 * threadIdx.x, true);
		dsocr_cp_async_commit();
		dsocr_cp_async_wait<0>();
		__syncthreads();
		sum += s[4 * (63 - threadIdx.x)];
	}
	out[threadIdx.x] = sum;
}

static __global__ void
async_misaligned(float *out, const float *in)
{
	float *s = dsocr_shared<float>();

	dsocr_cp_async16(s + threadIdx.x, in, true);
	out[0] = 0;
}

static __global__ void
async_misaligned_source(float *out, const float *in)
{
	float *s = dsocr_shared<float>();

	dsocr_cp_async16(s, in + 1, true);
	out[0] = 0;
}

static __global__ void
async_behind_source(float *out, const float *in)
{
	float *s = dsocr_shared<float>();

	dsocr_cp_async16(s, in + 1024, true);
	out[0] = 0;
}

/* ---- addresses ---- */

static __global__ void
behind_shared(int *out)
{
	int *s = dsocr_shared<int>();

	s[threadIdx.x + 1] = 1;
	out[threadIdx.x] = 0;
}

static __global__ void
behind_static(int *out, int n)
{
	__shared__ int s[64];
	int *p = s + n;

	p[threadIdx.x] = 1;
	out[threadIdx.x] = 0;
}

static __global__ void
no_shared(int *out)
{
	out[threadIdx.x] = dsocr_shared<int>()[0];
}

static __global__ void
behind_global(int *out)
{
	out[1024 + threadIdx.x] = 1;
}

static __global__ void
before_global(int *out)
{
	out[0] = out[-1];
}

static __global__ void
vector_misaligned(uint4 *out, const int *in)
{
	out[1] = *reinterpret_cast<const uint4 *>(in + 1);
}

static __global__ void
pair_misaligned(float2 *out, const int *in)
{
	out[1] = *reinterpret_cast<const float2 *>(in + 5);
}

static __global__ void
stream_misaligned(uint4 *out, const int *in)
{
	*out = dsocr_load_stream(in + 1);
}

static __global__ void
ldmatrix_misaligned(uint32_t *out)
{
	uint32_t r[4];

	dsocr_ldmatrix_x4(r, dsocr_shared<char>() + 16 * threadIdx.x + 8);
	out[threadIdx.x] = r[0];
}

static __global__ void
ldmatrix_global(uint32_t *out)
{
	uint32_t r[4];

	dsocr_ldmatrix_x4(r, out);
	out[threadIdx.x] = r[0];
}

static __global__ void
ldmatrix_behind(uint32_t *out)
{
	uint32_t r[4];

	dsocr_ldmatrix_x4(r, dsocr_shared<char>() + 16 * threadIdx.x + 16);
	out[threadIdx.x] = r[0];
}

static __global__ void
touch_host(int *out, int *host)
{
	out[0] = host[0];
}

static __global__ void
uninitialised_shared(int *out)
{
	int *s = dsocr_shared<int>();

	if (threadIdx.x < 63)
		s[threadIdx.x] = 1;
	__syncthreads();
	out[threadIdx.x] = s[63 - threadIdx.x];
}

static __global__ void
copy_one(int *out, const int *in)
{
	out[0] = in[5];
}

/* ---- launches that begin early ---- */

static __global__ void
fill_one(int *out)
{
	dsocr_grid_wait();
	out[threadIdx.x] = 1;
}

static __global__ void
reads_too_early(int *out)
{
	int v = out[threadIdx.x];

	dsocr_grid_wait();
	out[threadIdx.x] = v + 1;
}

static __global__ void
writes_too_early(int *out)
{
	out[threadIdx.x] = 2;
	dsocr_grid_wait();
}

static __global__ void
never_waits(int *out)
{
	out[512 + threadIdx.x] = 2;
}

static __global__ void
lets_go(int *out)
{
	dsocr_grid_release();
	dsocr_grid_wait();
	out[512 + threadIdx.x] = 2;
}

/* ---- control flow ---- */

static __global__ void
leaves_before_barrier(int *out)
{
	if (threadIdx.x == 7)
		return;
	__syncthreads();
	out[threadIdx.x] = 0;
}

static __global__ void
barrier_after_leaving(int *out)
{
	if (threadIdx.x >= 32)
	{
		dsocr_bar_sync(1, 32);
		__syncthreads();
	}
	out[threadIdx.x] = 0;
}

static __global__ void
two_barriers(int *out)
{
	if (threadIdx.x < 32)
		__syncthreads();
	else
		__syncthreads();
	out[threadIdx.x] = 0;
}

static __global__ void
counts_differ(int *out)
{
	dsocr_bar_sync(1, threadIdx.x < 32 ? 64 : 96);
	out[threadIdx.x] = 0;
}

static __global__ void
half_warps(int *out)
{
	if (threadIdx.x % 32 < 16)
		dsocr_bar_sync(1, 32);
	out[threadIdx.x] = 0;
}

static __global__ void
deadlock(int *out)
{
	if (threadIdx.x < 32)
		dsocr_bar_sync(1, 64);
	else
		dsocr_bar_sync(2, 64);
	out[threadIdx.x] = 0;
}

static __global__ void
shuffle_diverged(int *out)
{
	if (threadIdx.x % 2 == 0)
		out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
	else
		out[threadIdx.x] = __shfl_sync(0xffffffffu, 2, 1);
}

static __global__ void
shuffle_after_leaving(int *out)
{
	if (threadIdx.x == 3)
		return;
	out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}

static __global__ void
shuffle_in_barrier(int *out)
{
	if (threadIdx.x < 16)
		__syncthreads();
	out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}

static __global__ void
partial_mask(int *out)
{
	out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 0);
}

static __global__ void
partial_warp(int *out)
{
	out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}

/* ---- the cases ---- */

static int *device; /* [1024] zeros */
static float *source;

#define LAUNCH(kernel, threads, shared, ...)                                                       \
	static void run_##kernel()                                                                     \
	{                                                                                              \
		(void) dsocr_launch(kernel, 1, threads, shared, stream, __VA_ARGS__);                      \
	}

#define FLOATS reinterpret_cast<float *>(device), source
#define WORDS reinterpret_cast<uint32_t *>(device)

LAUNCH(missing_barrier, 64, 256, device)
LAUNCH(missing_third_barrier, 64, 256, device)
LAUNCH(missing_barrier_static, 64, 0, device)
LAUNCH(missing_second_barrier, 64, 256, device)
LAUNCH(missing_syncwarp, 32, 128, device)
LAUNCH(wrong_named_barrier, 128, 512, device)
LAUNCH(ldmatrix_race, 32, 512, WORDS)
LAUNCH(atomic_and_read, 64, 0, device)
LAUNCH(async_unwaited, 64, 1024, FLOATS)
LAUNCH(async_wrong_group, 64, 2048, FLOATS)
LAUNCH(async_uncommitted, 64, 1024, FLOATS)
LAUNCH(async_without_barrier, 64, 1024, FLOATS)
LAUNCH(async_too_early, 64, 1024, FLOATS)
LAUNCH(async_misaligned, 32, 1024, FLOATS)
LAUNCH(async_misaligned_source, 1, 1024, FLOATS)
LAUNCH(async_behind_source, 1, 1024, FLOATS)
LAUNCH(behind_shared, 64, 256, device)
LAUNCH(behind_static, 64, 0, device, 1)
LAUNCH(no_shared, 1, 0, device)
LAUNCH(behind_global, 1, 0, device)
LAUNCH(before_global, 1, 0, device)
LAUNCH(vector_misaligned, 1, 0, reinterpret_cast<uint4 *>(device), device)
LAUNCH(pair_misaligned, 1, 0, reinterpret_cast<float2 *>(device), device)
LAUNCH(stream_misaligned, 1, 0, reinterpret_cast<uint4 *>(device), device)
LAUNCH(ldmatrix_misaligned, 32, 1024, WORDS)
LAUNCH(ldmatrix_global, 32, 1024, WORDS)
LAUNCH(ldmatrix_behind, 32, 512, WORDS)
LAUNCH(uninitialised_shared, 64, 256, device)
LAUNCH(leaves_before_barrier, 64, 0, device)
LAUNCH(barrier_after_leaving, 64, 0, device)
LAUNCH(two_barriers, 64, 0, device)
LAUNCH(counts_differ, 96, 0, device)
LAUNCH(half_warps, 64, 0, device)
LAUNCH(deadlock, 64, 0, device)
LAUNCH(shuffle_diverged, 32, 0, device)
LAUNCH(shuffle_after_leaving, 32, 0, device)
LAUNCH(shuffle_in_barrier, 32, 0, device)
LAUNCH(partial_mask, 32, 0, device)
LAUNCH(partial_warp, 24, 0, device)

static void
run_between_blocks_write()
{
	(void) dsocr_launch(between_blocks_write, 2, 32, 0, stream, device);
}

static void
run_last_block()
{
	(void) dsocr_launch(last_block, 3, 64, 0, stream, device);
	(void) dsocr_launch(last_block_all_fences, 3, 64, 0, stream, device);
}

static void
run_last_block_unfenced()
{
	(void) dsocr_launch(last_block_unfenced, 3, 64, 0, stream, device);
}

static void
run_last_block_unordered()
{
	(void) dsocr_launch(last_block_unordered, 3, 64, 0, stream, device);
}

static void
run_between_blocks_read()
{
	(void) dsocr_launch(between_blocks_read, 3, 32, 0, stream, device);
}

static void
run_early(void (*kernel)(int *))
{
	(void) cudaStreamSynchronize(stream);
	(void) dsocr_launch(fill_one, 1, 32, 0, stream, device);
	(void) dsocr_launch_early(true, kernel, 1, 32, 0, stream, device);
}

static void
run_reads_too_early()
{
	run_early(reads_too_early);
}

static void
run_writes_too_early()
{
	run_early(writes_too_early);
}

static void
run_never_waits()
{
	run_early(never_waits);
}

/* Two launches further on the first may still run, if the one between did not wait before. */
static void
run_early_chain()
{
	run_early(lets_go);
	(void) dsocr_launch_early(true, reads_too_early, 1, 32, 0, stream, device);
}

static void
run_early_in_time()
{
	run_early(fill_one);
	(void) dsocr_launch_early(true, reads_too_early, 1, 32, 0, stream, device + 64);
}

static void
run_touch_host()
{
	int *host = static_cast<int *>(calloc(1, sizeof(int)));

	(void) dsocr_launch(touch_host, 1, 1, 0, stream, device, host);
	(void) cudaStreamSynchronize(stream);
	free(host);
}

static void
run_uninitialised_device()
{
	int *fresh;

	(void) cudaMalloc(&fresh, 64);
	(void) dsocr_launch(copy_one, 1, 1, 0, stream, device, fresh);
}

static void
run_after_free()
{
	int *freed;

	(void) cudaMalloc(&freed, 64);
	(void) cudaMemsetAsync(freed, 0, 64, stream);
	(void) cudaFree(freed);
	(void) dsocr_launch(copy_one, 1, 1, 0, stream, device, freed);
}

static void
run_host_reads_device()
{
	printf("%d\n", *static_cast<volatile int *>(device));
}

static void
run_copy_behind()
{
	char host[8] = {0};

	(void) cudaMemcpyAsync(device + 1023, host, 8, cudaMemcpyHostToDevice, stream);
}

static void
run_set_behind()
{
	(void) cudaMemsetAsync(device, 0, 4097, stream);
}

/* Poison is a wrong result in the builds that do not watch single accesses. */
static void
check_values()
{
	int *host = static_cast<int *>(calloc(1024, sizeof(int)));

	(void) cudaMemcpyAsync(host, device, 4096, cudaMemcpyDeviceToHost, stream);
	for (int i = 0; i < 1024; i++)
		if (host[i] == -1)
		{
			fprintf(stderr, "poison\n");
			_exit(1);
		}
	free(host);
}

typedef struct Case
{
	const char *name;
	void (*run)(void);
	const char *expected[3]; /* plain, asan, race; NULL: not seen there */
} Case;

#define CASE(name, ...)                                                                            \
	{                                                                                              \
#name, run_##name,                                                                         \
		{                                                                                          \
			__VA_ARGS__                                                                            \
		}                                                                                          \
	}
#define ALL(name, text) CASE(name, text, text, text)
#define RACE(name, text) CASE(name, NULL, NULL, text)

static const Case cases[] = {
	CASE(missing_barrier, "poison", "poison", "which nobody has written"),
	CASE(missing_barrier_static, "poison", "poison", "which nobody has written"),
	RACE(missing_third_barrier, "meets a read by thread"),
	RACE(missing_second_barrier, "meets a read by thread"),
	CASE(missing_syncwarp, NULL, NULL, "meets a write by thread"),
	CASE(wrong_named_barrier, "poison", "poison", "which nobody has written"),
	RACE(ldmatrix_race, "meets a write by thread"),
	RACE(between_blocks_write, "race between blocks: write"),
	RACE(between_blocks_read, "race between blocks: read"),
	CASE(last_block, NULL, NULL, NULL),
	RACE(last_block_unfenced, "race between blocks: read"),
	RACE(last_block_unordered, "race between blocks: read"),
	RACE(atomic_and_read, "race: "),
	CASE(async_unwaited, "poison", "poison", "cp.async that was not waited for"),
	CASE(async_wrong_group, "poison", "poison", "cp.async that was not waited for"),
	CASE(async_uncommitted, "poison", "poison", "cp.async that was not waited for"),
	CASE(async_without_barrier, "poison", "poison", "which nobody has written"),
	RACE(async_too_early, "race: "),
	ALL(async_misaligned, "not aligned to 16 bytes"),
	ALL(async_misaligned_source, "not aligned to 16 bytes"),
	ALL(async_behind_source, "is not allocated"),
	CASE(behind_shared, "bytes behind its", "use-after-poison", "of shared memory"),
	CASE(behind_static, NULL, "global-buffer-overflow", NULL),
	ALL(no_shared, "gave no dynamic shared memory"),
	CASE(behind_global, NULL, "use-after-poison", "is not allocated"),
	CASE(before_global, NULL, "use-after-poison", "is not allocated"),
	CASE(vector_misaligned, "crash", "which requires 16 byte alignment",
		 "is not aligned to 16 bytes"),
	CASE(pair_misaligned, NULL, "which requires 8 byte alignment", "is not aligned to 8 bytes"),
	ALL(stream_misaligned, "not aligned"),
	ALL(ldmatrix_misaligned, "not aligned to 16 bytes"),
	ALL(ldmatrix_global, "not in shared memory"),
	ALL(ldmatrix_behind, "not in shared memory"),
	RACE(touch_host, "of host memory"),
	CASE(uninitialised_shared, "poison", "poison", "which nobody has written"),
	CASE(uninitialised_device, "poison", "poison", "which nobody has written"),
	CASE(after_free, NULL, "use-after-poison", "is not allocated"),
	CASE(host_reads_device, "", "", ""),
	ALL(copy_behind, "of an allocation of"),
	ALL(set_behind, "of an allocation of"),
	RACE(reads_too_early, "before dsocr_grid_wait meets a write"),
	RACE(writes_too_early, "before dsocr_grid_wait meets a write"),
	ALL(never_waits, "nobody called dsocr_grid_wait"),
	RACE(early_chain, "before dsocr_grid_wait meets a write"),
	CASE(early_in_time, NULL, NULL, NULL),
	ALL(leaves_before_barrier, "left"),
	ALL(barrier_after_leaving, "left"),
	ALL(two_barriers, "waits in another __syncthreads"),
	ALL(counts_differ, "waits for 64"),
	ALL(half_warps, "barrier 1 was reached by"),
	ALL(deadlock, "deadlock; from thread 0: in barrier 1 (32 of 64)"),
	ALL(shuffle_diverged, "while lane 0 is in __shfl_sync"),
	ALL(shuffle_after_leaving, "left"),
	ALL(shuffle_in_barrier, "deadlock"),
	ALL(partial_mask, "with mask 0000ffff"),
	ALL(partial_warp, "in a warp of 24 threads"),
};

static void
run_case(const Case *c)
{
	int *pair[2] = {NULL, NULL};

	(void) cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
	for (int i = 0; i < 2; i++)
	{
		(void) cudaMalloc(&pair[i], 4096);
		(void) cudaMemsetAsync(pair[i], 0, 4096, stream);
	}
	device = pair[0];
	source = reinterpret_cast<float *>(pair[1]);
	c->run();
	check_values();
	_exit(0);
}

/* What a child says until its end; its status. */
static int
listen_to(const Case *c, char *text, size_t size)
{
	int ends[2];
	int status = 0;
	size_t n = 0;
	ssize_t got;
	pid_t child;

	fflush(stdout);
	if (pipe(ends) != 0)
		return 0;
	child = fork();
	if (child == 0)
	{
		dup2(ends[1], 2);
		close(ends[0]);
		run_case(c);
	}
	close(ends[1]);
	/* read to the end even if the text does not fit */
	while ((got = read(ends[0], text + n, size - 1 - n)) > 0)
		n = n + (size_t) got < size - 1 ? n + (size_t) got : size / 2;
	text[n] = '\0';
	close(ends[0]);
	waitpid(child, &status, 0);
	return status;
}

int
main(int argc, char **argv)
{
	static char text[65536];
	int passed = 0;
	int failed = 0;

	for (const Case &c : cases)
	{
		const char *expected = c.expected[BUILD];
		int status;

		if (argc > 1 && strcmp(argv[1], c.name) != 0)
			continue;
		status = listen_to(&c, text, sizeof(text));
		if (argc > 1)
			printf("%s", text);
		if (expected == NULL ? status == 0 : status != 0 && strstr(text, expected) != NULL)
			passed++;
		else
		{
			failed++;
			printf("%s: status %d, expected \"%s\", said: %.600s\n", c.name, status,
				   expected != NULL ? expected : "nothing", text);
		}
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
