/*-------------------------------------------------------------------------
 *
 * documents.c
 *		Functions that show or store the pages of a document.
 *
 * Each takes a document and, where it shows what is on a page, a layout.
 * Without one it reads the document first, to the end, and opens it for its
 * pictures only then: no call ever holds a reading and an open document, and
 * of the pages' images only those asked for ahead are in memory.
 *
 * Pages that cannot be read or shown are no failure of a document with
 * several: their place says why.  A document that cannot be opened at all is
 * what dsocr.on_error makes of it.
 *
 *-------------------------------------------------------------------------
 */
#include "documents.h"

#include <math.h>

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "drawing.h"
#include "encoding.h"
#include "layout.h"
#include "read.h"

bool
dsocr_shown_arguments(FunctionCallInfo fcinfo, int pages, int dpi, DsocrShown *shown)
{
	DsocrError err = {0};

	*shown = (DsocrShown){.fcinfo = fcinfo};
	if (PG_ARGISNULL(0))
		return false;
	dsocr_read_options_init(&shown->options);
	shown->options.first_page = 1;
	shown->options.last_page = PG_INT32_MAX;
	if (!dsocr_dpi_argument(fcinfo, dpi, &shown->options, &err) ||
		!dsocr_password_argument(fcinfo, dpi + 1, &shown->options, &err))
		dsocr_error_report(ERROR, &err);
	return pages < 0 || dsocr_pages_argument(fcinfo, pages, &shown->options);
}

/* ---- layouts ---- */

/* Read the document; NULL where dsocr.on_error says so, or no page was asked for. */
static DsocrLayoutPages *
read_layout(FunctionCallInfo fcinfo, const NullableDatum options[5])
{
	LOCAL_FCINFO(inner, 6);
	DsocrCall *call;
	Datum layout;
	bool isnull;

	InitFunctionCallInfoData(*inner, fcinfo->flinfo, 6, InvalidOid, NULL, NULL);
	inner->args[0] = fcinfo->args[0];
	memcpy(&inner->args[1], options, sizeof(NullableDatum) * 5);
	call = dsocr_call_create(DSOCR_CALL_ARCHIVE, inner);
	while (!dsocr_call_advance(call))
	{
		DsocrReading *reading = dsocr_call_reading(call);

		dsocr_reading_wait(&reading, 1);
	}
	layout = dsocr_call_value(call, inner, &isnull);
	dsocr_call_delete(call);
	return isnull ? NULL : dsocr_layout_pages_parse(DatumGetJsonbP(layout));
}

DsocrLayoutPages *
dsocr_layout_read(FunctionCallInfo fcinfo, int mode)
{
	return read_layout(fcinfo, &fcinfo->args[mode]);
}

DsocrLayoutPages *
dsocr_layout_argument(FunctionCallInfo fcinfo, int layout, int mode)
{
	if (!PG_ARGISNULL(layout))
		return dsocr_layout_pages_parse(PG_GETARG_JSONB_P(layout));
	return dsocr_layout_read(fcinfo, mode);
}

/* The layout of functions that have no argument mode; first and last as in shown. */
static DsocrLayoutPages *
plain_layout(DsocrShown *shown, int layout, int dpi)
{
	FunctionCallInfo fcinfo = shown->fcinfo;
	NullableDatum options[5] = {{.isnull = true}, {.isnull = true}, {.isnull = true}};
	char *range = shown->options.last_page == PG_INT32_MAX
					  ? psprintf("[%d,)", shown->options.first_page)
					  : psprintf("[%d,%d]", shown->options.first_page, shown->options.last_page);

	if (!PG_ARGISNULL(layout))
		return dsocr_layout_pages_parse(PG_GETARG_JSONB_P(layout));
	options[1] = (NullableDatum){OidInputFunctionCall(F_RANGE_IN, range, INT4RANGEOID, -1), false};
	options[3] = fcinfo->args[dpi];
	options[4] = fcinfo->args[dpi + 1];
	return read_layout(fcinfo, options);
}

/* ---- pages ---- */

bool
dsocr_shown_open(DsocrShown *shown, DsocrPageOutput output)
{
	FunctionCallInfo fcinfo = shown->fcinfo;
	DsocrError status = {0};

	shown->output = output;
	shown->document = dsocr_document_open(PG_GETARG_DATUM(0), shown->options.password,
										  shown->options.dpi, &status);
	if (status.code != DSOCR_OK)
	{
		dsocr_shown_close(shown);
		dsocr_failure_report(&status);
		return false;
	}
	shown->pages = dsocr_document_pages(shown->document);
	shown->last = Min(shown->options.last_page, shown->pages);
	shown->asked = shown->taken = shown->options.first_page - 1;
	return true;
}

void
dsocr_shown_close(DsocrShown *shown)
{
	if (shown->document != NULL)
		dsocr_document_close(shown->document);
	shown->document = NULL;
}

DsocrOutcome *
dsocr_shown_next(DsocrShown *shown, int *number)
{
	CHECK_FOR_INTERRUPTS();
	if (shown->taken >= shown->last)
		return NULL;
	while (shown->asked < shown->last && shown->asked - shown->taken < dsocr_prefetch)
	{
		DsocrPageImage image = {.page = ++shown->asked, .output = shown->output};

		dsocr_document_ask(shown->document, &image);
	}
	*number = ++shown->taken;
	return dsocr_document_take(shown->document);
}

/* One image alone. */
static DsocrOutcome *
ask_one(DsocrShown *shown, const DsocrPageImage *image)
{
	dsocr_document_ask(shown->document, image);
	return dsocr_document_take(shown->document);
}

static Datum
image_datum(const DsocrOutcome *outcome)
{
	bytea *value = palloc(VARHDRSZ + outcome->result.image_len);

	SET_VARSIZE(value, VARHDRSZ + outcome->result.image_len);
	memcpy(VARDATA(value), outcome->result.image, outcome->result.image_len);
	return PointerGetDatum(value);
}

/* ---- dsocr_pages ---- */

PG_FUNCTION_INFO_V1(dsocr_pages);

static void
put_page(DsocrOutcome *outcome, int number, ReturnSetInfo *rsinfo)
{
	MemoryContext caller = MemoryContextSwitchTo(outcome->context);
	bool ok = outcome->status.code == DSOCR_OK;
	Datum values[4] = {Int32GetDatum(number)};
	bool nulls[4] = {false, !ok, !ok, !ok};

	if (ok)
	{
		values[1] = Int32GetDatum(outcome->result.width);
		values[2] = Int32GetDatum(outcome->result.height);
		values[3] = image_datum(outcome);
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	MemoryContextSwitchTo(caller);
}

Datum
dsocr_pages(PG_FUNCTION_ARGS)
{
	DsocrOutcome *outcome;
	DsocrShown shown;
	int number;

	InitMaterializedSRF(fcinfo, 0);
	if (!dsocr_shown_arguments(fcinfo, 1, 2, &shown) || !dsocr_shown_open(&shown, DSOCR_PAGE_PNG))
		return (Datum) 0;
	while ((outcome = dsocr_shown_next(&shown, &number)) != NULL)
	{
		if (outcome->status.code != DSOCR_OK)
			dsocr_failure_report(&outcome->status);
		put_page(outcome, number, (ReturnSetInfo *) fcinfo->resultinfo);
		dsocr_outcome_delete(outcome);
	}
	dsocr_shown_close(&shown);
	return (Datum) 0;
}

/* ---- dsocr_overlay ---- */

PG_FUNCTION_INFO_V1(dsocr_overlay);

Datum
dsocr_overlay(PG_FUNCTION_ARGS)
{
	DsocrPageImage image = {.output = DSOCR_PAGE_DRAWN};
	const DsocrLayoutPage *page;
	DsocrLayoutPages *layout;
	DsocrOutcome *outcome;
	DsocrShown shown;
	Datum value;

	if (PG_ARGISNULL(1) || !dsocr_shown_arguments(fcinfo, -1, 3, &shown))
		PG_RETURN_NULL();
	image.page = PG_GETARG_INT32(1);
	if (image.page < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("page must be greater than 0")));
	shown.options.first_page = shown.options.last_page = image.page;
	layout = plain_layout(&shown, 2, 3);
	if (layout == NULL || !dsocr_shown_open(&shown, DSOCR_PAGE_DRAWN))
		PG_RETURN_NULL();
	if (image.page > shown.pages)
	{
		dsocr_shown_close(&shown);
		PG_RETURN_NULL();
	}
	page = dsocr_layout_pages_find(layout, image.page);
	image.prompt =
		dsocr_drawing_list(page, page == NULL ? 1 : page->width, page == NULL ? 1 : page->height);
	outcome = ask_one(&shown, &image);
	if (outcome->status.code == DSOCR_OK && page != NULL && page->n_blocks > 0 &&
		(outcome->result.width != page->width || outcome->result.height != page->height))
	{
		/* the layout was made at another resolution */
		image.prompt = dsocr_drawing_list(page, outcome->result.width, outcome->result.height);
		dsocr_outcome_delete(outcome);
		outcome = ask_one(&shown, &image);
	}
	dsocr_shown_close(&shown);
	if (outcome->status.code != DSOCR_OK)
	{
		dsocr_failure_report(&outcome->status);
		PG_RETURN_NULL();
	}
	value = image_datum(outcome);
	dsocr_outcome_delete(outcome);
	return value;
}

/* ---- dsocr_images ---- */

PG_FUNCTION_INFO_V1(dsocr_images);

/* An element that is to be cut out. */
typedef struct Cut
{
	int32 page;
	int32 ord;
	int32 image; /* which figure of the page, -1 = it is none */
	char *type;
	bool boxed;
	int32_t box[4];
} Cut;

typedef struct Cuts
{
	int n;
	int capacity;
	Cut *cuts;
} Cuts;

/* The types to cut out, in UTF-8; NULL means figures. */
static List *
types_argument(FunctionCallInfo fcinfo, int n)
{
	List *types = NIL;
	Datum *values;
	bool *nulls;
	int count;

	if (PG_ARGISNULL(n))
		return list_make1("image");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls,
					  &count);
	for (int i = 0; i < count; i++)
		if (!nulls[i])
			types = lappend(types, dsocr_encoding_to_utf8(TextDatumGetCString(values[i])));
	return types;
}

static bool
is_listed(const List *types, const char *type)
{
	ListCell *cell;

	foreach (cell, types)
		if (strcmp(lfirst(cell), type) == 0)
			return true;
	return false;
}

/* The frame around all boxes of an element, on a page image of w x h pixels. */
static void
frame_of(const DsocrLayoutPage *page, const DsocrBlock *block, int w, int h, int32_t frame[4])
{
	for (int k = 0; k < block->n_boxes; k++)
	{
		int32_t b[4];

		dsocr_layout_clip(page, block->boxes[k], b);
		frame[0] = k == 0 ? b[0] : Min(frame[0], b[0]);
		frame[1] = k == 0 ? b[1] : Min(frame[1], b[1]);
		frame[2] = k == 0 ? b[2] : Max(frame[2], b[2]);
		frame[3] = k == 0 ? b[3] : Max(frame[3], b[3]);
	}
	for (int i = 0; i < 4; i++)
	{
		double scale = i % 2 == 0 ? (double) w / page->width : (double) h / page->height;

		frame[i] = (int32_t) (i < 2 ? floor(frame[i] * scale) : ceil(frame[i] * scale));
	}
}

static void
find_cuts(const DsocrLayoutPage *page, const List *types, int w, int h, Cuts *cuts)
{
	int images = 0;

	for (int i = 0; i < page->n_blocks; i++)
	{
		const DsocrBlock *block = &page->blocks[i];
		int image = dsocr_layout_is_image(block) ? images++ : -1;
		Cut *cut;

		if (!is_listed(types, block->label))
			continue;
		if (cuts->n == cuts->capacity)
		{
			cuts->capacity = Max(cuts->capacity * 2, 16);
			cuts->cuts = cuts->cuts == NULL ? palloc(sizeof(Cut) * cuts->capacity)
											: repalloc(cuts->cuts, sizeof(Cut) * cuts->capacity);
		}
		cut = &cuts->cuts[cuts->n++];
		*cut = (Cut){page->number, i + 1, image, block->label, block->n_boxes > 0};
		frame_of(page, block, w, h, cut->box);
	}
}

/* One row; outcome is NULL for an element without a box. */
static void
put_cut(const Cut *cut, bool several, const DsocrOutcome *outcome, ReturnSetInfo *rsinfo,
		int *replaced)
{
	Datum values[5];
	bool nulls[5] = {false};

	values[0] = Int32GetDatum(cut->page);
	values[1] = Int32GetDatum(cut->ord);
	nulls[2] = cut->image < 0;
	values[2] = nulls[2]
					? (Datum) 0
					: CStringGetTextDatum(dsocr_layout_image_name(cut->page, cut->image, several));
	nulls[3] = outcome == NULL || outcome->status.code != DSOCR_OK;
	values[3] = nulls[3] ? (Datum) 0 : image_datum(outcome);
	values[4] = CStringGetTextDatum(dsocr_encoding_to_server(pstrdup(cut->type), replaced));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* A page that could not be read has figures that nobody knows. */
static void
put_failed(const DsocrLayoutPage *page, ReturnSetInfo *rsinfo)
{
	Datum values[5] = {Int32GetDatum(page->number)};
	bool nulls[5] = {false, true, true, true, true};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * The size of a page image.  A layout that was handed in may have been made at
 * another resolution; one that was just read was not.
 */
static void
page_size(DsocrShown *shown, const DsocrLayoutPage *page, bool read, int *w, int *h)
{
	DsocrPageImage image = {.page = page->number, .output = DSOCR_PAGE_RAW};
	DsocrOutcome *outcome;

	*w = page->width;
	*h = page->height;
	if (read)
		return;
	outcome = ask_one(shown, &image);
	if (outcome->status.code == DSOCR_OK)
	{
		*w = outcome->result.width;
		*h = outcome->result.height;
	}
	dsocr_outcome_delete(outcome);
}

/* Cut out what was found on a page, in order. */
static void
cut_out(DsocrShown *shown, const Cuts *cuts, ReturnSetInfo *rsinfo, int *replaced)
{
	int asked = 0;
	int open = 0; /* asked and not taken */

	for (int i = 0; i < cuts->n; i++)
	{
		const Cut *cut = &cuts->cuts[i];
		DsocrOutcome *outcome = NULL;

		CHECK_FOR_INTERRUPTS();
		for (; asked < cuts->n && open < dsocr_prefetch; asked++)
		{
			DsocrPageImage image = {.page = cuts->cuts[asked].page, .output = DSOCR_PAGE_CROP};

			if (!cuts->cuts[asked].boxed)
				continue;
			memcpy(image.crop, cuts->cuts[asked].box, sizeof(image.crop));
			dsocr_document_ask(shown->document, &image);
			open++;
		}
		if (cut->boxed)
		{
			outcome = dsocr_document_take(shown->document);
			open--;
			if (outcome->status.code != DSOCR_OK)
				dsocr_failure_report(&outcome->status);
		}
		put_cut(cut, shown->pages > 1, outcome, rsinfo, replaced);
		if (outcome != NULL)
			dsocr_outcome_delete(outcome);
	}
}

Datum
dsocr_images(PG_FUNCTION_ARGS)
{
	MemoryContext work;
	DsocrLayoutPages *layout;
	DsocrShown shown;
	List *types;
	int replaced = 0;

	InitMaterializedSRF(fcinfo, 0);
	if (!dsocr_shown_arguments(fcinfo, 2, 3, &shown))
		return (Datum) 0;
	types = types_argument(fcinfo, 5);
	layout = plain_layout(&shown, 1, 3);
	if (layout == NULL || !dsocr_shown_open(&shown, DSOCR_PAGE_CROP))
		return (Datum) 0;
	work = AllocSetContextCreate(CurrentMemoryContext, "dsocr page", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < layout->n; i++)
	{
		const DsocrLayoutPage *page = &layout->pages[i];
		MemoryContext caller = MemoryContextSwitchTo(work);
		Cuts cuts = {0};
		int w;
		int h;

		if (page->number >= shown.options.first_page && page->number <= shown.last &&
			page->n_blocks > 0)
		{
			page_size(&shown, page, PG_ARGISNULL(1), &w, &h);
			find_cuts(page, types, w, h, &cuts);
			cut_out(&shown, &cuts, (ReturnSetInfo *) fcinfo->resultinfo, &replaced);
		}
		if (page->error != NULL)
			put_failed(page, (ReturnSetInfo *) fcinfo->resultinfo);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(work);
	}
	dsocr_shown_close(&shown);
	dsocr_encoding_notice(replaced);
	return (Datum) 0;
}
