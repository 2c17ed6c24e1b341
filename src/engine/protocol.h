/*-------------------------------------------------------------------------
 *
 * protocol.h
 *		Frames between the PostgreSQL worker and the engine or page server.
 *
 * A frame is a header of 24 bytes and a body.  Both ends run on one machine:
 * integers are in host order.  The reader trusts nothing: every length is
 * checked against the frame before it is used.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PROTOCOL_H
#define DSOCR_PROTOCOL_H

#include "request.h"

#define DSOCR_PROTOCOL_VERSION 2
#define DSOCR_FRAME_MAGIC 0x52434f44	   /* "DOCR" */
#define DSOCR_MAX_FRAME ((size_t) 1 << 30) /* bytes of a body */

typedef enum DsocrFrameType
{
	/* engine to worker */
	DSOCR_FRAME_READY = 1,	  /* DsocrModelInfo */
	DSOCR_FRAME_FAILED = 2,	  /* DsocrError: the model cannot be loaded; the engine exits 0 */
	DSOCR_FRAME_PROGRESS = 3, /* DsocrProgress */
	DSOCR_FRAME_RESULT = 4, /* DsocrError with code DSOCR_OK and DsocrResult, or the error alone */
	/* worker to engine */
	DSOCR_FRAME_REQUEST = 16, /* DsocrRequest with prompt and image */
	DSOCR_FRAME_CANCEL = 17,  /* no body */
	DSOCR_FRAME_SHUTDOWN = 18 /* no body: finish nothing, exit 0 */
} DsocrFrameType;

typedef struct DsocrFrameHeader
{
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint64_t id;	 /* request id, 0 where it has none */
	uint64_t length; /* bytes of the body */
} DsocrFrameHeader;

/* false when magic, version, type or length is not acceptable. */
extern bool dsocr_frame_check(const DsocrFrameHeader *h, DsocrError *err);

/* Append a whole frame (header and body) to out. */
extern bool dsocr_frame_ready(DsocrBuffer *out, const DsocrModelInfo *info, DsocrError *err);
extern bool dsocr_frame_failed(DsocrBuffer *out, const DsocrError *why, DsocrError *err);
extern bool dsocr_frame_progress(DsocrBuffer *out, const DsocrProgress *p, DsocrError *err);
extern bool dsocr_frame_result(DsocrBuffer *out, uint64_t id, const DsocrError *status,
							   const DsocrResult *result, DsocrError *err);
extern bool dsocr_frame_simple(DsocrBuffer *out, DsocrFrameType type, uint64_t id, DsocrError *err);

/*
 * A request: header and fixed part, to be followed on the wire by prompt
 * (strlen bytes, no NUL) and image bytes.  The frame's length counts them, so
 * the sender need not copy the image.
 */
extern bool dsocr_frame_request_head(DsocrBuffer *out, const DsocrRequest *r, DsocrError *err);

/*
 * Read a body of h->length bytes.  The image of a request points into the body
 * (prompt is copied to *prompt with its NUL, NULL without one, free with
 * dsocr_free); a result owns its memory (dsocr_result_free) and its strings
 * are never NULL.  On return true enums are in range and strings hold no NUL;
 * all but the prompt are valid UTF-8.  Numbers of a request (sizes, limits)
 * are the engine's to judge.  Errors: DSOCR_E_INTERNAL (malformed),
 * DSOCR_E_MEMORY; nothing is left to free then.
 */
extern bool dsocr_parse_request(const DsocrFrameHeader *h, const void *body, DsocrRequest *r,
								char **prompt, DsocrError *err);
extern bool dsocr_parse_ready(const DsocrFrameHeader *h, const void *body, DsocrModelInfo *info,
							  DsocrError *err);
extern bool dsocr_parse_failed(const DsocrFrameHeader *h, const void *body, DsocrError *why,
							   DsocrError *err);
extern bool dsocr_parse_progress(const DsocrFrameHeader *h, const void *body, DsocrProgress *p,
								 DsocrError *err);
extern bool dsocr_parse_result(const void *body, size_t len, DsocrError *status,
							   DsocrResult *result, DsocrError *err);

#endif /* DSOCR_PROTOCOL_H */
