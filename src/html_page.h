/*-------------------------------------------------------------------------
 *
 * html_page.h
 *		Scans and their text side by side: one HTML file that needs no other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_HTML_PAGE_H
#define DSOCR_HTML_PAGE_H

#include "dsocr.h"

#include "lib/stringinfo.h"
#include "layout_pages.h"

/* The image of a page, PNG or JPEG. */
typedef struct DsocrHtmlImage
{
	const uint8 *bytes;
	size_t len;
	int width; /* as it is shown: its own orientation applied */
	int height;
} DsocrHtmlImage;

/* The file up to its first page, in the server encoding, behind a varlena header. */
extern void dsocr_html_begin(StringInfo out);

/*
 * One page.  layout: NULL where there is none; image: NULL where there is
 * none, and why says why.  Characters that the server encoding cannot hold are
 * counted in *replaced.
 */
extern void dsocr_html_add(StringInfo out, int number, const DsocrLayoutPage *layout,
						   const DsocrHtmlImage *image, const char *why, int *replaced);

/* The finished file. */
extern text *dsocr_html_end(StringInfo out);

#endif /* DSOCR_HTML_PAGE_H */
