/*-------------------------------------------------------------------------
 *
 * orient_detect.c
 *		Which way up a page is, by its lines of text and their letters.
 *
 * The page is shrunk to a few million pixels, so that its size costs little,
 * and made black and white.  Leptonica then says how sharply the rows of the
 * page fall into lines and gaps: along the text they do, across it they do
 * not, and the angle where they do best is the skew.  Letters that stick out
 * of the lines, more often above than below in Latin text, tell up from down.
 *
 *-------------------------------------------------------------------------
 */
#include "orient.h"
#include "orient_pieces.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "image_format.h"

#ifdef DSOCR_WITH_LEPTONICA

#include <leptonica/allheaders.h>

/* Longest side of the picture that is looked at. */
#define LOOK_SIDE 2400

/* Rows and columns of the page that a pixel of it is made of, at most. */
#define LOOK_SAMPLES 3

/* Smaller pages have no lines worth measuring. */
#define MIN_SIDE 64

/* Mean brightness below which letters are taken to be lighter than the page. */
#define DARK_PAGE 100

/* A pixel is ink when it is this much darker than its surroundings, percent. */
#define INK_PERCENT 85

/* Angles that are tried, degrees: beyond the largest skew, because the ends do not count. */
#define SWEEP_RANGE 9.0F
#define SWEEP_STEP 1.0F
#define SEARCH_STEP 0.01F

/* How much sharper than at the worst angle lines must be for a skew to count. */
#define MIN_SHARPNESS 3.0F

/* Pairs of letters in line that make a page of text, and how many times those of the other axis. */
#define MIN_ALIGNED 60
#define MIN_AXIS_RATIO 2

/*
 * Letters say which way is up when there are so many times more votes, and so
 * many standard deviations.  Full stops can say it alone, and contradict: in
 * Cyrillic and Greek more letters reach below the line than above it, which
 * the full stops of the page give away.
 */
#define LETTERS_SIGMA 4.0
#define LETTERS_RATIO 1.35
#define LETTERS_ALONE_SIGMA 6.0 /* when no dots agree */
#define LETTERS_SURE 6.0		/* times as many, whatever the dots say */
#define DOTS_SIGMA 3.0
#define DOTS_RATIO 3.0
#define MIN_PAIRS_A_DOT 8	   /* full stops are rare; more dots are something else */
#define AGAINST_DOTS_SIGMA 2.5 /* what letters may say against them */
#define AGAINST_LETTERS_SIGMA 2.0
#define AGAINST_LETTERS_RATIO 1.8

typedef struct Gray
{
	int w;
	int h;
	uint8_t *p; /* [h, w] */
} Gray;

/* Averages of a few samples each. */
static bool
shrink(const DsocrImage *image, const DsocrPoll *poll, Gray *g, DsocrError *err)
{
	int longest = image->width > image->height ? image->width : image->height;
	int f = (longest + LOOK_SIDE - 1) / LOOK_SIDE;
	int n = f < LOOK_SAMPLES ? f : LOOK_SAMPLES;
	size_t stride = (size_t) image->width * 3;
	uint64_t total = 0;

	g->w = image->width / f;
	g->h = image->height / f;
	g->p = dsocr_alloc((size_t) g->w * (size_t) g->h, 1, err);
	if (g->p == NULL)
		return false;
	for (int y = 0; y < g->h; y++)
	{
		if (y % 64 == 0 && !dsocr_image_go_on(poll, err))
			return false;
		for (int x = 0; x < g->w; x++)
		{
			uint32_t sum = 0;

			for (int j = 0; j < n; j++)
			{
				const uint8_t *row =
					image->rgb + ((size_t) y * (size_t) f + (size_t) (j * f / n)) * stride;

				for (int i = 0; i < n; i++)
				{
					const uint8_t *p = row + ((size_t) x * (size_t) f + (size_t) (i * f / n)) * 3;

					sum += (uint32_t) (p[0] * 77 + p[1] * 151 + p[2] * 28);
				}
			}
			sum /= (uint32_t) (256 * n * n);
			total += sum;
			g->p[(size_t) y * (size_t) g->w + (size_t) x] = (uint8_t) sum;
		}
	}
	/* light letters on a dark page */
	if (total < (uint64_t) DARK_PAGE * (uint64_t) g->w * (uint64_t) g->h)
		for (size_t i = 0; i < (size_t) g->w * (size_t) g->h; i++)
			g->p[i] ^= 255;
	return true;
}

/* Ink where a pixel is darker than the mean of a window around it.  NULL when memory is short. */
static PIX *
find_ink(const Gray *g)
{
	int r = (g->w < g->h ? g->w : g->h) / 32 + 8;
	uint32_t *column = dsocr_zalloc((size_t) g->w, sizeof(*column), NULL);
	PIX *pix = column != NULL ? pixCreate(g->w, g->h, 1) : NULL;
	int top = 0;
	int bottom = 0; /* rows top .. bottom - 1 are in the sums */

	if (pix == NULL)
	{
		dsocr_free(column);
		return NULL;
	}
	for (int y = 0; y < g->h; y++)
	{
		int to = y + r + 1 < g->h ? y + r + 1 : g->h;
		int from = y - r > 0 ? y - r : 0;
		l_uint32 *line = pixGetData(pix) + (size_t) y * (size_t) pixGetWpl(pix);
		uint64_t sum = 0;
		int left = 0;
		int right = 0;

		for (; bottom < to; bottom++)
			for (int x = 0; x < g->w; x++)
				column[x] += g->p[(size_t) bottom * (size_t) g->w + (size_t) x];
		for (; top < from; top++)
			for (int x = 0; x < g->w; x++)
				column[x] -= g->p[(size_t) top * (size_t) g->w + (size_t) x];
		for (int x = 0; x < g->w; x++)
		{
			uint64_t v = g->p[(size_t) y * (size_t) g->w + (size_t) x];
			uint64_t area;

			for (; right < g->w && right <= x + r; right++)
				sum += column[right];
			for (; left < x - r; left++)
				sum -= column[left];
			area = (uint64_t) (right - left) * (uint64_t) (bottom - top);
			if (v * area * 100 < sum * INK_PERCENT)
				SET_DATA_BIT(line, x);
		}
	}
	dsocr_free(column);
	return pix;
}

/* Turn the page by the skew; what is lost at the corners is not missed here. */
static bool
straighten(Gray *g, float skew, DsocrError *err)
{
	double a = (double) skew * M_PI / 180;
	int32_t step_x = (int32_t) lrint(cos(a) * 65536);
	int32_t step_y = (int32_t) lrint(-sin(a) * 65536);
	size_t w = (size_t) g->w;
	uint8_t *out = dsocr_alloc(w * (size_t) g->h, 1, err);

	if (out == NULL)
		return false;
	for (int y = 0; y < g->h; y++)
	{
		double dx = -g->w / 2.0;
		double dy = y - g->h / 2.0;
		int32_t fx = (int32_t) lrint((g->w / 2.0 + dx * cos(a) + dy * sin(a)) * 65536);
		int32_t fy = (int32_t) lrint((g->h / 2.0 - dx * sin(a) + dy * cos(a)) * 65536);

		for (int x = 0; x < g->w; x++, fx += step_x, fy += step_y)
		{
			/* the nearest pixel of the edge stands for what is beyond it */
			int ix = fx >> 16 < 0 ? 0 : fx >> 16 > g->w - 2 ? g->w - 2 : fx >> 16;
			int iy = fy >> 16 < 0 ? 0 : fy >> 16 > g->h - 2 ? g->h - 2 : fy >> 16;
			const uint8_t *p = g->p + (size_t) iy * w + (size_t) ix;
			int rx = fx >> 8 & 255;
			int ry = fy >> 8 & 255;
			int top = p[0] * (256 - rx) + p[1] * rx;
			int bottom = p[w] * (256 - rx) + p[w + 1] * rx;

			out[(size_t) y * w + (size_t) x] =
				(uint8_t) ((top * (256 - ry) + bottom * ry + 32768) >> 16);
		}
	}
	dsocr_free(g->p);
	g->p = out;
	return true;
}

/* ---- the decision ---- */

static double
sigmas(int yes, int no)
{
	return yes + no > 0 ? (yes - no) / sqrt(yes + no) : 0;
}

/* Are these votes of so many pairs for up, when those are for down? */
static bool
is_up(int aligned, int above, int below, int low, int high)
{
	double letters = sigmas(above, below);
	double dots = sigmas(low, high);

	if (letters >= LETTERS_SIGMA && above >= LETTERS_RATIO * below &&
		(letters >= LETTERS_ALONE_SIGMA || dots >= 1))
		return above >= LETTERS_SURE * below || dots > -AGAINST_LETTERS_SIGMA ||
			   high < AGAINST_LETTERS_RATIO * low;
	return dots >= DOTS_SIGMA && low >= DOTS_RATIO * high &&
		   low + high <= aligned / MIN_PAIRS_A_DOT && letters >= -AGAINST_DOTS_SIGMA;
}

/* The quarter turn.  False when this is no page of text; *rotation is 0 when unsure. */
static bool
decide(DsocrPieces *s, int *rotation)
{
	DsocrVotes across;
	DsocrVotes down;
	const DsocrVotes *v = &across;
	bool vertical = false;

	*rotation = 0;
	if (s->letters == 0)
		return false;
	dsocr_pieces_swap_axes(s);
	dsocr_pieces_vote(s, &down);
	dsocr_pieces_swap_axes(s);
	dsocr_pieces_vote(s, &across);
	if (down.aligned > across.aligned)
	{
		v = &down;
		vertical = true;
	}
	if (v->aligned < MIN_ALIGNED ||
		v->aligned < MIN_AXIS_RATIO * (vertical ? across.aligned : down.aligned))
		return false;
	if (is_up(v->aligned, v->above, v->below, v->low, v->high))
		*rotation = vertical ? 90 : 0;
	else if (is_up(v->aligned, v->below, v->above, v->high, v->low))
		*rotation = vertical ? 270 : 180;
	return true;
}

/* Degrees clockwise that lines would be level after, whichever way they run; 0 when unsure. */
static float
find_skew(PIX *pix)
{
	PIX *turned = pixRotate90(pix, 1);
	l_float32 skew[2] = {0};
	l_float32 sharp[2] = {0};
	int best;

	for (int i = 0; i < 2; i++)
	{
		PIX *p = i == 0 ? pix : turned;

		/* a quarter of the size for the sweep, half of it for the search behind it */
		if (p == NULL || pixFindSkewSweepAndSearch(p, &skew[i], &sharp[i], 4, 2, SWEEP_RANGE,
												   SWEEP_STEP, SEARCH_STEP) != 0)
			sharp[i] = 0;
	}
	pixDestroy(&turned);
	best = sharp[1] > sharp[0];
	if (sharp[best] < MIN_SHARPNESS || fabsf(skew[best]) < DSOCR_MIN_SKEW ||
		fabsf(skew[best]) > DSOCR_MAX_SKEW)
		return 0;
	return skew[best];
}

/* g is straightened in the course of this. */
static bool
look(Gray *g, const DsocrPoll *poll, DsocrOrientation *o, DsocrError *err)
{
	PIX *ink = find_ink(g);
	DsocrPieces pieces;
	float skew = ink != NULL ? find_skew(ink) : 0;
	bool ok = ink != NULL;

	if (ok && skew != 0)
	{
		pixDestroy(&ink);
		if (!dsocr_image_go_on(poll, err) || !straighten(g, skew, err))
			return false;
		ink = find_ink(g);
		ok = ink != NULL;
	}
	ok = ok && dsocr_pieces_find(ink, &pieces);
	pixDestroy(&ink);
	if (!ok)
		return dsocr_fail(err, DSOCR_E_MEMORY, "out of memory");
	if (decide(&pieces, &o->rotation))
		o->skew = skew;
	dsocr_free(pieces.p);
	return dsocr_image_go_on(poll, err);
}

bool
dsocr_orient_init(void)
{
	/* what it cannot make anything of is no news */
	setMsgSeverity(L_SEVERITY_NONE);
	return true;
}

bool
dsocr_orient_detect(const DsocrImage *image, const DsocrPoll *poll, DsocrOrientation *o,
					DsocrError *err)
{
	Gray g = {0};
	bool ok;

	*o = (DsocrOrientation){0};
	if (image->width < MIN_SIDE || image->height < MIN_SIDE)
		return true;
	ok = shrink(image, poll, &g, err);
	/* a strip may have lost all its rows */
	if (ok && g.w >= MIN_SIDE && g.h >= MIN_SIDE)
		ok = look(&g, poll, o, err);
	dsocr_free(g.p);
	return ok;
}

#else /* without Leptonica nothing is detected */

bool
dsocr_orient_init(void)
{
	return false;
}

bool
dsocr_orient_detect(const DsocrImage *image, const DsocrPoll *poll, DsocrOrientation *o,
					DsocrError *err)
{
	*o = (DsocrOrientation){0};
	return true;
}

#endif
