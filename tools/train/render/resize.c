/*-------------------------------------------------------------------------
 *
 * resize.c
 *		Bicubic resizing, close to what the engine does with photographs.
 *
 *-------------------------------------------------------------------------
 */
#include "effects.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TAPS 64

typedef struct Taps
{
	int first;
	int n;
	float weight[MAX_TAPS];
} Taps;

static float
cubic(float x)
{
	const float a = -0.5f;

	x = fabsf(x);
	if (x < 1)
		return ((a + 2) * x - (a + 3)) * x * x + 1;
	if (x < 2)
		return (((x - 5) * x + 8) * x - 4) * a;
	return 0;
}

static void
make_taps(Taps *t, int from, int to, int i)
{
	float scale = (float) from / (float) to;
	float wide = scale > 1 ? scale : 1;
	float centre = ((float) i + 0.5f) * scale;
	int first = (int) (centre - 2 * wide + 0.5f);
	int last = (int) (centre + 2 * wide + 0.5f);
	float sum = 0;

	t->first = first < 0 ? 0 : first;
	t->n = (last > from ? from : last) - t->first;
	if (t->n > MAX_TAPS)
		t->n = MAX_TAPS;
	for (int k = 0; k < t->n; k++)
	{
		t->weight[k] = cubic(((float) (t->first + k) - centre + 0.5f) / wide);
		sum += t->weight[k];
	}
	for (int k = 0; k < t->n; k++)
		t->weight[k] /= sum;
}

/* [h, w] to [to_h, w]: rows are combined, so that the inner loop is along memory. */
static void
resize_rows(const uint8_t *from, int w, int h, uint8_t *to, int to_h, int to_stride)
{
	float *sum = malloc(sizeof(float) * (size_t) w);

	if (!sum)
		abort();
	for (int y = 0; y < to_h; y++)
	{
		Taps t;
		uint8_t *out = to + (size_t) y * (size_t) to_stride;

		make_taps(&t, h, to_h, y);
		for (int x = 0; x < w; x++)
			sum[x] = 0.5f;
		for (int k = 0; k < t.n; k++)
		{
			const uint8_t *row = from + (size_t) (t.first + k) * (size_t) w;
			float weight = t.weight[k];

			for (int x = 0; x < w; x++)
				sum[x] += weight * (float) row[x];
		}
		for (int x = 0; x < w; x++)
			out[x] = (uint8_t) (sum[x] < 0 ? 0 : sum[x] > 255 ? 255 : sum[x]);
	}
	free(sum);
}

/* [h, w] to [w, h], in squares that stay in the cache */
static void
transpose(const uint8_t *from, int w, int h, uint8_t *to, int to_stride)
{
	for (int y0 = 0; y0 < h; y0 += 32)
		for (int x0 = 0; x0 < w; x0 += 32)
			for (int x = x0; x < w && x < x0 + 32; x++)
				for (int y = y0; y < h && y < y0 + 32; y++)
					to[(size_t) x * (size_t) to_stride + y] = from[(size_t) y * (size_t) w + x];
}

void
resize_bicubic(const uint8_t *from, int w, int h, uint8_t *to, int to_w, int to_h, int to_stride)
{
	size_t turned = (size_t) w * (size_t) h;
	size_t narrowed = (size_t) to_w * (size_t) h;
	uint8_t *a = calloc(1, turned + narrowed * 2);
	uint8_t *b = a + turned;
	uint8_t *c = b + narrowed;

	if (!a)
		abort();
	transpose(from, w, h, a, h);	  /* [w, h] */
	resize_rows(a, h, w, b, to_w, h); /* [to_w, h] */
	transpose(b, h, to_w, c, to_w);	  /* [h, to_w] */
	resize_rows(c, to_w, h, to, to_h, to_stride);
	free(a);
}
