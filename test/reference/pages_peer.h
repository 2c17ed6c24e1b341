/*-------------------------------------------------------------------------
 *
 * pages_peer.h
 *		The worker's end of a page server's socket, for tests.
 *
 * Everything fails the running test when it does not come out as expected.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAGES_PEER_H
#define PAGES_PEER_H

#include "serve_peer.h"

/* Start the program with further options (NULL-terminated, may be NULL); reads READY. */
extern Peer dsocr_pages_start(const char *const *options);

/* A file of the reference images. */
extern DsocrBuffer dsocr_pages_file(const char *name);

/* Send a request with its prompt and image. */
extern void dsocr_pages_send(Peer *p, const DsocrRequest *r);

/* Open a document and wait: its pages, or 0 and the refusal in *status (may be NULL). */
extern int dsocr_pages_open_as(Peer *p, const DsocrRequest *r, DsocrError *status);
extern int dsocr_pages_open(Peer *p, uint64_t id, const void *bytes, size_t len);

/* Ask for a page. */
extern void dsocr_pages_ask(Peer *p, uint64_t id, uint64_t document, int page,
							DsocrPageOutput output);

/* Ask and wait for the result, which must be the next. */
extern Frame dsocr_pages_get(Peer *p, uint64_t id, uint64_t document, int page,
							 DsocrPageOutput output);

/* Close a document and wait for the answer. */
extern void dsocr_pages_close(Peer *p, uint64_t id);

#endif /* PAGES_PEER_H */
