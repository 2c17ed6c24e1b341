/*-------------------------------------------------------------------------
 *
 * hocr.c
 *		A layout as hOCR: XHTML with the place of every line.
 *
 * A page is an ocr_page, an element an ocr_carea with one ocr_par, a figure
 * an ocr_photo.  Lines (ocr_line) and words (ocrx_word) lie where text_runs.c
 * guesses them to be, so their boxes are within the element's but less exact
 * than those of the elements.  Boxes are pixels of the page as it is stored;
 * lines of a page that lies on its side have a textangle.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"

#include <math.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "documents.h"
#include "encoding.h"
#include "html_text.h"
#include "text_runs.h"
#include "words.h"

PG_FUNCTION_INFO_V1(dsocr_hocr_document);
PG_FUNCTION_INFO_V1(dsocr_hocr_layout);

static const char head[] =
	"<?xml version=\"1.0\"?>\n"
	"<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\" "
	"\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n"
	"<html xmlns=\"http://www.w3.org/1999/xhtml\">\n"
	"<head>\n"
	"<title></title>\n"
	"<meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\" />\n"
	"<meta name=\"ocr-system\" content=\"dsocr " DSOCR_VERSION "\" />\n"
	"<meta name=\"ocr-capabilities\" content=\"ocr_page ocr_carea ocr_photo ocr_par ocr_line "
	"ocrx_word\" />\n"
	"</head>\n"
	"<body>\n";

/* "bbox x1 y1 x2 y2" of a rectangle of the upright page, grown to whole pixels. */
static void
put_bbox(StringInfo out, const DsocrLayoutPage *page, DsocrRect upright)
{
	int b[4];

	dsocr_word_pixels(page, upright, b);
	appendStringInfo(out, "bbox %d %d %d %d", b[0], b[1], b[2], b[3]);
}

/* Percent, as hOCR wants it; nothing where it is not known. */
static void
put_confidence(StringInfo out, float confidence)
{
	if (confidence > 0)
		appendStringInfo(out, "; x_wconf %d", (int) rint(Min(confidence, 1.0f) * 100));
}

/* hOCR counts counter-clockwise what the text is turned by. */
static void
put_angle(StringInfo out, const DsocrLayoutPage *page)
{
	if (page->rotation != 0)
		appendStringInfo(out, "; textangle %d", page->rotation);
}

static void
put_words(StringInfo out, const DsocrLayoutPage *page, const DsocrTextRun *run, const char *id)
{
	DsocrWord word;
	int n = 1;

	dsocr_word_begin(run, &word);
	while (dsocr_word_next(run, &word))
	{
		if (word.blank)
		{
			appendStringInfoChar(out, ' ');
			continue;
		}
		appendStringInfo(out, "<span class=\"ocrx_word\" id=\"word_%s_%d\" title=\"", id, n++);
		put_bbox(out, page, word.rect);
		put_confidence(out, run->confidence);
		appendStringInfoString(out, "\">");
		dsocr_html_escape(out, word.text, word.length);
		appendStringInfoString(out, "</span>");
	}
}

static void
put_element(StringInfo out, const DsocrLayoutPage *page, int n, const DsocrTextRuns *runs)
{
	const DsocrBlock *block = &page->blocks[n];
	DsocrRect frame = {0};
	bool framed = dsocr_text_frame(page, block, &frame);

	for (int i = 0; i < runs->n && !framed; i++)
	{
		const DsocrRect *r = &runs->runs[i].rect;

		frame = i == 0 ? *r
					   : (DsocrRect){Min(frame.x1, r->x1), Min(frame.y1, r->y1),
									 Max(frame.x2, r->x2), Max(frame.y2, r->y2)};
	}
	if (!framed && runs->n == 0)
		return;
	appendStringInfo(out, "<div class=\"%s\" id=\"block_%d_%d\" title=\"",
					 dsocr_layout_is_image(block) ? "ocr_photo" : "ocr_carea", page->number, n + 1);
	put_bbox(out, page, frame);
	put_confidence(out, block->confidence);
	appendStringInfoString(out, "\">");
	if (runs->n > 0)
	{
		appendStringInfo(out, "\n<p class=\"ocr_par\" id=\"par_%d_%d\" title=\"", page->number,
						 n + 1);
		put_bbox(out, page, frame);
		appendStringInfoString(out, "\">\n");
		for (int i = 0; i < runs->n; i++)
		{
			char id[48];

			CHECK_FOR_INTERRUPTS();
			snprintf(id, sizeof(id), "%d_%d_%d", page->number, n + 1, i + 1);
			appendStringInfo(out, "<span class=\"ocr_line\" id=\"line_%s\" title=\"", id);
			put_bbox(out, page, runs->runs[i].rect);
			put_angle(out, page);
			put_confidence(out, runs->runs[i].confidence);
			appendStringInfoString(out, "\">");
			put_words(out, page, &runs->runs[i], id);
			appendStringInfoString(out, "</span>\n");
		}
		appendStringInfoString(out, "</p>\n");
	}
	appendStringInfoString(out, "</div>\n");
}

/* Two hyphens would end the comment early, and XML forbids them. */
static void
put_comment(StringInfo out, const char *text)
{
	StringInfoData escaped;

	initStringInfo(&escaped);
	dsocr_html_escape(&escaped, text, strlen(text));
	for (const char *p = escaped.data; *p != '\0'; p++)
	{
		appendStringInfoChar(out, *p);
		if (p[0] == '-' && p[1] == '-')
			appendStringInfoChar(out, ' ');
	}
	pfree(escaped.data);
}

static void
put_page(StringInfo out, const DsocrLayoutPage *page)
{
	DsocrTextRuns *runs = dsocr_text_runs(page);

	appendStringInfo(out,
					 "<div class=\"ocr_page\" id=\"page_%d\" title=\"bbox 0 0 %d %d; ppageno %d",
					 page->number, page->width, page->height, page->number - 1);
	put_confidence(out, page->confidence);
	appendStringInfoString(out, "\">\n");
	if (page->width == 0 || strcmp(page->status, "ok") != 0)
	{
		appendStringInfo(out, "<!-- page %d: ", page->number);
		put_comment(out, page->status);
		if (page->error != NULL)
		{
			appendStringInfoString(out, ": ");
			put_comment(out, page->error);
		}
		appendStringInfoString(out, " -->\n");
	}
	for (int i = 0; i < page->n_blocks; i++)
		put_element(out, page, i, &runs[i]);
	appendStringInfoString(out, "</div>\n");
}

static void
write_file(const DsocrLayoutPages *pages, StringInfo out)
{
	MemoryContext work =
		AllocSetContextCreate(CurrentMemoryContext, "dsocr hOCR page", ALLOCSET_DEFAULT_SIZES);

	appendStringInfoString(out, head);
	for (int i = 0; i < pages->n; i++)
	{
		MemoryContext caller = MemoryContextSwitchTo(work);

		put_page(out, &pages->pages[i]);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(work);
	}
	appendStringInfoString(out, "</body>\n</html>\n");
	MemoryContextDelete(work);
}

static Datum
hocr_text(const DsocrLayoutPages *pages)
{
	StringInfoData out;
	int replaced = 0;
	char *converted;

	initStringInfo(&out);
	write_file(pages, &out);
	converted = dsocr_encoding_to_server(out.data, &replaced);
	dsocr_encoding_notice(replaced);
	return PointerGetDatum(cstring_to_text(converted));
}

Datum
dsocr_hocr_document(PG_FUNCTION_ARGS)
{
	DsocrLayoutPages *pages = dsocr_layout_read(fcinfo, 1);

	if (pages == NULL)
		PG_RETURN_NULL();
	return hocr_text(pages);
}

Datum
dsocr_hocr_layout(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	return hocr_text(dsocr_layout_pages_parse(PG_GETARG_JSONB_P(0)));
}
