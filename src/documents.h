/*-------------------------------------------------------------------------
 *
 * documents.h
 *		What functions that show or store pages have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_DOCUMENTS_H
#define DSOCR_DOCUMENTS_H

#include "dsocr.h"

#include "fmgr.h"
#include "layout_pages.h"
#include "reading.h"

/* A document whose pages are shown one after the other. */
typedef struct DsocrShown
{
	FunctionCallInfo fcinfo;
	DsocrReadOptions options; /* pages, dpi and password */
	DsocrDocument *document;
	DsocrPageOutput output;
	int pages; /* of the document */
	int last;  /* that is shown */
	int asked; /* the last page that was asked for, and that was taken */
	int taken;
} DsocrShown;

/*
 * The arguments of a call whose first is the document: pages at one position
 * (negative: there is none), dpi at another, and password behind that.  false
 * when there is nothing to show: no document, or no page.
 */
extern bool dsocr_shown_arguments(FunctionCallInfo fcinfo, int pages, int dpi, DsocrShown *shown);

/* Open it; false when it cannot be and dsocr.on_error says that this is NULL. */
extern bool dsocr_shown_open(DsocrShown *shown, DsocrPageOutput output);
extern void dsocr_shown_close(DsocrShown *shown);

/* The next page as an image or as an error; NULL behind the last.  Waits. */
extern DsocrOutcome *dsocr_shown_next(DsocrShown *shown, int *number);

/*
 * The layout that was handed in, or that of the document, which is read then:
 * mode is the position of the argument mode, behind which pages, max_tokens,
 * dpi and password stand.  NULL where the answer is NULL.
 */
extern DsocrLayoutPages *dsocr_layout_argument(FunctionCallInfo fcinfo, int layout, int mode);
extern DsocrLayoutPages *dsocr_layout_read(FunctionCallInfo fcinfo, int mode);

#endif /* DSOCR_DOCUMENTS_H */
