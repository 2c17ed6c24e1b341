/*-------------------------------------------------------------------------
 *
 * queue.h
 *		Request slots: how backends hand images to a worker and get text.
 *
 * FREE -> FILLING -> QUEUED -> RUNNING -> DONE | FAILED -> FREE, CANCELLED
 * from any of the middle ones.  A handle carries the slot's generation, so a
 * stale one cannot touch the slot's next user.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_QUEUE_H
#define DSOCR_QUEUE_H

#include "dsocr.h"
#include "cache.h"
#include "engine/protocol.h"

#include "datatype/timestamp.h"

typedef struct DsocrHandle
{
	int slot;
	uint64 generation;
	bool joined;	   /* a request of another that is waited for */
	TimestampTz since; /* joined: since when */
} DsocrHandle;

/* ---- for callers: SQL functions, batch scan, job runner ---- */

/*
 * Copy a request into a free slot, waiting for one up to dsocr.queue_timeout.
 * Raises ERROR (55000 not preloaded, 53400 queue full, 53400 role limit,
 * 53200 no queue memory, 57014 dsocr.timeout, 22023 image over
 * dsocr.max_image_bytes is the caller's check).  request->id is set.
 */
extern DsocrHandle dsocr_queue_submit(DsocrRequest *request);

/*
 * The same without waiting: false when there is no slot or no memory now, when
 * others stand in line, or when the role has reached its limit.  Raises ERROR
 * only for what waiting would not mend.  Who already has a request in flight
 * must use this: nobody may wait for a slot while holding one.  What is asked
 * for ahead leaves an eighth of slots and memory to others.
 */
extern bool dsocr_queue_try_submit(DsocrRequest *request, DsocrHandle *h);

/*
 * The same for a request whose answer has a key, waiting in line or not.  With
 * join, if an equal one is in flight, whoever has it, the handle is joined to
 * that and takes no slot.  Such a handle can be waited for and asked by
 * dsocr_queue_joined_ended; then the answer is in the cache, or the request
 * has failed or was given up, which is not told.  It needs not be cancelled.
 * With wait, also when the answer has come into the cache meanwhile.
 */
extern bool dsocr_queue_submit_keyed(DsocrRequest *request, const DsocrCacheKey *key, bool join,
									 bool wait, DsocrHandle *h);
extern bool dsocr_queue_joined_ended(DsocrHandle h);

/*
 * Would it be admitted now, with so many bytes of payload?  Not binding: for
 * callers who fetch the bytes only when they are wanted.
 */
extern bool dsocr_queue_has_room(DsocrRequestKind kind, DsocrPriority priority, Size bytes);

/*
 * For a process that never waits for one request but sleeps between rounds of
 * trying: stand in line for the first thing that was refused in this round, so
 * that its latch is set when it may have it.  While it stands nobody goes
 * before it, so it steps aside, keeping its place, before it does anything but
 * to try again.  False: there is nothing to stand for.  limited: something was
 * refused because its role is at its limit, and has to be tried again later.
 */
extern bool dsocr_queue_stand(bool *limited);
extern void dsocr_queue_step_aside(void);

/* Can documents be opened on this server?  false and err if never. */
extern bool dsocr_queue_opens_documents(DsocrError *err);

/* Bytes that the queue has for a request beyond those that it has already. */
extern Size dsocr_queue_memory_for(const DsocrRequest *request);

/*
 * A function to call after each wake-up of a backend that stands in line while
 * requests of its own are in flight: it fetches what has ended, so that nobody
 * holds a slot with an answer while waiting for another one.
 */
extern void dsocr_queue_on_wait(void (*function)(void));

/* Where a request stands; for an open document, how many pages it has. */
extern void dsocr_queue_progress(DsocrHandle h, DsocrProgress *progress);

/* Is the request still this backend's?  An aborted subtransaction takes its own away. */
extern bool dsocr_queue_holds(DsocrHandle h);

/* Has it ended?  Never blocks. */
extern bool dsocr_queue_poll(DsocrHandle h);

/*
 * Wait until one of n handles has ended and return its index; for an open
 * document (DSOCR_DOCUMENT), which does not end by itself, until it is open,
 * unless dsocr_queue_progress has already told that.  Interruptible; raises
 * ERROR when dsocr.timeout has passed since the request was submitted and
 * since this backend fetched its last outcome.
 */
extern int dsocr_queue_wait_any(const DsocrHandle *handles, int n);

/*
 * Take the outcome of an ended request and free its slot.  status->code tells
 * whether result was filled; result's memory is malloc'd (dsocr_result_free),
 * model names the model that answered (64 bytes).
 */
extern void dsocr_queue_fetch(DsocrHandle h, DsocrError *status, DsocrResult *result, char *model);

/* Give up a request in any state; the slot is freed as soon as the worker lets go. */
extern void dsocr_queue_cancel(DsocrHandle h);

/*
 * The slots of this backend are also freed at transaction abort, subtransaction
 * abort (those submitted inside it), commit (those not fetched) and backend
 * exit: callers need no PG_TRY.  Those submitted outside of transactions live
 * until then.
 */

#endif /* DSOCR_QUEUE_H */
