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
extern Style kind_text(Page *p, float scale);
extern Style kind_equations(Page *p, float scale);
extern Style kind_geometry(Page *p, float scale);
extern Style kind_locate(Page *p, float scale);
extern Style kind_molecule(Page *p, float scale);
extern Style kind_scene(Page *p, float scale);

extern KindFunction kind_find(const char *name);

#endif
