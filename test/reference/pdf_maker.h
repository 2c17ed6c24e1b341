/*-------------------------------------------------------------------------
 *
 * pdf_maker.h
 *		Small PDFs for tests, well formed or as hostile as the caller likes.
 *
 * Objects are written in the order of the calls and numbered from 1; object 1
 * must be the catalog.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PDF_MAKER_H
#define PDF_MAKER_H

#include "base.h"

#define PDF_MAX_OBJECTS 10000

typedef struct PdfMaker
{
	DsocrBuffer out;
	int n;
	size_t offsets[PDF_MAX_OBJECTS + 1];
} PdfMaker;

/* Begin an object; printf of its dictionary or value. */
extern void dsocr_pdf_object(PdfMaker *m, const char *fmt, ...) DSOCR_PRINTF(2, 3);

/* A stream; entries are those of its dictionary but the length. */
extern void dsocr_pdf_stream(PdfMaker *m, const char *entries, const void *bytes, size_t len);

/* Cross references and trailer. */
extern void dsocr_pdf_end(PdfMaker *m);

/*
 * A document of n pages of width x height points.  Every page has the given
 * entries ("/Rotate 90"), fonts F (Helvetica, not embedded), and draws its
 * content: printf of content with the number of the page, if it has a %d.
 */
extern DsocrBuffer dsocr_pdf_pages(int n, int width, int height, const char *entries,
								   const char *content);

#endif /* PDF_MAKER_H */
