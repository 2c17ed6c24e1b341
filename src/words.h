/*-------------------------------------------------------------------------
 *
 * words.h
 *		The words of a line and where they lie.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_WORDS_H
#define DSOCR_WORDS_H

#include "dsocr.h"

#include "text_runs.h"

/* A walk along a line, over words and the blanks between them. */
typedef struct DsocrWord
{
	const char *text; /* UTF-8, not terminated */
	int length;
	bool blank;
	DsocrRect rect; /* on the upright page, as that of the line */
	double next;	/* where the next one begins */
} DsocrWord;

extern void dsocr_word_begin(const DsocrTextRun *run, DsocrWord *word);

/* false: the line has ended. */
extern bool dsocr_word_next(const DsocrTextRun *run, DsocrWord *word);

/* A rectangle of the upright page in whole pixels of the stored one: x1 y1 x2 y2. */
extern void dsocr_word_pixels(const DsocrLayoutPage *page, DsocrRect upright, int pixels[4]);

#endif /* DSOCR_WORDS_H */
