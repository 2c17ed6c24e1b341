/*-------------------------------------------------------------------------
 *
 * image_tiff.h
 *		Samples of a TIFF as they are stored, and RGB; private to image_tiff*.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_IMAGE_TIFF_H
#define DSOCR_IMAGE_TIFF_H

#include "image_format.h"

/* Colours and what else a pixel may carry; the rest is not looked at. */
#define DSOCR_TIFF_MAX_SAMPLES 8

/* What the samples of a page are, in the numbers of the TIFF specification. */
typedef struct DsocrTiffLayout
{
	int bits; /* of a sample: 1, 2, 4, 8 or 16 */
	int samples;
	int photometric;
	int format;
	bool separate;			 /* a plane for each sample */
	bool premultiplied;		 /* the sample behind the colours is alpha, which they contain */
	bool converted;			 /* libtiff itself makes RGB of it */
	uint8_t palette[256][3]; /* when there is one */
} DsocrTiffLayout;

/* Can pixels be made of this?  Sets DSOCR_E_IMAGE. */
extern bool dsocr_tiff_layout_check(const DsocrTiffLayout *l, DsocrError *err);

/* Samples of a pixel that RGB is made of: 1, 3 or 4; they come first. */
extern int dsocr_tiff_used_samples(const DsocrTiffLayout *l);

/*
 * n samples to a byte each, from 0 to 255; indexes of a palette as they are.
 * Of 16 bits the upper half, but gray clipped to 255, as Pillow does both.
 */
extern void dsocr_tiff_unpack(const DsocrTiffLayout *l, const uint8_t *in, size_t n, uint8_t *out);

/* n pixels to RGB; sample s of pixel i is samples[s][i * step]. */
extern void dsocr_tiff_to_rgb(const DsocrTiffLayout *l, const uint8_t *const *samples, int step,
							  size_t n, uint8_t *rgb);

#endif /* DSOCR_IMAGE_TIFF_H */
