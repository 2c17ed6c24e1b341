/*-------------------------------------------------------------------------
 *
 * engine_link.c
 *		The worker's end of the socket to its engine: frames in and out.
 *
 * The engine decodes images from strangers, so what it sends is checked like
 * anything from outside: frame headers by the protocol, sizes by limits of
 * our own.  Control frames go between requests, never into the middle of one.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "engine_link.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define READ_CHUNK ((size_t) 64 * 1024)
#define READ_ROUND ((size_t) 8 << 20)	/* bytes read before others get their turn */
#define WRITE_ROUND ((size_t) 8 << 20)	/* bytes written before others get their turn */
#define MAX_ANSWER ((size_t) 256 << 20) /* bytes of a body we are ready to hold: of text */

void
dsocr_link_open(DsocrLink *link, int fd, bool large_answers)
{
	memset(link, 0, sizeof(*link));
	link->fd = fd;
	link->most = large_answers ? DSOCR_MAX_FRAME : MAX_ANSWER;
}

static void
output_clear(DsocrOutput *out)
{
	dsocr_buffer_free(&out->head);
	memset(out, 0, sizeof(*out));
}

void
dsocr_link_close(DsocrLink *link)
{
	if (link->fd >= 0)
		close(link->fd);
	link->fd = -1;
	dsocr_buffer_free(&link->in);
	link->in_used = 0;
	output_clear(&link->request);
	output_clear(&link->control);
}

/* ---- in ---- */

bool
dsocr_link_read(DsocrLink *link)
{
	char chunk[64 * 1024];

	if (link->in_used > 0)
	{
		memmove(link->in.data, link->in.data + link->in_used, link->in.len - link->in_used);
		link->in.len -= link->in_used;
		link->in_used = 0;
	}
	for (size_t got = 0; got < READ_ROUND && link->in.len < link->most + sizeof(DsocrFrameHeader);)
	{
		ssize_t n = recv(link->fd, chunk, READ_CHUNK, MSG_DONTWAIT);

		if (n > 0)
		{
			if (!dsocr_buffer_append(&link->in, chunk, (size_t) n, NULL))
				return false;
			got += (size_t) n;
		}
		else if (n == 0)
			return false;
		else if (errno != EINTR)
			return errno == EAGAIN || errno == EWOULDBLOCK;
	}
	return true;
}

int
dsocr_link_next(DsocrLink *link, DsocrFrameHeader *header, const void **body, DsocrError *err)
{
	size_t there = link->in.len - link->in_used;

	if (there < sizeof(DsocrFrameHeader))
		return 0;
	memcpy(header, link->in.data + link->in_used, sizeof(DsocrFrameHeader));
	if (!dsocr_frame_check(header, err))
		return -1;
	if (header->type >= DSOCR_FRAME_REQUEST)
	{
		dsocr_fail(err, DSOCR_E_INTERNAL, "frame of type %u is not for the worker", header->type);
		return -1;
	}
	if (header->length > link->most)
	{
		dsocr_fail(err, DSOCR_E_INTERNAL, "frame of %llu bytes is too large",
				   (unsigned long long) header->length);
		return -1;
	}
	if (there - sizeof(DsocrFrameHeader) < header->length)
		return 0;
	*body = link->in.data + link->in_used + sizeof(DsocrFrameHeader);
	link->in_used += sizeof(DsocrFrameHeader) + header->length;
	return 1;
}

/* ---- out ---- */

static size_t
output_left(const DsocrOutput *out)
{
	return out->head.len + out->tail_len - out->sent;
}

bool
dsocr_link_sending(const DsocrLink *link)
{
	return output_left(&link->request) > 0;
}

bool
dsocr_link_sending_begun(const DsocrLink *link)
{
	return dsocr_link_sending(link) && link->request.sent > 0;
}

void
dsocr_link_withdraw(DsocrLink *link)
{
	Assert(link->request.sent == 0);
	output_clear(&link->request);
}

bool
dsocr_link_send_request(DsocrLink *link, const DsocrRequest *r, DsocrError *err)
{
	DsocrOutput *out = &link->request;

	Assert(!dsocr_link_sending(link));
	output_clear(out);
	if (!dsocr_frame_request_head(&out->head, r, err) ||
		(r->prompt != NULL && !dsocr_buffer_append(&out->head, r->prompt, strlen(r->prompt), err)))
	{
		output_clear(out);
		return false;
	}
	if (r->image != NULL)
	{
		out->tail = (const char *) r->image;
		out->tail_len = r->image_len;
	}
	return true;
}

bool
dsocr_link_send_simple(DsocrLink *link, DsocrFrameType type, uint64_t id, DsocrError *err)
{
	if (output_left(&link->control) == 0)
		output_clear(&link->control);
	return dsocr_frame_simple(&link->control.head, type, id, err);
}

/* Write one output as far as it goes: 1 = all, 0 = the socket is full, -1 = closed. */
static int
output_write(int fd, DsocrOutput *out, size_t *budget)
{
	while (output_left(out) > 0)
	{
		struct iovec parts[2];
		struct msghdr message = {.msg_iov = parts};
		ssize_t n;

		if (out->sent < out->head.len)
			parts[message.msg_iovlen++] = (struct iovec){.iov_base = out->head.data + out->sent,
														 .iov_len = out->head.len - out->sent};
		if (out->tail_len > 0)
		{
			size_t skip = out->sent > out->head.len ? out->sent - out->head.len : 0;

			parts[message.msg_iovlen++] = (struct iovec){.iov_base = (char *) out->tail + skip,
														 .iov_len = out->tail_len - skip};
		}
		if (*budget == 0)
			return 0;
		n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
		out->sent += (size_t) n;
		*budget -= Min((size_t) n, *budget);
	}
	output_clear(out);
	return 1;
}

bool
dsocr_link_write(DsocrLink *link)
{
	size_t budget = WRITE_ROUND;
	int done;

	if (dsocr_link_sending_begun(link))
	{
		done = output_write(link->fd, &link->request, &budget);
		if (done <= 0)
			return done == 0;
	}
	done = output_write(link->fd, &link->control, &budget);
	if (done > 0)
		done = output_write(link->fd, &link->request, &budget);
	return done >= 0;
}

bool
dsocr_link_wants_write(const DsocrLink *link)
{
	return output_left(&link->request) > 0 || output_left(&link->control) > 0;
}
