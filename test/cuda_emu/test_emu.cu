/*-------------------------------------------------------------------------
 *
 * test_emu.cu
 *		The emulator against plain loops: warp functions, matrix instructions
 *		by the text of the PTX manual, copies, streams, recordings.
 *
 *-------------------------------------------------------------------------
 */
#include "device.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <vector>

static int passed, failed;

#define CHECK(condition)                                                                           \
	do                                                                                             \
	{                                                                                              \
		if (condition)                                                                             \
			passed++;                                                                              \
		else                                                                                       \
		{                                                                                          \
			failed++;                                                                              \
			printf("%s:%d: %s is wrong\n", __FILE__, __LINE__, #condition);                        \
		}                                                                                          \
	} while (0)

static cudaStream_t stream;

template <typename T>
static T *
upload(const std::vector<T> &host)
{
	T *p = NULL;

	CHECK(cudaMalloc(&p, host.size() * sizeof(T)) == cudaSuccess);
	CHECK(cudaMemcpyAsync(p, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice,
						  stream) == cudaSuccess);
	return p;
}

/* Values of a device array, which is freed. */
template <typename T>
static std::vector<T>
download(T *p, size_t n)
{
	std::vector<T> host(n);

	CHECK(cudaMemcpyAsync(host.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost, stream) ==
		  cudaSuccess);
	CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
	CHECK(cudaFree(p) == cudaSuccess);
	return host;
}

static uint32_t
next_random()
{
	static uint32_t state = 1;

	state = state * 1664525u + 1013904223u;
	return state >> 8;
}

static uint16_t
random_bf16()
{
	return __float2bfloat16_rn((float) (next_random() % 2001) / 500.0f - 2.0f).dsocr_bits;
}

static float
widen(uint16_t v)
{
	return __bfloat162float({v});
}

/* ---- warp functions ---- */

static __global__ void
warp_kernel(int *out) /* [16, 32] */
{
	int lane = (int) threadIdx.x;
	int v = lane * lane;
	int row = 0;

	out[32 * row++ + lane] = __shfl_sync(0xffffffffu, v, 5);
	out[32 * row++ + lane] = __shfl_sync(0xffffffffu, v, lane + 1);
	out[32 * row++ + lane] = __shfl_sync(0xffffffffu, v, 3, 8);
	out[32 * row++ + lane] = __shfl_up_sync(0xffffffffu, v, 2);
	out[32 * row++ + lane] = __shfl_up_sync(0xffffffffu, v, 3, 16);
	out[32 * row++ + lane] = __shfl_down_sync(0xffffffffu, v, 4);
	out[32 * row++ + lane] = __shfl_down_sync(0xffffffffu, v, 1, 4);
	out[32 * row++ + lane] = __shfl_xor_sync(0xffffffffu, v, 16);
	out[32 * row++ + lane] = __shfl_xor_sync(0xffffffffu, v, 8, 8);
	out[32 * row++ + lane] = (int) __ballot_sync(0xffffffffu, lane % 3 == 0);
	out[32 * row++ + lane] = __any_sync(0xffffffffu, lane == 31);
	out[32 * row++ + lane] = __all_sync(0xffffffffu, lane != 31);
	out[32 * row++ + lane] = __reduce_add_sync(0xffffffffu, -lane);
	out[32 * row++ + lane] = (int) __reduce_max_sync(0xffffffffu, (unsigned) -lane);
	out[32 * row++ + lane] = (int) __match_any_sync(0xffffffffu, lane / 16);
	out[32 * row++ + lane] = (int) (__shfl_sync(0xffffffffu, (double) v + 0.5, 7) * 2.0);
}

static void
test_warp()
{
	int *device = upload(std::vector<int>(512, -1));
	std::vector<int> out;

	CHECK(dsocr_launch(warp_kernel, 1, 32, 0, stream, device) == cudaSuccess);
	out = download(device, 512);
	for (int l = 0; l < 32; l++)
	{
		const int *row = out.data() + l;
		unsigned thirds = 0;

		for (int i = 0; i < 32; i += 3)
			thirds |= 1u << i;
		CHECK(row[0] == 25);
		CHECK(row[32] == (l + 1) % 32 * ((l + 1) % 32));
		CHECK(row[64] == (l / 8 * 8 + 3) * (l / 8 * 8 + 3));
		CHECK(row[96] == (l < 2 ? l * l : (l - 2) * (l - 2)));
		CHECK(row[128] == (l % 16 < 3 ? l * l : (l - 3) * (l - 3)));
		CHECK(row[160] == (l > 27 ? l * l : (l + 4) * (l + 4)));
		CHECK(row[192] == (l % 4 == 3 ? l * l : (l + 1) * (l + 1)));
		CHECK(row[224] == (l ^ 16) * (l ^ 16));
		/* an earlier group may be reached, a later one not */
		CHECK(row[256] == ((l & 8) != 0 ? (l ^ 8) * (l ^ 8) : l * l));
		CHECK((unsigned) row[288] == thirds);
		CHECK(row[320] == 1);
		CHECK(row[352] == 0);
		CHECK(row[384] == -496);
		CHECK(row[416] == -1);
		CHECK((unsigned) row[448] == (l < 16 ? 0x0000ffffu : 0xffff0000u));
		CHECK(row[480] == 99);
	}
}

/* ---- matrix instructions ---- */

static __global__ void
mma_kernel(float *d, const uint32_t *a, const uint32_t *b) /* [32, 4], [32, 4], [32, 2] */
{
	int lane = (int) threadIdx.x;

	dsocr_mma_bf16(d + 4 * lane, a + 4 * lane, b + 2 * lane);
}

/*
 * "row = groupID for ai where 0 <= i < 2 || 4 <= i < 6, groupID + 8
 * otherwise; col = (threadID_in_group * 2) + (i & 0x1) for ai where i < 4,
 * (threadID_in_group * 2) + (i & 0x1) + 8 for ai where i >= 4"
 */
static void
test_mma()
{
	std::vector<uint16_t> am(256), bm(128);
	std::vector<uint32_t> a(128), b(64);
	std::vector<float> cm(128), d(128), out;
	float *device;

	for (uint16_t &v : am)
		v = random_bf16();
	for (uint16_t &v : bm)
		v = random_bf16();
	for (float &v : cm)
		v = widen(random_bf16());
	for (int lane = 0; lane < 32; lane++)
	{
		int group_id = lane >> 2;
		int thread_id_in_group = lane % 4;

		for (int i = 0; i < 8; i++)
		{
			int row = (0 <= i && i < 2) || (4 <= i && i < 6) ? group_id : group_id + 8;
			int col = thread_id_in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);

			a[(size_t) (lane * 4 + i / 2)] |= (uint32_t) am[(size_t) (row * 16 + col)]
											  << (16 * (i % 2));
		}
		for (int i = 0; i < 4; i++)
		{
			int row = thread_id_in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
			int col = group_id;

			b[(size_t) (lane * 2 + i / 2)] |= (uint32_t) bm[(size_t) (row * 8 + col)]
											  << (16 * (i % 2));
		}
		for (int i = 0; i < 4; i++)
		{
			int row = i < 2 ? group_id : group_id + 8;
			int col = thread_id_in_group * 2 + (i & 1);

			d[(size_t) (lane * 4 + i)] = cm[(size_t) (row * 8 + col)];
		}
	}
	device = upload(d);
	CHECK(dsocr_launch(mma_kernel, 1, 32, 0, stream, device, upload(a), upload(b)) == cudaSuccess);
	out = download(device, 128);
	for (int row = 0; row < 16; row++)
		for (int col = 0; col < 8; col++)
		{
			double sum = cm[(size_t) (row * 8 + col)];
			int lane = row % 8 * 4 + col / 2;

			for (int k = 0; k < 16; k++)
				sum +=
					(double) widen(am[(size_t) (row * 16 + k)]) * widen(bm[(size_t) (k * 8 + col)]);
			CHECK(fabs(sum - out[(size_t) (lane * 4 + row / 8 * 2 + col % 2)]) < 1e-4);
		}
}

static __global__ void
ldmatrix_kernel(uint32_t *out) /* [32, 12] */
{
	uint16_t *s = dsocr_shared<uint16_t>(); /* [32 rows, 24]: 8 elements used */
	int lane = (int) threadIdx.x;
	uint32_t *mine = out + 12 * lane;

	for (int i = 0; i < 24; i++)
		s[24 * lane + i] = (uint16_t) (100 * lane + i);
	__syncwarp();
	dsocr_ldmatrix_x4(mine, s + 24 * lane);
	dsocr_ldmatrix_x4_trans(mine + 4, s + 24 * lane);
	/* addresses of lanes 16 .. 31 do not count */
	dsocr_ldmatrix_x2(mine + 8, lane < 16 ? s + 24 * (31 - lane) : NULL);
	dsocr_ldmatrix_x2_trans(mine + 10, lane < 16 ? s + 24 * (31 - lane) : NULL);
}

/* "each thread loads a fragment of a row: thread i has elements 2 (i % 4), + 1 of row i / 4" */
static void
test_ldmatrix()
{
	uint32_t *device = upload(std::vector<uint32_t>(32 * 12));
	std::vector<uint32_t> out;

	CHECK(dsocr_launch(ldmatrix_kernel, 1, 32, 32 * 24 * 2, stream, device) == cudaSuccess);
	out = download(device, 32 * 12);
	for (uint32_t lane = 0; lane < 32; lane++)
		for (uint32_t j = 0; j < 4; j++)
		{
			const uint32_t *mine = out.data() + 12 * lane;
			uint32_t row = 8 * j + lane / 4;
			uint32_t col = lane % 4 * 2;
			uint32_t row_t = 8 * j + lane % 4 * 2;
			uint32_t col_t = lane / 4;

			CHECK(mine[j] == ((100 * row + col) | (100 * row + col + 1) << 16));
			CHECK(mine[4 + j] == ((100 * row_t + col_t) | (100 * (row_t + 1) + col_t) << 16));
			if (j >= 2)
				continue;
			row = 31 - row;
			CHECK(mine[8 + j] == ((100 * row + col) | (100 * row + col + 1) << 16));
			CHECK(mine[10 + j] ==
				  ((100 * (31 - row_t) + col_t) | (100 * (31 - row_t - 1) + col_t) << 16));
		}
}

/* C[16,8] = A[16,16] @ B[16,8] the way kernels do it: B by rows needs .trans, by columns not. */
static __global__ void
product_kernel(float *c, const uint16_t *a, const uint16_t *b, bool b_by_columns)
{
	uint16_t *sa = dsocr_shared<uint16_t>(); /* [16, 24] */
	uint16_t *sb = sa + 16 * 24;			 /* [8, 24] by columns, [16, 8] by rows */
	int lane = (int) threadIdx.x;
	uint32_t fa[4], fb[2];
	float d[4] = {0, 0, 0, 0};

	for (int i = lane; i < 256; i += 32)
		sa[i / 16 * 24 + i % 16] = a[i];
	for (int i = lane; i < 128; i += 32)
		sb[b_by_columns ? i % 8 * 24 + i / 8 : i] = b[i];
	__syncthreads();
	dsocr_ldmatrix_x4(fa, sa + lane % 16 * 24 + lane / 16 * 8);
	if (b_by_columns)
		dsocr_ldmatrix_x2(fb, sb + lane % 8 * 24 + lane / 8 % 2 * 8);
	else
		dsocr_ldmatrix_x2_trans(fb, sb + lane % 16 * 8);
	dsocr_mma_bf16(d, fa, fb);
	for (int i = 0; i < 4; i++)
		c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
}

static void
test_product()
{
	for (int by_columns = 0; by_columns < 2; by_columns++)
	{
		std::vector<uint16_t> a(256), b(128);
		float *device = upload(std::vector<float>(128));
		std::vector<float> c;

		for (uint16_t &v : a)
			v = random_bf16();
		for (uint16_t &v : b)
			v = random_bf16();
		CHECK(dsocr_launch(product_kernel, 1, 32, (16 + 8) * 24 * 2, stream, device, upload(a),
						   upload(b), by_columns == 1) == cudaSuccess);
		c = download(device, 128);
		for (size_t i = 0; i < 128; i++)
		{
			double sum = 0;

			for (size_t k = 0; k < 16; k++)
				sum += (double) widen(a[i / 8 * 16 + k]) * widen(b[k * 8 + i % 8]);
			CHECK(fabs(sum - c[i]) < 1e-4);
		}
	}
}

/* ---- blocks ---- */

static __global__ void
index_kernel(int *seen, int *total)
{
	__shared__ int part[96];
	int thread = (int) (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
	int block = (int) (blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));

	part[thread] = thread;
	__syncthreads();
	for (int half = 48; half >= 3; half /= 2)
	{
		if (thread < half)
			part[thread] += part[thread + half];
		__syncthreads();
	}
	if (thread == 0)
		atomicAdd(total, part[0] + part[1] + part[2]);
	atomicAdd(seen + block * 96 + thread, 1);
}

static void
test_blocks()
{
	int *seen = upload(std::vector<int>(24 * 96, 0));
	int *total = upload(std::vector<int>(1, 0));

	CHECK(dsocr_launch(index_kernel, dim3(2, 3, 4), dim3(8, 4, 3), 0, stream, seen, total) ==
		  cudaSuccess);
	CHECK(download(seen, 24 * 96) == std::vector<int>(24 * 96, 1));
	CHECK(download(total, 1)[0] == 24 * (95 * 96 / 2));
}

/* Warp 0 fills, the others use; each pair of warps meets in a barrier of its own. */
static __global__ void
named_kernel(int *out)
{
	__shared__ int s[64];
	int warp = (int) threadIdx.x / 32;
	int lane = (int) threadIdx.x % 32;

	if (warp == 0)
	{
		for (int i = 0; i < 2; i++)
		{
			s[32 * i + lane] = 100 * i + lane;
			dsocr_bar_sync(1 + i, 64);
		}
		return;
	}
	dsocr_bar_sync(warp, 64);
	out[32 * (warp - 1) + lane] = s[32 * (warp - 1) + 31 - lane];
}

static void
test_named_barriers()
{
	int *device = upload(std::vector<int>(64));
	std::vector<int> out;

	CHECK(dsocr_launch(named_kernel, 1, 96, 0, stream, device) == cudaSuccess);
	out = download(device, 64);
	for (int i = 0; i < 64; i++)
		CHECK(out[(size_t) i] == i / 32 * 100 + 31 - i % 32);
}

/* ---- asynchronous copies ---- */

static __global__ void
async_kernel(float *out, const float *in) /* [64, 3], [64, 8] */
{
	float *s = dsocr_shared<float>(); /* [64, 8] */
	int t = (int) threadIdx.x;

	dsocr_cp_async16(s + 8 * t, in + 8 * t, true);
	dsocr_cp_async_commit();
	dsocr_cp_async16(s + 8 * t + 4, in, false);
	dsocr_cp_async_commit();
	dsocr_cp_async_wait<1>();
	__syncthreads();
	out[3 * t] = s[8 * (63 - t) + 3];
	dsocr_cp_async_wait<0>();
	__syncthreads();
	out[3 * t + 1] = s[8 * (63 - t) + 7];
	out[3 * t + 2] = __uint_as_float(dsocr_load_stream(in + 4 * t).y);
}

static void
test_async()
{
	std::vector<float> in(512);
	float *device = upload(std::vector<float>(192));
	std::vector<float> out;

	for (size_t i = 0; i < in.size(); i++)
		in[i] = (float) i;
	CHECK(dsocr_launch(async_kernel, 1, 64, 64 * 8 * sizeof(float), stream, device, upload(in)) ==
		  cudaSuccess);
	out = download(device, 192);
	for (size_t t = 0; t < 64; t++)
	{
		CHECK(out[3 * t] == in[8 * (63 - t) + 3]);
		CHECK(out[3 * t + 1] == 0.0f);
		CHECK(out[3 * t + 2] == in[4 * t + 1]);
	}
}

/* ---- numbers ---- */

static void
test_numbers()
{
	CHECK(__float2bfloat16_rn(1.0f).dsocr_bits == 0x3f80);
	CHECK(__float2bfloat16_rn(1.00390625f).dsocr_bits == 0x3f80); /* half way: to even */
	CHECK(__float2bfloat16_rn(1.01171875f).dsocr_bits == 0x3f82);
	CHECK(__float2bfloat16_rn(1.00391f).dsocr_bits == 0x3f81);
	CHECK(__float2bfloat16_rn(-INFINITY).dsocr_bits == 0xff80);
	CHECK(__float2bfloat16_rn(3.4e38f).dsocr_bits == 0x7f80);
	CHECK(__float2bfloat16_rn(NAN).dsocr_bits == 0x7fff);
	CHECK(dsocr_pack_bf16(1.0f, -2.0f) == 0xc0003f80u);
	CHECK(dsocr_unpack_bf16(0xc0003f80u).x == 1.0f && dsocr_unpack_bf16(0xc0003f80u).y == -2.0f);
	CHECK(dsocr_exp2(-INFINITY) == 0.0f && dsocr_exp2(3.0f) == 8.0f && dsocr_exp2(-149.0f) == 0);
	CHECK(__clz(1) == 31 && __clz(0) == 32 && __ffs(8) == 4 && __popc(255) == 8);
	CHECK(max(-1, 2) == 2 && min(1.0f, NAN) == 1.0f);
}

/* ---- streams and recordings ---- */

static __global__ void
add_kernel(int *x, const int *y, int n)
{
	int i = (int) (blockIdx.x * blockDim.x + threadIdx.x);

	if (i < n)
		x[i] += y[i];
}

static void
test_streams()
{
	int *x = upload(std::vector<int>(100, 1));
	int *y = upload(std::vector<int>(100, 2));
	int pageable[100] = {0};
	int *pinned;
	cudaStream_t other;
	cudaEvent_t event;

	CHECK(cudaMallocHost(&pinned, 400) == cudaSuccess);
	CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) == cudaSuccess);
	CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
	/* what is in flight has not happened yet, and a pinned source is read late */
	for (int i = 0; i < 100; i++)
		pinned[i] = pageable[i] = 10;
	CHECK(cudaMemcpyAsync(x, pageable, 400, cudaMemcpyHostToDevice, stream) == cudaSuccess);
	CHECK(cudaMemcpyAsync(y, pinned, 400, cudaMemcpyHostToDevice, stream) == cudaSuccess);
	for (int i = 0; i < 100; i++)
		pinned[i] = pageable[i] = 70;
	CHECK(dsocr_launch(add_kernel, 4, 32, 0, stream, x, y, 100) == cudaSuccess);
	CHECK(cudaEventRecord(event, stream) == cudaSuccess);
	CHECK(cudaStreamWaitEvent(other, event) == cudaSuccess);
	CHECK(cudaMemcpyAsync(pinned, x, 400, cudaMemcpyDeviceToHost, other) == cudaSuccess);
	CHECK(pinned[0] == 70);
	CHECK(cudaStreamSynchronize(other) == cudaSuccess);
	CHECK(pinned[0] == 80 && pinned[99] == 80);
	CHECK(cudaEventQuery(event) == cudaSuccess);
	CHECK(cudaMemsetAsync(x, 0, 400, stream) == cudaSuccess);
	CHECK(cudaMemcpy2DAsync(x + 5, 40, y, 20, 12, 4, cudaMemcpyDeviceToDevice, stream) ==
		  cudaSuccess);
	CHECK(cudaMemcpyAsync(pageable, x, 400, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
	for (int i = 0; i < 100; i++)
		CHECK(pageable[i] == (i >= 5 && i < 45 && (i - 5) % 10 < 3 ? 70 : 0));
	CHECK(cudaEventDestroy(event) == cudaSuccess);
	CHECK(cudaStreamDestroy(other) == cudaSuccess);
	CHECK(cudaFreeHost(pinned) == cudaSuccess);
	CHECK(cudaFree(x) == cudaSuccess);
	CHECK(cudaFree(y) == cudaSuccess);
}

static void
test_graphs()
{
	int *x = upload(std::vector<int>(64, 1));
	int *y = upload(std::vector<int>(64, 2));
	void *p;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	cudaStreamCaptureStatus status;

	CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
	CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
	CHECK(dsocr_launch(add_kernel, 2, 32, 0, stream, x, y, 64) == cudaSuccess);
	CHECK(cudaMemcpyAsync(y, x, 4, cudaMemcpyDeviceToDevice, stream) == cudaSuccess);
	CHECK(cudaStreamIsCapturing(stream, &status) == cudaSuccess);
	CHECK(status == cudaStreamCaptureStatusActive);
	CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
	CHECK(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
	CHECK(cudaGraphDestroy(graph) == cudaSuccess);
	for (int i = 0; i < 3; i++)
		CHECK(cudaGraphLaunch(exec, stream) == cudaSuccess);
	CHECK(cudaGraphExecDestroy(exec) == cudaSuccess);
	/* x: 1, 3, 6, 12 with y = x behind each; elsewhere 1 + 3 * 2 */
	CHECK(download(x, 64)[0] == 12);
	CHECK(download(y, 64)[1] == 2);
	/* whatever waits or allocates spoils a recording */
	CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
	CHECK(cudaMalloc(&p, 16) == cudaErrorStreamCaptureUnsupported);
	CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);
	CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
	CHECK(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported);
	CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);
	CHECK(cudaGetLastError() == cudaErrorStreamCaptureInvalidated);
	CHECK(cudaGetLastError() == cudaSuccess);
}

static void
test_refusals()
{
	int *x = upload(std::vector<int>(1, 0));

	CHECK(dsocr_launch(add_kernel, 0, 32, 0, stream, x, x, 0) == cudaErrorInvalidConfiguration);
	CHECK(dsocr_launch(add_kernel, 1, 1025, 0, stream, x, x, 0) == cudaErrorInvalidConfiguration);
	CHECK(dsocr_launch(add_kernel, dim3(1, 65536), 32, 0, stream, x, x, 0) ==
		  cudaErrorInvalidConfiguration);
	CHECK(dsocr_launch(add_kernel, 1, 32, 300 * 1024, stream, x, x, 0) == cudaErrorInvalidValue);
	CHECK(cudaMemcpyAsync(x, x, 4, cudaMemcpyHostToDevice, stream) ==
		  cudaErrorInvalidMemcpyDirection);
	CHECK(cudaFree(x + 1) == cudaErrorInvalidValue);
	CHECK(cudaFree(x) == cudaSuccess);
	(void) cudaGetLastError();
}

int
main()
{
	CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
	test_warp();
	test_mma();
	test_ldmatrix();
	test_product();
	test_blocks();
	test_named_barriers();
	test_async();
	test_numbers();
	test_streams();
	test_graphs();
	test_refusals();
	CHECK(cudaStreamDestroy(stream) == cudaSuccess);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
