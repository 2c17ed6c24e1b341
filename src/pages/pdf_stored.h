/*-------------------------------------------------------------------------
 *
 * pdf_stored.h
 *		The JPEG that is the whole of a PDF's page.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PDF_STORED_H
#define DSOCR_PDF_STORED_H

#include <poppler.h>

#include "base.h"

/*
 * The bytes of the page's only image, where that is a JPEG and there is no
 * text.  Whether it fills the page, upright, is the caller's to see.
 */
extern bool dsocr_pdf_stored(PopplerPage *page, double width, double height, DsocrBuffer *jpeg);

#endif /* DSOCR_PDF_STORED_H */
