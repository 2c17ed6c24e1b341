/*-------------------------------------------------------------------------
 *
 * sandbox.c
 *		Giving up what a process that reads hostile images does not need.
 *
 * Best effort: a kernel without one of these features runs the engine
 * without it.  The system calls allowed are those of computing, of threads and
 * of open descriptors.  Those that would open a way out (programs, sockets,
 * tracing, writing files) kill, because no library asks for them in the
 * course of its work; everything else fails with EPERM or ENOSYS, so that a
 * library that only asks takes its other way.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Descriptors that may still be opened: none is needed, a few do no harm. */
#define MAX_FILES 64

/* Before ordinary servers, after processes that ask to be first. */
#define OOM_SCORE "500"

#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

/* ---- the child ---- */

static void
reset_signals(void)
{
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		(void) signal(s, SIG_DFL); /* fails for a few, which is as good */
	/* ^C on the server's terminal is for the server, which tells us */
	(void) signal(SIGINT, SIG_IGN);
	(void) signal(SIGHUP, SIG_IGN);
	(void) signal(SIGPIPE, SIG_IGN);
	(void) signal(SIGXFSZ, SIG_IGN);
	(void) signal(SIGUSR1, SIG_IGN);
	(void) signal(SIGUSR2, SIG_IGN);
	sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
}

static void
close_others(int keep_fd)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null >= 0)
	{
		(void) dup2(null, STDIN_FILENO);
		if (null > STDERR_FILENO)
			close(null);
	}
#ifdef SYS_close_range
	if (keep_fd > STDERR_FILENO + 1)
		(void) syscall(SYS_close_range, STDERR_FILENO + 1, keep_fd - 1, 0);
	(void) syscall(SYS_close_range, keep_fd + 1, ~0U, 0);
#endif
	(void) fcntl(keep_fd, F_SETFD, FD_CLOEXEC);
}

static void
set_limit(int resource, rlim_t value)
{
	struct rlimit l = {.rlim_cur = value, .rlim_max = value};

	(void) setrlimit(resource, &l);
}

bool
dsocr_sandbox_child(int keep_fd, uint64_t memory_limit, DsocrError *err)
{
	struct pollfd p = {.fd = keep_fd, .events = 0};
	int score;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		return dsocr_fail(err, DSOCR_E_IO, "could not follow the parent process: %s",
						  strerror(errno));
	/* a parent that died before that line has closed its end */
	if (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL)))
		return dsocr_fail(err, DSOCR_E_CANCELLED, "the parent process is gone");
	reset_signals();
	close_others(keep_fd);
	if (chdir("/") != 0)
		return dsocr_fail(err, DSOCR_E_IO, "could not change to \"/\": %s", strerror(errno));
	score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (score >= 0)
	{
		if (write(score, OOM_SCORE, strlen(OOM_SCORE)) < 0)
		{
			/* a lower score is worse but not wrong */
		}
		close(score);
	}
	/* users' images must not end up in core files */
	set_limit(RLIMIT_CORE, 0);
	if (memory_limit > 0)
	{
		struct rlimit l = {.rlim_cur = memory_limit, .rlim_max = memory_limit};

		if (setrlimit(RLIMIT_DATA, &l) != 0)
			return dsocr_fail(err, DSOCR_E_ARGUMENT, "could not limit memory to %llu bytes: %s",
							  (unsigned long long) memory_limit, strerror(errno));
	}
	return true;
}

/* ---- system calls ---- */

/* What computing, threads and open descriptors need. */
static const int allowed[] = {
	/* descriptors that are open */
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64),
	SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(close),
	SCMP_SYS(lseek), SCMP_SYS(fstat), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(getsockopt),
	SCMP_SYS(shutdown),
	/* memory; JIT compilers of matrix libraries make pages executable */
	SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(mprotect), SCMP_SYS(madvise),
	SCMP_SYS(brk), SCMP_SYS(mincore), SCMP_SYS(mlock), SCMP_SYS(munlock), SCMP_SYS(get_mempolicy),
	SCMP_SYS(set_mempolicy), SCMP_SYS(mbind), SCMP_SYS(membarrier),
	/* threads */
	SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(get_robust_list), SCMP_SYS(rseq),
	SCMP_SYS(set_tid_address), SCMP_SYS(gettid), SCMP_SYS(getpid), SCMP_SYS(getppid),
	SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_getparam),
	SCMP_SYS(sched_getscheduler), SCMP_SYS(arch_prctl), SCMP_SYS(getcpu), SCMP_SYS(sigaltstack),
	/* signals to ourselves: handlers, abort() */
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(restart_syscall),
	/* clocks, identity, limits, random numbers */
	SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(times), SCMP_SYS(getrandom),
	SCMP_SYS(getrusage), SCMP_SYS(getrlimit), SCMP_SYS(sysinfo), SCMP_SYS(uname), SCMP_SYS(getuid),
	SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
	/* the end */
	SCMP_SYS(exit), SCMP_SYS(exit_group)};

/* No library calls these while computing; who does has taken over the process. */
static const int hostile[] = {SCMP_SYS(execve),
							  SCMP_SYS(execveat),
							  SCMP_SYS(socket),
							  SCMP_SYS(socketpair),
							  SCMP_SYS(connect),
							  SCMP_SYS(bind),
							  SCMP_SYS(listen),
							  SCMP_SYS(accept),
							  SCMP_SYS(accept4),
							  SCMP_SYS(ptrace),
							  SCMP_SYS(process_vm_readv),
							  SCMP_SYS(process_vm_writev),
							  SCMP_SYS(pidfd_open),
							  SCMP_SYS(pidfd_getfd),
							  SCMP_SYS(pidfd_send_signal),
							  SCMP_SYS(creat),
							  SCMP_SYS(truncate),
							  SCMP_SYS(unlink),
							  SCMP_SYS(unlinkat),
							  SCMP_SYS(rename),
							  SCMP_SYS(renameat),
							  SCMP_SYS(renameat2),
							  SCMP_SYS(link),
							  SCMP_SYS(linkat),
							  SCMP_SYS(symlink),
							  SCMP_SYS(symlinkat),
							  SCMP_SYS(mknod),
							  SCMP_SYS(mknodat),
							  SCMP_SYS(chmod),
							  SCMP_SYS(fchmod),
							  SCMP_SYS(fchmodat),
							  SCMP_SYS(chown),
							  SCMP_SYS(fchown),
							  SCMP_SYS(fchownat),
							  SCMP_SYS(mount),
							  SCMP_SYS(umount2),
							  SCMP_SYS(pivot_root),
							  SCMP_SYS(chroot),
							  SCMP_SYS(setns),
							  SCMP_SYS(unshare),
							  SCMP_SYS(bpf),
							  SCMP_SYS(keyctl),
							  SCMP_SYS(add_key),
							  SCMP_SYS(request_key),
							  SCMP_SYS(init_module),
							  SCMP_SYS(finit_module),
							  SCMP_SYS(delete_module),
							  SCMP_SYS(kexec_load),
							  SCMP_SYS(kexec_file_load),
							  SCMP_SYS(reboot),
							  SCMP_SYS(userfaultfd),
							  SCMP_SYS(io_uring_setup),
							  SCMP_SYS(perf_event_open),
							  SCMP_SYS(open_by_handle_at),
							  SCMP_SYS(shmget),
							  SCMP_SYS(shmat)};

/*
 * Calls whose arguments decide.  A failed rule leaves the default, which is
 * the stricter EPERM.
 */
static void
add_argument_rules(scmp_filter_ctx f)
{
	static const unsigned int writing[] = {O_WRONLY, O_RDWR, O_CREAT, O_TRUNC};
	static const unsigned int looking[] = {F_GETFD, F_SETFD, F_GETFL};
	scmp_datum_t self = (scmp_datum_t) getpid();

	/* threads, but no processes; clone3 hides its flags, glibc falls back to clone */
	(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
							SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	(void) seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* opening for reading fails, for writing kills */
	for (size_t i = 0; i < sizeof(writing) / sizeof(writing[0]); i++)
	{
		(void) seccomp_rule_add(f, SCMP_ACT_KILL_PROCESS, SCMP_SYS(openat), 1,
								SCMP_A2(SCMP_CMP_MASKED_EQ, writing[i], writing[i]));
		(void) seccomp_rule_add(f, SCMP_ACT_KILL_PROCESS, SCMP_SYS(open), 1,
								SCMP_A1(SCMP_CMP_MASKED_EQ, writing[i], writing[i]));
	}
	(void) seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(openat2), 0);
	/* other commands let the kernel send signals to any process of the user (F_SETOWN) */
	for (size_t i = 0; i < sizeof(looking) / sizeof(looking[0]); i++)
		(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
								SCMP_A1(SCMP_CMP_EQ, looking[i]));
	/* our own threads may be placed, nobody else's */
	(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(sched_setaffinity), 1,
							SCMP_A0(SCMP_CMP_EQ, 0));
	/* abort() and raise() */
	(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, self));
	(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1, SCMP_A0(SCMP_CMP_EQ, self));
	/* our own limits may be read, nobody's changed */
	(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2, SCMP_A0(SCMP_CMP_EQ, 0),
							SCMP_A2(SCMP_CMP_EQ, 0));
	(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
							SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
	/* allocators name their memory on some systems */
	(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
							SCMP_A0(SCMP_CMP_EQ, 0x53564d41));
}

static bool
filter_system_calls(void)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	bool ok = f != NULL;

	if (!ok)
		return false;
	/* threads that exist already are filtered too */
	ok = seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1) == 0;
	/* a call that this processor does not have needs no rule */
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++)
		(void) seccomp_rule_add(f, SCMP_ACT_KILL_PROCESS, hostile[i], 0);
	add_argument_rules(f);
	ok = ok && seccomp_load(f) == 0;
	seccomp_release(f);
	return ok;
}

/* ---- Landlock: a rule set without rules ---- */

static bool
forbid_files(void)
{
	/* what the version of the kernel handles; unknown bits would be refused */
	struct
	{
		uint64_t files;
		uint64_t network;
		uint64_t scoped;
	} handled = {0};
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	size_t size = sizeof(handled.files);
	int rules;
	bool ok;

	if (abi < 1)
		return false;
	handled.files = (1ULL << 13) - 1; /* version 1 knows 13 rights */
	if (abi >= 2)
		handled.files |= 1ULL << 13; /* refer */
	if (abi >= 3)
		handled.files |= LANDLOCK_ACCESS_FS_TRUNCATE;
	if (abi >= 4)
	{
		handled.network = 3; /* bind, connect */
		size = 2 * sizeof(uint64_t);
	}
	if (abi >= 5)
		handled.files |= 1ULL << 15; /* device ioctl */
	if (abi >= 6)
	{
		handled.scoped = 3; /* abstract sockets, signals */
		size = 3 * sizeof(uint64_t);
	}
	rules = (int) syscall(SYS_landlock_create_ruleset, &handled, size, 0);
	if (rules < 0)
		return false;
	ok = syscall(SYS_landlock_restrict_self, rules, 0) == 0;
	close(rules);
	return ok;
}

static void
add_report(char *report, size_t size, const char *word)
{
	size_t n = strlen(report);

	snprintf(report + n, size - n, "%s%s", n > 0 ? "," : "", word);
}

void
dsocr_sandbox_close(char *report, size_t size)
{
	struct stat st;

	report[0] = '\0';
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		add_report(report, size, "no_new_privs");
	/* other processes of the same user may not read our memory */
	(void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_NOFILE, MAX_FILES);
	/* the server's log may be a file that stderr leads to */
	if (fstat(STDERR_FILENO, &st) != 0 || !S_ISREG(st.st_mode))
		set_limit(RLIMIT_FSIZE, 0);
	add_report(report, size, "rlimits");
	if (forbid_files())
		add_report(report, size, "landlock");
	if (filter_system_calls())
		add_report(report, size, "seccomp");
}
