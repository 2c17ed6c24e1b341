/*-------------------------------------------------------------------------
 *
 * fuzz_protocol.c
 *		Frames from a hostile peer; what is accepted can be sent again.
 *
 * The first byte picks the body, the rest is the body: READY, FAILED,
 * PROGRESS, RESULT, REQUEST, or a stream of frames for the channel's header.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
demand(int ok)
{
	if (!ok)
		abort();
}

/* The body of the frame must be the bytes that were read. */
static void
demand_same(const DsocrBuffer *b, const uint8_t *body, size_t size)
{
	demand(b->len == sizeof(DsocrFrameHeader) + size);
	demand(memcmp(b->data + sizeof(DsocrFrameHeader), body, size) == 0);
}

static void
fuzz_small(int kind, const DsocrFrameHeader *h, const uint8_t *body)
{
	DsocrBuffer b = {0};
	DsocrModelInfo info;
	DsocrError why;
	DsocrProgress progress;

	if (kind == 0 && dsocr_parse_ready(h, body, &info, NULL))
	{
		demand(dsocr_frame_ready(&b, &info, NULL));
		demand_same(&b, body, h->length);
	}
	if (kind == 1 && dsocr_parse_failed(h, body, &why, NULL))
	{
		demand(why.code != DSOCR_OK);
		demand(dsocr_frame_failed(&b, &why, NULL));
		demand_same(&b, body, h->length);
	}
	if (kind == 2 && dsocr_parse_progress(h, body, &progress, NULL))
	{
		demand(dsocr_frame_progress(&b, &progress, NULL));
		demand_same(&b, body, h->length);
	}
	dsocr_buffer_free(&b);
}

/* Lines lie in their text, one behind the other. */
static void
demand_lines(const char *text, int n, const DsocrLine *lines)
{
	size_t from = 0;

	for (int i = 0; i < n; i++)
	{
		demand(lines[i].start >= 0 && lines[i].length >= 0 && (size_t) lines[i].start >= from);
		from = (size_t) lines[i].start + (size_t) lines[i].length;
	}
	demand(from <= strlen(text));
}

static void
fuzz_result(const uint8_t *body, size_t size)
{
	DsocrBuffer b = {0};
	DsocrError status;
	DsocrResult r;

	if (!dsocr_parse_result(body, size, &status, &r, NULL))
	{
		demand(r.raw == NULL && r.blocks == NULL);
		return;
	}
	demand(dsocr_frame_result(&b, 1, &status, &r, NULL));
	demand_same(&b, body, size);
	if (status.code == DSOCR_OK)
	{
		demand(r.raw != NULL && r.markdown != NULL && r.prefix != NULL);
		demand(r.n_attempts <= DSOCR_MAX_ATTEMPTS);
		demand_lines(r.prefix, r.n_prefix_lines, r.prefix_lines);
		for (int i = 0; i < r.n_blocks; i++)
			demand_lines(r.blocks[i].content, r.blocks[i].n_lines, r.blocks[i].lines);
	}
	dsocr_result_free(&r);
	dsocr_buffer_free(&b);
}

static void
fuzz_request(const DsocrFrameHeader *h, const uint8_t *body)
{
	DsocrBuffer b = {0};
	DsocrRequest r;
	char *prompt;

	if (!dsocr_parse_request(h, body, &r, &prompt, NULL))
	{
		demand(prompt == NULL);
		return;
	}
	demand(dsocr_frame_request_head(&b, &r, NULL));
	if (prompt != NULL)
		demand(dsocr_buffer_append(&b, prompt, strlen(prompt), NULL));
	if (r.image_len > 0)
		demand(dsocr_buffer_append(&b, r.image, r.image_len, NULL));
	demand_same(&b, body, h->length);
	dsocr_free(prompt);
	dsocr_buffer_free(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DsocrFrameHeader h = {.magic = DSOCR_FRAME_MAGIC, .version = DSOCR_PROTOCOL_VERSION, .id = 1};
	uint8_t *body;

	if (size < 1)
		return 0;
	/* exactly as large as the frame says, so that a step too far is seen */
	body = malloc(size - 1 > 0 ? size - 1 : 1);
	demand(body != NULL);
	memcpy(body, data + 1, size - 1);
	h.length = size - 1;
	switch (data[0] % 6)
	{
		case 3:
			fuzz_result(body, size - 1);
			break;
		case 4:
			fuzz_request(&h, body);
			break;
		case 5:
			if (size - 1 >= sizeof(h))
			{
				memcpy(&h, body, sizeof(h));
				if (dsocr_frame_check(&h, NULL))
					demand(h.length <= DSOCR_MAX_FRAME);
			}
			break;
		default:
			fuzz_small(data[0] % 6, &h, body);
	}
	free(body);
	return 0;
}
