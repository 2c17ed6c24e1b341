/*-------------------------------------------------------------------------
 *
 * result.c
 *		Outcomes of a request, and errors to SQLSTATEs.
 *
 * Results come from outside PostgreSQL's allocator.  An outcome ties one to a
 * memory context, so that it is freed on every way out, errors included.
 *
 *-------------------------------------------------------------------------
 */
#include "result.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "encoding.h"

/* ---- outcomes ---- */

static void
free_result(void *arg)
{
	dsocr_result_free((DsocrResult *) arg);
}

DsocrOutcome *
dsocr_outcome_create(void)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dsocr request", ALLOCSET_DEFAULT_SIZES);
	DsocrOutcome *outcome = MemoryContextAllocZero(context, sizeof(DsocrOutcome));
	MemoryContextCallback *callback = MemoryContextAlloc(context, sizeof(MemoryContextCallback));

	outcome->context = context;
	callback->func = free_result;
	callback->arg = &outcome->result;
	MemoryContextRegisterResetCallback(context, callback);
	return outcome;
}

void
dsocr_outcome_move(DsocrOutcome *to, DsocrOutcome *from)
{
	dsocr_result_free(&to->result);
	to->status = from->status;
	to->result = from->result;
	memcpy(to->model, from->model, sizeof(to->model));
	memset(&from->result, 0, sizeof(from->result));
}

void
dsocr_outcome_delete(DsocrOutcome *outcome)
{
	MemoryContextDelete(outcome->context);
}

/* ---- errors ---- */

int
dsocr_error_sqlstate(DsocrCode code)
{
	switch (code)
	{
		case DSOCR_OK:
			return ERRCODE_SUCCESSFUL_COMPLETION;
		case DSOCR_E_IMAGE:
			return ERRCODE_INVALID_BINARY_REPRESENTATION;
		case DSOCR_E_ARGUMENT:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		case DSOCR_E_TOO_LONG:
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case DSOCR_E_MODEL:
			return ERRCODE_UNDEFINED_FILE;
		case DSOCR_E_MEMORY:
			return ERRCODE_OUT_OF_MEMORY;
		case DSOCR_E_CANCELLED:
			return ERRCODE_QUERY_CANCELED;
		case DSOCR_E_DEVICE:
		case DSOCR_E_ENGINE_LOST:
			return ERRCODE_SYSTEM_ERROR;
		case DSOCR_E_IO:
			return ERRCODE_IO_ERROR;
		case DSOCR_E_INTERNAL:
			break;
	}
	return ERRCODE_INTERNAL_ERROR;
}

/*
 * dsocr.on_error lets a query over many documents go on where one of them is
 * bad: it is no readable image or over an image limit (22P03), or it does not
 * fit into the model's context (54000).  Wrong arguments would be wrong for
 * every row, and a failing model, device or queue says nothing about the
 * document: a NULL for those would hide work that was never done.
 */
bool
dsocr_error_is_of_document(DsocrCode code)
{
	return code == DSOCR_E_IMAGE || code == DSOCR_E_TOO_LONG;
}

void
dsocr_error_redact(DsocrError *error)
{
	/* Rights are not known outside of transactions; who reads there does it later. */
	if (!IsTransactionState())
		return;
	if ((error->code == DSOCR_E_MODEL || error->code == DSOCR_E_IO) &&
		!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_SETTINGS))
	{
		dsocr_fail(error, error->code, "the model could not be loaded");
		dsocr_hint(error,
				   "An administrator finds the reason in dsocr.workers and in the server log.");
	}
}

void
dsocr_error_report(int elevel, const DsocrError *error)
{
	char *message = dsocr_encoding_to_server(pstrdup(error->message), NULL);
	char *hint = dsocr_encoding_to_server(pstrdup(error->hint), NULL);

	/* what helps in general, where the engine knows nothing better */
	if (hint[0] == '\0' && error->code == DSOCR_E_IMAGE && elevel >= ERROR)
		hint = "Use dsocr_try, or set dsocr.on_error to null or warning, to go on with the other "
			   "documents.";
	else if (hint[0] == '\0' && error->code == DSOCR_E_MODEL)
		hint = "Correct dsocr.model or the folder that it names, then run SELECT dsocr_reload().";
	ereport(elevel, (errcode(dsocr_error_sqlstate(error->code)), errmsg_internal("%s", message),
					 hint[0] ? errhint("%s", hint) : 0));
}
