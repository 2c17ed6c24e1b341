/*-------------------------------------------------------------------------
 *
 * read.h
 *		Calls of the reading functions, for SQL and for who reads ahead.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_READ_H
#define DSOCR_READ_H

#include "dsocr.h"

#include "fmgr.h"
#include "nodes/execnodes.h"
#include "reading.h"

/* Bytes of a prompt in UTF-8, as in the engine: longer ones take long to tokenize. */
#define DSOCR_MAX_PROMPT_BYTES (64 * 1024)

/* Bytes of a password in UTF-8; PDF knows none that is longer. */
#define DSOCR_MAX_PASSWORD_BYTES 127

/* The mode that a value of the SQL type dsocr_mode stands for. */
extern DsocrMode dsocr_mode_from_enum(Oid value);

/* Argument n, or the setting dsocr.mode where it is NULL. */
extern DsocrMode dsocr_mode_argument(FunctionCallInfo fcinfo, int n);

/*
 * Arguments that all functions of documents have; NULL leaves the option as it
 * is.  The range lets no page in: false.  The others set err when they return
 * false.
 */
extern bool dsocr_pages_argument(FunctionCallInfo fcinfo, int n, DsocrReadOptions *options);
extern bool dsocr_dpi_argument(FunctionCallInfo fcinfo, int n, DsocrReadOptions *options,
							   DsocrError *err);
extern bool dsocr_password_argument(FunctionCallInfo fcinfo, int n, DsocrReadOptions *options,
									DsocrError *err);

/*
 * What becomes of a document that cannot be read: ERROR, or as
 * dsocr.on_error has it.  Returns only if the answer is NULL.
 */
extern void dsocr_failure_report(const DsocrError *error);

/* The reading functions. */
typedef enum DsocrFunction
{
	DSOCR_CALL_MARKDOWN,
	DSOCR_CALL_TEXT,
	DSOCR_CALL_LAYOUT,
	DSOCR_CALL_BLOCKS,
	DSOCR_CALL_FIGURE,
	DSOCR_CALL_DESCRIBE,
	DSOCR_CALL_LOCATE,
	DSOCR_CALL_GENERATE,
	DSOCR_CALL_READ,
	DSOCR_CALL_TRY,
	DSOCR_CALL_ARCHIVE /* the layout for what stores or shows it, bad pages included */
} DsocrFunction;

/*
 * The function that a C function is (fn_addr of its FmgrInfo); false if it is
 * none of those that return one value.
 */
extern bool dsocr_call_function(PGFunction address, DsocrFunction *function);

/*
 * A call in the course of time: create, then advance (and wait with
 * dsocr_reading_wait on its reading) until it has ended, then take the value.
 * Nothing but wrong arguments is raised before the value is taken, so who
 * reads ahead raises errors at the row that they belong to.
 */
typedef struct DsocrCall DsocrCall;

/*
 * The function with the arguments in fcinfo, which are not looked at again but
 * for the document: its datum must stay valid.  fcinfo->flinfo must tell the
 * function.  The call lives in a context below the current one.
 */
extern DsocrCall *dsocr_call_create(DsocrFunction function, FunctionCallInfo fcinfo);

/* What to wait for; NULL when the call has ended. */
extern DsocrReading *dsocr_call_reading(DsocrCall *call);

/* Take what is there and go on; true once the call has ended.  Never blocks. */
extern bool dsocr_call_advance(DsocrCall *call);

/*
 * The value of a call that has ended, in the current context; raises what its
 * document deserves.  Rows have gone into the tuplestore of fcinfo.
 */
extern Datum dsocr_call_value(DsocrCall *call, FunctionCallInfo fcinfo, bool *isnull);

/* What it took so far. */
typedef struct DsocrCallCounts
{
	int64 images; /* that were read */
	int64 cache_hits;
	int64 image_tokens;
	int64 text_tokens;
} DsocrCallCounts;

extern const DsocrCallCounts *dsocr_call_counts(const DsocrCall *call);

/* Frees everything and gives up what is in flight.  An abort does the same. */
extern void dsocr_call_delete(DsocrCall *call);

#endif /* DSOCR_READ_H */
