/*-------------------------------------------------------------------------
 *
 * supervisor_parts.h
 *		What the parts of the page server share; private to supervisor*.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SUPERVISOR_PARTS_H
#define DSOCR_SUPERVISOR_PARTS_H

#include "child.h"
#include "supervisor.h"

/* A page that was asked for. */
typedef struct DsocrWantedPage
{
	struct DsocrWantedPage *next;
	uint64_t id;
	bool dropped;		  /* nobody wants it any more */
	DsocrRequest request; /* prompt is the page's */
} DsocrWantedPage;

typedef struct DsocrOpenDocument
{
	struct DsocrOpenDocument *next;
	uint64_t id;
	void *map; /* the bytes, then the password with its NUL */
	size_t map_len;
	DsocrRendererTask task;
	DsocrPriority priority;
	int pages; /* 0 = not open yet */
	DsocrWantedPage *first;
	DsocrWantedPage **last;
	int n_renderers;
	int n_busy;	   /* of them, opening or making a page */
	int64_t order; /* of arrival */
	bool passed;   /* nothing can be done for it in this round */
} DsocrOpenDocument;

typedef struct DsocrRenderer
{
	struct DsocrRenderer *next;
	DsocrChild child;
	DsocrOpenDocument *document;
	bool opened;
	uint64_t serial;	   /* never used twice */
	DsocrWantedPage *page; /* in work, or NULL */
	int last_page;		   /* 0 = none */
	int64_t deadline_us;   /* 0 = none */
	int64_t idle_us;	   /* since when, where it has nothing to do */
} DsocrRenderer;

typedef struct DsocrSupervisor
{
	const DsocrSupervisorOptions *options;
	DsocrChannel channel;
	DsocrOpenDocument *documents;
	DsocrRenderer *renderers;
	DsocrEnding ending;
	int n_renderers;
	uint64_t serial;
	int64_t order;
	int64_t alive_us; /* last sign of life */
	bool stop;
	int status; /* of the process, once stop is set */
} DsocrSupervisor;

/* End the loop with this status of the process; message may be NULL. */
extern void dsocr_supervisor_stop(DsocrSupervisor *s, int status, const char *message);

/* Answers to the worker. */
extern void dsocr_supervisor_fail(DsocrSupervisor *s, uint64_t id, DsocrCode code, const char *fmt,
								  ...) DSOCR_PRINTF(4, 5);
extern void dsocr_supervisor_status(DsocrSupervisor *s, uint64_t id, const DsocrError *status);
extern void dsocr_supervisor_pages(DsocrSupervisor *s, const DsocrOpenDocument *d);

/* Free what held bytes of a document or a page; NULL is allowed. */
extern void dsocr_supervisor_wipe(void *bytes, size_t n);
extern void dsocr_supervisor_free_page(DsocrWantedPage *p);

/* In a new renderer: drop what is here of others; arg is the DsocrSupervisor. */
extern void dsocr_supervisor_forget(void *arg);

/* Documents: take them in, find them, take pages in, cancel either, end them. */
extern void dsocr_supervisor_admit(DsocrSupervisor *s, const DsocrRequest *r);
extern void dsocr_supervisor_cancel(DsocrSupervisor *s, uint64_t id);
extern void dsocr_supervisor_close(DsocrSupervisor *s, DsocrOpenDocument *d);

/*
 * Renderers: start one, which counts as busy; stop one without a word; read a
 * frame of one, which may end it, its document, and others of that; stop those
 * that take too long or have nothing to do.
 */
extern DsocrRenderer *dsocr_renderer_start(DsocrSupervisor *s, DsocrOpenDocument *d,
										   DsocrError *err);
extern void dsocr_renderer_stop(DsocrSupervisor *s, DsocrRenderer *r);
extern void dsocr_renderer_read(DsocrSupervisor *s, DsocrRenderer *r);
extern void dsocr_renderer_check_times(DsocrSupervisor *s);

/* Give an idle renderer a page, which becomes its own. */
extern void dsocr_renderer_give(DsocrSupervisor *s, DsocrRenderer *r, DsocrWantedPage *p);

#endif /* DSOCR_SUPERVISOR_PARTS_H */
