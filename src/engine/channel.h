/*-------------------------------------------------------------------------
 *
 * channel.h
 *		Frames over a stream socket without blocking.
 *
 * Reading and writing take what the socket gives and go on next time, so a
 * large image or a slow peer never stops the process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CHANNEL_H
#define DSOCR_CHANNEL_H

#include "protocol.h"

typedef struct DsocrChannel
{
	int fd;
	/* the frame that is coming in */
	DsocrFrameHeader header;
	size_t header_got; /* bytes of the header */
	uint8_t *body;	   /* NULL while the header is incomplete, or when there was no memory */
	uint64_t body_got; /* bytes of the body */
	/* what goes out; owned frames are appended by the caller */
	DsocrBuffer out;
	size_t out_sent; /* bytes of out that are gone */
} DsocrChannel;

/* What happened to a read. */
typedef enum DsocrReadState
{
	DSOCR_READ_NOTHING, /* no whole frame yet */
	DSOCR_READ_FRAME,	/* one frame */
	DSOCR_READ_EOF,		/* the peer is gone */
	DSOCR_READ_BAD		/* not a frame: *err says why */
} DsocrReadState;

/* Takes over fd, which becomes non-blocking. */
extern bool dsocr_channel_open(DsocrChannel *c, int fd, DsocrError *err);
extern void dsocr_channel_close(DsocrChannel *c);

/*
 * Read until a frame is complete, the socket is empty, or about limit bytes
 * were taken (0 = no limit).  *body belongs to the caller (dsocr_free); it is
 * NULL for a frame without one, and for a frame that no memory could be found
 * for: its bytes were skipped.
 */
extern DsocrReadState dsocr_channel_read(DsocrChannel *c, size_t limit, DsocrFrameHeader *header,
										 void **body, DsocrError *err);

/* Bytes of c->out that wait. */
extern size_t dsocr_channel_pending(const DsocrChannel *c);

/* Send what the socket takes. false when the peer is gone. */
extern bool dsocr_channel_flush(DsocrChannel *c);

/*
 * Wait up to timeout_ms (-1 = for ever) until there is something to read (if
 * asked) or room for what is pending.
 */
extern void dsocr_channel_wait(DsocrChannel *c, bool read, int timeout_ms);

#endif /* DSOCR_CHANNEL_H */
