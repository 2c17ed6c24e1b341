/*-------------------------------------------------------------------------
 *
 * view_row.h
 *		Rows of the functions behind views.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_VIEW_ROW_H
#define DSOCR_VIEW_ROW_H

#include "dsocr.h"

#include "fmgr.h"
#include "nodes/execnodes.h"

#define DSOCR_VIEW_COLUMNS 36 /* at most */

/* A row in the making; begins with zeros. */
typedef struct DsocrViewRow
{
	Datum values[DSOCR_VIEW_COLUMNS];
	bool nulls[DSOCR_VIEW_COLUMNS];
	int n;
} DsocrViewRow;

/* Prepare to return rows of so many columns; the SQL side may be of another version. */
extern ReturnSetInfo *dsocr_view_begin(FunctionCallInfo fcinfo, int columns);

/* The next column. */
extern void dsocr_view_put(DsocrViewRow *row, Datum value);
extern void dsocr_view_null(DsocrViewRow *row);
extern void dsocr_view_text(DsocrViewRow *row, const char *text); /* empty is NULL */
extern void dsocr_view_number(DsocrViewRow *row, int number);	  /* 0 is NULL */
extern void dsocr_view_float(DsocrViewRow *row, double value);	  /* negative is NULL */

/* Return the row and begin another. */
extern void dsocr_view_end_row(ReturnSetInfo *rsinfo, DsocrViewRow *row);

#endif /* DSOCR_VIEW_ROW_H */
