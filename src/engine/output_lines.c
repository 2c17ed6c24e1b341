/*-------------------------------------------------------------------------
 *
 * output_lines.c
 *		Lines of a text, and how sure the model was of them.
 *
 *-------------------------------------------------------------------------
 */
#include "output_lines.h"

#include <math.h>
#include <string.h>

static bool
is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* ---- tokens ---- */

/* First token that ends behind a byte. */
static size_t
first_behind(const DsocrScores *s, size_t byte)
{
	size_t low = 0;
	size_t high = s->n;

	while (low < high)
	{
		size_t middle = low + (high - low) / 2;

		if (s->ends[middle] <= byte)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The byte that says where a token of bytes [from, to) belongs. */
static size_t
anchor(const char *text, size_t from, size_t to)
{
	for (size_t at = from; at < to; at++)
		if (!is_blank(text[at]))
			return at;
	return from;
}

size_t
dsocr_scores_sum(const DsocrScores *s, const char *text, size_t from, size_t to, double *sum)
{
	size_t n = 0;

	*sum = 0;
	for (size_t i = first_behind(s, from); i < s->n; i++)
	{
		size_t start = i > 0 ? s->ends[i - 1] : 0;
		size_t at;

		if (start >= to)
			break;
		if (start == s->ends[i])
			continue;
		at = anchor(text, start, s->ends[i]);
		if (at < from || at >= to)
			continue;
		*sum += s->logprobs[i];
		n++;
	}
	return n;
}

float
dsocr_scores_confidence(const DsocrScores *s, const char *text, size_t from, size_t to)
{
	double sum;
	size_t n = dsocr_scores_sum(s, text, from, to, &sum);
	double mean = n > 0 ? exp(sum / (double) n) : 0;

	return mean < 1 ? (float) mean : 1;
}

/* ---- lines ---- */

/* Bytes of tag at the start of text, with attributes or a slash before its >; 0 if it is none. */
static size_t
tag_length(const char *text, size_t len, const char *tag)
{
	size_t n = strlen(tag);
	const char *end;

	if (len <= n || memcmp(text, tag, n) != 0 ||
		(text[n] != '>' && text[n] != ' ' && text[n] != '/'))
		return 0;
	end = memchr(text + n, '>', len - n);
	return end == NULL ? 0 : (size_t) (end - text) + 1;
}

/*
 * Where the line at text ends, and where the next one starts.  The ends of a
 * table and its body go with the last row.
 */
static size_t
line_end(const char *text, size_t len, size_t *next)
{
	static const char *const closing[] = {"</tr", "</tbody", "</thead", "</table"};
	bool row = false;
	size_t at = 0;

	while (at < len)
	{
		size_t n = 0;

		if (text[at] == '\n')
		{
			*next = at + 1;
			return at;
		}
		if (text[at] == '<')
		{
			n = tag_length(text + at, len - at, "<br");
			if (n > 0)
			{
				*next = at + n;
				return at;
			}
			for (size_t i = row ? 1 : 0; i < sizeof(closing) / sizeof(closing[0]) && n == 0; i++)
				n = tag_length(text + at, len - at, closing[i]);
			row = row || (n > 0 && text[at + 3] == 'r');
		}
		if (row && n == 0)
			break;
		at += n > 0 ? n : 1;
	}
	*next = at;
	return at;
}

/* Without the blanks at both ends: [*from, *to); false when nothing is left. */
static bool
trim(const char *text, size_t *from, size_t *to)
{
	while (*from < *to && is_blank(text[*from]))
		(*from)++;
	while (*to > *from && is_blank(text[*to - 1]))
		(*to)--;
	return *from < *to;
}

/* Count the lines; write them unless lines is NULL. */
static int
go_over(const DsocrScores *s, const char *text, size_t from, size_t to, DsocrLine *lines)
{
	int n = 0;
	size_t next;

	for (size_t at = from; at < to; at = next)
	{
		size_t start = at;
		size_t end = at + line_end(text + at, to - at, &next);

		next += at;
		if (!trim(text, &start, &end))
			continue;
		if (lines != NULL)
			lines[n] = (DsocrLine){.start = (int32_t) (start - from),
								   .length = (int32_t) (end - start),
								   .confidence = dsocr_scores_confidence(s, text, start, end)};
		n++;
	}
	return n;
}

bool
dsocr_lines_make(const DsocrScores *s, const char *text, size_t from, size_t to, int *n_lines,
				 DsocrLine **lines, DsocrError *err)
{
	int n = go_over(s, text, from, to, NULL);

	*n_lines = 0;
	*lines = NULL;
	if (n == 0)
		return true;
	*lines = dsocr_alloc((size_t) n, sizeof(**lines), err);
	if (*lines == NULL)
		return false;
	*n_lines = go_over(s, text, from, to, *lines);
	return true;
}
