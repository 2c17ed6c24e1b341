/*-------------------------------------------------------------------------
 *
 * read.h
 *		The reading functions of SQL, and what they share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_READ_H
#define DSOCR_READ_H

#include "dsocr.h"

#include "fmgr.h"
#include "reading.h"
#include "result.h"

/* Bytes of a prompt in UTF-8, as in the engine: longer ones take long to tokenize. */
#define DSOCR_MAX_PROMPT_BYTES (64 * 1024)

/* The mode that a value of the SQL type dsocr_mode stands for. */
extern DsocrMode dsocr_mode_from_enum(Oid value);

/*
 * A call of a reading function that returns one value, in three steps, so that
 * calls of other rows can be on their way meanwhile: begin, advance until it
 * has ended, finish.  The functions themselves take the same steps and wait in
 * dsocr_reading_wait between them.
 */
typedef struct DsocrCall DsocrCall;

/* Is this the C function of such a call?  (fn_addr of its FmgrInfo) */
extern bool dsocr_call_is_known(PGFunction function);

/*
 * Check the arguments and begin to read.  Never waits, and raises ERROR only
 * for what is wrong with the server: what is wrong with the arguments comes
 * out in dsocr_call_finish.  The arguments must stay valid until the call is
 * deleted; everything it needs lives in a context below the current one.
 */
extern DsocrCall *dsocr_call_begin(PGFunction function, const NullableDatum *args, int n_args);

/* Take the pages that have ended, submit what can be submitted.  Has the call ended? */
extern bool dsocr_call_advance(DsocrCall *call);

/* What to hand to dsocr_reading_wait; NULL if the call never needed to read. */
extern DsocrReading *dsocr_call_reading(const DsocrCall *call);

/*
 * The value of a call that has ended, in the current memory context; fcinfo
 * is that of the call (its type, isnull).  Raises the errors and warnings of
 * the call.  Once for each call.
 */
extern Datum dsocr_call_finish(DsocrCall *call, FunctionCallInfo fcinfo);

/* What it took, for EXPLAIN. */
typedef struct DsocrCallCounts
{
	int pages; /* images that were read */
	int cache_hits;
	int64 image_tokens;
	int64 text_tokens;
} DsocrCallCounts;

extern void dsocr_call_counts(const DsocrCall *call, DsocrCallCounts *counts);

/* In any state. */
extern void dsocr_call_delete(DsocrCall *call);

#endif /* DSOCR_READ_H */
