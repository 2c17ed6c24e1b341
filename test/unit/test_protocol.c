/*-------------------------------------------------------------------------
 *
 * test_protocol.c
 *		Frames survive the way there; damaged ones are refused.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol.h"

static DsocrFrameHeader
header_of(const DsocrBuffer *b)
{
	DsocrFrameHeader h;
	DsocrError err = {0};

	assert_true(b->len >= sizeof(h));
	memcpy(&h, b->data, sizeof(h));
	assert_true(dsocr_frame_check(&h, &err));
	return h;
}

static const void *
body_of(const DsocrBuffer *b)
{
	return b->data + sizeof(DsocrFrameHeader);
}

static size_t
body_length(const DsocrBuffer *b)
{
	return b->len - sizeof(DsocrFrameHeader);
}

static DsocrRequest
sample_request(void)
{
	return (DsocrRequest){
		.id = 0x1122334455667788,
		.kind = DSOCR_PROBE,
		.task = DSOCR_TASK_LOCATE,
		.priority = DSOCR_BULK,
		.mode = DSOCR_MODE_CUSTOM,
		.spec = {.base_size = 1024, .image_size = 640, .crop = true, .max_tiles = 6, .vllm = true},
		.max_tokens = 77,
		.ngram_size = 30,
		.ngram_window = 90,
		.probe_width = 123,
		.probe_height = 456,
		.max_pixels = 1ULL << 40,
		.auto_rotate = true,
		.ladder = true,
		.document = 0x8877665544332211,
		.page = 31,
		.dpi = 300,
		.max_pages = 999,
		.output = DSOCR_PAGE_CROP,
		.crop = {-1, 2, INT32_MAX, 4},
		.prompt = "wh\xc3\xa9re",
		.image = (const uint8_t *) "image\0bytes",
		.image_len = 11,
	};
}

/* Head, prompt and image in one buffer, as they are on the wire. */
static void
put_request(DsocrBuffer *b, const DsocrRequest *r)
{
	DsocrError err = {0};

	assert_true(dsocr_frame_request_head(b, r, &err));
	if (r->prompt != NULL)
		assert_true(dsocr_buffer_append(b, r->prompt, strlen(r->prompt), &err));
	assert_true(dsocr_buffer_append(b, r->image, r->image_len, &err));
}

static void
test_request(void **state)
{
	DsocrRequest in = sample_request();
	DsocrRequest out;
	DsocrBuffer b = {0};
	DsocrError err = {0};
	char *prompt;
	DsocrFrameHeader h;

	put_request(&b, &in);
	h = header_of(&b);
	assert_int_equal(h.type, DSOCR_FRAME_REQUEST);
	assert_int_equal(h.length, body_length(&b));
	assert_true(dsocr_parse_request(&h, body_of(&b), &out, &prompt, &err));
	assert_true(out.id == in.id && out.kind == in.kind && out.task == in.task);
	assert_true(out.priority == in.priority && out.mode == in.mode);
	assert_true(out.spec.base_size == 1024 && out.spec.image_size == 640 && out.spec.crop);
	assert_true(out.spec.max_tiles == 6 && out.spec.vllm);
	assert_true(out.max_tokens == 77 && out.ngram_size == 30 && out.ngram_window == 90);
	assert_true(out.probe_width == 123 && out.probe_height == 456);
	assert_true(out.max_pixels == in.max_pixels);
	assert_true(out.auto_rotate && out.ladder);
	assert_true(out.document == in.document && out.page == 31 && out.dpi == 300);
	assert_true(out.max_pages == 999 && out.output == DSOCR_PAGE_CROP);
	assert_memory_equal(out.crop, in.crop, sizeof(in.crop));
	assert_string_equal(prompt, in.prompt);
	assert_ptr_equal(out.prompt, prompt);
	assert_int_equal(out.image_len, 11);
	assert_memory_equal(out.image, in.image, 11);
	dsocr_free(prompt);
	dsocr_buffer_free(&b);
}

static void
test_request_without_parts(void **state)
{
	DsocrRequest in = {.id = 7, .prompt = NULL};
	DsocrRequest out;
	DsocrBuffer b = {0};
	DsocrError err = {0};
	char *prompt;
	DsocrFrameHeader h;

	put_request(&b, &in);
	h = header_of(&b);
	assert_true(dsocr_parse_request(&h, body_of(&b), &out, &prompt, &err));
	assert_null(prompt);
	assert_null(out.prompt);
	assert_null(out.image);
	assert_int_equal(out.image_len, 0);
	assert_false(out.auto_rotate || out.ladder);
	assert_int_equal(out.output, DSOCR_PAGE_RAW);

	/* an empty prompt is not the same as none */
	b.len = 0;
	in.prompt = "";
	put_request(&b, &in);
	h = header_of(&b);
	assert_true(dsocr_parse_request(&h, body_of(&b), &out, &prompt, &err));
	assert_non_null(prompt);
	assert_string_equal(prompt, "");
	dsocr_free(prompt);
	dsocr_buffer_free(&b);
}

static void
test_request_too_large(void **state)
{
	DsocrRequest in = {.image_len = DSOCR_MAX_FRAME};
	DsocrBuffer b = {0};
	DsocrError err = {0};

	assert_true(dsocr_buffer_append(&b, "before", 6, &err));
	assert_false(dsocr_frame_request_head(&b, &in, &err));
	assert_int_equal(err.code, DSOCR_E_ARGUMENT);
	/* nothing of it stays behind */
	assert_int_equal(b.len, 6);
	in.image_len = SIZE_MAX;
	in.prompt = "x";
	assert_false(dsocr_frame_request_head(&b, &in, &err));
	assert_int_equal(b.len, 6);
	dsocr_buffer_free(&b);
}

static void
test_ready(void **state)
{
	DsocrModelInfo in = {.name = "nano",
						 .fingerprint = "0123456789abcdef0123456789abcdef",
						 .device = "cpu (avx512_bf16, 2 threads)",
						 .weights = "bf16",
						 .sandbox = "no_new_privs,rlimits,landlock,seccomp",
						 .auto_mode = DSOCR_MODE_SMALL,
						 .modes = DSOCR_ALL_MODES,
						 .max_positions = 8192,
						 .max_sequences = 16,
						 .parameters = 3336106240,
						 .weight_bytes = 6672212480,
						 .kv_bytes = 1LL << 33};
	DsocrModelInfo out;
	DsocrBuffer b = {0};
	DsocrError err = {0};
	DsocrFrameHeader h;

	assert_true(dsocr_frame_ready(&b, &in, &err));
	h = header_of(&b);
	assert_true(dsocr_parse_ready(&h, body_of(&b), &out, &err));
	assert_memory_equal(&in, &out, sizeof(in));
	/* a name that is not UTF-8 or cut inside a character is repaired, not refused */
	b.len = 0;
	memset(in.name, '\xc3', sizeof(in.name) - 1);
	assert_true(dsocr_frame_ready(&b, &in, &err));
	h = header_of(&b);
	assert_true(dsocr_parse_ready(&h, body_of(&b), &out, &err));
	assert_int_equal(strlen(out.name), sizeof(in.name) - 1);
	assert_int_equal(out.name[0], '?');
	dsocr_buffer_free(&b);
}

static void
test_failed_and_progress(void **state)
{
	DsocrError why = {.code = DSOCR_E_MODEL, .message = "no such folder", .hint = "Look."};
	DsocrError got;
	DsocrProgress in = {9, 1, 3, 273, 50, 12};
	DsocrProgress out;
	DsocrBuffer b = {0};
	DsocrError err = {0};
	DsocrFrameHeader h;

	assert_true(dsocr_frame_failed(&b, &why, &err));
	h = header_of(&b);
	assert_true(dsocr_parse_failed(&h, body_of(&b), &got, &err));
	assert_int_equal(got.code, DSOCR_E_MODEL);
	assert_string_equal(got.message, why.message);
	assert_string_equal(got.hint, why.hint);
	/* a failure must have a reason */
	b.len = 0;
	why.code = DSOCR_OK;
	assert_true(dsocr_frame_failed(&b, &why, &err));
	h = header_of(&b);
	assert_false(dsocr_parse_failed(&h, body_of(&b), &got, &err));
	assert_int_equal(err.code, DSOCR_E_INTERNAL);

	b.len = 0;
	assert_true(dsocr_frame_progress(&b, &in, &err));
	h = header_of(&b);
	assert_true(dsocr_parse_progress(&h, body_of(&b), &out, &err));
	assert_memory_equal(&in, &out, sizeof(in));
	dsocr_buffer_free(&b);
}

static DsocrLine prefix_lines[2] = {{0, 3, 0.5f}, {3, 3, 0.25f}};
static DsocrLine content_lines[3] = {{0, 0, 0}, {1, 1, 1}, {3, 0, 0.75f}};

static DsocrResult
sample_result(int32_t boxes[2][4], DsocrBlock blocks[2])
{
	blocks[0] = (DsocrBlock){.label = "title",
							 .content = "# A",
							 .n_boxes = 2,
							 .boxes = boxes,
							 .confidence = 0.875f,
							 .n_lines = 3,
							 .lines = content_lines};
	blocks[1] = (DsocrBlock){.label = "", .content = "\xe6\x97\xa5", .n_boxes = 0};
	return (DsocrResult){.raw = "raw",
						 .markdown = "markdown",
						 .prefix = "before",
						 .prefix_confidence = 0.375f,
						 .n_prefix_lines = 2,
						 .prefix_lines = prefix_lines,
						 .n_blocks = 2,
						 .blocks = blocks,
						 .finish = DSOCR_FINISH_LOOP,
						 .mode = DSOCR_MODE_GUNDAM,
						 .width = 1,
						 .height = 2,
						 .rotation = 270,
						 .skew = -1.5f,
						 .pages = 15,
						 .grid_columns = 3,
						 .grid_rows = 4,
						 .views = 5,
						 .image_tokens = 6,
						 .valid_image_tokens = 7,
						 .prompt_tokens = 8,
						 .text_tokens = 9,
						 .mean_logprob = -0.5,
						 .confidence = 0.625,
						 .n_attempts = 2,
						 .attempts = {{DSOCR_MODE_CUSTOM, DSOCR_FINISH_LENGTH, 77},
									  {DSOCR_MODE_GUNDAM, DSOCR_FINISH_LOOP, 9}},
						 .timings = {10, 11, 12, 13, 14},
						 .image = (uint8_t *) "P5\0\xff",
						 .image_len = 4};
}

/* What a result says in numbers. */
static void
same_numbers(const DsocrResult *a, const DsocrResult *b)
{
	assert_true(a->finish == b->finish && a->mode == b->mode);
	assert_true(a->width == b->width && a->height == b->height);
	assert_true(a->rotation == b->rotation && a->skew == b->skew && a->pages == b->pages);
	assert_true(a->grid_columns == b->grid_columns && a->grid_rows == b->grid_rows);
	assert_true(a->views == b->views && a->image_tokens == b->image_tokens);
	assert_true(a->valid_image_tokens == b->valid_image_tokens);
	assert_true(a->prompt_tokens == b->prompt_tokens && a->text_tokens == b->text_tokens);
	assert_true(a->mean_logprob == b->mean_logprob && a->confidence == b->confidence);
	assert_int_equal(a->n_attempts, b->n_attempts);
	assert_memory_equal(a->attempts, b->attempts, sizeof(a->attempts));
	assert_memory_equal(&a->timings, &b->timings, sizeof(a->timings));
}

static void
test_result(void **state)
{
	int32_t boxes[2][4] = {{1, -2, 3, 4}, {5, 6, 7, INT32_MAX}};
	DsocrBlock blocks[2];
	DsocrResult in = sample_result(boxes, blocks);
	DsocrResult out;
	DsocrError status = {0};
	DsocrError got;
	DsocrError err = {0};
	DsocrBuffer b = {0};

	assert_true(dsocr_frame_result(&b, 42, &status, &in, &err));
	assert_int_equal(header_of(&b).id, 42);
	assert_true(dsocr_parse_result(body_of(&b), body_length(&b), &got, &out, &err));
	assert_int_equal(got.code, DSOCR_OK);
	assert_string_equal(out.raw, "raw");
	assert_string_equal(out.markdown, "markdown");
	assert_string_equal(out.prefix, "before");
	assert_true(out.prefix_confidence == 0.375f);
	assert_int_equal(out.n_prefix_lines, 2);
	assert_memory_equal(out.prefix_lines, prefix_lines, sizeof(prefix_lines));
	assert_int_equal(out.n_blocks, 2);
	assert_string_equal(out.blocks[0].label, "title");
	assert_string_equal(out.blocks[0].content, "# A");
	assert_int_equal(out.blocks[0].n_boxes, 2);
	assert_memory_equal(out.blocks[0].boxes, boxes, sizeof(boxes));
	assert_true(out.blocks[0].confidence == 0.875f);
	assert_int_equal(out.blocks[0].n_lines, 3);
	assert_memory_equal(out.blocks[0].lines, content_lines, sizeof(content_lines));
	assert_string_equal(out.blocks[1].content, "\xe6\x97\xa5");
	assert_int_equal(out.blocks[1].n_boxes, 0);
	assert_int_equal(out.blocks[1].n_lines, 0);
	assert_null(out.blocks[1].lines);
	same_numbers(&in, &out);
	assert_int_equal(out.image_len, 4);
	assert_memory_equal(out.image, in.image, 4);
	dsocr_result_free(&out);
	assert_null(out.prefix_lines);
	assert_null(out.image);
	dsocr_buffer_free(&b);
}

static void
test_result_error(void **state)
{
	DsocrError status = {.code = DSOCR_E_IMAGE, .message = "PNG ends early"};
	DsocrError got;
	DsocrError err = {0};
	DsocrResult out;
	DsocrBuffer b = {0};

	assert_true(dsocr_frame_result(&b, 1, &status, NULL, &err));
	assert_true(dsocr_parse_result(body_of(&b), body_length(&b), &got, &out, &err));
	assert_int_equal(got.code, DSOCR_E_IMAGE);
	assert_string_equal(got.message, "PNG ends early");
	assert_null(out.raw);
	/* a probe has no text: empty strings arrive, and a broken number is no number */
	b.len = 0;
	status.code = DSOCR_OK;
	out = (DsocrResult){.mean_logprob = __builtin_nan("")};
	assert_true(dsocr_frame_result(&b, 1, &status, &out, &err));
	assert_true(dsocr_parse_result(body_of(&b), body_length(&b), &got, &out, &err));
	assert_string_equal(out.raw, "");
	assert_string_equal(out.markdown, "");
	assert_true(out.mean_logprob == 0);
	dsocr_result_free(&out);
	dsocr_buffer_free(&b);
}

/* Every shorter body is refused, and so is a longer one. */
static void
test_cut_bodies(void **state)
{
	int32_t boxes[2][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
	DsocrBlock blocks[2];
	DsocrResult in = sample_result(boxes, blocks);
	DsocrRequest request = sample_request();
	DsocrError status = {0};
	DsocrError err = {0};
	DsocrBuffer b = {0};
	DsocrFrameHeader h;
	size_t length;

	assert_true(dsocr_frame_result(&b, 42, &status, &in, &err));
	for (size_t n = 0; n <= body_length(&b) + 1; n++)
	{
		/* a copy of the exact size, so that sanitizers see a step too far */
		char *copy = calloc(1, n + 1);
		DsocrResult out;
		bool whole = n == body_length(&b);

		memcpy(copy, body_of(&b), n < body_length(&b) ? n : body_length(&b));
		assert_int_equal(dsocr_parse_result(copy, n, &status, &out, &err), whole);
		if (whole)
			dsocr_result_free(&out);
		free(copy);
	}
	b.len = 0;
	put_request(&b, &request);
	h = header_of(&b);
	length = h.length;
	for (h.length = 0; h.length <= length + 1; h.length++)
	{
		char *copy = calloc(1, h.length + 1);
		char *prompt;

		memcpy(copy, body_of(&b), h.length < length ? h.length : length);
		assert_int_equal(dsocr_parse_request(&h, copy, &request, &prompt, &err),
						 h.length == length);
		dsocr_free(prompt);
		free(copy);
	}
	dsocr_buffer_free(&b);
}

/* Put value at the first place of a frame where old stands. */
static void
replace_u32(DsocrBuffer *b, uint32_t old, uint32_t value)
{
	for (size_t i = sizeof(DsocrFrameHeader); i + 4 <= b->len; i++)
	{
		if (memcmp(b->data + i, &old, 4) == 0)
		{
			memcpy(b->data + i, &value, 4);
			return;
		}
	}
	fail();
}

static void
test_hostile_counts(void **state)
{
	static const uint32_t wrong[] = {3, 1000, 0x7fffffff, 0x80000000, 0xffffffff};
	DsocrBlock many[31] = {{.label = "l", .content = "c"}};
	DsocrResult in = {.raw = "", .markdown = "", .n_blocks = 31, .blocks = many};
	DsocrError status = {0};
	DsocrError err;
	DsocrResult out;

	for (int i = 1; i < 31; i++)
		many[i] = many[0];
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		DsocrBuffer b = {0};

		assert_true(dsocr_frame_result(&b, 1, &status, &in, &err));
		replace_u32(&b, 31, wrong[i]);
		memset(&err, 0, sizeof(err));
		assert_false(dsocr_parse_result(body_of(&b), body_length(&b), &status, &out, &err));
		/* refused for what it is, not for want of memory */
		assert_int_equal(err.code, DSOCR_E_INTERNAL);
		dsocr_buffer_free(&b);
		memset(&status, 0, sizeof(status));
	}
}

/* A result whose single block has the lines, sent and read. */
static bool
lines_arrive(const char *text, DsocrLine *lines, int n, bool in_prefix)
{
	DsocrBlock block = {.label = "l", .content = (char *) text, .n_lines = n, .lines = lines};
	DsocrResult in = {.prefix = (char *) text, .n_prefix_lines = n, .prefix_lines = lines};
	DsocrResult out;
	DsocrError status = {0};
	DsocrError err = {0};
	DsocrBuffer b = {0};
	bool ok;

	if (!in_prefix)
		in = (DsocrResult){.n_blocks = 1, .blocks = &block};
	assert_true(dsocr_frame_result(&b, 1, &status, &in, &err));
	ok = dsocr_parse_result(body_of(&b), body_length(&b), &status, &out, &err);
	if (ok)
		dsocr_result_free(&out);
	else
		assert_int_equal(err.code, DSOCR_E_INTERNAL);
	dsocr_buffer_free(&b);
	return ok;
}

static void
test_hostile_lines(void **state)
{
	static const struct
	{
		DsocrLine lines[2];
		bool good;
	} cases[] = {
		{{{0, 3, 0}, {3, 3, 0}}, true},
		{{{0, 0, 0}, {6, 0, 0}}, true},
		{{{-1, 3, 0}, {3, 3, 0}}, false},
		{{{0, -1, 0}, {3, 3, 0}}, false},
		{{{0, 4, 0}, {3, 3, 0}}, false},
		{{{3, 3, 0}, {0, 3, 0}}, false},
		{{{0, 3, 0}, {3, 4, 0}}, false},
		{{{0, 3, 0}, {7, 0, 0}}, false},
		{{{0, 3, 0}, {INT32_MAX, INT32_MAX, 0}}, false},
		{{{0, INT32_MAX, 0}, {3, 3, 0}}, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int prefix = 0; prefix < 2; prefix++)
		{
			DsocrLine lines[2];

			memcpy(lines, cases[i].lines, sizeof(lines));
			assert_int_equal(lines_arrive("abcdef", lines, 2, prefix), cases[i].good);
		}
	assert_true(lines_arrive("", NULL, 0, true));
}

/* Every field of four bytes of a result, with values that fit nowhere: refused or as sent. */
static void
test_damaged_fields(void **state)
{
	static const uint32_t values[] = {0x7fffffff, 0x80000000, 0xffffffff, 0x7f800000, 0xffc00000};
	int32_t boxes[2][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
	DsocrBlock blocks[2];
	DsocrResult in = sample_result(boxes, blocks);
	DsocrError status = {0};
	DsocrError err = {0};
	DsocrBuffer b = {0};
	size_t n;
	int refused = 0;

	assert_true(dsocr_frame_result(&b, 42, &status, &in, &err));
	n = body_length(&b);
	for (size_t at = 0; at + 4 <= n; at++)
		for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		{
			char *copy = malloc(n);
			DsocrBuffer again = {0};
			DsocrResult out;

			memcpy(copy, body_of(&b), n);
			memcpy(copy + at, &values[i], 4);
			if (!dsocr_parse_result(copy, n, &status, &out, &err))
			{
				assert_int_equal(err.code, DSOCR_E_INTERNAL);
				refused++;
			}
			else
			{
				assert_true(dsocr_frame_result(&again, 42, &status, &out, &err));
				assert_int_equal(body_length(&again), n);
				assert_memory_equal(body_of(&again), copy, n);
				dsocr_result_free(&out);
				dsocr_buffer_free(&again);
			}
			free(copy);
		}
	assert_in_range(refused, n, 5 * n);
	dsocr_buffer_free(&b);
}

/* What a worker does with a result is bounded by its size, so is the image in it. */
static void
test_result_image(void **state)
{
	DsocrResult in = {.image = (uint8_t *) "0123456789", .image_len = 10};
	DsocrError status = {0};
	DsocrError err = {0};
	DsocrBuffer b = {0};
	DsocrResult out;
	static const uint64_t wrong[] = {0, 9, 11, (uint64_t) 1 << 31, UINT64_MAX};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		b.len = 0;
		memset(&status, 0, sizeof(status));
		assert_true(dsocr_frame_result(&b, 1, &status, &in, &err));
		memcpy(b.data + b.len - 18, &wrong[i], 8);
		assert_false(dsocr_parse_result(body_of(&b), body_length(&b), &status, &out, &err));
		assert_int_equal(err.code, DSOCR_E_INTERNAL);
	}
	dsocr_buffer_free(&b);
}

static void
test_hostile_strings(void **state)
{
	static const char *const bad[] = {"ab\xff", "\xc0\x80z", "\xed\xa0\x80", "\xf4\x90\x80\x80"};
	DsocrResult in = {.raw = "MARK", .markdown = ""};
	DsocrError status = {0};
	DsocrError err = {0};
	DsocrResult out;
	DsocrBuffer b = {0};
	char *at;

	assert_true(dsocr_frame_result(&b, 1, &status, &in, &err));
	at = memmem(b.data, b.len, "MARK", 4);
	assert_non_null(at);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		memset(at, 'x', 4);
		memcpy(at, bad[i], strlen(bad[i]));
		assert_false(dsocr_parse_result(body_of(&b), body_length(&b), &status, &out, &err));
		assert_int_equal(err.code, DSOCR_E_INTERNAL);
	}
	memcpy(at, "a\0bc", 4);
	assert_false(dsocr_parse_result(body_of(&b), body_length(&b), &status, &out, &err));
	memcpy(at, "\xf0\x9f\x90\x88", 4);
	assert_true(dsocr_parse_result(body_of(&b), body_length(&b), &status, &out, &err));
	dsocr_result_free(&out);
	dsocr_buffer_free(&b);
}

/* A text that is as long as its field has no room for the NUL. */
static void
test_long_fields(void **state)
{
	DsocrModelInfo in = {.weights = "123456789012345"};
	DsocrModelInfo out;
	DsocrBuffer b = {0};
	DsocrBuffer longer = {0};
	DsocrError err = {0};
	DsocrFrameHeader h;
	const uint32_t size = sizeof(in.weights);
	size_t at;
	char *text;

	assert_true(dsocr_frame_ready(&b, &in, &err));
	text = memmem(b.data, b.len, in.weights, strlen(in.weights));
	assert_non_null(text);
	at = (size_t) (text - b.data);
	/* the same frame with one byte more in that field */
	assert_true(dsocr_buffer_append(&longer, b.data, at, &err));
	memcpy(longer.data + at - sizeof(size), &size, sizeof(size));
	assert_true(dsocr_buffer_append(&longer, "x", 1, &err));
	assert_true(dsocr_buffer_append(&longer, b.data + at, b.len - at, &err));
	h = header_of(&b);
	assert_true(dsocr_parse_ready(&h, body_of(&b), &out, &err));
	h.length++;
	assert_false(dsocr_parse_ready(&h, body_of(&longer), &out, &err));
	assert_int_equal(err.code, DSOCR_E_INTERNAL);
	dsocr_buffer_free(&b);
	dsocr_buffer_free(&longer);
}

static void
test_hostile_enums(void **state)
{
	DsocrRequest in = {.prompt = "p"};
	DsocrRequest out;
	DsocrBuffer b = {0};
	DsocrError err = {0};
	char *prompt;
	DsocrFrameHeader h;

	put_request(&b, &in);
	h = header_of(&b);
	/* kind, task, priority, mode come first; rotation, ladder and output are further on */
	for (size_t i = 0; i < 7; i++)
	{
		static const struct
		{
			size_t at;
			uint32_t limit;
		} fields[] = {{0, DSOCR_PAGE},
					  {4, DSOCR_TASK_GENERATE},
					  {8, DSOCR_BULK},
					  {12, DSOCR_MODE_CUSTOM},
					  {64, 1},
					  {68, 1},
					  {92, DSOCR_PAGE_CROP}};
		char *field = b.data + sizeof(h) + fields[i].at;

		for (uint32_t v = 0; v < 12; v++)
		{
			memcpy(field, &v, 4);
			assert_int_equal(dsocr_parse_request(&h, body_of(&b), &out, &prompt, &err),
							 v <= fields[i].limit);
			dsocr_free(prompt);
		}
		memset(field, 0, 4);
	}
	dsocr_buffer_free(&b);
}

static void
test_headers(void **state)
{
	const DsocrFrameHeader good = {.magic = DSOCR_FRAME_MAGIC,
								   .version = DSOCR_PROTOCOL_VERSION,
								   .type = DSOCR_FRAME_REQUEST,
								   .length = DSOCR_MAX_FRAME};
	DsocrFrameHeader h = good;
	DsocrError err;

	assert_true(dsocr_frame_check(&h, &err));
	h.length++;
	assert_false(dsocr_frame_check(&h, &err));
	h = good;
	h.magic ^= 1;
	assert_false(dsocr_frame_check(&h, &err));
	h = good;
	h.version++;
	assert_false(dsocr_frame_check(&h, &err));
	for (uint32_t type = 0; type < 65536; type++)
	{
		h = good;
		h.length = 0;
		h.type = (uint16_t) type;
		assert_int_equal(dsocr_frame_check(&h, &err),
						 (type >= 1 && type <= 4) || (type >= 16 && type <= 18));
	}
	h = good;
	h.type = DSOCR_FRAME_CANCEL;
	h.length = 1;
	assert_false(dsocr_frame_check(&h, &err));
	h.type = DSOCR_FRAME_PROGRESS;
	h.length = DSOCR_MAX_FRAME;
	assert_false(dsocr_frame_check(&h, &err));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_request_without_parts),
		cmocka_unit_test(test_request_too_large),
		cmocka_unit_test(test_ready),
		cmocka_unit_test(test_failed_and_progress),
		cmocka_unit_test(test_result),
		cmocka_unit_test(test_result_error),
		cmocka_unit_test(test_cut_bodies),
		cmocka_unit_test(test_hostile_counts),
		cmocka_unit_test(test_hostile_lines),
		cmocka_unit_test(test_damaged_fields),
		cmocka_unit_test(test_result_image),
		cmocka_unit_test(test_hostile_strings),
		cmocka_unit_test(test_long_fields),
		cmocka_unit_test(test_hostile_enums),
		cmocka_unit_test(test_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
