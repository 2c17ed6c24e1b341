/*-------------------------------------------------------------------------
 *
 * device.c
 *		From the name of a device to a backend.
 *
 * dsocr_cuda.so is looked for where DSOCR_CUDA_LIBRARY says, else beside the
 * executable and in the library folders that belong to it.  It stays loaded:
 * drivers do not survive the unloading of what they called into.
 *
 *-------------------------------------------------------------------------
 */
#include "device.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CUDA_LIBRARY "dsocr_cuda.so"

typedef struct Library
{
	DsocrBackendOpen *open;
	DsocrBackendList *list;
} Library;

/* ---- loading ---- */

/* Folders relative to the executable's own: the build; a server's; a prefix's. */
static const char *const folders[] = {"", "/../lib", "/../lib/postgresql"};

static bool
library_in(char *path, size_t size, const char *dir, const char *below)
{
	int n = snprintf(path, size, "%s%s/" CUDA_LIBRARY, dir, below);

	return n > 0 && (size_t) n < size && access(path, R_OK) == 0;
}

static bool
find_library(char *path, size_t size, DsocrError *err)
{
	const char *named = getenv("DSOCR_CUDA_LIBRARY");
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (named != NULL && named[0] != '\0')
	{
		snprintf(path, size, "%s", named);
		return true;
	}
	exe[n > 0 ? n : 0] = '\0';
	if (strrchr(exe, '/') != NULL)
	{
		*strrchr(exe, '/') = '\0';
		for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
			if (library_in(path, size, exe, folders[i]))
				return true;
	}
#ifdef DSOCR_LIBRARY_DIR
	if (library_in(path, size, DSOCR_LIBRARY_DIR, ""))
		return true;
#endif
	dsocr_fail(err, DSOCR_E_DEVICE, "the CUDA backend " CUDA_LIBRARY " is not installed");
	return dsocr_hint(err, "Build and install dsocr where nvcc is found, or name the library in "
						   "the environment variable DSOCR_CUDA_LIBRARY.");
}

static bool
load_library(Library *lib, DsocrError *err)
{
	char path[PATH_MAX];
	void *handle;
	const int *abi;

	if (!find_library(path, sizeof(path), err))
		return false;
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL)
	{
		const char *why = dlerror();

		dsocr_fail(err, DSOCR_E_DEVICE, "could not load the CUDA backend: %.180s", why);
		return dsocr_hint(err, "Is \"%.150s\" readable and of this build?", path);
	}
	abi = dlsym(handle, "dsocr_cuda_abi");
	if (abi == NULL || *abi != DSOCR_BACKEND_ABI)
	{
		dsocr_fail(err, DSOCR_E_DEVICE, "\"%.150s\" is not of this build", path);
		return dsocr_hint(err, "Install the engine and " CUDA_LIBRARY " together.");
	}
	*(void **) &lib->open = dlsym(handle, "dsocr_cuda_open");
	*(void **) &lib->list = dlsym(handle, "dsocr_cuda_list");
	if (lib->open == NULL || lib->list == NULL)
		return dsocr_fail(err, DSOCR_E_DEVICE, "\"%.150s\" is no backend", path);
	return true;
}

/* ---- opening ---- */

/* On a GPU the key/value cache is the larger stream, and kernels for quantized weights are not. */
static bool
whole_weights(const DsocrBackendOptions *options, DsocrError *err)
{
	if (options->weights == DSOCR_BF16)
		return true;
	dsocr_fail(err, DSOCR_E_ARGUMENT, "device \"%.64s\" does not quantize weights",
			   options->device);
	return dsocr_hint(err, "Set dsocr.weights to bf16: int8 and int4 are for the device \"cpu\".");
}

static DsocrBackend *
open_cuda(const DsocrBackendOptions *options, DsocrError *err)
{
	Library lib;

	return whole_weights(options, err) && load_library(&lib, err) ? lib.open(options, err) : NULL;
}

/* The first CUDA device that can be used; NULL and DSOCR_E_DEVICE when none can. */
static DsocrBackend *
open_first_cuda(const DsocrBackendOptions *options, DsocrError *err)
{
	DsocrBackendOptions o = *options;
	DsocrBackend *be = NULL;
	Library lib;
	char name[32];
	char line[128];
	int n;

	if (!load_library(&lib, err) || (n = lib.list(-1, line, sizeof(line), err)) < 0)
		return NULL;
	if (n == 0)
		dsocr_fail(err, DSOCR_E_DEVICE, "there is no CUDA device");
	for (int i = 0; i < n && be == NULL; i++)
	{
		snprintf(name, sizeof(name), "cuda:%d", i);
		o.device = name;
		err->code = DSOCR_OK;
		be = lib.open(&o, err);
		/* what is there but full is not passed over */
		if (be == NULL && err->code != DSOCR_E_DEVICE)
			break;
	}
	return be;
}

static DsocrBackend *
open_cpu(const DsocrBackendOptions *options, DsocrError *err)
{
	DsocrBackendOptions o = *options;

	o.device = "cpu";
	return dsocr_cpu_open(&o, err);
}

static DsocrBackend *
open_auto(const DsocrBackendOptions *options, DsocrError *err)
{
	DsocrError why = {0};
	DsocrBackend *be = NULL;
	char line[sizeof(why.message) + 64];

	if (whole_weights(options, &why))
		be = open_first_cuda(options, &why);
	else
		why.code = DSOCR_E_DEVICE; /* quantized weights choose the CPU */
	if (be != NULL)
		return be;
	if (why.code != DSOCR_E_DEVICE)
	{
		if (err != NULL)
			*err = why;
		return NULL;
	}
	if (options->log != NULL)
	{
		snprintf(line, sizeof(line), "device \"auto\" is the CPU: %s", why.message);
		options->log(line);
	}
	return open_cpu(options, err);
}

DsocrBackend *
dsocr_device_open(const DsocrBackendOptions *options, DsocrError *err)
{
	const char *device = options->device;

	if (device == NULL || device[0] == '\0' || strcmp(device, "cpu") == 0)
		return open_cpu(options, err);
	if (strcmp(device, "auto") == 0)
		return open_auto(options, err);
	if (strcmp(device, "cuda") == 0 || strncmp(device, "cuda:", 5) == 0)
		return open_cuda(options, err);
	dsocr_fail(err, DSOCR_E_DEVICE, "there is no device \"%.64s\"", device);
	dsocr_hint(err, "Devices are \"cpu\", \"cuda:0\", \"cuda:1\" ... and \"auto\".");
	return NULL;
}

/* ---- listing ---- */

void
dsocr_device_list(void (*line)(void *arg, const char *device, const char *what), void *arg)
{
	DsocrBackendOptions o = {.device = "cpu", .threads = 0};
	DsocrError err = {0};
	DsocrBackend *cpu = dsocr_cpu_open(&o, &err);
	Library lib;
	char name[32];
	char what[256];
	int n = 1;

	line(arg, "cpu", cpu != NULL ? cpu->description : err.message);
	if (cpu != NULL)
		cpu->ops->close(cpu);
	if (!load_library(&lib, &err))
	{
		line(arg, "cuda", err.message);
		return;
	}
	for (int i = 0; i < n; i++)
	{
		n = lib.list(i, what, sizeof(what), &err);
		snprintf(name, sizeof(name), "cuda:%d", i);
		if (n < 0)
			line(arg, "cuda", err.message);
		else if (n == 0)
			line(arg, "cuda", "there is no CUDA device");
		else
			line(arg, name, what);
	}
}
