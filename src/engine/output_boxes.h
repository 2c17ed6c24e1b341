/*-------------------------------------------------------------------------
 *
 * output_boxes.h
 *		Lists of boxes as the model writes them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_OUTPUT_BOXES_H
#define DSOCR_OUTPUT_BOXES_H

#include "base.h"

/*
 * Go over a box list and count its boxes; write them, in pixels of an image
 * of this size, to boxes unless that is NULL.  The first element that is no
 * box ends the count, as it does in the official code; a list that is not well
 * formed has none.
 */
extern int dsocr_output_boxes(const char *list, size_t len, int width, int height,
							  int32_t (*boxes)[4]);

#endif /* DSOCR_OUTPUT_BOXES_H */
