/*-------------------------------------------------------------------------
 *
 * loop.h
 *		Has the text run into a loop, and where does it start?
 *
 * Looks at the ids of the output as they come and at nothing else, so the
 * answer is the same whatever runs beside it.  Work and memory of an id are
 * bounded.  docs/loops.md says what counts as a loop and why.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_LOOP_H
#define DSOCR_LOOP_H

#include "tokenizer.h"

typedef struct DsocrLoop DsocrLoop;

/* What an id's text is made of; bits of DsocrTokenKind.holds. */
#define DSOCR_HOLDS_LINE 1	  /* a line feed or <br> */
#define DSOCR_HOLDS_ROW 2	  /* the end of a table row */
#define DSOCR_HOLDS_CELL 4	  /* the beginning of a table cell */
#define DSOCR_HOLDS_WORD 8	  /* a letter or a digit */
#define DSOCR_HOLDS_DIGITS 16 /* digits and nothing else */

typedef struct DsocrTokenKind
{
	uint8_t holds;
	uint8_t length; /* bytes, at most 255 */
	uint16_t value; /* of digits, modulo 65536 */
} DsocrTokenKind;

/* The kinds of n ids, from dsocr_alloc. */
extern DsocrTokenKind *dsocr_token_kinds(const DsocrTokenizer *t, int n, DsocrError *err);

/*
 * A detector for one text; kinds must outlive it.
 */
extern DsocrLoop *dsocr_loop_new(const DsocrTokenKind *kinds, int n_kinds, DsocrError *err);
extern void dsocr_loop_free(DsocrLoop *l);

/*
 * One more id.  Returns -1 while there is no loop, then how many ids stand
 * before its second repetition.
 */
extern int dsocr_loop_push(DsocrLoop *l, int32_t id);

#endif /* DSOCR_LOOP_H */
