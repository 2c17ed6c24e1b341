/*-------------------------------------------------------------------------
 *
 * renderer.h
 *		The process that opens one document and makes images of its pages.
 *
 * It is forked from the page server with the document in its memory, closes
 * itself before it looks at the first byte, and answers over a socket of its
 * own: PROGRESS with the number of pages once the document is open, then a
 * RESULT for every REQUEST; or one RESULT with the reason, and it ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_RENDERER_H
#define DSOCR_RENDERER_H

#include "source.h"

/* Exit status of a renderer that found no memory in the middle of a library. */
#define DSOCR_RENDERER_NO_MEMORY 3

typedef struct DsocrRendererTask
{
	uint64_t document; /* id of the request */
	DsocrSourceOptions source;
	uint64_t memory; /* bytes beyond what the process begins with, 0 = no limit */
	int cpu_seconds; /* 0 = no limit */
	bool sandbox;
} DsocrRendererTask;

/* The life of the process; returns its exit status. */
extern int dsocr_renderer_main(int fd, const DsocrRendererTask *task);

/*
 * Limit and close this process as a renderer does; keep_fd is its socket.
 * report: what is active, as of dsocr_sandbox_close.
 */
extern bool dsocr_renderer_close(int keep_fd, const DsocrRendererTask *task, char *report,
								 size_t size, DsocrError *err);

/* Private memory and address space of a process in bytes; false when unknown. */
extern bool dsocr_renderer_memory(int pid, uint64_t *data, uint64_t *space);

#endif /* DSOCR_RENDERER_H */
