/*-------------------------------------------------------------------------
 *
 * page_look.h
 *		A quick look at a page: how large its letters are, and how many.
 *
 * Good for choosing a mode before reading; docs/modes.md has the evidence.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PAGE_LOOK_H
#define DSOCR_PAGE_LOOK_H

#include "image.h"
#include "request.h"

typedef struct DsocrPageLook
{
	float line;		/* height of a line of text without leading, pixels; 0: no text was seen */
	int characters; /* roughly */
} DsocrPageLook;

/* Takes a few milliseconds, however large the page.  Errors: DSOCR_E_MEMORY. */
extern bool dsocr_page_look(const DsocrImage *image, DsocrPageLook *look, DsocrError *err);

/*
 * The mode to read a page of width x height first: the model's usual one
 * unless a smaller one clearly suffices or the usual one clearly does not.
 */
extern DsocrMode dsocr_mode_choose(const DsocrPageLook *look, int width, int height, uint32_t modes,
								   DsocrMode usual);

/* The next larger one of the modes, DSOCR_MODE_AUTO if there is none. */
extern DsocrMode dsocr_mode_above(DsocrMode mode, uint32_t modes);

#endif /* DSOCR_PAGE_LOOK_H */
