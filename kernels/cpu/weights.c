/*-------------------------------------------------------------------------
 *
 * weights.c
 *		Matrices and vectors of weights.
 *
 * A bf16 matrix is a list of pieces of the mapping; pieces that follow each
 * other in the file become one.  A quantized matrix is a list of its parts.
 * Everything else is copied: other types, convolutions whose channels move
 * last, and quantized matrices in fp32.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <string.h>

static bool
weights_measure(DsocrMatrix *m, const DsocrTensor *const *parts, int n_parts, DsocrError *err)
{
	for (int i = 0; i < n_parts; i++)
	{
		const DsocrTensor *t = parts[i];
		size_t cols;

		if ((t->ndim != 2 && t->ndim != 4) || t->shape[0] <= 0 || t->count <= 0)
			return dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" is not a matrix", t->name);
		cols = (size_t) t->count / (size_t) t->shape[0];
		if (i > 0 && cols != m->cols)
			return dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" has %zu columns instead of %zu",
							  t->name, cols, m->cols);
		m->cols = cols;
		if (!dsocr_add(m->rows, (size_t) t->shape[0], &m->rows) || m->rows > INT32_MAX ||
			cols > INT32_MAX)
			return dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" is too large", t->name);
	}
	return true;
}

static bool
weights_by_reference(const DsocrTensor *t, bool channel_last)
{
	return t->dtype == DSOCR_BF16 && !(channel_last && t->ndim == 4);
}

static bool
weights_refer(DsocrMatrix *m, const DsocrTensor *const *parts, int n_parts, DsocrError *err)
{
	size_t first = 0;

	m->parts = dsocr_alloc((size_t) n_parts, sizeof(*m->parts), err);
	if (m->parts == NULL)
		return false;
	for (int i = 0; i < n_parts; i++)
	{
		DsocrCpuPart *last = m->n_parts > 0 ? &m->parts[m->n_parts - 1] : NULL;
		size_t rows = (size_t) parts[i]->shape[0];

		if (last != NULL && (const char *) last->data + last->rows * m->cols * sizeof(uint16_t) ==
								(const char *) parts[i]->data)
			last->rows += rows;
		else
			m->parts[m->n_parts++] = (DsocrCpuPart){parts[i]->data, first, rows};
		first += rows;
	}
	return true;
}

/* Parts keep their panels: none becomes one with its neighbour. */
static bool
weights_quantized(DsocrMatrix *m, const DsocrTensor *const *parts, int n_parts, DsocrError *err)
{
	size_t first = 0;

	m->quant = true;
	m->dtype = parts[0]->dtype;
	m->parts = dsocr_alloc((size_t) n_parts, sizeof(*m->parts), err);
	if (m->parts == NULL)
		return false;
	if (!dsocr_quant_shape(m->dtype, (size_t) parts[0]->shape[0], m->cols, &m->shape))
		return dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" is too large", parts[0]->name);
	for (int i = 0; i < n_parts; i++)
	{
		if (parts[i]->dtype != m->dtype)
			return dsocr_fail(err, DSOCR_E_MODEL,
							  "tensors \"%.80s\" and \"%.80s\" differ in their type",
							  parts[0]->name, parts[i]->name);
		m->parts[m->n_parts++] = (DsocrCpuPart){parts[i]->data, first, (size_t) parts[i]->shape[0]};
		first += (size_t) parts[i]->shape[0];
	}
	return true;
}

static void
weights_put(DsocrMatrix *m, size_t at, float value)
{
	if (m->fp32)
		((float *) m->owned)[at] = value;
	else
		((uint16_t *) m->owned)[at] = dsocr_f32_to_bf16(value);
}

static bool
weights_convert(DsocrMatrix *m, const DsocrTensor *const *parts, int n_parts, bool channel_last,
				DsocrError *err)
{
	size_t count;
	size_t first = 0;

	if (!dsocr_mul(m->rows, m->cols, &count))
		return dsocr_fail(err, DSOCR_E_MEMORY, "a weight matrix is too large");
	m->parts = dsocr_alloc(1, sizeof(*m->parts), err);
	m->owned = dsocr_alloc(count, m->fp32 ? sizeof(float) : sizeof(uint16_t), err);
	if (m->parts == NULL || m->owned == NULL)
		return false;
	m->n_parts = 1;
	m->parts[0] = (DsocrCpuPart){m->owned, 0, m->rows};
	for (int i = 0; i < n_parts; i++)
	{
		const DsocrTensor *t = parts[i];
		size_t channels = channel_last && t->ndim == 4 ? (size_t) t->shape[1] : 1;
		size_t pixels = m->cols / channels;

		if (channels == 1 && m->fp32)
		{
			for (size_t n = 0; n < (size_t) t->shape[0]; n++)
				dsocr_tensor_row(t, (int64_t) n, (float *) m->owned + (first + n) * m->cols);
			first += (size_t) t->shape[0];
			continue;
		}
		for (size_t n = 0; n < (size_t) t->shape[0]; n++)
			for (size_t c = 0; c < channels; c++)
				for (size_t p = 0; p < pixels; p++)
					weights_put(m, (first + n) * m->cols + p * channels + c,
								dsocr_tensor_get(t, (int64_t) (n * m->cols + c * pixels + p)));
		first += (size_t) t->shape[0];
	}
	return true;
}

DsocrMatrix *
dsocr_cpu_matrix(DsocrBackend *be, const DsocrTensor *const *parts, int n_parts, bool channel_last,
				 DsocrError *err)
{
	DsocrMatrix *m = dsocr_zalloc(1, sizeof(*m), err);
	bool refer = true;
	bool all_bf16 = true;
	bool quantized = false;
	bool ok;

	if (m == NULL)
		return NULL;
	for (int i = 0; i < n_parts; i++)
	{
		refer &= weights_by_reference(parts[i], channel_last);
		all_bf16 &= parts[i]->dtype == DSOCR_BF16;
		quantized |= dsocr_is_quantized(parts[i]->dtype);
	}
	m->fp32 = !all_bf16 && be->precision == DSOCR_PRECISION_FP32;
	ok = weights_measure(m, parts, n_parts, err);
	if (ok && quantized && !m->fp32)
		ok = weights_quantized(m, parts, n_parts, err);
	else if (ok)
		ok = refer ? weights_refer(m, parts, n_parts, err)
				   : weights_convert(m, parts, n_parts, channel_last, err);
	if (!ok)
	{
		dsocr_cpu_matrix_free(be, m);
		return NULL;
	}
	return m;
}

void
dsocr_cpu_matrix_free(DsocrBackend *be, DsocrMatrix *m)
{
	if (m == NULL)
		return;
	dsocr_free(m->parts);
	dsocr_free(m->owned);
	dsocr_free(m);
}

const DsocrCpuPart *
dsocr_cpu_matrix_part(const DsocrMatrix *m, size_t n)
{
	int i = 0;

	while (n >= m->parts[i].first + m->parts[i].rows)
		i++;
	return &m->parts[i];
}

const void *
dsocr_cpu_matrix_row(const DsocrMatrix *m, size_t n, size_t *left)
{
	const DsocrCpuPart *part = dsocr_cpu_matrix_part(m, n);

	n -= part->first;
	*left = part->rows - n;
	return (const char *) part->data + n * m->cols * (m->fp32 ? sizeof(float) : sizeof(uint16_t));
}

DsocrVector *
dsocr_cpu_vector(DsocrBackend *be, const float *values, size_t n, DsocrError *err)
{
	size_t bytes;
	DsocrVector *v;

	if (!dsocr_mul(n, sizeof(float), &bytes) || !dsocr_add(bytes, sizeof(*v), &bytes))
	{
		dsocr_fail(err, DSOCR_E_MEMORY, "a weight vector is too large");
		return NULL;
	}
	v = dsocr_alloc(bytes, 1, err);
	if (v == NULL)
		return NULL;
	v->n = n;
	memcpy(v->v, values, n * sizeof(float));
	return v;
}

void
dsocr_cpu_vector_free(DsocrBackend *be, DsocrVector *v)
{
	dsocr_free(v);
}

static void
weights_embed_row(const DsocrCpu *cpu, float *to, const DsocrMatrix *table, int32_t id)
{
	size_t left;
	const void *row = dsocr_cpu_matrix_row(table, (size_t) id, &left);

	if (table->fp32)
		memcpy(to, row, table->cols * sizeof(float));
	else
		cpu->isa->vec->to_f32(to, row, table->cols);
}

void
dsocr_cpu_embed(DsocrBackend *be, void *out, const DsocrMatrix *table, const int32_t *ids, int n)
{
	for (size_t i = 0; i < (size_t) n; i++)
		weights_embed_row((DsocrCpu *) be, (float *) out + i * table->cols, table, ids[i]);
}

void
dsocr_cpu_embed_last(DsocrBackend *be, void *out, const DsocrMatrix *table, const DsocrRows *rows)
{
	const DsocrCpu *cpu = (DsocrCpu *) be;

	for (int r = 0; r < rows->n; r++)
	{
		const DsocrCpuText *text = dsocr_cpu_row_text(cpu, rows, r);
		float *to = (float *) out + (size_t) r * table->cols;

		if (text != NULL)
			weights_embed_row(cpu, to, table, text->ids[text->n - 1]);
		else
			memset(to, 0, table->cols * sizeof(float));
	}
}

DsocrExperts *
dsocr_cpu_experts_open(DsocrBackend *be, const DsocrMatrix *const *gate_up,
					   const DsocrMatrix *const *down, int n, DsocrError *err)
{
	DsocrExperts *e = dsocr_zalloc(1, sizeof(*e), err);

	if (e == NULL)
		return NULL;
	for (int i = 1; i < n; i++)
		if (gate_up[i]->quant != gate_up[0]->quant || gate_up[i]->dtype != gate_up[0]->dtype ||
			down[i]->quant != down[0]->quant || down[i]->dtype != down[0]->dtype)
		{
			dsocr_fail(err, DSOCR_E_MODEL, "experts of one layer differ in their type");
			dsocr_free(e);
			return NULL;
		}
	e->n = n;
	e->gate_up = dsocr_alloc((size_t) n, sizeof(*e->gate_up), err);
	e->down = dsocr_alloc((size_t) n, sizeof(*e->down), err);
	if (e->gate_up == NULL || e->down == NULL)
	{
		dsocr_cpu_experts_close(be, e);
		return NULL;
	}
	memcpy(e->gate_up, gate_up, sizeof(*gate_up) * (size_t) n);
	memcpy(e->down, down, sizeof(*down) * (size_t) n);
	return e;
}

void
dsocr_cpu_experts_close(DsocrBackend *be, DsocrExperts *experts)
{
	if (experts == NULL)
		return;
	dsocr_free(experts->gate_up);
	dsocr_free(experts->down);
	dsocr_free(experts);
}
