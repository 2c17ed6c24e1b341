/*-------------------------------------------------------------------------
 *
 * runner_text.h
 *		What a job gave, as values for tables.
 *
 * In a transaction, for conversions of encodings; values in the current
 * context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_RUNNER_TEXT_H
#define DSOCR_RUNNER_TEXT_H

#include "runner.h"

/* What of a text goes into a tsvector, which holds 1 MB and raises an error beyond. */
#define DSOCR_TSVECTOR_CHARACTERS 250000

extern Datum dsocr_job_text(const DsocrRunnerJob *job);	  /* text */
extern Datum dsocr_job_layout(const DsocrRunnerJob *job); /* jsonb */
extern Datum dsocr_job_result(const DsocrRunnerJob *job); /* composite dsocr_result */
extern Oid dsocr_job_result_type(void);
extern Datum dsocr_job_page_text(const DsocrRunnerJob *job, const DsocrPage *page); /* text */
extern Datum dsocr_job_page_layout(const DsocrPage *page);							/* jsonb */
extern double dsocr_job_page_confidence(const DsocrPage *page); /* negative: none */
extern const char *dsocr_job_page_status(const DsocrPage *page);

#endif /* DSOCR_RUNNER_TEXT_H */
