/*-------------------------------------------------------------------------
 *
 * tokens.c
 *		What reading would cost: dsocr_tokens.
 *
 * An engine tells it by the size of an image in pixels.  A document costs
 * what its pages cost; they are rendered for their sizes, and not read.
 *
 *-------------------------------------------------------------------------
 */
#include "read.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "opening.h"

PG_FUNCTION_INFO_V1(dsocr_tokens_size);
PG_FUNCTION_INFO_V1(dsocr_tokens_document);

/* Pages whose images are asked for ahead. */
#define ASKED_AHEAD 4

#define COLUMNS 4

/* The sum over pages. */
typedef struct Price
{
	int pages;
	int columns; /* tiles of a page; 0 when pages differ */
	int rows;
	int64 views;
	int64 image_tokens;
	int64 valid_image_tokens;
} Price;

static void
add_price(Price *price, const DsocrResult *r)
{
	bool same =
		price->pages++ == 0 || (price->columns == r->grid_columns && price->rows == r->grid_rows);

	price->columns = same ? r->grid_columns : 0;
	price->rows = same ? r->grid_rows : 0;
	price->views += r->views;
	price->image_tokens += r->image_tokens;
	price->valid_image_tokens += r->valid_image_tokens;
}

/* Ask an engine; false with err when it does not know. */
static bool
probe(DsocrRequest *request, Price *price, DsocrError *err)
{
	DsocrOutcome *outcome = dsocr_outcome_create();
	DsocrHandle handle = dsocr_queue_submit(request);

	(void) dsocr_queue_wait_any(&handle, 1);
	dsocr_queue_fetch(handle, &outcome->status, &outcome->result, outcome->model);
	*err = outcome->status;
	dsocr_error_redact(err);
	if (err->code == DSOCR_OK)
		add_price(price, &outcome->result);
	dsocr_outcome_delete(outcome);
	return err->code == DSOCR_OK;
}

static DsocrRequest
probe_request(DsocrMode mode)
{
	return (DsocrRequest){.kind = DSOCR_PROBE, .mode = mode, .max_pixels = dsocr_max_pixels};
}

static bool
probe_size(DsocrMode mode, int width, int height, Price *price, DsocrError *err)
{
	DsocrRequest request = probe_request(mode);

	request.probe_width = width;
	request.probe_height = height;
	return probe(&request, price, err);
}

static bool
probe_image(DsocrMode mode, Datum document, Price *price, DsocrError *err)
{
	DsocrRequest request = probe_request(mode);
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(document);
	bool ok;

	request.image = (const uint8_t *) VARDATA_ANY(bytes);
	request.image_len = VARSIZE_ANY_EXHDR(bytes);
	ok = probe(&request, price, err);
	if ((Pointer) bytes != DatumGetPointer(document))
		pfree(bytes);
	return ok;
}

/* The next page of a document; an engine is asked when its image was let go. */
static void
probe_page(DsocrDocument *d, DsocrMode mode, Price *price, DsocrError *err)
{
	DsocrOutcome *outcome = dsocr_document_take(d);
	int width = outcome->result.width;
	int height = outcome->result.height;

	*err = outcome->status;
	dsocr_outcome_delete(outcome);
	if (err->code == DSOCR_OK)
		(void) probe_size(mode, width, height, price, err);
}

static bool
probe_document(DsocrMode mode, Datum document, Price *price, DsocrError *err)
{
	DsocrDocument *d = dsocr_document_open(document, NULL, 0, err);
	int asked = 0;

	for (int page = 1; err->code == DSOCR_OK && page <= dsocr_document_pages(d); page++)
	{
		CHECK_FOR_INTERRUPTS();
		while (asked < dsocr_document_pages(d) && asked < page - 1 + ASKED_AHEAD)
		{
			DsocrPageImage image = {.page = ++asked, .output = DSOCR_PAGE_RAW};

			dsocr_document_ask(d, &image);
		}
		probe_page(d, mode, price, err);
	}
	dsocr_document_close(d);
	return err->code == DSOCR_OK;
}

static Datum
return_price(FunctionCallInfo fcinfo, const Price *price)
{
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS] = {false};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != COLUMNS)
		elog(ERROR, "return type must be a row of four columns");
	nulls[0] = price->columns == 0;
	if (price->columns > 0)
		values[0] = CStringGetTextDatum(psprintf("%dx%d", price->columns, price->rows));
	values[1] = Int32GetDatum((int32) Min(price->views, PG_INT32_MAX));
	values[2] = Int32GetDatum((int32) Min(price->image_tokens, PG_INT32_MAX));
	values[3] = Int32GetDatum((int32) Min(price->valid_image_tokens, PG_INT32_MAX));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
dsocr_tokens_size(PG_FUNCTION_ARGS)
{
	Price price = {0};
	DsocrError err = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	if (PG_GETARG_INT32(0) <= 0 || PG_GETARG_INT32(1) <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("width and height must be greater than 0")));
	if (!probe_size(dsocr_mode_argument(fcinfo, 2), PG_GETARG_INT32(0), PG_GETARG_INT32(1), &price,
					&err))
		dsocr_error_report(ERROR, &err);
	return return_price(fcinfo, &price);
}

Datum
dsocr_tokens_document(PG_FUNCTION_ARGS)
{
	Price price = {0};
	DsocrError err = {0};
	DsocrMode mode;
	bool of_pages;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	mode = dsocr_mode_argument(fcinfo, 1);
	if (dsocr_opening_identify(PG_GETARG_DATUM(0), &of_pages, &err))
		(void) (of_pages ? probe_document : probe_image)(mode, PG_GETARG_DATUM(0), &price, &err);
	if (err.code == DSOCR_OK)
		return return_price(fcinfo, &price);
	dsocr_failure_report(&err);
	PG_RETURN_NULL();
}
