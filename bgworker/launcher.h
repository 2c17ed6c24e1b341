/*-------------------------------------------------------------------------
 *
 * launcher.h
 *		Starts the runners of jobs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_LAUNCHER_H
#define DSOCR_LAUNCHER_H

#include "dsocr.h"

/* Entry point for the postmaster. */
extern PGDLLEXPORT void dsocr_launcher_main(Datum arg);

#endif /* DSOCR_LAUNCHER_H */
