/*-------------------------------------------------------------------------
 *
 * smiles.c
 *		The SMILES of a drawn molecule, in the order of the drawing.
 *
 * A molecule has many SMILES.  The canonical one depends on a ranking of all
 * atoms that nobody sees on the page, so that a reader would have to compute
 * it; this one says what is drawn while the eye walks along the bonds: from
 * the topmost end, at each atom what is in no ring first, then from the left
 * hand to the right, double bonds where they are drawn (no lower case for
 * aromatic atoms).  Chemistry programs turn one into the other.
 *
 *-------------------------------------------------------------------------
 */
#include "molecules.h"

#include <math.h>
#include <string.h>

#define MAX_OPEN 10 /* rings have one digit */

typedef struct Walk
{
	Page *page;
	const Molecule *m;
	bool ring[MAX_BONDS]; /* the bond is part of a ring */
	bool tree[MAX_BONDS]; /* the walk goes along it */
	int turn[MAX_ATOMS];  /* when the walk reached the atom; 0: not yet */
	int steps;
	int digit[MAX_BONDS]; /* of a bond that closes a ring, from its first atom to its second */
	bool used[MAX_OPEN];
} Walk;

static int
other_end(const Bond *b, int atom)
{
	return b->from == atom ? b->to : b->to == atom ? b->from : -1;
}

/* Whether the ends of a bond are joined without it, too. */
static bool
in_ring(const Molecule *m, int bond)
{
	bool reached[MAX_ATOMS] = {false};
	bool more = true;

	reached[m->bond[bond].from] = true;
	while (more)
	{
		more = false;
		for (int i = 0; i < m->bonds; i++)
		{
			const Bond *b = &m->bond[i];

			if (i != bond && reached[b->from] != reached[b->to])
				reached[b->from] = reached[b->to] = more = true;
		}
	}
	return reached[m->bond[bond].to];
}

/* The topmost of the ends of chains; of all atoms where there is no end. */
static int
first_atom(const Molecule *m)
{
	int best = 0;

	for (int i = 1; i < m->atoms; i++)
	{
		const Atom *a = &m->atom[i];
		const Atom *b = &m->atom[best];

		if ((a->bonds == 1) != (b->bonds == 1) ? a->bonds == 1 : a->y < b->y)
			best = i;
	}
	return best;
}

/* How far to the right one turns at an atom, from -pi to pi, who comes along one bond (-1: from above) and leaves by another. */
static float
turn_to_right(const Molecule *m, int atom, int from, int to)
{
	const Atom *a = &m->atom[atom];
	const Atom *next = &m->atom[other_end(&m->bond[to], atom)];
	const Atom *last = from < 0 ? NULL : &m->atom[other_end(&m->bond[from], atom)];
	float x = last ? a->x - last->x : 0;
	float y = last ? a->y - last->y : 1;
	float dx = next->x - a->x;
	float dy = next->y - a->y;

	return atan2f(x * dy - y * dx, x * dx + y * dy);
}

/* The bonds of an atom but the one that was come along, in the order of the walk; returns how many. */
static int
ways_on(const Walk *w, int atom, int from, int ways[MAX_BONDS])
{
	int n = 0;

	for (int i = 0; i < w->m->bonds; i++)
	{
		int k = n;

		if (i == from || other_end(&w->m->bond[i], atom) < 0)
			continue;
		for (; k > 0; k--)
		{
			int before = ways[k - 1];

			if (w->ring[before] != w->ring[i]
					? w->ring[i]
					: turn_to_right(w->m, atom, from, before) <= turn_to_right(w->m, atom, from, i))
				break;
			ways[k] = before;
		}
		ways[k] = i;
		n++;
	}
	return n;
}

/* Which bonds the walk goes along, and when it is where. */
static void
explore(Walk *w, int atom, int from)
{
	int ways[MAX_BONDS];
	int n = ways_on(w, atom, from, ways);

	w->turn[atom] = ++w->steps;
	for (int i = 0; i < n; i++)
	{
		int next = other_end(&w->m->bond[ways[i]], atom);

		if (w->turn[next] == 0)
		{
			w->tree[ways[i]] = true;
			explore(w, next, ways[i]);
		}
	}
}

static void
emit_at_atom(Walk *w, char c, int atom)
{
	const Atom *a = &w->m->atom[atom];

	page_emit_at(w->page, (unsigned char) c, (Box){a->x, a->y, a->x, a->y});
}

static void
emit_bond(Walk *w, int bond)
{
	const Bond *b = &w->m->bond[bond];
	const Atom *a = &w->m->atom[b->from];
	const Atom *c = &w->m->atom[b->to];

	if (b->order > 1)
		page_emit_seen(w->page, b->order == 2 ? "=" : "#", (a->x + c->x) / 2, (a->y + c->y) / 2);
}

static void
emit_atom(Walk *w, int atom)
{
	const Atom *a = &w->m->atom[atom];
	Page *p = w->page;

	if (a->charge)
		page_emit(p, '[');
	for (const char *c = a->element; *c; c++)
		page_emit_at(p, (unsigned char) *c, a->named ? a->letter : (Box){a->x, a->y, a->x, a->y});
	if (a->charge == 0)
		return;
	if (a->hydrogens > 0)
		page_emit(p, 'H');
	if (a->hydrogens > 1)
		page_emit(p, (uint32_t) ('0' + a->hydrogens));
	page_emit(p, a->charge > 0 ? '+' : '-');
	if (a->charge > 1 || a->charge < -1)
		page_emit(p, (uint32_t) ('0' + (a->charge > 0 ? a->charge : -a->charge)));
	page_emit(p, ']');
}

/* Digits of the rings that begin or end at an atom; those that end are free again behind it. */
static void
emit_rings(Walk *w, int atom, const int *ways, int n)
{
	bool ended[MAX_OPEN] = {false};

	for (int i = 0; i < n; i++)
	{
		int next = other_end(&w->m->bond[ways[i]], atom);
		int digit = w->digit[ways[i]];

		if (w->tree[ways[i]] || w->turn[next] > w->turn[atom])
			continue;
		emit_bond(w, ways[i]);
		emit_at_atom(w, (char) ('0' + digit), next);
		ended[digit] = true;
	}
	for (int i = 0; i < n; i++)
	{
		int next = other_end(&w->m->bond[ways[i]], atom);
		int digit = 1;

		if (w->tree[ways[i]] || w->turn[next] < w->turn[atom])
			continue;
		while (digit < MAX_OPEN - 1 && w->used[digit])
			digit++;
		w->used[digit] = true;
		w->digit[ways[i]] = digit;
		emit_at_atom(w, (char) ('0' + digit), atom);
	}
	for (int i = 0; i < MAX_OPEN; i++)
		w->used[i] &= !ended[i];
}

static void
emit_from(Walk *w, int atom, int from)
{
	int ways[MAX_BONDS];
	int n = ways_on(w, atom, from, ways);
	int left = 0;

	emit_atom(w, atom);
	emit_rings(w, atom, ways, n);
	for (int i = 0; i < n; i++)
		left += w->tree[ways[i]];
	for (int i = 0; i < n; i++)
	{
		bool branch = left > 1;

		if (!w->tree[ways[i]])
			continue;
		if (branch)
			emit_at_atom(w, '(', atom);
		emit_bond(w, ways[i]);
		emit_from(w, other_end(&w->m->bond[ways[i]], atom), ways[i]);
		if (branch)
			emit_at_atom(w, ')', atom);
		left--;
	}
}

void
smiles_emit(Page *p, const Molecule *m)
{
	Walk w = {.page = p, .m = m};
	int first = first_atom(m);

	for (int i = 0; i < m->bonds; i++)
		w.ring[i] = in_ring(m, i);
	explore(&w, first, -1);
	emit_from(&w, first, -1);
}
