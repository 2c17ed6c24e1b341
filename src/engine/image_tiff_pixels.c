/*-------------------------------------------------------------------------
 *
 * image_tiff_pixels.c
 *		Samples of a TIFF to 8-bit RGB, by Pillow's rules.
 *
 *-------------------------------------------------------------------------
 */
#ifdef DSOCR_WITH_TIFF

#include "image_tiff.h"

#include <string.h>

#include <tiff.h>

static bool
is_gray(const DsocrTiffLayout *l)
{
	return l->photometric == PHOTOMETRIC_MINISWHITE || l->photometric == PHOTOMETRIC_MINISBLACK;
}

int
dsocr_tiff_used_samples(const DsocrTiffLayout *l)
{
	if (is_gray(l) || l->photometric == PHOTOMETRIC_PALETTE)
		return 1;
	if (l->photometric == PHOTOMETRIC_SEPARATED)
		return 4;
	return l->premultiplied && l->samples > 3 ? 4 : 3;
}

static bool
unsupported(DsocrError *err, const char *what, int value)
{
	dsocr_fail(err, DSOCR_E_IMAGE, "TIFF image has %s %d, which is not supported", what, value);
	return dsocr_hint(err, "Convert it to RGB or gray with samples of 8 bits.");
}

bool
dsocr_tiff_layout_check(const DsocrTiffLayout *l, DsocrError *err)
{
	if (l->samples < 1 || l->samples > DSOCR_TIFF_MAX_SAMPLES)
		return unsupported(err, "a number of samples of", l->samples);
	if (l->converted)
		return true;
	if (l->bits != 1 && l->bits != 2 && l->bits != 4 && l->bits != 8 && l->bits != 16)
		return unsupported(err, "bits a sample:", l->bits);
	if (!is_gray(l) && l->photometric != PHOTOMETRIC_PALETTE && l->photometric != PHOTOMETRIC_RGB &&
		l->photometric != PHOTOMETRIC_SEPARATED)
		return unsupported(err, "photometric interpretation", l->photometric);
	if (l->photometric == PHOTOMETRIC_PALETTE && l->bits > 8)
		return unsupported(err, "a palette for bits a sample:", l->bits);
	if (l->format != SAMPLEFORMAT_UINT && l->format != SAMPLEFORMAT_VOID &&
		!(l->format == SAMPLEFORMAT_INT && is_gray(l) && l->bits >= 8))
		return unsupported(err, "sample format", l->format);
	if (l->samples < dsocr_tiff_used_samples(l))
		return unsupported(err, "too few samples:", l->samples);
	return true;
}

static void
unpack16(const DsocrTiffLayout *l, const uint8_t *in, size_t n, uint8_t *out)
{
	bool clip = is_gray(l);

	for (size_t i = 0; i < n; i++)
	{
		uint16_t v;

		memcpy(&v, in + 2 * i, 2);
		if (!clip)
			out[i] = (uint8_t) (v >> 8);
		else if (l->format == SAMPLEFORMAT_INT && v >= 0x8000)
			out[i] = 0;
		else
			out[i] = (uint8_t) (v > 255 ? 255 : v);
	}
}

void
dsocr_tiff_unpack(const DsocrTiffLayout *l, const uint8_t *in, size_t n, uint8_t *out)
{
	unsigned mask = (1U << l->bits) - 1;
	unsigned scale = l->photometric == PHOTOMETRIC_PALETTE || l->bits > 8 ? 1 : 255 / mask;

	if (l->bits == 16)
		unpack16(l, in, n, out);
	else if (l->bits == 8)
		memcpy(out, in, n);
	else
		for (size_t i = 0; i < n; i++)
		{
			size_t bit = i * (size_t) l->bits;

			out[i] = (uint8_t) ((in[bit / 8] >> (8 - l->bits - (int) (bit % 8)) & mask) * scale);
		}
}

static void
gray_to_rgb(const DsocrTiffLayout *l, const uint8_t *in, int step, size_t n, uint8_t *rgb)
{
	/* Pillow does not invert 16-bit samples */
	uint8_t flip = l->photometric == PHOTOMETRIC_MINISWHITE && l->bits < 16 ? 255 : 0;

	for (size_t i = 0; i < n; i++, rgb += 3)
		rgb[0] = rgb[1] = rgb[2] = in[i * (size_t) step] ^ flip;
}

static void
cmyk_to_rgb(const uint8_t *const *samples, int step, size_t n, uint8_t *rgb)
{
	for (size_t i = 0; i < n; i++, rgb += 3)
	{
		int nk = 255 - samples[3][i * (size_t) step];

		for (int c = 0; c < 3; c++)
		{
			int t = samples[c][i * (size_t) step] * nk + 128;
			int v = nk - ((t + (t >> 8)) >> 8);

			rgb[c] = (uint8_t) (v < 0 ? 0 : v);
		}
	}
}

void
dsocr_tiff_to_rgb(const DsocrTiffLayout *l, const uint8_t *const *samples, int step, size_t n,
				  uint8_t *rgb)
{
	if (is_gray(l))
		gray_to_rgb(l, samples[0], step, n, rgb);
	else if (l->photometric == PHOTOMETRIC_SEPARATED)
		cmyk_to_rgb(samples, step, n, rgb);
	else if (l->photometric == PHOTOMETRIC_PALETTE)
		for (size_t i = 0; i < n; i++, rgb += 3)
			memcpy(rgb, l->palette[samples[0][i * (size_t) step]], 3);
	else
		for (size_t i = 0; i < n; i++, rgb += 3)
			for (int c = 0; c < 3; c++)
			{
				unsigned v = samples[c][i * (size_t) step];
				/* alpha of the pixel, or full */
				unsigned a =
					l->premultiplied && l->samples > 3 ? samples[3][i * (size_t) step] : 255;

				if (a == 0)
					v = 0;
				else if (a < 255)
					v = 255 * v / a > 255 ? 255 : 255 * v / a;
				rgb[c] = (uint8_t) v;
			}
}

#endif
