/*-------------------------------------------------------------------------
 *
 * process.c
 *		A process of the model: a backend that asks, or a worker that answers.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"
#include "server.h"

#include "dispatch.h"
#include "own_slots.h"
#include "queue.h"

#include "miscadmin.h"
#include "storage/latch.h"

#define MOST_OWN 3
#define MOST_IN_FLIGHT 4

/* ---- a backend ---- */

typedef struct Asked
{
	DsocrHandle handle;
	uint64 token; /* what the answer must bring back */
} Asked;

static Asked asked[MOST_OWN];
static int n_asked;
static uint64 next_token;

static void
forget(int i)
{
	asked[i] = asked[--n_asked];
}

static void
ask(bool wait)
{
	uint64 token = ((uint64) MyProc->pgprocno << 48) | ++next_token;
	DsocrRequest request = {.kind = DSOCR_READ,
							.priority = model_random(2) ? DSOCR_BULK : DSOCR_INTERACTIVE,
							.image = (const uint8_t *) &token,
							.image_len = sizeof(token),
							.room = 2 * sizeof(token)};
	DsocrHandle h;

	if (wait)
	{
		h = dsocr_queue_submit(&request);
		model_came(MyLatch, "a slot");
	}
	else if (!dsocr_queue_try_submit(&request, &h))
		return;
	asked[n_asked++] = (Asked){.handle = h, .token = token};
}

static void
take_answer(int i)
{
	DsocrError status = {0};
	DsocrResult result;
	char model[64];
	uint64 token;

	dsocr_queue_fetch(asked[i].handle, &status, &result, model);
	token = ((uint64) (uint32) result.image_tokens << 32) | (uint32) result.text_tokens;
	if (status.code == DSOCR_OK && token != asked[i].token)
		model_fail("the answer of another request");
	if (status.code != DSOCR_OK && status.code != DSOCR_E_IMAGE &&
		status.code != DSOCR_E_ENGINE_LOST)
		model_fail("an answer with error %d: %s", status.code, status.message);
	forget(i);
}

static void
wait_for_answer(void)
{
	DsocrHandle handles[MOST_OWN];
	int i;

	for (i = 0; i < n_asked; i++)
		handles[i] = asked[i].handle;
	i = dsocr_queue_wait_any(handles, n_asked);
	model_came(MyLatch, "an answer");
	take_answer(i);
}

/* It dies, in order or by SIGKILL, and another one takes its place. */
static void
die(int number)
{
	if (model_random(2))
		server_end_process();
	else
	{
		memset(dsocr_own_slots, 0, sizeof(DsocrOwnSlot) * dsocr_shared->n_slots);
		dsocr_own_count = 0;
		dsocr_own_in_line = dsocr_own_stands = false;
	}
	n_asked = 0;
	server_in_transaction = false;
	server_begin_process(number);
}

static void
end_transaction(void)
{
	if (server_in_transaction)
	{
		server_end_transaction(model_random(2) == 0);
		/* those from outside of it live on */
		for (int i = n_asked - 1; i >= 0; i--)
		{
			if (!dsocr_queue_holds(asked[i].handle))
				forget(i);
		}
	}
	server_in_transaction = !server_in_transaction;
}

static void
run_backend(int number)
{
	server_begin_process(number);
	while (model_count())
	{
		unsigned what = model_random(100);

		if (n_asked == 0)
			ask(true);
		else if (what < 30 && n_asked < MOST_OWN)
			ask(false);
		else if (what < 75)
			wait_for_answer();
		else if (what < 85)
		{
			int i = (int) model_random((unsigned) n_asked);

			if (dsocr_queue_poll(asked[i].handle) && model_random(2))
				take_answer(i);
			else
			{
				dsocr_queue_cancel(asked[i].handle);
				forget(i);
			}
		}
		else if (what < 98)
			end_transaction();
		else
			die(number);
	}
	if (dsocr_own_slots != NULL)
		server_end_process();
}

/* ---- a worker ---- */

static DsocrHandle in_flight[MOST_IN_FLIGHT];
static uint64 tokens[MOST_IN_FLIGHT];
static int n_in_flight;
static DsocrHandle old; /* that has ended here */

static void
let_go(int i, int device)
{
	model_let_go(in_flight[i].slot, in_flight[i].generation, device);
}

static void
drop(int i)
{
	n_in_flight--;
	in_flight[i] = in_flight[n_in_flight];
	tokens[i] = tokens[n_in_flight];
}

static bool
take(int device)
{
	DsocrWork work;

	if (n_in_flight == MOST_IN_FLIGHT || !dsocr_dispatch_take(device, n_in_flight, &work))
		return false;
	model_came(MyLatch, "work");
	model_take(work.handle.slot, work.handle.generation, device);
	in_flight[n_in_flight] = work.handle;
	memcpy(&tokens[n_in_flight], work.request.image, sizeof(uint64));
	n_in_flight++;
	dsm_detach(work.payload);
	dsocr_dispatch_sent(work.handle);
	return true;
}

/* Nobody wants it any more. */
static void
give_up(int i, int device)
{
	let_go(i, device);
	dsocr_dispatch_drop(in_flight[i]);
	old = in_flight[i];
	drop(i);
}

/* A step for one of the requests in the engine. */
static void
work_on(int i, int device)
{
	DsocrHandle h = in_flight[i];
	unsigned what = model_random(10);

	if (!dsocr_dispatch_wanted(h) && what < 8)
		give_up(i, device);
	else if (what < 3)
	{
		DsocrProgress progress = {.id = 1, .views = 1};

		dsocr_dispatch_progress(h, &progress);
	}
	else if (what < 4)
	{
		let_go(i, device);
		dsocr_dispatch_return(h, model_random(2));
		drop(i);
	}
	else
	{
		DsocrError status = {.code = what < 5 ? DSOCR_E_IMAGE : DSOCR_OK};
		DsocrResult result = {0};
		uint64 body[2] = {tokens[i], (uint64) status.code};

		let_go(i, device);
		dsocr_dispatch_finish(h, body, sizeof(body), &status, &result, "model");
		old = h;
		drop(i);
	}
}

/* The engine speaks of something that has ended: nobody is hurt. */
static void
speak_late(void)
{
	DsocrProgress progress = {.id = 2, .views = 2};

	if (dsocr_dispatch_wanted(old))
		model_fail("a request that has ended is wanted");
	dsocr_dispatch_progress(old, &progress);
	dsocr_dispatch_drop(old);
	dsocr_dispatch_return(old, true);
}

/* The engine is busy.  Who gives up a request wakes the worker, which tells the engine. */
static void
wait_for_engine(int device)
{
	long ms =
		model_random(20) == 0 ? 50 : 1; /* now and then until nobody else has anything to do */

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, 0);
	ResetLatch(MyLatch);
	for (int i = n_in_flight - 1; i >= 0; i--)
	{
		if (dsocr_dispatch_wanted(in_flight[i]))
			continue;
		model_came(MyLatch, "a cancellation");
		give_up(i, device);
	}
	/* what had to wait for room in the engine is taken without a call */
	model_heard(MyLatch);
}

/* The engine dies, or the worker, with or without a chance to clean up. */
static void
die_working(int number, int device)
{
	for (int i = 0; i < n_in_flight; i++)
		let_go(i, device);
	n_in_flight = 0;
	if (model_random(2))
		dsocr_dispatch_detach(device, model_random(2));
	server_begin_process(number);
	dsocr_dispatch_attach(device);
}

static void
run_worker(int number)
{
	int device = number - MODEL_BACKENDS;

	server_begin_process(number);
	dsocr_dispatch_attach(device);
	while (!model_all_done())
	{
		(void) model_count();
		while (take(device))
			;
		if (model_random(50) == 0)
			speak_late();
		if (n_in_flight > 0 && model_random(8) == 0)
			wait_for_engine(device);
		else if (n_in_flight > 0)
			work_on((int) model_random((unsigned) n_in_flight), device);
		else
		{
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1000, 0);
			ResetLatch(MyLatch);
			dsocr_dispatch_sweep();
		}
		if (model_random(500) == 0)
			die_working(number, device);
		if (model_random(200) == 0)
			dsocr_dispatch_sweep();
	}
	while (n_in_flight > 0)
		work_on(0, device);
	dsocr_dispatch_detach(device, false);
	dsocr_dispatch_sweep();
}

void model_process(const Model *model, int number);

void
model_process(const Model *model, int number)
{
	server_open(model, number);
	if (number < MODEL_BACKENDS)
		run_backend(number);
	else
		run_worker(number);
}
