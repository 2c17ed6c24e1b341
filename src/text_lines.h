/*-------------------------------------------------------------------------
 *
 * text_lines.h
 *		From what the model wrote of an element to plain lines.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_TEXT_LINES_H
#define DSOCR_TEXT_LINES_H

#include "html_table.h"
#include "text_runs.h"

/* Lines of one element; a hostile text of line feeds gets no more. */
#define DSOCR_MAX_LINES 100000

/* Append a line without the blanks around it, unless nothing is left; it has no place yet. */
extern void dsocr_text_add_run(DsocrTextRuns *list, const char *text, size_t len, float confidence);

/*
 * The lines of an element.  Where it is nothing but one table, that is left
 * in *table too, whose cells are NULL otherwise.
 */
extern void dsocr_text_lines(const DsocrBlock *block, DsocrTextRuns *list, DsocrTable *table);

/*
 * Text as it is read aloud: no tags, no marks of markdown, entities decoded,
 * one line for each line or <br>, cells of a table's row side by side.
 */
extern char *dsocr_text_plain(const DsocrBlock *block);

#endif /* DSOCR_TEXT_LINES_H */
