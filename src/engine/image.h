/*-------------------------------------------------------------------------
 *
 * image.h
 *		Encoded bytes to an upright 8-bit RGB picture, as Pillow does it.
 *
 * The bytes are hostile.  Dimensions are checked against the limit before a
 * buffer is allocated; decoders run with limits set, never on trust.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_IMAGE_H
#define DSOCR_IMAGE_H

#include "base.h"

/* Where a limit of 0 pixels is given. */
#define DSOCR_DEFAULT_MAX_PIXELS 100000000

typedef struct DsocrImage
{
	int width; /* pixels, after EXIF orientation */
	int height;
	uint8_t *rgb; /* height rows of width * 3 bytes, no padding */
} DsocrImage;

/* Upright size from the header alone.  Errors: DSOCR_E_IMAGE. */
extern bool dsocr_image_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels, int *width,
							  int *height, DsocrError *err);

/* Decode.  Errors: DSOCR_E_IMAGE (message names format and reason), DSOCR_E_MEMORY. */
extern bool dsocr_image_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels,
							   DsocrImage *image, DsocrError *err);

/* The same with a poll, which may be NULL, every few rows: large images take seconds. */
extern bool dsocr_image_decode_polled(const uint8_t *bytes, size_t len, uint64_t max_pixels,
									  const DsocrPoll *poll, DsocrImage *image, DsocrError *err);
extern void dsocr_image_free(DsocrImage *image);

#endif /* DSOCR_IMAGE_H */
