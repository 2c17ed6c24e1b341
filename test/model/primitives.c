/*-------------------------------------------------------------------------
 *
 * primitives.c
 *		Locks, latches, segments and time of all processes of the model.
 *
 * With a pause where it may hurt most.  A latch notes whether its process was
 * called or woke up by itself.
 *
 *-------------------------------------------------------------------------
 */
#include "primitives.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "storage/dsm.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

/* Shorter than those of the module, which only mend what must not happen. */
#define LONGEST_WAIT_MS 200

#define MAX_SEGMENTS 64
#define SEGMENT_BYTES 64

static const Model *shared;
static pthread_rwlock_t locks[2];
static atomic_llong waits, expired_waits;

/* Let others run, now and then for longer. */
static void
yield(void)
{
	unsigned what = model_random(64);

	if (what == 0)
		usleep(model_random(50));
	else if (what < 8)
		sched_yield();
}

/* ---- locks ---- */

static pthread_rwlock_t *
lock_of(const LWLock *lock)
{
	return &locks[lock == shared->queue_lock ? 0 : 1];
}

bool
LWLockAcquire(LWLock *lock, LWLockMode mode)
{
	yield();
	if (mode == LW_EXCLUSIVE)
		pthread_rwlock_wrlock(lock_of(lock));
	else
		pthread_rwlock_rdlock(lock_of(lock));
	return true;
}

void
LWLockRelease(LWLock *lock)
{
	pthread_rwlock_unlock(lock_of(lock));
	yield();
}

void
LWLockReleaseAll(void)
{
	model_fail("an error was caught");
}

/* ---- latches ---- */

static struct
{
	pthread_mutex_t mutex;
	pthread_cond_t woken;
	bool set;
	bool expired; /* the last wait ran out, and nobody has called since */
} latches[MODEL_PROCESSES];

static int
latch_number(const Latch *latch)
{
	return (int) (((const char *) latch - (const char *) shared->procs->allProcs) / sizeof(PGPROC));
}

void
SetLatch(Latch *latch)
{
	int i = latch_number(latch);

	yield();
	pthread_mutex_lock(&latches[i].mutex);
	latches[i].set = true;
	latches[i].expired = false;
	pthread_cond_signal(&latches[i].woken);
	pthread_mutex_unlock(&latches[i].mutex);
}

void
ResetLatch(Latch *latch)
{
	int i = latch_number(latch);

	pthread_mutex_lock(&latches[i].mutex);
	latches[i].set = false;
	pthread_mutex_unlock(&latches[i].mutex);
	yield();
}

int
WaitLatch(Latch *latch, int events, long timeout, uint32 info)
{
	int i = latch_number(latch);
	struct timespec until;
	bool set;

	clock_gettime(CLOCK_REALTIME, &until);
	timeout = Min(timeout, LONGEST_WAIT_MS) * 1000000 + until.tv_nsec;
	until.tv_sec += timeout / 1000000000;
	until.tv_nsec = timeout % 1000000000;
	pthread_mutex_lock(&latches[i].mutex);
	while (!latches[i].set &&
		   pthread_cond_timedwait(&latches[i].woken, &latches[i].mutex, &until) == 0)
		;
	set = latches[i].set;
	latches[i].expired = !set;
	pthread_mutex_unlock(&latches[i].mutex);
	atomic_fetch_add(&waits, 1);
	atomic_fetch_add(&expired_waits, !set);
	return set ? WL_LATCH_SET : WL_TIMEOUT;
}

/*
 * Changes and their wake-ups are made under the queue lock, so who sees one
 * under that lock has been called for it.
 */
void
model_came(Latch *latch, const char *what)
{
	int i = latch_number(latch);

	pthread_mutex_lock(&latches[i].mutex);
	if (latches[i].expired)
		model_fail("process %d was not woken for %s", i, what);
	pthread_mutex_unlock(&latches[i].mutex);
}

void
model_heard(Latch *latch)
{
	int i = latch_number(latch);

	pthread_mutex_lock(&latches[i].mutex);
	latches[i].expired = false;
	pthread_mutex_unlock(&latches[i].mutex);
}

/* ---- segments ---- */

struct dsm_segment
{
	char bytes[SEGMENT_BYTES];
	bool used;
	bool pinned;
	int mapped;
};

static struct dsm_segment segments[MAX_SEGMENTS];
static pthread_mutex_t segments_mutex = PTHREAD_MUTEX_INITIALIZER;

dsm_segment *
dsm_create(Size size, int flags)
{
	dsm_segment *found = NULL;

	if (size > SEGMENT_BYTES)
		model_fail("a segment of %zu bytes", size);
	yield();
	pthread_mutex_lock(&segments_mutex);
	for (int i = 0; i < MAX_SEGMENTS && found == NULL; i++)
	{
		if (!segments[i].used)
			found = &segments[i];
	}
	if (found != NULL)
	{
		found->used = true;
		found->mapped = 1;
	}
	pthread_mutex_unlock(&segments_mutex);
	return found;
}

dsm_handle
dsm_segment_handle(dsm_segment *segment)
{
	return (dsm_handle) (segment - segments) + 1;
}

static dsm_segment *
segment_of(dsm_handle handle)
{
	if (handle < 1 || handle > MAX_SEGMENTS || !segments[handle - 1].used)
		model_fail("there is no segment %u", handle);
	return &segments[handle - 1];
}

/* Its memory is gone with the last who knows it. */
static void
tidy(dsm_segment *segment)
{
	if (segment->pinned || segment->mapped > 0)
		return;
	memset(segment->bytes, 0x5a, sizeof(segment->bytes));
	segment->used = false;
}

void
dsm_pin_segment(dsm_segment *segment)
{
	pthread_mutex_lock(&segments_mutex);
	segment->pinned = true;
	pthread_mutex_unlock(&segments_mutex);
}

void
dsm_unpin_segment(dsm_handle handle)
{
	dsm_segment *segment;

	pthread_mutex_lock(&segments_mutex);
	segment = segment_of(handle);
	if (!segment->pinned)
		model_fail("segment %u is freed twice", handle);
	segment->pinned = false;
	tidy(segment);
	pthread_mutex_unlock(&segments_mutex);
}

dsm_segment *
dsm_attach(dsm_handle handle)
{
	dsm_segment *segment;

	yield();
	pthread_mutex_lock(&segments_mutex);
	segment = segment_of(handle);
	segment->mapped++;
	pthread_mutex_unlock(&segments_mutex);
	return segment;
}

void
dsm_detach(dsm_segment *segment)
{
	pthread_mutex_lock(&segments_mutex);
	segment->mapped--;
	tidy(segment);
	pthread_mutex_unlock(&segments_mutex);
}

void *
dsm_segment_address(dsm_segment *segment)
{
	return segment->bytes;
}

Size
add_size(Size a, Size b)
{
	return a + b;
}

/* ---- time ---- */

TimestampTz
GetCurrentTimestamp(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * INT64CONST(1000000) + now.tv_nsec / 1000;
}

long
TimestampDifferenceMilliseconds(TimestampTz start, TimestampTz stop)
{
	return stop > start ? (stop - start + 999) / 1000 : 0;
}

bool
TimestampDifferenceExceeds(TimestampTz start, TimestampTz stop, int msec)
{
	return stop - start >= msec * INT64CONST(1000);
}

size_t
strlcpy(char *to, const char *from, size_t size)
{
	snprintf(to, size, "%s", from);
	return strlen(from);
}

/* ---- all of it ---- */

void
primitives_open(const Model *model)
{
	pthread_rwlockattr_t fair;

	shared = model;
	pthread_rwlockattr_init(&fair);
	pthread_rwlockattr_setkind_np(&fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	for (int i = 0; i < 2; i++)
		pthread_rwlock_init(&locks[i], &fair);
	for (int i = 0; i < MODEL_PROCESSES; i++)
	{
		pthread_mutex_init(&latches[i].mutex, NULL);
		pthread_cond_init(&latches[i].woken, NULL);
	}
}

int
primitives_segment_left(void)
{
	for (int i = 0; i < MAX_SEGMENTS; i++)
	{
		if (segments[i].used)
			return i;
	}
	return -1;
}

long long
primitives_waits(void)
{
	return atomic_load(&waits);
}

long long
primitives_expired_waits(void)
{
	return atomic_load(&expired_waits);
}
