/*-------------------------------------------------------------------------
 *
 * supervisor.h
 *		The page server as a child of the PostgreSQL worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SUPERVISOR_H
#define DSOCR_SUPERVISOR_H

#include "base.h"

typedef struct DsocrSupervisorOptions
{
	int fd;				 /* stream socket to the worker */
	int processes;		 /* renderers in all, at least 1 */
	int per_document;	 /* renderers of one document, at least 1 */
	uint64_t memory;	 /* bytes of a renderer beyond the document; 0 = no limit */
	int page_timeout_ms; /* to open a document, and for every page; 0 = no limit */
	uint64_t max_pixels; /* bound on what requests may ask for; 0 = none */
	bool sandbox;		 /* close renderers before they read documents */

	/* one line for the log, no line end */
	void (*log)(const char *message);
} DsocrSupervisorOptions;

/*
 * Say READY, answer requests until the worker says SHUTDOWN or is gone.
 * Returns the exit status: 0 in the usual cases, 1 when memory for answers ran
 * out, 2 when the worker sent what is no frame.
 */
extern int dsocr_supervise(const DsocrSupervisorOptions *options);

#endif /* DSOCR_SUPERVISOR_H */
