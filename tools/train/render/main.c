/*-------------------------------------------------------------------------
 *
 * main.c
 *		render PACK: draws the pages that lines on standard input ask for.
 *
 * A line is a kind, then key=value pairs:
 *		text seed=17 n=4 w=640 h=640 size=18,32 chars=100,450 effects=0.3
 * Page i of a line is a function of the line and seed + i only.  Standard
 * output gets a frame for each page: FrameHeader, pixels of the view [h, w],
 * pixels of the overview [global, global], n_units codes (uint32), n_units
 * boxes (4 floats in pixels of the view, -1 where a unit has no place).
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "effects.h"
#include "kinds.h"
#include "text.h"

#define FRAME_MAGIC 0x47504f44u
#define MAX_SIDE 4096
#define PADDING 127 /* of the overview, as in the engine */

typedef struct FrameHeader
{
	uint32_t magic;
	uint32_t n_units;
	uint16_t w, h;
	uint16_t global;
	uint16_t family;
	float size;		  /* of the letters, in pixels of the view */
	uint8_t paper[3]; /* the colours of 255 and 0 */
	uint8_t ink[3];
	uint8_t unused[6];
	uint64_t seed;
} FrameHeader;

typedef struct Output
{
	uint8_t *view;
	uint8_t *global;
	Unit *units; /* with boxes spelt out */
	int n, cap;
} Output;

/* ---- requests ---- */

static void
take_option(Request *q, const char *key, const char *value, int *n)
{
	double a = strtod(value, NULL);
	const char *comma = strchr(value, ',');
	double b = comma ? strtod(comma + 1, NULL) : a;

	if (!strcmp(key, "seed"))
		q->seed = strtoull(value, NULL, 10);
	else if (!strcmp(key, "n"))
		*n = (int) a;
	else if (!strcmp(key, "w"))
		q->w = (int) a;
	else if (!strcmp(key, "h"))
		q->h = (int) a;
	else if (!strcmp(key, "global"))
		q->global = (int) a;
	else if (!strcmp(key, "size"))
		q->size_lo = (float) a, q->size_hi = (float) b;
	else if (!strcmp(key, "lead"))
		q->lead_lo = (float) a, q->lead_hi = (float) b;
	else if (!strcmp(key, "chars"))
		q->chars_lo = (int) a, q->chars_hi = (int) b;
	else if (!strcmp(key, "effects"))
		q->effects = (float) a;
	else if (!strcmp(key, "skew"))
		q->skew = (float) a;
	else if (!strcmp(key, "rescale"))
		q->rescale = (float) a;
	else if (!strcmp(key, "rich"))
		q->rich = (float) a;
	else if (!strcmp(key, "brief"))
		q->brief = (float) a;
	else if (!strcmp(key, "low"))
		q->low = (float) a;
	else if (!strcmp(key, "random"))
		q->random = (float) a;
	else if (!strcmp(key, "held_fonts"))
		q->held_fonts = a != 0;
	else if (!strcmp(key, "held_text"))
		q->held_text = a != 0;
	else if (!strcmp(key, "grounded"))
		q->grounded = a != 0;
	else if (!strcmp(key, "describe"))
		q->describe = a != 0;
	else
	{
		fprintf(stderr, "render: unknown option %s\n", key);
		exit(1);
	}
}

static int
take_request(Request *q, char *line)
{
	char *save = NULL;
	char *token = strtok_r(line, " \n", &save);
	int n = 1;

	*q = (Request){.w = 640,
				   .h = 640,
				   .size_lo = 18,
				   .size_hi = 32,
				   .lead_lo = 1.1f,
				   .lead_hi = 1.6f,
				   .chars_lo = 50,
				   .chars_hi = 400,
				   .brief = .3f,
				   .random = .5f};
	if (!token)
		return 0;
	snprintf(q->kind, sizeof(q->kind), "%s", token);
	while ((token = strtok_r(NULL, " \n", &save)))
	{
		char *value = strchr(token, '=');

		if (!value)
			continue;
		*value = 0;
		take_option(q, token, value + 1, &n);
	}
	if (q->w < 64 || q->h < 64 || q->w > MAX_SIDE || q->h > MAX_SIDE || q->global > MAX_SIDE ||
		q->global < 0 || !kind_find(q->kind))
	{
		fprintf(stderr, "render: bad request for %s\n", q->kind);
		exit(1);
	}
	return n;
}

/* ---- from the drawing to the view ---- */

static void
add(Output *o, uint32_t code, Box box, bool placed)
{
	if (o->n == o->cap)
	{
		o->cap = o->cap ? o->cap * 2 : 8192;
		o->units = realloc(o->units, sizeof(Unit) * (size_t) o->cap);
		if (!o->units)
			abort();
	}
	o->units[o->n++] = (Unit){code, box, placed};
}

static int
thousandth(float v, int side)
{
	int t = (int) (v / (float) side * 999 + 0.5f);

	return t < 0 ? 0 : t > 999 ? 999 : t;
}

/*
 * A box is written while the reader looks at its corners; that of a block, which
 * is read afterwards, while it looks at the first, where the encoder tells all four.
 */
static void
spell_box(Output *o, Box b, const Request *q)
{
	int v[4] = {thousandth(b.x0, q->w), thousandth(b.y0, q->h), thousandth(b.x1, q->w),
				thousandth(b.y1, q->h)};
	Box corner[2] = {box_first(b), q->grounded ? box_first(b) : box_last(b)};
	char s[16];

	for (int i = 0; i < 4; i++)
	{
		for (const char *c = i == 0 ? "[[" : ", "; *c; c++)
			add(o, (uint32_t) *c, corner[i / 2], true);
		snprintf(s, sizeof(s), "%d", v[i]);
		for (const char *c = s; *c; c++)
			add(o, (uint32_t) *c, corner[i / 2], true);
	}
	add(o, ']', corner[1], true);
	add(o, ']', corner[1], true);
}

static Box
move_box(const float m[6], Box b)
{
	Box t = {1e6f, 1e6f, -1e6f, -1e6f};

	for (int i = 0; i < 4; i++)
	{
		float x = i & 1 ? b.x1 : b.x0;
		float y = i & 2 ? b.y1 : b.y0;
		float u = m[0] * x + m[1] * y + m[2];
		float v = m[3] * x + m[4] * y + m[5];

		t.x0 = fminf(t.x0, u);
		t.x1 = fmaxf(t.x1, u);
		t.y0 = fminf(t.y0, v);
		t.y1 = fmaxf(t.y1, v);
	}
	return t;
}

static void
finish_units(Page *p, Output *o)
{
	const Request *q = p->request;
	float sx = (float) q->w / (float) p->w;
	float sy = (float) q->h / (float) p->h;
	float m[6];

	for (int i = 0; i < 6; i++)
		m[i] = p->to_view[i] * (i < 3 ? sx : sy);
	o->n = 0;
	for (int i = 0; i < p->n_units; i++)
	{
		const Unit *u = &p->units[i];

		if (u->code == UNIT_BOX)
			spell_box(o, move_box(m, u->box), q);
		else
			add(o, u->code, u->placed ? move_box(m, u->box) : (Box){-1, -1, -1, -1}, u->placed);
	}
}

static void
finish_pixels(Page *p, Output *o)
{
	const Request *q = p->request;
	int g = q->global;

	if (p->w == q->w && p->h == q->h)
		memcpy(o->view, p->px, (size_t) q->w * (size_t) q->h);
	else
		resize_bicubic(p->px, p->w, p->h, o->view, q->w, q->h, q->w);
	if (g > 0)
	{
		int w = p->w > p->h ? g : (int) lrintf((float) p->w / (float) p->h * (float) g);
		int h = p->w > p->h ? (int) lrintf((float) p->h / (float) p->w * (float) g) : g;

		memset(o->global, PADDING, (size_t) g * (size_t) g);
		resize_bicubic(p->px, p->w, p->h,
					   o->global + (size_t) ((g - h) / 2) * (size_t) g + (g - w) / 2, w, h, g);
	}
}

static void
choose_colours(Rng *r, FrameHeader *f)
{
	int tint = rng_chance(r, .5f) ? 0 : 40;
	bool swapped = rng_chance(r, .02f);

	for (int i = 0; i < 3; i++)
	{
		f->paper[i] = (uint8_t) (255 - (tint ? rng_int(r, 0, 12) : 0));
		f->ink[i] = 0;
	}
	if (tint)
	{
		int dark = rng_int(r, 0, tint);
		int light = rng_chance(r, .5f) ? rng_int(r, 0, 90) : 0;

		for (int i = 0; i < 3; i++)
		{
			f->paper[i] = (uint8_t) (f->paper[i] - dark - (i == 2 ? rng_int(r, 0, dark) : 0));
			f->ink[i] = (uint8_t) (light ? rng_int(r, 0, light) : 0);
		}
	}
	for (int i = 0; swapped && i < 3; i++)
	{
		uint8_t v = f->paper[i];

		f->paper[i] = f->ink[i];
		f->ink[i] = v;
	}
}

static void
draw_page(Page *p, Output *o, FrameHeader *f)
{
	const Request *q = p->request;
	float scale = 1;
	float aspect = 1;
	Style s;

	if (rng_chance(p->rng, q->rescale))
	{
		scale = expf(rng_between(p->rng, -.25f, .6f));
		aspect = expf(rng_between(p->rng, -.12f, .12f));
	}
	page_begin(p, (int) ((float) q->w * scale * aspect), (int) ((float) q->h * scale));
	memcpy(p->to_view, (float[6]){1, 0, 0, 0, 1, 0}, sizeof(p->to_view));
	s = kind_find(q->kind)(p, scale);
	effects_apply(p, &s);
	finish_units(p, o);
	finish_pixels(p, o);
	*f = (FrameHeader){.magic = FRAME_MAGIC,
					   .n_units = (uint32_t) o->n,
					   .w = (uint16_t) q->w,
					   .h = (uint16_t) q->h,
					   .global = (uint16_t) q->global,
					   .seed = q->seed,
					   .size = (float) s.size / scale};
	for (int i = 0; i < fonts_count(p->fonts); i++)
		if (fonts_family(p->fonts, i) == s.family)
			f->family = (uint16_t) i;
	choose_colours(p->rng, f);
}

static bool
write_frame(const FrameHeader *f, const Output *o)
{
	size_t n = f->n_units;
	uint32_t *codes = malloc(n * sizeof(uint32_t) + 1);
	Box *boxes = malloc(n * sizeof(Box) + 1);
	bool good;

	if (!codes || !boxes)
		abort();
	for (size_t i = 0; i < n; i++)
	{
		codes[i] = o->units[i].code;
		boxes[i] = o->units[i].placed ? o->units[i].box : (Box){-1, -1, -1, -1};
	}
	good = fwrite(f, sizeof(*f), 1, stdout) == 1 &&
		   fwrite(o->view, (size_t) f->w * f->h, 1, stdout) == 1 &&
		   (f->global == 0 || fwrite(o->global, (size_t) f->global * f->global, 1, stdout) == 1) &&
		   fwrite(codes, sizeof(uint32_t), n, stdout) == n &&
		   fwrite(boxes, sizeof(Box), n, stdout) == n;
	free(codes);
	free(boxes);
	return good;
}

int
main(int argc, char **argv)
{
	char line[1024];
	Rng rng;
	Request q;
	Page page = {.rng = &rng, .request = &q};
	Output out = {0};

	if (argc != 2)
	{
		fprintf(stderr, "usage: render PACK <requests >frames\n");
		return 2;
	}
	page.fonts = fonts_open(argv[1]);
	page.texts = texts_open(argv[1]);
	while (fgets(line, sizeof(line), stdin))
	{
		int n = take_request(&q, line);

		out.view = realloc(out.view, (size_t) q.w * (size_t) q.h + 1);
		out.global = realloc(out.global, (size_t) q.global * (size_t) q.global + 1);
		if (!out.view || !out.global)
			return 1;
		for (int i = 0; i < n; i++, q.seed++)
		{
			FrameHeader f;

			rng_seed(&rng, q.seed);
			draw_page(&page, &out, &f);
			if (!write_frame(&f, &out))
				return 1;
		}
		fflush(stdout);
	}
	return 0;
}
