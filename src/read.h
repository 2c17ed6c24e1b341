/*-------------------------------------------------------------------------
 *
 * read.h
 *		The reading functions of SQL, and what they share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_READ_H
#define DSOCR_READ_H

#include "dsocr.h"

#include "fmgr.h"
#include "result.h"

/* Bytes of a prompt in UTF-8, as in the engine: longer ones take long to tokenize. */
#define DSOCR_MAX_PROMPT_BYTES (64 * 1024)

/* Highest resolution at which pages may be rendered, dots per inch. */
#define DSOCR_MAX_DPI 2400

/* The mode that a value of the SQL type dsocr_mode stands for. */
extern DsocrMode dsocr_mode_from_enum(Oid value);

#endif /* DSOCR_READ_H */
