/*-------------------------------------------------------------------------
 *
 * test_device.c
 *		From the name of a device to a backend, without a GPU.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "device.h"

static int n_lines;
static char last[512];

static void
take_line(const char *message)
{
	n_lines++;
	snprintf(last, sizeof(last), "%s", message);
}

static DsocrBackend *
open_device(const char *device, DsocrError *err)
{
	DsocrBackendOptions o = {.device = device, .threads = 1, .log = take_line};

	n_lines = 0;
	last[0] = '\0';
	*err = (DsocrError){0};
	return dsocr_device_open(&o, err);
}

static void
test_cpu(void **state)
{
	static const char *const names[] = {"cpu", "", NULL};

	for (int i = 0; i < 3; i++)
	{
		DsocrError err;
		DsocrBackend *be = open_device(names[i], &err);

		assert_non_null(be);
		assert_string_equal(be->ops->name, "cpu");
		assert_int_equal(n_lines, 0);
		be->ops->close(be);
	}
}

static void
test_unknown(void **state)
{
	static const char *const names[] = {"gpu", "cud", "cuda1", "CPU", "auto:0", "cpu:0"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		DsocrError err;

		assert_null(open_device(names[i], &err));
		assert_int_equal(err.code, DSOCR_E_DEVICE);
		assert_non_null(strstr(err.message, names[i]));
		assert_non_null(strstr(err.hint, "auto"));
	}
}

static void
expect_reason(const char *text)
{
	DsocrError err;
	DsocrBackend *be;

	assert_null(open_device("cuda:0", &err));
	assert_int_equal(err.code, DSOCR_E_DEVICE);
	if (strstr(err.message, text) == NULL)
		fail_msg("\"%s\" says nothing of \"%s\"", err.message, text);
	assert_int_not_equal(err.hint[0], '\0');
	/* "auto" does without, and says so in one line */
	be = open_device("auto", &err);
	assert_non_null(be);
	assert_string_equal(be->ops->name, "cpu");
	assert_int_equal(n_lines, 1);
	assert_non_null(strstr(last, text));
	be->ops->close(be);
}

static void
test_no_library(void **state)
{
	setenv("DSOCR_CUDA_LIBRARY", "/nonexistent/dsocr_cuda.so", 1);
	expect_reason("could not load");
	setenv("DSOCR_CUDA_LIBRARY", "/etc/passwd", 1);
	expect_reason("could not load");
}

/* A library of somebody else's. */
static void
test_foreign_library(void **state)
{
	setenv("DSOCR_CUDA_LIBRARY", "libm.so.6", 1);
	expect_reason("not of this build");
}

typedef struct Lines
{
	int n;
	char text[8][300];
} Lines;

static void
add_line(void *arg, const char *device, const char *what)
{
	Lines *l = arg;

	assert_true(l->n < 8);
	snprintf(l->text[l->n++], sizeof(l->text[0]), "%s: %s", device, what);
}

static void
test_list(void **state)
{
	Lines l = {0};

	setenv("DSOCR_CUDA_LIBRARY", "/nonexistent/dsocr_cuda.so", 1);
	dsocr_device_list(add_line, &l);
	assert_int_equal(l.n, 2);
	assert_true(strncmp(l.text[0], "cpu: cpu (", 10) == 0);
	assert_true(strncmp(l.text[1], "cuda: could not load", 20) == 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpu),		   cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_no_library), cmocka_unit_test(test_foreign_library),
		cmocka_unit_test(test_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
