/*-------------------------------------------------------------------------
 *
 * dispatch.h
 *		The workers' side of the queue: take, report, finish, hand back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_DISPATCH_H
#define DSOCR_DISPATCH_H

#include "queue.h"
#include "shmem.h"

/* A request handed to a worker. */
typedef struct DsocrWork
{
	DsocrHandle handle;
	DsocrRequest request; /* prompt and image point into the payload */
	dsm_segment *payload; /* to be detached when it was sent; NULL: there is none */
	bool suspect;		  /* an engine died on it: let it run alone */
} DsocrWork;

/* The worker of a device comes and goes. */
extern void dsocr_dispatch_attach(int device);
extern void dsocr_dispatch_detach(int device, bool blame);

/*
 * Take the next request that the device serves: interactive before bulk,
 * oldest first.  Suspects are given only to a worker that has nothing in
 * flight.  false: nothing to do.
 */
extern bool dsocr_dispatch_take(int device, int in_flight, DsocrWork *work);

/*
 * All of it is with the page server: its memory is not needed any more, for
 * requests of pages are not repeated by the queue.
 */
extern void dsocr_dispatch_sent(DsocrHandle h);

/* false once the owner has given up; then dsocr_dispatch_drop. */
extern bool dsocr_dispatch_wanted(DsocrHandle h);

extern void dsocr_dispatch_progress(DsocrHandle h, const DsocrProgress *p);

/* The engine has answered: body is that of its result frame, parsed into status and result. */
extern void dsocr_dispatch_finish(DsocrHandle h, const void *body, size_t len,
								  const DsocrError *status, const DsocrResult *result,
								  const char *model);

/* The engine has let go of a request nobody wants. */
extern void dsocr_dispatch_drop(DsocrHandle h);

/* May a request be the reason why its engine died? */
typedef enum DsocrBlame
{
	DSOCR_BLAME_NONE,
	DSOCR_BLAME_SHARED, /* it or another one */
	DSOCR_BLAME_ALONE	/* the engine had read others, and had nothing else */
} DsocrBlame;

/*
 * The engine died.  With blame the request runs once more, alone, and fails the
 * second time.  A document that was open, and what was asked of it, fail at
 * once: who has the bytes opens it again.
 */
extern void dsocr_dispatch_return(DsocrHandle h, DsocrBlame blame);

/* Fail what is queued with the device's error, if no other device will serve it. */
extern void dsocr_dispatch_refuse(int device);

/* Free what processes that no longer exist have left behind. */
extern void dsocr_dispatch_sweep(void);

/* Copy what the worker knows of its device to shared memory. */
extern void dsocr_dispatch_publish(int device, const DsocrDevice *d);

/* Number of requests for a reload so far. */
extern uint64 dsocr_dispatch_reloads(int device);

#endif /* DSOCR_DISPATCH_H */
