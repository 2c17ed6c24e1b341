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

/*
 * Pages that an image has: 1 for all formats but TIFF.  Errors: DSOCR_E_IMAGE.
 */
extern bool dsocr_image_pages(const uint8_t *bytes, size_t len, int *pages, DsocrError *err);

/* Upright size of a page (from 1; 0 = the first) from the header alone.  Errors: DSOCR_E_IMAGE. */
extern bool dsocr_image_probe_page(const uint8_t *bytes, size_t len, int page, uint64_t max_pixels,
								   int *width, int *height, DsocrError *err);

/*
 * Decode a page, with a poll, which may be NULL, every few rows: large images
 * take seconds.  Errors: DSOCR_E_IMAGE (message names format and reason),
 * DSOCR_E_MEMORY, DSOCR_E_CANCELLED.
 */
extern bool dsocr_image_decode_page(const uint8_t *bytes, size_t len, int page, uint64_t max_pixels,
									const DsocrPoll *poll, DsocrImage *image, DsocrError *err);

/* The first page. */
extern bool dsocr_image_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels, int *width,
							  int *height, DsocrError *err);
extern bool dsocr_image_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels,
							   DsocrImage *image, DsocrError *err);
extern bool dsocr_image_decode_polled(const uint8_t *bytes, size_t len, uint64_t max_pixels,
									  const DsocrPoll *poll, DsocrImage *image, DsocrError *err);
extern void dsocr_image_free(DsocrImage *image);

#endif /* DSOCR_IMAGE_H */
