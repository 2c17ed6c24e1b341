/*-------------------------------------------------------------------------
 *
 * test_serve.c
 *		The serve loop, from the other end of the socket.
 *
 * The loop runs in a child process over an engine of this file, which does as
 * the image tells it.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../reference/serve_peer.h"
#include "serve.h"

/* ---- an engine that does as the image tells it ---- */

/* An address sanitizer keeps freed memory and maps what no limit allows. */
#ifdef __SANITIZE_ADDRESS__
#define PLAIN_MEMORY false
#else
#define PLAIN_MEMORY true
#endif

#define MAX_JOBS 4096
#define TOGETHER 4 /* jobs of one step */

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
	fake.info = (DsocrModelInfo){
		.name = "fake", .device = "cpu", .weights = "bf16", .max_sequences = TOGETHER};
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

static void
answer(Job *j, const DsocrEvents *events)
{
	DsocrError ok = {0};
	DsocrResult r = {.raw = j->text, .markdown = j->text, .image_tokens = (int32_t) j->image_len};
	char *big = NULL;

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
	for (int i = 0, done = 0; i < e->n && done < TOGETHER; i++, done++)
	{
		Job *j = &e->jobs[i];
		DsocrProgress p = {j->id, 1, 2, 3, 4};
		DsocrError why = {0};

		if (strcmp(j->text, "device") == 0)
			return dsocr_fail(err, DSOCR_E_DEVICE, "device lost");
		if (strcmp(j->text, "lost") == 0)
		{
			dsocr_fail(&why, DSOCR_E_DEVICE, "a step failed");
			events->done(events->arg, j->id, NULL, &why);
			/* nothing is computed on a broken device */
			_exit(5);
		}
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
		e->n--;
		memmove(&e->jobs[i], &e->jobs[i + 1], (size_t) (e->n - i) * sizeof(Job));
		i--;
	}
	return e->n > 0;
}

/* ---- the child ---- */

static void
log_nothing(const char *message)
{
}

static void __attribute__((noreturn)) quit(int status)
{
	_exit(status);
}

static int
child_main(int fd, void *arg)
{
	DsocrServeOptions o = {.fd = fd, .max_pixels = 1000, .log = log_nothing, .quit = quit};

	o.engine.model = arg;
	return dsocr_serve(&o);
}

/* With little memory to spare. */
static int
small_child_main(int fd, void *arg)
{
	DsocrServeOptions o = {.fd = fd, .memory_limit = 100 << 20, .log = log_nothing, .quit = quit};

	o.engine.model = arg;
	return dsocr_serve(&o);
}

static Peer
start_ready(void)
{
	Peer p = dsocr_peer_start(child_main, "fake", 30);

	assert_int_equal(dsocr_peer_next(&p, false).header.type, DSOCR_FRAME_READY);
	return p;
}

static void
ask(Peer *p, uint64_t id, const char *image)
{
	dsocr_peer_ask(p, id, image, strlen(image), 0);
}

/* ---- the loop ---- */

static void
test_request(void **state)
{
	Peer p = start_ready();
	Frame f;

	assert_string_equal(p.info.name, "fake");
	assert_string_equal(p.info.sandbox, "none");
	ask(&p, 5, "hello");
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 5);
	assert_int_equal(f.status.code, DSOCR_OK);
	assert_string_equal(f.result.raw, "hello");
	dsocr_result_free(&f.result);
	/* what the engine refuses at once is answered, too */
	ask(&p, 6, "");
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 6);
	assert_int_equal(f.status.code, DSOCR_E_ARGUMENT);
	/* the option bounds what requests ask for */
	ask(&p, 7, "pixels");
	f = dsocr_peer_next(&p, true);
	assert_string_equal(f.result.raw, "1000");
	dsocr_result_free(&f.result);
	dsocr_peer_finish(&p);
}

static void
test_failed(void **state)
{
	Peer p = dsocr_peer_start(child_main, "missing", 30);
	Frame f = dsocr_peer_next(&p, false);

	assert_int_equal(f.header.type, DSOCR_FRAME_FAILED);
	assert_int_equal(f.status.code, DSOCR_E_MODEL);
	assert_string_equal(f.status.message, "no model there");
	dsocr_peer_expect_exit(&p, 5, 0);
}

static void
test_many(void **state)
{
	enum
	{
		N = 1000
	};
	Peer p = start_ready();
	bool seen[N] = {false};

	for (int i = 0; i < N; i++)
	{
		char image[32];

		snprintf(image, sizeof(image), "image %d", i);
		ask(&p, (uint64_t) i, image);
	}
	for (int i = 0; i < N; i++)
	{
		Frame f = dsocr_peer_next(&p, true);
		char image[32];

		assert_true(f.header.id < N && !seen[f.header.id]);
		seen[f.header.id] = true;
		snprintf(image, sizeof(image), "image %d", (int) f.header.id);
		assert_string_equal(f.result.raw, image);
		dsocr_result_free(&f.result);
	}
	dsocr_peer_finish(&p);
}

static void
test_progress(void **state)
{
	Peer p = start_ready();
	int64_t begin = dsocr_now_us();
	int reports = 0;
	Frame f;

	ask(&p, 1, "steps=300");
	for (f = dsocr_peer_next(&p, false); f.header.type == DSOCR_FRAME_PROGRESS;
		 f = dsocr_peer_next(&p, false))
		reports++;
	assert_int_equal(f.header.type, DSOCR_FRAME_RESULT);
	/* at most one in 50 ms, of more than 300 ms */
	assert_true(reports >= 2);
	assert_true(reports <= 2 + (dsocr_now_us() - begin) / 50000);
	dsocr_result_free(&f.result);
	dsocr_peer_finish(&p);
}

static void
test_cancel(void **state)
{
	Peer p = start_ready();
	int64_t begin;
	Frame f;

	/* between steps */
	ask(&p, 1, "steps=100000");
	dsocr_peer_say(&p, DSOCR_FRAME_CANCEL, 1);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.status.code, DSOCR_E_CANCELLED);
	/* inside a step: the one that runs, and one that only waits for its end */
	ask(&p, 2, "long=20000");
	usleep(100000);
	begin = dsocr_now_us();
	ask(&p, 3, "waits");
	dsocr_peer_say(&p, DSOCR_FRAME_CANCEL, 3);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 3);
	assert_int_equal(f.status.code, DSOCR_E_CANCELLED);
	ask(&p, 4, "stays");
	dsocr_peer_say(&p, DSOCR_FRAME_CANCEL, 2);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 2);
	assert_int_equal(f.status.code, DSOCR_E_CANCELLED);
	assert_true(dsocr_now_us() - begin < 2000000);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 4);
	assert_string_equal(f.result.raw, "stays");
	dsocr_result_free(&f.result);
	/* unknown ones are ignored */
	dsocr_peer_say(&p, DSOCR_FRAME_CANCEL, 99);
	dsocr_peer_finish(&p);
}

static void
test_end_of_stream(void **state)
{
	Peer p = start_ready();

	/* idle */
	shutdown(p.fd, SHUT_WR);
	dsocr_peer_expect_exit(&p, 2, 0);
	/* inside a step of 20 s */
	p = start_ready();
	ask(&p, 1, "long=20000");
	usleep(100000);
	close(p.fd);
	dsocr_peer_expect_exit(&p, 2, 0);
	/* inside a frame */
	p = start_ready();
	dsocr_peer_send(&p, "DOCR", 4);
	close(p.fd);
	dsocr_peer_expect_exit(&p, 2, 0);
	/* SHUTDOWN inside a step */
	p = start_ready();
	ask(&p, 1, "long=20000");
	usleep(50000);
	dsocr_peer_finish(&p);
}

static void
test_malformed(void **state)
{
	static const char noise[64] = "this is not a frame";
	DsocrFrameHeader h = {.magic = DSOCR_FRAME_MAGIC, .version = DSOCR_PROTOCOL_VERSION};
	Peer p = start_ready();

	dsocr_peer_send(&p, noise, sizeof(noise));
	dsocr_peer_expect_exit(&p, 2, 2);
	/* a request that holds nothing */
	p = start_ready();
	h.type = DSOCR_FRAME_REQUEST;
	dsocr_peer_send(&p, &h, sizeof(h));
	dsocr_peer_expect_exit(&p, 2, 2);
	p = start_ready();
	h.length = 10;
	dsocr_peer_send(&p, &h, sizeof(h));
	dsocr_peer_send(&p, noise, 10);
	dsocr_peer_expect_exit(&p, 2, 2);
	/* a frame for the worker */
	p = start_ready();
	h.type = DSOCR_FRAME_FAILED;
	h.length = 0;
	dsocr_peer_send(&p, &h, sizeof(h));
	dsocr_peer_expect_exit(&p, 2, 2);
	/* inside a step */
	p = start_ready();
	ask(&p, 1, "long=20000");
	usleep(50000);
	dsocr_peer_send(&p, noise, sizeof(noise));
	dsocr_peer_expect_exit(&p, 2, 2);
}

/* 100 MB in pieces, while another request runs to its end. */
static void
test_large_image(void **state)
{
	const size_t size = (size_t) 100 << 20;
	Peer p = start_ready();
	char *image = malloc(size);
	DsocrRequest r = {.id = 2, .image = (uint8_t *) image, .image_len = size};
	DsocrBuffer b = {0};
	Frame f;

	memset(image, 'x', size);
	ask(&p, 1, "steps=20");
	assert_true(dsocr_frame_request_head(&b, &r, NULL));
	dsocr_peer_send(&p, b.data, b.len);
	dsocr_peer_send(&p, image, size / 2);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 1);
	dsocr_result_free(&f.result);
	dsocr_peer_send(&p, image + size / 2, size - size / 2);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 2);
	assert_int_equal(f.result.image_tokens, size);
	dsocr_result_free(&f.result);
	/* and during a step */
	ask(&p, 3, "long=500");
	usleep(50000);
	dsocr_peer_send(&p, b.data, b.len);
	dsocr_peer_send(&p, image, size);
	for (int i = 0; i < 2; i++)
	{
		f = dsocr_peer_next(&p, true);
		dsocr_result_free(&f.result);
	}
	assert_int_equal(f.header.id, 2);
	dsocr_buffer_free(&b);
	free(image);
	dsocr_peer_finish(&p);
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
	Peer p = start_ready();
	int cancelled = 0;
	long before;

	for (int i = 0; i < 400; i++)
		ask(&p, (uint64_t) i, "big=1000000");
	/* until it has stopped to grow */
	do
	{
		before = resident(p.pid);
		usleep(200000);
	} while (resident(p.pid) > before);
	if (PLAIN_MEMORY)
		assert_true(before < 150L << 20);
	dsocr_peer_say(&p, DSOCR_FRAME_CANCEL, 399);
	for (int i = 0; i < 400; i++)
	{
		Frame f = dsocr_peer_next(&p, true);

		if (f.status.code == DSOCR_E_CANCELLED)
			cancelled++;
		else
			assert_int_equal(strlen(f.result.raw), 1000000);
		dsocr_result_free(&f.result);
	}
	assert_int_equal(cancelled, 1);
	dsocr_peer_finish(&p);
}

/* An image that finds no memory is answered, and the next request served. */
static void
test_no_memory(void **state)
{
	const size_t size = (size_t) 200 << 20;
	Peer p;
	char *image;
	Frame f;

	if (!PLAIN_MEMORY)
		skip();
	p = dsocr_peer_start(small_child_main, "fake", 30);
	image = calloc(1, size);

	assert_int_equal(dsocr_peer_next(&p, false).header.type, DSOCR_FRAME_READY);
	dsocr_peer_ask(&p, 1, image, size, 0);
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 1);
	assert_int_equal(f.status.code, DSOCR_E_MEMORY);
	ask(&p, 2, "small");
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.status.code, DSOCR_OK);
	dsocr_result_free(&f.result);
	free(image);
	dsocr_peer_finish(&p);
}

static void
test_device(void **state)
{
	Peer p = start_ready();

	ask(&p, 1, "device");
	dsocr_peer_expect_exit(&p, 2, 1);
}

/* What was done before it broke is sent, what was not is left to the next engine. */
static void
test_device_lost(void **state)
{
	Peer p = start_ready();
	Frame f;
	DsocrFrameHeader h;

	ask(&p, 1, "one");
	ask(&p, 2, "lost");
	f = dsocr_peer_next(&p, true);
	assert_int_equal(f.header.id, 1);
	assert_int_equal(f.status.code, DSOCR_OK);
	dsocr_result_free(&f.result);
	/* progress may follow, an answer not */
	while (recv(p.fd, &h, sizeof(h), MSG_WAITALL) == (ssize_t) sizeof(h))
	{
		char body[256];

		assert_int_equal(h.type, DSOCR_FRAME_PROGRESS);
		assert_true(h.length <= sizeof(body));
		assert_true(recv(p.fd, body, h.length, MSG_WAITALL) == (ssize_t) h.length);
	}
	dsocr_peer_expect_exit(&p, 1, 1);
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),		cmocka_unit_test(test_failed),
		cmocka_unit_test(test_many),		cmocka_unit_test(test_progress),
		cmocka_unit_test(test_cancel),		cmocka_unit_test(test_end_of_stream),
		cmocka_unit_test(test_malformed),	cmocka_unit_test(test_large_image),
		cmocka_unit_test(test_slow_reader), cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_device),		cmocka_unit_test(test_device_lost),
		cmocka_unit_test(test_parent_dies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
