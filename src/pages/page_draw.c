/*-------------------------------------------------------------------------
 *
 * page_draw.c
 *		Boxes and shapes drawn on a page, by cairo.
 *
 * Two passes over the list: shapes first, then the tags with their labels, so
 * that no shape crosses a tag.  The list is checked in the first pass.
 *
 *-------------------------------------------------------------------------
 */
#include "page_draw.h"

#include <string.h>

#include "surface.h"

#define MIN_FONT 9.0
#define MAX_FONT 48.0
#define FONT_SHARE 80.0 /* of the page's longer side is the height of a tag's text */
#define LINE_SHARE 700.0
#define FILL_ALPHA 0.10

typedef struct Colour
{
	double red;
	double green;
	double blue;
} Colour;

/* What models call the parts of a page; other labels take what is left by their bytes. */
static const struct
{
	const char *label;
	Colour colour;
} known_colours[] = {
	{"title", {0.78, 0.10, 0.12}},		   {"sub_title", {0.90, 0.40, 0.05}},
	{"text", {0.08, 0.36, 0.75}},		   {"table", {0.05, 0.50, 0.20}},
	{"table_caption", {0.30, 0.55, 0.05}}, {"image", {0.48, 0.15, 0.65}},
	{"figure", {0.48, 0.15, 0.65}},		   {"image_caption", {0.75, 0.15, 0.55}},
	{"equation", {0.00, 0.50, 0.55}},	   {"formula", {0.00, 0.50, 0.55}},
	{"list", {0.20, 0.25, 0.60}},		   {"header", {0.40, 0.40, 0.40}},
	{"footer", {0.40, 0.40, 0.40}},		   {"page_number", {0.40, 0.40, 0.40}},
	{"code", {0.45, 0.30, 0.15}},		   {"footnote", {0.35, 0.35, 0.20}},
};

static const Colour other_colours[] = {
	{0.70, 0.20, 0.30}, {0.10, 0.45, 0.60}, {0.55, 0.40, 0.00}, {0.25, 0.45, 0.25},
	{0.40, 0.20, 0.70}, {0.65, 0.25, 0.00}, {0.00, 0.40, 0.40}, {0.60, 0.05, 0.50},
};

typedef enum ShapeKind
{
	SHAPE_BOX,
	SHAPE_LINE,
	SHAPE_POLYLINE,
	SHAPE_CIRCLE,
	SHAPE_TEXT
} ShapeKind;

static const struct
{
	const char *name;
	ShapeKind kind;
	int numbers; /* before the label; those of a polyline are counted by its first */
} shape_kinds[] = {
	{"box", SHAPE_BOX, 4},		 {"line", SHAPE_LINE, 4}, {"polyline", SHAPE_POLYLINE, 0},
	{"circle", SHAPE_CIRCLE, 3}, {"text", SHAPE_TEXT, 2},
};

/* One line of the list; numbers are read from the text as they are needed. */
typedef struct Shape
{
	ShapeKind kind;
	int n; /* numbers */
	const char *numbers;
	char label[DSOCR_DRAW_MAX_LABEL + 1];
	size_t key;		  /* bytes of the label that choose the colour */
	const char *text; /* in the label: what is shown */
} Shape;

typedef struct Sheet
{
	cairo_t *cairo;
	int width;
	int height;
	double font;
	double line;
} Sheet;

/* ---- reading the list ---- */

/* A decimal number behind a blank; moves *at behind it. */
static bool
read_number(const char **at, double *number)
{
	const char *p = *at;
	double value = 0;
	double unit = 1;
	bool minus;
	int digits = 0;

	if (*p++ != ' ')
		return false;
	minus = *p == '-';
	p += minus;
	for (; *p >= '0' && *p <= '9'; p++, digits++)
		value = value * 10 + (*p - '0');
	if (digits == 0 || digits > 9)
		return false;
	if (*p == '.')
	{
		digits = 0;
		for (p++; *p >= '0' && *p <= '9'; p++, digits++)
			value += (unit /= 10) * (*p - '0');
		if (digits == 0 || digits > 9)
			return false;
	}
	if (value > DSOCR_DRAW_MAX_COORDINATE)
		return false;
	*number = minus ? -value : value;
	*at = p;
	return true;
}

/* Is there well-formed UTF-8 without control characters?  *len is cut to what is shown. */
static bool
check_label(const char *s, size_t *len)
{
	size_t shown = 0;

	for (size_t i = 0; i < *len;)
	{
		unsigned char c = (unsigned char) s[i];
		size_t n = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

		if (c < 0x20 || c == 0x7f || (c >= 0x80 && c < 0xc2) || c > 0xf4 || i + n > *len)
			return false;
		for (size_t k = 1; k < n; k++)
		{
			if (((unsigned char) s[i + k] & 0xc0) != 0x80)
				return false;
		}
		i += n;
		if (i <= DSOCR_DRAW_MAX_LABEL)
			shown = i;
	}
	*len = shown;
	return true;
}

/* What is left of a line: nothing, or a blank and the label. */
static bool
read_label(const char *at, const char *end, Shape *shape)
{
	size_t len;
	const char *bar;

	if (at < end && *at++ != ' ')
		return false;
	len = (size_t) (end - at);
	if (!check_label(at, &len))
		return false;
	memcpy(shape->label, at, len);
	shape->label[len] = '\0';
	bar = strchr(shape->label, '|');
	shape->key = bar == NULL ? len : (size_t) (bar - shape->label);
	shape->text = bar == NULL ? shape->label : bar + 1;
	return true;
}

static bool
read_shape(const char *line, const char *end, Shape *shape)
{
	size_t word = 0;
	double number;

	shape->n = -1;
	while (line + word < end && line[word] != ' ')
		word++;
	for (size_t i = 0; i < sizeof(shape_kinds) / sizeof(shape_kinds[0]); i++)
	{
		if (strlen(shape_kinds[i].name) == word && memcmp(line, shape_kinds[i].name, word) == 0)
		{
			shape->kind = shape_kinds[i].kind;
			shape->n = shape_kinds[i].numbers;
		}
	}
	if (shape->n < 0)
		return false;
	line += word;
	if (shape->kind == SHAPE_POLYLINE)
	{
		/* a fraction of a point is none */
		if (!read_number(&line, &number) || number < 2 || number > DSOCR_DRAW_MAX_POINTS ||
			number != (int) number)
			return false;
		shape->n = 2 * (int) number;
	}
	shape->numbers = line;
	for (int i = 0; i < shape->n; i++)
	{
		if (!read_number(&line, &number))
			return false;
	}
	return line <= end && read_label(line, end, shape);
}

/* ---- drawing ---- */

static Colour
choose_colour(const Shape *shape)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < sizeof(known_colours) / sizeof(known_colours[0]); i++)
	{
		if (strlen(known_colours[i].label) == shape->key &&
			memcmp(known_colours[i].label, shape->label, shape->key) == 0)
			return known_colours[i].colour;
	}
	for (size_t i = 0; i < shape->key; i++)
		hash = (hash ^ (unsigned char) shape->label[i]) * 16777619u;
	return other_colours[(hash >> 8) % (sizeof(other_colours) / sizeof(other_colours[0]))];
}

static void
set_colour(Sheet *s, Colour c, double alpha)
{
	cairo_set_source_rgba(s->cairo, c.red, c.green, c.blue, alpha);
}

static void
draw_shape(Sheet *s, const Shape *shape)
{
	const char *at = shape->numbers;
	Colour colour = choose_colour(shape);
	double v[4] = {0};

	if (shape->kind == SHAPE_TEXT)
		return;
	for (int i = 0; i < shape->n && i < 4; i++)
		(void) read_number(&at, &v[i]);
	cairo_new_path(s->cairo);
	switch (shape->kind)
	{
		case SHAPE_BOX:
			cairo_rectangle(s->cairo, v[0], v[1], v[2] - v[0], v[3] - v[1]);
			set_colour(s, colour, FILL_ALPHA);
			cairo_fill_preserve(s->cairo);
			break;
		case SHAPE_CIRCLE:
			cairo_arc(s->cairo, v[0], v[1], v[2] > 0 ? v[2] : 0, 0, 6.283185307179586);
			break;
		case SHAPE_LINE:
		case SHAPE_POLYLINE:
			cairo_move_to(s->cairo, v[0], v[1]);
			cairo_line_to(s->cairo, v[2], v[3]);
			for (int i = 4; i < shape->n; i += 2)
			{
				(void) read_number(&at, &v[0]);
				(void) read_number(&at, &v[1]);
				cairo_line_to(s->cairo, v[0], v[1]);
			}
			break;
		case SHAPE_TEXT:
			break;
	}
	set_colour(s, colour, 0.9);
	cairo_stroke(s->cairo);
}

/* The label in white on its colour, above the shape where there is room, within the page. */
static void
draw_tag(Sheet *s, const Shape *shape)
{
	const char *at = shape->numbers;
	double x = 0;
	double y = 0;
	double pad = s->font * 0.25;
	double height = s->font + pad;
	cairo_text_extents_t text;

	(void) read_number(&at, &x);
	(void) read_number(&at, &y);
	if (shape->text[0] == '\0')
		return;
	if (shape->kind == SHAPE_BOX)
	{
		double x2 = x;
		double y2 = y;

		(void) read_number(&at, &x2);
		(void) read_number(&at, &y2);
		x = x2 < x ? x2 : x;
		y = y2 < y ? y2 : y;
	}
	cairo_text_extents(s->cairo, shape->text, &text);
	if (shape->kind != SHAPE_TEXT)
		y -= height;
	if (x + text.x_advance + 2 * pad > s->width)
		x = s->width - text.x_advance - 2 * pad;
	if (y + height > s->height)
		y = s->height - height;
	x = x < 0 ? 0 : x;
	y = y < 0 ? 0 : y;
	cairo_rectangle(s->cairo, x, y, text.x_advance + 2 * pad, height);
	set_colour(s, choose_colour(shape), 0.85);
	cairo_fill(s->cairo);
	cairo_move_to(s->cairo, x + pad, y + s->font * 0.95);
	cairo_set_source_rgb(s->cairo, 1, 1, 1);
	cairo_show_text(s->cairo, shape->text);
	cairo_new_path(s->cairo);
}

/* Walk over the list; tags or shapes. */
static bool
draw_list(Sheet *s, const char *list, bool tags, DsocrError *err)
{
	int number = 0;

	for (const char *line = list; *line != '\0';)
	{
		const char *end = line + strcspn(line, "\n");
		Shape shape;

		number++;
		if (end > line)
		{
			if (number > DSOCR_DRAW_MAX_SHAPES)
				return dsocr_fail(err, DSOCR_E_ARGUMENT, "drawing of more than %d lines",
								  DSOCR_DRAW_MAX_SHAPES);
			if (!read_shape(line, end, &shape))
				return dsocr_fail(err, DSOCR_E_ARGUMENT, "drawing: line %d is not a shape", number);
			if (tags)
				draw_tag(s, &shape);
			else
				draw_shape(s, &shape);
		}
		line = *end == '\0' ? end : end + 1;
	}
	return true;
}

static double
clamp(double v, double least, double most)
{
	return v < least ? least : v > most ? most : v;
}

bool
dsocr_page_draw(const DsocrRaster *page, const char *list, DsocrRaster *out, DsocrError *err)
{
	cairo_surface_t *surface;
	double side = page->width > page->height ? page->width : page->height;
	Sheet s = {.width = page->width, .height = page->height};
	bool ok;

	memset(out, 0, sizeof(*out));
	if (side > DSOCR_SURFACE_MAX_SIDE)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "page of %d x %d pixels is too large to draw on",
						  page->width, page->height);
	surface = dsocr_surface_of(page, err);
	if (surface == NULL)
		return false;
	s.cairo = cairo_create(surface);
	s.font = clamp(side / FONT_SHARE, MIN_FONT, MAX_FONT);
	s.line = clamp(side / LINE_SHARE, 2.0, 8.0);
	cairo_set_line_width(s.cairo, s.line);
	cairo_set_line_join(s.cairo, CAIRO_LINE_JOIN_ROUND);
	cairo_select_font_face(s.cairo, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_BOLD);
	cairo_set_font_size(s.cairo, s.font);
	ok = draw_list(&s, list, false, err) && draw_list(&s, list, true, err);
	if (ok && cairo_status(s.cairo) == CAIRO_STATUS_NO_MEMORY)
		ok = dsocr_fail(err, DSOCR_E_MEMORY, "out of memory while drawing on a page");
	cairo_destroy(s.cairo);
	if (ok)
		return dsocr_surface_take(surface, out, err);
	cairo_surface_destroy(surface);
	return false;
}
