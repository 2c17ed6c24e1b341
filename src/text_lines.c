/*-------------------------------------------------------------------------
 *
 * text_lines.c
 *		From what the model wrote of an element to plain lines.
 *
 * Tags, entities and the marks of markdown go; what is left of a line knows
 * how sure the model was of it.
 *
 *-------------------------------------------------------------------------
 */
#include "text_lines.h"

#include "html_text.h"
#include "text_width.h"

void
dsocr_text_add_run(DsocrTextRuns *list, const char *text, size_t len, float confidence)
{
	while (len > 0 && *text == ' ')
	{
		text++;
		len--;
	}
	while (len > 0 && text[len - 1] == ' ')
		len--;
	if (len == 0 || list->n == DSOCR_MAX_LINES)
		return;
	if (list->n == list->capacity)
	{
		list->capacity = Max(list->capacity * 2, 8);
		list->runs = list->runs == NULL
						 ? palloc(sizeof(DsocrTextRun) * list->capacity)
						 : repalloc(list->runs, sizeof(DsocrTextRun) * list->capacity);
	}
	list->runs[list->n] = (DsocrTextRun){.text = pnstrdup(text, len), .confidence = confidence};
	list->runs[list->n].width = dsocr_text_width(list->runs[list->n].text);
	list->n++;
}

/* A line without the marks of markdown. */
static void
add_plain(DsocrTextRuns *list, StringInfo line, float confidence)
{
	char *from = line->data;
	char *to = line->data;
	char *marks;

	while (*from == ' ')
		from++;
	marks = from;
	while (*marks == '#' && marks - from < 6)
		marks++;
	if (marks > from && (*marks == ' ' || *marks == '\0'))
		from = marks;
	while (*from != '\0')
	{
		if (from[0] == '*' && from[1] == '*')
			from += 2;
		else
			*to++ = *from++;
	}
	dsocr_text_add_run(list, line->data, to - line->data, confidence);
	resetStringInfo(line);
}

/* How sure the model was of the line that byte `at` of the content belongs to. */
static float
confidence_at(const DsocrBlock *block, size_t at)
{
	for (int low = 0, high = block->n_lines - 1; low <= high;)
	{
		int middle = (low + high) / 2;
		const DsocrLine *line = &block->lines[middle];

		if ((int64) at < line->start)
			high = middle - 1;
		else if ((int64) at >= (int64) line->start + Max(line->length, 1))
			low = middle + 1;
		else
			return line->confidence;
	}
	return block->confidence;
}

static void
add_text(DsocrTextRuns *list, const DsocrBlock *block, const char *p, const char *end)
{
	StringInfoData line;
	const char *start = p;

	initStringInfo(&line);
	while (p < end)
	{
		DsocrHtmlTag tag;
		char utf8[5];
		bool ends = *p == '\n';
		int n = 1;

		if (line.len == 0)
			start = p;
		if (*p == '<' && dsocr_html_tag(p, end, &tag))
		{
			ends = tag.kind == DSOCR_HTML_BREAK;
			n = tag.end - p;
		}
		else if (*p == '&' && (n = dsocr_html_entity(p, end, utf8)) > 0)
			appendStringInfoString(&line, utf8);
		else if ((unsigned char) *p <= ' ')
		{
			n = 1;
			if (line.len > 0 && line.data[line.len - 1] != ' ')
				appendStringInfoChar(&line, ' ');
		}
		else
		{
			n = 1;
			appendStringInfoChar(&line, *p);
		}
		p += n;
		if (ends)
			add_plain(list, &line, confidence_at(block, start - block->content));
	}
	add_plain(list, &line, confidence_at(block, start - block->content));
	pfree(line.data);
}

/* The cells of a row side by side. */
static void
add_rows(DsocrTextRuns *list, const DsocrTable *table, float confidence)
{
	StringInfoData line;

	initStringInfo(&line);
	for (int i = 0; i < table->n_cells; i++)
	{
		if (i > 0 && table->cells[i].row != table->cells[i - 1].row)
		{
			dsocr_text_add_run(list, line.data, line.len, confidence);
			resetStringInfo(&line);
		}
		else if (i > 0)
			appendStringInfoString(&line, "  ");
		for (const char *p = table->cells[i].text; *p != '\0'; p++)
			appendStringInfoChar(&line, *p == '\n' ? ' ' : *p);
	}
	dsocr_text_add_run(list, line.data, line.len, confidence);
	pfree(line.data);
}

void
dsocr_text_lines(const DsocrBlock *block, DsocrTextRuns *list, DsocrTable *table)
{
	const char *p = block->content;
	const char *end = p + strlen(p);
	int tables = 0;
	int beside = 0; /* lines outside of tables */

	*table = (DsocrTable){0};
	while (p < end)
	{
		const char *before = p;
		bool found = dsocr_table_next(&p, end, table);
		int n = list->n;

		add_text(list, block, before, found ? table->html : end);
		beside += list->n - n;
		if (found)
		{
			tables++;
			add_rows(list, table, block->confidence);
		}
	}
	if (tables != 1 || beside > 0 || !dsocr_table_is_grid(table))
		table->cells = NULL;
}

char *
dsocr_text_plain(const DsocrBlock *block)
{
	DsocrTextRuns list = {0};
	DsocrTable table;
	StringInfoData out;

	dsocr_text_lines(block, &list, &table);
	initStringInfo(&out);
	for (int i = 0; i < list.n; i++)
		appendStringInfo(&out, "%s%s", i > 0 ? "\n" : "", list.runs[i].text);
	return out.data;
}
