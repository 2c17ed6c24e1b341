/*-------------------------------------------------------------------------
 *
 * test_memory.c
 *		The engine when memory runs out, at every single allocation.
 *
 * The linker puts wrap_* in front of the engine's allocator (see test.mk);
 * the n-th call fails, or all from it on.  Opening must then fail with a named error, a request
 * must fail alone, and nothing may be lost: leaks show under the address
 * sanitizer, key/value pages are counted here.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <png.h>

#include "engine.h"

#define SIDE 128
#define MAX_STEPS 1000 /* far more than a request needs */

extern void *__real_dsocr_alloc(size_t count, size_t size, DsocrError *err);
extern void *__real_dsocr_zalloc(size_t count, size_t size, DsocrError *err);
extern char *__real_dsocr_strdup(const char *s, DsocrError *err);
extern void *__wrap_dsocr_alloc(size_t count, size_t size, DsocrError *err);
extern void *__wrap_dsocr_zalloc(size_t count, size_t size, DsocrError *err);
extern char *__wrap_dsocr_strdup(const char *s, DsocrError *err);

static long calls;		  /* since it was set to 0; images are decoded on threads */
static long failing = -1; /* this call fails; -1: none */
static bool for_good;	  /* and all that follow */

static bool
fails(DsocrError *err)
{
	long call = __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);

	if (failing < 0 || (for_good ? call < failing : call != failing))
		return false;
	dsocr_fail(err, DSOCR_E_MEMORY, "out of memory (call %ld of a test)", failing);
	return true;
}

void *
__wrap_dsocr_alloc(size_t count, size_t size, DsocrError *err)
{
	return fails(err) ? NULL : __real_dsocr_alloc(count, size, err);
}

void *
__wrap_dsocr_zalloc(size_t count, size_t size, DsocrError *err)
{
	return fails(err) ? NULL : __real_dsocr_zalloc(count, size, err);
}

char *
__wrap_dsocr_strdup(const char *s, DsocrError *err)
{
	return fails(err) ? NULL : __real_dsocr_strdup(s, err);
}

static DsocrEngine *
open_engine(DsocrError *err)
{
	const char *model = getenv("DSOCR_TEST_MODEL");
	DsocrEngineOptions o = {.model = model != NULL ? model : "models/nano",
							.backend = {.threads = 1},
							.max_sequences = 2,
							.kv_bytes = (size_t) 8 << 20};

	return dsocr_engine_open(&o, err);
}

static void
test_open(void **state)
{
	DsocrError err = {0};
	DsocrEngine *e;
	long n;

	calls = 0;
	e = open_engine(&err);
	assert_non_null(e);
	n = calls;
	dsocr_engine_close(e);
	assert_true(n > 100);
	for (failing = 0; failing < n; failing++)
	{
		calls = 0;
		memset(&err, 0, sizeof(err));
		assert_null(open_engine(&err));
		assert_int_equal(err.code, DSOCR_E_MEMORY);
	}
	failing = -1;
}

static void
on_done(void *arg, uint64_t id, const DsocrResult *result, const DsocrError *error)
{
	DsocrError *last = arg;

	*last = *error;
	assert_true((result != NULL) == (error->code == DSOCR_OK));
}

/* One request; what became of it. */
static DsocrCode
read_page(DsocrEngine *e, const uint8_t *image, size_t len)
{
	DsocrError last = {.code = DSOCR_E_INTERNAL};
	const DsocrEvents events = {.done = on_done, .arg = &last};
	DsocrRequest r = {.task = DSOCR_TASK_TEXT,
					  .mode = DSOCR_MODE_CUSTOM,
					  .spec = {.base_size = SIDE, .image_size = SIDE},
					  .max_tokens = 3,
					  .ngram_size = 1,
					  .image = image,
					  .image_len = len};
	DsocrError err = {0};
	int total;
	int left;

	if (!dsocr_engine_admit(e, &r, &err))
		last = err;
	else
		for (int i = 0; dsocr_engine_step(e, &events, &err); i++)
			assert_true(i < MAX_STEPS);
	left = dsocr_engine_free_pages(e, &total);
	assert_int_equal(left, total);
	assert_int_equal(dsocr_engine_pending(e), 0);
	return last.code;
}

/* With a new engine each time, so that buffers made once are part of it. */
static void
test_request(void **state)
{
	uint8_t gray[SIDE * SIDE];
	png_image head = {
		.version = PNG_IMAGE_VERSION, .width = SIDE, .height = SIDE, .format = PNG_FORMAT_GRAY};
	uint8_t image[2 * SIDE * SIDE];
	png_alloc_size_t len = sizeof(image);
	DsocrEngine *e = open_engine(NULL);
	int refused = 0;
	long n;

	for (size_t i = 0; i < sizeof(gray); i++)
		gray[i] = i / 7 % 3 ? 255 : 0;
	assert_true(png_image_write_to_memory(&head, image, &len, 0, gray, SIDE, NULL));
	assert_non_null(e);
	calls = 0;
	assert_int_equal(read_page(e, image, len), DSOCR_OK);
	n = calls;
	dsocr_engine_close(e);
	assert_true(n > 20);
	for (long i = 0; i < n; i++)
	{
		DsocrCode code;

		e = open_engine(NULL);
		assert_non_null(e);
		calls = 0;
		failing = i;
		code = read_page(e, image, len);
		failing = -1;
		assert_true(code == DSOCR_E_MEMORY || code == DSOCR_OK);
		refused += code == DSOCR_E_MEMORY;
		assert_int_equal(read_page(e, image, len), DSOCR_OK);
		/* memory that does not come back */
		dsocr_engine_close(e);
		e = open_engine(NULL);
		assert_non_null(e);
		calls = 0;
		failing = i;
		for_good = true;
		assert_int_equal(read_page(e, image, len), DSOCR_E_MEMORY);
		failing = -1;
		for_good = false;
		assert_int_equal(read_page(e, image, len), DSOCR_OK);
		dsocr_engine_close(e);
	}
	assert_true(refused >= n - 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
