/*-------------------------------------------------------------------------
 *
 * image_png.h
 *		What the chunks of a PNG file hold.
 *
 * For image_png.c and image_png_chunks.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_IMAGE_PNG_H
#define DSOCR_IMAGE_PNG_H

#include "image_format.h"

#define DSOCR_PNG_SIGNATURE 8
#define DSOCR_PNG_OVERHEAD 12 /* of a chunk: length, name, CRC */

/* A piece of the file: the data of a chunk, or of the text in it. */
typedef struct DsocrPngSpan
{
	const uint8_t *data; /* NULL when absent */
	size_t len;
	bool deflated;
} DsocrPngSpan;

typedef struct DsocrPngFile
{
	uint32_t width;
	uint32_t height;
	int depth;
	int color;
	bool interlaced;
	DsocrPngSpan palette;
	DsocrPngSpan exif;		  /* TIFF structure */
	DsocrPngSpan raw_profile; /* hex dump of one */
	DsocrPngSpan xmp;		  /* XMP packet */
	const uint8_t *idat;	  /* first of the consecutive IDAT chunks, length field first */
	size_t idat_span;		  /* bytes of these chunks in the file */
	uint64_t idat_bytes;	  /* bytes of compressed data in them */
} DsocrPngFile;

/*
 * Walk the file.  strict: up to IEND with all checksums, else only as far as
 * the chunks are sound and without looking at the data.
 */
extern bool dsocr_png_read_chunks(const uint8_t *bytes, size_t len, uint64_t max_pixels,
								  bool strict, DsocrPngFile *png, DsocrError *err);

/* As EXIF counts it, 1 when nothing says so. */
extern int dsocr_png_orientation(const DsocrPngFile *png);

/* Refuse the file for its end; false. */
extern bool dsocr_png_truncated(DsocrError *err);

#endif /* DSOCR_IMAGE_PNG_H */
