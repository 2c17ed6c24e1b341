/*-------------------------------------------------------------------------
 *
 * queue_model.c
 *		The queue of requests under the thread sanitizer: queue_model LIBRARY OPERATIONS [SEED]
 *
 * Runs the processes of process.c.  Checked: nothing is touched without its
 * lock (by the sanitizer), no wake-up is lost, nobody has what another one
 * has, no answer goes astray, and in the end everything is as in the
 * beginning.
 *
 *-------------------------------------------------------------------------
 */
#include "primitives.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

/*
 * Now and then all who do not wait stand still for longer than that: whoever
 * should have been woken comes to himself, and is found.
 */
#define STILL_MS 300
#define STILL_EVERY 8000

static Model model;
static _Thread_local unsigned seed;
static unsigned first_seed;
static atomic_llong operations;
static long long wanted_operations;
static atomic_int backends_left = MODEL_BACKENDS;
static atomic_llong still_until;

void
model_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("queue_model, seed %u, after %lld operations: ", first_seed,
		   (long long) atomic_load(&operations));
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n0 passed, 1 failed\n");
	fflush(stdout);
	_exit(1);
}

static int64
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64CONST(1000) + now.tv_nsec / 1000000;
}

bool
model_count(void)
{
	long long n = atomic_fetch_add(&operations, 1);
	int64 left;

	if (n % STILL_EVERY == STILL_EVERY - 1)
		atomic_store(&still_until, now_ms() + STILL_MS);
	while ((left = atomic_load(&still_until) - now_ms()) > 0)
		usleep((useconds_t) left * 1000);
	return n < wanted_operations;
}

bool
model_all_done(void)
{
	return atomic_load(&backends_left) == 0;
}

unsigned
model_random(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 16) % n;
}

/* ---- answers ---- */

bool
dsocr_parse_result(const void *body, size_t len, DsocrError *status, DsocrResult *result,
				   DsocrError *err)
{
	uint64 parts[2];

	if (len != sizeof(parts))
		model_fail("an answer of %zu bytes", len);
	memcpy(parts, body, len);
	status->code = (DsocrCode) parts[1];
	result->image_tokens = (int32_t) (parts[0] >> 32);
	result->text_tokens = (int32_t) parts[0];
	return true;
}

/* No answers are kept here. */
uint64
dsocr_cache_model(const DsocrModelInfo *info)
{
	return 0;
}

bool
dsocr_cache_has(const DsocrCacheKey *key)
{
	return false;
}

void
dsocr_cache_put(const DsocrCacheKey *key, const void *body, Size len, const char *name)
{
}

void
dsocr_cache_note_model(int device, uint64 number)
{
}

/* ---- who works on what ---- */

static atomic_ullong taken[MODEL_SLOTS]; /* generation and worker + 1, or 0 */

void
model_take(int slot, uint64 generation, int worker)
{
	unsigned long long nobody = 0;

	if (!atomic_compare_exchange_strong(&taken[slot], &nobody,
										generation * 8 + (unsigned) worker + 1))
		model_fail("slot %d is with two workers", slot);
}

void
model_let_go(int slot, uint64 generation, int worker)
{
	if (atomic_exchange(&taken[slot], 0) != generation * 8 + (unsigned) worker + 1)
		model_fail("slot %d was with somebody else", slot);
}

/* ---- all of it ---- */

typedef struct Thread
{
	pthread_t id;
	int number;
	ModelProcess run;
} Thread;

static void *
run_thread(void *arg)
{
	Thread *t = arg;

	seed = first_seed * 31 + (unsigned) t->number * 7919;
	t->run(&model, t->number);
	if (t->number < MODEL_BACKENDS)
		atomic_fetch_sub(&backends_left, 1);
	return NULL;
}

/* A copy of the library, under a name of its own, has variables of its own. */
static ModelProcess
load_copy(const char *library, int number)
{
	char name[4096];
	char command[9000];
	void *handle;
	ModelProcess run;

	snprintf(name, sizeof(name), "%s.%d", library, number);
	snprintf(command, sizeof(command), "cp '%s' '%s'", library, name);
	handle = system(command) == 0 ? dlopen(name, RTLD_NOW | RTLD_LOCAL) : NULL;
	run = handle != NULL ? (ModelProcess) dlsym(handle, "model_process") : NULL;
	if (run == NULL)
		model_fail("%s cannot be loaded: %s", name, dlerror());
	unlink(name);
	return run;
}

static void
make_model(void)
{
	model.shared = calloc(1, sizeof(DsocrShared));
	model.slots = calloc(MODEL_SLOTS, sizeof(DsocrSlot));
	model.waiters = calloc(MODEL_PROCESSES, sizeof(DsocrWaiter));
	model.queue_lock = calloc(1, sizeof(LWLock));
	model.stats_lock = calloc(1, sizeof(LWLock));
	model.procs = calloc(1, sizeof(PROC_HDR));
	model.procs->allProcs = calloc(MODEL_PROCESSES, sizeof(PGPROC));
#ifndef MODEL_PROC_NUMBERS
	for (int i = 0; i < MODEL_PROCESSES; i++)
		model.procs->allProcs[i].pgprocno = i;
#endif
	model.shared->n_slots = model.shared->n_free = MODEL_SLOTS;
	model.shared->n_devices = MODEL_WORKERS;
	model.shared->n_waiters = MODEL_PROCESSES;
	/* less than all slots could use, so that memory is waited for, too */
	model.shared->memory_limit = (MODEL_SLOTS - 1) * 3 * sizeof(uint64);
	for (int i = 0; i < MODEL_SLOTS; i++)
		model.slots[i].generation = 1;
	for (int i = 0; i < MODEL_WORKERS; i++)
		model.shared->devices[i].state = DSOCR_DEVICE_READY;
}

static void
check_baseline(void)
{
	const DsocrShared *s = model.shared;

	if (s->n_free != MODEL_SLOTS || s->memory_used != 0 || s->n_waiting != 0 || s->n_documents != 0)
		model_fail("left behind: %d slots, %zu bytes, %d in line", MODEL_SLOTS - s->n_free,
				   s->memory_used, s->n_waiting);
	for (int i = 0; i < MODEL_SLOTS; i++)
	{
		if (model.slots[i].state != DSOCR_SLOT_FREE)
			model_fail("slot %d is left in state %d", i, model.slots[i].state);
	}
	if (primitives_segment_left() >= 0)
		model_fail("segment %d is left", primitives_segment_left());
}

int
main(int argc, char **argv)
{
	Thread threads[MODEL_PROCESSES];
	int64 answered = 0;

	if (argc < 3)
		model_fail("usage: queue_model LIBRARY OPERATIONS [SEED]");
	wanted_operations = atoll(argv[2]);
	first_seed = argc > 3 ? (unsigned) atoi(argv[3]) : 1;
	make_model();
	primitives_open(&model);
	for (int i = 0; i < MODEL_PROCESSES; i++)
		threads[i] = (Thread){.number = i, .run = load_copy(argv[1], i)};
	for (int i = 0; i < MODEL_PROCESSES; i++)
		pthread_create(&threads[i].id, NULL, run_thread, &threads[i]);
	for (int i = 0; i < MODEL_PROCESSES; i++)
		pthread_join(threads[i].id, NULL);
	check_baseline();
	for (int i = 0; i < MODEL_WORKERS; i++)
		answered += model.shared->stats[i].completed;
	printf("%lld operations, %lld answers, %lld waits of which %lld ran out\n1 passed, 0 failed\n",
		   (long long) atomic_load(&operations), (long long) answered, primitives_waits(),
		   primitives_expired_waits());
	return 0;
}
