/*-------------------------------------------------------------------------
 *
 * fuzz_pages.c
 *		Drawing on a page, cutting out of it, writing it down.
 *
 * The first eight bytes are the page and a rectangle, the rest is the list of
 * shapes.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "page_draw.h"

#define HEAD 8

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern const char *__lsan_default_suppressions(void);

const char *
__lsan_default_suppressions(void)
{
	return "leak:libfontconfig\nleak:libcairo\nleak:libglib\n";
}

/* What is written must be read as the same pixels. */
static void
check_image(const DsocrRaster *r, bool png)
{
	DsocrBuffer b = {0};
	DsocrImage image;

	if (!(png ? dsocr_raster_png(r, &b, NULL) : dsocr_raster_pnm(r, &b, NULL)) ||
		!dsocr_image_decode((uint8_t *) b.data, b.len, 0, &image, NULL))
		abort();
	if (image.width != r->width || image.height != r->height)
		abort();
	for (size_t i = 0; i < (size_t) image.width * (size_t) image.height; i++)
	{
		for (size_t c = 0; c < 3; c++)
		{
			if (image.rgb[3 * i + c] != (r->channels == 1 ? r->pixels[i] : r->pixels[3 * i + c]))
				abort();
		}
	}
	dsocr_image_free(&image);
	dsocr_buffer_free(&b);
}

static void
check_drawing(const DsocrRaster *page, const uint8_t *list, size_t len)
{
	char *text = malloc(len + 1);
	DsocrRaster drawn;
	DsocrError err = {0};

	if (text == NULL)
		return;
	memcpy(text, list, len);
	text[len] = '\0';
	if (dsocr_page_draw(page, text, &drawn, &err))
	{
		if (drawn.width != page->width || drawn.height != page->height)
			abort();
		check_image(&drawn, true);
		dsocr_raster_free(&drawn);
	}
	else if (err.code != DSOCR_E_ARGUMENT || err.message[0] == '\0')
		abort();
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DsocrRaster page;
	DsocrRaster part;
	int32_t box[4];

	if (size < HEAD)
		return 0;
	if (!dsocr_raster_create(&page, data[0] % 100 + 1, data[1] % 100 + 1, data[2] % 2 ? 3 : 1,
							 NULL))
		return 0;
	for (size_t i = 0; i < dsocr_raster_size(&page); i++)
		page.pixels[i] = data[3] < 64 ? (i % 3 ? 0xff : 0) : data[i % size];
	dsocr_raster_reduce(&page);
	for (int i = 0; i < 4; i++)
		box[i] = (int8_t) data[4 + i] * (data[3] % 3 == 0 ? 1000000 : 1);
	if (dsocr_raster_crop(&page, box, &part, NULL))
	{
		check_image(&part, false);
		check_image(&part, true);
		dsocr_raster_free(&part);
	}
	check_drawing(&page, data + HEAD, size - HEAD);
	dsocr_raster_free(&page);
	return 0;
}
