/*-------------------------------------------------------------------------
 *
 * preprocess.c
 *		From a picture to the views the encoder sees.
 *
 * ImageOps.contain and ImageOps.pad of Pillow, and the cutting into tiles.
 *
 *-------------------------------------------------------------------------
 */
#include "preprocess.h"

#include <math.h>
#include <string.h>

#define CHANNELS 3
#define PAD_VALUE 127	 /* int(0.5 * 255), the mean of the normalisation */
#define SQUASH_UP_TO 640 /* views without tiles up to this size lose the aspect ratio */

/* Python's round(): half to even, which is how rint works by default. */
static int
round_side(double v)
{
	int side = (int) rint(v);

	return side < 1 ? 1 : side; /* Pillow gives up on a side of 0 */
}

void
dsocr_contain(int width, int height, int size, int *w, int *h, int *x, int *y)
{
	double ratio = (double) width / height;

	*w = size;
	*h = size;
	if (ratio > 1.0)
		*h = round_side((double) height / width * size);
	else if (ratio < 1.0)
		*w = round_side((double) width / height * size);
	*x = (int) rint((size - *w) * 0.5);
	*y = (int) rint((size - *h) * 0.5);
}

static uint8_t *
squash(const uint8_t *rgb, int in_w, int in_h, int size, DsocrError *err)
{
	uint8_t *out;

	return dsocr_resize_bicubic(rgb, in_w, in_h, size, size, &out, err) ? out : NULL;
}

static uint8_t *
pad(const uint8_t *rgb, int in_w, int in_h, int size, DsocrError *err)
{
	size_t stride = (size_t) size * CHANNELS;
	uint8_t *inner;
	uint8_t *out;
	int w;
	int h;
	int x;
	int y;

	dsocr_contain(in_w, in_h, size, &w, &h, &x, &y);
	if (!dsocr_resize_bicubic(rgb, in_w, in_h, w, h, &inner, err))
		return NULL;
	if (w == size && h == size)
		return inner;
	out = dsocr_alloc((size_t) size, stride, err);
	if (out != NULL)
	{
		memset(out, PAD_VALUE, (size_t) size * stride);
		for (int i = 0; i < h; i++)
			memcpy(out + (size_t) (y + i) * stride + (size_t) x * CHANNELS,
				   inner + (size_t) i * (size_t) w * CHANNELS, (size_t) w * CHANNELS);
	}
	dsocr_free(inner);
	return out;
}

/* Squash to the size of the grid and cut row by row. */
static bool
make_tiles(const DsocrImage *image, const DsocrPlan *plan, DsocrViews *views, DsocrError *err)
{
	size_t side = (size_t) plan->tile_size;
	size_t stride = (size_t) plan->columns * side * CHANNELS;
	uint8_t *all;

	if (!dsocr_resize_bicubic(image->rgb, image->width, image->height,
							  plan->columns * plan->tile_size, plan->rows * plan->tile_size, &all,
							  err))
		return false;
	for (int t = 0; t < plan->columns * plan->rows; t++)
	{
		size_t row = (size_t) (t / plan->columns);
		size_t column = (size_t) (t % plan->columns);
		const uint8_t *from = all + row * side * stride + column * side * CHANNELS;
		uint8_t *to = dsocr_alloc(side * side, CHANNELS, err);

		if (to == NULL)
			break;
		for (size_t y = 0; y < side; y++)
			memcpy(to + y * side * CHANNELS, from + y * stride, side * CHANNELS);
		views->size[views->n] = plan->tile_size;
		views->rgb[views->n++] = to;
	}
	dsocr_free(all);
	return views->n == plan->columns * plan->rows;
}

bool
dsocr_views_make(const DsocrImage *image, const DsocrPlan *plan, DsocrViews *views, DsocrError *err)
{
	int size = plan->global_size;
	uint8_t *view;

	views->n = 0;
	if (plan->views > DSOCR_MAX_VIEWS ||
		plan->views != (plan->views > 1 ? plan->columns * plan->rows + 1 : 1))
		return dsocr_fail(err, DSOCR_E_INTERNAL, "inconsistent view plan");
	if (plan->views > 1 && !make_tiles(image, plan, views, err))
	{
		dsocr_views_free(views);
		return false;
	}
	if (!plan->spec.crop && plan->spec.image_size <= SQUASH_UP_TO)
	{
		view = squash(image->rgb, image->width, image->height, plan->spec.image_size, err);
		if (view != NULL && size != plan->spec.image_size)
		{
			uint8_t *squashed = view;

			view = pad(squashed, plan->spec.image_size, plan->spec.image_size, size, err);
			dsocr_free(squashed);
		}
	}
	else
		view = pad(image->rgb, image->width, image->height, size, err);
	if (view == NULL)
	{
		dsocr_views_free(views);
		return false;
	}
	views->size[views->n] = size;
	views->rgb[views->n++] = view;
	return true;
}

void
dsocr_views_free(DsocrViews *views)
{
	for (int i = 0; i < views->n; i++)
		dsocr_free(views->rgb[i]);
	views->n = 0;
}
