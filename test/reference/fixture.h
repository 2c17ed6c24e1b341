/*-------------------------------------------------------------------------
 *
 * fixture.h
 *		What the tests of backends share: inputs, weights, comparison.
 *
 * Inputs are bf16 numbers, so that rounding the operands of a product
 * changes nothing and tolerances stay tight in both precisions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_TEST_FIXTURE_H
#define DSOCR_TEST_FIXTURE_H

#include "backend.h"

#define FX_TIGHT 2e-5	/* fp32 sums in another order, relative to the rms */
#define FX_GROUPED 5e-4 /* operands rounded to 15 bits in groups */
#define FX_WIDENED 2e-2 /* weights of 8 or 4 bits rounded to bf16 */
#define FX_ROUNDED 3e-2 /* values rounded to bf16 on the way */
#define FX_MAX_PARTS 4

/* Slots that fx_open makes in both backends; their whitelist is FX_LISTED_A and B. */
#define FX_SLOTS 64
#define FX_IDS 8192
#define FX_PAGES 256
#define FX_LISTED_A 3
#define FX_LISTED_B 11

extern DsocrBackend *fx_both[2]; /* reference, and cpu or cuda */
extern DsocrPrecision fx_precision;
extern DsocrDtype fx_weights; /* of matrices: DSOCR_BF16, or quantized to this; the test sets it */
extern uint64_t fx_seed;

extern uint64_t fx_next(void);
extern int fx_between(int low, int high);
extern float fx_number(float scale); /* bf16, roughly normal with deviation scale */
extern float *fx_numbers(size_t n, float scale);

/* An activation with these values. */
extern void *fx_act(DsocrBackend *be, const float *values, size_t n);

typedef struct FxMatrix
{
	char *bytes;  /* bf16 at an odd address */
	char *panels; /* or quantized */
	DsocrTensor tensors[FX_MAX_PARTS];
	const DsocrTensor *parts[FX_MAX_PARTS];
	DsocrMatrix *m[2];
} FxMatrix;

/* W[rows, cols] in parts; 4-D [rows, cols / 9, 3, 3] when channel_last */
extern FxMatrix fx_matrix(int rows, int cols, int n_parts, bool channel_last, float scale);

/* One that is not quantized whatever fx_weights says. */
extern FxMatrix fx_table(int rows, int cols, float scale);

/* The same in one part with these values, rounded to bf16. */
extern FxMatrix fx_matrix_of(int rows, int cols, const float *values);
extern void fx_matrix_free(FxMatrix *w);

typedef struct FxVector
{
	DsocrVector *v[2];
} FxVector;

extern FxVector fx_vector(size_t n, float scale, float offset);
extern void fx_vector_free(FxVector *v);

/* Start a text in both backends. */
extern void fx_text(int slot, const DsocrText *text);

/* A text of n zeros with these pages and no rule: what matters is its length. */
extern void fx_length(int slot, int n, const int32_t *pages, int n_pages);

/* Fail unless max |want - got| <= tolerance * rms of want. */
extern void fx_compare_floats(const char *what, const float *want, const float *got, size_t n,
							  double tolerance);

/* The same for outputs of both backends, which are freed. */
extern void fx_compare(const char *what, void *want, void *got, size_t n, double tolerance);

/* Tolerance of operations that keep values in bf16, for the current precision. */
extern double fx_rounded(void);

/* Tolerance of operations that do not, for the activations of the second backend. */
extern double fx_tight(void);

/* Is the CUDA backend linked in?  Then it is the second one. */
extern bool fx_cuda(void);

/*
 * Open both backends for a precision and an instruction set; false when this
 * machine does not have the set.  "cuda" stands for the CUDA backend.
 */
extern bool fx_open(const char *isa, DsocrPrecision precision, int threads);
extern void fx_close(void);

#endif /* DSOCR_TEST_FIXTURE_H */
