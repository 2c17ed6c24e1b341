/*-------------------------------------------------------------------------
 *
 * image_sniff.h
 *		What some bytes are, by their content, and where a TIFF has its pages.
 *
 * Shared by the engine, the page server and the PostgreSQL module: plain C,
 * no library, no allocation, nothing believed.  The time is bounded by the
 * length of the bytes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_IMAGE_SNIFF_H
#define DSOCR_IMAGE_SNIFF_H

#include "base.h"

typedef enum DsocrFormat
{
	DSOCR_FORMAT_UNKNOWN,
	DSOCR_FORMAT_PNG,
	DSOCR_FORMAT_JPEG,
	DSOCR_FORMAT_WEBP,
	DSOCR_FORMAT_TIFF, /* classic or BigTIFF */
	DSOCR_FORMAT_PNM,  /* binary PGM or PPM */
	DSOCR_FORMAT_PDF,
	/* recognised for the sake of a clear message alone */
	DSOCR_FORMAT_GIF,
	DSOCR_FORMAT_BMP,
	DSOCR_FORMAT_JPEG2000,
	DSOCR_FORMAT_HEIF
} DsocrFormat;

#define DSOCR_N_FORMATS (DSOCR_FORMAT_HEIF + 1)

/* By the first bytes; PDF also where something stands before its header. */
extern DsocrFormat dsocr_image_sniff(const uint8_t *bytes, size_t len);

/* "PNG", "JPEG 2000", ...; NULL for DSOCR_FORMAT_UNKNOWN. */
extern const char *dsocr_format_name(DsocrFormat format);

/* A TIFF of more pages is not read. */
#define DSOCR_TIFF_MAX_PAGES 65535

/* Does a TIFF have more than one page?  False for damaged files, too. */
extern bool dsocr_tiff_has_pages(const uint8_t *bytes, size_t len);

/*
 * Pages of a TIFF: its directories in the order of their chain, without
 * those that are a smaller copy or a mask of another one.  The chain ends at
 * a directory that was there before or is not within the file.  0 when there
 * is no directory at all, DSOCR_TIFF_MAX_PAGES + 1 for more than that.
 */
extern int dsocr_tiff_count_pages(const uint8_t *bytes, size_t len);

/* Offset of the directory of a page, counted from 1; 0 when there is none. */
extern uint64_t dsocr_tiff_page_offset(const uint8_t *bytes, size_t len, int page);

/*
 * Do the values of the directory at this offset lie within the file, and are
 * they together no longer than it is?  Those of a sound file do not overlap.
 */
extern bool dsocr_tiff_directory_fits(const uint8_t *bytes, size_t len, uint64_t offset);

/* The first value of a tag in it when it is an unsigned integer; false without. */
extern bool dsocr_tiff_value(const uint8_t *bytes, size_t len, uint64_t offset, int tag,
							 uint64_t *value);

#endif /* DSOCR_IMAGE_SNIFF_H */
