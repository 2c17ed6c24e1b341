/*-------------------------------------------------------------------------
 *
 * resize.c
 *		Pillow's bicubic Image.resize, bit for bit.
 *
 * Two passes, columns first, each rounded to 8 bits; coefficients are fixed
 * point with 22 bits; when shrinking, the kernel is widened by the scale.  A
 * pass whose size does not change is left out.
 *
 * A sum of coefficient times pixel is formed modulo 2^32, as in Pillow, so it
 * may be split freely: with k = high * 2^12 + low both parts fit the 16-bit
 * multiply-add of SSE2, which takes two taps at once.  Other machines use
 * the plain loops.
 *
 *-------------------------------------------------------------------------
 */
#include "preprocess.h"

#include <math.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define PRECISION_BITS 22
#define HALF (1 << (PRECISION_BITS - 1))
#define SUPPORT 2.0 /* of the bicubic kernel */
#define SPLIT_BITS 12
#define CHANNELS 3
#define BAND 16 /* output rows made together */

/*
 * One pass: output i is the sum over t < count[i] of coef[i * taps + t] times
 * input first[i] + t.  taps is even; coefficients behind count are 0.
 */
typedef struct Kernel
{
	int n;
	int taps;
	int *first;
	int *count;
	int32_t *coef;
	int16_t *split; /* pairs of taps as low, low, high, high */
} Kernel;

/* a = -0.5 */
static double
bicubic(double x)
{
	if (x < 0.0)
		x = -x;
	if (x < 1.0)
		return (1.5 * x - 2.5) * x * x + 1;
	if (x < 2.0)
		return (((x - 5) * x + 8) * x - 4) * -0.5;
	return 0.0;
}

static inline uint8_t
clip8(int32_t sum)
{
	int v = sum >> PRECISION_BITS;

	return (uint8_t) (v < 0 ? 0 : v > 255 ? 255 : v);
}

static void
kernel_free(Kernel *k)
{
	dsocr_free(k->first);
	dsocr_free(k->count);
	dsocr_free(k->coef);
	dsocr_free(k->split);
	memset(k, 0, sizeof(*k));
}

/* Weights of one output in double, normalised; returns how many there are. */
static int
output_weights(double scale, double filter_scale, int in_size, int out, int *first, double *weight)
{
	double support = SUPPORT * filter_scale;
	double center = (out + 0.5) * scale;
	double step = 1.0 / filter_scale;
	double sum = 0.0;
	int min = (int) (center - support + 0.5);
	int max = (int) (center + support + 0.5);

	if (min < 0)
		min = 0;
	if (max > in_size)
		max = in_size;
	for (int t = 0; t < max - min; t++)
	{
		weight[t] = bicubic((t + min - center + 0.5) * step);
		sum += weight[t];
	}
	for (int t = 0; t < max - min; t++)
		if (sum != 0.0)
			weight[t] /= sum;
	*first = min;
	return max - min;
}

static bool
kernel_make(int in_size, int out_size, Kernel *k, DsocrError *err)
{
	double scale = (double) in_size / out_size;
	double filter_scale = scale < 1.0 ? 1.0 : scale;
	double *weight;
	size_t cells;

	memset(k, 0, sizeof(*k));
	k->n = out_size;
	k->taps = ((int) ceil(SUPPORT * filter_scale) * 2 + 2) & ~1;
	if (!dsocr_mul((size_t) out_size, (size_t) k->taps, &cells))
		return dsocr_fail(err, DSOCR_E_MEMORY, "image is too large");
	weight = dsocr_alloc((size_t) k->taps, sizeof(double), err);
	k->first = dsocr_alloc((size_t) out_size, sizeof(int), err);
	k->count = dsocr_alloc((size_t) out_size, sizeof(int), err);
	k->coef = dsocr_zalloc(cells, sizeof(int32_t), err);
	k->split = dsocr_zalloc(cells, 2 * sizeof(int16_t), err);
	if (weight == NULL || k->first == NULL || k->count == NULL || k->coef == NULL ||
		k->split == NULL)
	{
		dsocr_free(weight);
		kernel_free(k);
		return false;
	}
	for (int i = 0; i < out_size; i++)
	{
		int32_t *coef = k->coef + (size_t) i * (size_t) k->taps;
		int16_t *split = k->split + (size_t) i * (size_t) k->taps * 2;

		k->count[i] = output_weights(scale, filter_scale, in_size, i, &k->first[i], weight);
		for (int t = 0; t < k->count[i]; t++)
		{
			double fixed = weight[t] * (1 << PRECISION_BITS);

			coef[t] = (int) (fixed < 0 ? -0.5 + fixed : 0.5 + fixed);
			split[t / 2 * 4 + t % 2] = (int16_t) (coef[t] & ((1 << SPLIT_BITS) - 1));
			split[t / 2 * 4 + 2 + t % 2] = (int16_t) (coef[t] >> SPLIT_BITS);
		}
	}
	dsocr_free(weight);
	return true;
}

/* One output pixel, tap by tap. */
static void
column_plain(const uint8_t *in, const int32_t *coef, int count, uint8_t *out)
{
	uint32_t sum[CHANNELS] = {HALF, HALF, HALF};

	for (int t = 0; t < count; t++)
		for (int c = 0; c < CHANNELS; c++)
			sum[c] += (uint32_t) coef[t] * in[t * CHANNELS + c];
	for (int c = 0; c < CHANNELS; c++)
		out[c] = clip8((int32_t) sum[c]);
}

#ifdef __SSE2__

/* (high << 12) + low + 0.5, shifted and clipped by the saturating packs. */
static inline __m128i
finish_sum(__m128i low, __m128i high)
{
	__m128i sum = _mm_add_epi32(_mm_slli_epi32(high, SPLIT_BITS), low);

	return _mm_srai_epi32(_mm_add_epi32(sum, _mm_set1_epi32(HALF)), PRECISION_BITS);
}

/* Two neighbouring pixels as words r r g g b b and two of no meaning. */
static inline __m128i
load_two_pixels(const uint8_t *p)
{
	__m128i v = _mm_loadl_epi64((const __m128i *) p);

	v = _mm_unpacklo_epi8(v, _mm_srli_epi64(v, 8 * CHANNELS));
	return _mm_unpacklo_epi8(v, _mm_setzero_si128());
}

/* One output pixel of two rows; reads 8 bytes from every second pixel on. */
static inline void
column_two_rows(const uint8_t *a, const uint8_t *b, const int16_t *split, int count, uint8_t *out_a,
				uint8_t *out_b)
{
	__m128i low_a = _mm_setzero_si128();
	__m128i high_a = low_a;
	__m128i low_b = low_a;
	__m128i high_b = low_a;
	uint32_t packed;

	for (int t = 0; t < count; t += 2, split += 4, a += 2 * CHANNELS, b += 2 * CHANNELS)
	{
		__m128i k = _mm_loadl_epi64((const __m128i *) split);
		__m128i k_low = _mm_shuffle_epi32(k, 0x00);
		__m128i k_high = _mm_shuffle_epi32(k, 0x55);
		__m128i p = load_two_pixels(a);
		__m128i q = load_two_pixels(b);

		low_a = _mm_add_epi32(low_a, _mm_madd_epi16(p, k_low));
		high_a = _mm_add_epi32(high_a, _mm_madd_epi16(p, k_high));
		low_b = _mm_add_epi32(low_b, _mm_madd_epi16(q, k_low));
		high_b = _mm_add_epi32(high_b, _mm_madd_epi16(q, k_high));
	}
	low_a = _mm_packs_epi32(finish_sum(low_a, high_a), finish_sum(low_b, high_b));
	low_a = _mm_packus_epi16(low_a, low_a);
	packed = (uint32_t) _mm_cvtsi128_si32(low_a);
	memcpy(out_a, &packed, CHANNELS);
	packed = (uint32_t) _mm_cvtsi128_si32(_mm_srli_si128(low_a, 4));
	memcpy(out_b, &packed, CHANNELS);
}

/* Two rows of the column pass; b may be a. */
static void
columns_two_rows(const Kernel *k, const uint8_t *a, const uint8_t *b, int in_w, uint8_t *out_a,
				 uint8_t *out_b)
{
	for (int i = 0; i < k->n; i++, out_a += CHANNELS, out_b += CHANNELS)
	{
		size_t at = (size_t) k->first[i] * CHANNELS;
		int pairs = (k->count[i] + 1) / 2;

		/* the last load must end inside the row */
		if (k->first[i] + 2 * pairs + 1 <= in_w)
			column_two_rows(a + at, b + at, k->split + (size_t) i * (size_t) k->taps * 2,
							k->count[i], out_a, out_b);
		else
		{
			const int32_t *coef = k->coef + (size_t) i * (size_t) k->taps;

			column_plain(a + at, coef, k->count[i], out_a);
			column_plain(b + at, coef, k->count[i], out_b);
		}
	}
}

/* 16 bytes of one output row from rows that lie stride apart. */
static inline void
rows_16(const uint8_t *in, size_t stride, const int16_t *split, int count, uint8_t *out)
{
	__m128i zero = _mm_setzero_si128();
	__m128i low[4] = {zero, zero, zero, zero};
	__m128i high[4] = {zero, zero, zero, zero};

	for (int t = 0; t < count; t += 2, split += 4, in += 2 * stride)
	{
		__m128i k = _mm_loadl_epi64((const __m128i *) split);
		__m128i k_low = _mm_shuffle_epi32(k, 0x00);
		__m128i k_high = _mm_shuffle_epi32(k, 0x55);
		__m128i a = _mm_loadu_si128((const __m128i *) in);
		/* behind an odd last tap the coefficient is 0 and the row need not exist */
		__m128i b = t + 1 < count ? _mm_loadu_si128((const __m128i *) (in + stride)) : zero;
		__m128i ab[2] = {_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)};

		for (int i = 0; i < 4; i++)
		{
			__m128i p = i % 2 == 0 ? _mm_unpacklo_epi8(ab[i / 2], zero)
								   : _mm_unpackhi_epi8(ab[i / 2], zero);

			low[i] = _mm_add_epi32(low[i], _mm_madd_epi16(p, k_low));
			high[i] = _mm_add_epi32(high[i], _mm_madd_epi16(p, k_high));
		}
	}
	_mm_storeu_si128(
		(__m128i *) out,
		_mm_packus_epi16(
			_mm_packs_epi32(finish_sum(low[0], high[0]), finish_sum(low[1], high[1])),
			_mm_packs_epi32(finish_sum(low[2], high[2]), finish_sum(low[3], high[3]))));
}

#endif /* __SSE2__ */

/* in rows of in_w pixels to out rows of k->n pixels. */
static void
pass_columns(const Kernel *k, const uint8_t *in, int in_w, int rows, uint8_t *out)
{
	size_t in_stride = (size_t) in_w * CHANNELS;
	size_t out_stride = (size_t) k->n * CHANNELS;

	for (int y = 0; y < rows; y += 2)
	{
		const uint8_t *a = in + (size_t) y * in_stride;
		uint8_t *out_a = out + (size_t) y * out_stride;
		bool two = y + 1 < rows;
		const uint8_t *b = two ? a + in_stride : a;
		uint8_t *out_b = two ? out_a + out_stride : out_a;

#ifdef __SSE2__
		columns_two_rows(k, a, b, in_w, out_a, out_b);
#else
		for (int i = 0; i < k->n; i++)
		{
			const int32_t *coef = k->coef + (size_t) i * (size_t) k->taps;
			size_t at = (size_t) k->first[i] * CHANNELS;

			column_plain(a + at, coef, k->count[i], out_a + (size_t) i * CHANNELS);
			column_plain(b + at, coef, k->count[i], out_b + (size_t) i * CHANNELS);
		}
#endif
	}
}

/* Output rows y0 to y1; in starts at input row first_row, rows are width pixels. */
static void
pass_rows(const Kernel *k, const uint8_t *in, int first_row, int width, int y0, int y1,
		  uint8_t *out)
{
	size_t stride = (size_t) width * CHANNELS;

	for (int y = y0; y < y1; y++)
	{
		const uint8_t *top = in + (size_t) (k->first[y] - first_row) * stride;
		const int32_t *coef = k->coef + (size_t) y * (size_t) k->taps;
		uint8_t *row = out + (size_t) y * stride;
		size_t x = 0;

#ifdef __SSE2__
		const int16_t *split = k->split + (size_t) y * (size_t) k->taps * 2;

		for (; x + 16 <= stride; x += 16)
			rows_16(top + x, stride, split, k->count[y], row + x);
#endif
		for (; x < stride; x++)
		{
			uint32_t sum = HALF;

			for (int t = 0; t < k->count[y]; t++)
				sum += (uint32_t) coef[t] * top[(size_t) t * stride + x];
			row[x] = clip8((int32_t) sum);
		}
	}
}

/* Input rows that output rows y0 to y1 read: [*first, *end). */
static void
rows_read(const Kernel *rows, int y0, int y1, int *first, int *end)
{
	*first = rows->first[y0];
	*end = rows->first[y1 - 1] + rows->count[y1 - 1];
}

/*
 * Both passes, a band of output rows at a time: the rows between the passes
 * stay in a window that moves down the picture, so that a tall and narrow
 * input does not become a wide one in memory.
 */
static bool
both_passes(const Kernel *columns, const Kernel *rows, const uint8_t *rgb, int in_w, uint8_t *out,
			DsocrError *err)
{
	size_t in_stride = (size_t) in_w * CHANNELS;
	size_t stride = (size_t) columns->n * CHANNELS;
	int window = 0;
	int have_first = 0; /* rows now in the window */
	int have_end = 0;
	uint8_t *middle;

	for (int y = 0; y < rows->n; y += BAND)
	{
		int first;
		int end;

		rows_read(rows, y, y + BAND < rows->n ? y + BAND : rows->n, &first, &end);
		window = end - first > window ? end - first : window;
	}
	middle = dsocr_alloc((size_t) window, stride, err);
	if (middle == NULL)
		return false;
	for (int y = 0; y < rows->n; y += BAND)
	{
		int y1 = y + BAND < rows->n ? y + BAND : rows->n;
		int first;
		int end;

		rows_read(rows, y, y1, &first, &end);
		if (have_end > first)
			memmove(middle, middle + (size_t) (first - have_first) * stride,
					(size_t) (have_end - first) * stride);
		else
			have_end = first;
		have_first = first;
		if (end > have_end)
			pass_columns(columns, rgb + (size_t) have_end * in_stride, in_w, end - have_end,
						 middle + (size_t) (have_end - first) * stride);
		have_end = end;
		pass_rows(rows, middle, first, columns->n, y, y1, out);
	}
	dsocr_free(middle);
	return true;
}

static bool
resize_into(const uint8_t *rgb, int in_w, int in_h, int width, int height, uint8_t *out,
			DsocrError *err)
{
	Kernel columns = {0};
	Kernel rows = {0};
	bool ok = true;

	if (width != in_w)
		ok = kernel_make(in_w, width, &columns, err);
	if (ok && height != in_h)
		ok = kernel_make(in_h, height, &rows, err);
	if (ok)
	{
		if (width != in_w && height != in_h)
			ok = both_passes(&columns, &rows, rgb, in_w, out, err);
		else if (width != in_w)
			pass_columns(&columns, rgb, in_w, in_h, out);
		else if (height != in_h)
			pass_rows(&rows, rgb, 0, width, 0, height, out);
		else
			memcpy(out, rgb, (size_t) width * (size_t) height * CHANNELS);
	}
	kernel_free(&columns);
	kernel_free(&rows);
	return ok;
}

bool
dsocr_resize_bicubic(const uint8_t *rgb, int in_w, int in_h, int width, int height, uint8_t **out,
					 DsocrError *err)
{
	size_t cells;

	*out = NULL;
	if (in_w < 1 || in_h < 1 || width < 1 || height < 1)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "image sizes must be at least 1 x 1");
	if (!dsocr_mul((size_t) width, (size_t) height, &cells) || cells > PTRDIFF_MAX / CHANNELS)
		return dsocr_fail(err, DSOCR_E_MEMORY, "image is too large");
	*out = dsocr_alloc(cells, CHANNELS, err);
	if (*out == NULL)
		return false;
	if (!resize_into(rgb, in_w, in_h, width, height, *out, err))
	{
		dsocr_free(*out);
		*out = NULL;
		return false;
	}
	return true;
}
