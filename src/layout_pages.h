/*-------------------------------------------------------------------------
 *
 * layout_pages.h
 *		A layout as the document functions work with it.
 *
 * It comes from a reading, or from jsonb that the user hands in.  Strings are
 * UTF-8 whatever the encoding of the database, because most of what is made
 * of a layout is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_LAYOUT_PAGES_H
#define DSOCR_LAYOUT_PAGES_H

#include "dsocr.h"

#include "utils/jsonb.h"
#include "engine/request.h"

/* Limits of a layout from outside. */
#define DSOCR_LAYOUT_MAX_PAGES 100000
#define DSOCR_LAYOUT_MAX_SIDE 1000000 /* pixels of a page */

typedef struct DsocrLayoutPage
{
	int32 number; /* from 1 */
	int32 width;  /* of the page image in pixels; 0 where the page could not be read */
	int32 height;
	int32 rotation;		/* degrees clockwise that it was turned by to be read */
	float skew;			/* and straightened by */
	float confidence;	/* 0 = not known */
	const char *status; /* "ok", or what went wrong */
	const char *error;	/* the reason, or NULL */
	int n_blocks;
	DsocrBlock *blocks; /* elements in reading order */
} DsocrLayoutPage;

typedef struct DsocrLayoutPages
{
	int n;
	DsocrLayoutPage *pages; /* numbers increase */
} DsocrLayoutPages;

/* Check and take apart a layout of the user, or a page of one; raises ERROR 22023 if it is none. */
extern DsocrLayoutPages *dsocr_layout_pages_parse(Jsonb *layout);

/* The page of this number, or NULL. */
extern const DsocrLayoutPage *dsocr_layout_pages_find(const DsocrLayoutPages *pages, int32 number);

/* A box with its corners in order and clipped to the page; at least one pixel. */
extern void dsocr_layout_clip(const DsocrLayoutPage *page, const int32_t box[4],
							  int32_t clipped[4]);

/* Is the element a figure, as the links of markdown count them? */
extern bool dsocr_layout_is_image(const DsocrBlock *block);

#endif /* DSOCR_LAYOUT_PAGES_H */
