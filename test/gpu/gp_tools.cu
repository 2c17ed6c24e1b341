/*-------------------------------------------------------------------------
 *
 * gp_tools.cu
 *		Events, recordings and faults on the device of a backend.
 *
 * The runtime in this library and the backend's own share one context, and a
 * stream of one is a stream of the other.
 *
 *-------------------------------------------------------------------------
 */
#include "cuda.h"

#include <cuda_profiler_api.h>
#include <stdio.h>

extern "C"
{
#include "gp_tools.h"
}

#define MAX_MARKS 20000

static bool
ok(cudaError_t rc, const char *what)
{
	if (rc != cudaSuccess)
		fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(rc));
	return rc == cudaSuccess;
}

static bool
facts(const DsocrBackend *be, char *json, size_t size)
{
	const DsocrCuda *c = (const DsocrCuda *) be;
	cudaDeviceProp p;
	size_t free_bytes = 0;
	size_t total = 0;
	int clock = 0;
	int memory_clock = 0;
	int bus = 0;
	int driver = 0;

	if (!ok(cudaSetDevice(c->device), "device") ||
		!ok(cudaGetDeviceProperties(&p, c->device), "properties") ||
		!ok(cudaMemGetInfo(&free_bytes, &total), "memory"))
		return false;
	(void) cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, c->device);
	(void) cudaDeviceGetAttribute(&memory_clock, cudaDevAttrMemoryClockRate, c->device);
	(void) cudaDeviceGetAttribute(&bus, cudaDevAttrGlobalMemoryBusWidth, c->device);
	(void) cudaDriverGetVersion(&driver);
	snprintf(json, size,
			 "{\"name\": \"%s\", \"capability\": \"%d.%d\", \"sms\": %d, \"l2_bytes\": %d, "
			 "\"memory_bytes\": %zu, \"clock_khz\": %d, \"memory_clock_khz\": %d, "
			 "\"memory_bus_bits\": %d, \"driver_cuda\": %d, \"runtime_cuda\": %d, "
			 "\"cublaslt\": %s}",
			 p.name, p.major, p.minor, p.multiProcessorCount, p.l2CacheSize, total, clock,
			 memory_clock, bus, driver, CUDART_VERSION, c->blas != NULL ? "true" : "false");
	return true;
}

static double
copy(size_t bytes, int runs)
{
	void *a = NULL;
	void *b = NULL;
	cudaEvent_t from;
	cudaEvent_t to;
	float best = 0;

	if (!ok(cudaMalloc(&a, bytes), "memory") || !ok(cudaMalloc(&b, bytes), "memory") ||
		!ok(cudaMemset(a, 0x5a, bytes), "memset") || !ok(cudaEventCreate(&from), "event") ||
		!ok(cudaEventCreate(&to), "event"))
		runs = 0;
	for (int i = -2; i < runs; i++)
	{
		float ms = 0;

		(void) cudaEventRecord(from, 0);
		(void) cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice, 0);
		(void) cudaEventRecord(to, 0);
		if (!ok(cudaEventSynchronize(to), "copy") ||
			!ok(cudaEventElapsedTime(&ms, from, to), "time"))
			break;
		if (i >= 0 && (best == 0 || ms < best))
			best = ms;
	}
	(void) cudaFree(a);
	(void) cudaFree(b);
	return best > 0 ? 2e3 * (double) bytes / best : 0;
}

static bool
record_begin(DsocrBackend *be)
{
	DsocrCuda *c = (DsocrCuda *) be;

	if (!ok(cudaSetDevice(c->device), "device") ||
		!ok(cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal), "recording"))
		return false;
	c->recording = true;
	c->spoiled = false;
	return true;
}

static bool
replay(cudaStream_t stream, cudaGraphExec_t step, int rounds, double *us)
{
	cudaEvent_t from;
	cudaEvent_t to;
	bool good = ok(cudaEventCreate(&from), "event") && ok(cudaEventCreate(&to), "event");

	for (int i = -1; good && i < rounds; i++)
	{
		float ms = 0;

		(void) cudaEventRecord(from, stream);
		good = ok(cudaGraphLaunch(step, stream), "replay");
		(void) cudaEventRecord(to, stream);
		good = good && ok(cudaEventSynchronize(to), "replay") &&
			   ok(cudaEventElapsedTime(&ms, from, to), "time");
		if (i >= 0)
			us[i] = 1e3 * (double) ms;
	}
	return good;
}

static bool
record_end(DsocrBackend *be, int rounds, double *us)
{
	DsocrCuda *c = (DsocrCuda *) be;
	cudaGraph_t graph = NULL;
	cudaGraphExec_t step = NULL;
	cudaError_t rc = cudaStreamEndCapture(c->stream, &graph);
	bool good = ok(rc, "end of recording") && !c->spoiled;

	c->recording = false;
	c->spoiled = false;
	good = good && ok(cudaGraphInstantiate(&step, graph, 0), "graph") &&
		   replay(c->stream, step, rounds, us);
	if (step != NULL)
		(void) cudaGraphExecDestroy(step);
	if (graph != NULL)
		(void) cudaGraphDestroy(graph);
	(void) cudaGetLastError();
	return good;
}

/* ---- moments ---- */

static cudaEvent_t events[MAX_MARKS];
static int n_events;
static int n_marks;

static bool
mark(const DsocrBackend *be)
{
	const DsocrCuda *c = (const DsocrCuda *) be;

	if (n_marks == 0)
		(void) cudaSetDevice(c->device);
	if (n_marks == MAX_MARKS)
		return false;
	if (n_marks == n_events && !ok(cudaEventCreate(&events[n_events++]), "event"))
		return false;
	return ok(cudaEventRecord(events[n_marks++], c->stream), "event");
}

static int
marks(double *us, int max)
{
	int n = n_marks - 1;

	if (n > max)
		n = max;
	if (n > 0 && !ok(cudaEventSynchronize(events[n_marks - 1]), "events"))
		n = 0;
	for (int i = 0; i < n; i++)
	{
		float ms = 0;

		(void) cudaEventElapsedTime(&ms, events[i], events[i + 1]);
		us[i] = 1e3 * (double) ms;
	}
	n_marks = 0;
	return n;
}

static void
profile(bool on)
{
	(void) (on ? cudaProfilerStart() : cudaProfilerStop());
}

/* ---- faults ---- */

static __global__ void
write_to(int *nowhere)
{
	*nowhere = 1;
}

static bool
fault(void)
{
	int *nowhere = reinterpret_cast<int *>(0x10);

	if (!ok(dsocr_launch(write_to, dim3(1), dim3(1), 0, (cudaStream_t) 0, nowhere), "fault"))
		return false;
	return cudaDeviceSynchronize() != cudaSuccess;
}

extern "C" __attribute__((visibility("default")))
const GpTools gp_tools = {facts, copy, record_begin, record_end, mark, marks, profile, fault};
