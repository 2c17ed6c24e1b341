/*-------------------------------------------------------------------------
 *
 * emu_runtime.h
 *		The part of the CUDA runtime that the backend uses.
 *
 * Streams are queues that nothing drains until somebody waits: whoever reads
 * a result without waiting, or changes a source before it was read, sees it.
 * Names and values are those of CUDA.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_EMU_RUNTIME_H
#define DSOCR_EMU_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

/* ---- types ---- */

/*
 * Vectors are loaded and stored whole, and then their address must be a
 * multiple of their size: builds that check that do it in each copy.
 */
#ifdef DSOCR_EMU_CHECKED
extern void dsocr_emu_check_aligned(const void *p, size_t alignment);

#define DSOCR_EMU_COPIES(name, type, ...)                                                          \
	name() = default;                                                                              \
	name(const name &v)                                                                            \
	{                                                                                              \
		*this = v;                                                                                 \
	}                                                                                              \
	name &operator=(const name &v)                                                                 \
	{                                                                                              \
		dsocr_emu_check_aligned(&v, alignof(name));                                                \
		dsocr_emu_check_aligned(this, alignof(name));                                              \
		__builtin_memcpy(static_cast<void *>(this), &v, sizeof(v));                                \
		return *this;                                                                              \
	}                                                                                              \
	name(                                                                                          \
		type vx, type vy = {} __VA_ARGS__)
#else
#define DSOCR_EMU_COPIES(name, type, ...)                                                          \
	name() = default;                                                                              \
	constexpr name(                                                                                \
		type vx, type vy = {} __VA_ARGS__)
#endif

#define DSOCR_EMU_COMMA ,
#define DSOCR_EMU_VECTOR(type, name, align2, align4)                                               \
	struct alignas(align2) name##2                                                                 \
	{                                                                                              \
		type x, y;                                                                                 \
		DSOCR_EMU_COPIES(name##2, type) : x(vx), y(vy)                                             \
		{                                                                                          \
		}                                                                                          \
	};                                                                                             \
	struct name##3                                                                                 \
	{                                                                                              \
		type x, y, z;                                                                              \
	};                                                                                             \
	struct alignas(align4) name##4                                                                 \
	{                                                                                              \
		type x, y, z, w;                                                                           \
		DSOCR_EMU_COPIES(name##4, type, DSOCR_EMU_COMMA type vz = 0 DSOCR_EMU_COMMA type vw = 0)   \
			: x(vx), y(vy), z(vz), w(vw)                                                           \
		{                                                                                          \
		}                                                                                          \
	};                                                                                             \
	static inline name##2 make_##name##2(type x, type y)                                           \
	{                                                                                              \
		return name##2(x, y);                                                                      \
	}                                                                                              \
	static inline name##3 make_##name##3(type x, type y, type z)                                   \
	{                                                                                              \
		return {x, y, z};                                                                          \
	}                                                                                              \
	static inline name##4 make_##name##4(type x, type y, type z, type w)                           \
	{                                                                                              \
		return name##4(x, y, z, w);                                                                \
	}

DSOCR_EMU_VECTOR(signed char, char, 2, 4)
DSOCR_EMU_VECTOR(unsigned char, uchar, 2, 4)
DSOCR_EMU_VECTOR(short, short, 4, 8)
DSOCR_EMU_VECTOR(unsigned short, ushort, 4, 8)
DSOCR_EMU_VECTOR(int, int, 8, 16)
DSOCR_EMU_VECTOR(unsigned int, uint, 8, 16)
DSOCR_EMU_VECTOR(float, float, 8, 16)
DSOCR_EMU_VECTOR(double, double, 16, 16)
DSOCR_EMU_VECTOR(long long, longlong, 16, 16)
DSOCR_EMU_VECTOR(unsigned long long, ulonglong, 16, 16)

struct dim3
{
	unsigned int x, y, z;

	constexpr dim3(unsigned int vx = 1, unsigned int vy = 1, unsigned int vz = 1)
		: x(vx), y(vy), z(vz)
	{
	}
};

typedef enum cudaError
{
	cudaSuccess = 0,
	cudaErrorInvalidValue = 1,
	cudaErrorMemoryAllocation = 2,
	cudaErrorInitializationError = 3,
	cudaErrorInvalidConfiguration = 9,
	cudaErrorInvalidMemcpyDirection = 21,
	cudaErrorInsufficientDriver = 35,
	cudaErrorInvalidDeviceFunction = 98,
	cudaErrorNoDevice = 100,
	cudaErrorInvalidDevice = 101,
	cudaErrorInvalidResourceHandle = 400,
	cudaErrorNotReady = 600,
	cudaErrorIllegalAddress = 700,
	cudaErrorLaunchOutOfResources = 701,
	cudaErrorLaunchTimeout = 702,
	cudaErrorLaunchFailure = 719,
	cudaErrorNotSupported = 801,
	cudaErrorStreamCaptureUnsupported = 900,
	cudaErrorStreamCaptureInvalidated = 901,
	cudaErrorStreamCaptureUnmatched = 903,
	cudaErrorUnknown = 999
} cudaError_t;

typedef struct DsocrEmuStream *cudaStream_t;
typedef struct DsocrEmuEvent *cudaEvent_t;
typedef struct DsocrEmuGraph *cudaGraph_t;
typedef struct DsocrEmuGraphExec *cudaGraphExec_t;
typedef void (*cudaHostFn_t)(void *arg);

typedef enum cudaMemcpyKind
{
	cudaMemcpyHostToHost,
	cudaMemcpyHostToDevice,
	cudaMemcpyDeviceToHost,
	cudaMemcpyDeviceToDevice,
	cudaMemcpyDefault
} cudaMemcpyKind;

typedef enum cudaStreamCaptureMode
{
	cudaStreamCaptureModeGlobal,
	cudaStreamCaptureModeThreadLocal,
	cudaStreamCaptureModeRelaxed
} cudaStreamCaptureMode;

typedef enum cudaStreamCaptureStatus
{
	cudaStreamCaptureStatusNone,
	cudaStreamCaptureStatusActive,
	cudaStreamCaptureStatusInvalidated
} cudaStreamCaptureStatus;

typedef enum cudaFuncAttribute
{
	cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
	cudaFuncAttributePreferredSharedMemoryCarveout = 9
} cudaFuncAttribute;

typedef enum cudaDeviceAttr
{
	cudaDevAttrMaxThreadsPerBlock = 1,
	cudaDevAttrMaxSharedMemoryPerBlock = 8,
	cudaDevAttrWarpSize = 10,
	cudaDevAttrClockRate = 13,
	cudaDevAttrMultiProcessorCount = 16,
	cudaDevAttrMemoryClockRate = 36,
	cudaDevAttrGlobalMemoryBusWidth = 37,
	cudaDevAttrL2CacheSize = 38,
	cudaDevAttrMaxThreadsPerMultiProcessor = 39,
	cudaDevAttrComputeCapabilityMajor = 75,
	cudaDevAttrComputeCapabilityMinor = 76,
	cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
	cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
} cudaDeviceAttr;

typedef struct cudaDeviceProp
{
	char name[256];
	size_t totalGlobalMem;
	size_t sharedMemPerBlock;
	size_t sharedMemPerBlockOptin;
	size_t sharedMemPerMultiprocessor;
	int regsPerBlock;
	int warpSize;
	int maxThreadsPerBlock;
	int maxThreadsPerMultiProcessor;
	int multiProcessorCount;
	int major;
	int minor;
	int l2CacheSize;
	int memoryBusWidth;
	int concurrentKernels;
	int integrated;
	int asyncEngineCount;
	int ECCEnabled;
	int pciBusID;
	int pciDeviceID;
	int pciDomainID;
} cudaDeviceProp;

#define cudaStreamDefault 0u
#define cudaStreamNonBlocking 1u
#define cudaEventDefault 0u
#define cudaEventBlockingSync 1u
#define cudaEventDisableTiming 2u
#define cudaHostAllocDefault 0u
#define cudaHostAllocPortable 1u
#define cudaHostAllocMapped 2u
#define cudaHostAllocWriteCombined 4u
#define cudaHostRegisterDefault 0u
#define cudaHostRegisterReadOnly 8u
#define cudaDeviceScheduleAuto 0u
#define cudaDeviceScheduleYield 2u
#define cudaDeviceScheduleBlockingSync 4u
#define cudaStreamLegacy ((cudaStream_t) 1)
#define cudaStreamPerThread ((cudaStream_t) 2)

/* ---- functions ---- */

extern "C"
{
	extern cudaError_t cudaGetLastError(void);
	extern cudaError_t cudaPeekAtLastError(void);
	extern const char *cudaGetErrorString(cudaError_t rc);
	extern const char *cudaGetErrorName(cudaError_t rc);

	extern cudaError_t cudaDriverGetVersion(int *version);
	extern cudaError_t cudaRuntimeGetVersion(int *version);
	extern cudaError_t cudaGetDeviceCount(int *n);
	extern cudaError_t cudaSetDevice(int device);
	extern cudaError_t cudaGetDevice(int *device);
	extern cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device);
	extern cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attr, int device);
	extern cudaError_t cudaSetDeviceFlags(unsigned int flags);
	extern cudaError_t cudaDeviceSynchronize(void);
	extern cudaError_t cudaDeviceReset(void);

	extern cudaError_t cudaMemGetInfo(size_t *available, size_t *total);
	extern cudaError_t cudaFree(void *p);
	extern cudaError_t cudaFreeHost(void *p);
	extern cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned int flags);
	extern cudaError_t cudaHostUnregister(void *p);

	extern cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind);
	extern cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes,
									   cudaMemcpyKind kind, cudaStream_t stream = nullptr);
	extern cudaError_t cudaMemcpy2D(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
									size_t width, size_t height, cudaMemcpyKind kind);
	extern cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src,
										 size_t src_pitch, size_t width, size_t height,
										 cudaMemcpyKind kind, cudaStream_t stream = nullptr);
	extern cudaError_t cudaMemset(void *dst, int value, size_t bytes);
	extern cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes,
									   cudaStream_t stream = nullptr);
	extern cudaError_t cudaMemset2DAsync(void *dst, size_t pitch, int value, size_t width,
										 size_t height, cudaStream_t stream = nullptr);

	extern cudaError_t cudaStreamCreate(cudaStream_t *stream);
	extern cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags);
	extern cudaError_t cudaStreamDestroy(cudaStream_t stream);
	extern cudaError_t cudaStreamSynchronize(cudaStream_t stream);
	extern cudaError_t cudaStreamQuery(cudaStream_t stream);
	extern cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event,
										   unsigned int flags = 0);
	extern cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *arg);

	extern cudaError_t cudaEventCreate(cudaEvent_t *event);
	extern cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags);
	extern cudaError_t cudaEventDestroy(cudaEvent_t event);
	extern cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
	extern cudaError_t cudaEventQuery(cudaEvent_t event);
	extern cudaError_t cudaEventSynchronize(cudaEvent_t event);
	extern cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end);

	extern cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
	extern cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
	extern cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status);
	extern cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
											unsigned long long flags = 0);
	extern cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream);
	extern cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
	extern cudaError_t cudaGraphDestroy(cudaGraph_t graph);
	extern cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
	extern cudaError_t cudaGraphGetNodes(cudaGraph_t graph, void *nodes, size_t *n);

	extern cudaError_t dsocr_emu_malloc(void **p, size_t bytes);
	extern cudaError_t dsocr_emu_host_alloc(void **p, size_t bytes, unsigned int flags);
	extern cudaError_t dsocr_emu_func_attribute(const void *kernel, cudaFuncAttribute attr,
												int value);
}

/* The C++ headers of CUDA take pointers of any type. */
template <typename T>
static inline cudaError_t
cudaMalloc(T **p, size_t bytes)
{
	return dsocr_emu_malloc(reinterpret_cast<void **>(p), bytes);
}

template <typename T>
static inline cudaError_t
cudaMallocHost(T **p, size_t bytes, unsigned int flags = 0)
{
	return dsocr_emu_host_alloc(reinterpret_cast<void **>(p), bytes, flags);
}

template <typename T>
static inline cudaError_t
cudaHostAlloc(T **p, size_t bytes, unsigned int flags)
{
	return dsocr_emu_host_alloc(reinterpret_cast<void **>(p), bytes, flags);
}

template <typename T>
static inline cudaError_t
cudaFuncSetAttribute(T *kernel, cudaFuncAttribute attr, int value)
{
	return dsocr_emu_func_attribute((const void *) kernel, attr, value);
}

#endif /* DSOCR_EMU_RUNTIME_H */
