/*-------------------------------------------------------------------------
 *
 * make_image.c
 *		Small pictures for tests.
 *
 *-------------------------------------------------------------------------
 */
#include "make_image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <setjmp.h>
#include <zlib.h>

void
mk_bytes(DsocrBuffer *b, const void *bytes, size_t len)
{
	DsocrError err = {0};

	if (len > 0 && !dsocr_buffer_append(b, bytes, len, &err))
	{
		fprintf(stderr, "%s\n", err.message);
		exit(1);
	}
}

void
mk_be32(DsocrBuffer *b, uint32_t v)
{
	uint8_t bytes[4] = {(uint8_t) (v >> 24), (uint8_t) (v >> 16), (uint8_t) (v >> 8), (uint8_t) v};

	mk_bytes(b, bytes, 4);
}

void
mk_be16(DsocrBuffer *b, uint32_t v)
{
	uint8_t bytes[2] = {(uint8_t) (v >> 8), (uint8_t) v};

	mk_bytes(b, bytes, 2);
}

int
mk_channels(int color)
{
	return color == 2 ? 3 : color == 4 ? 2 : color == 6 ? 4 : 1;
}

void
mk_signature(DsocrBuffer *b)
{
	mk_bytes(b, "\x89PNG\r\n\x1a\n", MK_SIGNATURE);
}

void
mk_chunk(DsocrBuffer *b, const char *name, const void *data, size_t len)
{
	uLong crc = crc32(crc32(0, (const Bytef *) name, 4), data, (uInt) len);

	mk_be32(b, (uint32_t) len);
	mk_bytes(b, name, 4);
	mk_bytes(b, data, len);
	mk_be32(b, (uint32_t) (len == 0 ? crc32(0, (const Bytef *) name, 4) : crc));
}

void
mk_ihdr(DsocrBuffer *b, const MkPng *png)
{
	uint8_t methods[5] = {(uint8_t) png->depth, (uint8_t) png->color, 0, 0, png->interlaced};
	DsocrBuffer data = {0};

	mk_be32(&data, png->width);
	mk_be32(&data, png->height);
	mk_bytes(&data, methods, sizeof(methods));
	mk_chunk(b, "IHDR", data.data, data.len);
	dsocr_buffer_free(&data);
}

/* Pixels x0, x0 + dx, ... of one row as packed samples behind filter byte 0. */
static void
pack_row(DsocrBuffer *b, const MkPng *png, size_t y, size_t x0, size_t dx)
{
	size_t channels = (size_t) mk_channels(png->color);
	const uint16_t *row = png->samples + y * png->width * channels;
	uint32_t bits = 0;
	int held = 0;

	mk_bytes(b, "", 1);
	for (size_t x = x0; x < png->width; x += dx)
		for (size_t c = 0; c < channels; c++)
		{
			bits = bits << png->depth | row[x * channels + c];
			held += png->depth;
			while (held >= 8)
			{
				uint8_t byte = (uint8_t) (bits >> (held - 8));

				mk_bytes(b, &byte, 1);
				held -= 8;
			}
		}
	if (held > 0)
	{
		uint8_t byte = (uint8_t) (bits << (8 - held));

		mk_bytes(b, &byte, 1);
	}
}

void
mk_rows(DsocrBuffer *b, const MkPng *png)
{
	static const uint8_t adam7[7][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
										{0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};

	if (!png->interlaced)
	{
		for (size_t y = 0; y < png->height; y++)
			pack_row(b, png, y, 0, 1);
		return;
	}
	for (int pass = 0; pass < 7; pass++)
		if (adam7[pass][0] < png->width)
			for (size_t y = adam7[pass][1]; y < png->height; y += adam7[pass][3])
				pack_row(b, png, y, adam7[pass][0], adam7[pass][2]);
}

static void
deflate_all(DsocrBuffer *b, const void *bytes, size_t len, size_t repeat)
{
	static uint8_t out[1 << 16];
	z_stream z = {0};

	if (deflateInit(&z, 9) != Z_OK)
		exit(1);
	for (size_t i = 0; i < repeat; i++)
	{
		z.next_in = (Bytef *) bytes;
		z.avail_in = (uInt) len;
		do
		{
			z.next_out = out;
			z.avail_out = sizeof(out);
			deflate(&z, i + 1 == repeat ? Z_FINISH : Z_NO_FLUSH);
			mk_bytes(b, out, sizeof(out) - z.avail_out);
		} while (z.avail_out == 0);
	}
	deflateEnd(&z);
}

void
mk_deflate(DsocrBuffer *b, const void *bytes, size_t len)
{
	deflate_all(b, bytes, len, 1);
}

void
mk_deflate_zeros(DsocrBuffer *b, size_t len)
{
	static const uint8_t zeros[1 << 16];

	deflate_all(b, zeros, sizeof(zeros), len / sizeof(zeros));
}

void
mk_idat(DsocrBuffer *b, const MkPng *png)
{
	DsocrBuffer rows = {0};
	DsocrBuffer z = {0};

	mk_rows(&rows, png);
	mk_deflate(&z, rows.data, rows.len);
	mk_chunk(b, "IDAT", z.data, z.len / 2);
	mk_chunk(b, "IDAT", z.data + z.len / 2, z.len - z.len / 2);
	dsocr_buffer_free(&rows);
	dsocr_buffer_free(&z);
}

void
mk_png(DsocrBuffer *b, const MkPng *png)
{
	mk_signature(b);
	mk_ihdr(b, png);
	if (png->palette_len > 0)
		mk_chunk(b, "PLTE", png->palette, png->palette_len);
	mk_idat(b, png);
	mk_chunk(b, "IEND", NULL, 0);
}

void
mk_tiff(uint8_t *out, int orientation, bool big_endian)
{
	static const uint8_t big[MK_TIFF] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0,
										 3,	  0,   0, 0,  1, 0, 0, 0, 0, 0, 0, 0,	 0};
	static const uint8_t little[MK_TIFF] = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3,
											0,	 1,	  0,  0, 0, 0, 0, 0, 0, 0, 0,	 0, 0};

	memcpy(out, big_endian ? big : little, MK_TIFF);
	out[big_endian ? 19 : 18] = (uint8_t) orientation;
}

typedef struct Failing
{
	struct jpeg_error_mgr errors;
	jmp_buf jump;
} Failing;

static void
on_error(j_common_ptr cinfo)
{
	longjmp(((Failing *) cinfo->err)->jump, 1);
}

bool
mk_jpeg(DsocrBuffer *b, const MkJpeg *jpeg)
{
	static const J_COLOR_SPACE spaces[5][2] = {[1] = {JCS_GRAYSCALE, JCS_GRAYSCALE},
											   [3] = {JCS_RGB, JCS_YCbCr},
											   [4] = {JCS_CMYK, JCS_YCCK}};
	struct jpeg_compress_struct cinfo;
	Failing failing;
	unsigned char *volatile kept = NULL;
	unsigned char *out = NULL;
	unsigned long len = 0;

	cinfo.err = jpeg_std_error(&failing.errors);
	failing.errors.error_exit = on_error;
	if (setjmp(failing.jump))
	{
		jpeg_destroy_compress(&cinfo);
		free(kept);
		return false;
	}
	jpeg_create_compress(&cinfo);
	jpeg_mem_dest(&cinfo, &out, &len);
	kept = out;
	cinfo.image_width = (JDIMENSION) jpeg->width;
	cinfo.image_height = (JDIMENSION) jpeg->height;
	cinfo.input_components = jpeg->components;
	cinfo.in_color_space = spaces[jpeg->components][0];
	jpeg_set_defaults(&cinfo);
	jpeg_set_colorspace(&cinfo, spaces[jpeg->components][jpeg->ycc]);
	jpeg_set_quality(&cinfo, jpeg->quality, TRUE);
	for (int i = 0; i < jpeg->components; i++)
	{
		cinfo.comp_info[i].h_samp_factor = i == 0 || i == 3 ? jpeg->h_samp : 1;
		cinfo.comp_info[i].v_samp_factor = i == 0 || i == 3 ? jpeg->v_samp : 1;
	}
	cinfo.arith_code = jpeg->arithmetic;
	cinfo.restart_interval = (unsigned) jpeg->restart;
	if (jpeg->progressive)
		jpeg_simple_progression(&cinfo);
	jpeg_start_compress(&cinfo, TRUE);
	while (cinfo.next_scanline < cinfo.image_height)
	{
		JSAMPROW row = (JSAMPROW) jpeg->samples +
					   (size_t) cinfo.next_scanline * (size_t) (jpeg->width * jpeg->components);

		jpeg_write_scanlines(&cinfo, &row, 1);
	}
	jpeg_finish_compress(&cinfo);
	jpeg_destroy_compress(&cinfo);
	mk_bytes(b, out, len);
	free(out);
	return true;
}

void
mk_jpeg_with_exif(DsocrBuffer *b, const DsocrBuffer *jpeg, const uint8_t *tiff)
{
	mk_bytes(b, jpeg->data, 2);
	mk_be16(b, 0xffe1);
	mk_be16(b, 2 + 6 + MK_TIFF);
	mk_bytes(b, "Exif\0\0", 6);
	mk_bytes(b, tiff, MK_TIFF);
	mk_bytes(b, jpeg->data + 2, jpeg->len - 2);
}
