/*-------------------------------------------------------------------------
 *
 * visual_order.h
 *		Text as it lies on a page from left to right.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_VISUAL_ORDER_H
#define DSOCR_VISUAL_ORDER_H

#include "dsocr.h"

#include "mb/pg_wchar.h"

/*
 * The characters of a line of UTF-8 text in the order in which they lie on the
 * page, palloc'd.  Text without letters of Hebrew, Arabic and their like stays
 * as it is.
 */
extern pg_wchar *dsocr_visual_order(const char *text, int *n);

#endif /* DSOCR_VISUAL_ORDER_H */
