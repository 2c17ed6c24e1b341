/*-------------------------------------------------------------------------
 *
 * without_pdf.c
 *		What stands for source_pdf.c and page_draw.c where the program is
 *		built without poppler and cairo.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>

#include "page_draw.h"
#include "source.h"

bool
dsocr_source_open_pdf(DsocrSource *s, DsocrError *err)
{
	dsocr_fail(err, DSOCR_E_IMAGE, "PDF cannot be read: dsocr-pages was built without poppler");
	return dsocr_hint(err, "Build dsocr with libpoppler-glib-dev and libcairo2-dev installed.");
}

bool
dsocr_page_draw(const DsocrRaster *page, const char *list, DsocrRaster *out, DsocrError *err)
{
	dsocr_fail(err, DSOCR_E_ARGUMENT,
			   "pages cannot be drawn on: dsocr-pages was built without cairo");
	return dsocr_hint(err, "Build dsocr with libpoppler-glib-dev and libcairo2-dev installed.");
}

void
dsocr_source_versions(char *text, size_t size)
{
	snprintf(text, size, "no PDF");
}

void
dsocr_source_warm(void)
{
}
