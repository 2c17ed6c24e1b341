/*-------------------------------------------------------------------------
 *
 * cli_bench_limits.c
 *		What the machine allows: the rates of reading and of products, and how
 *		much of both the model needs.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_bench.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#define PRODUCT_ROWS 1024 /* the large product: [1024, 4096] x [4096, 4096] */
#define PRODUCT_DIM 4096
#define MAX_THREADS 256

typedef struct Reader
{
	pthread_t thread;
	const DsocrWide *from;
	size_t n;
	DsocrWide sum;
} Reader;

static void *
read_memory(void *arg)
{
	Reader *r = arg;
	DsocrWide a = {0};
	DsocrWide b = {0};
	DsocrWide c = {0};
	DsocrWide d = {0};

	for (size_t i = 0; i + 4 <= r->n; i += 4)
	{
		a ^= r->from[i];
		b ^= r->from[i + 1];
		c ^= r->from[i + 2];
		d ^= r->from[i + 3];
	}
	r->sum = a ^ b ^ c ^ d;
	return NULL;
}

bool
dsocr_bench_read_once(DsocrBench *b, double *rate)
{
	static Reader readers[MAX_THREADS];
	int threads = b->be->threads < MAX_THREADS ? b->be->threads : MAX_THREADS;
	size_t part = DSOCR_BENCH_READ_BYTES / sizeof(DsocrWide) / (size_t) threads;
	int64_t start;
	int started = 0;

	if (b->memory == NULL)
	{
		b->memory = dsocr_alloc(DSOCR_BENCH_READ_BYTES, 1, &b->err);
		if (b->memory == NULL)
			return false;
		memset(b->memory, 1, DSOCR_BENCH_READ_BYTES);
	}
	start = dsocr_now_us();
	while (started < threads)
	{
		readers[started].from = b->memory + (size_t) started * part;
		readers[started].n = part;
		if (pthread_create(&readers[started].thread, NULL, read_memory, &readers[started]) != 0)
			break;
		started++;
	}
	for (int i = 0; i < started; i++)
		pthread_join(readers[i].thread, NULL);
	*rate = (double) DSOCR_BENCH_READ_BYTES / dsocr_bench_seconds_since(start);
	return started == threads ||
		   dsocr_fail(&b->err, DSOCR_E_MEMORY, "could not start %d threads", threads);
}

bool
dsocr_bench_product(DsocrBench *b)
{
	const DsocrBackendOps *ops = b->be->ops;
	size_t n = (size_t) PRODUCT_DIM * PRODUCT_DIM;
	size_t rows = (size_t) PRODUCT_ROWS * PRODUCT_DIM;
	uint16_t *values = dsocr_alloc(n, sizeof(*values), &b->err);
	DsocrTensor tensor = {.name = "product",
						  .dtype = DSOCR_BF16,
						  .ndim = 2,
						  .shape = {PRODUCT_DIM, PRODUCT_DIM},
						  .count = (int64_t) n,
						  .data = values};
	const DsocrTensor *part = &tensor;
	DsocrMatrix *w = NULL;
	void *x = NULL;
	void *y = NULL;
	float *host = dsocr_alloc(rows, sizeof(float), &b->err);
	double times[DSOCR_BENCH_RUNS];

	if (values != NULL && host != NULL)
	{
		for (size_t i = 0; i < n; i++)
			values[i] = dsocr_f32_to_bf16((float) (i % 251) / 251.0f - 0.5f);
		for (size_t i = 0; i < rows; i++)
			host[i] = (float) (i % 241) / 241.0f - 0.5f;
		w = ops->matrix(b->be, &part, 1, false, &b->err);
		x = w != NULL ? ops->alloc(b->be, rows, &b->err) : NULL;
		y = x != NULL ? ops->alloc(b->be, rows, &b->err) : NULL;
	}
	if (y != NULL)
	{
		ops->write(b->be, x, host, rows);
		for (int run = -1; run < b->runs; run++) /* the first warms up */
		{
			int64_t start = dsocr_now_us();

			ops->linear(b->be, y, x, PRODUCT_ROWS, w, NULL, DSOCR_ACT_NONE, NULL, PRODUCT_ROWS);
			ops->sync(b->be, &b->err);
			if (run >= 0)
				times[run] = dsocr_bench_seconds_since(start);
		}
		b->flops_per_s = 2.0 * PRODUCT_ROWS * (double) n / dsocr_bench_median(times, b->runs);
	}
	if (x != NULL)
		ops->free(b->be, x);
	if (y != NULL)
		ops->free(b->be, y);
	if (w != NULL)
		ops->matrix_free(b->be, w);
	dsocr_free(values);
	dsocr_free(host);
	return y != NULL;
}

double
dsocr_bench_encode_flops(const DsocrConfig *c, int size)
{
	double side = size / c->patch;
	double p = side * side;
	double w = c->sam_width;
	double windowed = pow(ceil(side / c->sam_window) * c->sam_window, 2);
	double t = p / 16 + 1;
	double neck = c->neck_channels;
	double sum = 2 * p * w * 3 * c->patch * c->patch;

	for (int i = 0; i < c->sam_layers; i++)
		sum += 24 * p * w * w +
			   4 * w * (c->sam_global[i] ? p * p : windowed * c->sam_window * c->sam_window);
	sum += 2 * p * (w * neck + 9 * neck * neck);
	sum += 2 * p / 4 * 9 * neck * c->net2_channels +
		   2 * p / 16 * 9 * (double) c->net2_channels * c->net3_channels;
	sum += c->clip_layers *
		   (24 * t * c->clip_width * (double) c->clip_width + 4 * t * t * c->clip_width);
	return sum + 2 * t * c->projector_in * (double) c->hidden;
}

double
dsocr_bench_decoder_weights(const DsocrConfig *c, int n)
{
	double h = c->hidden;
	double touched = c->experts > 0
						 ? c->experts * (1 - pow(1 - (double) c->experts_per_token / c->experts, n))
						 : 0;
	double sum = h * c->vocab;

	for (int i = 0; i < c->layers; i++)
	{
		sum += 4 * h * c->heads * c->head_dim;
		if (i < c->first_dense)
			sum += 3 * h * c->dense_inter;
		else
			sum += 3 * h * c->expert_inter * (touched + c->shared_experts);
	}
	return sum;
}

double
dsocr_bench_decoder_bytes(const DsocrBench *b, int n)
{
	const DsocrConfig *c = &b->m->config;
	DsocrDtype dtype = dsocr_quantized_dtype(b->m->weights);
	double weight = dtype == DSOCR_INT8	  ? 1 + 2.0 / DSOCR_QUANT_GROUP_8
					: dtype == DSOCR_INT4 ? 0.5 + 2.0 / DSOCR_QUANT_GROUP_4
										  : 2;

	return weight * dsocr_bench_decoder_weights(c, n) +
		   2.0 * (c->layers - c->first_dense) * c->hidden * c->experts;
}
