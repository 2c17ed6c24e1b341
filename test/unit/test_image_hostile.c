/*-------------------------------------------------------------------------
 *
 * test_image_hostile.c
 *		Damaged pictures, absurd sizes and decompression bombs.
 *
 * Bombs are decoded in a child process, whose highest memory use is compared
 * with what it was before.  Times are printed; only a second is asserted,
 * because the machine may be busy.
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
#include "../reference/make_image.h"

#define BOMB_MEMORY_KB (64 * 1024)
#define BOMB_TIME_US 1000000

static const uint16_t small_samples[] = {0,	 1, 2,	3,	4,	5,	6,	7,	8,	9,	10, 11,
										 12, 1, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};
static const uint8_t small_palette[] = {10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120};

static bool
decode(const void *bytes, size_t len, uint64_t max_pixels, DsocrError *err)
{
	DsocrImage image;

	memset(err, 0, sizeof(*err));
	if (!dsocr_image_decode(bytes, len, max_pixels, &image, err))
	{
		assert_null(image.rgb);
		return false;
	}
	dsocr_image_free(&image);
	return true;
}

static void
expect_error(const void *bytes, size_t len, uint64_t max_pixels, const char *message)
{
	DsocrError err;

	assert_false(decode(bytes, len, max_pixels, &err));
	assert_int_equal(err.code, DSOCR_E_IMAGE);
	assert_string_equal(err.message, message);
}

/* The same from decoding and from probing. */
static void
expect_both(const void *bytes, size_t len, uint64_t max_pixels, const char *message)
{
	DsocrError err = {0};
	int width;
	int height;

	expect_error(bytes, len, max_pixels, message);
	assert_false(dsocr_image_probe(bytes, len, max_pixels, &width, &height, &err));
	assert_int_equal(err.code, DSOCR_E_IMAGE);
	assert_string_equal(err.message, message);
}

static void
small_png(DsocrBuffer *b, bool interlaced)
{
	MkPng png = {.width = 6,
				 .height = 4,
				 .depth = 8,
				 .color = 3,
				 .interlaced = interlaced,
				 .samples = small_samples,
				 .palette = small_palette,
				 .palette_len = sizeof(small_palette)};
	uint8_t tiff[MK_TIFF];

	mk_signature(b);
	mk_ihdr(b, &png);
	mk_chunk(b, "PLTE", small_palette, sizeof(small_palette));
	mk_tiff(tiff, 6, true);
	mk_chunk(b, "eXIf", tiff, sizeof(tiff));
	mk_idat(b, &png);
	mk_chunk(b, "tEXt", "Comment\0x", 9);
	mk_chunk(b, "IEND", NULL, 0);
}

static bool
small_jpeg(DsocrBuffer *b, int kind)
{
	static uint8_t samples[19 * 17 * 4];
	MkJpeg jpeg = {.width = 19,
				   .height = 17,
				   .components = kind % 3 == 0	 ? 1
								 : kind % 3 == 1 ? 3
												 : 4,
				   .ycc = kind % 3 == 1,
				   .h_samp = kind % 3 == 0 ? 1 : 2,
				   .v_samp = 1,
				   .progressive = kind / 3 % 2 == 1,
				   .arithmetic = kind / 6 == 1,
				   .restart = kind % 2,
				   .quality = 80,
				   .samples = samples};
	DsocrBuffer plain = {0};
	uint8_t tiff[MK_TIFF];

	for (size_t i = 0; i < sizeof(samples); i++)
		samples[i] = (uint8_t) (i * 7 + i / 19);
	if (!mk_jpeg(&plain, &jpeg))
		return false;
	mk_tiff(tiff, 5, false);
	mk_jpeg_with_exif(b, &plain, tiff);
	dsocr_buffer_free(&plain);
	return true;
}

#define JPEG_KINDS 12

/* An exact copy, so that memory checkers see the first byte too far. */
static void *
exact_copy(const DsocrBuffer *b, size_t len)
{
	void *copy = malloc(len + (len == 0));

	assert_non_null(copy);
	memcpy(copy, b->data, len);
	return copy;
}

/* ---- no picture at all ---- */

static void
test_not_an_image(void **state)
{
	DsocrError err;
	char *zeros = calloc(100, 1000000);

	assert_non_null(zeros);
	expect_both("", 0, 0, "image is empty");
	expect_both("hello, world", 12, 0, "image is not PNG, JPEG, WebP, TIFF or PNM");
	expect_both("\x89PNG\r\n\x1a", 7, 0, "image is not PNG, JPEG, WebP, TIFF or PNM");
	expect_both(zeros, 100000000, 0, "image is not PNG, JPEG, WebP, TIFF or PNM");
	free(zeros);
	assert_false(decode("%PDF-1.7", 8, 0, &err));
	assert_string_equal(err.message, "PDF is no image");
	assert_false(decode("GIF89a", 6, 0, &err));
	assert_string_equal(err.hint, "The data looks like GIF. Convert it to PNG or JPEG first.");
	assert_false(decode("P4 8 1\n\xf0", 8, 0, &err));
	assert_string_equal(err.hint, "Of PNM, binary PGM and PPM are read. Convert it first.");
}

/* ---- truncation and damage ---- */

static void
check_truncation(const DsocrBuffer *b, const char *allowed)
{
	DsocrError err;

	assert_true(decode(b->data, b->len, 0, &err));
	for (size_t len = 0; len < b->len; len++)
	{
		void *copy = exact_copy(b, len);
		int width;
		int height;

		if (decode(copy, len, 0, &err))
			fail_msg("%s: %zu of %zu bytes were enough", allowed, len, b->len);
		assert_int_equal(err.code, DSOCR_E_IMAGE);
		if (len >= 8)
			assert_string_equal(err.message, allowed);
		dsocr_image_probe(copy, len, 0, &width, &height, &err);
		free(copy);
	}
}

static void
test_png_truncated_anywhere(void **state)
{
	for (int interlaced = 0; interlaced < 2; interlaced++)
	{
		DsocrBuffer b = {0};

		small_png(&b, interlaced);
		check_truncation(&b, "PNG image is truncated");
		dsocr_buffer_free(&b);
	}
}

static void
test_jpeg_truncated_anywhere(void **state)
{
	for (int kind = 0; kind < JPEG_KINDS; kind++)
	{
		DsocrBuffer b = {0};

		if (small_jpeg(&b, kind))
			check_truncation(&b, "JPEG image is truncated");
		dsocr_buffer_free(&b);
	}
}

/* Every byte of a PNG is under a checksum or fixed, so every change must be seen. */
static void
test_png_every_byte_matters(void **state)
{
	DsocrBuffer b = {0};
	DsocrError err;

	small_png(&b, false);
	for (size_t at = 0; at < b.len; at++)
		for (int bit = 0; bit < 8; bit++)
		{
			uint8_t *copy = exact_copy(&b, b.len);

			copy[at] ^= (uint8_t) (1 << bit);
			if (decode(copy, b.len, 0, &err))
				fail_msg("bit %d of byte %zu was not missed", bit, at);
			free(copy);
		}
	dsocr_buffer_free(&b);
}

static void
test_png_wrong_checksum(void **state)
{
	DsocrBuffer b = {0};

	small_png(&b, false);
	b.data[b.len - 1] ^= 1;
	expect_error(b.data, b.len, 0, "PNG image is damaged: wrong checksum in IEND");
	b.data[b.len - 1] ^= 1;
	b.data[8 + 25 + 8 + 12] ^= 1;
	expect_error(b.data, b.len, 0, "PNG image is damaged: wrong checksum in PLTE");
	b.data[8 + 25 + 8 + 12] ^= 1;
	b.data[8 + 8 + 13] ^= 1;
	expect_both(b.data, b.len, 0, "PNG image is damaged: wrong checksum in IHDR");
	dsocr_buffer_free(&b);
}

/* Damage in a JPEG may go unseen, but must never do harm. */
static void
test_jpeg_damaged_anywhere(void **state)
{
	int accepted = 0;
	int refused = 0;

	for (int kind = 0; kind < JPEG_KINDS; kind++)
	{
		DsocrBuffer b = {0};

		if (!small_jpeg(&b, kind))
			continue;
		for (size_t at = 0; at < b.len; at++)
			for (int change = 0; change < 4; change++)
			{
				static const uint8_t masks[] = {0x01, 0x80, 0xff, 0x10};
				uint8_t *copy = exact_copy(&b, b.len);
				DsocrError err;

				copy[at] ^= masks[change];
				if (decode(copy, b.len, 1 << 16, &err))
					accepted++;
				else
				{
					refused++;
					assert_true(err.code == DSOCR_E_IMAGE && err.message[0] != '\0');
				}
				free(copy);
			}
		dsocr_buffer_free(&b);
	}
	assert_true(accepted > 1000 && refused > 1000);
}

/* ---- PNG structure ---- */

/* A file of the given chunks: name and data as strings, lengths by strlen. */
static void
expect_png(const MkPng *png, const char *palette, bool idat, const char *message)
{
	DsocrBuffer b = {0};

	mk_signature(&b);
	mk_ihdr(&b, png);
	if (palette != NULL)
		mk_chunk(&b, "PLTE", palette, strlen(palette));
	if (idat)
		mk_idat(&b, png);
	mk_chunk(&b, "IEND", NULL, 0);
	expect_error(b.data, b.len, 0, message);
	dsocr_buffer_free(&b);
}

static void
test_png_structure(void **state)
{
	MkPng png = {.width = 2, .height = 2, .depth = 8, .color = 3, .samples = small_samples};
	MkPng other;
	DsocrBuffer b = {0};
	DsocrBuffer z = {0};

	expect_png(&png, NULL, true, "PNG image has no palette");
	expect_png(&png, "ab", true, "PNG image has an invalid palette");
	expect_png(&png, "abc", false, "PNG image has no image data");
	other = png;
	other.depth = 16;
	expect_png(&other, "abc", true,
			   "PNG image has an invalid combination of color type 3 and bit depth 16");
	other = (MkPng){.width = 2, .height = 2, .depth = 3, .samples = small_samples};
	expect_png(&other, NULL, true,
			   "PNG image has an invalid combination of color type 0 and bit depth 3");

	/* data enough for one row of two */
	png.color = 0;
	mk_signature(&b);
	mk_ihdr(&b, &png);
	mk_deflate(&z, "\0ab", 3);
	mk_chunk(&b, "IDAT", z.data, z.len);
	mk_chunk(&b, "IEND", NULL, 0);
	expect_error(b.data, b.len, 0, "PNG image is truncated");
	dsocr_buffer_free(&b);

	/* data split by another chunk: what follows it does not count */
	mk_signature(&b);
	mk_ihdr(&b, &png);
	mk_chunk(&b, "IDAT", z.data, z.len / 2);
	mk_chunk(&b, "tEXt", "a\0b", 3);
	mk_chunk(&b, "IDAT", z.data + z.len / 2, z.len - z.len / 2);
	mk_chunk(&b, "IEND", NULL, 0);
	expect_error(b.data, b.len, 0, "PNG image is truncated");
	dsocr_buffer_free(&b);

	/* no chunk where one should be */
	mk_signature(&b);
	mk_ihdr(&b, &png);
	mk_chunk(&b, "\1\2\3\4", "", 0);
	expect_error(b.data, b.len, 0, "PNG image is damaged: invalid chunk name");
	dsocr_buffer_free(&b);

	mk_signature(&b);
	mk_chunk(&b, "IDAT", z.data, z.len);
	expect_both(b.data, b.len, 0, "PNG image has no valid header");
	dsocr_buffer_free(&b);
	dsocr_buffer_free(&z);
}

/* ---- sizes ---- */

static void
png_header(DsocrBuffer *b, uint32_t width, uint32_t height)
{
	MkPng png = {.width = width, .height = height, .depth = 8, .color = 2};

	dsocr_buffer_free(b);
	mk_signature(b);
	mk_ihdr(b, &png);
}

/* SOI, SOF0 with three components, one SOS. */
static void
jpeg_header(DsocrBuffer *b, uint32_t width, uint32_t height, int precision, int components)
{
	uint8_t n = (uint8_t) components;

	dsocr_buffer_free(b);
	mk_be32(b, 0xffd8ffc0);
	mk_be16(b, 8 + 3 * (uint32_t) n);
	mk_bytes(b, &(uint8_t){(uint8_t) precision}, 1);
	mk_be16(b, height);
	mk_be16(b, width);
	mk_bytes(b, &n, 1);
	for (uint8_t i = 0; i < n; i++)
		mk_bytes(b, (uint8_t[]){(uint8_t) (i + 1), 0x11, 0}, 3);
	mk_bytes(b, "\xff\xda\0\f\3\1\0\2\0\3\0\0?\0", 14);
}

static void
test_absurd_sizes(void **state)
{
	DsocrBuffer b = {0};
	DsocrError err = {0};
	int width;
	int height;

	png_header(&b, 1000000, 1000000);
	expect_both(b.data, b.len, 0,
				"PNG image of 1000000 x 1000000 pixels exceeds the limit of 100000000 pixels");
	assert_false(dsocr_image_probe((uint8_t *) b.data, b.len, 0, &width, &height, &err));
	assert_non_null(strstr(err.hint, "dsocr.max_pixels"));
	png_header(&b, 0xffffffff, 0xffffffff);
	expect_both(
		b.data, b.len, 0,
		"PNG image of 4294967295 x 4294967295 pixels exceeds the limit of 100000000 pixels");
	expect_both(b.data, b.len, UINT64_MAX,
				"PNG image of 4294967295 x 4294967295 pixels exceeds the limit of 1000000 pixels a "
				"side");
	png_header(&b, 0, 0);
	expect_both(b.data, b.len, 0, "PNG image of 0 x 0 pixels is empty");
	png_header(&b, 1, 1000001);
	expect_both(b.data, b.len, 0,
				"PNG image of 1 x 1000001 pixels exceeds the limit of 1000000 pixels a side");

	jpeg_header(&b, 65500, 65500, 8, 3);
	expect_both(b.data, b.len, 0,
				"JPEG image of 65500 x 65500 pixels exceeds the limit of 100000000 pixels");
	jpeg_header(&b, 65501, 2, 8, 3);
	expect_both(b.data, b.len, 0,
				"JPEG image of 65501 x 2 pixels exceeds the limit of 65500 pixels a side");
	jpeg_header(&b, 0, 0, 8, 3);
	expect_both(b.data, b.len, 0, "JPEG image of 0 x 0 pixels is empty");
	jpeg_header(&b, 8, 8, 12, 3);
	expect_both(b.data, b.len, 0, "JPEG image has 12-bit samples; only 8 are supported");
	jpeg_header(&b, 8, 8, 8, 2);
	expect_both(b.data, b.len, 0, "JPEG image has 2 components");
	/* a tenth of a picture cannot be in 30 bytes */
	jpeg_header(&b, 10000, 10000, 8, 3);
	expect_error(b.data, b.len, 0, "JPEG image is truncated");
	dsocr_buffer_free(&b);
}

static void
test_odd_sizes(void **state)
{
	static uint16_t row[2 * 40000];
	MkPng png = {.width = 40000, .height = 2, .depth = 8, .color = 0, .samples = row};
	DsocrBuffer b = {0};
	DsocrError err;

	mk_png(&b, &png);
	assert_true(decode(b.data, b.len, 0, &err));
	/* the limit is exact */
	assert_true(decode(b.data, b.len, 80000, &err));
	expect_both(b.data, b.len, 79999,
				"PNG image of 40000 x 2 pixels exceeds the limit of 79999 pixels");
	dsocr_buffer_free(&b);
	png.width = png.height = 1;
	mk_png(&b, &png);
	assert_true(decode(b.data, b.len, 0, &err));
	dsocr_buffer_free(&b);
}

/* ---- bombs ---- */

/* Memory in kB and time in us that f took in a process of its own. */
static void
measure(bool (*f)(const DsocrBuffer *b), const DsocrBuffer *b, long *kb, int64_t *us, bool *result)
{
	int fd[2];
	int status;
	pid_t pid;
	int64_t out[3];

	assert_int_equal(pipe(fd), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
	{
		struct rusage before;
		struct rusage after;
		int64_t start = dsocr_now_us();

		getrusage(RUSAGE_SELF, &before);
		out[2] = f(b);
		out[1] = dsocr_now_us() - start;
		getrusage(RUSAGE_SELF, &after);
		out[0] = after.ru_maxrss - before.ru_maxrss;
		_exit(write(fd[1], out, sizeof(out)) == sizeof(out) ? 0 : 1);
	}
	close(fd[1]);
	assert_int_equal(read(fd[0], out, sizeof(out)), sizeof(out));
	close(fd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	*kb = (long) out[0];
	*us = out[1];
	*result = out[2] != 0;
}

static bool
touch_memory(const DsocrBuffer *b)
{
	volatile char *p = malloc(100 << 20);

	for (size_t i = 0; p != NULL && i < 100 << 20; i += 4096)
		p[i] = 1;
	return p != NULL;
}

static bool
decode_bytes(const DsocrBuffer *b)
{
	DsocrImage image;

	return dsocr_image_decode((const uint8_t *) b->data, b->len, 0, &image, NULL);
}

static bool
probe_bytes(const DsocrBuffer *b)
{
	int width;
	int height;

	return dsocr_image_probe((const uint8_t *) b->data, b->len, 0, &width, &height, NULL);
}

static void
check_bomb(const char *what, const DsocrBuffer *b, bool readable)
{
	long kb;
	int64_t us;
	bool result;

	for (int probe = 0; probe < 2; probe++)
	{
		measure(probe ? probe_bytes : decode_bytes, b, &kb, &us, &result);
		printf("%s (%s): %.1f ms, %ld kB, file of %zu bytes\n", what, probe ? "probe" : "decode",
			   (double) us / 1000, kb, b->len);
		if (!probe)
			assert_int_equal(result, readable);
		assert_true(kb <= BOMB_MEMORY_KB);
		assert_true(us <= BOMB_TIME_US);
	}
}

static void
test_memory_is_measured(void **state)
{
	long kb;
	int64_t us;
	bool result;

	measure(touch_memory, NULL, &kb, &us, &result);
	assert_true(result);
	assert_true(kb > 90 * 1024);
}

/* Compressed metadata that inflates to a quarter of a gigabyte, in any chunk that has it. */
static void
test_png_metadata_bombs(void **state)
{
	static const struct
	{
		const char *chunk;
		const char *head;
		size_t len;
		int repeat;
	} kinds[] = {{"zTXt", "Comment\0\0", 9, 1},
				 {"zTXt", "Raw profile type exif\0\0", 23, 1},
				 {"iCCP", "profile\0\0", 9, 1},
				 {"iTXt", "XML:com.adobe.xmp\0\1\0\0\0", 22, 1},
				 {"zTXt", "Raw profile type exif\0\0", 23, 40}};
	static const uint16_t samples[] = {7};
	MkPng png = {.width = 1, .height = 1, .depth = 8, .color = 0, .samples = samples};
	DsocrBuffer z = {0};

	mk_deflate_zeros(&z, (size_t) 256 << 20);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
	{
		DsocrBuffer b = {0};
		DsocrBuffer data = {0};

		mk_bytes(&data, kinds[k].head, kinds[k].len);
		mk_bytes(&data, z.data, z.len);
		mk_signature(&b);
		mk_ihdr(&b, &png);
		for (int i = 0; i < kinds[k].repeat; i++)
			mk_chunk(&b, kinds[k].chunk, data.data, data.len);
		mk_idat(&b, &png);
		mk_chunk(&b, "IEND", NULL, 0);
		check_bomb(kinds[k].head, &b, true);
		dsocr_buffer_free(&b);
		dsocr_buffer_free(&data);
	}
	dsocr_buffer_free(&z);
}

/* Pixels: more than the header asks for, and fewer. */
static void
test_png_pixel_bombs(void **state)
{
	MkPng png = {.width = 1, .height = 1, .depth = 8, .color = 2};
	DsocrBuffer z = {0};
	DsocrBuffer b = {0};

	mk_deflate_zeros(&z, (size_t) 256 << 20);
	mk_signature(&b);
	mk_ihdr(&b, &png);
	mk_chunk(&b, "IDAT", z.data, z.len);
	mk_chunk(&b, "IEND", NULL, 0);
	check_bomb("one pixel of 256 MB", &b, true);
	dsocr_buffer_free(&b);

	png.width = png.height = 10000;
	mk_signature(&b);
	mk_ihdr(&b, &png);
	mk_chunk(&b, "IDAT", z.data, 1000);
	mk_chunk(&b, "IEND", NULL, 0);
	check_bomb("10000 x 10000 pixels in 1000 bytes", &b, false);
	dsocr_buffer_free(&b);

	/* a hundred thousand chunks, none of them of use */
	png.width = png.height = 1;
	mk_signature(&b);
	mk_ihdr(&b, &png);
	for (int i = 0; i < 100000; i++)
		mk_chunk(&b, i % 2 == 0 ? "tEXt" : "sPLT", "a\0b", 3);
	mk_chunk(&b, "IDAT", z.data, 1000);
	mk_chunk(&b, "IEND", NULL, 0);
	check_bomb("100000 chunks", &b, true);
	dsocr_buffer_free(&b);
	dsocr_buffer_free(&z);
}

/* A progressive picture whose last scan is repeated. */
static void
scans_jpeg(DsocrBuffer *b, int side, int scans)
{
	uint8_t *samples = calloc((size_t) side, (size_t) side);
	MkJpeg jpeg = {.width = side,
				   .height = side,
				   .components = 1,
				   .h_samp = 1,
				   .v_samp = 1,
				   .progressive = true,
				   .quality = 50,
				   .samples = samples};
	DsocrBuffer plain = {0};
	char *last = NULL;

	assert_non_null(samples);
	assert_true(mk_jpeg(&plain, &jpeg));
	free(samples);
	for (size_t i = 0; i + 1 < plain.len; i++)
		if ((uint8_t) plain.data[i] == 0xff && (uint8_t) plain.data[i + 1] == 0xda)
		{
			scans--;
			last = plain.data + i;
		}
	assert_non_null(last);
	mk_bytes(b, plain.data, plain.len - 2);
	for (int i = 0; i < scans; i++)
		mk_bytes(b, last, (size_t) (plain.data + plain.len - 2 - last));
	mk_bytes(b, "\xff\xd9", 2);
	dsocr_buffer_free(&plain);
}

static void
test_jpeg_scan_bomb(void **state)
{
	DsocrBuffer b = {0};
	DsocrError err;

	scans_jpeg(&b, 64, 100);
	assert_true(decode(b.data, b.len, 0, &err));
	dsocr_buffer_free(&b);
	scans_jpeg(&b, 64, 101);
	expect_error(b.data, b.len, 0, "JPEG image has more than 100 scans");
	dsocr_buffer_free(&b);
	/* 36 million pixels: 55 times 36 million are below the limit, 56 above */
	scans_jpeg(&b, 6000, 56);
	expect_error(b.data, b.len, 0, "JPEG image has more than 55 scans");
	dsocr_buffer_free(&b);
	scans_jpeg(&b, 64, 80000);
	check_bomb("80000 scans", &b, false);
	dsocr_buffer_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_an_image),
		cmocka_unit_test(test_png_truncated_anywhere),
		cmocka_unit_test(test_jpeg_truncated_anywhere),
		cmocka_unit_test(test_png_every_byte_matters),
		cmocka_unit_test(test_png_wrong_checksum),
		cmocka_unit_test(test_jpeg_damaged_anywhere),
		cmocka_unit_test(test_png_structure),
		cmocka_unit_test(test_absurd_sizes),
		cmocka_unit_test(test_odd_sizes),
		cmocka_unit_test(test_memory_is_measured),
		cmocka_unit_test(test_png_metadata_bombs),
		cmocka_unit_test(test_png_pixel_bombs),
		cmocka_unit_test(test_jpeg_scan_bomb),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
