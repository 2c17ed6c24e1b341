/*-------------------------------------------------------------------------
 *
 * inputs_pdf.h
 *		The picture as PDF.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INPUTS_PDF_H
#define INPUTS_PDF_H

#include "base.h"

/* Content of a page of 64 x 48 points. */
#define IN_QUARTERS "1 0 0 rg 0 24 32 24 re f 0 1 0 rg 32 24 32 24 re f 0 0 1 rg 0 0 32 24 re f"

/* A document of n such pages with other entries or content. */
extern void in_pdf_pages(DsocrBuffer *out, int n, const char *entries, const char *content);

#endif /* INPUTS_PDF_H */
