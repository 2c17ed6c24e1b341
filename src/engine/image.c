/*-------------------------------------------------------------------------
 *
 * image.c
 *		Encoded bytes to an upright 8-bit RGB picture.
 *
 * Chooses the format by content and turns the pixels upright.  The formats
 * check every size against the limits before they allocate.
 *
 *-------------------------------------------------------------------------
 */
#include "image_format.h"

#include <string.h>

/* Pixels are moved in squares that stay in the first-level cache. */
#define TURN_BLOCK 32

typedef struct Format
{
	bool (*probe)(const uint8_t *bytes, size_t len, uint64_t max_pixels, DsocrImageHeader *header,
				  DsocrError *err);
	bool (*decode)(const uint8_t *bytes, size_t len, uint64_t max_pixels, const DsocrPoll *poll,
				   DsocrImageHeader *header, uint8_t **rgb, DsocrError *err);
} Format;

static const Format formats[DSOCR_N_FORMATS] = {
	[DSOCR_FORMAT_PNG] = {dsocr_png_probe, dsocr_png_decode},
	[DSOCR_FORMAT_JPEG] = {dsocr_jpeg_probe, dsocr_jpeg_decode},
	[DSOCR_FORMAT_PNM] = {dsocr_pnm_probe, dsocr_pnm_decode},
#ifdef DSOCR_WITH_WEBP
	[DSOCR_FORMAT_WEBP] = {dsocr_webp_probe, dsocr_webp_decode},
#endif
#ifdef DSOCR_WITH_TIFF
	[DSOCR_FORMAT_TIFF] = {dsocr_tiff_probe, dsocr_tiff_decode},
#endif
};

bool
dsocr_image_go_on(const DsocrPoll *poll, DsocrError *err)
{
	if (poll == NULL || poll->go_on(poll->arg))
		return true;
	return dsocr_fail(err, DSOCR_E_CANCELLED, "request was cancelled");
}

/* NULL when the bytes are of no format that is read. */
static const Format *
find_format(const uint8_t *bytes, size_t len, DsocrError *err)
{
	DsocrFormat format = dsocr_image_sniff(bytes, len);

	if (formats[format].probe != NULL)
		return &formats[format];
	if (len == 0)
		dsocr_fail(err, DSOCR_E_IMAGE, "image is empty");
	else if (format == DSOCR_FORMAT_PDF)
	{
		dsocr_fail(err, DSOCR_E_IMAGE, "PDF is no image");
		dsocr_hint(err, "Documents of pages go through the page server.");
	}
	else if (format == DSOCR_FORMAT_WEBP || format == DSOCR_FORMAT_TIFF)
	{
		dsocr_fail(err, DSOCR_E_IMAGE, "%s images are not supported by this build",
				   dsocr_format_name(format));
		dsocr_hint(err, "Build the engine with %s, or convert the image to PNG or JPEG first.",
				   format == DSOCR_FORMAT_WEBP ? "libwebp" : "libtiff");
	}
	else
	{
		dsocr_fail(err, DSOCR_E_IMAGE, "image is not PNG, JPEG, WebP, TIFF or PNM");
		if (format != DSOCR_FORMAT_UNKNOWN)
			dsocr_hint(err, "The data looks like %s. Convert it to PNG or JPEG first.",
					   dsocr_format_name(format));
		else if (len >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '7' &&
				 (bytes[2] == ' ' || bytes[2] == '\n'))
			dsocr_hint(err, "Of PNM, binary PGM and PPM are read. Convert it first.");
	}
	return NULL;
}

bool
dsocr_image_check_size(const char *name, uint32_t width, uint32_t height, uint32_t max_side,
					   uint64_t max_pixels, DsocrError *err)
{
	if (max_pixels == 0)
		max_pixels = DSOCR_DEFAULT_MAX_PIXELS;
	if (width == 0 || height == 0)
		return dsocr_fail(err, DSOCR_E_IMAGE, "%s image of %u x %u pixels is empty", name,
						  (unsigned) width, (unsigned) height);
	/* two 32-bit numbers cannot overflow 64 bits */
	if ((uint64_t) width * height > max_pixels)
	{
		dsocr_fail(err, DSOCR_E_IMAGE,
				   "%s image of %u x %u pixels exceeds the limit of %llu pixels", name,
				   (unsigned) width, (unsigned) height, (unsigned long long) max_pixels);
		return dsocr_hint(err, "Scale the image down, or raise dsocr.max_pixels.");
	}
	if (width > max_side || height > max_side)
		return dsocr_fail(err, DSOCR_E_IMAGE,
						  "%s image of %u x %u pixels exceeds the limit of %u pixels a side", name,
						  (unsigned) width, (unsigned) height, (unsigned) max_side);
	return true;
}

/* Does this page exist, as far as that is known without looking for it? */
static bool
take_page(const uint8_t *bytes, size_t len, int page, DsocrImageHeader *header, DsocrError *err)
{
	header->page = page == 0 ? 1 : page;
	if (page >= 0 && (page <= 1 || dsocr_image_sniff(bytes, len) == DSOCR_FORMAT_TIFF))
		return true;
	return dsocr_fail(err, DSOCR_E_IMAGE, "image has no page %d", page);
}

bool
dsocr_image_pages(const uint8_t *bytes, size_t len, int *pages, DsocrError *err)
{
	if (find_format(bytes, len, err) == NULL)
		return false;
	*pages = 1;
	if (dsocr_image_sniff(bytes, len) != DSOCR_FORMAT_TIFF)
		return true;
	*pages = dsocr_tiff_count_pages(bytes, len);
	if (*pages == 0)
		return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image has no directory");
	if (*pages > DSOCR_TIFF_MAX_PAGES)
		return dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image has more than %d pages",
						  DSOCR_TIFF_MAX_PAGES);
	return true;
}

bool
dsocr_image_probe_page(const uint8_t *bytes, size_t len, int page, uint64_t max_pixels, int *width,
					   int *height, DsocrError *err)
{
	const Format *format = find_format(bytes, len, err);
	DsocrImageHeader header = {0};

	if (format == NULL || !take_page(bytes, len, page, &header, err) ||
		!format->probe(bytes, len, max_pixels, &header, err))
		return false;
	*width = (int) (header.orientation >= 5 ? header.height : header.width);
	*height = (int) (header.orientation >= 5 ? header.width : header.height);
	return true;
}

bool
dsocr_image_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels, int *width, int *height,
				  DsocrError *err)
{
	return dsocr_image_probe_page(bytes, len, 1, max_pixels, width, height, err);
}

/*
 * Pixel (x, y) of the upright image is at x * step_x + y * step_y bytes from
 * the first one.  Orientations 2 to 8 are the seven ways to choose them.
 */
bool
dsocr_image_turn(DsocrImage *image, int orientation, const DsocrPoll *poll, DsocrError *err)
{
	size_t w = (size_t) image->width;
	size_t h = (size_t) image->height;
	ptrdiff_t stride = (ptrdiff_t) w * 3;
	bool swap = orientation >= 5;
	bool mirror_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
	bool mirror_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
	ptrdiff_t step_x = mirror_x ? -3 : 3;
	ptrdiff_t step_y = mirror_y ? -stride : stride;
	const uint8_t *first = image->rgb;
	size_t out_w = swap ? h : w;
	size_t out_h = swap ? w : h;
	size_t pixels;
	uint8_t *out;

	if (mirror_x)
		first += stride - 3;
	if (mirror_y)
		first += (ptrdiff_t) (h - 1) * stride;
	if (swap)
	{
		ptrdiff_t t = step_x;

		step_x = step_y;
		step_y = t;
	}
	if (!dsocr_mul(w, h, &pixels))
		return dsocr_fail(err, DSOCR_E_MEMORY, "image is too large");
	out = dsocr_alloc(pixels, 3, err);
	if (out == NULL)
		return false;
	for (size_t y0 = 0; y0 < out_h; y0 += TURN_BLOCK)
	{
		if (!dsocr_image_go_on(poll, err))
		{
			dsocr_free(out);
			return false;
		}
		for (size_t x0 = 0; x0 < out_w; x0 += TURN_BLOCK)
		{
			size_t y1 = y0 + TURN_BLOCK < out_h ? y0 + TURN_BLOCK : out_h;
			size_t x1 = x0 + TURN_BLOCK < out_w ? x0 + TURN_BLOCK : out_w;

			for (size_t y = y0; y < y1; y++)
			{
				const uint8_t *p = first + (ptrdiff_t) y * step_y + (ptrdiff_t) x0 * step_x;
				uint8_t *o = out + (y * out_w + x0) * 3;

				for (size_t x = x0; x < x1; x++, p += step_x, o += 3)
				{
					o[0] = p[0];
					o[1] = p[1];
					o[2] = p[2];
				}
			}
		}
	}
	dsocr_free(image->rgb);
	image->rgb = out;
	image->width = (int) out_w;
	image->height = (int) out_h;
	return true;
}

bool
dsocr_image_decode_page(const uint8_t *bytes, size_t len, int page, uint64_t max_pixels,
						const DsocrPoll *poll, DsocrImage *image, DsocrError *err)
{
	const Format *format = find_format(bytes, len, err);
	DsocrImageHeader header = {0};

	memset(image, 0, sizeof(*image));
	if (format == NULL || !take_page(bytes, len, page, &header, err) ||
		!format->decode(bytes, len, max_pixels, poll, &header, &image->rgb, err))
		return false;
	image->width = (int) header.width;
	image->height = (int) header.height;
	if (header.orientation > 1 && !dsocr_image_turn(image, header.orientation, poll, err))
	{
		dsocr_image_free(image);
		return false;
	}
	return true;
}

bool
dsocr_image_decode_polled(const uint8_t *bytes, size_t len, uint64_t max_pixels,
						  const DsocrPoll *poll, DsocrImage *image, DsocrError *err)
{
	return dsocr_image_decode_page(bytes, len, 1, max_pixels, poll, image, err);
}

bool
dsocr_image_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels, DsocrImage *image,
				   DsocrError *err)
{
	return dsocr_image_decode_polled(bytes, len, max_pixels, NULL, image, err);
}

void
dsocr_image_free(DsocrImage *image)
{
	dsocr_free(image->rgb);
	memset(image, 0, sizeof(*image));
}
