/*-------------------------------------------------------------------------
 *
 * source.h
 *		An open document: a number of pages that can be made into pixels.
 *
 * What kind of document it is, its first bytes say.  Each kind is a file with
 * an open function that fills a DsocrSource; nobody else knows the kinds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SOURCE_H
#define DSOCR_SOURCE_H

#include "raster.h"
#include "request.h"

/* Of PDF pages, where a request names none. */
#define DSOCR_PAGES_DPI 144
#define DSOCR_PAGES_MAX_DPI 2400

/* Larger pages of a PDF are made at a lower resolution. */
#define DSOCR_PAGES_MAX_PIXELS 50000000

typedef struct DsocrSourceOptions
{
	const uint8_t *bytes; /* must stay until the document is closed */
	size_t len;
	const char *password; /* UTF-8, NULL = none */
	int dpi;			  /* 0 = DSOCR_PAGES_DPI */
	int max_pages;		  /* 0 = no limit */
	uint64_t max_pixels;  /* of a page, 0 = DSOCR_DEFAULT_MAX_PIXELS */
} DsocrSourceOptions;

typedef struct DsocrSource DsocrSource;

struct DsocrSource
{
	DsocrSourceOptions options;
	const char *format; /* "PDF", "PNG", ... */
	int pages;
	void *state; /* of the kind */

	/* Make page number (from 1, checked) into pixels, upright, on white. */
	bool (*render)(DsocrSource *s, int page, DsocrRaster *out, DsocrError *err);

	/* NULL, or: is the page nothing but a JPEG, and which? */
	bool (*stored)(DsocrSource *s, int page, DsocrBuffer *jpeg, int *width, int *height);
	void (*close)(DsocrSource *s); /* NULL = nothing to do */

	/* the page that was rendered last, for those who want several things of it */
	int kept_page; /* 0 = none */
	DsocrRaster kept;
};

/*
 * Open a document.  The options are checked here.  Errors: DSOCR_E_IMAGE (not
 * a document, damaged, encrypted), DSOCR_E_TOO_LONG (more pages than
 * max_pages), DSOCR_E_ARGUMENT, DSOCR_E_MEMORY.
 */
extern bool dsocr_source_open(DsocrSource *s, const DsocrSourceOptions *options, DsocrError *err);
extern void dsocr_source_close(DsocrSource *s);

/*
 * Answer a request of kind DSOCR_PAGE.  Errors: DSOCR_E_ARGUMENT (no such
 * page, a crop outside it, a wrong drawing), DSOCR_E_IMAGE, DSOCR_E_MEMORY,
 * with the page's number in front of the message.
 */
extern bool dsocr_source_page(DsocrSource *s, const DsocrRequest *r, DsocrResult *result,
							  DsocrError *err);

/* Make the pixels of a page, kept in s, if they are not there already. */
extern bool dsocr_source_rendered(DsocrSource *s, int page, DsocrError *err);

/* The refusal of a document with too many pages. */
extern bool dsocr_source_check_pages(int pages, int max_pages, DsocrError *err);

/* The kinds. */
extern bool dsocr_source_open_pdf(DsocrSource *s, DsocrError *err);
extern bool dsocr_source_open_image(DsocrSource *s, DsocrError *err);

/* "poppler 22.12.0, cairo 1.16.0", or "no PDF" where the program was built without. */
extern void dsocr_source_versions(char *text, size_t size);

/*
 * Let the libraries read their settings, so that every process forked from
 * here on finds them read.  Opens no document of a user.
 */
extern void dsocr_source_warm(void);

#endif /* DSOCR_SOURCE_H */
