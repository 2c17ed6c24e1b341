/*-------------------------------------------------------------------------
 *
 * source_image.c
 *		An image as a document of one page, by the decoders of the engine.
 *
 *-------------------------------------------------------------------------
 */
#include "source.h"

#include <string.h>

#include "image.h"
#include "image_sniff.h"

static bool
render(DsocrSource *s, int page, DsocrRaster *out, DsocrError *err)
{
	DsocrImage image;

	if (!dsocr_image_decode(s->options.bytes, s->options.len, s->options.max_pixels, &image, err))
		return false;
	*out = (DsocrRaster){image.width, image.height, 3, image.rgb};
	return true;
}

bool
dsocr_source_open_image(DsocrSource *s, DsocrError *err)
{
	int width;
	int height;

	if (!dsocr_image_probe(s->options.bytes, s->options.len, s->options.max_pixels, &width, &height,
						   err))
		return false;
	s->format = dsocr_format_name(dsocr_image_sniff(s->options.bytes, s->options.len));
	s->pages = 1;
	s->render = render;
	return true;
}
