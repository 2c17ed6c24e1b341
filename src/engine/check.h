/*-------------------------------------------------------------------------
 *
 * check.h
 *		dsocr-engine check: compare with reference data folder by folder.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CHECK_H
#define DSOCR_CHECK_H

#include "backend.h"
#include "sha256.h"

typedef struct DsocrCheck
{
	int passed;
	int failed;
	bool verbose;			  /* print passes too */
	DsocrPrecision precision; /* of model cases */
	DsocrDtype weights;		  /* as DsocrBackendOptions has it */
	bool both;				  /* run model cases in fp32, then in bf16, whatever precision says */
	int threads;
	const char *device;	   /* what is checked; NULL: the CPU */
	const char *tokenizer; /* tokenizer.json for folders that have none */
	const char *model;	   /* checkpoint for synth cases, or NULL */
} DsocrCheck;

/* Count one comparison; a failure prints "FAIL what: detail". Returns ok. */
extern bool dsocr_check(DsocrCheck *c, bool ok, const char *what, const char *fmt, ...)
	DSOCR_PRINTF(4, 5);

/* Each runs one folder; a folder that cannot be read counts as a failure. */
extern void dsocr_check_images(DsocrCheck *c, const char *dir);		/* images.json */
extern void dsocr_check_preprocess(DsocrCheck *c, const char *dir); /* grid.json ... */
extern void dsocr_check_tokenizer(DsocrCheck *c, const char *dir);	/* prompts.json, cases.jsonl */
extern void dsocr_check_ops(DsocrCheck *c, const char *dir);		/* ops.json */
extern void dsocr_check_decode(DsocrCheck *c, const char *dir);		/* ngram.jsonl */
extern void dsocr_check_output(DsocrCheck *c,
							   const char *dir); /* cases.jsonl without prompts.json */
extern void dsocr_check_model(DsocrCheck *c, const char *dir); /* config.json and cases/ */
extern void dsocr_check_synth(DsocrCheck *c, const char *dir); /* tensors.json */

#endif /* DSOCR_CHECK_H */
