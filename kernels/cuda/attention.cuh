/*-------------------------------------------------------------------------
 *
 * attention.cuh
 *		The shape of an attention problem, for the kernels of attention.cu.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ATTENTION_CUH
#define DSOCR_ATTENTION_CUH

#include "cuda.h"

/* Kernel argument: a view of height x side tokens in windows of rows x cols. */
typedef struct AttentionShape
{
	int height;
	int side;
	int rows;
	int cols;
	int windows; /* along each side */
	int tiles;	 /* blocks of queries of a window */
	int heads;
	int head_dim;
	int dim; /* heads * head_dim; tokens are rows of 3 * dim */
} AttentionShape;

typedef struct AttentionWindow
{
	int top; /* first token of the view */
	int left;
	int real_rows; /* rows and columns that are not padding */
	int real_cols;
} AttentionWindow;

static __device__ __forceinline__ AttentionWindow
attention_window(const AttentionShape &s, int i)
{
	AttentionWindow w;

	w.top = i / s.windows * s.rows;
	w.left = i % s.windows * s.cols;
	w.real_rows = min(s.rows, s.height - w.top);
	w.real_cols = min(s.cols, s.side - w.left);
	return w;
}

#endif /* DSOCR_ATTENTION_CUH */
