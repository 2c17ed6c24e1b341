/*-------------------------------------------------------------------------
 *
 * stub_pages.c
 *		A stand-in for `dsocr-pages serve` that does as the document tells it.
 *
 * A document that contains "STUB:" is a list of commands, separated by ';', up
 * to a NUL or the end.  The image of a page is "STUB:" and commands for the
 * stand-in engine, so both together act out documents of any kind:
 *
 *   pages=N (default 1); open-sleep=SECONDS; open-error=CODE:MESSAGE;
 *   open-crash; open-crash-once=FILE; password=WORD; sleep=SECONDS (a page);
 *   each=COMMANDS; pageN=COMMANDS (',' for ';', '#' for the number of the
 *   page); failN=CODE:MESSAGE; crashN; crash-onceN=FILE; bytes=N (of an image)
 *
 *-------------------------------------------------------------------------
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "channel.h"

#define MAX_JOBS 2048
#define MAX_COMMAND 4096
#define MAX_SEQUENCES 512

typedef struct Job
{
	uint64_t id;
	DsocrRequestKind kind;
	DsocrPageOutput output;
	uint64_t document;
	int page;
	char *commands; /* DOCUMENT */
	char *prompt;
	int64_t due_us; /* 0: an open document */
} Job;

static DsocrChannel channel;
static Job jobs[MAX_JOBS];
static int n_jobs;

/* Value of a command ("" if it has none), or NULL. */
static const char *
command(const char *list, const char *name, char *value)
{
	size_t n = strlen(name);

	while (list != NULL && *list != '\0')
	{
		size_t len = strcspn(list, ";");

		if (strncmp(list, name, n) == 0 && (len == n || list[n] == '='))
		{
			snprintf(value, MAX_COMMAND, "%.*s", (int) (len > n ? len - n - 1 : 0),
					 list + n + (len > n ? 1 : 0));
			return value;
		}
		list += len;
		list += *list == ';';
	}
	return NULL;
}

/* The same for a command whose name ends in the number of a page. */
static const char *
page_command(const char *list, const char *name, int page, char *value)
{
	char numbered[64];

	snprintf(numbered, sizeof(numbered), "%s%d", name, page);
	return command(list, numbered, value);
}

static double
number(const char *list, const char *name, double otherwise)
{
	char value[MAX_COMMAND];

	return command(list, name, value) != NULL ? atof(value) : otherwise;
}

/* Is this the first time?  The file remembers. */
static bool
first_time(const char *path)
{
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0666);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void
crash(void)
{
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
}

static void
send_error(uint64_t id, DsocrCode code, const char *message)
{
	DsocrError status = {0};

	dsocr_fail(&status, code, "%s", message);
	if (!dsocr_frame_result(&channel.out, id, &status, NULL, NULL))
		_exit(2);
}

/* value is CODE:MESSAGE */
static void
send_error_command(uint64_t id, const char *value)
{
	const char *message = strchr(value, ':');

	send_error(id, (DsocrCode) atoi(value), message == NULL ? "stub error" : message + 1);
}

/* The others keep their order, in which they are begun. */
static void
drop(int i)
{
	dsocr_free(jobs[i].prompt);
	free(jobs[i].commands);
	n_jobs--;
	memmove(&jobs[i], &jobs[i + 1], (size_t) (n_jobs - i) * sizeof(jobs[0]));
}

static Job *
find(uint64_t id)
{
	for (int i = 0; i < n_jobs; i++)
	{
		if (jobs[i].id == id)
			return &jobs[i];
	}
	return NULL;
}

/* What a page is to make the engine do. */
static void
page_image(const char *list, int page, DsocrBuffer *image)
{
	char value[MAX_COMMAND];
	const char *commands = page_command(list, "page", page, value);
	double bytes = number(list, "bytes", 0);

	if (commands == NULL)
		commands = command(list, "each", value);
	dsocr_buffer_printf(image, NULL, "STUB:");
	for (const char *p = commands == NULL ? "text=page #" : commands; *p != '\0'; p++)
	{
		if (*p == '#')
			dsocr_buffer_printf(image, NULL, "%d", page);
		else
			dsocr_buffer_append(image, *p == ',' ? ";" : p, 1, NULL);
	}
	while (image->len < (size_t) bytes)
		dsocr_buffer_append(image, "", 1, NULL);
}

static void
send_page(const Job *j, const char *list)
{
	DsocrError status = {0};
	DsocrResult r = {.width = 800, .height = 600, .pages = 1};
	DsocrBuffer image = {0};

	page_image(list, j->page, &image);
	r.image = (uint8_t *) image.data;
	r.image_len = image.len;
	if (!dsocr_frame_result(&channel.out, j->id, &status, &r, NULL))
		_exit(2);
	dsocr_buffer_free(&image);
}

static void
finish_page(const Job *j)
{
	char value[MAX_COMMAND];
	const Job *d = find(j->document);

	if (d == NULL)
	{
		send_error(j->id, DSOCR_E_IO, "document is not open");
		return;
	}
	if (page_command(d->commands, "crash", j->page, value) != NULL ||
		(page_command(d->commands, "crash-once", j->page, value) != NULL && first_time(value)))
		crash();
	if (page_command(d->commands, "fail", j->page, value) != NULL)
		send_error_command(j->id, value);
	else if (j->page < 1 || j->page > (int) number(d->commands, "pages", 1))
		send_error(j->id, DSOCR_E_ARGUMENT, "there is no such page");
	else
		send_page(j, d->commands);
}

/* The document is open, or cannot be: then it is gone. */
static bool
open_document(Job *j)
{
	char value[MAX_COMMAND];
	DsocrProgress p = {.id = j->id, .pages = (int) number(j->commands, "pages", 1)};

	if (command(j->commands, "open-crash", value) != NULL ||
		(command(j->commands, "open-crash-once", value) != NULL && first_time(value)))
		crash();
	j->due_us = 0;
	if (command(j->commands, "open-error", value) != NULL)
		send_error_command(j->id, value);
	else if (command(j->commands, "password", value) != NULL &&
			 (j->prompt == NULL || strcmp(value, j->prompt) != 0))
		send_error(j->id, DSOCR_E_IMAGE,
				   j->prompt == NULL ? "PDF is encrypted" : "password is wrong");
	else
	{
		if (!dsocr_frame_progress(&channel.out, &p, NULL))
			_exit(2);
		return true;
	}
	return false;
}

static void
take_request(const DsocrFrameHeader *h, const void *body)
{
	Job *j = &jobs[n_jobs];
	DsocrRequest r;
	DsocrError err = {0};
	const Job *d;
	const char *at;
	char *prompt;
	double seconds;

	if (n_jobs == MAX_JOBS || !dsocr_parse_request(h, body, &r, &prompt, &err))
	{
		fprintf(stderr, "stub pages: %s\n",
				err.code == DSOCR_OK ? "too many requests" : err.message);
		_exit(2);
	}
	*j = (Job){h->id, r.kind, r.output, r.document, r.page, NULL, prompt, 0};
	at = r.image_len == 0 ? NULL : memmem(r.image, r.image_len, "STUB:", 5);
	j->commands = at == NULL
					  ? strdup("")
					  : strndup(at + 5, r.image_len - (size_t) (at + 5 - (const char *) r.image));
	d = r.kind == DSOCR_DOCUMENT ? j : find(r.document);
	seconds =
		d == NULL ? 0 : number(d->commands, r.kind == DSOCR_DOCUMENT ? "open-sleep" : "sleep", 0);
	j->due_us = dsocr_now_us() + (int64_t) (seconds * 1e6);
	n_jobs++;
}

static void
take_cancel(uint64_t id)
{
	for (int i = 0; i < n_jobs; i++)
	{
		if (jobs[i].id != id && jobs[i].document != id)
			continue;
		if (jobs[i].id == id)
			send_error(id, DSOCR_E_CANCELLED, "request was cancelled");
		else
			send_error(jobs[i].id, DSOCR_E_IO, "document was closed");
		drop(i--);
	}
}

/* End what is due; milliseconds until the next one is, -1 if none. */
static int
work(void)
{
	int64_t now = dsocr_now_us();
	int64_t next = INT64_MAX;

	for (int i = 0; i < n_jobs; i++)
	{
		Job *j = &jobs[i];

		if (j->due_us == 0)
			continue;
		if (j->due_us > now)
		{
			next = j->due_us < next ? j->due_us : next;
			continue;
		}
		if (j->kind == DSOCR_DOCUMENT && open_document(j))
			continue;
		if (j->kind != DSOCR_DOCUMENT)
			finish_page(j);
		drop(i--);
	}
	return next == INT64_MAX ? -1 : (int) ((next - now) / 1000 + 1);
}

static void
serve(void)
{
	DsocrFrameHeader h;
	DsocrError err = {0};
	int timeout = -1;

	for (;;)
	{
		void *body;
		DsocrReadState state = dsocr_channel_read(&channel, 1 << 20, &h, &body, &err);

		if (state == DSOCR_READ_EOF)
			_exit(0);
		if (state == DSOCR_READ_BAD)
		{
			fprintf(stderr, "stub pages: %s\n", err.message);
			_exit(2);
		}
		if (state == DSOCR_READ_FRAME && h.type == DSOCR_FRAME_REQUEST)
			take_request(&h, body);
		else if (state == DSOCR_READ_FRAME && h.type == DSOCR_FRAME_CANCEL)
			take_cancel(h.id);
		else if (state == DSOCR_READ_FRAME && h.type == DSOCR_FRAME_SHUTDOWN)
			_exit(0);
		dsocr_free(body);
		timeout = work();
		if (!dsocr_channel_flush(&channel))
			_exit(0);
		if (state != DSOCR_READ_FRAME)
			dsocr_channel_wait(&channel, true, timeout);
	}
}

int
main(int argc, char **argv)
{
	DsocrModelInfo info = {.name = "pages", .device = "pages (stub)", .sandbox = "none"};
	DsocrError err = {0};

	if (argc < 4 || strcmp(argv[1], "serve") != 0 || strcmp(argv[2], "--fd") != 0)
	{
		fprintf(stderr, "usage: stub_pages serve --fd N\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	info.max_sequences = MAX_SEQUENCES;
	if (!dsocr_channel_open(&channel, atoi(argv[3]), &err) ||
		!dsocr_frame_ready(&channel.out, &info, &err))
	{
		fprintf(stderr, "stub pages: %s\n", err.message);
		return 2;
	}
	serve();
}
