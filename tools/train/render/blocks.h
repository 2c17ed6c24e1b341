/*-------------------------------------------------------------------------
 *
 * blocks.h
 *		The blocks that columns of text are made of.
 *
 * Every block function draws at the column's y, writes its target and moves
 * y below itself; it returns false, and has done nothing, if there is no
 * room for it.  Blocks are separated by an empty line in the target.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RENDER_BLOCKS_H
#define RENDER_BLOCKS_H

#include "page.h"

typedef struct Column
{
	Page *page;
	Style style;
	float x0, x1; /* left and right edge */
	float y, y1;  /* where the next block begins, where all must end */
	int left;	  /* characters that may still be written */
	bool first;	  /* nothing is written yet on this page */
} Column;

typedef enum Align
{
	ALIGN_LEFT,
	ALIGN_CENTRE,
	ALIGN_RIGHT,
	ALIGN_BOTH,
} Align;

extern bool block_paragraph(Column *c);
extern bool block_heading(Column *c);
extern bool block_list(Column *c);
extern bool block_pairs(Column *c);
extern bool block_table(Column *c);
extern bool block_picture(Column *c);
extern bool block_equation(Column *c);
/* One line at a place of its own: page headers and footers. */
extern bool block_line(Column *c, const char *label, int words, Align align);

/* Blocks until the room or the characters are used up. */
extern void column_fill(Column *c);

#endif
