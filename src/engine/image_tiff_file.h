/*-------------------------------------------------------------------------
 *
 * image_tiff_file.h
 *		A TIFF in memory as a file of libtiff.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_IMAGE_TIFF_FILE_H
#define DSOCR_IMAGE_TIFF_FILE_H

#include "base.h"

#include <tiffio.h>

/* The file in memory, and what libtiff had to say first. */
typedef struct DsocrTiffFile
{
	const uint8_t *bytes;
	size_t len;
	uint64_t at;
	char message[100];
} DsocrTiffFile;

/*
 * Header only; the directory comes when it has been looked at.  No single
 * allocation is larger than memory, where libtiff can be told so.
 */
extern TIFF *dsocr_tiff_open(DsocrTiffFile *f, uint64_t memory);

#endif /* DSOCR_IMAGE_TIFF_FILE_H */
