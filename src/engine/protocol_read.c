/*-------------------------------------------------------------------------
 *
 * protocol_read.c
 *		Reading the frames between worker and engine.
 *
 * Nothing is believed.  Each count is compared with the bytes that are left
 * before memory is allocated for it, so that memory use is bounded by a small
 * multiple of the frame.
 *
 *-------------------------------------------------------------------------
 */
#include "protocol.h"
#include "protocol_wire.h"

#include <string.h>

/* Bytes of a body that are not image, prompt or text: no such frame comes near it. */
#define MAX_SMALL_BODY 65536

/* Fewest bytes of a block and of a box on the wire. */
#define MIN_BLOCK_BYTES 20
#define BOX_BYTES 16
#define LINE_BYTES 12

bool
dsocr_frame_check(const DsocrFrameHeader *h, DsocrError *err)
{
	uint64_t limit;

	if (h->magic != DSOCR_FRAME_MAGIC)
		return dsocr_fail(err, DSOCR_E_INTERNAL, "malformed message: no frame starts here");
	if (h->version != DSOCR_PROTOCOL_VERSION)
		return dsocr_fail(err, DSOCR_E_INTERNAL, "protocol version %u, expected %u", h->version,
						  DSOCR_PROTOCOL_VERSION);
	switch (h->type)
	{
		case DSOCR_FRAME_READY:
		case DSOCR_FRAME_FAILED:
		case DSOCR_FRAME_PROGRESS:
			limit = MAX_SMALL_BODY;
			break;
		case DSOCR_FRAME_RESULT:
		case DSOCR_FRAME_REQUEST:
			limit = DSOCR_MAX_FRAME;
			break;
		case DSOCR_FRAME_CANCEL:
		case DSOCR_FRAME_SHUTDOWN:
			limit = 0;
			break;
		default:
			return dsocr_fail(err, DSOCR_E_INTERNAL, "malformed message: type %u", h->type);
	}
	if (h->length > limit)
		return dsocr_fail(err, DSOCR_E_INTERNAL, "malformed message: length %llu of type %u",
						  (unsigned long long) h->length, h->type);
	return true;
}

bool
dsocr_parse_request(const DsocrFrameHeader *h, const void *body, DsocrRequest *r, char **prompt,
					DsocrError *err)
{
	DsocrWire in = dsocr_wire(body, h->length, err);
	uint32_t has_prompt;
	uint64_t prompt_len;
	uint64_t image_len;
	const void *p;

	*prompt = NULL;
	memset(r, 0, sizeof(*r));
	r->id = h->id;
	r->kind = dsocr_wire_enum(&in, DSOCR_N_REQUEST_KINDS, "kind");
	r->task = dsocr_wire_enum(&in, DSOCR_N_TASKS, "task");
	r->priority = dsocr_wire_enum(&in, DSOCR_BULK + 1, "priority");
	r->mode = dsocr_wire_enum(&in, DSOCR_MODE_CUSTOM + 1, "mode");
	r->spec.base_size = dsocr_wire_i32(&in);
	r->spec.image_size = dsocr_wire_i32(&in);
	r->spec.max_tiles = dsocr_wire_i32(&in);
	r->spec.crop = dsocr_wire_enum(&in, 2, "crop");
	r->spec.vllm = dsocr_wire_enum(&in, 2, "variant");
	r->max_tokens = dsocr_wire_i32(&in);
	r->ngram_size = dsocr_wire_i32(&in);
	r->ngram_window = dsocr_wire_i32(&in);
	r->probe_width = dsocr_wire_i32(&in);
	r->probe_height = dsocr_wire_i32(&in);
	r->max_pixels = dsocr_wire_u64(&in);
	r->auto_rotate = dsocr_wire_enum(&in, 2, "rotation");
	r->ladder = dsocr_wire_enum(&in, 2, "ladder");
	r->document = dsocr_wire_u64(&in);
	r->page = dsocr_wire_i32(&in);
	r->dpi = dsocr_wire_i32(&in);
	r->max_pages = dsocr_wire_i32(&in);
	r->output = dsocr_wire_enum(&in, DSOCR_N_PAGE_OUTPUTS, "output");
	for (int i = 0; i < 4; i++)
		r->crop[i] = dsocr_wire_i32(&in);
	has_prompt = dsocr_wire_enum(&in, 2, "prompt");
	prompt_len = dsocr_wire_u64(&in);
	image_len = dsocr_wire_u64(&in);
	if (in.ok && (prompt_len > in.left || image_len != in.left - prompt_len))
		dsocr_wire_bad(&in, "lengths do not add up");
	if (in.ok && !has_prompt && prompt_len > 0)
		dsocr_wire_bad(&in, "prompt");
	p = dsocr_wire_take(&in, in.ok ? prompt_len : 0);
	if (in.ok && prompt_len > 0 && memchr(p, '\0', prompt_len) != NULL)
		dsocr_wire_bad(&in, "prompt holds a NUL");
	if (in.ok && has_prompt)
	{
		*prompt = dsocr_alloc(prompt_len + 1, 1, err);
		if (*prompt == NULL)
			return false;
		if (prompt_len > 0)
			memcpy(*prompt, p, prompt_len);
		(*prompt)[prompt_len] = '\0';
	}
	r->prompt = *prompt;
	r->image = image_len > 0 ? dsocr_wire_take(&in, in.ok ? image_len : 0) : NULL;
	r->image_len = image_len;
	return in.ok;
}

bool
dsocr_parse_ready(const DsocrFrameHeader *h, const void *body, DsocrModelInfo *info,
				  DsocrError *err)
{
	DsocrWire in = dsocr_wire(body, h->length, err);

	memset(info, 0, sizeof(*info));
	dsocr_wire_field(&in, info->name, sizeof(info->name));
	dsocr_wire_field(&in, info->fingerprint, sizeof(info->fingerprint));
	dsocr_wire_field(&in, info->device, sizeof(info->device));
	dsocr_wire_field(&in, info->weights, sizeof(info->weights));
	dsocr_wire_field(&in, info->sandbox, sizeof(info->sandbox));
	info->auto_mode = dsocr_wire_enum(&in, DSOCR_N_MODES, "mode");
	info->modes = dsocr_wire_u32(&in);
	info->max_positions = dsocr_wire_i32(&in);
	info->max_sequences = dsocr_wire_i32(&in);
	info->parameters = dsocr_wire_i64(&in);
	info->weight_bytes = dsocr_wire_i64(&in);
	info->kv_bytes = dsocr_wire_i64(&in);
	return dsocr_wire_end(&in);
}

static void
get_error(DsocrWire *r, DsocrError *e)
{
	memset(e, 0, sizeof(*e));
	e->code = dsocr_wire_enum(r, DSOCR_E_INTERNAL + 1, "error code");
	dsocr_wire_field(r, e->message, sizeof(e->message));
	dsocr_wire_field(r, e->hint, sizeof(e->hint));
}

bool
dsocr_parse_failed(const DsocrFrameHeader *h, const void *body, DsocrError *why, DsocrError *err)
{
	DsocrWire in = dsocr_wire(body, h->length, err);

	get_error(&in, why);
	if (in.ok && why->code == DSOCR_OK)
		dsocr_wire_bad(&in, "failure without a reason");
	return dsocr_wire_end(&in);
}

bool
dsocr_parse_progress(const DsocrFrameHeader *h, const void *body, DsocrProgress *p, DsocrError *err)
{
	DsocrWire in = dsocr_wire(body, h->length, err);

	memset(p, 0, sizeof(*p));
	p->id = h->id;
	p->views_done = dsocr_wire_i32(&in);
	p->views = dsocr_wire_i32(&in);
	p->image_tokens = dsocr_wire_i32(&in);
	p->text_tokens = dsocr_wire_i32(&in);
	p->pages = dsocr_wire_i32(&in);
	return dsocr_wire_end(&in);
}

static void
get_boxes(DsocrWire *r, DsocrBlock *b)
{
	uint32_t n = dsocr_wire_u32(r);
	const void *boxes;

	if (n > r->left / BOX_BYTES)
		dsocr_wire_bad(r, "more boxes than bytes");
	if (!r->ok || n == 0)
		return;
	boxes = dsocr_wire_take(r, (size_t) n * BOX_BYTES);
	b->boxes = dsocr_alloc(n, sizeof(b->boxes[0]), r->err);
	if (b->boxes == NULL)
	{
		r->ok = false;
		return;
	}
	memcpy(b->boxes, boxes, (size_t) n * BOX_BYTES);
	b->n_boxes = (int) n;
}

/* Confidence and lines of a text; lines are inside of it, one behind the other. */
static void
get_lines(DsocrWire *r, const char *text, float *confidence, int *n_lines, DsocrLine **lines)
{
	size_t length = r->ok ? strlen(text) : 0;
	size_t from = 0;
	uint32_t n;

	*confidence = dsocr_wire_float(r);
	n = dsocr_wire_u32(r);
	if (n > r->left / LINE_BYTES)
		dsocr_wire_bad(r, "more lines than bytes");
	if (!r->ok || n == 0)
		return;
	*lines = dsocr_alloc(n, sizeof(**lines), r->err);
	if (*lines == NULL)
	{
		r->ok = false;
		return;
	}
	*n_lines = (int) n;
	for (uint32_t i = 0; i < n && r->ok; i++)
	{
		DsocrLine *line = &(*lines)[i];

		line->start = dsocr_wire_i32(r);
		line->length = dsocr_wire_i32(r);
		line->confidence = dsocr_wire_float(r);
		if (line->start < 0 || line->length < 0 || (size_t) line->start < from ||
			(size_t) line->start > length || (size_t) line->length > length - line->start)
			dsocr_wire_bad(r, "line outside of the text");
		from = (size_t) line->start + line->length;
	}
}

static void
get_block(DsocrWire *r, DsocrBlock *b)
{
	b->label = dsocr_wire_string(r);
	b->content = dsocr_wire_string(r);
	get_boxes(r, b);
	get_lines(r, b->content, &b->confidence, &b->n_lines, &b->lines);
}

static void
get_blocks(DsocrWire *r, DsocrResult *result)
{
	uint32_t n = dsocr_wire_u32(r);

	if (n > r->left / MIN_BLOCK_BYTES)
		dsocr_wire_bad(r, "more blocks than bytes");
	if (!r->ok || n == 0)
		return;
	result->blocks = dsocr_zalloc(n, sizeof(*result->blocks), r->err);
	if (result->blocks == NULL)
	{
		r->ok = false;
		return;
	}
	result->n_blocks = (int) n;
	for (uint32_t i = 0; i < n && r->ok; i++)
		get_block(r, &result->blocks[i]);
}

static void
get_attempts(DsocrWire *r, DsocrResult *result)
{
	result->n_attempts = (int) dsocr_wire_enum(r, DSOCR_MAX_ATTEMPTS + 1, "number of attempts");
	for (int i = 0; i < result->n_attempts; i++)
	{
		DsocrAttempt *a = &result->attempts[i];

		a->mode = dsocr_wire_enum(r, DSOCR_MODE_CUSTOM + 1, "mode");
		a->finish = dsocr_wire_enum(r, DSOCR_N_FINISHES, "finish");
		a->text_tokens = dsocr_wire_i32(r);
	}
}

static void
get_image(DsocrWire *r, DsocrResult *result)
{
	uint64_t length = dsocr_wire_u64(r);
	const void *bytes;

	if (length > r->left)
		dsocr_wire_bad(r, "image longer than the message");
	if (!r->ok || length == 0)
		return;
	bytes = dsocr_wire_take(r, length);
	result->image = dsocr_alloc(length, 1, r->err);
	if (result->image == NULL)
	{
		r->ok = false;
		return;
	}
	memcpy(result->image, bytes, length);
	result->image_len = length;
}

static void
get_result(DsocrWire *r, DsocrResult *result)
{
	DsocrTimings *t = &result->timings;

	result->finish = dsocr_wire_enum(r, DSOCR_N_FINISHES, "finish");
	result->mode = dsocr_wire_enum(r, DSOCR_MODE_CUSTOM + 1, "mode");
	result->width = dsocr_wire_i32(r);
	result->height = dsocr_wire_i32(r);
	result->rotation = dsocr_wire_i32(r);
	result->skew = dsocr_wire_float(r);
	result->pages = dsocr_wire_i32(r);
	result->grid_columns = dsocr_wire_i32(r);
	result->grid_rows = dsocr_wire_i32(r);
	result->views = dsocr_wire_i32(r);
	result->image_tokens = dsocr_wire_i32(r);
	result->valid_image_tokens = dsocr_wire_i32(r);
	result->prompt_tokens = dsocr_wire_i32(r);
	result->text_tokens = dsocr_wire_i32(r);
	result->mean_logprob = dsocr_wire_double(r);
	result->confidence = dsocr_wire_double(r);
	get_attempts(r, result);
	t->queued = dsocr_wire_i64(r);
	t->preprocess = dsocr_wire_i64(r);
	t->encode = dsocr_wire_i64(r);
	t->prefill = dsocr_wire_i64(r);
	t->decode = dsocr_wire_i64(r);
	result->raw = dsocr_wire_string(r);
	result->markdown = dsocr_wire_string(r);
	result->prefix = dsocr_wire_string(r);
	get_lines(r, result->prefix, &result->prefix_confidence, &result->n_prefix_lines,
			  &result->prefix_lines);
	get_blocks(r, result);
	get_image(r, result);
}

bool
dsocr_parse_result(const void *body, size_t len, DsocrError *status, DsocrResult *result,
				   DsocrError *err)
{
	DsocrWire in = dsocr_wire(body, len, err);

	memset(result, 0, sizeof(*result));
	get_error(&in, status);
	if (in.ok && status->code == DSOCR_OK)
		get_result(&in, result);
	if (!dsocr_wire_end(&in))
	{
		dsocr_result_free(result);
		memset(result, 0, sizeof(*result));
		return false;
	}
	return true;
}
