/*-------------------------------------------------------------------------
 *
 * runtime.cc
 *		The CUDA runtime: streams, events, recordings, errors.
 *
 * A stream is a queue that is drained by whoever waits for it.  Copies from
 * and to pageable memory take place at the call, as on a device; those of
 * pinned memory when their turn comes.
 *
 * Failures on purpose, counted from the start of the process:
 *		DSOCR_EMU_FAIL_LAUNCH=n	 launch n is refused
 *		DSOCR_EMU_FAIL_STICKY=n	 launch n breaks the device
 *		DSOCR_EMU_HANG=n		 launch n never ends
 *
 *-------------------------------------------------------------------------
 */
#include "emu_internal.h"

#include <deque>
#include <mutex>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* memory.cc */
extern bool dsocr_emu_device_alloc(void **p, size_t bytes);
extern bool dsocr_emu_device_free(void *p);
extern void dsocr_emu_device_info(size_t *available, size_t *total);
extern void dsocr_emu_pin(void *p, size_t bytes);
extern bool dsocr_emu_unpin(void *p);

typedef enum OpKind
{
	OP_LAUNCH,
	OP_COPY,
	OP_SET,
	OP_HOST,
	OP_RECORD,
	OP_WAIT,
	OP_GRAPH
} OpKind;

typedef struct Op
{
	OpKind kind;
	DsocrEmuLaunch launch;
	uint64_t number; /* of the launch in the process */
	unsigned char *dst;
	size_t dst_pitch;
	const unsigned char *src;
	size_t src_pitch;
	size_t width;
	size_t height;
	int value;
	std::shared_ptr<std::vector<unsigned char>> staged; /* pageable source */
	cudaHostFn_t fn;
	void *arg;
	std::shared_ptr<struct EventState> event;
	uint64_t version; /* of the event */
	std::shared_ptr<std::vector<Op>> graph;
} Op;

typedef struct EventState
{
	uint64_t recorded; /* calls of cudaEventRecord */
	uint64_t reached;  /* the last that the device has passed */
	DsocrEmuStream *stream;
	double at; /* ms */
} EventState;

struct DsocrEmuStream
{
	std::deque<Op> queue;
	cudaStreamCaptureStatus capture;
	cudaStreamCaptureMode mode;
	std::vector<Op> captured;
	bool draining;
};

struct DsocrEmuEvent
{
	std::shared_ptr<EventState> state;
	bool timed;
};

struct DsocrEmuGraph
{
	std::vector<Op> ops;
};

struct DsocrEmuGraphExec
{
	std::shared_ptr<std::vector<Op>> ops;
};

static std::recursive_mutex lock;
static DsocrEmuStream default_stream;
static std::vector<DsocrEmuStream *> streams;
static cudaError_t sticky;
static cudaError_t last_error;
static uint64_t launches;
static bool hung;

#define ENTER() std::lock_guard<std::recursive_mutex> guard(lock)

/* ---- errors ---- */

static cudaError_t
finish(cudaError_t rc)
{
	if (sticky != cudaSuccess)
		rc = sticky;
	if (rc != cudaSuccess && rc != cudaErrorNotReady)
		last_error = rc;
	return rc;
}

cudaError_t
cudaPeekAtLastError(void)
{
	return last_error;
}

cudaError_t
cudaGetLastError(void)
{
	cudaError_t rc = last_error;

	last_error = sticky;
	return rc;
}

typedef struct ErrorText
{
	cudaError_t rc;
	const char *name;
	const char *text;
} ErrorText;

static const ErrorText error_texts[] = {
	{cudaSuccess, "cudaSuccess", "no error"},
	{cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
	{cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
	{cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
	{cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
	 "invalid configuration argument"},
	{cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
	 "invalid copy direction for memcpy"},
	{cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
	 "CUDA driver version is insufficient for CUDA runtime version"},
	{cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
	{cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
	{cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
	{cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
	{cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
	 "an illegal memory access was encountered"},
	{cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
	 "too many resources requested for launch"},
	{cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
	{cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
	{cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
	 "operation not permitted when stream is capturing"},
	{cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
	 "operation failed due to a previous error during capture"},
	{cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
	 "the capture was not initiated in this stream"},
};

static const ErrorText *
error_text(cudaError_t rc)
{
	static const ErrorText unknown = {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"};

	for (const ErrorText &e : error_texts)
		if (e.rc == rc)
			return &e;
	return &unknown;
}

const char *
cudaGetErrorString(cudaError_t rc)
{
	return error_text(rc)->text;
}

const char *
cudaGetErrorName(cudaError_t rc)
{
	return error_text(rc)->name;
}

/* ---- the device ---- */

static int
device_count()
{
	return (int) dsocr_emu_setting("DSOCR_EMU_DEVICES", 1);
}

cudaError_t
cudaDriverGetVersion(int *version)
{
	*version = 13000;
	return finish(cudaSuccess);
}

cudaError_t
cudaRuntimeGetVersion(int *version)
{
	*version = 13000;
	return finish(cudaSuccess);
}

cudaError_t
cudaGetDeviceCount(int *n)
{
	*n = device_count();
	return finish(*n > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t
cudaSetDevice(int device)
{
	return finish(device >= 0 && device < device_count() ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t
cudaGetDevice(int *device)
{
	*device = 0;
	return finish(cudaSuccess);
}

cudaError_t
cudaSetDeviceFlags(unsigned int)
{
	return finish(cudaSuccess);
}

cudaError_t
cudaGetDeviceProperties(cudaDeviceProp *prop, int device)
{
	int capability = (int) dsocr_emu_setting("DSOCR_EMU_CAPABILITY", 90);
	size_t available, total;

	if (device < 0 || device >= device_count())
		return finish(cudaErrorInvalidDevice);
	dsocr_emu_device_info(&available, &total);
	memset(prop, 0, sizeof(*prop));
	snprintf(prop->name, sizeof(prop->name), "emulated on the host");
	prop->totalGlobalMem = total;
	prop->sharedMemPerBlock = 48 * 1024;
	prop->sharedMemPerBlockOptin =
		(size_t) dsocr_emu_setting("DSOCR_EMU_SHARED", capability >= 90 ? 232448 : 166912);
	prop->sharedMemPerMultiprocessor = prop->sharedMemPerBlockOptin + 1024;
	prop->regsPerBlock = 65536;
	prop->warpSize = 32;
	prop->maxThreadsPerBlock = 1024;
	prop->maxThreadsPerMultiProcessor = 2048;
	prop->multiProcessorCount = (int) dsocr_emu_setting("DSOCR_EMU_SMS", 132);
	prop->major = capability / 10;
	prop->minor = capability % 10;
	prop->l2CacheSize = 50 << 20;
	prop->memoryBusWidth = 5120;
	prop->concurrentKernels = 1;
	prop->asyncEngineCount = 1;
	return finish(cudaSuccess);
}

cudaError_t
cudaDeviceGetAttribute(int *value, cudaDeviceAttr attr, int device)
{
	cudaDeviceProp prop;
	cudaError_t rc = cudaGetDeviceProperties(&prop, device);

	if (rc != cudaSuccess)
		return rc;
	switch (attr)
	{
		case cudaDevAttrMaxThreadsPerBlock:
			*value = prop.maxThreadsPerBlock;
			break;
		case cudaDevAttrMaxSharedMemoryPerBlock:
			*value = (int) prop.sharedMemPerBlock;
			break;
		case cudaDevAttrWarpSize:
			*value = prop.warpSize;
			break;
		case cudaDevAttrClockRate:
			*value = 1980000;
			break;
		case cudaDevAttrMultiProcessorCount:
			*value = prop.multiProcessorCount;
			break;
		case cudaDevAttrMemoryClockRate:
			*value = 2619000;
			break;
		case cudaDevAttrGlobalMemoryBusWidth:
			*value = prop.memoryBusWidth;
			break;
		case cudaDevAttrL2CacheSize:
			*value = prop.l2CacheSize;
			break;
		case cudaDevAttrMaxThreadsPerMultiProcessor:
			*value = prop.maxThreadsPerMultiProcessor;
			break;
		case cudaDevAttrComputeCapabilityMajor:
			*value = prop.major;
			break;
		case cudaDevAttrComputeCapabilityMinor:
			*value = prop.minor;
			break;
		case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
			*value = (int) prop.sharedMemPerMultiprocessor;
			break;
		case cudaDevAttrMaxSharedMemoryPerBlockOptin:
			*value = (int) prop.sharedMemPerBlockOptin;
			break;
	}
	return finish(cudaSuccess);
}

/* ---- streams ---- */

static DsocrEmuStream *
stream_of(cudaStream_t stream)
{
	return stream == NULL || stream == cudaStreamLegacy || stream == cudaStreamPerThread
			   ? &default_stream
			   : stream;
}

/* A stream in capture forbids what would wait or allocate; that ends the capture. */
static bool
capture_forbids()
{
	bool forbidden = false;

	for (DsocrEmuStream *s : streams)
		if (s->capture != cudaStreamCaptureStatusNone && s->mode != cudaStreamCaptureModeRelaxed)
		{
			s->capture = cudaStreamCaptureStatusInvalidated;
			forbidden = true;
		}
	return forbidden;
}

static void drain(DsocrEmuStream *s, const EventState *until, uint64_t version);

static double
now_ms()
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec * 1e3 + (double) t.tv_nsec * 1e-6;
}

static void
run_copy(const Op &op)
{
	const unsigned char *src = op.staged != nullptr ? op.staged->data() : op.src;
	size_t pitch = op.staged != nullptr ? op.width : op.src_pitch;

	for (size_t i = 0; i < op.height; i++)
	{
		unsigned char *dst = op.dst + i * op.dst_pitch;

		if (dsocr_emu_place(dst) == DSOCR_EMU_DEVICE)
			dsocr_emu_check_device(dst, op.width, "copy", __FILE__, __LINE__);
		if (dsocr_emu_place(op.src) == DSOCR_EMU_DEVICE)
			dsocr_emu_check_device(src + i * pitch, op.width, "copy", __FILE__, __LINE__);
		memmove(dst, src + i * pitch, op.width);
		dsocr_emu_race_host_write(dst, op.width);
	}
}

static void
run_set(const Op &op)
{
	for (size_t i = 0; i < op.height; i++)
	{
		unsigned char *dst = op.dst + i * op.dst_pitch;

		dsocr_emu_check_device(dst, op.width, "memset", __FILE__, __LINE__);
		memset(dst, op.value, op.width);
		dsocr_emu_race_host_write(dst, op.width);
	}
}

static void
run_op(DsocrEmuStream *s, const Op &op)
{
	static uint64_t break_at = (uint64_t) dsocr_emu_setting("DSOCR_EMU_FAIL_STICKY", 0);
	static uint64_t hang_at = (uint64_t) dsocr_emu_setting("DSOCR_EMU_HANG", 0);

	switch (op.kind)
	{
		case OP_LAUNCH:
			launches++;
			if (hang_at != 0 && launches >= hang_at)
				hung = true;
			else if (break_at != 0 && launches >= break_at)
				sticky = cudaErrorIllegalAddress;
			else
				dsocr_emu_run_launch(op.launch);
			break;
		case OP_COPY:
			dsocr_emu_block.behind_copy = true;
			run_copy(op);
			break;
		case OP_SET:
			dsocr_emu_block.behind_copy = true;
			run_set(op);
			break;
		case OP_HOST:
			op.fn(op.arg);
			break;
		case OP_RECORD:
			op.event->reached = op.version;
			op.event->at = now_ms();
			break;
		case OP_WAIT:
			if (op.event->reached < op.version && op.event->stream != s)
				drain(op.event->stream, op.event.get(), op.version);
			break;
		case OP_GRAPH:
			for (const Op &inner : *op.graph)
				if (!hung && sticky == cudaSuccess)
					run_op(s, inner);
			break;
	}
}

/* Run what waits in a stream, up to an event where one is given. */
static void
drain(DsocrEmuStream *s, const EventState *until, uint64_t version)
{
	if (s->draining || s->queue.empty())
		return;
	dsocr_emu_memory_open();
	dsocr_emu_memory_visible(true);
	s->draining = true;
	while (!s->queue.empty() && !hung && sticky == cudaSuccess &&
		   (until == NULL || until->reached < version))
	{
		Op op = s->queue.front();

		s->queue.pop_front();
		run_op(s, op);
	}
	s->draining = false;
	if (s->queue.empty())
		dsocr_emu_block.behind_copy = true; /* somebody has waited for all of it */
	dsocr_emu_memory_visible(false);
}

static void
drain_all()
{
	drain(&default_stream, NULL, 0);
	for (DsocrEmuStream *s : streams)
		drain(s, NULL, 0);
}

/* A device that hangs never comes back to whoever waits. */
static void
wait_forever_if_hung()
{
	if (!hung)
		return;
	lock.unlock();
	for (;;)
		usleep(100000);
}

static cudaError_t
enqueue(cudaStream_t stream, const Op &op)
{
	DsocrEmuStream *s = stream_of(stream);

	if (sticky != cudaSuccess)
		return sticky;
	if (s->capture == cudaStreamCaptureStatusInvalidated)
		return cudaErrorStreamCaptureInvalidated;
	if (s->capture == cudaStreamCaptureStatusActive)
		s->captured.push_back(op);
	else
		s->queue.push_back(op);
	return cudaSuccess;
}

cudaError_t
cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int)
{
	ENTER();
	*stream = new DsocrEmuStream();
	streams.push_back(*stream);
	return finish(cudaSuccess);
}

cudaError_t
cudaStreamCreate(cudaStream_t *stream)
{
	return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t
cudaStreamDestroy(cudaStream_t stream)
{
	ENTER();
	for (size_t i = 0; i < streams.size(); i++)
		if (streams[i] == stream)
		{
			drain(stream, NULL, 0);
			streams.erase(streams.begin() + (long) i);
			delete stream;
			return finish(cudaSuccess);
		}
	return finish(cudaErrorInvalidResourceHandle);
}

cudaError_t
cudaStreamSynchronize(cudaStream_t stream)
{
	ENTER();
	DsocrEmuStream *s = stream_of(stream);

	if (s->capture != cudaStreamCaptureStatusNone)
	{
		s->capture = cudaStreamCaptureStatusInvalidated;
		return finish(cudaErrorStreamCaptureUnsupported);
	}
	drain(s, NULL, 0);
	wait_forever_if_hung();
	return finish(cudaSuccess);
}

cudaError_t
cudaStreamQuery(cudaStream_t stream)
{
	ENTER();
	DsocrEmuStream *s = stream_of(stream);

	if (s->capture != cudaStreamCaptureStatusNone)
	{
		s->capture = cudaStreamCaptureStatusInvalidated;
		return finish(cudaErrorStreamCaptureUnsupported);
	}
	drain(s, NULL, 0);
	return finish(hung ? cudaErrorNotReady : cudaSuccess);
}

cudaError_t
cudaDeviceSynchronize(void)
{
	ENTER();
	if (capture_forbids())
		return finish(cudaErrorStreamCaptureUnsupported);
	drain_all();
	wait_forever_if_hung();
	return finish(cudaSuccess);
}

cudaError_t
cudaDeviceReset(void)
{
	return cudaDeviceSynchronize();
}

cudaError_t
cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *arg)
{
	ENTER();
	Op op = {};

	op.kind = OP_HOST;
	op.fn = fn;
	op.arg = arg;
	return finish(enqueue(stream, op));
}

/* ---- launches ---- */

cudaError_t
dsocr_emu_func_attribute(const void *, cudaFuncAttribute attr, int value)
{
	cudaDeviceProp prop;
	cudaError_t rc = cudaGetDeviceProperties(&prop, 0);

	if (rc == cudaSuccess && attr == cudaFuncAttributeMaxDynamicSharedMemorySize &&
		(value < 0 || (size_t) value > prop.sharedMemPerBlockOptin))
		rc = cudaErrorInvalidValue;
	return finish(rc);
}

cudaError_t
dsocr_emu_enqueue(const DsocrEmuLaunch &launch, cudaStream_t stream)
{
	static uint64_t refuse_at = (uint64_t) dsocr_emu_setting("DSOCR_EMU_FAIL_LAUNCH", 0);
	static uint64_t asked;
	ENTER();
	cudaDeviceProp prop;
	const dim3 &g = launch.grid;
	const dim3 &b = launch.block;
	Op op = {};

	if (cudaGetDeviceProperties(&prop, 0) != cudaSuccess)
		return finish(cudaErrorNoDevice);
	if (++asked == refuse_at)
		return finish(cudaErrorLaunchOutOfResources);
	if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535 ||
		b.x == 0 || b.y == 0 || b.z == 0 || b.x > 1024 || b.y > 1024 || b.z > 64 ||
		(uint64_t) b.x * b.y * b.z > 1024)
		return finish(cudaErrorInvalidConfiguration);
	if (launch.shared > prop.sharedMemPerBlockOptin)
		return finish(cudaErrorInvalidValue);
	op.kind = OP_LAUNCH;
	op.launch = launch;
	return finish(enqueue(stream, op));
}

/* ---- memory ---- */

cudaError_t
dsocr_emu_malloc(void **p, size_t bytes)
{
	ENTER();
	if (capture_forbids())
		return finish(cudaErrorStreamCaptureUnsupported);
	if (sticky != cudaSuccess)
		return finish(sticky);
	return finish(dsocr_emu_device_alloc(p, bytes) ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t
cudaFree(void *p)
{
	ENTER();
	if (capture_forbids())
		return finish(cudaErrorStreamCaptureUnsupported);
	if (p == NULL)
		return finish(cudaSuccess);
	drain_all();
	return finish(dsocr_emu_device_free(p) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t
cudaMemGetInfo(size_t *available, size_t *total)
{
	ENTER();
	dsocr_emu_device_info(available, total);
	return finish(cudaSuccess);
}

cudaError_t
dsocr_emu_host_alloc(void **p, size_t bytes, unsigned int)
{
	ENTER();
	if (capture_forbids())
		return finish(cudaErrorStreamCaptureUnsupported);
	if (sticky != cudaSuccess)
		return finish(sticky);
	*p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
	if (*p == NULL)
		return finish(cudaErrorMemoryAllocation);
	memset(*p, DSOCR_EMU_POISON, bytes);
	dsocr_emu_pin(*p, bytes);
	return finish(cudaSuccess);
}

cudaError_t
cudaFreeHost(void *p)
{
	ENTER();
	if (p == NULL)
		return finish(cudaSuccess);
	drain_all();
	if (!dsocr_emu_unpin(p))
		return finish(cudaErrorInvalidValue);
	free(p);
	return finish(cudaSuccess);
}

cudaError_t
cudaHostRegister(void *p, size_t bytes, unsigned int)
{
	ENTER();
	dsocr_emu_pin(p, bytes);
	return finish(cudaSuccess);
}

cudaError_t
cudaHostUnregister(void *p)
{
	ENTER();
	drain_all();
	return finish(dsocr_emu_unpin(p) ? cudaSuccess : cudaErrorInvalidValue);
}

static bool
direction_fits(DsocrEmuPlace dst, DsocrEmuPlace src, cudaMemcpyKind kind)
{
	bool to_device = dst == DSOCR_EMU_DEVICE;
	bool from_device = src == DSOCR_EMU_DEVICE;

	return kind == cudaMemcpyDefault ||
		   (to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
			from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice));
}

cudaError_t
cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width,
				  size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
	ENTER();
	DsocrEmuPlace to = dsocr_emu_place(dst);
	DsocrEmuPlace from = dsocr_emu_place(src);
	bool capturing = stream_of(stream)->capture != cudaStreamCaptureStatusNone;
	cudaError_t rc;
	Op op = {};

	if (sticky != cudaSuccess)
		return finish(sticky);
	if (width == 0 || height == 0)
		return finish(cudaSuccess);
	if (!direction_fits(to, from, kind))
		return finish(cudaErrorInvalidMemcpyDirection);
	if ((height > 1 && (dst_pitch < width || src_pitch < width)) || dst == NULL || src == NULL)
		return finish(cudaErrorInvalidValue);
	op.kind = OP_COPY;
	op.dst = static_cast<unsigned char *>(dst);
	op.dst_pitch = dst_pitch;
	op.src = static_cast<const unsigned char *>(src);
	op.src_pitch = src_pitch;
	op.width = width;
	op.height = height;
	if (from == DSOCR_EMU_HOST && !capturing)
	{
		op.staged = std::make_shared<std::vector<unsigned char>>(width * height);
		for (size_t i = 0; i < height; i++)
			memcpy(op.staged->data() + i * width, op.src + i * src_pitch, width);
	}
	rc = enqueue(stream, op);
	if (rc == cudaSuccess && to == DSOCR_EMU_HOST && !capturing)
		return cudaStreamSynchronize(stream);
	return finish(rc);
}

cudaError_t
cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
	return cudaMemcpy2DAsync(dst, bytes, src, bytes, bytes, 1, kind, stream);
}

cudaError_t
cudaMemcpy2D(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width,
			 size_t height, cudaMemcpyKind kind)
{
	ENTER();
	cudaError_t rc;

	if (capture_forbids())
		return finish(cudaErrorStreamCaptureUnsupported);
	rc = cudaMemcpy2DAsync(dst, dst_pitch, src, src_pitch, width, height, kind, NULL);
	return rc == cudaSuccess ? cudaStreamSynchronize(NULL) : rc;
}

cudaError_t
cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind)
{
	return cudaMemcpy2D(dst, bytes, src, bytes, bytes, 1, kind);
}

cudaError_t
cudaMemset2DAsync(void *dst, size_t pitch, int value, size_t width, size_t height,
				  cudaStream_t stream)
{
	ENTER();
	Op op = {};

	if (width == 0 || height == 0)
		return finish(cudaSuccess);
	if (dsocr_emu_place(dst) != DSOCR_EMU_DEVICE)
		return finish(cudaErrorInvalidValue);
	op.kind = OP_SET;
	op.dst = static_cast<unsigned char *>(dst);
	op.dst_pitch = pitch;
	op.width = width;
	op.height = height;
	op.value = value;
	return finish(enqueue(stream, op));
}

cudaError_t
cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream)
{
	return cudaMemset2DAsync(dst, bytes, value, bytes, 1, stream);
}

cudaError_t
cudaMemset(void *dst, int value, size_t bytes)
{
	return cudaMemsetAsync(dst, value, bytes, NULL);
}

/* ---- events ---- */

cudaError_t
cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
	ENTER();
	*event = new DsocrEmuEvent();
	(*event)->state = std::make_shared<EventState>();
	(*event)->timed = (flags & cudaEventDisableTiming) == 0;
	return finish(cudaSuccess);
}

cudaError_t
cudaEventCreate(cudaEvent_t *event)
{
	return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t
cudaEventDestroy(cudaEvent_t event)
{
	ENTER();
	delete event;
	return finish(cudaSuccess);
}

cudaError_t
cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	ENTER();
	EventState *e = event->state.get();
	Op op = {};

	op.kind = OP_RECORD;
	op.event = event->state;
	op.version = ++e->recorded;
	e->stream = stream_of(stream);
	return finish(enqueue(stream, op));
}

cudaError_t
cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int)
{
	ENTER();
	Op op = {};

	op.kind = OP_WAIT;
	op.event = event->state;
	op.version = event->state->recorded;
	return finish(enqueue(stream, op));
}

cudaError_t
cudaEventQuery(cudaEvent_t event)
{
	ENTER();
	EventState *e = event->state.get();

	if (capture_forbids())
		return finish(cudaErrorStreamCaptureUnsupported);
	if (e->reached == e->recorded)
		return finish(cudaSuccess);
	drain(e->stream, e, e->recorded);
	return finish(e->reached == e->recorded ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t
cudaEventSynchronize(cudaEvent_t event)
{
	ENTER();
	cudaError_t rc = cudaEventQuery(event);

	if (rc == cudaErrorNotReady)
		wait_forever_if_hung();
	return rc;
}

cudaError_t
cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
	ENTER();
	if (!start->timed || !end->timed)
		return finish(cudaErrorInvalidResourceHandle);
	if (start->state->reached != start->state->recorded ||
		end->state->reached != end->state->recorded)
		return finish(cudaErrorNotReady);
	*ms = (float) (end->state->at - start->state->at);
	return finish(cudaSuccess);
}

/* ---- recordings ---- */

cudaError_t
cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
	ENTER();
	DsocrEmuStream *s = stream_of(stream);

	if (s == &default_stream)
		return finish(cudaErrorStreamCaptureUnsupported);
	if (s->capture != cudaStreamCaptureStatusNone)
		return finish(cudaErrorInvalidValue);
	s->capture = cudaStreamCaptureStatusActive;
	s->mode = mode;
	s->captured.clear();
	return finish(cudaSuccess);
}

cudaError_t
cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
	ENTER();
	DsocrEmuStream *s = stream_of(stream);
	cudaStreamCaptureStatus was = s->capture;

	*graph = NULL;
	s->capture = cudaStreamCaptureStatusNone;
	if (was == cudaStreamCaptureStatusNone)
		return finish(cudaErrorStreamCaptureUnmatched);
	if (was == cudaStreamCaptureStatusInvalidated)
		return finish(cudaErrorStreamCaptureInvalidated);
	if (sticky == cudaSuccess)
	{
		*graph = new DsocrEmuGraph();
		(*graph)->ops.swap(s->captured);
	}
	return finish(cudaSuccess);
}

cudaError_t
cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
	ENTER();
	*status = stream_of(stream)->capture;
	return finish(cudaSuccess);
}

cudaError_t
cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
	ENTER();
	*exec = NULL;
	if (graph == NULL)
		return finish(cudaErrorInvalidValue);
	*exec = new DsocrEmuGraphExec();
	(*exec)->ops = std::make_shared<std::vector<Op>>(graph->ops);
	return finish(cudaSuccess);
}

cudaError_t
cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t)
{
	return finish(exec != NULL ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t
cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
	ENTER();
	Op op = {};

	if (exec == NULL)
		return finish(cudaErrorInvalidValue);
	op.kind = OP_GRAPH;
	op.graph = exec->ops;
	return finish(enqueue(stream, op));
}

cudaError_t
cudaGraphGetNodes(cudaGraph_t graph, void *nodes, size_t *n)
{
	ENTER();
	if (nodes == NULL)
		*n = graph->ops.size();
	return finish(cudaSuccess);
}

cudaError_t
cudaGraphDestroy(cudaGraph_t graph)
{
	ENTER();
	delete graph;
	return finish(cudaSuccess);
}

cudaError_t
cudaGraphExecDestroy(cudaGraphExec_t exec)
{
	ENTER();
	delete exec;
	return finish(cudaSuccess);
}
