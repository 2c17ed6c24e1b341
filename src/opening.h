/*-------------------------------------------------------------------------
 *
 * opening.h
 *		A document at the page server: opened, and opened again.
 *
 * The bytes stay with the backend, so a document can be closed at any time,
 * by a page server that dies or because another one of this backend needs the
 * place, and be opened again for the pages that are left.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_OPENING_H
#define DSOCR_OPENING_H

#include "dsocr.h"

#include "lib/ilist.h"
#include "queue.h"

typedef struct DsocrOpening
{
	/* set by the owner */
	Datum document;
	const char *password; /* UTF-8 or NULL */
	DsocrPriority priority;
	int32 dpi;
	void (*fetch)(void *owner);			  /* take the outcomes of all that has ended */
	void (*lost)(void *owner, bool died); /* what was asked of it is to be asked again */
	void *owner;

	/* read by the owner */
	bool open;		   /* pages can be asked for */
	uint64 id;		   /* for requests of pages */
	int pages;		   /* that it has; 0 until it was open once */
	DsocrError status; /* why it cannot be opened, else DSOCR_OK */

	/* of opening.c */
	DsocrHandle handle; /* generation 0 = neither open nor on the way */
	int deaths;			/* page servers that died while it was being opened */
	dlist_node node;	/* in openings */
} DsocrOpening;

/*
 * Is the document for the page server, or an image with one page?  false and
 * err when it is too large, empty, or no page server is there.
 */
extern bool dsocr_opening_identify(Datum document, bool *of_pages, DsocrError *err);

/* The same wherever it is to be opened: a page server here is not needed. */
extern bool dsocr_opening_kind(Datum document, bool *of_pages, DsocrError *err);

/* The same for any document that is to be opened, images included. */
extern bool dsocr_opening_check(Datum document, DsocrError *err);

/*
 * The owner calls end before its memory goes, whatever happens.  In between
 * fetch is called whenever this backend stands in line for a slot, also for
 * owners that have opened no document.
 */
extern void dsocr_opening_init(DsocrOpening *o);
extern void dsocr_opening_end(DsocrOpening *o);

/* Has it been submitted, and not been closed since? */
extern bool dsocr_opening_begun(const DsocrOpening *o);

/* Submit it, at once (false: no room) or standing in line. */
extern bool dsocr_opening_submit(DsocrOpening *o, bool wait);

/* Take the news: it is open, it cannot be opened, its page server has died. */
extern void dsocr_opening_look(DsocrOpening *o);

/* It is gone: died if a page told so, after which that page is suspected. */
extern void dsocr_opening_note_lost(DsocrOpening *o, bool died);

extern void dsocr_opening_close(DsocrOpening *o);

/* Is this how a page fails whose document has gone? */
extern bool dsocr_opening_is_loss(DsocrCode code);

#endif /* DSOCR_OPENING_H */
