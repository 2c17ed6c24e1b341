/*-------------------------------------------------------------------------
 *
 * page.c
 *		Drawing on a page and writing its target.
 *
 *-------------------------------------------------------------------------
 */
#include "page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
page_begin(Page *p, int w, int h)
{
	size_t bytes = (size_t) w * (size_t) h;

	p->w = w;
	p->h = h;
	p->px = realloc(p->px, bytes);
	if (!p->px)
		abort();
	memset(p->px, 255, bytes);
	p->n_units = 0;
}

/* ---- target ---- */

static Unit *
add_unit(Page *p, uint32_t code)
{
	Unit *u;

	if (p->n_units == p->cap_units)
	{
		p->cap_units = p->cap_units ? p->cap_units * 2 : 4096;
		p->units = realloc(p->units, sizeof(Unit) * (size_t) p->cap_units);
		if (!p->units)
			abort();
	}
	u = &p->units[p->n_units++];
	memset(u, 0, sizeof(*u));
	u->code = code;
	return u;
}

void
page_emit(Page *p, uint32_t code)
{
	add_unit(p, code);
}

void
page_emit_at(Page *p, uint32_t code, Box box)
{
	Unit *u = add_unit(p, code);

	u->box = box;
	u->placed = true;
}

void
page_emit_ascii(Page *p, const char *s)
{
	for (; *s; s++)
		add_unit(p, (unsigned char) *s);
}

void
page_emit_seen(Page *p, const char *s, float x, float y)
{
	for (; *s; s++)
		page_emit_at(p, (unsigned char) *s, (Box){x, y, x, y});
}

#define INSET 12 /* half of a letter */

Box
box_first(Box b)
{
	float x = b.x0 + fminf(INSET, (b.x1 - b.x0) / 2);
	float y = b.y0 + fminf(INSET, (b.y1 - b.y0) / 2);

	return (Box){x, y, x, y};
}

Box
box_last(Box b)
{
	float x = b.x1 - fminf(INSET, (b.x1 - b.x0) / 2);
	float y = b.y1 - fminf(INSET, (b.y1 - b.y0) / 2);

	return (Box){x, y, x, y};
}

int
page_block_begin(Page *p, const char *label)
{
	if (!p->request->grounded)
		return -1;
	page_emit(p, UNIT_REF);
	page_emit_ascii(p, label);
	page_emit(p, UNIT_REF_END);
	page_emit(p, UNIT_DET);
	page_emit(p, UNIT_BOX);
	page_emit(p, UNIT_DET_END);
	page_emit(p, '\n');
	return p->n_units - 3;
}

void
page_block_end(Page *p, int block, Box box)
{
	const Box corner = box_first(box);

	if (block < 0)
		return;
	for (int i = block - 1; i >= 0; i--)
	{
		p->units[i].box = corner;
		p->units[i].placed = true;
		if (p->units[i].code == UNIT_REF)
			break;
	}
	for (int i = block + 1; i <= block + 2; i++)
	{
		p->units[i].box = corner;
		p->units[i].placed = true;
	}
	p->units[block].box = box;
}

/* ---- pixels ---- */

void
page_fill(Page *p, int x0, int y0, int x1, int y1, uint8_t value)
{
	x0 = x0 < 0 ? 0 : x0;
	y0 = y0 < 0 ? 0 : y0;
	x1 = x1 > p->w ? p->w : x1;
	y1 = y1 > p->h ? p->h : y1;
	for (int y = y0; y < y1; y++)
		if (x1 > x0)
			memset(p->px + (size_t) y * (size_t) p->w + x0, value, (size_t) (x1 - x0));
}

static void
blend(uint8_t *at, int coverage, uint8_t value)
{
	*at = (uint8_t) (*at + (((int) value - (int) *at) * coverage + 127) / 255);
}

/* A line with soft edges: coverage falls over one pixel on either side. */
void
page_line(Page *p, float x0, float y0, float x1, float y1, float width, uint8_t value)
{
	float dx = x1 - x0;
	float dy = y1 - y0;
	float length = sqrtf(dx * dx + dy * dy);
	float r = width / 2 + 1;
	int top = (int) floorf(fminf(y0, y1) - r);
	int bottom = (int) ceilf(fmaxf(y0, y1) + r);
	int left = (int) floorf(fminf(x0, x1) - r);
	int right = (int) ceilf(fmaxf(x0, x1) + r);

	if (length < 0.01f)
		return;
	for (int y = top < 0 ? 0 : top; y <= bottom && y < p->h; y++)
		for (int x = left < 0 ? 0 : left; x <= right && x < p->w; x++)
		{
			float px = (float) x + 0.5f - x0;
			float py = (float) y + 0.5f - y0;
			float along = (px * dx + py * dy) / length;
			float across = fabsf(px * dy - py * dx) / length;
			float c = width / 2 + 0.5f - across;

			if (along < -0.5f || along > length + 0.5f || c <= 0)
				continue;
			blend(p->px + (size_t) y * (size_t) p->w + x, c >= 1 ? 255 : (int) (c * 255), value);
		}
}

static void
blit(Page *p, const Glyph *g, int x, int y, uint8_t ink)
{
	int x0 = x < 0 ? -x : 0;
	int x1 = x + g->w > p->w ? p->w - x : g->w;

	for (int row = 0; row < g->h; row++)
	{
		const uint8_t *from = g->bits + (size_t) row * (size_t) g->w;
		uint8_t *to;

		if (y + row < 0 || y + row >= p->h)
			continue;
		to = p->px + (ptrdiff_t) (y + row) * p->w + x;
		for (int i = x0; i < x1; i++)
		{
			int v = to[i];
			int t = (ink - v) * from[i];

			to[i] = (uint8_t) (v + (t + (t >> 8) + 128) / 256);
		}
	}
}

/* ---- text ---- */

float
page_advance(Page *p, const Style *s, FaceStyle face, uint32_t c)
{
	const Glyph *g = fonts_glyph(p->fonts, s->family->face[face], s->size, s->mode, 0, c);

	return g->advance + s->tracking;
}

float
page_word_width(Page *p, const Style *s, FaceStyle face, const Word *w)
{
	float width = 0;

	for (int i = 0; i < w->n; i++)
		width += page_advance(p, s, face, w->c[i]);
	return width;
}

bool
page_can_draw(Page *p, const Style *s, const Word *w)
{
	for (int i = 0; i < w->n; i++)
		for (int f = 0; f < FACE_STYLES; f++)
			if (!fonts_has(p->fonts, s->family->face[f], w->c[i]))
				return false;
	return w->n > 0;
}

static float
put_word(Page *p, const Style *s, FaceStyle face, float x, float base, const Word *w, bool emit)
{
	bool whole = s->mode >= RASTER_FULL;
	float y = floorf(base + 0.5f);

	for (int i = 0; i < w->n; i++)
	{
		float snapped = whole ? floorf(x + 0.5f) : floorf(x * FONTS_PHASES + 0.5f) / FONTS_PHASES;
		float pen = floorf(snapped);
		int phase = (int) ((snapped - pen) * FONTS_PHASES);
		const Glyph *g =
			fonts_glyph(p->fonts, s->family->face[face], s->size, s->mode, phase, w->c[i]);
		float advance = g->advance + s->tracking;

		if (g->w)
			blit(p, g, (int) pen + g->left, (int) y - g->top, s->ink);
		if (emit)
			page_emit_at(
				p, w->c[i],
				(Box){x, y - 0.78f * (float) s->size, x + advance, y + 0.18f * (float) s->size});
		x += advance;
	}
	return x;
}

float
page_word(Page *p, const Style *s, FaceStyle face, float x, float base, const Word *w)
{
	return put_word(p, s, face, x, base, w, true);
}

float
page_draw(Page *p, const Style *s, FaceStyle face, float x, float base, const Word *w)
{
	return put_word(p, s, face, x, base, w, false);
}

Word
word_of(const char *ascii)
{
	Word w = {0};

	for (; *ascii && w.n < WORD_MAX; ascii++)
		w.c[w.n++] = (unsigned char) *ascii;
	return w;
}

/* The look of a page; scale is what drawing does to letters of the view. */
Style
style_choose(Page *p, float scale)
{
	const Request *q = p->request;
	Rng *r = p->rng;
	Style s = {0};
	float mode = rng_unit(r);
	float u = rng_unit(r);
	float v = rng_unit(r);

	do
		s.family = fonts_family(p->fonts, rng_int(r, 0, fonts_count(p->fonts) - 1));
	while (s.family->held != q->held_fonts);
	s.mode = mode < 0.5f	? RASTER_PLAIN
			 : mode < 0.8f	? RASTER_LIGHT
			 : mode < 0.98f ? RASTER_FULL
							: RASTER_MONO;
	/* more of the small sizes: they are the harder ones */
	s.size = (int) ((q->size_lo + (q->size_hi + 1 - q->size_lo) * fminf(u, v)) * scale);
	if (s.size < 6)
		s.size = 6;
	s.lead = rng_between(r, q->lead_lo, q->lead_hi);
	s.gap = rng_between(r, 0.9f, 1.25f);
	s.tracking = rng_chance(r, 0.15f) ? rng_between(r, -0.01f, 0.08f) * (float) s.size : 0;
	s.ink = rng_chance(r, 0.2f) ? (uint8_t) rng_int(r, 1, 70) : 0;
	if (s.mode >= RASTER_FULL)
		s.tracking = floorf(s.tracking + 0.5f);
	return s;
}
