/*-------------------------------------------------------------------------
 *
 * html_table.h
 *		HTML tables as models write them, taken apart into cells.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_HTML_TABLE_H
#define DSOCR_HTML_TABLE_H

#include "dsocr.h"

typedef struct DsocrTableCell
{
	int32 row; /* of its upper left corner, from 0 */
	int32 col;
	int32 rowspan; /* at least 1, and inside the table */
	int32 colspan;
	bool header;
	char *text; /* UTF-8; blanks collapsed, <br> as line feed */
} DsocrTableCell;

typedef struct DsocrTable
{
	const char *html; /* where it stands in the text */
	size_t html_len;
	bool complete; /* its end tag is there */
	int32 n_rows;
	int32 n_cols;
	int32 n_cells;
	DsocrTableCell *cells; /* row by row */
} DsocrTable;

/* Cells of a table; more raise ERROR. */
#define DSOCR_TABLE_MAX_CELLS 1000000

/*
 * Slots (rows x columns) and repeated bytes up to which a table is spread out
 * as a full grid.  In larger ones every cell takes one slot and rows end with
 * their last cell.
 */
#define DSOCR_TABLE_MAX_SLOTS 262144
#define DSOCR_TABLE_MAX_REPEATED (4 * 1024 * 1024)

/* The next table of UTF-8 text from *p on, which moves behind it; false if there is none. */
extern bool dsocr_table_next(const char **p, const char *end, DsocrTable *table);

/* Is the table small enough for a full grid? */
extern bool dsocr_table_is_grid(const DsocrTable *table);

/*
 * The cell that covers each slot, row by row, -1 for none: n_rows x n_cols
 * numbers.  Only of a table that is a grid.
 */
extern int32 *dsocr_table_slots(const DsocrTable *table);

#endif /* DSOCR_HTML_TABLE_H */
