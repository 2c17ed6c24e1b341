/*-------------------------------------------------------------------------
 *
 * page_look.c
 *		A quick look at a page: how large its letters are, and how many.
 *
 * The page is shrunk to a thousand pixels and cut into vertical strips, since
 * columns need not share their lines.  Rows of a strip that go from dark to
 * light and back many times are rows of letters; how many of them lie together
 * is the height of a line, and how often they change says how much is written.
 *
 *-------------------------------------------------------------------------
 */
#include "page_look.h"

#include <stdlib.h>
#include <string.h>

#include "preprocess.h"

#define LOOK_SIDE 1000
#define STRIPS 12
#define EDGE 40			 /* steps of gray between neighbours that make an edge */
#define MIN_EDGES 4		 /* in a row of letters, above what its strip has all over */
#define MAX_LINE_SHARE 8 /* higher than 1/8 of the page is no line */

/* Edges that a letter has in each row of its line, on average. */
#define EDGES_A_LETTER 3.0F

typedef struct Small
{
	int w;
	int h;
	uint8_t *gray; /* [h, w] */
	int factor;
} Small;

static int
gray_at(const DsocrImage *image, int x, int y)
{
	const uint8_t *p = image->rgb + ((size_t) y * (size_t) image->width + (size_t) x) * 3;

	return (p[0] * 77 + p[1] * 151 + p[2] * 28) >> 8;
}

/* Each pixel from two samples on a diagonal of what it stands for. */
static bool
shrink(const DsocrImage *image, Small *s, DsocrError *err)
{
	int longest = image->width > image->height ? image->width : image->height;
	int f = (longest + LOOK_SIDE - 1) / LOOK_SIDE;

	s->factor = f;
	s->w = image->width / f;
	s->h = image->height / f;
	s->gray = dsocr_alloc((size_t) s->w * (size_t) s->h, 1, err);
	if (s->gray == NULL)
		return false;
	for (int y = 0; y < s->h; y++)
		for (int x = 0; x < s->w; x++)
		{
			int a = f / 4;
			int b = f - 1 - f / 4;

			s->gray[(size_t) y * (size_t) s->w + (size_t) x] =
				(uint8_t) ((gray_at(image, x * f + a, y * f + a) +
							gray_at(image, x * f + b, y * f + b)) /
						   2);
		}
	return true;
}

/* Edges of each row between two columns, [h]. */
static void
count_edges(const Small *s, int from, int to, int *edges)
{
	for (int y = 0; y < s->h; y++)
	{
		const uint8_t *row = s->gray + (size_t) y * (size_t) s->w;
		int n = 0;

		for (int x = from + 1; x < to; x++)
			n += abs(row[x] - row[x - 1]) >= EDGE;
		edges[y] = n;
	}
}

/* What a quarter of the rows does not exceed: rules and frames that go all the way down. */
static int
common_edges(const int *edges, int h)
{
	int counts[64] = {0};
	int sum = 0;
	int n = 0;

	for (int y = 0; y < h; y++)
		counts[edges[y] < 63 ? edges[y] : 63]++;
	while (n < 63 && (sum += counts[n]) < h / 4)
		n++;
	return n;
}

typedef struct Tally
{
	int limit;		 /* rows of the highest line */
	int64_t *weight; /* [limit + 1] edges in lines of that height */
	int64_t edges;	 /* in all of them */
} Tally;

static void
tally_strip(Tally *t, const int *edges, int h)
{
	int least = common_edges(edges, h) + MIN_EDGES;
	int64_t inside = 0;
	int rows = 0;

	for (int y = 0; y <= h; y++)
	{
		if (y < h && edges[y] >= least)
		{
			inside += edges[y];
			rows++;
			continue;
		}
		if (rows >= 2 && rows <= t->limit)
		{
			t->weight[rows] += inside;
			t->edges += inside;
		}
		inside = 0;
		rows = 0;
	}
}

/* The height in whose lines lie half of the edges. */
static int
middle_height(const Tally *t)
{
	int64_t sum = 0;

	for (int rows = 0; rows <= t->limit; rows++)
	{
		sum += t->weight[rows];
		if (sum > t->edges / 2)
			return rows;
	}
	return 0;
}

bool
dsocr_page_look(const DsocrImage *image, DsocrPageLook *look, DsocrError *err)
{
	Small s = {0};
	Tally t = {0};
	int *edges = NULL;
	bool ok = shrink(image, &s, err);

	*look = (DsocrPageLook){0};
	t.limit = s.h / MAX_LINE_SHARE;
	if (ok)
	{
		edges = dsocr_alloc((size_t) s.h + 1, sizeof(*edges), err);
		t.weight = dsocr_zalloc((size_t) t.limit + 1, sizeof(*t.weight), err);
		ok = edges != NULL && t.weight != NULL;
	}
	for (int i = 0; ok && i < STRIPS; i++)
	{
		count_edges(&s, s.w * i / STRIPS, s.w * (i + 1) / STRIPS, edges);
		tally_strip(&t, edges, s.h);
	}
	if (ok && t.edges > 0)
	{
		int rows = middle_height(&t);

		look->line = (float) rows * (float) s.factor;
		look->characters = (int) ((float) t.edges / (EDGES_A_LETTER * (float) rows));
	}
	dsocr_free(s.gray);
	dsocr_free(edges);
	dsocr_free(t.weight);
	return ok;
}

/* ---- modes ---- */

/*
 * What a mode reads without doubt: lines so high in its views, and so many
 * letters.  Lines of that height have letters of half as much again.
 */
static const struct
{
	float line;
	int characters;
} enough[DSOCR_N_MODES] = {
	[DSOCR_MODE_SMALL] = {13, 1000},
	[DSOCR_MODE_BASE] = {12, 3000},
	[DSOCR_MODE_LARGE] = {11, 4500},
};

/* Lines lower than this are lost in the views. */
#define TOO_SMALL_LINE 5.5F

DsocrMode
dsocr_mode_above(DsocrMode mode, uint32_t modes)
{
	for (int m = (int) mode + 1; m < DSOCR_N_MODES; m++)
		if (modes >> m & 1)
			return (DsocrMode) m;
	return DSOCR_MODE_AUTO;
}

/* Pixels of the views for a pixel of the page; 0 when the mode cannot be planned. */
static float
scale_of(DsocrMode mode, int width, int height)
{
	DsocrViewSpec spec = dsocr_mode_spec(mode);
	DsocrPlan plan;
	float x;
	float y;

	if (!dsocr_plan(width, height, &spec, &plan, NULL))
		return 0;
	x = (float) (plan.views > 1 ? plan.tile_size * plan.columns : plan.global_size) / (float) width;
	y = (float) (plan.views > 1 ? plan.tile_size * plan.rows : plan.global_size) / (float) height;
	return x < y ? x : y;
}

DsocrMode
dsocr_mode_choose(const DsocrPageLook *look, int width, int height, uint32_t modes, DsocrMode usual)
{
	DsocrMode chosen = usual;

	if (look->line <= 0)
		return usual;
	for (int m = DSOCR_MODE_SMALL; m < (int) usual; m++)
		if (enough[m].line > 0 && (modes >> m & 1) && look->characters <= enough[m].characters &&
			look->line * scale_of((DsocrMode) m, width, height) >= enough[m].line)
			return (DsocrMode) m;
	while (look->line * scale_of(chosen, width, height) < TOO_SMALL_LINE)
	{
		DsocrMode above = dsocr_mode_above(chosen, modes);

		if (above == DSOCR_MODE_AUTO)
			break;
		chosen = above;
	}
	return chosen;
}
