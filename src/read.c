/*-------------------------------------------------------------------------
 *
 * read.c
 *		The reading functions of SQL.
 *
 * Each takes (document [, prompt or what], mode, pages, max_tokens, dpi) and
 * goes the same way: check the arguments, hand the image to the queue, wait,
 * turn the result into what the function returns.  Everything of one call
 * lives in a memory context that is deleted before the function returns; the
 * detoasted document is freed as soon as the queue has its own copy.
 *
 * Failures come as a DsocrError, wherever they are found, and one place
 * decides what becomes of them: an ERROR, a NULL (dsocr.on_error), or a value
 * (dsocr_try).
 *
 *-------------------------------------------------------------------------
 */
#include "read.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/rangetypes.h"
#include "utils/syscache.h"
#include "encoding.h"
#include "layout.h"
#include "queue.h"

PG_FUNCTION_INFO_V1(dsocr_markdown);
PG_FUNCTION_INFO_V1(dsocr_text);
PG_FUNCTION_INFO_V1(dsocr_layout);
PG_FUNCTION_INFO_V1(dsocr_blocks);
PG_FUNCTION_INFO_V1(dsocr_figure);
PG_FUNCTION_INFO_V1(dsocr_describe);
PG_FUNCTION_INFO_V1(dsocr_locate);
PG_FUNCTION_INFO_V1(dsocr_generate);
PG_FUNCTION_INFO_V1(dsocr_read);
PG_FUNCTION_INFO_V1(dsocr_try);
PG_FUNCTION_INFO_V1(dsocr_tokens_size);
PG_FUNCTION_INFO_V1(dsocr_tokens_document);

/* ---- arguments ---- */

DsocrMode
dsocr_mode_from_enum(Oid value)
{
	HeapTuple tuple = SearchSysCache1(ENUMOID, ObjectIdGetDatum(value));
	int mode = -1;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for enum %u", value);
	for (int i = 0; i < DSOCR_N_MODES; i++)
		if (strcmp(NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel), dsocr_mode_names[i]) == 0)
			mode = i;
	ReleaseSysCache(tuple);
	if (mode < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("mode is not known to the installed library")));
	return (DsocrMode) mode;
}

static DsocrMode
mode_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? (DsocrMode) dsocr_mode : dsocr_mode_from_enum(PG_GETARG_OID(n));
}

/* Does the argument select the page of an image, which is page 1? */
static bool
pages_argument(FunctionCallInfo fcinfo, int n)
{
	RangeType *pages;

	if (PG_ARGISNULL(n))
		return true;
	pages = PG_GETARG_RANGE_P(n);
	return range_contains_elem_internal(range_get_typcache(fcinfo, RangeTypeGetOid(pages)), pages,
										Int32GetDatum(1));
}

static bool
fill_limits(FunctionCallInfo fcinfo, int n, DsocrRequest *request, DsocrError *err)
{
	request->max_tokens = dsocr_max_tokens;
	if (!PG_ARGISNULL(n))
	{
		request->max_tokens = PG_GETARG_INT32(n);
		if (request->max_tokens <= 0)
		{
			dsocr_fail(err, DSOCR_E_ARGUMENT, "max_tokens must be greater than 0");
			return dsocr_hint(err, "Leave max_tokens out to use the setting dsocr.max_tokens.");
		}
	}
	if (!PG_ARGISNULL(n + 1))
	{
		int dpi = PG_GETARG_INT32(n + 1);

		if (dpi <= 0 || dpi > DSOCR_MAX_DPI)
			return dsocr_fail(err, DSOCR_E_ARGUMENT, "dpi must be between 1 and %d", DSOCR_MAX_DPI);
	}
	return true;
}

static bool
fill_prompt(Datum datum, DsocrRequest *request, DsocrError *err)
{
	char *prompt;

	if (toast_raw_datum_size(datum) - VARHDRSZ > DSOCR_MAX_PROMPT_BYTES)
		return dsocr_fail(err, DSOCR_E_TOO_LONG, "prompt is longer than %d bytes",
						  DSOCR_MAX_PROMPT_BYTES);
	prompt = dsocr_encoding_to_utf8(TextDatumGetCString(datum));
	request->prompt = prompt;
	return true;
}

/*
 * Point the request at the bytes of the document.  Its size is known before
 * it is fetched and decompressed, so what is too large costs nothing.
 */
static bool
fill_image(Datum datum, DsocrRequest *request, struct varlena **detoasted, DsocrError *err)
{
	Size size = toast_raw_datum_size(datum) - VARHDRSZ;

	if (size == 0)
		return dsocr_fail(err, DSOCR_E_IMAGE, "document is empty");
	if (size > (Size) dsocr_max_image_bytes * 1024)
	{
		dsocr_fail(err, DSOCR_E_IMAGE,
				   "document has %zu bytes, more than dsocr.max_image_bytes (%s)", (size_t) size,
				   GetConfigOptionByName("dsocr.max_image_bytes", NULL, false));
		return dsocr_hint(
			err, "Store a smaller image, or ask an administrator to raise dsocr.max_image_bytes.");
	}
	*detoasted = PG_DETOAST_DATUM_PACKED(datum);
	request->image = (const uint8_t *) VARDATA_ANY(*detoasted);
	request->image_len = VARSIZE_ANY_EXHDR(*detoasted);
	return true;
}

static void
fill_settings(DsocrRequest *request)
{
	request->priority = DSOCR_INTERACTIVE;
	request->max_pixels = dsocr_max_pixels;
	request->ngram_size = dsocr_ngram_size;
	request->ngram_window = dsocr_ngram_window;
}

/* ---- running one request ---- */

/* Submit, wait, fetch.  The document is not needed any more once it is queued. */
static void
run_request(DsocrRequest *request, Datum document, struct varlena *detoasted, DsocrOutcome *outcome)
{
	DsocrHandle handle = dsocr_queue_submit(request);

	if (detoasted && (Pointer) detoasted != DatumGetPointer(document))
		pfree(detoasted);
	dsocr_queue_wait_any(&handle, 1);
	dsocr_queue_fetch(handle, &outcome->status, &outcome->result, outcome->model);
	dsocr_error_redact(&outcome->status);
}

/* What becomes of a failure.  Returns only if the answer is NULL. */
static void
report_failure(const DsocrError *error)
{
	if (!dsocr_error_is_of_document(error->code) || dsocr_on_error == DSOCR_ON_ERROR_ERROR)
		dsocr_error_report(ERROR, error);
	if (dsocr_on_error == DSOCR_ON_ERROR_WARNING)
		dsocr_error_report(WARNING, error);
}

static void
warn_if_cut(const DsocrRequest *request, const DsocrResult *result)
{
	bool by_limit = request->max_tokens > 0 && result->text_tokens >= request->max_tokens;

	if (result->finish != DSOCR_FINISH_LENGTH)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_WARNING_STRING_DATA_RIGHT_TRUNCATION),
			 errmsg("text was cut at %d tokens", result->text_tokens),
			 by_limit
				 ? errhint("Raise dsocr.max_tokens or the argument max_tokens.")
				 : errhint("The model's context is full. A mode with fewer image tokens leaves "
						   "more room for text; dsocr.max_tokens cannot be raised beyond it.")));
}

/*
 * Read the document of a call.  Returns NULL where the answer is NULL: the
 * document or the prompt is, no page is selected, or dsocr.on_error says so.
 * A failed outcome comes back only if keep_failure is set; even then a
 * cancelled request is an ERROR.
 */
static DsocrOutcome *
read_document(FunctionCallInfo fcinfo, DsocrTask task, int options, bool keep_failure)
{
	MemoryContext caller = CurrentMemoryContext;
	DsocrRequest request = {.kind = DSOCR_READ, .task = task};
	struct varlena *detoasted = NULL;
	DsocrOutcome *outcome;
	DsocrError *err;

	if (PG_ARGISNULL(0))
		return NULL;
	outcome = dsocr_outcome_create();
	err = &outcome->status;
	MemoryContextSwitchTo(outcome->context);
	fill_settings(&request);
	request.mode = mode_argument(fcinfo, options);
	if (!fill_limits(fcinfo, options + 2, &request, err))
		;
	else if (!pages_argument(fcinfo, options + 1))
	{
		MemoryContextSwitchTo(caller);
		dsocr_outcome_delete(outcome);
		return NULL;
	}
	else if (request.task >= DSOCR_TASK_LOCATE && !fill_prompt(PG_GETARG_DATUM(1), &request, err))
		;
	else if (fill_image(PG_GETARG_DATUM(0), &request, &detoasted, err))
		run_request(&request, PG_GETARG_DATUM(0), detoasted, outcome);
	MemoryContextSwitchTo(caller);

	if (err->code == DSOCR_OK)
		warn_if_cut(&request, &outcome->result);
	else if (!keep_failure || err->code == DSOCR_E_CANCELLED)
	{
		report_failure(err);
		dsocr_outcome_delete(outcome);
		return NULL;
	}
	return outcome;
}

/* ---- functions returning text ---- */

static Datum
return_text(FunctionCallInfo fcinfo, DsocrOutcome *outcome, bool raw)
{
	MemoryContext caller = CurrentMemoryContext;
	int replaced = 0;
	char *converted;
	Datum text;

	if (!outcome)
		PG_RETURN_NULL();
	MemoryContextSwitchTo(outcome->context);
	converted =
		dsocr_encoding_to_server(raw ? outcome->result.raw : outcome->result.markdown, &replaced);
	MemoryContextSwitchTo(caller);
	text = CStringGetTextDatum(converted);
	dsocr_outcome_delete(outcome);
	dsocr_encoding_notice(replaced);
	return text;
}

Datum
dsocr_markdown(PG_FUNCTION_ARGS)
{
	return return_text(fcinfo, read_document(fcinfo, DSOCR_TASK_MARKDOWN, 1, false), false);
}

Datum
dsocr_text(PG_FUNCTION_ARGS)
{
	return return_text(fcinfo, read_document(fcinfo, DSOCR_TASK_TEXT, 1, false), false);
}

Datum
dsocr_figure(PG_FUNCTION_ARGS)
{
	return return_text(fcinfo, read_document(fcinfo, DSOCR_TASK_FIGURE, 1, false), false);
}

Datum
dsocr_describe(PG_FUNCTION_ARGS)
{
	return return_text(fcinfo, read_document(fcinfo, DSOCR_TASK_DESCRIBE, 1, false), false);
}

Datum
dsocr_generate(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	return return_text(fcinfo, read_document(fcinfo, DSOCR_TASK_GENERATE, 2, false), true);
}

/* ---- functions returning the layout ---- */

Datum
dsocr_layout(PG_FUNCTION_ARGS)
{
	DsocrOutcome *outcome = read_document(fcinfo, DSOCR_TASK_MARKDOWN, 1, false);
	MemoryContext caller = CurrentMemoryContext;
	int replaced = 0;
	Datum layout;

	if (!outcome)
		PG_RETURN_NULL();
	MemoryContextSwitchTo(outcome->context);
	layout = dsocr_layout_jsonb(&outcome->result, &replaced);
	MemoryContextSwitchTo(caller);
	layout = datumCopy(layout, false, -1);
	dsocr_outcome_delete(outcome);
	dsocr_encoding_notice(replaced);
	return layout;
}

Datum
dsocr_blocks(PG_FUNCTION_ARGS)
{
	DsocrOutcome *outcome;
	int replaced = 0;

	InitMaterializedSRF(fcinfo, 0);
	outcome = read_document(fcinfo, DSOCR_TASK_MARKDOWN, 1, false);
	if (outcome)
	{
		MemoryContext caller = MemoryContextSwitchTo(outcome->context);

		dsocr_layout_rows(&outcome->result, (ReturnSetInfo *) fcinfo->resultinfo, &replaced);
		MemoryContextSwitchTo(caller);
		dsocr_outcome_delete(outcome);
		dsocr_encoding_notice(replaced);
	}
	return (Datum) 0;
}

Datum
dsocr_locate(PG_FUNCTION_ARGS)
{
	DsocrOutcome *outcome = NULL;

	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(1))
		outcome = read_document(fcinfo, DSOCR_TASK_LOCATE, 2, false);
	if (outcome)
	{
		MemoryContext caller = MemoryContextSwitchTo(outcome->context);

		dsocr_layout_boxes(&outcome->result, (ReturnSetInfo *) fcinfo->resultinfo);
		MemoryContextSwitchTo(caller);
		dsocr_outcome_delete(outcome);
	}
	return (Datum) 0;
}

/* ---- functions returning everything ---- */

static Datum
return_all(FunctionCallInfo fcinfo, bool keep_failure)
{
	DsocrTask task = PG_ARGISNULL(1) ? DSOCR_TASK_MARKDOWN : DSOCR_TASK_GENERATE;
	DsocrOutcome *outcome = read_document(fcinfo, task, 2, keep_failure);
	Datum value;

	if (!outcome)
		PG_RETURN_NULL();
	value = dsocr_outcome_datum(fcinfo, outcome);
	dsocr_outcome_delete(outcome);
	return value;
}

Datum
dsocr_read(PG_FUNCTION_ARGS)
{
	return return_all(fcinfo, false);
}

Datum
dsocr_try(PG_FUNCTION_ARGS)
{
	return return_all(fcinfo, true);
}

/* ---- the price ---- */

static Datum
return_tokens(FunctionCallInfo fcinfo, DsocrOutcome *outcome)
{
	const DsocrResult *r = &outcome->result;
	Datum values[4];
	bool nulls[4] = {false};
	TupleDesc desc;
	HeapTuple tuple;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 4)
		elog(ERROR, "return type must be a row of four columns");
	values[0] = CStringGetTextDatum(psprintf("%dx%d", r->grid_columns, r->grid_rows));
	values[1] = Int32GetDatum(r->views);
	values[2] = Int32GetDatum(r->image_tokens);
	values[3] = Int32GetDatum(r->valid_image_tokens);
	tuple = heap_form_tuple(BlessTupleDesc(desc), values, nulls);
	dsocr_outcome_delete(outcome);
	return HeapTupleGetDatum(tuple);
}

Datum
dsocr_tokens_size(PG_FUNCTION_ARGS)
{
	DsocrRequest request = {.kind = DSOCR_PROBE};
	DsocrOutcome *outcome;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	request.probe_width = PG_GETARG_INT32(0);
	request.probe_height = PG_GETARG_INT32(1);
	if (request.probe_width <= 0 || request.probe_height <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("width and height must be greater than 0")));
	fill_settings(&request);
	request.mode = mode_argument(fcinfo, 2);
	outcome = dsocr_outcome_create();
	run_request(&request, (Datum) 0, NULL, outcome);
	if (outcome->status.code != DSOCR_OK)
		dsocr_error_report(ERROR, &outcome->status);
	return return_tokens(fcinfo, outcome);
}

Datum
dsocr_tokens_document(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	DsocrRequest request = {.kind = DSOCR_PROBE};
	struct varlena *detoasted = NULL;
	DsocrOutcome *outcome;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	outcome = dsocr_outcome_create();
	MemoryContextSwitchTo(outcome->context);
	fill_settings(&request);
	request.mode = mode_argument(fcinfo, 1);
	if (fill_image(PG_GETARG_DATUM(0), &request, &detoasted, &outcome->status))
		run_request(&request, PG_GETARG_DATUM(0), detoasted, outcome);
	MemoryContextSwitchTo(caller);
	if (outcome->status.code != DSOCR_OK)
	{
		report_failure(&outcome->status);
		dsocr_outcome_delete(outcome);
		PG_RETURN_NULL();
	}
	return return_tokens(fcinfo, outcome);
}
