/*-------------------------------------------------------------------------
 *
 * answer.h
 *		What a document gave, put together page by page.
 *
 * Each page is appended to texts, jsonb and rows as it comes and can be freed
 * then, so an answer holds what it returns and nothing more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ANSWER_H
#define DSOCR_ANSWER_H

#include "dsocr.h"

#include "fmgr.h"
#include "nodes/execnodes.h"
#include "reading.h"

/* What an answer is made of. */
typedef enum DsocrAnswerForm
{
	DSOCR_ANSWER_MARKDOWN, /* text */
	DSOCR_ANSWER_RAW,	   /* text as the model wrote it */
	DSOCR_ANSWER_LAYOUT,   /* jsonb */
	DSOCR_ANSWER_BLOCKS,   /* rows, into a tuplestore */
	DSOCR_ANSWER_BOXES,	   /* the same */
	DSOCR_ANSWER_RESULT	   /* dsocr_result */
} DsocrAnswerForm;

typedef struct DsocrAnswer DsocrAnswer;

/* In a context below the current one; rsinfo for rows, else NULL. */
extern DsocrAnswer *dsocr_answer_create(DsocrAnswerForm form, ReturnSetInfo *rsinfo);
extern void dsocr_answer_delete(DsocrAnswer *a);

/* Append a page of a document that has so many. */
extern void dsocr_answer_add(DsocrAnswer *a, const DsocrPage *page, int pages);

/* Pages that were appended, and those among them that could not be read. */
extern int dsocr_answer_pages(const DsocrAnswer *a);
extern int dsocr_answer_failed(const DsocrAnswer *a);

/* Why the first page that could not be read could not be. */
extern const DsocrError *dsocr_answer_error(const DsocrAnswer *a);

/* The finished value in the current context; tells of characters that were lost. */
extern Datum dsocr_answer_datum(DsocrAnswer *a, FunctionCallInfo fcinfo);

/* Warn of texts that are not whole. */
extern void dsocr_answer_warn_if_cut(const DsocrAnswer *a, int max_tokens);

/* A dsocr_result for a document that could not be read. */
extern Datum dsocr_answer_failure(FunctionCallInfo fcinfo, const DsocrError *why, int pages);

#endif /* DSOCR_ANSWER_H */
