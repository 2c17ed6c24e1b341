/*-------------------------------------------------------------------------
 *
 * cli_join.c
 *		dsocr-engine join: the jobs in flight, and what to do next.
 *
 * A job is WAITING for the engine, READING in it, or ANSWERED and to be
 * written.  Its claim lives as long as the session of the database; when that
 * is lost, what is READING is cancelled (an ORPHAN until the engine lets go)
 * and all else forgotten: the database gives the jobs to somebody else.
 *
 * When the engine dies, those it had are read again one at a time; one that
 * kills it once more, alone, is reported as the one to blame.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli_join.h"

#define MAX_JOBS 1024
#define CLAIM_AT_ONCE 16 /* documents are fetched before the next look at the engine */
#define FIRST_PAUSE_MS 250
#define LONGEST_PAUSE_MS 30000
#define FIRST_IDLE_MS 100 /* between two looks for jobs where there are none; doubles */
#define LONGEST_IDLE_MS 2000
#define BUSY_PAUSE_MS 200	  /* before a locked row is written again */
#define TROUBLE_PAUSE_MS 5000 /* without new jobs after model or device failed */
#define LONGEST_WAIT_MS 1000
#define READ_LIMIT ((size_t) 16 << 20)
#define REPORT_MS 60000

static const char usage[] =
	"usage: dsocr-engine join [options] CONNINFO\n"
	"  CONNINFO               of libpq: 'host=db dbname=scans user=worker sslmode=verify-full'\n"
	"  --model DIR            model folder (the embedded one)\n"
	"  --device NAME          cpu, cuda:N or auto (cpu)\n"
	"  --device-memory BYTES  most memory of a GPU, 0 = what is free (0)\n"
	"  --precision NAME       bf16, fp32, int8 or int4 (bf16)\n"
	"  --threads N            0 = all cores (0)\n"
	"  --max-sequences N      images decoded together, 0 = automatic (0)\n"
	"  --memory-limit BYTES   private memory of the engine, 0 = none (0)\n"
	"  --in-flight N          jobs taken at the same time, 0 = twice what is decoded together (0)\n"
	"  --max N                end after so many jobs, 0 = never (0)\n"
	"  --once                 end when there are no more jobs\n"
	"  --engine PROGRAM       of the engine (this one)\n"
	"The first SIGINT or SIGTERM lets jobs in flight end, the second does not.\n";

typedef enum JobState
{
	JOB_FREE,
	JOB_WAITING,
	JOB_READING,
	JOB_ANSWERED,
	JOB_ORPHAN
} JobState;

typedef struct Job
{
	JobState state;
	uint64_t id;
	DsocrBuffer frame;	/* of the request; kept until it is answered */
	DsocrBuffer answer; /* frame of the result */
	bool suspect;		/* an engine died while it was in it */
	bool refused;		/* the server could not write its answer */
	int64_t not_before; /* ANSWERED: do not write earlier */
} Job;

/* When to try again what did not work. */
typedef struct Pause
{
	int64_t until;
	int ms;
} Pause;

typedef struct Join
{
	const char *conninfo;
	char *argv[32]; /* of the engine */
	char fd_text[16];
	DsocrJoinChild child;
	bool child_was_ready;
	Pause child_pause;
	DsocrModelInfo info;
	DsocrJoinDb *db;
	bool was_joined;
	Pause db_pause;
	Pause idle;
	Job jobs[MAX_JOBS];
	int counts[JOB_ORPHAN + 1];
	int in_flight; /* most jobs at the same time */
	int wanted_in_flight;
	long long max; /* jobs to take, 0 = no end */
	long long taken;
	long long written;
	bool once;
	bool nothing_left; /* the last look found none */
	bool fatal;
	int64_t reported;
	long long reported_written;
} Join;

static volatile sig_atomic_t stops = 0;

static void
handle_stop(int sig)
{
	stops++;
}

static void DSOCR_PRINTF(1, 2) say(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	dsocr_cli_log(line);
}

static int64_t
now_ms(void)
{
	return dsocr_now_us() / 1000;
}

static void
pause_for(Pause *p, int first, int longest)
{
	p->ms = p->ms == 0 ? first : p->ms * 2 < longest ? p->ms * 2 : longest;
	p->until = now_ms() + p->ms;
}

static bool
is_paused(const Pause *p)
{
	return now_ms() < p->until;
}

/* ---- jobs ---- */

static void
set_state(Join *j, Job *job, JobState state)
{
	j->counts[job->state]--;
	j->counts[state]++;
	job->state = state;
}

static void
drop(Join *j, Job *job)
{
	dsocr_buffer_free(&job->frame);
	dsocr_buffer_free(&job->answer);
	set_state(j, job, JOB_FREE);
	*job = (Job){0};
}

static Job *
find(Join *j, JobState state, uint64_t id)
{
	for (int i = 0; i < MAX_JOBS; i++)
	{
		if (j->jobs[i].state == state && (id == 0 || j->jobs[i].id == id))
			return &j->jobs[i];
	}
	return NULL;
}

static int
open_jobs(const Join *j)
{
	return MAX_JOBS - j->counts[JOB_FREE] - j->counts[JOB_ORPHAN];
}

/* The job failed here, before or after the engine. */
static void
answer_failure(Join *j, Job *job, DsocrCode code, const char *message)
{
	DsocrError status = {0};

	dsocr_fail(&status, code, "%s", message);
	dsocr_buffer_free(&job->answer);
	job->answer = (DsocrBuffer){0};
	if (!dsocr_frame_result(&job->answer, job->id, &status, NULL, NULL))
		drop(j, job);
	else
		set_state(j, job, JOB_ANSWERED);
}

/* ---- the database ---- */

static void
lose_db(Join *j, const DsocrError *err)
{
	say("lost the database: %s", err->message[0] ? err->message : "the session has ended");
	dsocr_join_db_close(j->db);
	j->db = NULL;
	for (int i = 0; i < MAX_JOBS; i++)
	{
		Job *job = &j->jobs[i];

		if (job->state == JOB_READING)
		{
			set_state(j, job, JOB_ORPHAN);
			(void) dsocr_frame_simple(&j->child.channel.out, DSOCR_FRAME_CANCEL, job->id, NULL);
		}
		else if (job->state == JOB_WAITING || job->state == JOB_ANSWERED)
			drop(j, job);
	}
	pause_for(&j->db_pause, FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
}

static void
connect_db(Join *j)
{
	DsocrError err = {0};

	if (j->db != NULL || !j->child.ready || is_paused(&j->db_pause))
		return;
	j->db = dsocr_join_db_open(j->conninfo, &j->info, &err);
	if (j->db != NULL)
	{
		say("joined the database with model %s (%s) on %s", j->info.name, j->info.fingerprint,
			j->info.device);
		j->db_pause = (Pause){0};
		j->idle = (Pause){0};
		j->was_joined = true;
		return;
	}
	say("%s", err.message);
	j->fatal = err.code == DSOCR_E_ARGUMENT && !j->was_joined;
	pause_for(&j->db_pause, FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
}

static void
claim(Join *j)
{
	DsocrJoinJob jobs[CLAIM_AT_ONCE];
	DsocrError err = {0};
	int n = j->in_flight - open_jobs(j);
	int got;

	if (j->db == NULL || stops > 0 || is_paused(&j->idle) || j->counts[JOB_ORPHAN] > 0)
		return;
	if (j->max > 0 && j->max - j->taken < n)
		n = (int) (j->max - j->taken);
	n = n < CLAIM_AT_ONCE ? n : CLAIM_AT_ONCE;
	if (n <= 0)
		return;
	got = dsocr_join_db_claim(j->db, n, jobs, &err);
	if (got < 0)
	{
		lose_db(j, &err);
		return;
	}
	for (int i = 0; i < got; i++)
	{
		Job *job = find(j, JOB_FREE, 0);

		job->id = jobs[i].id;
		job->frame = jobs[i].frame;
		set_state(j, job, JOB_WAITING);
	}
	j->taken += got;
	j->nothing_left = got == 0;
	if (got == 0)
		pause_for(&j->idle, FIRST_IDLE_MS, LONGEST_IDLE_MS);
	else
		j->idle = (Pause){0};
}

/* What the server could not write is a failed attempt; when that cannot be written, nobody's. */
static void
take_refusal(Join *j, Job *job, const DsocrError *why)
{
	DsocrError err = {0};

	say("job %llu: %s", (unsigned long long) job->id, why->message);
	if (!job->refused)
	{
		job->refused = true;
		answer_failure(j, job, DSOCR_E_INTERNAL, why->message);
		return;
	}
	if (dsocr_join_db_release(j->db, job->id, &err) == DSOCR_JOIN_LOST)
		lose_db(j, &err);
	else
		drop(j, job);
}

static void
write_job(Join *j, Job *job)
{
	DsocrError err = {0};

	switch (dsocr_join_db_finish(j->db, job->id, job->answer.data, job->answer.len, &err))
	{
		case DSOCR_JOIN_WRITTEN:
			j->written++;
			drop(j, job);
			break;
		case DSOCR_JOIN_BUSY:
			job->not_before = now_ms() + BUSY_PAUSE_MS;
			break;
		case DSOCR_JOIN_REFUSED:
			take_refusal(j, job, &err);
			break;
		case DSOCR_JOIN_LOST:
			lose_db(j, &err);
			break;
	}
}

static void
write_answers(Join *j)
{
	for (int i = 0; i < MAX_JOBS && j->db != NULL; i++)
	{
		if (j->jobs[i].state == JOB_ANSWERED && j->jobs[i].not_before <= now_ms())
			write_job(j, &j->jobs[i]);
	}
}

/* ---- the engine ---- */

static void
lose_child(Join *j)
{
	say("the engine has died with %d jobs", j->counts[JOB_READING]);
	dsocr_join_child_end(&j->child, false);
	j->child.ready = false;
	for (int i = 0; i < MAX_JOBS; i++)
	{
		Job *job = &j->jobs[i];

		if (job->state == JOB_ORPHAN)
			drop(j, job);
		else if (job->state == JOB_READING && job->suspect)
			answer_failure(j, job, DSOCR_E_ENGINE_LOST, "the engine died twice on this document");
		else if (job->state == JOB_READING)
		{
			job->suspect = true;
			set_state(j, job, JOB_WAITING);
		}
	}
	pause_for(&j->child_pause, FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
}

static void
start_child(Join *j)
{
	DsocrError err = {0};

	if (j->child.pid != 0 || is_paused(&j->child_pause))
		return;
	if (dsocr_join_child_start(&j->child, j->argv, j->fd_text, sizeof(j->fd_text), &err))
		return;
	say("%s", err.message);
	pause_for(&j->child_pause, FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
}

/* Hand documents to the engine: all, or suspects one at a time. */
static void
send_jobs(Join *j)
{
	bool suspects = false;

	if (!j->child.ready)
		return;
	for (int i = 0; i < MAX_JOBS; i++)
	{
		Job *job = &j->jobs[i];

		suspects |= (job->state == JOB_WAITING || job->state == JOB_READING) && job->suspect;
	}
	for (int i = 0; i < MAX_JOBS; i++)
	{
		Job *job = &j->jobs[i];

		if (job->state != JOB_WAITING ||
			(suspects && (!job->suspect || j->counts[JOB_READING] > 0)))
			continue;
		if (!dsocr_buffer_append(&j->child.channel.out, job->frame.data, job->frame.len, NULL))
			return;
		set_state(j, job, JOB_READING);
	}
}

static void
take_ready(Join *j, const DsocrFrameHeader *h, const void *body)
{
	DsocrError err = {0};

	if (!dsocr_parse_ready(h, body, &j->info, &err))
	{
		say("%s", err.message);
		lose_child(j);
		return;
	}
	j->child.ready = true;
	j->child_was_ready = true;
	j->in_flight = j->wanted_in_flight > 0 ? j->wanted_in_flight : 2 * j->info.max_sequences;
	j->in_flight = j->in_flight < 1 ? 1 : j->in_flight < MAX_JOBS / 2 ? j->in_flight : MAX_JOBS / 2;
}

/* Trouble of model or device says nothing about documents: wait before taking more. */
static void
note_trouble(Join *j, const DsocrFrameHeader *h, const void *body)
{
	DsocrError status = {0};
	DsocrResult result = {0};
	DsocrError err = {0};

	if (!dsocr_parse_result(body, h->length, &status, &result, &err))
		return;
	dsocr_result_free(&result);
	if (status.code == DSOCR_E_MODEL || status.code == DSOCR_E_DEVICE)
		j->idle.until = now_ms() + TROUBLE_PAUSE_MS;
	j->child_pause = (Pause){0};
}

static void
take_result(Join *j, const DsocrFrameHeader *h, const void *body)
{
	Job *job = find(j, JOB_ORPHAN, h->id);

	if (job != NULL)
	{
		drop(j, job);
		return;
	}
	job = find(j, JOB_READING, h->id);
	if (job == NULL)
		return;
	if (body == NULL || !dsocr_buffer_append(&job->answer, h, sizeof(*h), NULL) ||
		!dsocr_buffer_append(&job->answer, body, h->length, NULL))
		answer_failure(j, job, DSOCR_E_MEMORY, "no memory for the result");
	else
	{
		note_trouble(j, h, body);
		set_state(j, job, JOB_ANSWERED);
	}
	dsocr_buffer_free(&job->frame);
	job->frame = (DsocrBuffer){0};
}

static void
take_failed(Join *j, const DsocrFrameHeader *h, const void *body)
{
	DsocrError why = {0};
	DsocrError err = {0};

	if (dsocr_parse_failed(h, body, &why, &err))
		say("%s", why.message);
	lose_child(j);
	j->fatal = !j->child_was_ready;
}

static void
take_frames(Join *j)
{
	while (j->child.pid != 0)
	{
		DsocrFrameHeader h;
		DsocrError err = {0};
		void *body = NULL;
		DsocrReadState state = dsocr_channel_read(&j->child.channel, READ_LIMIT, &h, &body, &err);

		if (state == DSOCR_READ_NOTHING)
			return;
		if (state != DSOCR_READ_FRAME)
		{
			lose_child(j);
			return;
		}
		if (h.type == DSOCR_FRAME_READY)
			take_ready(j, &h, body);
		else if (h.type == DSOCR_FRAME_FAILED)
			take_failed(j, &h, body);
		else if (h.type == DSOCR_FRAME_RESULT)
			take_result(j, &h, body);
		dsocr_free(body);
	}
}

/* ---- the loop ---- */

static bool
is_done(const Join *j)
{
	if (j->fatal || stops > 1)
		return true;
	if (open_jobs(j) > 0)
		return false;
	return stops > 0 || (j->max > 0 && j->taken >= j->max) || (j->once && j->nothing_left);
}

static int
patience(const Join *j)
{
	int64_t now = now_ms();
	int64_t wait = LONGEST_WAIT_MS;
	const Pause *pauses[] = {&j->child_pause, &j->db_pause, &j->idle};

	for (int i = 0; i < 3; i++)
	{
		if (pauses[i]->until > now && pauses[i]->until - now < wait)
			wait = pauses[i]->until - now;
	}
	if (j->counts[JOB_ANSWERED] > 0 && wait > BUSY_PAUSE_MS)
		wait = BUSY_PAUSE_MS;
	/* more may be there than what was taken at once */
	if (j->db != NULL && stops == 0 && now >= j->idle.until && open_jobs(j) < j->in_flight &&
		j->counts[JOB_ORPHAN] == 0 && (j->max == 0 || j->taken < j->max))
		wait = 0;
	return (int) wait;
}

static void
wait_for_news(Join *j)
{
	struct pollfd fds[2] = {{.fd = -1}, {.fd = -1}};

	if (j->child.pid != 0)
	{
		fds[0].fd = j->child.channel.fd;
		fds[0].events =
			(short) (POLLIN | (dsocr_channel_pending(&j->child.channel) > 0 ? POLLOUT : 0));
	}
	if (j->db != NULL)
		fds[1] = (struct pollfd){.fd = dsocr_join_db_socket(j->db), .events = POLLIN};
	if (poll(fds, 2, patience(j)) <= 0)
		return;
	if (fds[1].revents != 0 && dsocr_join_db_lost(j->db))
	{
		DsocrError none = {0};

		lose_db(j, &none);
	}
}

static void
report(Join *j)
{
	int64_t now = now_ms();

	if (now - j->reported < REPORT_MS || j->written == j->reported_written)
		return;
	say("%lld jobs done, %.1f a second, %d in flight", j->written,
		(double) (j->written - j->reported_written) * 1000.0 / (double) (now - j->reported),
		open_jobs(j));
	j->reported = now;
	j->reported_written = j->written;
}

static int
run(Join *j)
{
	bool drains = false;

	j->counts[JOB_FREE] = MAX_JOBS;
	j->reported = now_ms();
	while (!is_done(j))
	{
		start_child(j);
		take_frames(j);
		connect_db(j);
		write_answers(j);
		claim(j);
		send_jobs(j);
		if (j->child.pid != 0 && !dsocr_channel_flush(&j->child.channel))
			lose_child(j);
		report(j);
		if (stops > 0 && !drains)
		{
			drains = true;
			say("ends when %d jobs in flight have", open_jobs(j));
		}
		if (!is_done(j))
			wait_for_news(j);
	}
	dsocr_join_child_end(&j->child, true);
	dsocr_join_db_close(j->db);
	say("%lld jobs done", j->written);
	return j->fatal ? 1 : 0;
}

/* ---- options ---- */

static int
usage_error(void)
{
	fputs(usage, stderr);
	return 2;
}

/* An option that is the engine's own. */
static void
pass_on(Join *j, int *n, const char *name, const char *value)
{
	j->argv[(*n)++] = (char *) name;
	j->argv[(*n)++] = (char *) value;
}

static bool
take_option(Join *j, int *n, int c, const char *value)
{
	static const char *const passed[] = {"--device",  "--device-memory", "--precision",
										 "--threads", "--max-sequences", "--memory-limit"};
	long long number;

	if (c >= 1 && c <= 6)
	{
		pass_on(j, n, passed[c - 1], value);
		return *n < 28;
	}
	switch (c)
	{
		case 'i':
			if (!dsocr_cli_number("in-flight", value, 0, MAX_JOBS / 2, &number))
				return false;
			j->wanted_in_flight = (int) number;
			return true;
		case 'x':
			return dsocr_cli_number("max", value, 0, LLONG_MAX, &j->max);
		case 'o':
			j->once = true;
			return true;
		case 'e':
			j->argv[0] = (char *) value;
			return true;
		default:
			return false;
	}
}

int
dsocr_cli_join(int argc, char **argv)
{
	static const struct option options[] = {
		{"model", required_argument, NULL, 'm'},
		{"device", required_argument, NULL, 1},
		{"device-memory", required_argument, NULL, 2},
		{"precision", required_argument, NULL, 3},
		{"threads", required_argument, NULL, 4},
		{"max-sequences", required_argument, NULL, 5},
		{"memory-limit", required_argument, NULL, 6},
		{"in-flight", required_argument, NULL, 'i'},
		{"max", required_argument, NULL, 'x'},
		{"once", no_argument, NULL, 'o'},
		{"engine", required_argument, NULL, 'e'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct sigaction stop = {.sa_handler = handle_stop};
	char self[PATH_MAX] = "/proc/self/exe";
	char model[PATH_MAX];
	Join *j = dsocr_zalloc(1, sizeof(Join), NULL);
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int n = 5;
	int status;
	int c;

	if (j == NULL)
		return 1;
	if (len > 0)
		self[len] = '\0';
	dsocr_cli_default_model(model, sizeof(model));
	j->argv[0] = self;
	j->argv[1] = "serve";
	j->argv[2] = "--fd";
	j->argv[3] = j->fd_text;
	n = 4;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (c == 'h')
		{
			fputs(usage, stdout);
			dsocr_free(j);
			return 0;
		}
		if (c == 'm')
			snprintf(model, sizeof(model), "%s", optarg);
		else if (!take_option(j, &n, c, optarg))
		{
			dsocr_free(j);
			return usage_error();
		}
	}
	if (optind != argc - 1)
	{
		dsocr_free(j);
		return usage_error();
	}
	pass_on(j, &n, "--model", model);
	j->conninfo = argv[optind];
	(void) sigaction(SIGINT, &stop, NULL);
	(void) sigaction(SIGTERM, &stop, NULL);
	signal(SIGPIPE, SIG_IGN);
	status = run(j);
	for (int i = 0; i < MAX_JOBS; i++)
	{
		dsocr_buffer_free(&j->jobs[i].frame);
		dsocr_buffer_free(&j->jobs[i].answer);
	}
	dsocr_free(j);
	return status;
}
