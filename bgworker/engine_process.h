/*-------------------------------------------------------------------------
 *
 * engine_process.h
 *		The engine as a child process: start, watch, end.
 *
 * STOPPED -> STARTING -> READY -> (STOPPING ->) DYING -> STOPPED.  Only this
 * file forks, kills and reaps.  What the engine says is the worker's matter.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ENGINE_PROCESS_H
#define DSOCR_ENGINE_PROCESS_H

#include "dsocr.h"
#include "engine_link.h"

#include "datatype/timestamp.h"

typedef enum DsocrEngineState
{
	DSOCR_ENGINE_STOPPED,  /* no process */
	DSOCR_ENGINE_STARTING, /* loading the model */
	DSOCR_ENGINE_READY,
	DSOCR_ENGINE_STOPPING, /* asked to end */
	DSOCR_ENGINE_DYING	   /* its end of the socket is closed, or it was killed */
} DsocrEngineState;

#define DSOCR_ENGINE_LINE_MAX 1000 /* bytes of a line of the engine's that is logged */

typedef struct DsocrEngineProcess
{
	const char *device;
	bool of_pages; /* the page server */
	DsocrEngineState state;
	pid_t pid; /* 0 = none */
	DsocrLink link;
	int log_fd;				/* its standard error, -1 = closed */
	WaitEventSet *wait_set; /* NULL = none */
	int socket_position;	/* in wait_set */
	bool waits_to_write;	/* wait_set asks for writability */
	TimestampTz started;
	TimestampTz heard;	 /* last frame */
	TimestampTz kill_at; /* STOPPING, DYING: when patience ends, 0 = was killed */
	char line[DSOCR_ENGINE_LINE_MAX + 1];
	int line_len;
	TimestampTz log_minute; /* start of the present minute of logging */
	int log_lines;			/* logged in it */
	int log_left_out;		/* not logged in it */
} DsocrEngineProcess;

/* What an engine is started with; the page server takes none of it. */
typedef struct DsocrEngineCommand
{
	const char *model;
	const char *precision;
	int threads;
	int gpu_memory;	   /* MB, 0 = what is free */
	int max_sequences; /* 0 = as suits the device */
} DsocrEngineCommand;

extern void dsocr_process_init(DsocrEngineProcess *p, const char *device, bool of_pages);

/* What to call it in messages. */
extern const char *dsocr_process_noun(const DsocrEngineProcess *p);

/* Start an engine: STARTING, or false and err when there can be none. */
extern bool dsocr_process_start(DsocrEngineProcess *p, const DsocrEngineCommand *command,
								DsocrError *err);

/* Ask it to end; it is killed when it takes longer than two seconds. */
extern void dsocr_process_stop(DsocrEngineProcess *p);

/* Its socket has closed: give it a moment to die by itself.  With now, kill it. */
extern void dsocr_process_lose(DsocrEngineProcess *p, bool now);

/* STOPPING or DYING: is it gone?  Then STOPPED, and how it ended is described. */
extern bool dsocr_process_reap(DsocrEngineProcess *p, char *how, size_t size);

/*
 * Kill and reap without conditions; for the end of the worker.  An engine left
 * behind would be inherited by process 1, which in a container is often the
 * postmaster, and that takes the death of a child it does not know for a crash.
 */
extern void dsocr_process_end(DsocrEngineProcess *p);

/* Log what the engine has written to its standard error. */
extern void dsocr_process_log(DsocrEngineProcess *p);

/* Sleep until the latch is set, the engine has something, or the time is over. */
extern void dsocr_process_wait(DsocrEngineProcess *p, long timeout_ms);

#endif /* DSOCR_ENGINE_PROCESS_H */
