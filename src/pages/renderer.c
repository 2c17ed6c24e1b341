/*-------------------------------------------------------------------------
 *
 * renderer.c
 *		The process that opens one document and makes images of its pages.
 *
 * The libraries behind it end the process when they find no memory, or worse:
 * that costs one page and is the page server's to describe.  A handler tells
 * the two apart where it can.
 *
 *-------------------------------------------------------------------------
 */
#include "renderer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "channel.h"
#include "sandbox.h"

/* Address space for what is mapped but not written: fonts, character maps. */
#define MAPPED_BYTES ((uint64_t) 256 << 20)

bool
dsocr_renderer_memory(int pid, uint64_t *data, uint64_t *space)
{
	char path[64];
	char text[256];
	unsigned long long size;
	unsigned long long writable;
	uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE);
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	/* size, resident, shared, text, library, data */
	if (sscanf(text, "%llu %*u %*u %*u %*u %llu", &size, &writable) != 2)
		return false;
	*space = size * page;
	*data = writable * page;
	return true;
}

/* A library gave up: was it for memory?  errno still tells. */
static void
on_abort(int number)
{
	if (errno == ENOMEM)
		_exit(DSOCR_RENDERER_NO_MEMORY);
	/* without a handler now; it is delivered when this one returns */
	(void) raise(number);
}

static void
limit(int resource, uint64_t soft, uint64_t hard)
{
	struct rlimit l = {.rlim_cur = soft, .rlim_max = hard};

	(void) setrlimit(resource, &l);
}

bool
dsocr_renderer_close(int keep_fd, const DsocrRendererTask *task, char *report, size_t size,
					 DsocrError *err)
{
	struct sigaction action = {.sa_handler = on_abort, .sa_flags = (int) SA_RESETHAND};
	uint64_t data = 0;
	uint64_t space = 0;
	bool known = task->memory > 0 && dsocr_renderer_memory(getpid(), &data, &space);
	int null;

	snprintf(report, size, "none");
	if (!dsocr_sandbox_child(keep_fd, known ? data + task->memory : task->memory, err))
		return false;
	if (known)
		limit(RLIMIT_AS, space + task->memory + MAPPED_BYTES, space + task->memory + MAPPED_BYTES);
	if (task->cpu_seconds > 0)
		limit(RLIMIT_CPU, (uint64_t) task->cpu_seconds, (uint64_t) task->cpu_seconds + 1);
	(void) sigaction(SIGABRT, &action, NULL);
	(void) sigaction(SIGTRAP, &action, NULL);
	if (!task->sandbox)
		return true;
	/* libraries write what they found in a document; the log is not for that */
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null >= 0)
	{
		(void) dup2(null, STDOUT_FILENO);
		(void) dup2(null, STDERR_FILENO);
		if (null > STDERR_FILENO)
			close(null);
	}
	dsocr_sandbox_close(DSOCR_SANDBOX_PAGES, report, size);
	return true;
}

/* ---- frames ---- */

/* Send everything; false when the page server is gone. */
static bool
drain(DsocrChannel *c)
{
	while (dsocr_channel_pending(c) > 0)
	{
		if (!dsocr_channel_flush(c))
			return false;
		if (dsocr_channel_pending(c) > 0)
			dsocr_channel_wait(c, false, -1);
	}
	/* a large page is rare and its room is needed */
	dsocr_buffer_free(&c->out);
	return true;
}

static bool
say(DsocrChannel *c, uint64_t id, const DsocrError *status, const DsocrResult *result)
{
	DsocrError err = {0};

	if (!dsocr_frame_result(&c->out, id, status, result, &err) &&
		!dsocr_frame_result(&c->out, id, &err, NULL, NULL))
		return false;
	return drain(c);
}

static bool
answer(DsocrChannel *c, DsocrSource *s, const DsocrFrameHeader *h, const void *body)
{
	DsocrRequest r;
	DsocrResult result = {0};
	DsocrError err = {0};
	char *prompt = NULL;
	bool ok;

	if (h->type != DSOCR_FRAME_REQUEST || body == NULL ||
		!dsocr_parse_request(h, body, &r, &prompt, &err))
		return false;
	if (dsocr_source_page(s, &r, &result, &err))
		err.code = DSOCR_OK;
	ok = say(c, h->id, &err, &result);
	dsocr_result_free(&result);
	dsocr_free(prompt);
	return ok;
}

static bool
report_open(DsocrChannel *c, uint64_t id, int pages)
{
	DsocrProgress p = {.id = id, .pages = pages};

	return dsocr_frame_progress(&c->out, &p, NULL) && drain(c);
}

static int
loop(DsocrChannel *c, DsocrSource *s)
{
	for (;;)
	{
		DsocrFrameHeader h;
		DsocrError err = {0};
		void *body = NULL;
		bool ok;

		switch (dsocr_channel_read(c, 0, &h, &body, &err))
		{
			case DSOCR_READ_NOTHING:
				dsocr_channel_wait(c, true, -1);
				continue;
			case DSOCR_READ_FRAME:
				break;
			case DSOCR_READ_EOF:
				return 0;
			case DSOCR_READ_BAD:
				return 2;
		}
		ok = answer(c, s, &h, body);
		dsocr_free(body);
		if (!ok)
			return 2;
	}
}

int
dsocr_renderer_main(int fd, const DsocrRendererTask *task)
{
	DsocrChannel c;
	DsocrSource s;
	DsocrError err = {0};
	char report[64];
	int status = 2;

	if (!dsocr_channel_open(&c, fd, &err) ||
		!dsocr_renderer_close(fd, task, report, sizeof(report), &err))
		return 2;
	if (!dsocr_source_open(&s, &task->source, &err))
		return say(&c, task->document, &err, NULL) ? 0 : 2;
	if (report_open(&c, task->document, s.pages))
		status = loop(&c, &s);
	dsocr_source_close(&s);
	dsocr_channel_close(&c);
	return status;
}
