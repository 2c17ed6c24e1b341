/*-------------------------------------------------------------------------
 *
 * source_image.c
 *		An image as a document, by the decoders of the engine.  All have one
 *		page but TIFF.
 *
 *-------------------------------------------------------------------------
 */
#include "source.h"

#include <string.h>

#include "image.h"
#include "image_sniff.h"
#include "stored_jpeg.h"

static bool
render(DsocrSource *s, int page, DsocrRaster *out, DsocrError *err)
{
	DsocrImage image;

	if (!dsocr_image_decode_page(s->options.bytes, s->options.len, page, s->options.max_pixels,
								 NULL, &image, err))
		return false;
	*out = (DsocrRaster){image.width, image.height, 3, image.rgb};
	return true;
}

/* A JPEG is its only page. */
static bool
stored(DsocrSource *s, int page, DsocrBuffer *jpeg, int *width, int *height)
{
	return dsocr_stored_jpeg(s->options.bytes, s->options.len, width, height) &&
		   dsocr_buffer_append(jpeg, s->options.bytes, s->options.len, NULL);
}

bool
dsocr_source_open_image(DsocrSource *s, DsocrError *err)
{
	DsocrFormat format = dsocr_image_sniff(s->options.bytes, s->options.len);
	int width;
	int height;

	/* of many pages, one that cannot be read is that page's matter */
	if (!dsocr_image_pages(s->options.bytes, s->options.len, &s->pages, err) ||
		(s->pages == 1 && !dsocr_image_probe(s->options.bytes, s->options.len,
											 s->options.max_pixels, &width, &height, err)))
		return false;
	s->format = dsocr_format_name(format);
	s->render = render;
	if (format == DSOCR_FORMAT_JPEG)
		s->stored = stored;
	return true;
}
