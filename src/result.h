/*-------------------------------------------------------------------------
 *
 * result.h
 *		Outcomes of a request, and errors to SQLSTATEs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_RESULT_H
#define DSOCR_RESULT_H

#include "dsocr.h"

#include "fmgr.h"
#include "engine/request.h"

/* The outcome of one request, in a memory context of its own. */
typedef struct DsocrOutcome
{
	MemoryContext context; /* deleting it frees the result too */
	DsocrError status;
	DsocrResult result; /* set where status.code is DSOCR_OK */
	char model[64];		/* name of the model that answered */
} DsocrOutcome;

/* A zeroed outcome in a new context below the current one. */
extern DsocrOutcome *dsocr_outcome_create(void);

/* Take over what another one holds, which is empty then. */
extern void dsocr_outcome_move(DsocrOutcome *to, DsocrOutcome *from);
extern void dsocr_outcome_delete(DsocrOutcome *outcome);

/* SQLSTATE (as ereport takes it) of an error of the engine. */
extern int dsocr_error_sqlstate(DsocrCode code);

/* Is the document itself to blame?  Only then dsocr.on_error has a say. */
extern bool dsocr_error_is_of_document(DsocrCode code);

/*
 * Trouble with the model names files of the server.  Who may not see settings
 * like dsocr.model is only told that there is trouble.
 */
extern void dsocr_error_redact(DsocrError *error);

/* Raise the error, or warn of it. */
extern void dsocr_error_report(int elevel, const DsocrError *error);

#endif /* DSOCR_RESULT_H */
