/*-------------------------------------------------------------------------
 *
 * raster.h
 *		Pixels of a page, and the image formats they leave in.
 *
 * Rows have no padding.  A page without colour has one channel, so that most
 * of what follows costs a third.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_RASTER_H
#define DSOCR_RASTER_H

#include "base.h"

typedef struct DsocrRaster
{
	int width; /* pixels, at least 1 */
	int height;
	int channels;	 /* 1 = gray, 3 = red, green, blue */
	uint8_t *pixels; /* [height, width, channels] */
} DsocrRaster;

/* Room for an image; its pixels are undefined. */
extern bool dsocr_raster_create(DsocrRaster *r, int width, int height, int channels,
								DsocrError *err);
extern void dsocr_raster_free(DsocrRaster *r);

/* Bytes of the pixels. */
extern size_t dsocr_raster_size(const DsocrRaster *r);

/* Drop channels that say nothing: three equal ones become one. */
extern void dsocr_raster_reduce(DsocrRaster *r);

/*
 * The part of an image between two corners in any order, cut off at its edges:
 * x1 <= x < x2.  Errors: DSOCR_E_ARGUMENT when nothing is left.
 */
extern bool dsocr_raster_crop(const DsocrRaster *r, const int32_t box[4], DsocrRaster *out,
							  DsocrError *err);

/* PGM or PPM. */
extern bool dsocr_raster_pnm(const DsocrRaster *r, DsocrBuffer *out, DsocrError *err);

/* PNG: 1 bit where there is only black and white, else gray or RGB of 8 bits. */
extern bool dsocr_raster_png(const DsocrRaster *r, DsocrBuffer *out, DsocrError *err);

#endif /* DSOCR_RASTER_H */
