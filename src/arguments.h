/*-------------------------------------------------------------------------
 *
 * arguments.h
 *		Arguments of the functions that read documents, beside those in read.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ARGUMENTS_H
#define DSOCR_ARGUMENTS_H

#include "dsocr.h"

#include "fmgr.h"
#include "read.h"

/* max_tokens and dpi, which stand side by side; false, with err set, when one is wrong. */
extern bool dsocr_limits_arguments(FunctionCallInfo fcinfo, int n, DsocrReadOptions *options,
								   DsocrError *err);

/* Text of the user in UTF-8; NULL, with err set, when it is too long. */
extern char *dsocr_text_argument(Datum datum, int most, const char *name, DsocrCode code,
								 DsocrError *err);

#endif /* DSOCR_ARGUMENTS_H */
