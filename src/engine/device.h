/*-------------------------------------------------------------------------
 *
 * device.h
 *		From the name of a device to a backend.
 *
 * Backends for GPUs are libraries of their own, loaded when a device asks for
 * them: the engine runs where no library of a vendor is installed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_DEVICE_H
#define DSOCR_DEVICE_H

#include "backend.h"

/*
 * "cpu" (also NULL and ""); "cuda", "cuda:N"; "auto": the first CUDA device
 * that can be used, else the CPU and a line to options->log that says why.
 * Errors: DSOCR_E_DEVICE, DSOCR_E_MEMORY.
 */
extern DsocrBackend *dsocr_device_open(const DsocrBackendOptions *options, DsocrError *err);

/* Calls line for each device: its name and what it is, or why there is none. */
extern void dsocr_device_list(void (*line)(void *arg, const char *device, const char *what),
							  void *arg);

#endif /* DSOCR_DEVICE_H */
