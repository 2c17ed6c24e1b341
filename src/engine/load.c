/*-------------------------------------------------------------------------
 *
 * load.c
 *		Named tensors of a model folder to weights of a backend.
 *
 *-------------------------------------------------------------------------
 */
#include "load.h"

#include "quantize.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void
dsocr_load_prefix(DsocrLoader *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(l->prefix, sizeof(l->prefix), fmt, ap);
	va_end(ap);
}

const DsocrTensor *
dsocr_load_tensor(DsocrLoader *l, const char *name, int ndim, const int64_t *shape)
{
	char full[2 * DSOCR_NAME_MAX];
	const DsocrTensor *t;

	if (l->failed)
		return NULL;
	snprintf(full, sizeof(full), "%s%s", l->prefix, name);
	t = dsocr_weights_need(l->weights, l->err, full, ndim, shape);
	l->failed = t == NULL;
	return t;
}

static DsocrMatrix *
load_parts(DsocrLoader *l, const DsocrTensor *const *parts, int n_parts, bool channel_last)
{
	DsocrMatrix *m;

	if (l->failed)
		return NULL;
	m = l->be->ops->matrix(l->be, parts, n_parts, channel_last, l->err);
	l->failed = m == NULL;
	return m;
}

DsocrMatrix *
dsocr_load_table(DsocrLoader *l, const char *name, int n, int k)
{
	int64_t shape[2] = {n, k};
	const DsocrTensor *t = dsocr_load_tensor(l, name, 2, shape);

	if (t != NULL && dsocr_is_quantized(t->dtype))
	{
		dsocr_fail(l->err, DSOCR_E_MODEL, "tensor \"%s\" must not be quantized", t->name);
		l->failed = true;
	}
	return load_parts(l, &t, 1, false);
}

DsocrMatrix *
dsocr_load_matrix(DsocrLoader *l, const char *name, int n, int k)
{
	return dsocr_load_stack(l, &name, 1, n, k);
}

DsocrMatrix *
dsocr_load_stack(DsocrLoader *l, const char *const *names, int n_parts, int n, int k)
{
	const DsocrTensor *parts[DSOCR_MAX_PARTS];
	int64_t shape[2] = {n, k};

	for (int i = 0; i < n_parts; i++)
		parts[i] = dsocr_load_tensor(l, names[i], 2, shape);
	return load_parts(l, parts, n_parts, false);
}

DsocrMatrix *
dsocr_load_conv(DsocrLoader *l, const char *name, int n, int channels, int side, bool channel_last)
{
	int64_t shape[4] = {n, channels, side, side};
	const DsocrTensor *t = dsocr_load_tensor(l, name, 4, shape);

	return load_parts(l, &t, 1, channel_last);
}

float *
dsocr_tensor_floats(const DsocrTensor *t, DsocrError *err)
{
	float *values = dsocr_alloc((size_t) t->count, sizeof(float), err);

	if (values == NULL)
		return NULL;
	for (int64_t n = 0; t->ndim > 0 && n < t->shape[0]; n++)
		dsocr_tensor_row(t, n, values + n * (t->count / t->shape[0]));
	return values;
}

DsocrVector *
dsocr_load_vector(DsocrLoader *l, const char *name, int n)
{
	int64_t shape[1] = {n};
	const DsocrTensor *t = dsocr_load_tensor(l, name, 1, shape);
	float *values;
	DsocrVector *v;

	if (t == NULL)
		return NULL;
	values = dsocr_tensor_floats(t, l->err);
	v = values != NULL ? l->be->ops->vector(l->be, values, (size_t) n, l->err) : NULL;
	dsocr_free(values);
	l->failed = v == NULL;
	return v;
}

void *
dsocr_load_row(DsocrLoader *l, const char *name, int n)
{
	int64_t shape[1] = {n};
	const DsocrTensor *t = dsocr_load_tensor(l, name, 1, shape);
	float *values;
	void *row;

	if (t == NULL)
		return NULL;
	values = dsocr_tensor_floats(t, l->err);
	row = values != NULL ? l->be->ops->alloc(l->be, (size_t) n, l->err) : NULL;
	if (row != NULL)
		l->be->ops->write(l->be, row, values, (size_t) n);
	dsocr_free(values);
	l->failed = row == NULL;
	return row;
}
