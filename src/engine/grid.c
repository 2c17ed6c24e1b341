/*-------------------------------------------------------------------------
 *
 * grid.c
 *		Which tiles a picture is cut into, and what the views cost in tokens.
 *
 * Follows dynamic_preprocess and infer of the official code.  There the
 * candidate grids are a Python set sorted by area alone, so that grids of the
 * same area keep the order of CPython's hash table; it decides exact ties,
 * and is therefore rebuilt here.
 *
 *-------------------------------------------------------------------------
 */
#include "preprocess.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#define MIN_TILES 2
#define PATCH 16	  /* pixels */
#define DOWNSAMPLE 4  /* patches to tokens, a side */
#define CROP_FROM 640 /* pictures up to this size are never cut, in any mode */
#define MAX_VIEW_SIDE 4096

/* A table of 1024 keeps DSOCR_MAX_VIEWS - 1 tiles (283 grids) below CPython's load limit. */
#define MAX_SLOTS 1024

typedef struct Grid
{
	uint8_t columns; /* 0 = free slot */
	uint8_t rows;
} Grid;

typedef struct GridSet
{
	Grid slot[MAX_SLOTS];
	size_t mask;
	size_t used;
} GridSet;

/* hash((columns, rows)): CPython 3.8 and later, an xxHash of two small integers. */
static uint64_t
grid_hash(Grid g)
{
	static const uint64_t p1 = 11400714785074694791ULL;
	static const uint64_t p2 = 14029467366897019727ULL;
	static const uint64_t p5 = 2870177450012600261ULL;
	uint64_t lanes[2] = {g.columns, g.rows};
	uint64_t acc = p5;

	for (int i = 0; i < 2; i++)
	{
		acc += lanes[i] * p2;
		acc = acc << 31 | acc >> 33;
		acc *= p1;
	}
	return acc + (2 ^ (p5 ^ 3527539UL));
}

/* Where set_add_entry puts a new entry: short runs of neighbours, then a jump. */
static void
set_place(GridSet *set, Grid g)
{
	const size_t neighbours = 9;
	uint64_t hash = grid_hash(g);
	uint64_t perturb = hash;
	size_t i = (size_t) hash & set->mask;

	for (;;)
	{
		size_t run = i + neighbours <= set->mask ? neighbours : 0;

		for (size_t n = 0; n <= run; n++)
			if (set->slot[i + n].columns == 0)
			{
				set->slot[i + n] = g;
				return;
			}
		perturb >>= 5;
		i = (size_t) (i * 5 + 1 + perturb) & set->mask;
	}
}

static void
set_add(GridSet *set, Grid g)
{
	GridSet old;
	size_t size = 8;

	set_place(set, g);
	set->used++;
	if (set->used * 5 < set->mask * 3)
		return;
	/* four times the entries, rounded up to a power of two */
	while (size <= set->used * 4)
		size *= 2;
	old = *set;
	memset(set->slot, 0, sizeof(set->slot));
	set->mask = size - 1;
	for (size_t i = 0; i <= old.mask; i++)
		if (old.slot[i].columns != 0)
			set_place(set, old.slot[i]);
}

/* Grids of MIN_TILES to max_tiles tiles in the order the official code visits them. */
static int
candidates(int max_tiles, Grid *out)
{
	GridSet set = {.mask = 7};
	int n = 0;

	/* the official loop repeats smaller grids for each limit; only new ones matter */
	for (int limit = MIN_TILES; limit <= max_tiles; limit++)
		for (int i = 1; i <= limit; i++)
			for (int j = 1; j <= limit; j++)
			{
				bool is_new = limit == MIN_TILES || i == limit || j == limit;

				if (is_new && i * j >= MIN_TILES && i * j <= max_tiles)
					set_add(&set, (Grid){.columns = (uint8_t) i, .rows = (uint8_t) j});
			}
	for (int area = MIN_TILES; area <= max_tiles; area++)
		for (size_t s = 0; s <= set.mask; s++)
			if (set.slot[s].columns * set.slot[s].rows == area)
				out[n++] = set.slot[s];
	return n;
}

void
dsocr_choose_grid(int width, int height, int tile, int max_tiles, int *columns, int *rows)
{
	Grid grid[MAX_SLOTS];
	double ratio = (double) width / height;
	double area = (double) width * height;
	double best = INFINITY;
	int n;

	*columns = 1;
	*rows = 1;
	if (max_tiles > DSOCR_MAX_VIEWS - 1)
		max_tiles = DSOCR_MAX_VIEWS - 1;
	n = candidates(max_tiles, grid);
	for (int i = 0; i < n; i++)
	{
		double diff = fabs(ratio - (double) grid[i].columns / grid[i].rows);

		if (diff < best ||
			(diff == best && area > 0.5 * tile * tile * grid[i].columns * grid[i].rows))
		{
			best = diff;
			*columns = grid[i].columns;
			*rows = grid[i].rows;
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
