/*-------------------------------------------------------------------------
 *
 * gp_trace.h
 *		Where the time of a run goes: a moment behind each operation.
 *
 * gp_trace_table gives a backend a table whose operations call the real ones
 * and, between on and off, note what they were and when they ended: by events
 * in the stream, or by waiting where there are no tools.  Decoder steps are
 * then launched operation by operation, never replayed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_GP_TRACE_H
#define DSOCR_GP_TRACE_H

#include "gp_tools.h"

/* Before the model is opened: the table notes the shapes of its matrices. */
extern void gp_trace_table(DsocrBackend *be, const GpTools *tools);

/* Decoder steps are launched operation by operation from now on, or not. */
extern void gp_trace_plain_steps(bool plain);

/* Steps that were replayed, and steps in all, since the table was put in. */
extern void gp_trace_steps(int *replayed, int *all);

extern void gp_trace_on(void);
extern void gp_trace_off(void);

/* One JSON list: operation with its shape, how often, microseconds together. */
extern void gp_trace_print(void);

#endif /* DSOCR_GP_TRACE_H */
