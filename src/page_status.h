/*-------------------------------------------------------------------------
 *
 * page_status.h
 *		What became of a page: as a word, a comment and jsonb.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PAGE_STATUS_H
#define DSOCR_PAGE_STATUS_H

#include "dsocr.h"

#include "reading.h"
#include "utils/jsonb.h"

/* How well a page ended, from good to bad. */
typedef enum DsocrEnding
{
	DSOCR_ENDED_STOP,
	DSOCR_ENDED_LENGTH,
	DSOCR_ENDED_LOOP,
	DSOCR_ENDED_ERROR
} DsocrEnding;

/* Their names: "stop", "length", "loop", "error". */
extern const char *const dsocr_ending_names[];

extern DsocrEnding dsocr_page_ending(const DsocrPage *page);

/*
 * What became of a page: "ok", "length", "loop_cut", "undecodable", "refused"
 * or "engine_error".
 */
extern const char *dsocr_page_status(const DsocrPage *page);

/* The comment that stands for a page that could not be read, in the server encoding. */
extern char *dsocr_page_placeholder(const DsocrPage *page);

/* A page as dsocr_result.pages has it. */
extern Jsonb *dsocr_page_jsonb(const DsocrPage *page);

#endif /* DSOCR_PAGE_STATUS_H */
