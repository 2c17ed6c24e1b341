/*-------------------------------------------------------------------------
 *
 * test_synth.c
 *		Weights from the formula against values of the reference data.
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

#include "sha256.h"
#include "synth.h"

static char path[] = "/tmp/dsocr_synth_XXXXXX";

static const char sound[] =
	"[{\"name\":\"model.image_newline\",\"shape\":[1280],\"offset\":0,\"m\":222,\"e\":7,"
	"\"row_scale\":false},"
	"{\"name\":\"lm_head.weight\",\"shape\":[129280,1280],\"offset\":0,\"m\":198,\"e\":12,"
	"\"row_scale\":true}]";

static bool
read_text(const char *text, DsocrSynthSpec *spec, DsocrError *err)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	return dsocr_synth_read(path, spec, err);
}

static void
test_reference_values(void **state)
{
	static const uint16_t newline[16] = {0xbfc4, 0xbf5e, 0x3f84, 0x3fd8, 0xbf49, 0xbe3b,
										 0x3e0c, 0xbde5, 0x3ede, 0x3f81, 0xbe7c, 0xbfa7,
										 0xbdbd, 0xbfab, 0x3e90, 0x3f32};
	static const uint16_t head[16] = {0x3d55, 0xbcf6, 0xbcbb, 0x3d82, 0x3d3d, 0xbd74,
									  0x3c2d, 0x3c03, 0x3b8b, 0x3ce7, 0x3c31, 0x3cdf,
									  0xbd45, 0x3a32, 0x3d21, 0x3c91};
	DsocrSynthSpec spec;
	DsocrError err = {0};
	uint16_t values[1280];
	const DsocrSynthTensor *t;
	char hex[65];

	if (!read_text(sound, &spec, &err))
		fail_msg("%s", err.message);
	assert_int_equal(spec.n, 2);
	assert_int_equal(spec.bytes, 2 * (1280 + 129280 * 1280));
	t = dsocr_synth_find(&spec, "model.image_newline");
	assert_non_null(t);
	assert_true(dsocr_synth_hash_name(t->name) == UINT64_C(0x21117d42f60cc5de));
	dsocr_synth_fill(t, 4, 0, 1280, values);
	assert_memory_equal(values, newline, sizeof(newline));
	dsocr_sha256_hex(values, sizeof(values), hex);
	assert_string_equal(hex, "9523b92e16ff5095194401a2f747fdc31b7b1455e34c5ec0c8bccd8c28092569");
	dsocr_synth_fill(t, 5, 0, 1280, values);
	assert_memory_not_equal(values, newline, sizeof(newline));

	t = dsocr_synth_find(&spec, "lm_head.weight");
	assert_non_null(t);
	dsocr_synth_fill(t, 4, 0, 16, values);
	assert_memory_equal(values, head, sizeof(head));
	dsocr_synth_fill(t, 4, t->count - 1, 1, values);
	assert_int_equal(values[0], 0xbb25);
	assert_null(dsocr_synth_find(&spec, "nope"));
	dsocr_synth_free(&spec);
}

/* A value depends on its place alone, not on where a run begins. */
static void
test_runs(void **state)
{
	enum
	{
		n = 10000
	};
	DsocrSynthSpec spec;
	DsocrError err = {0};
	uint16_t *whole = malloc(n * sizeof(*whole));
	uint16_t *parts = malloc(n * sizeof(*parts));
	int rows_differ = 0;

	assert_non_null(whole);
	assert_non_null(parts);
	assert_true(read_text(sound, &spec, &err));
	dsocr_synth_fill(&spec.tensors[1], 9, 5000, n, whole);
	for (int64_t from = 0, step = 1; from < n; from += step, step = step % 997 + 13)
		dsocr_synth_fill(&spec.tensors[1], 9, 5000 + from, step < n - from ? step : n - from,
						 parts + from);
	assert_memory_equal(whole, parts, n * sizeof(*whole));

	/* without row_scale some rows, not all, are other values */
	spec.tensors[1].row_scale = false;
	dsocr_synth_fill(&spec.tensors[1], 9, 5000, n, parts);
	for (int i = 0; i + 1280 < n; i += 1280)
		rows_differ += memcmp(whole + i, parts + i, 2) != 0;
	assert_in_range(rows_differ, 1, 6);
	free(whole);
	free(parts);
	dsocr_synth_free(&spec);
}

static void
test_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"{}",
		"[]",
		"[1]",
		"[{\"shape\":[1],\"m\":1,\"e\":1}]",
		"[{\"name\":\"a\",\"m\":1,\"e\":1}]",
		"[{\"name\":\"a\",\"shape\":[1],\"e\":1}]",
		"[{\"name\":\"a\",\"shape\":[1],\"m\":1,\"e\":1.5}]",
		"[{\"name\":\"a\",\"shape\":[1],\"m\":1,\"e\":1000}]",
		"[{\"name\":\"a\",\"shape\":[0],\"m\":1,\"e\":1}]",
		"[{\"name\":\"a\",\"shape\":[-1],\"m\":1,\"e\":1}]",
		"[{\"name\":\"a\",\"shape\":[1,1,1,1,1],\"m\":1,\"e\":1}]",
		"[{\"name\":\"a\",\"shape\":[4294967296,4294967296],\"m\":1,\"e\":1}]",
		"[{\"name\":\"a\",\"shape\":[1099511627777],\"m\":1,\"e\":1}]",
	};
	DsocrSynthSpec spec;
	DsocrError err = {0};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		if (read_text(texts[i], &spec, &err))
			fail_msg("%s accepted", texts[i]);
		assert_int_equal(err.code, DSOCR_E_ARGUMENT);
	}
	assert_false(dsocr_synth_read("/nonexistent/tensors.json", &spec, &err));
	assert_int_equal(err.code, DSOCR_E_IO);
}

static int
set_up(void **state)
{
	int fd = mkstemp(path);

	return fd >= 0 ? close(fd) : -1;
}

static int
tear_down(void **state)
{
	return unlink(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference_values),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
