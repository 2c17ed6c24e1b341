/*-------------------------------------------------------------------------
 *
 * preprocess.h
 *		From a picture to the views the encoder sees, bit-exact to Pillow.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PREPROCESS_H
#define DSOCR_PREPROCESS_H

#include "image.h"
#include "request.h"

#define DSOCR_MAX_VIEWS 64

/* What a mode does with an image of a given size: the price before paying it. */
typedef struct DsocrPlan
{
	DsocrViewSpec spec;
	int columns; /* tile grid; 1 x 1 means no tiles */
	int rows;
	int tile_size;	 /* pixels; 0 without tiles */
	int global_size; /* pixels of the global (or only) view */
	int views;		 /* tiles + 1 */
	int image_tokens;
	int valid_image_tokens;
	double ratio; /* official share of the view that is not padding */
} DsocrPlan;

/* The official numbers of a mode (not AUTO, not CUSTOM). */
extern DsocrViewSpec dsocr_mode_spec(DsocrMode mode);

/* Grid and token counts of an image of width x height.  Errors: DSOCR_E_ARGUMENT. */
extern bool dsocr_plan(int width, int height, const DsocrViewSpec *spec, DsocrPlan *plan,
					   DsocrError *err);

/* Tile grid for an image, official tie rules; min 2 tiles. */
extern void dsocr_choose_grid(int width, int height, int tile, int max_tiles, int *columns,
							  int *rows);

/* Pillow's Image.resize with BICUBIC. out is width * height * 3 bytes, allocated here. */
extern bool dsocr_resize_bicubic(const uint8_t *rgb, int in_w, int in_h, int width, int height,
								 uint8_t **out, DsocrError *err);

/* ImageOps.contain size and ImageOps.pad offset for a target of size x size. */
extern void dsocr_contain(int width, int height, int size, int *w, int *h, int *x, int *y);

/*
 * All views of an image: plan->views buffers of side * side * 3 bytes, tiles
 * row by row first, then the global view.  Freed with dsocr_views_free.
 */
typedef struct DsocrViews
{
	int n;
	int size[DSOCR_MAX_VIEWS]; /* side in pixels */
	uint8_t *rgb[DSOCR_MAX_VIEWS];
} DsocrViews;

extern bool dsocr_views_make(const DsocrImage *image, const DsocrPlan *plan, DsocrViews *views,
							 DsocrError *err);
extern void dsocr_views_free(DsocrViews *views);

/*
 * Position tables for another grid, computed in fp32 as torch does.
 * SAM and CLIP: bicubic, antialias, align_corners off; in [side, side, dim] to
 * out [new_side, new_side, dim].  Relative positions: linear, no antialias;
 * in [length, dim] to out [new_length, dim].
 */
extern bool dsocr_resize_positions(const float *in, int side, int dim, int new_side, float *out,
								   DsocrError *err);
extern void dsocr_resize_relative(const float *in, int length, int dim, int new_length, float *out);

#endif /* DSOCR_PREPROCESS_H */
