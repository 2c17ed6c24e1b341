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

	bool broken; /* the device failed */
};

/* Views of size x size pixels that are encoded together. */
extern int dsocr_engine_together(const DsocrEngine *e, int size);

#endif /* DSOCR_ENGINE_STEP_H */
