/*-------------------------------------------------------------------------
 *
 * fixture.c
 *		What the tests of backends share: inputs, weights, comparison.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#include "fixture.h"
#include "isa.h"
#include "quantize.h"

DsocrBackend *fx_both[2];
DsocrPrecision fx_precision;
DsocrDtype fx_weights = DSOCR_BF16;
uint64_t fx_seed;

/* ---- inputs ---- */

uint64_t
fx_next(void)
{
	uint64_t z = fx_seed += 0x9E3779B97F4A7C15u;

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

int
fx_between(int low, int high)
{
	return low + (int) (fx_next() % (uint64_t) (high - low + 1));
}

/* A bf16 number, roughly normal with deviation scale. */
float
fx_number(float scale)
{
	float sum = 0;

	for (int i = 0; i < 4; i++)
		sum += (float) (fx_next() >> 40) / (1 << 23) - 1.0f;
	return dsocr_bf16_to_f32(dsocr_f32_to_bf16(sum * 0.87f * scale));
}

float *
fx_numbers(size_t n, float scale)
{
	float *x = dsocr_alloc(n, sizeof(float), NULL);

	assert_non_null(x);
	for (size_t i = 0; i < n; i++)
		x[i] = fx_number(scale);
	return x;
}

/* An activation with these values. */
void *
fx_act(DsocrBackend *be, const float *values, size_t n)
{
	DsocrError err;
	void *a = be->ops->alloc(be, n, &err);

	assert_non_null(a);
	be->ops->write(be, a, values, n);
	return a;
}

static void
fx_matrix_open(FxMatrix *w, int n_parts, bool channel_last)
{
	for (int b = 0; b < 2; b++)
	{
		DsocrError err;

		w->m[b] = fx_both[b]->ops->matrix(fx_both[b], w->parts, n_parts, channel_last, &err);
		assert_non_null(w->m[b]);
	}
}

FxMatrix
fx_matrix_of(int rows, int cols, const float *values)
{
	FxMatrix w = {0};
	DsocrTensor *t = &w.tensors[0];
	size_t n = (size_t) rows * (size_t) cols;

	w.bytes = dsocr_alloc(n, 2, NULL);
	assert_non_null(w.bytes);
	for (size_t i = 0; i < n; i++)
	{
		uint16_t h = dsocr_f32_to_bf16(values[i]);

		memcpy(w.bytes + 2 * i, &h, 2);
	}
	*t = (DsocrTensor){.name = "w",
					   .dtype = DSOCR_BF16,
					   .ndim = 2,
					   .shape = {rows, cols},
					   .count = (int64_t) n,
					   .data = w.bytes};
	/* the tensor lies in what is returned; a backend needs it no longer than this call */
	w.parts[0] = t;
	fx_matrix_open(&w, 1, false);
	return w;
}

/* The parts in 8 or 4 bits: backends see these instead. */
static void
fx_quantize(FxMatrix *w, int n_parts)
{
	size_t sizes[FX_MAX_PARTS];
	size_t all = 1;
	char *at;

	for (int p = 0; p < n_parts; p++)
	{
		DsocrTensor to = w->tensors[p];

		to.dtype = fx_weights;
		sizes[p] = dsocr_tensor_bytes(&to);
		all += sizes[p];
	}
	at = w->panels = dsocr_alloc(all, 1, NULL);
	assert_non_null(w->panels);
	at++;
	for (int p = 0; p < n_parts; p++)
	{
		assert_true(dsocr_quantize_tensor(&w->tensors[p], fx_weights, at, 1, NULL));
		w->tensors[p].dtype = fx_weights;
		w->tensors[p].data = at;
		at += sizes[p];
	}
}

FxMatrix
fx_table(int rows, int cols, float scale)
{
	DsocrDtype weights = fx_weights;
	FxMatrix w;

	fx_weights = DSOCR_BF16;
	w = fx_matrix(rows, cols, 1, false, scale);
	fx_weights = weights;
	return w;
}

/* W[rows, cols] in parts; 4-D [rows, cols / 9, 3, 3] when channel_last. */
FxMatrix
fx_matrix(int rows, int cols, int n_parts, bool channel_last, float scale)
{
	FxMatrix w = {0};
	size_t n = (size_t) rows * (size_t) cols;
	int first = 0;

	w.bytes = dsocr_alloc(2 * n + 64 * FX_MAX_PARTS, 1, NULL);
	assert_non_null(w.bytes);
	for (int p = 0; p < n_parts; p++)
	{
		int last = p == n_parts - 1 ? rows : rows * (p + 1) / n_parts;
		DsocrTensor *t = &w.tensors[p];
		/* some parts follow each other, others do not */
		char *at = w.bytes + 1 + (size_t) first * (size_t) cols * 2 + (p / 2) * 6;

		*t = (DsocrTensor){.name = "w", .dtype = DSOCR_BF16, .ndim = 2, .data = at};
		t->shape[0] = last - first;
		t->shape[1] = cols;
		if (channel_last)
		{
			t->ndim = 4;
			t->shape[1] = cols / 9;
			t->shape[2] = t->shape[3] = 3;
		}
		t->count = (int64_t) (last - first) * cols;
		for (int64_t i = 0; i < t->count; i++)
		{
			uint16_t h = dsocr_f32_to_bf16(fx_number(scale));

			memcpy(at + 2 * i, &h, 2);
		}
		w.parts[p] = t;
		first = last;
	}
	if (dsocr_is_quantized(fx_weights) && !channel_last)
		fx_quantize(&w, n_parts);
	fx_matrix_open(&w, n_parts, channel_last);
	return w;
}

void
fx_matrix_free(FxMatrix *w)
{
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->matrix_free(fx_both[b], w->m[b]);
	dsocr_free(w->bytes);
	dsocr_free(w->panels);
}

FxVector
fx_vector(size_t n, float scale, float offset)
{
	FxVector v;
	float *x = fx_numbers(n, scale);

	for (size_t i = 0; i < n; i++)
		x[i] += offset;
	for (int b = 0; b < 2; b++)
	{
		v.v[b] = fx_both[b]->ops->vector(fx_both[b], x, n, NULL);
		assert_non_null(v.v[b]);
	}
	dsocr_free(x);
	return v;
}

void
fx_vector_free(FxVector *v)
{
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->vector_free(fx_both[b], v->v[b]);
}

void
fx_text(int slot, const DsocrText *text)
{
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->text_start(fx_both[b], slot, text);
}

void
fx_length(int slot, int n, const int32_t *pages, int n_pages)
{
	static const int32_t zeros[FX_IDS];

	fx_text(slot, &(DsocrText){
					  .ids = zeros, .n = n, .prompt_len = n, .pages = pages, .n_pages = n_pages});
}

/* ---- comparison ---- */

void
fx_compare_floats(const char *what, const float *want, const float *got, size_t n, double tolerance)
{
	double square = 0;
	double worst = 0;

	for (size_t i = 0; i < n; i++)
		square += (double) want[i] * want[i];
	for (size_t i = 0; i < n; i++)
	{
		double d = fabs((double) want[i] - got[i]);

		if (!(d <= worst)) /* a NaN is the worst */
			worst = d;
	}
	square = sqrt(square / (double) (n > 0 ? n : 1));
	if (!(worst <= tolerance * square + 1e-30))
		fail_msg("%s: error %g of rms %g, allowed %g", what, worst, square, tolerance * square);
}

/* Compare outputs of fx_both backends and free them. */
void
fx_compare(const char *what, void *want, void *got, size_t n, double tolerance)
{
	DsocrError err;
	float *w = fx_numbers(n, 0);
	float *g = fx_numbers(n, 0);

	assert_true(fx_both[1]->ops->sync(fx_both[1], &err));
	fx_both[0]->ops->read(fx_both[0], w, want, n);
	fx_both[1]->ops->read(fx_both[1], g, got, n);
	fx_compare_floats(what, w, g, n, tolerance);
	fx_both[0]->ops->free(fx_both[0], want);
	fx_both[1]->ops->free(fx_both[1], got);
	dsocr_free(w);
	dsocr_free(g);
}

double
fx_rounded(void)
{
	return fx_precision == DSOCR_PRECISION_FP32 ? FX_TIGHT : FX_ROUNDED;
}

double
fx_tight(void)
{
	return fx_both[1]->act_size == 4 ? FX_TIGHT : FX_ROUNDED;
}

/* ---- backends ---- */

/* Only tests that run on CUDA link it. */
extern DsocrBackendOpen dsocr_cuda_open __attribute__((weak));

bool
fx_cuda(void)
{
	return dsocr_cuda_open != NULL;
}

bool
fx_open(const char *isa, DsocrPrecision precision, int threads)
{
	static const int32_t listed[2] = {FX_LISTED_A, FX_LISTED_B};
	const DsocrTextShape texts = {
		.slots = FX_SLOTS, .ids = FX_IDS, .pages = FX_PAGES, .whitelist = listed, .n_whitelist = 2};
	DsocrBackendOptions options = {.device = "cpu", .precision = precision, .threads = threads};
	DsocrError err;

	if (fx_cuda() != (strcmp(isa, "cuda") == 0))
		return false;
	setenv("DSOCR_ISA", isa, 1);
	if (!fx_cuda() && strcmp(dsocr_isa_choose()->name, isa) != 0)
		return false;
	if (fx_cuda())
		options.device = "cuda:0";
	fx_precision = precision;
	fx_seed = 1;
	fx_both[0] = dsocr_reference_open(&options, &err);
	fx_both[1] = fx_cuda() ? dsocr_cuda_open(&options, &err) : dsocr_cpu_open(&options, &err);
	assert_non_null(fx_both[0]);
	assert_non_null(fx_both[1]);
	for (int b = 0; b < 2; b++)
		assert_true(fx_both[b]->ops->texts_open(fx_both[b], &texts, &err));
	return true;
}

void
fx_close(void)
{
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->close(fx_both[b]);
}
