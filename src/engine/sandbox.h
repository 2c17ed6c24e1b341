/*-------------------------------------------------------------------------
 *
 * sandbox.h
 *		Giving up what a process that reads hostile images does not need.
 *
 * Two steps: as a child process, before the model is opened, and as a closed
 * process, before the first byte of a request is read.  What the kernel does
 * not offer is left out and not reported.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SANDBOX_H
#define DSOCR_SANDBOX_H

#include "base.h"

/*
 * Become a well-behaved child that lives no longer than its parent: descriptors
 * other than 0, 1, 2 and keep_fd are closed, stdin is /dev/null, the working
 * directory "/", signals are as after a fresh start (SIGPIPE, SIGINT and SIGHUP
 * ignored), no core files, first choice of the kernel when memory runs out.
 * memory_limit bounds private memory in bytes (0 = none).  Errors:
 * DSOCR_E_CANCELLED when the parent is gone already, DSOCR_E_ARGUMENT for a
 * limit that cannot be set, DSOCR_E_IO.
 */
extern bool dsocr_sandbox_child(int keep_fd, uint64_t memory_limit, DsocrError *err);

/* What the process computes on decides what its libraries still need. */
typedef enum DsocrSandboxProfile
{
	DSOCR_SANDBOX_CPU,	/* nothing */
	DSOCR_SANDBOX_GPU,	/* a driver: its devices; files of the system, for reading */
	DSOCR_SANDBOX_PAGES /* a renderer of documents: fonts, for reading */
} DsocrSandboxProfile;

/*
 * No files, no network, no other processes from here on; threads, memory and
 * open descriptors stay usable.  Hostile system calls end the process with
 * SIGSYS, the rest fail with EPERM.  For a GPU, which must have been opened
 * before, its devices stay usable and files of the system readable where the
 * kernel has Landlock; for pages, fonts stay readable there.  Writes what is active to report:
 * "no_new_privs,rlimits,landlock,seccomp".
 */
extern void dsocr_sandbox_close(DsocrSandboxProfile profile, char *report, size_t size);

#endif /* DSOCR_SANDBOX_H */
