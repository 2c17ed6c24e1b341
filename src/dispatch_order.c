/*-------------------------------------------------------------------------
 *
 * dispatch_order.c
 *		Which request a device serves next.
 *
 * Interactive requests go before bulk, but for each fourth pick; among them
 * the role whose turn it is, and of one role the oldest.  Requests on which an
 * engine has died wait for an engine that has nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "dispatch_steps.h"
#include "roles.h"

#include "utils/timestamp.h"

/* Of so many picks, one goes to the request whose turn it is whatever its class. */
#define FAIR_PICK 4

/* A suspect that waited so long lets the engines run empty. */
#define SUSPECT_PATIENCE_MS 10000

static uint64 picks = 0;

/* Is a to be served before b? */
static bool
goes_before(const DsocrSlot *a, const DsocrSlot *b, bool fair)
{
	double start_a;
	double start_b;

	if (b == NULL)
		return true;
	if (!fair && a->request.priority != b->request.priority)
		return a->request.priority < b->request.priority;
	start_a = dsocr_role_start(a);
	start_b = dsocr_role_start(b);
	if (start_a != start_b)
		return start_a < start_b;
	return a->sequence < b->sequence;
}

DsocrSlot *
dsocr_dispatch_next(int device, int in_flight)
{
	bool of_pages = dsocr_shared->devices[device].of_pages;
	DsocrSlot *suspect = NULL;
	DsocrSlot *next = NULL;
	bool fair = picks % FAIR_PICK == FAIR_PICK - 1;

	for (int i = 0; i < dsocr_shared->n_slots; i++)
	{
		DsocrSlot *slot = &dsocr_slots[i];

		if (slot->state != DSOCR_SLOT_QUEUED ||
			dsocr_kind_is_of_pages(slot->request.kind) != of_pages)
			continue;
		if (slot->attempts > 0 && !of_pages)
		{
			if (goes_before(slot, suspect, true))
				suspect = slot;
		}
		else if (goes_before(slot, next, fair))
			next = slot;
	}
	if (suspect != NULL && in_flight == 0)
		next = suspect;
	else if (suspect != NULL && TimestampDifferenceExceeds(suspect->returned, GetCurrentTimestamp(),
														   SUSPECT_PATIENCE_MS))
		next = NULL; /* it has waited long enough for an engine without work */
	if (next != NULL)
		picks++;
	return next;
}
