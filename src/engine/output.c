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
 *-------------------------------------------------------------------------
 */
#include "output.h"
#include "output_boxes.h"

#include <string.h>

#include "tokenizer.h"

#define REF_OPEN "<|ref|>"
#define REF_TO_DET "<|/ref|><|det|>"
#define DET_CLOSE "<|/det|>"
#define IMAGE_LABEL "image"

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
	int n = dsocr_output_boxes(r->det.at, r->det.len, s->width, s->height, NULL);

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
		b->n_boxes = dsocr_output_boxes(r->det.at, r->det.len, s->width, s->height, b->boxes);
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
