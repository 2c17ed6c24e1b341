/*-------------------------------------------------------------------------
 *
 * load.h
 *		Named tensors of a model folder to weights of a backend.
 *
 * The first failure is kept in the loader and later calls do nothing, so
 * that a model can be loaded line by line and checked once.  Every tensor is
 * checked by name and shape.  What a failed loader has handed out is freed by
 * the caller as usual: NULL pointers are skipped.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_LOAD_H
#define DSOCR_LOAD_H

#include "backend.h"

#define DSOCR_MAX_PARTS 4
#define DSOCR_NAME_MAX 160

typedef struct DsocrLoader
{
	DsocrBackend *be;
	const DsocrWeights *weights;
	DsocrError *err;
	bool failed;
	char prefix[DSOCR_NAME_MAX]; /* put before every name */
} DsocrLoader;

extern void dsocr_load_prefix(DsocrLoader *l, const char *fmt, ...) DSOCR_PRINTF(2, 3);

/* The tensor itself, NULL on failure. */
extern const DsocrTensor *dsocr_load_tensor(DsocrLoader *l, const char *name, int ndim,
											const int64_t *shape);

/* W[n, k] that rows are taken from, or that must be exact: not quantized */
extern DsocrMatrix *dsocr_load_table(DsocrLoader *l, const char *name, int n, int k);

/* W[n, k] */
extern DsocrMatrix *dsocr_load_matrix(DsocrLoader *l, const char *name, int n, int k);

/* W[n_parts * n, k]: matrices of one shape under each other. */
extern DsocrMatrix *dsocr_load_stack(DsocrLoader *l, const char *const *names, int n_parts, int n,
									 int k);

/*
 * Convolution [n, channels, side, side] as W[n, side^2 * channels];
 * channel_last is the order of im2col3, otherwise that of patches.
 */
extern DsocrMatrix *dsocr_load_conv(DsocrLoader *l, const char *name, int n, int channels, int side,
									bool channel_last);

/* v[n] */
extern DsocrVector *dsocr_load_vector(DsocrLoader *l, const char *name, int n);

/* v[n] as activations */
extern void *dsocr_load_row(DsocrLoader *l, const char *name, int n);

/* All values of a tensor as fp32, to be freed with dsocr_free. */
extern float *dsocr_tensor_floats(const DsocrTensor *t, DsocrError *err);

#endif /* DSOCR_LOAD_H */
