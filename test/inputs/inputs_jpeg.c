/*-------------------------------------------------------------------------
 *
 * inputs_jpeg.c
 *		JPEG files.
 *
 *-------------------------------------------------------------------------
 */
#include "inputs.h"

#include <string.h>

#include "../reference/make_image.h"

#define PIXELS (IN_WIDTH * IN_HEIGHT)

enum
{
	PROGRESSIVE = 1,
	GRAY = 2,
	SUBSAMPLED = 4,
	CMYK = 8,
	YCCK = 16,
	RESTARTS = 32,
	ARITHMETIC = 64,
	PLAIN_RGB = 128
};

/* What Adobe's programs store: CMYK inverted, here without black. */
static void
make(DsocrBuffer *out, int arg)
{
	uint8_t samples[PIXELS * 4];
	bool four = (arg & (CMYK | YCCK)) != 0;
	MkJpeg jpeg = {.width = IN_WIDTH,
				   .height = IN_HEIGHT,
				   .components = (arg & GRAY) != 0 ? 1
								 : four			   ? 4
												   : 3,
				   .ycc = (arg & (GRAY | CMYK | PLAIN_RGB)) == 0,
				   .h_samp = (arg & SUBSAMPLED) != 0 ? 2 : 1,
				   .v_samp = (arg & SUBSAMPLED) != 0 ? 2 : 1,
				   .progressive = (arg & PROGRESSIVE) != 0,
				   .arithmetic = (arg & ARITHMETIC) != 0,
				   .restart = (arg & RESTARTS) != 0 ? 3 : 0,
				   .quality = 95,
				   .samples = samples};

	in_picture(samples, jpeg.components);
	if (!mk_jpeg(out, &jpeg))
		in_fail("the JPEG library lacks a coding process");
}

void
in_baseline(DsocrBuffer *out)
{
	make(out, 0);
}

static void
make_turned(DsocrBuffer *out, int orientation)
{
	uint8_t samples[PIXELS * 3];
	uint8_t exif[MK_TIFF];
	DsocrBuffer plain = {0};
	MkJpeg jpeg = {
		.components = 3, .ycc = true, .h_samp = 1, .v_samp = 1, .quality = 95, .samples = samples};

	in_turned(samples, orientation, &jpeg.width, &jpeg.height);
	if (!mk_jpeg(&plain, &jpeg))
		in_fail("no JPEG");
	mk_tiff(exif, orientation, orientation % 2 == 0);
	mk_jpeg_with_exif(out, &plain, exif);
	dsocr_buffer_free(&plain);
}

/* Offset of the marker's segment: 0xff, marker, length. */
static size_t
find_marker(const DsocrBuffer *b, int marker)
{
	size_t at = 2;

	while (at + 4 <= b->len && (uint8_t) b->data[at + 1] != marker)
		at += 2 + ((size_t) (uint8_t) b->data[at + 2] << 8 | (uint8_t) b->data[at + 3]);
	if (at + 4 > b->len)
		in_fail("no such marker");
	return at;
}

enum
{
	BITS_12,
	LOSSLESS,
	CUT,
	CUT_HEADER,
	FILLED,
	OVERWRITTEN,
	BEHIND,
	NO_SIZE,
	HUGE,
	LATE_HEIGHT,
	TWO_COMPONENTS,
	NO_TABLES,
	NO_END,
	THUMBNAIL
};

static void
make_odd(DsocrBuffer *out, int how)
{
	size_t frame;

	in_baseline(out);
	frame = find_marker(out, 0xc0);
	switch (how)
	{
		case BITS_12:
			out->data[frame + 1] = (char) 0xc1;
			out->data[frame + 4] = 12;
			break;
		case LOSSLESS:
			out->data[frame + 1] = (char) 0xc3;
			break;
		case CUT:
			out->len = find_marker(out, 0xda) + 40;
			break;
		case CUT_HEADER:
			out->len = frame + 3;
			break;
		case OVERWRITTEN:
			memset(out->data + find_marker(out, 0xda) + 40, 0xff, 60);
			break;
		case NO_SIZE:
			memset(out->data + frame + 5, 0, 4);
			break;
		case HUGE:
			memset(out->data + frame + 5, 0xff, 4);
			break;
		case LATE_HEIGHT:
			memset(out->data + frame + 5, 0, 2);
			out->len -= 2;
			mk_bytes(out, "\xff\xdc\0\x04\0\x30\xff\xd9", 8);
			break;
		case TWO_COMPONENTS:
			out->data[frame + 9] = 2;
			break;
		case NO_TABLES:
			out->data[find_marker(out, 0xdb) + 1] = (char) 0xfe; /* now a comment */
			break;
		case NO_END:
			out->len -= 2;
			break;
	}
}

static void
make_filled(DsocrBuffer *out, int how)
{
	DsocrBuffer plain = {0};
	uint8_t fill[300];
	size_t frame;

	in_baseline(&plain);
	frame = find_marker(&plain, 0xc0);
	memset(fill, 0xff, sizeof(fill));
	mk_bytes(out, plain.data, frame);
	if (how == FILLED)
		mk_bytes(out, fill, sizeof(fill));
	mk_bytes(out, plain.data + frame, plain.len - frame);
	if (how == BEHIND)
		mk_bytes(out, fill, sizeof(fill));
	if (how == THUMBNAIL)
		mk_bytes(out, plain.data, plain.len); /* as cameras do for two views */
	dsocr_buffer_free(&plain);
}

const Input in_jpeg[] = {
	{"baseline.jpg", "baseline, YCbCr", IN_COLOUR, make, 0},
	{"subsampled.jpg", "chroma 4:2:0", IN_COLOUR, make, SUBSAMPLED},
	{"progressive.jpg", "progressive", IN_COLOUR, make, PROGRESSIVE},
	{"restarts.jpg", "restart markers", IN_COLOUR, make, RESTARTS},
	{"arithmetic.jpg", "arithmetic coding", IN_COLOUR, make, ARITHMETIC},
	{"gray.jpg", "gray", IN_GRAY, make, GRAY},
	{"cmyk.jpg", "CMYK as Adobe's programs store it", IN_COLOUR, make, CMYK},
	{"ycck.jpg", "YCCK as Adobe's programs store it", IN_COLOUR, make, YCCK},
	{"exif-1.jpg", "EXIF orientation 1", IN_COLOUR, make_turned, 1},
	{"exif-2.jpg", "EXIF orientation 2, mirrored", IN_COLOUR, make_turned, 2},
	{"exif-3.jpg", "EXIF orientation 3, on its head", IN_COLOUR, make_turned, 3},
	{"exif-4.jpg", "EXIF orientation 4", IN_COLOUR, make_turned, 4},
	{"exif-5.jpg", "EXIF orientation 5", IN_COLOUR, make_turned, 5},
	{"exif-6.jpg", "EXIF orientation 6, on its side", IN_COLOUR, make_turned, 6},
	{"exif-7.jpg", "EXIF orientation 7", IN_COLOUR, make_turned, 7},
	{"exif-8.jpg", "EXIF orientation 8, on its other side", IN_COLOUR, make_turned, 8},
	{"fill-bytes.jpg", "300 fill bytes 0xFF before a marker", IN_COLOUR, make_filled, FILLED},
	{"behind.jpg", "300 bytes 0xFF behind its end", IN_COLOUR, make_filled, BEHIND},
	{"overwritten.jpg", "60 bytes 0xFF within its data", IN_REFUSED, make_odd, OVERWRITTEN},
	{"rgb.jpg", "RGB, as Adobe's marker says", IN_COLOUR, make, PLAIN_RGB},
	{"two-views.jpg", "another JPEG behind it", IN_COLOUR, make_filled, THUMBNAIL},
	{"exif-0.jpg", "EXIF orientation 0, which is none", IN_COLOUR, make_turned, 0},
	{"exif-9.jpg", "EXIF orientation 9, which is none", IN_COLOUR, make_turned, 9},
	{"no-end.jpg", "the end marker missing", IN_REFUSED, make_odd, NO_END},
	{"late-height.jpg", "the height behind the data", IN_REFUSED, make_odd, LATE_HEIGHT},
	{"huge.jpg", "claims 65535 x 65535", IN_REFUSED, make_odd, HUGE},
	{"two-components.jpg", "two components", IN_REFUSED, make_odd, TWO_COMPONENTS},
	{"no-tables.jpg", "a quantisation table missing", IN_REFUSED, make_odd, NO_TABLES},
	{"12-bit.jpg", "12-bit samples", IN_REFUSED, make_odd, BITS_12},
	{"lossless.jpg", "lossless coding", IN_REFUSED, make_odd, LOSSLESS},
	{"cut.jpg", "ends in its data", IN_REFUSED, make_odd, CUT},
	{"cut-header.jpg", "ends in its header", IN_REFUSED, make_odd, CUT_HEADER},
	{"no-size.jpg", "0 x 0 pixels", IN_REFUSED, make_odd, NO_SIZE},
	{0}};
