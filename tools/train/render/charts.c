/*-------------------------------------------------------------------------
 *
 * charts.c
 *		Bar, line and pie charts; the target is their data as a table.
 *
 * A value can be read exactly: it is printed beside its mark, or it lies on
 * a line of the grid or half way between two.
 *
 *-------------------------------------------------------------------------
 */
#include "kinds.h"

#include <math.h>
#include <stdio.h>

#include "text.h"

#define MAX_POINTS 8
#define MAX_SERIES 3

typedef struct Chart
{
	Page *page;
	Style style;
	int points, series;
	int step;	  /* between two lines of the grid */
	int lines;	  /* of the grid, above zero */
	bool printed; /* values stand beside the marks */
	int value[MAX_SERIES][MAX_POINTS];
	Word point[MAX_POINTS];
	Word name[MAX_SERIES];
	uint8_t ink[MAX_SERIES];
	Box where[MAX_SERIES][MAX_POINTS]; /* what a reader looks at */
	Box label[MAX_POINTS];
	Box legend[MAX_SERIES];
	float x0, y0, x1, y1; /* the area of the data */
} Chart;

static Word
number(int v)
{
	char s[16];

	snprintf(s, sizeof(s), "%d", v);
	return word_of(s);
}

static Word
short_name(Chart *c, int most)
{
	Word w = text_name(c->page, &c->style);

	w.n = w.n > most ? most : w.n;
	return w;
}

static Box
put(Chart *c, float x, float base, const Word *w, float align)
{
	float width = page_word_width(c->page, &c->style, FACE_REGULAR, w);
	float size = (float) c->style.size;

	x -= width * align;
	page_draw(c->page, &c->style, FACE_REGULAR, x, base, w);
	return (Box){x, base - .78f * size, x + width, base + .18f * size};
}

static void
choose_data(Chart *c, bool pie)
{
	static const int steps[] = {1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000};
	Rng *r = c->page->rng;

	float room = (c->x1 - c->x0) / (float) c->style.size; /* in letter heights */
	int most = (int) (room / 3.2f);
	int letters;

	most = most < 3 ? 3 : most > MAX_POINTS ? MAX_POINTS : most;
	c->points = rng_int(r, 3, pie ? 6 : most);
	letters = (int) (room / (float) c->points * 1.4f);
	letters = letters < 3 || pie ? 7 : letters > 9 ? 9 : letters;
	c->series = pie ? 1 : rng_int(r, 1, MAX_SERIES);
	c->step = steps[rng_int(r, 1, 10)];
	c->lines = rng_int(r, 3, 6);
	c->printed = pie || rng_chance(r, .6f);
	for (int s = 0; s < c->series; s++)
	{
		c->name[s] = short_name(c, 9);
		c->ink[s] = (uint8_t) (20 + 70 * s + rng_int(r, 0, 40));
		for (int i = 0; i < c->points; i++)
			c->value[s][i] = c->printed ? rng_int(r, 1, c->step * c->lines)
										: c->step * rng_int(r, 1, c->lines * 2) / 2;
	}
	for (int i = 0; i < c->points; i++)
	{
		c->point[i] = rng_chance(r, .3f) ? number(rng_int(r, 1990, 2030)) : short_name(c, letters);
		if (i && c->point[0].c[0] < 'A')
			c->point[i] = number(2000 + i * rng_int(r, 1, 3));
	}
}

static float
height_of(const Chart *c, int v)
{
	return c->y1 - (c->y1 - c->y0) * (float) v / (float) (c->step * c->lines);
}

static void
draw_axes(Chart *c)
{
	Page *p = c->page;
	float size = (float) c->style.size;
	uint8_t gray = (uint8_t) rng_int(p->rng, 150, 225);

	for (int i = 0; i <= c->lines; i++)
	{
		Word w = number(i * c->step);
		float y = height_of(c, i * c->step);

		page_line(p, c->x0, y, c->x1, y, 1, i ? gray : c->style.ink);
		put(c, c->x0 - size * .4f, y + size * .3f, &w, 1);
	}
	page_line(p, c->x0, c->y0, c->x0, c->y1, 1.2f, c->style.ink);
	for (int i = 0; i < c->points; i++)
		c->label[i] = put(c, c->x0 + (c->x1 - c->x0) * ((float) i + .5f) / (float) c->points,
						  c->y1 + size * 1.1f, &c->point[i], .5f);
}

static void
mark_value(Chart *c, int s, int i, float x, float y)
{
	float size = (float) c->style.size;

	c->where[s][i] = (Box){x, y, x, y};
	if (c->printed)
	{
		Word w = number(c->value[s][i]);

		c->where[s][i] = put(c, x, y - size * .25f, &w, .5f);
	}
}

static void
draw_bars(Chart *c)
{
	float slot = (c->x1 - c->x0) / (float) c->points;
	float width = slot * rng_between(c->page->rng, .55f, .85f) / (float) c->series;

	draw_axes(c);
	for (int s = 0; s < c->series; s++)
		for (int i = 0; i < c->points; i++)
		{
			float x = c->x0 + slot * ((float) i + .5f) +
					  width * ((float) s - (float) c->series / 2 + .5f);
			float y = height_of(c, c->value[s][i]);

			page_fill(c->page, (int) (x - width / 2), (int) y, (int) (x + width / 2), (int) c->y1,
					  c->ink[s]);
			mark_value(c, s, i, x, y);
		}
}

static void
draw_lines(Chart *c)
{
	float slot = (c->x1 - c->x0) / (float) c->points;

	draw_axes(c);
	for (int s = 0; s < c->series; s++)
		for (int i = 0; i < c->points; i++)
		{
			float x = c->x0 + slot * ((float) i + .5f);
			float y = height_of(c, c->value[s][i]);

			if (i)
				page_line(c->page, x - slot, height_of(c, c->value[s][i - 1]), x, y, 2, c->ink[s]);
			page_fill(c->page, (int) x - 3, (int) y - 3, (int) x + 4, (int) y + 4, c->ink[s]);
			mark_value(c, s, i, x, y);
		}
}

/* Sectors clockwise from the top; name and value stand outside. */
static void
draw_pie(Chart *c)
{
	Page *p = c->page;
	float cx = (c->x0 + c->x1) / 2;
	float cy = (c->y0 + c->y1) / 2;
	float radius = fminf(c->x1 - c->x0, c->y1 - c->y0) * .36f;
	float end[MAX_POINTS];
	float sum = 0;
	float from = 0;

	for (int i = 0; i < c->points; i++)
		sum += (float) c->value[0][i];
	for (int i = 0; i < c->points; i++)
		end[i] = (i ? end[i - 1] : 0) + (float) c->value[0][i] / sum;
	for (int y = (int) (cy - radius); y <= (int) (cy + radius); y++)
		for (int x = (int) (cx - radius); x <= (int) (cx + radius); x++)
		{
			float dx = (float) x - cx;
			float dy = (float) y - cy;
			float turn = atan2f(dx, -dy) / 6.2831853f;
			int i = 0;

			turn += turn < 0 ? 1 : 0;
			while (i < c->points - 1 && turn > end[i])
				i++;
			if (dx * dx + dy * dy < radius * radius)
				page_fill(p, x, y, x + 1, y + 1, (uint8_t) (40 + i * 190 / c->points));
		}
	for (int i = 0; i < c->points; i++)
	{
		float a = (from + end[i]) / 2 * 6.2831853f;
		float x = cx + sinf(a) * radius * 1.12f;
		float y = cy - cosf(a) * radius * 1.15f + (float) c->style.size * .3f;
		float align = sinf(a) < -.15f ? 1 : sinf(a) > .15f ? 0 : .5f;
		Word w = number(c->value[0][i]);

		c->label[i] = put(c, x, y - (float) c->style.size * .5f, &c->point[i], align);
		c->where[0][i] = put(c, x, y + (float) c->style.size * .5f, &w, align);
		from = end[i];
	}
}

static void
draw_legend(Chart *c, float y)
{
	float x = c->x0;
	float size = (float) c->style.size;

	for (int s = 0; s < c->series; s++)
	{
		page_fill(c->page, (int) x, (int) (y - size * .6f), (int) (x + size * .7f), (int) y,
				  c->ink[s]);
		c->legend[s] = put(c, x + size, y, &c->name[s], 0);
		x = c->legend[s].x1 + size;
	}
}

static void
emit_word(Page *p, const Word *w, Box box)
{
	for (int i = 0; i < w->n; i++)
	{
		float step = (box.x1 - box.x0) / (float) w->n;

		page_emit_at(
			p, w->c[i],
			(Box){box.x0 + step * (float) i, box.y0, box.x0 + step * (float) (i + 1), box.y1});
	}
}

static void
emit_cell(Page *p, const Word *w, Box box)
{
	page_emit_at(p, UNIT_TD, box);
	emit_word(p, w, box);
	page_emit(p, UNIT_TD_END);
}

/* One extreme value and where it stands: the first of those that are equal. */
static void
tell_extreme(Chart *c, const char *which, int sign)
{
	Page *p = c->page;
	int series = 0;
	int point = 0;
	Word value;

	for (int s = 0; s < c->series; s++)
		for (int i = 0; i < c->points; i++)
			if (c->value[s][i] * sign > c->value[series][point] * sign)
				series = s, point = i;
	page_emit_ascii(p, " The ");
	page_emit_ascii(p, which);
	page_emit_ascii(p, " value is ");
	value = number(c->value[series][point]);
	emit_word(p, &value, c->where[series][point]);
	page_emit_ascii(p, " at ");
	emit_word(p, &c->point[point], c->label[point]);
	if (c->series > 1)
	{
		page_emit_ascii(p, " of ");
		emit_word(p, &c->name[series], c->legend[series]);
	}
	page_emit(p, '.');
}

static void
describe(Chart *c, int kind)
{
	static const char *const kinds[] = {"bar", "line", "pie"};
	Page *p = c->page;
	char s[64];

	snprintf(s, sizeof(s), "The image shows a %s chart of %d values.", kinds[kind],
			 c->points * c->series);
	page_emit_ascii(p, s);
	for (int i = 0; i < c->series && c->series > 1; i++)
	{
		page_emit_ascii(p, i == 0 ? " Its series are " : i < c->series - 1 ? ", " : " and ");
		emit_word(p, &c->name[i], c->legend[i]);
	}
	if (c->series > 1)
		page_emit(p, '.');
	tell_extreme(c, "largest", 1);
	tell_extreme(c, "smallest", -1);
}

static void
emit_table(Chart *c)
{
	Page *p = c->page;

	page_emit(p, UNIT_TABLE);
	if (c->series > 1)
	{
		page_emit(p, UNIT_TR);
		page_emit(p, UNIT_TD);
		page_emit(p, UNIT_TD_END);
		for (int s = 0; s < c->series; s++)
			emit_cell(p, &c->name[s], c->legend[s]);
		page_emit(p, UNIT_TR_END);
	}
	for (int i = 0; i < c->points; i++)
	{
		page_emit(p, UNIT_TR);
		emit_cell(p, &c->point[i], c->label[i]);
		for (int s = 0; s < c->series; s++)
		{
			Word w = number(c->value[s][i]);

			emit_cell(p, &w, c->where[s][i]);
		}
		page_emit(p, UNIT_TR_END);
	}
	page_emit(p, UNIT_TABLE_END);
}

Style
kind_chart(Page *p, float scale)
{
	Rng *r = p->rng;
	Chart c = {.page = p, .style = style_choose(p, scale)};
	float size = (float) c.style.size;
	float y = size * 1.2f;
	int kind = rng_int(r, 0, 2);

	c.x0 = size * rng_between(r, 2.6f, 3.4f);
	c.x1 = (float) p->w - size * rng_between(r, .5f, 1.5f);
	choose_data(&c, kind == 2);
	if (rng_chance(r, .6f))
	{
		float x = c.x0;

		/* a title: seen, but not part of the data */
		for (int i = rng_int(r, 1, 3); i > 0 && x < c.x1 - size * 6; i--)
		{
			Word w = short_name(&c, 12);

			x = page_draw(p, &c.style, FACE_BOLD, x, y, &w) + size * .3f;
		}
		y += size * 1.4f;
	}
	if (c.series > 1)
	{
		draw_legend(&c, y);
		y += size;
	}
	c.y0 = y + size;
	c.y1 = (float) p->h - size * rng_between(r, 1.8f, 3);
	if (kind == 0)
		draw_bars(&c);
	else if (kind == 1)
		draw_lines(&c);
	else
		draw_pie(&c);
	if (p->request->describe)
		describe(&c, kind);
	else
		emit_table(&c);
	return c.style;
}
