/*-------------------------------------------------------------------------
 *
 * raster_png.c
 *		Pixels to PNG, quickly rather than small.
 *
 * What the encoder does on errors is a jump out of libpng: nothing that
 * changes after setjmp lives in a register of the function that calls it.
 *
 *-------------------------------------------------------------------------
 */
#include "raster.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>

/* Each step up costs half of the time again and saves some percent. */
#define PNG_LEVEL 3

typedef struct Encoder
{
	DsocrBuffer *out;
	DsocrError *err;
	uint8_t *packed; /* a row of bits, or NULL */
} Encoder;

static void
on_write(png_structp png, png_bytep data, size_t n)
{
	Encoder *e = png_get_io_ptr(png);

	if (!dsocr_buffer_append(e->out, data, n, e->err))
		png_error(png, "no memory");
}

static void
on_flush(png_structp png)
{
}

static void
on_error(png_structp png, const char *message)
{
	Encoder *e = png_get_error_ptr(png);

	if (e->err == NULL || e->err->code == DSOCR_OK)
		dsocr_fail(e->err, DSOCR_E_MEMORY, "could not encode a page as PNG: %.100s", message);
	longjmp(png_jmpbuf(png), 1);
}

static void
on_warning(png_structp png, const char *message)
{
}

static bool
is_bilevel(const DsocrRaster *r)
{
	size_t n = dsocr_raster_size(r);

	if (r->channels != 1)
		return false;
	for (size_t i = 0; i < n; i++)
	{
		if ((uint8_t) (r->pixels[i] + 1) > 1)
			return false;
	}
	return true;
}

static void
pack_row(const uint8_t *from, int width, uint8_t *to)
{
	memset(to, 0, ((size_t) width + 7) / 8);
	for (int x = 0; x < width; x++)
		to[x >> 3] |= (uint8_t) ((from[x] & 0x80) >> (x & 7));
}

/* Jumps out on errors. */
static void
encode(png_structp png, png_infop info, Encoder *e, const DsocrRaster *r)
{
	size_t stride = (size_t) r->width * (size_t) r->channels;

	png_set_write_fn(png, e, on_write, on_flush);
	png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
	png_set_IHDR(png, info, (png_uint_32) r->width, (png_uint_32) r->height,
				 e->packed != NULL ? 1 : 8,
				 r->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
				 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
	png_set_compression_level(png, PNG_LEVEL);
	png_set_filter(png, 0, e->packed != NULL ? PNG_FILTER_NONE : PNG_FILTER_UP);
	png_write_info(png, info);
	for (int y = 0; y < r->height; y++)
	{
		const uint8_t *row = r->pixels + (size_t) y * stride;

		if (e->packed != NULL)
			pack_row(row, r->width, e->packed);
		png_write_row(png, e->packed != NULL ? e->packed : row);
	}
	png_write_end(png, NULL);
}

bool
dsocr_raster_png(const DsocrRaster *r, DsocrBuffer *out, DsocrError *err)
{
	Encoder e = {.out = out, .err = err};
	size_t start = out->len;
	png_structp png;
	png_infop info;
	bool bilevel = is_bilevel(r);
	bool ok = false;

	if (bilevel)
	{
		e.packed = dsocr_alloc(((size_t) r->width + 7) / 8, 1, err);
		if (e.packed == NULL)
			return false;
	}
	png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &e, on_error, on_warning);
	info = png == NULL ? NULL : png_create_info_struct(png);
	if (info == NULL)
		dsocr_fail(err, DSOCR_E_MEMORY, "out of memory for a PNG encoder");
	else if (setjmp(png_jmpbuf(png)) == 0)
	{
		encode(png, info, &e, r);
		ok = true;
	}
	png_destroy_write_struct(&png, &info);
	dsocr_free(e.packed);
	if (!ok && out->data != NULL)
		out->len = start;
	return ok;
}
