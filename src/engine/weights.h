/*-------------------------------------------------------------------------
 *
 * weights.h
 *		Named tensors of a model folder, mapped from safetensors files.
 *
 * A folder holds model.safetensors, or several shards named by
 * model.safetensors.index.json.  Files are mapped read-only; a tensor is a
 * pointer into the mapping.  Every offset, shape and type is checked against
 * the file before the first tensor is handed out.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_WEIGHTS_H
#define DSOCR_WEIGHTS_H

#include "base.h"

#define DSOCR_MAX_DIMS 4

typedef enum DsocrDtype
{
	DSOCR_BF16,
	DSOCR_F16,
	DSOCR_F32,
	DSOCR_F64,
	DSOCR_I64,
	DSOCR_I32,
	DSOCR_I8,
	DSOCR_U8,
	DSOCR_INT8, /* a matrix in panels, see quantize.h */
	DSOCR_INT4
} DsocrDtype;

typedef struct DsocrTensor
{
	const char *name; /* owned by the file */
	DsocrDtype dtype;
	int ndim;
	int64_t shape[DSOCR_MAX_DIMS]; /* row-major, outermost first */
	int64_t count;				   /* number of elements */
	const void *data;			   /* dsocr_tensor_bytes, in the mapping; 1-byte aligned at worst */
} DsocrTensor;

typedef struct DsocrWeights DsocrWeights;

/* Bytes of an element; 0 for those of quantized matrices, which have none of their own. */
extern size_t dsocr_dtype_size(DsocrDtype dtype);

/* Open all shards of a model folder.  Errors: DSOCR_E_MODEL, DSOCR_E_MEMORY. */
extern DsocrWeights *dsocr_weights_open(const char *dir, DsocrError *err);

/* Open one safetensors file (golden data); index files are not looked for. */
extern DsocrWeights *dsocr_weights_open_file(const char *path, DsocrError *err);

extern void dsocr_weights_close(DsocrWeights *w);

/* NULL when there is no such tensor. */
extern const DsocrTensor *dsocr_weights_find(const DsocrWeights *w, const char *name);

/*
 * Find a tensor that must exist with exactly this shape (ndim dimensions
 * follow as int64_t).  Sets DSOCR_E_MODEL naming tensor, expected and found
 * shape otherwise.
 */
extern const DsocrTensor *dsocr_weights_need(const DsocrWeights *w, DsocrError *err,
											 const char *name, int ndim, const int64_t *shape);

extern int dsocr_weights_count(const DsocrWeights *w);
extern const DsocrTensor *dsocr_weights_at(const DsocrWeights *w, int i); /* in file order */
extern size_t dsocr_weights_bytes(const DsocrWeights *w);				  /* tensor bytes mapped */

/* Put another tensor of the same name in the place of the i-th; it must live as long. */
extern void dsocr_weights_replace(DsocrWeights *w, int i, const DsocrTensor *t);

/* Bytes of a tensor that was checked. */
extern size_t dsocr_tensor_bytes(const DsocrTensor *t);

/* Element i as fp32, whatever the type. */
extern float dsocr_tensor_get(const DsocrTensor *t, int64_t i);

/* Row n of a tensor, taken as [shape[0], rest], as fp32. */
extern void dsocr_tensor_row(const DsocrTensor *t, int64_t n, float *out);

#endif /* DSOCR_WEIGHTS_H */
