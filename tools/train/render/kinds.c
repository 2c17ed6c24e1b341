/*-------------------------------------------------------------------------
 *
 * kinds.c
 *		Pages of text: columns, tables, equations; and the list of all kinds.
 *
 *-------------------------------------------------------------------------
 */
#include "kinds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "text.h"

static Column
whole_page(Page *p, const Style *s)
{
	Rng *r = p->rng;
	const Request *q = p->request;
	float w = (float) p->w;
	float h = (float) p->h;
	float margin = rng_between(r, .005f, .08f) * w;
	Column c = {.page = p, .style = *s, .first = true};

	c.x0 = margin + rng_unit(r) * .05f * w;
	if (rng_chance(r, .12f))
		c.x0 = rng_between(r, 0, .3f) * w;
	c.x1 = w - margin * rng_between(r, .2f, 1) - 2;
	c.y = rng_between(r, 1, fmaxf(2, h * (rng_chance(r, .25f) ? .3f : .07f)));
	if (q->low > 0 && rng_chance(r, q->low))
		c.y = rng_between(r, 0, .75f) * h;
	c.y1 = h - rng_between(r, 0, .04f) * h;
	c.left = rng_int(r, q->chars_lo, q->chars_hi);
	return c;
}

Style
kind_text(Page *p, float scale)
{
	Style s = style_choose(p, scale);
	Column c = whole_page(p, &s);

	column_fill(&c);
	return s;
}

/* Title over the full width, two columns, and what stands at the edges. */
static Style
kind_columns(Page *p, float scale)
{
	Rng *r = p->rng;
	Style s = style_choose(p, scale);
	Column all = whole_page(p, &s);
	Column edge = all;
	float gutter = fmaxf((float) s.size * 1.1f, rng_between(r, .03f, .06f) * (float) p->w);
	bool footer = rng_chance(r, .4f);
	Column part;

	edge.style.size = (int) fmaxf((float) s.size * rng_between(r, .8f, 1), 8);
	edge.x0 = all.x0 = rng_between(r, .01f, .06f) * (float) p->w;
	if (footer)
		all.y1 = fminf(all.y1, (float) p->h - (float) s.size * 2.2f);
	if (rng_chance(r, .3f))
	{
		edge.y = rng_between(r, 1, 6);
		edge.y1 = (float) p->h;
		block_line(&edge, "header", rng_int(r, 1, 4), rng_int(r, ALIGN_LEFT, ALIGN_RIGHT));
		all.y = fmaxf(all.y, edge.y + (float) s.size * .6f);
		all.first = edge.first;
	}
	if (rng_chance(r, .5f))
		block_heading(&all);
	part = all;
	part.x1 = (all.x0 + all.x1 - gutter) / 2;
	part.left = all.left / 2;
	column_fill(&part);
	part.x0 = (all.x0 + all.x1 + gutter) / 2;
	part.x1 = all.x1;
	part.y = all.y;
	part.left = all.left / 2;
	column_fill(&part);
	if (footer)
	{
		edge.first = part.first;
		edge.left = 100;
		edge.y = all.y1 + (float) s.size * .6f;
		edge.y1 = (float) p->h;
		block_line(&edge, "footer", rng_int(r, 1, 3), rng_int(r, ALIGN_LEFT, ALIGN_RIGHT));
	}
	return s;
}

static Style
kind_table(Page *p, float scale)
{
	Style s = style_choose(p, scale);
	Column c = whole_page(p, &s);

	c.x0 = fminf(c.x0, .08f * (float) p->w);
	if (rng_chance(p->rng, .3f))
		block_heading(&c);
	if (rng_chance(p->rng, .3f))
		block_line(&c, "text", rng_int(p->rng, 1, 6), ALIGN_LEFT);
	c.y += (float) s.size * .5f;
	for (int i = 0, n = rng_int(p->rng, 1, 2); i < n; i++)
		for (int k = 0; k < 4 && !block_table(&c); k++)
			continue;
	if (rng_chance(p->rng, .2f))
		block_paragraph(&c);
	return s;
}

static bool
ends_line(const Unit *u)
{
	return u->code == '\n' || u->code >= UNIT_TABLE;
}

/* units[0..n) of one line with their box; marks that do not stand on the page are left out. */
static void
emit_line(Page *p, const Unit *units, int n)
{
	Box box = {1e6f, 1e6f, -1e6f, -1e6f};
	Box corner;
	int begin;

	while (n > 0 && units[n - 1].code == ' ')
		n--;
	for (; n > 0 && !units->placed; n--)
		units++;
	if (n == 0)
		return;
	if (p->n_units)
		page_emit(p, '\n');
	begin = p->n_units;
	page_emit(p, UNIT_REF);
	for (int i = 0; i < n; i++)
	{
		if (!units[i].placed)
		{
			page_emit(p, units[i].code);
			continue;
		}
		page_emit_at(p, units[i].code, units[i].box);
		box.x0 = fminf(box.x0, units[i].box.x0);
		box.y0 = fminf(box.y0, units[i].box.y0);
		box.x1 = fmaxf(box.x1, units[i].box.x1);
		box.y1 = fmaxf(box.y1, units[i].box.y1);
	}
	corner = box_first(box);
	p->units[begin].box = corner;
	p->units[begin].placed = true;
	page_emit(p, UNIT_REF_END);
	page_emit_at(p, UNIT_DET, corner);
	page_emit_at(p, UNIT_BOX, box);
	page_emit_at(p, UNIT_DET_END, box_last(box));
}

/* Every line with its box: what stands on it is what the reference names. */
static Style
kind_lines(Page *p, float scale)
{
	Style s = kind_text(p, scale);
	int n = p->n_units;
	Unit *units = malloc(sizeof(Unit) * (size_t) n + 1);

	if (!units)
		abort();
	memcpy(units, p->units, sizeof(Unit) * (size_t) n);
	p->n_units = 0;
	for (int from = 0, to; from < n; from = to + 1)
	{
		for (to = from; to < n && !ends_line(&units[to]);)
			to++;
		emit_line(p, units + from, to - from);
	}
	free(units);
	return s;
}

/* Displayed equations between paragraphs. */
Style
kind_equations(Page *p, float scale)
{
	Style s = style_choose(p, scale);
	Column c = whole_page(p, &s);

	c.x0 = fminf(c.x0, .1f * (float) p->w);
	/* one at least, however narrow the page is */
	for (int i = 0; i < 100 && !block_equation(&c); i++)
		continue;
	for (int i = 0, failed = 0; i < 30 && failed < 4; i++)
		failed += !(rng_chance(p->rng, .6f) ? block_equation(&c) : block_paragraph(&c));
	return s;
}

KindFunction
kind_find(const char *name)
{
	static const struct
	{
		const char *name;
		KindFunction draw;
	} kinds[] = {{"text", kind_text},	{"columns", kind_columns},	   {"table", kind_table},
				 {"chart", kind_chart}, {"equations", kind_equations}, {"geometry", kind_geometry},
				 {"lines", kind_lines}, {"locate", kind_locate},	   {"molecule", kind_molecule},
				 {"scene", kind_scene}};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(name, kinds[i].name) == 0)
			return kinds[i].draw;
	return NULL;
}
