/*-------------------------------------------------------------------------
 *
 * orient.c
 *		Turning pages, straightening them, and finding the way back for boxes.
 *
 * A straightened page is the turned one rotated about its centre, on a canvas
 * that holds it whole.  Coordinates are those of edges between pixels: pixel
 * 0 reaches from 0 to 1.
 *
 *-------------------------------------------------------------------------
 */
#include "orient.h"

#include <math.h>
#include <string.h>

#include "image_format.h"

#define CHANNELS 3

/* Positions between two pixels, and what weights of their neighbours sum up to. */
#define PHASE_BITS 8
#define PHASES (1 << PHASE_BITS)
#define WEIGHT_BITS 14

/* Four neighbours a direction up to this size, two in larger ones, which shrink anyway. */
#define FINE_PIXELS 12000000

/* Pixels of the border that its colour is taken from, at most. */
#define BORDER_SAMPLES 4096

/* Rows between two polls. */
#define POLL_ROWS 32

static void
swap_for_quarter(const DsocrOrientation *o, int width, int height, int *w, int *h)
{
	bool swap = o->rotation == 90 || o->rotation == 270;

	*w = swap ? height : width;
	*h = swap ? width : height;
}

void
dsocr_orient_size(const DsocrOrientation *o, int width, int height, int *upright_width,
				  int *upright_height)
{
	double a = fabs((double) o->skew) * M_PI / 180;
	int w;
	int h;

	swap_for_quarter(o, width, height, &w, &h);
	*upright_width = w;
	*upright_height = h;
	if (o->skew == 0)
		return;
	*upright_width = (int) ceil(w * cos(a) + h * sin(a) - 1e-6);
	*upright_height = (int) ceil(h * cos(a) + w * sin(a) - 1e-6);
}

/* ---- the way back ---- */

/* A point of the upright page in the page before it was straightened. */
static void
unskew(const DsocrOrientation *o, int w, int h, int upright_w, int upright_h, double *x, double *y)
{
	double a = (double) o->skew * M_PI / 180;
	double dx = *x - upright_w / 2.0;
	double dy = *y - upright_h / 2.0;

	/* y points down, so that this is counterclockwise for the eye */
	*x = w / 2.0 + dx * cos(a) + dy * sin(a);
	*y = h / 2.0 - dx * sin(a) + dy * cos(a);
}

/* A point of the turned page in the stored one of width x height. */
static void
unturn(const DsocrOrientation *o, int width, int height, double *x, double *y)
{
	double tx = *x;
	double ty = *y;

	switch (o->rotation)
	{
		case 90:
			*x = ty;
			*y = height - tx;
			break;
		case 180:
			*x = width - tx;
			*y = height - ty;
			break;
		case 270:
			*x = width - ty;
			*y = tx;
			break;
	}
}

static int32_t
clamp(double v, int size)
{
	return v < 0 ? 0 : v > size ? size : (int32_t) v;
}

void
dsocr_orient_unmap_box(const DsocrOrientation *o, int width, int height, int32_t box[4])
{
	double x1 = INFINITY;
	double y1 = INFINITY;
	double x2 = -INFINITY;
	double y2 = -INFINITY;
	int w;
	int h;
	int upright_w;
	int upright_h;

	if (o->rotation == 0 && o->skew == 0)
		return;
	swap_for_quarter(o, width, height, &w, &h);
	dsocr_orient_size(o, width, height, &upright_w, &upright_h);
	for (int corner = 0; corner < 4; corner++)
	{
		double x = box[corner % 2 == 0 ? 0 : 2];
		double y = box[corner / 2 == 0 ? 1 : 3];

		if (o->skew != 0)
			unskew(o, w, h, upright_w, upright_h, &x, &y);
		unturn(o, width, height, &x, &y);
		x1 = fmin(x1, x);
		y1 = fmin(y1, y);
		x2 = fmax(x2, x);
		y2 = fmax(y2, y);
	}
	/* whole pixels that are touched; what rounding adds is none */
	box[0] = clamp(floor(x1 + 1e-6), width);
	box[1] = clamp(floor(y1 + 1e-6), height);
	box[2] = clamp(ceil(x2 - 1e-6), width);
	box[3] = clamp(ceil(y2 - 1e-6), height);
}

/* ---- straightening ---- */

typedef struct Canvas
{
	const uint8_t *in;
	int w;
	int h;
	uint8_t *out;
	int out_w;
	int out_h;
	int taps;				   /* neighbours in each direction: 2 or 4 */
	int16_t weight[PHASES][4]; /* of neighbours -1 .. 2, or 0 and 1 */
	uint8_t border[CHANNELS];
} Canvas;

/* Bicubic with a = -0.5, as everywhere else here, or linear. */
static double
kernel(double x, int taps)
{
	x = fabs(x);
	if (taps == 2)
		return x < 1 ? 1 - x : 0;
	if (x < 1)
		return (1.5 * x - 2.5) * x * x + 1;
	return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

static void
make_weights(Canvas *c)
{
	int first = c->taps == 4 ? -1 : 0;

	for (int p = 0; p < PHASES; p++)
	{
		int rest = 1 << WEIGHT_BITS;

		for (int i = 0; i < c->taps; i++)
		{
			double at = (double) p / PHASES - (first + i);

			c->weight[p][i] = (int16_t) lrint(kernel(at, c->taps) * (1 << WEIGHT_BITS));
			rest -= c->weight[p][i];
		}
		/* plain areas must stay as they are */
		c->weight[p][p < PHASES / 2 ? -first : 1 - first] += (int16_t) rest;
	}
}

/* The median of each channel along the four edges: paper, rarely text. */
static void
find_border(Canvas *c)
{
	uint32_t count[CHANNELS][256] = {{0}};
	size_t around = 2 * ((size_t) c->w + (size_t) c->h);
	size_t step = around / BORDER_SAMPLES + 1;
	uint32_t n = 0;

	for (size_t i = 0; i < around; i += step, n++)
	{
		size_t w = (size_t) c->w;
		size_t h = (size_t) c->h;
		size_t x = i < 2 * w ? i % w : i < 2 * w + h ? 0 : w - 1;
		size_t y = i >= 2 * w ? (i - 2 * w) % h : i < w ? 0 : h - 1;

		for (int k = 0; k < CHANNELS; k++)
			count[k][c->in[(y * w + x) * CHANNELS + (size_t) k]]++;
	}
	for (int k = 0; k < CHANNELS; k++)
	{
		uint32_t sum = 0;
		int v = 0;

		while ((sum += count[k][v]) * 2 < n)
			v++;
		c->border[k] = (uint8_t) v;
	}
}

static uint8_t
clip8(int32_t v)
{
	v = (v + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS;
	return (uint8_t) (v < 0 ? 0 : v > 255 ? 255 : v);
}

/* Neighbours that lie beyond the edge have the colour of the border. */
static const uint8_t *
neighbour(const Canvas *c, int x, int y)
{
	if (x < 0 || y < 0 || x >= c->w || y >= c->h)
		return c->border;
	return c->in + ((size_t) y * (size_t) c->w + (size_t) x) * CHANNELS;
}

/* One pixel, its place in the input given in units of 1 / PHASES. */
static inline void
mix(const Canvas *c, int64_t fx, int64_t fy, int taps, uint8_t *out)
{
	int first = taps == 4 ? -1 : 0;
	int x = (int) (fx >> PHASE_BITS) + first;
	int y = (int) (fy >> PHASE_BITS) + first;
	const int16_t *wx = c->weight[fx & (PHASES - 1)];
	const int16_t *wy = c->weight[fy & (PHASES - 1)];
	bool inside = x >= 0 && y >= 0 && x + taps <= c->w && y + taps <= c->h;
	int64_t sum[CHANNELS] = {0};

	for (int j = 0; j < taps; j++)
	{
		const uint8_t *row =
			inside ? c->in + ((size_t) (y + j) * (size_t) c->w + (size_t) x) * CHANNELS : NULL;
		int32_t line[CHANNELS] = {0};

		for (int i = 0; i < taps; i++)
		{
			const uint8_t *p = inside ? row + i * CHANNELS : neighbour(c, x + i, y + j);

			for (int k = 0; k < CHANNELS; k++)
				line[k] += wx[i] * p[k];
		}
		for (int k = 0; k < CHANNELS; k++)
			sum[k] += (int64_t) line[k] * wy[j];
	}
	for (int k = 0; k < CHANNELS; k++)
		out[k] = clip8((int32_t) (sum[k] >> WEIGHT_BITS));
}

static bool
fill_canvas(const Canvas *c, const DsocrOrientation *o, const DsocrPoll *poll, DsocrError *err)
{
	double a = (double) o->skew * M_PI / 180;
	int shift = 32 - PHASE_BITS;
	double unit = 4294967296.0; /* 2^32: the error of a whole row stays below a phase */
	int64_t step_x = llrint(cos(a) * unit);
	int64_t step_y = llrint(-sin(a) * unit);
	int64_t half = (int64_t) 1 << (shift - 1);

	for (int y = 0; y < c->out_h; y++)
	{
		uint8_t *out = c->out + (size_t) y * (size_t) c->out_w * CHANNELS;
		double px = 0.5;
		double py = y + 0.5;
		int64_t fx;
		int64_t fy;

		if (y % POLL_ROWS == 0 && !dsocr_image_go_on(poll, err))
			return false;
		unskew(o, c->w, c->h, c->out_w, c->out_h, &px, &py);
		fx = llrint((px - 0.5) * unit) + half;
		fy = llrint((py - 0.5) * unit) + half;
		for (int x = 0; x < c->out_w; x++, out += CHANNELS, fx += step_x, fy += step_y)
		{
			if (c->taps == 4)
				mix(c, fx >> shift, fy >> shift, 4, out);
			else
				mix(c, fx >> shift, fy >> shift, 2, out);
		}
	}
	return true;
}

static bool
straighten(DsocrImage *image, const DsocrOrientation *o, const DsocrPoll *poll, DsocrError *err)
{
	DsocrOrientation small = {.skew = o->skew};
	Canvas *c = dsocr_zalloc(1, sizeof(*c), err);
	size_t pixels = 0;
	bool ok = c != NULL;

	if (!ok)
		return false;
	c->in = image->rgb;
	c->w = image->width;
	c->h = image->height;
	dsocr_orient_size(&small, c->w, c->h, &c->out_w, &c->out_h);
	c->taps = (uint64_t) c->w * (uint64_t) c->h <= FINE_PIXELS ? 4 : 2;
	if (!dsocr_mul((size_t) c->out_w, (size_t) c->out_h, &pixels))
		ok = dsocr_fail(err, DSOCR_E_MEMORY, "image is too large");
	ok = ok && (c->out = dsocr_alloc(pixels, CHANNELS, err)) != NULL;
	if (ok)
	{
		make_weights(c);
		find_border(c);
		ok = fill_canvas(c, &small, poll, err);
	}
	if (ok)
	{
		dsocr_free(image->rgb);
		*image = (DsocrImage){.width = c->out_w, .height = c->out_h, .rgb = c->out};
	}
	else
		dsocr_free(c->out);
	dsocr_free(c);
	return ok;
}

bool
dsocr_orient_apply(DsocrImage *image, const DsocrOrientation *o, const DsocrPoll *poll,
				   DsocrError *err)
{
	/* the turns as EXIF counts them */
	int tag = o->rotation == 90 ? 6 : o->rotation == 180 ? 3 : o->rotation == 270 ? 8 : 1;

	if (tag > 1 && !dsocr_image_turn(image, tag, poll, err))
		return false;
	return o->skew == 0 || straighten(image, o, poll, err);
}
