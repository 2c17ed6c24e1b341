/*-------------------------------------------------------------------------
 *
 * test_quantize.c
 *		Matrices in 8 and 4 bits: making, reading, files that hold them.
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
#include <math.h>
#include <unistd.h>
#include <cmocka.h>

#include "../reference/fixture.h"
#include "model.h"

static char dir[64];

/* fp32 values as a matrix */
static DsocrTensor
tensor_of(const float *values, int rows, int cols)
{
	return (DsocrTensor){.name = "model.layers.0.mlp.up_proj.weight",
						 .dtype = DSOCR_F32,
						 .ndim = 2,
						 .shape = {rows, cols},
						 .count = (int64_t) rows * cols,
						 .data = values};
}

static DsocrTensor
quantized(const DsocrTensor *t, DsocrDtype dtype, int threads)
{
	DsocrTensor q = *t;
	DsocrError err = {0};
	void *bytes;

	q.dtype = dtype;
	bytes = dsocr_alloc(dsocr_tensor_bytes(&q), 1, NULL);
	assert_non_null(bytes);
	if (!dsocr_quantize_tensor(t, dtype, bytes, threads, &err))
		fail_msg("%s", err.message);
	q.data = bytes;
	return q;
}

/* ---- values ---- */

/* Errors of all values, in shapes that fill no panel and no group. */
static void
check_round_trip(DsocrDtype dtype, int rows, int cols, float scale)
{
	size_t n = (size_t) rows * (size_t) cols;
	size_t group = dtype == DSOCR_INT8 ? DSOCR_QUANT_GROUP_8 : DSOCR_QUANT_GROUP_4;
	float *values = fx_numbers(n, scale);
	float *row = fx_numbers((size_t) cols, 0);
	DsocrTensor t = tensor_of(values, rows, cols);
	DsocrTensor q = quantized(&t, dtype, 1);
	double error = 0;
	double square = 0;

	for (int r = 0; r < rows; r++)
	{
		dsocr_tensor_row(&q, r, row);
		for (size_t k = 0; k < (size_t) cols; k++)
		{
			const float *all = values + (size_t) r * (size_t) cols;
			size_t from = k / group * group;
			float top = 0;
			double d = (double) row[k] - all[k];

			for (size_t i = from; i < from + group && i < (size_t) cols; i++)
				top = fmaxf(top, fabsf(all[i]));
			assert_true(fabs(d) <= top * (dtype == DSOCR_INT8 ? 1.01 / 254 : 0.17));
			assert_true(dsocr_tensor_get(&q, (int64_t) ((size_t) r * (size_t) cols + k)) == row[k]);
			error += d * d;
			square += (double) all[k] * all[k];
		}
	}
	if (n > 1000)
		assert_true(sqrt(error / square) < (dtype == DSOCR_INT8 ? 0.006 : 0.08));
	dsocr_free((void *) q.data);
	dsocr_free(values);
	dsocr_free(row);
}

static void
test_round_trip(void **state)
{
	static const int shapes[][2] = {{1, 1},	  {1, 31},	{2, 32},   {3, 33},	  {15, 63},
									{16, 64}, {17, 65}, {33, 100}, {40, 320}, {70, 1280}};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		for (int four = 0; four < 2; four++)
		{
			check_round_trip(four ? DSOCR_INT4 : DSOCR_INT8, shapes[i][0], shapes[i][1], 0.02f);
			check_round_trip(four ? DSOCR_INT4 : DSOCR_INT8, shapes[i][0], shapes[i][1], 300);
			check_round_trip(four ? DSOCR_INT4 : DSOCR_INT8, shapes[i][0], shapes[i][1], 3e-5f);
		}
}

/* Zeros stay zeros; one value alone in its group stays nearly what it is. */
static void
test_sparse(void **state)
{
	float values[20 * 70] = {0};
	DsocrTensor t = tensor_of(values, 20, 70);

	for (int r = 1; r < 20; r++)
		values[r * 70 + r] = (r % 2 ? 1 : -1) * (float) r / 7;
	for (int four = 0; four < 2; four++)
	{
		DsocrTensor q = quantized(&t, four ? DSOCR_INT4 : DSOCR_INT8, 2);

		for (int r = 1; r < 20; r++)
		{
			float got = dsocr_tensor_get(&q, r * 70 + r);

			assert_true(fabsf(got / values[r * 70 + r] - 1) < (four ? 0.02f : 0x1p-10f));
			/* in 4 bits no level is 0 */
			assert_true(fabsf(dsocr_tensor_get(&q, r * 70 + r + 1)) <=
						(four ? 0.03f : 0) * (float) r);
			assert_true(dsocr_tensor_get(&q, r * 70 + 69) == 0 || r >= 32);
		}
		for (int k = 0; k < 70; k++)
			assert_true(dsocr_tensor_get(&q, k) == 0);
		dsocr_free((void *) q.data);
	}
}

static void
test_threads(void **state)
{
	enum
	{
		N = 300,
		K = 130
	};
	float *values = fx_numbers(N * K, 0.1f);
	DsocrTensor t = tensor_of(values, N, K);

	for (int four = 0; four < 2; four++)
	{
		DsocrTensor a = quantized(&t, four ? DSOCR_INT4 : DSOCR_INT8, 1);
		DsocrTensor b = quantized(&t, four ? DSOCR_INT4 : DSOCR_INT8, 5);

		assert_memory_equal(a.data, b.data, dsocr_tensor_bytes(&a));
		dsocr_free((void *) a.data);
		dsocr_free((void *) b.data);
	}
	dsocr_free(values);
}

static void
test_impossible_values(void **state)
{
	static const float bad[] = {NAN, INFINITY, -INFINITY, 1e6f};
	float values[5 * 40];
	char out[4096];

	for (int i = 0; i < 8; i++)
	{
		DsocrTensor t = tensor_of(values, 5, 40);
		DsocrError err = {0};

		for (int k = 0; k < 200; k++)
			values[k] = 1;
		values[3 * 40 + 37] = bad[i / 2];
		assert_false(dsocr_quantize_tensor(&t, i % 2 ? DSOCR_INT4 : DSOCR_INT8, out, 2, &err));
		assert_int_equal(err.code, DSOCR_E_MODEL);
		assert_non_null(strstr(err.message, "not finite"));
	}
}

/* ---- files ---- */

static void
write_file(const char *path, const char *json, size_t data_len)
{
	FILE *f = fopen(path, "wb");
	uint64_t len = strlen(json);

	assert_non_null(f);
	fwrite(&len, sizeof(len), 1, f);
	fwrite(json, 1, len, f);
	for (size_t i = 0; i < data_len; i++)
		fputc((int) (i * 7 % 251), f);
	assert_int_equal(fclose(f), 0);
}

/* A file with one tensor of that many bytes and this metadata. */
static DsocrWeights *
open_with(const char *metadata, size_t bytes, DsocrError *err)
{
	char path[128];
	char json[512];

	snprintf(path, sizeof(path), "%s/q.safetensors", dir);
	snprintf(json, sizeof(json),
			 "{\"__metadata__\":{%s},\"a\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":"
			 "[0,%zu]}}",
			 metadata, bytes, bytes);
	write_file(path, json, bytes);
	return dsocr_weights_open_file(path, err);
}

static void
test_file(void **state)
{
	/* 20 x 70: 2 panels of 2 groups (64 + 2 * 1024) or 3 groups (128 + 3 * 256) */
	static const struct
	{
		const char *text;
		DsocrDtype dtype;
		size_t bytes;
	} good[] = {{"int8 20 70", DSOCR_INT8, 2 * (64 + 2 * 1024)},
				{"int4 20 70", DSOCR_INT4, 2 * (128 + 3 * 256)}};

	for (int i = 0; i < 2; i++)
	{
		DsocrError err = {0};
		char metadata[128];
		DsocrWeights *w;
		const DsocrTensor *t;
		volatile float sum = 0;

		snprintf(metadata, sizeof(metadata), "\"dsocr.quantized\":\"1\",\"a\":\"%s\"",
				 good[i].text);
		w = open_with(metadata, good[i].bytes, &err);
		if (w == NULL)
			fail_msg("%s", err.message);
		t = dsocr_weights_find(w, "a");
		assert_int_equal(t->dtype, good[i].dtype);
		assert_int_equal(t->ndim, 2);
		assert_int_equal(t->shape[0], 20);
		assert_int_equal(t->shape[1], 70);
		assert_int_equal(t->count, 1400);
		assert_int_equal(dsocr_weights_bytes(w), good[i].bytes);
		for (int64_t k = 0; k < t->count; k++)
			sum += dsocr_tensor_get(t, k);
		dsocr_weights_close(w);
	}
}

static void
test_hostile_files(void **state)
{
	static const struct
	{
		const char *version;
		const char *text;
		size_t bytes;
		const char *reason;
	} bad[] = {{"1", "int8 20 70", 2 * (64 + 2 * 1024) - 1, "do not match"},
			   {"1", "int8 20 70", 2 * (64 + 2 * 1024) + 64, "do not match"},
			   {"1", "int4 20 70", 2 * (64 + 2 * 1024), "do not match"},
			   {"1", "int8 33 70", 2 * (64 + 2 * 1024), "do not match"},
			   {"1", "int8 20 129", 2 * (64 + 2 * 1024), "do not match"},
			   {"1", "int8 2147483647 2147483647", 100, "do not match"},
			   {"1", "int8 999999999999999999 1", 100, "does not describe"},
			   {"1", "int8 99999999999999999999999 1", 100, "does not describe"},
			   {"1", "int8 0 70", 100, "does not describe"},
			   {"1", "int8 -20 70", 100, "does not describe"},
			   {"1", "int8 20", 100, "does not describe"},
			   {"1", "int8 20 70 ", 100, "does not describe"},
			   {"1", "int5 20 70", 100, "does not describe"},
			   {"1", "", 100, "does not describe"},
			   {"2", "int8 20 70", 2 * (64 + 2 * 1024), "another version"},
			   {"", "int8 20 70", 2 * (64 + 2 * 1024), "another version"}};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		DsocrError err = {0};
		char metadata[128];
		DsocrWeights *w;

		snprintf(metadata, sizeof(metadata), "\"dsocr.quantized\":\"%s\",\"a\":\"%s\"",
				 bad[i].version, bad[i].text);
		w = open_with(metadata, bad[i].bytes, &err);
		if (w != NULL)
			fail_msg("accepted \"%s\"", bad[i].text);
		assert_int_equal(err.code, DSOCR_E_MODEL);
		if (strstr(err.message, bad[i].reason) == NULL)
			fail_msg("\"%s\" does not say \"%s\"", err.message, bad[i].reason);
	}
}

/* Metadata that means nothing to us changes nothing. */
static void
test_other_metadata(void **state)
{
	static const char *const metadata[] = {"\"format\":\"pt\",\"a\":\"int8 20 70\"",
										   "\"dsocr.quantized\":\"1\",\"b\":\"int8 20 70\""};

	for (int i = 0; i < 2; i++)
	{
		DsocrError err = {0};
		DsocrWeights *w = open_with(metadata[i], 100, &err);

		assert_non_null(w);
		assert_int_equal(dsocr_weights_find(w, "a")->dtype, DSOCR_U8);
		dsocr_weights_close(w);
	}
}

/* ---- models ---- */

static DsocrModel *
open_model(DsocrBackend *be, const char *path, DsocrError *err)
{
	return dsocr_model_open(be, path, NULL, 1, err);
}

/* What the program writes is what opening makes, to the last byte and the fingerprint. */
static void
check_folder(const char *model, DsocrDtype dtype)
{
	DsocrBackendOptions options = {.device = "cpu", .weights = dtype, .threads = 2};
	DsocrError err = {0};
	char out[128];
	char command[512];
	char made[33];
	char written[33];
	DsocrBackend *be[2];
	DsocrModel *m[2];
	int n = 0;

	snprintf(out, sizeof(out), "%s/%s", dir, dsocr_quant_name(dtype));
	snprintf(command, sizeof(command), "%s quantize %s %s --weights %s >/dev/null",
			 getenv("DSOCR_TEST_ENGINE") != NULL ? getenv("DSOCR_TEST_ENGINE") : "./dsocr-engine",
			 model, out, dsocr_quant_name(dtype));
	assert_int_equal(system(command), 0);

	be[0] = dsocr_cpu_open(&options, &err);
	options.weights = DSOCR_BF16;
	be[1] = dsocr_cpu_open(&options, &err);
	m[0] = open_model(be[0], model, &err);
	m[1] = open_model(be[1], out, &err);
	if (m[0] == NULL || m[1] == NULL)
		fail_msg("%s", err.message);
	assert_non_null(m[0]->quantized);
	assert_null(m[1]->quantized);
	assert_int_equal(dsocr_weights_bytes(m[0]->weights), dsocr_weights_bytes(m[1]->weights));
	for (int i = 0; i < dsocr_weights_count(m[0]->weights); i++)
	{
		const DsocrTensor *a = dsocr_weights_at(m[0]->weights, i);
		const DsocrTensor *b = dsocr_weights_find(m[1]->weights, a->name);

		assert_non_null(b);
		assert_true(dsocr_weights_find(m[0]->weights, a->name) == a);
		assert_int_equal(a->dtype, b->dtype);
		n += a->dtype == dtype;
		assert_memory_equal(a->data, b->data, dsocr_tensor_bytes(a));
	}
	assert_true(n > 10);
	assert_int_equal(dsocr_quantized_dtype(m[1]->weights), dtype);
	assert_true(dsocr_model_fingerprint(m[0], model, made, &err));
	assert_true(dsocr_model_fingerprint(m[1], out, written, &err));
	assert_string_equal(made, written);
	for (int i = 0; i < 2; i++)
	{
		dsocr_model_close(m[i]);
		be[i]->ops->close(be[i]);
	}

	/* asked for the other type, or to quantize again */
	options.weights = dtype == DSOCR_INT8 ? DSOCR_INT4 : DSOCR_INT8;
	be[0] = dsocr_cpu_open(&options, &err);
	assert_null(open_model(be[0], out, &err));
	assert_int_equal(err.code, DSOCR_E_MODEL);
	assert_non_null(strstr(err.message, dsocr_quant_name(dtype)));
	assert_true(err.hint[0] != '\0');
	be[0]->ops->close(be[0]);
	snprintf(command, sizeof(command), "%s quantize %s %s/again --weights int8 2>/dev/null",
			 getenv("DSOCR_TEST_ENGINE") != NULL ? getenv("DSOCR_TEST_ENGINE") : "./dsocr-engine",
			 out, dir);
	assert_int_not_equal(system(command), 0);
}

static void
test_folder(void **state)
{
	const char *model =
		getenv("DSOCR_TEST_MODEL") != NULL ? getenv("DSOCR_TEST_MODEL") : "models/nano";

	check_folder(model, DSOCR_INT8);
	check_folder(model, DSOCR_INT4);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),	   cmocka_unit_test(test_sparse),
		cmocka_unit_test(test_threads),		   cmocka_unit_test(test_impossible_values),
		cmocka_unit_test(test_file),		   cmocka_unit_test(test_hostile_files),
		cmocka_unit_test(test_other_metadata), cmocka_unit_test(test_folder)};
	char command[96];
	int failed;

	snprintf(dir, sizeof(dir), "/tmp/dsocr_test_quantize_XXXXXX");
	if (mkdtemp(dir) == NULL)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) != 0 || failed != 0;
}
