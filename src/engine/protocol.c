/*-------------------------------------------------------------------------
 *
 * protocol.c
 *		Writing the frames between worker and engine.
 *
 * Bodies are a sequence of integers without padding; a string is its length
 * (uint32) and its bytes.  The writer repairs what the reader would refuse
 * (a message cut inside a character, a folder name that is not UTF-8), so
 * that only a broken or hostile peer is ever called malformed.
 *
 * Linked into the engine and into the PostgreSQL module, as protocol_read.c is.
 *
 *-------------------------------------------------------------------------
 */
#include "protocol.h"

#include <math.h>
#include <string.h>

#include "utf8.h"

#define BOX_BYTES 16

typedef struct Writer
{
	DsocrBuffer *out;
	size_t start; /* of the frame in out */
	DsocrError *err;
	bool ok;
} Writer;

static void
put(Writer *w, const void *bytes, size_t n)
{
	if (w->ok && n > 0)
		w->ok = dsocr_buffer_append(w->out, bytes, n, w->err);
}

static void
put_u32(Writer *w, uint32_t v)
{
	put(w, &v, sizeof(v));
}

static void
put_i32(Writer *w, int32_t v)
{
	put(w, &v, sizeof(v));
}

static void
put_u64(Writer *w, uint64_t v)
{
	put(w, &v, sizeof(v));
}

static void
put_float(Writer *w, float v)
{
	v = isfinite(v) ? v : 0;
	put(w, &v, sizeof(v));
}

static void
put_double(Writer *w, double v)
{
	v = isfinite(v) ? v : 0;
	put(w, &v, sizeof(v));
}

static void
put_i64(Writer *w, int64_t v)
{
	put(w, &v, sizeof(v));
}

/* At most n bytes of s up to its NUL; bytes that are not UTF-8 become '?'. */
static void
put_string(Writer *w, const char *s, size_t n)
{
	size_t len = s == NULL ? 0 : strnlen(s, n);
	size_t from = 0;
	size_t at = 0;

	if (len > DSOCR_MAX_FRAME)
	{
		w->ok = w->ok && dsocr_fail(w->err, DSOCR_E_INTERNAL, "text of %zu bytes is too long", len);
		return;
	}
	put_u32(w, (uint32_t) len);
	while (at < len)
	{
		int32_t code;
		size_t step = dsocr_utf8_next(s + at, len - at, &code);

		if (code < 0)
		{
			/* as many as there were: the length is written */
			put(w, s + from, at - from);
			for (size_t i = 0; i < step; i++)
				put(w, "?", 1);
			from = at + step;
		}
		at += step;
	}
	put(w, s == NULL ? NULL : s + from, len - from);
}

static Writer
frame_begin(DsocrBuffer *out, DsocrFrameType type, uint64_t id, DsocrError *err)
{
	Writer w = {.out = out, .start = out->len, .err = err, .ok = true};
	DsocrFrameHeader h = {.magic = DSOCR_FRAME_MAGIC,
						  .version = DSOCR_PROTOCOL_VERSION,
						  .type = (uint16_t) type,
						  .id = id};

	put(&w, &h, sizeof(h));
	return w;
}

/* Put the body's length into the header; more is what the caller sends after it. */
static bool
frame_end(Writer *w, uint64_t more)
{
	if (w->ok)
	{
		uint64_t length = w->out->len - w->start - sizeof(DsocrFrameHeader);

		if (more > DSOCR_MAX_FRAME || length > DSOCR_MAX_FRAME - more)
			w->ok =
				dsocr_fail(w->err, DSOCR_E_ARGUMENT, "message exceeds %zu bytes", DSOCR_MAX_FRAME);
		else
		{
			length += more;
			memcpy(w->out->data + w->start + offsetof(DsocrFrameHeader, length), &length,
				   sizeof(length));
		}
	}
	if (!w->ok && w->out->data != NULL)
	{
		/* leave no half frame behind */
		w->out->len = w->start;
		w->out->data[w->start] = '\0';
	}
	return w->ok;
}

static void
put_error(Writer *w, const DsocrError *e)
{
	put_u32(w, (uint32_t) e->code);
	/* one byte less than the field: the reader needs room for the NUL */
	put_string(w, e->message, sizeof(e->message) - 1);
	put_string(w, e->hint, sizeof(e->hint) - 1);
}

bool
dsocr_frame_ready(DsocrBuffer *out, const DsocrModelInfo *info, DsocrError *err)
{
	Writer w = frame_begin(out, DSOCR_FRAME_READY, 0, err);

	put_string(&w, info->name, sizeof(info->name) - 1);
	put_string(&w, info->fingerprint, sizeof(info->fingerprint) - 1);
	put_string(&w, info->device, sizeof(info->device) - 1);
	put_string(&w, info->weights, sizeof(info->weights) - 1);
	put_string(&w, info->sandbox, sizeof(info->sandbox) - 1);
	put_u32(&w, (uint32_t) info->auto_mode);
	put_u32(&w, info->modes);
	put_i32(&w, info->max_positions);
	put_i32(&w, info->max_sequences);
	put_i64(&w, info->parameters);
	put_i64(&w, info->weight_bytes);
	put_i64(&w, info->kv_bytes);
	return frame_end(&w, 0);
}

bool
dsocr_frame_failed(DsocrBuffer *out, const DsocrError *why, DsocrError *err)
{
	Writer w = frame_begin(out, DSOCR_FRAME_FAILED, 0, err);

	put_error(&w, why);
	return frame_end(&w, 0);
}

bool
dsocr_frame_progress(DsocrBuffer *out, const DsocrProgress *p, DsocrError *err)
{
	Writer w = frame_begin(out, DSOCR_FRAME_PROGRESS, p->id, err);

	put_i32(&w, p->views_done);
	put_i32(&w, p->views);
	put_i32(&w, p->image_tokens);
	put_i32(&w, p->text_tokens);
	put_i32(&w, p->pages);
	return frame_end(&w, 0);
}

static void
put_lines(Writer *w, float confidence, int n, const DsocrLine *lines)
{
	put_float(w, confidence);
	put_u32(w, (uint32_t) n);
	for (int i = 0; i < n; i++)
	{
		put_i32(w, lines[i].start);
		put_i32(w, lines[i].length);
		put_float(w, lines[i].confidence);
	}
}

static void
put_block(Writer *w, const DsocrBlock *b)
{
	put_string(w, b->label, SIZE_MAX);
	put_string(w, b->content, SIZE_MAX);
	put_u32(w, (uint32_t) b->n_boxes);
	if (b->n_boxes > 0)
		put(w, b->boxes, (size_t) b->n_boxes * BOX_BYTES);
	put_lines(w, b->confidence, b->n_lines, b->lines);
}

static void
put_attempt(Writer *w, const DsocrAttempt *a)
{
	put_u32(w, (uint32_t) a->mode);
	put_u32(w, (uint32_t) a->finish);
	put_i32(w, a->text_tokens);
}

bool
dsocr_frame_result(DsocrBuffer *out, uint64_t id, const DsocrError *status,
				   const DsocrResult *result, DsocrError *err)
{
	Writer w = frame_begin(out, DSOCR_FRAME_RESULT, id, err);

	put_error(&w, status);
	if (status->code == DSOCR_OK)
	{
		const DsocrTimings *t = &result->timings;

		put_u32(&w, (uint32_t) result->finish);
		put_u32(&w, (uint32_t) result->mode);
		put_i32(&w, result->width);
		put_i32(&w, result->height);
		put_i32(&w, result->rotation);
		put_float(&w, result->skew);
		put_i32(&w, result->pages);
		put_i32(&w, result->grid_columns);
		put_i32(&w, result->grid_rows);
		put_i32(&w, result->views);
		put_i32(&w, result->image_tokens);
		put_i32(&w, result->valid_image_tokens);
		put_i32(&w, result->prompt_tokens);
		put_i32(&w, result->text_tokens);
		put_double(&w, result->mean_logprob);
		put_double(&w, result->confidence);
		put_u32(&w, (uint32_t) result->n_attempts);
		for (int i = 0; i < result->n_attempts; i++)
			put_attempt(&w, &result->attempts[i]);
		put_i64(&w, t->queued);
		put_i64(&w, t->preprocess);
		put_i64(&w, t->encode);
		put_i64(&w, t->prefill);
		put_i64(&w, t->decode);
		put_string(&w, result->raw, SIZE_MAX);
		put_string(&w, result->markdown, SIZE_MAX);
		put_string(&w, result->prefix, SIZE_MAX);
		put_lines(&w, result->prefix_confidence, result->n_prefix_lines, result->prefix_lines);
		put_u32(&w, (uint32_t) result->n_blocks);
		for (int i = 0; i < result->n_blocks; i++)
			put_block(&w, &result->blocks[i]);
		put_u64(&w, result->image_len);
		put(&w, result->image, result->image_len);
	}
	return frame_end(&w, 0);
}

bool
dsocr_frame_simple(DsocrBuffer *out, DsocrFrameType type, uint64_t id, DsocrError *err)
{
	Writer w = frame_begin(out, type, id, err);

	return frame_end(&w, 0);
}

bool
dsocr_frame_request_head(DsocrBuffer *out, const DsocrRequest *r, DsocrError *err)
{
	Writer w = frame_begin(out, DSOCR_FRAME_REQUEST, r->id, err);
	size_t prompt_len = r->prompt == NULL ? 0 : strlen(r->prompt);
	size_t more;

	put_u32(&w, (uint32_t) r->kind);
	put_u32(&w, (uint32_t) r->task);
	put_u32(&w, (uint32_t) r->priority);
	put_u32(&w, (uint32_t) r->mode);
	put_i32(&w, r->spec.base_size);
	put_i32(&w, r->spec.image_size);
	put_i32(&w, r->spec.max_tiles);
	put_u32(&w, r->spec.crop ? 1 : 0);
	put_u32(&w, r->spec.vllm ? 1 : 0);
	put_i32(&w, r->max_tokens);
	put_i32(&w, r->ngram_size);
	put_i32(&w, r->ngram_window);
	put_i32(&w, r->probe_width);
	put_i32(&w, r->probe_height);
	put_u64(&w, r->max_pixels);
	put_u32(&w, r->auto_rotate ? 1 : 0);
	put_u32(&w, r->ladder ? 1 : 0);
	put_u64(&w, r->document);
	put_i32(&w, r->page);
	put_i32(&w, r->dpi);
	put_i32(&w, r->max_pages);
	put_u32(&w, (uint32_t) r->output);
	for (int i = 0; i < 4; i++)
		put_i32(&w, r->crop[i]);
	put_u32(&w, r->prompt != NULL ? 1 : 0);
	put_u64(&w, prompt_len);
	put_u64(&w, r->image_len);
	if (!dsocr_add(prompt_len, r->image_len, &more))
		more = SIZE_MAX;
	return frame_end(&w, more);
}
