/*-------------------------------------------------------------------------
 *
 * gp_model.h
 *		A model on a device and sequences of any length in it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_GP_MODEL_H
#define DSOCR_GP_MODEL_H

#include "gp.h"
#include "gp_tools.h"
#include "sequence.h"

typedef struct GpModel
{
	DsocrBackend *be;
	DsocrModel *m;
	DsocrKvCache *kv; /* opened by gp_model_room */
	const GpTools *tools;
	double seconds; /* to open it */
	void *noise;	/* [2, DSOCR_CHUNK, 3 * hidden]: keys and values to fill in, work memory */
} GpModel;

/* Open device and model for so many sequences; what fails ends the program. */
extern void gp_model_open(GpModel *g, const GpOptions *o, int sequences);
extern void gp_model_close(GpModel *g);

/*
 * Memory for n sequences of so many positions, instead of what there was.
 * False when there is not enough of it.
 */
extern bool gp_model_room(GpModel *g, int n, int positions, DsocrError *err);

/*
 * Start a sequence of n random ids without image.  With filled, its keys and
 * values are random as if all but the last id had been run; otherwise it
 * waits for prefill.
 */
extern bool gp_model_start(GpModel *g, DsocrSequence *s, int n, int cap, bool filled, uint64_t seed,
						   DsocrError *err);

#endif /* DSOCR_GP_MODEL_H */
