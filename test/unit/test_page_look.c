/*-------------------------------------------------------------------------
 *
 * test_page_look.c
 *		How large letters are, and what mode follows from it.
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

#include "page_look.h"
#include "preprocess.h"

static DsocrImage
decode(const char *path)
{
	DsocrBuffer file = {0};
	DsocrImage image;
	DsocrError err = {0};

	assert_true(dsocr_read_file(path, 1 << 24, &file, &err));
	assert_true(dsocr_image_decode((const uint8_t *) file.data, file.len, 0, &image, &err));
	dsocr_buffer_free(&file);
	return image;
}

/* The same page larger or smaller has lines and letters that are larger or smaller by as much. */
static void
test_scale(void **state)
{
	static const char *const samples[] = {"letter.png", "log.png", "notice.png", "receipt.png",
										  "recipe.jpg"};
	static const float factors[] = {0.5F, 0.75F, 1.5F, 3, 6};

	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
	{
		char path[64];
		DsocrImage image;
		DsocrPageLook look;

		snprintf(path, sizeof(path), "test/samples/%s", samples[i]);
		image = decode(path);
		assert_true(dsocr_page_look(&image, &look, NULL));
		/* letters of about 20 to 34 pixels, one to three hundred of them */
		assert_in_range(look.line, 12, 28);
		assert_in_range(look.characters, 120, 500);
		for (size_t k = 0; k < sizeof(factors) / sizeof(factors[0]); k++)
		{
			DsocrImage other = {.width = (int) ((float) image.width * factors[k]),
								.height = (int) ((float) image.height * factors[k])};
			DsocrPageLook scaled;

			assert_true(dsocr_resize_bicubic(image.rgb, image.width, image.height, other.width,
											 other.height, &other.rgb, NULL));
			assert_true(dsocr_page_look(&other, &scaled, NULL));
			if (scaled.line < 0.7F * look.line * factors[k] ||
				scaled.line > 1.4F * look.line * factors[k])
				fail_msg("%s, %g times as large: %g and %g", samples[i], (double) factors[k],
						 (double) look.line, (double) scaled.line);
			assert_in_range(scaled.characters, look.characters / 2, look.characters * 2);
			dsocr_image_free(&other);
		}
		dsocr_image_free(&image);
	}
}

/* Nothing is seen where nothing is, and no size is too odd. */
static void
test_no_text(void **state)
{
	static const int sizes[][2] = {{1, 1}, {1, 9000}, {9000, 1}, {7, 3}, {640, 640}, {3001, 2999}};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		size_t n = (size_t) sizes[i][0] * (size_t) sizes[i][1] * 3;
		DsocrImage image = {sizes[i][0], sizes[i][1], malloc(n)};
		DsocrPageLook look;

		memset(image.rgb, 200, n);
		assert_true(dsocr_page_look(&image, &look, NULL));
		assert_true(look.line == 0 && look.characters == 0);
		/* noise, too */
		for (size_t k = 0; k < n; k++)
			image.rgb[k] = (uint8_t) (k * 2654435761U >> 24);
		assert_true(dsocr_page_look(&image, &look, NULL));
		assert_true(look.line >= 0 && look.characters >= 0);
		free(image.rgb);
	}
}

#define BIT(mode) (1U << (mode))

static void
test_choice(void **state)
{
	static const struct
	{
		float line;
		int characters;
		int width;
		int height;
		uint32_t modes;
		DsocrMode usual;
		DsocrMode chosen;
	} cases[] = {
		/* a slide, a letter, a page of a book, a newspaper; all of A4 at 150 dpi but the slide */
		{60, 300, 1920, 1080, DSOCR_ALL_MODES, DSOCR_MODE_GUNDAM, DSOCR_MODE_SMALL},
		{60, 1500, 1920, 1080, DSOCR_ALL_MODES, DSOCR_MODE_GUNDAM, DSOCR_MODE_BASE},
		{24, 900, 1240, 1754, DSOCR_ALL_MODES, DSOCR_MODE_GUNDAM, DSOCR_MODE_BASE},
		{17, 2500, 1240, 1754, DSOCR_ALL_MODES, DSOCR_MODE_GUNDAM, DSOCR_MODE_LARGE},
		{13, 2500, 1240, 1754, DSOCR_ALL_MODES, DSOCR_MODE_GUNDAM, DSOCR_MODE_GUNDAM},
		{17, 6000, 1240, 1754, DSOCR_ALL_MODES, DSOCR_MODE_GUNDAM, DSOCR_MODE_GUNDAM},
		{20, 20000, 7000, 9900, DSOCR_ALL_MODES, DSOCR_MODE_GUNDAM, DSOCR_MODE_GUNDAM_M},
		/* nothing is known of a page without text */
		{0, 0, 1240, 1754, DSOCR_ALL_MODES, DSOCR_MODE_GUNDAM, DSOCR_MODE_GUNDAM},
		/* only what the model was trained for, and never tiny unless it is the usual one */
		{60, 300, 1920, 1080, BIT(DSOCR_MODE_GUNDAM), DSOCR_MODE_GUNDAM, DSOCR_MODE_GUNDAM},
		{200, 20, 1920, 1080, BIT(DSOCR_MODE_TINY) | BIT(DSOCR_MODE_GUNDAM), DSOCR_MODE_GUNDAM,
		 DSOCR_MODE_GUNDAM},
		{10, 2000, 1240, 1754, BIT(DSOCR_MODE_SMALL) | BIT(DSOCR_MODE_BASE), DSOCR_MODE_SMALL,
		 DSOCR_MODE_BASE},
		{20, 1000, 1240, 1754, BIT(DSOCR_MODE_SMALL) | BIT(DSOCR_MODE_BASE), DSOCR_MODE_SMALL,
		 DSOCR_MODE_SMALL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		const DsocrPageLook look = {cases[i].line, cases[i].characters};
		DsocrMode mode = dsocr_mode_choose(&look, cases[i].width, cases[i].height, cases[i].modes,
										   cases[i].usual);

		if (mode != cases[i].chosen)
			fail_msg("case %zu: %s", i, dsocr_mode_names[mode]);
	}
	assert_int_equal(dsocr_mode_above(DSOCR_MODE_TINY, DSOCR_ALL_MODES), DSOCR_MODE_SMALL);
	assert_int_equal(dsocr_mode_above(DSOCR_MODE_SMALL, BIT(DSOCR_MODE_LARGE)), DSOCR_MODE_LARGE);
	assert_int_equal(dsocr_mode_above(DSOCR_MODE_GUNDAM_M, DSOCR_ALL_MODES), DSOCR_MODE_AUTO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scale),
		cmocka_unit_test(test_no_text),
		cmocka_unit_test(test_choice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
