/*-------------------------------------------------------------------------
 *
 * stub_engine.c
 *		A stand-in for `dsocr-engine serve` that does as the image tells it.
 *
 * Speaks the same protocol and takes the same options, reads no model.  An
 * image whose first 4096 bytes contain "STUB:" is a list of commands, up to a
 * NUL or the end; other images give "stub: N bytes".  Commands, separated by
 * ';', in the order they act:
 *
 *   ignore-cancel; progress=N; sleep=SECONDS; until=FILE (is there); mark=FILE (is made);
 *   crash; crash-once=FILE;
 *   exit=CODE; hang; garbage-frame; half-frame; failed-frame;
 *   error=CODE:MESSAGE; length; loop; attempts=N; rotation=DEGREES; skew=DEGREES;
 *   big=BYTES; prompt; text=... (everything that follows)
 *
 * The environment variable DSOCR_STUB takes the same commands for images that
 * have none, and latency=MS (default 20), slots=N (64), slow-load=SECONDS,
 * load-crash, load-crash-once=FILE, load-error=MESSAGE, load-hang, any-model.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel.h"
#include "output.h"

#define DEFAULT_LATENCY_MS 20
#define DEFAULT_SLOTS 64
#define MAX_REQUESTS 4096
#define MAX_COMMAND 4096
#define LOOK_BYTES 4096

typedef struct Job
{
	uint64_t id;
	DsocrRequest request; /* without image and prompt */
	char *prompt;
	size_t image_len;
	int width;
	int height;
	char commands[LOOK_BYTES + 1];
	int64_t start_us;
	int64_t due_us; /* 0 while it waits for a slot */
	int progress_sent;
} Job;

static DsocrChannel channel;
static Job *jobs[MAX_REQUESTS];
static int n_jobs;
static const char *defaults;

/* Value of a command ("" if it has none), or NULL. */
static const char *
command(const char *list, const char *name, char *value, size_t size)
{
	size_t n = strlen(name);

	while (list != NULL && *list != '\0')
	{
		const char *end = strncmp(list, "text=", 5) == 0 ? list + strlen(list) : strchr(list, ';');
		size_t len = end == NULL ? strlen(list) : (size_t) (end - list);

		if (strncmp(list, name, n) == 0 && (len == n || list[n] == '='))
		{
			snprintf(value, size, "%.*s", (int) (len > n ? len - n - 1 : 0),
					 list + n + (len > n ? 1 : 0));
			return value;
		}
		list += len;
		if (*list == ';')
			list++;
	}
	return NULL;
}

static bool
has(const char *list, const char *name)
{
	char value[MAX_COMMAND];

	return command(list, name, value, sizeof(value)) != NULL;
}

static double
number(const char *list, const char *name, double otherwise)
{
	char value[MAX_COMMAND];

	return command(list, name, value, sizeof(value)) != NULL ? atof(value) : otherwise;
}

/* Is this the first time?  The file remembers. */
static bool
once(const char *list, const char *name)
{
	char path[MAX_COMMAND];
	int fd;

	if (command(list, name, path, sizeof(path)) == NULL)
		return false;
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0666);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static void
crash(void)
{
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
}

static void
hang(void)
{
	for (;;)
		pause();
}

/* Send everything now: only before the end and while loading. */
static void
drain(void)
{
	while (dsocr_channel_pending(&channel) > 0 && dsocr_channel_flush(&channel))
		dsocr_channel_wait(&channel, false, 1000);
}

static void
send_error(uint64_t id, DsocrCode code, const char *message)
{
	DsocrError status = {0};

	dsocr_fail(&status, code, "%s", message);
	if (!dsocr_frame_result(&channel.out, id, &status, NULL, NULL))
		_exit(2);
}

static void
fill_sizes(const Job *j, DsocrResult *r)
{
	static const int tokens[] = {273, 73, 111, 273, 421, 903, 1843, 273};
	static const int valid[] = {256, 64, 100, 256, 400, 856, 1737, 256};

	r->mode = j->request.mode == DSOCR_MODE_AUTO ? DSOCR_MODE_BASE : j->request.mode;
	r->width = j->width;
	r->height = j->height;
	r->grid_columns = 1;
	r->grid_rows = 1;
	r->views = 1;
	r->image_tokens = tokens[r->mode];
	r->valid_image_tokens = valid[r->mode];
	r->prompt_tokens = r->image_tokens + 5;
}

/* How the page was read: as often as the commands say, each time one mode up. */
static void
fill_attempts(const Job *j, DsocrResult *r)
{
	int n = (int) number(j->commands, "attempts", 1);

	if (has(j->commands, "loop"))
		r->finish = DSOCR_FINISH_LOOP;
	else
		r->finish = has(j->commands, "length") ? DSOCR_FINISH_LENGTH : DSOCR_FINISH_STOP;
	r->n_attempts = n < 1 ? 1 : n > DSOCR_MAX_ATTEMPTS ? DSOCR_MAX_ATTEMPTS : n;
	for (int i = 0; i < r->n_attempts; i++)
	{
		int below = r->n_attempts - 1 - i;
		int mode = (int) r->mode - below;

		r->attempts[i] =
			(DsocrAttempt){.mode = mode < DSOCR_MODE_TINY ? DSOCR_MODE_TINY : (DsocrMode) mode,
						   .finish = below > 0 ? DSOCR_FINISH_LOOP : r->finish,
						   .text_tokens = r->text_tokens + below};
	}
	r->rotation = (int32_t) number(j->commands, "rotation", 0);
	r->skew = (float) number(j->commands, "skew", 0);
}

static char *
answer(const Job *j)
{
	char value[MAX_COMMAND];
	double big = number(j->commands, "big", 0);
	char *text;

	if (big > 0)
	{
		text = malloc((size_t) big + 1);
		if (text == NULL)
			abort();
		memset(text, 'x', (size_t) big);
		text[(size_t) big] = '\0';
		return text;
	}
	if (has(j->commands, "prompt"))
		return strdup(j->prompt == NULL ? "" : j->prompt);
	if (command(j->commands, "text", value, sizeof(value)) != NULL)
		return strdup(value);
	snprintf(value, sizeof(value), "stub: %zu bytes", j->image_len);
	return strdup(value);
}

/* As if each four bytes were a token, all of them equally sure. */
static void
parse(const Job *j, const char *text, DsocrResult *r)
{
	size_t len = strlen(text);
	DsocrScores scores = {.n = len / 4 + 1};
	size_t *ends = malloc(scores.n * sizeof(*ends));
	float *logprobs = malloc(scores.n * sizeof(*logprobs));
	DsocrError err = {0};

	if (ends == NULL || logprobs == NULL)
		abort();
	for (size_t i = 0; i < scores.n; i++)
	{
		ends[i] = 4 * (i + 1) < len ? 4 * (i + 1) : len;
		logprobs[i] = (float) r->mean_logprob;
	}
	scores.ends = ends;
	scores.logprobs = logprobs;
	if (!dsocr_output_parse_scored(text, len, j->width, j->height, &scores, r, &err))
		abort();
	free(ends);
	free(logprobs);
}

static void
send_result(const Job *j)
{
	DsocrError status = {0};
	DsocrResult r = {0};
	char *text = answer(j);
	int64_t now = dsocr_now_us();

	fill_sizes(j, &r);
	r.pages = 1;
	if (j->request.kind == DSOCR_READ)
	{
		r.text_tokens = (int32_t) (strlen(text) / 4 + 1);
		r.mean_logprob = -0.125;
		r.confidence = exp(r.mean_logprob);
		fill_attempts(j, &r);
		r.timings = (DsocrTimings){500, 1000, 2000, 3000, now - j->start_us};
		parse(j, text, &r);
	}
	if (!dsocr_frame_result(&channel.out, j->id, &status, &r, NULL))
		_exit(2);
	dsocr_result_free(&r);
	free(text);
}

/* The job's time is up: do what its commands say. */
static void
finish(const Job *j)
{
	char value[MAX_COMMAND];

	(void) once(j->commands, "mark");
	if (has(j->commands, "crash") || once(j->commands, "crash-once"))
		crash();
	if (has(j->commands, "exit"))
		_exit((int) number(j->commands, "exit", 1));
	if (has(j->commands, "hang"))
		hang();
	if (has(j->commands, "garbage-frame"))
		dsocr_buffer_append(&channel.out, "this is not a frame, not even close", 35, NULL);
	else if (has(j->commands, "failed-frame"))
	{
		DsocrError why = {0};

		dsocr_fail(&why, DSOCR_E_MODEL, "the model cannot be loaded");
		dsocr_frame_failed(&channel.out, &why, NULL);
	}
	else if (has(j->commands, "half-frame"))
	{
		size_t before = channel.out.len;

		send_result(j);
		channel.out.len = before + (channel.out.len - before) / 2;
		drain();
		_exit(1);
	}
	else if (command(j->commands, "error", value, sizeof(value)) != NULL)
	{
		char *message = strchr(value, ':');

		send_error(j->id, (DsocrCode) atoi(value), message == NULL ? "stub error" : message + 1);
	}
	else
		send_result(j);
}

/* The others keep their order, in which they are begun. */
static void
drop(int i)
{
	dsocr_free(jobs[i]->prompt);
	free(jobs[i]);
	n_jobs--;
	memmove(&jobs[i], &jobs[i + 1], (size_t) (n_jobs - i) * sizeof(jobs[0]));
}

/* Find "STUB:" and take what follows; PNGs also give the size. */
static void
look_at_image(Job *j, const uint8_t *image, size_t len)
{
	size_t look = len < LOOK_BYTES ? len : LOOK_BYTES;
	const char *at = look == 0 ? NULL : memmem(image, look, "STUB:", 5);

	j->image_len = len;
	j->width = 1000;
	j->height = 1000;
	if (len >= 24 && memcmp(image, "\x89PNG\r\n\x1a\n", 8) == 0)
	{
		j->width = image[16] << 24 | image[17] << 16 | image[18] << 8 | image[19];
		j->height = image[20] << 24 | image[21] << 16 | image[22] << 8 | image[23];
	}
	if (at != NULL)
	{
		size_t n = strnlen(at + 5, look - (size_t) (at + 5 - (const char *) image));

		memcpy(j->commands, at + 5, n);
	}
	else
		snprintf(j->commands, sizeof(j->commands), "%s", defaults);
}

static void
take_request(const DsocrFrameHeader *h, const void *body)
{
	DsocrError err = {0};
	Job *j = calloc(1, sizeof(Job));

	if (j == NULL || n_jobs == MAX_REQUESTS ||
		!dsocr_parse_request(h, body, &j->request, &j->prompt, &err))
	{
		fprintf(stderr, "stub engine: %s\n",
				err.code == DSOCR_OK ? "too many requests" : err.message);
		_exit(2);
	}
	j->id = h->id;
	look_at_image(j, j->request.image, j->request.image_len);
	if (j->request.kind == DSOCR_PROBE && j->request.image_len == 0)
	{
		j->width = j->request.probe_width;
		j->height = j->request.probe_height;
	}
	jobs[n_jobs++] = j;
}

static void
take_cancel(uint64_t id)
{
	for (int i = 0; i < n_jobs; i++)
	{
		if (jobs[i]->id == id && !has(jobs[i]->commands, "ignore-cancel"))
		{
			send_error(id, DSOCR_E_CANCELLED, "request was cancelled");
			drop(i);
			return;
		}
	}
}

static void
send_progress(Job *j, int64_t now)
{
	int want = (int) number(j->commands, "progress", 0);
	int64_t length = j->due_us - j->start_us;

	while (j->progress_sent < want && length > 0 &&
		   (now - j->start_us) * (want + 1) >= length * (j->progress_sent + 1))
	{
		DsocrProgress p = {j->id, 1, 1, 273, ++j->progress_sent};

		if (!dsocr_frame_progress(&channel.out, &p, NULL))
			_exit(2);
	}
}

/* A job that waits for a file is not due before that is there. */
static bool
is_due(Job *j, int64_t now)
{
	char path[MAX_COMMAND];

	if (j->due_us > now)
		return false;
	if (command(j->commands, "until", path, sizeof(path)) == NULL || access(path, F_OK) == 0)
		return true;
	j->due_us = now + 10000;
	return false;
}

/* Start, report and end jobs; milliseconds until the next one is due, -1 if none. */
static int
work(int slots)
{
	int64_t now = dsocr_now_us();
	int64_t next = INT64_MAX;
	int running = 0;

	for (int i = 0; i < n_jobs; i++)
	{
		Job *j = jobs[i];

		if (running == slots)
			break;
		running++;
		if (j->due_us == 0)
		{
			double seconds = number(j->commands, "sleep",
									number(defaults, "latency", DEFAULT_LATENCY_MS) / 1000);

			j->start_us = now;
			j->due_us = now + (int64_t) (seconds * 1e6);
		}
		send_progress(j, now);
		if (is_due(j, now))
		{
			finish(j);
			drop(i--);
			running--;
		}
		else
		{
			int64_t wait = j->due_us - now;

			if (j->progress_sent < (int) number(j->commands, "progress", 0) && wait > 10000)
				wait = 10000;
			if (now + wait < next)
				next = now + wait;
		}
	}
	return next == INT64_MAX ? -1 : (int) ((next - now) / 1000 + 1);
}

static void
fail_load(DsocrCode code, const char *message)
{
	DsocrError why = {0};

	dsocr_fail(&why, code, "%s", message);
	dsocr_frame_failed(&channel.out, &why, NULL);
	drain();
	_exit(0);
}

static void
load(const char *model, const char *precision, int slots)
{
	DsocrModelInfo info = {.fingerprint = "00000000000000000000000000000000",
						   .device = "cpu (stub)",
						   .sandbox = "none",
						   .auto_mode = DSOCR_MODE_BASE,
						   .modes = DSOCR_ALL_MODES,
						   .max_positions = 8192,
						   .max_sequences = slots,
						   .parameters = 1000000,
						   .weight_bytes = 2000000,
						   .kv_bytes = 3000000};
	char message[MAX_COMMAND];
	const char *name = strrchr(model, '/');
	struct stat st;

	usleep((useconds_t) (number(defaults, "slow-load", 0) * 1e6));
	if (has(defaults, "load-crash") || once(defaults, "load-crash-once"))
		crash();
	if (has(defaults, "load-hang"))
		hang();
	if (command(defaults, "load-error", message, sizeof(message)) != NULL)
		fail_load(DSOCR_E_MODEL, message);
	if (!has(defaults, "any-model") && (stat(model, &st) != 0 || !S_ISDIR(st.st_mode)))
	{
		snprintf(message, sizeof(message), "could not open model folder \"%.200s\"", model);
		fail_load(DSOCR_E_MODEL, message);
	}
	snprintf(info.name, sizeof(info.name), "%s", name == NULL ? model : name + 1);
	snprintf(info.weights, sizeof(info.weights), "%s", precision);
	if (!dsocr_frame_ready(&channel.out, &info, NULL))
		_exit(2);
}

static void
serve(int slots)
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
			fprintf(stderr, "stub engine: %s\n", err.message);
			_exit(2);
		}
		if (state == DSOCR_READ_FRAME && h.type == DSOCR_FRAME_REQUEST)
			take_request(&h, body);
		else if (state == DSOCR_READ_FRAME && h.type == DSOCR_FRAME_CANCEL)
			take_cancel(h.id);
		else if (state == DSOCR_READ_FRAME && h.type == DSOCR_FRAME_SHUTDOWN)
			_exit(0);
		dsocr_free(body);
		timeout = work(slots);
		if (!dsocr_channel_flush(&channel))
			_exit(0);
		if (state != DSOCR_READ_FRAME)
			dsocr_channel_wait(&channel, true, timeout);
	}
}

int
main(int argc, char **argv)
{
	const char *model = "";
	const char *precision = "bf16";
	DsocrError err = {0};
	int fd = -1;
	int slots;

	if (argc < 2 || strcmp(argv[1], "serve") != 0)
	{
		fprintf(stderr, "usage: stub_engine serve --fd N --model DIR [options]\n");
		return 2;
	}
	for (int i = 2; i + 1 < argc; i += 2)
	{
		if (strcmp(argv[i], "--fd") == 0)
			fd = atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--model") == 0)
			model = argv[i + 1];
		else if (strcmp(argv[i], "--precision") == 0)
			precision = argv[i + 1];
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	defaults = getenv("DSOCR_STUB") == NULL ? "" : getenv("DSOCR_STUB");
	slots = (int) number(defaults, "slots", DEFAULT_SLOTS);
	if (!dsocr_channel_open(&channel, fd, &err))
	{
		fprintf(stderr, "stub engine: %s\n", err.message);
		return 2;
	}
	load(model, precision, slots);
	serve(slots);
}
