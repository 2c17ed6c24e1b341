/*-------------------------------------------------------------------------
 *
 * pdf_writer.h
 *		A PDF of page images with invisible text over them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PDF_WRITER_H
#define DSOCR_PDF_WRITER_H

#include "dsocr.h"

#include "pdf_image.h"
#include "text_runs.h"

typedef struct DsocrPdf DsocrPdf;

/* An empty file in a memory context of its own below the current one. */
extern DsocrPdf *dsocr_pdf_create(void);

/*
 * Add a page of w x h points: the image, and the runs of all its elements over
 * it.  layout says how large the page is in the pixels that the runs are in,
 * and how it is turned; NULL, or of no size: there is no text.
 */
extern void dsocr_pdf_add_page(DsocrPdf *pdf, const DsocrPdfImage *image,
							   const DsocrLayoutPage *layout, double w, double h);

/* Add an empty page that says in print why it is empty. */
extern void dsocr_pdf_add_notice(DsocrPdf *pdf, const char *notice);

/* The finished file; everything else of the writer is freed. */
extern bytea *dsocr_pdf_finish(DsocrPdf *pdf);

#endif /* DSOCR_PDF_WRITER_H */
