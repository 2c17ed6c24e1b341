/*-------------------------------------------------------------------------
 *
 * html_text.h
 *		The HTML that models write inside of text: tags, entities, escaping.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_HTML_TEXT_H
#define DSOCR_HTML_TEXT_H

#include "dsocr.h"

#include "lib/stringinfo.h"

typedef enum DsocrHtmlKind
{
	DSOCR_HTML_TABLE,
	DSOCR_HTML_GROUP_HEAD, /* thead */
	DSOCR_HTML_GROUP,	   /* tbody, tfoot */
	DSOCR_HTML_ROW,
	DSOCR_HTML_CELL,
	DSOCR_HTML_HEADER, /* th */
	DSOCR_HTML_CAPTION,
	DSOCR_HTML_COLUMN, /* col, colgroup */
	DSOCR_HTML_BREAK,  /* starts a new line: br, p, div, li, ... */
	DSOCR_HTML_INLINE  /* b, i, sub, ... */
} DsocrHtmlKind;

typedef struct DsocrHtmlTag
{
	DsocrHtmlKind kind;
	bool closing;
	const char *attributes; /* up to end - 1 */
	const char *end;		/* behind the '>' */
} DsocrHtmlTag;

/*
 * Is there a tag at p, which points to a '<'?  Only tags that models use for
 * text and tables count: "a < b" and "<unknown>" are text.
 */
extern bool dsocr_html_tag(const char *p, const char *end, DsocrHtmlTag *tag);

/* The value of a numeric attribute, 0 to limit; fallback where there is none. */
extern int dsocr_html_number(const DsocrHtmlTag *tag, const char *name, int limit, int fallback);

/*
 * Decode the character reference at p, which points to an '&', to UTF-8 with
 * a NUL.  Returns the bytes it takes, 0 if it is none.
 */
extern int dsocr_html_entity(const char *p, const char *end, char utf8[5]);

/* Bytes of a comment <!-- ... --> at p, 0 if it is none; an open one reaches to the end. */
extern size_t dsocr_html_comment(const char *p, const char *end);

/*
 * Append UTF-8 text so that it stands for itself in HTML and XML, in elements
 * and in quoted attributes.  Characters that XML does not have are left out.
 */
extern void dsocr_html_escape(StringInfo out, const char *utf8, size_t len);

#endif /* DSOCR_HTML_TEXT_H */
