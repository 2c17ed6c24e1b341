/*-------------------------------------------------------------------------
 *
 * text_width.h
 *		How wide text is, as far as its characters tell.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_TEXT_WIDTH_H
#define DSOCR_TEXT_WIDTH_H

#include "dsocr.h"

#include "mb/pg_wchar.h"

/*
 * Typical width of a character in thousandths of an em, one of a few classes:
 * dsocr_text_widths[dsocr_text_width_class(c)].
 */
#define DSOCR_N_WIDTHS 7
extern const int dsocr_text_widths[DSOCR_N_WIDTHS];
extern int dsocr_text_width_class(pg_wchar c);

/* In ems. */
extern double dsocr_char_width(pg_wchar c);
extern double dsocr_text_width(const char *text);

/* Of East Asian scripts, and as wide as it is high. */
extern bool dsocr_char_is_wide(pg_wchar c);

/* The next character of valid UTF-8. */
extern pg_wchar dsocr_char_next(const char **p);

#endif /* DSOCR_TEXT_WIDTH_H */
