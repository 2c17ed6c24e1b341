/*-------------------------------------------------------------------------
 *
 * jobs.h
 *		Durable jobs: what the module's files share about them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_JOBS_H
#define DSOCR_JOBS_H

#include "dsocr.h"

#include "executor/spi.h"
#include "jobs_shared.h"

/*
 * The tables of jobs are written with the rights of their owner, whoever the
 * caller is, and with a search_path that nobody else can write to.  An error
 * in between ends it too.
 */
typedef struct DsocrAsOwner
{
	Oid user;
	int context;
	int guc_level;
} DsocrAsOwner;

extern void dsocr_jobs_as_owner(DsocrAsOwner *before);
extern void dsocr_jobs_as_before(const DsocrAsOwner *before);

/* Role of a transaction: SQL of ours in the name of another role, restricted. */
extern void dsocr_jobs_as_role(Oid role, DsocrAsOwner *before);

/*
 * A statement of ours that is planned once for each process.  The text must
 * be constant, every name in it qualified.
 */
typedef struct DsocrStatement
{
	const char *text;
	int n_types;
	Oid types[12];
	SPIPlanPtr plan;
} DsocrStatement;

/* Run it inside SPI_connect; nulls as SPI wants them, or NULL. */
extern int dsocr_jobs_execute(DsocrStatement *statement, Datum *values, const char *nulls,
							  bool read_only);

/*
 * Until dsocr_jobs_as_before: rows come in the order of an index, instead of
 * being collected and sorted.
 */
extern void dsocr_jobs_plan_by_index(void);

/* To be told to the runner when this transaction commits. */
extern void dsocr_jobs_note(int priority, Oid owner, int64 id);
extern void dsocr_jobs_note_all(void);
extern void dsocr_jobs_note_cancelled(void);

/*
 * A claim on a job: a lock of this session, free when the session ends.  Who
 * has claimed a job may find that it has ended meanwhile.
 */
extern bool dsocr_jobs_lock(int64 id);
extern void dsocr_jobs_unlock(int64 id);
extern bool dsocr_jobs_has_lock(int64 id);

/* The largest document that can be read at all, in bytes: an image or one of pages. */
static inline Size
dsocr_jobs_max_bytes(void)
{
	return (Size) Max(dsocr_max_image_bytes, dsocr_max_document_bytes) * 1024;
}

/* While true, inserts into the queue are noted by who makes them. */
extern bool dsocr_jobs_noting;

#endif /* DSOCR_JOBS_H */
