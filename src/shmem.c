/*-------------------------------------------------------------------------
 *
 * shmem.c
 *		Requests shared memory and sets it up.
 *
 * The payload area is a DSA area created in place in main shared memory, so
 * that no process has to look for a handle; what does not fit there goes into
 * segments that come and go with the images.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "shmem.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Room in main shared memory for the area's bookkeeping and small payloads. */
#define PAYLOAD_IN_PLACE ((Size) 256 * 1024)

DsocrShared *dsocr_shared = NULL;
DsocrSlot *dsocr_slots = NULL;
DsocrWaiter *dsocr_waiters = NULL;
LWLock *dsocr_queue_lock = NULL;
LWLock *dsocr_stats_lock = NULL;

static void *payload_place = NULL;
static dsa_area *payload_area = NULL;

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
	size = add_size(size, PAYLOAD_IN_PLACE);
	RequestAddinShmemSpace(size);
	RequestNamedLWLockTranche("dsocr", 2);
}

/*
 * dsocr.queue_memory counts the bytes of payloads.  The area itself may grow
 * a quarter beyond that, because its segments are never full.
 */
static void
payload_create(void)
{
	dsa_area *area =
		dsa_create_in_place(payload_place, PAYLOAD_IN_PLACE, dsocr_queue_lock->tranche, NULL);

	dsa_pin(area);
	dsa_set_size_limit(area, dsocr_shared->memory_limit + dsocr_shared->memory_limit / 4 +
								 PAYLOAD_IN_PLACE);
	dsa_detach(area);
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
	payload_place = ShmemInitStruct("dsocr queue memory", PAYLOAD_IN_PLACE, &found);
	if (!found_shared)
	{
		shared_init();
		payload_create();
	}
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

dsa_area *
dsocr_payload_area(void)
{
	if (payload_area == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		payload_area = dsa_attach_in_place(payload_place, NULL);
		dsa_pin_mapping(payload_area);
		MemoryContextSwitchTo(old);
	}
	return payload_area;
}

void
dsocr_payload_detach(void)
{
	if (payload_area == NULL)
		return;
	dsa_detach(payload_area);
	payload_area = NULL;

	/* dsa_detach leaves the count of an area without segment to its user. */
	dsa_release_in_place(payload_place);
}
