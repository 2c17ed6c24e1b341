/*-------------------------------------------------------------------------
 *
 * check_preprocess.c
 *		Pictures, grids, views and position tables against reference data.
 *
 * Pixels must be equal bit for bit, so hashes are compared; only the position
 * tables have a tolerance.  preprocess/ looks for the pictures in ../images.
 *
 *-------------------------------------------------------------------------
 */
#include "check.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "preprocess.h"
#include "weights.h"

#define MAX_FILE_BYTES ((size_t) 1 << 28)
#define MAX_PATH 4096
#define POSITION_TOLERANCE 1e-5

static json_t *
load_json(DsocrCheck *c, const char *dir, const char *file)
{
	char path[MAX_PATH];
	json_error_t error;
	json_t *json;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	json = json_load_file(path, 0, &error);
	if (json == NULL)
		dsocr_check(c, false, path, "%s", error.text);
	return json;
}

static const char *
string_of(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s == NULL ? "" : s;
}

/* Item i of an array of integers; INT_MIN when there is none. */
static int
int_at(const json_t *array, size_t i)
{
	const json_t *value = json_array_get(array, i);

	return json_is_integer(value) ? (int) json_integer_value(value) : INT32_MIN;
}

static int
int_of(const json_t *object, const char *key)
{
	return (int) json_integer_value(json_object_get(object, key));
}

static bool
read_bytes(DsocrCheck *c, const char *dir, const char *file, DsocrBuffer *bytes)
{
	char path[MAX_PATH];
	DsocrError err = {0};

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return dsocr_read_file(path, MAX_FILE_BYTES, bytes, &err) ||
		   dsocr_check(c, false, path, "%s", err.message);
}

static bool
load_image(DsocrCheck *c, const char *dir, const char *file, DsocrImage *image)
{
	DsocrBuffer bytes = {0};
	DsocrError err = {0};
	bool ok;

	memset(image, 0, sizeof(*image));
	if (!read_bytes(c, dir, file, &bytes))
		return false;
	ok = dsocr_image_decode((const uint8_t *) bytes.data, bytes.len, 0, image, &err) ||
		 dsocr_check(c, false, file, "%s", err.message);
	dsocr_buffer_free(&bytes);
	return ok;
}

/* Size and hash of RGB pixels against the members size_key and sha_key. */
static void
check_pixels(DsocrCheck *c, const char *what, const uint8_t *rgb, int width, int height,
			 const json_t *expected, const char *size_key, const char *sha_key)
{
	const json_t *size = json_object_get(expected, size_key);
	char hex[65];

	dsocr_sha256_hex(rgb, (size_t) width * (size_t) height * 3, hex);
	dsocr_check(c,
				int_at(size, 0) == width && int_at(size, 1) == height &&
					strcmp(hex, string_of(expected, sha_key)) == 0,
				what, "%d x %d pixels with hash %s", width, height, hex);
}

void
dsocr_check_images(DsocrCheck *c, const char *dir)
{
	json_t *cases = load_json(c, dir, "images.json");
	size_t i;
	json_t *item;

	json_array_foreach (cases, i, item)
	{
		const char *file = string_of(item, "file");
		DsocrBuffer bytes = {0};
		DsocrImage image = {0};
		DsocrError err = {0};
		int width = 0;
		int height = 0;

		if (!read_bytes(c, dir, file, &bytes))
			continue;
		dsocr_check(
			c,
			dsocr_image_probe((const uint8_t *) bytes.data, bytes.len, 0, &width, &height, &err) &&
				int_at(json_object_get(item, "rgb_size"), 0) == width &&
				int_at(json_object_get(item, "rgb_size"), 1) == height,
			file, "probe: %d x %d %s", width, height, err.message);
		if (dsocr_image_decode((const uint8_t *) bytes.data, bytes.len, 0, &image, &err))
			check_pixels(c, file, image.rgb, image.width, image.height, item, "rgb_size",
						 "rgb_sha256");
		else
			dsocr_check(c, false, file, "%s", err.message);
		dsocr_image_free(&image);
		dsocr_buffer_free(&bytes);
	}
	json_decref(cases);
}

static void
check_grids(DsocrCheck *c, const char *dir)
{
	static const struct
	{
		const char *name;
		int tile;
		int max_tiles;
	} variants[] = {{"640, 9 tiles", 640, 9}, {"640, 6 tiles", 640, 6}, {"512, 9 tiles", 512, 9}};
	json_t *json = load_json(c, dir, "grid.json");
	json_t *row;
	size_t i;

	json_array_foreach (json_object_get(json, "rows"), i, row)
	{
		int width = int_at(row, 0);
		int height = int_at(row, 1);
		DsocrViewSpec spec = dsocr_mode_spec(DSOCR_MODE_GUNDAM);
		DsocrPlan plan;
		char what[64];

		snprintf(what, sizeof(what), "grid of %d x %d", width, height);
		for (int v = 0; v < 3; v++)
		{
			int columns;
			int rows;

			dsocr_choose_grid(width, height, variants[v].tile, variants[v].max_tiles, &columns,
							  &rows);
			dsocr_check(c,
						columns == int_at(row, 3 + 2 * (size_t) v) &&
							rows == int_at(row, 4 + 2 * (size_t) v),
						what, "%s: %d x %d", variants[v].name, columns, rows);
		}
		dsocr_check(c,
					dsocr_plan(width, height, &spec, &plan, NULL) &&
						(plan.views > 1) == (int_at(row, 2) != 0),
					what, "cut or not");
	}
	json_decref(json);
}

static void
check_contain(DsocrCheck *c, const char *dir)
{
	json_t *json = load_json(c, dir, "contain.json");
	json_t *row;
	size_t i;

	json_array_foreach (json_object_get(json, "rows"), i, row)
	{
		int want_w = int_at(row, 3);
		int want_h = int_at(row, 4);
		int w;
		int h;
		int x;
		int y;
		bool offsets = want_w != 0 && want_h != 0;
		char what[64];

		/* a side of 0 is an error in Pillow and 1 pixel here */
		want_w = want_w == 0 ? 1 : want_w;
		want_h = want_h == 0 ? 1 : want_h;
		dsocr_contain(int_at(row, 0), int_at(row, 1), int_at(row, 2), &w, &h, &x, &y);
		snprintf(what, sizeof(what), "%d x %d inside %d", int_at(row, 0), int_at(row, 1),
				 int_at(row, 2));
		dsocr_check(c,
					w == want_w && h == want_h &&
						(!offsets || (x == int_at(row, 5) && y == int_at(row, 6))),
					what, "%d x %d at %d, %d", w, h, x, y);
	}
	json_decref(json);
}

/* "solid image 1x2047, colour (9,8,7)" */
static bool
solid_image(const char *note, DsocrImage *image)
{
	int color[3];

	memset(image, 0, sizeof(*image));
	if (sscanf(note, "solid image %dx%d, colour (%d,%d,%d)", &image->width, &image->height,
			   &color[0], &color[1], &color[2]) != 5 ||
		image->width < 1 || image->height < 1)
		return false;
	image->rgb = dsocr_alloc((size_t) image->width * (size_t) image->height, 3, NULL);
	if (image->rgb == NULL)
		return false;
	for (size_t i = 0; i < (size_t) image->width * (size_t) image->height * 3; i++)
		image->rgb[i] = (uint8_t) color[i % 3];
	return true;
}

/* The global view of a cropping mode is what ImageOps.pad makes. */
static void
check_pad(DsocrCheck *c, const char *what, const DsocrImage *image, const json_t *item)
{
	int size = int_at(json_object_get(item, "size"), 0);
	DsocrViewSpec spec = {.base_size = size, .image_size = 16, .crop = true, .max_tiles = 2};
	DsocrViews views = {0};
	DsocrPlan plan;
	DsocrError err = {0};

	if (!dsocr_plan(image->width, image->height, &spec, &plan, &err) ||
		!dsocr_views_make(image, &plan, &views, &err))
		dsocr_check(c, false, what, "%s", err.message);
	else if (json_object_get(item, "official") != NULL)
		dsocr_check(c, views.n == plan.views, what, "a side of 0 pixels must become 1");
	else
		check_pixels(c, what, views.rgb[views.n - 1], size, size, item, "size", "sha256");
	dsocr_views_free(&views);
}

static void
check_resize(DsocrCheck *c, const char *dir)
{
	json_t *json = load_json(c, dir, "resize.json");
	char folder[MAX_PATH];
	json_t *item;
	size_t i;

	snprintf(folder, sizeof(folder), "%s/resize", dir);
	json_array_foreach (json_object_get(json, "cases"), i, item)
	{
		const json_t *size = json_object_get(item, "size");
		const char *input = json_string_value(json_object_get(item, "input"));
		const char *op = string_of(item, "op");
		DsocrImage image;
		DsocrError err = {0};
		uint8_t *out;
		char what[128];

		if (input == NULL)
			input = string_of(item, "note");
		snprintf(what, sizeof(what), "%s %s to %d x %d", op, input, int_at(size, 0),
				 int_at(size, 1));
		if (!solid_image(input, &image) && !load_image(c, folder, input, &image))
			continue;
		if (strcmp(op, "pad") == 0)
			check_pad(c, what, &image, item);
		else if (dsocr_resize_bicubic(image.rgb, image.width, image.height, int_at(size, 0),
									  int_at(size, 1), &out, &err))
		{
			check_pixels(c, what, out, int_at(size, 0), int_at(size, 1), item, "size", "sha256");
			dsocr_free(out);
		}
		else
			dsocr_check(c, false, what, "%s", err.message);
		dsocr_image_free(&image);
	}
	json_decref(json);
}

/* A PNG file with an eXIf chunk behind its header. */
static bool
add_orientation(const DsocrBuffer *png, int orientation, DsocrBuffer *out)
{
	const size_t header = 8 + 25;
	uint8_t chunk[] = {0,	 0, 0, 26, 'e', 'X', 'I', 'f', 'M', 'M', 0, '*', 0, 0, 0, 8, 0, 1, 1,
					   0x12, 0, 3, 0,  0,	0,	 1,	  0,   0,	0,	 0, 0,	 0, 0, 0, 0, 0, 0, 0};
	uint32_t crc;

	if (png->len < header)
		return false;
	chunk[27] = (uint8_t) orientation;
	crc = (uint32_t) crc32(0, chunk + 4, 4 + 26);
	for (int i = 0; i < 4; i++)
		chunk[34 + i] = (uint8_t) (crc >> (24 - 8 * i));
	return dsocr_buffer_append(out, png->data, header, NULL) &&
		   dsocr_buffer_append(out, chunk, sizeof(chunk), NULL) &&
		   dsocr_buffer_append(out, png->data + header, png->len - header, NULL);
}

static void
check_exif(DsocrCheck *c, const char *dir)
{
	json_t *json = load_json(c, dir, "resize.json");
	json_t *exif = json_object_get(json, "exif");
	DsocrBuffer base = {0};
	char folder[MAX_PATH];
	json_t *item;
	size_t i;

	snprintf(folder, sizeof(folder), "%s/resize", dir);
	if (!read_bytes(c, folder, string_of(exif, "input"), &base))
	{
		json_decref(json);
		return;
	}
	json_array_foreach (json_object_get(exif, "cases"), i, item)
	{
		int orientation = int_of(item, "orientation");
		DsocrBuffer bytes = {0};
		DsocrImage image = {0};
		DsocrError err = {0};
		char what[64];

		snprintf(what, sizeof(what), "EXIF orientation %d", orientation);
		if (add_orientation(&base, orientation, &bytes) &&
			dsocr_image_decode((const uint8_t *) bytes.data, bytes.len, 0, &image, &err))
			check_pixels(c, what, image.rgb, image.width, image.height, item, "size", "sha256");
		else
			dsocr_check(c, false, what, "%s", err.message);
		dsocr_image_free(&image);
		dsocr_buffer_free(&bytes);
	}
	dsocr_buffer_free(&base);
	json_decref(json);
}

/* Sum of the normalised pixels after rounding to bf16; exact in double. */
static double
pixel_sum(const uint8_t *rgb, int side)
{
	double sum = 0;

	for (size_t i = 0; i < (size_t) side * (size_t) side * 3; i++)
		sum += dsocr_bf16_to_f32(dsocr_f32_to_bf16(((float) rgb[i] / 255.0f - 0.5f) / 0.5f));
	return sum;
}

static void
check_case_views(DsocrCheck *c, const char *what, const DsocrImage *image, const json_t *item)
{
	DsocrViewSpec spec = {.base_size = int_of(item, "base_size"),
						  .image_size = int_of(item, "image_size"),
						  .crop = json_is_true(json_object_get(item, "crop_mode")),
						  .max_tiles = 9};
	const json_t *grid = json_object_get(item, "crop_grid");
	const json_t *expected = json_object_get(item, "views");
	double want_sum = json_number_value(json_object_get(item, "pixel_bf16_sum"));
	double sum;
	DsocrViews views = {0};
	DsocrPlan plan;
	DsocrError err = {0};

	if (!dsocr_plan(image->width, image->height, &spec, &plan, &err) ||
		!dsocr_views_make(image, &plan, &views, &err))
	{
		dsocr_check(c, false, what, "%s", err.message);
		return;
	}
	dsocr_check(c, int_at(grid, 0) == plan.columns && int_at(grid, 1) == plan.rows, what,
				"grid %d x %d", plan.columns, plan.rows);
	dsocr_check(c, plan.image_tokens == int_of(item, "num_image_tokens"), what, "%d image tokens",
				plan.image_tokens);
	dsocr_check(c, plan.valid_image_tokens == int_of(item, "valid_img_tokens"), what,
				"%d valid tokens", plan.valid_image_tokens);
	dsocr_check(c, plan.ratio == json_number_value(json_object_get(item, "ratio")), what,
				"ratio %.17g", plan.ratio);
	if (dsocr_check(c, (size_t) views.n == json_array_size(expected), what, "%d views", views.n))
		for (int i = 0; i < views.n; i++)
			check_pixels(c, what, views.rgb[i], views.size[i], views.size[i],
						 json_array_get(expected, (size_t) i), "size", "sha256");
	sum = pixel_sum(views.rgb[views.n - 1], views.size[views.n - 1]);
	dsocr_check(c, fabs(sum - want_sum) <= 1e-12 * fabs(want_sum), what, "pixel sum %.17g", sum);
	dsocr_views_free(&views);
}

static void
check_views(DsocrCheck *c, const char *dir)
{
	json_t *cases = load_json(c, dir, "views.json");
	char folder[MAX_PATH];
	json_t *item;
	size_t i;

	snprintf(folder, sizeof(folder), "%s/../images", dir);
	json_array_foreach (cases, i, item)
	{
		DsocrImage image;
		char what[128];

		snprintf(what, sizeof(what), "%s as %s", string_of(item, "image"), string_of(item, "mode"));
		if (load_image(c, folder, string_of(item, "image"), &image))
			check_case_views(c, what, &image, item);
		dsocr_image_free(&image);
	}
	json_decref(cases);
}

/* The largest difference to <name>.out, class token left out; NaN when it cannot be told. */
static double
position_error(const DsocrWeights *w, const json_t *item, bool relative)
{
	const char *name = string_of(item, "name");
	int dim = int_of(item, "dim");
	bool has_class = strcmp(string_of(item, "kind"), "get_abs_pos") == 0;
	int target = relative	 ? 2 * int_of(item, "q") - 1
				 : has_class ? (int) lrint(sqrt(int_of(item, "tokens") - 1))
							 : int_of(item, "tgt");
	size_t skip = has_class ? (size_t) dim : 0;
	int source = int_of(item, "src");
	size_t n_in = (size_t) source * (size_t) (relative ? 1 : source) * (size_t) dim;
	size_t n_out = (size_t) target * (size_t) (relative ? 1 : target) * (size_t) dim;
	const DsocrTensor *in;
	const DsocrTensor *want;
	float *values;
	float *out;
	double worst = NAN;
	char key[80];

	snprintf(key, sizeof(key), "%s.in", name);
	in = dsocr_weights_find(w, key);
	snprintf(key, sizeof(key), "%s.out", name);
	want = dsocr_weights_find(w, key);
	if (in == NULL || want == NULL || (size_t) in->count != n_in + skip ||
		(size_t) want->count != n_out + skip)
		return NAN;
	values = dsocr_alloc(n_in, sizeof(float), NULL);
	out = dsocr_alloc(n_out, sizeof(float), NULL);
	if (values != NULL && out != NULL)
	{
		for (size_t i = 0; i < n_in; i++)
			values[i] = dsocr_tensor_get(in, (int64_t) (skip + i));
		worst = 0;
		if (relative)
			dsocr_resize_relative(values, source, dim, target, out);
		else if (!dsocr_resize_positions(values, source, dim, target, out, NULL))
			worst = NAN;
		for (size_t i = 0; i < n_out; i++)
		{
			double diff = fabs(out[i] - dsocr_tensor_get(want, (int64_t) (skip + i)));

			if (!(diff <= worst))
				worst = diff; /* NaN included */
		}
	}
	dsocr_free(values);
	dsocr_free(out);
	return worst;
}

static void
check_positions(DsocrCheck *c, const char *dir)
{
	json_t *cases = load_json(c, dir, "pos.json");
	DsocrError err = {0};
	DsocrWeights *w;
	char path[MAX_PATH];
	json_t *item;
	size_t i;

	snprintf(path, sizeof(path), "%s/pos.safetensors", dir);
	w = dsocr_weights_open_file(path, &err);
	if (w == NULL)
		dsocr_check(c, false, path, "%s", err.message);
	else
		json_array_foreach (cases, i, item)
		{
			bool relative = json_object_get(item, "q") != NULL;
			double worst = position_error(w, item, relative);

			dsocr_check(c, worst <= POSITION_TOLERANCE, string_of(item, "name"),
						"largest difference %g", worst);
		}
	dsocr_weights_close(w);
	json_decref(cases);
}

void
dsocr_check_preprocess(DsocrCheck *c, const char *dir)
{
	check_grids(c, dir);
	check_contain(c, dir);
	check_resize(c, dir);
	check_exif(c, dir);
	check_views(c, dir);
	check_positions(c, dir);
}
