/*-------------------------------------------------------------------------
 *
 * utf8.c
 *		Characters, repair and stripping of UTF-8.
 *
 *-------------------------------------------------------------------------
 */
#include "utf8.h"
#include "tokenizer.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"

static bool
is_continuation(const char *bytes, size_t len, size_t i)
{
	return i < len && ((unsigned char) bytes[i] & 0xc0) == 0x80;
}

size_t
dsocr_utf8_next(const char *bytes, size_t len, int32_t *code)
{
	unsigned char lead = (unsigned char) bytes[0];
	unsigned char low = 0x80;
	unsigned char high = 0xbf;
	size_t width;
	int32_t c;

	*code = -1;
	if (lead < 0x80)
	{
		*code = lead;
		return 1;
	}
	if (lead < 0xc2 || lead > 0xf4)
		return 1;
	width = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
	c = lead & (0x7f >> width);

	/* the second byte excludes overlong forms, surrogates and too high codes */
	if (lead == 0xe0)
		low = 0xa0;
	else if (lead == 0xed)
		high = 0x9f;
	else if (lead == 0xf0)
		low = 0x90;
	else if (lead == 0xf4)
		high = 0x8f;
	if (len < 2 || (unsigned char) bytes[1] < low || (unsigned char) bytes[1] > high)
		return 1;
	for (size_t i = 1; i < width; i++)
	{
		if (!is_continuation(bytes, len, i))
			return i;
		c = c << 6 | ((unsigned char) bytes[i] & 0x3f);
	}
	*code = c;
	return width;
}

bool
dsocr_utf8_is_space(int32_t c)
{
	return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
		   (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
		   c == 0x205f || c == 0x3000;
}

/* str.isspace() also counts the four separators of ASCII. */
static bool
is_python_space(int32_t c)
{
	return dsocr_utf8_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

bool
dsocr_utf8_repair(const char *bytes, size_t len, DsocrBuffer *out, size_t *replaced,
				  DsocrError *err)
{
	size_t n_replaced = 0;
	size_t valid = 0; /* start of the run not yet appended */
	size_t i = 0;

	while (i < len)
	{
		int32_t code;
		size_t n = dsocr_utf8_next(bytes + i, len - i, &code);

		if (code < 0)
		{
			if (!dsocr_buffer_append(out, bytes + valid, i - valid, err) ||
				!dsocr_buffer_append(out, REPLACEMENT, 3, err))
				return false;
			valid = i + n;
			n_replaced++;
		}
		i += n;
	}
	if (!dsocr_buffer_append(out, bytes + valid, len - valid, err))
		return false;
	if (replaced != NULL)
		*replaced = n_replaced;
	return true;
}

void
dsocr_utf8_strip(const char *text, size_t len, size_t *from, size_t *to)
{
	size_t start = 0;
	size_t end = len;
	int32_t code;

	while (start < end)
	{
		size_t n = dsocr_utf8_next(text + start, end - start, &code);

		if (!is_python_space(code))
			break;
		start += n;
	}
	while (end > start)
	{
		size_t first = end - 1;

		while (first > start && end - first < 4 && is_continuation(text, end, first))
			first--;
		if (dsocr_utf8_next(text + first, end - first, &code) != end - first ||
			!is_python_space(code))
			break;
		end = first;
	}
	*from = start;
	*to = end;
}
