/*-------------------------------------------------------------------------
 *
 * activation.c
 *		Operations element by element.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <string.h>

#define ACTIVATION_PIECE 65536 /* elements a task */

typedef struct Elements
{
	float *y;
	const float *a;
	const float *b;
	size_t dim_a;
	size_t dim_b;
} Elements;

static void
activation_add(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const Elements *e = arg;

	cpu->isa->vec->add(e->y + from, e->a + from, to - from);
}

void
dsocr_cpu_add(DsocrBackend *be, void *x, const void *table, size_t n)
{
	Elements e = {.y = x, .a = table};

	dsocr_cpu_ranges((DsocrCpu *) be, n, ACTIVATION_PIECE, activation_add, &e);
}

static size_t
activation_rows(size_t dim)
{
	return dim >= ACTIVATION_PIECE ? 1 : ACTIVATION_PIECE / (dim > 0 ? dim : 1);
}

static void
activation_concat(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const Elements *e = arg;

	for (size_t r = from; r < to; r++)
	{
		float *y = e->y + r * (e->dim_a + e->dim_b);

		memcpy(y, e->a + r * e->dim_a, e->dim_a * sizeof(float));
		memcpy(y + e->dim_a, e->b + r * e->dim_b, e->dim_b * sizeof(float));
	}
}

void
dsocr_cpu_concat(DsocrBackend *be, void *out, const void *a, int dim_a, const void *b, int dim_b,
				 int rows)
{
	Elements e = {out, a, b, (size_t) dim_a, (size_t) dim_b};

	dsocr_cpu_ranges((DsocrCpu *) be, (size_t) rows, activation_rows(e.dim_a + e.dim_b),
					 activation_concat, &e);
}

static void
activation_silu_mul(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const Elements *e = arg;

	for (size_t r = from; r < to; r++)
	{
		const float *gate = e->a + r * 2 * e->dim_a;

		cpu->isa->vec->silu_mul(e->y + r * e->dim_a, gate, gate + e->dim_a, e->dim_a);
	}
}

void
dsocr_cpu_silu_mul(DsocrBackend *be, void *y, const void *x, int rows, int n)
{
	Elements e = {.y = y, .a = x, .dim_a = (size_t) n};

	dsocr_cpu_ranges((DsocrCpu *) be, (size_t) rows, activation_rows(e.dim_a), activation_silu_mul,
					 &e);
}
