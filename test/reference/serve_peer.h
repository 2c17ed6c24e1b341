/*-------------------------------------------------------------------------
 *
 * serve_peer.h
 *		The worker's end of an engine's socket, for tests.
 *
 * Everything fails the running test when it does not come out as expected.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SERVE_PEER_H
#define SERVE_PEER_H

#include <sys/types.h>

#include "protocol.h"

typedef struct Peer
{
	int fd;
	pid_t pid;
	DsocrModelInfo info; /* once READY was read */
} Peer;

typedef struct Frame
{
	DsocrFrameHeader header;
	DsocrError status;	/* of RESULT and FAILED */
	DsocrResult result; /* of RESULT; the caller frees it */
	DsocrProgress progress;
} Frame;

/*
 * Make a socket pair; the child runs main(its end, arg) and leaves with what
 * that returns.  Reads wait at most seconds.
 */
extern Peer dsocr_peer_start(int (*child_main)(int fd, void *arg), void *arg, int seconds);

/* The next frame, or the next RESULT. */
extern Frame dsocr_peer_next(Peer *p, bool results_only);

extern void dsocr_peer_send(Peer *p, const void *bytes, size_t n);
extern void dsocr_peer_ask(Peer *p, uint64_t id, const void *image, size_t len, int max_tokens);
extern void dsocr_peer_say(Peer *p, DsocrFrameType type, uint64_t id);

/* Wait for the end of a child for at most seconds; its wait status. */
extern int dsocr_peer_wait(pid_t pid, int seconds);

/* It must end by itself with this status; the socket is closed. */
extern void dsocr_peer_expect_exit(Peer *p, int seconds, int code);

/* SHUTDOWN, and status 0. */
extern void dsocr_peer_finish(Peer *p);

#endif /* SERVE_PEER_H */
