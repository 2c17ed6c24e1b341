/*-------------------------------------------------------------------------
 *
 * html_text.c
 *		The HTML that models write inside of text: tags, entities, escaping.
 *
 * Models write HTML by example, not by its grammar: end tags are missing,
 * attributes lack quotes, and a '<' may be a less-than sign.  So a tag is what
 * bears a known name and is closed before the next '<'; all else is text.
 *
 *-------------------------------------------------------------------------
 */
#include "html_text.h"

#include "mb/pg_wchar.h"

/* Bytes of a tag with its attributes; what is longer is text. */
#define MAX_TAG_BYTES 1024
#define MAX_NAME_BYTES 10

static const struct
{
	const char *name;
	DsocrHtmlKind kind;
} tags[] = {
	{"table", DSOCR_HTML_TABLE},	  {"thead", DSOCR_HTML_GROUP_HEAD},
	{"tbody", DSOCR_HTML_GROUP},	  {"tfoot", DSOCR_HTML_GROUP},
	{"tr", DSOCR_HTML_ROW},			  {"td", DSOCR_HTML_CELL},
	{"th", DSOCR_HTML_HEADER},		  {"caption", DSOCR_HTML_CAPTION},
	{"col", DSOCR_HTML_COLUMN},		  {"colgroup", DSOCR_HTML_COLUMN},
	{"br", DSOCR_HTML_BREAK},		  {"p", DSOCR_HTML_BREAK},
	{"div", DSOCR_HTML_BREAK},		  {"li", DSOCR_HTML_BREAK},
	{"ul", DSOCR_HTML_BREAK},		  {"ol", DSOCR_HTML_BREAK},
	{"h1", DSOCR_HTML_BREAK},		  {"h2", DSOCR_HTML_BREAK},
	{"h3", DSOCR_HTML_BREAK},		  {"h4", DSOCR_HTML_BREAK},
	{"h5", DSOCR_HTML_BREAK},		  {"h6", DSOCR_HTML_BREAK},
	{"hr", DSOCR_HTML_BREAK},		  {"pre", DSOCR_HTML_BREAK},
	{"blockquote", DSOCR_HTML_BREAK}, {"center", DSOCR_HTML_BREAK},
	{"span", DSOCR_HTML_INLINE},	  {"b", DSOCR_HTML_INLINE},
	{"i", DSOCR_HTML_INLINE},		  {"u", DSOCR_HTML_INLINE},
	{"s", DSOCR_HTML_INLINE},		  {"em", DSOCR_HTML_INLINE},
	{"strong", DSOCR_HTML_INLINE},	  {"sub", DSOCR_HTML_INLINE},
	{"sup", DSOCR_HTML_INLINE},		  {"small", DSOCR_HTML_INLINE},
	{"big", DSOCR_HTML_INLINE},		  {"font", DSOCR_HTML_INLINE},
	{"code", DSOCR_HTML_INLINE},	  {"tt", DSOCR_HTML_INLINE},
	{"mark", DSOCR_HTML_INLINE},	  {"ins", DSOCR_HTML_INLINE},
	{"del", DSOCR_HTML_INLINE},
};

static const struct
{
	const char *name;
	pg_wchar code;
} entities[] = {
	{"amp", '&'},	   {"lt", '<'},		   {"gt", '>'},		   {"quot", '"'},	  {"apos", '\''},
	{"nbsp", 0xa0},	   {"cent", 0xa2},	   {"pound", 0xa3},	   {"yen", 0xa5},	  {"sect", 0xa7},
	{"copy", 0xa9},	   {"laquo", 0xab},	   {"reg", 0xae},	   {"deg", 0xb0},	  {"plusmn", 0xb1},
	{"sup2", 0xb2},	   {"sup3", 0xb3},	   {"micro", 0xb5},	   {"para", 0xb6},	  {"middot", 0xb7},
	{"raquo", 0xbb},   {"frac14", 0xbc},   {"frac12", 0xbd},   {"frac34", 0xbe},  {"times", 0xd7},
	{"divide", 0xf7},  {"auml", 0xe4},	   {"ouml", 0xf6},	   {"uuml", 0xfc},	  {"Auml", 0xc4},
	{"Ouml", 0xd6},	   {"Uuml", 0xdc},	   {"szlig", 0xdf},	   {"eacute", 0xe9},  {"egrave", 0xe8},
	{"agrave", 0xe0},  {"ccedil", 0xe7},   {"ntilde", 0xf1},   {"alpha", 0x3b1},  {"beta", 0x3b2},
	{"gamma", 0x3b3},  {"delta", 0x3b4},   {"mu", 0x3bc},	   {"pi", 0x3c0},	  {"sigma", 0x3c3},
	{"omega", 0x3c9},  {"Delta", 0x394},   {"Sigma", 0x3a3},   {"Omega", 0x3a9},  {"ndash", 0x2013},
	{"mdash", 0x2014}, {"lsquo", 0x2018},  {"rsquo", 0x2019},  {"ldquo", 0x201c}, {"rdquo", 0x201d},
	{"bull", 0x2022},  {"hellip", 0x2026}, {"permil", 0x2030}, {"euro", 0x20ac},  {"trade", 0x2122},
	{"larr", 0x2190},  {"uarr", 0x2191},   {"rarr", 0x2192},   {"darr", 0x2193},  {"minus", 0x2212},
	{"infin", 0x221e}, {"asymp", 0x2248},  {"ne", 0x2260},	   {"le", 0x2264},	  {"ge", 0x2265},
};

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

/* The known tag of this name, or -1. */
static int
find_tag(const char *name, size_t len)
{
	if (len > MAX_NAME_BYTES)
		return -1;
	for (int i = 0; i < (int) lengthof(tags); i++)
		if (strlen(tags[i].name) == len && pg_strncasecmp(tags[i].name, name, len) == 0)
			return i;
	return -1;
}

bool
dsocr_html_tag(const char *p, const char *end, DsocrHtmlTag *tag)
{
	const char *name = p + 1;
	const char *at;
	char quote = '\0';
	int found;

	if (name < end && *name == '/')
		name++;
	at = name;
	while (at < end && at - name <= MAX_NAME_BYTES && (is_letter(*at) || is_digit(*at)))
		at++;
	if (at == end || (!is_blank(*at) && *at != '/' && *at != '>'))
		return false;
	found = find_tag(name, at - name);
	if (found < 0)
		return false;
	tag->kind = tags[found].kind;
	tag->closing = p[1] == '/';
	tag->attributes = at;
	for (; at < end && at - p < MAX_TAG_BYTES; at++)
	{
		if (*at == '<')
			return false;
		if (*at == quote)
			quote = '\0';
		else if (quote == '\0' && (*at == '"' || *at == '\''))
			quote = *at;
		else if (quote == '\0' && *at == '>')
		{
			tag->end = at + 1;
			return true;
		}
	}
	return false;
}

int
dsocr_html_number(const DsocrHtmlTag *tag, const char *name, int limit, int fallback)
{
	const char *end = tag->end - 1;
	const char *at = tag->attributes;

	while (at < end)
	{
		const char *start;
		bool named;
		int value = 0;

		while (at < end && !is_letter(*at))
			at++;
		start = at;
		while (at < end && (is_letter(*at) || is_digit(*at) || *at == '-'))
			at++;
		named =
			at - start == (ptrdiff_t) strlen(name) && pg_strncasecmp(start, name, at - start) == 0;
		while (at < end && is_blank(*at))
			at++;
		if (at == end || *at != '=')
			continue;
		at++;
		while (at < end && is_blank(*at))
			at++;
		if (at < end && (*at == '"' || *at == '\''))
		{
			char quote = *at++;

			start = at;
			while (at < end && *at != quote)
				at++;
		}
		else
		{
			start = at;
			while (at < end && !is_blank(*at))
				at++;
		}
		while (start < at && is_blank(*start))
			start++;
		if (!named || start == at || !is_digit(*start))
			continue;
		for (; start < at && is_digit(*start); start++)
			value = Min(value * 10 + (*start - '0'), limit);
		return value;
	}
	return fallback;
}

/* Is this a character of XML, and no half of one? */
static bool
is_character(pg_wchar c)
{
	return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c < 0xd800) ||
		   (c >= 0xe000 && c < 0xfffe) || (c >= 0x10000 && c <= 0x10ffff);
}

int
dsocr_html_entity(const char *p, const char *end, char utf8[5])
{
	const char *at = p + 1;
	pg_wchar code = 0;

	if (at < end && *at == '#')
	{
		bool hex = ++at < end && (*at == 'x' || *at == 'X');
		const char *start = at += hex;

		for (; at < end && code <= 0x10ffff; at++)
		{
			if (is_digit(*at))
				code = code * (hex ? 16 : 10) + (*at - '0');
			else if (hex && ((*at >= 'a' && *at <= 'f') || (*at >= 'A' && *at <= 'F')))
				code = code * 16 + ((*at | 0x20) - 'a' + 10);
			else
				break;
		}
		if (at == start)
			return 0;
	}
	else
	{
		while (at < end && at - p <= MAX_NAME_BYTES && (is_letter(*at) || is_digit(*at)))
			at++;
		for (int i = 0; i < (int) lengthof(entities); i++)
			if (strlen(entities[i].name) == (size_t) (at - p - 1) &&
				memcmp(entities[i].name, p + 1, at - p - 1) == 0)
				code = entities[i].code;
	}
	if (at >= end || *at != ';' || !is_character(code))
		return 0;
	memset(utf8, 0, 5);
	unicode_to_utf8(code, (unsigned char *) utf8);
	return at + 1 - p;
}

size_t
dsocr_html_comment(const char *p, const char *end)
{
	if (end - p < 4 || memcmp(p, "<!--", 4) != 0)
		return 0;
	for (const char *at = p + 4; at + 3 <= end; at++)
		if (memcmp(at, "-->", 3) == 0)
			return at + 3 - p;
	return end - p;
}

void
dsocr_html_escape(StringInfo out, const char *utf8, size_t len)
{
	const char *end = utf8 + len;

	while (utf8 < end)
	{
		int n = Min(pg_utf_mblen((const unsigned char *) utf8), end - utf8);

		if (*utf8 == '&')
			appendStringInfoString(out, "&amp;");
		else if (*utf8 == '<')
			appendStringInfoString(out, "&lt;");
		else if (*utf8 == '>')
			appendStringInfoString(out, "&gt;");
		else if (*utf8 == '"')
			appendStringInfoString(out, "&quot;");
		else if (*utf8 == '\'')
			appendStringInfoString(out, "&#39;");
		else if (n == 1 || is_character(utf8_to_unicode((const unsigned char *) utf8)))
		{
			if (n > 1 || (unsigned char) *utf8 >= 0x20 || *utf8 == '\n' || *utf8 == '\t')
				appendBinaryStringInfo(out, utf8, n);
		}
		utf8 += n;
	}
}
