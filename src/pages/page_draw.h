/*-------------------------------------------------------------------------
 *
 * page_draw.h
 *		Boxes and shapes drawn on a page.
 *
 * The list is text, one shape a line, fields separated by single blanks,
 * coordinates in pixels of the page, decimal, with or without a fraction:
 *
 *   box X1 Y1 X2 Y2 LABEL        frame, lightly filled, with a tag
 *   line X1 Y1 X2 Y2 LABEL
 *   polyline N X1 Y1 ... XN YN LABEL
 *   circle X Y RADIUS LABEL
 *   text X Y LABEL               the label alone, X Y its top left corner
 *
 * LABEL is the rest of the line, may be empty or left out, and is UTF-8
 * without control characters.  Shapes with equal labels have equal colours.
 * In "KEY|TEXT", KEY chooses the colour and TEXT is shown.  Empty lines are
 * allowed; anything else is an error that names the line.  Shapes may lie
 * outside the page.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PAGE_DRAW_H
#define DSOCR_PAGE_DRAW_H

#include "raster.h"

#define DSOCR_DRAW_MAX_SHAPES 10000
#define DSOCR_DRAW_MAX_POINTS 10000		  /* of a polyline */
#define DSOCR_DRAW_MAX_LABEL 200		  /* bytes that are shown */
#define DSOCR_DRAW_MAX_COORDINATE 1000000 /* either sign */

/* Draw on a copy of the page.  Errors: DSOCR_E_ARGUMENT, DSOCR_E_MEMORY. */
extern bool dsocr_page_draw(const DsocrRaster *page, const char *list, DsocrRaster *out,
							DsocrError *err);

#endif /* DSOCR_PAGE_DRAW_H */
