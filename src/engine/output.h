/*-------------------------------------------------------------------------
 *
 * output.h
 *		The model's text to blocks, boxes and markdown.
 *
 * Model output is data: box lists are read by an integer parser and nothing
 * is ever evaluated.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_OUTPUT_H
#define DSOCR_OUTPUT_H

#include "request.h"

/*
 * Parse raw text (end token removed, stripped; valid UTF-8) of an image of
 * width x height: fills result->raw, ->markdown, ->n_blocks and ->blocks.
 * Linear in the length of the text.  Errors: DSOCR_E_MEMORY.
 */
extern bool dsocr_output_parse(const char *text, size_t len, int width, int height,
							   DsocrResult *result, DsocrError *err);

#endif /* DSOCR_OUTPUT_H */
