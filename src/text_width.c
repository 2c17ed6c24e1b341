/*-------------------------------------------------------------------------
 *
 * text_width.c
 *		How wide text is, as far as its characters tell.
 *
 *-------------------------------------------------------------------------
 */
#include "text_width.h"

const int dsocr_text_widths[DSOCR_N_WIDTHS] = {0, 250, 333, 500, 667, 833, 1000};

enum
{
	WIDTH_NONE,
	WIDTH_250,
	WIDTH_333,
	WIDTH_500,
	WIDTH_667,
	WIDTH_833,
	WIDTH_1000
};

/* Classes of ASCII, 32 characters a line. */
static const char ascii_widths[] = "03333333333333333333333333333333"
								   "21233531222312123333333333113333"
								   "54444444424445444444444544422233"
								   "13333323311315333323233533321233";

bool
dsocr_char_is_wide(pg_wchar c)
{
	return (c >= 0x1100 && c <= 0x115f) || (c >= 0x2e80 && c <= 0xa4cf) ||
		   (c >= 0xac00 && c <= 0xd7a3) || (c >= 0xf900 && c <= 0xfaff) ||
		   (c >= 0xfe30 && c <= 0xfe6f) || (c >= 0xff00 && c <= 0xff60) ||
		   (c >= 0xffe0 && c <= 0xffe6) || (c >= 0x1f300 && c <= 0x1faff) ||
		   (c >= 0x20000 && c <= 0x3fffd);
}

int
dsocr_text_width_class(pg_wchar c)
{
	if (c < 0x80)
		return ascii_widths[c] - '0';
	if ((c >= 0x300 && c <= 0x36f) || (c >= 0x200b && c <= 0x200f) || (c >= 0xfe00 && c <= 0xfe0f))
		return WIDTH_NONE;
	return dsocr_char_is_wide(c) ? WIDTH_1000 : WIDTH_500;
}

pg_wchar
dsocr_char_next(const char **p)
{
	pg_wchar c = (unsigned char) **p;

	if (c < 0x80)
	{
		(*p)++;
		return c;
	}
	c = utf8_to_unicode((const unsigned char *) *p);
	*p += pg_utf_mblen((const unsigned char *) *p);
	return c;
}

double
dsocr_char_width(pg_wchar c)
{
	return dsocr_text_widths[dsocr_text_width_class(c)] / 1000.0;
}

double
dsocr_text_width(const char *text)
{
	double width = 0;

	while (*text != '\0')
		width += dsocr_char_width(dsocr_char_next(&text));
	return width;
}
