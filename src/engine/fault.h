/*-------------------------------------------------------------------------
 *
 * fault.h
 *		Places where a test can make the engine die.
 *
 * Built with -DDSOCR_FAULTS, DSOCR_FAULT("encode") aborts the process when
 * the environment variable DSOCR_FAULT is "encode".  Other builds contain
 * nothing of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_FAULT_H
#define DSOCR_FAULT_H

#ifdef DSOCR_FAULTS
#include <stdlib.h>
#include <string.h>

#define DSOCR_FAULT(name)                                                                          \
	do                                                                                             \
	{                                                                                              \
		const char *fault_ = getenv("DSOCR_FAULT");                                                \
		if (fault_ != NULL && strcmp(fault_, (name)) == 0)                                         \
			abort();                                                                               \
	} while (0)
#else
#define DSOCR_FAULT(name) ((void) 0)
#endif

#endif /* DSOCR_FAULT_H */
