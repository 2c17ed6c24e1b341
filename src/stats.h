/*-------------------------------------------------------------------------
 *
 * stats.h
 *		Counters of what the engines did.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_STATS_H
#define DSOCR_STATS_H

#include "shmem.h"

/* device is an index, or DSOCR_STATS_NOWHERE for a request that reached none. */
extern void dsocr_stats_completed(int device, const DsocrResult *result, int64 waited_us,
								  int64 total_us);
extern void dsocr_stats_failed(int device);
extern void dsocr_stats_cancelled(int device);
extern void dsocr_stats_retried(int device);
extern void dsocr_stats_cached(void); /* an answer that was kept served for a page */

extern void dsocr_stats_read(int device, DsocrStats *copy, TimestampTz *since);
extern void dsocr_stats_reset(void);

/*
 * The time from submission to result, in milliseconds, that the given
 * fraction of completed requests did not exceed: the upper end of its bucket,
 * at most 19 % too high.  Negative when there were none.
 */
extern double dsocr_stats_percentile(const DsocrStats *stats, double fraction);

#endif /* DSOCR_STATS_H */
