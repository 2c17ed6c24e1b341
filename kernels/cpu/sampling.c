/*-------------------------------------------------------------------------
 *
 * sampling.c
 *		The best token of each row of logits.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <math.h>

typedef struct Pick
{
	DsocrCpu *cpu;
	int32_t *ids;
	float *logprobs;
	const float *logits;
	int vocab;
	const DsocrBans *bans;
} Pick;

static bool
pick_banned(const DsocrBans *bans, int row, int id)
{
	if (bans != NULL)
		for (int32_t i = bans->start[row]; i < bans->start[row + 1]; i++)
			if (bans->ids[i] == id)
				return true;
	return false;
}

/*
 * The list of bans is short and the best ids are rarely on it, so it is
 * searched only for ids that would win.  Always an id of the vocabulary,
 * even if all are banned or nothing is a number.
 */
static void
pick_task(void *arg, int row, int worker)
{
	const Pick *p = arg;
	const float *x = p->logits + (size_t) row * (size_t) p->vocab;
	float top = p->cpu->isa->vec->max(x, (size_t) p->vocab);
	int best = -1;

	for (int i = 0; i < p->vocab; i++)
		if ((best < 0 || x[i] > x[best]) && !pick_banned(p->bans, row, i))
			best = i;
	p->ids[row] = best < 0 ? 0 : best;
	p->logprobs[row] = (float) ((double) x[p->ids[row]] - top -
								log(p->cpu->isa->vec->sum_exp(x, (size_t) p->vocab, top)));
}

void
dsocr_cpu_pick(DsocrBackend *be, int32_t *ids, float *logprobs, const void *logits, int n,
			   int vocab, const DsocrBans *bans)
{
	Pick p = {(DsocrCpu *) be, ids, logprobs, logits, vocab, bans};

	dsocr_pool_run(p.cpu->pool, n, pick_task, &p);
}
