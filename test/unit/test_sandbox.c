/*-------------------------------------------------------------------------
 *
 * test_sandbox.c
 *		What a closed process can and cannot do.
 *
 * Each case is a child process that closes itself and tries one thing.  On a
 * kernel without seccomp the cases that need it are skipped.
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
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox.h"

#define DONE 0
#define REFUSED 1
#define WRONG 2

typedef int (*Attempt)(void);

/* Run an attempt in a child, closed for what it computes on or not; its wait status. */
static int
run_in(Attempt attempt, bool closed, DsocrSandboxProfile profile)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
	{
		char report[64];

		/* without the handlers of the test program */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGABRT, SIG_DFL);
		signal(SIGSYS, SIG_DFL);
		if (closed)
			dsocr_sandbox_close(profile, report, sizeof(report));
		_exit(attempt());
	}
	assert_true(waitpid(pid, &status, 0) == pid);
	return status;
}

static int
run(Attempt attempt, bool closed)
{
	return run_in(attempt, closed, DSOCR_SANDBOX_CPU);
}

static int
outcome(long rc)
{
	return rc >= 0 ? DONE : REFUSED;
}

static int
report_features(void)
{
	char report[64];

	dsocr_sandbox_close(DSOCR_SANDBOX_CPU, report, sizeof(report));
	return (strstr(report, "no_new_privs") != NULL ? 1 : 0) |
		   (strstr(report, "rlimits") != NULL ? 2 : 0) |
		   (strstr(report, "landlock") != NULL ? 4 : 0) |
		   (strstr(report, "seccomp") != NULL ? 8 : 0);
}

static bool
has_seccomp(void)
{
	int status = run(report_features, false);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status) & 3, 3);
	return (WEXITSTATUS(status) & 8) != 0;
}

/* ---- refused ---- */

static int
try_read_file(void)
{
	return outcome(open("/etc/passwd", O_RDONLY));
}

static int
try_fork(void)
{
	return outcome(fork());
}

static int
try_kill(void)
{
	return outcome(kill(getppid(), 0));
}

static int
try_limit(void)
{
	struct rlimit l = {0, 0};

	return outcome(setrlimit(RLIMIT_CORE, &l));
}

static int
try_list(void)
{
	char buf[512];

	return outcome(syscall(SYS_getdents64, 0, buf, sizeof(buf)));
}

static int
try_thread_of_its_own(void)
{
	/* a process made by clone without CLONE_THREAD */
	return outcome(syscall(SYS_clone, CLONE_VM | SIGCHLD, 0, 0, 0, 0));
}

/* Whose input and output signals go to: any process of the same user. */
static int
try_own(void)
{
	return outcome(fcntl(STDERR_FILENO, F_SETOWN, getppid()));
}

static int
try_own_signal(void)
{
	return outcome(fcntl(STDERR_FILENO, F_SETSIG, SIGKILL));
}

static int
try_pin_parent(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return WRONG;
	return outcome(sched_setaffinity(getppid(), sizeof(set), &set));
}

/* ---- killed ---- */

static int
try_execve(void)
{
	char *const argv[] = {"/bin/true", NULL};

	return outcome(execve(argv[0], argv, NULL));
}

static int
try_socket(void)
{
	return outcome(socket(AF_INET, SOCK_STREAM, 0));
}

static int
try_socketpair(void)
{
	int fds[2];

	return outcome(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
}

static int
try_create(void)
{
	return outcome(open("/tmp/dsocr_test_sandbox", O_WRONLY | O_CREAT, 0600));
}

static int
try_write_file(void)
{
	return outcome(open("/dev/null", O_RDWR));
}

static int
try_truncate(void)
{
	return outcome(open("/dev/null", O_RDONLY | O_TRUNC));
}

static int
try_ptrace(void)
{
	return outcome(syscall(SYS_ptrace, 0, 0, 0, 0));
}

static int
try_peek(void)
{
	char byte;
	struct iovec v = {&byte, 1};

	return outcome(process_vm_readv(getppid(), &v, 1, &v, 1, 0));
}

static int
try_unlink(void)
{
	return outcome(unlink("/tmp/dsocr_test_sandbox"));
}

static int
try_segv(void)
{
	volatile int *volatile nowhere = NULL;

	*nowhere = 1;
	return DONE;
}

static int
try_abort(void)
{
	abort();
}

/* ---- allowed ---- */

static void *
thread_main(void *arg)
{
	char *p = malloc(1000);

	if (p != NULL)
		*p = 'x';
	free(p);
	return arg;
}

static int
try_threads(void)
{
	for (int i = 0; i < 20; i++)
	{
		pthread_t t[4];

		for (int k = 0; k < 4; k++)
		{
			if (pthread_create(&t[k], NULL, thread_main, NULL) != 0)
				return REFUSED;
		}
		for (int k = 0; k < 4; k++)
			pthread_join(t[k], NULL);
	}
	return DONE;
}

static int
try_memory(void)
{
	char *big = malloc((size_t) 256 << 20);
	void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (big == NULL || code == MAP_FAILED)
		return REFUSED;
	big[0] = 1;
	big = realloc(big, (size_t) 300 << 20);
	free(big);
	/* what a compiler of kernels does */
	return outcome(mprotect(code, 4096, PROT_READ | PROT_EXEC));
}

static int
try_clock(void)
{
	struct timespec t = {0, 1000};

	return nanosleep(&t, NULL) == 0 && dsocr_now_us() > 0 ? DONE : REFUSED;
}

static void
test_refused(void **state)
{
	static const Attempt attempts[] = {try_read_file, try_fork,		  try_kill,
									   try_limit,	  try_list,		  try_thread_of_its_own,
									   try_own,		  try_own_signal, try_pin_parent};

	if (!has_seccomp())
		skip();
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
	{
		int status = run(attempts[i], true);

		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) != REFUSED)
			fail_msg("attempt %zu was not refused", i);
	}
}

static void
test_killed(void **state)
{
	static const struct
	{
		Attempt attempt;
		int signal;
	} cases[] = {{try_execve, SIGSYS},	   {try_socket, SIGSYS},   {try_create, SIGSYS},
				 {try_write_file, SIGSYS}, {try_truncate, SIGSYS}, {try_ptrace, SIGSYS},
				 {try_peek, SIGSYS},	   {try_unlink, SIGSYS},   {try_socketpair, SIGSYS},
				 {try_segv, SIGSEGV},	   {try_abort, SIGABRT}};

	if (!has_seccomp())
		skip();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		int status = run(cases[i].attempt, true);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != cases[i].signal)
			fail_msg("attempt %zu ended with wait status %x", i, status);
		/* no image of a user in a core file */
		assert_false(WCOREDUMP(status));
	}
}

static void
test_allowed(void **state)
{
	static const Attempt attempts[] = {try_threads, try_memory, try_clock};

	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
	{
		int status = run(attempts[i], true);

		if (!WIFEXITED(status) || WEXITSTATUS(status) != DONE)
			fail_msg("attempt %zu ended with wait status %x", i, status);
	}
}

/* A thread that was there before is closed, too. */
static pthread_barrier_t closed;

static void *
late_socket(void *arg)
{
	pthread_barrier_wait(&closed);
	(void) socket(AF_INET, SOCK_STREAM, 0);
	return arg;
}

static int
try_old_thread(void)
{
	char report[64];
	pthread_t t;

	pthread_barrier_init(&closed, NULL, 2);
	if (pthread_create(&t, NULL, late_socket, NULL) != 0)
		return WRONG;
	dsocr_sandbox_close(DSOCR_SANDBOX_CPU, report, sizeof(report));
	pthread_barrier_wait(&closed);
	pthread_join(t, NULL);
	return DONE;
}

static void
test_old_thread(void **state)
{
	int status;

	if (!has_seccomp())
		skip();
	status = run(try_old_thread, false);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

/* ---- closed for a GPU ---- */

static int
try_read_own(void)
{
	char byte;
	int fd = open("/proc/self/maps", O_RDONLY);

	return fd < 0 ? REFUSED : outcome(read(fd, &byte, 1));
}

static int
try_read_system(void)
{
	return outcome(open("/proc/meminfo", O_RDONLY));
}

static int
try_open_device(void)
{
	return outcome(open("/dev/null", O_RDWR));
}

static int
try_device_call(void)
{
	/* of the numbers of NVIDIA's driver: refused by the descriptor, not by the filter */
	if (ioctl(STDIN_FILENO, 0xc020462a, NULL) == 0)
		return WRONG;
	return errno == EPERM ? REFUSED : DONE;
}

static int
try_terminal(void)
{
	/* typing into a terminal */
	return ioctl(STDIN_FILENO, TIOCSTI, "x") != 0 && errno == EPERM ? REFUSED : DONE;
}

static int
try_read_parent(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/environ", (int) getppid());
	return outcome(open(path, O_RDONLY));
}

static int
try_read_around(void)
{
	return outcome(open("/proc/self/root/etc/passwd", O_RDONLY));
}

static int
try_write_own(void)
{
	return outcome(open("/proc/self/oom_score_adj", O_RDWR));
}

static int
report_landlock(void)
{
	return (report_features() & 4) != 0 ? DONE : REFUSED;
}

static void
test_gpu(void **state)
{
	static const Attempt refused[] = {try_read_file,
									  try_fork,
									  try_kill,
									  try_limit,
									  try_own,
									  try_own_signal,
									  try_socket,
									  try_socketpair,
									  try_create,
									  try_truncate,
									  try_unlink,
									  try_terminal,
									  try_write_own,
									  try_read_parent,
									  try_read_around,
									  try_pin_parent,
									  try_thread_of_its_own};
	static const Attempt killed[] = {try_execve, try_ptrace, try_peek};
	static const Attempt allowed[] = {try_threads, try_memory, try_clock, try_device_call};
	/* where Landlock says which files there are; without it none is */
	static const Attempt files[] = {try_read_own, try_read_system, try_open_device};
	bool landlock = run(report_landlock, false) == DONE;

	if (!has_seccomp())
		skip();
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		int status = run_in(refused[i], true, DSOCR_SANDBOX_GPU);

		if (!WIFEXITED(status) || WEXITSTATUS(status) != REFUSED)
			fail_msg("attempt %zu ended with wait status %x", i, status);
	}
	for (size_t i = 0; i < sizeof(killed) / sizeof(killed[0]); i++)
	{
		int status = run_in(killed[i], true, DSOCR_SANDBOX_GPU);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("attempt %zu ended with wait status %x", i, status);
	}
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
	{
		int status = run_in(allowed[i], true, DSOCR_SANDBOX_GPU);

		if (!WIFEXITED(status) || WEXITSTATUS(status) != DONE)
			fail_msg("attempt %zu ended with wait status %x", i, status);
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
	{
		int status = run_in(files[i], true, DSOCR_SANDBOX_GPU);

		if (!WIFEXITED(status) || WEXITSTATUS(status) != (landlock ? DONE : REFUSED))
			fail_msg("attempt %zu ended with wait status %x", i, status);
	}
}

/* ---- closed for documents ---- */

/* Any file below a folder that a renderer may read. */
static int
try_read_font(void)
{
	return outcome(open("/etc/fonts/fonts.conf", O_RDONLY));
}

static int
try_list_fonts(void)
{
	return outcome(open("/usr/share/fonts", O_RDONLY | O_DIRECTORY));
}

static int
try_write_font(void)
{
	return outcome(open("/etc/fonts/fonts.conf", O_RDWR));
}

static int
try_list_root(void)
{
	return outcome(open("/", O_RDONLY | O_DIRECTORY));
}

static void
test_pages(void **state)
{
	static const Attempt refused[] = {try_read_file,   try_fork,		try_kill,
									  try_limit,	   try_own,			try_own_signal,
									  try_terminal,	   try_read_own,	try_read_system,
									  try_read_parent, try_read_around, try_list_root,
									  try_pin_parent,  try_write_font,	try_list_fonts,
									  try_create,	   try_truncate,	try_thread_of_its_own};
	static const Attempt killed[] = {try_execve, try_ptrace,	 try_peek,
									 try_socket, try_socketpair, try_unlink};
	static const Attempt allowed[] = {try_memory, try_clock};
	bool landlock = run(report_landlock, false) == DONE;

	if (!has_seccomp() || !landlock)
		skip();
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		int status = run_in(refused[i], true, DSOCR_SANDBOX_PAGES);

		if (!WIFEXITED(status) || WEXITSTATUS(status) != REFUSED)
			fail_msg("attempt %zu ended with wait status %x", i, status);
	}
	for (size_t i = 0; i < sizeof(killed) / sizeof(killed[0]); i++)
	{
		int status = run_in(killed[i], true, DSOCR_SANDBOX_PAGES);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("attempt %zu ended with wait status %x", i, status);
	}
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		assert_int_equal(WEXITSTATUS(run_in(allowed[i], true, DSOCR_SANDBOX_PAGES)), DONE);
	/* machines without fonts have nothing to read */
	assert_int_equal(WEXITSTATUS(run_in(try_read_font, true, DSOCR_SANDBOX_PAGES)),
					 try_read_font());
}

/* ---- the child ---- */

/* Exit status: which of the promises is broken. */
static int
look_at_child(void)
{
	int fds[2];
	struct rlimit l;
	struct stat st;
	struct stat null;
	char cwd[16];
	DsocrError err;
	int other;
	int signal_number = 0;
	sigset_t blocked;

	/* what a server process hands down */
	signal(SIGTERM, SIG_IGN);
	sigfillset(&blocked);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	other = open("/dev/null", O_WRONLY);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
		return 1;
	if (!dsocr_sandbox_child(fds[1], (uint64_t) 256 << 20, &err))
		return 2;
	if (fcntl(other, F_GETFL) >= 0 || fcntl(fds[0], F_GETFL) >= 0 || fcntl(fds[1], F_GETFL) < 0)
		return 3;
	if (fstat(STDIN_FILENO, &st) != 0 || stat("/dev/null", &null) != 0 ||
		st.st_rdev != null.st_rdev)
		return 4;
	if (getcwd(cwd, sizeof(cwd)) == NULL || strcmp(cwd, "/") != 0)
		return 5;
	if (prctl(PR_GET_PDEATHSIG, &signal_number) != 0 || signal_number != SIGKILL)
		return 6;
	if (getrlimit(RLIMIT_CORE, &l) != 0 || l.rlim_cur != 0 || l.rlim_max != 0)
		return 7;
	if (signal(SIGTERM, SIG_DFL) != SIG_DFL || signal(SIGINT, SIG_DFL) != SIG_IGN)
		return 8;
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	if (sigismember(&blocked, SIGTERM) != 0)
		return 9;
	if (malloc((size_t) 512 << 20) != NULL)
		return 10;
	return 0;
}

static int
look_at_orphan(void)
{
	int fds[2];
	DsocrError err = {0};

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
		return WRONG;
	close(fds[0]);
	if (dsocr_sandbox_child(fds[1], 0, &err))
		return WRONG;
	return err.code == DSOCR_E_CANCELLED ? DONE : WRONG;
}

static void
test_child(void **state)
{
	int status = run(look_at_child, false);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	status = run(look_at_orphan, false);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), DONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused), cmocka_unit_test(test_killed),
		cmocka_unit_test(test_allowed), cmocka_unit_test(test_old_thread),
		cmocka_unit_test(test_gpu),		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_child),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
