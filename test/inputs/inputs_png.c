/*-------------------------------------------------------------------------
 *
 * inputs_png.c
 *		PNG files.
 *
 *-------------------------------------------------------------------------
 */
#include "inputs.h"

#include <string.h>

#include "../reference/make_image.h"

#define PIXELS (IN_WIDTH * IN_HEIGHT)

static const uint8_t palette[] = {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255};

enum
{
	INTERLACED = 1 << 8,
	TRANSPARENT = 1 << 9, /* the upper left quarter */
	CUT = 1 << 10,
	BAD_CRC = 1 << 11,
	NO_PALETTE = 1 << 12
};

static uint16_t
sample(int x, int y, int color, int depth, int channel, bool transparent)
{
	int max = (1 << depth) - 1;
	bool first = x < IN_WIDTH / 2 && y < IN_HEIGHT / 2;

	if ((color == 4 && channel == 1) || channel == 3)
		return (uint16_t) (transparent && first ? 0 : max);
	if (color == 3)
		return (uint16_t) ((x < IN_WIDTH / 2 ? 0 : 1) + (y < IN_HEIGHT / 2 ? 0 : 2));
	if (color == 0 || color == 4)
		return (uint16_t) (depth == 1 ? !first : in_gray(x, y) * max / 255);
	return (uint16_t) (in_rgb(x, y, channel) * max / 255);
}

/* arg: depth, color type in the next four bits, flags. */
static void
make(DsocrBuffer *out, int arg)
{
	uint16_t samples[PIXELS * 4];
	MkPng png = {IN_WIDTH, IN_HEIGHT, arg & 31, (arg >> 5) & 7, (arg & INTERLACED) != 0, samples};
	int channels = mk_channels(png.color);

	for (int i = 0; i < PIXELS; i++)
		for (int c = 0; c < channels; c++)
			samples[i * channels + c] = sample(i % IN_WIDTH, i / IN_WIDTH, png.color, png.depth, c,
											   (arg & TRANSPARENT) != 0);
	if (png.color == 3 && (arg & NO_PALETTE) == 0)
	{
		png.palette = palette;
		png.palette_len = sizeof(palette);
	}
	mk_png(out, &png);
	if ((arg & CUT) != 0)
		out->len = out->len / 2;
	if ((arg & BAD_CRC) != 0)
		out->data[MK_SIGNATURE + 4 + 4 + 13 + 3] ^= 1; /* behind the header's data */
}

/* A header alone: width x 10000 pixels. */
static void
make_header(DsocrBuffer *out, int width)
{
	MkPng png = {(uint32_t) width, 10000, 8, 0};
	static const uint8_t nothing[] = {0x78, 0x9c, 3, 0, 0, 0, 0, 1};

	mk_signature(out);
	mk_ihdr(out, &png);
	mk_chunk(out, "IDAT", nothing, sizeof(nothing));
	mk_chunk(out, "IEND", NULL, 0);
}

/* White, 1 pixel wide. */
static void
make_line(DsocrBuffer *out, int height)
{
	static uint16_t samples[20000];
	MkPng png = {1, (uint32_t) height, 8, 0, false, samples};

	for (int i = 0; i < height; i++)
		samples[i] = 255;
	mk_png(out, &png);
}

/* The colour picture with a chunk between header and data, another at the end. */
static void
with_chunks(DsocrBuffer *out, const char *name, const void *data, size_t len)
{
	DsocrBuffer plain = {0};
	size_t header = MK_SIGNATURE + 25;

	make(&plain, 2 << 5 | 8);
	mk_bytes(out, plain.data, header);
	mk_chunk(out, name, data, len);
	mk_bytes(out, plain.data + header, plain.len - header);
	dsocr_buffer_free(&plain);
}

enum
{
	EXIF,
	GAMMA,
	TEXT_BOMB,
	PROFILE,
	PRIVATE,
	CRITICAL,
	BEHIND,
	ANIMATED
};

static void
make_chunk(DsocrBuffer *out, int what)
{
	uint8_t exif[MK_TIFF];
	DsocrBuffer bomb = {0};
	static const uint8_t nonsense[40] = "sRGB\0\0not a profile";

	switch (what)
	{
		case EXIF:
			mk_tiff(exif, 3, true);
			with_chunks(out, "eXIf", exif, MK_TIFF);
			break;
		case GAMMA:
			with_chunks(out, "gAMA", "\0\x01\x86\xa0", 4);
			break;
		case TEXT_BOMB:
			mk_bytes(&bomb, "Comment\0", 9);
			mk_deflate_zeros(&bomb, 50 << 20);
			with_chunks(out, "zTXt", bomb.data, bomb.len);
			break;
		case PROFILE:
			with_chunks(out, "iCCP", nonsense, sizeof(nonsense));
			break;
		case PRIVATE:
			with_chunks(out, "prVt", nonsense, sizeof(nonsense));
			break;
		case CRITICAL:
			with_chunks(out, "CRIT", nonsense, sizeof(nonsense));
			break;
		case ANIMATED:
			with_chunks(out, "acTL", "\0\0\0\x02\0\0\0\0", 8);
			break;
		case BEHIND:
			make(out, 2 << 5 | 8);
			mk_bytes(out, nonsense, sizeof(nonsense));
			break;
	}
	dsocr_buffer_free(&bomb);
}

/* Data of more rows than the header says, or fewer. */
static void
make_rows(DsocrBuffer *out, int height)
{
	uint16_t samples[PIXELS * 3];
	MkPng png = {IN_WIDTH, IN_HEIGHT, 8, 2, false, samples};

	for (int i = 0; i < PIXELS * 3; i++)
		samples[i] = (uint16_t) in_rgb(i / 3 % IN_WIDTH, i / 3 / IN_WIDTH, i % 3);
	mk_signature(out);
	png.height = (uint32_t) height;
	mk_ihdr(out, &png);
	png.height = IN_HEIGHT;
	mk_idat(out, &png);
	mk_chunk(out, "IEND", NULL, 0);
}

#define KIND(color, depth) ((color) << 5 | (depth))

const Input in_png[] = {
	{"rgb.png", "8-bit RGB", IN_COLOUR, make, KIND(2, 8)},
	{"rgb-16.png", "16-bit RGB", IN_COLOUR, make, KIND(2, 16)},
	{"rgb-interlaced.png", "Adam7 interlacing", IN_COLOUR, make, KIND(2, 8) | INTERLACED},
	{"palette.png", "palette, 8 bits", IN_COLOUR, make, KIND(3, 8)},
	{"palette-2.png", "palette, 2 bits, interlaced", IN_COLOUR, make, KIND(3, 2) | INTERLACED},
	{"gray.png", "8-bit gray", IN_GRAY, make, KIND(0, 8)},
	{"gray-16.png", "16-bit gray, clipped at 255 as the official code does", IN_CLIPPED, make,
	 KIND(0, 16)},
	{"gray-2.png", "2-bit gray", IN_GRAY, make, KIND(0, 2)},
	{"gray-1.png", "1 bit", IN_LINE, make, KIND(0, 1)},
	{"gray-alpha.png", "gray and alpha, a quarter transparent: alpha is ignored", IN_GRAY, make,
	 KIND(4, 8) | TRANSPARENT},
	{"rgb-alpha.png", "RGB and alpha, a quarter transparent: alpha is ignored", IN_COLOUR, make,
	 KIND(6, 8) | TRANSPARENT},
	{"rgb-alpha-16.png", "16-bit RGB and alpha, opaque, interlaced", IN_COLOUR, make,
	 KIND(6, 16) | INTERLACED},
	{"exif.png", "EXIF orientation 3", "64 x 48: white blue / green red", make_chunk, EXIF},
	{"gamma.png", "gamma of 1.0", IN_COLOUR, make_chunk, GAMMA},
	{"animated.png", "animation of two frames claimed, one there", IN_COLOUR, make_chunk, ANIMATED},
	{"text-bomb.png", "50 MB of text in 50 kB", IN_COLOUR, make_chunk, TEXT_BOMB},
	{"bad-profile.png", "a colour profile that is none", IN_COLOUR, make_chunk, PROFILE},
	{"private.png", "a private chunk", IN_COLOUR, make_chunk, PRIVATE},
	{"critical.png", "an unknown chunk that is critical", IN_COLOUR, make_chunk, CRITICAL},
	{"behind.png", "40 bytes behind its end", IN_COLOUR, make_chunk, BEHIND},
	{"too-much.png", "data of twice as many rows as claimed", "64 x 24: ", make_rows, 24},
	{"too-little.png", "data of half of the rows claimed", IN_REFUSED, make_rows, 96},
	{"cut.png", "second half missing", IN_REFUSED, make, KIND(2, 8) | CUT},
	{"bad-crc.png", "wrong checksum of the header", IN_REFUSED, make, KIND(2, 8) | BAD_CRC},
	{"no-palette.png", "palette missing", IN_REFUSED, make, KIND(3, 8) | NO_PALETTE},
	{"pixel.png", "one pixel", "1 x 1: ", make_line, 1},
	{"line.png", "1 pixel wide, 20000 high", "1 x 20000: ", make_line, 20000},
	{"100-megapixels.png", "header claims 10000 x 10000, no data", IN_REFUSED, make_header, 10000},
	{"101-megapixels.png", "header claims 10100 x 10000", IN_REFUSED, make_header, 10100},
	{0}};
