/*-------------------------------------------------------------------------
 *
 * stats.c
 *		Counters of what the engines did, in shared memory.
 *
 * They live until the server stops or dsocr_stats_reset() is called.  A
 * request is counted once, when it ends: completed, failed or cancelled.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "stats.h"

#include <math.h>

#include "utils/timestamp.h"

#define BUCKETS_PER_OCTAVE 4.0
#define FIRST_BUCKET_MS 1.0

static int
bucket_of(int64 us)
{
	double ms = us / 1000.0;
	int bucket;

	if (ms <= FIRST_BUCKET_MS)
		return 0;
	bucket = (int) ceil(log2(ms / FIRST_BUCKET_MS) * BUCKETS_PER_OCTAVE);
	return Min(bucket, DSOCR_LATENCY_BUCKETS - 1);
}

void
dsocr_stats_completed(int device, const DsocrResult *result, int64 waited_us, int64 total_us)
{
	DsocrStats *s = &dsocr_shared->stats[device];

	LWLockAcquire(dsocr_stats_lock, LW_EXCLUSIVE);
	s->completed++;
	s->image_tokens += result->image_tokens;
	s->text_tokens += result->text_tokens;
	s->waited_us += waited_us;
	s->preprocess_us += result->timings.preprocess;
	s->encode_us += result->timings.encode;
	s->prefill_us += result->timings.prefill;
	s->decode_us += result->timings.decode;
	s->longest_us = Max(s->longest_us, total_us);
	s->latency[bucket_of(total_us)]++;
	LWLockRelease(dsocr_stats_lock);
}

static void
count(int64 *counter)
{
	LWLockAcquire(dsocr_stats_lock, LW_EXCLUSIVE);
	(*counter)++;
	LWLockRelease(dsocr_stats_lock);
}

void
dsocr_stats_failed(int device)
{
	count(&dsocr_shared->stats[device].failed);
}

void
dsocr_stats_cancelled(int device)
{
	count(&dsocr_shared->stats[device].cancelled);
}

void
dsocr_stats_retried(int device)
{
	count(&dsocr_shared->stats[device].retried);
}

void
dsocr_stats_cached(void)
{
	count(&dsocr_shared->stats[DSOCR_STATS_NOWHERE].cache_hits);
}

void
dsocr_stats_read(int device, DsocrStats *copy, TimestampTz *since)
{
	LWLockAcquire(dsocr_stats_lock, LW_SHARED);
	*copy = dsocr_shared->stats[device];
	*since = dsocr_shared->stats_since;
	LWLockRelease(dsocr_stats_lock);
}

void
dsocr_stats_reset(void)
{
	LWLockAcquire(dsocr_stats_lock, LW_EXCLUSIVE);
	memset(dsocr_shared->stats, 0, sizeof(dsocr_shared->stats));
	dsocr_shared->stats_since = GetCurrentTimestamp();
	LWLockRelease(dsocr_stats_lock);
}

double
dsocr_stats_percentile(const DsocrStats *stats, double fraction)
{
	int64 wanted = (int64) ceil(stats->completed * fraction);
	int64 seen = 0;

	if (stats->completed == 0)
		return -1;
	for (int i = 0; i < DSOCR_LATENCY_BUCKETS; i++)
	{
		seen += stats->latency[i];
		if (seen >= wanted)
			return Min(FIRST_BUCKET_MS * exp2(i / BUCKETS_PER_OCTAVE), stats->longest_us / 1000.0);
	}
	return stats->longest_us / 1000.0;
}
