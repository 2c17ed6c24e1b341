/*-------------------------------------------------------------------------
 *
 * inputs_tiff.c
 *		TIFF files as programs write them.
 *
 *-------------------------------------------------------------------------
 */
#include "inputs.h"

#include <string.h>
#include <sys/mman.h>
#include <tiffio.h>
#include <unistd.h>

#include "../reference/make_image.h"

typedef struct Spec
{
	int compression;
	int photometric;
	int bits;
	int samples; /* a pixel */
	int rows;	 /* of a strip, 0 = all */
	bool tiles;	 /* of 32 x 16 pixels */
	bool planar;
	const char *mode; /* of TIFFOpen, NULL = "w" */
	int orientation;
	int pages;
	int predictor;
	int options; /* of group 3 */
} Spec;

#define TILE_WIDTH 32
#define TILE_HEIGHT 16
#define PICTURE_BYTES (IN_WIDTH * IN_HEIGHT * 4 * 2)

#define LINE 1, 1
#define GRAY8 8, 1
#define RGB8 8, 3

static const Spec specs[] = {
	{COMPRESSION_NONE, PHOTOMETRIC_RGB, RGB8},
	{COMPRESSION_PACKBITS, PHOTOMETRIC_RGB, RGB8},
	{COMPRESSION_LZW, PHOTOMETRIC_RGB, RGB8, .predictor = PREDICTOR_HORIZONTAL},
	{COMPRESSION_ADOBE_DEFLATE, PHOTOMETRIC_RGB, RGB8},
	{COMPRESSION_DEFLATE, PHOTOMETRIC_RGB, RGB8},
	{COMPRESSION_JPEG, PHOTOMETRIC_YCBCR, RGB8, .rows = 16},
	{COMPRESSION_LZMA, PHOTOMETRIC_RGB, RGB8},
	{COMPRESSION_ZSTD, PHOTOMETRIC_RGB, RGB8},
	{COMPRESSION_WEBP, PHOTOMETRIC_RGB, RGB8},
	{COMPRESSION_CCITTFAX3, PHOTOMETRIC_MINISWHITE, LINE},
	{COMPRESSION_CCITTFAX3, PHOTOMETRIC_MINISWHITE, LINE, .options = GROUP3OPT_2DENCODING},
	{COMPRESSION_CCITTRLE, PHOTOMETRIC_MINISWHITE, LINE},
	{COMPRESSION_CCITTFAX4, PHOTOMETRIC_MINISWHITE, LINE},
	{COMPRESSION_CCITTFAX4, PHOTOMETRIC_MINISBLACK, LINE},
	{COMPRESSION_NONE, PHOTOMETRIC_MINISBLACK, LINE, .rows = 1},
	{COMPRESSION_NONE, PHOTOMETRIC_MINISWHITE, GRAY8},
	{COMPRESSION_NONE, PHOTOMETRIC_MINISBLACK, GRAY8, .tiles = true},
	{COMPRESSION_LZW, PHOTOMETRIC_MINISBLACK, 16, 1, .mode = "wb"},
	{COMPRESSION_NONE, PHOTOMETRIC_MINISBLACK, 4, 1},
	{COMPRESSION_LZW, PHOTOMETRIC_PALETTE, 8, 1},
	{COMPRESSION_NONE, PHOTOMETRIC_PALETTE, 4, 1},
	{COMPRESSION_NONE, PHOTOMETRIC_SEPARATED, 8, 4},
	{COMPRESSION_NONE, PHOTOMETRIC_RGB, 16, 3},
	{COMPRESSION_ADOBE_DEFLATE, PHOTOMETRIC_RGB, RGB8, .tiles = true, .planar = true},
	{COMPRESSION_NONE, PHOTOMETRIC_RGB, RGB8, .rows = 7, .planar = true},
	{COMPRESSION_NONE, PHOTOMETRIC_RGB, RGB8, .mode = "w8"},
	{COMPRESSION_NONE, PHOTOMETRIC_RGB, RGB8, .mode = "wb"},
	{COMPRESSION_LZW, PHOTOMETRIC_RGB, RGB8, .pages = 3},
	{COMPRESSION_CCITTFAX4, PHOTOMETRIC_MINISWHITE, LINE, .pages = 5, .mode = "w8"},
	{COMPRESSION_NONE, PHOTOMETRIC_RGB, RGB8, .orientation = 3},
	{COMPRESSION_NONE, PHOTOMETRIC_RGB, RGB8, .orientation = 6},
	{COMPRESSION_NONE, PHOTOMETRIC_RGB, 8, 4},
	{COMPRESSION_NONE, PHOTOMETRIC_MINISBLACK, 32, 1},
	{COMPRESSION_NONE, PHOTOMETRIC_CIELAB, RGB8},
	{COMPRESSION_JPEG, PHOTOMETRIC_MINISBLACK, GRAY8, .rows = 16},
	{COMPRESSION_ADOBE_DEFLATE, PHOTOMETRIC_MINISBLACK, LINE, .tiles = true},
	{COMPRESSION_CCITTFAX4, PHOTOMETRIC_MINISWHITE, LINE, .rows = 5},
	{COMPRESSION_LZW, PHOTOMETRIC_SEPARATED, 8, 4, .planar = true},
	{COMPRESSION_LERC, PHOTOMETRIC_MINISBLACK, GRAY8},
	{COMPRESSION_NONE, PHOTOMETRIC_RGB, RGB8, .mode = "wb8", .pages = 2, .tiles = true},
};

/* One sample; what the photometric interpretation makes the picture of. */
static int
sample(const Spec *spec, const uint8_t *turned, int width, int x, int y, int channel)
{
	bool first = x < IN_WIDTH / 2 && y < IN_HEIGHT / 2;
	int max = (1 << (spec->bits & 31)) - 1;

	switch (spec->photometric)
	{
		case PHOTOMETRIC_PALETTE:
			return (x < IN_WIDTH / 2 ? 0 : 1) + (y < IN_HEIGHT / 2 ? 0 : 2);
		case PHOTOMETRIC_SEPARATED:
			return channel == 3 ? 0 : 255 - in_rgb(x, y, channel);
		case PHOTOMETRIC_MINISWHITE:
			return spec->bits == 1 ? first : max - in_gray(x, y) * max / 255;
		case PHOTOMETRIC_MINISBLACK:
			return spec->bits == 1 ? !first : in_gray(x, y) * max / 255;
	}
	if (channel == 3)
		return max;
	return turned[(y * width + x) * 3 + channel] * max / 255;
}

/* A rectangle of one plane, or of all with plane -1, packed as TIFF wants it. */
static size_t
pack(const Spec *spec, const uint8_t *turned, const int at[4], int width, int plane, uint8_t *out)
{
	size_t n = 0;
	int first = plane < 0 ? 0 : plane;
	int last = plane < 0 ? spec->samples - 1 : plane;

	for (int y = at[1]; y < at[1] + at[3]; y++)
	{
		int bits = 0;
		uint32_t word = 0;

		for (int x = at[0]; x < at[0] + at[2]; x++)
			for (int c = first; c <= last; c++)
			{
				int v = sample(spec, turned, width, x, y, c);

				if (spec->bits >= 16)
				{
					memcpy(out + n, &(uint32_t){(uint32_t) v}, (size_t) spec->bits / 8);
					n += (size_t) spec->bits / 8;
					continue;
				}
				word = word << spec->bits | (uint32_t) v;
				bits += spec->bits;
				if (bits == 8) /* rows and tiles end with a byte */
				{
					out[n++] = (uint8_t) word;
					bits = 0;
				}
			}
	}
	return n;
}

static void
set_tags(TIFF *tif, const Spec *spec, int width, int height)
{
	static const uint16_t ramp[3][256] = {
		{0xffff, 0, 0, 0xffff}, {0, 0xffff, 0, 0xffff}, {0, 0, 0xffff, 0xffff}};

	TIFFSetField(tif, TIFFTAG_IMAGEWIDTH, width);
	TIFFSetField(tif, TIFFTAG_IMAGELENGTH, height);
	TIFFSetField(tif, TIFFTAG_BITSPERSAMPLE, spec->bits);
	TIFFSetField(tif, TIFFTAG_SAMPLESPERPIXEL, spec->samples);
	TIFFSetField(tif, TIFFTAG_COMPRESSION, spec->compression);
	TIFFSetField(tif, TIFFTAG_PHOTOMETRIC, spec->photometric);
	TIFFSetField(tif, TIFFTAG_PLANARCONFIG,
				 spec->planar ? PLANARCONFIG_SEPARATE : PLANARCONFIG_CONTIG);
	if (spec->orientation > 0)
		TIFFSetField(tif, TIFFTAG_ORIENTATION, spec->orientation);
	if (spec->tiles)
	{
		TIFFSetField(tif, TIFFTAG_TILEWIDTH, TILE_WIDTH);
		TIFFSetField(tif, TIFFTAG_TILELENGTH, TILE_HEIGHT);
	}
	else
		TIFFSetField(tif, TIFFTAG_ROWSPERSTRIP, spec->rows == 0 ? height : spec->rows);
	if (spec->photometric == PHOTOMETRIC_PALETTE)
		TIFFSetField(tif, TIFFTAG_COLORMAP, ramp[0], ramp[1], ramp[2]);
	if (spec->photometric == PHOTOMETRIC_YCBCR)
		TIFFSetField(tif, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
	if (spec->compression == COMPRESSION_JPEG)
		TIFFSetField(tif, TIFFTAG_JPEGQUALITY, 95);
	if (spec->compression == COMPRESSION_WEBP)
		TIFFSetField(tif, TIFFTAG_WEBP_LOSSLESS, 1);
	if (spec->predictor > 0)
		TIFFSetField(tif, TIFFTAG_PREDICTOR, spec->predictor);
	if (spec->options > 0)
		TIFFSetField(tif, TIFFTAG_GROUP3OPTIONS, spec->options);
	if (spec->samples == 4 && spec->photometric == PHOTOMETRIC_RGB)
	{
		uint16_t alpha = EXTRASAMPLE_UNASSALPHA;

		TIFFSetField(tif, TIFFTAG_EXTRASAMPLES, 1, &alpha);
	}
}

static bool
write_page(TIFF *tif, const Spec *spec)
{
	uint8_t turned[IN_WIDTH * IN_HEIGHT * 3];
	uint8_t part[PICTURE_BYTES];
	uint32_t n = 0;
	int width;
	int height;

	in_turned(turned, spec->orientation, &width, &height);
	set_tags(tif, spec, width, height);
	for (int plane = spec->planar ? 0 : -1; plane < (spec->planar ? spec->samples : 0); plane++)
	{
		int rows = spec->tiles ? TILE_HEIGHT : spec->rows == 0 ? height : spec->rows;
		int columns = spec->tiles ? TILE_WIDTH : width;

		for (int y = 0; y < height; y += rows)
			for (int x = 0; x < width; x += columns)
			{
				int at[4] = {x, y, columns, y + rows > height ? height - y : rows};
				tmsize_t len = (tmsize_t) pack(spec, turned, at, width, plane, part);

				if ((spec->tiles ? TIFFWriteEncodedTile(tif, n++, part, len)
								 : TIFFWriteEncodedStrip(tif, n++, part, len)) < 0)
					return false;
			}
	}
	return TIFFWriteDirectory(tif) != 0;
}

static void
make_spec(DsocrBuffer *out, const Spec *spec)
{
	int fd = memfd_create("tiff", 0);
	TIFF *tif = fd < 0 ? NULL : TIFFFdOpen(dup(fd), "tiff", spec->mode == NULL ? "w" : spec->mode);
	bool ok = tif != NULL;
	uint8_t bytes[4096];
	ssize_t n;

	TIFFSetWarningHandler(NULL);
	for (int i = 0; ok && i < (spec->pages == 0 ? 1 : spec->pages); i++)
		ok = write_page(tif, spec);
	if (!ok)
		in_fail("the TIFF library cannot write this");
	TIFFClose(tif);
	if (lseek(fd, 0, SEEK_SET) < 0)
		in_fail("no temporary file");
	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		mk_bytes(out, bytes, (size_t) n);
	close(fd);
}

static void
make(DsocrBuffer *out, int arg)
{
	make_spec(out, &specs[arg]);
}

void
in_group4(DsocrBuffer *out)
{
	DsocrBuffer whole = {0};
	uint64_t *at;
	uint64_t *len;
	TIFF *tif;
	char path[] = "/proc/self/fd/0000000000";
	int fd = memfd_create("tiff", 0);

	make_spec(&whole, &specs[12]);
	if (fd < 0 || write(fd, whole.data, whole.len) != (ssize_t) whole.len)
		in_fail("no temporary file");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	tif = TIFFOpen(path, "r");
	if (tif == NULL || TIFFGetField(tif, TIFFTAG_STRIPOFFSETS, &at) == 0 ||
		TIFFGetField(tif, TIFFTAG_STRIPBYTECOUNTS, &len) == 0)
		in_fail("no strip");
	mk_bytes(out, whole.data + at[0], (size_t) len[0]);
	TIFFClose(tif);
	close(fd);
	dsocr_buffer_free(&whole);
}

const Input in_tiff[] = {
	{"rgb.tif", "no compression", IN_COLOUR, make, 0},
	{"packbits.tif", "PackBits", IN_COLOUR, make, 1},
	{"lzw.tif", "LZW, predictor", IN_COLOUR, make, 2},
	{"deflate.tif", "deflate", IN_COLOUR, make, 3},
	{"old-deflate.tif", "deflate by its old number", IN_COLOUR, make, 4},
	{"jpeg.tif", "JPEG, YCbCr, 3 strips", IN_COLOUR, make, 5},
	{"lzma.tif", "LZMA", IN_COLOUR, make, 6},
	{"zstd.tif", "ZSTD", IN_COLOUR, make, 7},
	{"webp.tif", "WebP, lossless", IN_COLOUR, make, 8},
	{"group3.tif", "CCITT group 3, one-dimensional", IN_LINE, make, 9},
	{"group3-2d.tif", "CCITT group 3, two-dimensional", IN_LINE, make, 10},
	{"ccitt-rle.tif", "CCITT modified Huffman", IN_LINE, make, 11},
	{"group4.tif", "CCITT group 4", IN_LINE, make, 12},
	{"group4-black.tif", "CCITT group 4, 0 is black", IN_LINE, make, 13},
	{"strips.tif", "1 bit, a strip for each row", IN_LINE, make, 14},
	{"min-is-white.tif", "8-bit gray, 0 is white", IN_GRAY, make, 15},
	{"tiles.tif", "8-bit gray, tiles", IN_GRAY, make, 16},
	{"gray-16.tif", "the same, LZW, big endian", IN_CLIPPED, make, 17},
	{"gray-4.tif", "4-bit gray", IN_GRAY, make, 18},
	{"palette.tif", "palette, 8 bits", IN_COLOUR, make, 19},
	{"palette-4.tif", "palette, 4 bits", IN_COLOUR, make, 20},
	{"cmyk.tif", "CMYK", IN_COLOUR, make, 21},
	{"rgb-16.tif", "16-bit RGB", IN_COLOUR, make, 22},
	{"planar-tiles.tif", "planes apart, tiles, deflate", IN_COLOUR, make, 23},
	{"planar.tif", "planes apart, strips of 7 rows", IN_COLOUR, make, 24},
	{"big.tif", "BigTIFF", IN_COLOUR, make, 25},
	{"big-endian.tif", "big endian", IN_COLOUR, make, 26},
	{"pages.tif", "3 pages", "3 pages, all " IN_COLOUR, make, 27},
	{"pages-fax.tif", "BigTIFF, 5 pages of CCITT group 4", "5 pages, all " IN_LINE, make, 28},
	{"turned-3.tif", "orientation tag 3, on its head", IN_COLOUR, make, 29},
	{"turned-6.tif", "orientation tag 6, on its side", IN_COLOUR, make, 30},
	{"rgb-alpha.tif", "RGB and alpha, opaque", IN_COLOUR, make, 31},
	{"jpeg-gray.tif", "JPEG, gray", IN_GRAY, make, 34},
	{"tiles-1.tif", "1 bit, tiles, deflate", IN_LINE, make, 35},
	{"group4-strips.tif", "CCITT group 4, strips of 5 rows", IN_LINE, make, 36},
	{"cmyk-planar.tif", "CMYK, planes apart, LZW", IN_COLOUR, make, 37},
	{"lerc.tif", "LERC", IN_GRAY, make, 38},
	{"big-pages.tif", "BigTIFF, big endian, 2 pages of tiles", "2 pages, all " IN_COLOUR, make, 39},
	{"lab.tif", "CIE L*a*b*", IN_REFUSED, make, 33},
	{"gray-32.tif", "32-bit gray", IN_REFUSED, make, 32},
	{0}};
