/*-------------------------------------------------------------------------
 *
 * cli_join.c
 *		dsocr-engine join: the program and its loop.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

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
	const int64_t times[] = {j->child_pause.until, j->pages_pause.until,
							 j->db_pause.until,	   j->idle.until,
							 j->trouble.until,	   j->db != NULL ? dsocr_join_keep_at(j) : 0};

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

static struct pollfd
child_events(const DsocrJoinChild *c)
{
	if (c->pid == 0)
		return (struct pollfd){.fd = -1};
	return (struct pollfd){
		.fd = c->channel.fd,
		.events = (short) (POLLIN | (dsocr_channel_pending(&c->channel) > 0 ? POLLOUT : 0))};
}

static void
wait_for_news(DsocrJoin *j)
{
	struct pollfd fds[] = {child_events(&j->child), {.fd = -1}, child_events(&j->pages)};

	if (j->db != NULL)
		fds[1] = (struct pollfd){.fd = dsocr_join_db_socket(j->db), .events = POLLIN};
	if (poll(fds, sizeof(fds) / sizeof(fds[0]), patience(j)) <= 0)
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
				   dsocr_join_claimed_jobs(&j->jobs));
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
		dsocr_join_start_pages(j);
		dsocr_join_start_engine(j);
		dsocr_join_hear_pages(j);
		dsocr_join_hear_engine(j);
		dsocr_join_connect(j);
		dsocr_join_write_pages(j);
		dsocr_join_write(j);
		dsocr_join_keep(j);
		dsocr_join_claim(j);
		dsocr_join_feed_pages(j);
		dsocr_join_feed_engine(j);
		report(j);
		if (dsocr_join_stops > 0 && !drains)
		{
			drains = true;
			dsocr_join_say("ends when %d jobs in flight have", dsocr_join_claimed_jobs(&j->jobs));
		}
		if (!is_done(j))
			wait_for_news(j);
	}
	dsocr_join_child_end(&j->pages, true);
	dsocr_join_child_end(&j->child, true);
	dsocr_join_db_close(j->db);
	dsocr_join_say("%lld jobs done", j->written);
}

/* ---- the program ---- */

/* The page server is beside the program, unless an option names another. */
static void
set_pages_program(DsocrJoin *j, const char *self)
{
	const char *slash = strrchr(self, '/');
	int n = slash == NULL ? 0 : (int) (slash - self + 1);

	snprintf(j->pages_program, sizeof(j->pages_program), "%.*sdsocr-pages", n, self);
	j->pages_argv[0] = j->pages_program;
	j->pages_argv[1] = "serve";
	j->pages_argv[2] = "--fd";
	j->pages_argv[3] = j->pages_fd_text;
}

static void
check_pages_program(DsocrJoin *j)
{
	if (j->pages_program[0] != '\0' && access(j->pages_program, X_OK) == 0)
		return;
	if (j->pages_program[0] != '\0')
		dsocr_join_say("there is no page server \"%s\": takes no documents of several pages",
					   j->pages_program);
	j->pages_argv[0] = NULL;
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
	j->next_id = DSOCR_JOIN_OWN_IDS;
	set_pages_program(j, self);
	status = dsocr_join_take_options(j, argc, argv, model, sizeof(model));
	if (status < 0)
	{
		(void) sigaction(SIGINT, &stop, NULL);
		(void) sigaction(SIGTERM, &stop, NULL);
		signal(SIGPIPE, SIG_IGN);
		check_pages_program(j);
		run(j);
		status = j->status;
		dsocr_join_jobs_free(&j->jobs);
	}
	dsocr_free(j);
	return status;
}
