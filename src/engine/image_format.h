/*-------------------------------------------------------------------------
 *
 * image_format.h
 *		What image.c asks of a file format; private to image*.c and exif.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_IMAGE_FORMAT_H
#define DSOCR_IMAGE_FORMAT_H

#include "image.h"
#include "image_sniff.h"

/* Sides beyond this are refused whatever the limit on pixels is. */
#define DSOCR_PNG_MAX_SIDE 1000000
#define DSOCR_JPEG_MAX_SIDE 65500

/* More scans than any encoder writes; thousands of them are an attack. */
#define DSOCR_JPEG_MAX_SCANS 100

/* What a walk over the markers or chunks finds out, pixels left alone. */
typedef struct DsocrImageHeader
{
	int page;		/* set by the caller, from 1; more than 1 only for TIFF */
	uint32_t width; /* as stored, before orientation */
	uint32_t height;
	int orientation; /* EXIF, 1 to 8 */
} DsocrImageHeader;

/* The size against the limits; name is the format.  Sets DSOCR_E_IMAGE. */
extern bool dsocr_image_check_size(const char *name, uint32_t width, uint32_t height,
								   uint32_t max_side, uint64_t max_pixels, DsocrError *err);

/*
 * Header alone, limits checked.  Damage behind the header is not looked for.
 */
extern bool dsocr_png_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels,
							DsocrImageHeader *header, DsocrError *err);
extern bool dsocr_jpeg_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels,
							 DsocrImageHeader *header, DsocrError *err);
extern bool dsocr_pnm_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels,
							DsocrImageHeader *header, DsocrError *err);
extern bool dsocr_webp_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels,
							 DsocrImageHeader *header, DsocrError *err);
extern bool dsocr_tiff_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels,
							 DsocrImageHeader *header, DsocrError *err);

/* Pixels as stored; *rgb is width * height * 3 bytes, to be freed by the caller. */
extern bool dsocr_png_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels,
							 const DsocrPoll *poll, DsocrImageHeader *header, uint8_t **rgb,
							 DsocrError *err);
extern bool dsocr_jpeg_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels,
							  const DsocrPoll *poll, DsocrImageHeader *header, uint8_t **rgb,
							  DsocrError *err);
extern bool dsocr_pnm_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels,
							 const DsocrPoll *poll, DsocrImageHeader *header, uint8_t **rgb,
							 DsocrError *err);
extern bool dsocr_webp_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels,
							  const DsocrPoll *poll, DsocrImageHeader *header, uint8_t **rgb,
							  DsocrError *err);
extern bool dsocr_tiff_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels,
							  const DsocrPoll *poll, DsocrImageHeader *header, uint8_t **rgb,
							  DsocrError *err);

/*
 * Orientation of a TIFF structure as EXIF embeds it ("Exif\0\0" in front is
 * skipped): 1 to 8, or 0 when it has no such tag.  Damaged data count as none.
 */
extern int dsocr_exif_orientation(const uint8_t *data, size_t len);

/* The same of an XMP packet, and of the hex dump ImageMagick keeps in PNG text. */
extern int dsocr_xmp_orientation(const uint8_t *data, size_t len);
extern int dsocr_raw_profile_orientation(const uint8_t *text, size_t len);

/*
 * Make a picture upright whose EXIF orientation is 2 to 8.  Errors:
 * DSOCR_E_MEMORY, DSOCR_E_CANCELLED; the picture stays as it was then.
 */
extern bool dsocr_image_turn(DsocrImage *image, int orientation, const DsocrPoll *poll,
							 DsocrError *err);

/* May the work go on?  Sets DSOCR_E_CANCELLED when not; poll may be NULL. */
extern bool dsocr_image_go_on(const DsocrPoll *poll, DsocrError *err);

static inline uint32_t
dsocr_be32(const uint8_t *p)
{
	return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

static inline uint32_t
dsocr_be16(const uint8_t *p)
{
	return (uint32_t) p[0] << 8 | p[1];
}

#endif /* DSOCR_IMAGE_FORMAT_H */
