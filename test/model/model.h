/*-------------------------------------------------------------------------
 *
 * model.h
 *		The queue of requests as threads: what they share.
 *
 * Each thread stands for a process.  It has a copy of the module's own code
 * for itself (a shared library, loaded once for each thread), with all its
 * variables; locks, latches and shared memory are those of primitives.c.  So
 * the thread sanitizer sees what processes do to each other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_MODEL_H
#define DSOCR_MODEL_H

#include "dsocr.h"
#include "shmem.h"

#include "storage/proc.h"

/* There is no server to print for us. */
#undef printf
#undef snprintf
#undef vprintf
#undef vsnprintf

#define MODEL_BACKENDS 6
#define MODEL_WORKERS 2
#define MODEL_PROCESSES (MODEL_BACKENDS + MODEL_WORKERS)
#define MODEL_SLOTS 5

typedef struct Model
{
	DsocrShared *shared;
	DsocrSlot *slots;
	DsocrWaiter *waiters;
	LWLock *queue_lock;
	LWLock *stats_lock;
	PROC_HDR *procs;
} Model;

/* ---- queue_model.c ---- */

/* Something is wrong: said, counted, and the end of the program. */
extern void model_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Count an operation; false: there were enough. */
extern bool model_count(void);
extern bool model_all_done(void); /* of the backends */

/* A number of 0 to n - 1, of the calling thread. */
extern unsigned model_random(unsigned n);

/* A worker takes, and lets go of, a use of a slot: nobody else may have it. */
extern void model_take(int slot, uint64 generation, int worker);
extern void model_let_go(int slot, uint64 generation, int worker);

/* ---- primitives.c ---- */

/* What it waited for has come: by a wake-up, or only because the wait ran out? */
extern void model_came(Latch *latch, const char *what);

/* A wait that ran out was no wait for a call. */
extern void model_heard(Latch *latch);

/* ---- process.c, of each copy ---- */

typedef void (*ModelProcess)(const Model *model, int number);

#endif /* DSOCR_MODEL_H */
