/*-------------------------------------------------------------------------
 *
 * gp_tools.h
 *		What the programs need of CUDA beyond the backend's table.
 *
 * gp_tools.so is loaded on demand: without it (on a CPU, on the emulated
 * device) times are taken by the clock on the wall and faults cannot be made.
 * It looks into the backend for its stream, so it must be of the same build.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_GP_TOOLS_H
#define DSOCR_GP_TOOLS_H

#include "backend.h"

typedef struct GpTools
{
	/* The device as a JSON object. */
	bool (*facts)(const DsocrBackend *be, char *json, size_t size);

	/* Bytes read and written a second by copies on the device; 0 when that fails. */
	double (*copy)(size_t bytes, int runs);

	/*
	 * What is put into the backend's stream between the two is recorded, then
	 * run `rounds` times; us[rounds] are the microseconds of each.
	 */
	bool (*record_begin)(DsocrBackend *be);
	bool (*record_end)(DsocrBackend *be, int rounds, double *us);

	/* Remember a moment in the stream; then the microseconds from one to the next. */
	bool (*mark)(const DsocrBackend *be);
	int (*marks)(double *us, int max); /* all forgotten afterwards */

	/* Between on and off a profiler looks on, if it was told to wait for that. */
	void (*profile)(bool on);

	/* Let a kernel write where it must not: the device is lost to this process. */
	bool (*fault)(void);
} GpTools;

/* NULL and a line on stderr when there is none. */
extern const GpTools *gp_tools_load(const char *path);

#endif /* DSOCR_GP_TOOLS_H */
