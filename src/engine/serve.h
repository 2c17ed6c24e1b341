/*-------------------------------------------------------------------------
 *
 * serve.h
 *		The engine as a child of the PostgreSQL worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SERVE_H
#define DSOCR_SERVE_H

#include "engine.h"

typedef struct DsocrServeOptions
{
	int fd; /* stream socket to the worker */
	DsocrEngineOptions engine;
	uint64_t max_pixels;   /* bound on what requests may ask for; 0 = none */
	uint64_t memory_limit; /* bytes of private memory; 0 = none */
	bool sandbox;		   /* close the process before it reads requests */

	/* one line for the log, no line end */
	void (*log)(const char *message);

	/* End the process at once, from wherever it is: the worker is gone. */
	__attribute__((noreturn)) void (*quit)(int status);
} DsocrServeOptions;

/*
 * Load the model, say READY or FAILED, answer requests until the worker says
 * SHUTDOWN or is gone.  Returns the exit status: 0 in the usual cases, and
 * after FAILED; 1 when memory for answers ran out; 2 when the worker sent what
 * is no frame.  Calls quit when the device broke (1) or could not be opened.
 */
extern int dsocr_serve(const DsocrServeOptions *options);

#endif /* DSOCR_SERVE_H */
