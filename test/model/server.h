/*-------------------------------------------------------------------------
 *
 * server.h
 *		What a process of the model does to its server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_MODEL_SERVER_H
#define DSOCR_MODEL_SERVER_H

#include "model.h"

/* The memory and the locks are these, and this is one of the processes. */
extern void server_open(const Model *model, int number);

/* A process of another pid and role in the same place. */
extern void server_begin_process(int number);

/* The process ends in order. */
extern void server_end_process(void);

/* Is the process in a transaction?  Set by itself. */
extern bool server_in_transaction;

/* What the module does at the end of one. */
extern void server_end_transaction(bool commits);

#endif /* DSOCR_MODEL_SERVER_H */
