/*-------------------------------------------------------------------------
 *
 * make_image.h
 *		Small pictures for tests, written byte by byte where it matters.
 *
 * All functions append to a buffer and stop the test program when memory is
 * short.
 *
 *-------------------------------------------------------------------------
 */
#ifndef MAKE_IMAGE_H
#define MAKE_IMAGE_H

#include "base.h"

#define MK_SIGNATURE 8 /* bytes of a PNG before its first chunk */
#define MK_TIFF 26	   /* bytes of the smallest EXIF block */

typedef struct MkPng
{
	uint32_t width;
	uint32_t height;
	int depth;
	int color; /* 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGBA */
	bool interlaced;
	const uint16_t *samples; /* height * width * channels */
	const uint8_t *palette;
	size_t palette_len;
} MkPng;

extern void mk_bytes(DsocrBuffer *b, const void *bytes, size_t len);
extern void mk_be32(DsocrBuffer *b, uint32_t v);
extern void mk_be16(DsocrBuffer *b, uint32_t v);

extern int mk_channels(int color);
extern void mk_signature(DsocrBuffer *b);
extern void mk_chunk(DsocrBuffer *b, const char *name, const void *data, size_t len);
extern void mk_ihdr(DsocrBuffer *b, const MkPng *png);
extern void mk_idat(DsocrBuffer *b, const MkPng *png); /* in two chunks */
extern void mk_png(DsocrBuffer *b, const MkPng *png);  /* the whole file */

/* Raw rows (filter byte and packed samples) of a picture, before compression. */
extern void mk_rows(DsocrBuffer *b, const MkPng *png);

extern void mk_deflate(DsocrBuffer *b, const void *bytes, size_t len);
extern void mk_deflate_zeros(DsocrBuffer *b, size_t len);

/* A TIFF structure with the orientation tag alone: MK_TIFF bytes. */
extern void mk_tiff(uint8_t *out, int orientation, bool big_endian);

typedef struct MkJpeg
{
	int width;
	int height;
	int components; /* 1, 3 or 4 */
	bool ycc;		/* store RGB as YCbCr, CMYK as YCCK */
	int h_samp;		/* of the first component; the others have 1 */
	int v_samp;
	bool progressive;
	bool arithmetic;
	int restart; /* MCUs between restart markers */
	int quality;
	const uint8_t *samples; /* height * width * components */
} MkJpeg;

/* False when the library lacks the coding process. */
extern bool mk_jpeg(DsocrBuffer *b, const MkJpeg *jpeg);

/* A copy of a JPEG with an APP1 segment behind SOI. */
extern void mk_jpeg_with_exif(DsocrBuffer *b, const DsocrBuffer *jpeg, const uint8_t *tiff);

#endif /* MAKE_IMAGE_H */
