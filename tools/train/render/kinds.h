/*-------------------------------------------------------------------------
 *
 * kinds.h
 *		Kinds of pages.  A new kind is a function here and a row in kinds.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RENDER_KINDS_H
#define RENDER_KINDS_H

#include "page.h"

/* Draws on a page that page_begin has cleared; returns the style it used. */
typedef Style (*KindFunction)(Page *p, float scale);

extern Style kind_chart(Page *p, float scale);

extern KindFunction kind_find(const char *name);

#endif
