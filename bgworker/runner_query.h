/*-------------------------------------------------------------------------
 *
 * runner_query.h
 *		Statements on users' tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_RUNNER_QUERY_H
#define DSOCR_RUNNER_QUERY_H

#include "dsocr.h"

#include "attachment.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/rel.h"

#define DSOCR_ROW_VALUES (INDEX_MAX_KEYS + 8)

/* A statement under construction, with its parameters. */
typedef struct DsocrRowQuery
{
	StringInfoData text;
	int n;
	Oid types[DSOCR_ROW_VALUES];
	Datum values[DSOCR_ROW_VALUES];
	char nulls[DSOCR_ROW_VALUES];
} DsocrRowQuery;

extern void dsocr_row_query_begin(DsocrRowQuery *q);

/* Inside SPI_connect. */
extern void dsocr_row_query_run(DsocrRowQuery *q);

/* The next parameter; its name. */
extern char *dsocr_row_query_value(DsocrRowQuery *q, Oid type, Datum value, bool isnull);

extern void dsocr_row_query_table(DsocrRowQuery *q, Relation rel);

/* " WHERE key = values": columns may be those of another table. */
extern void dsocr_row_query_key(DsocrRowQuery *q, Relation rel, const DsocrRowKey *key,
								const AttrNumber *columns, char **values);

/* The name of a column, quoted. */
extern const char *dsocr_row_column_name(Relation rel, AttrNumber column);

#endif /* DSOCR_RUNNER_QUERY_H */
