/*-------------------------------------------------------------------------
 *
 * equations.c
 *		Displayed equations; the target is LaTeX between \[ and \].
 *
 * An equation is a tree: made at random, measured from the leaves up, then
 * drawn and written in the order of LaTeX.
 *
 *-------------------------------------------------------------------------
 */
#include "equations.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "text.h"

/* Depths at which a row has nothing but signs, with blanks between them or without. */
#define ATOMS 8
#define SMALL 9

typedef struct Sign
{
	uint32_t code;
	const char *latex;
} Sign;

static const Sign greek[] = {{0x3b1, "\\alpha "},  {0x3b2, "\\beta "},	  {0x3b3, "\\gamma "},
							 {0x3b4, "\\delta "},  {0x3b8, "\\theta "},	  {0x3bb, "\\lambda "},
							 {0x3bc, "\\mu "},	   {0x3c0, "\\pi "},	  {0x3c1, "\\rho "},
							 {0x3c3, "\\sigma "},  {0x3c4, "\\tau "},	  {0x3c9, "\\omega "},
							 {0x394, "\\Delta "},  {0x3a3, "\\Sigma "},	  {0x3a9, "\\Omega "},
							 {0x221e, "\\infty "}, {0x2202, "\\partial "}};
static const Sign between[] = {{'+', "+"},		   {'+', "+"},		{0x2212, "-"},	  {0x2212, "-"},
							   {0xd7, "\\times "}, {0xb1, "\\pm "}, {0xb7, "\\cdot "}};
static const Sign relations[] = {{'=', "="},
								 {'=', "="},
								 {'=', "="},
								 {'<', "<"},
								 {0x2264, "\\leq "},
								 {0x2265, "\\geq "},
								 {0x2248, "\\approx "},
								 {0x2260, "\\neq "},
								 {0x2261, "\\equiv "}};
static const Sign large[] = {{0x2211, "\\sum"}, {0x222b, "\\int"}, {0x220f, "\\prod"}};

#define PICK(r, from) (&(from)[rng_int(r, 0, (int) (sizeof(from) / sizeof((from)[0])) - 1)])

static int
add(Equation *e, NodeKind kind)
{
	Node *n = &e->node[e->n];

	if (e->n == MAX_NODES)
		abort();
	memset(n, 0, sizeof(*n));
	n->kind = kind;
	return e->n++;
}

static int
sign(Equation *e, const char *ascii, FaceStyle face)
{
	int i = add(e, NODE_SIGN);

	e->node[i].glyphs = word_of(ascii);
	e->node[i].face = face;
	return i;
}

/* A sign that the typeface may lack: then another one. */
static int
special(Equation *e, const Sign *s, const char *instead)
{
	int i;
	uint32_t code = s->code;

	if (!fonts_has(e->page->fonts, e->style.family->face[FACE_REGULAR], code))
	{
		if (code != 0x2212)
			return sign(e, instead, FACE_REGULAR);
		code = '-';
	}
	i = add(e, NODE_SIGN);
	e->node[i].glyphs = (Word){.n = 1, .c = {code}};
	snprintf(e->node[i].latex, LATEX_MAX, "%s", s->latex);
	return i;
}

static int
atom(Equation *e)
{
	Rng *r = e->page->rng;
	float u = rng_unit(r);
	char s[8] = {0};

	if (u < .3f)
		snprintf(s, sizeof(s), "%d", rng_int(r, 0, rng_chance(r, .6f) ? 9 : 999));
	else if (u < .33f)
		snprintf(s, sizeof(s), "%d.%d", rng_int(r, 0, 99), rng_int(r, 0, 9));
	else if (u < .5f)
		return special(e, PICK(r, greek), "k");
	else
		s[0] = rng_letter(r, "abcdefghijklmnopqrstuvwxyzABCDEFGHKLMNPQRSTUVXYZ", 48);
	return sign(e, s, u < .33f ? FACE_REGULAR : FACE_ITALIC);
}

static int row(Equation *e, int depth, int least, int most);

static int
script(Equation *e, int base, int below, int above)
{
	int i = add(e, NODE_SCRIPT);
	Node *n = &e->node[i];

	n->items[0] = base;
	n->items[1] = below;
	n->items[2] = above;
	n->n = 3;
	return i;
}

static int
pair(Equation *e, NodeKind kind, int a, int b)
{
	int i = add(e, kind);

	e->node[i].items[0] = a;
	e->node[i].items[1] = b;
	e->node[i].n = b < 0 ? 1 : 2;
	return i;
}

static int
large_sign(Equation *e)
{
	Rng *r = e->page->rng;
	int i = special(e, PICK(r, large), "Q");
	int from = rng_chance(r, .7f) ? row(e, SMALL, 1, 3) : -1;
	int to = from >= 0 && rng_chance(r, .7f) ? atom(e) : -1;

	if (!e->node[i].latex[0])
		return script(e, i, atom(e), -1);
	e->node[i].large = true;
	if (from < 0)
	{
		strcat(e->node[i].latex, " ");
		return i;
	}
	from = script(e, i, from, to);
	e->node[from].stacked = e->node[i].glyphs.c[0] != 0x222b;
	return from;
}

/* One factor; those that contain others only while depth allows. */
static int
factor(Equation *e, int depth)
{
	Rng *r = e->page->rng;
	float u = rng_unit(r);
	int a;

	if (e->n > MAX_NODES - 40 || u < .4f || (depth > 1 && u < .8f))
		return atom(e);
	if (u < .6f || depth > 2)
	{
		a = atom(e);
		if (rng_chance(r, .5f))
			return script(e, a, -1, rng_chance(r, .7f) ? atom(e) : row(e, SMALL, 1, 3));
		return script(e, a, atom(e), rng_chance(r, .3f) ? atom(e) : -1);
	}
	if (u < .8f)
	{
		a = row(e, depth + 1, 1, 3);
		return pair(e, NODE_FRAC, a, row(e, depth + 1, 1, 3));
	}
	if (u < .88f)
		return pair(e, NODE_ROOT, row(e, depth + 1, 1, 3), -1);
	return large_sign(e);
}

/* Items and what stands between them: least to most factors. */
static int
row(Equation *e, int depth, int least, int most)
{
	Rng *r = e->page->rng;
	int items[MAX_ITEMS];
	int n = 0;
	int i;

	for (int k = rng_int(r, least, most); k > 0 && n < MAX_ITEMS - 3; k--)
	{
		bool paren = depth < 2 && rng_chance(r, .1f) && e->n < MAX_NODES - 40;

		if (n > 0 && rng_chance(r, .7f))
		{
			items[n] = special(e, PICK(r, between), "+");
			e->node[items[n++]].spaced = depth != SMALL;
		}
		if (paren)
			items[n++] = sign(e, "(", FACE_REGULAR);
		items[n++] = paren ? row(e, ATOMS, 2, 3) : depth >= ATOMS ? atom(e) : factor(e, depth);
		if (paren)
			items[n++] = sign(e, ")", FACE_REGULAR);
	}
	i = add(e, NODE_ROW);
	memcpy(e->node[i].items, items, sizeof(items[0]) * (size_t) n);
	e->node[i].n = n;
	return i;
}

static int
whole(Equation *e)
{
	Rng *r = e->page->rng;
	int left = row(e, 1, 1, 2);
	int equals = special(e, PICK(r, relations), "=");
	int right = row(e, 0, 1, 3);
	int i = add(e, NODE_ROW);
	Node *n = &e->node[i];

	e->node[equals].spaced = true;
	n->items[0] = left;
	n->items[1] = equals;
	n->items[2] = right;
	n->n = 3;
	return i;
}

bool
block_equation(Column *c)
{
	Page *p = c->page;
	static _Thread_local Equation e;
	float room = c->x1 - c->x0;
	char tag[8] = "";
	Word number;
	float width = 0;
	float x;
	const Node *n;
	int top;
	int block;
	int before = p->n_units;

	if (c->left < 20)
		return false;
	e.page = p;
	e.style = c->style;
	e.n = 0;
	if (rng_chance(p->rng, .2f))
	{
		snprintf(tag, sizeof(tag), "(%d)", rng_int(p->rng, 1, 99));
		number = word_of(tag);
		width = page_word_width(p, &e.style, FACE_REGULAR, &number);
	}
	top = whole(&e);
	equation_measure(&e, top, c->style.size);
	n = &e.node[top];
	/* a number stands at the right edge, with the equation in the middle */
	if (n->w + 2 * width + (float) c->style.size * 2 > room || c->y + n->up + n->down > c->y1)
		return false;
	if (!c->first)
		page_emit_ascii(p, "\n\n");
	c->first = false;
	block = page_block_begin(p, "equation");
	x = c->x0 + (rng_chance(p->rng, .8f) ? (room - n->w) / 2 : width + (float) c->style.size);
	page_emit_ascii(p, "\\[ ");
	equation_draw(&e, top, x, c->y + n->up);
	if (tag[0])
	{
		float at = c->x1 - width;

		page_emit_ascii(p, " \\tag{");
		at = page_draw(p, &e.style, FACE_REGULAR, at, c->y + n->up, &(Word){1, {'('}});
		number.n -= 2;
		memmove(number.c, number.c + 1, sizeof(number.c[0]) * (size_t) number.n);
		at = page_word(p, &e.style, FACE_REGULAR, at, c->y + n->up, &number);
		page_draw(p, &e.style, FACE_REGULAR, at, c->y + n->up, &(Word){1, {')'}});
		page_emit(p, '}');
	}
	page_emit_ascii(p, " \\]");
	page_block_end(p, block, (Box){x, c->y, x + n->w, c->y + n->up + n->down});
	c->y += n->up + n->down + (float) c->style.size * rng_between(p->rng, .4f, 1.2f);
	c->left -= p->n_units - before;
	return true;
}
