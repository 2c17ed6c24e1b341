/*-------------------------------------------------------------------------
 *
 * orient_pieces.c
 *		Pieces of ink on a page, and what neighbours say of up and down.
 *
 *-------------------------------------------------------------------------
 */
#include "orient_pieces.h"

#ifdef DSOCR_WITH_LEPTONICA

#include <stdlib.h>
#include <string.h>

/* More pieces of ink than a page of text has: noise, or a photograph. */
#define MAX_PIECES 60000

/* Sides of pieces that can be letters, pixels. */
#define MIN_PIECE 4
#define MAX_PIECE 160

static int
longer_side(const DsocrPiece *p)
{
	int w = p->x2 - p->x1;
	int h = p->y2 - p->y1;

	return w > h ? w : h;
}

static int
compare_pieces(const void *a, const void *b)
{
	const DsocrPiece *p = a;
	const DsocrPiece *q = b;

	return p->x1 != q->x1 ? (p->x1 > q->x1) - (p->x1 < q->x1) : (p->y1 > q->y1) - (p->y1 < q->y1);
}

/* The size of a letter: half of all ink that can be letters is in smaller ones. */
static int
letter_size(const DsocrPiece *p, int n)
{
	int64_t weight[MAX_PIECE + 1] = {0};
	int64_t sum = 0;
	int64_t half = 0;

	for (int i = 0; i < n; i++)
	{
		int s = longer_side(&p[i]);

		if (s >= MIN_PIECE && s <= MAX_PIECE)
		{
			weight[s] += s;
			sum += s;
		}
	}
	for (int s = MIN_PIECE; s <= MAX_PIECE; s++)
	{
		half += weight[s];
		if (2 * half >= sum && sum > 0)
			return s;
	}
	return 0;
}

bool
dsocr_pieces_find(PIX *pix, DsocrPieces *out)
{
	BOXA *boxes = pixConnCompBB(pix, 8);
	int n = boxes != NULL ? boxaGetCount(boxes) : 0;
	DsocrPiece *all;
	DsocrPiece *dot;

	memset(out, 0, sizeof(*out));
	if (n == 0 || n > MAX_PIECES)
	{
		boxaDestroy(&boxes);
		return true;
	}
	all = dsocr_alloc((size_t) n, sizeof(*all), NULL);
	out->p = dsocr_alloc((size_t) n, sizeof(*out->p), NULL);
	if (all == NULL || out->p == NULL)
	{
		dsocr_free(all);
		dsocr_free(out->p);
		boxaDestroy(&boxes);
		return false;
	}
	for (int i = 0; i < n; i++)
	{
		l_int32 x = 0;
		l_int32 y = 0;
		l_int32 w = 0;
		l_int32 h = 0;

		boxaGetBoxGeometry(boxes, i, &x, &y, &w, &h);
		all[i] = (DsocrPiece){x, x + w, y, y + h};
	}
	boxaDestroy(&boxes);
	out->size = letter_size(all, n);
	dot = out->p + n;
	for (int i = 0; i < n; i++)
	{
		int s = longer_side(&all[i]);

		if (5 * s >= 2 * out->size && s <= 2 * out->size)
			out->p[out->letters++] = all[i];
		else if (5 * s < 2 * out->size && 10 * s >= out->size && s > 1)
		{
			*--dot = all[i];
			out->dots++;
		}
	}
	memmove(out->p + out->letters, dot, (size_t) out->dots * sizeof(*dot));
	dsocr_free(all);
	return true;
}

void
dsocr_pieces_swap_axes(DsocrPieces *s)
{
	for (int i = 0; i < s->letters + s->dots; i++)
	{
		DsocrPiece p = s->p[i];

		s->p[i] = (DsocrPiece){p.y1, p.y2, p.x1, p.x2};
	}
	qsort(s->p, (size_t) s->letters, sizeof(*s->p), compare_pieces);
	qsort(s->p + s->letters, (size_t) s->dots, sizeof(*s->p), compare_pieces);
}

static void
vote_pair(const DsocrPiece *a, const DsocrPiece *b, DsocrVotes *v)
{
	int h = a->y2 - a->y1 > b->y2 - b->y1 ? a->y2 - a->y1 : b->y2 - b->y1;
	int top = abs(a->y1 - b->y1);
	int bottom = abs(a->y2 - b->y2);
	int same = h / 10 > 1 ? h / 10 : 1;
	int least = h * 18 / 100 > same + 1 ? h * 18 / 100 : same + 1;
	int most = h * 60 / 100;

	if (top <= same || bottom <= same)
		v->aligned++;
	if (bottom <= same && top >= least && top <= most)
		v->above++;
	if (top <= same && bottom >= least && bottom <= most)
		v->below++;
}

/* Each letter and the nearest one behind it in its line. */
static void
count_pairs(const DsocrPieces *s, DsocrVotes *v)
{
	const DsocrPiece *end = s->p + s->letters;

	for (const DsocrPiece *a = s->p; a < end; a++)
		for (const DsocrPiece *b = a + 1; b < end && b->x1 <= a->x2 + s->size * 3 / 4; b++)
		{
			int top = a->y1 > b->y1 ? a->y1 : b->y1;
			int bottom = a->y2 < b->y2 ? a->y2 : b->y2;
			int low = a->y2 - a->y1 < b->y2 - b->y1 ? a->y2 - a->y1 : b->y2 - b->y1;

			if (b->x1 < a->x2 - s->size / 4 || 2 * (bottom - top) < low)
				continue;
			vote_pair(a, b, v);
			break;
		}
}

/* A full stop stands beside a letter; what is above or below one is a part of it. */
static void
count_dots(const DsocrPieces *s, DsocrVotes *v)
{
	const DsocrPiece *end = s->p + s->letters;
	const DsocrPiece *first = s->p;

	for (const DsocrPiece *dot = end; dot < end + s->dots; dot++)
	{
		const DsocrPiece *beside = NULL;
		bool part = false;
		int middle = dot->y1 + dot->y2;

		while (first < end && first->x1 < dot->x1 - 3 * s->size)
			first++;
		for (const DsocrPiece *p = first; p < end && p->x1 <= dot->x2 + s->size / 2; p++)
		{
			if (dot->y2 < p->y1 - s->size * 2 / 3 || dot->y1 > p->y2 + s->size * 2 / 3)
				continue;
			if (p->x1 < dot->x2 && dot->x1 < p->x2)
				part = true;
			else if (dot->x1 - p->x2 <= s->size / 2 && middle > 2 * p->y1 - s->size / 2 &&
					 middle < 2 * p->y2 + s->size / 2)
				beside = p;
		}
		if (part || beside == NULL)
			continue;
		middle -= beside->y1 + beside->y2;
		if (10 * middle > 3 * (beside->y2 - beside->y1))
			v->low++;
		else if (10 * middle < -3 * (beside->y2 - beside->y1))
			v->high++;
	}
}

void
dsocr_pieces_vote(const DsocrPieces *s, DsocrVotes *v)
{
	memset(v, 0, sizeof(*v));
	count_pairs(s, v);
	count_dots(s, v);
}

#endif
