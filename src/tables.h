/*-------------------------------------------------------------------------
 *
 * tables.h
 *		The tables of a layout as rows of SQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_TABLES_H
#define DSOCR_TABLES_H

#include "dsocr.h"

#include "nodes/execnodes.h"
#include "layout_pages.h"

/*
 * Rows (page, ord, html, cells, grid, complete, box) of a page's tables.
 * Characters that the server encoding cannot hold are counted in *replaced.
 */
extern void dsocr_tables_rows(const DsocrLayoutPage *page, ReturnSetInfo *rsinfo, int *replaced);

#endif /* DSOCR_TABLES_H */
