/*-------------------------------------------------------------------------
 *
 * answer.c
 *		What a document gave, put together page by page.
 *
 * Texts grow in place behind room for their header.  The jsonb of a page is
 * kept in its packed form.  What a page needs besides lives in a context that
 * is reset behind each page.
 *
 *-------------------------------------------------------------------------
 */
#include "answer.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "encoding.h"
#include "layout.h"
#include "page_status.h"

/* Packed jsonb of the pages. */
typedef struct JsonPages
{
	Jsonb **page; /* [n] */
	int n;
	int room;
	Size bytes;
} JsonPages;

struct DsocrAnswer
{
	MemoryContext context;
	MemoryContext page_context; /* reset behind each page */
	DsocrAnswerForm form;
	ReturnSetInfo *rsinfo;
	StringInfoData markdown; /* VARHDRSZ bytes, then text in the server encoding */
	StringInfoData raw;		 /* the same */
	JsonPages layout;
	JsonPages pages; /* for dsocr_result.pages */
	int n;			 /* pages appended */
	int document_pages;
	int failed;
	DsocrError error; /* of the first that failed */
	DsocrEnding ending;
	int cut;		/* pages whose text was cut at a limit */
	int cut_page;	/* the first of them */
	int cut_tokens; /* of that page */
	int replaced;	/* characters that the encoding cannot hold */
	int64 image_tokens;
	int64 valid_image_tokens;
	int64 text_tokens;
	double logprob; /* sum over all tokens */
	char model[64];
};

/* ---- appending ---- */

DsocrAnswer *
dsocr_answer_create(DsocrAnswerForm form, ReturnSetInfo *rsinfo)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dsocr answer", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	DsocrAnswer *a = palloc0(sizeof(DsocrAnswer));

	a->context = context;
	a->page_context =
		AllocSetContextCreate(context, "dsocr answer: a page", ALLOCSET_DEFAULT_SIZES);
	a->form = form;
	a->rsinfo = rsinfo;
	initStringInfo(&a->markdown);
	initStringInfo(&a->raw);
	appendStringInfoSpaces(&a->markdown, VARHDRSZ);
	appendStringInfoSpaces(&a->raw, VARHDRSZ);
	MemoryContextSwitchTo(caller);
	return a;
}

void
dsocr_answer_delete(DsocrAnswer *a)
{
	MemoryContextDelete(a->context);
}

static void
check_size(Size bytes)
{
	if (!AllocSizeIsValid(bytes))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("what was read of the document exceeds the limit of 1 GB for a value"),
				 errhint("Read fewer pages at a time with the argument pages.")));
}

/* A page of text, behind a mark that names it if it is not the first. */
static void
add_text(DsocrAnswer *a, StringInfo text, const char *piece, int page)
{
	Size length = strlen(piece);
	char mark[64] = "";

	if (a->n > 0)
		snprintf(mark, sizeof(mark), "\n\n<!-- page %d -->\n\n", page);
	check_size((Size) text->len + sizeof(mark) + length + 1);
	appendStringInfoString(text, mark);
	appendBinaryStringInfo(text, piece, length);
}

static void
add_json(DsocrAnswer *a, JsonPages *to, const Jsonb *page)
{
	MemoryContext caller = MemoryContextSwitchTo(a->context);

	if (to->n == to->room)
	{
		to->room = Max(8, to->room * 2);
		to->page = to->page == NULL ? palloc(sizeof(Jsonb *) * to->room)
									: repalloc(to->page, sizeof(Jsonb *) * to->room);
	}
	to->bytes += VARSIZE(page);
	check_size(to->bytes);
	to->page[to->n++] = (Jsonb *) DatumGetPointer(datumCopy(PointerGetDatum(page), false, -1));
	MemoryContextSwitchTo(caller);
}

static void
add_markdown(DsocrAnswer *a, const DsocrPage *page, int *replaced)
{
	char *text = page->result.markdown;

	if (page->status.code != DSOCR_OK)
		text = dsocr_page_placeholder(page);
	else
		text = dsocr_encoding_to_server(
			dsocr_layout_link_images(text, page->number, a->document_pages > 1), replaced);
	add_text(a, &a->markdown, text, page->number);
}

static void
add_raw(DsocrAnswer *a, const DsocrPage *page)
{
	add_text(a, &a->raw,
			 page->status.code != DSOCR_OK
				 ? dsocr_page_placeholder(page)
				 : dsocr_encoding_to_server(page->result.raw, &a->replaced),
			 page->number);
}

static void
add_form(DsocrAnswer *a, const DsocrPage *page)
{
	switch (a->form)
	{
		case DSOCR_ANSWER_MARKDOWN:
			add_markdown(a, page, &a->replaced);
			break;
		case DSOCR_ANSWER_RAW:
			add_raw(a, page);
			break;
		case DSOCR_ANSWER_LAYOUT:
			add_json(a, &a->layout, dsocr_layout_page(page, &a->replaced));
			break;
		case DSOCR_ANSWER_BLOCKS:
			dsocr_layout_rows(page, a->rsinfo, &a->replaced);
			break;
		case DSOCR_ANSWER_BOXES:
			dsocr_layout_boxes(page, a->rsinfo);
			break;
		case DSOCR_ANSWER_RESULT:
			/* raw holds all characters of the other texts: only these are counted */
			add_raw(a, page);
			add_markdown(a, page, NULL);
			add_json(a, &a->layout, dsocr_layout_page(page, NULL));
			add_json(a, &a->pages, dsocr_page_jsonb(page));
			break;
	}
}

static void
add_counts(DsocrAnswer *a, const DsocrPage *page)
{
	const DsocrResult *r = &page->result;

	a->ending = Max(a->ending, dsocr_page_ending(page));
	if (page->status.code != DSOCR_OK)
	{
		if (a->failed++ == 0)
			a->error = page->status;
		return;
	}
	if (r->finish != DSOCR_FINISH_STOP && a->cut++ == 0)
	{
		a->cut_page = page->number;
		a->cut_tokens = r->text_tokens;
	}
	a->image_tokens += r->image_tokens;
	a->valid_image_tokens += r->valid_image_tokens;
	a->text_tokens += r->text_tokens;
	a->logprob += r->mean_logprob * r->text_tokens;
	strlcpy(a->model, page->model, sizeof(a->model));
}

void
dsocr_answer_add(DsocrAnswer *a, const DsocrPage *page, int pages)
{
	MemoryContext caller = MemoryContextSwitchTo(a->page_context);

	a->document_pages = pages;
	add_form(a, page);
	add_counts(a, page);
	a->n++;
	MemoryContextSwitchTo(caller);
	MemoryContextReset(a->page_context);
}

int
dsocr_answer_pages(const DsocrAnswer *a)
{
	return a->n;
}

int
dsocr_answer_failed(const DsocrAnswer *a)
{
	return a->failed;
}

const DsocrError *
dsocr_answer_error(const DsocrAnswer *a)
{
	return &a->error;
}

/* ---- the value ---- */

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
	COL_PAGE_COUNT,
	COL_MEAN_LOGPROB,
	COL_CONFIDENCE,
	COL_MODEL,
	COL_ERROR,
	COL_SQLSTATE,
	N_COLS
};

static const Oid column_types[N_COLS] = {
	TEXTOID,  JSONBOID, TEXTOID,   TEXTOID,	  INT4OID, INT4OID, INT4OID, FLOAT8OID,
	JSONBOID, INT4OID,	FLOAT8OID, FLOAT8OID, TEXTOID, TEXTOID, TEXTOID,
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

/* The text itself, with its header filled in; the answer keeps it. */
static Datum
text_datum(StringInfo text)
{
	SET_VARSIZE(text->data, text->len);
	return PointerGetDatum(text->data);
}

static Datum
pages_datum(const JsonPages *pages)
{
	JsonbParseState *state = NULL;

	return JsonbPGetDatum(JsonbValueToJsonb(dsocr_json_array(&state, pages->page, pages->n)));
}

static Datum
int_datum(int64 count)
{
	return Int32GetDatum((int32) Min(count, PG_INT32_MAX));
}

static Datum
result_datum(DsocrAnswer *a, FunctionCallInfo fcinfo)
{
	Datum values[N_COLS] = {0};
	bool nulls[N_COLS] = {false};
	TupleDesc desc = result_descriptor(fcinfo);
	double logprob = a->text_tokens > 0 ? a->logprob / a->text_tokens : 0;

	check_size((Size) a->markdown.len + a->raw.len + a->layout.bytes + a->pages.bytes);
	values[COL_RAW] = text_datum(&a->raw);
	values[COL_MARKDOWN] = text_datum(&a->markdown);
	values[COL_LAYOUT] = dsocr_layout_document(a->layout.page, a->layout.n);
	values[COL_FINISH_REASON] = CStringGetTextDatum(dsocr_ending_names[a->ending]);
	values[COL_IMAGE_TOKENS] = int_datum(a->image_tokens);
	values[COL_VALID_IMAGE_TOKENS] = int_datum(a->valid_image_tokens);
	values[COL_TEXT_TOKENS] = int_datum(a->text_tokens);
	nulls[COL_COMPRESSION_RATIO] = a->valid_image_tokens <= 0;
	if (a->valid_image_tokens > 0)
		values[COL_COMPRESSION_RATIO] =
			Float8GetDatum((double) a->text_tokens / a->valid_image_tokens);
	values[COL_PAGES] = pages_datum(&a->pages);
	values[COL_PAGE_COUNT] = Int32GetDatum(a->document_pages);
	nulls[COL_MEAN_LOGPROB] = nulls[COL_CONFIDENCE] = a->text_tokens <= 0;
	values[COL_MEAN_LOGPROB] = Float8GetDatum(logprob);
	values[COL_CONFIDENCE] = Float8GetDatum(exp(logprob));
	values[COL_MODEL] = CStringGetTextDatum(dsocr_encoding_to_server(a->model, NULL));
	nulls[COL_ERROR] = nulls[COL_SQLSTATE] = true;
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* Rows have gone where they belong. */
static Datum
form_datum(DsocrAnswer *a, FunctionCallInfo fcinfo)
{
	switch (a->form)
	{
		case DSOCR_ANSWER_MARKDOWN:
			return text_datum(&a->markdown);
		case DSOCR_ANSWER_RAW:
			return text_datum(&a->raw);
		case DSOCR_ANSWER_LAYOUT:
			return dsocr_layout_document(a->layout.page, a->layout.n);
		case DSOCR_ANSWER_RESULT:
			return result_datum(a, fcinfo);
		case DSOCR_ANSWER_BLOCKS:
		case DSOCR_ANSWER_BOXES:
			break;
	}
	return (Datum) 0;
}

Datum
dsocr_answer_datum(DsocrAnswer *a, FunctionCallInfo fcinfo)
{
	MemoryContext caller = MemoryContextSwitchTo(a->page_context);
	Datum value = form_datum(a, fcinfo);

	MemoryContextSwitchTo(caller);
	if (value != (Datum) 0)
		value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	dsocr_encoding_notice(a->replaced);
	return value;
}

void
dsocr_answer_warn_if_cut(const DsocrAnswer *a, int max_tokens)
{
	bool by_limit = max_tokens > 0 && a->cut_tokens >= max_tokens;

	if (a->cut == 0)
		return;
	if (a->document_pages > 1)
		ereport(WARNING, (errcode(ERRCODE_WARNING_STRING_DATA_RIGHT_TRUNCATION),
						  errmsg_plural("text of %d page was cut, first on page %d",
										"text of %d pages was cut, first on page %d", a->cut,
										a->cut, a->cut_page),
						  errhint("The column pages of dsocr_read tells which pages and why.")));
	else if (a->ending == DSOCR_ENDED_LOOP)
		ereport(WARNING, (errcode(ERRCODE_WARNING_STRING_DATA_RIGHT_TRUNCATION),
						  errmsg("text ran into a loop and was cut at %d tokens", a->cut_tokens),
						  errhint("Another mode may read the page to its end.")));
	else
		ereport(WARNING,
				(errcode(ERRCODE_WARNING_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("text was cut at %d tokens", a->cut_tokens),
				 by_limit ? errhint("Raise dsocr.max_tokens or the argument max_tokens.")
						  : errhint("The model's context is full. A mode with fewer image tokens "
									"leaves more room for text; dsocr.max_tokens cannot be raised "
									"beyond it.")));
}

/* An image is its own page 1; of a document that was not opened no page is known. */
static Datum
failed_pages(const DsocrError *why)
{
	DsocrPage page = {.number = 1, .status = *why};
	Jsonb *one = dsocr_page_jsonb(&page);
	JsonPages pages = {.page = &one, .n = 1};

	return pages_datum(&pages);
}

Datum
dsocr_answer_failure(FunctionCallInfo fcinfo, const DsocrError *why, int pages)
{
	Datum values[N_COLS] = {0};
	bool nulls[N_COLS];

	memset(nulls, true, sizeof(nulls));
	if (pages == 1)
	{
		values[COL_PAGES] = failed_pages(why);
		nulls[COL_PAGES] = false;
	}
	if (pages > 0)
	{
		values[COL_PAGE_COUNT] = Int32GetDatum(pages);
		nulls[COL_PAGE_COUNT] = false;
	}
	values[COL_ERROR] = CStringGetTextDatum(dsocr_encoding_to_server(pstrdup(why->message), NULL));
	values[COL_SQLSTATE] = CStringGetTextDatum(unpack_sql_state(dsocr_error_sqlstate(why->code)));
	nulls[COL_ERROR] = nulls[COL_SQLSTATE] = false;
	return HeapTupleGetDatum(heap_form_tuple(result_descriptor(fcinfo), values, nulls));
}
