/*-------------------------------------------------------------------------
 *
 * shmem.c
 *		Requests shared memory and sets it up.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "cache.h"
#include "shmem.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

DsocrShared *dsocr_shared = NULL;
DsocrSlot *dsocr_slots = NULL;
DsocrWaiter *dsocr_waiters = NULL;
LWLock *dsocr_queue_lock = NULL;
LWLock *dsocr_stats_lock = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

/* Every process that can own a latch, prepared transactions left out. */
static int
waiters_needed(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS;
}

static void
shmem_request(void)
{
	Size size;

	if (previous_request_hook)
		previous_request_hook();

	size = MAXALIGN(sizeof(DsocrShared));
	size = add_size(size, MAXALIGN(mul_size(dsocr_max_requests, sizeof(DsocrSlot))));
	size = add_size(size, MAXALIGN(mul_size(waiters_needed(), sizeof(DsocrWaiter))));
	size = add_size(size, dsocr_cache_shmem_size());
	RequestAddinShmemSpace(size);
	RequestNamedLWLockTranche("dsocr", 3);
}

static void
shared_init(void)
{
	char names[DSOCR_MAX_DEVICES][DSOCR_DEVICE_NAME_MAX];

	memset(dsocr_shared, 0, sizeof(DsocrShared));
	memset(dsocr_slots, 0, sizeof(DsocrSlot) * dsocr_max_requests);
	for (int i = 0; i < dsocr_max_requests; i++)
		dsocr_slots[i].generation = 1; /* 0 is nobody's */
	memset(dsocr_waiters, 0, sizeof(DsocrWaiter) * waiters_needed());
	dsocr_shared->n_slots = dsocr_max_requests;
	dsocr_shared->n_free = dsocr_max_requests;
	dsocr_shared->n_waiters = waiters_needed();
	dsocr_shared->memory_limit = (Size) dsocr_queue_memory * 1024;
	dsocr_shared->n_devices = dsocr_device_list(dsocr_devices, names);
	for (int i = 0; i < dsocr_shared->n_devices; i++)
		strlcpy(dsocr_shared->devices[i].name, names[i], DSOCR_DEVICE_NAME_MAX);
	if (dsocr_page_server)
	{
		DsocrDevice *d = &dsocr_shared->devices[dsocr_shared->n_devices++];

		strlcpy(d->name, DSOCR_PAGES_DEVICE, DSOCR_DEVICE_NAME_MAX);
		d->of_pages = true;
	}
	dsocr_shared->cost = DSOCR_FIRST_COST_US;
	dsocr_shared->stats_since = GetCurrentTimestamp();
}

static void
shmem_startup(void)
{
	LWLockPadded *locks;
	bool found_shared;
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	locks = GetNamedLWLockTranche("dsocr");
	dsocr_queue_lock = &locks[0].lock;
	dsocr_stats_lock = &locks[1].lock;
	dsocr_shared = ShmemInitStruct("dsocr", sizeof(DsocrShared), &found_shared);
	dsocr_slots =
		ShmemInitStruct("dsocr request slots", sizeof(DsocrSlot) * dsocr_max_requests, &found);
	dsocr_waiters =
		ShmemInitStruct("dsocr waiters", sizeof(DsocrWaiter) * waiters_needed(), &found);
	dsocr_cache_shmem_init(&locks[2].lock);
	if (!found_shared)
		shared_init();
	LWLockRelease(AddinShmemInitLock);
}

void
dsocr_shmem_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

void
dsocr_require_preload(void)
{
	if (dsocr_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("dsocr must be loaded via shared_preload_libraries"),
				 errhint("Add the line \"shared_preload_libraries = 'dsocr'\" to postgresql.conf "
						 "(or append dsocr to the list that is there) and restart the server.")));
}
