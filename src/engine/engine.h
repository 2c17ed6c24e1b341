/*-------------------------------------------------------------------------
 *
 * engine.h
 *		The engine's public face: open, admit, step, cancel, close.
 *
 * One engine holds one model on one device and reads many images together.
 * It is driven by one thread: outside dsocr_engine_step nothing happens but
 * the decoding of images, on threads of the engine's own.
 * Callers never see a tensor.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ENGINE_H
#define DSOCR_ENGINE_H

#include "backend.h"
#include "request.h"

typedef struct DsocrEngine DsocrEngine;

typedef struct DsocrEngineOptions
{
	const char *model; /* model folder */
	DsocrBackendOptions backend;
	int max_sequences;	/* decoded together; 0 = 16 on the CPU, 256 on a GPU */
	size_t kv_bytes;	/* memory for key/value pages; 0 = 1 GiB, on a GPU all that is left */
	size_t view_pixels; /* views are encoded together up to so many; 0 = the device's own */
	int64_t
		gap_us; /* a text waits so long for a token while others are encoded; 0 = 100 ms or a step */
	bool keep_loops; /* let texts run on in loops: for measuring with weights that know nothing */
} DsocrEngineOptions;

/* How the engine speaks to its driver, always from inside dsocr_engine_step. */
typedef struct DsocrEvents
{
	/* views encoded, tokens written; may be NULL */
	void (*progress)(void *arg, const DsocrProgress *progress);

	/* A request ended: error->code is DSOCR_OK and result set, or an error. */
	void (*done)(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error);

	/*
	 * Called between layers, at least every few milliseconds of a small
	 * model's work: the driver may read its socket and call
	 * dsocr_engine_cancel (nothing else).  May be NULL.
	 */
	void (*poll)(void *arg);
	void *arg;
} DsocrEvents;

/* Errors: DSOCR_E_MODEL, DSOCR_E_MEMORY, DSOCR_E_DEVICE. */
extern DsocrEngine *dsocr_engine_open(const DsocrEngineOptions *options, DsocrError *err);
extern void dsocr_engine_close(DsocrEngine *e);
extern const DsocrModelInfo *dsocr_engine_info(const DsocrEngine *e);

/*
 * Queue a request; prompt and image are copied.  Only DSOCR_E_MEMORY and
 * DSOCR_E_ARGUMENT are reported here, everything about the image by done().
 */
extern bool dsocr_engine_admit(DsocrEngine *e, const DsocrRequest *request, DsocrError *err);

/* Stop a request; done() reports DSOCR_E_CANCELLED. Unknown ids are ignored. */
extern void dsocr_engine_cancel(DsocrEngine *e, uint64_t id);

/*
 * Do one step: admit, views and prefill chunks, one token for every running
 * sequence; when all wait for their images, sleep a few milliseconds.  Returns
 * false when nothing is left to do.  A broken device ends the engine: *err is
 * DSOCR_E_DEVICE and the caller must close.
 */
extern bool dsocr_engine_step(DsocrEngine *e, const DsocrEvents *events, DsocrError *err);

/* Pages of key/value memory that are free now, and all there are. */
extern int dsocr_engine_free_pages(const DsocrEngine *e, int *total);

/* Requests inside the engine, waiting and running. */
extern int dsocr_engine_pending(const DsocrEngine *e);

#endif /* DSOCR_ENGINE_H */
