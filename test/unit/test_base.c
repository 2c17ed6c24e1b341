/*-------------------------------------------------------------------------
 *
 * test_base.c
 *		Errors, sizes, buffers, files, bf16, SHA-256, UTF-8, names.
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

#include "request.h"
#include "sha256.h"
#include "tokenizer.h"
#include "utf8.h"

static void
test_errors(void **state)
{
	DsocrError err = {0};
	char long_text[400];

	assert_false(dsocr_fail(NULL, DSOCR_E_IO, "nobody listens"));
	assert_false(dsocr_hint(NULL, "nobody listens"));
	assert_false(dsocr_fail(&err, DSOCR_E_IMAGE, "width %d", 7));
	assert_int_equal(err.code, DSOCR_E_IMAGE);
	assert_string_equal(err.message, "width 7");
	assert_false(dsocr_hint(&err, "make it %s", "smaller"));
	assert_string_equal(err.hint, "make it smaller");

	/* around an earlier message; the old hint goes */
	dsocr_fail(&err, DSOCR_E_MODEL, "file %s: %s", "x", err.message);
	assert_string_equal(err.message, "file x: width 7");
	assert_string_equal(err.hint, "");

	/* a cut text ends at a character: 255 is not a multiple of 2, 3 or 4 */
	for (int k = 0; k < 399; k++)
		long_text[k] = k % 2 == 0 ? '\xc3' : '\xa9';
	long_text[398] = '\0';
	dsocr_fail(&err, DSOCR_E_MODEL, "%s", long_text);
	assert_int_equal(strlen(err.message), 254);
	memset(long_text, 'x', 399);
	long_text[399] = '\0';
	dsocr_fail(&err, DSOCR_E_MODEL, "%s", long_text);
	assert_int_equal(strlen(err.message), 255);
}

static void
test_sizes(void **state)
{
	size_t out = 5;
	DsocrError err = {0};

	assert_true(dsocr_mul(SIZE_MAX / 2, 2, &out));
	assert_int_equal(out, SIZE_MAX - 1);
	assert_false(dsocr_add(SIZE_MAX, 1, &out));
	assert_false(dsocr_mul(SIZE_MAX / 2 + 1, 2, &out));
	assert_null(dsocr_alloc(SIZE_MAX / 4, 8, &err));
	assert_int_equal(err.code, DSOCR_E_MEMORY);
	err.code = DSOCR_OK;
	assert_null(dsocr_alloc(SIZE_MAX - 3, 1, &err));
	assert_int_equal(err.code, DSOCR_E_MEMORY);
	assert_null(dsocr_zalloc(SIZE_MAX, SIZE_MAX, NULL));
}

static void
test_alloc(void **state)
{
	for (size_t n = 0; n < 300; n += 7)
	{
		unsigned char *p = dsocr_zalloc(n, 1, NULL);

		assert_non_null(p);
		assert_int_equal((uintptr_t) p % 64, 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(p[i], 0);
		dsocr_free(p);
	}
	dsocr_free(NULL);
}

static void
test_buffer(void **state)
{
	DsocrBuffer b = {0};
	char *copy;

	assert_true(dsocr_buffer_append(&b, NULL, 0, NULL));
	assert_string_equal(b.data, "");
	for (int i = 0; i < 1000; i++)
		assert_true(dsocr_buffer_printf(&b, NULL, "%d,", i));
	assert_int_equal(b.len, strlen(b.data));
	assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
	assert_string_equal(b.data + b.len - 8, "998,999,");
	assert_true(dsocr_buffer_append(&b, "a\0b", 3, NULL));
	assert_int_equal(b.data[b.len], 0);
	assert_false(dsocr_buffer_append(&b, "x", SIZE_MAX - 2, NULL));
	dsocr_buffer_free(&b);
	assert_null(b.data);
	copy = dsocr_strdup("text", NULL);
	assert_string_equal(copy, "text");
	dsocr_free(copy);
}

static void
test_read_file(void **state)
{
	char path[] = "/tmp/dsocr_base_XXXXXX";
	int fd = mkstemp(path);
	DsocrBuffer b;
	DsocrError err = {0};

	assert_true(fd >= 0);
	assert_true(dsocr_read_file(path, 0, &b, &err));
	assert_int_equal(b.len, 0);
	assert_string_equal(b.data, "");
	dsocr_buffer_free(&b);

	assert_int_equal(write(fd, "hello\0you", 9), 9);
	assert_true(dsocr_read_file(path, 9, &b, &err));
	assert_int_equal(b.len, 9);
	assert_memory_equal(b.data, "hello\0you", 10);
	dsocr_buffer_free(&b);
	assert_false(dsocr_read_file(path, 8, &b, &err));
	assert_int_equal(err.code, DSOCR_E_IO);
	assert_null(b.data);
	close(fd);
	unlink(path);
	assert_false(dsocr_read_file(path, 8, &b, &err));
	assert_non_null(strstr(err.message, path));
	assert_false(dsocr_read_file("/tmp", 8, &b, &err));
	assert_false(dsocr_read_file("/dev/zero", 100000, &b, &err));
	assert_non_null(strstr(err.message, "larger"));
}

static void
test_bf16(void **state)
{
	for (uint32_t h = 0; h < 0x10000; h++)
	{
		float f = dsocr_bf16_to_f32((uint16_t) h);

		if (isnan(f))
			assert_true(isnan(dsocr_bf16_to_f32(dsocr_f32_to_bf16(f))));
		else
			assert_int_equal(dsocr_f32_to_bf16(f), h);
	}
	assert_int_equal(dsocr_f32_to_bf16(1.00390625f), 0x3f80);	 /* tie to even: down */
	assert_int_equal(dsocr_f32_to_bf16(1.01171875f), 0x3f82);	 /* tie to even: up */
	assert_int_equal(dsocr_f32_to_bf16(1.0039063692f), 0x3f81);	 /* above the tie */
	assert_int_equal(dsocr_f32_to_bf16(3.40282347e38f), 0x7f80); /* rounds to infinity */
	assert_int_equal(dsocr_f32_to_bf16(-1e-45f), 0x8000);
}

static void
test_sha256(void **state)
{
	char hex[65];
	DsocrSha256 s;
	char *million = malloc(1000000);

	dsocr_sha256_hex("", 0, hex);
	assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	dsocr_sha256_hex("abc", 3, hex);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	dsocr_sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
	assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	assert_non_null(million);
	memset(million, 'a', 1000000);
	for (size_t piece = 1; piece < 200; piece += 9)
	{
		dsocr_sha256_init(&s);
		for (size_t i = 0; i < 1000000; i += piece)
			dsocr_sha256_update(&s, million + i, piece < 1000000 - i ? piece : 1000000 - i);
		dsocr_sha256_finish(&s, hex);
		assert_string_equal(hex,
							"cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	}
	free(million);
}

static void
check_repair(const char *bytes, size_t len, const char *expected, size_t n)
{
	DsocrBuffer out = {0};
	size_t replaced = 999;

	assert_true(dsocr_utf8_repair(bytes, len, &out, &replaced, NULL));
	assert_string_equal(out.data, expected);
	assert_int_equal(replaced, n);
	dsocr_buffer_free(&out);
}

#define BAD "\xef\xbf\xbd"

static void
test_utf8_repair(void **state)
{
	check_repair("", 0, "", 0);
	check_repair("h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10,
				 "h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 0);
	check_repair("\x80", 1, BAD, 1);
	check_repair("\xc3", 1, BAD, 1);
	check_repair("\xc3(", 2, BAD "(", 1);
	check_repair("\xe2\x82", 2, BAD, 1);
	check_repair("\xe2\x82x", 3, BAD "x", 1);
	check_repair("\xf0\x9f\x98", 3, BAD, 1);
	check_repair("\xf0\x9f\xc3\xa9", 4, BAD "\xc3\xa9", 1);
	check_repair("\xc0\x80", 2, BAD BAD, 2);				 /* overlong */
	check_repair("\xe0\x80\x80", 3, BAD BAD BAD, 3);		 /* overlong */
	check_repair("\xed\xa0\x80", 3, BAD BAD BAD, 3);		 /* surrogate */
	check_repair("\xf4\x90\x80\x80", 4, BAD BAD BAD BAD, 4); /* above U+10FFFF */
	check_repair("\xff\xfe"
				 "a",
				 3, BAD BAD "a", 2);
	check_repair("Hello \xf0\x90\x80World", 14, "Hello " BAD "World", 1);
}

static void
test_utf8_next(void **state)
{
	int32_t code;

	/* every code point, written by hand and read back */
	for (int32_t c = 0; c < 0x110000; c++)
	{
		char text[4];
		size_t n;

		if (c < 0x80)
			text[0] = (char) c, n = 1;
		else if (c < 0x800)
			text[0] = (char) (0xc0 | c >> 6), text[1] = (char) (0x80 | (c & 63)), n = 2;
		else if (c < 0x10000)
			text[0] = (char) (0xe0 | c >> 12), text[1] = (char) (0x80 | (c >> 6 & 63)),
			text[2] = (char) (0x80 | (c & 63)), n = 3;
		else
			text[0] = (char) (0xf0 | c >> 18), text[1] = (char) (0x80 | (c >> 12 & 63)),
			text[2] = (char) (0x80 | (c >> 6 & 63)), text[3] = (char) (0x80 | (c & 63)), n = 4;
		if (c >= 0xd800 && c < 0xe000)
		{
			assert_int_equal(dsocr_utf8_next(text, n, &code), 1);
			assert_int_equal(code, -1);
			continue;
		}
		assert_int_equal(dsocr_utf8_next(text, n, &code), n);
		assert_int_equal(code, c);
	}
}

static void
check_strip(const char *text, size_t len, size_t from, size_t to)
{
	size_t a, b;

	dsocr_utf8_strip(text, len, &a, &b);
	assert_int_equal(a, from);
	assert_int_equal(b, to);
}

static void
test_utf8_strip(void **state)
{
	check_strip("", 0, 0, 0);
	check_strip("abc", 3, 0, 3);
	check_strip(" \t\n\v\f\rabc\x1c\x1d\x1e\x1f ", 14, 6, 9);
	check_strip("\xc2\x85\xc2\xa0x\xe3\x80\x80", 8, 4, 5);
	check_strip("\xe2\x80\xa8\xe2\x80\xa9\xe1\x9a\x80x\xe2\x80\xaf\xe2\x81\x9f\xe2\x80\x8a", 19, 9,
				10);
	check_strip("\xe2\x80\x8bx\xe2\x80\x8b", 7, 0, 7); /* zero width is no space */
	check_strip("\xe1\xa0\x8ex", 4, 0, 4);			   /* nor is U+180E */
	check_strip(" a\x85 ", 4, 1, 3);				   /* half a character */
	check_strip("\x80\x80\x80\x80\x80", 5, 0, 5);
}

static void
test_names(void **state)
{
	for (int i = 0; i < DSOCR_N_MODES; i++)
		assert_non_null(dsocr_mode_names[i]);
	for (int i = 0; i < DSOCR_N_TASKS; i++)
		assert_non_null(dsocr_task_names[i]);
	assert_string_equal(dsocr_mode_names[DSOCR_MODE_GUNDAM_M], "gundam_m");
	assert_string_equal(dsocr_task_names[DSOCR_TASK_GENERATE], "generate");
}

static void
test_result_free(void **state)
{
	DsocrResult r = {0};

	dsocr_result_free(NULL);
	dsocr_result_free(&r);
	r.raw = dsocr_strdup("raw", NULL);
	r.markdown = dsocr_strdup("markdown", NULL);
	r.n_blocks = 2;
	r.blocks = dsocr_zalloc(2, sizeof(*r.blocks), NULL);
	assert_non_null(r.blocks);
	r.blocks[0].label = dsocr_strdup("title", NULL);
	r.blocks[0].content = dsocr_strdup("content", NULL);
	r.blocks[0].boxes = dsocr_zalloc(3, sizeof(*r.blocks[0].boxes), NULL);
	dsocr_result_free(&r);
	assert_null(r.raw);
	assert_null(r.blocks);
	assert_int_equal(r.n_blocks, 0);
	dsocr_result_free(&r);
}

static void
test_clock(void **state)
{
	int64_t a = dsocr_now_us();
	int64_t b;

	usleep(2000);
	b = dsocr_now_us();
	assert_true(b - a >= 2000 && b - a < 10000000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errors),	  cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_alloc),	  cmocka_unit_test(test_buffer),
		cmocka_unit_test(test_read_file), cmocka_unit_test(test_bf16),
		cmocka_unit_test(test_sha256),	  cmocka_unit_test(test_utf8_repair),
		cmocka_unit_test(test_utf8_next), cmocka_unit_test(test_utf8_strip),
		cmocka_unit_test(test_names),	  cmocka_unit_test(test_result_free),
		cmocka_unit_test(test_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
