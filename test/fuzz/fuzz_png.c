/*-------------------------------------------------------------------------
 *
 * fuzz_png.c
 *		The PNG decoder, checksums set right so that damage gets past them.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "image.h"

#define MAX_PIXELS (1 << 20)

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
		if (err.code == DSOCR_OK || err.message[0] == '\0')
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

static uint32_t
be32(const uint8_t *p)
{
	return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
	uint8_t *copy;
	size_t at = sizeof(signature);

	decode(data, size);
	if (size <= sizeof(signature))
		return 0;
	copy = malloc(size);
	if (copy == NULL)
		return 0;
	memcpy(copy, data, size);
	memcpy(copy, signature, sizeof(signature));
	while (size - at >= 12 && be32(copy + at) <= size - at - 12)
	{
		size_t len = be32(copy + at);
		uint32_t crc = (uint32_t) crc32(0, copy + at + 4, (uInt) len + 4);

		for (int i = 0; i < 4; i++)
			copy[at + 8 + len + (size_t) i] = (uint8_t) (crc >> (24 - 8 * i));
		at += len + 12;
	}
	decode(copy, size);
	free(copy);
	return 0;
}
