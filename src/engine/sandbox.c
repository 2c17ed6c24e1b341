/*-------------------------------------------------------------------------
 *
 * sandbox.c
 *		Giving up what a process that reads hostile images does not need.
 *
 * Best effort: a kernel without one of these features runs the engine
 * without it.  Landlock says which files can be opened (none; for a GPU its
 * devices and what its driver reads; for pages, fonts), the filter which system
 * calls there are (sandbox_calls.c).
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/landlock.h>
#include <poll.h>
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
#define MAX_FILES_GPU 4096 /* a driver opens its devices often */

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

/* ---- Landlock ---- */

#define RIGHT_WRITE LANDLOCK_ACCESS_FS_WRITE_FILE
#define RIGHT_READ LANDLOCK_ACCESS_FS_READ_FILE
#define RIGHT_LIST LANDLOCK_ACCESS_FS_READ_DIR
#define RIGHT_IOCTL (1ULL << 15) /* since version 5 */

typedef struct AllowedFile
{
	const char *pattern;
	bool device;
} AllowedFile;

/* What the driver of a GPU opens after its start, as far as it is known. */
static const AllowedFile gpu_files[] = {
	{"/dev/nvidia*", true},
	{"/dev/dxg", true},
	{"/dev/null", true},
	{"/dev/zero", false},
	{"/dev/urandom", false},
	/* not /proc itself: there are the server's other processes */
	{"/proc/self", false},
	{"/proc/cpuinfo", false},
	{"/proc/devices", false},
	{"/proc/driver/nvidia*", false},
	{"/proc/meminfo", false},
	{"/proc/modules", false},
	{"/proc/stat", false},
	{"/proc/sys/kernel", false},
	{"/proc/sys/vm", false},
	{"/proc/version", false},
	{"/sys/bus/pci", false},
	{"/sys/class", false},
	{"/sys/devices", false},
	{"/sys/kernel/mm", false},
	{"/sys/module/nvidia*", false},
	/* libraries; not all of /usr/local, where a server's data may lie */
	{"/etc/ld.so.cache", false},
	{"/etc/nvidia*", false},
	{"/lib*", false},
	{"/usr/lib*", false},
	{"/usr/local/cuda*", false},
	{"/usr/local/lib*", false},
	{"/usr/local/nvidia*", false},
	{"/usr/share/nvidia*", false},
};

/* Fonts that a document names but does not hold, and tables of characters. */
static const AllowedFile page_files[] = {
	{"/etc/fonts", false},
	{"/usr/local/share/fonts", false},
	{"/usr/share/X11/fonts", false},
	{"/usr/share/fontconfig", false},
	{"/usr/share/fonts", false},
	{"/usr/share/ghostscript/fonts", false},
	{"/usr/share/poppler", false},
	{"/usr/share/texmf/fonts", false},
	{"/var/cache/fontconfig", false},
	{"/var/lib/texmf/fonts", false},
};

static void
allow_path(int rules, const char *path, bool device, uint64_t handled)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = RIGHT_READ | RIGHT_LIST};
	struct stat st;

	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return;
	if (device)
		rule.allowed_access |= RIGHT_WRITE | RIGHT_IOCTL;
	/* rights of folders make the rule of a file wrong */
	if (fstat(rule.parent_fd, &st) != 0 || !S_ISDIR(st.st_mode))
		rule.allowed_access &= ~RIGHT_LIST;
	rule.allowed_access &= handled;
	(void) syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(rule.parent_fd);
}

static void
allow_files(int rules, const AllowedFile *files, size_t n, uint64_t handled)
{
	for (size_t i = 0; i < n; i++)
	{
		glob_t found;

		if (glob(files[i].pattern, GLOB_NOSORT, NULL, &found) != 0)
			continue;
		for (size_t k = 0; k < found.gl_pathc; k++)
			allow_path(rules, found.gl_pathv[k], files[i].device, handled);
		globfree(&found);
	}
}

static bool
guard_files(DsocrSandboxProfile profile)
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
		handled.files |= RIGHT_IOCTL;
	if (abi >= 6)
	{
		handled.scoped = 3; /* abstract sockets, signals */
		size = 3 * sizeof(uint64_t);
	}
	rules = (int) syscall(SYS_landlock_create_ruleset, &handled, size, 0);
	if (rules < 0)
		return false;
	if (profile == DSOCR_SANDBOX_GPU)
		allow_files(rules, gpu_files, sizeof(gpu_files) / sizeof(gpu_files[0]), handled.files);
	if (profile == DSOCR_SANDBOX_PAGES)
		allow_files(rules, page_files, sizeof(page_files) / sizeof(page_files[0]), handled.files);
	ok = syscall(SYS_landlock_restrict_self, rules, 0) == 0;
	close(rules);
	return ok;
}

/* ---- closing ---- */

static void
add_report(char *report, size_t size, const char *word)
{
	size_t n = strlen(report);

	snprintf(report + n, size - n, "%s%s", n > 0 ? "," : "", word);
}

void
dsocr_sandbox_close(DsocrSandboxProfile profile, char *report, size_t size)
{
	struct stat st;
	bool files;

	report[0] = '\0';
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		add_report(report, size, "no_new_privs");
	/* other processes of the same user may not read our memory */
	(void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_NOFILE, profile == DSOCR_SANDBOX_GPU ? MAX_FILES_GPU : MAX_FILES);
	/* the server's log may be a file that stderr leads to */
	if (fstat(STDERR_FILENO, &st) != 0 || !S_ISREG(st.st_mode))
		set_limit(RLIMIT_FSIZE, 0);
	add_report(report, size, "rlimits");
	files = guard_files(profile);
	if (files)
		add_report(report, size, "landlock");
	if (dsocr_sandbox_calls(profile, files))
		add_report(report, size, "seccomp");
}
