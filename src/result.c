/*-------------------------------------------------------------------------
 *
 * result.c
 *		Outcomes of a request: errors to SQLSTATEs, results to datums.
 *
 * Results come from outside PostgreSQL's allocator.  An outcome ties one to a
 * memory context, so that it is freed on every way out, errors included.
 *
 *-------------------------------------------------------------------------
 */
#include "result.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "encoding.h"
#include "layout.h"

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

/* ---- the composite type ---- */

static const char *
finish_name(DsocrFinish finish)
{
	return finish == DSOCR_FINISH_LENGTH ? "length" : "stop";
}

static void
push_page(JsonbParseState **state, const DsocrResult *r)
{
	dsocr_json_text(state, "status", "ok");
	dsocr_json_int(state, "width", r->width);
	dsocr_json_int(state, "height", r->height);
	if (r->mode >= 0 && r->mode < DSOCR_N_MODES)
		dsocr_json_text(state, "mode", (char *) dsocr_mode_names[r->mode]);
	dsocr_json_text(state, "grid", psprintf("%dx%d", r->grid_columns, r->grid_rows));
	dsocr_json_int(state, "views", r->views);
	dsocr_json_int(state, "image_tokens", r->image_tokens);
	dsocr_json_int(state, "valid_image_tokens", r->valid_image_tokens);
	dsocr_json_int(state, "prompt_tokens", r->prompt_tokens);
	dsocr_json_int(state, "text_tokens", r->text_tokens);
	dsocr_json_text(state, "finish_reason", (char *) finish_name(r->finish));
	dsocr_json_key(state, "timings");
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	dsocr_json_ms(state, "queued", r->timings.queued);
	dsocr_json_ms(state, "preprocess", r->timings.preprocess);
	dsocr_json_ms(state, "encode", r->timings.encode);
	dsocr_json_ms(state, "prefill", r->timings.prefill);
	dsocr_json_ms(state, "decode", r->timings.decode);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

/* An array of objects, one for each page. */
static Datum
pages_jsonb(const DsocrOutcome *outcome, char *error, char *sqlstate)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	dsocr_json_int(&state, "page", 1);
	if (outcome->status.code == DSOCR_OK)
		push_page(&state, &outcome->result);
	else
	{
		dsocr_json_text(&state, "status", "error");
		dsocr_json_text(&state, "error", error);
		dsocr_json_text(&state, "sqlstate", sqlstate);
	}
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

enum
{
	COL_MARKDOWN,
	COL_LAYOUT,
	COL_RAW,
	COL_FINISH_REASON,
	COL_IMAGE_TOKENS,
	COL_VALID_IMAGE_TOKENS,
	COL_TEXT_TOKENS,
	COL_COMPRESSION_RATIO,
	COL_PAGES,
	COL_MEAN_LOGPROB,
	COL_MODEL,
	COL_ERROR,
	COL_SQLSTATE,
	N_COLS
};

static const Oid column_types[N_COLS] = {
	TEXTOID,   JSONBOID, TEXTOID,	TEXTOID, INT4OID, INT4OID, INT4OID,
	FLOAT8OID, JSONBOID, FLOAT8OID, TEXTOID, TEXTOID, TEXTOID,
};

static TupleDesc
result_descriptor(FunctionCallInfo fcinfo)
{
	TupleDesc desc;
	bool ok;

	ok = get_call_result_type(fcinfo, NULL, &desc) == TYPEFUNC_COMPOSITE && desc->natts == N_COLS;
	for (int i = 0; ok && i < N_COLS; i++)
		ok = TupleDescAttr(desc, i)->atttypid == column_types[i];
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("type dsocr_result does not fit the installed library"),
				 errhint("Run ALTER EXTENSION dsocr UPDATE after the library was replaced.")));
	return BlessTupleDesc(desc);
}

static void
fill_ok(DsocrOutcome *outcome, Datum *values, bool *nulls)
{
	DsocrResult *r = &outcome->result;
	int replaced = 0;

	/* raw holds all characters of the other texts: only these are counted */
	values[COL_RAW] = CStringGetTextDatum(dsocr_encoding_to_server(r->raw, &replaced));
	values[COL_MARKDOWN] = CStringGetTextDatum(dsocr_encoding_to_server(r->markdown, NULL));
	values[COL_LAYOUT] = dsocr_layout_jsonb(r, NULL);
	values[COL_FINISH_REASON] = CStringGetTextDatum(finish_name(r->finish));
	values[COL_IMAGE_TOKENS] = Int32GetDatum(r->image_tokens);
	values[COL_VALID_IMAGE_TOKENS] = Int32GetDatum(r->valid_image_tokens);
	values[COL_TEXT_TOKENS] = Int32GetDatum(r->text_tokens);
	nulls[COL_COMPRESSION_RATIO] = r->valid_image_tokens <= 0;
	if (r->valid_image_tokens > 0)
		values[COL_COMPRESSION_RATIO] =
			Float8GetDatum((double) r->text_tokens / r->valid_image_tokens);
	values[COL_PAGES] = pages_jsonb(outcome, NULL, NULL);
	nulls[COL_MEAN_LOGPROB] = r->text_tokens <= 0;
	values[COL_MEAN_LOGPROB] = Float8GetDatum(r->mean_logprob);
	values[COL_MODEL] = CStringGetTextDatum(dsocr_encoding_to_server(outcome->model, NULL));
	nulls[COL_ERROR] = nulls[COL_SQLSTATE] = true;
	dsocr_encoding_notice(replaced);
}

static void
fill_error(DsocrOutcome *outcome, Datum *values, bool *nulls)
{
	char *error = dsocr_encoding_to_server(outcome->status.message, NULL);
	char *sqlstate = pstrdup(unpack_sql_state(dsocr_error_sqlstate(outcome->status.code)));

	for (int i = 0; i < N_COLS; i++)
		nulls[i] = true;
	values[COL_PAGES] = pages_jsonb(outcome, error, sqlstate);
	values[COL_ERROR] = CStringGetTextDatum(error);
	values[COL_SQLSTATE] = CStringGetTextDatum(sqlstate);
	nulls[COL_PAGES] = nulls[COL_ERROR] = nulls[COL_SQLSTATE] = false;
}

Datum
dsocr_outcome_datum(FunctionCallInfo fcinfo, DsocrOutcome *outcome)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum values[N_COLS] = {0};
	bool nulls[N_COLS] = {false};
	TupleDesc desc;
	HeapTuple tuple;

	/* Columns are built where the result lives; only the tuple outlives it. */
	MemoryContextSwitchTo(outcome->context);
	desc = result_descriptor(fcinfo);
	if (outcome->status.code == DSOCR_OK)
		fill_ok(outcome, values, nulls);
	else
		fill_error(outcome, values, nulls);
	MemoryContextSwitchTo(caller);
	tuple = heap_form_tuple(desc, values, nulls);
	return HeapTupleGetDatum(tuple);
}
