/*-------------------------------------------------------------------------
 *
 * matmul.cu
 *		Products with weight matrices.
 *
 * Rows of one view or chunk go to cuBLASLt where it is there.  Rows of
 * different sequences always go through kernels of our own, in which a row's
 * result depends on that row alone.
 *
 *-------------------------------------------------------------------------
 */
#include "product.cuh"

void
dsocr_cuda_linear(DsocrBackend *be, void *y, const void *x, int rows, const DsocrMatrix *w,
				  const DsocrVector *bias, DsocrActivation act, const void *residual, int unit)
{
	DsocrCuda *c = (DsocrCuda *) be;
	DsocrProduct p = {};

	if (rows <= 0)
		return;
	/* what cuBLASLt adds comes before the activation, a residual after it */
	if (unit != DSOCR_MIXED && c->blas != NULL && (act == DSOCR_ACT_NONE || residual == NULL) &&
		dsocr_cuda_blas_linear(c, y, x, rows, w, bias, residual, unit))
	{
		if (act != DSOCR_ACT_NONE)
			dsocr_cuda_activate(c, y, (size_t) rows * (size_t) w->n, act);
		return;
	}
	p.x = x;
	p.w = w->data;
	p.ahead = c->early;
	p.bias = bias != NULL ? bias->data : NULL;
	p.residual = residual;
	p.y = y;
	p.m = rows;
	p.n = w->n;
	p.k = w->k;
	p.ldw = w->ld;
	p.act = act;
	dsocr_cuda_product(c, &p, "linear");
}

void
dsocr_cuda_swiglu(DsocrBackend *be, void *y, void *wide, const void *x, int rows,
				  const DsocrMatrix *w, int unit)
{
	DsocrCuda *c = (DsocrCuda *) be;
	DsocrProduct p = {};

	if (rows <= 0)
		return;
	if (unit != DSOCR_MIXED && c->blas != NULL &&
		dsocr_cuda_blas_linear(c, wide, x, rows, w, NULL, NULL, unit))
	{
		dsocr_cuda_silu_mul(be, y, wide, rows, w->n / 2);
		return;
	}
	p.x = x;
	p.w = w->data;
	p.ahead = c->early;
	p.y = y;
	p.m = rows;
	p.n = w->n / 2;
	p.k = w->k;
	p.ldw = w->ld;
	p.pairs = true;
	p.act = DSOCR_ACT_NONE;
	dsocr_cuda_product(c, &p, "swiglu");
}

void
dsocr_cuda_logits(DsocrBackend *be, float *logits, const void *x, int rows, const DsocrMatrix *w)
{
	DsocrCuda *c = (DsocrCuda *) be;
	DsocrProduct p = {};

	if (rows <= 0)
		return;
	p.x = x;
	p.w = w->data;
	p.ahead = c->early;
	p.y = logits;
	p.m = rows;
	p.n = w->n;
	p.k = w->k;
	p.ldw = w->ld;
	p.wide = true;
	p.act = DSOCR_ACT_NONE;
	dsocr_cuda_product(c, &p, "logits");
}
