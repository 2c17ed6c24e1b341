/*-------------------------------------------------------------------------
 *
 * shmem.h
 *		What lies in shared memory: slots, devices, statistics.
 *
 * Nothing here is a pointer, a file descriptor or a handle of one process:
 * processes are named by their number in ProcGlobal and their pid, payloads
 * by the handle of their segment, requests by slot and generation.
 *
 * Locking.  "queue" and "stats" in the comments below are the two locks of
 * dsocr_queue_lock and dsocr_stats_lock.  Neither is held while memory of
 * payloads is allocated or freed, and they are never held together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SHMEM_H
#define DSOCR_SHMEM_H

#include "dsocr.h"
#include "cache.h"
#include "engine/protocol.h"

#include "datatype/timestamp.h"
#include "storage/lwlock.h"
#include "storage/dsm.h"

typedef enum DsocrSlotState
{
	DSOCR_SLOT_FREE,
	DSOCR_SLOT_FILLING,	  /* the owner is copying the image */
	DSOCR_SLOT_QUEUED,	  /* any worker may take it */
	DSOCR_SLOT_RUNNING,	  /* belongs to the worker of .device; the owner may only cancel */
	DSOCR_SLOT_DONE,	  /* a result waits for the owner */
	DSOCR_SLOT_FAILED,	  /* an error waits for the owner */
	DSOCR_SLOT_CANCELLED, /* given up while RUNNING: the worker frees it */
	DSOCR_SLOT_FREEING	  /* its memory is being given back */
} DsocrSlotState;

typedef struct DsocrSlot
{
	DsocrSlotState state;	/* queue */
	uint64 generation;		/* queue; counts the slot's users */
	uint64 sequence;		/* queue; order of arrival */
	int owner_procno;		/* queue; whose latch to set */
	int owner_pid;			/* queue; 0 when the owner has gone */
	Oid role;				/* queue; who asked */
	Oid database;			/* queue; where */
	int device;				/* queue; which worker has it, -1 none */
	int attempts;			/* queue; engines that died on it */
	bool died_alone;		/* queue; the last of them had read others, and had nothing else */
	TimestampTz submitted;	/* queue */
	TimestampTz started;	/* queue; handed to an engine, 0 = not yet */
	TimestampTz deadline;	/* queue; 0 = none */
	double clock;			/* queue; its device's when it was taken */
	bool in_work;			/* queue; counted in its device's in_work */
	int share;				/* queue; entry of its role in roles */
	int weight;				/* set in FILLING, then constant; of its role */
	double tag;				/* queue; turn of the first who joined it, INFINITY when nobody did */
	double charge;			/* queue; what its role is charged with in advance */
	TimestampTz returned;	/* queue; when an engine died on it, 0 = never */
	DsocrRequest request;	/* set in FILLING, then constant; its pointers are NULL */
	DsocrProgress progress; /* queue */
	dsm_handle payload;		/* prompt, NUL, image; set in FILLING, taken by who frees it (queue) */
	Size prompt_len;		/* set in FILLING, then constant */
	bool has_prompt;		/* set in FILLING, then constant */
	bool has_image;			/* set in FILLING, then constant */
	dsm_handle result;		/* queue; body of a result frame */
	Size result_len;		/* queue */
	Size memory;			/* queue; bytes this slot counts in memory_used */
	DsocrError status;		/* queue; why it FAILED without a result frame */
	char model[64];			/* queue; who answered */
	DsocrCacheKey key;		/* set in FILLING, then constant; of its answer, model 0 = none */
	bool joined;			/* queue; others wait for it, too */
} DsocrSlot;

typedef enum DsocrDeviceState
{
	DSOCR_DEVICE_STOPPED,  /* no worker process */
	DSOCR_DEVICE_STARTING, /* the engine is loading the model */
	DSOCR_DEVICE_READY,
	DSOCR_DEVICE_DEGRADED, /* the engine died and is being started again */
	DSOCR_DEVICE_FAILED	   /* a configuration that cannot work: waits for a reload */
} DsocrDeviceState;

typedef struct DsocrDevice
{
	char name[DSOCR_DEVICE_NAME_MAX]; /* constant after start-up */
	bool of_pages;					  /* constant after start-up: the page server */
	int worker_pid;					  /* queue; 0 = not running */
	int worker_procno;				  /* queue */
	TimestampTz worker_changed;		  /* queue; when the worker came or went */
	uint64 reload;					  /* queue; counts the requests to start the engine anew */
	DsocrDeviceState state;			  /* queue */
	bool refuses;					  /* queue; cannot serve now: .error says why */
	int engine_pid;					  /* queue; 0 = none */
	DsocrModelInfo info;			  /* queue; valid when READY */
	DsocrError error;				  /* queue; last trouble of the engine, or DSOCR_OK */
	int running;					  /* queue; requests inside the engine */
	int in_work;					  /* queue; slots that it has taken */
	double clock;					  /* queue; us of work divided by in_work, summed up */
	TimestampTz clock_at;			  /* queue; when that was */
	int64 restarts;					  /* queue; engines started after the first */
	TimestampTz started_at;			  /* queue; start of the present engine */
	double tokens_per_second;		  /* queue; of the last seconds */
} DsocrDevice;

/* A session that waits for the answer to the request of another. */
typedef struct DsocrJoin
{
	uint64 generation; /* of the slot of that request; 0 = does not wait */
	int slot;
	int pid;
	Oid role;
	Oid database;
	TimestampTz since;
} DsocrJoin;

/* A process that waits for a free slot, or for requests of others. */
typedef struct DsocrWaiter
{
	uint64 ticket;			/* queue; 0 = does not wait */
	int pid;				/* queue */
	int share;				/* queue; entry of its role in roles */
	DsocrPriority priority; /* queue */
	bool away;				/* queue; keeps its place, and others may go first */
	bool wants;				/* queue; waits to open a document */
	bool holds;				/* queue; has one open */
	uint64 joined;			/* queue; waits for slots of others: bits 1 << number % 64 */
	DsocrJoin join; /* queue; the one of these that it has waited for longest, to be shown */
} DsocrWaiter;

/* Counters of one device, or of the requests that never reached one. */
#define DSOCR_LATENCY_BUCKETS 128 /* of a quarter octave each, the first at 1 ms */

typedef struct DsocrStats
{
	int64 completed;
	int64 failed;
	int64 cancelled;
	int64 retried;	  /* handed back to the queue because the engine died */
	int64 cache_hits; /* pages that were not read because their answer was kept */
	int64 image_tokens;
	int64 text_tokens;
	int64 waited_us; /* from submission to the hand-over to an engine */
	int64 preprocess_us;
	int64 encode_us;
	int64 prefill_us;
	int64 decode_us;
	int64 longest_us;					  /* longest time from submission to the end */
	int64 latency[DSOCR_LATENCY_BUCKETS]; /* completed requests by that time */
} DsocrStats;

/* What a request takes is not known before there was one. */
#define DSOCR_FIRST_COST_US 100000

/* What a role has used since the counters were set to zero; and its turn. */
#define DSOCR_MAX_ROLES 1024

typedef struct DsocrRole
{
	Oid role;		  /* queue; Invalid = free; the last entry is for all who find none */
	int64 pages;	  /* queue; that were read */
	int64 cache_hits; /* queue */
	int64 image_tokens;
	int64 text_tokens;
	double device_us;		/* queue; its share of the engines' time */
	double turn;			/* queue; virtual time: what its requests took, by their weight */
	double charged;			/* queue; in advance, for all requests that have a slot ... */
	double charged_in_work; /* queue; ... and for those that an engine has */
} DsocrRole;

typedef struct DsocrShared
{
	int n_slots;							 /* constant after start-up */
	int n_devices;							 /* constant after start-up; with the page server */
	int n_waiters;							 /* constant after start-up: length of that array */
	Size memory_limit;						 /* constant after start-up */
	Size memory_used;						 /* queue; bytes of payloads and results */
	int n_free;								 /* queue; slots in state FREE */
	int n_documents;						 /* queue; slots of documents, open or on the way */
	int n_waiting;							 /* queue; waiters with a ticket */
	uint64 next_sequence;					 /* queue */
	uint64 releases;						 /* queue; slots freed so far */
	uint64 next_ticket;						 /* queue */
	DsocrDevice devices[DSOCR_MAX_WORKERS];	 /* see there; the page server is the last */
	DsocrRole roles[DSOCR_MAX_ROLES];		 /* queue */
	double turn;							 /* queue; virtual time: the turn of the last pick */
	double cost;							 /* queue; what a request takes, in us of a device */
	uint64 line_picks;						 /* queue; slots that were taken out of the line */
	TimestampTz stats_since;				 /* stats */
	DsocrStats stats[DSOCR_MAX_WORKERS + 1]; /* stats; the last: never reached a device */
} DsocrShared;

#define DSOCR_STATS_NOWHERE DSOCR_MAX_WORKERS

/* Of this process; all NULL when the library was not preloaded. */
extern DsocrShared *dsocr_shared;
extern DsocrSlot *dsocr_slots;
extern DsocrWaiter *dsocr_waiters;
extern LWLock *dsocr_queue_lock;
extern LWLock *dsocr_stats_lock;

/* Raises 55000 with the configuration line as HINT when not preloaded. */
extern void dsocr_require_preload(void);

#endif /* DSOCR_SHMEM_H */
