/*-------------------------------------------------------------------------
 *
 * cli_join.c
 *		dsocr-engine join: options, and the loop.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli_join.h"

#define LONGEST_WAIT_MS 1000
#define ANSWERED_WAIT_MS 200 /* what could not be written is tried again */
#define REPORT_MS 60000
#define ENGINE_TIMEOUT_S 120
#define MAX_ENGINE_ARGS 28

static const char usage[] =
	"usage: dsocr-engine join [options] CONNINFO\n"
	"Takes jobs from a database with the extension dsocr and writes what they give.\n"
	"\n"
	"  CONNINFO               of libpq: 'host=db dbname=scans user=worker sslmode=verify-full';\n"
	"                         '' takes all of it from PGHOST, PGSERVICE, ...  A password is\n"
	"                         better kept in ~/.pgpass: everybody sees the command line\n"
	"  --model DIR            model folder (the embedded one)\n"
	"  --device NAME          cpu, cuda:N or auto (cpu)\n"
	"  --device-memory BYTES  most memory of a GPU, 0 = what is free (0)\n"
	"  --precision NAME       bf16, fp32, int8 or int4 (bf16)\n"
	"  --threads N            0 = all cores (0)\n"
	"  --max-sequences N      images decoded together, 0 = automatic (0)\n"
	"  --memory-limit BYTES   private memory of the engine, 0 = none (0)\n"
	"  --engine-timeout S     silence after which a busy engine is replaced (120)\n"
	"  --in-flight N          jobs taken at the same time, 0 = twice what is decoded together (0)\n"
	"  --max N                end after so many jobs, 0 = never (0)\n"
	"  --once                 end when there are no more jobs\n"
	"  --engine PROGRAM       of the engine (this one)\n"
	"\n"
	"The first SIGINT or SIGTERM lets jobs in flight end, the second does not.\n"
	"Exit status: 0 done, 1 the engine cannot work, 2 wrong usage, 3 turned away by the\n"
	"server (rights, release, model).  A server that is not there is waited for.\n";

volatile sig_atomic_t dsocr_join_stops = 0;

static void
handle_stop(int sig)
{
	dsocr_join_stops++;
}

/* ---- what all parts use ---- */

void
dsocr_join_say(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	dsocr_cli_log(line);
}

int64_t
dsocr_join_now(void)
{
	return dsocr_now_us() / 1000;
}

void
dsocr_join_pause(DsocrJoinPause *p, int first, int longest)
{
	p->ms = p->ms == 0 ? first : p->ms * 2 < longest ? p->ms * 2 : longest;
	p->until = dsocr_join_now() + p->ms;
}

bool
dsocr_join_is_paused(const DsocrJoinPause *p)
{
	return dsocr_join_now() < p->until;
}

/* ---- the loop ---- */

static bool
is_done(const DsocrJoin *j)
{
	if (j->status != 0 || dsocr_join_stops > 1)
		return true;
	if (dsocr_join_open_jobs(&j->jobs) > 0)
		return false;
	return dsocr_join_stops > 0 || (j->max > 0 && j->taken >= j->max) ||
		   (j->once && j->nothing_left);
}

static int
patience(const DsocrJoin *j)
{
	int64_t now = dsocr_join_now();
	int64_t wait = LONGEST_WAIT_MS;
	const int64_t times[] = {j->child_pause.until, j->db_pause.until, j->idle.until,
							 j->trouble.until, j->db != NULL ? dsocr_join_keep_at(j) : 0};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
	{
		if (times[i] > now && times[i] - now < wait)
			wait = times[i] - now;
	}
	if (j->jobs.counts[DSOCR_JOB_ANSWERED] > 0 && wait > ANSWERED_WAIT_MS)
		wait = ANSWERED_WAIT_MS;
	/* more may be there than what was taken at once */
	return dsocr_join_can_claim(j) ? 0 : (int) wait;
}

static void
wait_for_news(DsocrJoin *j)
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

		dsocr_join_lose_db(j, &none);
	}
}

static void
report(DsocrJoin *j)
{
	int64_t now = dsocr_join_now();

	if (now - j->reported < REPORT_MS || j->written == j->reported_written)
		return;
	dsocr_join_say("%lld jobs done, %.1f a second, %d in flight", j->written,
				   (double) (j->written - j->reported_written) * 1000.0 /
					   (double) (now - j->reported),
				   dsocr_join_open_jobs(&j->jobs));
	j->reported = now;
	j->reported_written = j->written;
}

static void
run(DsocrJoin *j)
{
	bool drains = false;

	dsocr_join_jobs_init(&j->jobs);
	j->reported = dsocr_join_now();
	while (!is_done(j))
	{
		dsocr_join_start_engine(j);
		dsocr_join_hear_engine(j);
		dsocr_join_connect(j);
		dsocr_join_write(j);
		dsocr_join_keep(j);
		dsocr_join_claim(j);
		dsocr_join_feed_engine(j);
		report(j);
		if (dsocr_join_stops > 0 && !drains)
		{
			drains = true;
			dsocr_join_say("ends when %d jobs in flight have", dsocr_join_open_jobs(&j->jobs));
		}
		if (!is_done(j))
			wait_for_news(j);
	}
	dsocr_join_child_end(&j->child, true);
	dsocr_join_db_close(j->db);
	dsocr_join_say("%lld jobs done", j->written);
}

/* ---- options ---- */

/* An option that is the engine's own. */
static void
pass_on(DsocrJoin *j, int *n, const char *name, const char *value)
{
	j->argv[(*n)++] = (char *) name;
	j->argv[(*n)++] = (char *) value;
}

static bool
take_number(DsocrJoin *j, int c, const char *value)
{
	long long number;

	if (c == 'i' && dsocr_cli_number("in-flight", value, 0, DSOCR_JOIN_MAX_JOBS / 2, &number))
		j->wanted_in_flight = (int) number;
	else if (c == 't' && dsocr_cli_number("engine-timeout", value, 1, 86400, &number))
		j->engine_timeout_ms = (int) number * 1000;
	else
		return c == 'x' && dsocr_cli_number("max", value, 0, LLONG_MAX, &j->max);
	return true;
}

static bool
take_option(DsocrJoin *j, int *n, int c, const char *value)
{
	static const char *const passed[] = {"--device",  "--device-memory", "--precision",
										 "--threads", "--max-sequences", "--memory-limit"};

	if (c >= 1 && c <= 6)
	{
		pass_on(j, n, passed[c - 1], value);
		return *n < MAX_ENGINE_ARGS;
	}
	if (c == 'o')
		j->once = true;
	else if (c == 'e')
		j->argv[0] = (char *) value;
	else
		return take_number(j, c, value);
	return true;
}

static const struct option options[] = {
	{"model", required_argument, NULL, 'm'},
	{"device", required_argument, NULL, 1},
	{"device-memory", required_argument, NULL, 2},
	{"precision", required_argument, NULL, 3},
	{"threads", required_argument, NULL, 4},
	{"max-sequences", required_argument, NULL, 5},
	{"memory-limit", required_argument, NULL, 6},
	{"engine-timeout", required_argument, NULL, 't'},
	{"in-flight", required_argument, NULL, 'i'},
	{"max", required_argument, NULL, 'x'},
	{"once", no_argument, NULL, 'o'},
	{"engine", required_argument, NULL, 'e'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

/* -1: go on; else the exit status. */
static int
take_options(DsocrJoin *j, int argc, char **argv, char *model, size_t size)
{
	int n = 4; /* the program, serve, --fd and its number */
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (c == 'h')
		{
			fputs(usage, stdout);
			return 0;
		}
		if (c == 'm')
			snprintf(model, size, "%s", optarg);
		else if (c == '?' || !take_option(j, &n, c, optarg))
			break;
	}
	if (c != -1 || optind != argc - 1)
	{
		fputs(usage, stderr);
		return 2;
	}
	pass_on(j, &n, "--model", model);
	j->conninfo = argv[optind];
	return -1;
}

int
dsocr_cli_join(int argc, char **argv)
{
	struct sigaction stop = {.sa_handler = handle_stop};
	char self[PATH_MAX] = "/proc/self/exe";
	char model[PATH_MAX];
	DsocrJoin *j = dsocr_zalloc(1, sizeof(DsocrJoin), NULL);
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int status;

	if (j == NULL)
		return DSOCR_JOIN_FAILED;
	if (len > 0)
		self[len] = '\0';
	dsocr_cli_default_model(model, sizeof(model));
	j->argv[0] = self;
	j->argv[1] = "serve";
	j->argv[2] = "--fd";
	j->argv[3] = j->fd_text;
	j->engine_timeout_ms = ENGINE_TIMEOUT_S * 1000;
	status = take_options(j, argc, argv, model, sizeof(model));
	if (status < 0)
	{
		(void) sigaction(SIGINT, &stop, NULL);
		(void) sigaction(SIGTERM, &stop, NULL);
		signal(SIGPIPE, SIG_IGN);
		run(j);
		status = j->status;
		dsocr_join_jobs_free(&j->jobs);
	}
	dsocr_free(j);
	return status;
}
