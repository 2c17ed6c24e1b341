/*-------------------------------------------------------------------------
 *
 * reference_attention.c
 *		Attention, key/value pages and rotary embedding, the obvious way.
 *
 *-------------------------------------------------------------------------
 */
#include "reference.h"

#include <math.h>
#include <string.h>

double
dsocr_ref_dot(const float *a, const float *b, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (double) a[i] * b[i];
	return sum;
}

/* scores[n] to probabilities */
void
dsocr_ref_softmax(double *scores, int n)
{
	double top = -INFINITY;
	double sum = 0;

	for (int i = 0; i < n; i++)
		top = fmax(top, scores[i]);
	for (int i = 0; i < n; i++)
		sum += scores[i] = exp(scores[i] - top);
	for (int i = 0; i < n; i++)
		scores[i] /= sum;
}

/* One query of one head over n keys; keys[i] and values[i] point to head_dim floats. */
static void
ref_attend(float *out, const float *q, const float *const *keys, const float *const *values,
		   const double *bias, double *scores, int n, int head_dim)
{
	for (int i = 0; i < n; i++)
		scores[i] = dsocr_ref_dot(q, keys[i], (size_t) head_dim) / sqrt((double) head_dim) +
					(bias != NULL ? bias[i] : 0);
	dsocr_ref_softmax(scores, n);
	for (int d = 0; d < head_dim; d++)
	{
		double v = 0;

		for (int i = 0; i < n; i++)
			v += scores[i] * values[i][d];
		out[d] = (float) v;
	}
}

typedef struct RefKeys
{
	const float **keys; /* [n] */
	const float **values;
	double *scores;
	double *bias;
} RefKeys;

static bool
ref_keys_open(RefKeys *k, size_t n)
{
	k->keys = dsocr_alloc(n, sizeof(*k->keys), NULL);
	k->values = dsocr_alloc(n, sizeof(*k->values), NULL);
	k->scores = dsocr_alloc(n, sizeof(*k->scores), NULL);
	k->bias = dsocr_alloc(n, sizeof(*k->bias), NULL);
	return k->keys != NULL && k->values != NULL && k->scores != NULL && k->bias != NULL;
}

static void
ref_keys_close(RefKeys *k)
{
	dsocr_free(k->keys);
	dsocr_free(k->values);
	dsocr_free(k->scores);
	dsocr_free(k->bias);
}

/* One view. */
static void
ref_grid(float *out, const float *in, int side, int heads, int head_dim, int window,
		 const DsocrVector *rel_h, const DsocrVector *rel_w, const DsocrVector *qkv_bias)
{
	int q = window > 0 ? window : side;
	size_t dim = (size_t) heads * head_dim;
	RefKeys k;

	if (!ref_keys_open(&k, (size_t) q * q))
	{
		ref_keys_close(&k);
		return;
	}
	for (int t = 0; t < side * side; t++)
		for (int h = 0; h < heads; h++)
		{
			int iy = t / side % q;
			int ix = t % side % q;
			const float *query = in + (size_t) t * 3 * dim + (size_t) h * head_dim;

			for (int j = 0; j < q * q; j++)
			{
				int jy = j / q;
				int jx = j % q;
				int y = t / side / q * q + jy;
				int x = t % side / q * q + jx;
				const float *token =
					y < side && x < side ? in + ((size_t) y * side + x) * 3 * dim : qkv_bias->v;

				k.keys[j] = token + dim + (size_t) h * head_dim;
				k.values[j] = token + 2 * dim + (size_t) h * head_dim;
				k.bias[j] = dsocr_ref_dot(query, rel_h->v + (size_t) (iy - jy + q - 1) * head_dim,
										  head_dim) +
							dsocr_ref_dot(query, rel_w->v + (size_t) (ix - jx + q - 1) * head_dim,
										  head_dim);
			}
			ref_attend(out + (size_t) t * dim + (size_t) h * head_dim, query, k.keys, k.values,
					   k.bias, k.scores, q * q, head_dim);
		}
	ref_keys_close(&k);
}

void
dsocr_ref_grid_attention(DsocrBackend *be, void *out, const void *qkv, int views, int side,
						 int heads, int head_dim, int window, const DsocrVector *rel_h,
						 const DsocrVector *rel_w, const DsocrVector *qkv_bias)
{
	size_t n = (size_t) side * side * heads * head_dim;

	for (size_t v = 0; v < (size_t) views; v++)
		ref_grid((float *) out + v * n, (const float *) qkv + v * 3 * n, side, heads, head_dim,
				 window, rel_h, rel_w, qkv_bias);
}

/* One view. */
static void
ref_full(float *out, const float *in, int n, int heads, int head_dim)
{
	size_t dim = (size_t) heads * head_dim;
	RefKeys k;

	if (ref_keys_open(&k, (size_t) n))
		for (int t = 0; t < n; t++)
			for (int h = 0; h < heads; h++)
			{
				for (int j = 0; j < n; j++)
				{
					k.keys[j] = in + (size_t) j * 3 * dim + dim + (size_t) h * head_dim;
					k.values[j] = k.keys[j] + dim;
				}
				ref_attend(out + (size_t) t * dim + (size_t) h * head_dim,
						   in + (size_t) t * 3 * dim + (size_t) h * head_dim, k.keys, k.values,
						   NULL, k.scores, n, head_dim);
			}
	ref_keys_close(&k);
}

void
dsocr_ref_attention(DsocrBackend *be, void *out, const void *qkv, int views, int n, int heads,
					int head_dim)
{
	size_t count = (size_t) n * heads * head_dim;

	for (size_t v = 0; v < (size_t) views; v++)
		ref_full((float *) out + v * count, (const float *) qkv + v * 3 * count, n, heads,
				 head_dim);
}

size_t
dsocr_ref_kv_bytes(const DsocrBackend *be, const DsocrKvShape *s)
{
	return (size_t) s->layers * s->pages * s->page_tokens * 2 * s->heads * s->head_dim *
		   sizeof(float);
}

DsocrKv *
dsocr_ref_kv_open(DsocrBackend *be, const DsocrKvShape *shape, DsocrError *err)
{
	DsocrKv *kv = dsocr_alloc(1, sizeof(*kv), err);

	if (kv == NULL)
		return NULL;
	kv->shape = *shape;
	kv->data = dsocr_alloc(dsocr_ref_kv_bytes(be, shape), 1, err);
	if (kv->data == NULL)
	{
		dsocr_free(kv);
		return NULL;
	}
	return kv;
}

void
dsocr_ref_kv_close(DsocrBackend *be, DsocrKv *kv)
{
	if (kv != NULL)
		dsocr_free(kv->data);
	dsocr_free(kv);
}

/* Key of a position; its value lies heads * head_dim behind. */
static float *
ref_kv_at(DsocrKv *kv, int layer, const int32_t *pages, int position)
{
	const DsocrKvShape *s = &kv->shape;
	size_t page = (size_t) layer * s->pages + (size_t) pages[position / s->page_tokens];
	size_t token = page * s->page_tokens + (size_t) (position % s->page_tokens);

	return kv->data + token * 2 * s->heads * s->head_dim;
}

static void
ref_rotate(float *x, int head_dim, int position, float theta)
{
	int half = head_dim / 2;

	for (int i = 0; i < half; i++)
	{
		float frequency = 1.0f / powf(theta, 2.0f * (float) i / (float) head_dim);
		float angle = (float) position * frequency;
		double c = cos((double) angle);
		double s = sin((double) angle);
		float a = x[i];
		float b = x[i + half];

		x[i] = (float) (a * c - b * s);
		x[i + half] = (float) (b * c + a * s);
	}
}

void
dsocr_ref_rope_store(DsocrBackend *be, void *qkv, const DsocrRows *rows, DsocrKv *kv, int layer,
					 float theta)
{
	int head_dim = kv->shape.head_dim;
	size_t dim = (size_t) kv->shape.heads * head_dim;

	for (int r = 0; r < rows->n; r++)
	{
		const RefText *text = dsocr_ref_text(be, rows, r);
		int position = text == NULL ? 0 : dsocr_ref_position(text, rows, r);
		float *q = (float *) qkv + (size_t) r * 3 * dim;
		float *slot;

		if (text == NULL)
			continue;
		slot = ref_kv_at(kv, layer, text->pages, position);
		memcpy(slot, q + dim, 2 * dim * sizeof(float));
		for (int h = 0; h < kv->shape.heads; h++)
		{
			ref_rotate(q + (size_t) h * head_dim, head_dim, position, theta);
			ref_rotate(slot + (size_t) h * head_dim, head_dim, position, theta);
		}
	}
}

void
dsocr_ref_causal_attention(DsocrBackend *be, void *out, const void *qkv, const DsocrRows *rows,
						   DsocrKv *kv, int layer)
{
	int head_dim = kv->shape.head_dim;
	size_t dim = (size_t) kv->shape.heads * head_dim;

	for (int r = 0; r < rows->n; r++)
	{
		const RefText *text = dsocr_ref_text(be, rows, r);
		int n = text == NULL ? 0 : dsocr_ref_position(text, rows, r) + 1;
		RefKeys k;

		if (text == NULL)
		{
			memset((float *) out + (size_t) r * dim, 0, dim * sizeof(float));
			continue;
		}

		if (ref_keys_open(&k, (size_t) n))
			for (int h = 0; h < kv->shape.heads; h++)
			{
				for (int j = 0; j < n; j++)
				{
					k.keys[j] = ref_kv_at(kv, layer, text->pages, j) + (size_t) h * head_dim;
					k.values[j] = k.keys[j] + dim;
				}
				ref_attend((float *) out + (size_t) r * dim + (size_t) h * head_dim,
						   (const float *) qkv + (size_t) r * 3 * dim + (size_t) h * head_dim,
						   k.keys, k.values, NULL, k.scores, n, head_dim);
			}
		ref_keys_close(&k);
	}
}
