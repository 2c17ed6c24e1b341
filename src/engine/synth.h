/*-------------------------------------------------------------------------
 *
 * synth.h
 *		Weights of any size from a formula and a seed.
 *
 * So that a model of full size can be tested, and timed, where the trained
 * weights are not at hand: every value follows from the seed, the tensor's
 * name and the value's place, and can be computed anywhere alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SYNTH_H
#define DSOCR_SYNTH_H

#include "weights.h"

typedef struct DsocrSynthTensor
{
	char *name;
	int ndim;
	int64_t shape[DSOCR_MAX_DIMS];
	int64_t count;
	double offset;	/* middle of the distribution */
	double scale;	/* half width / 2^23 */
	bool row_scale; /* rows differ in scale */
} DsocrSynthTensor;

typedef struct DsocrSynthSpec
{
	int n;
	DsocrSynthTensor *tensors; /* in the order of the file */
	size_t bytes;			   /* of all of them in bf16 */
} DsocrSynthSpec;

/* Read tensors.json: a list of {name, shape, offset, m, e, row_scale}. */
extern bool dsocr_synth_read(const char *path, DsocrSynthSpec *spec, DsocrError *err);
extern void dsocr_synth_free(DsocrSynthSpec *spec);
extern const DsocrSynthTensor *dsocr_synth_find(const DsocrSynthSpec *spec, const char *name);

/* out[n] = values from .. from + n - 1 of the tensor, bf16 */
extern void dsocr_synth_fill(const DsocrSynthTensor *t, uint64_t seed, int64_t from, int64_t n,
							 uint16_t *out);

extern uint64_t dsocr_synth_hash_name(const char *name);

#endif /* DSOCR_SYNTH_H */
