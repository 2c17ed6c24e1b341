/*-------------------------------------------------------------------------
 *
 * channel.c
 *		Frames over a stream socket without blocking.
 *
 *-------------------------------------------------------------------------
 */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Skipped bytes go here when there is no memory for a body. */
#define SKIP_BYTES 65536

bool
dsocr_channel_open(DsocrChannel *c, int fd, DsocrError *err)
{
	int flags = fcntl(fd, F_GETFL);

	memset(c, 0, sizeof(*c));
	c->fd = fd;
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return dsocr_fail(err, DSOCR_E_IO, "could not use descriptor %d: %s", fd, strerror(errno));
	return true;
}

void
dsocr_channel_close(DsocrChannel *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	dsocr_free(c->body);
	c->body = NULL;
	dsocr_buffer_free(&c->out);
}

/* One recv; 0 = nothing now, -1 = the peer is gone. */
static ssize_t
receive(DsocrChannel *c, void *to, size_t n)
{
	for (;;)
	{
		ssize_t got = recv(c->fd, to, n, MSG_DONTWAIT);

		if (got > 0)
			return got;
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		return -1;
	}
}

/* Room for the next bytes of the frame. */
static void *
read_target(DsocrChannel *c, uint8_t *skip, size_t *n)
{
	uint64_t left;

	if (c->header_got < sizeof(c->header))
	{
		*n = sizeof(c->header) - c->header_got;
		return (uint8_t *) &c->header + c->header_got;
	}
	left = c->header.length - c->body_got;
	if (c->body != NULL)
	{
		*n = left;
		return c->body + c->body_got;
	}
	*n = left < SKIP_BYTES ? left : SKIP_BYTES;
	return skip;
}

DsocrReadState
dsocr_channel_read(DsocrChannel *c, size_t limit, DsocrFrameHeader *header, void **body,
				   DsocrError *err)
{
	uint8_t skip[SKIP_BYTES];
	size_t taken = 0;

	*body = NULL;
	for (;;)
	{
		size_t n;
		void *to = read_target(c, skip, &n);
		ssize_t got;

		if (limit > 0 && taken >= limit)
			return DSOCR_READ_NOTHING;
		got = receive(c, to, limit > 0 && n > limit - taken ? limit - taken : n);
		if (got < 0)
			return DSOCR_READ_EOF;
		if (got == 0)
			return DSOCR_READ_NOTHING;
		taken += (size_t) got;
		if (c->header_got < sizeof(c->header))
		{
			c->header_got += (size_t) got;
			if (c->header_got < sizeof(c->header))
				continue;
			if (!dsocr_frame_check(&c->header, err))
				return DSOCR_READ_BAD;
			if (c->header.length > 0)
			{
				c->body = dsocr_alloc(c->header.length, 1, NULL);
				continue;
			}
		}
		else
			c->body_got += (uint64_t) got;
		if (c->body_got == c->header.length)
		{
			*header = c->header;
			*body = c->body;
			c->body = NULL;
			c->body_got = 0;
			c->header_got = 0;
			return DSOCR_READ_FRAME;
		}
	}
}

size_t
dsocr_channel_pending(const DsocrChannel *c)
{
	return c->out.len - c->out_sent;
}

bool
dsocr_channel_flush(DsocrChannel *c)
{
	while (dsocr_channel_pending(c) > 0)
	{
		ssize_t n = send(c->fd, c->out.data + c->out_sent, dsocr_channel_pending(c),
						 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0)
			return false;
		c->out_sent += (size_t) n;
	}
	/* move the rest to the front when that is cheap against what was sent */
	if (c->out_sent > 0 && c->out_sent >= dsocr_channel_pending(c))
	{
		size_t rest = dsocr_channel_pending(c);

		if (rest > 0)
			memmove(c->out.data, c->out.data + c->out_sent, rest);
		c->out.len = rest;
		c->out_sent = 0;
	}
	return true;
}

void
dsocr_channel_wait(DsocrChannel *c, bool read, int timeout_ms)
{
	struct pollfd p = {
		.fd = c->fd,
		.events = (short) ((read ? POLLIN : 0) | (dsocr_channel_pending(c) > 0 ? POLLOUT : 0))};

	/* an interrupted or failed wait is noticed by the read or write after it */
	(void) poll(&p, 1, timeout_ms);
}
