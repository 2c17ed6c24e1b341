/*-------------------------------------------------------------------------
 *
 * output.c
 *		References and boxes in the model's text; markdown without them.
 *
 * A reference is <|ref|>label<|/ref|><|det|>boxes<|/det|>.  Its label ends at
 * the first <|/ref|><|det|>, its boxes at the first <|/det|> after that, and
 * the next reference is looked for behind it.  If a reference cannot be
 * completed, neither can any that starts later, so the scan goes over the
 * text once, whatever the text is.
 *
 * The official code evaluates the boxes as Python.  Here they must be a list
 * of lists of integers; anything else leaves the block without boxes.
 *
 *-------------------------------------------------------------------------
 */
#include "output.h"

#include <string.h>

#include "tokenizer.h"

#define REF_OPEN "<|ref|>"
#define REF_TO_DET "<|/ref|><|det|>"
#define DET_CLOSE "<|/det|>"
#define IMAGE_LABEL "image"

/* Boxes are in thousandths of the image, 999 being its far edge. */
#define BOX_UNITS 999

/* Far more than any coordinate; keeps the arithmetic inside int32. */
#define MAX_COORDINATE 1000000000

typedef struct Span
{
	const char *at;
	size_t len;
} Span;

typedef struct Reference
{
	Span whole;
	Span label;
	Span det;
} Reference;

void
dsocr_output_strip(const char *text, size_t len, const char *eos, size_t *from, size_t *to)
{
	size_t n = eos == NULL ? 0 : strlen(eos);

	if (n > 0 && len >= n && memcmp(text + len - n, eos, n) == 0)
		len -= n;
	dsocr_utf8_strip(text, len, from, to);
}

/* ---- references ---- */

/* First place of a tag, which starts with '<', in [at, end), or NULL. */
static const char *
find_tag(const char *at, const char *end, const char *tag)
{
	size_t n = strlen(tag);

	while ((size_t) (end - at) >= n)
	{
		at = memchr(at, '<', end - at);
		if (at == NULL || (size_t) (end - at) < n)
			return NULL;
		if (memcmp(at, tag, n) == 0)
			return at;
		at++;
	}
	return NULL;
}

/* Find the next reference in s; false when there is no more. */
static bool
next_reference(Span s, Reference *r)
{
	const char *end = s.at + s.len;
	const char *open;
	const char *label;
	const char *middle;
	const char *det;
	const char *close;

	if (s.len == 0)
		return false;
	open = find_tag(s.at, end, REF_OPEN);
	if (open == NULL)
		return false;
	label = open + strlen(REF_OPEN);
	middle = find_tag(label, end, REF_TO_DET);
	if (middle == NULL)
		return false;
	det = middle + strlen(REF_TO_DET);
	close = find_tag(det, end, DET_CLOSE);
	if (close == NULL)
		return false;
	r->whole = (Span){open, close + strlen(DET_CLOSE) - open};
	r->label = (Span){label, middle - label};
	r->det = (Span){det, close - det};
	return true;
}

static bool
is_image(Span label)
{
	return label.len == strlen(IMAGE_LABEL) && memcmp(label.at, IMAGE_LABEL, label.len) == 0;
}

/* ---- boxes ---- */

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

/*
 * Go over a box list and count its boxes; write them to boxes unless that is
 * NULL.  The first element that is no box ends the count, as it does in the
 * official code; a list that is not well formed has none.
 */
static int
read_boxes(Span det, int width, int height, int32_t (*boxes)[4])
{
	BoxReader r = {det.at, det.at + det.len};
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

/* ---- the result ---- */

static char *
copy_span(Span s, DsocrError *err)
{
	char *copy = dsocr_alloc(s.len + 1, 1, err);

	if (copy != NULL)
	{
		if (s.len > 0)
			memcpy(copy, s.at, s.len);
		copy[s.len] = '\0';
	}
	return copy;
}

/* The text with each NUL replaced, terminated; b->data is set even when empty. */
static bool
copy_without_nul(const char *text, size_t len, DsocrBuffer *b, DsocrError *err)
{
	const char *end = text + len;

	if (!dsocr_buffer_append(b, "", 0, err))
		return false;
	while (text < end)
	{
		const char *nul = memchr(text, '\0', end - text);
		size_t n = (nul == NULL ? end : nul) - text;

		if (!dsocr_buffer_append(b, text, n, err))
			return false;
		text += n;
		if (nul != NULL)
		{
			if (!dsocr_buffer_append(b, "\xef\xbf\xbd", 3, err))
				return false;
			text++;
		}
	}
	return true;
}

/* text with the two operators that few markdown renderers know spelt out, in place */
static void
replace_operators(DsocrBuffer *b)
{
	static const struct
	{
		const char *from;
		const char *to;
	} ops[] = {{"\\coloneqq", ":="}, {"\\eqqcolon", "=:"}};
	char *out = memchr(b->data, '\\', b->len);
	const char *at = out;
	const char *end = b->data + b->len;

	if (out == NULL)
		return;
	while (at < end)
	{
		bool found = false;

		for (size_t i = 0; *at == '\\' && i < sizeof(ops) / sizeof(ops[0]) && !found; i++)
		{
			size_t n = strlen(ops[i].from);

			if ((size_t) (end - at) >= n && memcmp(at, ops[i].from, n) == 0)
			{
				memcpy(out, ops[i].to, 2);
				out += 2;
				at += n;
				found = true;
			}
		}
		if (!found)
			*out++ = *at++;
	}
	*out = '\0';
	b->len = out - b->data;
}

/* Markdown: image references become links, the others vanish. */
static bool
make_markdown(Span text, DsocrBuffer *b, DsocrError *err)
{
	Reference r;
	int images = 0;

	if (!dsocr_buffer_append(b, "", 0, err))
		return false;
	while (next_reference(text, &r))
	{
		size_t before = r.whole.at - text.at;

		if (!dsocr_buffer_append(b, text.at, before, err))
			return false;
		if (is_image(r.label) && !dsocr_buffer_printf(b, err, "![](images/%d.jpg)\n", images++))
			return false;
		text.at += before + r.whole.len;
		text.len -= before + r.whole.len;
	}
	if (!dsocr_buffer_append(b, text.at, text.len, err))
		return false;
	replace_operators(b);
	return true;
}

/* What is being parsed: all text, the page's size, and the tokens if they are known. */
typedef struct Source
{
	Span text;
	int width;
	int height;
	const DsocrScores *scores;
} Source;

/* Confidence of bytes [from, to), and the lines of those of them that are shown. */
static bool
score(const Source *s, size_t from, size_t to, Span shown, float *confidence, int *n_lines,
	  DsocrLine **lines, DsocrError *err)
{
	size_t at = (size_t) (shown.at - s->text.at);

	if (s->scores == NULL)
		return true;
	*confidence = dsocr_scores_confidence(s->scores, s->text.at, from, to);
	return dsocr_lines_make(s->scores, s->text.at, at, at + shown.len, n_lines, lines, err);
}

static bool
fill_block(DsocrBlock *b, const Source *s, const Reference *r, Span content, DsocrError *err)
{
	size_t from = 0;
	size_t to = 0;
	int n = read_boxes(r->det, s->width, s->height, NULL);

	dsocr_utf8_strip(content.at, content.len, &from, &to);
	b->label = copy_span(r->label, err);
	b->content = copy_span((Span){content.at + from, to - from}, err);
	if (b->label == NULL || b->content == NULL ||
		!score(s, (size_t) (r->whole.at - s->text.at),
			   (size_t) (content.at + content.len - s->text.at),
			   (Span){content.at + from, to - from}, &b->confidence, &b->n_lines, &b->lines, err))
		return false;
	if (n > 0)
	{
		b->boxes = dsocr_alloc(n, sizeof(b->boxes[0]), err);
		if (b->boxes == NULL)
			return false;
		b->n_boxes = read_boxes(r->det, s->width, s->height, b->boxes);
	}
	return true;
}

/* What stands before the first block belongs to none of them. */
static bool
make_prefix(const Source *s, DsocrResult *out, DsocrError *err)
{
	Span text = s->text;
	Reference r;
	size_t from = 0;
	size_t to = 0;

	if (next_reference(text, &r))
		text.len = r.whole.at - text.at;
	dsocr_utf8_strip(text.at, text.len, &from, &to);
	out->prefix = copy_span((Span){text.at + from, to - from}, err);
	return out->prefix != NULL &&
		   (from == to ||
			score(s, 0, text.len, (Span){text.at + from, to - from}, &out->prefix_confidence,
				  &out->n_prefix_lines, &out->prefix_lines, err));
}

static bool
make_blocks(const Source *s, DsocrResult *out, DsocrError *err)
{
	Span text = s->text;
	const char *end = text.at + text.len;
	Span rest = text;
	Reference r;
	Reference next;
	int n = 0;
	bool more;

	while (next_reference(rest, &r))
	{
		rest.at = r.whole.at + r.whole.len;
		rest.len = end - rest.at;
		n++;
	}
	if (n == 0)
		return true;
	out->blocks = dsocr_zalloc(n, sizeof(*out->blocks), err);
	if (out->blocks == NULL)
		return false;
	out->n_blocks = n;
	more = next_reference(text, &r);
	for (int i = 0; i < n && more; i++)
	{
		Span content;

		rest.at = r.whole.at + r.whole.len;
		rest.len = end - rest.at;
		more = next_reference(rest, &next);
		content = (Span){rest.at, (more ? next.whole.at : end) - rest.at};
		if (!fill_block(&out->blocks[i], s, &r, content, err))
			return false;
		r = next;
	}
	return true;
}

bool
dsocr_output_parse_scored(const char *text, size_t len, int width, int height,
						  const DsocrScores *scores, DsocrResult *result, DsocrError *err)
{
	DsocrBuffer raw = {0};
	DsocrBuffer markdown = {0};
	DsocrResult parsed = {0};
	Source s = {.width = width, .height = height, .scores = scores};
	bool ok;

	if (!copy_without_nul(text, len, &raw, err))
	{
		dsocr_buffer_free(&raw);
		return false;
	}
	s.text = (Span){raw.data, raw.len};
	if (make_markdown(s.text, &markdown, err))
		parsed.markdown = copy_span((Span){markdown.data, markdown.len}, err);
	dsocr_buffer_free(&markdown);
	if (parsed.markdown != NULL)
		parsed.raw = copy_span(s.text, err);
	ok = parsed.raw != NULL && make_prefix(&s, &parsed, err) && make_blocks(&s, &parsed, err);
	dsocr_buffer_free(&raw);
	if (!ok)
	{
		dsocr_result_free(&parsed);
		return false;
	}
	result->raw = parsed.raw;
	result->markdown = parsed.markdown;
	result->prefix = parsed.prefix;
	result->prefix_confidence = parsed.prefix_confidence;
	result->n_prefix_lines = parsed.n_prefix_lines;
	result->prefix_lines = parsed.prefix_lines;
	result->blocks = parsed.blocks;
	result->n_blocks = parsed.n_blocks;
	return true;
}

bool
dsocr_output_parse(const char *text, size_t len, int width, int height, DsocrResult *result,
				   DsocrError *err)
{
	return dsocr_output_parse_scored(text, len, width, height, NULL, result, err);
}
