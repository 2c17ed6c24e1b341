/*-------------------------------------------------------------------------
 *
 * test_weights.c
 *		Safetensors files: sound ones, malformed ones, folders of shards.
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
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "weights.h"

/* Sanitizers take some twenty times as long, and share the cores with other parts. */
#ifdef __SANITIZE_ADDRESS__
#define SLOWER 30
#else
#define SLOWER 1
#endif

static char dir[64];
static char file[128];

static const char *
path_of(const char *name)
{
	snprintf(file, sizeof(file), "%s/%s", dir, name);
	return file;
}

static void
write_bytes(const char *name, const void *bytes, size_t len)
{
	FILE *f = fopen(path_of(name), "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* A file whose length field is right unless length is not 0. */
static void
write_file(const char *name, const char *json, size_t json_len, uint64_t length, size_t data_len)
{
	size_t total = 8 + json_len + data_len;
	unsigned char *bytes = malloc(total + 1);

	assert_non_null(bytes);
	if (length == 0)
		length = json_len;
	for (int i = 0; i < 8; i++)
		bytes[i] = (unsigned char) (length >> (8 * i));
	memcpy(bytes + 8, json, json_len);
	for (size_t i = 0; i < data_len; i++)
		bytes[8 + json_len + i] = (unsigned char) (i * 7 + 1);
	write_bytes(name, bytes, total);
	free(bytes);
}

static void
write_shard(const char *name, const char *json, size_t data_len)
{
	write_file(name, json, strlen(json), 0, data_len);
}

/* The file must be refused within a second of work, with these words in the message. */
static void
expect_refusal_by(const char *name, const char *a, const char *b)
{
	DsocrError err = {0};
	clock_t start = clock();
	DsocrWeights *w = dsocr_weights_open_file(path_of(name), &err);
	clock_t took = clock() - start;

	if (w != NULL)
		fail_msg("accepted, expected: %s", b);
	assert_int_equal(err.code, DSOCR_E_MODEL);
	if (strstr(err.message, a) == NULL || strstr(err.message, b) == NULL ||
		strstr(err.message, name) == NULL)
		fail_msg("\"%s\" does not name %s, %s and %s", err.message, name, a, b);
	assert_true(took < SLOWER * CLOCKS_PER_SEC);
}

typedef struct Malformed
{
	const char *json;
	size_t data_len;
	const char *tensor; /* that the message must name, or "" */
	const char *reason;
} Malformed;

#define F32_4(name, begin, end)                                                                    \
	"\"" name "\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[" begin "," end "]}"

static const Malformed malformed[] = {
	/* JSON */
	{"{", 0, "", "not valid JSON"},
	{"{\"a\":", 0, "", "not valid JSON"},
	{"{\"a\":{\"dtype\":\"F32\"", 0, "", "not valid JSON"},
	{"{\"\xff\":1}", 0, "", "not valid JSON"},
	{"{\"a\\u0000b\":1}", 0, "", "not valid JSON"},
	{"{} x", 0, "", "not valid JSON"},
	{"[]", 0, "", "does not begin with {"},
	{" {}", 0, "", "does not begin with {"},
	{"{" F32_4("a", "0", "16") "," F32_4("a", "16", "32") "}", 32, "", "duplicate"},
	{"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "",
	 "duplicate"},
	{"{\"__metadata__\":[],\"a\":1}", 0, "", "__metadata__"},
	{"{\"__metadata__\":{\"x\":1}}", 0, "", "__metadata__"},
	/* entries */
	{"{\"a\":1}", 0, "\"a\"", "not an object"},
	{"{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "\"a\"", "no dtype"},
	{"{\"a\":{\"dtype\":7,\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "\"a\"", "no dtype"},
	{"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "\"a\"", "F8_E4M3"},
	{"{\"a\":{\"dtype\":\"f32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "\"a\"", "f32"},
	{"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}", 16, "\"a\"", "no shape"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,16]}}", 16, "\"a\"", "no shape"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", 16, "\"a\"", "sizes"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2,-2],\"data_offsets\":[0,16]}}", 16, "\"a\"", "sizes"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4.0],\"data_offsets\":[0,16]}}", 16, "\"a\"", "sizes"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[\"4\"],\"data_offsets\":[0,16]}}", 16, "\"a\"", "sizes"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,4],\"data_offsets\":[0,16]}}", 16, "\"a\"",
	 "dimensions"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,16]}}", 16,
	 "\"a\"", "too large"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387908],\"data_offsets\":[0,16]}}", 16,
	 "\"a\"", "shape and dtype"},
	{"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693954],\"data_offsets\":[0,16]}}", 16,
	 "\"a\"", "shape and dtype"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,16]}}", 16, "",
	 "not valid JSON"},
	/* offsets */
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}", 16, "\"a\"", "data_offsets"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16]}}", 16, "\"a\"",
	 "data_offsets"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16,16]}}", 16, "\"a\"",
	 "data_offsets"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0.0,16.0]}}", 16, "\"a\"",
	 "data_offsets"},
	{"{" F32_4("a", "-16", "0") "}", 16, "\"a\"", "ascend"},
	{"{" F32_4("a", "-9223372036854775808", "9223372036854775807") "}", 16, "\"a\"", "ascend"},
	{"{" F32_4("a", "16", "0") "}", 16, "\"a\"", "ascend"},
	{"{" F32_4("a", "0", "16") "}", 15, "\"a\"", "behind the end"},
	{"{" F32_4("a", "16", "32") "}", 16, "\"a\"", "behind the end"},
	{"{" F32_4("a", "9223372036854775791", "9223372036854775807") "}", 16, "\"a\"",
	 "behind the end"},
	/* sizes */
	{"{" F32_4("a", "0", "15") "}", 16, "\"a\"", "shape and dtype"},
	{"{" F32_4("a", "0", "20") "}", 20, "\"a\"", "shape and dtype"},
	{"{\"a\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16, "\"a\"",
	 "shape and dtype"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,0]}}", 0, "\"a\"",
	 "shape and dtype"},
	{"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,4]}}", 4, "\"a\"",
	 "shape and dtype"},
	/* places */
	{"{" F32_4("a", "0", "16") "," F32_4("b", "8", "24") "}", 24, "\"b\"", "overlaps"},
	{"{" F32_4("b", "8", "24") "," F32_4("a", "0", "16") "}", 24, "\"b\"", "overlaps"},
	{"{" F32_4("a", "0", "16") "," F32_4("b", "0", "16") "}", 16, "", "overlaps"},
	{"{" F32_4("a", "0", "16") ",\"b\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[8,8]}}",
	 16, "\"b\"", "overlaps"},
	{"{" F32_4("a", "0", "16") "," F32_4("b", "20", "36") "}", 36, "\"b\"", "unused bytes"},
	{"{" F32_4("a", "4", "20") "}", 20, "\"a\"", "unused bytes"},
	{"{" F32_4("a", "0", "16") "}", 17, "", "unused bytes"},
	{"{}", 1, "", "unused bytes"},
	/* a name must not break the log */
	{"{\"a\\nb\\u001b[31m\":1}", 0, "a?b?[31m", "not an object"},
};

static void
test_malformed_headers(void **state)
{
	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
	{
		const Malformed *m = &malformed[i];

		write_shard("bad.safetensors", m->json, m->data_len);
		expect_refusal_by("bad.safetensors", m->tensor, m->reason);
	}
}

static void
test_malformed_lengths(void **state)
{
	static const uint64_t lengths[] = {
		3,			1000000000,		UINT64_C(1) << 32, 100000001, UINT64_C(1) << 63,
		UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 62};

	write_bytes("short", "", 0);
	expect_refusal_by("short", "", "too short");
	write_bytes("short", "\2\0\0\0\0\0\0", 7);
	expect_refusal_by("short", "", "too short");
	write_bytes("short", "\0\0\0\0\0\0\0\0", 8);
	expect_refusal_by("short", "", "{");
	write_bytes("short", "\0\0\0\0\0\0\0\0{}", 10);
	expect_refusal_by("short", "", "{");
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
	{
		write_file("short", "{}", 2, lengths[i], 0);
		expect_refusal_by("short", "", "header");
	}
	/* every truncation of a sound file */
	for (size_t n = 0; n < 100; n++)
	{
		static const char json[] = "{" F32_4("a", "0", "16") "," F32_4("b", "16", "32") "}";
		unsigned char bytes[8 + sizeof(json) - 1 + 32] = {0};

		bytes[0] = sizeof(json) - 1;
		memcpy(bytes + 8, json, sizeof(json) - 1);
		write_bytes("short", bytes, sizeof(bytes) * n / 100);
		expect_refusal_by("short", "", "");
	}
}

static void
test_malformed_large(void **state)
{
	DsocrBuffer b = {0};

	/* one tensor too many */
	assert_true(dsocr_buffer_append(&b, "{", 1, NULL));
	for (int i = 0; i < 100001; i++)
		assert_true(dsocr_buffer_printf(
			&b, NULL, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
			i > 0 ? "," : "", i, i, i + 1));
	assert_true(dsocr_buffer_append(&b, "}", 1, NULL));
	write_file("large", b.data, b.len, 0, 100001);
	expect_refusal_by("large", "", "100,000");

	/* many values that would take gigabytes as JSON */
	b.len = 0;
	assert_true(dsocr_buffer_append(&b, "{\"a\":[0", 7, NULL));
	for (int i = 0; i < 20000000; i++)
		assert_true(dsocr_buffer_append(&b, ",0", 2, NULL));
	assert_true(dsocr_buffer_append(&b, "]}", 2, NULL));
	write_file("large", b.data, b.len, 0, 0);
	expect_refusal_by("large", "", "too many values");

	/* depth */
	b.len = 0;
	assert_true(dsocr_buffer_append(&b, "{\"a\":", 5, NULL));
	for (int i = 0; i < 1000000; i++)
		assert_true(dsocr_buffer_append(&b, "[", 1, NULL));
	write_file("large", b.data, b.len, 0, 0);
	expect_refusal_by("large", "", "not valid JSON");

	/* a hole of 2^40 bytes: nothing may be read to find out */
	write_shard("large", "{" F32_4("a", "0", "16") "}", 16);
	assert_int_equal(truncate(path_of("large"), (off_t) 1 << 40), 0);
	expect_refusal_by("large", "", "unused bytes");
	unlink(path_of("large"));
	dsocr_buffer_free(&b);
}

static void
test_not_a_file(void **state)
{
	expect_refusal_by("missing", "", "No such file");
	assert_int_equal(mkdir(path_of("folder"), 0700), 0);
	expect_refusal_by("folder", "", "not a regular file");
	assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
	expect_refusal_by("pipe", "", "not a regular file");
}

static void
test_100000_tensors(void **state)
{
	DsocrBuffer b = {0};
	DsocrError err = {0};
	clock_t start;
	DsocrWeights *w;

	assert_true(dsocr_buffer_append(&b, "{", 1, NULL));
	for (int i = 0; i < 100000; i++)
		assert_true(dsocr_buffer_printf(
			&b, NULL, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
			i > 0 ? "," : "", i, 99999 - i, 100000 - i));
	assert_true(dsocr_buffer_append(&b, "}", 1, NULL));
	write_file("many", b.data, b.len, 0, 100000);
	dsocr_buffer_free(&b);
	start = clock();
	w = dsocr_weights_open_file(path_of("many"), &err);
	assert_non_null(w);
	assert_true(clock() - start < 3 * SLOWER * CLOCKS_PER_SEC);
	assert_int_equal(dsocr_weights_count(w), 100000);
	assert_string_equal(dsocr_weights_at(w, 0)->name, "t99999"); /* by place */
	for (int i = 0; i < 100000; i++)
	{
		char name[16];

		snprintf(name, sizeof(name), "t%d", i);
		assert_int_equal(dsocr_tensor_get(dsocr_weights_find(w, name), 0),
						 ((99999 - i) * 7 + 1) & 255);
	}
	dsocr_weights_close(w);
}

static void
test_types(void **state)
{
	/* one byte in front leaves everything behind it unaligned */
	static const char json[] =
		"{\"__metadata__\":{\"format\":\"pt\"},"
		"\"u8\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
		"\"f64\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[1,9]},"
		"\"i64\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[9,17]},"
		"\"f32\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[17,25]},"
		"\"i32\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[25,29]},"
		"\"bf16\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[29,33]},"
		"\"f16\":{\"dtype\":\"F16\",\"shape\":[1,6,1,1],\"data_offsets\":[33,45]},"
		"\"i8\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[45,46]},"
		"\"empty\":{\"dtype\":\"F32\",\"shape\":[3,0,2],\"data_offsets\":[46,46]}}   \n";
	unsigned char bytes[8 + sizeof(json) - 1 + 46] = {0};
	unsigned char *p = bytes + 8 + sizeof(json) - 1;
	double f64 = -1.5;
	int64_t i64 = -3;
	float f32[2] = {0.1f, -INFINITY};
	int32_t i32 = 1 << 30;
	uint16_t bf16[2] = {0x3f80, 0xc000};
	uint16_t f16[6] = {0x3c00, 0x8001, 0x7bff, 0xfc00, 0x0400, 0x3555};
	DsocrError err = {0};
	DsocrWeights *w;
	const DsocrTensor *t;

	bytes[0] = (sizeof(json) - 1) & 255;
	bytes[1] = (sizeof(json) - 1) >> 8;
	memcpy(bytes + 8, json, sizeof(json) - 1);
	p[0] = 200;
	memcpy(p + 1, &f64, 8);
	memcpy(p + 9, &i64, 8);
	memcpy(p + 17, f32, 8);
	memcpy(p + 25, &i32, 4);
	memcpy(p + 29, bf16, 4);
	memcpy(p + 33, f16, 12);
	p[45] = (unsigned char) -7;
	write_bytes("types", bytes, sizeof(bytes));
	w = dsocr_weights_open_file(path_of("types"), &err);
	if (w == NULL)
		fail_msg("%s", err.message);
	assert_int_equal(dsocr_weights_count(w), 9);
	assert_int_equal(dsocr_weights_bytes(w), 46);
	assert_true(dsocr_tensor_get(dsocr_weights_find(w, "u8"), 0) == 200);
	assert_true(dsocr_tensor_get(dsocr_weights_find(w, "f64"), 0) == -1.5f);
	assert_true(dsocr_tensor_get(dsocr_weights_find(w, "i64"), 0) == -3);
	assert_int_equal(dsocr_weights_find(w, "i64")->count, 1);
	assert_true(dsocr_tensor_get(dsocr_weights_find(w, "f32"), 0) == 0.1f);
	assert_true(dsocr_tensor_get(dsocr_weights_find(w, "f32"), 1) == -INFINITY);
	assert_true(dsocr_tensor_get(dsocr_weights_find(w, "i32"), 0) == 1073741824.0f);
	assert_true(dsocr_tensor_get(dsocr_weights_find(w, "bf16"), 1) == -2);
	t = dsocr_weights_find(w, "f16");
	assert_true(dsocr_tensor_get(t, 0) == 1);
	assert_true(dsocr_tensor_get(t, 1) == -0x1p-24f);
	assert_true(dsocr_tensor_get(t, 2) == 65504);
	assert_true(dsocr_tensor_get(t, 3) == -INFINITY);
	assert_true(dsocr_tensor_get(t, 4) == 0x1p-14f);
	assert_true(dsocr_tensor_get(t, 5) == 0.333251953125f);
	assert_true(dsocr_tensor_get(dsocr_weights_find(w, "i8"), 0) == -7);
	assert_int_equal(dsocr_weights_find(w, "empty")->count, 0);
	assert_null(dsocr_weights_find(w, "f"));
	assert_null(dsocr_weights_find(w, ""));
	assert_null(dsocr_weights_find(w, "__metadata__"));

	assert_ptr_equal(dsocr_weights_need(w, &err, "f16", 4, (int64_t[]){1, 6, 1, 1}), t);
	assert_null(dsocr_weights_need(w, &err, "f16", 4, (int64_t[]){6, 1, 1, 1}));
	assert_int_equal(err.code, DSOCR_E_MODEL);
	assert_non_null(strstr(err.message, "\"f16\" has shape [1, 6, 1, 1], expected [6, 1, 1, 1]"));
	assert_null(dsocr_weights_need(w, &err, "f16", 1, (int64_t[]){6}));
	assert_null(dsocr_weights_need(w, &err, "nope", 1, (int64_t[]){6}));
	assert_non_null(strstr(err.message, "\"nope\" is missing, expected with shape [6]"));

	/* integers are no weights: a quantized model must not pass for a sound one */
	for (int i = 0; i < 3; i++)
	{
		const char *name = (const char *[]){"u8", "i8", "i32"}[i];

		assert_null(dsocr_weights_need(w, &err, name, 1, (int64_t[]){1}));
		assert_int_equal(err.code, DSOCR_E_MODEL);
		assert_non_null(strstr(err.message, name));
		assert_non_null(strstr(err.message, "holds integers"));
	}
	assert_non_null(dsocr_weights_need(w, &err, "f64", 1, (int64_t[]){1}));
	dsocr_weights_close(w);
	dsocr_weights_close(NULL);
}

/* ---- folders ---- */

#define INDEX "model.safetensors.index.json"

static void
remove_models(void)
{
	unlink(path_of(INDEX));
	unlink(path_of("model.safetensors"));
	unlink(path_of("one.safetensors"));
	unlink(path_of("two.safetensors"));
}

static void
write_index(const char *json)
{
	write_bytes(INDEX, json, strlen(json));
}

static void
expect_folder_refusal(const char *words)
{
	DsocrError err = {0};

	if (dsocr_weights_open(dir, &err) != NULL)
		fail_msg("accepted, expected: %s", words);
	assert_int_equal(err.code, DSOCR_E_MODEL);
	if (strstr(err.message, words) == NULL)
		fail_msg("\"%s\" does not say %s", err.message, words);
}

static void
test_single_file(void **state)
{
	DsocrError err = {0};
	DsocrWeights *w;

	remove_models();
	expect_folder_refusal("has no model.safetensors");
	write_shard("model.safetensors", "{" F32_4("a", "0", "16") "}", 16);
	w = dsocr_weights_open(dir, &err);
	assert_non_null(w);
	assert_non_null(dsocr_weights_find(w, "a"));
	dsocr_weights_close(w);
	assert_null(dsocr_weights_open("/nonexistent/model", &err));
	assert_int_equal(err.code, DSOCR_E_MODEL);
	assert_non_null(strstr(err.message, "/nonexistent/model"));
	assert_null(dsocr_weights_open(path_of("model.safetensors"), &err));
}

static void
test_shards(void **state)
{
	DsocrError err = {0};
	DsocrWeights *w;

	remove_models();
	write_shard("one.safetensors", "{" F32_4("b", "0", "16") "}", 16);
	write_shard("two.safetensors", "{" F32_4("a", "0", "16") "," F32_4("c", "16", "32") "}", 32);
	write_index("{\"metadata\":{\"total_size\":48},\"weight_map\":{\"c\":\"two.safetensors\","
				"\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}}");
	w = dsocr_weights_open(dir, &err);
	if (w == NULL)
		fail_msg("%s", err.message);
	assert_int_equal(dsocr_weights_count(w), 3);
	assert_string_equal(dsocr_weights_at(w, 0)->name, "b");
	assert_string_equal(dsocr_weights_at(w, 2)->name, "c");
	assert_int_equal(dsocr_weights_bytes(w), 48);
	assert_non_null(dsocr_weights_find(w, "a"));
	dsocr_weights_close(w);

	write_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}");
	expect_folder_refusal("does not hold it");
	write_index("{\"weight_map\":{\"a\":\"two.safetensors\",\"z\":\"two.safetensors\"}}");
	expect_folder_refusal("\"z\"");
	write_shard("one.safetensors", "{" F32_4("a", "0", "16") "}", 16);
	write_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"two.safetensors\"}}");
	expect_folder_refusal("two weight files hold tensor \"a\"");
	write_shard("one.safetensors", "{" F32_4("b", "0", "16") "}", 15);
	expect_folder_refusal("behind the end");
}

static void
test_absent_shard(void **state)
{
	DsocrError err = {0};
	DsocrWeights *w;

	remove_models();
	write_index("{\"weight_map\":{\"a\":\"model-00001-of-000001.safetensors\"}}");
	expect_folder_refusal("model-00001-of-000001.safetensors");

	/* the official index beside a converted file */
	write_shard("model.safetensors", "{" F32_4("x", "0", "16") "}", 16);
	w = dsocr_weights_open(dir, &err);
	assert_non_null(w);
	assert_non_null(dsocr_weights_find(w, "x"));
	dsocr_weights_close(w);
}

static void
test_hostile_index(void **state)
{
	static const char *const names[] = {
		"../one.safetensors", "..", ".", "", "/etc/passwd", "sub/one.safetensors",
		"one.safetensors/",
	};
	char json[400];

	remove_models();
	write_shard("one.safetensors", "{" F32_4("a", "0", "16") "}", 16);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		snprintf(json, sizeof(json), "{\"weight_map\":{\"a\":\"%s\"}}", names[i]);
		write_index(json);
		expect_folder_refusal("plain file name");
	}
	snprintf(json, sizeof(json), "{\"weight_map\":{\"a\":\"%0300d\"}}", 0);
	write_index(json);
	expect_folder_refusal("plain file name");
	write_index("{\"weight_map\":{\"a\":1}}");
	expect_folder_refusal("plain file name");
	write_index("{\"weight_map\":{}}");
	expect_folder_refusal("no weight_map");
	write_index("{\"weight_map\":[]}");
	expect_folder_refusal("no weight_map");
	write_index("{}");
	expect_folder_refusal("no weight_map");
	write_index("[]");
	expect_folder_refusal("no weight_map");
	write_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"one.safetensors\"}}");
	expect_folder_refusal("duplicate");
	write_index("");
	expect_folder_refusal(INDEX);
	write_index("{\"weight_map\"");
	expect_folder_refusal(INDEX);
}

static int
set_up(void **state)
{
	strcpy(dir, "/tmp/dsocr_weights_XXXXXX");
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int
tear_down(void **state)
{
	static const char *const made[] = {"bad.safetensors", "short", "many",
									   "types",			  "pipe",  "large"};

	remove_models();
	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
		unlink(path_of(made[i]));
	rmdir(path_of("folder"));
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_malformed_headers), cmocka_unit_test(test_malformed_lengths),
		cmocka_unit_test(test_malformed_large),	  cmocka_unit_test(test_not_a_file),
		cmocka_unit_test(test_100000_tensors),	  cmocka_unit_test(test_types),
		cmocka_unit_test(test_single_file),		  cmocka_unit_test(test_shards),
		cmocka_unit_test(test_absent_shard),	  cmocka_unit_test(test_hostile_index),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
