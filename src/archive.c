/*-------------------------------------------------------------------------
 *
 * archive.c
 *		Searchable PDF and HTML: the pages of a document with their text.
 *
 * The layout comes first, then one page image after the other goes into the
 * file and is forgotten.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"

#include "access/detoast.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "documents.h"
#include "encoding.h"
#include "html_page.h"
#include "pdf_writer.h"
#include "read.h"

PG_FUNCTION_INFO_V1(dsocr_searchable_pdf);
PG_FUNCTION_INFO_V1(dsocr_html);

/* Bytes at the head of a document in which its resolution is looked for. */
#define HEAD_BYTES 65536

/* Of pages of a PDF, and of images that do not say. */
#define DEFAULT_DPI 144

/* Pages of which the file has no text or no image, and the first reason. */
typedef struct Missing
{
	int n;
	char *why;
} Missing;

static void
miss(Missing *missing, int number, const char *why)
{
	if (missing->n++ == 0)
		missing->why = psprintf("page %d: %s", number, why);
}

static void
warn_of_missing(const Missing *missing)
{
	if (missing->n > 0 && dsocr_on_error != DSOCR_ON_ERROR_NULL)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg_plural("%d page could not be read or shown",
							   "%d pages could not be read or shown", missing->n, missing->n),
				 errdetail("The first: %s.", dsocr_encoding_to_server(missing->why, NULL))));
}

/* The resolution of page images: what the file says, else what was asked for. */
static double
document_dpi(Datum document, const DsocrShown *shown)
{
	struct varlena *head = PG_DETOAST_DATUM_SLICE(document, 0, HEAD_BYTES);
	double dpi = dsocr_pdf_image_dpi((const uint8 *) VARDATA_ANY(head), VARSIZE_ANY_EXHDR(head));

	if ((Pointer) head != DatumGetPointer(document))
		pfree(head);
	if (dpi > 0)
		return dpi;
	return shown->options.dpi > 0 ? shown->options.dpi : DEFAULT_DPI;
}

/*
 * Arguments of both functions: document, layout, mode, pages, max_tokens, dpi,
 * password.  NULL where the answer is.
 */
static DsocrLayoutPages *
begin(FunctionCallInfo fcinfo, DsocrShown *shown)
{
	DsocrLayoutPages *layout;

	if (!dsocr_shown_arguments(fcinfo, 3, 5, shown))
		return NULL;
	layout = dsocr_layout_argument(fcinfo, 1, 2);
	if (layout == NULL || !dsocr_shown_open(shown, DSOCR_PAGE_EMBED))
		return NULL;
	if (shown->options.first_page > shown->last)
	{
		dsocr_shown_close(shown);
		return NULL;
	}
	return layout;
}

static void
add_to_pdf(DsocrPdf *pdf, int number, const DsocrOutcome *outcome, const DsocrLayoutPage *page,
		   double dpi, Missing *missing)
{
	const char *why = NULL;
	DsocrPdfImage image;

	if (outcome->status.code != DSOCR_OK)
		why = outcome->status.message;
	else if (dsocr_pdf_image_look(outcome->result.image, outcome->result.image_len, &image, &why))
	{
		dsocr_pdf_add_page(pdf, &image, page, outcome->result.width * 72 / dpi,
						   outcome->result.height * 72 / dpi);
		if (page != NULL && page->error != NULL)
			miss(missing, number, page->error);
		return;
	}
	miss(missing, number, why);
	dsocr_pdf_add_notice(pdf, psprintf("Page %d: %s", number, why));
}

Datum
dsocr_searchable_pdf(PG_FUNCTION_ARGS)
{
	Missing missing = {0};
	DsocrLayoutPages *layout;
	DsocrOutcome *outcome;
	DsocrShown shown;
	DsocrPdf *pdf;
	double dpi;
	int number;

	layout = begin(fcinfo, &shown);
	if (layout == NULL)
		PG_RETURN_NULL();
	dpi = document_dpi(PG_GETARG_DATUM(0), &shown);
	pdf = dsocr_pdf_create();
	while ((outcome = dsocr_shown_next(&shown, &number)) != NULL)
	{
		add_to_pdf(pdf, number, outcome, dsocr_layout_pages_find(layout, number), dpi, &missing);
		dsocr_outcome_delete(outcome);
	}
	dsocr_shown_close(&shown);
	warn_of_missing(&missing);
	PG_RETURN_BYTEA_P(dsocr_pdf_finish(pdf));
}

static void
add_to_html(StringInfo out, int number, const DsocrOutcome *outcome, const DsocrLayoutPage *page,
			Missing *missing, int *replaced)
{
	DsocrHtmlImage image = {outcome->result.image, outcome->result.image_len, outcome->result.width,
							outcome->result.height};
	const char *why = NULL;

	if (outcome->status.code != DSOCR_OK)
		why = outcome->status.message;
	else if (image.len == 0)
		why = "the page server gave no image";
	if (why != NULL)
		miss(missing, number, why);
	else if (page != NULL && page->error != NULL)
		miss(missing, number, page->error);
	dsocr_html_add(out, number, page, why == NULL ? &image : NULL, why, replaced);
}

Datum
dsocr_html(PG_FUNCTION_ARGS)
{
	Missing missing = {0};
	DsocrLayoutPages *layout;
	DsocrOutcome *outcome;
	DsocrShown shown;
	StringInfoData out;
	int replaced = 0;
	int number;

	layout = begin(fcinfo, &shown);
	if (layout == NULL)
		PG_RETURN_NULL();
	dsocr_html_begin(&out);
	while ((outcome = dsocr_shown_next(&shown, &number)) != NULL)
	{
		add_to_html(&out, number, outcome, dsocr_layout_pages_find(layout, number), &missing,
					&replaced);
		dsocr_outcome_delete(outcome);
	}
	dsocr_shown_close(&shown);
	warn_of_missing(&missing);
	dsocr_encoding_notice(replaced);
	PG_RETURN_TEXT_P(dsocr_html_end(&out));
}
