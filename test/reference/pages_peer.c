/*-------------------------------------------------------------------------
 *
 * pages_peer.c
 *		The worker's end of a page server's socket, for tests.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pages_peer.h"

#define MAX_OPTIONS 32
#define SECONDS 60

static int
child_main(int fd, void *arg)
{
	const char *const *options = arg;
	const char *program = getenv("DSOCR_TEST_PAGES");
	char number[16];
	const char *argv[MAX_OPTIONS + 5] = {"dsocr-pages", "serve", "--fd", number};

	snprintf(number, sizeof(number), "%d", fd);
	for (int i = 0; options != NULL && options[i] != NULL && i < MAX_OPTIONS; i++)
		argv[4 + i] = options[i];
	execv(program == NULL ? "build/dsocr-pages" : program, (char *const *) argv);
	return 127;
}

Peer
dsocr_pages_start(const char *const *options)
{
	Peer p = dsocr_peer_start(child_main, (void *) options, SECONDS);

	assert_int_equal(dsocr_peer_next(&p, false).header.type, DSOCR_FRAME_READY);
	return p;
}

DsocrBuffer
dsocr_pages_file(const char *name)
{
	DsocrBuffer b;
	char path[256];

	snprintf(path, sizeof(path), "build/golden/images/%s", name);
	assert_true(dsocr_read_file(path, 1 << 30, &b, NULL));
	return b;
}

void
dsocr_pages_send(Peer *p, const DsocrRequest *r)
{
	DsocrBuffer b = {0};

	assert_true(dsocr_frame_request_head(&b, r, NULL));
	dsocr_peer_send(p, b.data, b.len);
	if (r->prompt != NULL)
		dsocr_peer_send(p, r->prompt, strlen(r->prompt));
	dsocr_peer_send(p, r->image, r->image_len);
	dsocr_buffer_free(&b);
}

int
dsocr_pages_open_as(Peer *p, const DsocrRequest *r, DsocrError *status)
{
	DsocrRequest copy = *r;
	Frame f;

	copy.kind = DSOCR_DOCUMENT;
	dsocr_pages_send(p, &copy);
	do
		f = dsocr_peer_next(p, false);
	while (f.header.id != r->id);
	if (f.header.type == DSOCR_FRAME_PROGRESS)
		return f.progress.pages;
	assert_int_equal(f.header.type, DSOCR_FRAME_RESULT);
	assert_int_not_equal(f.status.code, DSOCR_OK);
	if (status != NULL)
		*status = f.status;
	return 0;
}

int
dsocr_pages_open(Peer *p, uint64_t id, const void *bytes, size_t len)
{
	DsocrRequest r = {.id = id, .image = bytes, .image_len = len};
	DsocrError status = {0};
	int pages = dsocr_pages_open_as(p, &r, &status);

	assert_string_equal(status.message, "");
	return pages;
}

void
dsocr_pages_ask(Peer *p, uint64_t id, uint64_t document, int page, DsocrPageOutput output)
{
	DsocrRequest r = {
		.id = id, .kind = DSOCR_PAGE, .document = document, .page = page, .output = output};

	dsocr_pages_send(p, &r);
}

Frame
dsocr_pages_get(Peer *p, uint64_t id, uint64_t document, int page, DsocrPageOutput output)
{
	Frame f;

	dsocr_pages_ask(p, id, document, page, output);
	f = dsocr_peer_next(p, true);
	assert_int_equal(f.header.id, id);
	return f;
}

void
dsocr_pages_close(Peer *p, uint64_t id)
{
	Frame f;

	dsocr_peer_say(p, DSOCR_FRAME_CANCEL, id);
	f = dsocr_peer_next(p, true);
	assert_int_equal(f.header.id, id);
	assert_int_equal(f.status.code, DSOCR_E_CANCELLED);
}
