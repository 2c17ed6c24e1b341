/*-------------------------------------------------------------------------
 *
 * test_image_sniff.c
 *		Formats by content, pages of a TIFF, and PNM.
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

#include "image.h"
#include "image_sniff.h"

#define MAX_DIRS 400

static DsocrFormat
sniff(const char *bytes, size_t len)
{
	/* exact, so that memory checkers see the first byte too far */
	uint8_t *copy = malloc(len + (len == 0));
	DsocrFormat format;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	format = dsocr_image_sniff(copy, len);
	free(copy);
	return format;
}

static void
test_formats(void **state)
{
	static const struct
	{
		const char *bytes;
		size_t len;
		DsocrFormat format;
	} cases[] = {
		{"\x89PNG\r\n\x1a\n", 8, DSOCR_FORMAT_PNG},
		{"\xff\xd8\xff", 3, DSOCR_FORMAT_JPEG},
		{"RIFF\0\0\0\0WEBPVP8 ", 16, DSOCR_FORMAT_WEBP},
		{"RIFF\0\0\0\0WAVEfmt ", 16, DSOCR_FORMAT_UNKNOWN},
		{"II*\0", 4, DSOCR_FORMAT_TIFF},
		{"MM\0*", 4, DSOCR_FORMAT_TIFF},
		{"II+\0", 4, DSOCR_FORMAT_TIFF},
		{"MM\0+", 4, DSOCR_FORMAT_TIFF},
		{"P5\n1 1", 6, DSOCR_FORMAT_PNM},
		{"P6#", 3, DSOCR_FORMAT_PNM},
		{"P4\n", 3, DSOCR_FORMAT_UNKNOWN},
		{"P65", 3, DSOCR_FORMAT_UNKNOWN},
		{"%PDF-1.7", 8, DSOCR_FORMAT_PDF},
		{"\xef\xbb\xbf\n%PDF-", 9, DSOCR_FORMAT_PDF},
		{"%PDF", 4, DSOCR_FORMAT_UNKNOWN},
		{"GIF89a", 6, DSOCR_FORMAT_GIF},
		{"BM", 2, DSOCR_FORMAT_BMP},
		{"\0\0\0\fjP  ", 8, DSOCR_FORMAT_JPEG2000},
		{"\0\0\0 ftypheic", 12, DSOCR_FORMAT_HEIF},
		{"hello", 5, DSOCR_FORMAT_UNKNOWN},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		assert_int_equal(sniff(cases[i].bytes, cases[i].len), cases[i].format);
		assert_int_equal(sniff(cases[i].bytes, 1), DSOCR_FORMAT_UNKNOWN);
	}
	assert_int_equal(sniff("", 0), DSOCR_FORMAT_UNKNOWN);
	assert_null(dsocr_format_name(DSOCR_FORMAT_UNKNOWN));
	for (int f = DSOCR_FORMAT_UNKNOWN + 1; f < DSOCR_N_FORMATS; f++)
		assert_non_null(dsocr_format_name((DsocrFormat) f));
}

static void
test_pdf_behind_something(void **state)
{
	char bytes[2000] = {0};

	memcpy(bytes + 1019, "%PDF-", 5);
	assert_int_equal(sniff(bytes, sizeof(bytes)), DSOCR_FORMAT_PDF);
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes + 1020, "%PDF-", 5);
	assert_int_equal(sniff(bytes, sizeof(bytes)), DSOCR_FORMAT_UNKNOWN);
}

/* ---- pages of a TIFF ---- */

/* Directories of one entry, one behind the other, linked as told. */
typedef struct Chain
{
	bool big_endian;
	bool big;
	int n;
	int next[MAX_DIRS];	   /* index of the next one, -1 = end, -2 = beyond the file */
	int subfile[MAX_DIRS]; /* NewSubfileType */
} Chain;

static void
put(uint8_t *p, uint64_t v, int size, bool big_endian)
{
	for (int i = 0; i < size; i++)
		p[big_endian ? size - 1 - i : i] = (uint8_t) (v >> (8 * i));
}

static uint64_t
dir_offset(const Chain *c, int i)
{
	return i == -1	 ? 0
		   : i == -2 ? 0x7fffff00
		   : c->big	 ? 16 + 36 * (uint64_t) i
					 : 8 + 18 * (uint64_t) i;
}

static size_t
chain_bytes(const Chain *c, uint8_t **out)
{
	size_t len = dir_offset(c, c->n);
	bool be = c->big_endian;
	int word = c->big ? 8 : 4;
	uint8_t *p = calloc(len, 1);

	assert_non_null(p);
	*out = p;
	memcpy(p, be ? "MM" : "II", 2);
	put(p + 2, c->big ? 43 : 42, 2, be);
	if (c->big)
		put(p + 4, 8, 2, be);
	put(p + word, dir_offset(c, 0), word, be);
	for (int i = 0; i < c->n; i++)
	{
		uint8_t *d = *out + dir_offset(c, i);

		put(d, 1, c->big ? 8 : 2, be);
		d += c->big ? 8 : 2;
		put(d, 254, 2, be);
		put(d + 2, 4, 2, be);
		put(d + 4, 1, word, be);
		put(d + 4 + word, (uint64_t) c->subfile[i], 4, be);
		put(d + 4 + 2 * word, dir_offset(c, c->next[i]), word, be);
	}
	return len;
}

static void
check_chain(Chain *c, int pages)
{
	for (int kind = 0; kind < 4; kind++)
	{
		uint8_t *bytes;
		size_t len;

		c->big_endian = kind % 2;
		c->big = kind / 2;
		len = chain_bytes(c, &bytes);
		assert_int_equal(dsocr_tiff_count_pages(bytes, len), pages);
		assert_int_equal(dsocr_tiff_has_pages(bytes, len), pages > 1);
		assert_int_equal(dsocr_tiff_page_offset(bytes, len, 1), dir_offset(c, 0));
		assert_int_equal(dsocr_tiff_page_offset(bytes, len, 0), 0);
		assert_int_equal(dsocr_tiff_page_offset(bytes, len, pages + 1), 0);
		assert_true(dsocr_tiff_page_offset(bytes, len, pages) != 0);
		free(bytes);
	}
}

static void
line_up(Chain *c, int n)
{
	memset(c, 0, sizeof(*c));
	c->n = n;
	for (int i = 0; i < n; i++)
		c->next[i] = i + 1 < n ? i + 1 : -1;
}

static void
test_chains(void **state)
{
	Chain c;

	for (int n = 1; n < 40; n++)
	{
		line_up(&c, n);
		check_chain(&c, n);
		c.next[n - 1] = -2;
		check_chain(&c, n);
	}
}

/* A ring ends where it closes, wherever that is. */
static void
test_rings(void **state)
{
	Chain c;

	for (int n = 1; n < 40; n++)
		for (int back = 0; back < n; back++)
		{
			line_up(&c, n);
			c.next[n - 1] = back;
			check_chain(&c, n);
		}
	line_up(&c, MAX_DIRS);
	c.next[MAX_DIRS - 1] = MAX_DIRS / 3;
	check_chain(&c, MAX_DIRS);
	/* the rest cannot be reached */
	c.next[100] = 7;
	check_chain(&c, 101);
}

static void
test_copies_are_no_pages(void **state)
{
	Chain c;
	uint8_t *bytes;
	size_t len;

	line_up(&c, 5);
	c.subfile[1] = 1; /* a smaller one */
	c.subfile[2] = 2; /* a page of several: the usual one */
	c.subfile[3] = 4; /* a mask */
	check_chain(&c, 3);
	len = chain_bytes(&c, &bytes);
	assert_int_equal(dsocr_tiff_page_offset(bytes, len, 2), dir_offset(&c, 2));
	assert_int_equal(dsocr_tiff_page_offset(bytes, len, 3), dir_offset(&c, 4));
	free(bytes);
	line_up(&c, 2);
	c.subfile[0] = c.subfile[1] = 1;
	check_chain(&c, 1);
}

/* Any end of the file, any byte changed: nothing but an answer. */
static void
test_damaged_chains(void **state)
{
	Chain c;
	uint64_t answers = 0;

	line_up(&c, 4);
	for (int kind = 0; kind < 4; kind++)
	{
		uint8_t *bytes;
		size_t len;

		c.big_endian = kind % 2;
		c.big = kind / 2;
		len = chain_bytes(&c, &bytes);
		for (size_t n = 0; n <= len; n++)
		{
			uint8_t *copy = malloc(n + (n == 0));

			assert_non_null(copy);
			memcpy(copy, bytes, n);
			assert_in_range(dsocr_tiff_count_pages(copy, n), 0, 4);
			answers += (uint64_t) dsocr_tiff_has_pages(copy, n);
			for (size_t at = 0; at < n; at++)
			{
				uint8_t was = copy[at];

				copy[at] ^= (uint8_t) (1 + at % 255);
				answers += dsocr_tiff_page_offset(copy, n, 3);
				copy[at] = was;
			}
			free(copy);
		}
		free(bytes);
	}
	assert_true(answers > 0);
}

/* Directories that overlap: 4096 entries each, one every two bytes. */
static void
test_flood(void **state)
{
	size_t len = 60 << 20;
	uint8_t *p = malloc(len);
	int64_t start;

	assert_non_null(p);
	for (size_t i = 0; i < len; i += 2)
		put(p + i, 0x1000, 2, false);
	memcpy(p, "II*\0\0\0\1\0", 8);
	start = dsocr_now_us();
	assert_in_range(dsocr_tiff_count_pages(p, len), 0, DSOCR_TIFF_MAX_PAGES + 1);
	assert_true(dsocr_now_us() - start < 1000000);
	free(p);
}

/* ---- PNM ---- */

static bool
decode(const char *bytes, size_t len, uint64_t max_pixels, DsocrImage *image, DsocrError *err)
{
	uint8_t *copy = malloc(len);
	DsocrError probe = {0};
	int width = 0;
	int height = 0;
	bool ok;
	bool probed;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	memset(err, 0, sizeof(*err));
	ok = dsocr_image_decode(copy, len, max_pixels, image, err);
	probed = dsocr_image_probe(copy, len, max_pixels, &width, &height, &probe);
	free(copy);
	if (ok)
	{
		assert_true(probed);
		assert_int_equal(width, image->width);
		assert_int_equal(height, image->height);
	}
	return ok;
}

static void
test_pnm(void **state)
{
	static const char gray[] = "P5 3\t2\n255\n\0\1\2\3\4\xff";
	static const char color[] =
		"P6\n# a comment\n2 #another\n1\r\n255 \1\2\3\xff\xfe\xfd left over";
	static const uint8_t gray_rgb[] = {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 255, 255, 255};
	static const uint8_t color_rgb[] = {1, 2, 3, 255, 254, 253};
	DsocrImage image;
	DsocrError err;

	assert_true(decode(gray, sizeof(gray) - 1, 6, &image, &err));
	assert_int_equal(image.width, 3);
	assert_int_equal(image.height, 2);
	assert_memory_equal(image.rgb, gray_rgb, sizeof(gray_rgb));
	dsocr_image_free(&image);
	assert_true(decode(color, sizeof(color) - 1, 0, &image, &err));
	assert_int_equal(image.width, 2);
	assert_memory_equal(image.rgb, color_rgb, sizeof(color_rgb));
	dsocr_image_free(&image);
	for (size_t len = 3; len < sizeof(gray) - 1; len++)
	{
		assert_false(decode(gray, len, 0, &image, &err));
		assert_int_equal(err.code, DSOCR_E_IMAGE);
		assert_string_equal(err.message, "PNM image is truncated");
	}
}

static void
test_pnm_refused(void **state)
{
	static const char *const cases[][2] = {
		{"P5 1 1 65535 aa", "PNM image has samples up to 65535; only 255 is supported"},
		{"P5 1 1 15 a", "PNM image has samples up to 15; only 255 is supported"},
		{"P5 -1 1 255 a", "PNM image has an invalid header"},
		{"P5 1 1 255a", "PNM image has an invalid header"},
		{"P5 1 1x255 a", "PNM image has an invalid header"},
		{"P5 1234567890 1 255 a", "PNM image has an invalid header"},
		{"P5 0 1 255 a", "PNM image of 0 x 1 pixels is empty"},
		{"P6 999999999 999999999 255 a",
		 "PNM image of 999999999 x 999999999 pixels exceeds the limit of 100000000 pixels"},
		{"P6 100000000 1 255 a",
		 "PNM image of 100000000 x 1 pixels exceeds the limit of 1000000 pixels a side"},
		{"P6 10000 10000 255 a", "PNM image is truncated"},
		{"P5 #", "PNM image is truncated"},
	};
	DsocrImage image;
	DsocrError err;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		assert_false(decode(cases[i][0], strlen(cases[i][0]), 0, &image, &err));
		assert_int_equal(err.code, DSOCR_E_IMAGE);
		assert_string_equal(err.message, cases[i][1]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_pdf_behind_something),
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_rings),
		cmocka_unit_test(test_copies_are_no_pages),
		cmocka_unit_test(test_damaged_chains),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_pnm),
		cmocka_unit_test(test_pnm_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
