/*-------------------------------------------------------------------------
 *
 * text_runs.c
 *		Where the lines of an element lie: text that can be put over a page.
 *
 * Models give a box for a paragraph, not for its lines, and mostly write a
 * paragraph as one line of text.  So the lines are guessed: the smallest
 * number of lines n is taken for which the text, set in letters of 1/n of the
 * box's height, fits into n lines of the box's width.  Lines that were broken
 * fill the width; the others keep their share of it.  A table is set the same
 * way, cell by cell, in columns as wide as their texts need.
 *
 * All of this happens on the upright page.  Where the page was turned to be
 * read, dsocr_text_stored turns rectangles back.
 *
 *-------------------------------------------------------------------------
 */
#include "text_runs.h"

#include <math.h>

#include "miscadmin.h"
#include "text_lines.h"
#include "text_width.h"

/* From one base line to the next, in ems. */
#define LINE_PITCH 1.2

/* Where elements without a box lie: the page without this part at each side. */
#define MARGIN 0.04

/* Words wider than this many ems are broken rather than squeezed. */
#define LONG_WORD 40.0

/* Tallest line of an element without a box, as a part of the page's height. */
#define TALLEST_LINE 0.04

/* Widest column of a table in ems. */
#define MAX_COLUMN 60.0

/* ---- breaking lines ---- */

/* May a line be broken before and after this character, not only at blanks? */
static bool
is_breakable(pg_wchar c)
{
	return dsocr_char_is_wide(c) || (c >= 0xe00 && c <= 0xeff) || (c >= 0x1000 && c <= 0x109f) ||
		   (c >= 0x1780 && c <= 0x17ff);
}

/*
 * The end of the first line of text that is no wider than width; at least one
 * character.  *forced: a word had to be broken for it.
 */
static const char *
break_at(const char *text, double width, bool *forced)
{
	const char *p = text;
	const char *chance = NULL;
	double used = 0;

	*forced = false;
	while (*p != '\0')
	{
		const char *before = p;
		pg_wchar c = dsocr_char_next(&p);

		used += dsocr_char_width(c);
		if (used > width && before > text && c != ' ')
		{
			*forced = chance == NULL;
			return chance != NULL ? chance : before;
		}
		if (c == ' ' || is_breakable(c))
			chance = p;
		else if (*p != '\0' && is_breakable(utf8_to_unicode((const unsigned char *) p)))
			chance = p;
	}
	return p;
}

/* Lines that the text takes, or more than enough where they are too many or break words. */
static int
count_lines(const DsocrTextRuns *lines, double width, int enough)
{
	int n = 0;

	for (int i = 0; i < lines->n && n <= enough; i++)
	{
		const char *p = lines->runs[i].text;

		if (lines->runs[i].width <= width)
			n++;
		else
			for (; *p != '\0' && n <= enough; n++)
			{
				bool forced;

				p = break_at(p, width, &forced);
				if (forced && width < LONG_WORD)
					return enough + 1;
			}
	}
	return n;
}

/* Ems that a line has room for when n lines share the rectangle. */
static double
room(const DsocrRect *rect, int n)
{
	return LINE_PITCH * n * (rect->x2 - rect->x1) / Max(rect->y2 - rect->y1, 1e-3);
}

/*
 * Set lines into a rectangle and append them to out.  Where the rectangle
 * fits its text tightly, the widest line fills it; else letters keep the
 * width that their height asks for.
 */
static void
set_lines(const DsocrTextRuns *lines, const DsocrRect *rect, bool tight, DsocrTextRuns *out)
{
	int first = out->n;
	int low = lines->n;
	int high;
	double width = rect->x2 - rect->x1;
	double pitch;
	double widest = 0;
	double sum = 0;

	if (lines->n == 0)
		return;
	/* n lines of room(n) each hold at most n * room(n), which is n * n * room(1) */
	for (int i = 0; i < lines->n; i++)
		sum += lines->runs[i].width;
	high = low = Max(low, (int) Min(sqrt(sum / room(rect, 1)), DSOCR_MAX_LINES));
	while (high < DSOCR_MAX_LINES && count_lines(lines, room(rect, high), high) > high)
	{
		CHECK_FOR_INTERRUPTS();
		low = high + 1;
		high *= 2;
	}
	high = Min(high, DSOCR_MAX_LINES);
	while (low < high)
	{
		int middle = low + (high - low) / 2;

		CHECK_FOR_INTERRUPTS();
		if (count_lines(lines, room(rect, middle), middle) > middle)
			low = middle + 1;
		else
			high = middle;
	}
	for (int i = 0; i < lines->n; i++)
	{
		const DsocrTextRun *line = &lines->runs[i];
		const char *p = line->text;

		while (*p != '\0')
		{
			bool forced;
			const char *to = line->width <= room(rect, low) ? p + strlen(p)
															: break_at(p, room(rect, low), &forced);
			int n = out->n;

			dsocr_text_add_run(out, p, to - p, line->confidence);
			/* a negative place marks a line that goes on */
			if (out->n > n)
				out->runs[n].rect.x2 = *to != '\0' ? -1 : 0;
			p = to;
		}
	}
	pitch = (rect->y2 - rect->y1) / Max(out->n - first, 1);
	for (int i = first; i < out->n; i++)
		widest = Max(widest, out->runs[i].width);
	if (!tight)
		widest = Max(widest, width * LINE_PITCH / pitch);
	for (int i = first; i < out->n; i++)
	{
		DsocrTextRun *run = &out->runs[i];
		bool full = run->rect.x2 < 0 || widest <= 0;

		run->rect.x1 = rect->x1;
		run->rect.x2 = rect->x1 + (full ? width : width * run->width / widest);
		run->rect.x2 = Max(run->rect.x2, run->rect.x1 + Min(0.5, width));
		run->rect.y1 = rect->y1 + pitch * (i - first);
		run->rect.y2 = run->rect.y1 + pitch;
	}
}

/* ---- tables ---- */

static int
lines_of(const char *text)
{
	int n = 1;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

/* Turn shares into places: at[i] to at[i + 1] is what share i gets. */
static void
share(double *at, int n, double from, double to)
{
	double sum = 0;
	double before = 0;

	for (int i = 0; i < n; i++)
		sum += at[i];
	for (int i = 0; i < n; i++)
	{
		double own = at[i];

		at[i] = from + (to - from) * before / sum;
		before += own;
	}
	at[n] = to;
}

static void
set_table(const DsocrTable *t, const DsocrRect *rect, float confidence, DsocrTextRuns *out)
{
	double *x = palloc(sizeof(double) * (t->n_cols + 1));
	double *y = palloc(sizeof(double) * (t->n_rows + 1));

	for (int i = 0; i < t->n_cols; i++)
		x[i] = 1;
	for (int i = 0; i < t->n_rows; i++)
		y[i] = 1;
	for (int i = 0; i < t->n_cells; i++)
	{
		const DsocrTableCell *c = &t->cells[i];

		if (c->colspan == 1)
			x[c->col] =
				Max(x[c->col], Min(dsocr_text_width(c->text) / lines_of(c->text) + 1, MAX_COLUMN));
		if (c->rowspan == 1)
			y[c->row] = Max(y[c->row], lines_of(c->text));
	}
	share(x, t->n_cols, rect->x1, rect->x2);
	share(y, t->n_rows, rect->y1, rect->y2);
	for (int i = 0; i < t->n_cells; i++)
	{
		const DsocrTableCell *c = &t->cells[i];
		DsocrRect cell = {x[c->col], y[c->row], x[c->col + c->colspan], y[c->row + c->rowspan]};
		DsocrTextRuns lines = {0};

		CHECK_FOR_INTERRUPTS();
		for (const char *p = c->text; *p != '\0';)
		{
			size_t len = strcspn(p, "\n");

			dsocr_text_add_run(&lines, p, len, confidence);
			p += len + (p[len] == '\n');
		}
		set_lines(&lines, &cell, false, out);
	}
	pfree(x);
	pfree(y);
}

/* ---- elements ---- */

DsocrRect
dsocr_text_stored(const DsocrLayoutPage *page, DsocrRect r)
{
	switch (page->rotation)
	{
		case 90:
			return (DsocrRect){r.y1, page->height - r.x2, r.y2, page->height - r.x1};
		case 180:
			return (DsocrRect){page->width - r.x2, page->height - r.y2, page->width - r.x1,
							   page->height - r.y1};
		case 270:
			return (DsocrRect){page->width - r.y2, r.x1, page->width - r.y1, r.x2};
	}
	return r;
}

/* The inverse: a clipped box of the stored page on the upright one. */
static DsocrRect
upright(const DsocrLayoutPage *page, const int32_t box[4])
{
	int32_t b[4];

	dsocr_layout_clip(page, box, b);
	switch (page->rotation)
	{
		case 90:
			return (DsocrRect){page->height - b[3], b[0], page->height - b[1], b[2]};
		case 180:
			return (DsocrRect){page->width - b[2], page->height - b[3], page->width - b[0],
							   page->height - b[1]};
		case 270:
			return (DsocrRect){b[1], page->width - b[2], b[3], page->width - b[0]};
	}
	return (DsocrRect){b[0], b[1], b[2], b[3]};
}

bool
dsocr_text_frame(const DsocrLayoutPage *page, const DsocrBlock *block, DsocrRect *rect)
{
	for (int i = 0; i < block->n_boxes; i++)
	{
		DsocrRect r = upright(page, block->boxes[i]);

		if (i == 0)
			*rect = r;
		rect->x1 = Min(rect->x1, r.x1);
		rect->y1 = Min(rect->y1, r.y1);
		rect->x2 = Max(rect->x2, r.x2);
		rect->y2 = Max(rect->y2, r.y2);
	}
	return block->n_boxes > 0;
}

/*
 * Text of several boxes: each takes as much as its area is of what is left,
 * cut where a line may break.
 */
static void
set_boxes(const DsocrLayoutPage *page, const DsocrBlock *block, DsocrTextRuns *lines,
		  DsocrTextRuns *out)
{
	double area = 0;
	double left = 0;
	int i = 0;

	for (int k = 0; k < block->n_boxes; k++)
	{
		DsocrRect r = upright(page, block->boxes[k]);

		area += (r.x2 - r.x1) * (r.y2 - r.y1);
	}
	for (int k = 0; k < lines->n; k++)
		left += lines->runs[k].width;
	for (int k = 0; k < block->n_boxes; k++)
	{
		DsocrRect r = upright(page, block->boxes[k]);
		double own = (r.x2 - r.x1) * (r.y2 - r.y1);
		double take = k == block->n_boxes - 1 ? INFINITY : left * own / Max(area, 1);
		DsocrTextRuns part = {0};

		CHECK_FOR_INTERRUPTS();
		for (; i < lines->n && take > 0; i++)
		{
			DsocrTextRun *line = &lines->runs[i];
			const char *to;
			bool forced;

			left -= line->width;
			/* what is left over of a line by less than half of it stays with it */
			if (line->width <= take || lines->n > 2 * block->n_boxes)
			{
				dsocr_text_add_run(&part, line->text, strlen(line->text), line->confidence);
				take -= line->width;
				continue;
			}
			to = break_at(line->text, take, &forced);
			dsocr_text_add_run(&part, line->text, to - line->text, line->confidence);
			left += dsocr_text_width(to);
			line->text = pstrdup(to);
			line->width = dsocr_text_width(to);
			if (*to == '\0')
				i++;
			break;
		}
		area -= own;
		set_lines(&part, &r, true, out);
	}
}

/* Lines that text takes in letters of the largest size that is likely. */
static int
text_lines(const DsocrTextRuns *lines, double width, double height)
{
	DsocrRect line = {0, 0, (1 - 2 * MARGIN) * width, TALLEST_LINE * height};

	return count_lines(lines, Max(room(&line, 1), 1), DSOCR_MAX_LINES);
}

/* Elements without a box share the page from top to bottom. */
static void
share_page(const DsocrLayoutPage *page, const DsocrTextRuns *lines, DsocrRect *rects)
{
	bool lies = page->rotation == 90 || page->rotation == 270;
	double width = lies ? page->height : page->width;
	double height = lies ? page->width : page->height;
	double *y = palloc(sizeof(double) * (page->n_blocks + 1));
	int n = 0;

	for (int i = 0; i < page->n_blocks; i++)
		if (page->blocks[i].n_boxes == 0 && lines[i].n > 0)
			y[n++] = lines[i].n;
	if (n > 0)
		share(y, n, MARGIN * height, (1 - MARGIN) * height);
	n = 0;
	for (int i = 0; i < page->n_blocks; i++)
		if (page->blocks[i].n_boxes == 0 && lines[i].n > 0)
		{
			rects[i] = (DsocrRect){MARGIN * width, y[n], (1 - MARGIN) * width, y[n + 1]};
			rects[i].y2 =
				Min(y[n + 1], y[n] + TALLEST_LINE * height * text_lines(&lines[i], width, height));
			n++;
		}
	pfree(y);
}

DsocrTextRuns *
dsocr_text_runs(const DsocrLayoutPage *page)
{
	int n = page->n_blocks;
	DsocrTextRuns *runs = palloc0(sizeof(DsocrTextRuns) * Max(n, 1));
	DsocrTextRuns *lines = palloc0(sizeof(DsocrTextRuns) * Max(n, 1));
	DsocrTable *tables = palloc0(sizeof(DsocrTable) * Max(n, 1));
	DsocrRect *rects = palloc0(sizeof(DsocrRect) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		dsocr_text_lines(&page->blocks[i], &lines[i], &tables[i]);
	}
	share_page(page, lines, rects);
	for (int i = 0; i < n; i++)
	{
		const DsocrBlock *block = &page->blocks[i];

		CHECK_FOR_INTERRUPTS();
		if (block->n_boxes == 0)
			set_lines(&lines[i], &rects[i], false, &runs[i]);
		else if (tables[i].cells != NULL)
		{
			DsocrRect rect = upright(page, block->boxes[0]);

			set_table(&tables[i], &rect, block->confidence, &runs[i]);
		}
		else
			set_boxes(page, block, &lines[i], &runs[i]);
	}
	return runs;
}
