/*-------------------------------------------------------------------------
 *
 * worker.h
 *		The background worker of a device.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_WORKER_H
#define DSOCR_WORKER_H

#include "dsocr.h"

/* Entry point for the postmaster; the argument is the number of the device. */
extern PGDLLEXPORT void dsocr_worker_main(Datum arg);

#endif /* DSOCR_WORKER_H */
