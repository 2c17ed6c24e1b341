/*-------------------------------------------------------------------------
 *
 * weights.cu
 *		Matrices and vectors of weights in device memory.
 *
 * A matrix holds the element type of the activations, its rows padded with
 * zeros to a multiple of 8 elements.  What lies in the mapping as the device
 * wants it is uploaded from there; everything else is converted in pieces of
 * a few megabytes, so that the host never holds a second copy of a matrix.
 *
 *-------------------------------------------------------------------------
 */
#include "cuda.h"

#include <string.h>

#define WEIGHTS_PIECE ((size_t) 4 << 20) /* bytes converted at once */

static bool
weights_measure(DsocrMatrix *m, const DsocrTensor *const *parts, int n_parts, DsocrError *err)
{
	size_t rows = 0;
	size_t cols = 0;

	for (int i = 0; i < n_parts; i++)
	{
		const DsocrTensor *t = parts[i];
		size_t c;

		if ((t->ndim != 2 && t->ndim != 4) || t->shape[0] <= 0 || t->count <= 0)
			return dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" is not a matrix", t->name);
		c = (size_t) t->count / (size_t) t->shape[0];
		if (i > 0 && c != cols)
			return dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" has %zu columns instead of %zu",
							  t->name, c, cols);
		cols = c;
		if (!dsocr_add(rows, (size_t) t->shape[0], &rows) || rows > INT32_MAX ||
			cols > INT32_MAX - 7)
			return dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" is too large", t->name);
	}
	m->n = (int) rows;
	m->k = (int) cols;
	m->ld = (int) ((cols + 7) / 8 * 8);
	return true;
}

/* Element i of a device matrix in host memory. */
static void
weights_put(void *row, size_t i, float value, bool bf16)
{
	if (bf16)
		((uint16_t *) row)[i] = dsocr_f32_to_bf16(value);
	else
		((float *) row)[i] = value;
}

/* Row n of a tensor, as the device has it without the padding. */
static void
weights_row(void *row, const DsocrTensor *t, size_t n, size_t k, bool channel_last, bool bf16)
{
	size_t channels = channel_last && t->ndim == 4 ? (size_t) t->shape[1] : 1;
	size_t pixels = k / channels;

	if (channels == 1 && t->dtype == DSOCR_BF16)
	{
		const char *from = (const char *) t->data + n * k * sizeof(uint16_t);

		if (bf16)
			memcpy(row, from, k * sizeof(uint16_t));
		else
			for (size_t i = 0; i < k; i++)
			{
				uint16_t h;

				memcpy(&h, from + i * sizeof(h), sizeof(h));
				((float *) row)[i] = dsocr_bf16_to_f32(h);
			}
		return;
	}
	for (size_t c = 0; c < channels; c++)
		for (size_t p = 0; p < pixels; p++)
			weights_put(row, p * channels + c,
						dsocr_tensor_get(t, (int64_t) (n * k + c * pixels + p)), bf16);
}

/* All rows of a tensor to the device, converted piece by piece. */
static bool
weights_convert(DsocrCuda *c, char *to, const DsocrTensor *t, const DsocrMatrix *m,
				bool channel_last, DsocrError *err)
{
	size_t row = (size_t) m->ld * c->base.act_size;
	size_t rows = (size_t) t->shape[0];
	size_t some = row < WEIGHTS_PIECE ? WEIGHTS_PIECE / row : 1;
	char *piece;

	if (some > rows)
		some = rows;
	piece = (char *) dsocr_zalloc(some, row, err); /* the padding stays zero */
	if (piece == NULL)
		return false;
	for (size_t first = 0; first < rows; first += some)
	{
		size_t n = rows - first < some ? rows - first : some;

		for (size_t i = 0; i < n; i++)
			weights_row(piece + i * row, t, first + i, (size_t) m->k, channel_last,
						dsocr_cuda_bf16(c));
		dsocr_cuda_upload(c, to + first * row, piece, n * row);
	}
	dsocr_free(piece);
	return true;
}

DsocrMatrix *
dsocr_cuda_matrix(DsocrBackend *be, const DsocrTensor *const *parts, int n_parts, bool channel_last,
				  DsocrError *err)
{
	DsocrCuda *c = (DsocrCuda *) be;
	DsocrMatrix *m = (DsocrMatrix *) dsocr_zalloc(1, sizeof(*m), err);
	size_t row;
	size_t bytes;
	char *to;

	if (m == NULL)
		return NULL;
	if (!weights_measure(m, parts, n_parts, err))
	{
		dsocr_free(m);
		return NULL;
	}
	row = (size_t) m->ld * be->act_size;
	if (!dsocr_mul((size_t) m->n, row, &bytes))
	{
		dsocr_fail(err, DSOCR_E_MEMORY, "a weight matrix is too large");
		dsocr_free(m);
		return NULL;
	}
	m->data = dsocr_cuda_alloc(c, bytes, err);
	if (m->data == NULL)
	{
		dsocr_free(m);
		return NULL;
	}
	to = (char *) m->data;
	for (int i = 0; i < n_parts; i++)
	{
		const DsocrTensor *t = parts[i];
		size_t rows = (size_t) t->shape[0];

		if (t->dtype == DSOCR_BF16 && dsocr_cuda_bf16(c) && m->ld == m->k &&
			!(channel_last && t->ndim == 4))
			dsocr_cuda_upload(c, to, t->data, rows * row);
		else if (!weights_convert(c, to, t, m, channel_last, err))
		{
			dsocr_cuda_matrix_free(be, m);
			return NULL;
		}
		to += rows * row;
	}
	return m;
}

void
dsocr_cuda_matrix_free(DsocrBackend *be, DsocrMatrix *m)
{
	if (m == NULL)
		return;
	dsocr_cuda_free((DsocrCuda *) be, m->data);
	dsocr_free(m);
}

/* The values in bf16, for libraries that take no other bias, where nothing is lost. */
static bool
vector_round(DsocrCuda *c, DsocrVector *v, const float *values, DsocrError *err)
{
	size_t n = (size_t) v->n;
	uint16_t *rounded = (uint16_t *) dsocr_alloc(n, sizeof(*rounded), err);
	bool exact = true;

	if (rounded == NULL)
		return false;
	for (size_t i = 0; i < n && exact; i++)
	{
		rounded[i] = dsocr_f32_to_bf16(values[i]);
		exact = dsocr_bf16_to_f32(rounded[i]) == values[i];
	}
	if (exact)
	{
		v->bf16 = (uint16_t *) dsocr_cuda_alloc(c, n * sizeof(*rounded), err);
		if (v->bf16 != NULL)
			dsocr_cuda_upload(c, v->bf16, rounded, n * sizeof(*rounded));
	}
	dsocr_free(rounded);
	return !exact || v->bf16 != NULL;
}

DsocrVector *
dsocr_cuda_vector(DsocrBackend *be, const float *values, size_t n, DsocrError *err)
{
	DsocrCuda *c = (DsocrCuda *) be;
	DsocrVector *v;
	size_t bytes;

	if (n > INT32_MAX || !dsocr_mul(n, sizeof(float), &bytes))
	{
		dsocr_fail(err, DSOCR_E_MEMORY, "a weight vector is too large");
		return NULL;
	}
	v = (DsocrVector *) dsocr_zalloc(1, sizeof(*v), err);
	if (v == NULL)
		return NULL;
	v->n = (int) n;
	v->data = (float *) dsocr_cuda_alloc(c, bytes, err);
	if (v->data == NULL)
	{
		dsocr_free(v);
		return NULL;
	}
	dsocr_cuda_upload(c, v->data, values, bytes);
	if (dsocr_cuda_bf16(c) && !vector_round(c, v, values, err))
	{
		dsocr_cuda_vector_free(be, v);
		return NULL;
	}
	return v;
}

void
dsocr_cuda_vector_free(DsocrBackend *be, DsocrVector *v)
{
	if (v == NULL)
		return;
	dsocr_cuda_free((DsocrCuda *) be, v->data);
	dsocr_cuda_free((DsocrCuda *) be, v->bf16);
	dsocr_free(v);
}

/* A device table of the addresses of n matrices. */
static const void **
experts_table(DsocrCuda *c, const DsocrMatrix *const *matrices, int n, DsocrError *err)
{
	const void **host = (const void **) dsocr_alloc((size_t) n, sizeof(*host), err);
	const void **table;

	if (host == NULL)
		return NULL;
	for (int i = 0; i < n; i++)
		host[i] = matrices[i]->data;
	table = (const void **) dsocr_cuda_alloc(c, (size_t) n * sizeof(*host), err);
	if (table != NULL)
		dsocr_cuda_upload(c, table, host, (size_t) n * sizeof(*host));
	dsocr_free(host);
	return table;
}

DsocrExperts *
dsocr_cuda_experts_open(DsocrBackend *be, const DsocrMatrix *const *gate_up,
						const DsocrMatrix *const *down, int n, DsocrError *err)
{
	DsocrCuda *c = (DsocrCuda *) be;
	DsocrExperts *x;

	for (int i = 0; i < n; i++)
		if (gate_up[i]->n != 2 * (int64_t) down[i]->k || gate_up[i]->k != down[i]->n ||
			down[i]->n != down[0]->n || down[i]->k != down[0]->k)
		{
			dsocr_fail(err, DSOCR_E_INTERNAL, "expert %d has another shape than its layer", i);
			return NULL;
		}
	if (n < 1)
	{
		dsocr_fail(err, DSOCR_E_INTERNAL, "a layer has no experts");
		return NULL;
	}
	x = (DsocrExperts *) dsocr_zalloc(1, sizeof(*x), err);
	if (x == NULL)
		return NULL;
	x->n = n;
	x->inter = down[0]->k;
	x->hidden = down[0]->n;
	x->ld_hidden = gate_up[0]->ld;
	x->ld_inter = down[0]->ld;
	x->gate_up = experts_table(c, gate_up, n, err);
	x->down = x->gate_up != NULL ? experts_table(c, down, n, err) : NULL;
	if (x->down == NULL)
	{
		dsocr_cuda_experts_close(be, x);
		return NULL;
	}
	return x;
}

void
dsocr_cuda_experts_close(DsocrBackend *be, DsocrExperts *experts)
{
	if (experts == NULL)
		return;
	dsocr_cuda_free((DsocrCuda *) be, experts->gate_up);
	dsocr_cuda_free((DsocrCuda *) be, experts->down);
	dsocr_free(experts);
}
