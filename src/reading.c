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
#include "reading.h"

#include "access/detoast.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "cache.h"
#include "opening.h"
#include "roles.h"
#include "stats.h"

#define MAX_WINDOW 256

/* Pages of a document that are being rendered, or are and wait for an engine. */
#define MAX_RENDERED 6

/* The same of all documents of this backend, in bytes. */
#define MAX_RENDERED_BYTES ((Size) 64 << 20)

/* A page that was in work when so many page servers died is given up. */
#define MAX_LOSSES 2

/* An A4 page in colour as a first guess: square inches, bytes of a pixel. */
#define PAGE_SQUARE_INCHES 97
#define PAGE_PIXEL_BYTES 3
#define DEFAULT_DPI 144

/* Requests of others that came to nothing: then the page is read by itself. */
#define MAX_JOINS 2

typedef enum Kind
{
	KIND_UNKNOWN,
	KIND_IMAGE, /* one request to an engine */
	KIND_PAGES	/* for the page server */
} Kind;

typedef enum EntryState
{
	ENTRY_WANTED,
	ENTRY_ASKED,
	ENTRY_RENDERED,
	ENTRY_READING,
	ENTRY_JOINED,
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
	int losses;			/* page servers that died while it was ASKED */
	bool cramped;		/* there was no memory for its image: ask with all room there is */
	int joins;			/* how often it was JOINED */
	DsocrHandle handle; /* ASKED, READING, JOINED */
	DsocrResult image;	/* RENDERED; of an image, nothing */
	PageBox *box;		/* ENDED */
} Entry;

struct DsocrReading
{
	MemoryContext context;
	DsocrReadOptions options;
	Datum document;
	Kind kind;
	DsocrOpening opening; /* KIND_PAGES */
	DsocrError status;
	DsocrError broken; /* no more pages can be rendered: why, else DSOCR_OK */
	int pages;		   /* of the document, 0 = not known */
	int last;		   /* last page to read; valid when pages are known */
	int next_out;	   /* number of the page to be given out next */
	int next_in;	   /* number of the next page to enter the window */
	int window;		   /* length of entries */
	Entry *entries;
	Size largest;					  /* bytes of an image of a page so far */
	PageBox *given;					  /* the page that the caller has, or NULL */
	bool hashed;					  /* digest was tried */
	bool keyed;						  /* digest is set */
	uint8 digest[DSOCR_DIGEST_BYTES]; /* of the document */
};

/* Images of pages that wait in this process. */
static Size rendered_bytes = 0;

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

static void
drop_image(Entry *e)
{
	rendered_bytes -= e->image.image_len;
	dsocr_result_free(&e->image);
	memset(&e->image, 0, sizeof(e->image));
}

static void
end_entry(DsocrReading *r, int number, const DsocrError *status)
{
	Entry *e = entry_of(r, number);

	e->box = page_create(r, number);
	e->box->page.status = *status;
	e->state = ENTRY_ENDED;
}

static int
count_entries(DsocrReading *r, EntryState state)
{
	int n = 0;

	for (int number = r->next_out; number < r->next_in; number++)
		n += entry_of(r, number)->state == state;
	return n;
}

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
	Entry *e = entry_of(r, number);

	e->state = ENTRY_WANTED;
	e->losses += died;
	if (e->losses >= MAX_LOSSES)
		end_entry(r, number, &lost);
}

/* The page server has gone, or the document was closed. */
static void
lose_asked(void *arg, bool died)
{
	DsocrReading *r = arg;

	for (int number = r->next_out; number < r->next_in; number++)
	{
		Entry *e = entry_of(r, number);

		if (e->state != ENTRY_ASKED)
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
		drop_image(&r->entries[i]);
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
	r->entries = MemoryContextAllocZero(context, sizeof(Entry) * r->window);
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

	if (r->kind != KIND_UNKNOWN)
		return true;
	if (!dsocr_opening_identify(r->document, &of_pages, &r->status))
		return false;
	r->kind = of_pages ? KIND_PAGES : KIND_IMAGE;
	if (!of_pages)
		set_pages(r, 1);
	return true;
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

/* The page server has ended with a page. */
static void
fetch_image(DsocrReading *r, int number)
{
	Entry *e = entry_of(r, number);
	DsocrError status;
	char model[64];

	dsocr_queue_fetch(e->handle, &status, &e->image, model);
	rendered_bytes += e->image.image_len;
	r->largest = Max(r->largest, e->image.image_len);
	if (status.code == DSOCR_OK)
		e->state = ENTRY_RENDERED;
	else if (dsocr_opening_is_loss(status.code))
	{
		note_loss(r, number, true);
		dsocr_opening_note_lost(&r->opening, true);
	}
	else if (status.code == DSOCR_E_MEMORY && !e->cramped)
	{
		e->state = ENTRY_WANTED;
		e->cramped = true;
	}
	else
		end_entry(r, number, &status);
}

static bool find_kept(DsocrReading *r, int number);

/* Take what has ended; what an aborted subtransaction took away begins once more. */
static void
fetch_ended(void *arg)
{
	DsocrReading *r = arg;

	for (int number = r->next_out; number < r->next_in; number++)
	{
		Entry *e = entry_of(r, number);

		if (e->state == ENTRY_JOINED && dsocr_queue_joined_ended(e->handle) &&
			!find_kept(r, number))
			e->state = ENTRY_RENDERED;
		if (e->state != ENTRY_READING && e->state != ENTRY_ASKED)
			continue;
		if (!dsocr_queue_holds(e->handle))
			e->state = r->kind == KIND_IMAGE ? ENTRY_RENDERED : ENTRY_WANTED;
		else if (!dsocr_queue_poll(e->handle))
			continue;
		else if (e->state == ENTRY_READING)
			fetch_page(r, number);
		else
			fetch_image(r, number);
	}
}

/* Take the news of the document. */
static void
look_at_document(DsocrReading *r)
{
	if (r->kind != KIND_PAGES)
		return;
	dsocr_opening_look(&r->opening);
	if (r->pages == 0 && r->opening.pages > 0)
		set_pages(r, r->opening.pages);
	if (r->opening.status.code == DSOCR_OK)
		return;
	*(r->pages > 0 ? &r->broken : &r->status) = r->opening.status;
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
						  .ladder = r->options.mode == DSOCR_MODE_AUTO && !r->options.max_tokens,
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

/* ---- answers that were kept ---- */

/* The document's digest; it is detoasted for as long as that takes. */
static void
hash_document(DsocrReading *r)
{
	MemoryContext caller = MemoryContextSwitchTo(r->context);
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(r->document);

	r->hashed = true;
	r->keyed = dsocr_cache_digest(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes), r->digest);
	if ((Pointer) bytes != DatumGetPointer(r->document))
		pfree(bytes);
	MemoryContextSwitchTo(caller);
}

/* The key of a page; false when it has none. */
static bool
page_key(DsocrReading *r, int number, DsocrCacheKey *key)
{
	DsocrRequest request = read_request(r);
	int dpi = r->options.dpi > 0 ? r->options.dpi : DEFAULT_DPI;

	memset(key, 0, sizeof(*key));
	if (!dsocr_cache_is_on())
		return false;
	if (!r->hashed)
		hash_document(r);
	request.page = r->kind == KIND_PAGES ? number : 0;
	return r->keyed && dsocr_cache_key(&request, r->digest, r->kind == KIND_PAGES ? dpi : 0, key);
}

/* End a page with the answer that was kept for it, if there is one. */
static bool
find_kept(DsocrReading *r, int number)
{
	Entry *e = entry_of(r, number);
	DsocrCacheKey key;
	DsocrError err = {0};
	PageBox *box;
	char model[64];
	Size len;
	void *body;

	if (!page_key(r, number, &key) || (body = dsocr_cache_get(&key, &len, model)) == NULL)
		return false;
	box = page_create(r, number);
	if (!dsocr_parse_result(body, len, &box->page.status, &box->page.result, &err))
		box->page.status = err;
	pfree(body);
	memset(&box->page.result.timings, 0, sizeof(box->page.result.timings));
	strlcpy(box->page.model, model, sizeof(box->page.model));
	box->page.cached = true;
	drop_image(e);
	e->box = box;
	e->state = ENTRY_ENDED;
	dsocr_stats_cached();
	dsocr_role_count_cached(GetUserId());
	return true;
}

/* Submit what has a key; the entry is READING or JOINED then. */
static bool
submit_page(DsocrReading *r, int number, DsocrRequest *request, bool wait)
{
	Entry *e = entry_of(r, number);
	DsocrCacheKey key;
	bool keyed = page_key(r, number, &key);

	if (keyed && e->joins < MAX_JOINS)
	{
		if (!dsocr_queue_submit_equal(request, &key, wait, &e->handle))
			return false;
	}
	else if (!submit(request, &e->handle, wait))
		return false;
	e->state = e->handle.joined ? ENTRY_JOINED : ENTRY_READING;
	e->joins += e->handle.joined;
	return true;
}

/* The image itself as its only page; the document is detoasted for as long as it takes. */
static bool
read_image(DsocrReading *r, int number, bool wait)
{
	DsocrRequest request = read_request(r);
	MemoryContext caller;
	struct varlena *bytes;
	bool done;

	if (find_kept(r, number))
		return true;
	if (!wait && !dsocr_queue_has_room(DSOCR_READ, toast_raw_datum_size(r->document)))
		return false;
	caller = MemoryContextSwitchTo(r->context);
	bytes = PG_DETOAST_DATUM_PACKED(r->document);
	request.image = (const uint8_t *) VARDATA_ANY(bytes);
	request.image_len = VARSIZE_ANY_EXHDR(bytes);
	done = submit_page(r, number, &request, wait);
	if ((Pointer) bytes != DatumGetPointer(r->document))
		pfree(bytes);
	MemoryContextSwitchTo(caller);
	return done;
}

/* Hand the image of a page to an engine. */
static bool
read_page(DsocrReading *r, int number, bool wait)
{
	Entry *e = entry_of(r, number);
	DsocrRequest request = read_request(r);

	if (find_kept(r, number))
		return true;
	if (e->image.image_len > dsocr_queue_memory_for(&request))
	{
		DsocrError err;

		dsocr_fail(&err, DSOCR_E_MEMORY,
				   "image of the page has %zu bytes, more than "
				   "dsocr.queue_memory has room for",
				   e->image.image_len);
		drop_image(e);
		end_entry(r, number, &err);
		return true;
	}
	request.document = r->opening.id;
	request.page = number;
	request.max_pages = r->pages;
	request.image = e->image.image;
	request.image_len = e->image.image_len;
	if (!submit_page(r, number, &request, wait))
		return false;
	if (e->state == ENTRY_READING)
		drop_image(e);
	return true;
}

/* Bytes that the image of a page will need, by those that were there already. */
static Size
expected_bytes(const DsocrReading *r)
{
	Size dpi = r->options.dpi > 0 ? r->options.dpi : DEFAULT_DPI;
	Size most = (Size) dsocr_queue_memory * 1024 / 2;
	Size bytes = r->largest;

	if (bytes == 0)
		bytes = PAGE_SQUARE_INCHES * PAGE_PIXEL_BYTES * dpi * dpi;
	return Min(bytes, most);
}

/* Ask for the image of a page. */
static bool
ask_page(DsocrReading *r, int number, bool wait)
{
	Entry *e = entry_of(r, number);
	DsocrRequest request = {.kind = DSOCR_PAGE,
							.priority = r->options.priority,
							.max_pixels = dsocr_max_pixels,
							.document = r->opening.id,
							.page = number,
							.max_pages = r->pages,
							.output = DSOCR_PAGE_RAW};

	request.room = e->cramped ? dsocr_queue_memory_for(&request) : expected_bytes(r);
	if (!submit(&request, &e->handle, wait))
		return false;
	e->state = ENTRY_ASKED;
	return true;
}

/* Let pages enter; where no more can be rendered, as failures. */
static void
fill_window(DsocrReading *r)
{
	while (r->pages > 0 && r->next_in <= r->last && r->next_in < r->next_out + r->window)
	{
		int number = r->next_in++;
		Entry *e = entry_of(r, number);

		memset(e, 0, sizeof(*e));
		e->state = r->kind == KIND_IMAGE ? ENTRY_RENDERED : ENTRY_WANTED;
		if (r->kind == KIND_PAGES)
			(void) find_kept(r, number); /* without rendering it */
	}
	for (int number = r->next_out; r->broken.code != DSOCR_OK && number < r->next_in; number++)
	{
		if (entry_of(r, number)->state == ENTRY_WANTED)
			end_entry(r, number, &r->broken);
	}
}

/* The first entry in a state, 0 if there is none. */
static int
find_entry(DsocrReading *r, EntryState state)
{
	for (int number = r->next_out; number < r->next_in; number++)
	{
		if (entry_of(r, number)->state == state)
			return number;
	}
	return 0;
}

/* The page to be asked for next: one that is suspected goes first, and alone. */
static int
find_wanted(DsocrReading *r, bool *alone)
{
	*alone = false;
	for (int number = r->next_out; number < r->next_in; number++)
	{
		Entry *e = entry_of(r, number);

		if (e->losses == 0 || (e->state != ENTRY_WANTED && e->state != ENTRY_ASKED))
			continue;
		*alone = true;
		return e->state == ENTRY_WANTED ? number : 0;
	}
	return find_entry(r, ENTRY_WANTED);
}

static bool
may_ask_ahead(DsocrReading *r, int number, bool alone)
{
	int asked = count_entries(r, ENTRY_ASKED);

	if (entry_of(r, number)->cramped)
		return false; /* only standing in line, for all the memory */
	if (asked == 0 && find_entry(r, ENTRY_RENDERED) == 0)
		return true;
	return !alone && asked + count_entries(r, ENTRY_RENDERED) < MAX_RENDERED &&
		   rendered_bytes + (asked + 1) * expected_bytes(r) < MAX_RENDERED_BYTES;
}

/* Submit what can be submitted at once. */
static void
submit_at_once(DsocrReading *r)
{
	bool alone;
	int number;

	while ((number = find_entry(r, ENTRY_RENDERED)) > 0)
	{
		if (!(r->kind == KIND_IMAGE ? read_image(r, number, false) : read_page(r, number, false)))
			return;
	}
	if (r->kind != KIND_PAGES || (r->pages > 0 && (number = find_wanted(r, &alone)) == 0))
		return;
	if (!dsocr_opening_begun(&r->opening))
		(void) dsocr_opening_submit(&r->opening, false);
	while (r->opening.open && (number = find_wanted(r, &alone)) > 0 &&
		   may_ask_ahead(r, number, alone) && ask_page(r, number, false))
		;
}

/* Stand in line for one request; false when there is nothing to submit. */
static bool
submit_in_line(DsocrReading *r)
{
	int number = find_entry(r, ENTRY_RENDERED);
	bool alone;

	if (number > 0)
		return r->kind == KIND_IMAGE ? read_image(r, number, true) : read_page(r, number, true);
	if (r->kind != KIND_PAGES)
		return false;
	if (!dsocr_opening_begun(&r->opening))
		return dsocr_opening_submit(&r->opening, true);
	number = find_wanted(r, &alone);
	return r->opening.open && number > 0 && ask_page(r, number, true);
}

/* All pages have been rendered: the place of the document is for others. */
static void
close_early(DsocrReading *r)
{
	if (r->pages > 0 && r->next_in > r->last && find_entry(r, ENTRY_WANTED) == 0 &&
		find_entry(r, ENTRY_ASKED) == 0)
		dsocr_opening_close(&r->opening);
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
	fill_window(r);
	submit_at_once(r);
	close_early(r);
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
	if (dsocr_reading_ended(r) || r->kind == KIND_UNKNOWN)
		return false;
	if (dsocr_opening_begun(&r->opening))
	{
		w->handles[w->n++] = r->opening.handle;
		w->will_end += !r->opening.open;
	}
	for (int number = r->next_out; number < r->next_in; number++)
	{
		Entry *e = entry_of(r, number);

		if (e->state == ENTRY_ENDED && number == r->next_out)
			return false;
		if (e->state != ENTRY_ASKED && e->state != ENTRY_READING && e->state != ENTRY_JOINED)
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
			submitted = submit_in_line(waiting[i]);
	}
	pfree(w.handles);
}

void
dsocr_reading_delete(DsocrReading *r)
{
	for (int number = r->next_out; number < r->next_in; number++)
	{
		Entry *e = entry_of(r, number);

		if ((e->state == ENTRY_READING || e->state == ENTRY_ASKED) && dsocr_queue_holds(e->handle))
			dsocr_queue_cancel(e->handle);
	}
	MemoryContextDelete(r->context);
}
