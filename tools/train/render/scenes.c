/*-------------------------------------------------------------------------
 *
 * scenes.c
 *		Pictures of simple shapes to describe, and what is to be found on a page.
 *
 * Shapes stand in a grid of three by three places.  The description follows
 * from what is drawn alone: how many, then each from top to bottom.  What is to
 * be located is a shape that no other is like, or words that stand on a page
 * once; the target begins with them, as the official model's answer does.
 *
 *-------------------------------------------------------------------------
 */
#include "kinds.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

#define PLACES 9
#define MAX_FOUND 4 /* words to be located */

typedef enum Shape
{
	SHAPE_CIRCLE,
	SHAPE_SQUARE,
	SHAPE_TRIANGLE,
	SHAPE_DIAMOND,
	SHAPE_CROSS,
	SHAPE_STAR,
	SHAPES
} Shape;

typedef enum Shade
{
	SHADE_SOLID,
	SHADE_GRAY,
	SHADE_OUTLINED,
	SHADES
} Shade;

typedef struct Item
{
	Shape shape;
	Shade shade;
	bool large;
	int place;
	Box box;
	Word label; /* none: n is 0 */
	Box label_box;
} Item;

static const char *const shape_names[SHAPES] = {"circle",  "square", "triangle",
												"diamond", "cross",	 "star"};
static const char *const shade_names[SHADES] = {"solid", "gray", "outlined"};
static const char *const place_names[PLACES] = {
	"at the upper left", "at the top",	  "at the upper right",
	"on the left",		 "in the middle", "on the right",
	"at the lower left", "at the bottom", "at the lower right"};
static const char *const numbers[] = {"no", "one", "two", "three", "four", "five", "six"};

/* x and y from -1 to 1 */
static bool
inside(Shape shape, float x, float y)
{
	switch (shape)
	{
		case SHAPE_CIRCLE:
			return x * x + y * y <= 1;
		case SHAPE_SQUARE:
			return fabsf(x) <= 1 && fabsf(y) <= 1;
		case SHAPE_TRIANGLE:
			return y <= 1 && fabsf(x) <= (y + 1) / 2;
		case SHAPE_DIAMOND:
			return fabsf(x) + fabsf(y) <= 1;
		case SHAPE_CROSS:
			return fabsf(x) <= 1 && fabsf(y) <= 1 && fminf(fabsf(x), fabsf(y)) <= .33f;
		default:
		{
			/* five points: a line from one point to the one after the next, mirrored */
			float turn = 1.2566371f;
			float a = fabsf(remainderf(atan2f(x, -y), turn));
			float radius = hypotf(x, y);

			return radius * cosf(turn - a) <= cosf(turn) && radius <= 1;
		}
	}
}

static void
draw_item(Page *p, const Style *s, Item *item, float edge)
{
	float size = (item->box.x1 - item->box.x0) / 2;
	float cx = (item->box.x0 + item->box.x1) / 2;
	float cy = (item->box.y0 + item->box.y1) / 2;
	uint8_t value = item->shade == SHADE_GRAY ? (uint8_t) rng_int(p->rng, 120, 170) : s->ink;
	float inner = size / (size - (item->shape == SHAPE_CROSS ? edge * .7f : edge) * 1.5f);

	for (int y = (int) (cy - size) - 1; y <= (int) (cy + size) + 1; y++)
		for (int x = (int) (cx - size) - 1; x <= (int) (cx + size) + 1; x++)
		{
			int hits = 0;
			int v;

			for (int k = 0; k < 9; k++)
			{
				float u = ((float) x + (float) (k % 3) / 3 + .17f - cx) / size;
				float w = ((float) y + (float) (k / 3) / 3 + .17f - cy) / size;
				bool hollow = item->shade == SHADE_OUTLINED;

				if (item->shape == SHAPE_TRIANGLE)
					hollow = hollow && inside(item->shape, u * inner * 1.25f,
											  (w - .3f) * inner * 1.25f + .3f);
				else if (item->shape == SHAPE_CROSS)
					hollow = hollow && fabsf(u) <= 1 / inner && fabsf(w) <= 1 / inner &&
							 fminf(fabsf(u), fabsf(w)) <= .33f - edge / size;
				else
					hollow = hollow && inside(item->shape, u * inner, w * inner);
				hits += inside(item->shape, u, w) && !hollow;
			}
			if (hits == 0 || x < 0 || y < 0 || x >= p->w || y >= p->h)
				continue;
			v = p->px[(size_t) y * (size_t) p->w + (size_t) x];
			page_fill(p, x, y, x + 1, y + 1, (uint8_t) (v + (value - v) * hits / 9));
		}
}

/* Chooses and draws; items are in reading order. */
static int
draw_scene(Page *p, const Style *s, Item *items)
{
	Rng *r = p->rng;
	int n = rng_int(r, 1, 5);
	bool used[PLACES] = {false};
	float cell_w = (float) p->w / 3;
	float cell_h = (float) p->h / 3;
	float edge = fmaxf(1.5f, (float) s->size * rng_between(r, .08f, .16f));
	bool labels = rng_chance(r, .4f);

	for (int i = 0; i < n;)
	{
		int k = rng_int(r, 0, PLACES - 1);

		i += !used[k];
		used[k] = true;
	}
	for (int k = 0, i = 0; k < PLACES; k++)
	{
		Item *item = &items[i];
		float half = fminf(cell_w, cell_h - (float) s->size * 2) / 2;
		float cx;
		float cy;

		if (!used[k])
			continue;
		memset(item, 0, sizeof(*item));
		item->shape = (Shape) rng_int(r, 0, SHAPES - 1);
		item->shade = (Shade) rng_int(r, 0, SHADES - 1);
		item->large = rng_chance(r, .5f);
		item->place = k;
		half *= item->large ? rng_between(r, .75f, .92f) : rng_between(r, .3f, .45f);
		cx = cell_w * ((float) (k % 3) + .5f) +
			 rng_between(r, -.5f, .5f) * (cell_w - 2 * half) * .6f;
		cy = cell_h * ((float) (k / 3) + .5f) - (float) s->size * .7f;
		item->box = (Box){cx - half, cy - half, cx + half, cy + half};
		draw_item(p, s, item, edge);
		if (labels)
		{
			float width;

			item->label = text_name(p, s);
			item->label.n = item->label.n > 8 ? 8 : item->label.n;
			width = page_word_width(p, s, FACE_REGULAR, &item->label);
			cy += half + (float) s->size;
			cx = fmaxf(1, fminf(cx - width / 2, (float) p->w - width - 1));
			page_draw(p, s, FACE_REGULAR, cx, cy, &item->label);
			item->label_box =
				(Box){cx, cy - .78f * (float) s->size, cx + width, cy + .18f * (float) s->size};
		}
		i++;
	}
	return n;
}

static void
emit_word(Page *p, const Word *w, Box b)
{
	float step = (b.x1 - b.x0) / (float) w->n;

	for (int i = 0; i < w->n; i++)
		page_emit_at(p, w->c[i],
					 (Box){b.x0 + step * (float) i, b.y0, b.x0 + step * (float) (i + 1), b.y1});
}

static void
describe(Page *p, const Item *items, int n)
{
	char s[96];

	snprintf(s, sizeof(s), "The image shows %s shape%s.", numbers[n], n == 1 ? "" : "s");
	page_emit_ascii(p, s);
	for (int i = 0; i < n; i++)
	{
		const Item *t = &items[i];

		page_emit_ascii(p, " A ");
		snprintf(s, sizeof(s), "%s %s %s is %s", t->large ? "large" : "small",
				 shade_names[t->shade], shape_names[t->shape], place_names[t->place]);
		page_emit_seen(p, s, (t->box.x0 + t->box.x1) / 2, (t->box.y0 + t->box.y1) / 2);
		if (t->label.n)
		{
			page_emit_ascii(p, ", labelled ");
			emit_word(p, &t->label, t->label_box);
		}
		page_emit(p, '.');
	}
}

Style
kind_scene(Page *p, float scale)
{
	Style s = style_choose(p, scale);
	Item items[PLACES];

	describe(p, items, draw_scene(p, &s, items));
	return s;
}

/* ---- locating ---- */

static void
emit_found(Page *p, const Unit *what, int n, Box box)
{
	page_emit(p, UNIT_REF);
	for (int i = 0; i < n; i++)
		page_emit(p, what[i].code);
	page_emit(p, UNIT_REF_END);
	page_emit(p, UNIT_DET);
	page_emit_at(p, UNIT_BOX, box);
	page_emit(p, UNIT_DET_END);
}

static bool
locate_shape(Page *p, const Item *items, int n)
{
	int k = rng_int(p->rng, 0, n - 1);
	Unit what[32] = {0};
	char s[32];
	int letters;

	for (int i = 0; i < n; i++)
		if (i != k && items[i].shape == items[k].shape && items[i].shade == items[k].shade)
			return false;
	letters =
		snprintf(s, sizeof(s), "%s %s", shade_names[items[k].shade], shape_names[items[k].shape]);
	for (int i = 0; i < letters; i++)
		what[i].code = (unsigned char) s[i];
	emit_found(p, what, letters, items[k].box);
	return true;
}

/* A blank, line end, tag or edge of the page's units. */
static bool
is_gap(const Page *p, int i)
{
	return i < 0 || i >= p->n_units || p->units[i].code <= ' ' || !p->units[i].placed;
}

static bool
stands_once(const Page *p, int from, int n)
{
	int found = 0;

	for (int i = 0; i + n <= p->n_units; i++)
	{
		int k = 0;

		while (k < n && p->units[i + k].code == p->units[from + k].code)
			k++;
		found += k == n;
	}
	return found == 1;
}

/* Some words of one line, which stand nowhere else; replaces the page's units. */
static bool
locate_words(Page *p)
{
	Unit what[80];
	Box box = {1e6f, 1e6f, -1e6f, -1e6f};
	int from = rng_int(p->rng, 0, p->n_units - 1);
	int words = rng_int(p->rng, 1, MAX_FOUND);
	int n = 0;

	while (from < p->n_units && !(is_gap(p, from - 1) && !is_gap(p, from)))
		from++;
	for (; words > 0 && from + n < p->n_units; words--)
	{
		int end = from + n + (n > 0);

		/* the next word of the same line */
		if (n > 0 && (p->units[from + n].code != ' ' || is_gap(p, end)))
			break;
		while (!is_gap(p, end))
			end++;
		n = end - from;
	}
	if (n < 3 || n > (int) (sizeof(what) / sizeof(what[0])) || !stands_once(p, from, n))
		return false;
	memcpy(what, p->units + from, sizeof(Unit) * (size_t) n);
	for (int i = 0; i < n; i++)
	{
		box.x0 = fminf(box.x0, what[i].box.x0);
		box.y0 = fminf(box.y0, what[i].box.y0);
		box.x1 = fmaxf(box.x1, what[i].box.x1);
		box.y1 = fmaxf(box.y1, what[i].box.y1);
	}
	p->n_units = 0;
	emit_found(p, what, n, box);
	return true;
}

Style
kind_locate(Page *p, float scale)
{
	if (rng_chance(p->rng, .6f))
	{
		Style s = kind_text(p, scale);

		for (int i = 0; i < 40 && p->n_units > 0; i++)
			if (locate_words(p))
				return s;
		page_begin(p, p->w, p->h);
	}
	for (;;)
	{
		Style s = style_choose(p, scale);
		Item items[PLACES];
		int n = draw_scene(p, &s, items);

		if (locate_shape(p, items, n))
			return s;
		page_begin(p, p->w, p->h);
	}
}
