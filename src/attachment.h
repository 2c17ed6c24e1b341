/*-------------------------------------------------------------------------
 *
 * attachment.h
 *		What is attached to a table, and how its rows are named.
 *
 * An attachment is a row trigger.  The columns of its "UPDATE OF" list are the
 * columns it works with, the trigger's first argument tells their parts; so
 * renaming, dropping, dumping and restoring are PostgreSQL's own business.
 *
 * Arguments of the trigger: parts of the columns in order, separated by
 * blanks; the priority of its jobs; options as JSON.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ATTACHMENT_H
#define DSOCR_ATTACHMENT_H

#include "dsocr.h"

#include "access/htup.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

/* The part that a column plays. */
typedef enum DsocrPart
{
	DSOCR_PART_IMAGE,
	DSOCR_PART_TEXT,
	DSOCR_PART_LAYOUT,
	DSOCR_PART_TSVECTOR,
	DSOCR_PART_LANGUAGE,
	DSOCR_PART_KEY,
	/* of a side table */
	DSOCR_PART_PAGE,
	DSOCR_PART_STATUS,
	DSOCR_PART_CONFIDENCE,
	DSOCR_N_PARTS
} DsocrPart;

/* Columns by part; 0: there is none.  Key columns are found by the primary key. */
typedef struct DsocrParts
{
	AttrNumber column[DSOCR_N_PARTS];
} DsocrParts;

/* false when it is no trigger that dsocr_attach could have made. */
extern bool dsocr_parts_of_trigger(Relation rel, const Trigger *trigger, DsocrParts *parts);
extern int dsocr_priority_of_trigger(const Trigger *trigger);

/* A side table of an attachment, if it has one. */
typedef struct DsocrSide
{
	Oid relid; /* InvalidOid: none */
	DsocrParts parts;
	int n_keys;
	AttrNumber key[INDEX_MAX_KEYS]; /* its columns for those of the primary key, in its order */
} DsocrSide;

typedef struct DsocrAttachment
{
	DsocrParts parts;
	DsocrSide side;
	Jsonb *options; /* never NULL */
} DsocrAttachment;

/* The attachment with this name; false when there is none any more. */
extern bool dsocr_attachment_find(Relation rel, const char *name, DsocrAttachment *a);

/* ---- naming rows ---- */

/* The primary key of a table. */
typedef struct DsocrRowKey
{
	int n;
	AttrNumber column[INDEX_MAX_KEYS];
	Oid equality[INDEX_MAX_KEYS]; /* operator of the index */
} DsocrRowKey;

/* false: the table has no primary key, or none that rows can be found by. */
extern bool dsocr_row_key_describe(Relation rel, DsocrRowKey *key);

/* Values as one text, like an array: {7,"two words"}. */
extern void dsocr_row_key_join(StringInfo out, char *const *values, int n);

/* The row as text: the values of its key. */
extern char *dsocr_row_key_of(Relation rel, const DsocrRowKey *key, TupleTableSlot *slot);

/* The key values as text, palloc'd; false when their number is another one. */
extern bool dsocr_row_key_split(const char *text, const DsocrRowKey *key, char **values);

/* From what a user wrote; checks table and columns and raises ERROR. */
extern char *dsocr_row_key_from_jsonb(Oid relid, Jsonb *json, const char *document_column);

#endif /* DSOCR_ATTACHMENT_H */
