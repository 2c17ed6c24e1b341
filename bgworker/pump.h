/*-------------------------------------------------------------------------
 *
 * pump.h
 *		Moves requests into an engine and its answers out.
 *
 * Knows what is inside the engine; what becomes of the engine is the
 * worker's decision.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PUMP_H
#define DSOCR_PUMP_H

#include "dispatch.h"
#include "engine_process.h"

/* Requests inside an engine.  A page server may have every slot there is. */
#define DSOCR_MAX_IN_FLIGHT DSOCR_MAX_SLOTS

/* A request inside the engine. */
typedef struct DsocrInFlight
{
	DsocrHandle handle;
	uint64 id;			   /* on the wire */
	bool suspect;		   /* runs alone */
	bool document;		   /* stays when it is open */
	bool open;			   /* it is: nothing to do for it */
	TimestampTz cancelled; /* when the engine was told to stop it, 0 = it was not */
	int32 tokens;		   /* of its last progress report */
} DsocrInFlight;

/* A blank page that an engine reads before all else, when the one before it died. */
typedef enum DsocrTrial
{
	DSOCR_TRIAL_NONE, /* not needed, or over */
	DSOCR_TRIAL_WANTED,
	DSOCR_TRIAL_RUNNING
} DsocrTrial;

typedef struct DsocrPump
{
	int device;
	DsocrEngineProcess *engine;
	DsocrInFlight flight[DSOCR_MAX_IN_FLIGHT];
	int n_flight;
	int n_open;			  /* of them: documents that are open */
	int sending;		  /* index in flight of the request being written, -1 none */
	dsm_segment *payload; /* its bytes, NULL = none */
	int most;			  /* requests it is given at once, by what it said of itself */
	bool careful;		  /* one at a time, whatever it said */
	DsocrTrial trial;
	bool proved; /* the engine has read an image since it was started */

	/* what the engine said since the worker looked last */
	bool ready; /* it has loaded its model: info */
	DsocrModelInfo info;
	bool failed; /* it cannot: reason */
	DsocrError reason;
	bool answered; /* it has read an image for somebody */
	bool passed;   /* it has read the page of its trial */
	int64 tokens;  /* it wrote so many */
} DsocrPump;

typedef enum DsocrPumpState
{
	DSOCR_PUMP_OPEN,
	DSOCR_PUMP_CLOSED, /* the engine has closed its end */
	DSOCR_PUMP_BROKEN  /* it does not keep to the protocol: was logged */
} DsocrPumpState;

extern void dsocr_pump_init(DsocrPump *p, int device, DsocrEngineProcess *engine);

/* Read and handle what the engine has sent. */
extern DsocrPumpState dsocr_pump_in(DsocrPump *p);

/* Cancel what nobody wants, take new requests if allowed, write what goes. */
extern DsocrPumpState dsocr_pump_out(DsocrPump *p, bool take);

/* Requests that the engine has to do something for. */
extern int dsocr_pump_busy(const DsocrPump *p);

/* Has the engine been silent, or sat on a cancelled request, for so long? */
extern bool dsocr_pump_late(const DsocrPump *p, int timeout_ms);

/* The engine, which has just got ready, is to read a blank page before it takes requests. */
extern void dsocr_pump_try(DsocrPump *p);

/*
 * The engine is given up, its link still open: hand back what it had.  With
 * blame, what it was given may be why it died; and is, where it was one request
 * and the engine had read another image before.
 */
extern void dsocr_pump_return(DsocrPump *p, bool blame);

/* Text for views and logs of any encoding: what is not ASCII becomes '?'. */
extern void dsocr_pump_clean(char *text);

#endif /* DSOCR_PUMP_H */
