/*-------------------------------------------------------------------------
 *
 * recorded.c
 *		Steps that a device replays must give what their operations give.
 *
 *		recorded --model DIR [--device cuda:0] [--batch 24] [--tokens 30]
 *
 * Sequences start and end at different times, so that the number of rows, the
 * slots behind them and the lengths change under the recordings.  Ids and
 * log-probabilities of every step must be equal, bit for bit, to those of the
 * same steps launched operation by operation.  Where a device records
 * nothing, the second run still has to repeat the first.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gp_model.h"
#include "gp_trace.h"

#define MAX_BATCH 64

typedef struct Row
{
	int32_t id;
	float logprob;
} Row;

/* Sequence i lives from step i / 3 on for at least `tokens` / 2 steps. */
static int
first_step(int i)
{
	return i / 3;
}

static int
last_step(const GpOptions *o, int i)
{
	return first_step(i) + o->tokens / 2 + i * 7 % (o->tokens / 2 + 1);
}

static int
prompt_length(int i)
{
	return 1 + i * 37 % 150;
}

/* What all steps give: rows[step * batch + i]. */
static void
run(GpModel *g, const GpOptions *o, int steps, Row *rows)
{
	DsocrSequence all[MAX_BATCH];
	DsocrWatch watch = {0};
	DsocrError err = {0};

	memset(all, 0, sizeof(all));
	for (int step = 0; step < steps; step++)
	{
		DsocrSequence *list[MAX_BATCH];
		int who[MAX_BATCH];
		int32_t ids[MAX_BATCH];
		float logprobs[MAX_BATCH];
		int n = 0;

		for (int i = 0; i < o->batch; i++)
		{
			int length = prompt_length(i);

			if (step == first_step(i) && !gp_model_start(g, &all[i], length, length + o->tokens + 2,
														 true, (uint64_t) i, &err))
				gp_die("%s", err.message);
			if (step == last_step(o, i))
				dsocr_sequence_end(&all[i], g->m);
			if (all[i].ids == NULL)
				continue;
			who[n] = i;
			list[n++] = &all[i];
		}
		if (n == 0)
			continue;
		if (!dsocr_sequences_decode(list, n, g->m, &watch, ids, logprobs, &err))
			gp_die("step %d: %s", step, err.message);
		for (int j = 0; j < n; j++)
		{
			rows[step * o->batch + who[j]] = (Row){ids[j], logprobs[j]};
			dsocr_sequence_push(list[j], ids[j]);
		}
	}
	for (int i = 0; i < o->batch; i++)
		if (all[i].ids != NULL)
			dsocr_sequence_end(&all[i], g->m);
}

int
main(int argc, char **argv)
{
	GpOptions o = {.backend = {.device = "cuda:0"}, .batch = 24, .tokens = 30};
	int steps;
	int replayed;
	int total;
	Row *rows[3];
	GpModel g;
	DsocrError err = {0};

	gp_options(argc, argv, &o);
	if (o.model == NULL || o.batch < 1 || o.batch > MAX_BATCH || o.tokens < 2)
		gp_die("usage: recorded --model DIR [--batch 1..%d] [options]", MAX_BATCH);
	steps = first_step(o.batch - 1) + o.tokens + 1;
	gp_model_open(&g, &o, o.batch);
	printf("%s\n", g.be->description);
	if (!gp_model_room(&g, o.batch, 160 + o.tokens, &err))
		gp_die("%s", err.message);
	for (int round = 0; round < 3; round++)
	{
		size_t n = (size_t) steps * (size_t) o.batch;

		rows[round] = gp_need(dsocr_zalloc(n, sizeof(Row), NULL), NULL);
		/* operations, then recordings, then recordings that are there already */
		gp_trace_plain_steps(round == 0);
		run(&g, &o, steps, rows[round]);
		for (size_t i = 0; round > 0 && i < n; i++)
			gp_check(memcmp(&rows[0][i], &rows[round][i], sizeof(Row)) == 0,
					 "step %zu, sequence %zu: id %d and %d, %.9g and %.9g", i / (size_t) o.batch,
					 i % (size_t) o.batch, rows[0][i].id, rows[round][i].id, rows[0][i].logprob,
					 rows[round][i].logprob);
	}
	gp_trace_steps(&replayed, &total);
	printf("%d of %d steps were replayed\n", replayed, total);
	if (strcmp(g.be->ops->name, "cuda") == 0)
		gp_check(replayed > steps / 2, "only %d steps were replayed", replayed);
	for (int round = 0; round < 3; round++)
		dsocr_free(rows[round]);
	gp_model_close(&g);
	return gp_close_line();
}
