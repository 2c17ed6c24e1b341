/*-------------------------------------------------------------------------
 *
 * synth.c
 *		Weights of any size from a formula and a seed.
 *
 * Value i of a tensor is offset + x * scale with x the upper 24 bits of a
 * counter hash (splitmix64), less 2^23; rounded to fp32, then to bf16.  The
 * product and the sum are exact in double, so that it makes no difference
 * whether the compiler fuses them.
 *
 *-------------------------------------------------------------------------
 */
#include "synth.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)
#define ROW_SALT UINT64_C(0xd1b54a32d192ed03)
#define ROW_LENGTH 1280 /* of the tensor whose rows differ, lm_head.weight */
#define MAX_SPEC_BYTES ((size_t) 1 << 26)
#define MAX_SPEC_TENSORS 100000

static const double row_scales[] = {1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8};

static uint64_t
mix(uint64_t z)
{
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint64_t
dsocr_synth_hash_name(const char *name)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char) *name) * UINT64_C(0x100000001b3);
	return h;
}

static void
fill_run(uint64_t base, int64_t from, int64_t n, double offset, double scale, uint16_t *out)
{
	for (int64_t i = 0; i < n; i++)
	{
		uint64_t h = mix(base + (uint64_t) (from + i + 1) * GOLDEN);
		int32_t x = (int32_t) (h >> 40) - (1 << 23);

		out[i] = dsocr_f32_to_bf16((float) (offset + x * scale));
	}
}

void
dsocr_synth_fill(const DsocrSynthTensor *t, uint64_t seed, int64_t from, int64_t n, uint16_t *out)
{
	uint64_t base = mix(seed ^ dsocr_synth_hash_name(t->name));
	uint64_t row_base = mix(base ^ ROW_SALT);

	if (!t->row_scale)
	{
		fill_run(base, from, n, t->offset, t->scale, out);
		return;
	}
	while (n > 0)
	{
		int64_t row = from / ROW_LENGTH;
		int64_t run = (row + 1) * ROW_LENGTH - from;
		uint64_t h = mix(row_base + (uint64_t) (row + 1) * GOLDEN);
		int zeros = h != 0 ? __builtin_ctzll(h) : 64;

		if (run > n)
			run = n;
		fill_run(base, from, run, t->offset, t->scale * row_scales[zeros < 9 ? zeros : 9], out);
		from += run;
		out += run;
		n -= run;
	}
}

static bool
read_tensor(json_t *entry, DsocrSynthTensor *t, DsocrError *err)
{
	const char *name = json_string_value(json_object_get(entry, "name"));
	json_t *shape = json_object_get(entry, "shape");
	json_t *m = json_object_get(entry, "m");
	json_t *e = json_object_get(entry, "e");
	size_t count = 1;

	if (name == NULL || !json_is_array(shape) || json_array_size(shape) > DSOCR_MAX_DIMS ||
		!json_is_number(m) || !json_is_integer(e) || json_integer_value(e) < -64 ||
		json_integer_value(e) > 64)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "an entry lacks name, shape, m or e");
	t->ndim = (int) json_array_size(shape);
	for (int i = 0; i < t->ndim; i++)
	{
		json_int_t dim = json_integer_value(json_array_get(shape, (size_t) i));

		if (dim < 1 || !dsocr_mul(count, (size_t) dim, &count) || count > (size_t) 1 << 40)
			return dsocr_fail(err, DSOCR_E_ARGUMENT, "shape of \"%s\" is wrong", name);
		t->shape[i] = dim;
	}
	t->count = (int64_t) count;
	t->offset = json_number_value(json_object_get(entry, "offset"));
	t->scale = ldexp(json_number_value(m), -(int) json_integer_value(e) - 23);
	t->row_scale = json_is_true(json_object_get(entry, "row_scale"));
	t->name = dsocr_strdup(name, err);
	return t->name != NULL;
}

bool
dsocr_synth_read(const char *path, DsocrSynthSpec *spec, DsocrError *err)
{
	DsocrBuffer text = {0};
	json_t *root;
	size_t n;
	bool ok = true;

	memset(spec, 0, sizeof(*spec));
	if (!dsocr_read_file(path, MAX_SPEC_BYTES, &text, err))
		return false;
	root = json_loadb(text.data, text.len, 0, NULL);
	dsocr_buffer_free(&text);
	n = json_array_size(root);
	if (n == 0 || n > MAX_SPEC_TENSORS)
		ok = dsocr_fail(err, DSOCR_E_ARGUMENT, "\"%.160s\" is no list of tensors", path);
	else
	{
		spec->tensors = dsocr_zalloc(n, sizeof(*spec->tensors), err);
		ok = spec->tensors != NULL;
	}
	for (size_t i = 0; ok && i < n; i++)
	{
		DsocrSynthTensor *t = &spec->tensors[spec->n++];

		ok = read_tensor(json_array_get(root, i), t, err) &&
			 (dsocr_add(spec->bytes, (size_t) t->count * 2, &spec->bytes) ||
			  dsocr_fail(err, DSOCR_E_ARGUMENT, "tensors are too large"));
	}
	json_decref(root);
	if (!ok)
		dsocr_synth_free(spec);
	return ok;
}

void
dsocr_synth_free(DsocrSynthSpec *spec)
{
	for (int i = 0; i < spec->n; i++)
		dsocr_free(spec->tensors[i].name);
	dsocr_free(spec->tensors);
	memset(spec, 0, sizeof(*spec));
}

const DsocrSynthTensor *
dsocr_synth_find(const DsocrSynthSpec *spec, const char *name)
{
	for (int i = 0; i < spec->n; i++)
	{
		if (strcmp(spec->tensors[i].name, name) == 0)
			return &spec->tensors[i];
	}
	return NULL;
}
