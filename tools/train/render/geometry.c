/*-------------------------------------------------------------------------
 *
 * geometry.c
 *		Drawings of plane geometry; the target is the dictionary of the paper.
 *
 * The shorter side of the page is 24 long, its middle is the origin and y grows
 * upwards; every point lies on whole numbers from -10 to 10, so that all values
 * can be read exactly as long as pages are not stretched (rescale=0).  Lines begin at their upper, then left end; lines, points and
 * circles are listed from top to bottom, then from left to right.
 *
 *-------------------------------------------------------------------------
 */
#include "kinds.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_POINTS 10
#define MAX_LINES 14

typedef struct Point
{
	int x, y;
	char name;
} Point;

typedef struct Segment
{
	Point from, to;
	bool dashed;
} Segment;

typedef struct Figure
{
	Page *page;
	Style style;
	float unit;
	Point point[MAX_POINTS];
	Segment segment[MAX_LINES];
	int points, segments;
	Point centre;
	int radius; /* 0: no circle */
} Figure;

static float
page_x(const Figure *f, float x)
{
	return (float) f->page->w / 2 + x * f->unit;
}

static float
page_y(const Figure *f, float y)
{
	return (float) f->page->h / 2 - y * f->unit;
}

static int
reading_order(Point a, Point b)
{
	return a.y != b.y ? b.y - a.y : a.x - b.x;
}

static int
by_place(const void *a, const void *b)
{
	return reading_order(*(const Point *) a, *(const Point *) b);
}

static int
by_ends(const void *a, const void *b)
{
	const Segment *s = a;
	const Segment *t = b;
	int k = reading_order(s->from, t->from);

	return k ? k : reading_order(s->to, t->to);
}

static void
join(Figure *f, Point a, Point b, bool dashed)
{
	bool turned = reading_order(a, b) > 0;

	if (f->segments < MAX_LINES && (a.x != b.x || a.y != b.y))
		f->segment[f->segments++] = (Segment){turned ? b : a, turned ? a : b, dashed};
}

static Point
add_point(Figure *f, int x, int y)
{
	for (int i = 0; i < f->points; i++)
		if (f->point[i].x == x && f->point[i].y == y)
			return f->point[i];
	f->point[f->points] = (Point){x, y, 0};
	return f->point[f->points++];
}

static int
turn_of(Point a, Point b, Point c)
{
	return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
}

static Point
even_point(Rng *r)
{
	return (Point){2 * rng_int(r, -5, 5), 2 * rng_int(r, -5, 5), 0};
}

static Point
middle(Figure *f, Point a, Point b)
{
	return add_point(f, (a.x + b.x) / 2, (a.y + b.y) / 2);
}

/* Even corners, so that middles are whole; returns the three of a triangle that is not flat. */
static void
corners(Rng *r, Point c[3])
{
	do
		for (int i = 0; i < 3; i++)
			c[i] = even_point(r);
	while (abs(turn_of(c[0], c[1], c[2])) < 48);
}

static void
triangle(Figure *f)
{
	Rng *r = f->page->rng;
	Point c[3];
	Point m;
	bool dashed = rng_chance(r, .4f);

	corners(r, c);
	for (int i = 0; i < 3; i++)
		add_point(f, c[i].x, c[i].y);
	for (int i = 0; i < 3; i++)
		join(f, c[i], c[(i + 1) % 3], false);
	/* a median, two of them, a middle line, or the foot of a height on a level side */
	for (int i = rng_int(r, -1, 1); i >= 0; i--)
	{
		m = middle(f, c[i], c[i + 1]);
		join(f, m, c[(i + 2) % 3], dashed);
	}
	if (rng_chance(r, .25f))
		join(f, middle(f, c[0], c[1]), middle(f, c[1], c[2]), rng_chance(r, .4f));
}

static void
quadrilateral(Figure *f)
{
	Rng *r = f->page->rng;
	Point c[4];
	bool parallel = rng_chance(r, .6f);
	bool dashed = rng_chance(r, .4f);

	do
	{
		for (int i = 0; i < 4; i++)
			c[i] = even_point(r);
		if (rng_chance(r, .4f)) /* a rectangle */
			c[1] = (Point){c[0].x, c[2].y, 0};
		if (parallel)
			c[3] = (Point){c[0].x + c[2].x - c[1].x, c[0].y + c[2].y - c[1].y, 0};
	} while (abs(c[3].x) > 10 || abs(c[3].y) > 10 || turn_of(c[0], c[1], c[2]) < 32 ||
			 turn_of(c[1], c[2], c[3]) < 32 || turn_of(c[2], c[3], c[0]) < 32 ||
			 turn_of(c[3], c[0], c[1]) < 32);
	for (int i = 0; i < 4; i++)
		add_point(f, c[i].x, c[i].y);
	for (int i = 0; i < 4; i++)
		join(f, c[i], c[(i + 1) % 4], false);
	if (rng_chance(r, .6f))
		join(f, c[0], c[2], dashed);
	if (rng_chance(r, .4f))
	{
		join(f, c[1], c[3], dashed);
		if (parallel && f->segments == 6)
			middle(f, c[0], c[2]);
	}
}

/* A circle with what begins or ends on it: 5 and 10 have twelve whole points each. */
static void
circle(Figure *f)
{
	static const int on[12][2] = {{5, 0},  {4, 3},	 {3, 4},   {0, 5},	{-3, 4}, {-4, 3},
								  {-5, 0}, {-4, -3}, {-3, -4}, {0, -5}, {3, -4}, {4, -3}};
	Rng *r = f->page->rng;
	int k = rng_chance(r, .5f) ? 2 : 1;
	int n = rng_int(r, 2, 4);
	int first = rng_int(r, 0, 11);
	bool dashed = rng_chance(r, .4f);
	Point p[4];

	f->radius = 5 * k;
	f->centre = k == 2 ? (Point){0} : (Point){rng_int(r, -5, 5), rng_int(r, -5, 5), 0};
	for (int i = 0; i < n; i++)
	{
		const int *v = on[(first + i * 12 / n + rng_int(r, 0, 12 / n - 2)) % 12];

		p[i] = add_point(f, f->centre.x + v[0] * k, f->centre.y + v[1] * k);
	}
	for (int i = 0; i < (n == 2 ? 1 : n); i++)
		join(f, p[i], p[(i + 1) % n], false);
	if (rng_chance(r, .6f))
	{
		add_point(f, f->centre.x, f->centre.y);
		for (int i = rng_int(r, 1, 2); i > 0; i--)
			join(f, f->centre, p[i - 1], dashed);
	}
}

static void
draw_dashed(Figure *f, float x0, float y0, float x1, float y1, float width)
{
	float length = hypotf(x1 - x0, y1 - y0);
	float dash = fmaxf(6, f->unit * .35f);

	for (float t = 0; t < length; t += dash * 1.7f)
	{
		float a = t / length;
		float b = fminf(t + dash, length) / length;

		page_line(f->page, x0 + (x1 - x0) * a, y0 + (y1 - y0) * a, x0 + (x1 - x0) * b,
				  y0 + (y1 - y0) * b, width, f->style.ink);
	}
}

static void
draw(Figure *f, float width)
{
	Page *p = f->page;

	for (int i = 0; i < f->segments; i++)
	{
		const Segment *s = &f->segment[i];
		float x0 = page_x(f, (float) s->from.x);
		float y0 = page_y(f, (float) s->from.y);
		float x1 = page_x(f, (float) s->to.x);
		float y1 = page_y(f, (float) s->to.y);

		if (s->dashed)
			draw_dashed(f, x0, y0, x1, y1, width);
		else
			page_line(p, x0, y0, x1, y1, width, f->style.ink);
	}
	for (int i = 0; i < 180 && f->radius; i++)
	{
		float a = (float) i * .0349066f;
		float b = a + .0349066f;
		float x = (float) f->centre.x;
		float y = (float) f->centre.y;
		float v = (float) f->radius;

		page_line(p, page_x(f, x + v * cosf(a)), page_y(f, y + v * sinf(a)),
				  page_x(f, x + v * cosf(b)), page_y(f, y + v * sinf(b)), width, f->style.ink);
	}
}

/* The letter of a point stands where its lines do not go. */
static Box
draw_name(Figure *f, Point at)
{
	float size = (float) f->style.size;
	float best = -10;
	float angle = 0;
	float x = page_x(f, (float) at.x);
	float y = page_y(f, (float) at.y);
	char name[2] = {at.name, 0};
	Word w = word_of(name);
	float width = page_word_width(f->page, &f->style, FACE_ITALIC, &w);

	for (int k = 0; k < 16; k++)
	{
		float a = (float) k * .3926991f;
		float least = 10;

		for (int i = 0; i < f->segments; i++)
		{
			const Segment *s = &f->segment[i];
			const Point *ends[2] = {&s->from, &s->to};

			for (int e = 0; e < 2; e++)
				if (abs(turn_of(s->from, s->to, at)) == 0 &&
					(ends[e]->x != at.x || ends[e]->y != at.y))
				{
					float d = atan2f((float) (ends[e]->y - at.y), (float) (ends[e]->x - at.x)) - a;

					least = fminf(least, fabsf(remainderf(d, 6.2831853f)));
				}
		}
		if (f->radius && (at.x != f->centre.x || at.y != f->centre.y))
			least += cosf(a - atan2f((float) (at.y - f->centre.y), (float) (at.x - f->centre.x)));
		if (least > best)
			best = least, angle = a;
	}
	x += cosf(angle) * size * .75f - width / 2;
	y -= sinf(angle) * size * .75f - size * .35f;
	page_draw(f->page, &f->style, FACE_ITALIC, x, y, &w);
	return (Box){x, y - .78f * size, x + width, y + .18f * size};
}

static void
emit_point(Figure *f, Point at)
{
	char s[24];

	snprintf(s, sizeof(s), "(%d, %d)", at.x, at.y);
	page_emit_seen(f->page, s, page_x(f, (float) at.x), page_y(f, (float) at.y));
}

static void
emit(Figure *f, const Box *names)
{
	Page *p = f->page;
	char s[16];

	page_emit_ascii(p, "{'Line': {'line': [");
	for (int i = 0; i < f->segments; i++)
	{
		page_emit_ascii(p, i ? ", '" : "'");
		emit_point(f, f->segment[i].from);
		page_emit_ascii(p, " -- ");
		emit_point(f, f->segment[i].to);
		page_emit(p, '\'');
	}
	page_emit_ascii(p, "], 'line_type': [");
	for (int i = 0; i < f->segments; i++)
	{
		const Segment *t = &f->segment[i];

		page_emit_ascii(p, i ? ", '" : "'");
		page_emit_seen(p, t->dashed ? "--" : "-", page_x(f, (float) (t->from.x + t->to.x) / 2),
					   page_y(f, (float) (t->from.y + t->to.y) / 2));
		page_emit(p, '\'');
	}
	page_emit_ascii(p, "], 'line_endpoint': [");
	for (int i = 0; i < f->points; i++)
	{
		page_emit_ascii(p, i ? ", '" : "'");
		page_emit_at(p, (unsigned char) f->point[i].name, names[i]);
		page_emit_ascii(p, ": ");
		emit_point(f, f->point[i]);
		page_emit(p, '\'');
	}
	page_emit_ascii(p, "]}");
	if (f->radius)
	{
		page_emit_ascii(p, ", 'Circle': {'circle_center': ['");
		emit_point(f, f->centre);
		page_emit_ascii(p, "'], 'radius': [");
		snprintf(s, sizeof(s), "%d", f->radius);
		page_emit_seen(p, s, page_x(f, (float) (f->centre.x + f->radius)),
					   page_y(f, (float) f->centre.y));
		page_emit_ascii(p, "]}");
	}
	page_emit(p, '}');
}

Style
kind_geometry(Page *p, float scale)
{
	Rng *r = p->rng;
	Figure f = {.page = p, .style = style_choose(p, scale)};
	int kind = rng_int(r, 0, 2);
	int letter = rng_chance(r, .7f) ? 0 : rng_int(r, 0, 15);
	Box names[MAX_POINTS];

	f.unit = fminf((float) p->w, (float) p->h) / 24;
	kind == 0 ? triangle(&f) : kind == 1 ? quadrilateral(&f) : circle(&f);
	qsort(f.point, (size_t) f.points, sizeof(Point), by_place);
	qsort(f.segment, (size_t) f.segments, sizeof(Segment), by_ends);
	for (int i = 0; i < f.points; i++)
		f.point[i].name = (char) ('A' + letter + i);
	/* not always in order */
	for (int i = f.points - 1; i > 0 && letter; i--)
	{
		int k = rng_int(r, 0, i);
		char name = f.point[i].name;

		f.point[i].name = f.point[k].name;
		f.point[k].name = name;
	}
	draw(&f, fmaxf(1, (float) f.style.size * rng_between(r, .05f, .11f)));
	for (int i = 0; i < f.points; i++)
		names[i] = draw_name(&f, f.point[i]);
	emit(&f, names);
	return f.style;
}
