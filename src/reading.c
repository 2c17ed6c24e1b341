/*-------------------------------------------------------------------------
 *
 * reading.c
 *		One document being read: from bytes to pages, without blocking.
 *
 * Pages go through a window of dsocr.prefetch numbers, from the one that is
 * given out next on.  An entry of the window is WANTED, ASKED of the page
 * server, RENDERED (its image is in our memory, and in no slot), READING in an
 * engine, and ENDED.  The only page of an image begins as RENDERED.  A page
 * whose answer was kept goes to ENDED at once; one that is being read already,
 * for whomever, is JOINED to that, and RENDERED again if nothing came of it.
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
#include "reading_state.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#define MAX_WINDOW 256

/* A page that was in work when so many page servers died is given up. */
#define MAX_LOSSES 2

/* ---- the document ---- */

void
dsocr_read_options_init(DsocrReadOptions *options)
{
	memset(options, 0, sizeof(*options));
	options->mode = (DsocrMode) dsocr_mode;
	options->priority = DSOCR_INTERACTIVE;
	options->max_tokens = dsocr_max_tokens;
	options->first_page = 1;
	options->last_page = PG_INT32_MAX;
	options->auto_rotate = dsocr_auto_rotate == DSOCR_ROTATE_ON;
}

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

/* An image that was asked for will not come: ask again, but not for ever. */
static void
note_loss(DsocrReading *r, int number, bool died)
{
	static const DsocrError lost = {.code = DSOCR_E_ENGINE_LOST,
									.message = "the page server died twice on this page",
									.hint = "Look for the reason in the server log."};
	DsocrEntry *e = dsocr_entry_of(r, number);

	e->state = DSOCR_ENTRY_WANTED;
	e->losses += died;
	if (e->losses >= MAX_LOSSES)
		dsocr_entry_end(r, number, &lost);
}

/* The page server has gone, or the document was closed. */
static void
lose_asked(void *arg, bool died)
{
	DsocrReading *r = arg;

	for (int number = r->next_out; number < r->next_in; number++)
	{
		DsocrEntry *e = dsocr_entry_of(r, number);

		if (e->state != DSOCR_ENTRY_ASKED)
			continue;
		if (dsocr_queue_holds(e->handle))
			dsocr_queue_cancel(e->handle);
		note_loss(r, number, died);
	}
}

static void
forget_reading(void *arg)
{
	DsocrReading *r = arg;

	for (int i = 0; i < r->window; i++)
		dsocr_entry_drop_image(&r->entries[i]);
	dsocr_opening_end(&r->opening);
}

static void fetch_ended(void *arg);

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
	r->window = Min(dsocr_prefetch, MAX_WINDOW);
	r->entries = MemoryContextAllocZero(context, sizeof(DsocrEntry) * r->window);
	r->opening.document = document;
	r->opening.password = r->options.password;
	r->opening.priority = options->priority;
	r->opening.dpi = options->dpi;
	r->opening.fetch = fetch_ended;
	r->opening.lost = lose_asked;
	r->opening.owner = r;

	dsocr_opening_init(&r->opening);
	callback->func = forget_reading;
	callback->arg = r;
	MemoryContextRegisterResetCallback(context, callback);
	return r;
}

/* Find out what the document is; false with status set when it is nothing to read. */
static bool
identify(DsocrReading *r)
{
	bool of_pages;

	if (r->kind != DSOCR_KIND_UNKNOWN)
		return true;
	if (!dsocr_opening_identify(r->document, &of_pages, &r->status))
		return false;
	r->kind = of_pages ? DSOCR_KIND_PAGES : DSOCR_KIND_IMAGE;
	if (!of_pages)
		set_pages(r, 1);
	return true;
}

/* ---- fetch ---- */

static void
fetch_page(DsocrReading *r, int number)
{
	DsocrEntry *e = dsocr_entry_of(r, number);
	DsocrPageBox *box = dsocr_entry_box(r, number);

	dsocr_queue_fetch(e->handle, &box->page.status, &box->page.result, box->page.model);
	dsocr_error_redact(&box->page.status);
	e->box = box;
	e->state = DSOCR_ENTRY_ENDED;
	if (box->page.status.code == DSOCR_OK)
		dsocr_entry_keep(r, number);
}

/* The page server has ended with a page. */
static void
fetch_image(DsocrReading *r, int number)
{
	DsocrEntry *e = dsocr_entry_of(r, number);
	DsocrError status;
	char model[64];

	dsocr_queue_fetch(e->handle, &status, &e->image, model);
	dsocr_rendered_bytes += e->image.image_len;
	r->largest = Max(r->largest, e->image.image_len);
	if (status.code == DSOCR_OK)
		e->state = DSOCR_ENTRY_RENDERED;
	else if (dsocr_opening_is_loss(status.code))
	{
		note_loss(r, number, true);
		dsocr_opening_note_lost(&r->opening, true);
	}
	else if (status.code == DSOCR_E_MEMORY && !e->cramped)
	{
		e->state = DSOCR_ENTRY_WANTED;
		e->cramped = true;
	}
	else
		dsocr_entry_end(r, number, &status);
}

/* Take what has ended; what an aborted subtransaction took away begins once more. */
static void
fetch_ended(void *arg)
{
	DsocrReading *r = arg;

	for (int number = r->next_out; number < r->next_in; number++)
	{
		DsocrEntry *e = dsocr_entry_of(r, number);

		if (e->state == DSOCR_ENTRY_JOINED && dsocr_queue_joined_ended(e->handle) &&
			!dsocr_entry_find_kept(r, number))
			e->state = DSOCR_ENTRY_RENDERED;
		if (e->state != DSOCR_ENTRY_READING && e->state != DSOCR_ENTRY_ASKED)
			continue;
		if (!dsocr_queue_holds(e->handle))
			e->state = r->kind == DSOCR_KIND_IMAGE ? DSOCR_ENTRY_RENDERED : DSOCR_ENTRY_WANTED;
		else if (!dsocr_queue_poll(e->handle))
			continue;
		else if (e->state == DSOCR_ENTRY_READING)
			fetch_page(r, number);
		else
			fetch_image(r, number);
	}
}

/* Take the news of the document. */
static void
look_at_document(DsocrReading *r)
{
	if (r->kind != DSOCR_KIND_PAGES)
		return;
	dsocr_opening_look(&r->opening);
	if (r->pages == 0 && r->opening.pages > 0)
		set_pages(r, r->opening.pages);
	if (r->opening.status.code == DSOCR_OK)
		return;
	*(r->pages > 0 ? &r->broken : &r->status) = r->opening.status;
}

/* ---- the public face ---- */

void
dsocr_reading_advance(DsocrReading *r)
{
	if (dsocr_reading_ended(r) || !identify(r))
		return;
	look_at_document(r);
	fetch_ended(r);
	if (dsocr_reading_ended(r))
		return;
	dsocr_reading_fill(r);
	dsocr_reading_submit(r);
	dsocr_reading_close_early(r);
}

DsocrPage *
dsocr_reading_next(DsocrReading *r)
{
	DsocrEntry *e;

	if (r->given != NULL)
		MemoryContextDelete(r->given->context);
	r->given = NULL;
	if (r->next_out >= r->next_in)
		return NULL;
	e = dsocr_entry_of(r, r->next_out);
	if (e->state != DSOCR_ENTRY_ENDED)
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

typedef struct Waiting
{
	DsocrHandle *handles;
	int n;
	int will_end; /* of them; a document that is open does not end by itself */
} Waiting;

/* Add a reading; false when there is no need to wait at all. */
static bool
add_handles(DsocrReading *r, Waiting *w)
{
	if (dsocr_reading_ended(r) || r->kind == DSOCR_KIND_UNKNOWN)
		return false;
	if (dsocr_opening_begun(&r->opening))
	{
		w->handles[w->n++] = r->opening.handle;
		w->will_end += !r->opening.open;
	}
	for (int number = r->next_out; number < r->next_in; number++)
	{
		DsocrEntry *e = dsocr_entry_of(r, number);

		if (e->state == DSOCR_ENTRY_ENDED && number == r->next_out)
			return false;
		if (e->state != DSOCR_ENTRY_ASKED && e->state != DSOCR_ENTRY_READING &&
			e->state != DSOCR_ENTRY_JOINED)
			continue;
		w->handles[w->n++] = e->handle;
		w->will_end++;
	}
	return true;
}

void
dsocr_reading_wait(DsocrReading *const *waiting, int n)
{
	Waiting w = {NULL};
	bool wait = true;
	int most = 0;

	for (int i = 0; i < n; i++)
		most += waiting[i]->window + 1;
	w.handles = palloc(sizeof(DsocrHandle) * Max(most, 1));
	for (int i = 0; i < n && wait; i++)
		wait = add_handles(waiting[i], &w);
	if (wait && w.will_end > 0)
		(void) dsocr_queue_wait_any(w.handles, w.n);
	else if (wait)
	{
		bool submitted = false;

		for (int i = 0; i < n && !submitted; i++)
			submitted = dsocr_reading_submit_in_line(waiting[i]);
	}
	pfree(w.handles);
}

void
dsocr_reading_delete(DsocrReading *r)
{
	for (int number = r->next_out; number < r->next_in; number++)
	{
		DsocrEntry *e = dsocr_entry_of(r, number);

		if ((e->state == DSOCR_ENTRY_READING || e->state == DSOCR_ENTRY_ASKED) &&
			dsocr_queue_holds(e->handle))
			dsocr_queue_cancel(e->handle);
	}
	MemoryContextDelete(r->context);
}
