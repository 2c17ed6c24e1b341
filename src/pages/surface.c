/*-------------------------------------------------------------------------
 *
 * surface.c
 *		Between the pixels of cairo and ours.
 *
 * A pixel of cairo is a word of 32 bits, 0xXXRRGGBB.
 *
 *-------------------------------------------------------------------------
 */
#include "surface.h"

#include <string.h>

cairo_surface_t *
dsocr_surface_create(int width, int height, DsocrError *err)
{
	cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);

	if (cairo_surface_status(surface) != CAIRO_STATUS_SUCCESS)
	{
		dsocr_fail(err, DSOCR_E_MEMORY, "out of memory for a page of %d x %d pixels", width,
				   height);
		cairo_surface_destroy(surface);
		return NULL;
	}
	memset(cairo_image_surface_get_data(surface), 0xff,
		   (size_t) cairo_image_surface_get_stride(surface) * (size_t) height);
	cairo_surface_mark_dirty(surface);
	return surface;
}

cairo_surface_t *
dsocr_surface_of(const DsocrRaster *r, DsocrError *err)
{
	cairo_surface_t *surface = dsocr_surface_create(r->width, r->height, err);
	const uint8_t *p = r->pixels;

	if (surface == NULL)
		return NULL;
	for (int y = 0; y < r->height; y++)
	{
		uint32_t *row =
			(uint32_t *) (cairo_image_surface_get_data(surface) +
						  (size_t) cairo_image_surface_get_stride(surface) * (size_t) y);

		for (int x = 0; x < r->width; x++, p += r->channels)
		{
			uint32_t green = p[r->channels / 2];
			uint32_t blue = p[r->channels - 1];

			row[x] = (uint32_t) p[0] << 16 | green << 8 | blue;
		}
	}
	cairo_surface_mark_dirty(surface);
	return surface;
}

/* Is there a pixel whose channels differ? */
static bool
has_colour(const uint32_t *row, int width)
{
	uint32_t differs = 0;

	for (int x = 0; x < width; x++)
		differs |= (row[x] ^ (row[x] >> 8)) & 0xffff;
	return differs != 0;
}

bool
dsocr_surface_take(cairo_surface_t *surface, DsocrRaster *r, DsocrError *err)
{
	int width = cairo_image_surface_get_width(surface);
	int height = cairo_image_surface_get_height(surface);
	size_t stride = (size_t) cairo_image_surface_get_stride(surface);
	const uint8_t *data;
	bool colour = false;
	uint8_t *to;

	cairo_surface_flush(surface);
	data = cairo_image_surface_get_data(surface);
	for (int y = 0; y < height && !colour; y++)
		colour = has_colour((const uint32_t *) (data + stride * (size_t) y), width);
	if (!dsocr_raster_create(r, width, height, colour ? 3 : 1, err))
	{
		cairo_surface_destroy(surface);
		return false;
	}
	to = r->pixels;
	for (int y = 0; y < height; y++)
	{
		const uint32_t *row = (const uint32_t *) (data + stride * (size_t) y);

		for (int x = 0; x < width; x++)
		{
			if (colour)
			{
				*to++ = (uint8_t) (row[x] >> 16);
				*to++ = (uint8_t) (row[x] >> 8);
			}
			*to++ = (uint8_t) row[x];
		}
	}
	cairo_surface_destroy(surface);
	return true;
}
