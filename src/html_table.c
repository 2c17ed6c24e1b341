/*-------------------------------------------------------------------------
 *
 * html_table.c
 *		HTML tables as models write them, taken apart into cells.
 *
 * One pass over the tags collects rows of cells: a cell ends where the next
 * one, a row or the table ends or begins, so missing end tags do no harm, and
 * what the text limit cut off just ends there.  A table inside of a cell
 * becomes text of that cell; a counter and no recursion keeps track of it.
 *
 * A second pass places the cells as HTML does: each takes the next free
 * column of its row, spans from above keep theirs.  Spans never reach below
 * the last row.  Span and slot numbers are bounded before anything is
 * allocated for them: colspan="1000000000" costs nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "html_table.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "html_text.h"

/* The limits of HTML. */
#define MAX_COLSPAN 1000
#define MAX_ROWSPAN 65534

typedef struct Parser
{
	DsocrTable *table;
	int capacity;
	int row;	/* number of the current row, -1 before the first */
	int nested; /* open tables inside of the cell */
	bool in_head;
	bool in_row;
	bool in_cell;
	bool in_caption;
	bool blank; /* a blank is due before the next character */
	bool line;	/* a line feed is */
	StringInfoData text;
} Parser;

/* ---- first pass: rows of cells ---- */

static void
end_cell(Parser *p)
{
	if (p->in_cell)
	{
		p->table->cells[p->table->n_cells - 1].text = pnstrdup(p->text.data, p->text.len);
		resetStringInfo(&p->text);
	}
	p->in_cell = p->blank = p->line = false;
	p->nested = 0;
}

static void
begin_row(Parser *p)
{
	end_cell(p);
	p->in_row = true;
	p->row++;
}

static void
begin_cell(Parser *p, const DsocrHtmlTag *tag)
{
	DsocrTable *t = p->table;

	end_cell(p);
	if (!p->in_row)
		begin_row(p);
	if (t->n_cells == DSOCR_TABLE_MAX_CELLS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("table has more than %d cells", DSOCR_TABLE_MAX_CELLS)));
	if (t->n_cells == p->capacity)
	{
		p->capacity *= 2;
		t->cells = repalloc(t->cells, sizeof(DsocrTableCell) * p->capacity);
	}
	t->cells[t->n_cells++] =
		(DsocrTableCell){.row = p->row,
						 .rowspan = dsocr_html_number(tag, "rowspan", MAX_ROWSPAN, 1),
						 .colspan = dsocr_html_number(tag, "colspan", MAX_COLSPAN, 1),
						 .header = tag->kind == DSOCR_HTML_HEADER || p->in_head};
	p->in_cell = true;
}

/* Text goes into the open cell; between cells there should be none. */
static void
put_text(Parser *p, const char *bytes, int n)
{
	if (!p->in_cell || p->in_caption)
		return;
	if (n == 1 && strchr(" \t\r\n\f", *bytes) != NULL)
	{
		p->blank = true;
		return;
	}
	if (p->text.len > 0 && p->line)
		appendStringInfoChar(&p->text, '\n');
	else if (p->text.len > 0 && p->blank)
		appendStringInfoChar(&p->text, ' ');
	p->blank = p->line = false;
	appendBinaryStringInfo(&p->text, bytes, n);
}

/* A tag inside of a table that is inside of a cell: only text matters. */
static void
nested_tag(Parser *p, const DsocrHtmlTag *tag)
{
	if (tag->kind == DSOCR_HTML_TABLE)
		p->nested += tag->closing ? -1 : 1;
	if (tag->kind == DSOCR_HTML_ROW || tag->kind == DSOCR_HTML_TABLE ||
		tag->kind == DSOCR_HTML_BREAK)
		p->line = true;
	else if (tag->kind != DSOCR_HTML_INLINE)
		p->blank = true;
}

/* Returns false when the table has ended before or with this tag. */
static bool
table_tag(Parser *p, const DsocrHtmlTag *tag)
{
	switch (tag->kind)
	{
		case DSOCR_HTML_TABLE:
			if (tag->closing)
				p->table->complete = true;
			else if (p->in_cell)
			{
				p->nested = 1;
				p->line = true;
				return true;
			}
			return false;
		case DSOCR_HTML_GROUP_HEAD:
		case DSOCR_HTML_GROUP:
			end_cell(p);
			p->in_row = false;
			p->in_head = tag->kind == DSOCR_HTML_GROUP_HEAD && !tag->closing;
			break;
		case DSOCR_HTML_ROW:
			if (!tag->closing)
				begin_row(p);
			else
			{
				end_cell(p);
				p->in_row = false;
			}
			break;
		case DSOCR_HTML_CELL:
		case DSOCR_HTML_HEADER:
			if (tag->closing)
				end_cell(p);
			else
				begin_cell(p, tag);
			break;
		case DSOCR_HTML_CAPTION:
			p->in_caption = !tag->closing;
			return true;
		case DSOCR_HTML_COLUMN:
			break;
		case DSOCR_HTML_BREAK:
			p->line = true;
			return true;
		case DSOCR_HTML_INLINE:
			return true;
	}
	p->in_caption = false;
	return true;
}

/* Collect the cells of the table whose first tag ends at p; returns its end. */
static const char *
collect(Parser *parser, const char *p, const char *end)
{
	const char *checked = p;

	while (p < end)
	{
		DsocrHtmlTag tag;
		char utf8[5];
		size_t skip;
		int n;

		if (p - checked > 4096)
		{
			CHECK_FOR_INTERRUPTS();
			checked = p;
		}
		if (*p == '<' && dsocr_html_tag(p, end, &tag))
		{
			if (parser->nested > 0)
				nested_tag(parser, &tag);
			else if (!table_tag(parser, &tag))
				return parser->table->complete ? tag.end : p;
			p = tag.end;
		}
		else if (*p == '<' && (skip = dsocr_html_comment(p, end)) > 0)
			p += skip;
		else if (*p == '&' && (n = dsocr_html_entity(p, end, utf8)) > 0)
		{
			put_text(parser, utf8, strlen(utf8));
			p += n;
		}
		else
			put_text(parser, p++, 1);
	}
	return end;
}

/* ---- second pass: places ---- */

/* Every cell in one slot. */
static void
place_plainly(DsocrTable *t)
{
	int row = -1;
	int col = 0;

	t->n_cols = 0;
	for (int i = 0; i < t->n_cells; i++)
	{
		DsocrTableCell *c = &t->cells[i];

		col = c->row == row ? col + 1 : 0;
		row = c->row;
		c->col = col;
		c->rowspan = c->colspan = 1;
		t->n_cols = Max(t->n_cols, col + 1);
	}
}

/* How many columns the table can have at most; -1 if too many for a grid. */
static int
bound_columns(const DsocrTable *t)
{
	int64 row_width = 0;
	int64 widest = 0;
	int64 hanging = 0; /* columns of cells with a rowspan */

	for (int i = 0; i < t->n_cells; i++)
	{
		const DsocrTableCell *c = &t->cells[i];

		row_width = (i > 0 && t->cells[i - 1].row == c->row ? row_width : 0) + c->colspan;
		widest = Max(widest, row_width);
		if (c->rowspan > 1)
			hanging += c->colspan;
	}
	return widest + hanging > DSOCR_TABLE_MAX_SLOTS ? -1 : (int) (widest + hanging);
}

/*
 * Columns at the right that only spans reach are none: the last one is where
 * a cell begins.
 */
static void
trim(DsocrTable *t)
{
	int n = 0;

	for (int i = 0; i < t->n_cells; i++)
		n = Max(n, t->cells[i].col + 1);
	t->n_cols = n;
	for (int i = 0; i < t->n_cells; i++)
		t->cells[i].colspan = Min(t->cells[i].colspan, n - t->cells[i].col);
}

/* Place the cells; false when that gives more slots than a grid may have. */
static bool
place(DsocrTable *t, int bound)
{
	int32 *until = palloc0(sizeof(int32) * (bound + 1)); /* row before which a column is taken */
	int64 repeated = 0;
	int row = -1;
	int col = 0;

	t->n_cols = 0;
	for (int i = 0; i < t->n_cells; i++)
	{
		DsocrTableCell *c = &t->cells[i];
		int width = 1;

		if (c->row != row)
		{
			CHECK_FOR_INTERRUPTS();
			row = c->row;
			col = 0;
		}
		while (until[col] > row)
			col++;
		/* a cell from above ends the span */
		while (width < c->colspan && until[col + width] <= row)
			width++;
		c->col = col;
		c->colspan = width;
		for (int k = 0; k < width; k++)
			until[col + k] = row + c->rowspan;
		col += width;
		t->n_cols = Max(t->n_cols, col);
		if ((int64) t->n_cols * t->n_rows > DSOCR_TABLE_MAX_SLOTS)
			break;
	}
	pfree(until);
	if ((int64) t->n_cols * t->n_rows > DSOCR_TABLE_MAX_SLOTS)
		return false;
	trim(t);
	for (int i = 0; i < t->n_cells; i++)
		repeated += ((int64) t->cells[i].rowspan * t->cells[i].colspan - 1) *
					(int64) strlen(t->cells[i].text);
	return repeated <= DSOCR_TABLE_MAX_REPEATED;
}

bool
dsocr_table_is_grid(const DsocrTable *t)
{
	return (int64) t->n_cols * t->n_rows <= DSOCR_TABLE_MAX_SLOTS;
}

int32 *
dsocr_table_slots(const DsocrTable *t)
{
	size_t n = (size_t) t->n_rows * t->n_cols;
	int32 *slots = palloc(sizeof(int32) * Max(n, 1));

	Assert(dsocr_table_is_grid(t));
	for (size_t i = 0; i < n; i++)
		slots[i] = -1;
	for (int i = 0; i < t->n_cells; i++)
	{
		const DsocrTableCell *c = &t->cells[i];

		for (int y = 0; y < c->rowspan; y++)
			for (int x = 0; x < c->colspan; x++)
			{
				int32 *slot = &slots[(size_t) (c->row + y) * t->n_cols + c->col + x];

				if (*slot < 0)
					*slot = i;
			}
	}
	return slots;
}

/* ---- both ---- */

bool
dsocr_table_next(const char **p, const char *end, DsocrTable *table)
{
	Parser parser = {.table = table, .capacity = 64, .row = -1};
	DsocrHtmlTag tag;
	int bound;

	for (;; (*p)++)
	{
		*p = *p < end ? memchr(*p, '<', end - *p) : NULL;
		if (*p == NULL)
		{
			*p = end;
			return false;
		}
		if (dsocr_html_tag(*p, end, &tag) && tag.kind == DSOCR_HTML_TABLE && !tag.closing)
			break;
	}
	*table = (DsocrTable){.html = *p};
	table->cells = palloc(sizeof(DsocrTableCell) * parser.capacity);
	initStringInfo(&parser.text);
	*p = collect(&parser, tag.end, end);
	end_cell(&parser);
	pfree(parser.text.data);
	table->html_len = *p - table->html;
	table->n_rows = parser.row + 1;
	for (int i = 0; i < table->n_cells; i++)
	{
		DsocrTableCell *c = &table->cells[i];
		int below = table->n_rows - c->row;

		/* 0 means: to the end of the table, or no columns, which nobody can mean */
		c->rowspan = c->rowspan == 0 ? below : Min(c->rowspan, below);
		c->colspan = Max(c->colspan, 1);
	}
	bound = bound_columns(table);
	if (bound < 0 || !place(table, bound))
		place_plainly(table);
	return true;
}
