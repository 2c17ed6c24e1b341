/*-------------------------------------------------------------------------
 *
 * check_case.h
 *		Golden cases of a whole model: one image, one prompt, all stages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CHECK_CASE_H
#define DSOCR_CHECK_CASE_H

#include "check.h"
#include "model.h"

/*
 * Run one case file (and the safetensors file beside it) on the model of
 * model_dir in c->precision.  Images are looked for in ../images of the
 * case's folder and of its parent.
 */
extern void dsocr_check_case(DsocrCheck *c, const char *model_dir, const char *case_json);

/* A model folder for checks; c->tokenizer is used where it has none of its own. */
extern DsocrModel *dsocr_check_open(const DsocrCheck *c, DsocrBackend *be, const char *dir,
									DsocrError *err);

/*
 * A case on a model that is open already; its backend's precision is
 * c->precision.  exact is the same model in fp32, to tell where a run in bf16
 * chose other experts; NULL holds it to the limits without such flips.
 */
extern void dsocr_check_case_on(DsocrCheck *c, DsocrModel *model, DsocrModel *exact,
								const char *case_json);

#endif /* DSOCR_CHECK_CASE_H */
