/*-------------------------------------------------------------------------
 *
 * ahead.h
 *		Calls of reading functions that were begun before they are evaluated.
 *
 * Who begins calls ahead puts a stand-in for the document in the place of
 * their arguments.  The function recognises it and takes the value of the
 * call that was begun, where and when the plain call would have computed it:
 * errors, warnings and evaluation order are those of the plain call.
 *
 * A stand-in is an expanded object, which is what PostgreSQL has for values of
 * bytea that are a pointer to something of the process.  It is never stored:
 * nothing but the function sees it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_AHEAD_H
#define DSOCR_AHEAD_H

#include "dsocr.h"

#include "fmgr.h"
#include "read.h"

typedef struct DsocrAhead DsocrAhead;

/* A stand-in that lives in a memory context; it is a value of type bytea. */
extern DsocrAhead *dsocr_ahead_create(MemoryContext context);
extern Datum dsocr_ahead_document(DsocrAhead *ahead);

/* The call it now stands for: one that has ended and whose value was not taken. */
extern void dsocr_ahead_set(DsocrAhead *ahead, DsocrCall *call);

/* The stand-in if the document of a call is one, else NULL. */
extern DsocrAhead *dsocr_ahead_of(FunctionCallInfo fcinfo);

/*
 * The value of the call it stands for, as dsocr_call_value gives it.  The
 * first time computes it; it lives in the memory context of that time.
 */
extern Datum dsocr_ahead_value(DsocrAhead *ahead, FunctionCallInfo fcinfo);

#endif /* DSOCR_AHEAD_H */
