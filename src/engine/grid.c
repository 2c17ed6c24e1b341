/*-------------------------------------------------------------------------
 *
 * grid.c
 *		Which tiles a picture is cut into, and what the views cost in tokens.
 *
 * Follows dynamic_preprocess and infer of the official code.  There the
 * candidate grids are a Python set sorted by area, which leaves the order
 * inside one area to CPython's hash table.  It does not matter: where two
 * grids of one area are equally near, a third is nearer.  The exception is
 * 1 x 2 against 2 x 1 with at most 3 tiles; CPython visits 1 x 2 first, and
 * so does a loop over columns.
 *
 *-------------------------------------------------------------------------
 */
#include "preprocess.h"

#include <math.h>

#define MIN_TILES 2
#define PATCH 16	  /* pixels */
#define DOWNSAMPLE 4  /* patches to tokens, a side */
#define CROP_FROM 640 /* pictures up to this size are never cut, in any mode */
#define MAX_VIEW_SIDE 4096

void
dsocr_choose_grid(int width, int height, int tile, int max_tiles, int *columns, int *rows)
{
	double ratio = (double) width / height;
	double area = (double) width * height;
	double best = INFINITY;

	*columns = 1;
	*rows = 1;
	for (int n = MIN_TILES; n <= max_tiles && n < DSOCR_MAX_VIEWS; n++)
		for (int i = 1; i <= n; i++)
		{
			int j = n / i;
			double diff = fabs(ratio - (double) i / j);

			if (i * j != n)
				continue;
			if (diff < best || (diff == best && area > 0.5 * tile * tile * n))
			{
				best = diff;
				*columns = i;
				*rows = j;
			}
		}
}

DsocrViewSpec
dsocr_mode_spec(DsocrMode mode)
{
	static const DsocrViewSpec specs[DSOCR_N_MODES] = {
		[DSOCR_MODE_TINY] = {.base_size = 512, .image_size = 512, .max_tiles = 9},
		[DSOCR_MODE_SMALL] = {.base_size = 640, .image_size = 640, .max_tiles = 9},
		[DSOCR_MODE_BASE] = {.base_size = 1024, .image_size = 1024, .max_tiles = 9},
		[DSOCR_MODE_LARGE] = {.base_size = 1280, .image_size = 1280, .max_tiles = 9},
		[DSOCR_MODE_GUNDAM] = {.base_size = 1024, .image_size = 640, .crop = true, .max_tiles = 9},
		[DSOCR_MODE_GUNDAM_M] = {.base_size = 1280,
								 .image_size = 1024,
								 .crop = true,
								 .max_tiles = 9},
	};

	if ((int) mode < 0 || (int) mode >= DSOCR_N_MODES || specs[mode].base_size == 0)
		return specs[DSOCR_MODE_GUNDAM];
	return specs[mode];
}

/* Tokens of one side of a view. */
static int
side_tokens(int size)
{
	return (size / PATCH + DOWNSAMPLE - 1) / DOWNSAMPLE;
}

/* Tokens of the global view that are not padding, and of the tiles, as infer counts. */
static int
valid_tokens(const DsocrPlan *plan, int tiles)
{
	int valid = 0;

	if (plan->global_size == 1024)
		valid = (int) (256 * plan->ratio);
	else if (plan->global_size == 1280)
		valid = (int) (400 * plan->ratio);
	else if (!plan->spec.crop && plan->global_size == 640)
		valid = 100;
	else if (!plan->spec.crop && plan->global_size == 512)
		valid = 64;
	return valid + tiles * side_tokens(plan->tile_size) * side_tokens(plan->tile_size);
}

static bool
check_spec(const DsocrViewSpec *spec, DsocrError *err)
{
	if (spec->image_size < PATCH || spec->image_size > MAX_VIEW_SIDE || spec->base_size < PATCH ||
		spec->base_size > MAX_VIEW_SIDE)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "view size must be between %d and %d pixels",
						  PATCH, MAX_VIEW_SIDE);
	if (spec->crop && (spec->max_tiles < MIN_TILES || spec->max_tiles > DSOCR_MAX_VIEWS - 1))
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "number of tiles must be between %d and %d",
						  MIN_TILES, DSOCR_MAX_VIEWS - 1);
	return true;
}

bool
dsocr_plan(int width, int height, const DsocrViewSpec *spec, DsocrPlan *plan, DsocrError *err)
{
	int longer = width > height ? width : height;
	int shorter = width > height ? height : width;
	int tiles = 0;
	int side;

	if (width < 1 || height < 1)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "image size must be at least 1 x 1 pixels");
	if (!check_spec(spec, err))
		return false;
	*plan = (DsocrPlan){.spec = *spec, .columns = 1, .rows = 1};
	plan->global_size = spec->crop || spec->vllm ? spec->base_size : spec->image_size;
	if (spec->crop && (width > CROP_FROM || height > CROP_FROM))
	{
		dsocr_choose_grid(width, height, spec->image_size, spec->max_tiles, &plan->columns,
						  &plan->rows);
		plan->tile_size = spec->image_size;
		tiles = plan->columns * plan->rows;
	}
	plan->views = tiles + 1;
	plan->ratio = 1 - (double) (longer - shorter) / longer;
	side = side_tokens(plan->global_size);
	plan->image_tokens = side * (side + 1) + 1;
	if (tiles > 0)
	{
		side = side_tokens(plan->tile_size);
		plan->image_tokens += side * plan->rows * (side * plan->columns + 1);
	}
	plan->valid_image_tokens = valid_tokens(plan, tiles);
	return true;
}
