/*-------------------------------------------------------------------------
 *
 * reading.c
 *		One document being read: from bytes to pages, without blocking.
 *
 * Pages go through a window of dsocr.prefetch numbers, from the one that is
 * given out next on.  An entry of the window is WANTED, ASKED of the page
 * server, RENDERED (its image is in our memory, and in no slot), READING in an
 * engine, and ENDED.  The only page of an image begins as RENDERED.
 *
 * Why nobody waits for ever: a request that is in flight ends by itself, and
 * its slot is free once its owner has fetched the answer.  Whoever stands in
 * line for a slot fetches what ends meanwhile (dsocr_queue_on_wait), so of
 * all slots but those of open documents, at most half, none is held by
 * somebody who waits.  Two sessions between whom all slots but one are divided
 * both go on: neither stands in line while anything of its own is in flight,
 * and what it fetches next frees the slot that the first in line takes.
 *
 *-------------------------------------------------------------------------
 */
#include "reading.h"

#include "access/detoast.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "queue.h"

typedef enum EntryState
{
	ENTRY_NONE, /* outside of the window */
	ENTRY_RENDERED,
	ENTRY_READING,
	ENTRY_ENDED
} EntryState;

/* A page in a context of its own. */
typedef struct PageBox
{
	DsocrPage page; /* first: callers have its address */
	MemoryContext context;
} PageBox;

typedef struct Entry
{
	EntryState state;
	DsocrHandle handle; /* READING */
	PageBox *box;		/* ENDED */
} Entry;

struct DsocrReading
{
	MemoryContext context;
	dlist_node node; /* in readings */
	DsocrReadOptions options;
	Datum document;
	DsocrError status;
	int pages;	  /* of the document, 0 = not known */
	int last;	  /* last page to read; valid when pages are known */
	int next_out; /* number of the page to be given out next */
	int next_in;  /* number of the next page to enter the window */
	int window;	  /* length of entries */
	Entry *entries;
	PageBox *given; /* the page that the caller has, or NULL */
};

/* All of this process: what stands in line fetches for all of them. */
static dlist_head readings = DLIST_STATIC_INIT(readings);

/* ---- pages ---- */

static void
free_page_result(void *arg)
{
	dsocr_result_free(&((PageBox *) arg)->page.result);
}

static PageBox *
page_create(DsocrReading *r, int number)
{
	MemoryContext context = AllocSetContextCreate(r->context, "dsocr page", ALLOCSET_SMALL_SIZES);
	PageBox *box = MemoryContextAllocZero(context, sizeof(PageBox));
	MemoryContextCallback *callback = MemoryContextAlloc(context, sizeof(MemoryContextCallback));

	box->context = context;
	box->page.number = number;
	callback->func = free_page_result;
	callback->arg = box;
	MemoryContextRegisterResetCallback(context, callback);
	return box;
}

static Entry *
entry_of(DsocrReading *r, int number)
{
	return &r->entries[number % r->window];
}

void
dsocr_read_options_init(DsocrReadOptions *options)
{
	memset(options, 0, sizeof(*options));
	options->mode = (DsocrMode) dsocr_mode;
	options->priority = DSOCR_INTERACTIVE;
	options->max_tokens = dsocr_max_tokens;
	options->first_page = 1;
	options->last_page = PG_INT32_MAX;
}

/* It is known how many pages there are: the window begins at the first one. */
static void
set_pages(DsocrReading *r, int pages)
{
	r->pages = pages;
	r->last = Min(r->options.last_page, pages);
}

static bool
no_more_pages(const DsocrReading *r)
{
	return r->pages > 0 && r->next_out > r->last;
}

/*
 * Is it a document that can be read at all?  Its size is known before it is
 * fetched and decompressed, so what is too large costs nothing.
 */
static bool
check_document(DsocrReading *r)
{
	Size size = toast_raw_datum_size(r->document) - VARHDRSZ;

	if (size == 0)
		return dsocr_fail(&r->status, DSOCR_E_IMAGE, "document is empty");
	if (size > (Size) dsocr_max_image_bytes * 1024)
	{
		dsocr_fail(&r->status, DSOCR_E_IMAGE,
				   "document has %zu bytes, more than dsocr.max_image_bytes (%s)", (size_t) size,
				   GetConfigOptionByName("dsocr.max_image_bytes", NULL, false));
		return dsocr_hint(
			&r->status,
			"Store a smaller image, or ask an administrator to raise dsocr.max_image_bytes.");
	}
	set_pages(r, 1);
	return true;
}

static void
forget_reading(void *arg)
{
	dlist_delete(&((DsocrReading *) arg)->node);
}

static void fetch_for_all(void);

DsocrReading *
dsocr_reading_create(const DsocrReadOptions *options, Datum document)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dsocr reading", ALLOCSET_SMALL_SIZES);
	DsocrReading *r = MemoryContextAllocZero(context, sizeof(DsocrReading));
	MemoryContextCallback *callback = MemoryContextAlloc(context, sizeof(MemoryContextCallback));

	r->context = context;
	r->options = *options;
	if (options->prompt != NULL)
		r->options.prompt = MemoryContextStrdup(context, options->prompt);
	if (options->password != NULL)
		r->options.password = MemoryContextStrdup(context, options->password);
	r->document = document;
	r->next_out = r->next_in = Max(options->first_page, 1);
	r->window = 1;
	r->entries = MemoryContextAllocZero(context, sizeof(Entry) * r->window);

	dlist_push_tail(&readings, &r->node);
	callback->func = forget_reading;
	callback->arg = r;
	MemoryContextRegisterResetCallback(context, callback);
	dsocr_queue_on_wait(fetch_for_all);
	check_document(r);
	return r;
}

/* ---- fetch ---- */

static void
fetch_page(DsocrReading *r, int number)
{
	Entry *e = entry_of(r, number);
	PageBox *box = page_create(r, number);

	dsocr_queue_fetch(e->handle, &box->page.status, &box->page.result, box->page.model);
	dsocr_error_redact(&box->page.status);
	e->box = box;
	e->state = ENTRY_ENDED;
}

/* Take what has ended. */
static void
fetch_ended(DsocrReading *r)
{
	for (int number = r->next_out; number < r->next_in; number++)
	{
		Entry *e = entry_of(r, number);

		if (e->state == ENTRY_READING && dsocr_queue_holds(e->handle) &&
			dsocr_queue_poll(e->handle))
			fetch_page(r, number);
	}
}

static void
fetch_for_all(void)
{
	dlist_iter iter;

	dlist_foreach (iter, &readings)
		fetch_ended(dlist_container(DsocrReading, node, iter.cur));
}

/* ---- submit ---- */

static DsocrRequest
read_request(const DsocrReading *r)
{
	return (DsocrRequest){.kind = DSOCR_READ,
						  .task = r->options.task,
						  .priority = r->options.priority,
						  .mode = r->options.mode,
						  .max_tokens = r->options.max_tokens,
						  .ngram_size = dsocr_ngram_size,
						  .ngram_window = dsocr_ngram_window,
						  .max_pixels = dsocr_max_pixels,
						  .auto_rotate = r->options.auto_rotate,
						  .ladder = r->options.mode == DSOCR_MODE_AUTO,
						  .prompt = r->options.prompt};
}

/* Submit a request, at once or standing in line. */
static bool
submit(DsocrRequest *request, DsocrHandle *h, bool wait)
{
	if (!wait)
		return dsocr_queue_try_submit(request, h);
	*h = dsocr_queue_submit(request);
	return true;
}

/* The image itself as its only page; the document is detoasted for as long as it takes. */
static bool
submit_image(DsocrReading *r, Entry *e, bool wait)
{
	DsocrRequest request = read_request(r);
	MemoryContext caller = MemoryContextSwitchTo(r->context);
	struct varlena *bytes;
	bool done;

	if (!wait && !dsocr_queue_has_room(DSOCR_READ, toast_raw_datum_size(r->document)))
	{
		MemoryContextSwitchTo(caller);
		return false;
	}
	bytes = PG_DETOAST_DATUM_PACKED(r->document);
	request.image = (const uint8_t *) VARDATA_ANY(bytes);
	request.image_len = VARSIZE_ANY_EXHDR(bytes);
	done = submit(&request, &e->handle, wait);
	if ((Pointer) bytes != DatumGetPointer(r->document))
		pfree(bytes);
	MemoryContextSwitchTo(caller);
	return done;
}

/* Let pages enter the window. */
static void
fill_window(DsocrReading *r)
{
	while (r->pages > 0 && r->next_in <= r->last && r->next_in < r->next_out + r->window)
		entry_of(r, r->next_in++)->state = ENTRY_RENDERED;
}

/*
 * Submit what there is to submit, as far as that goes at once; with wait, one
 * request at least.  false: there was nothing to submit.
 */
static bool
submit_some(DsocrReading *r, bool wait)
{
	fill_window(r);
	for (int number = r->next_out; number < r->next_in; number++)
	{
		Entry *e = entry_of(r, number);

		if (e->state != ENTRY_RENDERED)
			continue;
		if (!submit_image(r, e, wait))
			return true;
		e->state = ENTRY_READING;
		if (wait)
			return true;
	}
	return false;
}

/* ---- the public face ---- */

void
dsocr_reading_advance(DsocrReading *r)
{
	if (dsocr_reading_ended(r))
		return;
	fetch_ended(r);
	submit_some(r, false);
}

DsocrPage *
dsocr_reading_next(DsocrReading *r)
{
	Entry *e;

	if (r->given != NULL)
		MemoryContextDelete(r->given->context);
	r->given = NULL;
	if (r->next_out >= r->next_in)
		return NULL;
	e = entry_of(r, r->next_out);
	if (e->state != ENTRY_ENDED)
		return NULL;
	r->given = e->box;
	memset(e, 0, sizeof(*e));
	r->next_out++;
	return &r->given->page;
}

bool
dsocr_reading_ended(const DsocrReading *r)
{
	return r->status.code != DSOCR_OK || no_more_pages(r);
}

const DsocrError *
dsocr_reading_status(const DsocrReading *r)
{
	return &r->status;
}

int
dsocr_reading_pages(const DsocrReading *r)
{
	return r->pages;
}

/* Add what is in flight; false when there is no need to wait at all. */
static bool
add_handles(DsocrReading *r, DsocrHandle *handles, int *n)
{
	if (dsocr_reading_ended(r))
		return false;
	for (int number = r->next_out; number < r->next_in; number++)
	{
		Entry *e = entry_of(r, number);

		if (e->state == ENTRY_ENDED && number == r->next_out)
			return false;
		if (e->state == ENTRY_READING)
			handles[(*n)++] = e->handle;
	}
	return true;
}

void
dsocr_reading_wait(DsocrReading *const *waiting, int n)
{
	DsocrHandle *handles;
	int most = 0;
	int in_flight = 0;

	for (int i = 0; i < n; i++)
		most += waiting[i]->window;
	handles = palloc(sizeof(DsocrHandle) * Max(most, 1));
	for (int i = 0; i < n; i++)
	{
		if (!add_handles(waiting[i], handles, &in_flight))
		{
			pfree(handles);
			return;
		}
	}
	if (in_flight > 0)
		(void) dsocr_queue_wait_any(handles, in_flight);
	else
	{
		bool submitted = false;

		for (int i = 0; i < n && !submitted; i++)
			submitted = submit_some(waiting[i], true);
	}
	pfree(handles);
}

void
dsocr_reading_delete(DsocrReading *r)
{
	for (int number = r->next_out; number < r->next_in; number++)
	{
		Entry *e = entry_of(r, number);

		if (e->state == ENTRY_READING && dsocr_queue_holds(e->handle))
			dsocr_queue_cancel(e->handle);
	}
	MemoryContextDelete(r->context);
}
