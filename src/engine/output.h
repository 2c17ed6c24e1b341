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

#include "output_lines.h"

/*
 * The part of the decoded text that is the model's answer: bytes [*from, *to).
 * One end token at the very end is left out if the text still has it (eos is
 * its content, NULL when the caller did not decode it), then white space at
 * both ends, as Python's str.strip does.  That is all that lies between
 * dsocr_utf8_repair and dsocr_output_parse.
 */
extern void dsocr_output_strip(const char *text, size_t len, const char *eos, size_t *from,
							   size_t *to);

/*
 * Parse raw text (end token removed, stripped; valid UTF-8) of an image of
 * width x height: fills result->raw, ->markdown, ->prefix, ->n_blocks and ->blocks,
 * which must be empty before.  U+0000, which no PostgreSQL text can hold,
 * becomes U+FFFD.  Linear in the length of the text, in time and memory.
 * Errors: DSOCR_E_MEMORY; result is as before then.
 */
extern bool dsocr_output_parse(const char *text, size_t len, int width, int height,
							   DsocrResult *result, DsocrError *err);

/*
 * The same with the tokens of the text: fills confidences and lines of prefix
 * and blocks as well.  A block's tokens are those from its reference up to the
 * next one, lines are those of its content.
 */
extern bool dsocr_output_parse_scored(const char *text, size_t len, int width, int height,
									  const DsocrScores *scores, DsocrResult *result,
									  DsocrError *err);

#endif /* DSOCR_OUTPUT_H */
