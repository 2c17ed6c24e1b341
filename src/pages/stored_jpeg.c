/*-------------------------------------------------------------------------
 *
 * stored_jpeg.c
 *		JPEGs that can be passed on as they are.
 *
 *-------------------------------------------------------------------------
 */
#include "stored_jpeg.h"

#include <stdlib.h>

#include "image.h"
#include "image_format.h"

#define CELL 8		   /* pixels of the page a side */
#define MAX_CELL 28	   /* levels by which the mean of a cell may differ */
#define MAX_MEAN 2.5   /* and those of all cells on the average */
#define MAX_SHAPE 0.02 /* difference between the ratios of the sides */

/* What a frame header says. */
static bool
read_frame(const uint8_t *p, size_t n, int *width, int *height)
{
	if (n < 6 || p[0] != 8 || (p[5] != 1 && p[5] != 3))
		return false;
	*height = (int) dsocr_be16(p + 1);
	*width = (int) dsocr_be16(p + 3);
	return *width > 0 && *height > 0;
}

/* Walk over the markers to the frame header. */
static bool
find_frame(const uint8_t *bytes, size_t len, int *width, int *height)
{
	size_t at = 2;

	while (len - at >= 4 && bytes[at] == 0xff)
	{
		uint8_t marker = bytes[at + 1];
		size_t n = dsocr_be16(bytes + at + 2);

		if (marker == 0xff)
		{
			at++;
			continue;
		}
		if (n < 2 || n > len - at - 2)
			return false;
		if (marker >= 0xc0 && marker <= 0xc2)
			return read_frame(bytes + at + 4, n - 2, width, height);
		/* other kinds of frames, and the data without any */
		if ((marker >= 0xc3 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 &&
			 marker != 0xcc) ||
			marker == 0xda || marker == 0xd9 || marker < 0xc0)
			return false;
		at += 2 + n;
	}
	return false;
}

bool
dsocr_stored_jpeg(const uint8_t *bytes, size_t len, int *width, int *height)
{
	DsocrImageHeader header = {0};

	if (len < 4 || bytes[0] != 0xff || bytes[1] != 0xd8 || !find_frame(bytes, len, width, height))
		return false;
	return dsocr_jpeg_probe(bytes, len, UINT64_MAX, &header, NULL) && header.orientation <= 1;
}

/* ---- comparison ---- */

/* Mean of the channels over the pixels of cell number i of n along each side. */
static double
cell_mean(const DsocrRaster *r, int i, int columns, int j, int rows)
{
	int x1 = (int) ((int64_t) r->width * i / columns);
	int x2 = (int) ((int64_t) r->width * (i + 1) / columns);
	int y1 = (int) ((int64_t) r->height * j / rows);
	int y2 = (int) ((int64_t) r->height * (j + 1) / rows);
	uint64_t sum = 0;
	size_t n = (size_t) (x2 - x1) * (size_t) r->channels;

	for (int y = y1; y < y2; y++)
	{
		const uint8_t *p =
			r->pixels + ((size_t) y * (size_t) r->width + (size_t) x1) * (size_t) r->channels;

		for (size_t k = 0; k < n; k++)
			sum += p[k];
	}
	return (double) sum / (double) (n * (size_t) (y2 - y1));
}

static bool
same_picture(const DsocrRaster *a, const DsocrRaster *b)
{
	/* cells of at least one pixel of either */
	int width = a->width < b->width ? a->width : b->width;
	int height = a->height < b->height ? a->height : b->height;
	int columns = width < CELL ? 1 : width / CELL;
	int rows = height < CELL ? 1 : height / CELL;
	double shape = ((double) a->width * b->height) / ((double) a->height * b->width);
	double total = 0;

	if (shape < 1 - MAX_SHAPE || shape > 1 + MAX_SHAPE)
		return false;
	for (int j = 0; j < rows; j++)
	{
		for (int i = 0; i < columns; i++)
		{
			double d = cell_mean(a, i, columns, j, rows) - cell_mean(b, i, columns, j, rows);

			d = d < 0 ? -d : d;
			if (d > MAX_CELL)
				return false;
			total += d;
		}
	}
	return total <= MAX_MEAN * columns * rows;
}

bool
dsocr_stored_shows(const uint8_t *jpeg, size_t len, uint64_t max_pixels, const DsocrRaster *page)
{
	DsocrImage image;
	DsocrRaster picture;
	bool same;

	if (!dsocr_image_decode(jpeg, len, max_pixels, &image, NULL))
		return false;
	picture = (DsocrRaster){image.width, image.height, 3, image.rgb};
	same = same_picture(&picture, page);
	dsocr_image_free(&image);
	return same;
}
