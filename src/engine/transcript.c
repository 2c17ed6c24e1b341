/*-------------------------------------------------------------------------
 *
 * transcript.c
 *		From the ids that the model wrote to texts, blocks and confidences.
 *
 * Bytes of ids are known exactly; repairing UTF-8 and stripping blanks move
 * them, and the ends of the ids are moved with them.
 *
 *-------------------------------------------------------------------------
 */
#include "transcript.h"

#include <math.h>
#include <string.h>

#include "output.h"
#include "utf8.h"

#define REPLACEMENT "\xef\xbf\xbd"
#define REF_OPEN "<|ref|>"
#define DET_CLOSE "<|/det|>"
#define LONGEST_TAG 64 /* bytes in which a tag that is no text ends */

typedef struct Draft
{
	int n;		  /* ids */
	size_t *ends; /* [n] */
	DsocrBuffer bytes;
} Draft;

static bool
decode(const DsocrTokenizer *t, const DsocrTranscript *in, Draft *d, DsocrError *err)
{
	d->n = in->n;
	d->ends = dsocr_alloc((size_t) in->n, sizeof(*d->ends), err);
	if (d->ends == NULL || !dsocr_buffer_append(&d->bytes, "", 0, err))
		return false;
	for (int i = 0; i < in->n; i++)
	{
		if (!dsocr_tokenizer_decode(t, in->ids + i, 1, false, &d->bytes, err))
			return false;
		d->ends[i] = d->bytes.len;
	}
	return true;
}

/* ---- behind a loop ---- */

/* Last place of what in the first len bytes, or NULL. */
static const char *
find_last(const char *text, size_t len, const char *what)
{
	size_t n = strlen(what);

	for (size_t at = len < n ? 0 : len - n + 1; at > 0; at--)
		if (memcmp(text + at - 1, what, n) == 0)
			return text + at - 1;
	return NULL;
}

/* Behind <; NUL is the end of the text. */
static bool
may_be_tag(char c)
{
	return c == '\0' || c == '/' || c == '|' || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* Bytes in front of a reference, tag or character that is not complete. */
static size_t
complete_bytes(const char *text, size_t len)
{
	const char *ref = find_last(text, len, REF_OPEN);
	const char *open;
	size_t at;

	if (ref != NULL &&
		memmem(ref, len - (size_t) (ref - text), DET_CLOSE, strlen(DET_CLOSE)) == NULL)
		return (size_t) (ref - text);
	open = memrchr(text, '<', len);
	if (open != NULL && (size_t) (text + len - open) < LONGEST_TAG &&
		memchr(open, '>', (size_t) (text + len - open)) == NULL && may_be_tag(open[1]))
		len = (size_t) (open - text);
	/* at most three bytes are the beginning of a character */
	for (at = len; at > 0 && len - at < 3 && ((unsigned char) text[at - 1] & 0xc0) == 0x80; at--)
		;
	if (at > 0 && (unsigned char) text[at - 1] >= 0xc0)
	{
		int32_t code;

		dsocr_utf8_next(text + at - 1, len - at + 1, &code);
		if (code < 0)
			return at - 1;
	}
	return len;
}

static void
cut_unfinished(Draft *d)
{
	size_t keep = complete_bytes(d->bytes.data, d->bytes.len);

	while (d->n > 0 && d->ends[d->n - 1] > keep)
		d->n--;
	d->bytes.len = d->n > 0 ? d->ends[d->n - 1] : 0;
	d->bytes.data[d->bytes.len] = '\0';
}

/* Does the last of one tag stand behind the last of the other? */
static bool
is_open(const char *text, size_t len, const char *tag, const char *end)
{
	const char *first = find_last(text, len, tag);
	const char *last = find_last(text, len, end);

	return first != NULL && (last == NULL || last < first);
}

/* What the table at the end of the text lacks. */
static bool
close_table(DsocrBuffer *text, DsocrError *err)
{
	const char *ref = find_last(text->data, text->len, DET_CLOSE);
	size_t skip = ref == NULL ? 0 : (size_t) (ref - text->data);
	const char *block = text->data + skip;
	size_t len = text->len - skip;
	bool cell;
	bool row;

	if (!is_open(block, len, "<table", "</table>"))
		return true;
	cell = is_open(block, len, "<td", "</td>");
	row = is_open(block, len, "<tr", "</tr>");
	return (!cell || dsocr_buffer_append(text, "</td>", 5, err)) &&
		   (!row || dsocr_buffer_append(text, "</tr>", 5, err)) &&
		   dsocr_buffer_append(text, "</table>", 8, err);
}

/* ---- text ---- */

/* Valid UTF-8 without U+0000; the ends follow. */
static bool
repair(Draft *d, DsocrBuffer *text, DsocrError *err)
{
	const char *bytes = d->bytes.data;
	size_t len = d->bytes.len;
	size_t valid = 0;
	int id = 0;

	if (!dsocr_buffer_append(text, "", 0, err))
		return false;
	for (size_t at = 0; at < len;)
	{
		int32_t code;
		size_t n = dsocr_utf8_next(bytes + at, len - at, &code);

		if (code <= 0)
		{
			/* ends up to here are as far behind valid as they were */
			for (; id < d->n && d->ends[id] <= at; id++)
				d->ends[id] = d->ends[id] - valid + text->len;
			if (!dsocr_buffer_append(text, bytes + valid, at - valid, err) ||
				!dsocr_buffer_append(text, REPLACEMENT, strlen(REPLACEMENT), err))
				return false;
			valid = at + n;
			for (; id < d->n && d->ends[id] < valid; id++)
				d->ends[id] = text->len;
		}
		at += n;
	}
	for (; id < d->n; id++)
		d->ends[id] = d->ends[id] - valid + text->len;
	return dsocr_buffer_append(text, bytes + valid, len - valid, err);
}

/* Ends counted from a byte of the text, inside of the len bytes there. */
static void
move_ends(Draft *d, size_t from, size_t len)
{
	for (int i = 0; i < d->n; i++)
	{
		size_t end = d->ends[i] > from ? d->ends[i] - from : 0;

		d->ends[i] = end < len ? end : len;
	}
}

static bool
parse(Draft *d, const DsocrTranscript *in, DsocrResult *result, DsocrError *err)
{
	DsocrBuffer text = {0};
	DsocrScores scores = {.logprobs = in->logprobs, .ends = d->ends};
	size_t from = 0;
	size_t to = 0;
	bool ok;

	ok = repair(d, &text, err);
	if (ok)
	{
		dsocr_utf8_strip(text.data, text.len, &from, &to);
		move_ends(d, from, to - from);
		text.len = to;
		scores.n = (size_t) d->n;
		ok = !in->loop || close_table(&text, err);
	}
	ok = ok && dsocr_output_parse_scored(text.data + from, text.len - from, in->width, in->height,
										 &scores, result, err);
	if (ok)
		result->raw[to - from] = '\0';
	dsocr_buffer_free(&text);
	return ok;
}

bool
dsocr_transcript_fill(const DsocrTokenizer *t, const DsocrTranscript *in, DsocrResult *result,
					  DsocrError *err)
{
	Draft d = {0};
	double sum = 0;
	bool ok = decode(t, in, &d, err);

	if (ok && in->loop)
		cut_unfinished(&d);
	ok = ok && parse(&d, in, result, err);
	if (ok)
	{
		for (int i = 0; i < d.n; i++)
			sum += in->logprobs[i];
		result->text_tokens = d.n;
		result->mean_logprob = d.n > 0 ? sum / d.n : 0;
		result->confidence = d.n > 0 ? exp(result->mean_logprob) : 0;
	}
	dsocr_free(d.ends);
	dsocr_buffer_free(&d.bytes);
	return ok;
}
