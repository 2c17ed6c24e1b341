/*-------------------------------------------------------------------------
 *
 * attach.h
 *		Triggers of attached tables: what runners have to know of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ATTACH_H
#define DSOCR_ATTACH_H

#include "dsocr.h"

/* While true, changes of attached tables queue nothing: they are results of jobs. */
extern bool dsocr_attach_writing;

/* Queue jobs for these rows of a table, in the present transaction. */
extern int64 dsocr_attach_queue(Oid source, const char *attachment, Oid owner, int priority,
								char **keys, int n);

/* Delete all jobs of an attachment, those of partitions included; how many. */
extern int64 dsocr_attach_forget(Oid source, const char *attachment);

#endif /* DSOCR_ATTACH_H */
