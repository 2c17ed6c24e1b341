/*-------------------------------------------------------------------------
 *
 * graph.cu
 *		Steps of the decoder as CUDA graphs, one for each number of rows.
 *
 * A step is some 150 launches, which take the host longer than the device
 * needs for a small batch.  So the number of rows is filled up to one of a
 * few (buckets), and of each bucket the first step runs launch by launch, so
 * that libraries and scratch memory get ready, the second is recorded, and the
 * rest are replayed in one launch.  What differs between steps (which slots,
 * their texts and lengths) lies in device memory at fixed addresses.
 *
 * Recordings hold addresses.  They are dropped when scratch memory grows and
 * when memory is freed that was there when one was made.  If a recording
 * fails, its step was not computed: sync reports that like memory that ran
 * out, and nothing is recorded from then on.
 *
 *-------------------------------------------------------------------------
 */
#include "cuda.h"

#include <stdio.h>

static const int buckets[] = {1,  2,  3,  4,   6,	8,	 12,  16,  24,	32,
							  48, 64, 96, 128, 192, 256, 320, 384, 448, DSOCR_CUDA_MAX_ROWS};

#define N_BUCKETS ((int) (sizeof(buckets) / sizeof(buckets[0])))

typedef enum State
{
	NEW,
	SEEN, /* has run launch by launch */
	RECORDED
} State;

struct DsocrCudaGraphs
{
	bool off;	 /* recording has failed once */
	int current; /* bucket in capture */
	State state[N_BUCKETS];
	cudaGraphExec_t step[N_BUCKETS]; /* valid when RECORDED */
};

bool
dsocr_cuda_graphs_open(DsocrCuda *c, DsocrError *err)
{
	c->graphs = (DsocrCudaGraphs *) dsocr_zalloc(1, sizeof(*c->graphs), err);
	return c->graphs != NULL;
}

void
dsocr_cuda_graphs_drop(DsocrCuda *c)
{
	DsocrCudaGraphs *g = c->graphs;
	bool waited = false;

	if (g == NULL)
		return;
	for (int i = 0; i < N_BUCKETS; i++)
	{
		if (g->state[i] != RECORDED)
			continue;
		/* what got ready in the first step still is */
		g->state[i] = SEEN;
		/* it may still be running; a broken device is asked nothing */
		if (!waited && c->trouble == cudaSuccess &&
			dsocr_cuda_check(c, cudaEventRecord(c->arrived, c->stream), "a step"))
			(void) dsocr_cuda_wait(c, c->arrived, "a step");
		waited = true;
		if (c->trouble == cudaSuccess)
			(void) cudaGraphExecDestroy(g->step[i]);
	}
}

void
dsocr_cuda_graphs_close(DsocrCuda *c)
{
	dsocr_cuda_graphs_drop(c);
	dsocr_free(c->graphs);
	c->graphs = NULL;
}

static int
find_bucket(int n)
{
	for (int i = 0; i < N_BUCKETS; i++)
		if (buckets[i] == n)
			return i;
	return -1;
}

int
dsocr_cuda_bucket(const DsocrBackend *, int n)
{
	for (int i = 0; i < N_BUCKETS; i++)
		if (buckets[i] >= n)
			return buckets[i];
	return n;
}

/* From now on every step is launched anew. */
static void
give_up(DsocrCuda *c, const char *doing, cudaError_t rc)
{
	char line[160];

	c->graphs->off = true;
	(void) cudaGetLastError();
	snprintf(line, sizeof(line), "%s: decoder steps are not recorded: %s failed: %s",
			 c->base.description, doing,
			 rc == cudaSuccess ? "an operation cannot be recorded" : cudaGetErrorString(rc));
	if (c->log != NULL)
		c->log(line);
}

static void
begin_recording(DsocrCuda *c, int bucket)
{
	cudaError_t rc = cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal);

	if (rc != cudaSuccess)
	{
		give_up(c, "starting", rc);
		return;
	}
	c->graphs->current = bucket;
	c->recording = true;
	c->spoiled = false;
	c->recordings++;
}

bool
dsocr_cuda_run_begin(DsocrBackend *be, const DsocrRows *rows, bool whole_step)
{
	DsocrCuda *c = (DsocrCuda *) be;
	DsocrCudaGraphs *g = c->graphs;
	int bucket = whole_step && rows->mixed ? find_bucket(rows->n) : -1;
	int n = rows->mixed ? rows->n : 1;

	if (n > DSOCR_CUDA_MAX_ROWS)
	{
		(void) dsocr_cuda_check(c, cudaErrorInvalidValue, "a step of too many rows");
		return true;
	}
	dsocr_cuda_upload(c, c->row_slots, rows->slots, (size_t) n * sizeof(int32_t));
	if (bucket < 0 || g->off || c->trouble != cudaSuccess)
		return true;
	switch (g->state[bucket])
	{
		case NEW:
			g->state[bucket] = SEEN;
			return true;
		case SEEN:
			begin_recording(c, bucket);
			return true;
		case RECORDED:
			(void) dsocr_cuda_check(c, cudaGraphLaunch(g->step[bucket], c->stream), "a step");
			return false;
	}
	return true;
}

/* Make the graph that was captured ready to run. */
static bool
keep_recording(DsocrCuda *c, cudaGraph_t graph)
{
	DsocrCudaGraphs *g = c->graphs;
	cudaError_t rc = cudaGraphInstantiate(&g->step[g->current], graph, 0);

	if (rc != cudaSuccess)
	{
		give_up(c, "instantiating", rc);
		return false;
	}
	g->state[g->current] = RECORDED;
	return dsocr_cuda_check(c, cudaGraphLaunch(g->step[g->current], c->stream), "a step");
}

void
dsocr_cuda_run_end(DsocrBackend *be)
{
	DsocrCuda *c = (DsocrCuda *) be;
	cudaGraph_t graph = NULL;
	cudaError_t rc;

	if (!c->recording)
		return;
	rc = cudaStreamEndCapture(c->stream, &graph);
	c->recording = false;
	if (rc != cudaSuccess || c->spoiled)
	{
		give_up(c, "capture", rc);
		c->out_of_memory = true;
	}
	else if (!keep_recording(c, graph))
		c->out_of_memory = true;
	if (graph != NULL)
		(void) cudaGraphDestroy(graph);
}
