/*-------------------------------------------------------------------------
 *
 * pdf_image.h
 *		JPEG and PNG as PDF wants to be told about them, nothing decoded.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PDF_IMAGE_H
#define DSOCR_PDF_IMAGE_H

#include "dsocr.h"

typedef struct DsocrPdfPart
{
	const uint8 *bytes;
	size_t len;
} DsocrPdfPart;

typedef struct DsocrPdfImage
{
	bool jpeg;
	int width;
	int height;
	int bits;	  /* of a channel */
	int channels; /* 1 gray, 3 RGB */
	int n_parts;  /* the bytes that go into the stream */
	DsocrPdfPart *parts;
} DsocrPdfImage;

/*
 * Look at a JPEG or PNG of the page server: gray or RGB, upright, no alpha, not
 * interlaced.  false with a reason when it is anything else, or damaged.
 * Points into bytes.
 */
extern bool dsocr_pdf_image_look(const uint8 *bytes, size_t len, DsocrPdfImage *image,
								 const char **why);

/*
 * Resolution that a PNG, JPEG or TIFF names for its (first) page, dots per
 * inch; 0 if it names none, or nothing sensible.  The head of the file is
 * enough, as far as the resolution stands in it.
 */
extern double dsocr_pdf_image_dpi(const uint8 *bytes, size_t len);

#endif /* DSOCR_PDF_IMAGE_H */
