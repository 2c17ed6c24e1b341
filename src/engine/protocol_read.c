/*-------------------------------------------------------------------------
 *
 * protocol_read.c
 *		Reading the frames between worker and engine.
 *
 * Nothing is believed.  Each count is compared with the bytes that are left
 * before memory is allocated for it, so that memory use is bounded by a small
 * multiple of the frame.  The first thing that is wrong ends the reading; what
 * follows it sees no more bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "protocol.h"

#include <math.h>
#include <string.h>

#include "utf8.h"

/* Bytes of a body that are not image, prompt or text: no such frame comes near it. */
#define MAX_SMALL_BODY 65536

/* Fewest bytes of a block and of a box on the wire. */
#define MIN_BLOCK_BYTES 20
#define BOX_BYTES 16
#define LINE_BYTES 12

typedef struct Reader
{
	const unsigned char *at;
	size_t left;
	bool ok;		 /* false as soon as anything was missing or wrong */
	DsocrError *err; /* set when ok became false */
} Reader;

static void
bad(Reader *r, const char *what)
{
	if (r->ok)
		r->ok = dsocr_fail(r->err, DSOCR_E_INTERNAL, "malformed message: %s", what);
}

static const void *
take(Reader *r, size_t n)
{
	const unsigned char *p = r->at;

	if (r->ok && n > r->left)
		bad(r, "too short");
	if (!r->ok)
		return NULL;
	r->at += n;
	r->left -= n;
	return p;
}

static void
get(Reader *r, void *v, size_t n)
{
	const void *p = take(r, n);

	if (p != NULL)
		memcpy(v, p, n);
	else
		memset(v, 0, n);
}

static uint32_t
get_u32(Reader *r)
{
	uint32_t v;

	get(r, &v, sizeof(v));
	return v;
}

static int32_t
get_i32(Reader *r)
{
	int32_t v;

	get(r, &v, sizeof(v));
	return v;
}

static float
get_float(Reader *r)
{
	float v;

	get(r, &v, sizeof(v));
	if (!isfinite(v))
		bad(r, "number");
	return v;
}

static double
get_double(Reader *r)
{
	double v;

	get(r, &v, sizeof(v));
	if (!isfinite(v))
		bad(r, "number");
	return v;
}

static uint64_t
get_u64(Reader *r)
{
	uint64_t v;

	get(r, &v, sizeof(v));
	return v;
}

static int64_t
get_i64(Reader *r)
{
	int64_t v;

	get(r, &v, sizeof(v));
	return v;
}

/* A number below n; 0 when it is not. */
static uint32_t
get_enum(Reader *r, uint32_t n, const char *what)
{
	uint32_t v = get_u32(r);

	if (v >= n)
	{
		bad(r, what);
		return 0;
	}
	return v;
}

/* NUL-free UTF-8? */
static bool
is_text(const char *s, size_t len)
{
	size_t at = 0;

	while (at < len)
	{
		int32_t code;

		at += dsocr_utf8_next(s + at, len - at, &code);
		if (code <= 0)
			return false;
	}
	return true;
}

/* The bytes of a string: NUL-free UTF-8, NULL on failure. */
static const char *
get_text(Reader *r, size_t *len)
{
	const char *s;

	*len = get_u32(r);
	s = take(r, *len);
	if (s != NULL && !is_text(s, *len))
		bad(r, "text is not UTF-8");
	return r->ok ? s : NULL;
}

/* A string into a field of size bytes. */
static void
get_field(Reader *r, char *field, size_t size)
{
	size_t len;
	const char *s = get_text(r, &len);

	field[0] = '\0';
	if (s == NULL)
		return;
	if (len >= size)
	{
		bad(r, "text too long");
		return;
	}
	memcpy(field, s, len);
	field[len] = '\0';
}

/* A string into memory of its own; NULL on failure. */
static char *
get_string(Reader *r)
{
	size_t len;
	const char *s = get_text(r, &len);
	char *copy;

	if (s == NULL)
		return NULL;
	copy = dsocr_alloc(len + 1, 1, r->err);
	if (copy == NULL)
	{
		r->ok = false;
		return NULL;
	}
	memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

static Reader
reader(const void *body, size_t len, DsocrError *err)
{
	return (Reader){.at = body, .left = len, .ok = true, .err = err};
}

static bool
reader_end(Reader *r)
{
	if (r->left > 0)
		bad(r, "too long");
	return r->ok;
}

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
	Reader in = reader(body, h->length, err);
	uint32_t has_prompt;
	uint64_t prompt_len;
	uint64_t image_len;
	const void *p;

	*prompt = NULL;
	memset(r, 0, sizeof(*r));
	r->id = h->id;
	r->kind = get_enum(&in, DSOCR_N_REQUEST_KINDS, "kind");
	r->task = get_enum(&in, DSOCR_N_TASKS, "task");
	r->priority = get_enum(&in, DSOCR_BULK + 1, "priority");
	r->mode = get_enum(&in, DSOCR_MODE_CUSTOM + 1, "mode");
	r->spec.base_size = get_i32(&in);
	r->spec.image_size = get_i32(&in);
	r->spec.max_tiles = get_i32(&in);
	r->spec.crop = get_enum(&in, 2, "crop");
	r->spec.vllm = get_enum(&in, 2, "variant");
	r->max_tokens = get_i32(&in);
	r->ngram_size = get_i32(&in);
	r->ngram_window = get_i32(&in);
	r->probe_width = get_i32(&in);
	r->probe_height = get_i32(&in);
	r->max_pixels = get_u64(&in);
	r->auto_rotate = get_enum(&in, 2, "rotation");
	r->ladder = get_enum(&in, 2, "ladder");
	r->document = get_u64(&in);
	r->page = get_i32(&in);
	r->dpi = get_i32(&in);
	r->max_pages = get_i32(&in);
	r->output = get_enum(&in, DSOCR_N_PAGE_OUTPUTS, "output");
	for (int i = 0; i < 4; i++)
		r->crop[i] = get_i32(&in);
	has_prompt = get_enum(&in, 2, "prompt");
	prompt_len = get_u64(&in);
	image_len = get_u64(&in);
	if (in.ok && (prompt_len > in.left || image_len != in.left - prompt_len))
		bad(&in, "lengths do not add up");
	if (in.ok && !has_prompt && prompt_len > 0)
		bad(&in, "prompt");
	p = take(&in, in.ok ? prompt_len : 0);
	if (in.ok && prompt_len > 0 && memchr(p, '\0', prompt_len) != NULL)
		bad(&in, "prompt holds a NUL");
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
	r->image = image_len > 0 ? take(&in, in.ok ? image_len : 0) : NULL;
	r->image_len = image_len;
	return in.ok;
}

bool
dsocr_parse_ready(const DsocrFrameHeader *h, const void *body, DsocrModelInfo *info,
				  DsocrError *err)
{
	Reader in = reader(body, h->length, err);

	memset(info, 0, sizeof(*info));
	get_field(&in, info->name, sizeof(info->name));
	get_field(&in, info->fingerprint, sizeof(info->fingerprint));
	get_field(&in, info->device, sizeof(info->device));
	get_field(&in, info->weights, sizeof(info->weights));
	get_field(&in, info->sandbox, sizeof(info->sandbox));
	info->auto_mode = get_enum(&in, DSOCR_N_MODES, "mode");
	info->modes = get_u32(&in);
	info->max_positions = get_i32(&in);
	info->max_sequences = get_i32(&in);
	info->parameters = get_i64(&in);
	info->weight_bytes = get_i64(&in);
	info->kv_bytes = get_i64(&in);
	return reader_end(&in);
}

static void
get_error(Reader *r, DsocrError *e)
{
	memset(e, 0, sizeof(*e));
	e->code = get_enum(r, DSOCR_E_INTERNAL + 1, "error code");
	get_field(r, e->message, sizeof(e->message));
	get_field(r, e->hint, sizeof(e->hint));
}

bool
dsocr_parse_failed(const DsocrFrameHeader *h, const void *body, DsocrError *why, DsocrError *err)
{
	Reader in = reader(body, h->length, err);

	get_error(&in, why);
	if (in.ok && why->code == DSOCR_OK)
		bad(&in, "failure without a reason");
	return reader_end(&in);
}

bool
dsocr_parse_progress(const DsocrFrameHeader *h, const void *body, DsocrProgress *p, DsocrError *err)
{
	Reader in = reader(body, h->length, err);

	memset(p, 0, sizeof(*p));
	p->id = h->id;
	p->views_done = get_i32(&in);
	p->views = get_i32(&in);
	p->image_tokens = get_i32(&in);
	p->text_tokens = get_i32(&in);
	p->pages = get_i32(&in);
	return reader_end(&in);
}

static void
get_boxes(Reader *r, DsocrBlock *b)
{
	uint32_t n = get_u32(r);
	const void *boxes;

	if (n > r->left / BOX_BYTES)
		bad(r, "more boxes than bytes");
	if (!r->ok || n == 0)
		return;
	boxes = take(r, (size_t) n * BOX_BYTES);
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
get_lines(Reader *r, const char *text, float *confidence, int *n_lines, DsocrLine **lines)
{
	size_t length = r->ok ? strlen(text) : 0;
	size_t from = 0;
	uint32_t n;

	*confidence = get_float(r);
	n = get_u32(r);
	if (n > r->left / LINE_BYTES)
		bad(r, "more lines than bytes");
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

		line->start = get_i32(r);
		line->length = get_i32(r);
		line->confidence = get_float(r);
		if (line->start < 0 || line->length < 0 || (size_t) line->start < from ||
			(size_t) line->start > length || (size_t) line->length > length - line->start)
			bad(r, "line outside of the text");
		from = (size_t) line->start + line->length;
	}
}

static void
get_block(Reader *r, DsocrBlock *b)
{
	b->label = get_string(r);
	b->content = get_string(r);
	get_boxes(r, b);
	get_lines(r, b->content, &b->confidence, &b->n_lines, &b->lines);
}

static void
get_blocks(Reader *r, DsocrResult *result)
{
	uint32_t n = get_u32(r);

	if (n > r->left / MIN_BLOCK_BYTES)
		bad(r, "more blocks than bytes");
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
get_attempts(Reader *r, DsocrResult *result)
{
	result->n_attempts = (int) get_enum(r, DSOCR_MAX_ATTEMPTS + 1, "number of attempts");
	for (int i = 0; i < result->n_attempts; i++)
	{
		DsocrAttempt *a = &result->attempts[i];

		a->mode = get_enum(r, DSOCR_MODE_CUSTOM + 1, "mode");
		a->finish = get_enum(r, DSOCR_N_FINISHES, "finish");
		a->text_tokens = get_i32(r);
	}
}

static void
get_image(Reader *r, DsocrResult *result)
{
	uint64_t length = get_u64(r);
	const void *bytes;

	if (length > r->left)
		bad(r, "image longer than the message");
	if (!r->ok || length == 0)
		return;
	bytes = take(r, length);
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
get_result(Reader *r, DsocrResult *result)
{
	DsocrTimings *t = &result->timings;

	result->finish = get_enum(r, DSOCR_N_FINISHES, "finish");
	result->mode = get_enum(r, DSOCR_MODE_CUSTOM + 1, "mode");
	result->width = get_i32(r);
	result->height = get_i32(r);
	result->rotation = get_i32(r);
	result->skew = get_float(r);
	result->pages = get_i32(r);
	result->grid_columns = get_i32(r);
	result->grid_rows = get_i32(r);
	result->views = get_i32(r);
	result->image_tokens = get_i32(r);
	result->valid_image_tokens = get_i32(r);
	result->prompt_tokens = get_i32(r);
	result->text_tokens = get_i32(r);
	result->mean_logprob = get_double(r);
	result->confidence = get_double(r);
	get_attempts(r, result);
	t->queued = get_i64(r);
	t->preprocess = get_i64(r);
	t->encode = get_i64(r);
	t->prefill = get_i64(r);
	t->decode = get_i64(r);
	result->raw = get_string(r);
	result->markdown = get_string(r);
	result->prefix = get_string(r);
	get_lines(r, result->prefix, &result->prefix_confidence, &result->n_prefix_lines,
			  &result->prefix_lines);
	get_blocks(r, result);
	get_image(r, result);
}

bool
dsocr_parse_result(const void *body, size_t len, DsocrError *status, DsocrResult *result,
				   DsocrError *err)
{
	Reader in = reader(body, len, err);

	memset(result, 0, sizeof(*result));
	get_error(&in, status);
	if (in.ok && status->code == DSOCR_OK)
		get_result(&in, result);
	if (!reader_end(&in))
	{
		dsocr_result_free(result);
		memset(result, 0, sizeof(*result));
		return false;
	}
	return true;
}
