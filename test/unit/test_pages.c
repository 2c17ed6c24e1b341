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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_image),
		cmocka_unit_test(test_depths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
