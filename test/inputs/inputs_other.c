/*-------------------------------------------------------------------------
 *
 * inputs_other.c
 *		Other files: PNM, and what is no image or of a format not read.
 *
 *-------------------------------------------------------------------------
 */
#include "inputs.h"

#include <string.h>

#include "../reference/make_image.h"

#define PIXELS (IN_WIDTH * IN_HEIGHT)

static void
make_pnm(DsocrBuffer *out, int channels)
{
	uint8_t samples[PIXELS * 3];
	static const char rgb[] = "P6\n# a comment\n64 48\n255\n";
	static const char gray[] = "P5 64 48 255\n";

	in_picture(samples, channels);
	if (channels == 3)
		mk_bytes(out, rgb, sizeof(rgb) - 1);
	else
		mk_bytes(out, gray, sizeof(gray) - 1);
	mk_bytes(out, samples, (size_t) (PIXELS * channels));
}

static void
make_cut_pnm(DsocrBuffer *out, int channels)
{
	make_pnm(out, channels);
	out->len -= 1;
}

enum
{
	EMPTY,
	BYTE,
	TEXT,
	HTML,
	ZIP,
	BMP,
	HEIC,
	AVIF,
	SVG,
	RTF,
	PNM_16,
	PNM_TEXT,
	PNM_HUGE,
	PBM,
	ZEROS,
	BASE64,
	HEX,
	DJVU,
	JXL,
	PSD,
	POSTSCRIPT,
	DICOM,
	ICON,
	OFFICE,
	GZIP,
	JSON
};

#define BYTES(literal)                                                                             \
	{                                                                                              \
		literal, sizeof(literal) - 1                                                               \
	}

static void
make_bytes(DsocrBuffer *out, int which)
{
	static const struct
	{
		const char *bytes;
		size_t len;
	} all[] = {
		[EMPTY] = BYTES(""),
		[BYTE] = BYTES("\x89"),
		[TEXT] = BYTES("Dear Mrs Fowler,\n\nyour boat has been moved to the north pier.\n"),
		[HTML] = BYTES("<!DOCTYPE html><title>Harbour</title><p>Your boat has been moved."),
		[ZIP] = BYTES("PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\x47\xdd\xdc\x79\x01\0\0\0\x01\0\0\0\x01\0\0"
					  "\0aA"),
		[BMP] = BYTES("BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0\0\0"
					  "\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\0"),
		[HEIC] = BYTES("\0\0\0\x18"
					   "ftypheic\0\0\0\0mif1heic\0\0\0\0meta"),
		[AVIF] = BYTES("\0\0\0\x18"
					   "ftypavif\0\0\0\0mif1avif\0\0\0\0meta"),
		[SVG] =
			BYTES("<svg xmlns='http://www.w3.org/2000/svg'><rect width='64' height='48'/></svg>"),
		[RTF] = BYTES("{\\rtf1\\ansi Your boat has been moved.}"),
		[PNM_16] = BYTES("P5 1 1 65535\n\0\0"),
		[PNM_TEXT] = BYTES("P2 2 1 255\n0 255\n"),
		[PNM_HUGE] = BYTES("P6 4294967295 4294967295 255\n"),
		[PBM] = BYTES("P4 8 1\n\xf0"),
		[BASE64] = BYTES("iVBORw0KGgoAAAANSUhEUgAAAEAAAAAwCAIAAAAuKetI"),
		[HEX] = BYTES("\\x89504e470d0a1a0a0000000d49484452"),
		[DJVU] = BYTES("AT&TFORM\0\0\0\x20"
					   "DJVUINFO\0\0\0\x0a\0\x40\0\x30"),
		[JXL] = BYTES("\xff\x0a\xfa\x1f\x01\x91\x08\x06\x01\0"),
		[PSD] = BYTES("8BPS\0\x01\0\0\0\0\0\0\0\x03\0\0\0\x30\0\0\0\x40\0\x08\0\x03"),
		[POSTSCRIPT] = BYTES("%!PS-Adobe-3.0\n%%Pages: 1\nshowpage\n"),
		[DICOM] = BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0DICM"),
		[ICON] = BYTES("\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0\x68\x04\0\0\x16\0\0\0"),
		[OFFICE] = BYTES("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0"),
		[GZIP] = BYTES("\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0"),
		[JSON] = BYTES("{\"pages\": []}"),
		[ZEROS] = BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
	};

	mk_bytes(out, all[which].bytes, all[which].len);
}

static void
make_copy(DsocrBuffer *out, int jpeg2000)
{
	in_file(out, jpeg2000 ? "picture.jp2" : "picture.gif");
}

const Input in_other[] = {
	{"rgb.ppm", "PNM, RGB, a comment in the header", IN_COLOUR, make_pnm, 3},
	{"gray.pgm", "PNM, gray", IN_GRAY, make_pnm, 1},
	{"cut.ppm", "PNM, the last byte missing", IN_REFUSED, make_cut_pnm, 3},
	{"16-bit.pgm", "PNM, samples up to 65535", IN_REFUSED, make_bytes, PNM_16},
	{"huge.ppm", "PNM, claims 4294967295 x 4294967295", IN_REFUSED, make_bytes, PNM_HUGE},
	{"text.pgm", "PNM with numbers in text", IN_REFUSED, make_bytes, PNM_TEXT},
	{"bits.pbm", "PNM of one bit", IN_REFUSED, make_bytes, PBM},
	{"empty", "no bytes", IN_REFUSED, make_bytes, EMPTY},
	{"byte", "one byte, the first of PNG", IN_REFUSED, make_bytes, BYTE},
	{"zeros", "32 zeros", IN_REFUSED, make_bytes, ZEROS},
	{"letter.txt", "text", IN_REFUSED, make_bytes, TEXT},
	{"page.html", "HTML", IN_REFUSED, make_bytes, HTML},
	{"letter.rtf", "RTF", IN_REFUSED, make_bytes, RTF},
	{"picture.svg", "SVG", IN_REFUSED, make_bytes, SVG},
	{"archive.zip", "ZIP", IN_REFUSED, make_bytes, ZIP},
	{"picture.gif", "GIF", IN_REFUSED, make_copy, 0},
	{"picture.jp2", "JPEG 2000", IN_REFUSED, make_copy, 1},
	{"picture.bmp", "BMP", IN_REFUSED, make_bytes, BMP},
	{"picture.heic", "HEIC, its header", IN_REFUSED, make_bytes, HEIC},
	{"picture.avif", "AVIF, its header", IN_REFUSED, make_bytes, AVIF},
	{"picture.djvu", "DjVu, its header", IN_REFUSED, make_bytes, DJVU},
	{"picture.jxl", "JPEG XL, its header", IN_REFUSED, make_bytes, JXL},
	{"picture.psd", "Photoshop, its header", IN_REFUSED, make_bytes, PSD},
	{"picture.dcm", "DICOM, its header cut short", IN_REFUSED, make_bytes, DICOM},
	{"picture.ico", "icon, its header", IN_REFUSED, make_bytes, ICON},
	{"letter.ps", "PostScript", IN_REFUSED, make_bytes, POSTSCRIPT},
	{"letter.doc", "a document of an old word processor, its header", IN_REFUSED, make_bytes,
	 OFFICE},
	{"layout.json", "JSON", IN_REFUSED, make_bytes, JSON},
	{"picture.gz", "gzip", IN_REFUSED, make_bytes, GZIP},
	{"png.base64", "the beginning of a PNG in base64", IN_REFUSED, make_bytes, BASE64},
	{"png.hex", "the beginning of a PNG in hexadecimal", IN_REFUSED, make_bytes, HEX},
	{0}};
