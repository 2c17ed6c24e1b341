/*-------------------------------------------------------------------------
 *
 * activation.c
 *		Operations element by element.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <string.h>

#define ACTIVATION_PIECE 65536		 /* elements a task */
#define ACTIVATION_COPY_PIECE 262144 /* the same, when nothing is computed */

typedef struct Rows
{
	float *dst;
	size_t dst_stride;
	const float *src;
	size_t src_stride;
	size_t n;
} Rows;

static void
activation_copy(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const Rows *c = arg;

	memcpy(c->dst + from, c->src + from, (to - from) * sizeof(float));
}

static void
activation_copy_rows(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const Rows *c = arg;

	for (size_t r = from; r < to; r++)
		memcpy(c->dst + r * c->dst_stride, c->src + r * c->src_stride, c->n * sizeof(float));
}

static size_t
activation_rows(size_t dim)
{
	return dim >= ACTIVATION_PIECE ? 1 : ACTIVATION_PIECE / (dim > 0 ? dim : 1);
}

void
dsocr_cpu_copy_rows(DsocrBackend *be, void *dst, size_t dst_stride, const void *src,
					size_t src_stride, size_t n, size_t rows)
{
	Rows c = {dst, dst_stride, src, src_stride, n};

	if (rows == 1 || (dst_stride == n && src_stride == n))
		dsocr_cpu_ranges((DsocrCpu *) be, n * rows, ACTIVATION_COPY_PIECE, activation_copy, &c);
	else
		dsocr_cpu_ranges((DsocrCpu *) be, rows, activation_rows(n), activation_copy_rows, &c);
}

typedef struct Elements
{
	float *y;
	const float *a;
	const float *b;
	size_t dim_a;
	size_t dim_b;
	size_t n;	 /* of the table, or rows of a view */
	size_t skip; /* rows of a left out at the beginning of each view */
} Elements;

static void
activation_add(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const Elements *e = arg;

	while (from < to)
	{
		size_t at = from % e->n;
		size_t some = to - from < e->n - at ? to - from : e->n - at;

		cpu->isa->vec->add(e->y + from, e->a + at, some);
		from += some;
	}
}

void
dsocr_cpu_add(DsocrBackend *be, void *x, const void *table, size_t n, int repeats)
{
	Elements e = {.y = x, .a = table, .n = n};

	dsocr_cpu_ranges((DsocrCpu *) be, n * (size_t) repeats, ACTIVATION_PIECE, activation_add, &e);
}

static void
activation_concat(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const Elements *e = arg;

	for (size_t r = from; r < to; r++)
	{
		float *y = e->y + r * (e->dim_a + e->dim_b);
		size_t a = r + (r / e->n + 1) * e->skip;

		memcpy(y, e->a + a * e->dim_a, e->dim_a * sizeof(float));
		memcpy(y + e->dim_a, e->b + r * e->dim_b, e->dim_b * sizeof(float));
	}
}

void
dsocr_cpu_concat(DsocrBackend *be, void *out, const void *a, int dim_a, int skip, const void *b,
				 int dim_b, int views, int rows)
{
	Elements e = {out, a, b, (size_t) dim_a, (size_t) dim_b, (size_t) rows, (size_t) skip};

	dsocr_cpu_ranges((DsocrCpu *) be, (size_t) views * (size_t) rows,
					 activation_rows(e.dim_a + e.dim_b), activation_concat, &e);
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
