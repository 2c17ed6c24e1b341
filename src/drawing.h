/*-------------------------------------------------------------------------
 *
 * drawing.h
 *		What is drawn on a page: boxes of elements, and geometry.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_DRAWING_H
#define DSOCR_DRAWING_H

#include "dsocr.h"

#include "layout_pages.h"

/*
 * The list for DSOCR_PAGE_DRAWN for a page image of w x h pixels, palloc'd.
 * page is NULL where there is nothing to draw.
 */
extern char *dsocr_drawing_list(const DsocrLayoutPage *page, int w, int h);

#endif /* DSOCR_DRAWING_H */
