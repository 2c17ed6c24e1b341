/*-------------------------------------------------------------------------
 *
 * backend.cu
 *		The CUDA backend: its table, its opening and its end.
 *
 * Every failure of the device is kept, the first one with its name; sync
 * reports it, and from then on nothing is asked of the device: after a sticky
 * error each call would fail, and a device that hangs would hang each call.
 * Waiting is done by asking, with short sleeps, so that there is always an end
 * to it.
 *
 *-------------------------------------------------------------------------
 */
#include "cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define MIN_CAPABILITY 80
#define EARLY_CAPABILITY 90	 /* of launches that overlap; DSOCR_CUDA_EARLY=0 does without */
#define SPIN_US 60			 /* asked without a pause for so long */
#define SLEEP_NS 25000		 /* between later questions */
#define TIMER_SLACK_NS 1000	 /* how late such a sleep may end */
#define DEFAULT_TIMEOUT_S 30 /* DSOCR_CUDA_TIMEOUT */
#define MAX_TIMEOUT_S 86400
#define MAX_VIEW_PIXELS ((size_t) 8 << 20) /* about 100 bytes of activations each */
#define EXPORT __attribute__((visibility("default")))

/* ---- failures ---- */

bool
dsocr_cuda_check(DsocrCuda *c, cudaError_t rc, const char *what)
{
	if (rc == cudaSuccess)
		return true;
	(void) cudaGetLastError();
	/* without a recording the same step will tell whether the device is broken */
	if (c->recording)
		c->spoiled = true;
	else if (rc == cudaErrorMemoryAllocation)
		c->out_of_memory = true;
	else if (c->trouble == cudaSuccess)
	{
		c->trouble = rc;
		c->where = what;
	}
	return false;
}

bool
dsocr_cuda_wait(DsocrCuda *c, cudaEvent_t event, const char *what)
{
	const struct timespec pause = {0, SLEEP_NS};
	int64_t start = dsocr_now_us();

	while (c->trouble == cudaSuccess)
	{
		cudaError_t rc = cudaEventQuery(event);
		int64_t spent = dsocr_now_us() - start;

		if (rc != cudaErrorNotReady)
			return dsocr_cuda_check(c, rc, what);
		if (spent > c->patience_us)
			return dsocr_cuda_check(c, cudaErrorLaunchTimeout, what);
		if (spent > SPIN_US)
			nanosleep(&pause, NULL);
	}
	return false;
}

static bool
cuda_sync(DsocrBackend *be, DsocrError *err)
{
	DsocrCuda *c = (DsocrCuda *) be;

	if (c->trouble == cudaSuccess &&
		dsocr_cuda_check(c, cudaEventRecord(c->arrived, c->stream), "a kernel"))
		(void) dsocr_cuda_wait(c, c->arrived, "a kernel");
	if (c->trouble == cudaErrorLaunchTimeout)
		return dsocr_fail(err, DSOCR_E_DEVICE, "%s did not finish %s within %d s",
						  c->base.description, c->where, (int) (c->patience_us / 1000000));
	if (c->trouble != cudaSuccess)
		return dsocr_fail(err, DSOCR_E_DEVICE, "%s failed in %s: %s (%s)", c->base.description,
						  c->where, cudaGetErrorString(c->trouble), cudaGetErrorName(c->trouble));
	if (c->out_of_memory)
	{
		c->out_of_memory = false;
		return dsocr_fail(err, DSOCR_E_MEMORY, "an operation ran out of device memory");
	}
	return true;
}

/* ---- memory ---- */

static void *
cuda_alloc(DsocrBackend *be, size_t n, DsocrError *err)
{
	size_t bytes;

	if (dsocr_mul(n, be->act_size, &bytes))
		return dsocr_cuda_alloc((DsocrCuda *) be, bytes, err);
	dsocr_fail(err, DSOCR_E_MEMORY, "%zu activations are too many", n);
	return NULL;
}

static void *
cuda_raw_alloc(DsocrBackend *be, size_t bytes, DsocrError *err)
{
	return dsocr_cuda_alloc((DsocrCuda *) be, bytes, err);
}

static void
cuda_free(DsocrBackend *be, void *p)
{
	dsocr_cuda_free((DsocrCuda *) be, p);
}

static void
cuda_raw_read(DsocrBackend *be, void *host, const void *p, size_t bytes)
{
	dsocr_cuda_download((DsocrCuda *) be, host, p, bytes);
}

static size_t
cuda_memory(DsocrBackend *be)
{
	return dsocr_cuda_memory_left((DsocrCuda *) be);
}

DsocrCudaRows
dsocr_cuda_rows(const DsocrCuda *c, const DsocrRows *rows)
{
	DsocrCudaRows r;

	r.n = rows->n;
	r.first = rows->mixed ? 0 : rows->first;
	r.mixed = rows->mixed;
	r.slots = c->row_slots;
	r.len = c->texts.len;
	r.pages = c->texts.pages;
	r.max_pages = c->texts.max_pages;
	return r;
}

/* ---- the end ---- */

static void
cuda_close(DsocrBackend *be)
{
	DsocrCuda *c = (DsocrCuda *) be;

	if (c == NULL)
		return;
	dsocr_cuda_graphs_close(c);
	dsocr_cuda_blas_close(c->blas);
	if (c->memory != NULL)
	{
		dsocr_cuda_texts_close(c);
		for (int i = 0; i < DSOCR_SCRATCH_SLOTS; i++)
			dsocr_cuda_free(c, c->scratch[i]);
		dsocr_cuda_free(c, c->row_slots);
		dsocr_cuda_free(c, c->picked_ids);
		dsocr_cuda_free(c, c->picked_logprobs);
		dsocr_cuda_memory_close(c, c->memory);
	}
	if (c->trouble == cudaSuccess)
	{
		if (c->arrived != NULL)
			(void) cudaEventDestroy(c->arrived);
		if (c->stream != NULL)
			(void) cudaStreamDestroy(c->stream);
	}
	dsocr_free(c);
}

/* ---- the table ---- */

static const DsocrBackendOps cuda_ops = {.name = "cuda",
										 .close = cuda_close,
										 .alloc = cuda_alloc,
										 .free = cuda_free,
										 .write = dsocr_cuda_write,
										 .read = dsocr_cuda_read,
										 .copy_rows = dsocr_cuda_copy_rows,
										 .memory = cuda_memory,
										 .raw_alloc = cuda_raw_alloc,
										 .raw_free = cuda_free,
										 .raw_read = cuda_raw_read,
										 .matrix = dsocr_cuda_matrix,
										 .matrix_free = dsocr_cuda_matrix_free,
										 .vector = dsocr_cuda_vector,
										 .vector_free = dsocr_cuda_vector_free,
										 .linear = dsocr_cuda_linear,
										 .swiglu = dsocr_cuda_swiglu,
										 .logits = dsocr_cuda_logits,
										 .layer_norm = dsocr_cuda_layer_norm,
										 .rms_norm = dsocr_cuda_rms_norm,
										 .add = dsocr_cuda_add,
										 .concat = dsocr_cuda_concat,
										 .patches = dsocr_cuda_patches,
										 .im2col3 = dsocr_cuda_im2col3,
										 .grid_attention = dsocr_cuda_grid_attention,
										 .attention = dsocr_cuda_attention,
										 .embed = dsocr_cuda_embed,
										 .embed_last = dsocr_cuda_embed_last,
										 .texts_open = dsocr_cuda_texts_open,
										 .text_start = dsocr_cuda_text_start,
										 .run_begin = dsocr_cuda_run_begin,
										 .run_end = dsocr_cuda_run_end,
										 .bucket = dsocr_cuda_bucket,
										 .kv_open = dsocr_cuda_kv_open,
										 .kv_close = dsocr_cuda_kv_close,
										 .kv_bytes = dsocr_cuda_kv_bytes,
										 .rope_store = dsocr_cuda_rope_store,
										 .causal_attention = dsocr_cuda_causal_attention,
										 .silu_mul = dsocr_cuda_silu_mul,
										 .router = dsocr_cuda_router,
										 .experts_open = dsocr_cuda_experts_open,
										 .experts_close = dsocr_cuda_experts_close,
										 .experts = dsocr_cuda_experts,
										 .pick = dsocr_cuda_pick,
										 .picked = dsocr_cuda_picked,
										 .sync = cuda_sync};

/* ---- opening ---- */

static bool
cuda_fail(DsocrError *err, cudaError_t rc, const char *what)
{
	int version;

	/* the runtime calls no driver at all an old one */
	if (rc == cudaErrorInsufficientDriver && cudaDriverGetVersion(&version) == cudaSuccess &&
		version == 0)
		dsocr_fail(err, DSOCR_E_DEVICE, "%s: there is no NVIDIA driver", what);
	else
		dsocr_fail(err, DSOCR_E_DEVICE, "%s: %s (%s)", what, cudaGetErrorString(rc),
				   cudaGetErrorName(rc));
	if ((rc == cudaErrorInsufficientDriver || rc == cudaErrorNoDevice) &&
		cudaRuntimeGetVersion(&version) == cudaSuccess)
		dsocr_hint(err,
				   "An NVIDIA GPU and a driver for CUDA %d.%d or newer are needed; "
				   "\"nvidia-smi\" shows what is there.",
				   version / 1000, version % 1000 / 10);
	return false;
}

/* "cuda", "cuda:3" */
static bool
parse_device(const char *name, int *device)
{
	const char *p = name;

	*device = 0;
	if (strncmp(p, "cuda", 4) != 0)
		return false;
	p += 4;
	if (*p == '\0')
		return true;
	if (*p++ != ':' || *p == '\0')
		return false;
	for (; *p != '\0'; p++)
	{
		if (*p < '0' || *p > '9' || *device > 999)
			return false;
		*device = 10 * *device + *p - '0';
	}
	return true;
}

static bool
device_count(int *n, DsocrError *err)
{
	cudaError_t rc = cudaGetDeviceCount(n);

	if (rc != cudaSuccess)
		return cuda_fail(err, rc, "no CUDA device can be used");
	return true;
}

static bool
choose_device(DsocrCuda *c, const char *name, DsocrError *err)
{
	int n;

	if (!parse_device(name, &c->device))
		return dsocr_fail(err, DSOCR_E_DEVICE, "device \"%.64s\" is no CUDA device", name);
	if (!device_count(&n, err))
		return false;
	if (c->device >= n)
		return dsocr_fail(err, DSOCR_E_DEVICE, "device \"%.64s\" is not there: %d CUDA device%s",
						  name, n, n == 1 ? "" : "s");
	return true;
}

/* Read one number of the device; 0 when there is an error. */
static int
attribute(int device, cudaDeviceAttr which, cudaError_t *rc)
{
	int value = 0;

	if (*rc == cudaSuccess)
		*rc = cudaDeviceGetAttribute(&value, which, device);
	return value;
}

static bool
read_properties(DsocrCuda *c, DsocrError *err)
{
	const char *early = getenv("DSOCR_CUDA_EARLY");
	cudaDeviceProp p;
	cudaError_t rc = cudaGetDeviceProperties(&p, c->device);

	c->capability = 10 * attribute(c->device, cudaDevAttrComputeCapabilityMajor, &rc) +
					attribute(c->device, cudaDevAttrComputeCapabilityMinor, &rc);
	c->sms = attribute(c->device, cudaDevAttrMultiProcessorCount, &rc);
	c->shared_max = (size_t) attribute(c->device, cudaDevAttrMaxSharedMemoryPerBlockOptin, &rc);
	if (rc != cudaSuccess)
		return cuda_fail(err, rc, "the device cannot be described");
	c->early = c->capability >= EARLY_CAPABILITY && (early == NULL || early[0] != '0');
	if (c->capability < MIN_CAPABILITY)
		return dsocr_fail(err, DSOCR_E_DEVICE,
						  "%.64s has compute capability %d.%d, at least %d.%d is needed", p.name,
						  c->capability / 10, c->capability % 10, MIN_CAPABILITY / 10,
						  MIN_CAPABILITY % 10);
	snprintf(c->base.description, sizeof(c->base.description), "cuda:%d (%.40s)", c->device,
			 p.name);
	return true;
}

static bool
open_stream(DsocrCuda *c, DsocrError *err)
{
	const char *timeout = getenv("DSOCR_CUDA_TIMEOUT");
	long seconds = timeout == NULL ? 0 : strtol(timeout, NULL, 10);
	cudaError_t rc = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);

	if (rc == cudaSuccess)
		rc = cudaEventCreateWithFlags(&c->arrived, cudaEventDisableTiming);
	if (rc != cudaSuccess)
		return cuda_fail(err, rc, "the device gives no stream");
	if (seconds <= 0 || seconds > MAX_TIMEOUT_S)
		seconds = DEFAULT_TIMEOUT_S;
	c->patience_us = (int64_t) seconds * 1000000;
	/* sleeps of this thread are to be as short as they say */
	(void) prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0);
	return true;
}

static bool
open_parts(DsocrCuda *c, const DsocrBackendOptions *options, DsocrError *err)
{
	const size_t ids = DSOCR_CUDA_MAX_ROWS * sizeof(int32_t);
	cudaError_t rc;
	size_t pixels;

	if (!choose_device(c, options->device, err))
		return false;
	rc = cudaSetDevice(c->device);
	if (rc != cudaSuccess)
		return cuda_fail(err, rc, "the device cannot be used");
	if (!read_properties(c, err) || !open_stream(c, err))
		return false;
	/* what needs memory of its own comes before the region, which takes the rest */
	if (c->base.precision == DSOCR_PRECISION_BF16)
		c->blas = dsocr_cuda_blas_open(c, err);
	c->memory = dsocr_cuda_memory_open(c, options->memory, err);
	if (c->memory == NULL || !dsocr_cuda_graphs_open(c, err))
		return false;
	c->row_slots = (int32_t *) dsocr_cuda_alloc(c, ids, err);
	c->picked_ids = (int32_t *) dsocr_cuda_alloc(c, ids, err);
	c->picked_logprobs = (float *) dsocr_cuda_alloc(c, DSOCR_CUDA_MAX_ROWS * sizeof(float), err);
	if (c->row_slots == NULL || c->picked_ids == NULL || c->picked_logprobs == NULL)
		return false;
	pixels = dsocr_cuda_memory_limit(c) / 4096;
	c->base.view_pixels = pixels < MAX_VIEW_PIXELS ? pixels : MAX_VIEW_PIXELS;
	return cuda_sync(&c->base, err);
}

EXPORT DsocrBackend *
dsocr_cuda_open(const DsocrBackendOptions *options, DsocrError *err)
{
	DsocrCuda *c = (DsocrCuda *) dsocr_zalloc(1, sizeof(*c), err);

	if (c == NULL)
		return NULL;
	c->base.ops = &cuda_ops;
	c->base.precision = options->precision;
	c->base.act_size = options->precision == DSOCR_PRECISION_FP32 ? 4 : 2;
	c->base.threads = 1;
	c->log = options->log;
	if (open_parts(c, options, err))
		return &c->base;
	cuda_close(&c->base);
	return NULL;
}

EXPORT int
dsocr_cuda_list(int i, char *line, size_t size, DsocrError *err)
{
	cudaDeviceProp p;
	cudaError_t rc;
	int n;

	if (!device_count(&n, err))
		return -1;
	line[0] = '\0';
	if (i < 0 || i >= n)
		return n;
	rc = cudaGetDeviceProperties(&p, i);
	if (rc != cudaSuccess)
	{
		cuda_fail(err, rc, "the device cannot be described");
		return -1;
	}
	snprintf(line, size, "%.64s, compute capability %d.%d, %zu MB%s", p.name, p.major, p.minor,
			 p.totalGlobalMem >> 20, 10 * p.major + p.minor < MIN_CAPABILITY ? ", too old" : "");
	return n;
}

EXPORT const int dsocr_cuda_abi = DSOCR_BACKEND_ABI;
