/*-------------------------------------------------------------------------
 *
 * norm.c
 *		Normalisation of rows.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#define NORM_PIECE 64 /* rows a task */

typedef struct Norm
{
	float *y;
	const float *x;
	size_t dim;
	const float *weight;
	const float *bias; /* NULL: root mean square */
	float eps;
} Norm;

static void
norm_rows(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const Norm *n = arg;

	for (size_t r = from; r < to; r++)
	{
		float *y = n->y + r * n->dim;
		const float *x = n->x + r * n->dim;

		if (n->bias != NULL)
			cpu->isa->vec->layer_norm(y, x, n->dim, n->weight, n->bias, n->eps);
		else
			cpu->isa->vec->rms_norm(y, x, n->dim, n->weight, n->eps);
	}
}

void
dsocr_cpu_layer_norm(DsocrBackend *be, void *y, const void *x, int rows, int dim,
					 const DsocrVector *weight, const DsocrVector *bias, float eps)
{
	Norm n = {y, x, (size_t) dim, weight->v, bias->v, eps};

	dsocr_cpu_ranges((DsocrCpu *) be, (size_t) rows, NORM_PIECE, norm_rows, &n);
}

void
dsocr_cpu_rms_norm(DsocrBackend *be, void *y, const void *x, int rows, int dim,
				   const DsocrVector *weight, float eps)
{
	Norm n = {y, x, (size_t) dim, weight->v, NULL, eps};

	dsocr_cpu_ranges((DsocrCpu *) be, (size_t) rows, NORM_PIECE, norm_rows, &n);
}
