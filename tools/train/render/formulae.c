/*-------------------------------------------------------------------------
 *
 * formulae.c
 *		Sizes and places of the parts of an equation.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>

#include "equations.h"

/* ---- sizes ---- */

static Style
style_of(const Equation *e, const Node *n)
{
	Style s = e->style;

	s.size = n->large ? (int) ((float) n->size * 1.5f) : n->size;
	s.tracking = 0;
	return s;
}

static int
smaller(int size)
{
	int s = (int) ((float) size * .72f);

	return s < 6 ? 6 : s;
}

static float
middle(int size)
{
	return (float) size * .27f; /* of small letters, where bars of fractions lie */
}

void
equation_measure(Equation *e, int i, int size)
{
	Node *n = &e->node[i];
	Style s;
	float f = (float) size;
	Node *a;

	n->size = size;
	for (int k = 0; k < n->n; k++)
		if (n->items[k] >= 0)
			equation_measure(e, n->items[k],
							 n->kind == NODE_SCRIPT && k > 0	? smaller(size)
							 : n->kind == NODE_FRAC && size > 9 ? (int) (f * .95f)
																: size);
	a = n->n ? &e->node[n->items[0]] : NULL;
	switch (n->kind)
	{
		case NODE_SIGN:
			s = style_of(e, n);
			n->w = page_word_width(e->page, &s, n->face, &n->glyphs);
			n->w += n->spaced ? f * .5f : n->face == FACE_ITALIC ? f * .06f : 0;
			n->up = n->large ? middle(size) + f * .85f : f * .74f;
			n->down = n->large ? f * .85f - middle(size) : f * .2f;
			break;
		case NODE_ROW:
			for (int k = 0; k < n->n; k++)
			{
				const Node *item = &e->node[n->items[k]];

				n->w += item->w;
				n->up = fmaxf(n->up, item->up);
				n->down = fmaxf(n->down, item->down);
			}
			break;
		case NODE_FRAC:
			n->w = fmaxf(a->w, e->node[n->items[1]].w) + f * .35f;
			n->up = a->up + a->down + middle(size) + f * .15f;
			n->down = e->node[n->items[1]].up + e->node[n->items[1]].down - middle(size) + f * .15f;
			break;
		case NODE_ROOT:
			n->w = a->w + f * .7f;
			n->up = a->up + f * .22f;
			n->down = a->down;
			break;
		case NODE_SCRIPT:
			n->up = a->up;
			n->down = a->down;
			for (int k = 1; k < 3; k++)
				if (n->items[k] >= 0)
				{
					const Node *t = &e->node[n->items[k]];

					n->w = fmaxf(n->w, t->w);
					if (n->stacked && k == 1)
						n->down += t->up + t->down;
					else if (n->stacked)
						n->up += t->up + t->down;
					else if (k == 1)
						n->down = fmaxf(n->down, a->down + t->up * .35f + t->down);
					else
						n->up = fmaxf(n->up, a->up + t->up * .45f + t->down * .5f);
				}
			n->w = n->stacked ? fmaxf(n->w, a->w) + f * .1f : n->w + a->w + f * .05f;
			break;
	}
}

/* ---- drawing ---- */

static void
draw_sign(Equation *e, const Node *n, float x, float base)
{
	Page *p = e->page;
	Style s = style_of(e, n);
	float f = (float) s.size;
	float width = page_word_width(p, &s, n->face, &n->glyphs);

	x += n->spaced ? (n->w - width) / 2 : 0;
	if (n->large)
		base += f * .1f;
	if (!n->latex[0])
	{
		page_word(p, &s, n->face, x, base, &n->glyphs);
		return;
	}
	page_draw(p, &s, n->face, x, base, &n->glyphs);
	if (!n->latex[1])
		page_emit_at(p, (unsigned char) n->latex[0],
					 (Box){x, base - .78f * f, x + width, base + .18f * f});
	else
		page_emit_seen(p, n->latex, x + width / 2, base - f * .3f);
}

static void
draw_root(Equation *e, const Node *n, float x, float base)
{
	Page *p = e->page;
	float f = (float) n->size;
	float t = fmaxf(1, f * .055f);
	float top = base - n->up + f * .06f;
	float bottom = base + n->down;
	uint8_t ink = e->style.ink;

	page_line(p, x + f * .08f, base - f * .25f, x + f * .2f, base - f * .32f, t, ink);
	page_line(p, x + f * .2f, base - f * .32f, x + f * .36f, bottom, t * 1.4f, ink);
	page_line(p, x + f * .36f, bottom, x + f * .56f, top, t, ink);
	page_line(p, x + f * .56f, top, x + n->w, top, t, ink);
}

/* What stands below and above item 0 of n. */
static void
draw_scripts(Equation *e, const Node *n, float x, float base)
{
	const Node *a = &e->node[n->items[0]];
	float f = (float) n->size;

	for (int k = 1; k < 3; k++)
	{
		const Node *t = &e->node[n->items[k] < 0 ? 0 : n->items[k]];
		float at =
			k == 1 ? base + a->down + t->up * .35f : base - a->up + t->up * .55f - t->down * .5f;

		if (n->items[k] < 0)
			continue;
		if (n->stacked)
			at = k == 1 ? base + a->down + t->up : base - a->up - t->down;
		page_emit_ascii(e->page, k == 1 ? "_{" : "^{");
		equation_draw(e, n->items[k], n->stacked ? x + (n->w - t->w) / 2 : x + a->w + f * .03f, at);
		page_emit(e->page, '}');
	}
}

void
equation_draw(Equation *e, int i, float x, float base)
{
	Page *p = e->page;
	const Node *n = &e->node[i];
	float f = (float) n->size;
	const Node *a = n->n ? &e->node[n->items[0]] : NULL;
	float y = base - middle(n->size);

	switch (n->kind)
	{
		case NODE_SIGN:
			draw_sign(e, n, x, base);
			break;
		case NODE_ROW:
			for (int k = 0; k < n->n; k++)
			{
				equation_draw(e, n->items[k], x, base);
				x += e->node[n->items[k]].w;
			}
			break;
		case NODE_FRAC:
		{
			const Node *b = &e->node[n->items[1]];

			page_line(p, x + f * .08f, y, x + n->w - f * .08f, y, fmaxf(1, f * .055f),
					  e->style.ink);
			page_emit_seen(p, "\\frac", x + f * .2f, y);
			page_emit(p, '{');
			equation_draw(e, n->items[0], x + (n->w - a->w) / 2, y - a->down - f * .12f);
			page_emit_ascii(p, "}{");
			equation_draw(e, n->items[1], x + (n->w - b->w) / 2, y + b->up + f * .12f);
			page_emit(p, '}');
			break;
		}
		case NODE_ROOT:
			draw_root(e, n, x, base);
			page_emit_seen(p, "\\sqrt", x + f * .3f, y);
			page_emit(p, '{');
			equation_draw(e, n->items[0], x + f * .6f, base);
			page_emit(p, '}');
			break;
		case NODE_SCRIPT:
			equation_draw(e, n->items[0], n->stacked ? x + (n->w - a->w) / 2 : x, base);
			draw_scripts(e, n, x, base);
			break;
	}
}
