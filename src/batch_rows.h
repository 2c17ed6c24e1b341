/*-------------------------------------------------------------------------
 *
 * batch_rows.h
 *		The rows of a batch scan that are on their way.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_BATCH_ROWS_H
#define DSOCR_BATCH_ROWS_H

#include "batch_state.h"

/* The next row in order, with its calls ended; NULL at the end. */
extern DsocrBatchRow *dsocr_batch_next_row(DsocrBatchState *s);

/* The row before the node below, with its calls ended; NULL at the beginning. */
extern DsocrBatchRow *dsocr_batch_previous_row(DsocrBatchState *s);

/*
 * The cursor turns round.  The node below stands behind the rows ahead, and
 * behind its end if that was seen: go back to the row that was given last.
 */
extern void dsocr_batch_turn_round(DsocrBatchState *s);

/* Give up what was begun for a row that is not in the list, and for all of them. */
extern void dsocr_batch_forget_row(DsocrBatchState *s, DsocrBatchRow *row);
extern void dsocr_batch_forget_rows(DsocrBatchState *s);

#endif /* DSOCR_BATCH_ROWS_H */
