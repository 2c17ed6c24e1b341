/*-------------------------------------------------------------------------
 *
 * reading_state.h
 *		A reading from the inside: its window of pages.
 *
 * For reading.c, reading_entry.c and reading_submit.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_READING_STATE_H
#define DSOCR_READING_STATE_H

#include "cache.h"
#include "opening.h"
#include "reading.h"

#define DSOCR_DEFAULT_DPI 144

typedef enum DsocrReadingKind
{
	DSOCR_KIND_UNKNOWN,
	DSOCR_KIND_IMAGE, /* one request to an engine */
	DSOCR_KIND_PAGES  /* for the page server */
} DsocrReadingKind;

typedef enum DsocrEntryState
{
	DSOCR_ENTRY_WANTED,
	DSOCR_ENTRY_ASKED,
	DSOCR_ENTRY_RENDERED,
	DSOCR_ENTRY_READING,
	DSOCR_ENTRY_JOINED,
	DSOCR_ENTRY_ENDED
} DsocrEntryState;

/* A page in a context of its own. */
typedef struct DsocrPageBox
{
	DsocrPage page; /* first: callers have its address */
	MemoryContext context;
} DsocrPageBox;

typedef struct DsocrEntry
{
	DsocrEntryState state;
	int losses;			/* page servers that died while it was ASKED */
	bool cramped;		/* there was no memory for its image: ask with all room there is */
	int joins;			/* how often it was JOINED */
	bool looked;		/* the table of answers was asked */
	DsocrHandle handle; /* ASKED, READING, JOINED */
	DsocrResult image;	/* RENDERED; of an image, nothing */
	DsocrPageBox *box;	/* ENDED */
} DsocrEntry;

struct DsocrReading
{
	MemoryContext context;
	DsocrReadOptions options;
	Datum document;
	DsocrReadingKind kind;
	DsocrOpening opening; /* DSOCR_KIND_PAGES */
	DsocrError status;
	DsocrError broken; /* no more pages can be rendered: why, else DSOCR_OK */
	int pages;		   /* of the document, 0 = not known */
	int last;		   /* last page to read; valid when pages are known */
	int next_out;	   /* number of the page to be given out next */
	int next_in;	   /* number of the next page to enter the window */
	int window;		   /* length of entries */
	DsocrEntry *entries;
	Size largest;					  /* bytes of an image of a page so far */
	DsocrPageBox *given;			  /* the page that the caller has, or NULL */
	bool hashed;					  /* digest was tried */
	bool keyed;						  /* digest is set */
	uint8 digest[DSOCR_DIGEST_BYTES]; /* of the document */
};

/* Bytes of images of pages that wait in this process. */
extern Size dsocr_rendered_bytes;

/* ---- reading_entry.c ---- */

extern DsocrEntry *dsocr_entry_of(DsocrReading *r, int number);

/* How many entries are in a state, and the first of them, 0 if there is none. */
extern int dsocr_entry_count(DsocrReading *r, DsocrEntryState state);
extern int dsocr_entry_find(DsocrReading *r, DsocrEntryState state);

/* A place for a page that has ended. */
extern DsocrPageBox *dsocr_entry_box(DsocrReading *r, int number);
extern void dsocr_entry_drop_image(DsocrEntry *e);
extern void dsocr_entry_end(DsocrReading *r, int number, const DsocrError *status);

/* What is asked of the engine, but for image and page. */
extern DsocrRequest dsocr_entry_request(const DsocrReading *r);

/* The key of a page's answer; false when it has none. */
extern bool dsocr_entry_key(DsocrReading *r, int number, DsocrCacheKey *key);

/* End a page with the answer that was kept for it, if there is one. */
extern bool dsocr_entry_find_kept(DsocrReading *r, int number);

/* A page was read: keep its answer for longer, where that is wanted. */
extern void dsocr_entry_keep(DsocrReading *r, int number);

/* ---- reading_submit.c ---- */

/* Let pages enter; where no more can be rendered, as failures. */
extern void dsocr_reading_fill(DsocrReading *r);

/* Submit what can be submitted at once. */
extern void dsocr_reading_submit(DsocrReading *r);

/* Stand in line for one request; false when there is nothing to submit. */
extern bool dsocr_reading_submit_in_line(DsocrReading *r);

/* All pages have been rendered: the place of the document is for others. */
extern void dsocr_reading_close_early(DsocrReading *r);

#endif /* DSOCR_READING_STATE_H */
