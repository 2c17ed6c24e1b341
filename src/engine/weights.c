/*-------------------------------------------------------------------------
 *
 * weights.c
 *		Named tensors of a model folder.
 *
 *-------------------------------------------------------------------------
 */
#include "weights.h"
#include "quantize.h"
#include "safetensors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SINGLE_FILE "model.safetensors"
#define INDEX_FILE "model.safetensors.index.json"
#define MAX_INDEX_BYTES ((size_t) 100000000)
#define MAX_SHARDS 1000
#define MAX_FILE_NAME 255

struct DsocrWeights
{
	int n_files;
	DsocrSafetensors *files; /* by name */
	int n;
	const DsocrTensor **tensors; /* by file and place */
	const DsocrTensor **sorted;	 /* by name */
	size_t bytes;
};

size_t
dsocr_dtype_size(DsocrDtype dtype)
{
	switch (dtype)
	{
		case DSOCR_F64:
		case DSOCR_I64:
			return 8;
		case DSOCR_F32:
		case DSOCR_I32:
			return 4;
		case DSOCR_BF16:
		case DSOCR_F16:
			return 2;
		case DSOCR_I8:
		case DSOCR_U8:
			return 1;
		case DSOCR_INT8:
		case DSOCR_INT4:
			return 0;
	}
	return 0;
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp((*(const DsocrTensor *const *) a)->name, (*(const DsocrTensor *const *) b)->name);
}

/* Build both lists over the open files. */
static bool
index_tensors(DsocrWeights *w, DsocrError *err)
{
	size_t n = 0;

	for (int i = 0; i < w->n_files; i++)
		n += (size_t) w->files[i].n;
	if (n > DSOCR_MAX_TENSORS)
		return dsocr_fail(err, DSOCR_E_MODEL, "weight files hold more than 100,000 tensors");
	w->tensors = dsocr_alloc(n, sizeof(*w->tensors), err);
	w->sorted = dsocr_alloc(n, sizeof(*w->sorted), err);
	if (w->tensors == NULL || w->sorted == NULL)
		return false;
	for (int i = 0; i < w->n_files; i++)
	{
		for (int k = 0; k < w->files[i].n; k++)
		{
			const DsocrTensor *t = &w->files[i].tensors[k];

			w->sorted[w->n] = t;
			w->tensors[w->n++] = t;
			w->bytes += dsocr_tensor_bytes(t);
		}
	}
	qsort(w->sorted, n, sizeof(*w->sorted), compare_names);
	for (size_t i = 1; i < n; i++)
	{
		if (strcmp(w->sorted[i - 1]->name, w->sorted[i]->name) == 0)
		{
			char text[80];

			return dsocr_fail(err, DSOCR_E_MODEL, "two weight files hold tensor \"%s\"",
							  dsocr_safetensors_printable(w->sorted[i]->name, text));
		}
	}
	return true;
}

/* n_files paths DIR/NAME, or NAME alone when dir is NULL. */
static DsocrWeights *
open_files(const char *dir, char **names, int n_files, DsocrError *err)
{
	DsocrWeights *w = dsocr_zalloc(1, sizeof(*w), err);
	bool ok = w != NULL;

	if (ok)
	{
		w->files = dsocr_zalloc((size_t) n_files, sizeof(*w->files), err);
		ok = w->files != NULL;
	}
	for (int i = 0; ok && i < n_files; i++)
	{
		DsocrBuffer path = {0};

		ok = dir != NULL ? dsocr_buffer_printf(&path, err, "%s/%s", dir, names[i])
						 : dsocr_buffer_printf(&path, err, "%s", names[i]);
		if (ok)
			ok = dsocr_safetensors_open(path.data, &w->files[i], err);
		if (ok)
			w->n_files++;
		dsocr_buffer_free(&path);
	}
	if (ok)
		ok = index_tensors(w, err);
	if (!ok)
	{
		dsocr_weights_close(w);
		return NULL;
	}
	return w;
}

static bool
file_exists(const char *dir, const char *name)
{
	DsocrBuffer path = {0};
	bool found =
		dsocr_buffer_printf(&path, NULL, "%s/%s", dir, name) && access(path.data, F_OK) == 0;

	dsocr_buffer_free(&path);
	return found;
}

/* A shard must lie in the folder itself: nothing that leads elsewhere. */
static bool
is_plain_name(const char *name)
{
	return name[0] != '\0' && strlen(name) <= MAX_FILE_NAME && strchr(name, '/') == NULL &&
		   strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int
compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static bool
fail_index(const char *dir, DsocrError *err, const char *reason)
{
	return dsocr_fail(err, DSOCR_E_MODEL, "\"%.120s/" INDEX_FILE "\": %s", dir, reason);
}

/* The index as JSON with a sound weight_map; NULL with an error otherwise. */
static json_t *
read_index(const char *dir, DsocrError *err)
{
	DsocrBuffer path = {0};
	DsocrBuffer text = {0};
	json_error_t error;
	json_t *root = NULL;
	json_t *map;
	const char *key;
	json_t *value;
	bool ok = true;

	if (dsocr_buffer_printf(&path, err, "%s/" INDEX_FILE, dir) &&
		dsocr_read_file(path.data, MAX_INDEX_BYTES, &text, err))
	{
		root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &error);
		if (root == NULL)
		{
			char shown[80];

			fail_index(dir, err, dsocr_safetensors_printable(error.text, shown));
		}
	}
	else if (err != NULL && err->code == DSOCR_E_IO)
		err->code = DSOCR_E_MODEL;
	dsocr_buffer_free(&path);
	dsocr_buffer_free(&text);
	if (root == NULL)
		return NULL;

	map = json_object_get(root, "weight_map");
	if (!json_is_object(map) || json_object_size(map) == 0)
		ok = fail_index(dir, err, "no weight_map");
	else if (json_object_size(map) > DSOCR_MAX_TENSORS)
		ok = fail_index(dir, err, "more than 100,000 tensors");
	else
	{
		json_object_foreach (map, key, value)
		{
			if (!json_is_string(value) || !is_plain_name(json_string_value(value)))
			{
				ok = fail_index(dir, err, "weight_map has a value that is not a plain file name");
				break;
			}
		}
	}
	if (!ok)
	{
		json_decref(root);
		return NULL;
	}
	return root;
}

/* The different file names of a weight_map, sorted; they belong to the JSON. */
static char **
list_shards(const char *dir, json_t *map, int *n_shards, DsocrError *err)
{
	size_t n = 0, kept = 0;
	char **names = dsocr_alloc(json_object_size(map), sizeof(char *), err);
	const char *key;
	json_t *value;

	if (names == NULL)
		return NULL;
	json_object_foreach (map, key, value)
		names[n++] = (char *) json_string_value(value);
	qsort(names, n, sizeof(char *), compare_strings);
	for (size_t i = 0; i < n; i++)
	{
		if (kept == 0 || strcmp(names[kept - 1], names[i]) != 0)
			names[kept++] = names[i];
	}
	if (kept > MAX_SHARDS)
	{
		fail_index(dir, err, "more than 1000 files");
		dsocr_free(names);
		return NULL;
	}
	*n_shards = (int) kept;
	return names;
}

/* Every tensor of the index must be in the file that the index says. */
static bool
check_places(const char *dir, const DsocrWeights *w, char **names, json_t *map, DsocrError *err)
{
	const char *key;
	json_t *value;
	char text[80];

	json_object_foreach (map, key, value)
	{
		const DsocrTensor *t = dsocr_weights_find(w, key);
		bool found = false;

		for (int i = 0; t != NULL && i < w->n_files && !found; i++)
			found = t >= w->files[i].tensors && t < w->files[i].tensors + w->files[i].n &&
					strcmp(names[i], json_string_value(value)) == 0;
		if (!found)
			return dsocr_fail(err, DSOCR_E_MODEL,
							  "model folder \"%.100s\": the index puts tensor \"%s\" into a file "
							  "that does not hold it",
							  dir, dsocr_safetensors_printable(key, text));
	}
	return true;
}

DsocrWeights *
dsocr_weights_open(const char *dir, DsocrError *err)
{
	DsocrWeights *w = NULL;
	struct stat st;
	json_t *root;
	json_t *map;
	char **names;
	int n_names = 0;
	bool have_all = true;

	if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
	{
		dsocr_fail(err, DSOCR_E_MODEL, "model folder \"%.160s\" does not exist", dir);
		return NULL;
	}
	if (!file_exists(dir, INDEX_FILE))
	{
		char *single = SINGLE_FILE;

		if (file_exists(dir, SINGLE_FILE))
			return open_files(dir, &single, 1, err);
		dsocr_fail(err, DSOCR_E_MODEL,
				   "model folder \"%.120s\" has no " SINGLE_FILE " and no index", dir);
		return NULL;
	}
	root = read_index(dir, err);
	if (root == NULL)
		return NULL;
	map = json_object_get(root, "weight_map");
	names = list_shards(dir, map, &n_names, err);
	if (names != NULL)
	{
		for (int i = 0; i < n_names; i++)
			have_all = have_all && file_exists(dir, names[i]);
		if (!have_all && file_exists(dir, SINGLE_FILE))
		{
			/* a converted model beside the index of the original */
			char *single = SINGLE_FILE;

			w = open_files(dir, &single, 1, err);
		}
		else
		{
			w = open_files(dir, names, n_names, err);
			if (w != NULL && !check_places(dir, w, names, map, err))
			{
				dsocr_weights_close(w);
				w = NULL;
			}
		}
	}
	dsocr_free(names);
	json_decref(root);
	return w;
}

DsocrWeights *
dsocr_weights_open_file(const char *path, DsocrError *err)
{
	char *name = (char *) path;

	return open_files(NULL, &name, 1, err);
}

void
dsocr_weights_close(DsocrWeights *w)
{
	if (w == NULL)
		return;
	for (int i = 0; i < w->n_files; i++)
		dsocr_safetensors_close(&w->files[i]);
	dsocr_free(w->files);
	dsocr_free(w->tensors);
	dsocr_free(w->sorted);
	dsocr_free(w);
}

const DsocrTensor *
dsocr_weights_find(const DsocrWeights *w, const char *name)
{
	DsocrTensor key = {.name = name};
	const DsocrTensor *p = &key;
	const DsocrTensor **found =
		bsearch(&p, w->sorted, (size_t) w->n, sizeof(*w->sorted), compare_names);

	return found != NULL ? *found : NULL;
}

/* "[1280, 3, 16, 16]" */
static const char *
print_shape(int ndim, const int64_t *shape, char text[100])
{
	int n = snprintf(text, 100, "[");

	for (int i = 0; i < ndim && i < DSOCR_MAX_DIMS; i++)
		n +=
			snprintf(text + n, 100 - (size_t) n, "%s%lld", i > 0 ? ", " : "", (long long) shape[i]);
	snprintf(text + n, 100 - (size_t) n, "]");
	return text;
}

const DsocrTensor *
dsocr_weights_need(const DsocrWeights *w, DsocrError *err, const char *name, int ndim,
				   const int64_t *shape)
{
	const DsocrTensor *t = dsocr_weights_find(w, name);
	char found[100];
	char expected[100];

	if (t == NULL)
	{
		dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" is missing, expected with shape %s", name,
				   print_shape(ndim, shape, expected));
		return NULL;
	}
	if (t->ndim != ndim || memcmp(t->shape, shape, (size_t) ndim * sizeof(*shape)) != 0)
	{
		dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" has shape %s, expected %s", name,
				   print_shape(t->ndim, t->shape, found), print_shape(ndim, shape, expected));
		return NULL;
	}
	if (dsocr_is_quantized(t->dtype))
		return t;
	if (t->dtype != DSOCR_BF16 && t->dtype != DSOCR_F16 && t->dtype != DSOCR_F32 &&
		t->dtype != DSOCR_F64)
	{
		dsocr_fail(err, DSOCR_E_MODEL,
				   "tensor \"%s\" of shape %s holds integers, expected BF16, F16, F32 or F64", name,
				   print_shape(ndim, shape, expected));
		return NULL;
	}
	return t;
}

int
dsocr_weights_count(const DsocrWeights *w)
{
	return w->n;
}

const DsocrTensor *
dsocr_weights_at(const DsocrWeights *w, int i)
{
	return w->tensors[i];
}

size_t
dsocr_weights_bytes(const DsocrWeights *w)
{
	return w->bytes;
}

void
dsocr_weights_replace(DsocrWeights *w, int i, const DsocrTensor *t)
{
	const DsocrTensor *old = w->tensors[i];
	const DsocrTensor **sorted =
		bsearch(&old, w->sorted, (size_t) w->n, sizeof(*w->sorted), compare_names);

	w->bytes -= dsocr_tensor_bytes(old);
	w->bytes += dsocr_tensor_bytes(t);
	*sorted = t;
	w->tensors[i] = t;
}
