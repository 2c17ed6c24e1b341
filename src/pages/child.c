/*-------------------------------------------------------------------------
 *
 * child.c
 *		Renderers as child processes of the page server: start, stop, reap.
 *
 * A killed process may take its time to go, so nothing here waits for it
 * longer than a moment.
 *
 *-------------------------------------------------------------------------
 */
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define END_PATIENCE_MS 500 /* for the exit status of a renderer that is gone */

void
dsocr_child_forget(void *bytes, size_t n)
{
	uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);
	uintptr_t from = (uintptr_t) bytes;
	uintptr_t to = from + n;
	uintptr_t first = (from + page - 1) & ~(page - 1);
	uintptr_t last = to & ~(page - 1);

	if (n == 0)
		return;
	if (first >= last || madvise((void *) first, last - first, MADV_DONTNEED) != 0)
	{
		explicit_bzero(bytes, n);
		return;
	}
	explicit_bzero(bytes, first - from);
	explicit_bzero((void *) last, to - last);
}

bool
dsocr_child_start(DsocrChild *c, const DsocrRendererTask *task, void (*forget)(void *arg),
				  void *arg, DsocrError *err)
{
	uint64_t space;
	int fds[2];

	memset(c, 0, sizeof(*c));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
		return dsocr_fail(err, DSOCR_E_MEMORY, "could not create a socket: %s", strerror(errno));
	c->pid = fork();
	if (c->pid == 0)
	{
		forget(arg);
		_exit(dsocr_renderer_main(fds[1], task));
	}
	close(fds[1]);
	if (c->pid < 0)
	{
		close(fds[0]);
		return dsocr_fail(err, DSOCR_E_MEMORY, "could not fork a renderer: %s", strerror(errno));
	}
	if (!dsocr_channel_open(&c->channel, fds[0], err))
	{
		(void) kill(c->pid, SIGKILL);
		(void) waitpid(c->pid, NULL, 0);
		dsocr_channel_close(&c->channel);
		return false;
	}
	/* its own first look at itself; a moment later it may have grown */
	(void) dsocr_renderer_memory(getpid(), &c->data, &space);
	return true;
}

/* One that is still there after being killed is reaped later. */
static void
bury(pid_t pid, DsocrEnding *ending)
{
	if (ending->n < DSOCR_MAX_ENDING)
		ending->pids[ending->n++] = pid;
	else
		(void) waitpid(pid, NULL, 0);
}

void
dsocr_child_stop(DsocrChild *c, DsocrEnding *ending)
{
	(void) kill(c->pid, SIGKILL);
	dsocr_channel_close(&c->channel);
	if (waitpid(c->pid, NULL, WNOHANG) == 0)
		bury(c->pid, ending);
}

void
dsocr_child_reap(DsocrEnding *ending)
{
	for (int i = 0; i < ending->n; i++)
	{
		if (waitpid(ending->pids[i], NULL, WNOHANG) != 0)
			ending->pids[i--] = ending->pids[--ending->n];
	}
}

/* How a process ended; false when it would not. */
static bool
wait_for_end(pid_t pid, int *status)
{
	for (int i = 0; i < END_PATIENCE_MS; i++)
	{
		const struct timespec moment = {.tv_nsec = 1000000};

		if (waitpid(pid, status, WNOHANG) != 0)
			return true;
		(void) nanosleep(&moment, NULL);
	}
	return false;
}

void
dsocr_child_end(DsocrChild *c, const DsocrRendererTask *task, DsocrEnding *ending, char *how,
				size_t size)
{
	int status = 0;

	/* one that is ending already keeps its reason */
	(void) kill(c->pid, SIGKILL);
	dsocr_channel_close(&c->channel);
	if (!wait_for_end(c->pid, &status))
	{
		bury(c->pid, ending);
		snprintf(how, size, "the renderer does not end");
	}
	else if (WIFEXITED(status) && WEXITSTATUS(status) == DSOCR_RENDERER_NO_MEMORY)
		snprintf(how, size, "the renderer needed more than %llu MB of memory",
				 (unsigned long long) (task->memory >> 20));
	else if (WIFEXITED(status))
		snprintf(how, size, "the renderer ended with status %d", WEXITSTATUS(status));
	else if (WTERMSIG(status) == SIGKILL)
		snprintf(how, size, "the renderer was killed");
	else if (WTERMSIG(status) == SIGXCPU)
		snprintf(how, size, "the renderer was stopped after %d s of processor time",
				 task->cpu_seconds);
	else
		snprintf(how, size, "the renderer crashed (signal %d)", WTERMSIG(status));
}

/* Processor time of a process in seconds, 0 when unknown. */
static double
cpu_time(pid_t pid)
{
	struct timespec t;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
		return 0;
	return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

bool
dsocr_child_is_worn(const DsocrChild *c, const DsocrRendererTask *task)
{
	uint64_t data;
	uint64_t space;

	if (task->cpu_seconds > 0 && cpu_time(c->pid) > 0.5 * task->cpu_seconds)
		return true;
	return task->memory > 0 && dsocr_renderer_memory(c->pid, &data, &space) && data > c->data &&
		   data - c->data > task->memory / 2;
}

void
dsocr_child_sandbox(const DsocrRendererTask *task, char *report, size_t size)
{
	int fds[2];
	ssize_t n = -1;
	pid_t pid = -1;

	snprintf(report, size, "none");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
		return;
	pid = fork();
	if (pid == 0)
	{
		char found[64];

		if (!dsocr_renderer_close(fds[1], task, found, sizeof(found), NULL))
			_exit(1);
		_exit(send(fds[1], found, strlen(found), MSG_NOSIGNAL) < 0);
	}
	close(fds[1]);
	if (pid > 0)
	{
		n = recv(fds[0], report, size - 1, 0);
		(void) waitpid(pid, NULL, 0);
	}
	if (n >= 0)
		report[n] = '\0';
	close(fds[0]);
}
