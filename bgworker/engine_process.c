/*-------------------------------------------------------------------------
 *
 * engine_process.c
 *		The engine as a child process: start, watch, end.
 *
 * The child is a session of its own, so that signals meant for the worker's
 * group do not reach it, and dies with the worker by PR_SET_PDEATHSIG, however
 * the worker ends.  Between fork and exec it does nothing but system calls.
 *
 * A child that was killed may take its time to go (a driver in the kernel):
 * it is reaped without blocking, because a background worker that does not
 * answer barriers stops DROP DATABASE for everybody.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "engine_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/timestamp.h"

#define ENGINE_FD 3			  /* the child's end of the socket */
#define STOP_PATIENCE_MS 2000 /* from SHUTDOWN to SIGKILL */
#define DEATH_PATIENCE_MS 200 /* from end of file to SIGKILL */
#define END_PATIENCE_MS 2000  /* for the end of the worker itself */
#define LOG_LINES_A_MINUTE 30 /* of one engine */
#define OOM_SCORE "500"		  /* the kernel takes the engine before the server */
#define EXEC_FAILED 127		  /* exit status when exec did not work */
#define MAX_ARGUMENTS 20	  /* the program and NULL included */

DSOCR_WAIT_EVENT(wait_event_main, "DsocrWorkerMain")

void
dsocr_process_init(DsocrEngineProcess *p, const char *device, bool of_pages)
{
	memset(p, 0, sizeof(*p));
	p->device = device;
	p->of_pages = of_pages;
	p->log_fd = -1;
	dsocr_link_open(&p->link, -1, of_pages);
}

/* ---- start ---- */

const char *
dsocr_process_noun(const DsocrEngineProcess *p)
{
	return p->of_pages ? "page server" : "engine";
}

/* The engine by its setting or beside the server's programs, the page server likewise. */
static void
find_program(const DsocrEngineProcess *p, char *path)
{
	const char *setting = p->of_pages ? dsocr_pages_path : dsocr_engine_path;
	const char *beside = my_exec_path;

	if (setting != NULL && setting[0] != '\0')
	{
		strlcpy(path, setting, MAXPGPATH);
		return;
	}
	if (dsocr_engine_path != NULL && dsocr_engine_path[0] != '\0')
		beside = dsocr_engine_path;
	strlcpy(path, beside, MAXPGPATH);
	get_parent_directory(path);
	join_path_components(path, path, p->of_pages ? "dsocr-pages" : "dsocr-engine");
}

/* Close all descriptors from first on.  Async-signal-safe. */
static void
close_from(int first)
{
	long limit;

#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned int) first, ~0U, 0) == 0)
		return;
#endif
	limit = sysconf(_SC_OPEN_MAX);
	for (long fd = first; fd < (limit > 0 ? limit : 65536); fd++)
		close((int) fd);
}

/* Behind fork: become the engine.  Only async-signal-safe calls. */
static void
child_main(char **argv, int socket_fd, int log_fd, pid_t parent)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t none;
	int fd;

	for (int sig = 1; sig < NSIG; sig++)
		(void) sigaction(sig, &action, NULL);
	sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
	(void) setsid();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(1);

	fd = open("/proc/self/oom_score_adj", O_WRONLY);
	if (fd >= 0)
	{
		(void) !write(fd, OOM_SCORE, sizeof(OOM_SCORE) - 1);
		close(fd);
	}

	/* The two that stay first go out of the way of 0 to 3. */
	socket_fd = fcntl(socket_fd, F_DUPFD, ENGINE_FD + 1);
	log_fd = fcntl(log_fd, F_DUPFD, ENGINE_FD + 1);
	fd = open("/dev/null", O_RDWR);
	if (socket_fd < 0 || log_fd < 0 || fd < 0 || dup2(fd, STDIN_FILENO) < 0 ||
		dup2(fd, STDOUT_FILENO) < 0 || dup2(log_fd, STDERR_FILENO) < 0 ||
		dup2(socket_fd, ENGINE_FD) < 0)
		_exit(1);
	close_from(ENGINE_FD + 1);

	execv(argv[0], argv);
	_exit(EXEC_FAILED);
}

static pid_t
fork_child(char **argv, int socket_fd, int log_fd)
{
	pid_t parent = getpid();
	sigset_t all;
	sigset_t before;
	pid_t pid;

	/* No handler of the worker may run in the child. */
	fflush(NULL);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		child_main(argv, socket_fd, log_fd, parent);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

static void
close_pair(int *fds)
{
	close(fds[0]);
	close(fds[1]);
}

/* Its arguments behind the program, up to NULL; texts has room for numbers. */
static void
make_arguments(const DsocrEngineProcess *p, const DsocrEngineCommand *command, char **argv,
			   char texts[][32])
{
	char *engine[] = {"--model",
					  (char *) command->model,
					  "--device",
					  (char *) p->device,
					  "--precision",
					  (char *) command->precision,
					  "--threads",
					  texts[1],
					  "--device-memory",
					  texts[2],
					  "--max-sequences",
					  texts[3],
					  NULL};
	int n = 1;

	snprintf(texts[0], sizeof(texts[0]), "%d", ENGINE_FD);
	snprintf(texts[1], sizeof(texts[1]), "%d", command->threads);
	snprintf(texts[2], sizeof(texts[2]), "%lld", (long long) command->gpu_memory * 1024 * 1024);
	snprintf(texts[3], sizeof(texts[3]), "%d", command->max_sequences);
	argv[n++] = "serve";
	argv[n++] = "--fd";
	argv[n++] = texts[0];
	if (!p->of_pages)
		memcpy(argv + n, engine, sizeof(engine));
	else
		argv[n] = NULL;
}

/* Is there a program to run? */
static bool
check_program(const DsocrEngineProcess *p, const char *program, DsocrError *err)
{
	if (access(program, X_OK) == 0)
		return true;
	if (p->of_pages)
	{
		/* shown to everybody who reads documents: not where the server lies */
		dsocr_fail(err, DSOCR_E_DEVICE, "could not run the page server: %s", strerror(errno));
		return dsocr_hint(err, "Install dsocr-pages beside the server's programs.");
	}
	dsocr_fail(err, DSOCR_E_MODEL, "could not run the engine \"%.150s\": %s", program,
			   strerror(errno));
	return dsocr_hint(err, "Install dsocr-engine beside the server's programs.");
}

bool
dsocr_process_start(DsocrEngineProcess *p, const DsocrEngineCommand *command, DsocrError *err)
{
	char program[MAXPGPATH];
	char texts[4][32];
	char *argv[MAX_ARGUMENTS] = {program};
	int sockets[2];
	int logs[2];

	Assert(p->state == DSOCR_ENGINE_STOPPED);
	find_program(p, program);
	make_arguments(p, command, argv, texts);
	if (!check_program(p, program, err))
		return false;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
		return dsocr_fail(err, DSOCR_E_IO, "could not create a socket: %s", strerror(errno));
	if (pipe2(logs, O_CLOEXEC | O_NONBLOCK) != 0)
	{
		close_pair(sockets);
		return dsocr_fail(err, DSOCR_E_IO, "could not create a pipe: %s", strerror(errno));
	}

	/* The engine's end blocks: a line it writes is not to be lost. */
	(void) fcntl(logs[1], F_SETFL, 0);
	p->pid = fork_child(argv, sockets[1], logs[1]);
	if (p->pid < 0)
	{
		p->pid = 0;
		close_pair(sockets);
		close_pair(logs);
		return dsocr_fail(err, DSOCR_E_IO, "could not fork the %s: %s", dsocr_process_noun(p),
						  strerror(errno));
	}
	close(sockets[1]);
	close(logs[1]);
	dsocr_link_open(&p->link, sockets[0], p->of_pages);
	p->log_fd = logs[0];
	p->line_len = 0;
	p->state = DSOCR_ENGINE_STARTING;
	p->started = p->heard = GetCurrentTimestamp();
	return true;
}

/* ---- end ---- */

static void
forget_wait_set(DsocrEngineProcess *p)
{
	if (p->wait_set != NULL)
		FreeWaitEventSet(p->wait_set);
	p->wait_set = NULL;
}

void
dsocr_process_stop(DsocrEngineProcess *p)
{
	if (p->state != DSOCR_ENGINE_STARTING && p->state != DSOCR_ENGINE_READY)
		return;
	if (p->state == DSOCR_ENGINE_STARTING ||
		!dsocr_link_send_simple(&p->link, DSOCR_FRAME_SHUTDOWN, 0, NULL) ||
		!dsocr_link_write(&p->link))
	{
		dsocr_process_lose(p, true);
		return;
	}
	p->state = DSOCR_ENGINE_STOPPING;
	p->kill_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), STOP_PATIENCE_MS);
}

void
dsocr_process_lose(DsocrEngineProcess *p, bool now)
{
	if (p->state == DSOCR_ENGINE_STOPPED)
		return;
	forget_wait_set(p);
	dsocr_link_close(&p->link);
	if (p->state != DSOCR_ENGINE_DYING)
		p->kill_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), DEATH_PATIENCE_MS);
	p->state = DSOCR_ENGINE_DYING;
	if (now)
	{
		kill(p->pid, SIGKILL);
		p->kill_at = 0;
	}
}

static void
describe_end(int status, char *how, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(how, size, "was terminated by signal %d (%s)", WTERMSIG(status),
				 pg_strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == EXEC_FAILED)
		snprintf(how, size, "could not be executed");
	else
		snprintf(how, size, "exited with code %d", WEXITSTATUS(status));
}

bool
dsocr_process_reap(DsocrEngineProcess *p, char *how, size_t size)
{
	int status = 0;
	pid_t got = waitpid(p->pid, &status, WNOHANG);

	if (got == 0 || (got < 0 && errno == EINTR))
	{
		if (p->kill_at != 0 && GetCurrentTimestamp() >= p->kill_at)
			dsocr_process_lose(p, true);
		return false;
	}
	if (got < 0)
		snprintf(how, size, "has vanished");
	else
		describe_end(status, how, size);
	dsocr_process_log(p);
	forget_wait_set(p);
	dsocr_link_close(&p->link);
	if (p->log_fd >= 0)
		close(p->log_fd);
	p->log_fd = -1;
	p->pid = 0;
	p->state = DSOCR_ENGINE_STOPPED;
	return true;
}

void
dsocr_process_end(DsocrEngineProcess *p)
{
	if (p->pid != 0)
	{
		kill(p->pid, SIGKILL);
		for (int i = 0; i < END_PATIENCE_MS && waitpid(p->pid, NULL, WNOHANG) == 0; i++)
			pg_usleep(1000);
	}
	p->pid = 0;
	p->state = DSOCR_ENGINE_STOPPED;
}

/* ---- standard error ---- */

static void
log_line(DsocrEngineProcess *p)
{
	TimestampTz now = GetCurrentTimestamp();

	p->line[p->line_len] = '\0';
	p->line_len = 0;
	if (p->line[0] == '\0')
		return;
	for (char *c = p->line; *c != '\0'; c++)
	{
		if (*c < ' ' || *c > '~')
			*c = '?';
	}
	if (TimestampDifferenceExceeds(p->log_minute, now, 60 * 1000))
	{
		if (p->log_left_out > 0)
			ereport(LOG, (errmsg("dsocr %s on %s: %d lines left out", dsocr_process_noun(p),
								 p->device, p->log_left_out)));
		p->log_minute = now;
		p->log_lines = p->log_left_out = 0;
	}
	if (p->log_lines >= LOG_LINES_A_MINUTE)
	{
		p->log_left_out++;
		return;
	}
	p->log_lines++;
	ereport(LOG, (errmsg("dsocr %s on %s: %s", dsocr_process_noun(p), p->device, p->line)));
}

void
dsocr_process_log(DsocrEngineProcess *p)
{
	char chunk[4096];

	/* A few rounds: an engine that only writes must not keep us here. */
	for (int round = 0; round < 16 && p->log_fd >= 0; round++)
	{
		ssize_t n = read(p->log_fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0)
		{
			if (p->line_len > 0)
				log_line(p);
			forget_wait_set(p);
			close(p->log_fd);
			p->log_fd = -1;
			return;
		}
		for (ssize_t i = 0; i < n; i++)
		{
			if (chunk[i] == '\n')
				log_line(p);
			else if (p->line_len < DSOCR_ENGINE_LINE_MAX)
				p->line[p->line_len++] = chunk[i];
		}
	}
}

/* ---- wait ---- */

static void
make_wait_set(DsocrEngineProcess *p)
{
	p->wait_set = dsocr_wait_set_create(4);
	AddWaitEventToSet(p->wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(p->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	p->socket_position = AddWaitEventToSet(p->wait_set, WL_SOCKET_READABLE, p->link.fd, NULL, NULL);
	p->waits_to_write = false;
	if (p->log_fd >= 0)
		AddWaitEventToSet(p->wait_set, WL_SOCKET_READABLE, p->log_fd, NULL, NULL);
}

void
dsocr_process_wait(DsocrEngineProcess *p, long timeout_ms)
{
	WaitEvent event;
	bool write;

	if (p->link.fd < 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout_ms,
						 wait_event_main());
		ResetLatch(MyLatch);
		return;
	}
	if (p->wait_set == NULL)
		make_wait_set(p);
	write = dsocr_link_wants_write(&p->link);
	if (write != p->waits_to_write)
	{
		ModifyWaitEvent(p->wait_set, p->socket_position,
						WL_SOCKET_READABLE | (write ? WL_SOCKET_WRITEABLE : 0), NULL);
		p->waits_to_write = write;
	}
	if (WaitEventSetWait(p->wait_set, timeout_ms, &event, 1, wait_event_main()) > 0 &&
		(event.events & WL_LATCH_SET) != 0)
		ResetLatch(MyLatch);
}
