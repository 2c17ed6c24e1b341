/*-------------------------------------------------------------------------
 *
 * test_pages.c
 *		The page server over its socket: documents, pages, limits, deaths.
 *
 * The program is started as the worker starts it.  DSOCR_TEST_PAGES names it.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../reference/pages_peer.h"
#include "../reference/serve_peer.h"
#include "image.h"
#include "image_sniff.h"

/* ---- documents of one image ---- */

static void
test_image(void **state)
{
	Peer p = dsocr_pages_start(NULL);
	DsocrBuffer page = dsocr_pages_file("page_rgb.png");
	DsocrImage whole;
	DsocrImage image;
	Frame f;

	assert_string_equal(p.info.name, "pages");
	assert_true(strncmp(p.info.device, "pages (", 7) == 0);
	assert_true(p.info.max_sequences > 1);
	assert_true(dsocr_image_decode((uint8_t *) page.data, page.len, 0, &whole, NULL));
	assert_int_equal(dsocr_pages_open(&p, 1, page.data, page.len), 1);

	f = dsocr_pages_get(&p, 2, 1, 1, DSOCR_PAGE_PNG);
	assert_int_equal(f.status.code, DSOCR_OK);
	assert_int_equal(f.result.pages, 1);
	assert_int_equal(f.result.width, whole.width);
	assert_int_equal(f.result.height, whole.height);
	assert_int_equal(dsocr_image_sniff(f.result.image, f.result.image_len), DSOCR_FORMAT_PNG);
	assert_true(dsocr_image_decode(f.result.image, f.result.image_len, 0, &image, NULL));
	assert_memory_equal(image.rgb, whole.rgb, (size_t) image.width * (size_t) image.height * 3);
	dsocr_image_free(&image);
	dsocr_result_free(&f.result);

	f = dsocr_pages_get(&p, 3, 1, 1, DSOCR_PAGE_RAW);
	assert_int_equal(f.status.code, DSOCR_OK);
	assert_memory_equal(f.result.image, "P6\n", 3);
	assert_memory_equal(f.result.image + f.result.image_len -
							(size_t) whole.width * (size_t) whole.height * 3,
						whole.rgb, (size_t) whole.width * (size_t) whole.height * 3);
	dsocr_result_free(&f.result);
	dsocr_image_free(&whole);
	dsocr_buffer_free(&page);
	dsocr_peer_finish(&p);
}

/* Each page is written in as little as says it. */
static void
test_depths(void **state)
{
	static const struct
	{
		const char *file;
		int raw;   /* second byte of the PNM */
		int depth; /* bits of the PNG */
		int type;  /* colour type of the PNG */
	} cases[] = {
		{"bilevel.png", '5', 1, 0}, {"page_gray.png", '5', 8, 0}, {"page_rgb.png", '6', 8, 2}};
	Peer p = dsocr_pages_start(NULL);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DsocrBuffer page = dsocr_pages_file(cases[i].file);
		uint64_t id = 10 * i + 1;
		Frame f;

		assert_int_equal(dsocr_pages_open(&p, id, page.data, page.len), 1);
		f = dsocr_pages_get(&p, id + 1, id, 1, DSOCR_PAGE_RAW);
		assert_int_equal(f.result.image[1], cases[i].raw);
		dsocr_result_free(&f.result);
		f = dsocr_pages_get(&p, id + 2, id, 1, DSOCR_PAGE_PNG);
		assert_int_equal(f.result.image[24], cases[i].depth);
		assert_int_equal(f.result.image[25], cases[i].type);
		dsocr_result_free(&f.result);
		dsocr_buffer_free(&page);
	}
	dsocr_peer_finish(&p);
}

/* ---- TIFF ---- */

#define TIFF_ENTRIES 8

static void
put16(uint8_t *at, unsigned int v)
{
	at[0] = (uint8_t) v;
	at[1] = (uint8_t) (v >> 8);
}

static void
put32(uint8_t *at, uint32_t v)
{
	put16(at, v & 0xffff);
	put16(at + 2, v >> 16);
}

/*
 * Gray pages without compression; page i is 8 + i pixels wide, 4 high and of
 * brightness 10 i.  The pixels of one page lie outside the file.
 */
static size_t
make_tiff(uint8_t *out, int pages, int damaged)
{
	static const uint16_t tags[TIFF_ENTRIES] = {256, 257, 258, 259, 262, 273, 278, 279};
	size_t at = 8;

	memcpy(out, "II*\0", 4);
	put32(out + 4, 8);
	for (int i = 1; i <= pages; i++)
	{
		uint32_t width = 8 + (uint32_t) i;
		size_t pixels = at + 2 + 12 * TIFF_ENTRIES + 4;
		uint32_t values[TIFF_ENTRIES] = {
			width, 4, 8, 1, 1, i == damaged ? 0x7fffff00 : (uint32_t) pixels, 4, width * 4};
		size_t next = pixels + width * 4 + (width * 4) % 2;

		put16(out + at, TIFF_ENTRIES);
		for (int k = 0; k < TIFF_ENTRIES; k++)
		{
			uint8_t *entry = out + at + 2 + 12 * (size_t) k;

			put16(entry, tags[k]);
			put16(entry + 2, 4);
			put32(entry + 4, 1);
			put32(entry + 8, values[k]);
		}
		put32(out + pixels - 4, i < pages ? (uint32_t) next : 0);
		memset(out + pixels, 10 * i, width * 4);
		at = next;
	}
	return at;
}

static void
test_tiff(void **state)
{
#ifdef DSOCR_WITH_TIFF
	static uint8_t tiff[4096];
	Peer p = dsocr_pages_start(NULL);
	size_t len = make_tiff(tiff, 5, 3);

	assert_int_equal(dsocr_pages_open(&p, 1, tiff, len), 5);
	for (int i = 5; i >= 1; i--)
	{
		Frame f = dsocr_pages_get(&p, 10 + (uint64_t) i, 1, i, DSOCR_PAGE_RAW);

		if (i == 3)
		{
			assert_int_equal(f.status.code, DSOCR_E_IMAGE);
			assert_memory_equal(f.status.message, "page 3: ", 8);
			continue;
		}
		assert_string_equal(f.status.message, "");
		assert_int_equal(f.result.width, 8 + i);
		assert_int_equal(f.result.height, 4);
		assert_int_equal(f.result.pages, 5);
		assert_int_equal(f.result.image[f.result.image_len - 1], 10 * i);
		dsocr_result_free(&f.result);
	}
	dsocr_peer_finish(&p);
#else
	skip();
#endif
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_image),
		cmocka_unit_test(test_depths),
		cmocka_unit_test(test_tiff),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
