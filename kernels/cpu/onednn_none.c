/*-------------------------------------------------------------------------
 *
 * onednn_none.c
 *		The interface of onednn.c without the library: own fp32 products.
 *
 * Built instead of onednn.c with DSOCR_ONEDNN=no, for programs that must run
 * where the library is not installed.  Slower where there is no matrix unit.
 *
 *-------------------------------------------------------------------------
 */
#include "isa.h"
#include "onednn.h"

#define NONE_ROWS 64 /* rows of A handed over at once */

struct DsocrOnednn
{
	const DsocrMatvecOps *ops;
};

DsocrOnednn *
dsocr_onednn_open(int workers, DsocrError *err)
{
	DsocrOnednn *d = dsocr_zalloc(1, sizeof(*d), err);

	if (d != NULL)
		d->ops = dsocr_isa_choose()->matvec;
	return d;
}

void
dsocr_onednn_close(DsocrOnednn *d)
{
	dsocr_free(d);
}

const char *
dsocr_onednn_isa(void)
{
	return "none";
}

bool
dsocr_onednn_has_bf16(void)
{
	return false;
}

bool
dsocr_onednn_gemm(DsocrOnednn *d, int worker, const DsocrGemm *g, const void *a, const void *b,
				  float *c)
{
	const float *xs[NONE_ROWS];
	float *ys[NONE_ROWS];

	if (g->bf16)
		return false;
	for (int from = 0; from < g->m; from += NONE_ROWS)
	{
		int m = g->m - from < NONE_ROWS ? g->m - from : NONE_ROWS;

		for (int i = 0; i < m; i++)
		{
			xs[i] = (const float *) a + (int64_t) (from + i) * g->lda;
			ys[i] = c + (int64_t) (from + i) * g->ldc;
		}
		if (g->ldb == g->k)
			d->ops->f32(ys, xs, m, b, (size_t) g->n, (size_t) g->k);
		else
			for (int j = 0; j < g->n; j++)
			{
				d->ops->f32(ys, xs, m, (const float *) b + (int64_t) j * g->ldb, 1, (size_t) g->k);
				for (int i = 0; i < m; i++)
					ys[i]++;
			}
	}
	return true;
}
