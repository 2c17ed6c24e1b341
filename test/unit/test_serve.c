/*-------------------------------------------------------------------------
 *
 * test_serve.c
 *		The serve loop and the sandbox, from the other end of the socket.
 *
 * The loop runs in a child process over an engine of this file, which does as
 * the image tells it.  Where a program is named by DSOCR_TEST_ENGINE, the
 * last tests run it as the server would, with the model DSOCR_TEST_MODEL.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "protocol.h"
#include "serve.h"

/* ---- an engine that does as the image tells it ---- */

#define MAX_JOBS 4096

typedef struct Job
{
	uint64_t id;
	char text[64]; /* the image */
	size_t image_len;
	int steps_left;
	bool cancelled;
} Job;

struct DsocrEngine
{
	DsocrModelInfo info;
	Job jobs[MAX_JOBS];
	int n;
};

static DsocrEngine fake;

DsocrEngine *
dsocr_engine_open(const DsocrEngineOptions *options, DsocrError *err)
{
	if (strcmp(options->model, "missing") == 0)
	{
		dsocr_fail(err, DSOCR_E_MODEL, "no model there");
		return NULL;
	}
	if (strcmp(options->model, "slow") == 0)
		sleep(60);
	fake.info =
		(DsocrModelInfo){.name = "fake", .device = "cpu", .weights = "bf16", .max_sequences = 4};
	return &fake;
}

void
dsocr_engine_close(DsocrEngine *e)
{
}

const DsocrModelInfo *
dsocr_engine_info(const DsocrEngine *e)
{
	return &e->info;
}

int
dsocr_engine_pending(const DsocrEngine *e)
{
	return e->n;
}

bool
dsocr_engine_admit(DsocrEngine *e, const DsocrRequest *r, DsocrError *err)
{
	Job *j = &e->jobs[e->n];
	size_t n = r->image_len < sizeof(j->text) ? r->image_len : sizeof(j->text) - 1;

	if (e->n == MAX_JOBS)
		return dsocr_fail(err, DSOCR_E_MEMORY, "full");
	if (r->image_len == 0)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "no image");
	memset(j, 0, sizeof(*j));
	j->id = r->id;
	j->image_len = r->image_len;
	memcpy(j->text, r->image, n);
	j->steps_left = strncmp(j->text, "steps=", 6) == 0 ? atoi(j->text + 6) : 1;
	if (strcmp(j->text, "pixels") == 0)
		snprintf(j->text, sizeof(j->text), "%llu", (unsigned long long) r->max_pixels);
	e->n++;
	return true;
}

void
dsocr_engine_cancel(DsocrEngine *e, uint64_t id)
{
	for (int i = 0; i < e->n; i++)
	{
		if (e->jobs[i].id == id)
			e->jobs[i].cancelled = true;
	}
}

static void *
thread_main(void *arg)
{
	return arg;
}

/* A system call of the name; what came of it. */
static void
try_call(const char *name, char *said, size_t size)
{
	static const char *const program[] = {"/bin/true", NULL};
	struct rlimit l;
	int rc = 0;

	errno = 0;
	if (strcmp(name, "execve") == 0)
		rc = execve(program[0], (char *const *) program, NULL);
	else if (strcmp(name, "socket") == 0)
		rc = socket(AF_INET, SOCK_STREAM, 0);
	else if (strcmp(name, "write") == 0)
		rc = open("/tmp/dsocr_test_serve", O_WRONLY | O_CREAT, 0600);
	else if (strcmp(name, "read") == 0)
		rc = open("/etc/passwd", O_RDONLY);
	else if (strcmp(name, "fork") == 0)
		rc = (int) fork();
	else if (strcmp(name, "kill") == 0)
		rc = kill(getppid(), 0);
	else if (strcmp(name, "ptrace") == 0)
		rc = (int) syscall(SYS_ptrace, 0, 0, 0, 0);
	else if (strcmp(name, "limit") == 0)
	{
		l = (struct rlimit){0, 0};
		rc = setrlimit(RLIMIT_CORE, &l);
	}
	else if (strcmp(name, "thread") == 0)
	{
		pthread_t t;

		errno = pthread_create(&t, NULL, thread_main, NULL);
		rc = errno == 0 ? pthread_join(t, NULL) : -1;
	}
	else if (strcmp(name, "memory") == 0)
	{
		char *p = malloc((size_t) 64 << 20);

		rc = p == NULL ? -1 : 0;
		free(p);
	}
	else if (strcmp(name, "segv") == 0)
	{
		volatile uintptr_t nowhere = 8; /* unknown to the compiler, which would warn */

		*(volatile int *) nowhere = 1;
	}
	else if (strcmp(name, "abort") == 0)
		abort();
	snprintf(said, size, "%s: %s", name, rc >= 0 ? "done" : strerror(errno));
}

static void
answer(Job *j, const DsocrEvents *events)
{
	DsocrError ok = {0};
	DsocrResult r = {.raw = j->text, .markdown = j->text, .image_tokens = (int32_t) j->image_len};
	char said[128];
	char *big = NULL;

	if (strncmp(j->text, "call=", 5) == 0)
	{
		try_call(j->text + 5, said, sizeof(said));
		r.raw = said;
	}
	if (strncmp(j->text, "big=", 4) == 0)
	{
		size_t n = (size_t) atol(j->text + 4);

		big = malloc(n + 1);
		memset(big, 'b', n);
		big[n] = '\0';
		r.raw = big;
	}
	events->done(events->arg, j->id, &r, &ok);
	free(big);
}

static void
long_step(int ms, const DsocrEvents *events, Job *j)
{
	for (int i = 0; i < ms && !j->cancelled; i += 2)
	{
		usleep(2000);
		events->poll(events->arg);
	}
}

bool
dsocr_engine_step(DsocrEngine *e, const DsocrEvents *events, DsocrError *err)
{
	for (int i = 0; i < e->n; i++)
	{
		Job *j = &e->jobs[i];
		DsocrProgress p = {j->id, 1, 2, 3, 4};
		DsocrError why = {0};

		if (strcmp(j->text, "device") == 0)
			return dsocr_fail(err, DSOCR_E_DEVICE, "device lost");
		if (strncmp(j->text, "long=", 5) == 0)
			long_step(atoi(j->text + 5), events, j);
		if (strncmp(j->text, "steps=", 6) == 0)
			usleep(1000);
		events->progress(events->arg, &p);
		events->poll(events->arg);
		if (j->cancelled)
		{
			dsocr_fail(&why, DSOCR_E_CANCELLED, "request was cancelled");
			events->done(events->arg, j->id, NULL, &why);
		}
		else if (--j->steps_left > 0)
			continue;
		else
			answer(j, events);
		e->jobs[i--] = e->jobs[--e->n];
	}
	return e->n > 0;
}

/* ---- the child and the worker's end ---- */

typedef struct Peer
{
	int fd;
	pid_t pid;
	DsocrModelInfo info;
} Peer;

typedef struct Frame
{
	DsocrFrameHeader header;
	DsocrError status;
	DsocrResult result;
} Frame;

static void
log_nothing(const char *message)
{
}

static void __attribute__((noreturn)) quit(int status)
{
	_exit(status);
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

static void
send_bytes(int fd, const void *from, size_t n)
{
	size_t sent = 0;

	while (sent < n)
	{
		ssize_t k = send(fd, (const char *) from + sent, n - sent, MSG_NOSIGNAL);

		assert_true(k > 0);
		sent += (size_t) k;
	}
}

/* The next RESULT, or any frame. */
static Frame
next_frame(Peer *p, bool results_only)
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
		free(body);
		if (f.header.type == DSOCR_FRAME_RESULT || !results_only)
			return f;
	}
}

static Peer
start(const char *model, bool sandbox)
{
	struct timeval limit = {.tv_sec = 30};
	Peer p = {0};
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	p.pid = fork();
	assert_true(p.pid >= 0);
	if (p.pid == 0)
	{
		DsocrServeOptions o = {.fd = fds[1], .sandbox = sandbox, .log = log_nothing, .quit = quit};

		o.engine.model = model;
		o.max_pixels = 1000;
		close(fds[0]);
		_exit(dsocr_serve(&o));
	}
	close(fds[1]);
	p.fd = fds[0];
	setsockopt(p.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return p;
}

static Peer
start_ready(bool sandbox)
{
	Peer p = start("fake", sandbox);

	assert_int_equal(next_frame(&p, false).header.type, DSOCR_FRAME_READY);
	return p;
}

static void
ask(Peer *p, uint64_t id, const char *image)
{
	DsocrRequest r = {.id = id, .image = (const uint8_t *) image, .image_len = strlen(image)};
	DsocrBuffer b = {0};

	assert_true(dsocr_frame_request_head(&b, &r, NULL));
	assert_true(dsocr_buffer_append(&b, image, strlen(image), NULL));
	send_bytes(p->fd, b.data, b.len);
	dsocr_buffer_free(&b);
}

static void
say(Peer *p, DsocrFrameType type, uint64_t id)
{
	DsocrBuffer b = {0};

	assert_true(dsocr_frame_simple(&b, type, id, NULL));
	send_bytes(p->fd, b.data, b.len);
	dsocr_buffer_free(&b);
}

/* Wait for the end of the child, at most seconds; its wait status. */
static int
wait_end(pid_t pid, int seconds)
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

static void
expect_exit(Peer *p, int seconds, int code)
{
	int status = wait_end(p->pid, seconds);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), code);
	close(p->fd);
}

static void
finish(Peer *p)
{
	say(p, DSOCR_FRAME_SHUTDOWN, 0);
	expect_exit(p, 5, 0);
}

/* ---- the loop ---- */

static void
test_request(void **state)
{
	Peer p = start_ready(false);
	Frame f;

	assert_string_equal(p.info.name, "fake");
	assert_string_equal(p.info.sandbox, "none");
	ask(&p, 5, "hello");
	f = next_frame(&p, true);
	assert_int_equal(f.header.id, 5);
	assert_int_equal(f.status.code, DSOCR_OK);
	assert_string_equal(f.result.raw, "hello");
	dsocr_result_free(&f.result);
	/* what the engine refuses at once is answered, too */
	ask(&p, 6, "");
	f = next_frame(&p, true);
	assert_int_equal(f.header.id, 6);
	assert_int_equal(f.status.code, DSOCR_E_ARGUMENT);
	/* the option bounds what requests ask for */
	ask(&p, 7, "pixels");
	f = next_frame(&p, true);
	assert_string_equal(f.result.raw, "1000");
	dsocr_result_free(&f.result);
	finish(&p);
}

static void
test_failed(void **state)
{
	Peer p = start("missing", true);
	Frame f = next_frame(&p, false);

	assert_int_equal(f.header.type, DSOCR_FRAME_FAILED);
	assert_int_equal(f.status.code, DSOCR_E_MODEL);
	assert_string_equal(f.status.message, "no model there");
	expect_exit(&p, 5, 0);
}

static void
test_many(void **state)
{
	enum
	{
		N = 1000
	};
	Peer p = start_ready(false);
	bool seen[N] = {false};

	for (int i = 0; i < N; i++)
	{
		char image[32];

		snprintf(image, sizeof(image), "image %d", i);
		ask(&p, (uint64_t) i, image);
	}
	for (int i = 0; i < N; i++)
	{
		Frame f = next_frame(&p, true);
		char image[32];

		assert_true(f.header.id < N && !seen[f.header.id]);
		seen[f.header.id] = true;
		snprintf(image, sizeof(image), "image %d", (int) f.header.id);
		assert_string_equal(f.result.raw, image);
		dsocr_result_free(&f.result);
	}
	finish(&p);
}

static void
test_progress(void **state)
{
	Peer p = start_ready(false);
	int64_t begin = dsocr_now_us();
	int reports = 0;
	Frame f;

	ask(&p, 1, "steps=300");
	for (f = next_frame(&p, false); f.header.type == DSOCR_FRAME_PROGRESS;
		 f = next_frame(&p, false))
		reports++;
	assert_int_equal(f.header.type, DSOCR_FRAME_RESULT);
	/* at most one in 50 ms, of more than 300 ms */
	assert_true(reports >= 2);
	assert_true(reports <= 2 + (dsocr_now_us() - begin) / 50000);
	dsocr_result_free(&f.result);
	finish(&p);
}

static void
test_cancel(void **state)
{
	Peer p = start_ready(false);
	int64_t begin;
	Frame f;

	/* between steps */
	ask(&p, 1, "steps=100000");
	say(&p, DSOCR_FRAME_CANCEL, 1);
	f = next_frame(&p, true);
	assert_int_equal(f.status.code, DSOCR_E_CANCELLED);
	/* inside a step: the one that runs, and one that only waits for its end */
	ask(&p, 2, "long=20000");
	usleep(100000);
	begin = dsocr_now_us();
	ask(&p, 3, "waits");
	say(&p, DSOCR_FRAME_CANCEL, 3);
	f = next_frame(&p, true);
	assert_int_equal(f.header.id, 3);
	assert_int_equal(f.status.code, DSOCR_E_CANCELLED);
	ask(&p, 4, "stays");
	say(&p, DSOCR_FRAME_CANCEL, 2);
	f = next_frame(&p, true);
	assert_int_equal(f.header.id, 2);
	assert_int_equal(f.status.code, DSOCR_E_CANCELLED);
	assert_true(dsocr_now_us() - begin < 2000000);
	f = next_frame(&p, true);
	assert_int_equal(f.header.id, 4);
	assert_string_equal(f.result.raw, "stays");
	dsocr_result_free(&f.result);
	/* unknown ones are ignored */
	say(&p, DSOCR_FRAME_CANCEL, 99);
	finish(&p);
}

static void
test_end_of_stream(void **state)
{
	Peer p = start_ready(false);

	/* idle */
	shutdown(p.fd, SHUT_WR);
	expect_exit(&p, 2, 0);
	/* inside a step of 20 s */
	p = start_ready(false);
	ask(&p, 1, "long=20000");
	usleep(100000);
	close(p.fd);
	expect_exit(&p, 2, 0);
	/* inside a frame */
	p = start_ready(false);
	send_bytes(p.fd, "DOCR", 4);
	close(p.fd);
	expect_exit(&p, 2, 0);
	/* SHUTDOWN inside a step */
	p = start_ready(false);
	ask(&p, 1, "long=20000");
	usleep(50000);
	finish(&p);
}

static void
test_malformed(void **state)
{
	static const char noise[64] = "this is not a frame";
	DsocrFrameHeader h = {.magic = DSOCR_FRAME_MAGIC, .version = DSOCR_PROTOCOL_VERSION};
	Peer p = start_ready(false);

	send_bytes(p.fd, noise, sizeof(noise));
	expect_exit(&p, 2, 2);
	/* a request that holds nothing */
	p = start_ready(false);
	h.type = DSOCR_FRAME_REQUEST;
	send_bytes(p.fd, &h, sizeof(h));
	expect_exit(&p, 2, 2);
	p = start_ready(false);
	h.length = 10;
	send_bytes(p.fd, &h, sizeof(h));
	send_bytes(p.fd, noise, 10);
	expect_exit(&p, 2, 2);
	/* a frame for the worker */
	p = start_ready(false);
	h.type = DSOCR_FRAME_FAILED;
	h.length = 0;
	send_bytes(p.fd, &h, sizeof(h));
	expect_exit(&p, 2, 2);
	/* inside a step */
	p = start_ready(false);
	ask(&p, 1, "long=20000");
	usleep(50000);
	send_bytes(p.fd, noise, sizeof(noise));
	expect_exit(&p, 2, 2);
}

/* 100 MB in pieces, while another request runs to its end. */
static void
test_large_image(void **state)
{
	const size_t size = (size_t) 100 << 20;
	Peer p = start_ready(false);
	char *image = malloc(size);
	DsocrRequest r = {.id = 2, .image = (uint8_t *) image, .image_len = size};
	DsocrBuffer b = {0};
	Frame f;

	memset(image, 'x', size);
	ask(&p, 1, "steps=20");
	assert_true(dsocr_frame_request_head(&b, &r, NULL));
	send_bytes(p.fd, b.data, b.len);
	send_bytes(p.fd, image, size / 2);
	f = next_frame(&p, true);
	assert_int_equal(f.header.id, 1);
	dsocr_result_free(&f.result);
	send_bytes(p.fd, image + size / 2, size - size / 2);
	f = next_frame(&p, true);
	assert_int_equal(f.header.id, 2);
	assert_int_equal(f.result.image_tokens, size);
	dsocr_result_free(&f.result);
	/* and during a step */
	ask(&p, 3, "long=500");
	usleep(50000);
	send_bytes(p.fd, b.data, b.len);
	send_bytes(p.fd, image, size);
	for (int i = 0; i < 2; i++)
	{
		f = next_frame(&p, true);
		dsocr_result_free(&f.result);
	}
	assert_int_equal(f.header.id, 2);
	dsocr_buffer_free(&b);
	free(image);
	finish(&p);
}

/* Resident memory of a process in bytes. */
static long
resident(pid_t pid)
{
	char path[64];
	long pages = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int) pid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
	fclose(f);
	return pages * sysconf(_SC_PAGESIZE);
}

/* 400 MB of answers that nobody reads for a while: it waits, and still listens. */
static void
test_slow_reader(void **state)
{
	Peer p = start_ready(false);
	int cancelled = 0;

	/* one at a time, so that a step answers one */
	for (int i = 0; i < 400; i++)
	{
		ask(&p, (uint64_t) i, "big=1000000");
		if (i < 200)
			usleep(2000);
	}
	usleep(500000);
	assert_true(resident(p.pid) < 300L << 20);
	say(&p, DSOCR_FRAME_CANCEL, 399);
	for (int i = 0; i < 400; i++)
	{
		Frame f = next_frame(&p, true);

		if (f.status.code == DSOCR_E_CANCELLED)
			cancelled++;
		else
			assert_int_equal(strlen(f.result.raw), 1000000);
		dsocr_result_free(&f.result);
	}
	assert_int_equal(cancelled, 1);
	finish(&p);
}

static void
test_device(void **state)
{
	Peer p = start_ready(false);

	ask(&p, 1, "device");
	expect_exit(&p, 2, 1);
}

/* The parent dies while the socket stays open, here even before the model is loaded. */
static void
test_parent_dies(void **state)
{
	static const char *const models[] = {"fake", "slow"};

	for (int i = 0; i < 2; i++)
	{
		int fds[2];
		int tell[2];
		pid_t parent;
		pid_t child = 0;
		char c;

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		assert_int_equal(pipe(tell), 0);
		parent = fork();
		assert_true(parent >= 0);
		if (parent == 0)
		{
			child = fork();
			if (child == 0)
			{
				DsocrServeOptions o = {.fd = fds[1], .log = log_nothing, .quit = quit};

				o.engine.model = models[i];
				close(fds[0]);
				close(tell[1]);
				_exit(dsocr_serve(&o));
			}
			/* the test may look only when the engine is on its way */
			usleep(300000);
			if (write(tell[1], &child, sizeof(child)) < 0)
				_exit(1);
			pause();
		}
		close(fds[1]);
		close(tell[1]);
		assert_true(read(tell[0], &child, sizeof(child)) == sizeof(child));
		kill(parent, SIGKILL);
		waitpid(parent, NULL, 0);
		/* its end of the socket closes when it is gone; nobody else has it */
		struct timeval limit = {.tv_sec = 5};
		setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		ssize_t n;
		do
			n = recv(fds[0], &c, 1, 0);
		while (n > 0);
		assert_int_equal(n, 0);
		close(fds[0]);
		close(tell[0]);
	}
}

/* ---- the sandbox ---- */

static bool
has(const Peer *p, const char *feature)
{
	return strstr(p->info.sandbox, feature) != NULL;
}

static void
test_sandbox_report(void **state)
{
	Peer p = start_ready(true);

	assert_true(has(&p, "no_new_privs"));
	assert_true(has(&p, "rlimits"));
	finish(&p);
}

/* These fail, and the engine goes on. */
static void
test_sandbox_refuses(void **state)
{
	static const char *const calls[] = {"read", "fork", "kill", "limit"};
	static const char *const works[] = {"thread", "memory"};
	Peer p = start_ready(true);

	if (!has(&p, "seccomp"))
	{
		finish(&p);
		skip();
	}
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
	{
		char image[64];
		Frame f;

		snprintf(image, sizeof(image), "call=%s", calls[i]);
		ask(&p, i, image);
		f = next_frame(&p, true);
		snprintf(image, sizeof(image), "%s: done", calls[i]);
		assert_string_not_equal(f.result.raw, image);
		dsocr_result_free(&f.result);
	}
	for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++)
	{
		char image[64];
		Frame f;

		snprintf(image, sizeof(image), "call=%s", works[i]);
		ask(&p, i, image);
		f = next_frame(&p, true);
		snprintf(image, sizeof(image), "%s: done", works[i]);
		assert_string_equal(f.result.raw, image);
		dsocr_result_free(&f.result);
	}
	finish(&p);
}

/* These end the engine by the signal that belongs to them. */
static void
test_sandbox_kills(void **state)
{
	static const struct
	{
		const char *image;
		int signal;
	} calls[] = {{"call=execve", SIGSYS}, {"call=socket", SIGSYS}, {"call=write", SIGSYS},
				 {"call=ptrace", SIGSYS}, {"call=segv", SIGSEGV},  {"call=abort", SIGABRT}};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
	{
		Peer p = start_ready(true);
		int status;

		if (!has(&p, "seccomp"))
		{
			finish(&p);
			skip();
		}
		ask(&p, 1, calls[i].image);
		status = wait_end(p.pid, 5);
		close(p.fd);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), calls[i].signal);
		assert_false(WCOREDUMP(status));
	}
}

/* ---- the real program ---- */

static Peer
start_program(char *const *more)
{
	struct timeval limit = {.tv_sec = 120};
	const char *program = getenv("DSOCR_TEST_ENGINE");
	const char *model = getenv("DSOCR_TEST_MODEL");
	Peer p = {0};
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	p.pid = fork();
	assert_true(p.pid >= 0);
	if (p.pid == 0)
	{
		char fd[16];
		const char *argv[16] = {program, "serve", "--fd", fd, "--model", model, "--threads", "1"};
		int n = 8;

		snprintf(fd, sizeof(fd), "%d", fds[1]);
		while (more != NULL && *more != NULL)
			argv[n++] = *more++;
		close(fds[0]);
		execv(program, (char *const *) argv);
		_exit(127);
	}
	close(fds[1]);
	p.fd = fds[0];
	setsockopt(p.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return p;
}

static void
need_program(void)
{
	if (getenv("DSOCR_TEST_ENGINE") == NULL || getenv("DSOCR_TEST_MODEL") == NULL)
		skip();
}

/* A white picture of 2 x 2 pixels. */
static const uint8_t png[] = {
	0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44,
	0x52, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x02, 0x08, 0x00, 0x00, 0x00, 0x00, 0x57,
	0xdd, 0x52, 0xf8, 0x00, 0x00, 0x00, 0x0e, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0xf8,
	0xff, 0x9f, 0xe1, 0xff, 0x7f, 0x00, 0x0b, 0xfa, 0x03, 0xfd, 0xe0, 0x25, 0x8a, 0x10, 0x00,
	0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};

static void
ask_picture(Peer *p, uint64_t id, int max_tokens)
{
	DsocrRequest r = {.id = id, .max_tokens = max_tokens, .image = png, .image_len = sizeof(png)};
	DsocrBuffer b = {0};

	assert_true(dsocr_frame_request_head(&b, &r, NULL));
	assert_true(dsocr_buffer_append(&b, png, sizeof(png), NULL));
	send_bytes(p->fd, b.data, b.len);
	dsocr_buffer_free(&b);
}

static void
test_program(void **state)
{
	Peer p;
	Frame f;

	need_program();
	p = start_program(NULL);
	assert_int_equal(next_frame(&p, false).header.type, DSOCR_FRAME_READY);
	for (uint64_t id = 1; id <= 8; id++)
		ask_picture(&p, id, 2);
	ask(&p, 9, "this is no picture");
	for (int i = 0; i < 9; i++)
	{
		f = next_frame(&p, true);
		if (f.header.id == 9)
			assert_int_equal(f.status.code, DSOCR_E_IMAGE);
		else if (f.status.code != DSOCR_OK)
			fail_msg("%s", f.status.message);
		dsocr_result_free(&f.result);
	}
	ask_picture(&p, 10, 0);
	say(&p, DSOCR_FRAME_CANCEL, 10);
	f = next_frame(&p, true);
	assert_int_equal(f.status.code, DSOCR_E_CANCELLED);
	finish(&p);
	/* gone while it loads or works */
	p = start_program(NULL);
	close(p.fd);
	expect_exit(&p, 60, 0);
	p = start_program(NULL);
	assert_int_equal(next_frame(&p, false).header.type, DSOCR_FRAME_READY);
	ask_picture(&p, 1, 0);
	usleep(20000);
	close(p.fd);
	expect_exit(&p, 10, 0);
}

/* Too little memory to load: a failure that is said, not a crash. */
static void
test_program_memory(void **state)
{
	char *more[] = {"--memory-limit", "4194304", NULL};
	Peer p;
	Frame f;

	need_program();
	p = start_program(more);
	f = next_frame(&p, false);
	assert_int_equal(f.header.type, DSOCR_FRAME_FAILED);
	assert_int_equal(f.status.code, DSOCR_E_MEMORY);
	expect_exit(&p, 10, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_failed),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_progress),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_end_of_stream),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_large_image),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_device),
		cmocka_unit_test(test_parent_dies),
		cmocka_unit_test(test_sandbox_report),
		cmocka_unit_test(test_sandbox_refuses),
		cmocka_unit_test(test_sandbox_kills),
		cmocka_unit_test(test_program),
		cmocka_unit_test(test_program_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
