/*-------------------------------------------------------------------------
 *
 * test_image_formats.c
 *		TIFF and WebP: pixels as in Pillow, hostile files refused.
 *
 * The pictures are the seeds of the fuzz targets; image_formats.txt says what
 * is in them (see test/fuzz/make_images.py).  Formats that the build leaves
 * out must be refused with a hint.
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
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "image.h"
#include "image_sniff.h"
#include "sha256.h"
#include "../reference/make_image.h"

#define CORPUS "test/fuzz/corpus/"

#ifdef DSOCR_WITH_TIFF
#define WITH_TIFF true
#else
#define WITH_TIFF false
#endif
#ifdef DSOCR_WITH_WEBP
#define WITH_WEBP true
#else
#define WITH_WEBP false
#endif

#define BOMB_MEMORY_KB (64 * 1024)
#define BOMB_TIME_US 1000000 /* the aim is 50000; the machine may be busy */

static bool
is_read(const uint8_t *bytes, size_t len)
{
	DsocrFormat format = dsocr_image_sniff(bytes, len);

	return format == DSOCR_FORMAT_TIFF ? WITH_TIFF : format == DSOCR_FORMAT_WEBP ? WITH_WEBP : true;
}

static void
read_seed(const char *name, DsocrBuffer *b)
{
	DsocrError err = {0};
	char path[256];

	snprintf(path, sizeof(path), CORPUS "%s", name);
	if (!dsocr_read_file(path, 1 << 20, b, &err))
		fail_msg("%s", err.message);
}

/* ---- pixels ---- */

static void
check_page(const char *name, int page, int width, int height, const char *sha)
{
	DsocrBuffer b = {0};
	DsocrImage image;
	DsocrError err = {0};
	char found[65];
	int w = 0;
	int h = 0;

	read_seed(name, &b);
	if (!is_read((uint8_t *) b.data, b.len))
	{
		dsocr_buffer_free(&b);
		return;
	}
	if (!dsocr_image_decode_page((uint8_t *) b.data, b.len, page, 0, NULL, &image, &err) ||
		!dsocr_image_probe_page((uint8_t *) b.data, b.len, page, 0, &w, &h, &err))
		fail_msg("%s, page %d: %s", name, page, err.message);
	if (image.width != width || image.height != height || w != width || h != height)
		fail_msg("%s, page %d: %d x %d pixels", name, page, image.width, image.height);
	dsocr_sha256_hex(image.rgb, (size_t) width * (size_t) height * 3, found);
	if (strcmp(found, sha) != 0)
		fail_msg("%s, page %d: other pixels", name, page);
	dsocr_image_free(&image);
	dsocr_buffer_free(&b);
}

static void
test_pixels(void **state)
{
	FILE *list = fopen("test/unit/image_formats.txt", "r");
	char name[128];
	char sha[65];
	int page;
	int width;
	int height;
	int n = 0;

	assert_non_null(list);
	while (fscanf(list, "%127s %d %d %d %64s", name, &page, &width, &height, sha) == 5)
	{
		check_page(name, page, width, height, sha);
		n++;
	}
	fclose(list);
	assert_true(n > 80);
}

static void
test_pages(void **state)
{
	static const char *const names[] = {"tiff/pages.tif", "tiff/pages-big.tif"};
	DsocrImage image;

	for (int i = 0; i < 2; i++)
	{
		DsocrBuffer b = {0};
		DsocrError err = {0};
		int pages = 0;

		read_seed(names[i], &b);
		assert_true(dsocr_tiff_has_pages((uint8_t *) b.data, b.len));
		if (WITH_TIFF)
		{
			assert_true(dsocr_image_pages((uint8_t *) b.data, b.len, &pages, &err));
			assert_int_equal(pages, 4);
			assert_false(
				dsocr_image_decode_page((uint8_t *) b.data, b.len, 5, 0, NULL, &image, &err));
			assert_string_equal(err.message, "TIFF image has no page 5");
			assert_false(
				dsocr_image_decode_page((uint8_t *) b.data, b.len, -1, 0, NULL, &image, &err));
		}
		dsocr_buffer_free(&b);
	}
}

static void
test_left_out(void **state)
{
	static const char *const names[] = {"tiff/RGB-raw.tif", "webp/lossy10.webp"};

	for (int i = 0; i < 2; i++)
	{
		DsocrBuffer b = {0};
		DsocrImage image;
		DsocrError err = {0};

		read_seed(names[i], &b);
		if (!is_read((uint8_t *) b.data, b.len))
		{
			assert_false(dsocr_image_decode((uint8_t *) b.data, b.len, 0, &image, &err));
			assert_int_equal(err.code, DSOCR_E_IMAGE);
			assert_non_null(strstr(err.message, "not supported by this build"));
			assert_true(err.hint[0] != '\0');
		}
		dsocr_buffer_free(&b);
	}
}

/* ---- damage ---- */

static bool
decode(const uint8_t *bytes, size_t len, uint64_t max_pixels, DsocrError *err)
{
	DsocrImage image;

	memset(err, 0, sizeof(*err));
	if (!dsocr_image_decode(bytes, len, max_pixels, &image, err))
	{
		assert_true(err->code == DSOCR_E_IMAGE || err->code == DSOCR_E_MEMORY);
		assert_true(err->message[0] != '\0');
		return false;
	}
	dsocr_image_free(&image);
	return true;
}

/* No part of these may be missing: their data end where the file does. */
static void
test_truncated(void **state)
{
	static const char *const names[] = {"webp/lossy90.webp", "webp/lossless.webp",
										"webp/alpha90.webp", "webp/animation.webp"};

	if (!WITH_WEBP)
		skip();
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		DsocrBuffer b = {0};
		DsocrError err;

		read_seed(names[i], &b);
		assert_true(decode((uint8_t *) b.data, b.len, 0, &err));
		for (size_t len = 12; len < b.len; len++)
		{
			uint8_t *copy = malloc(len);

			assert_non_null(copy);
			memcpy(copy, b.data, len);
			if (decode(copy, len, 0, &err))
				fail_msg("%s cut to %zu bytes was read", names[i], len);
			free(copy);
		}
		dsocr_buffer_free(&b);
	}
}

/* The length of a tile without its width: tiles to libtiff, strips by the sizes that are there. */
static void
test_half_a_tile(void **state)
{
	DsocrBuffer b = {0};
	DsocrError err = {0};

	if (!WITH_TIFF)
		skip();
	read_seed("tiff/tile-length-only.tif", &b);
	assert_false(decode((uint8_t *) b.data, b.len, 0, &err));
	assert_int_equal(err.code, DSOCR_E_IMAGE);
	dsocr_buffer_free(&b);
}

/* Strips whose bytes are missing are an error, never grey. */
static void
test_missing_strips(void **state)
{
	static const char *const names[] = {"tiff/RGB-raw.tif",			 "tiff/RGB-tiff_lzw.tif",
										"tiff/RGB-tiff_deflate.tif", "tiff/RGB-tiles.tif",
										"tiff/RGB-jpeg-raw.tif",	 "tiff/L-lzma.tif"};
	DsocrError err;

	if (!WITH_TIFF)
		skip();
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		DsocrBuffer b = {0};
		uint64_t value;
		uint64_t offset;

		read_seed(names[i], &b);
		assert_true(decode((uint8_t *) b.data, b.len, 0, &err));
		offset = dsocr_tiff_page_offset((uint8_t *) b.data, b.len, 1);
		/* the directory in front of the data, or behind */
		if (dsocr_tiff_value((uint8_t *) b.data, b.len, offset, 273, &value) && value > offset)
			assert_false(decode((uint8_t *) b.data, b.len - 200, 0, &err));
		/* nonsense instead of data: what is compressed cannot be read */
		if (strstr(names[i], "raw.tif") == NULL && strstr(names[i], "tiles") == NULL)
		{
			assert_true(dsocr_tiff_value((uint8_t *) b.data, b.len, offset, 273, &value));
			memset(b.data + value, 0xff, 40);
			assert_false(decode((uint8_t *) b.data, b.len, 0, &err));
		}
		dsocr_buffer_free(&b);
	}
}

static void
test_damaged_anywhere(void **state)
{
	static const char *const names[] = {
		"tiff/RGB-tiles-lzw.tif",	"tiff/1-group4.tif",		 "tiff/RGB-jpeg-ycc.tif",
		"tiff/pages-big.tif",		"tiff/CMYK-raw.tif",		 "tiff/palette4-be.tif",
		"tiff/old-jpeg.tif",		"tiff/ycc-full.tif",		 "webp/alpha10.webp",
		"webp/lossless-alpha.webp", "webp/animation-offset.webp"};
	int accepted = 0;
	int refused = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		DsocrBuffer b = {0};
		DsocrError err;

		read_seed(names[i], &b);
		for (size_t at = 0; at < b.len && is_read((uint8_t *) b.data, b.len); at++)
			for (int change = 0; change < 2; change++)
			{
				uint8_t *copy = malloc(b.len);

				assert_non_null(copy);
				memcpy(copy, b.data, b.len);
				copy[at] ^= change == 0 ? 0x01 : 0xff;
				if (decode(copy, b.len, 1 << 16, &err))
					accepted++;
				else
					refused++;
				free(copy);
			}
		dsocr_buffer_free(&b);
	}
	assert_true(!(WITH_TIFF && WITH_WEBP) || (accepted > 1000 && refused > 1000));
}

/* ---- bombs ---- */

typedef struct Tag
{
	uint16_t tag;
	uint16_t type; /* 3: short, 4: long */
	uint32_t count;
	uint32_t value; /* or offset */
} Tag;

static void
le(DsocrBuffer *b, uint64_t v, int size)
{
	for (int i = 0; i < size; i++)
		mk_bytes(b, &(uint8_t){(uint8_t) (v >> (8 * i))}, 1);
}

/* A file of one directory and some bytes behind it. */
static void
tiff_of(DsocrBuffer *b, const Tag *tags, int n, size_t more)
{
	uint8_t *zeros = calloc(more + 1, 1);

	assert_non_null(zeros);
	mk_bytes(b, "II*\0\10\0\0\0", 8);
	le(b, (uint64_t) n, 2);
	for (int i = 0; i < n; i++)
	{
		le(b, tags[i].tag, 2);
		le(b, tags[i].type, 2);
		le(b, tags[i].count, 4);
		le(b, tags[i].value, 4);
	}
	le(b, 0, 4);
	mk_bytes(b, zeros, more);
	free(zeros);
}

static void
check_bomb(const char *what, const DsocrBuffer *b, const char *message)
{
	int fd[2];
	int status;
	pid_t pid;
	int64_t out[2] = {0};

	assert_int_equal(pipe(fd), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
	{
		struct rusage before;
		struct rusage after;
		int64_t start = dsocr_now_us();
		DsocrImage image;
		DsocrError err = {0};
		int width;
		int height;
		bool ok;

		getrusage(RUSAGE_SELF, &before);
		ok = dsocr_image_probe((uint8_t *) b->data, b->len, 0, &width, &height, &err) &&
			 dsocr_image_decode((uint8_t *) b->data, b->len, 0, &image, &err);
		out[1] = dsocr_now_us() - start;
		getrusage(RUSAGE_SELF, &after);
		out[0] = after.ru_maxrss - before.ru_maxrss;
		if (ok || strstr(err.message, message) == NULL)
		{
			printf("%s: \"%s\"\n", what, ok ? "read" : err.message);
			fflush(NULL);
			_exit(1);
		}
		_exit(write(fd[1], out, sizeof(out)) == sizeof(out) ? 0 : 1);
	}
	close(fd[1]);
	status = (int) read(fd[0], out, sizeof(out));
	close(fd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	printf("%s: %.1f ms, %ld kB, file of %zu bytes\n", what, (double) out[1] / 1000, (long) out[0],
		   b->len);
	assert_true(out[0] <= BOMB_MEMORY_KB);
	assert_true(out[1] <= BOMB_TIME_US);
}

#define PAGE(w, h)                                                                                 \
	{256, 4, 1, (w)}, {257, 4, 1, (h)}, {258, 3, 1, 8}, {259, 3, 1, 1}, {262, 3, 1, 1},            \
	{                                                                                              \
		277, 3, 1, 1                                                                               \
	}

static void
test_tiff_bombs(void **state)
{
	static const struct
	{
		const char *what;
		const char *message;
		Tag tags[12];
		size_t more;
	} kinds[] = {
		{"a million by a million",
		 "exceeds the limit",
		 {PAGE(1000000, 1000000), {273, 4, 1, 8}, {278, 4, 1, 1}, {279, 4, 1, 8}},
		 100},
		{"4294967295 squared",
		 "exceeds the limit",
		 {PAGE(0xffffffff, 0xffffffff), {273, 4, 1, 8}, {278, 4, 1, 1}, {279, 4, 1, 8}},
		 100},
		{"beyond a side",
		 "pixels a side",
		 {PAGE(1, 1000001), {273, 4, 1, 8}, {278, 4, 1, 1}, {279, 4, 1, 8}},
		 100},
		{"one-pixel strips",
		 "strips or tiles",
		 {PAGE(1, 900000), {273, 4, 900000, 200}, {278, 4, 1, 1}, {279, 4, 900000, 200}},
		 8000000},
		{"one-pixel tiles",
		 "strips or tiles",
		 {PAGE(9000, 9000),
		  {322, 4, 1, 1},
		  {323, 4, 1, 1},
		  {324, 4, 1000, 200},
		  {325, 4, 1000, 200}},
		 8000},
		{"huge tiles",
		 "tiles of",
		 {PAGE(10, 10),
		  {322, 4, 1, 0xffffffff},
		  {323, 4, 1, 0xffffffff},
		  {324, 4, 1, 8},
		  {325, 4, 1, 8}},
		 100},
		{"values beyond the file",
		 "values beyond",
		 {PAGE(10, 10), {273, 4, 1, 8}, {279, 4, 1, 100}, {700, 1, 0xfffffff0, 8}},
		 1000},
		{"no offsets, ten thousand rows", "damaged", {PAGE(10000, 10000), {278, 4, 1, 1}}, 1000},
		{"ten thousand samples",
		 "samples a pixel",
		 {{256, 4, 1, 10}, {257, 4, 1, 10}, {258, 3, 1, 8}, {277, 3, 1, 10000}, {273, 4, 1, 8}},
		 100},
		{"pixels beyond the file",
		 "damaged",
		 {PAGE(10000, 10000), {273, 4, 1, 8}, {278, 4, 1, 10000}, {279, 4, 1, 100000000}},
		 1000},
	};

	if (!WITH_TIFF)
		skip();
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
	{
		DsocrBuffer b = {0};
		int n = 0;

		while (n < 12 && kinds[k].tags[n].tag != 0)
			n++;
		tiff_of(&b, kinds[k].tags, n, kinds[k].more);
		check_bomb(kinds[k].what, &b, kinds[k].message);
		dsocr_buffer_free(&b);
	}
}

/* Thousands of tags that all name the same megabytes; directories in a ring. */
static void
test_tiff_floods(void **state)
{
	static Tag tags[65000] = {PAGE(10, 10), {273, 4, 1, 8}, {279, 4, 1, 100}};
	DsocrBuffer b = {0};

	if (!WITH_TIFF)
		skip();
	for (int i = 8; i < 65000; i++)
		tags[i] = (Tag){(uint16_t) (500 + i % 65000), 1, 30000000, 8};
	tiff_of(&b, tags, 4000, 30 << 20);
	check_bomb("4000 tags of 30 MB each", &b, "values beyond");
	dsocr_buffer_free(&b);
	tiff_of(&b, tags, 65000, 30 << 20);
	check_bomb("65000 tags of 30 MB each", &b, "no directory");
	dsocr_buffer_free(&b);
	/* a directory that names itself is one page of nothing that can be read */
	tiff_of(&b, tags, 6, 0);
	b.data[b.len - 4] = 8;
	check_bomb("a ring", &b, "damaged");
	dsocr_buffer_free(&b);
}

/* The canvas of an animation, a picture whose header lies. */
static void
test_webp_bombs(void **state)
{
	DsocrBuffer b = {0};

	if (!WITH_WEBP)
		skip();
	read_seed("webp/animation.webp", &b);
	b.data[25] = b.data[28] = (char) 0xc0; /* of width and height in VP8X */
	check_bomb("huge canvas", &b, "exceeds the limit");
	dsocr_buffer_free(&b);
	read_seed("webp/lossy90.webp", &b);
	memset(b.data + 26, 0x3f, 4);
	check_bomb("16191 x 16191 in a few bytes", &b, "exceeds the limit");
	memset(b.data + 26, 0x1f, 4);
	check_bomb("7967 x 7967 in a few bytes", &b, "WebP image is");
	dsocr_buffer_free(&b);
}

static bool
count_down(void *arg)
{
	return --*(int *) arg > 0;
}

static void
test_polls(void **state)
{
	static const char *const names[] = {"tiff/RGB-raw.tif", "tiff/ycc-full.tif",
										"webp/lossy90.webp"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		DsocrBuffer b = {0};
		DsocrImage image;
		DsocrError err = {0};
		int calls = 1;
		DsocrPoll poll = {.go_on = count_down, .arg = &calls};

		read_seed(names[i], &b);
		if (is_read((uint8_t *) b.data, b.len))
		{
			assert_false(
				dsocr_image_decode_polled((uint8_t *) b.data, b.len, 0, &poll, &image, &err));
			assert_int_equal(err.code, DSOCR_E_CANCELLED);
			assert_null(image.rgb);
		}
		dsocr_buffer_free(&b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pixels),		   cmocka_unit_test(test_pages),
		cmocka_unit_test(test_left_out),	   cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_missing_strips), cmocka_unit_test(test_damaged_anywhere),
		cmocka_unit_test(test_tiff_bombs),	   cmocka_unit_test(test_tiff_floods),
		cmocka_unit_test(test_webp_bombs),	   cmocka_unit_test(test_polls),
		cmocka_unit_test(test_half_a_tile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
