/*-------------------------------------------------------------------------
 *
 * sandbox_calls.c
 *		The system calls that a closed process may make.
 *
 * Allowed are those of computing, of threads and of open descriptors.  Those
 * that would open a way out kill, because no library asks for them in the
 * course of its work; everything else fails with EPERM or ENOSYS, so that a
 * library that only asks takes its other way.
 *
 * The driver of a GPU is such a library, and a large one.  Beside it, calls on
 * its devices are allowed, looking at files and opening those that Landlock
 * leaves; the ways out to files and sockets are refused instead of deadly.
 *
 * A renderer of pages may open for reading what Landlock leaves, and ask about
 * files; without Landlock it is as closed as the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

#define N_CALLS(list) (sizeof(list) / sizeof((list)[0]))

/* The second byte of an ioctl's number says whose it is. */
#define IOCTL_OWNER 0xff00
#define IOCTL_NVIDIA 0x4600 /* 'F': /dev/nvidia0, /dev/nvidiactl */
#define IOCTL_UVM 0x0000	/* /dev/nvidia-uvm counts from 1 */
#define IOCTL_DXG 0x4700	/* 'G': /dev/dxg */

#ifndef __O_TMPFILE
#define __O_TMPFILE 020000000
#endif

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

/* What the driver of a GPU asks beside that: looking at files, waiting for its own descriptors. */
static const int allowed_gpu[] = {
	SCMP_SYS(access),	   SCMP_SYS(faccessat),		SCMP_SYS(faccessat2), SCMP_SYS(stat),
	SCMP_SYS(lstat),	   SCMP_SYS(newfstatat),	SCMP_SYS(statx),	  SCMP_SYS(statfs),
	SCMP_SYS(fstatfs),	   SCMP_SYS(readlink),		SCMP_SYS(readlinkat), SCMP_SYS(getdents64),
	SCMP_SYS(getcwd),	   SCMP_SYS(dup),			SCMP_SYS(pipe),		  SCMP_SYS(pipe2),
	SCMP_SYS(eventfd2),	   SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl),  SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait), SCMP_SYS(msync),			SCMP_SYS(mlock2)};

/* What a library asks about a font that it opens. */
static const int allowed_pages[] = {SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2),
									SCMP_SYS(fstatfs)};

/* No library calls these while computing; who does has taken over the process. */
static const int hostile[] = {SCMP_SYS(execve),
							  SCMP_SYS(execveat),
							  SCMP_SYS(ptrace),
							  SCMP_SYS(process_vm_readv),
							  SCMP_SYS(process_vm_writev),
							  SCMP_SYS(pidfd_open),
							  SCMP_SYS(pidfd_getfd),
							  SCMP_SYS(pidfd_send_signal),
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

/* Ways to files and sockets: nothing of ours calls these either, a driver may try. */
static const int outward[] = {
	SCMP_SYS(socket),	SCMP_SYS(socketpair), SCMP_SYS(connect),  SCMP_SYS(bind),
	SCMP_SYS(listen),	SCMP_SYS(accept),	  SCMP_SYS(accept4),  SCMP_SYS(creat),
	SCMP_SYS(truncate), SCMP_SYS(unlink),	  SCMP_SYS(unlinkat), SCMP_SYS(rename),
	SCMP_SYS(renameat), SCMP_SYS(renameat2),  SCMP_SYS(link),	  SCMP_SYS(linkat),
	SCMP_SYS(symlink),	SCMP_SYS(symlinkat),  SCMP_SYS(mknod),	  SCMP_SYS(mknodat),
	SCMP_SYS(chmod),	SCMP_SYS(fchmod),	  SCMP_SYS(fchmodat), SCMP_SYS(chown),
	SCMP_SYS(fchown),	SCMP_SYS(fchownat)};

/* Opening for reading fails, for writing kills. */
static void
forbid_opening(scmp_filter_ctx f)
{
	static const unsigned int writing[] = {O_WRONLY, O_RDWR, O_CREAT, O_TRUNC};

	for (size_t i = 0; i < N_CALLS(writing); i++)
	{
		(void) seccomp_rule_add(f, SCMP_ACT_KILL_PROCESS, SCMP_SYS(openat), 1,
								SCMP_A2(SCMP_CMP_MASKED_EQ, writing[i], writing[i]));
		(void) seccomp_rule_add(f, SCMP_ACT_KILL_PROCESS, SCMP_SYS(open), 1,
								SCMP_A1(SCMP_CMP_MASKED_EQ, writing[i], writing[i]));
	}
}

/* Files that exist may be opened: Landlock says which, and which of them for writing. */
static void
allow_opening(scmp_filter_ctx f, bool writing)
{
	const scmp_datum_t making =
		O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | __O_TMPFILE | (writing ? 0 : O_RDWR);

	(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
							SCMP_A2(SCMP_CMP_MASKED_EQ, making, 0));
	(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(open), 1,
							SCMP_A1(SCMP_CMP_MASKED_EQ, making, 0));
}

/* Calls on the devices of a GPU, and on none other. */
static void
allow_devices(scmp_filter_ctx f)
{
	static const unsigned int owners[] = {IOCTL_NVIDIA, IOCTL_UVM, IOCTL_DXG};
	static const unsigned int more[] = {F_DUPFD_CLOEXEC, F_SETFL};

	for (size_t i = 0; i < N_CALLS(owners); i++)
		(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
								SCMP_A1(SCMP_CMP_MASKED_EQ, IOCTL_OWNER, owners[i]));
	for (size_t i = 0; i < N_CALLS(more); i++)
		(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
								SCMP_A1(SCMP_CMP_EQ, more[i]));
}

/*
 * Calls whose arguments decide.  A failed rule leaves the default, which is
 * the stricter EPERM.
 */
static void
add_argument_rules(scmp_filter_ctx f)
{
	static const unsigned int looking[] = {F_GETFD, F_SETFD, F_GETFL};
	scmp_datum_t self = (scmp_datum_t) getpid();

	/* threads, but no processes; clone3 hides its flags, glibc falls back to clone */
	(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
							SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	(void) seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
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

static void
add_rules(scmp_filter_ctx f, uint32_t action, const int *calls, size_t n)
{
	/* a call that this processor does not have needs no rule */
	for (size_t i = 0; i < n; i++)
		(void) seccomp_rule_add(f, action, calls[i], 0);
}

bool
dsocr_sandbox_calls(DsocrSandboxProfile profile, bool files)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	bool ok = f != NULL;

	if (!ok)
		return false;
	/* threads that exist already are filtered too */
	ok = seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1) == 0;
	add_rules(f, SCMP_ACT_ALLOW, allowed, N_CALLS(allowed));
	add_rules(f, SCMP_ACT_KILL_PROCESS, hostile, N_CALLS(hostile));
	add_argument_rules(f);
	if (profile == DSOCR_SANDBOX_GPU)
	{
		add_rules(f, SCMP_ACT_ALLOW, allowed_gpu, N_CALLS(allowed_gpu));
		allow_devices(f);
		if (files)
			allow_opening(f, true);
	}
	else if (profile == DSOCR_SANDBOX_PAGES && files)
	{
		/* the C library's fstat */
		(void) seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
								SCMP_A3(SCMP_CMP_EQ, AT_EMPTY_PATH));
		add_rules(f, SCMP_ACT_KILL_PROCESS, outward, N_CALLS(outward));
		add_rules(f, SCMP_ACT_ALLOW, allowed_pages, N_CALLS(allowed_pages));
		allow_opening(f, false);
	}
	else
	{
		add_rules(f, SCMP_ACT_KILL_PROCESS, outward, N_CALLS(outward));
		forbid_opening(f);
	}
	ok = ok && seccomp_load(f) == 0;
	seccomp_release(f);
	return ok;
}
