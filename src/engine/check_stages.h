/*-------------------------------------------------------------------------
 *
 * check_stages.h
 *		Collects a case's intermediate values and compares them.
 *
 * The reference files hold samples of big tensors; only those are kept.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CHECK_STAGES_H
#define DSOCR_CHECK_STAGES_H

#include "check.h"
#include "check_routes.h"
#include "sequence.h"

#include <jansson.h>
#include <string.h>

typedef struct CheckStage
{
	const char *name; /* as in the case, "local.sam.block.0" */
	const DsocrTensor *ref;
	int64_t shape[DSOCR_MAX_DIMS];
	int ndim;
	int64_t numel;
	bool by_position; /* rows of the case's positions, not samples of all */
	bool planes;	  /* [P, C, h, w] instead of channel-last */
	double rms;
	double bf16_max_abs;		/* difference of the official code in bf16 */
	double bf16_max_abs_stored; /* the same at the stored positions, or 0 */
	float *mine;				/* as ref */
	int64_t seen;				/* values collected */
} CheckStage;

typedef struct CheckRouter
{
	int layer;
	const DsocrTensor *ids, *weights, *logits, *gap; /* of the stored positions; gap may be NULL */
	int experts, k;
	int32_t *my_ids;   /* [positions, k] */
	float *my_weights; /* [positions, k] */
	float *my_logits;  /* [positions, experts] */
	int64_t seen;	   /* positions collected */
} CheckRouter;

typedef struct CheckRun
{
	DsocrCheck *check;
	DsocrModel *model;
	DsocrModel *exact; /* the same in fp32 beside a bf16 model, or NULL */
	const char *name;  /* "tiny-a/c01 fp32" */
	const json_t *json;
	DsocrWeights *ref;
	bool real_size; /* tolerances of the full-size model */
	bool quirk;		/* case of an official quirk that is not imitated */

	int n_stages;
	CheckStage *stages;
	int n_routers;
	CheckRouter *routers;
	int n_positions;
	int32_t *positions;
	int *flipped; /* [n_positions] first layer that chose other experts, else INT_MAX */

	/* where the next tapped rows belong */
	bool tile;
	int view;						 /* within tiles, or 0 */
	int base;						 /* position of row 0 of a prefill chunk */
	double gap;						 /* smallest router gap seen since it was set to infinity */
	CheckRoutes routes;				 /* choices of the exact model; ids NULL without one */
	bool rerouted[DSOCR_MAX_LAYERS]; /* layers where some position of the prompt chose others */
} CheckRun;

static inline bool
dsocr_stage_starts(const char *name, const char *with)
{
	return strncmp(name, with, strlen(with)) == 0;
}

extern bool dsocr_stages_open(CheckRun *r, DsocrError *err);
extern void dsocr_stages_close(CheckRun *r);
extern DsocrTap dsocr_stages_tap(CheckRun *r);
extern DsocrRouterTap dsocr_stages_router_tap(CheckRun *r);

/* Collect a stage that no tap shows: rows x dim values. */
extern void dsocr_stages_put(CheckRun *r, const char *name, const float *values, int rows, int dim);

/* Distance between the k-th and the next logit. */
extern double dsocr_router_gap(const float *logits, const int32_t *ids, int experts, int k);

/* ---- check_compare.c ---- */

/* Compare everything collected: one check a stage. */
extern void dsocr_stages_compare(CheckRun *r);

/* Limits for max|d|/rms and rms(d)/rms of a stage; the second is 0 when only the first counts. */
extern void dsocr_stage_limits(const CheckRun *r, const char *name, double *most, double *spread);

/* ---- check_generate.c ---- */

/*
 * Greedy decoding in all stored variants.  s has just been prefilled and the
 * logits of its last position lie in the decoder.
 */
extern void dsocr_check_generate(CheckRun *r, DsocrSequence *s);

#endif /* DSOCR_CHECK_STAGES_H */
