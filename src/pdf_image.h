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
	int width; /* as stored, before its orientation is applied */
	int height;
	int bits;
	int channels;		  /* 1 gray, 3 RGB, 4 CMYK; 1 with a palette */
	bool inverted;		  /* CMYK as Adobe writes it */
	int orientation;	  /* 1 to 8, as EXIF has it */
	double dpi;			  /* what the file says, 0 if nothing sensible */
	DsocrPdfPart palette; /* of RGB triples; none: len 0 */
	int n_parts;		  /* the bytes that go into the stream */
	DsocrPdfPart *parts;
} DsocrPdfImage;

/*
 * Look at a JPEG or PNG.  false with a reason when it is neither, damaged, or
 * of a kind that PDF has no form for.  Points into bytes.
 */
extern bool dsocr_pdf_image_look(const uint8 *bytes, size_t len, DsocrPdfImage *image,
								 const char **why);

#endif /* DSOCR_PDF_IMAGE_H */
