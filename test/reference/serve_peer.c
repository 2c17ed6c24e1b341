/*-------------------------------------------------------------------------
 *
 * serve_peer.c
 *		The worker's end of an engine's socket, for tests.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "serve_peer.h"

Peer
dsocr_peer_start(int (*child_main)(int fd, void *arg), void *arg, int seconds)
{
	struct timeval limit = {.tv_sec = seconds};
	Peer p = {0};
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	p.pid = fork();
	assert_true(p.pid >= 0);
	if (p.pid == 0)
	{
		close(fds[0]);
		_exit(child_main(fds[1], arg));
	}
	close(fds[1]);
	p.fd = fds[0];
	setsockopt(p.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return p;
}

static bool
receive(int fd, void *to, size_t n)
{
	size_t got = 0;

	while (got < n)
	{
		ssize_t k = recv(fd, (char *) to + got, n - got, 0);

		if (k <= 0)
			return false;
		got += (size_t) k;
	}
	return true;
}

void
dsocr_peer_send(Peer *p, const void *bytes, size_t n)
{
	size_t sent = 0;

	while (sent < n)
	{
		ssize_t k = send(p->fd, (const char *) bytes + sent, n - sent, MSG_NOSIGNAL);

		assert_true(k > 0);
		sent += (size_t) k;
	}
}

Frame
dsocr_peer_next(Peer *p, bool results_only)
{
	Frame f = {0};

	for (;;)
	{
		DsocrError err = {0};
		char *body;

		assert_true(receive(p->fd, &f.header, sizeof(f.header)));
		assert_true(dsocr_frame_check(&f.header, &err));
		body = malloc(f.header.length + 1);
		assert_true(receive(p->fd, body, f.header.length));
		if (f.header.type == DSOCR_FRAME_RESULT)
			assert_true(dsocr_parse_result(body, f.header.length, &f.status, &f.result, &err));
		else if (f.header.type == DSOCR_FRAME_READY)
			assert_true(dsocr_parse_ready(&f.header, body, &p->info, &err));
		else if (f.header.type == DSOCR_FRAME_FAILED)
			assert_true(dsocr_parse_failed(&f.header, body, &f.status, &err));
		else if (f.header.type == DSOCR_FRAME_PROGRESS)
			assert_true(dsocr_parse_progress(&f.header, body, &f.progress, &err));
		free(body);
		if (f.header.type == DSOCR_FRAME_RESULT || !results_only)
			return f;
	}
}

void
dsocr_peer_ask(Peer *p, uint64_t id, const void *image, size_t len, int max_tokens)
{
	DsocrRequest r = {.id = id, .max_tokens = max_tokens, .image = image, .image_len = len};
	DsocrBuffer b = {0};

	assert_true(dsocr_frame_request_head(&b, &r, NULL));
	dsocr_peer_send(p, b.data, b.len);
	dsocr_peer_send(p, image, len);
	dsocr_buffer_free(&b);
}

void
dsocr_peer_say(Peer *p, DsocrFrameType type, uint64_t id)
{
	DsocrBuffer b = {0};

	assert_true(dsocr_frame_simple(&b, type, id, NULL));
	dsocr_peer_send(p, b.data, b.len);
	dsocr_buffer_free(&b);
}

int
dsocr_peer_wait(pid_t pid, int seconds)
{
	for (int i = 0; i < seconds * 100; i++)
	{
		int status;

		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		usleep(10000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	fail_msg("the child still runs after %d s", seconds);
	return -1;
}

void
dsocr_peer_expect_exit(Peer *p, int seconds, int code)
{
	int status = dsocr_peer_wait(p->pid, seconds);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), code);
	close(p->fd);
}

void
dsocr_peer_finish(Peer *p)
{
	dsocr_peer_say(p, DSOCR_FRAME_SHUTDOWN, 0);
	dsocr_peer_expect_exit(p, 5, 0);
}
