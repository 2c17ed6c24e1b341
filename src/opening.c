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
#include "engine/image_sniff.h"

/* Enough of a document to see what it is. */
#define SNIFF_BYTES 2048

/* A document that was being opened when so many page servers died is refused. */
#define MAX_DEATHS 2

/* All of this process. */
static dlist_head openings = DLIST_STATIC_INIT(openings);

/* ---- what it is ---- */

static bool
fail_size(DsocrError *err, Size size, const char *setting, const char *what)
{
	dsocr_fail(err, DSOCR_E_IMAGE, "document has %zu bytes, more than %s (%s)", (size_t) size,
			   setting, GetConfigOptionByName(setting, NULL, false));
	return dsocr_hint(err, "Store a smaller %s, or ask an administrator to raise %s.", what,
					  setting);
}

static Size
document_bytes(Datum document)
{
	return toast_raw_datum_size(document) - VARHDRSZ;
}

static bool
check_size(Datum document, DsocrError *err)
{
	Size size = document_bytes(document);

	if (size == 0)
		return dsocr_fail(err, DSOCR_E_IMAGE, "document is empty");
	if (size > (Size) dsocr_max_document_bytes * 1024)
		return fail_size(err, size, "dsocr.max_document_bytes", "document");
	return true;
}

bool
dsocr_opening_check(Datum document, DsocrError *err)
{
	return check_size(document, err) && dsocr_queue_opens_documents(err);
}

/* A TIFF has to be looked through: its pages are a chain. */
static bool
tiff_has_pages(Datum document)
{
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(document);
	bool several =
		dsocr_tiff_has_pages((const uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));

	if ((Pointer) bytes != DatumGetPointer(document))
		pfree(bytes);
	return several;
}

/*
 * Its size is known before a document is fetched and decompressed, and its
 * beginning tells most formats: what is too large costs nothing.
 */
bool
dsocr_opening_kind(Datum document, bool *of_pages, DsocrError *err)
{
	Size size = document_bytes(document);
	struct varlena *bytes;
	DsocrFormat format;

	*of_pages = false;
	if (size == 0)
		return dsocr_fail(err, DSOCR_E_IMAGE, "document is empty");
	bytes = PG_DETOAST_DATUM_SLICE(document, 0, SNIFF_BYTES);
	format = dsocr_image_sniff((const uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	pfree(bytes);
	if (format == DSOCR_FORMAT_TIFF && size <= (Size) dsocr_max_document_bytes * 1024)
		*of_pages = tiff_has_pages(document);
	else
		*of_pages = format == DSOCR_FORMAT_PDF;
	if (*of_pages)
		return check_size(document, err);
	if (size > (Size) dsocr_max_image_bytes * 1024)
		return fail_size(err, size, "dsocr.max_image_bytes", "image");
	return true;
}

bool
dsocr_opening_identify(Datum document, bool *of_pages, DsocrError *err)
{
	return dsocr_opening_kind(document, of_pages, err) &&
		   (!*of_pages || dsocr_queue_opens_documents(err));
}

/* ---- open and closed ---- */

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

	if (!wait && !dsocr_queue_has_room(DSOCR_DOCUMENT, o->priority, document_bytes(o->document)))
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
