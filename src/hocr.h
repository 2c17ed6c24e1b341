/*-------------------------------------------------------------------------
 *
 * hocr.h
 *		A layout as hOCR: XHTML with the place of every line.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_HOCR_H
#define DSOCR_HOCR_H

#include "dsocr.h"

#include "lib/stringinfo.h"
#include "layout_pages.h"

/* The whole file in UTF-8. */
extern void dsocr_hocr_write(const DsocrLayoutPages *pages, StringInfo out);

#endif /* DSOCR_HOCR_H */
