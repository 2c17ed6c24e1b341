/*-------------------------------------------------------------------------
 *
 * pdf_image.c
 *		JPEG and PNG as PDF wants to be told about them, nothing decoded.
 *
 * PDF takes a JPEG file as it is, and the compressed rows of a PNG as they
 * are: both are only walked from segment to segment to find size, colours and
 * where the data lie.  The bytes come from the page server, which has looked
 * at a file of a stranger: nothing in them is trusted.
 *
 *-------------------------------------------------------------------------
 */
#include "pdf_image.h"

#define MAX_PNG_PARTS 65536

static uint32
big32(const uint8 *p)
{
	return (uint32) p[0] << 24 | (uint32) p[1] << 16 | (uint32) p[2] << 8 | p[3];
}

static uint32
big16(const uint8 *p)
{
	return (uint32) p[0] << 8 | p[1];
}

/* ---- JPEG ---- */

static bool
take_frame(const uint8 *p, size_t len, DsocrPdfImage *image, const char **why)
{
	if (len < 6)
		return false;
	image->bits = p[0];
	image->height = big16(p + 1);
	image->width = big16(p + 3);
	image->channels = p[5];
	*why = "the JPEG is of a kind that PDF does not have";
	return image->bits == 8 && image->width > 0 && image->height > 0 &&
		   (image->channels == 1 || image->channels == 3);
}

static bool
look_at_jpeg(const uint8 *bytes, size_t len, DsocrPdfImage *image, const char **why)
{
	const uint8 *end = bytes + len;
	const uint8 *p = bytes + 2;

	image->jpeg = true;
	*why = "the JPEG is damaged";
	while (end - p >= 4)
	{
		uint8 marker = p[1];
		size_t size;

		if (p[0] != 0xff)
			return false;
		if (marker == 0xff)
		{
			p++;
			continue;
		}
		if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd7))
		{
			p += 2;
			continue;
		}
		size = big16(p + 2);
		if (size < 2 || size > (size_t) (end - p) - 2)
			return false;
		if (marker >= 0xc0 && marker <= 0xc2)
		{
			if (image->width > 0 || !take_frame(p + 4, size - 2, image, why))
				return false;
		}
		else if (marker > 0xc2 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 &&
				 marker != 0xcc)
		{
			*why = "the JPEG is of a kind that PDF does not have";
			return false;
		}
		else if (marker == 0xda)
		{
			image->parts[0] = (DsocrPdfPart){bytes, len};
			image->n_parts = 1;
			return image->width > 0;
		}
		p += 2 + size;
	}
	return false;
}

/* ---- PNG ---- */

static bool
take_header(const uint8 *p, size_t len, DsocrPdfImage *image, const char **why)
{
	if (len != 13)
		return false;
	image->width = (int) Min(big32(p), PG_INT32_MAX);
	image->height = (int) Min(big32(p + 4), PG_INT32_MAX);
	image->bits = p[8];
	image->channels = p[9] == 2 ? 3 : 1;
	*why = "the PNG is of a kind that PDF does not have";
	return image->width > 0 && image->height > 0 && (p[8] == 1 || p[8] == 8) &&
		   (p[9] == 0 || (p[9] == 2 && p[8] == 8)) && p[10] == 0 && p[11] == 0 && p[12] == 0;
}

static bool
look_at_png(const uint8 *bytes, size_t len, DsocrPdfImage *image, const char **why)
{
	const uint8 *end = bytes + len;
	const uint8 *p = bytes + 8;
	int capacity = 1;

	while (*why = "the PNG is damaged", end - p >= 12)
	{
		size_t size = big32(p);
		const uint8 *data = p + 8;

		if (size > (size_t) (end - p) - 12)
			return false;
		if (memcmp(p + 4, "IHDR", 4) == 0)
		{
			if (image->width > 0 || !take_header(data, size, image, why))
				return false;
		}
		else if (image->width == 0)
			return false;
		else if (memcmp(p + 4, "IDAT", 4) == 0)
		{
			if (image->n_parts == MAX_PNG_PARTS)
				return false;
			if (image->n_parts == capacity)
			{
				capacity *= 2;
				image->parts = repalloc(image->parts, sizeof(DsocrPdfPart) * capacity);
			}
			image->parts[image->n_parts++] = (DsocrPdfPart){data, size};
		}
		else if (memcmp(p + 4, "IEND", 4) == 0)
			return image->n_parts > 0;
		p += 12 + size;
	}
	return false;
}

/* ---- resolution ---- */

/* A number of a TIFF structure in either byte order; the caller has checked the bounds. */
static uint32
tiff_number(const uint8 *p, int bytes, bool big)
{
	uint32 n = 0;

	for (int i = 0; i < bytes; i++)
		n |= (uint32) p[i] << 8 * (big ? bytes - 1 - i : i);
	return n;
}

/* Resolution of a JFIF segment: units, then width by height of a pixel. */
static double
jfif_dpi(const uint8 *p, size_t len)
{
	if (len < 12 || memcmp(p, "JFIF", 5) != 0 || big16(p + 8) != big16(p + 10))
		return 0;
	return p[7] == 1 ? big16(p + 8) : p[7] == 2 ? big16(p + 8) * 2.54 : 0;
}

static double
sensible(double dpi)
{
	/* outside: what programs write without having asked anybody */
	return dpi >= 50 && dpi <= 4800 ? dpi : 0;
}

static double
png_dpi(const uint8 *bytes, size_t len)
{
	size_t at = 8;

	while (len - at >= 12)
	{
		size_t size = big32(bytes + at);

		if (size > len - at - 12)
			return 0;
		if (memcmp(bytes + at + 4, "pHYs", 4) == 0 && size == 9 && bytes[at + 16] == 1 &&
			big32(bytes + at + 8) == big32(bytes + at + 12))
			return big32(bytes + at + 8) * 0.0254;
		at += 12 + size;
	}
	return 0;
}

static double
jpeg_dpi(const uint8 *bytes, size_t len)
{
	/* JFIF comes first or not at all */
	return len > 20 && bytes[3] == 0xe0 ? jfif_dpi(bytes + 6, len - 6) : 0;
}

static double
tiff_dpi(const uint8 *bytes, size_t len)
{
	bool big = bytes[0] == 'M';
	uint32 at = tiff_number(bytes + 4, 4, big);
	double dots[2] = {0, 0};
	double per_inch = 1; /* where no unit is named, it is the inch */
	uint32 n;

	if (at > len - 2)
		return 0;
	n = tiff_number(bytes + at, 2, big);
	at += 2;
	for (uint32 i = 0; i < n && at + 12 <= len; i++, at += 12)
	{
		uint32 tag = tiff_number(bytes + at, 2, big);

		if (tag == 282 || tag == 283)
		{
			uint32 value = tiff_number(bytes + at + 8, 4, big);

			if (value <= len - 8)
				dots[tag - 282] = (double) tiff_number(bytes + value, 4, big) /
								  Max(tiff_number(bytes + value + 4, 4, big), 1);
		}
		else if (tag == 296)
		{
			uint32 unit = tiff_number(bytes + at + 8, 2, big);

			per_inch = unit == 2 ? 1 : unit == 3 ? 2.54 : 0;
		}
	}
	return dots[0] == dots[1] ? dots[0] * per_inch : 0;
}

double
dsocr_pdf_image_dpi(const uint8 *bytes, size_t len)
{
	if (len < 32)
		return 0;
	if (memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
		return sensible(png_dpi(bytes, len));
	if (memcmp(bytes, "\xff\xd8\xff", 3) == 0)
		return sensible(jpeg_dpi(bytes, len));
	if (memcmp(bytes, "II*\0", 4) == 0 || memcmp(bytes, "MM\0*", 4) == 0)
		return sensible(tiff_dpi(bytes, len));
	return 0;
}

bool
dsocr_pdf_image_look(const uint8 *bytes, size_t len, DsocrPdfImage *image, const char **why)
{
	bool good;

	*image = (DsocrPdfImage){.parts = palloc(sizeof(DsocrPdfPart))};
	*why = "the page image is neither JPEG nor PNG";
	if (len > 4 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
		good = look_at_jpeg(bytes, len, image, why);
	else if (len > 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
		good = look_at_png(bytes, len, image, why);
	else
		good = false;
	return good;
}
