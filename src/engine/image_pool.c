/*-------------------------------------------------------------------------
 *
 * image_pool.c
 *		Threads that turn encoded images into views, beside the model.
 *
 * One lock guards the queue and the states of all tasks; what a running task
 * works on is its thread's alone.  A task that is dropped while it runs stops
 * at its next poll and is freed by its thread.
 *
 *-------------------------------------------------------------------------
 */
#include "image_pool.h"

#include "page_look.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define TASKS_A_THREAD 2 /* one at work, one that follows at once */

typedef enum TaskState
{
	TASK_QUEUED,
	TASK_RUNNING,
	TASK_DONE
} TaskState;

struct DsocrImageTask
{
	DsocrImageTask *next; /* in the queue */
	DsocrImagePool *pool;
	TaskState state;
	atomic_bool dropped; /* nobody waits for it */
	uint8_t *bytes;
	size_t len;
	DsocrImageWork work;

	/* when done */
	bool ok;
	DsocrImageOutcome outcome;
	DsocrError err;
};

struct DsocrImagePool
{
	pthread_mutex_t lock;
	pthread_cond_t work; /* the queue has a task, or closing */
	pthread_cond_t news; /* a task got done */
	DsocrImageTask *first;
	DsocrImageTask **last;
	int unfinished; /* queued and running */
	bool finished;	/* some task, since the last wait */
	atomic_bool closing;
	int started;
	int n;
	pthread_t *threads; /* [n] */
};

/* ---- a task ---- */

static bool
task_go_on(void *arg)
{
	DsocrImageTask *task = arg;

	return !atomic_load(&task->dropped) && !atomic_load(&task->pool->closing);
}

/* Upright and level, and planned for the size that it has then. */
static bool
make_upright(DsocrImageTask *task, DsocrImage *image, const DsocrPoll *poll)
{
	DsocrOrientation *o = &task->outcome.orientation;
	DsocrPlan *plan = &task->outcome.plan;

	if (!task->work.orient)
		return true;
	if (!dsocr_orient_detect(image, poll, o, &task->err))
		return false;
	if (o->rotation == 0 && o->skew == 0)
		return true;
	return dsocr_orient_apply(image, o, poll, &task->err) &&
		   dsocr_plan(image->width, image->height, &task->work.plan.spec, plan, &task->err);
}

/* The mode that suits the page, and its plan. */
static bool
choose_mode(DsocrImageTask *task, const DsocrImage *image)
{
	DsocrImageOutcome *outcome = &task->outcome;
	DsocrPageLook look;
	DsocrViewSpec spec;

	outcome->mode = task->work.mode;
	if (task->work.modes == 0)
		return true;
	if (!dsocr_page_look(image, &look, &task->err))
		return false;
	outcome->mode =
		dsocr_mode_choose(&look, image->width, image->height, task->work.modes, task->work.mode);
	spec = dsocr_mode_spec(outcome->mode);
	return dsocr_plan(image->width, image->height, &spec, &outcome->plan, &task->err);
}

static void
task_run(DsocrImageTask *task)
{
	const DsocrImageWork *work = &task->work;
	DsocrPoll poll = {.go_on = task_go_on, .arg = task};
	DsocrImage image = {0};
	int64_t start = dsocr_now_us();
	bool ok = dsocr_image_decode_page(task->bytes, task->len, work->page, work->max_pixels, &poll,
									  &image, &task->err);

	if (ok && (image.width != work->width || image.height != work->height))
		ok = dsocr_fail(&task->err, DSOCR_E_IMAGE, "image is %d x %d, its header says %d x %d",
						image.width, image.height, work->width, work->height);
	task->outcome.plan = work->plan;
	ok = ok && make_upright(task, &image, &poll) && choose_mode(task, &image);
	task->outcome.width = image.width;
	task->outcome.height = image.height;
	task->ok =
		ok && dsocr_views_make(&image, &task->outcome.plan, &task->outcome.views, &task->err);
	dsocr_image_free(&image);
	dsocr_free(task->bytes);
	task->bytes = NULL;
	task->outcome.spent = dsocr_now_us() - start;
}

static void
task_free(DsocrImageTask *task)
{
	dsocr_views_free(&task->outcome.views);
	dsocr_free(task->bytes);
	dsocr_free(task);
}

bool
dsocr_image_task_done(DsocrImageTask *task)
{
	bool done;

	pthread_mutex_lock(&task->pool->lock);
	done = task->state == TASK_DONE;
	pthread_mutex_unlock(&task->pool->lock);
	return done;
}

bool
dsocr_image_task_take(DsocrImageTask *task, DsocrImageOutcome *outcome, DsocrError *err)
{
	bool ok = task->ok;

	*outcome = task->outcome;
	task->outcome.views.n = 0;
	if (!ok && err != NULL)
		*err = task->err;
	task_free(task);
	return ok;
}

/* Take a task out of the queue. */
static void
pool_unlink(DsocrImagePool *pool, DsocrImageTask *task)
{
	DsocrImageTask **at = &pool->first;

	while (*at != task)
		at = &(*at)->next;
	*at = task->next;
	if (pool->last == &task->next)
		pool->last = at;
}

void
dsocr_image_task_drop(DsocrImageTask *task)
{
	DsocrImagePool *pool = task->pool;
	bool running;

	pthread_mutex_lock(&pool->lock);
	running = task->state == TASK_RUNNING;
	if (running)
		atomic_store(&task->dropped, true);
	else if (task->state == TASK_QUEUED)
	{
		pool_unlink(pool, task);
		pool->unfinished--;
	}
	pthread_mutex_unlock(&pool->lock);
	if (!running)
		task_free(task);
}

/* ---- the pool ---- */

static void *
pool_thread(void *arg)
{
	DsocrImagePool *pool = arg;

	pthread_mutex_lock(&pool->lock);
	for (;;)
	{
		DsocrImageTask *task;

		while (pool->first == NULL && !atomic_load(&pool->closing))
			pthread_cond_wait(&pool->work, &pool->lock);
		if (atomic_load(&pool->closing))
			break;
		task = pool->first;
		pool_unlink(pool, task);
		task->state = TASK_RUNNING;
		pthread_mutex_unlock(&pool->lock);

		task_run(task);

		pthread_mutex_lock(&pool->lock);
		task->state = TASK_DONE;
		pool->unfinished--;
		pool->finished = true;
		if (atomic_load(&task->dropped))
			task_free(task);
		pthread_cond_signal(&pool->news);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static void
pool_init(DsocrImagePool *pool)
{
	pthread_condattr_t monotonic;

	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->news, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pool->last = &pool->first;
}

DsocrImagePool *
dsocr_image_pool_open(int threads, DsocrError *err)
{
	DsocrImagePool *pool = dsocr_zalloc(1, sizeof(*pool), err);
	sigset_t all;
	sigset_t before;

	if (pool == NULL)
		return NULL;
	(void) dsocr_orient_init();
	pool_init(pool);
	pool->n = threads;
	pool->threads = dsocr_alloc((size_t) threads, sizeof(*pool->threads), err);
	if (pool->threads == NULL)
	{
		dsocr_image_pool_close(pool);
		return NULL;
	}
	/* signals are for the thread that drives the engine */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	while (pool->started < threads &&
		   pthread_create(&pool->threads[pool->started], NULL, pool_thread, pool) == 0)
		pool->started++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pool->started < threads)
	{
		dsocr_image_pool_close(pool);
		dsocr_fail(err, DSOCR_E_MEMORY, "could not start %d threads for images", threads);
		return NULL;
	}
	return pool;
}

void
dsocr_image_pool_close(DsocrImagePool *pool)
{
	if (pool == NULL)
		return;
	pthread_mutex_lock(&pool->lock);
	atomic_store(&pool->closing, true);
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (int i = 0; i < pool->started; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->work);
	pthread_cond_destroy(&pool->news);
	pthread_mutex_destroy(&pool->lock);
	dsocr_free(pool->threads);
	dsocr_free(pool);
}

bool
dsocr_image_pool_full(DsocrImagePool *pool)
{
	bool full;

	pthread_mutex_lock(&pool->lock);
	full = pool->unfinished >= TASKS_A_THREAD * pool->n;
	pthread_mutex_unlock(&pool->lock);
	return full;
}

DsocrImageTask *
dsocr_image_pool_submit(DsocrImagePool *pool, uint8_t *bytes, size_t len,
						const DsocrImageWork *work, DsocrError *err)
{
	DsocrImageTask *task = dsocr_zalloc(1, sizeof(*task), err);

	if (task == NULL)
		return NULL;
	task->pool = pool;
	task->bytes = bytes;
	task->len = len;
	task->work = *work;
	pthread_mutex_lock(&pool->lock);
	*pool->last = task;
	pool->last = &task->next;
	pool->unfinished++;
	pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	return task;
}

void
dsocr_image_pool_wait(DsocrImagePool *pool, int64_t microseconds)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += microseconds / 1000000;
	until.tv_nsec += microseconds % 1000000 * 1000;
	if (until.tv_nsec >= 1000000000)
	{
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&pool->lock);
	while (!pool->finished && pthread_cond_timedwait(&pool->news, &pool->lock, &until) == 0)
		;
	pool->finished = false;
	pthread_mutex_unlock(&pool->lock);
}
