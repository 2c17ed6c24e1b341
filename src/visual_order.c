/*-------------------------------------------------------------------------
 *
 * visual_order.c
 *		Text as it lies on a page from left to right.
 *
 * Letters in a PDF stand where they are seen, and readers turn text that runs
 * from right to left back when they extract it.  This is the part of Unicode's
 * bidirectional algorithm that text of pages needs: strong letters, digits and
 * neutrals on two levels, without embeddings and mirrored characters.
 *
 *-------------------------------------------------------------------------
 */
#include "visual_order.h"

typedef enum Direction
{
	LEFT_TO_RIGHT, /* digits too: they run this way everywhere */
	RIGHT_TO_LEFT,
	NEUTRAL
} Direction;

static Direction
direction(pg_wchar c)
{
	if ((c >= 0x590 && c <= 0x8ff) || (c >= 0xfb1d && c <= 0xfdff) ||
		(c >= 0xfe70 && c <= 0xfefc) || (c >= 0x10800 && c <= 0x10fff) ||
		(c >= 0x1e800 && c <= 0x1efff))
		return (c >= 0x660 && c <= 0x669) || (c >= 0x6f0 && c <= 0x6f9) ? LEFT_TO_RIGHT
																		: RIGHT_TO_LEFT;
	if (c < 0x80)
		return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ? LEFT_TO_RIGHT
																				  : NEUTRAL;
	if ((c >= 0x80 && c <= 0xbf) || (c >= 0x2000 && c <= 0x2bff))
		return NEUTRAL;
	return LEFT_TO_RIGHT;
}

/* Neutrals go with what stands on both sides of them, else with the line. */
static void
resolve(uint8 *d, int n, Direction base)
{
	for (int i = 0; i < n;)
	{
		int end = i;
		Direction before = i > 0 ? d[i - 1] : base;

		while (end < n && d[end] == NEUTRAL)
			end++;
		if (end > i)
			memset(d + i, before == (end < n ? d[end] : base) ? before : base, end - i);
		i = end + 1;
	}
}

static void
reverse(pg_wchar *c, int n)
{
	for (int i = 0; i < n / 2; i++)
	{
		pg_wchar swap = c[i];

		c[i] = c[n - 1 - i];
		c[n - 1 - i] = swap;
	}
}

pg_wchar *
dsocr_visual_order(const char *text, int *n)
{
	pg_wchar *c = palloc(sizeof(pg_wchar) * (strlen(text) + 1));
	uint8 *d;
	Direction base = NEUTRAL;
	bool any = false;
	int count = 0;

	for (; *text != '\0'; text += pg_utf_mblen((const unsigned char *) text))
	{
		c[count] = utf8_to_unicode((const unsigned char *) text);
		any = any || direction(c[count]) == RIGHT_TO_LEFT;
		count++;
	}
	*n = count;
	if (!any)
		return c;
	d = palloc(count);
	for (int i = 0; i < count; i++)
	{
		d[i] = direction(c[i]);
		if (base == NEUTRAL)
			base = d[i];
	}
	resolve(d, count, base);
	for (int i = 0; i < count;)
	{
		int end = i;

		while (end < count && d[end] == d[i])
			end++;
		if (d[i] != base)
			reverse(c + i, end - i);
		i = end;
	}
	if (base == RIGHT_TO_LEFT)
		reverse(c, count);
	pfree(d);
	return c;
}
