/*-------------------------------------------------------------------------
 *
 * safetensors.c
 *		One safetensors file, mapped and checked.
 *
 * The header is hostile until proven otherwise: its size is limited before
 * it is parsed, each number is checked before it is used, and no tensor is
 * handed out unless all of them are sound.
 *
 *-------------------------------------------------------------------------
 */
#include "safetensors.h"
#include "quantize.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LENGTH_BYTES 8

/* A tensor's entry needs about 6 values; more than this is no tensor list. */
#define MAX_HEADER_VALUES ((size_t) DSOCR_MAX_TENSORS * 16)

/* A file's path fit for a message: its last part when it is long. */
typedef struct FileContext
{
	const char *shown;
	DsocrError *err;
} FileContext;

static const struct
{
	const char *name;
	DsocrDtype dtype;
} dtype_names[] = {
	{"BF16", DSOCR_BF16}, {"F16", DSOCR_F16}, {"F32", DSOCR_F32}, {"F64", DSOCR_F64},
	{"I64", DSOCR_I64},	  {"I32", DSOCR_I32}, {"I8", DSOCR_I8},	  {"U8", DSOCR_U8},
};

const char *
dsocr_safetensors_printable(const char *name, char text[80])
{
	size_t n = 0;

	for (; name[n] != '\0' && n < 79; n++)
		text[n] = name[n] >= ' ' && name[n] < 127 ? name[n] : '?';
	text[n] = '\0';
	return text;
}

static bool
fail_file(const FileContext *f, const char *reason)
{
	return dsocr_fail(f->err, DSOCR_E_MODEL, "weight file \"%s\": %s", f->shown, reason);
}

static bool
fail_tensor(const FileContext *f, const char *name, const char *reason)
{
	char text[80];

	return dsocr_fail(f->err, DSOCR_E_MODEL, "weight file \"%s\": tensor \"%s\": %s", f->shown,
					  dsocr_safetensors_printable(name, text), reason);
}

static bool
map_file(const char *path, const FileContext *f, DsocrSafetensors *s)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool ok = false;

	if (fd < 0)
		return fail_file(f, strerror(errno));
	if (fstat(fd, &st) != 0)
		fail_file(f, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		fail_file(f, "not a regular file");
	else if (st.st_size < LENGTH_BYTES)
		fail_file(f, "too short for a header");
	else
	{
		s->map_size = (size_t) st.st_size;
		s->map = mmap(NULL, s->map_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (s->map == MAP_FAILED)
		{
			s->map = NULL;
			if (errno == ENOMEM)
				dsocr_fail(f->err, DSOCR_E_MEMORY, "weight file \"%s\": %s", f->shown,
						   strerror(errno));
			else
				fail_file(f, strerror(errno));
		}
		else
			ok = true;
	}
	close(fd);
	return ok;
}

/* The JSON's bytes, length and first character checked. */
static bool
find_header(const FileContext *f, const DsocrSafetensors *s, const char **json, size_t *len)
{
	const unsigned char *p = s->map;
	uint64_t n = 0;

	for (int i = LENGTH_BYTES - 1; i >= 0; i--)
		n = n << 8 | p[i];
	if (n > DSOCR_MAX_HEADER_BYTES)
		return fail_file(f, "header is larger than 100 MB");
	if (n > s->map_size - LENGTH_BYTES)
		return fail_file(f, "header ends behind the end of the file");
	if (n == 0 || p[LENGTH_BYTES] != '{')
		return fail_file(f, "header does not begin with {");
	*json = (const char *) p + LENGTH_BYTES;
	*len = (size_t) n;
	return true;
}

/*
 * Bound the work before a parser sees the header: a hundred megabytes of
 * commas would become gigabytes of values.  Each tensor has one brace.
 */
static bool
check_extent(const FileContext *f, const char *json, size_t len)
{
	size_t values = 0;
	size_t objects = 0;
	bool quoted = false;

	for (size_t i = 0; i < len; i++)
	{
		char c = json[i];

		if (c == '"')
			quoted = !quoted;
		else if (c == '\\' && quoted)
			i++;
		else if (!quoted && (c == ',' || c == '[' || c == '{'))
		{
			values++;
			objects += c == '{';
		}
	}
	/* the header itself and __metadata__ are objects, too */
	if (objects > DSOCR_MAX_TENSORS + 2)
		return fail_file(f, "more than 100,000 tensors");
	if (values > MAX_HEADER_VALUES)
		return fail_file(f, "header has too many values");
	return true;
}

static json_t *
parse_header(const FileContext *f, const char *json, size_t len)
{
	json_error_t error;
	json_t *root;
	size_t n;

	if (!check_extent(f, json, len))
		return NULL;
	root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &error);
	if (root == NULL)
	{
		char text[80];

		if (json_error_code(&error) == json_error_out_of_memory)
			dsocr_fail(f->err, DSOCR_E_MEMORY, "out of memory for the header of \"%s\"", f->shown);
		else
			dsocr_fail(f->err, DSOCR_E_MODEL, "weight file \"%s\": header is not valid JSON: %s",
					   f->shown, dsocr_safetensors_printable(error.text, text));
		return NULL;
	}
	n = json_object_size(root) - (json_object_get(root, "__metadata__") != NULL);
	if (n > DSOCR_MAX_TENSORS)
	{
		fail_file(f, "more than 100,000 tensors");
		json_decref(root);
		return NULL;
	}
	return root;
}

static bool
check_metadata(const FileContext *f, const json_t *metadata)
{
	const char *key;
	json_t *value;

	if (!json_is_object(metadata))
		return fail_file(f, "__metadata__ is not an object");
	json_object_foreach ((json_t *) metadata, key, value)
	{
		if (!json_is_string(value))
			return fail_file(f, "__metadata__ has a value that is not a string");
	}
	return true;
}

static bool
read_dtype(const FileContext *f, const json_t *entry, DsocrTensor *t)
{
	const char *name = json_string_value(json_object_get(entry, "dtype"));
	char reason[64];

	if (name == NULL)
		return fail_tensor(f, t->name, "no dtype");
	for (size_t i = 0; i < sizeof(dtype_names) / sizeof(dtype_names[0]); i++)
	{
		if (strcmp(name, dtype_names[i].name) == 0)
		{
			t->dtype = dtype_names[i].dtype;
			return true;
		}
	}
	snprintf(reason, sizeof(reason), "dtype %.16s is not supported", name);
	return fail_tensor(f, t->name, reason);
}

static bool
read_shape(const FileContext *f, const json_t *entry, DsocrTensor *t)
{
	const json_t *shape = json_object_get(entry, "shape");
	size_t count = 1;

	if (!json_is_array(shape))
		return fail_tensor(f, t->name, "no shape");
	if (json_array_size(shape) > DSOCR_MAX_DIMS)
		return fail_tensor(f, t->name, "more than 4 dimensions");
	t->ndim = (int) json_array_size(shape);
	for (int i = 0; i < t->ndim; i++)
	{
		const json_t *dim = json_array_get(shape, (size_t) i);

		if (!json_is_integer(dim) || json_integer_value(dim) < 0)
			return fail_tensor(f, t->name, "shape is not a list of sizes");
		t->shape[i] = json_integer_value(dim);
		if (!dsocr_mul(count, (size_t) t->shape[i], &count) || count > INT64_MAX)
			return fail_tensor(f, t->name, "shape is too large");
	}
	t->count = (int64_t) count;
	return true;
}

/* One entry of the header; data_size bytes follow the header at data. */
static bool
read_tensor(const FileContext *f, const json_t *entry, const char *data, size_t data_size,
			DsocrTensor *t)
{
	const json_t *offsets, *begin, *end;
	size_t bytes;

	if (!json_is_object(entry))
		return fail_tensor(f, t->name, "entry is not an object");
	if (!read_dtype(f, entry, t) || !read_shape(f, entry, t))
		return false;
	offsets = json_object_get(entry, "data_offsets");
	begin = json_array_get(offsets, 0);
	end = json_array_get(offsets, 1);
	if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
		return fail_tensor(f, t->name, "data_offsets is not a pair of offsets");
	if (json_integer_value(begin) < 0 || json_integer_value(begin) > json_integer_value(end))
		return fail_tensor(f, t->name, "data_offsets do not ascend");
	if ((uint64_t) json_integer_value(end) > data_size)
		return fail_tensor(f, t->name, "data ends behind the end of the file");
	if (!dsocr_mul((size_t) t->count, dsocr_dtype_size(t->dtype), &bytes) ||
		bytes != (size_t) (json_integer_value(end) - json_integer_value(begin)))
		return fail_tensor(f, t->name, "shape and dtype do not match the number of bytes");
	t->data = data + json_integer_value(begin);
	return true;
}

/* By first byte; an empty tensor before the one that begins there too. */
static int
compare_places(const void *a, const void *b)
{
	const DsocrTensor *x = a;
	const DsocrTensor *y = b;

	if (x->data != y->data)
		return (const char *) x->data < (const char *) y->data ? -1 : 1;
	return (dsocr_tensor_bytes(x) > dsocr_tensor_bytes(y)) -
		   (dsocr_tensor_bytes(x) < dsocr_tensor_bytes(y));
}

/*
 * Metadata that says a tensor's bytes are a matrix in 8 or 4 bits: under its
 * name "int8 ROWS COLUMNS", and once the version of the layout.
 */
static bool
read_quantized(const FileContext *f, const json_t *metadata, DsocrTensor *t)
{
	const char *text = json_string_value(json_object_get(metadata, t->name));
	const char *version = json_string_value(json_object_get(metadata, DSOCR_QUANT_KEY));
	long long rows = 0;
	long long cols = 0;
	size_t count;
	int bits = 0;
	int end = 0;
	DsocrQuantShape s;

	if (text == NULL || version == NULL || t->dtype != DSOCR_U8)
		return true;
	if (strcmp(version, DSOCR_QUANT_VERSION) != 0)
		return fail_tensor(f, t->name, "quantized for another version of the engine");
	if (sscanf(text, "int%1d %18lld %18lld%n", &bits, &rows, &cols, &end) != 3 ||
		text[end] != '\0' || (bits != 8 && bits != 4) || rows < 1 || cols < 1 || rows > INT32_MAX ||
		cols > INT32_MAX || !dsocr_mul((size_t) rows, (size_t) cols, &count))
		return fail_tensor(f, t->name, "metadata does not describe a quantized matrix");
	t->dtype = bits == 8 ? DSOCR_INT8 : DSOCR_INT4;
	if (!dsocr_quant_shape(t->dtype, (size_t) rows, (size_t) cols, &s) ||
		s.bytes != (size_t) t->count)
		return fail_tensor(f, t->name, "quantized matrix and number of bytes do not match");
	t->ndim = 2;
	t->shape[0] = rows;
	t->shape[1] = cols;
	t->count = (int64_t) count;
	return true;
}

static bool
read_tensors(const FileContext *f, const json_t *root, const char *data, size_t data_size,
			 DsocrSafetensors *s)
{
	const char *key;
	json_t *entry;
	size_t name_bytes = 0;
	char *name;
	const char *expected = data;
	const json_t *metadata = json_object_get(root, "__metadata__");

	json_object_foreach ((json_t *) root, key, entry)
		name_bytes += strlen(key) + 1;
	s->tensors = dsocr_zalloc(json_object_size(root), sizeof(DsocrTensor), f->err);
	s->names = dsocr_alloc(name_bytes, 1, f->err);
	if (s->tensors == NULL || s->names == NULL)
		return false;

	name = s->names;
	json_object_foreach ((json_t *) root, key, entry)
	{
		if (strcmp(key, "__metadata__") == 0)
		{
			if (!check_metadata(f, entry))
				return false;
			continue;
		}
		memcpy(name, key, strlen(key) + 1);
		s->tensors[s->n].name = name;
		name += strlen(key) + 1;
		if (!read_tensor(f, entry, data, data_size, &s->tensors[s->n]) ||
			!read_quantized(f, metadata, &s->tensors[s->n]))
			return false;
		s->n++;
	}

	qsort(s->tensors, (size_t) s->n, sizeof(DsocrTensor), compare_places);
	for (int i = 0; i < s->n; i++)
	{
		const DsocrTensor *t = &s->tensors[i];

		if ((const char *) t->data < expected)
			return fail_tensor(f, t->name, "data overlaps another tensor");
		if ((const char *) t->data > expected)
			return fail_tensor(f, t->name, "unused bytes before the data");
		expected += dsocr_tensor_bytes(t);
	}
	if (expected != data + data_size)
		return fail_file(f, "unused bytes behind the last tensor");
	return true;
}

bool
dsocr_safetensors_open(const char *path, DsocrSafetensors *s, DsocrError *err)
{
	const char *slash = strrchr(path, '/');
	FileContext f = {.shown = path, .err = err};
	const char *json = NULL;
	size_t len = 0;
	json_t *root;
	bool ok = false;

	memset(s, 0, sizeof(*s));
	if (strlen(path) > 100 && slash != NULL)
		f.shown = slash + 1;
	if (map_file(path, &f, s) && find_header(&f, s, &json, &len))
	{
		root = parse_header(&f, json, len);
		if (root != NULL)
		{
			ok = read_tensors(&f, root, json + len, s->map_size - LENGTH_BYTES - len, s);
			json_decref(root);
		}
	}
	if (!ok)
		dsocr_safetensors_close(s);
	return ok;
}

void
dsocr_safetensors_close(DsocrSafetensors *s)
{
	if (s->map != NULL)
		munmap(s->map, s->map_size);
	dsocr_free(s->tensors);
	dsocr_free(s->names);
	memset(s, 0, sizeof(*s));
}
