/*-------------------------------------------------------------------------
 *
 * output_boxes.c
 *		Lists of boxes as the model writes them.
 *
 * The official code evaluates the boxes as Python.  Here they must be a list
 * of lists of integers; anything else leaves the block without boxes.
 *
 *-------------------------------------------------------------------------
 */
#include "output_boxes.h"

#include <string.h>

/* Boxes are in thousandths of the image, 999 being its far edge. */
#define BOX_UNITS 999

/* Far more than any coordinate; keeps the arithmetic inside int32. */
#define MAX_COORDINATE 1000000000

typedef struct BoxReader
{
	const char *at;
	const char *end;
} BoxReader;

static void
skip_blanks(BoxReader *r)
{
	while (r->at < r->end && strchr(" \t\n\r\f", *r->at) != NULL && *r->at != '\0')
		r->at++;
}

static bool
accept(BoxReader *r, char c)
{
	skip_blanks(r);
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

/* -?(0|[1-9][0-9]*); larger numbers stop at MAX_COORDINATE. */
static bool
read_integer(BoxReader *r, int64_t *value)
{
	bool negative = accept(r, '-');
	const char *first = r->at;
	int64_t v = 0;

	while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
	{
		if (v < MAX_COORDINATE)
			v = v * 10 + (*r->at - '0');
		r->at++;
	}
	if (r->at == first || (*first == '0' && r->at - first > 1))
		return false;
	if (v > MAX_COORDINATE)
		v = MAX_COORDINATE;
	*value = negative ? -v : v;
	return true;
}

/* Pixels of a coordinate, truncated toward zero and not clamped to the image. */
static int32_t
to_pixels(int64_t v, int size)
{
	double pixels = (double) v / BOX_UNITS * size;

	if (pixels > MAX_COORDINATE)
		return MAX_COORDINATE;
	if (pixels < -MAX_COORDINATE)
		return -MAX_COORDINATE;
	return (int32_t) pixels;
}

/*
 * Walk over one element of the list.  Returns false when it is not made of
 * integers and brackets; *is_box tells whether it was a list of four integers.
 */
static bool
read_element(BoxReader *r, int64_t v[4], bool *is_box)
{
	size_t depth = 0;
	size_t numbers = 0;

	*is_box = true;
	do
	{
		int64_t number;

		if (accept(r, '['))
		{
			depth++;
			if (depth > 1)
				*is_box = false;
			/* an empty list closes at once, below */
			skip_blanks(r);
			if (r->at == r->end || *r->at != ']')
				continue;
		}
		else
		{
			if (!read_integer(r, &number))
				return false;
			if (numbers < 4)
				v[numbers] = number;
			numbers++;
		}
		/* a comma may stand before the closing bracket */
		while (depth > 0)
		{
			bool comma = accept(r, ',');

			if (accept(r, ']'))
				depth--;
			else if (comma)
				break;
			else
				return false;
		}
	} while (depth > 0);
	if (numbers != 4)
		*is_box = false;
	return true;
}

int
dsocr_output_boxes(const char *list, size_t len, int width, int height, int32_t (*boxes)[4])
{
	BoxReader r = {list, list + len};
	bool good = true;
	int n = 0;

	if (!accept(&r, '['))
		return 0;
	while (!accept(&r, ']'))
	{
		int64_t v[4] = {0};
		bool scalar;
		bool is_box;

		skip_blanks(&r);
		scalar = r.at < r.end && *r.at != '[';
		if (!read_element(&r, v, &is_box))
			return 0;
		if (!is_box || scalar)
			good = false;
		if (good)
		{
			for (int i = 0; i < 4 && boxes != NULL; i++)
				boxes[n][i] = to_pixels(v[i], i % 2 == 0 ? width : height);
			n++;
		}
		if (!accept(&r, ','))
		{
			if (!accept(&r, ']'))
				return 0;
			break;
		}
	}
	skip_blanks(&r);
	return r.at == r.end ? n : 0;
}
