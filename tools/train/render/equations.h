/*-------------------------------------------------------------------------
 *
 * equations.h
 *		The tree of an equation: made in equations.c, laid out in formulae.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RENDER_EQUATIONS_H
#define RENDER_EQUATIONS_H

#include "page.h"

#define MAX_NODES 96
#define MAX_ITEMS 12 /* of a row */
#define LATEX_MAX 12

typedef enum NodeKind
{
	NODE_SIGN,	/* one character, or a few digits or letters */
	NODE_ROW,	/* items side by side */
	NODE_FRAC,	/* item 0 over item 1 */
	NODE_ROOT,	/* of item 0 */
	NODE_SCRIPT /* item 0 with item 1 below, item 2 above, each may be missing (-1) */
} NodeKind;

typedef struct Node
{
	NodeKind kind;
	Word glyphs;
	char latex[LATEX_MAX]; /* "" if it is the glyphs */
	FaceStyle face;
	bool spaced;  /* blanks on both sides */
	bool large;	  /* sums, integrals */
	bool stacked; /* what is above and below stands over and under it */
	int items[MAX_ITEMS];
	int n;
	int size; /* of its letters */
	float w, up, down;
} Node;

typedef struct Equation
{
	Page *page;
	Style style;
	Node node[MAX_NODES];
	int n;
} Equation;

/* The extents of node i and all below it, in letters of this size. */
extern void equation_measure(Equation *e, int i, int size);
/* Draws a measured node from x on the base line, and writes it. */
extern void equation_draw(Equation *e, int i, float x, float base);

#endif
