/*-------------------------------------------------------------------------
 *
 * fuzz_webp.c
 *		WebP and PNM: probing and decoding.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "image.h"

#define MAX_PIXELS (1 << 18)

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Decoding and probing must agree, and every pixel must be readable. */
static void
decode(const uint8_t *data, size_t size)
{
	DsocrImage image;
	DsocrError err = {0};
	int width;
	int height;
	volatile uint32_t sum = 0;

	if (!dsocr_image_decode(data, size, MAX_PIXELS, &image, &err))
	{
		if (err.code == DSOCR_OK || err.message[0] == '\0' || image.rgb != NULL)
			abort();
		dsocr_image_probe(data, size, MAX_PIXELS, &width, &height, &err);
		return;
	}
	if (!dsocr_image_probe(data, size, MAX_PIXELS, &width, &height, &err) || width != image.width ||
		height != image.height)
		abort();
	for (size_t i = 0; i < (size_t) width * (size_t) height * 3; i++)
		sum += image.rgb[i];
	dsocr_image_free(&image);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;
	uint32_t riff = (uint32_t) size - 8;

	if (size < 12)
		return 0;
	decode(data, size);
	/* the length that the file must name, so that changes of it do not end everything */
	copy = malloc(size);
	if (copy == NULL)
		return 0;
	memcpy(copy, data, size);
	memcpy(copy, "RIFF", 4);
	memcpy(copy + 4, &riff, 4);
	memcpy(copy + 8, "WEBP", 4);
	decode(copy, size);
	memcpy(copy, data[0] & 1 ? "P5 " : "P6\n", 3);
	decode(copy, size);
	free(copy);
	return 0;
}
