/*-------------------------------------------------------------------------
 *
 * reading_submit.c
 *		Submitting the pages of a document that is being read.
 *
 *-------------------------------------------------------------------------
 */
#include "reading_state.h"

#include "access/detoast.h"
#include "utils/memutils.h"

/* Pages of a document that are being rendered, or are and wait for an engine. */
#define MAX_RENDERED 6

/* The same of all documents of this backend, in bytes. */
#define MAX_RENDERED_BYTES ((Size) 64 << 20)

/* An A4 page in colour as a first guess: square inches, bytes of a pixel. */
#define PAGE_SQUARE_INCHES 97
#define PAGE_PIXEL_BYTES 3

/* Requests of others that came to nothing: then the page is read by itself. */
#define MAX_JOINS 2

/* Submit a request, at once or standing in line. */
static bool
submit(DsocrRequest *request, DsocrHandle *h, bool wait)
{
	if (!wait)
		return dsocr_queue_try_submit(request, h);
	*h = dsocr_queue_submit(request);
	return true;
}

/* Submit what has a key; the entry is READING or JOINED then. */
static bool
submit_page(DsocrReading *r, int number, DsocrRequest *request, bool wait)
{
	DsocrEntry *e = dsocr_entry_of(r, number);
	DsocrCacheKey key;

	if (dsocr_entry_key(r, number, &key))
	{
		if (!dsocr_queue_submit_keyed(request, &key, e->joins < MAX_JOINS, wait, &e->handle))
			return false;
	}
	else if (!submit(request, &e->handle, wait))
		return false;
	e->state = e->handle.joined ? DSOCR_ENTRY_JOINED : DSOCR_ENTRY_READING;
	e->joins += e->handle.joined;
	return true;
}

/* The image itself as its only page; the document is detoasted for as long as it takes. */
static bool
read_image(DsocrReading *r, int number, bool wait)
{
	DsocrRequest request = dsocr_entry_request(r);
	MemoryContext caller;
	struct varlena *bytes;
	bool done;

	if (dsocr_entry_find_kept(r, number))
		return true;
	if (!wait &&
		!dsocr_queue_has_room(DSOCR_READ, r->options.priority, toast_raw_datum_size(r->document)))
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
	DsocrEntry *e = dsocr_entry_of(r, number);
	DsocrRequest request = dsocr_entry_request(r);

	if (dsocr_entry_find_kept(r, number))
		return true;
	if (e->image.image_len > dsocr_queue_memory_for(&request))
	{
		DsocrError err;

		dsocr_fail(&err, DSOCR_E_MEMORY,
				   "image of the page has %zu bytes, more than "
				   "dsocr.queue_memory has room for",
				   e->image.image_len);
		dsocr_entry_drop_image(e);
		dsocr_entry_end(r, number, &err);
		return true;
	}
	request.document = r->opening.id;
	request.page = number;
	request.max_pages = r->pages;
	request.image = e->image.image;
	request.image_len = e->image.image_len;
	if (!submit_page(r, number, &request, wait))
		return false;
	if (e->state == DSOCR_ENTRY_READING)
		dsocr_entry_drop_image(e);
	return true;
}

/* Bytes that the image of a page will need, by those that were there already. */
static Size
expected_bytes(const DsocrReading *r)
{
	Size dpi = r->options.dpi > 0 ? r->options.dpi : DSOCR_DEFAULT_DPI;
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
	DsocrEntry *e = dsocr_entry_of(r, number);
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
	e->state = DSOCR_ENTRY_ASKED;
	return true;
}

void
dsocr_reading_fill(DsocrReading *r)
{
	while (r->pages > 0 && r->next_in <= r->last && r->next_in < r->next_out + r->window)
	{
		int number = r->next_in++;
		DsocrEntry *e = dsocr_entry_of(r, number);

		memset(e, 0, sizeof(*e));
		e->state = r->kind == DSOCR_KIND_IMAGE ? DSOCR_ENTRY_RENDERED : DSOCR_ENTRY_WANTED;
		if (r->kind == DSOCR_KIND_PAGES)
			(void) dsocr_entry_find_kept(r, number); /* without rendering it */
	}
	for (int number = r->next_out; r->broken.code != DSOCR_OK && number < r->next_in; number++)
	{
		if (dsocr_entry_of(r, number)->state == DSOCR_ENTRY_WANTED)
			dsocr_entry_end(r, number, &r->broken);
	}
}

/* The page to be asked for next: one that is suspected goes first, and alone. */
static int
find_wanted(DsocrReading *r, bool *alone)
{
	*alone = false;
	for (int number = r->next_out; number < r->next_in; number++)
	{
		DsocrEntry *e = dsocr_entry_of(r, number);

		if (e->losses == 0 || (e->state != DSOCR_ENTRY_WANTED && e->state != DSOCR_ENTRY_ASKED))
			continue;
		*alone = true;
		return e->state == DSOCR_ENTRY_WANTED ? number : 0;
	}
	return dsocr_entry_find(r, DSOCR_ENTRY_WANTED);
}

static bool
may_ask_ahead(DsocrReading *r, int number, bool alone)
{
	int asked = dsocr_entry_count(r, DSOCR_ENTRY_ASKED);

	if (dsocr_entry_of(r, number)->cramped)
		return false; /* only standing in line, for all the memory */
	if (asked == 0 && dsocr_entry_find(r, DSOCR_ENTRY_RENDERED) == 0)
		return true;
	return !alone && asked + dsocr_entry_count(r, DSOCR_ENTRY_RENDERED) < MAX_RENDERED &&
		   dsocr_rendered_bytes + (asked + 1) * expected_bytes(r) < MAX_RENDERED_BYTES;
}

void
dsocr_reading_submit(DsocrReading *r)
{
	bool alone;
	int number;

	while ((number = dsocr_entry_find(r, DSOCR_ENTRY_RENDERED)) > 0)
	{
		if (!(r->kind == DSOCR_KIND_IMAGE ? read_image(r, number, false)
										  : read_page(r, number, false)))
			return;
	}
	if (r->kind != DSOCR_KIND_PAGES || (r->pages > 0 && (number = find_wanted(r, &alone)) == 0))
		return;
	if (!dsocr_opening_begun(&r->opening))
		(void) dsocr_opening_submit(&r->opening, false);
	while (r->opening.open && (number = find_wanted(r, &alone)) > 0 &&
		   may_ask_ahead(r, number, alone) && ask_page(r, number, false))
		;
}

bool
dsocr_reading_submit_in_line(DsocrReading *r)
{
	int number = dsocr_entry_find(r, DSOCR_ENTRY_RENDERED);
	bool alone;

	if (number > 0)
		return r->kind == DSOCR_KIND_IMAGE ? read_image(r, number, true)
										   : read_page(r, number, true);
	if (r->kind != DSOCR_KIND_PAGES)
		return false;
	if (!dsocr_opening_begun(&r->opening))
		return dsocr_opening_submit(&r->opening, true);
	number = find_wanted(r, &alone);
	return r->opening.open && number > 0 && ask_page(r, number, true);
}

void
dsocr_reading_close_early(DsocrReading *r)
{
	if (r->pages > 0 && r->next_in > r->last && dsocr_entry_find(r, DSOCR_ENTRY_WANTED) == 0 &&
		dsocr_entry_find(r, DSOCR_ENTRY_ASKED) == 0)
		dsocr_opening_close(&r->opening);
}
