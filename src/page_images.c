/*-------------------------------------------------------------------------
 *
 * page_images.c
 *		Pages of a document as images, one after the other.
 *
 * Questions that find no room wait in the backend and are asked when their
 * turn comes.  A page server that dies costs nothing but time: the document is
 * opened again and what was asked is asked again, once.
 *
 *-------------------------------------------------------------------------
 */
#include "reading.h"

#include "nodes/pg_list.h"
#include "utils/memutils.h"
#include "opening.h"

#define MAX_LOSSES 2

/* Bytes of memory kept for an answer: a PNG of a page of text is smaller. */
#define EXPECTED_BYTES ((Size) 2 << 20)

typedef struct Question
{
	DsocrPageImage image; /* prompt is a copy */
	DsocrHandle handle;	  /* generation 0 = not asked yet */
	int losses;
	bool cramped;		   /* there was no memory for the answer */
	DsocrOutcome *outcome; /* the answer, NULL while there is none */
} Question;

struct DsocrDocument
{
	MemoryContext context;
	DsocrOpening opening;
	List *questions; /* of Question, oldest first */
};

static void
withdraw(Question *q)
{
	if (q->handle.generation != 0 && dsocr_queue_holds(q->handle))
		dsocr_queue_cancel(q->handle);
	q->handle.generation = 0;
}

/* Has it been asked, and not in vain? */
static bool
is_asked(const Question *q)
{
	return q->outcome != NULL || q->handle.generation != 0;
}

/* The document is gone: all questions are to be asked again. */
static void
lose_asked(void *arg, bool died)
{
	DsocrDocument *d = arg;
	ListCell *cell;

	foreach (cell, d->questions)
	{
		Question *q = lfirst(cell);

		if (q->handle.generation != 0)
			q->losses += died;
		withdraw(q);
	}
}

static void fetch_ended(void *arg);

static void
forget_document(void *arg)
{
	DsocrDocument *d = arg;

	dsocr_opening_end(&d->opening);
}

/* Wait until it is open, or will never be. */
static void
wait_until_open(DsocrDocument *d)
{
	DsocrOpening *o = &d->opening;

	for (;;)
	{
		dsocr_opening_look(o);
		if (o->open || o->status.code != DSOCR_OK)
			return;
		if (!dsocr_opening_begun(o))
			(void) dsocr_opening_submit(o, true);
		else
			(void) dsocr_queue_wait_any(&o->handle, 1);
	}
}

DsocrDocument *
dsocr_document_open(Datum document, const char *password, int32 dpi, DsocrError *status)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dsocr document", ALLOCSET_SMALL_SIZES);
	DsocrDocument *d = MemoryContextAllocZero(context, sizeof(DsocrDocument));
	MemoryContextCallback *callback = MemoryContextAlloc(context, sizeof(MemoryContextCallback));

	memset(status, 0, sizeof(*status));
	d->context = context;
	d->opening.document = document;
	d->opening.password = password != NULL ? MemoryContextStrdup(context, password) : NULL;
	d->opening.priority = DSOCR_INTERACTIVE;
	d->opening.dpi = dpi;
	d->opening.fetch = fetch_ended;
	d->opening.lost = lose_asked;
	d->opening.owner = d;
	dsocr_opening_init(&d->opening);
	callback->func = forget_document;
	callback->arg = d;
	MemoryContextRegisterResetCallback(context, callback);
	if (!dsocr_opening_check(document, status))
		return d;
	wait_until_open(d);
	*status = d->opening.status;
	return d;
}

int
dsocr_document_pages(const DsocrDocument *d)
{
	return d->opening.pages;
}

/* Ask, at once or standing in line; false: no room now. */
static bool
ask(DsocrDocument *d, Question *q, bool wait)
{
	DsocrRequest request = {.kind = DSOCR_PAGE,
							.priority = d->opening.priority,
							.max_pixels = dsocr_max_pixels,
							.document = d->opening.id,
							.page = q->image.page,
							.max_pages = d->opening.pages,
							.output = q->image.output,
							.prompt = q->image.prompt};
	Size most = dsocr_queue_memory_for(&request);
	DsocrHandle h;

	memcpy(request.crop, q->image.crop, sizeof(request.crop));
	request.room = q->cramped ? most : Min(EXPECTED_BYTES, most);
	if (wait)
		h = dsocr_queue_submit(&request);
	else if (q->cramped || !dsocr_queue_try_submit(&request, &h))
		return false;
	q->handle = h;
	return true;
}

void
dsocr_document_ask(DsocrDocument *d, const DsocrPageImage *image)
{
	MemoryContext caller = MemoryContextSwitchTo(d->context);
	Question *q = palloc0(sizeof(Question));
	Question *before = d->questions == NIL ? NULL : llast(d->questions);

	q->image = *image;
	if (image->prompt != NULL)
		q->image.prompt = pstrdup(image->prompt);
	d->questions = lappend(d->questions, q);
	MemoryContextSwitchTo(caller);

	/* One behind another that has to wait has to wait, too. */
	if (d->opening.open && (before == NULL || is_asked(before)))
		(void) ask(d, q, false);
}

/* Ask what could not be asked so far, as far as that goes. */
static void
ask_waiting(DsocrDocument *d)
{
	ListCell *cell;

	foreach (cell, d->questions)
	{
		Question *q = lfirst(cell);

		if (!is_asked(q) && !ask(d, q, false))
			break;
	}
}

/* Take an answer; it may be that the question has to be asked again. */
static void
fetch_answer(DsocrDocument *d, Question *q)
{
	MemoryContext caller = MemoryContextSwitchTo(d->context);
	DsocrOutcome *outcome = dsocr_outcome_create();

	MemoryContextSwitchTo(caller);
	dsocr_queue_fetch(q->handle, &outcome->status, &outcome->result, outcome->model);
	q->handle.generation = 0;
	if (dsocr_opening_is_loss(outcome->status.code) && ++q->losses < MAX_LOSSES)
		dsocr_opening_note_lost(&d->opening, true);
	else if (outcome->status.code == DSOCR_E_MEMORY && !q->cramped)
		q->cramped = true;
	else
	{
		q->outcome = outcome;
		return;
	}
	dsocr_outcome_delete(outcome);
}

/* Take what has ended. */
static void
fetch_ended(void *arg)
{
	DsocrDocument *d = arg;
	ListCell *cell;

	foreach (cell, d->questions)
	{
		Question *q = lfirst(cell);

		if (q->handle.generation != 0 && dsocr_queue_holds(q->handle) &&
			dsocr_queue_poll(q->handle))
			fetch_answer(d, q);
	}
}

/* The page server died too often, or the document cannot be opened again. */
static bool
is_hopeless(const DsocrDocument *d, const Question *q, DsocrError *why)
{
	*why = d->opening.status;
	if (why->code == DSOCR_OK && q->losses >= MAX_LOSSES)
		dsocr_fail(why, DSOCR_E_ENGINE_LOST, "the page server died twice on this page");
	return why->code != DSOCR_OK;
}

DsocrOutcome *
dsocr_document_take(DsocrDocument *d)
{
	DsocrOutcome *outcome = dsocr_outcome_create();
	Question *q;

	if (d->questions == NIL)
		elog(ERROR, "no page of the document was asked for");
	q = linitial(d->questions);
	for (;;)
	{
		fetch_ended(d);
		if (q->outcome != NULL || is_hopeless(d, q, &outcome->status))
			break;
		wait_until_open(d);
		if (is_hopeless(d, q, &outcome->status))
			break;
		ask_waiting(d);
		if (!is_asked(q))
			(void) ask(d, q, true);
		if (q->outcome == NULL && d->opening.open)
		{
			DsocrHandle handles[2] = {q->handle, d->opening.handle};

			(void) dsocr_queue_wait_any(handles, 2);
		}
	}
	d->questions = list_delete_first(d->questions);
	withdraw(q);
	if (q->outcome != NULL)
	{
		dsocr_outcome_move(outcome, q->outcome);
		dsocr_outcome_delete(q->outcome);
	}
	if (q->image.prompt != NULL)
		pfree((char *) q->image.prompt);
	pfree(q);
	return outcome;
}

void
dsocr_document_close(DsocrDocument *d)
{
	lose_asked(d, false);
	MemoryContextDelete(d->context);
}
