/*-------------------------------------------------------------------------
 *
 * text_runs.h
 *		Where the lines of an element lie: text that can be put over a page.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_TEXT_RUNS_H
#define DSOCR_TEXT_RUNS_H

#include "dsocr.h"

#include "layout_pages.h"

/* A rectangle in pixels of the upright page. */
typedef struct DsocrRect
{
	double x1;
	double y1;
	double x2;
	double y2;
} DsocrRect;

/* A line, or a line of a table's cell. */
typedef struct DsocrTextRun
{
	char *text;	  /* UTF-8, not empty, no line feed */
	double width; /* of its characters side by side, in ems */
	float confidence;
	DsocrRect rect; /* on the page as it was read, before it is turned back */
} DsocrTextRun;

typedef struct DsocrTextRuns
{
	int n;
	int capacity;
	DsocrTextRun *runs;
} DsocrTextRuns;

/*
 * The runs of all elements of a page that have text, in reading order:
 * runs[i] are those of block i.
 */
extern DsocrTextRuns *dsocr_text_runs(const DsocrLayoutPage *page);

/* The box of an element on the upright page: the frame around all its boxes. */
extern bool dsocr_text_frame(const DsocrLayoutPage *page, const DsocrBlock *block, DsocrRect *rect);

/* A rectangle of the upright page on the page as it is stored. */
extern DsocrRect dsocr_text_stored(const DsocrLayoutPage *page, DsocrRect upright);

#endif /* DSOCR_TEXT_RUNS_H */
