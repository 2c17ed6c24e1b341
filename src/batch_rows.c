/*-------------------------------------------------------------------------
 *
 * batch_rows.c
 *		The rows of a batch scan that are on their way.
 *
 * Rows on their way are minimal tuples, each in a memory context of its own
 * with everything that was begun for it.  How far the node reads ahead is
 * decided in may_read_ahead: dsocr.prefetch readings that have not ended, as
 * many rows as will be asked for, and dsocr.queue_memory for what waits here.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "batch_rows.h"
#include "read.h"

#include "executor/executor.h"
#include "portability/instr_time.h"
#include "utils/datum.h"
#include "utils/memutils.h"

/* Readings begun for a query of which it is not known how many rows it wants. */
#define FIRST_WINDOW 8

/* So many more for each row that was wanted. */
#define WINDOW_GROWTH 2

/*
 * Rows that wait behind one that takes long, in multiples of dsocr.prefetch:
 * as long as there are fewer, the engine is kept busy with those behind it.
 */
#define ROWS_BEHIND 4

static void
count_call(DsocrBatchState *s, DsocrCall *call)
{
	const DsocrCallCounts *counts = dsocr_call_counts(call);

	s->counts->images += counts->images;
	s->counts->cache_hits += counts->cache_hits;
	s->counts->image_tokens += counts->image_tokens;
	s->counts->text_tokens += counts->text_tokens;
}

void
dsocr_batch_forget_row(DsocrBatchState *s, DsocrBatchRow *row)
{
	for (int i = 0; i < s->n_calls; i++)
	{
		if (row->calls[i] == NULL)
			continue;
		if (!row->ended[i])
			s->in_flight--;
		dsocr_call_delete(row->calls[i]);
	}
	s->bytes -= row->bytes;
	MemoryContextDelete(row->context);
}

void
dsocr_batch_forget_rows(DsocrBatchState *s)
{
	if (s->current != NULL)
		dsocr_batch_forget_row(s, s->current);
	s->current = NULL;
	while (!dlist_is_empty(&s->rows))
	{
		dsocr_batch_forget_row(s,
							   dlist_container(DsocrBatchRow, node, dlist_pop_head_node(&s->rows)));
		s->n_rows--;
	}
}

/*
 * Begin a call for the row in the slot.  Its document has to live as long as
 * the row; what a subplan gives lives until the subplan is run again.
 */
static DsocrCall *
begin_call(DsocrBatchState *s, DsocrBatchCall *c)
{
	NullableDatum *args = c->fcinfo->args;

	for (int i = 0; i < c->fcinfo->nargs; i++)
		args[i].value = ExecEvalExpr(c->args[i], s->row_context, &args[i].isnull);
	if (c->of_subplan && !args[0].isnull)
		args[0].value = datumCopy(args[0].value, false, -1);
	return dsocr_call_create(c->kind, c->fcinfo);
}

static void
advance_call(DsocrBatchState *s, DsocrBatchRow *row, int i)
{
	if (row->ended[i] || !dsocr_call_advance(row->calls[i]))
		return;
	row->ended[i] = true;
	s->counts->ended++;
	s->counts->in_flight += s->in_flight;
	s->in_flight--;
	count_call(s, row->calls[i]);
}

static void
begin_row(DsocrBatchState *s, TupleTableSlot *slot)
{
	MemoryContext context =
		AllocSetContextCreate(s->context, "dsocr batch row", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	DsocrBatchRow *row = palloc0(offsetof(DsocrBatchRow, calls) + sizeof(DsocrCall *) * s->n_calls);

	row->context = context;
	row->ended = palloc0(sizeof(bool) * s->n_calls);
	row->tuple = ExecCopySlotMinimalTuple(slot);
	dlist_push_tail(&s->rows, &row->node);
	s->n_rows++;
	ExecStoreMinimalTuple(row->tuple, s->row_slot, false);
	ResetExprContext(s->row_context);
	s->row_context->ecxt_scantuple = s->row_slot;
	for (int i = 0; i < s->n_calls; i++)
	{
		row->calls[i] = begin_call(s, &s->calls[i]);
		s->in_flight++;
		advance_call(s, row, i);
	}
	MemoryContextSwitchTo(caller);
	row->bytes = MemoryContextMemAllocated(context, true);
	s->bytes += row->bytes;
}

/* Rows that may wait here, as far as the query tells how many it wants. */
static int64
rows_wanted(const DsocrBatchState *s)
{
	int64 left = Max(s->bound - s->emitted, 0);

	/* more are wanted than the LIMIT says if rows are lost, here or above */
	return left + WINDOW_GROWTH * (s->rejected + Max(s->emitted - s->bound, 0));
}

static bool
may_read_ahead(const DsocrBatchState *s)
{
	int64 window = dsocr_prefetch;

	if (s->exhausted)
		return false;
	if (s->n_rows == 0)
		return true;
	if (s->demand == DSOCR_DEMAND_BOUNDED && s->n_rows >= rows_wanted(s))
		return false;
	if (s->demand == DSOCR_DEMAND_GROWS)
		window = Min(window, FIRST_WINDOW + WINDOW_GROWTH * (s->emitted + s->rejected));
	return s->in_flight + s->n_calls <= window && s->n_rows < ROWS_BEHIND * window &&
		   s->bytes < (Size) dsocr_queue_memory * 1024;
}

static void
read_ahead(DsocrBatchState *s)
{
	while (may_read_ahead(s))
	{
		TupleTableSlot *slot = ExecProcNode(outerPlanState(s));

		if (TupIsNull(slot))
			s->exhausted = true;
		else
			begin_row(s, slot);
	}
}

/* See what has ended.  Readings that have not are put into s->waiting. */
static int
advance_rows(DsocrBatchState *s)
{
	int n = 0;
	dlist_iter iter;

	if (s->in_flight > s->max_waiting)
	{
		s->max_waiting = Max(2 * s->max_waiting, s->in_flight);
		s->waiting = repalloc(s->waiting, sizeof(DsocrReading *) * s->max_waiting);
	}
	if (s->in_flight == 0)
		return 0;
	dlist_foreach (iter, &s->rows)
	{
		DsocrBatchRow *row = dlist_container(DsocrBatchRow, node, iter.cur);

		for (int i = 0; i < s->n_calls; i++)
		{
			advance_call(s, row, i);
			if (!row->ended[i])
				s->waiting[n++] = dsocr_call_reading(row->calls[i]);
		}
	}
	return n;
}

static bool
has_ended(const DsocrBatchState *s, const DsocrBatchRow *row)
{
	for (int i = 0; i < s->n_calls; i++)
	{
		if (!row->ended[i])
			return false;
	}
	return true;
}

DsocrBatchRow *
dsocr_batch_next_row(DsocrBatchState *s)
{
	DsocrBatchRow *row;

	for (;;)
	{
		int n = advance_rows(s);
		instr_time before;
		instr_time after;

		read_ahead(s);
		if (dlist_is_empty(&s->rows))
			return NULL;
		row = dlist_head_element(DsocrBatchRow, node, &s->rows);
		if (has_ended(s, row))
			break;

		/* what was begun just now is not among those waited for yet */
		if (n < s->in_flight)
			n = advance_rows(s);
		if (has_ended(s, row))
			break;
		INSTR_TIME_SET_CURRENT(before);
		dsocr_reading_wait(s->waiting, n);
		INSTR_TIME_SET_CURRENT(after);
		INSTR_TIME_SUBTRACT(after, before);
		s->counts->waited_us += INSTR_TIME_GET_MICROSEC(after);
	}
	dlist_pop_head_node(&s->rows);
	s->n_rows--;
	return row;
}

void
dsocr_batch_turn_round(DsocrBatchState *s)
{
	int steps = s->n_rows;

	if (s->exhausted && s->current != NULL)
		steps++;
	dsocr_batch_forget_rows(s);
	s->exhausted = false;
	while (steps-- > 0)
		(void) ExecProcNode(outerPlanState(s));
}

DsocrBatchRow *
dsocr_batch_previous_row(DsocrBatchState *s)
{
	TupleTableSlot *slot = ExecProcNode(outerPlanState(s));
	DsocrBatchRow *row;

	if (TupIsNull(slot))
		return NULL;
	begin_row(s, slot);
	row = dlist_container(DsocrBatchRow, node, dlist_pop_head_node(&s->rows));
	s->n_rows--;
	for (int i = 0; i < s->n_calls; i++)
	{
		for (advance_call(s, row, i); !row->ended[i]; advance_call(s, row, i))
		{
			DsocrReading *reading = dsocr_call_reading(row->calls[i]);

			dsocr_reading_wait(&reading, 1);
		}
	}
	return row;
}
