/*-------------------------------------------------------------------------
 *
 * cli_bench.h
 *		A run of dsocr-engine bench, and the limits that it measures against.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CLI_BENCH_H
#define DSOCR_CLI_BENCH_H

#include "kv_cache.h"
#include "model.h"

#define DSOCR_BENCH_RUNS 101					  /* at most */
#define DSOCR_BENCH_READ_BYTES ((size_t) 1 << 29) /* that reading is timed on */

typedef uint64_t DsocrWide __attribute__((vector_size(64)));

typedef struct DsocrBench
{
	DsocrBackend *be;
	DsocrModel *m;
	DsocrKvCache *kv;
	int runs;
	int size;		   /* pixels of the page's global view */
	DsocrWide *memory; /* of DSOCR_BENCH_READ_BYTES; allocated when it is first read */
	double flops_per_s;
	DsocrError err;
} DsocrBench;

extern double dsocr_bench_median(double *values, int n);
extern double dsocr_bench_seconds_since(int64_t start);

/* ---- cli_bench_limits.c ---- */

/* Bytes a second that all threads together read from memory, once. */
extern bool dsocr_bench_read_once(DsocrBench *b, double *rate);

/* Floating point operations a second of one large product: b->flops_per_s. */
extern bool dsocr_bench_product(DsocrBench *b);

/* Operations of encoding one view of size pixels. */
extern double dsocr_bench_encode_flops(const DsocrConfig *c, int size);

/* Decoder weights that n rows of one step read, experts chosen at random; lm_head with them. */
extern double dsocr_bench_decoder_weights(const DsocrConfig *c, int n);

/* Bytes of them, scales and the router's weights included. */
extern double dsocr_bench_decoder_bytes(const DsocrBench *b, int n);

#endif /* DSOCR_CLI_BENCH_H */
