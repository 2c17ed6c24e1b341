/*-------------------------------------------------------------------------
 *
 * batch_explain.c
 *		What EXPLAIN shows of a batch scan, and how workers tell it.
 *
 * Each worker of a parallel query counts in shared memory, where the leader
 * finds it as soon as the worker has sent its last row.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "batch_explain.h"
#include "batch_scan.h"
#include "batch_state.h"

#include "commands/explain.h"
#include "utils/ruleutils.h"

/* ---- counts of parallel workers ---- */

static Size
shared_size(int n_workers)
{
	return offsetof(DsocrBatchShared, counts) + sizeof(DsocrBatchCounts) * n_workers;
}

static void
clear_counts(DsocrBatchCounts *counts, int n)
{
	memset(counts, 0, sizeof(DsocrBatchCounts) * n);
}

Size
dsocr_batch_estimate(CustomScanState *node, ParallelContext *pcxt)
{
	return shared_size(pcxt->nworkers);
}

void
dsocr_batch_share(CustomScanState *node, ParallelContext *pcxt, void *shared)
{
	DsocrBatchState *s = (DsocrBatchState *) node;

	s->shared = shared;
	s->shared->n_workers = pcxt->nworkers;
	clear_counts(s->shared->counts, pcxt->nworkers);
}

/* Counts of all rescans are summed up. */
void
dsocr_batch_share_again(CustomScanState *node, ParallelContext *pcxt, void *shared)
{
}

void
dsocr_batch_join(CustomScanState *node, shm_toc *toc, void *shared)
{
	DsocrBatchShared *all = shared;

	if (ParallelWorkerNumber < all->n_workers)
		((DsocrBatchState *) node)->counts = &all->counts[ParallelWorkerNumber];
}

void
dsocr_batch_collect(CustomScanState *node)
{
	DsocrBatchState *s = (DsocrBatchState *) node;

	if (s->shared == NULL)
		return;
	if (s->collected == NULL)
		s->collected =
			MemoryContextAlloc(node->ss.ps.state->es_query_cxt, shared_size(s->shared->n_workers));
	memcpy(s->collected, s->shared, shared_size(s->shared->n_workers));
	s->shared = NULL;
}

static DsocrBatchCounts
all_counts(const DsocrBatchState *s)
{
	DsocrBatchCounts sum = s->own_counts;

	for (int i = 0; s->collected != NULL && i < s->collected->n_workers; i++)
	{
		const DsocrBatchCounts *c = &s->collected->counts[i];

		sum.ended += c->ended;
		sum.in_flight += c->in_flight;
		sum.images += c->images;
		sum.cache_hits += c->cache_hits;
		sum.image_tokens += c->image_tokens;
		sum.text_tokens += c->text_tokens;
		sum.waited_us += c->waited_us;
	}
	return sum;
}

/* ---- EXPLAIN ---- */

/* The call as it was written: without the arguments that were left out. */
static Node *
without_defaults(const FuncExpr *call)
{
	FuncExpr *shorter = copyObject((FuncExpr *) call);

	while (list_length(shorter->args) > 1 && IsA(llast(shorter->args), Const) &&
		   llast_node(Const, shorter->args)->constisnull)
		shorter->args = list_delete_last(shorter->args);
	return (Node *) shorter;
}

static List *
call_texts(CustomScanState *node, List *ancestors, ExplainState *es)
{
	List *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, ancestors);
	bool prefix = list_length(es->rtable) > 1 || es->verbose;
	List *texts = NIL;
	ListCell *cell;

	foreach (cell, dsocr_batch_scan_calls(node->ss.ps.plan))
		texts = lappend(texts, deparse_expression(without_defaults(lfirst_node(FuncExpr, cell)),
												  context, prefix, false));
	return texts;
}

void
dsocr_batch_explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
	DsocrBatchState *s = (DsocrBatchState *) node;
	DsocrBatchCounts counts = all_counts(s);

	ExplainPropertyList("Calls", call_texts(node, ancestors, es), es);
	if (!es->analyze)
		return;
	ExplainPropertyInteger("Images", NULL, counts.images, es);
	ExplainPropertyInteger("Cache Hits", NULL, counts.cache_hits, es);
	ExplainPropertyInteger("Image Tokens", NULL, counts.image_tokens, es);
	ExplainPropertyInteger("Text Tokens", NULL, counts.text_tokens, es);
	if (es->timing)
		ExplainPropertyFloat("Waiting Time", "ms", counts.waited_us / 1000.0, 3, es);
	ExplainPropertyFloat("Average Batch", NULL,
						 counts.ended > 0 ? (double) counts.in_flight / counts.ended : 0, 1, es);
}
