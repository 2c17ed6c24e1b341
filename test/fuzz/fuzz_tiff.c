/*-------------------------------------------------------------------------
 *
 * fuzz_tiff.c
 *		TIFF: pages, probing and decoding.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "image_sniff.h"

#define MAX_PIXELS (1 << 18)
#define MAX_PAGES 3

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Decoding and probing must agree, and every pixel must be readable. */
static void
decode(const uint8_t *data, size_t size, int page)
{
	DsocrImage image;
	DsocrError err = {0};
	int width;
	int height;
	volatile uint32_t sum = 0;

	if (!dsocr_image_decode_page(data, size, page, MAX_PIXELS, NULL, &image, &err))
	{
		if (err.code == DSOCR_OK || err.message[0] == '\0' || image.rgb != NULL)
			abort();
		dsocr_image_probe_page(data, size, page, MAX_PIXELS, &width, &height, &err);
		return;
	}
	if (!dsocr_image_probe_page(data, size, page, MAX_PIXELS, &width, &height, &err) ||
		width != image.width || height != image.height)
		abort();
	for (size_t i = 0; i < (size_t) width * (size_t) height * 3; i++)
		sum += image.rgb[i];
	dsocr_image_free(&image);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;
	int pages;

	if (size < 4)
		return 0;
	/* whatever it begins with, it is read as one of the four kinds of TIFF */
	copy = malloc(size);
	if (copy == NULL)
		return 0;
	memcpy(copy, data, size);
	memcpy(copy,
		   (const char *const[]){"II*\0", "MM\0*", "II+\0",
								 "MM\0+"}[(data[0] & 4) / 4 | (data[2] & 1) * 2],
		   4);
	pages = dsocr_tiff_count_pages(copy, size);
	if (dsocr_tiff_has_pages(copy, size) != (pages > 1))
		abort();
	for (int page = 1; page <= pages && page <= MAX_PAGES; page++)
		decode(copy, size, page);
	free(copy);
	return 0;
}
