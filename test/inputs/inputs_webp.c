/*-------------------------------------------------------------------------
 *
 * inputs_webp.c
 *		WebP files.
 *
 *-------------------------------------------------------------------------
 */
#include "inputs.h"

#include <string.h>
#include <webp/encode.h>

#include "../reference/make_image.h"

#define PIXELS (IN_WIDTH * IN_HEIGHT)

enum
{
	LOSSY,
	LOSSLESS,
	ALPHA,
	CUT,
	DAMAGED
};

static void
make(DsocrBuffer *out, int how)
{
	uint8_t samples[PIXELS * 4];
	uint8_t *webp = NULL;
	size_t len;

	in_picture(samples, how == ALPHA ? 4 : 3);
	for (int i = 0; how == ALPHA && i < PIXELS; i++)
		if (i % IN_WIDTH < IN_WIDTH / 2 && i / IN_WIDTH < IN_HEIGHT / 2)
			samples[i * 4 + 3] = 0;
	if (how == LOSSLESS)
		len = WebPEncodeLosslessRGB(samples, IN_WIDTH, IN_HEIGHT, IN_WIDTH * 3, &webp);
	else if (how == ALPHA)
		len = WebPEncodeLosslessRGBA(samples, IN_WIDTH, IN_HEIGHT, IN_WIDTH * 4, &webp);
	else
		len = WebPEncodeRGB(samples, IN_WIDTH, IN_HEIGHT, IN_WIDTH * 3, 95, &webp);
	if (len == 0)
		in_fail("no WebP");
	mk_bytes(out, webp, how == CUT ? len / 2 : len);
	if (how == DAMAGED)
		memset(out->data + 20, 0, 10);
	WebPFree(webp);
}

static void
le(DsocrBuffer *b, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		mk_bytes(b, &(uint8_t){(uint8_t) (v >> (8 * i))}, 1);
}

/* Two frames; the second is the first again. */
static void
make_animated(DsocrBuffer *out, int how)
{
	DsocrBuffer frame = {0};
	uint32_t image;

	make(&frame, LOSSLESS);
	image = (uint32_t) frame.len - 12; /* its chunk, without RIFF header */
	mk_bytes(out, "RIFF", 4);
	le(out, 4 + 18 + 14 + 2 * (24 + image), 4);
	mk_bytes(out, "WEBPVP8X\x0a\0\0\0\x02\0\0\0", 16);
	le(out, IN_WIDTH - 1, 3);
	le(out, IN_HEIGHT - 1, 3);
	mk_bytes(out, "ANIM\x06\0\0\0\xff\xff\xff\xff\0\0", 14);
	for (int i = 0; i < 2; i++)
	{
		mk_bytes(out, "ANMF", 4);
		le(out, 16 + image, 4);
		le(out, 0, 6);
		le(out, IN_WIDTH - 1, 3);
		le(out, IN_HEIGHT - 1, 3);
		le(out, 100, 4); /* milliseconds, and flags */
		mk_bytes(out, frame.data + 12, image);
	}
	dsocr_buffer_free(&frame);
}

/* A still picture with a canvas of its own and EXIF behind it. */
static void
make_extended(DsocrBuffer *out, int width)
{
	DsocrBuffer frame = {0};
	uint8_t exif[MK_TIFF];
	uint32_t image;

	make(&frame, LOSSLESS);
	mk_tiff(exif, 3, false);
	image = (uint32_t) frame.len - 12;
	mk_bytes(out, "RIFF", 4);
	le(out, 4 + 18 + image + 8 + MK_TIFF, 4);
	mk_bytes(out, "WEBPVP8X\x0a\0\0\0\x08\0\0\0", 16);
	le(out, (uint64_t) width - 1, 3);
	le(out, IN_HEIGHT - 1, 3);
	mk_bytes(out, frame.data + 12, image);
	mk_bytes(out, "EXIF", 4);
	le(out, MK_TIFF, 4);
	mk_bytes(out, exif, MK_TIFF);
	dsocr_buffer_free(&frame);
}

static void
make_header(DsocrBuffer *out, int side)
{
	mk_bytes(out, "RIFF\x12\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0", 24);
	le(out, (uint64_t) side - 1, 3);
	le(out, (uint64_t) side - 1, 3);
}

const Input in_webp[] = {
	{"lossy.webp", "lossy", IN_COLOUR, make, LOSSY},
	{"lossless.webp", "lossless", IN_COLOUR, make, LOSSLESS},
	{"alpha.webp", "lossless, a quarter transparent, stored as black",
	 "64 x 48: black green / blue white", make, ALPHA},
	{"animated.webp", "two frames", IN_COLOUR, make_animated},
	{"exif.webp", "EXIF orientation 3", "64 x 48: white blue / green red", make_extended, IN_WIDTH},
	{"other-canvas.webp", "canvas wider than the picture", IN_REFUSED, make_extended, 100},
	{"huge.webp", "claims 16777216 x 16777216", IN_REFUSED, make_header, 1 << 24},
	{"cut.webp", "second half missing", IN_REFUSED, make, CUT},
	{"damaged.webp", "zeros for its header", IN_REFUSED, make, DAMAGED},
	{0}};
