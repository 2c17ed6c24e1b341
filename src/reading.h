/*-------------------------------------------------------------------------
 *
 * reading.h
 *		One document being read: from bytes to pages, without blocking.
 *
 * The SQL functions, the batch scan and the job runner all read documents
 * through this.  A reading takes its next steps in dsocr_reading_advance and
 * waits in dsocr_reading_wait alone; pages come out in order, however many of
 * them are in flight.
 *
 * An image with one page is one request.  A PDF or a TIFF with several pages
 * is opened by the page server, which makes an image of one page after the
 * other, and each image is a request to the engine.  At most dsocr.prefetch
 * pages of a document are in flight, so memory does not grow with it.
 *
 * No hold and wait: who has a request in flight never stands in line for
 * another slot but goes on with what it has.  Only dsocr_reading_wait stands
 * in line, and only when none of its readings has anything in flight; a
 * document that is open holds a slot of its own, of which half the slots are
 * never used.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_READING_H
#define DSOCR_READING_H

#include "dsocr.h"
#include "result.h"

/* Highest resolution at which pages may be rendered, dots per inch. */
#define DSOCR_MAX_DPI 2400

/* What a document is read for. */
typedef struct DsocrReadOptions
{
	DsocrTask task;
	DsocrMode mode; /* DSOCR_MODE_AUTO: by the page, with the ladder of modes */
	DsocrPriority priority;
	int32 max_tokens; /* 0 = as many as the context holds; else read once: no ladder */
	int32 dpi;		  /* of PDF pages, 0 = 144 */
	int32 first_page; /* from 1 */
	int32 last_page;  /* inclusive; PG_INT32_MAX = to the end */
	bool auto_rotate;
	const char *prompt;	  /* UTF-8; GENERATE: the prompt; LOCATE: what; else NULL */
	const char *password; /* UTF-8; of an encrypted PDF, NULL = none */
} DsocrReadOptions;

/* One page: a result, or why there is none. */
typedef struct DsocrPage
{
	int32 number;		/* from 1 */
	DsocrError status;	/* DSOCR_OK, or why the page could not be read */
	DsocrResult result; /* set where status is DSOCR_OK */
	char model[64];
	bool cached; /* an answer that was kept; its timings are 0 */
} DsocrPage;

typedef struct DsocrReading DsocrReading;

/* The defaults of the settings; task, prompt and page range are the caller's. */
extern void dsocr_read_options_init(DsocrReadOptions *options);

/*
 * Begin to read.  The document is only looked at (detoasted for a moment)
 * when it is submitted, so the datum must stay valid until the reading is
 * deleted; options are copied.  All of it lives in a context below the
 * current one.
 */
extern DsocrReading *dsocr_reading_create(const DsocrReadOptions *options, Datum document);

/* Take what has ended, submit what can be submitted at once.  Never blocks. */
extern void dsocr_reading_advance(DsocrReading *r);

/*
 * The next page in order, once it has ended; else NULL.  It is the caller's
 * until the next call.  Pages that were not asked for are left out.
 */
extern DsocrPage *dsocr_reading_next(DsocrReading *r);

/* Have all pages been given out, or has the document failed? */
extern bool dsocr_reading_ended(const DsocrReading *r);

/*
 * Why the document as a whole could not be read: it is no document, too
 * large, locked.  DSOCR_OK otherwise; single pages may have failed, and there
 * are none to give out when it has none of those that were asked for.
 */
extern const DsocrError *dsocr_reading_status(const DsocrReading *r);

/* Pages of the document; 0 while that is not known. */
extern int dsocr_reading_pages(const DsocrReading *r);

/*
 * Wait until one of n readings can go on.  Interruptible; raises ERROR when
 * dsocr.timeout or dsocr.queue_timeout has passed or no worker is there.
 */
extern void dsocr_reading_wait(DsocrReading *const *readings, int n);

/* Give up what is in flight and free everything.  An abort does the same. */
extern void dsocr_reading_delete(DsocrReading *r);

/*
 * A page of the document as an image, for what shows or stores pages.  Waits.
 * prompt as DSOCR_PAGE_DRAWN wants it; crop only for DSOCR_PAGE_CROP.  The
 * outcome's result.image holds the bytes.
 */
typedef struct DsocrPageImage
{
	int32 page;
	DsocrPageOutput output;
	const char *prompt;
	int32 crop[4];
} DsocrPageImage;

/* An open document that images are taken from, one after the other. */
typedef struct DsocrDocument DsocrDocument;

/* Waits until it is open; its status tells whether it is. */
extern DsocrDocument *dsocr_document_open(Datum document, const char *password, int32 dpi,
										  DsocrError *status);
extern int dsocr_document_pages(const DsocrDocument *d);

/* Ask for an image; up to dsocr.prefetch may be asked for ahead. */
extern void dsocr_document_ask(DsocrDocument *d, const DsocrPageImage *image);

/* The outcome of the oldest question.  Waits. */
extern DsocrOutcome *dsocr_document_take(DsocrDocument *d);
extern void dsocr_document_close(DsocrDocument *d);

#endif /* DSOCR_READING_H */
