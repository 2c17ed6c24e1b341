/*-------------------------------------------------------------------------
 *
 * molecules.c
 *		Structural formulae; the target is their SMILES as smiles.c writes it.
 *
 * molecules.py has said where atoms and bonds lie.  Here they are turned,
 * mirrored, scaled and drawn: carbon is a corner without letters.
 *
 *-------------------------------------------------------------------------
 */
#include "kinds.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "molecules.h"
#include "text.h"

/* A line that our own tool wrote; what does not fit is an error of that tool. */
static bool
parse(const char *line, Molecule *m)
{
	int used;

	if (sscanf(line, "%159[^\t]%n", m->smiles, &used) != 1 || line[used] != '\t')
		return false;
	line += used;
	for (; *line == (m->atoms ? ' ' : '\t') && m->atoms < MAX_ATOMS; line += used)
	{
		Atom *a = &m->atom[m->atoms];

		if (sscanf(line + 1, "%f,%f,%2[A-Za-z],%d,%d%n", &a->x, &a->y, a->element, &a->hydrogens,
				   &a->charge, &used) != 5)
			return false;
		used++;
		m->atoms++;
	}
	for (; *line == (m->bonds ? ' ' : '\t') && m->bonds < MAX_BONDS; line += used)
	{
		Bond *b = &m->bond[m->bonds];

		if (sscanf(line + 1, "%d,%d,%d,%d%n", &b->from, &b->to, &b->order, &b->side, &used) != 4 ||
			b->from < 0 || b->from >= m->atoms || b->to < 0 || b->to >= m->atoms)
			return false;
		used++;
		m->bonds++;
	}
	return *line == '\0' && m->atoms > 1;
}

static void
add_bond(Atom *a, const Atom *to)
{
	float d = hypotf(to->x - a->x, to->y - a->y);

	if (a->bonds < 4)
	{
		a->toward[0][a->bonds] = (to->x - a->x) / d;
		a->toward[1][a->bonds] = (to->y - a->y) / d;
	}
	a->bonds++;
}

/* Hydrogens stand where no bond goes: 0 right, 1 left, 2 below, 3 above. */
static int
free_side(const Atom *a)
{
	static const float way[4][2] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}};
	int best = 0;
	float least = 10;

	for (int k = 0; k < 4; k++)
	{
		float worst = k < 2 ? -1 : .3f; /* beside is better than above */

		for (int i = 0; i < a->bonds && i < 4; i++)
			worst = fmaxf(worst, way[k][0] * a->toward[0][i] + way[k][1] * a->toward[1][i]);
		if (worst < least - .01f)
			least = worst, best = k;
	}
	return best;
}

/* Turns, mirrors and scales the molecule into the page; returns false if it gets too small. */
static bool
place(Page *p, Molecule *m, float size)
{
	Rng *r = p->rng;
	float turn =
		rng_chance(r, .5f) ? (float) rng_int(r, 0, 11) * .5235988f : rng_between(r, 0, 6.2831853f);
	float mirror = rng_chance(r, .5f) ? -1 : 1;
	float lo[2] = {1e6f, 1e6f};
	float hi[2] = {-1e6f, -1e6f};
	float room[2] = {(float) p->w - 5 * size, (float) p->h - 3 * size};
	float at[2];

	for (int i = 0; i < m->atoms; i++)
	{
		Atom *a = &m->atom[i];
		float x = mirror * a->x / 100;
		float y = a->y / 100;

		a->x = x * cosf(turn) - y * sinf(turn);
		a->y = -(x * sinf(turn) + y * cosf(turn));
		lo[0] = fminf(lo[0], a->x);
		hi[0] = fmaxf(hi[0], a->x);
		lo[1] = fminf(lo[1], a->y);
		hi[1] = fmaxf(hi[1], a->y);
	}
	m->length = size * rng_between(r, 1.9f, 3.2f);
	for (int k = 0; k < 2; k++)
		m->length = fminf(m->length, room[k] / fmaxf(hi[k] - lo[k], .1f));
	if (m->length < size * 1.6f)
		return false;
	for (int k = 0; k < 2; k++)
		at[k] = (k ? 1.5f : 2.5f) * size + rng_unit(r) * (room[k] - (hi[k] - lo[k]) * m->length);
	for (int i = 0; i < m->atoms; i++)
	{
		m->atom[i].x = at[0] + (m->atom[i].x - lo[0]) * m->length;
		m->atom[i].y = at[1] + (m->atom[i].y - lo[1]) * m->length;
	}
	/* mirroring and the axis that points down each change sides */
	for (int i = 0; i < m->bonds; i++)
	{
		Bond *b = &m->bond[i];
		Atom *from = &m->atom[b->from];
		Atom *to = &m->atom[b->to];

		b->side *= mirror > 0 ? -1 : 1;
		add_bond(from, to);
		add_bond(to, from);
	}
	return true;
}

/* "H" with a small count, from x on the base line; returns where it ends. */
static float
draw_hydrogens(Page *p, const Style *s, float x, float base, int count, bool measure)
{
	Style small = *s;
	Word h = word_of("H");
	char digits[12];
	Word n;

	small.size = (int) fmaxf((float) s->size * .7f, 6);
	snprintf(digits, sizeof(digits), "%d", count);
	n = word_of(digits);
	if (measure)
		return x + page_word_width(p, s, FACE_REGULAR, &h) +
			   (count > 1 ? page_word_width(p, &small, FACE_REGULAR, &n) : 0);
	x = page_draw(p, s, FACE_REGULAR, x, base, &h);
	return count > 1 ? page_draw(p, &small, FACE_REGULAR, x, base + (float) s->size * .2f, &n) : x;
}

/* Letters of one atom: the element in the middle, hydrogens on the free side. */
static void
letter_atom(Page *p, const Style *s, Atom *a)
{
	Style small = *s;
	float size = (float) s->size;
	Word element = word_of(a->element);
	Word charge = word_of(a->charge > 0 ? "+" : "-");
	float width = page_word_width(p, s, FACE_REGULAR, &element);
	float base = a->y + size * .36f;
	float x = a->x - width / 2;
	int side = free_side(a);

	small.size = (int) fmaxf(size * .7f, 6);
	if (a->charge < 0 && fonts_has(p->fonts, s->family->face[FACE_REGULAR], 0x2212))
		charge.c[0] = 0x2212;
	a->letter = (Box){x, base - .78f * size, x + width, base + .18f * size};
	a->box = a->letter;
	page_draw(p, s, FACE_REGULAR, x, base, &element);
	x += width;
	if (a->hydrogens > 0)
	{
		float from = side == 0 ? x : a->letter.x0;
		float under = side < 2 ? base : side == 2 ? base + size * .9f : base - size * .9f;

		if (side == 1)
			from -= draw_hydrogens(p, s, 0, 0, a->hydrogens, true);
		a->box.x0 = fminf(a->box.x0, from);
		from = draw_hydrogens(p, s, from, under, a->hydrogens, false);
		a->box.x1 = fmaxf(a->box.x1, from);
		if (side == 0)
			x = from;
	}
	if (a->charge)
		x = page_draw(p, &small, FACE_REGULAR, x, base - size * .35f, &charge);
	a->box.x1 = fmaxf(x, a->box.x1);
}

static bool
within(const Atom *a, float x, float y, float margin)
{
	return a->named && x > a->box.x0 - margin && x < a->box.x1 + margin &&
		   y > a->box.y0 - margin * .5f && y < a->box.y1 + margin * .3f;
}

/* A line of a bond, off to the side, which ends in front of letters. */
static void
draw_line(Page *p, const Style *s, const Molecule *m, const Bond *b, float off, float cut)
{
	const Atom *from = &m->atom[b->from];
	const Atom *to = &m->atom[b->to];
	float dx = (to->x - from->x);
	float dy = (to->y - from->y);
	float nx = -dy * off;
	float ny = dx * off;
	float margin = (float) s->size * .12f;
	float t0 = cut;
	float t1 = 1 - cut;

	while (t0 < .45f && within(from, from->x + dx * t0 + nx, from->y + dy * t0 + ny, margin))
		t0 += .02f;
	while (t1 > .55f && within(to, from->x + dx * t1 + nx, from->y + dy * t1 + ny, margin))
		t1 -= .02f;
	page_line(p, from->x + dx * t0 + nx, from->y + dy * t0 + ny, from->x + dx * t1 + nx,
			  from->y + dy * t1 + ny, m->thick, s->ink);
}

static void
draw_bond(Page *p, const Style *s, const Molecule *m, const Bond *b)
{
	if (b->order == 2 && b->side == 0)
	{
		draw_line(p, s, m, b, .08f, 0);
		draw_line(p, s, m, b, -.08f, 0);
		return;
	}
	draw_line(p, s, m, b, 0, 0);
	if (b->order == 2)
		draw_line(p, s, m, b, .17f * (float) b->side, .12f);
	if (b->order == 3)
	{
		draw_line(p, s, m, b, .14f, 0);
		draw_line(p, s, m, b, -.14f, 0);
	}
}

/* One of those whose SMILES is no longer than what is asked for. */
static void
choose(Page *p, Molecule *m)
{
	for (int i = 0; i < 100000; i++)
	{
		memset(m, 0, sizeof(*m));
		if (!parse(text_molecule(p), m))
			break;
		if ((int) strlen(m->smiles) <= p->request->chars_hi)
			return;
	}
	fprintf(stderr, "render: molecules.txt is not of molecules.py, or has none of %d characters\n",
			p->request->chars_hi);
	exit(1);
}

Style
kind_molecule(Page *p, float scale)
{
	Style s = style_choose(p, scale);
	float size = (float) s.size;
	bool ends = rng_chance(p->rng, .15f); /* CH3 is spelt out */
	Molecule m;

	for (int i = 0;; i++)
	{
		choose(p, &m);
		if (place(p, &m, size))
			break;
		/* sooner or later there is one that is small enough */
		if (i % 20 == 19 && s.size > 6)
			size = (float) --s.size;
	}
	m.thick = fmaxf(1, size * rng_between(p->rng, .05f, .1f));
	for (int i = 0; i < m.atoms; i++)
	{
		Atom *a = &m.atom[i];

		a->named = strcmp(a->element, "C") != 0 || a->charge != 0 || a->bonds == 0 ||
				   (ends && a->bonds == 1 && a->hydrogens == 3) || m.atoms == 2;
		if (a->named)
			letter_atom(p, &s, a);
	}
	for (int i = 0; i < m.bonds; i++)
		draw_bond(p, &s, &m, &m.bond[i]);
	smiles_emit(p, &m);
	return s;
}
