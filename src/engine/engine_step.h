/*-------------------------------------------------------------------------
 *
 * engine_step.h
 *		What an engine is made of; shared by engine*.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ENGINE_STEP_H
#define DSOCR_ENGINE_STEP_H

#include "engine.h"
#include "scheduler.h"

struct DsocrEngine
{
	DsocrBackend *be;
	DsocrModel *model;
	DsocrKvCache *kv;
	DsocrScheduler scheduler;
	DsocrModelInfo info;

	DsocrImagePool *images;
	size_t view_pixels; /* views are encoded together up to so many; 0: one by one */
	int64_t work_us;	/* views and chunks go on so long in a step; 0: one piece of work */

	/* work memory of a decode step, max_sequences of each */
	DsocrJob **list;
	DsocrSequence **sequences;
	int32_t *ids;
	float *logprobs;

	int64_t gap_us;		/* see DsocrEngineOptions */
	int64_t decoded_at; /* when the last decode step ended */
	int64_t decode_us;	/* and how long it took */

	bool broken; /* the device failed */
};

/* What the model's polls need while a step runs. */
typedef struct DsocrStepPoll
{
	DsocrEngine *engine; /* others may get tokens meanwhile; NULL: they do so now */
	const DsocrEvents *events;
	DsocrJob *const *jobs; /* stop when all of them are cancelled */
	int n;				   /* 0: never */
	int64_t decoded_us;	   /* spent on others' tokens */
	DsocrError trouble;	   /* why it was stopped, if not for that */
} DsocrStepPoll;

extern bool dsocr_engine_go_on(void *arg);

/* One token for all that write; false when nobody does. */
extern bool dsocr_engine_decode(DsocrEngine *e, const DsocrEvents *events);

/* What becomes of a job: an answer or another reading; an error; a report on the way. */
extern void dsocr_engine_finish_job(DsocrEngine *e, const DsocrEvents *events, DsocrJob *job);
extern void dsocr_engine_fail_job(DsocrEngine *e, const DsocrEvents *events, DsocrJob *job,
								  const DsocrError *why);
extern void dsocr_engine_report(const DsocrEvents *events, const DsocrJob *job);

/* Views of size x size pixels that are encoded together. */
extern int dsocr_engine_together(const DsocrEngine *e, int size);

#endif /* DSOCR_ENGINE_STEP_H */
