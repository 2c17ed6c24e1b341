/*-------------------------------------------------------------------------
 *
 * exif.c
 *		The orientation tag in EXIF, XMP and text profiles, as Pillow finds it.
 *
 * Everything is read in place from bytes nobody has checked; whatever does
 * not fit is treated as absent, never as an error.
 *
 *-------------------------------------------------------------------------
 */
#include "image_format.h"

#include <string.h>

#define TAG_ORIENTATION 0x0112

/* EXIF of ImageMagick is small; a longer dump is not worth reading. */
#define RAW_PROFILE_MAX 65536

typedef struct Tiff
{
	const uint8_t *data;
	size_t len;
	bool big_endian;
} Tiff;

static uint32_t
tiff_u16(const Tiff *t, const uint8_t *p)
{
	return t->big_endian ? dsocr_be16(p) : (uint32_t) p[0] | (uint32_t) p[1] << 8;
}

static uint32_t
tiff_u32(const Tiff *t, const uint8_t *p)
{
	if (t->big_endian)
		return dsocr_be32(p);
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

/* Bytes of one value of a TIFF type; 0 for an unknown one. */
static uint32_t
type_size(uint32_t type)
{
	static const uint8_t size[] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8};

	return type < sizeof(size) ? size[type] : 0;
}

/* The first value of an entry when it is a number from 1 to 8, else 1. */
static int
entry_orientation(const Tiff *t, uint32_t type, const uint8_t *value)
{
	uint32_t v;
	union
	{
		uint32_t u;
		float f;
	} real;

	switch (type)
	{
		case 3: /* short, signed short */
		case 8:
			v = tiff_u16(t, value);
			break;
		case 4: /* long, signed long, IFD */
		case 9:
		case 13:
			v = tiff_u32(t, value);
			break;
		case 6: /* signed byte */
			v = value[0];
			break;
		case 5: /* rationals: a whole number counts */
		case 10:
			v = tiff_u32(t, value + 4);
			if (v == 0 || tiff_u32(t, value) % v != 0)
				return 1;
			v = tiff_u32(t, value) / v;
			break;
		case 11: /* float */
			real.u = tiff_u32(t, value);
			v = real.f >= 1 && real.f <= 8 && (float) (int) real.f == real.f ? (uint32_t) real.f
																			 : 0;
			break;
		default:
			return 1;
	}
	return v >= 1 && v <= 8 ? (int) v : 1;
}

int
dsocr_exif_orientation(const uint8_t *data, size_t len)
{
	static const char *const headers[] = {"MM\0*", "II*\0", "MM*\0", "II\0*"};
	Tiff t;
	size_t at;
	uint32_t entries;
	bool known = false;
	int orientation = 0;

	if (len >= 6 && memcmp(data, "Exif\0\0", 6) == 0)
	{
		data += 6;
		len -= 6;
	}
	if (len < 8)
		return 0;
	for (int i = 0; i < 4; i++)
		known = known || memcmp(data, headers[i], 4) == 0;
	if (!known)
		return 0;
	t = (Tiff){.data = data, .len = len, .big_endian = data[0] == 'M'};
	at = tiff_u32(&t, data + 4);
	if (at > len || len - at < 2)
		return 0;
	entries = tiff_u16(&t, data + at);
	at += 2;
	for (uint32_t i = 0; i < entries && len - at >= 12; i++, at += 12)
	{
		const uint8_t *entry = data + at;
		uint32_t type = tiff_u16(&t, entry + 2);
		uint32_t count = tiff_u32(&t, entry + 4);
		uint64_t size = (uint64_t) count * type_size(type);
		const uint8_t *value = entry + 8;

		if (tiff_u16(&t, entry) != TAG_ORIENTATION || size == 0)
			continue;
		if (size > 4)
		{
			uint32_t offset = tiff_u32(&t, value);

			if (offset > len || len - offset < size)
				continue;
			value = data + offset;
		}
		/* as in a dictionary, the last entry counts */
		orientation = entry_orientation(&t, type, value);
	}
	return orientation;
}

int
dsocr_xmp_orientation(const uint8_t *data, size_t len)
{
	static const char key[] = "tiff:Orientation";
	const uint8_t *p = data;
	const uint8_t *end = data + len;

	while ((p = memmem(p, (size_t) (end - p), key, sizeof(key) - 1)) != NULL)
	{
		p += sizeof(key) - 1;
		if (end - p >= 2 && p[0] == '>')
			p += 1;
		else if (end - p >= 3 && p[0] == '=' && p[1] == '"')
			p += 2;
		else
			continue;
		if (*p >= '0' && *p <= '9')
			return *p >= '1' && *p <= '8' ? *p - '0' : 1;
	}
	return 0;
}

static int
hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Three lines of heading (empty, name, length), then hex digits. */
int
dsocr_raw_profile_orientation(const uint8_t *text, size_t len)
{
	size_t at = 0;
	size_t n = 0;
	uint8_t *data;
	int orientation;
	int high = -1;

	for (int line = 0; line < 3; line++)
	{
		const uint8_t *nl = memchr(text + at, '\n', len - at);

		if (nl == NULL)
			return 0;
		at = (size_t) (nl - text) + 1;
	}
	data = dsocr_alloc(RAW_PROFILE_MAX, 1, NULL);
	if (data == NULL)
		return 0;
	for (; at < len && n < RAW_PROFILE_MAX; at++)
	{
		int digit = hex_digit(text[at]);

		if (digit < 0 && text[at] != '\n' && text[at] != ' ' && text[at] != '\r')
			break;
		if (digit < 0)
			continue;
		if (high < 0)
			high = digit;
		else
		{
			data[n++] = (uint8_t) (high << 4 | digit);
			high = -1;
		}
	}
	orientation = dsocr_exif_orientation(data, n);
	dsocr_free(data);
	return orientation;
}
