/*-------------------------------------------------------------------------
 *
 * engine_link.h
 *		The worker's end of the socket to its engine: frames in and out.
 *
 * Nothing here blocks.  Images are written straight from where they lie, as
 * fast as the socket takes them, so that a large page delays neither results
 * nor cancels of others by more than its own transfer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ENGINE_LINK_H
#define DSOCR_ENGINE_LINK_H

#include "dsocr.h"
#include "engine/protocol.h"

/* One frame or part of a frame that waits to be written. */
typedef struct DsocrOutput
{
	DsocrBuffer head; /* header and fixed part, or whole short frames */
	const char *tail; /* image bytes in the payload; not owned */
	size_t tail_len;  /* bytes of it */
	size_t sent;	  /* bytes of head and tail written */
} DsocrOutput;

typedef struct DsocrLink
{
	int fd;				 /* -1 = closed */
	size_t most;		 /* bytes of a body that is accepted */
	DsocrBuffer in;		 /* bytes received */
	size_t in_used;		 /* bytes of it that were parsed */
	DsocrOutput request; /* the one request being sent */
	DsocrOutput control; /* cancels and shutdown */
} DsocrLink;

/* Images of pages are larger than texts: large_answers accepts them. */
extern void dsocr_link_open(DsocrLink *link, int fd, bool large_answers);
extern void dsocr_link_close(DsocrLink *link);

/* Read what is there.  false: the engine has closed its end. */
extern bool dsocr_link_read(DsocrLink *link);

/*
 * The next whole frame: 1 and header and body (valid until the next read),
 * 0 when there is none yet, -1 and err when the engine does not keep to the
 * protocol.
 */
extern int dsocr_link_next(DsocrLink *link, DsocrFrameHeader *header, const void **body,
						   DsocrError *err);

/* Is a request still being sent, and has any of it been written? */
extern bool dsocr_link_sending(const DsocrLink *link);
extern bool dsocr_link_sending_begun(const DsocrLink *link);

/* Take back the request that was to be sent; nothing of it was written. */
extern void dsocr_link_withdraw(DsocrLink *link);

/* Begin to send a request; its image must stay where it is until it was sent. */
extern bool dsocr_link_send_request(DsocrLink *link, const DsocrRequest *r, DsocrError *err);

/* Send a cancel or shutdown frame. */
extern bool dsocr_link_send_simple(DsocrLink *link, DsocrFrameType type, uint64_t id,
								   DsocrError *err);

/* Write what the socket takes.  false: the engine has closed its end. */
extern bool dsocr_link_write(DsocrLink *link);
extern bool dsocr_link_wants_write(const DsocrLink *link);

#endif /* DSOCR_ENGINE_LINK_H */
