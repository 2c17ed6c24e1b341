/*-------------------------------------------------------------------------
 *
 * geometry.c
 *		Drawings of plane geometry, as the model writes them down.
 *
 * A reader of Python literals: dictionaries, lists, tuples, strings, numbers
 * and names.  It builds no tree: it knows by its two keys which list it is in,
 * and walks over everything else.
 *
 *-------------------------------------------------------------------------
 */
#include "geometry.h"

#include <math.h>
#include <string.h>

#define MAX_DEPTH 16
#define MAX_TEXT ((size_t) 1 << 20)

typedef struct Span
{
	const char *at;
	const char *end;
} Span;

/* The lists that are kept, and where their entries go. */
typedef enum List
{
	LIST_OTHER,
	LIST_LINES,
	LIST_TYPES,
	LIST_POINTS,
	LIST_CENTRES,
	LIST_RADII
} List;

/* An array that grows. */
typedef struct Array
{
	void *items;
	int n;
	int cap;
	size_t size;
} Array;

typedef struct Reader
{
	Span s;
	DsocrError *err;
	bool short_of_memory;
	Array lines;   /* DsocrGeometryLine; a first number of NAN marks those left out */
	Array types;   /* bool */
	Array points;  /* DsocrGeometryPoint */
	Array circles; /* DsocrGeometryCircle */
	Array radii;   /* double */
} Reader;

static void *
push(Reader *r, Array *a)
{
	if (a->n == a->cap)
	{
		int cap = a->cap > 0 ? 2 * a->cap : 16;
		void *items = dsocr_alloc((size_t) cap, a->size, r->err);

		if (items == NULL)
		{
			r->short_of_memory = true;
			return NULL;
		}
		if (a->n > 0)
			memcpy(items, a->items, (size_t) a->n * a->size);
		dsocr_free(a->items);
		a->items = items;
		a->cap = cap;
	}
	return (char *) a->items + (size_t) a->n++ * a->size;
}

/* ---- characters ---- */

static void
skip_blanks(Span *s)
{
	while (s->at < s->end && (*s->at == ' ' || (*s->at >= '\t' && *s->at <= '\r')))
		s->at++;
}

static bool
accept(Span *s, char c)
{
	skip_blanks(s);
	if (s->at == s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

static bool
next_is_digit(const Span *s)
{
	return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

/* Digits after one another: value without overflow, and how many. */
static int
read_digits(Span *s, double *value)
{
	int n = 0;

	for (; next_is_digit(s); n++)
		*value = *value * 10 + (*s->at++ - '0');
	return n;
}

/* [+-] digits [. digits] [e [+-] digits], finite. */
static bool
read_number(Span *s, double *value)
{
	double exponent = 0;
	double v = 0;
	double sign;
	int digits;
	int behind = 0;

	skip_blanks(s);
	sign = accept(s, '-') ? -1 : 1;
	if (sign > 0)
		accept(s, '+');
	digits = read_digits(s, &v);
	if (s->at < s->end && *s->at == '.')
	{
		s->at++;
		behind = read_digits(s, &v);
	}
	if (digits + behind == 0)
		return false;
	if (s->at < s->end && (*s->at == 'e' || *s->at == 'E'))
	{
		double down = 1;

		s->at++;
		if (s->at < s->end && (*s->at == '-' || *s->at == '+'))
			down = *s->at++ == '-' ? -1 : 1;
		if (read_digits(s, &exponent) == 0)
			return false;
		exponent *= down;
	}
	exponent -= behind;
	v = exponent < 0 ? v / pow(10, -exponent) : v * pow(10, exponent);
	*value = sign * v;
	return isfinite(v);
}

/* (x, y) */
static bool
read_point(Span *s, double at[2])
{
	return accept(s, '(') && read_number(s, &at[0]) && accept(s, ',') && read_number(s, &at[1]) &&
		   (accept(s, ',') || true) && accept(s, ')');
}

static bool
at_end(Span *s)
{
	skip_blanks(s);
	return s->at == s->end;
}

/* ---- entries ---- */

/* "A: (x, y)", or a point without a name. */
static bool
read_labelled(Span s, char label[DSOCR_GEOMETRY_LABEL], double at[2])
{
	const char *colon = memchr(s.at, ':', (size_t) (s.end - s.at));
	size_t n = 0;

	skip_blanks(&s);
	if (colon != NULL && colon >= s.at)
	{
		const char *end = colon;

		while (end > s.at && (end[-1] == ' ' || end[-1] == '\t'))
			end--;
		n = (size_t) (end - s.at);
		if (n >= DSOCR_GEOMETRY_LABEL)
		{
			/* cut in front of a character */
			n = DSOCR_GEOMETRY_LABEL - 1;
			while (n > 0 && ((unsigned char) s.at[n] & 0xc0) == 0x80)
				n--;
		}
		memcpy(label, s.at, n);
		s.at = colon + 1;
	}
	label[n] = '\0';
	return read_point(&s, at) && at_end(&s);
}

/* "(x, y) -- (x, y)" */
static bool
read_line(Span s, DsocrGeometryLine *line)
{
	return read_point(&s, line->from) && accept(&s, '-') && accept(&s, '-') &&
		   read_point(&s, line->to) && at_end(&s);
}

static bool
take_entry(Reader *r, List list, Span s)
{
	DsocrGeometryLine line = {0};
	DsocrGeometryPoint point = {0};
	DsocrGeometryCircle circle = {0};
	double radius = NAN;
	void *room;

	/* those that are found by their place are kept even if they are wrong */
	switch (list)
	{
		case LIST_LINES:
			if (!read_line(s, &line))
				line.from[0] = NAN;
			if ((room = push(r, &r->lines)) != NULL)
				memcpy(room, &line, sizeof(line));
			break;
		case LIST_TYPES:
			if ((room = push(r, &r->types)) != NULL)
				*(bool *) room = s.end - s.at == 2 && memcmp(s.at, "--", 2) == 0;
			break;
		case LIST_POINTS:
			if (read_labelled(s, point.label, point.at) && (room = push(r, &r->points)) != NULL)
				memcpy(room, &point, sizeof(point));
			break;
		case LIST_CENTRES:
			if (!read_labelled(s, circle.label, circle.centre))
				circle.centre[0] = NAN;
			if ((room = push(r, &r->circles)) != NULL)
				memcpy(room, &circle, sizeof(circle));
			break;
		case LIST_RADII:
			if (!read_number(&s, &radius) || !at_end(&s) || radius < 0)
				radius = NAN;
			if ((room = push(r, &r->radii)) != NULL)
				*(double *) room = radius;
			break;
		default:
			break;
	}
	return !r->short_of_memory;
}

/* ---- literals ---- */

/* A string in either kind of quotes; what is between them, escapes as they are. */
static bool
read_string(Span *s, Span *inside)
{
	char quote;

	skip_blanks(s);
	if (s->at == s->end || (*s->at != '\'' && *s->at != '"'))
		return false;
	quote = *s->at++;
	inside->at = s->at;
	while (s->at < s->end && *s->at != quote)
		s->at += *s->at == '\\' && s->end - s->at > 1 ? 2 : 1;
	if (s->at >= s->end)
		return false;
	inside->end = s->at++;
	return true;
}

static List
list_named(Span outer, Span inner)
{
	static const struct
	{
		const char *outer;
		const char *inner;
		List list;
	} names[] = {
		{"Line", "line", LIST_LINES},			{"Line", "line_type", LIST_TYPES},
		{"Line", "line_endpoint", LIST_POINTS}, {"Circle", "circle_center", LIST_CENTRES},
		{"Circle", "radius", LIST_RADII},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		size_t a = strlen(names[i].outer);
		size_t b = strlen(names[i].inner);

		if ((size_t) (outer.end - outer.at) == a && memcmp(outer.at, names[i].outer, a) == 0 &&
			(size_t) (inner.end - inner.at) == b && memcmp(inner.at, names[i].inner, b) == 0)
			return names[i].list;
	}
	return LIST_OTHER;
}

/* What is neither string nor bracket: a number, True, False or None. */
static bool
read_word(Span *s, Span *word)
{
	skip_blanks(s);
	word->at = s->at;
	while (s->at < s->end &&
		   ((*s->at >= '0' && *s->at <= '9') || (*s->at >= 'a' && *s->at <= 'z') ||
			(*s->at >= 'A' && *s->at <= 'Z') || strchr("+-._", *s->at) != NULL) &&
		   *s->at != '\0')
		s->at++;
	word->end = s->at;
	return word->end > word->at;
}

static bool read_value(Reader *r, int depth, Span outer, List list);

/* Items up to a closing bracket, which a comma may precede. */
static bool
read_items(Reader *r, int depth, char close, List list)
{
	while (!accept(&r->s, close))
	{
		Span none = {r->s.at, r->s.at};
		Span entry;
		const char *start;

		skip_blanks(&r->s);
		start = r->s.at;
		if (read_string(&r->s, &entry) || (r->s.at = start, read_word(&r->s, &entry)))
		{
			if (!take_entry(r, list, entry))
				return false;
		}
		else if (!read_value(r, depth, none, LIST_OTHER))
			return false;
		if (!accept(&r->s, ','))
			return accept(&r->s, close);
	}
	return true;
}

/* outer: the key that a dictionary stands under. */
static bool
read_pairs(Reader *r, int depth, Span outer)
{
	while (!accept(&r->s, '}'))
	{
		Span key;

		if (!read_string(&r->s, &key) || !accept(&r->s, ':') ||
			!read_value(r, depth, key, list_named(outer, key)))
			return false;
		if (!accept(&r->s, ','))
			return accept(&r->s, '}');
	}
	return true;
}

static bool
read_value(Reader *r, int depth, Span outer, List list)
{
	Span word;
	const char *start;

	if (depth == 0)
		return false;
	if (accept(&r->s, '{'))
		return read_pairs(r, depth - 1, outer);
	if (accept(&r->s, '['))
		return read_items(r, depth - 1, ']', list);
	if (accept(&r->s, '('))
		return read_items(r, depth - 1, ')', list);
	start = r->s.at;
	if (read_string(&r->s, &word))
		return true;
	r->s.at = start;
	return read_word(&r->s, &word);
}

/* ---- the whole ---- */

/* Types to lines, radii to circles; then leave out what was wrong. */
static void
finish(Reader *r, DsocrGeometry *g)
{
	DsocrGeometryLine *lines = r->lines.items;
	DsocrGeometryCircle *circles = r->circles.items;

	for (int i = 0; i < r->lines.n; i++)
	{
		lines[i].dashed = i < r->types.n && ((bool *) r->types.items)[i];
		if (isfinite(lines[i].from[0]))
			lines[g->n_lines++] = lines[i];
	}
	for (int i = 0; i < r->circles.n; i++)
	{
		circles[i].radius = i < r->radii.n ? ((double *) r->radii.items)[i] : NAN;
		if (isfinite(circles[i].centre[0]) && isfinite(circles[i].radius))
			circles[g->n_circles++] = circles[i];
	}
	g->lines = lines;
	g->circles = circles;
	g->points = r->points.items;
	g->n_points = r->points.n;
	r->lines.items = r->circles.items = r->points.items = NULL;
}

bool
dsocr_geometry_parse(const char *text, size_t len, DsocrGeometry *g, DsocrError *err)
{
	Reader r = {.s = {text, text + len},
				.err = err,
				.lines = {.size = sizeof(DsocrGeometryLine)},
				.types = {.size = sizeof(bool)},
				.points = {.size = sizeof(DsocrGeometryPoint)},
				.circles = {.size = sizeof(DsocrGeometryCircle)},
				.radii = {.size = sizeof(double)}};
	Span none = {text, text};
	bool ok;

	memset(g, 0, sizeof(*g));
	ok = len <= MAX_TEXT && accept(&r.s, '{') && read_pairs(&r, MAX_DEPTH, none) && at_end(&r.s) &&
		 !r.short_of_memory && r.lines.n + r.points.n + r.circles.n > 0;
	if (ok)
		finish(&r, g);
	else if (!r.short_of_memory)
		dsocr_fail(err, DSOCR_E_ARGUMENT, "text is no drawing of lines and circles");
	dsocr_free(r.lines.items);
	dsocr_free(r.types.items);
	dsocr_free(r.points.items);
	dsocr_free(r.circles.items);
	dsocr_free(r.radii.items);
	return ok;
}

void
dsocr_geometry_free(DsocrGeometry *g)
{
	dsocr_free(g->lines);
	dsocr_free(g->points);
	dsocr_free(g->circles);
	memset(g, 0, sizeof(*g));
}
