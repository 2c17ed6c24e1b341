/*-------------------------------------------------------------------------
 *
 * stored_jpeg.h
 *		JPEGs that can be passed on as they are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_STORED_JPEG_H
#define DSOCR_STORED_JPEG_H

#include "raster.h"

/*
 * Is this a JPEG that every reader of PDF shows as it is: 8 bits, gray or
 * three colours, baseline or progressive, with no turn of its own?  Then its
 * size.  Damage behind its headers is not looked for.
 */
extern bool dsocr_stored_jpeg(const uint8_t *bytes, size_t len, int *width, int *height);

/*
 * Does the JPEG show the page?  Both are compared by the mean brightness of
 * small cells, so the resolutions may differ.
 */
extern bool dsocr_stored_shows(const uint8_t *jpeg, size_t len, uint64_t max_pixels,
							   const DsocrRaster *page);

#endif /* DSOCR_STORED_JPEG_H */
