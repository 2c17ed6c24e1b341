/*-------------------------------------------------------------------------
 *
 * image_pnm.c
 *		Binary PGM and PPM with samples of 8 bits: pixels without a codec.
 *
 * The header is checked to the letter: magic, width, height, 255, one blank.
 * Blanks and comments may stand between the numbers.  Bytes behind the last
 * pixel belong to other images of the same file and are not looked at.
 *
 *-------------------------------------------------------------------------
 */
#include "image_format.h"

#include <string.h>

/* Longer ones are not numbers of pixels. */
#define MAX_DIGITS 9

/* Rows between two polls. */
#define POLL_ROWS 64

static bool
is_blank(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A number behind blanks and comments; *at moves behind it. */
static bool
read_number(const uint8_t *bytes, size_t len, size_t *at, uint32_t *value, DsocrError *err)
{
	size_t i = *at;
	size_t start;

	while (i < len && (is_blank(bytes[i]) || bytes[i] == '#'))
	{
		if (bytes[i] == '#')
			while (i < len && bytes[i] != '\n' && bytes[i] != '\r')
				i++;
		else
			i++;
	}
	*value = 0;
	for (start = i; i < len && bytes[i] >= '0' && bytes[i] <= '9' && i - start < MAX_DIGITS; i++)
		*value = *value * 10 + (uint32_t) (bytes[i] - '0');
	if (i == len)
		return dsocr_fail(err, DSOCR_E_IMAGE, "PNM image is truncated");
	if (i == start || !is_blank(bytes[i]))
		return dsocr_fail(err, DSOCR_E_IMAGE, "PNM image has an invalid header");
	*at = i;
	return true;
}

/* *data is the offset of the first sample. */
static bool
read_header(const uint8_t *bytes, size_t len, uint64_t max_pixels, DsocrImageHeader *header,
			size_t *data, DsocrError *err)
{
	uint32_t max;

	*data = 2;
	if (!read_number(bytes, len, data, &header->width, err) ||
		!read_number(bytes, len, data, &header->height, err) ||
		!read_number(bytes, len, data, &max, err))
		return false;
	++*data;
	header->orientation = 1;
	if (max != 255)
	{
		dsocr_fail(err, DSOCR_E_IMAGE, "PNM image has samples up to %u; only 255 is supported",
				   (unsigned) max);
		return dsocr_hint(err, "Convert it to samples of 8 bits, or to PNG.");
	}
	return dsocr_image_check_size("PNM", header->width, header->height, DSOCR_PNG_MAX_SIDE,
								  max_pixels, err);
}

bool
dsocr_pnm_probe(const uint8_t *bytes, size_t len, uint64_t max_pixels, DsocrImageHeader *header,
				DsocrError *err)
{
	size_t data;

	return read_header(bytes, len, max_pixels, header, &data, err);
}

bool
dsocr_pnm_decode(const uint8_t *bytes, size_t len, uint64_t max_pixels, const DsocrPoll *poll,
				 DsocrImageHeader *header, uint8_t **rgb, DsocrError *err)
{
	size_t data;
	size_t row;
	size_t size;
	bool color = len >= 2 && bytes[1] == '6';
	const uint8_t *in;
	uint8_t *out;

	if (!read_header(bytes, len, max_pixels, header, &data, err))
		return false;
	if (!dsocr_mul(header->width, color ? 3 : 1, &row) || !dsocr_mul(row, header->height, &size))
		return dsocr_fail(err, DSOCR_E_MEMORY, "image is too large");
	if (size > len - data)
		return dsocr_fail(err, DSOCR_E_IMAGE, "PNM image is truncated");
	in = bytes + data;
	out = dsocr_alloc(size, color ? 1 : 3, err);
	if (out == NULL)
		return false;
	*rgb = out;
	for (uint32_t y = 0; y < header->height; y++, in += row)
	{
		if (y % POLL_ROWS == 0 && !dsocr_image_go_on(poll, err))
		{
			dsocr_free(*rgb);
			*rgb = NULL;
			return false;
		}
		if (color)
		{
			memcpy(out, in, row);
			out += row;
		}
		else
			for (size_t x = 0; x < row; x++, out += 3)
				out[0] = out[1] = out[2] = in[x];
	}
	return true;
}
