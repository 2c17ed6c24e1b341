/*-------------------------------------------------------------------------
 *
 * orient.h
 *		Pages that lie on their side or head, or a little askew.
 *
 * Detection looks for lines of text and for the ascenders and descenders of
 * Latin letters; it runs no model.  When unsure it leaves the page as it is.
 * The page as stored is the picture with its own orientation tag applied.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ORIENT_H
#define DSOCR_ORIENT_H

#include "image.h"

/* What makes a stored page upright: a quarter turn, then a small one. */
typedef struct DsocrOrientation
{
	int rotation; /* degrees clockwise that it is turned by: 0, 90, 180 or 270 */
	float skew;	  /* degrees clockwise that it is straightened by after that; 0 = it is not */
} DsocrOrientation;

/* Largest skew that is corrected, and the smallest that is worth it, degrees. */
#define DSOCR_MAX_SKEW 7.0F
#define DSOCR_MIN_SKEW 0.2F

/*
 * Get ready for detecting, before the process is closed up: afterwards no
 * file can be opened.  False when it is not available; then nothing is ever
 * detected.  To be called once, before threads detect.
 */
extern bool dsocr_orient_init(void);

/* Errors: DSOCR_E_MEMORY, DSOCR_E_CANCELLED; poll may be NULL. */
extern bool dsocr_orient_detect(const DsocrImage *image, const DsocrPoll *poll, DsocrOrientation *o,
								DsocrError *err);

/*
 * Turn and straighten.  Straightening makes the picture larger, so that no
 * corner is cut off; what is new has the colour of its border.  Errors as above.
 */
extern bool dsocr_orient_apply(DsocrImage *image, const DsocrOrientation *o, const DsocrPoll *poll,
							   DsocrError *err);

/* Size that a stored page of width x height has then. */
extern void dsocr_orient_size(const DsocrOrientation *o, int width, int height, int *upright_width,
							  int *upright_height);

/*
 * A box (x1, y1, x2, y2) in pixels of the upright page becomes the smallest
 * one in the stored page of width x height that covers the same place, inside
 * the page.  Without rotation and skew it is left exactly as it is.
 */
extern void dsocr_orient_unmap_box(const DsocrOrientation *o, int width, int height,
								   int32_t box[4]);

#endif /* DSOCR_ORIENT_H */
