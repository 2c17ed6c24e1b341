/*-------------------------------------------------------------------------
 *
 * check_output.c
 *		Blocks, boxes and markdown against the texts of the official code.
 *
 * cases.jsonl says where the official code found references and what it made
 * of them.  The expected markdown is put together from those places alone.
 * It must equal the official markdown too, except where that is an accident
 * of replacing text with text; accident() knows the ways.
 *
 *-------------------------------------------------------------------------
 */
#include "check.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "output.h"
#include "tokenizer.h"

#define MAX_CASES_BYTES ((size_t) 1 << 28)
#define END_TOKEN                                                                                  \
	"<\xef\xbd\x9c"                                                                                \
	"end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"
#define IMAGE_REF "<|ref|>image<|/ref|>"

typedef struct Text
{
	const char *at;
	size_t len;
} Text;

static Text
text_of(const json_t *object, const char *key)
{
	const json_t *s = json_object_get(object, key);

	if (!json_is_string(s))
		return (Text){"", 0};
	return (Text){json_string_value(s), json_string_length(s)};
}

static bool
equal(Text a, Text b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static bool
contains(Text a, const char *b, size_t n)
{
	return n <= a.len && memmem(a.at, a.len, b, n) != NULL;
}

/* The tag of a block in the text; false if the file gives no sensible place. */
static bool
block_tag(Text stripped, const json_t *block, size_t *from, size_t *to)
{
	const json_t *span = json_object_get(block, "span_bytes");
	json_int_t a = json_integer_value(json_array_get(span, 0));
	json_int_t b = json_integer_value(json_array_get(span, 1));

	if (json_array_size(span) != 2 || a < 0 || b < a || (size_t) b > stripped.len)
		return false;
	*from = (size_t) a;
	*to = (size_t) b;
	return true;
}

static bool
append_spelt(DsocrBuffer *b, const char *s, size_t n)
{
	bool ok = true;

	for (size_t i = 0; i < n && ok;)
	{
		bool define = n - i >= 9 && memcmp(s + i, "\\coloneqq", 9) == 0;
		bool inverse = n - i >= 9 && memcmp(s + i, "\\eqqcolon", 9) == 0;

		if (define || inverse)
		{
			ok = dsocr_buffer_append(b, define ? ":=" : "=:", 2, NULL);
			i += 9;
		}
		else
			ok = dsocr_buffer_append(b, s + i++, 1, NULL);
	}
	return ok;
}

/* What the markdown should be, from the places of the references. */
static bool
expected_markdown(Text stripped, const json_t *blocks, DsocrBuffer *out)
{
	DsocrBuffer joined = {0};
	size_t at = 0;
	int images = 0;
	bool ok = true;

	for (size_t i = 0; i < json_array_size(blocks) && ok; i++)
	{
		const json_t *block = json_array_get(blocks, i);
		Text label = text_of(block, "label");
		size_t from;
		size_t to;

		ok = block_tag(stripped, block, &from, &to) && from >= at &&
			 dsocr_buffer_append(&joined, stripped.at + at, from - at, NULL);
		if (ok && equal(label, (Text){"image", 5}))
			ok = dsocr_buffer_printf(&joined, NULL, "![](images/%d.jpg)\n", images++);
		at = to;
	}
	ok = ok && dsocr_buffer_append(&joined, stripped.at + at, stripped.len - at, NULL) &&
		 append_spelt(out, joined.data, joined.len);
	dsocr_buffer_free(&joined);
	return ok;
}

/*
 * Is the official markdown of this text an accident?  It is when a reference
 * occurs inside or after another one (all copies are replaced together), when
 * "image" is only part of a label or stands in the boxes (a link to a crop
 * that is never cut), and when operators stay because no block but images is
 * there.
 */
static bool
accident(Text stripped, const json_t *blocks)
{
	bool other = false;

	for (size_t i = 0; i < json_array_size(blocks); i++)
	{
		const json_t *block = json_array_get(blocks, i);
		bool image = equal(text_of(block, "label"), (Text){"image", 5});
		size_t from;
		size_t to;
		Text tag;

		if (!block_tag(stripped, block, &from, &to))
			return false;
		tag = (Text){stripped.at + from, to - from};
		other = other || !contains(tag, IMAGE_REF, strlen(IMAGE_REF));
		if (!image && contains(tag, IMAGE_REF, strlen(IMAGE_REF)))
			return true;
		for (size_t j = 0; j < json_array_size(blocks); j++)
		{
			size_t from2;
			size_t to2;

			if (j == i || !block_tag(stripped, json_array_get(blocks, j), &from2, &to2))
				continue;
			/* equal tags that vanish do no harm, equal links get one number */
			if (contains(tag, stripped.at + from2, to2 - from2) && (image || to2 - from2 < tag.len))
				return true;
		}
	}
	return !other && (contains(stripped, "\\coloneqq", 9) || contains(stripped, "\\eqqcolon", 9));
}

/* Only integers, brackets, commas and blanks are read as boxes. */
static bool
plain_integers(Text det)
{
	for (size_t i = 0; i < det.len; i++)
	{
		if (det.at[i] == '\0' || strchr("0123456789-[], \t\n\r\f", det.at[i]) == NULL)
			return false;
	}
	return true;
}

static bool
same_boxes(const DsocrBlock *b, const json_t *boxes)
{
	if ((size_t) b->n_boxes != json_array_size(boxes))
		return false;
	for (int i = 0; i < b->n_boxes; i++)
	{
		for (int k = 0; k < 4; k++)
		{
			const json_t *v = json_array_get(json_array_get(boxes, i), k);

			if (!json_is_integer(v) || json_integer_value(v) != b->boxes[i][k])
				return false;
		}
	}
	return true;
}

static void
check_block(DsocrCheck *c, const char *what, const DsocrBlock *b, const json_t *block)
{
	Text label = text_of(block, "label");
	Text content = text_of(block, "content");
	json_t *none = json_array();
	const json_t *boxes = json_object_get(block, "boxes");
	size_t from = 0;
	size_t to = 0;

	dsocr_check(c, equal(label, (Text){b->label, strlen(b->label)}), what, "label \"%s\"",
				b->label);
	/* the stored text has its blanks at both ends, ours has not */
	dsocr_utf8_strip(content.at, content.len, &from, &to);
	content = (Text){content.at + from, to - from};
	dsocr_check(c, equal(content, (Text){b->content, strlen(b->content)}), what,
				"content \"%.60s\"", b->content);
	dsocr_check(c, same_boxes(b, plain_integers(text_of(block, "det")) ? boxes : none), what,
				"%d boxes of \"%.60s\"", b->n_boxes, text_of(block, "det").at);
	json_decref(none);
}

static void
check_case(DsocrCheck *c, const json_t *object)
{
	Text text = text_of(object, "text");
	Text stripped = text_of(object, "stripped");
	Text prefix = text_of(object, "prefix");
	const json_t *blocks = json_object_get(object, "blocks");
	int width = (int) json_integer_value(json_object_get(object, "image_width"));
	int height = (int) json_integer_value(json_object_get(object, "image_height"));
	DsocrBuffer expected = {0};
	DsocrResult r = {0};
	DsocrError err = {0};
	char what[64];
	size_t from;
	size_t to;
	Text mine;

	snprintf(what, sizeof(what), "output case %lld",
			 (long long) json_integer_value(json_object_get(object, "id")));
	dsocr_output_strip(text.at, text.len, END_TOKEN, &from, &to);
	mine = (Text){text.at + from, to - from};
	dsocr_check(c, equal(mine, stripped), what, "stripped text is \"%.*s\"",
				(int) (mine.len < 80 ? mine.len : 80), mine.at);
	if (!dsocr_output_parse(stripped.at, stripped.len, width, height, &r, &err))
	{
		dsocr_check(c, false, what, "%s", err.message);
		return;
	}
	dsocr_check(c, equal(stripped, (Text){r.raw, strlen(r.raw)}), what, "raw text");
	dsocr_utf8_strip(prefix.at, prefix.len, &from, &to);
	dsocr_check(c, equal((Text){prefix.at + from, to - from}, (Text){r.prefix, strlen(r.prefix)}),
				what, "prefix \"%.80s\"", r.prefix);
	if (!expected_markdown(stripped, blocks, &expected))
		dsocr_check(c, false, what, "the case has no usable places");
	else
	{
		Text want = {expected.data, expected.len};

		dsocr_check(c, equal(want, (Text){r.markdown, strlen(r.markdown)}), what,
					"markdown \"%.80s\"", r.markdown);
		if (!accident(stripped, blocks))
			dsocr_check(c, equal(text_of(object, "markdown"), want), what,
						"official markdown \"%.80s\"", text_of(object, "markdown").at);
	}
	if (dsocr_check(c, (size_t) r.n_blocks == json_array_size(blocks), what, "%d blocks, not %zu",
					r.n_blocks, json_array_size(blocks)))
	{
		for (int i = 0; i < r.n_blocks; i++)
			check_block(c, what, &r.blocks[i], json_array_get(blocks, i));
	}
	dsocr_buffer_free(&expected);
	dsocr_result_free(&r);
}

void
dsocr_check_output(DsocrCheck *c, const char *dir)
{
	DsocrBuffer file = {0};
	DsocrError err = {0};
	char path[4096];
	char *line;
	int cases = 0;

	snprintf(path, sizeof(path), "%s/cases.jsonl", dir);
	if (!dsocr_read_file(path, MAX_CASES_BYTES, &file, &err))
	{
		dsocr_check(c, false, "output", "%s", err.message);
		return;
	}
	for (line = file.data; *line != '\0';)
	{
		size_t n = strcspn(line, "\n");
		json_error_t why;
		json_t *object = json_loadb(line, n, JSON_ALLOW_NUL, &why);

		if (json_is_object(object))
			check_case(c, object);
		else
			dsocr_check(c, false, "output", "%s, line %d: %s", path, cases + 1, why.text);
		json_decref(object);
		cases++;
		line += n + (line[n] == '\n');
	}
	dsocr_check(c, cases > 0, "output", "%s holds no case", path);
	dsocr_buffer_free(&file);
}
