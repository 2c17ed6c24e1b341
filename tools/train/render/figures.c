/*-------------------------------------------------------------------------
 *
 * figures.c
 *		Blocks that are no running text: tables and pictures.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <string.h>

#include "blocks.h"
#include "text.h"

#define MAX_COLUMNS 7
#define MAX_ROWS 12
#define MAX_CELL_WORDS 3

typedef struct Cell
{
	int n;
	float width;
	Word words[MAX_CELL_WORDS];
} Cell;

typedef struct Table
{
	Style style;
	int rows, columns;
	float gap;
	float pad;
	float row_height;
	float width[MAX_COLUMNS];
	Align align[MAX_COLUMNS];
	Cell cell[MAX_ROWS][MAX_COLUMNS];
} Table;

static void
separate(Column *c)
{
	if (!c->first)
		page_emit_ascii(c->page, "\n\n");
	c->first = false;
}

static FaceStyle
face_of(int row)
{
	return row == 0 ? FACE_BOLD : FACE_REGULAR;
}

static void
fill_cell(Page *p, Table *t, int row, int column, bool numbers)
{
	Cell *cell = &t->cell[row][column];

	cell->n = 0;
	cell->width = 0;
	if (row && rng_chance(p->rng, .05f))
		return;
	if (row && numbers)
	{
		cell->n = 1;
		cell->words[0] = text_number(p);
	}
	else
	{
		cell->n = rng_chance(p->rng, .7f) ? 1 : rng_int(p->rng, 1, MAX_CELL_WORDS);
		text_words(p, &t->style, rng_chance(p->rng, .5f) ? TEXT_PROSE : TEXT_RANDOM, cell->words,
				   cell->n);
	}
	for (int i = 0; i < cell->n; i++)
		cell->width +=
			page_word_width(p, &t->style, face_of(row), &cell->words[i]) + (i ? t->gap : 0);
}

/* Columns as wide as their widest cell; fewer of them if they do not fit. */
static bool
plan(Column *c, Table *t)
{
	Page *p = c->page;
	float room = c->x1 - c->x0;
	float total = 0;
	int fitting = 0;

	for (int j = 0; j < t->columns; j++)
	{
		bool numbers = j > 0 && rng_chance(p->rng, .6f);

		t->align[j] = numbers ? (rng_chance(p->rng, .7f) ? ALIGN_RIGHT : ALIGN_CENTRE)
							  : (rng_chance(p->rng, .8f) ? ALIGN_LEFT : ALIGN_CENTRE);
		t->width[j] = (float) t->style.size;
		for (int i = 0; i < t->rows; i++)
		{
			fill_cell(p, t, i, j, numbers);
			t->width[j] = fmaxf(t->width[j], t->cell[i][j].width);
		}
		t->width[j] += 2 * t->pad;
		if (total + t->width[j] > room)
			break;
		total += t->width[j];
		fitting++;
	}
	t->columns = fitting;
	if (fitting < 2)
		return false;
	if (rng_chance(p->rng, .5f))
		for (int j = 0; j < fitting; j++)
			t->width[j] *= fminf(room / total, 2.5f);
	return true;
}

static void
draw_rules(Column *c, const Table *t, float y)
{
	Page *p = c->page;
	int kind = rng_int(p->rng, 0, 3); /* none, all, rows, head only */
	float thick = rng_between(p->rng, .8f, 2.2f);
	uint8_t ink = rng_chance(p->rng, .6f) ? t->style.ink : (uint8_t) rng_int(p->rng, 60, 190);
	float x1 = c->x0;
	float y1 = y + (float) t->rows * t->row_height;

	for (int j = 0; j < t->columns; j++)
		x1 += t->width[j];
	if (kind != 1 && rng_chance(p->rng, .25f))
		for (int i = 0; i < t->rows; i += 2)
			page_fill(p, (int) c->x0, (int) (y + (float) i * t->row_height), (int) x1,
					  (int) (y + (float) (i + 1) * t->row_height),
					  (uint8_t) rng_int(p->rng, 215, 245));
	for (int i = 0; i <= t->rows && kind != 0; i++)
		if (kind != 3 || i < 2 || i == t->rows)
			page_line(p, c->x0, y + (float) i * t->row_height, x1, y + (float) i * t->row_height,
					  thick, ink);
	if (kind == 1)
	{
		float x = c->x0;

		page_line(p, x, y, x, y1, thick, ink);
		for (int j = 0; j < t->columns; j++)
		{
			x += t->width[j];
			page_line(p, x, y, x, y1, thick, ink);
		}
	}
}

static void
draw_cell(Page *p, const Table *t, int row, int column, float x, float base)
{
	const Cell *cell = &t->cell[row][column];
	float size = (float) t->style.size;
	float room = t->width[column] - 2 * t->pad - cell->width;

	x += t->pad;
	if (t->align[column] == ALIGN_RIGHT)
		x += room;
	else if (t->align[column] == ALIGN_CENTRE)
		x += room / 2;
	for (int i = 0; i < cell->n; i++)
	{
		if (i)
		{
			page_emit_at(p, ' ', (Box){x, base - .78f * size, x + t->gap, base + .18f * size});
			x += t->gap;
		}
		x = page_word(p, &t->style, face_of(row), x, base, &cell->words[i]);
	}
}

bool
block_table(Column *c)
{
	Page *p = c->page;
	static _Thread_local Table t;
	float size = (float) c->style.size;
	int before = p->n_units;
	float top = c->y + size * .2f;
	int most;
	int block;
	float right = c->x0;

	t.style = c->style;
	t.gap = page_advance(p, &t.style, FACE_REGULAR, ' ');
	t.pad = size * rng_between(p->rng, .25f, .8f);
	t.row_height = size * rng_between(p->rng, 1.2f, 1.9f);
	most = (int) fminf((c->y1 - top - size * .3f) / t.row_height, (float) (c->left / 12));
	t.columns = rng_int(p->rng, 2, MAX_COLUMNS);
	t.rows = rng_int(p->rng, 2, most > MAX_ROWS ? MAX_ROWS : most);
	if (most < 2 || !plan(c, &t))
		return false;
	separate(c);
	block = page_block_begin(p, "table");
	draw_rules(c, &t, top);
	page_emit(p, UNIT_TABLE);
	for (int i = 0; i < t.rows; i++)
	{
		float x = c->x0;
		float base = top + (float) i * t.row_height + (t.row_height + size * .68f) / 2;

		page_emit(p, UNIT_TR);
		for (int j = 0; j < t.columns; j++)
		{
			page_emit_at(p, UNIT_TD, (Box){x, base - size, x + t.width[j], base + size * .4f});
			draw_cell(p, &t, i, j, x, base);
			page_emit(p, UNIT_TD_END);
			x += t.width[j];
		}
		right = x;
		page_emit(p, UNIT_TR_END);
	}
	page_emit(p, UNIT_TABLE_END);
	c->y = top + (float) t.rows * t.row_height;
	page_block_end(p, block, (Box){c->x0, top, right, c->y});
	c->y += size * rng_between(p->rng, .4f, 1.2f);
	c->left -= p->n_units - before;
	return true;
}

/* A picture is only seen, not read: its target is its box. */
bool
block_picture(Column *c)
{
	Page *p = c->page;
	float w = (c->x1 - c->x0) * rng_between(p->rng, .3f, 1);
	float h = w * rng_between(p->rng, .3f, .9f);
	float x0 = c->x0 + (c->x1 - c->x0 - w) * rng_unit(p->rng);
	int ax = rng_int(p->rng, -90, 90);
	int ay = rng_int(p->rng, -90, 90);

	if (h > (c->y1 - c->y) * .7f || h < 16)
		return false;
	if (p->request->grounded)
	{
		separate(c);
		page_block_end(p, page_block_begin(p, "image"), (Box){x0, c->y, x0 + w, c->y + h});
		p->n_units--; /* no text follows on a line of its own */
	}
	for (int y = 0; y < (int) h; y++)
		for (int x = 0; x < (int) w; x++)
		{
			int v = 128 + ax * (2 * x - (int) w) / (int) w + ay * (2 * y - (int) h) / (int) h;

			page_fill(p, (int) x0 + x, (int) c->y + y, (int) x0 + x + 1, (int) c->y + y + 1,
					  (uint8_t) (v < 0	   ? 0
								 : v > 255 ? 255
										   : v));
		}
	for (int i = rng_int(p->rng, 1, 9); i > 0; i--)
	{
		float bx = x0 + w * rng_between(p->rng, .02f, .8f);
		float by = c->y + h * rng_between(p->rng, .02f, .8f);
		float bw = (x0 + w - bx) * rng_between(p->rng, .05f, .95f);
		float bh = (c->y + h - by) * rng_between(p->rng, .05f, .95f);
		uint8_t v = (uint8_t) rng_int(p->rng, 0, 255);

		if (rng_chance(p->rng, .5f))
			page_fill(p, (int) bx, (int) by, (int) (bx + bw), (int) (by + bh), v);
		else
			page_line(p, bx, by, bx + bw, by + bh, rng_between(p->rng, 1, 6), v);
	}
	c->y += h + (float) c->style.size * rng_between(p->rng, .3f, 1);
	return true;
}
