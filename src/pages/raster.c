/*-------------------------------------------------------------------------
 *
 * raster.c
 *		Pixels of a page: making room, losing channels, cutting out.
 *
 *-------------------------------------------------------------------------
 */
#include "raster.h"

#include <string.h>

bool
dsocr_raster_create(DsocrRaster *r, int width, int height, int channels, DsocrError *err)
{
	size_t pixels;

	memset(r, 0, sizeof(*r));
	if (width < 1 || height < 1 || !dsocr_mul((size_t) width, (size_t) height, &pixels))
		return dsocr_fail(err, DSOCR_E_IMAGE, "page of %d x %d pixels is empty", width, height);
	r->pixels = dsocr_alloc(pixels, (size_t) channels, err);
	if (r->pixels == NULL)
		return false;
	r->width = width;
	r->height = height;
	r->channels = channels;
	return true;
}

void
dsocr_raster_free(DsocrRaster *r)
{
	dsocr_free(r->pixels);
	memset(r, 0, sizeof(*r));
}

size_t
dsocr_raster_size(const DsocrRaster *r)
{
	/* the product was checked when the pixels were allocated */
	return (size_t) r->width * (size_t) r->height * (size_t) r->channels;
}

void
dsocr_raster_reduce(DsocrRaster *r)
{
	size_t n = (size_t) r->width * (size_t) r->height;
	const uint8_t *p = r->pixels;

	if (r->channels != 3)
		return;
	for (int y = 0; y < r->height; y++)
	{
		unsigned int differs = 0;

		/* a row at a time without branches, which compilers make wide */
		for (int x = 0; x < r->width; x++, p += 3)
			differs |= (unsigned int) (p[0] ^ p[1]) | (unsigned int) (p[1] ^ p[2]);
		if (differs != 0)
			return;
	}
	for (size_t i = 0; i < n; i++)
		r->pixels[i] = r->pixels[3 * i];
	r->channels = 1;
}

static int
clamp(int32_t v, int most)
{
	return v < 0 ? 0 : v > most ? most : (int) v;
}

bool
dsocr_raster_crop(const DsocrRaster *r, const int32_t box[4], DsocrRaster *out, DsocrError *err)
{
	int x1 = clamp(box[0] < box[2] ? box[0] : box[2], r->width);
	int x2 = clamp(box[0] < box[2] ? box[2] : box[0], r->width);
	int y1 = clamp(box[1] < box[3] ? box[1] : box[3], r->height);
	int y2 = clamp(box[1] < box[3] ? box[3] : box[1], r->height);
	size_t stride = (size_t) r->width * (size_t) r->channels;
	size_t row;

	memset(out, 0, sizeof(*out));
	if (x1 >= x2 || y1 >= y2)
		return dsocr_fail(err, DSOCR_E_ARGUMENT,
						  "box (%d,%d),(%d,%d) has nothing of a page of %d x %d pixels", box[0],
						  box[1], box[2], box[3], r->width, r->height);
	if (!dsocr_raster_create(out, x2 - x1, y2 - y1, r->channels, err))
		return false;
	row = (size_t) out->width * (size_t) out->channels;
	for (int y = 0; y < out->height; y++)
		memcpy(out->pixels + (size_t) y * row,
			   r->pixels + (size_t) (y1 + y) * stride + (size_t) x1 * (size_t) r->channels, row);
	return true;
}

bool
dsocr_raster_pnm(const DsocrRaster *r, DsocrBuffer *out, DsocrError *err)
{
	return dsocr_buffer_printf(out, err, "P%c\n%d %d\n255\n", r->channels == 1 ? '5' : '6',
							   r->width, r->height) &&
		   dsocr_buffer_append(out, r->pixels, dsocr_raster_size(r), err);
}
