/*-------------------------------------------------------------------------
 *
 * image_png_chunks.c
 *		The chunks of a PNG file: its size, its pieces, its orientation.
 *
 *-------------------------------------------------------------------------
 */
#include "image_png.h"

#include <string.h>
#include <zlib.h>

/* Text that may hold an orientation is inflated up to this, as in Pillow. */
#define TEXT_MAX (1024 * 1024)

#define CHUNK_NAME(a, b, c, d)                                                                     \
	((uint32_t) (a) << 24 | (uint32_t) (b) << 16 | (uint32_t) (c) << 8 | (uint32_t) (d))

typedef struct PngChunk
{
	uint32_t name;
	const uint8_t *start; /* length field */
	const uint8_t *data;
	size_t len;
} PngChunk;

bool
dsocr_png_truncated(DsocrError *err)
{
	return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image is truncated");
}

static bool
is_chunk_name(const uint8_t *p)
{
	for (int i = 0; i < 4; i++)
		if (!((p[i] >= 'A' && p[i] <= 'Z') || (p[i] >= 'a' && p[i] <= 'z')))
			return false;
	return true;
}

/* The chunk at *at; moves *at behind it. */
static bool
next_chunk(const uint8_t *bytes, size_t len, size_t *at, bool check_crc, PngChunk *chunk,
		   DsocrError *err)
{
	size_t left = len - *at;

	if (left < DSOCR_PNG_OVERHEAD)
		return dsocr_png_truncated(err);
	chunk->start = bytes + *at;
	chunk->len = dsocr_be32(chunk->start);
	chunk->name = dsocr_be32(chunk->start + 4);
	chunk->data = chunk->start + 8;
	if (!is_chunk_name(chunk->start + 4))
		return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image is damaged: invalid chunk name");
	if (chunk->len > left - DSOCR_PNG_OVERHEAD)
		return dsocr_png_truncated(err);
	if (check_crc)
	{
		uint32_t crc = (uint32_t) crc32_z(0, chunk->start + 4, chunk->len + 4);

		if (crc != dsocr_be32(chunk->data + chunk->len))
			return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image is damaged: wrong checksum in %.4s",
							  (const char *) chunk->start + 4);
	}
	*at += chunk->len + DSOCR_PNG_OVERHEAD;
	return true;
}

static bool
read_ihdr(const PngChunk *chunk, uint64_t max_pixels, DsocrPngFile *png, DsocrError *err)
{
	/* allowed bit depths of each color type, as a set of bits */
	static const uint32_t depths[] = {0x10116, 0, 0x10100, 0x116, 0x10100, 0, 0x10100};
	const uint8_t *p = chunk->data;

	if (chunk->name != CHUNK_NAME('I', 'H', 'D', 'R') || chunk->len != 13)
		return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image has no valid header");
	png->width = dsocr_be32(p);
	png->height = dsocr_be32(p + 4);
	png->depth = p[8];
	png->color = p[9];
	png->interlaced = p[12] == 1;
	if (png->color > 6 || png->depth > 16 || (depths[png->color] >> png->depth & 1) == 0)
		return dsocr_fail(err, DSOCR_E_IMAGE,
						  "PNG image has an invalid combination of color type %d and bit depth %d",
						  png->color, png->depth);
	if (p[10] != 0 || p[11] != 0 || p[12] > 1)
		return dsocr_fail(err, DSOCR_E_IMAGE,
						  "PNG image has an unknown compression, filter or interlace method");
	return dsocr_image_check_size("PNG", png->width, png->height, DSOCR_PNG_MAX_SIDE, max_pixels,
								  err);
}

/* Text chunks: only keys that can carry an orientation are looked at. */
static void
note_text(DsocrPngFile *png, const PngChunk *chunk)
{
	const uint8_t *p = chunk->data;
	const uint8_t *end = p + chunk->len;
	const uint8_t *nul = memchr(p, 0, chunk->len);
	DsocrPngSpan text = {0};
	const char *key = (const char *) p;

	if (nul == NULL)
		return;
	p = nul + 1;
	if (chunk->name == CHUNK_NAME('z', 'T', 'X', 't'))
	{
		if (p == end || *p++ != 0)
			return;
		text.deflated = true;
	}
	else if (chunk->name == CHUNK_NAME('i', 'T', 'X', 't'))
	{
		if (end - p < 2 || (p[0] != 0 && p[1] != 0))
			return;
		text.deflated = p[0] != 0;
		p += 2;
		for (int i = 0; i < 2; i++) /* language, translated key */
		{
			p = memchr(p, 0, (size_t) (end - p));
			if (p == NULL)
				return;
			p++;
		}
	}
	text.data = p;
	text.len = (size_t) (end - p);
	if (strcmp(key, "XML:com.adobe.xmp") == 0)
		png->xmp = text;
	else if (strcmp(key, "Raw profile type exif") == 0)
		png->raw_profile = text;
	else if (strcmp(key, "exif") == 0 && chunk->name == CHUNK_NAME('t', 'E', 'X', 't'))
		png->exif = text;
}

static bool
note_chunk(DsocrPngFile *png, const PngChunk *chunk, bool *idat_open, DsocrError *err)
{
	size_t size = chunk->len + DSOCR_PNG_OVERHEAD;
	bool idat = false;

	switch (chunk->name)
	{
		case CHUNK_NAME('I', 'H', 'D', 'R'):
			return dsocr_fail(err, DSOCR_E_IMAGE, "PNG image is damaged: second header");
		case CHUNK_NAME('P', 'L', 'T', 'E'):
			if (png->idat == NULL)
				png->palette = (DsocrPngSpan){.data = chunk->data, .len = chunk->len};
			break;
		case CHUNK_NAME('I', 'D', 'A', 'T'):
			/* data behind another chunk belong to nothing, as in Pillow */
			if (png->idat != NULL && !*idat_open)
				break;
			if (png->idat == NULL)
				png->idat = chunk->start;
			png->idat_span += size;
			png->idat_bytes += chunk->len;
			idat = true;
			break;
		case CHUNK_NAME('e', 'X', 'I', 'f'):
			png->exif = (DsocrPngSpan){.data = chunk->data, .len = chunk->len};
			break;
		case CHUNK_NAME('t', 'E', 'X', 't'):
		case CHUNK_NAME('z', 'T', 'X', 't'):
		case CHUNK_NAME('i', 'T', 'X', 't'):
			note_text(png, chunk);
			break;
	}
	*idat_open = idat;
	return true;
}

bool
dsocr_png_read_chunks(const uint8_t *bytes, size_t len, uint64_t max_pixels, bool strict,
					  DsocrPngFile *png, DsocrError *err)
{
	size_t at = DSOCR_PNG_SIGNATURE;
	bool idat_open = false;
	PngChunk chunk;

	memset(png, 0, sizeof(*png));
	/* size first: a header of absurd size is the more useful message */
	if (!next_chunk(bytes, len, &at, false, &chunk, err) ||
		!read_ihdr(&chunk, max_pixels, png, err))
		return false;
	at = DSOCR_PNG_SIGNATURE;
	if (!next_chunk(bytes, len, &at, true, &chunk, err))
		return false;
	for (;;)
	{
		if (!next_chunk(bytes, len, &at, strict, &chunk, strict ? err : NULL))
			return !strict;
		if (chunk.name == CHUNK_NAME('I', 'E', 'N', 'D'))
			return true;
		if (!note_chunk(png, &chunk, &idat_open, err))
			return false;
	}
}

/* Inflate at most TEXT_MAX bytes; 0 when there is more or it is damaged. */
static size_t
inflate_text(const DsocrPngSpan *text, uint8_t *out)
{
	z_stream z = {0};
	size_t n = 0;
	int rc;

	if (text->len > TEXT_MAX || inflateInit(&z) != Z_OK)
		return 0;
	z.next_in = (Bytef *) text->data;
	z.avail_in = (uInt) text->len;
	z.next_out = out;
	z.avail_out = TEXT_MAX;
	rc = inflate(&z, Z_FINISH);
	if (rc == Z_STREAM_END || (rc == Z_BUF_ERROR && z.avail_out > 0))
		n = TEXT_MAX - z.avail_out;
	inflateEnd(&z);
	return n;
}

static int
text_orientation(const DsocrPngSpan *text, int (*find)(const uint8_t *data, size_t len))
{
	uint8_t *plain;
	int orientation;

	if (text->data == NULL)
		return 0;
	if (!text->deflated)
		return find(text->data, text->len);
	plain = dsocr_alloc(TEXT_MAX, 1, NULL);
	if (plain == NULL)
		return 0;
	orientation = find(plain, inflate_text(text, plain));
	dsocr_free(plain);
	return orientation;
}

int
dsocr_png_orientation(const DsocrPngFile *png)
{
	int orientation = 0;

	if (png->exif.data != NULL)
		orientation = dsocr_exif_orientation(png->exif.data, png->exif.len);
	else
		orientation = text_orientation(&png->raw_profile, dsocr_raw_profile_orientation);
	if (orientation == 0)
		orientation = text_orientation(&png->xmp, dsocr_xmp_orientation);
	return orientation == 0 ? 1 : orientation;
}

bool
dsocr_png_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels, DsocrImageHeader *header,
				DsocrError *err)
{
	DsocrPngFile png;

	if (!dsocr_png_read_chunks(bytes, len, max_pixels, false, &png, err))
		return false;
	header->width = png.width;
	header->height = png.height;
	header->orientation = dsocr_png_orientation(&png);
	return true;
}
