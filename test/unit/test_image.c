/*-------------------------------------------------------------------------
 *
 * test_image.c
 *		PNG and JPEG of every kind to RGB, and all orientations.
 *
 * The expected pixels come from the samples the files were written with; for
 * lossy JPEG from libjpeg itself, called without our limits.
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
#include <cmocka.h>

#include <jpeglib.h>

#include "image.h"
#include "../reference/make_image.h"

#define MAX_SIDE 40

static uint32_t random_state = 1;

static uint32_t
next_random(void)
{
	random_state = random_state * 1664525 + 1013904223;
	return random_state >> 8;
}

static bool
decode(const DsocrBuffer *b, DsocrImage *image, DsocrError *err)
{
	memset(err, 0, sizeof(*err));
	return dsocr_image_decode((const uint8_t *) b->data, b->len, 0, image, err);
}

static void
decode_ok(const char *what, const DsocrBuffer *b, DsocrImage *image)
{
	DsocrError err;
	int width = 0;
	int height = 0;

	if (!decode(b, image, &err))
		fail_msg("%s: %s", what, err.message);
	assert_true(dsocr_image_probe((const uint8_t *) b->data, b->len, 0, &width, &height, &err));
	assert_int_equal(width, image->width);
	assert_int_equal(height, image->height);
}

/* ---- PNG ---- */

/* One pixel by the rules: alpha dropped, 16-bit gray clipped, others their high byte. */
static void
expected_pixel(const MkPng *png, const uint16_t *s, uint8_t *rgb)
{
	for (int c = 0; c < 3; c++)
	{
		int v = s[png->color == 2 || png->color == 6 ? c : 0];

		if (png->color == 3)
			rgb[c] = (size_t) v * 3 < png->palette_len ? png->palette[v * 3 + c] : 0;
		else if (png->depth == 16)
			rgb[c] = (uint8_t) (png->color != 0 ? v >> 8 : v > 255 ? 255 : v);
		else
			rgb[c] = (uint8_t) (v * 255 / ((1 << png->depth) - 1));
	}
}

static void
check_png(const MkPng *png)
{
	DsocrBuffer b = {0};
	DsocrImage image;
	char what[80];

	snprintf(what, sizeof(what), "%u x %u depth %d color %d interlaced %d", png->width, png->height,
			 png->depth, png->color, png->interlaced);
	mk_png(&b, png);
	decode_ok(what, &b, &image);
	assert_int_equal(image.width, png->width);
	assert_int_equal(image.height, png->height);
	for (size_t i = 0; i < (size_t) png->width * png->height; i++)
	{
		uint8_t rgb[3];

		expected_pixel(png, png->samples + i * (size_t) mk_channels(png->color), rgb);
		if (memcmp(rgb, image.rgb + 3 * i, 3) != 0)
			fail_msg("%s: pixel %zu is %d %d %d, not %d %d %d", what, i, image.rgb[3 * i],
					 image.rgb[3 * i + 1], image.rgb[3 * i + 2], rgb[0], rgb[1], rgb[2]);
	}
	dsocr_image_free(&image);
	dsocr_buffer_free(&b);
}

static void
test_png_kinds(void **state)
{
	static const int kinds[][2] = {{0, 1}, {0, 2}, {0, 4}, {0, 8}, {0, 16}, {2, 8}, {2, 16}, {3, 1},
								   {3, 2}, {3, 4}, {3, 8}, {4, 8}, {4, 16}, {6, 8}, {6, 16}};
	static const int sizes[][2] = {{1, 1},	{1, 9},	 {9, 1},   {3, 5},	{8, 8},
								   {7, 13}, {17, 6}, {40, 40}, {33, 2}, {2, 33}};
	static uint16_t samples[MAX_SIDE * MAX_SIDE * 4];
	uint8_t palette[256 * 3];

	for (size_t i = 0; i < sizeof(palette); i++)
		palette[i] = (uint8_t) next_random();
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
			for (int variant = 0; variant < 4; variant++)
			{
				MkPng png = {.width = (uint32_t) sizes[s][0],
							 .height = (uint32_t) sizes[s][1],
							 .depth = kinds[k][1],
							 .color = kinds[k][0],
							 .interlaced = variant % 2 == 1,
							 .samples = samples};
				uint32_t mask = (1u << png.depth) - 1;

				for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
				{
					samples[i] = (uint16_t) (next_random() & mask);
					/* dark 16-bit gray is not clipped */
					if (png.depth == 16 && variant >= 2)
						samples[i] %= 300;
				}
				if (png.color == 3)
				{
					size_t entries = (size_t) 1 << png.depth;

					/* the second half of the variants has indices without an entry */
					png.palette = palette;
					png.palette_len = 3 * (variant >= 2 ? (entries + 1) / 2 : entries);
				}
				check_png(&png);
			}
}

/* Transparency, gamma, profiles: chunks that change nothing. */
static void
test_png_ignored_chunks(void **state)
{
	static const uint16_t samples[] = {0, 1, 2, 3, 3, 2, 1, 0, 2};
	static const uint8_t palette[] = {10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120};
	MkPng png = {.width = 3,
				 .height = 3,
				 .depth = 2,
				 .color = 3,
				 .samples = samples,
				 .palette = palette,
				 .palette_len = sizeof(palette)};
	DsocrBuffer b = {0};
	DsocrImage image;

	mk_signature(&b);
	mk_ihdr(&b, &png);
	mk_chunk(&b, "gAMA", "\0\0\1\0", 4);
	mk_chunk(&b, "iCCP", "broken", 6);
	mk_chunk(&b, "PLTE", palette, sizeof(palette));
	mk_chunk(&b, "tRNS", "\0\200", 2);
	mk_chunk(&b, "xyZW", "unknown", 7);
	mk_idat(&b, &png);
	mk_chunk(&b, "tEXt", "Comment\0text", 12);
	mk_chunk(&b, "IEND", NULL, 0);
	mk_bytes(&b, "trailing bytes", 14);
	decode_ok("chunks to ignore", &b, &image);
	for (size_t i = 0; i < 9; i++)
		assert_memory_equal(image.rgb + 3 * i, palette + 3 * samples[i], 3);
	dsocr_image_free(&image);
	dsocr_buffer_free(&b);
}

/* ---- orientation ---- */

/* Where pixel (x, y) of the upright picture lies in a stored one of w x h. */
static size_t
stored_place(int orientation, size_t x, size_t y, size_t w, size_t h)
{
	switch (orientation)
	{
		case 2:
			return y * w + (w - 1 - x);
		case 3:
			return (h - 1 - y) * w + (w - 1 - x);
		case 4:
			return (h - 1 - y) * w + x;
		case 5:
			return x * w + y;
		case 6:
			return (h - 1 - x) * w + y;
		case 7:
			return (h - 1 - x) * w + (w - 1 - y);
		case 8:
			return x * w + (w - 1 - y);
		default:
			return y * w + x;
	}
}

static void
check_turned(const char *what, const DsocrImage *image, int orientation, const uint8_t *stored,
			 size_t w, size_t h)
{
	size_t out_w = orientation >= 5 && orientation <= 8 ? h : w;
	size_t out_h = orientation >= 5 && orientation <= 8 ? w : h;

	assert_int_equal(image->width, out_w);
	assert_int_equal(image->height, out_h);
	for (size_t y = 0; y < out_h; y++)
		for (size_t x = 0; x < out_w; x++)
			if (memcmp(image->rgb + (y * out_w + x) * 3,
					   stored + stored_place(orientation, x, y, w, h) * 3, 3) != 0)
				fail_msg("%s, orientation %d: wrong pixel at %zu, %zu", what, orientation, x, y);
}

enum
{
	IN_EXIF_FIRST,
	IN_EXIF_LAST,
	IN_RAW_TEXT,
	IN_RAW_COMPRESSED,
	IN_XMP,
	IN_XMP_COMPRESSED,
	N_PLACES
};

static void
add_orientation_chunk(DsocrBuffer *b, int place, int orientation, bool big_endian)
{
	uint8_t tiff[MK_TIFF];
	DsocrBuffer text = {0};
	DsocrBuffer z = {0};
	bool xmp = place == IN_XMP || place == IN_XMP_COMPRESSED;

	mk_tiff(tiff, orientation, big_endian);
	if (place == IN_EXIF_FIRST || place == IN_EXIF_LAST)
	{
		mk_chunk(b, "eXIf", tiff, sizeof(tiff));
		return;
	}
	if (xmp)
		dsocr_buffer_printf(&text, NULL, "<rdf tiff:Orientation%s%d\">", big_endian ? "=\"" : ">",
							orientation);
	else
	{
		dsocr_buffer_printf(&text, NULL, "\nexif\n      32\n457869660000");
		for (int i = 0; i < MK_TIFF; i++)
			dsocr_buffer_printf(&text, NULL, "%02x%s", tiff[i], i % 7 == 0 ? "\n" : "");
	}
	mk_bytes(&z, xmp ? "XML:com.adobe.xmp" : "Raw profile type exif", xmp ? 18 : 22);
	if (xmp)
		mk_bytes(&z, place == IN_XMP ? "\0\0\0\0" : "\1\0\0\0", 4);
	if (place == IN_RAW_COMPRESSED)
		mk_bytes(&z, "", 1);
	if (place == IN_RAW_COMPRESSED || place == IN_XMP_COMPRESSED)
		mk_deflate(&z, text.data, text.len);
	else
		mk_bytes(&z, text.data, text.len);
	mk_chunk(b, xmp ? "iTXt" : place == IN_RAW_TEXT ? "tEXt" : "zTXt", z.data, z.len);
	dsocr_buffer_free(&text);
	dsocr_buffer_free(&z);
}

static void
test_png_orientation(void **state)
{
	static uint16_t samples[MAX_SIDE * MAX_SIDE * 3];
	static uint8_t stored[MAX_SIDE * MAX_SIDE * 3];
	static const uint32_t sizes[][2] = {{1, 1}, {5, 3}, {34, 39}, {40, 1}};

	for (size_t i = 0; i < sizeof(stored); i++)
		samples[i] = stored[i] = (uint8_t) next_random();
	for (size_t s = 0; s < 4; s++)
		for (int place = 0; place < N_PLACES; place++)
			for (int orientation = 0; orientation <= 9; orientation++)
				for (int big_endian = 0; big_endian < 2; big_endian++)
				{
					MkPng png = {.width = sizes[s][0],
								 .height = sizes[s][1],
								 .depth = 8,
								 .color = 2,
								 .samples = samples};
					DsocrBuffer b = {0};
					DsocrImage image;

					mk_signature(&b);
					mk_ihdr(&b, &png);
					if (place == IN_EXIF_FIRST)
						add_orientation_chunk(&b, place, orientation, big_endian);
					mk_idat(&b, &png);
					if (place != IN_EXIF_FIRST)
						add_orientation_chunk(&b, place, orientation, big_endian);
					mk_chunk(&b, "IEND", NULL, 0);
					decode_ok("orientation", &b, &image);
					check_turned("PNG", &image, orientation, stored, png.width, png.height);
					dsocr_image_free(&image);
					dsocr_buffer_free(&b);
				}
}

/* EXIF comes before XMP; what is no orientation counts as upright. */
static void
test_png_orientation_precedence(void **state)
{
	static const uint16_t samples[] = {1, 2, 3, 4, 5, 6};
	MkPng png = {.width = 3, .height = 2, .depth = 8, .color = 0, .samples = samples};

	for (int with_exif = 0; with_exif < 2; with_exif++)
	{
		DsocrBuffer b = {0};
		DsocrImage image;

		mk_signature(&b);
		mk_ihdr(&b, &png);
		add_orientation_chunk(&b, IN_XMP, 6, true);
		if (with_exif)
			add_orientation_chunk(&b, IN_EXIF_FIRST, 1, true);
		else
			mk_chunk(&b, "eXIf", "MM\0*\377\377\377\377", 8);
		mk_idat(&b, &png);
		mk_chunk(&b, "IEND", NULL, 0);
		decode_ok("precedence", &b, &image);
		assert_int_equal(image.width, with_exif ? 3 : 2);
		dsocr_image_free(&image);
		dsocr_buffer_free(&b);
	}
}

/* One IFD entry behind another tag; value is what stands in the entry, more what follows. */
static void
check_exif_entry(int type, uint32_t count, uint32_t value, const char *more, size_t more_len,
				 bool turned)
{
	static const uint16_t samples[] = {1, 2, 3, 4, 5, 6};
	MkPng png = {.width = 3, .height = 2, .depth = 8, .color = 0, .samples = samples};
	DsocrBuffer exif = {0};
	DsocrBuffer b = {0};
	DsocrImage image;

	mk_bytes(&exif, "MM\0*\0\0\0\b\0\2\1\0\0\4\0\0\0\1\0\0\0\7\1\22", 24);
	mk_be16(&exif, (uint32_t) type);
	mk_be32(&exif, count);
	mk_be32(&exif, value);
	mk_be32(&exif, 0);
	mk_bytes(&exif, more, more_len);
	mk_signature(&b);
	mk_ihdr(&b, &png);
	mk_chunk(&b, "eXIf", exif.data, exif.len);
	mk_idat(&b, &png);
	mk_chunk(&b, "IEND", NULL, 0);
	decode_ok("EXIF entry", &b, &image);
	if ((image.width == 2) != turned)
		fail_msg("type %d, count %u, value %08x: turned %d", type, count, value, !turned);
	dsocr_image_free(&image);
	dsocr_buffer_free(&b);
	dsocr_buffer_free(&exif);
}

static void
test_exif_entries(void **state)
{
	check_exif_entry(3, 1, 6 << 16, NULL, 0, true);
	check_exif_entry(4, 1, 6, NULL, 0, true);
	check_exif_entry(6, 1, 6u << 24, NULL, 0, true);
	check_exif_entry(8, 1, 6 << 16, NULL, 0, true);
	check_exif_entry(9, 1, 6, NULL, 0, true);
	check_exif_entry(11, 1, 0x40c00000, NULL, 0, true);			  /* 6.0 */
	check_exif_entry(11, 1, 0x40d00000, NULL, 0, false);		  /* 6.5 */
	check_exif_entry(5, 1, 38, "\0\0\0\f\0\0\0\2", 8, true);	  /* 12/2 */
	check_exif_entry(5, 1, 38, "\0\0\0\6\0\0\0\0", 8, false);	  /* 6/0 */
	check_exif_entry(3, 3, 38, "\0\6\0\1\0\1", 6, true);		  /* the first counts */
	check_exif_entry(3, 3, 38, "\0\6\0\1\0", 5, false);			  /* a byte short */
	check_exif_entry(3, 3, 0xfffffff0, "\0\6\0\1\0\1", 6, false); /* far outside */
	check_exif_entry(3, 0xffffffff, 38, "\0\6", 2, false);
	check_exif_entry(3, 0, 6 << 16, NULL, 0, false);
	check_exif_entry(1, 1, 6u << 24, NULL, 0, false); /* bytes are no number to Pillow */
	check_exif_entry(99, 1, 6 << 16, NULL, 0, false);
}

/* ---- JPEG ---- */

/* libjpeg's own samples; CMYK as stored. */
static uint8_t *
plain_libjpeg(const DsocrBuffer *b, int components)
{
	struct jpeg_decompress_struct cinfo;
	struct jpeg_error_mgr errors;
	uint8_t *out;

	cinfo.err = jpeg_std_error(&errors);
	jpeg_create_decompress(&cinfo);
	jpeg_mem_src(&cinfo, (const unsigned char *) b->data, b->len);
	jpeg_read_header(&cinfo, TRUE);
	cinfo.dct_method = JDCT_ISLOW;
	cinfo.do_fancy_upsampling = TRUE;
	jpeg_start_decompress(&cinfo);
	assert_int_equal(cinfo.output_components, components);
	out = malloc((size_t) cinfo.output_width * cinfo.output_height * (size_t) components);
	assert_non_null(out);
	while (cinfo.output_scanline < cinfo.output_height)
	{
		JSAMPROW row =
			out + (size_t) cinfo.output_scanline * cinfo.output_width * (size_t) components;

		jpeg_read_scanlines(&cinfo, &row, 1);
	}
	jpeg_finish_decompress(&cinfo);
	jpeg_destroy_decompress(&cinfo);
	return out;
}

static uint8_t *
expected_rgb(const DsocrBuffer *b, const MkJpeg *jpeg)
{
	uint8_t *in = plain_libjpeg(b, jpeg->components);
	size_t n = (size_t) jpeg->width * (size_t) jpeg->height;
	uint8_t *out = malloc(n * 3);

	assert_non_null(out);
	for (size_t i = 0; i < n; i++)
		for (size_t c = 0; c < 3; c++)
		{
			if (jpeg->components == 4)
			{
				/* clip8(255 - k - MULDIV255(c, 255 - k)) of the inverted samples */
				int k = 255 - in[4 * i + 3];
				int t = (255 - in[4 * i + c]) * (255 - k) + 128;
				int v = 255 - k - (((t >> 8) + t) >> 8);

				out[3 * i + c] = (uint8_t) (v < 0 ? 0 : v);
			}
			else
				out[3 * i + c] = in[jpeg->components == 1 ? i : 3 * i + c];
		}
	free(in);
	return out;
}

static int
check_jpeg(MkJpeg jpeg)
{
	uint8_t tiff[MK_TIFF];
	DsocrBuffer b = {0};
	DsocrImage image;
	uint8_t *rgb;
	char what[120];

	if (!mk_jpeg(&b, &jpeg))
		return 0;
	snprintf(what, sizeof(what), "%d x %d, %d components, ycc %d, %d:%d, progressive %d, arith %d",
			 jpeg.width, jpeg.height, jpeg.components, jpeg.ycc, jpeg.h_samp, jpeg.v_samp,
			 jpeg.progressive, jpeg.arithmetic);
	rgb = expected_rgb(&b, &jpeg);
	for (int orientation = 1; orientation <= 8; orientation++)
	{
		DsocrBuffer turned = {0};

		mk_tiff(tiff, orientation, orientation % 2 == 0);
		mk_jpeg_with_exif(&turned, &b, tiff);
		if (orientation == 1)
			mk_bytes(&turned, "trailing bytes", 14);
		decode_ok(what, &turned, &image);
		check_turned(what, &image, orientation, rgb, (size_t) jpeg.width, (size_t) jpeg.height);
		dsocr_image_free(&image);
		dsocr_buffer_free(&turned);
	}
	free(rgb);
	dsocr_buffer_free(&b);
	return 1;
}

static void
test_jpeg_kinds(void **state)
{
	static const int kinds[][2] = {{1, 0}, {3, 0}, {3, 1}, {4, 0}, {4, 1}};
	static const int samplings[][2] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}, {4, 2}};
	static uint8_t samples[MAX_SIDE * MAX_SIDE * 4];
	int checked = 0;

	for (size_t i = 0; i < sizeof(samples); i++)
		samples[i] = (uint8_t) next_random();
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (size_t s = 0; s < sizeof(samplings) / sizeof(samplings[0]); s++)
			for (int variant = 0; variant < 8; variant++)
				checked += check_jpeg((MkJpeg){.width = (int) (1 + next_random() % MAX_SIDE),
											   .height = (int) (1 + next_random() % MAX_SIDE),
											   .components = kinds[k][0],
											   .ycc = kinds[k][1] == 1,
											   .h_samp = samplings[s][0],
											   .v_samp = samplings[s][1],
											   .progressive = variant % 2 == 1,
											   .arithmetic = variant / 2 % 2 == 1,
											   .restart = variant >= 4 ? 2 : 0,
											   .quality = (int) (1 + next_random() % 100),
											   .samples = samples});
	/* a library without arithmetic coding does half of them */
	assert_true(checked >= 120);
}

typedef struct Patience
{
	int polls;
	int stop_at; /* this poll says no; 0: none does */
} Patience;

static bool
go_on(void *arg)
{
	Patience *p = arg;

	return ++p->polls != p->stop_at;
}

/* Decoding asks at least so many times whether to go on, and stops at every no. */
static void
check_polls(const DsocrBuffer *b, int least)
{
	Patience p = {0};
	DsocrPoll poll = {go_on, &p};
	DsocrImage image;
	DsocrError err = {0};
	int all;

	assert_true(
		dsocr_image_decode_polled((const uint8_t *) b->data, b->len, 0, &poll, &image, &err));
	dsocr_image_free(&image);
	all = p.polls;
	assert_true(all >= least);
	for (int i = 1; i <= all; i += 1 + all / 40)
	{
		p = (Patience){.stop_at = i};
		memset(&err, 0, sizeof(err));
		assert_false(
			dsocr_image_decode_polled((const uint8_t *) b->data, b->len, 0, &poll, &image, &err));
		assert_int_equal(err.code, DSOCR_E_CANCELLED);
		assert_int_equal(p.polls, i);
		assert_null(image.rgb);
	}
}

static void
test_polls(void **state)
{
	enum
	{
		SIDE = 640
	};
	uint16_t *wide = calloc(SIDE * SIDE, 2);
	uint8_t *samples = calloc(SIDE * SIDE, 3);
	uint8_t tiff[MK_TIFF];

	assert_non_null(wide);
	assert_non_null(samples);
	mk_tiff(tiff, 6, true);
	for (int variant = 0; variant < 2; variant++)
	{
		MkPng png = {
			.width = SIDE, .height = SIDE, .depth = 8, .interlaced = variant, .samples = wide};
		MkJpeg jpeg = {.width = SIDE,
					   .height = SIDE,
					   .components = 3,
					   .ycc = true,
					   .h_samp = 1,
					   .v_samp = 1,
					   .progressive = variant,
					   .quality = 80,
					   .samples = samples};
		DsocrBuffer b = {0};
		DsocrBuffer turned = {0};

		mk_png(&b, &png);
		check_polls(&b, 6);
		dsocr_buffer_free(&b);
		assert_true(mk_jpeg(&b, &jpeg));
		check_polls(&b, SIDE / 8);
		mk_jpeg_with_exif(&turned, &b, tiff);
		check_polls(&turned, SIDE / 8 + SIDE / 32);
		dsocr_buffer_free(&b);
		dsocr_buffer_free(&turned);
	}
	free(wide);
	free(samples);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_png_kinds),		cmocka_unit_test(test_png_ignored_chunks),
		cmocka_unit_test(test_png_orientation), cmocka_unit_test(test_png_orientation_precedence),
		cmocka_unit_test(test_exif_entries),	cmocka_unit_test(test_jpeg_kinds),
		cmocka_unit_test(test_polls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
