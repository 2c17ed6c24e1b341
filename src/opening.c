/*-------------------------------------------------------------------------
 *
 * opening.c
 *		A document at the page server: opened, and opened again.
 *
 * The places of open documents are few, and who has one may come to need
 * another: a query reads documents while a function in it opens one.  A
 * backend that has to stand in line for a place gives up those it holds; what
 * was asked of them is asked again later.  So nobody waits for a place while
 * holding one.
 *
 *-------------------------------------------------------------------------
 */
#include "opening.h"

#include "access/detoast.h"
#include "utils/guc.h"
#include "shmem.h"
#include "slots.h"

/* A document that was being opened when so many page servers died is refused. */
#define MAX_DEATHS 2

/* All of this process. */
static dlist_head openings = DLIST_STATIC_INIT(openings);

bool
dsocr_opening_possible(DsocrError *err)
{
	bool served = false;

	dsocr_require_preload();
	for (int i = 0; i < dsocr_shared->n_devices; i++)
		served = served || dsocr_shared->devices[i].of_pages;
	if (!served)
	{
		dsocr_fail(err, DSOCR_E_DEVICE, "the page server, which opens documents, is switched off");
		return dsocr_hint(err, "An administrator can set dsocr.page_server to on and restart the "
							   "server.");
	}
	if (dsocr_slot_documents_max() < 1)
	{
		dsocr_fail(err, DSOCR_E_DEVICE, "dsocr.max_requests leaves no room for documents");
		return dsocr_hint(err, "An administrator can set dsocr.max_requests to 2 or more and "
							   "restart the server.");
	}
	return true;
}

bool
dsocr_opening_too_large(DsocrError *err, Size size, const char *setting, const char *what)
{
	dsocr_fail(err, DSOCR_E_IMAGE, "document has %zu bytes, more than %s (%s)", (size_t) size,
			   setting, GetConfigOptionByName(setting, NULL, false));
	return dsocr_hint(err, "Store a smaller %s, or ask an administrator to raise %s.", what,
					  setting);
}

bool
dsocr_opening_check(Datum document, DsocrError *err)
{
	Size size = toast_raw_datum_size(document) - VARHDRSZ;

	if (size == 0)
		return dsocr_fail(err, DSOCR_E_IMAGE, "document is empty");
	if (size > (Size) dsocr_max_document_bytes * 1024)
		return dsocr_opening_too_large(err, size, "dsocr.max_document_bytes", "document");
	return true;
}

static void
fetch_for_all(void)
{
	dlist_iter iter;

	dlist_foreach (iter, &openings)
	{
		DsocrOpening *o = dlist_container(DsocrOpening, node, iter.cur);

		o->fetch(o->owner);
	}
}

void
dsocr_opening_init(DsocrOpening *o)
{
	dlist_push_tail(&openings, &o->node);
	dsocr_queue_on_wait(fetch_for_all);
}

void
dsocr_opening_end(DsocrOpening *o)
{
	dlist_delete(&o->node);
	dsocr_opening_close(o);
}

bool
dsocr_opening_begun(const DsocrOpening *o)
{
	return o->handle.generation != 0;
}

void
dsocr_opening_close(DsocrOpening *o)
{
	if (dsocr_opening_begun(o) && dsocr_queue_holds(o->handle))
		dsocr_queue_cancel(o->handle);
	o->handle.generation = 0;
	o->open = false;
}

bool
dsocr_opening_is_loss(DsocrCode code)
{
	return code == DSOCR_E_ENGINE_LOST || code == DSOCR_E_IO;
}

void
dsocr_opening_note_lost(DsocrOpening *o, bool died)
{
	dsocr_opening_close(o);
	o->lost(o->owner, died);
}

/* Give up all other documents of this backend. */
static void
close_others(const DsocrOpening *o)
{
	dlist_iter iter;

	dlist_foreach (iter, &openings)
	{
		DsocrOpening *other = dlist_container(DsocrOpening, node, iter.cur);

		if (other != o && dsocr_opening_begun(other))
			dsocr_opening_note_lost(other, false);
	}
}

bool
dsocr_opening_submit(DsocrOpening *o, bool wait)
{
	DsocrRequest request = {.kind = DSOCR_DOCUMENT,
							.priority = o->priority,
							.max_pixels = dsocr_max_pixels,
							.dpi = o->dpi,
							.max_pages = dsocr_max_pages,
							.prompt = o->password};
	struct varlena *bytes;
	bool done;

	if (!wait &&
		!dsocr_queue_has_room(DSOCR_DOCUMENT, toast_raw_datum_size(o->document) - VARHDRSZ))
		return false;
	bytes = PG_DETOAST_DATUM_PACKED(o->document);
	request.image = (const uint8_t *) VARDATA_ANY(bytes);
	request.image_len = VARSIZE_ANY_EXHDR(bytes);
	done = dsocr_queue_try_submit(&request, &o->handle);
	if (!done && wait)
	{
		close_others(o);
		o->handle = dsocr_queue_submit(&request);
		done = true;
	}
	if ((Pointer) bytes != DatumGetPointer(o->document))
		pfree(bytes);
	if (done)
		o->id = request.id;
	else
		o->handle.generation = 0;
	return done;
}

/* It has ended by itself: it cannot be opened, or its page server is gone. */
static void
take_end(DsocrOpening *o)
{
	DsocrError status;
	DsocrResult result;
	char model[64];

	dsocr_queue_fetch(o->handle, &status, &result, model);
	dsocr_result_free(&result);
	o->handle.generation = 0;
	if (status.code == DSOCR_OK)
		dsocr_fail(&status, DSOCR_E_INTERNAL, "the page server closed the document");
	if (o->open)
		o->deaths = 0;
	else if (!dsocr_opening_is_loss(status.code) || ++o->deaths >= MAX_DEATHS)
		o->status = status;
	o->open = false;
	o->lost(o->owner, true);
}

void
dsocr_opening_look(DsocrOpening *o)
{
	DsocrProgress progress;

	if (!dsocr_opening_begun(o))
		return;
	if (!dsocr_queue_holds(o->handle))
		dsocr_opening_note_lost(o, false); /* with a subtransaction */
	else if (dsocr_queue_poll(o->handle))
		take_end(o);
	else if (!o->open)
	{
		dsocr_queue_progress(o->handle, &progress);
		o->open = progress.pages > 0;
		if (o->open)
			o->pages = progress.pages;
	}
}
