/*-------------------------------------------------------------------------
 *
 * output_lines.h
 *		Lines of a text, and how sure the model was of them.
 *
 * A token belongs to the range of bytes in which its first byte that is no
 * blank lies (its first byte if all are), so it counts once among ranges that
 * do not overlap, however blanks are stripped from their ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_OUTPUT_LINES_H
#define DSOCR_OUTPUT_LINES_H

#include "request.h"

/* The tokens of a text; together they are the text, byte for byte. */
typedef struct DsocrScores
{
	size_t n;
	const size_t *ends; /* [n] byte of the text behind each token, ascending */
	const float *logprobs;
} DsocrScores;

/* Tokens of bytes [from, to) of a text, and the sum of their log-probabilities. */
extern size_t dsocr_scores_sum(const DsocrScores *s, const char *text, size_t from, size_t to,
							   double *sum);

/* Exponential of their mean; 0 without any. */
extern float dsocr_scores_confidence(const DsocrScores *s, const char *text, size_t from,
									 size_t to);

/*
 * Lines of bytes [from, to) of a text, with starts counted from there: they
 * end at a line feed or <br>, which belong to none, and behind a table row.
 * What holds nothing but blanks is no line.  *lines is from dsocr_alloc, NULL
 * for none.  Errors: DSOCR_E_MEMORY.
 */
extern bool dsocr_lines_make(const DsocrScores *s, const char *text, size_t from, size_t to,
							 int *n_lines, DsocrLine **lines, DsocrError *err);

#endif /* DSOCR_OUTPUT_LINES_H */
