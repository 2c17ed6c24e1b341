/*-------------------------------------------------------------------------
 *
 * pdf_font.h
 *		A font of invisible letters: any character, no shapes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PDF_FONT_H
#define DSOCR_PDF_FONT_H

#include "dsocr.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

typedef struct DsocrPdfFont DsocrPdfFont;

extern DsocrPdfFont *dsocr_pdf_font_create(void);

/* The number under which the font knows a character, from 1; given out as needed. */
extern uint16 dsocr_pdf_font_code(DsocrPdfFont *font, pg_wchar c);

/* The parts of the font, for the characters that were asked for. */
extern void dsocr_pdf_font_program(StringInfo out);								 /* TrueType */
extern void dsocr_pdf_font_glyphs(const DsocrPdfFont *font, StringInfo out);	 /* CIDToGIDMap */
extern void dsocr_pdf_font_widths(const DsocrPdfFont *font, StringInfo out);	 /* W */
extern void dsocr_pdf_font_to_unicode(const DsocrPdfFont *font, StringInfo out); /* CMap */

#endif /* DSOCR_PDF_FONT_H */
