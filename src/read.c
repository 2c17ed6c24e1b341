/*-------------------------------------------------------------------------
 *
 * read.c
 *		The reading functions of SQL.
 *
 * Each takes (document [, prompt or what], mode, pages, max_tokens, dpi,
 * password) and goes the same way: check the arguments, begin to read, add
 * page after page to the answer.  Everything of one call lives in a memory
 * context that is deleted before the function returns.
 *
 * Failures come as a DsocrError, wherever they are found, and one place
 * decides what becomes of them: an ERROR, a NULL (dsocr.on_error), or a value
 * (dsocr_try).  Of a document with several pages, one that cannot be read is
 * no failure of the whole where the answer has a place to say so.
 *
 *-------------------------------------------------------------------------
 */
#include "read.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "ahead.h"
#include "answer.h"
#include "arguments.h"

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

/* ---- a call ---- */

struct DsocrCall
{
	MemoryContext context;
	DsocrFunction function;
	DsocrReadOptions options;
	DsocrReading *reading; /* NULL: has ended */
	DsocrAnswer *answer;
	DsocrError error; /* why there is no answer */
	DsocrCallCounts counts;
	int pages; /* of the document, 0 = not known */
	bool null; /* the answer is NULL: an argument is, or no page was asked for */
};

static const struct
{
	DsocrTask task;
	DsocrAnswerForm form;
	int options;  /* position of mode, behind which the others stand */
	bool partial; /* the answer has a place for pages that could not be read */
} functions[] = {
	[DSOCR_CALL_MARKDOWN] = {DSOCR_TASK_MARKDOWN, DSOCR_ANSWER_MARKDOWN, 1, false},
	[DSOCR_CALL_TEXT] = {DSOCR_TASK_TEXT, DSOCR_ANSWER_MARKDOWN, 1, false},
	[DSOCR_CALL_LAYOUT] = {DSOCR_TASK_MARKDOWN, DSOCR_ANSWER_LAYOUT, 1, false},
	[DSOCR_CALL_BLOCKS] = {DSOCR_TASK_MARKDOWN, DSOCR_ANSWER_BLOCKS, 1, true},
	[DSOCR_CALL_FIGURE] = {DSOCR_TASK_FIGURE, DSOCR_ANSWER_MARKDOWN, 1, false},
	[DSOCR_CALL_DESCRIBE] = {DSOCR_TASK_DESCRIBE, DSOCR_ANSWER_MARKDOWN, 1, false},
	[DSOCR_CALL_LOCATE] = {DSOCR_TASK_LOCATE, DSOCR_ANSWER_BOXES, 2, false},
	[DSOCR_CALL_GENERATE] = {DSOCR_TASK_GENERATE, DSOCR_ANSWER_RAW, 2, false},
	[DSOCR_CALL_READ] = {DSOCR_TASK_MARKDOWN, DSOCR_ANSWER_RESULT, 2, true},
	[DSOCR_CALL_TRY] = {DSOCR_TASK_MARKDOWN, DSOCR_ANSWER_RESULT, 2, true},
	[DSOCR_CALL_ARCHIVE] = {DSOCR_TASK_MARKDOWN, DSOCR_ANSWER_LAYOUT, 1, true},
};

/* The options of a call; false: with error the answer is that, else NULL. */
static bool
take_arguments(DsocrCall *call, FunctionCallInfo fcinfo)
{
	DsocrReadOptions *options = &call->options;
	int at = functions[call->function].options;
	DsocrTask task = functions[call->function].task;
	bool optional = call->function == DSOCR_CALL_READ || call->function == DSOCR_CALL_TRY;

	if (PG_ARGISNULL(0) || (at == 2 && !optional && PG_ARGISNULL(1)))
		return false;
	if (at == 2 && optional && !PG_ARGISNULL(1))
		task = DSOCR_TASK_GENERATE;
	dsocr_read_options_init(options);
	options->task = task;
	if (call->function == DSOCR_CALL_ARCHIVE)
		options->auto_rotate = dsocr_auto_rotate != DSOCR_ROTATE_OFF;
	options->mode = dsocr_mode_argument(fcinfo, at);
	if (!dsocr_limits_arguments(fcinfo, at + 2, options, &call->error) ||
		!dsocr_pages_argument(fcinfo, at + 1, options))
		return false;
	if (task >= DSOCR_TASK_LOCATE)
	{
		options->prompt = dsocr_text_argument(PG_GETARG_DATUM(1), DSOCR_MAX_PROMPT_BYTES, "prompt",
											  DSOCR_E_TOO_LONG, &call->error);
		if (options->prompt == NULL)
			return false;
	}
	return dsocr_password_argument(fcinfo, at + 4, options, &call->error);
}

DsocrCall *
dsocr_call_create(DsocrFunction function, FunctionCallInfo fcinfo)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dsocr call", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	DsocrCall *call = palloc0(sizeof(DsocrCall));

	call->context = context;
	call->function = function;
	if (take_arguments(call, fcinfo))
	{
		call->answer =
			dsocr_answer_create(functions[function].form, (ReturnSetInfo *) fcinfo->resultinfo);
		call->reading = dsocr_reading_create(&call->options, PG_GETARG_DATUM(0));
	}
	else
		call->null = call->error.code == DSOCR_OK;
	MemoryContextSwitchTo(caller);
	return call;
}

DsocrReading *
dsocr_call_reading(DsocrCall *call)
{
	return call->reading;
}

const DsocrCallCounts *
dsocr_call_counts(const DsocrCall *call)
{
	return &call->counts;
}

static void
stop_reading(DsocrCall *call)
{
	if (call->reading != NULL)
		dsocr_reading_delete(call->reading);
	call->reading = NULL;
}

void
dsocr_call_delete(DsocrCall *call)
{
	stop_reading(call);
	MemoryContextDelete(call->context);
}

/* The error of a page as that of the whole. */
static void
fail_for_page(DsocrCall *call, int number, const DsocrError *why)
{
	call->error = *why;
	if (call->pages == 1)
		return;
	snprintf(call->error.message, sizeof(call->error.message), "page %d: %.240s", number,
			 why->message);
	snprintf(call->error.hint, sizeof(call->error.hint),
			 "dsocr_read reads the other pages and gives a status for each; with dsocr.on_error "
			 "set to null or warning, a comment stands for the page.");
}

/* A page that could not be read: is that the end of the call? */
static bool
ends_call(const DsocrCall *call, const DsocrPage *page)
{
	if (page->status.code == DSOCR_OK)
		return false;
	if (page->status.code == DSOCR_E_CANCELLED || call->pages == 1)
		return true;
	return !functions[call->function].partial && dsocr_on_error == DSOCR_ON_ERROR_ERROR;
}

static void
add_page(DsocrCall *call, const DsocrPage *page)
{
	call->counts.images += !page->cached;
	call->counts.cache_hits += page->cached;
	call->counts.image_tokens += page->result.image_tokens;
	call->counts.text_tokens += page->result.text_tokens;
	if (ends_call(call, page))
	{
		fail_for_page(call, page->number, &page->status);
		stop_reading(call);
		return;
	}
	dsocr_answer_add(call->answer, page, call->pages);
}

/* All pages have come: is there an answer? */
static void
end_call(DsocrCall *call)
{
	DsocrAnswer *a = call->answer;
	int n = dsocr_answer_pages(a);

	call->error = *dsocr_reading_status(call->reading);
	if (call->error.code == DSOCR_OK && n > 0 && dsocr_answer_failed(a) == n)
		call->error = *dsocr_answer_error(a);
	call->null = call->error.code == DSOCR_OK && n == 0;
	stop_reading(call);
}

bool
dsocr_call_advance(DsocrCall *call)
{
	DsocrPage *page;

	if (call->reading == NULL)
		return true;
	dsocr_reading_advance(call->reading);
	call->pages = dsocr_reading_pages(call->reading);
	while (call->reading != NULL && (page = dsocr_reading_next(call->reading)) != NULL)
		add_page(call, page);
	if (call->reading != NULL && dsocr_reading_ended(call->reading))
		end_call(call);
	return call->reading == NULL;
}

void
dsocr_failure_report(const DsocrError *error)
{
	if (!dsocr_error_is_of_document(error->code) || dsocr_on_error == DSOCR_ON_ERROR_ERROR)
		dsocr_error_report(ERROR, error);
	if (dsocr_on_error == DSOCR_ON_ERROR_WARNING)
		dsocr_error_report(WARNING, error);
}

/* The pages for which a placeholder stands. */
static void
warn_of_pages(const DsocrCall *call)
{
	int failed = dsocr_answer_failed(call->answer);

	if (failed == 0 || functions[call->function].partial ||
		dsocr_on_error != DSOCR_ON_ERROR_WARNING)
		return;
	ereport(WARNING,
			(errcode(dsocr_error_sqlstate(dsocr_answer_error(call->answer)->code)),
			 errmsg_plural("%d of %d pages could not be read", "%d of %d pages could not be read",
						   failed, failed, dsocr_answer_pages(call->answer)),
			 errdetail("The first reason: %s.", dsocr_answer_error(call->answer)->message)));
}

Datum
dsocr_call_value(DsocrCall *call, FunctionCallInfo fcinfo, bool *isnull)
{
	*isnull = call->null;
	if (call->null)
		return (Datum) 0;
	if (call->error.code == DSOCR_OK)
	{
		warn_of_pages(call);
		dsocr_answer_warn_if_cut(call->answer, call->options.max_tokens);
		return dsocr_answer_datum(call->answer, fcinfo);
	}
	if (call->function == DSOCR_CALL_TRY && call->error.code != DSOCR_E_CANCELLED)
		return dsocr_answer_failure(fcinfo, &call->error, call->pages);
	dsocr_failure_report(&call->error);
	*isnull = true;
	return (Datum) 0;
}

/* ---- the functions ---- */

static Datum
run(FunctionCallInfo fcinfo, DsocrFunction function)
{
	DsocrAhead *ahead = dsocr_ahead_of(fcinfo);
	DsocrCall *call;
	Datum value;

	if (ahead != NULL)
		return dsocr_ahead_value(ahead, fcinfo);
	call = dsocr_call_create(function, fcinfo);
	while (!dsocr_call_advance(call))
	{
		DsocrReading *reading = dsocr_call_reading(call);

		dsocr_reading_wait(&reading, 1);
	}
	value = dsocr_call_value(call, fcinfo, &fcinfo->isnull);
	dsocr_call_delete(call);
	return value;
}

/* Rows go into the tuplestore; a set has no NULL. */
static Datum
run_rows(FunctionCallInfo fcinfo, DsocrFunction function)
{
	InitMaterializedSRF(fcinfo, 0);
	(void) run(fcinfo, function);
	fcinfo->isnull = false;
	return (Datum) 0;
}

Datum
dsocr_markdown(PG_FUNCTION_ARGS)
{
	return run(fcinfo, DSOCR_CALL_MARKDOWN);
}

Datum
dsocr_text(PG_FUNCTION_ARGS)
{
	return run(fcinfo, DSOCR_CALL_TEXT);
}

Datum
dsocr_figure(PG_FUNCTION_ARGS)
{
	return run(fcinfo, DSOCR_CALL_FIGURE);
}

Datum
dsocr_describe(PG_FUNCTION_ARGS)
{
	return run(fcinfo, DSOCR_CALL_DESCRIBE);
}

Datum
dsocr_generate(PG_FUNCTION_ARGS)
{
	return run(fcinfo, DSOCR_CALL_GENERATE);
}

Datum
dsocr_layout(PG_FUNCTION_ARGS)
{
	return run(fcinfo, DSOCR_CALL_LAYOUT);
}

Datum
dsocr_blocks(PG_FUNCTION_ARGS)
{
	return run_rows(fcinfo, DSOCR_CALL_BLOCKS);
}

Datum
dsocr_locate(PG_FUNCTION_ARGS)
{
	return run_rows(fcinfo, DSOCR_CALL_LOCATE);
}

Datum
dsocr_read(PG_FUNCTION_ARGS)
{
	return run(fcinfo, DSOCR_CALL_READ);
}

Datum
dsocr_try(PG_FUNCTION_ARGS)
{
	return run(fcinfo, DSOCR_CALL_TRY);
}

bool
dsocr_call_function(PGFunction address, DsocrFunction *function)
{
	static const struct
	{
		PGFunction address;
		DsocrFunction function;
	} scalars[] = {
		{dsocr_markdown, DSOCR_CALL_MARKDOWN}, {dsocr_text, DSOCR_CALL_TEXT},
		{dsocr_layout, DSOCR_CALL_LAYOUT},	   {dsocr_figure, DSOCR_CALL_FIGURE},
		{dsocr_describe, DSOCR_CALL_DESCRIBE}, {dsocr_generate, DSOCR_CALL_GENERATE},
		{dsocr_read, DSOCR_CALL_READ},		   {dsocr_try, DSOCR_CALL_TRY},
	};

	for (int i = 0; i < lengthof(scalars); i++)
	{
		if (scalars[i].address == address)
		{
			*function = scalars[i].function;
			return true;
		}
	}
	return false;
}
