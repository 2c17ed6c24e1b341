/*-------------------------------------------------------------------------
 *
 * child.h
 *		Renderers as child processes of the page server: start, stop, reap.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CHILD_H
#define DSOCR_CHILD_H

#include <sys/types.h>

#include "channel.h"
#include "renderer.h"

typedef struct DsocrChild
{
	pid_t pid;
	DsocrChannel channel;
	uint64_t data; /* private memory it began with, bytes */
} DsocrChild;

/*
 * Fork a renderer.  forget is called in it before anything else: it drops what
 * the page server's memory holds of other documents.
 */
extern bool dsocr_child_start(DsocrChild *c, const DsocrRendererTask *task,
							  void (*forget)(void *arg), void *arg, DsocrError *err);

/* Killed processes that have not gone yet. */
#define DSOCR_MAX_ENDING 64

typedef struct DsocrEnding
{
	pid_t pids[DSOCR_MAX_ENDING];
	int n;
} DsocrEnding;

/* Kill it and forget it; what is not gone at once is put on the list. */
extern void dsocr_child_stop(DsocrChild *c, DsocrEnding *ending);

/*
 * Its socket has closed or it broke the rules: end it and say how it ended,
 * as in "the renderer crashed (signal 11)".
 */
extern void dsocr_child_end(DsocrChild *c, const DsocrRendererTask *task, DsocrEnding *ending,
							char *how, size_t size);

/* Reap those that were stopped.  Never blocks. */
extern void dsocr_child_reap(DsocrEnding *ending);

/* Has it used so much that a fresh one is better for the next page? */
extern bool dsocr_child_is_worn(const DsocrChild *c, const DsocrRendererTask *task);

/*
 * Zero bytes of this process alone, which others see as before: whole pages
 * are given back instead of being copied.
 */
extern void dsocr_child_forget(void *bytes, size_t n);

/* What a closed renderer reports to be active; found out in a child. */
extern void dsocr_child_sandbox(const DsocrRendererTask *task, char *report, size_t size);

#endif /* DSOCR_CHILD_H */
