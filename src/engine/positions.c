/*-------------------------------------------------------------------------
 *
 * positions.c
 *		Position tables for another grid, as torch's interpolate makes them.
 *
 * Absolute tables: bicubic with a = -0.5 and antialiasing, align_corners off,
 * columns first.  Relative tables: linear, align_corners off.  All in fp32.
 *
 *-------------------------------------------------------------------------
 */
#include "preprocess.h"

#include <math.h>
#include <string.h>

typedef struct Weights
{
	int taps; /* room for each output */
	int *first;
	int *count;
	float *weight;
} Weights;

static float
bicubic(float x)
{
	x = fabsf(x);
	if (x < 1.0f)
		return (1.5f * x - 2.5f) * x * x + 1.0f;
	if (x < 2.0f)
		return (((x - 5.0f) * x + 8.0f) * x - 4.0f) * -0.5f;
	return 0.0f;
}

static void
weights_free(Weights *w)
{
	dsocr_free(w->first);
	dsocr_free(w->count);
	dsocr_free(w->weight);
}

static bool
weights_make(int in, int out, Weights *w, DsocrError *err)
{
	float scale = (float) in / (float) out;
	float widen = scale >= 1.0f ? scale : 1.0f;
	float support = 2.0f * widen;
	float step = 1.0f / widen;

	memset(w, 0, sizeof(*w));
	w->taps = (int) ceilf(support) * 2 + 1;
	w->first = dsocr_alloc((size_t) out, sizeof(int), err);
	w->count = dsocr_alloc((size_t) out, sizeof(int), err);
	w->weight = dsocr_zalloc((size_t) out * (size_t) w->taps, sizeof(float), err);
	if (w->first == NULL || w->count == NULL || w->weight == NULL)
	{
		weights_free(w);
		return false;
	}
	for (int i = 0; i < out; i++)
	{
		float *weight = w->weight + (size_t) i * (size_t) w->taps;
		float center = scale * ((float) i + 0.5f);
		int min = (int) (center - support + 0.5f);
		int max = (int) (center + support + 0.5f);
		float sum = 0.0f;

		min = min < 0 ? 0 : min;
		max = max > in ? in : max;
		for (int t = 0; t < max - min; t++)
		{
			weight[t] = bicubic(((float) (t + min) - center + 0.5f) * step);
			sum += weight[t];
		}
		for (int t = 0; t < max - min; t++)
			if (sum != 0.0f)
				weight[t] /= sum;
		w->first[i] = min;
		w->count[i] = max - min;
	}
	return true;
}

/*
 * out[n][inner] = sum over t of weight * in[first + t][inner], for one plane
 * whose rows are inner values.
 */
static void
apply(const Weights *w, int n, const float *in, size_t inner, float *out)
{
	memset(out, 0, (size_t) n * inner * sizeof(float));
	for (int i = 0; i < n; i++)
		for (int t = 0; t < w->count[i]; t++)
		{
			const float *row = in + (size_t) (w->first[i] + t) * inner;
			float weight = w->weight[(size_t) i * (size_t) w->taps + (size_t) t];

			for (size_t c = 0; c < inner; c++)
				out[(size_t) i * inner + c] += weight * row[c];
		}
}

bool
dsocr_resize_positions(const float *in, int side, int dim, int new_side, float *out,
					   DsocrError *err)
{
	size_t in_row = (size_t) side * (size_t) dim;
	size_t out_row = (size_t) new_side * (size_t) dim;
	float *middle; /* [side, new_side, dim] */
	Weights w;

	if (side < 1 || new_side < 1 || dim < 1)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "position table of %d x %d cannot become %d x %d",
						  side, side, new_side, new_side);
	if (side == new_side)
	{
		memcpy(out, in, (size_t) side * in_row * sizeof(float));
		return true;
	}
	middle = dsocr_alloc((size_t) side, out_row * sizeof(float), err);
	if (middle == NULL)
		return false;
	if (!weights_make(side, new_side, &w, err))
	{
		dsocr_free(middle);
		return false;
	}
	for (int y = 0; y < side; y++)
		apply(&w, new_side, in + (size_t) y * in_row, (size_t) dim, middle + (size_t) y * out_row);
	apply(&w, new_side, middle, out_row, out);
	weights_free(&w);
	dsocr_free(middle);
	return true;
}

void
dsocr_resize_relative(const float *in, int length, int dim, int new_length, float *out)
{
	float scale = (float) length / (float) new_length;

	for (int i = 0; i < new_length; i++)
	{
		float at = scale * ((float) i + 0.5f) - 0.5f;
		int left = at < 0.0f ? 0 : (int) at;
		int right = left < length - 1 ? left + 1 : left;
		float frac = at < 0.0f ? 0.0f : at - (float) left;

		for (int c = 0; c < dim; c++)
			out[(size_t) i * (size_t) dim + (size_t) c] =
				(1.0f - frac) * in[(size_t) left * (size_t) dim + (size_t) c] +
				frac * in[(size_t) right * (size_t) dim + (size_t) c];
	}
}
