/*-------------------------------------------------------------------------
 *
 * sandbox_calls.h
 *		The system calls that a closed process may make.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SANDBOX_CALLS_H
#define DSOCR_SANDBOX_CALLS_H

#include "sandbox.h"

/*
 * Filter system calls of all threads from here on.  files: other means decide
 * which files can be opened, so that the filter may let a driver open some.
 */
extern bool dsocr_sandbox_calls(DsocrSandboxProfile profile, bool files);

#endif /* DSOCR_SANDBOX_CALLS_H */
