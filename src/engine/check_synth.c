/*-------------------------------------------------------------------------
 *
 * check_synth.c
 *		The formula's weights against the reference, and cases at full size.
 *
 * check-SEED.json has hashes of some tensors, all-SEED.txt that of all,
 * seedSEED-NAME.json are cases of the official code on these weights.  The
 * cases need a checkpoint made by `dsocr-engine synth` (c->model); the hash
 * of all takes a minute and is computed with a checkpoint only, too.
 *
 *-------------------------------------------------------------------------
 */
#include "check_case.h"

#include <glob.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "synth.h"

#define MAX_CASE_BYTES ((size_t) 1 << 26)
#define CHUNK ((int64_t) 1 << 20) /* values computed at a time */

/* What a tensor turned out to be. */
typedef struct Found
{
	bool ok; /* enough memory? */
	uint16_t first[16];
	uint16_t last;
	char hex[65];
} Found;

static void
generate(const DsocrSynthTensor *t, uint64_t seed, Found *found)
{
	uint16_t *values = dsocr_alloc((size_t) CHUNK, sizeof(*values), NULL);
	DsocrSha256 hash;

	if (values == NULL)
		return;
	dsocr_sha256_init(&hash);
	for (int64_t from = 0; from < t->count; from += CHUNK)
	{
		int64_t n = t->count - from < CHUNK ? t->count - from : CHUNK;

		dsocr_synth_fill(t, seed, from, n, values);
		dsocr_sha256_update(&hash, values, (size_t) n * sizeof(*values));
		if (from == 0)
			memcpy(found->first, values, (n < 16 ? (size_t) n : 16) * sizeof(*values));
		found->last = values[n - 1];
	}
	dsocr_sha256_finish(&hash, found->hex);
	found->ok = true;
	dsocr_free(values);
}

/* Hex digits of a JSON string as a number; -1 when it is none. */
static long long
hex_value(const json_t *s)
{
	const char *text = json_string_value(s);
	char *end = NULL;
	unsigned long long v = text != NULL ? strtoull(text, &end, 16) : 0;

	return text != NULL && end != text && *end == '\0' ? (long long) v : -1;
}

static void
compare_tensor(DsocrCheck *c, const json_t *entry, const DsocrSynthTensor *t, const Found *found)
{
	const json_t *first = json_object_get(entry, "first16_bf16_hex");
	const char *sha = json_string_value(json_object_get(entry, "sha256"));
	size_t n = json_array_size(first);
	bool equal = n > 0 && n <= 16;

	dsocr_check(c, json_integer_value(json_object_get(entry, "count")) == t->count, t->name,
				"%lld values", (long long) t->count);
	dsocr_check(c,
				hex_value(json_object_get(entry, "fnv1a64_of_name")) ==
					(long long) dsocr_synth_hash_name(t->name),
				t->name, "hash of the name");
	for (size_t i = 0; i < n && equal; i++)
		equal = hex_value(json_array_get(first, i)) == found->first[i];
	dsocr_check(c, found->ok && equal, t->name, "first values");
	dsocr_check(c,
				found->ok &&
					hex_value(json_object_get(entry, "last_bf16_hex")) == (long long) found->last,
				t->name, "last value %04x", (unsigned) found->last);
	dsocr_check(c, found->ok && sha != NULL && strcmp(sha, found->hex) == 0, t->name, "sha256 %s",
				found->hex);
}

/* check-SEED.json: a sample of tensors; *seed is what the file says. */
static bool
check_sample(DsocrCheck *c, const DsocrSynthSpec *spec, const char *path, uint64_t *seed)
{
	DsocrBuffer text = {0};
	DsocrError err = {0};
	json_t *root = NULL;
	json_t *list;
	int n;
	Found *found;

	if (dsocr_read_file(path, MAX_CASE_BYTES, &text, &err))
		root = json_loadb(text.data, text.len, 0, NULL);
	dsocr_buffer_free(&text);
	list = json_object_get(root, "tensors");
	n = (int) json_array_size(list);
	found = dsocr_zalloc((size_t) n, sizeof(*found), &err);
	if (!dsocr_check(c, found != NULL && n > 0 && json_is_integer(json_object_get(root, "seed")),
					 path, "not readable %s", err.message))
	{
		dsocr_free(found);
		json_decref(root);
		return false;
	}
	*seed = (uint64_t) json_integer_value(json_object_get(root, "seed"));

#pragma omp parallel for schedule(dynamic, 1)
	for (int i = 0; i < n; i++)
	{
		const char *name =
			json_string_value(json_object_get(json_array_get(list, (size_t) i), "name"));
		const DsocrSynthTensor *t = name != NULL ? dsocr_synth_find(spec, name) : NULL;

		if (t != NULL)
			generate(t, *seed, &found[i]);
	}
	for (int i = 0; i < n; i++)
	{
		json_t *entry = json_array_get(list, (size_t) i);
		const char *name = json_string_value(json_object_get(entry, "name"));
		const DsocrSynthTensor *t = name != NULL ? dsocr_synth_find(spec, name) : NULL;

		if (dsocr_check(c, t != NULL, path, "tensor %d is not in tensors.json", i))
			compare_tensor(c, entry, t, &found[i]);
	}
	dsocr_free(found);
	json_decref(root);
	return true;
}

/*
 * The hash of all tensors: one thread hashes what was computed while the
 * others compute what comes next.
 */
static bool
hash_all(const DsocrSynthSpec *spec, uint64_t seed, char hex[65])
{
	uint16_t *values[2] = {dsocr_alloc((size_t) CHUNK, 2, NULL),
						   dsocr_alloc((size_t) CHUNK, 2, NULL)};
	size_t bytes[2] = {0, 0};
	bool ok = values[0] != NULL && values[1] != NULL;
	int turn = 0;
	DsocrSha256 hash;

	dsocr_sha256_init(&hash);
	for (int i = 0; ok && i < spec->n; i++)
	{
		const DsocrSynthTensor *t = &spec->tensors[i];

		for (int64_t from = 0; from < t->count; from += CHUNK)
		{
			int64_t n = t->count - from < CHUNK ? t->count - from : CHUNK;

#pragma omp parallel sections num_threads(2)
			{
#pragma omp section
				dsocr_synth_fill(t, seed, from, n, values[turn]);
#pragma omp section
				dsocr_sha256_update(&hash, values[!turn], bytes[!turn]);
			}
			bytes[turn] = (size_t) n * 2;
			bytes[!turn] = 0;
			turn = !turn;
		}
	}
	if (ok)
	{
		dsocr_sha256_update(&hash, values[!turn], bytes[!turn]);
		dsocr_sha256_finish(&hash, hex);
	}
	dsocr_free(values[0]);
	dsocr_free(values[1]);
	return ok;
}

static void
check_all(DsocrCheck *c, const DsocrSynthSpec *spec, const char *dir, uint64_t seed)
{
	char path[PATH_MAX];
	char hex[65] = "";
	DsocrBuffer text = {0};
	DsocrError err = {0};
	int64_t start = dsocr_now_us();

	snprintf(path, sizeof(path), "%s/all-%llu.txt", dir, (unsigned long long) seed);
	if (dsocr_check(c, dsocr_read_file(path, 4096, &text, &err), path, "%s", err.message))
	{
		dsocr_check(c,
					hash_all(spec, seed, hex) && text.len >= 64 && strncmp(text.data, hex, 64) == 0,
					path, "sha256 %s", hex);
		printf("%s: %.1f GB hashed in %.1f s\n", path, (double) spec->bytes / 1e9,
			   (double) (dsocr_now_us() - start) / 1e6);
	}
	dsocr_buffer_free(&text);
}

/* Does the checkpoint hold the weights of this seed?  One small tensor tells. */
static bool
has_seed(const DsocrWeights *w, const DsocrSynthSpec *spec, uint64_t seed)
{
	const DsocrSynthTensor *small = &spec->tensors[0];
	const DsocrTensor *t;
	uint16_t *values;
	bool equal;

	for (int i = 1; i < spec->n; i++)
	{
		if (spec->tensors[i].count < small->count)
			small = &spec->tensors[i];
	}
	t = dsocr_weights_find(w, small->name);
	if (t == NULL || t->dtype != DSOCR_BF16 || t->count != small->count)
		return false;
	values = dsocr_alloc((size_t) t->count, sizeof(*values), NULL);
	if (values == NULL)
		return false;
	dsocr_synth_fill(small, seed, 0, t->count, values);
	equal = memcmp(values, t->data, (size_t) t->count * sizeof(*values)) == 0;
	dsocr_free(values);
	return equal;
}

static void
check_case(DsocrCheck *c, const char *path)
{
	DsocrPrecision asked = c->precision;

	if (c->both)
		c->precision = DSOCR_PRECISION_FP32;
	dsocr_check_case(c, c->model, path);
	if (c->both)
	{
		c->precision = DSOCR_PRECISION_BF16;
		dsocr_check_case(c, c->model, path);
	}
	c->precision = asked;
}

/* The cases of a seed, on the checkpoint that was named. */
static void
check_cases(DsocrCheck *c, const DsocrSynthSpec *spec, const char *dir, uint64_t seed)
{
	char pattern[PATH_MAX];
	glob_t cases = {0};
	DsocrError err = {0};
	DsocrWeights *w;
	bool fits;

	snprintf(pattern, sizeof(pattern), "%s/seed%llu-*.json", dir, (unsigned long long) seed);
	if (glob(pattern, 0, NULL, &cases) != 0)
		return;
	w = dsocr_weights_open(c->model, &err);
	if (dsocr_check(c, w != NULL, c->model, "%s", err.message))
	{
		fits = has_seed(w, spec, seed);
		dsocr_weights_close(w);
		if (!fits)
			printf("%s: %zu cases left out, %s holds other weights\n", pattern, cases.gl_pathc,
				   c->model);
		for (size_t i = 0; fits && i < cases.gl_pathc; i++)
			check_case(c, cases.gl_pathv[i]);
	}
	globfree(&cases);
}

void
dsocr_check_synth(DsocrCheck *c, const char *dir)
{
	char path[PATH_MAX];
	glob_t samples = {0};
	DsocrSynthSpec spec;
	DsocrError err = {0};

	snprintf(path, sizeof(path), "%s/tensors.json", dir);
	if (!dsocr_check(c, dsocr_synth_read(path, &spec, &err), path, "%s", err.message))
		return;
	snprintf(path, sizeof(path), "%s/check-*.json", dir);
	if (dsocr_check(c, glob(path, 0, NULL, &samples) == 0, path, "no such file"))
	{
		for (size_t i = 0; i < samples.gl_pathc; i++)
		{
			uint64_t seed;

			if (!check_sample(c, &spec, samples.gl_pathv[i], &seed) || c->model == NULL)
				continue;
			check_all(c, &spec, dir, seed);
			check_cases(c, &spec, dir, seed);
		}
		if (c->model == NULL)
			printf("%s: hash of all tensors and model cases left out, they need --model\n", dir);
	}
	globfree(&samples);
	dsocr_synth_free(&spec);
}
