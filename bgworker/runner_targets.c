/*-------------------------------------------------------------------------
 *
 * runner_targets.c
 *		Writes what a job gave into the attached table and its side table.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner_rows.h"

#include "access/relation.h"
#include "attach.h"
#include "catalog/pg_type.h"
#include "runner_query.h"
#include "runner_text.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* SQL for the text search configuration of the row. */
static char *
language_of(DsocrRowWork *work)
{
	AttrNumber column = work->attachment.parts.column[DSOCR_PART_LANGUAGE];
	char *language;

	if (column != 0)
		return psprintf(
			"COALESCE(%s::pg_catalog.text::pg_catalog.regconfig, 'simple'::pg_catalog.regconfig)",
			dsocr_row_column_name(work->rel, column));
	language = dsocr_json_option(work->attachment.options, "language");
	return psprintf("%s::pg_catalog.regconfig", quote_literal_cstr(language ? language : "simple"));
}

static char *
tsvector_of(DsocrRowQuery *q, DsocrRowWork *work, const char *language, Datum text, bool isnull)
{
	return psprintf("pg_catalog.to_tsvector(%s, pg_catalog.left(%s, %d))", language,
					dsocr_row_query_value(q, TEXTOID, text, isnull), DSOCR_TSVECTOR_CHARACTERS);
}

static void
append_assignment(DsocrRowQuery *q, Relation rel, AttrNumber column, const char *value, bool *first)
{
	appendStringInfo(&q->text, "%s%s = %s", *first ? " SET " : ", ",
					 dsocr_row_column_name(rel, column), value);
	*first = false;
}

static void
write_columns(DsocrRowWork *work)
{
	const AttrNumber *column = work->attachment.parts.column;
	DsocrRunnerJob *job = work->job;
	Datum text = dsocr_job_text(job);
	bool first = true;
	DsocrRowQuery q;

	if (column[DSOCR_PART_TEXT] == 0 && column[DSOCR_PART_LAYOUT] == 0 &&
		column[DSOCR_PART_TSVECTOR] == 0)
		return;
	dsocr_row_query_begin(&q);
	appendStringInfoString(&q.text, "UPDATE ");
	dsocr_row_query_table(&q, work->rel);
	if (column[DSOCR_PART_TEXT] != 0)
		append_assignment(&q, work->rel, column[DSOCR_PART_TEXT],
						  dsocr_row_query_value(&q, TEXTOID, text, false), &first);
	if (column[DSOCR_PART_LAYOUT] != 0)
		append_assignment(&q, work->rel, column[DSOCR_PART_LAYOUT],
						  dsocr_row_query_value(&q, JSONBOID, dsocr_job_layout(job), false),
						  &first);
	if (column[DSOCR_PART_TSVECTOR] != 0)
		append_assignment(&q, work->rel, column[DSOCR_PART_TSVECTOR],
						  tsvector_of(&q, work, language_of(work), text, false), &first);
	dsocr_row_query_key(&q, work->rel, &work->key, work->key.column, work->key_values);
	dsocr_row_query_run(&q);
}

/* The language of the row as text, for rows of the side table. */
static char *
fetch_language(DsocrRowWork *work)
{
	char *language = NULL;
	DsocrRowQuery q;

	if (work->attachment.parts.column[DSOCR_PART_LANGUAGE] == 0)
		return language_of(work);
	dsocr_row_query_begin(&q);
	appendStringInfo(&q.text, "SELECT (%s)::pg_catalog.text FROM ", language_of(work));
	dsocr_row_query_table(&q, work->rel);
	dsocr_row_query_key(&q, work->rel, &work->key, work->key.column, work->key_values);
	dsocr_row_query_run(&q);
	if (SPI_processed > 0)
		language = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	return psprintf("%s::pg_catalog.regconfig", quote_literal_cstr(language ? language : "simple"));
}

typedef struct SideRow
{
	Relation rel;
	StringInfoData columns;
	StringInfoData values;
	bool any;
} SideRow;

static void
side_add(SideRow *row, AttrNumber column, const char *value)
{
	if (column == 0)
		return;
	appendStringInfo(&row->columns, "%s%s", row->any ? ", " : "",
					 dsocr_row_column_name(row->rel, column));
	appendStringInfo(&row->values, "%s%s", row->any ? ", " : "", value);
	row->any = true;
}

static void
insert_side_row(DsocrRowWork *work, Relation side_rel, const DsocrPage *page, const char *language)
{
	const DsocrSide *side = &work->attachment.side;
	const AttrNumber *column = side->parts.column;
	bool ok = page->status.code == DSOCR_OK;
	double confidence = dsocr_job_page_confidence(page);
	Datum text = ok ? dsocr_job_page_text(work->job, page) : (Datum) 0;
	SideRow row = {.rel = side_rel};
	DsocrRowQuery q;

	dsocr_row_query_begin(&q);
	initStringInfo(&row.columns);
	initStringInfo(&row.values);
	for (int i = 0; i < side->n_keys; i++)
	{
		Form_pg_attribute a = TupleDescAttr(RelationGetDescr(side_rel), side->key[i] - 1);
		Oid input;
		Oid parameter;

		getTypeInputInfo(a->atttypid, &input, &parameter);
		side_add(&row, side->key[i],
				 dsocr_row_query_value(
					 &q, a->atttypid,
					 OidInputFunctionCall(input, work->key_values[i], parameter, a->atttypmod),
					 false));
	}
	side_add(&row, column[DSOCR_PART_PAGE],
			 dsocr_row_query_value(&q, INT4OID, Int32GetDatum(page->number), false));
	if (column[DSOCR_PART_TEXT] != 0)
		side_add(&row, column[DSOCR_PART_TEXT], dsocr_row_query_value(&q, TEXTOID, text, !ok));
	if (column[DSOCR_PART_LAYOUT] != 0)
		side_add(
			&row, column[DSOCR_PART_LAYOUT],
			dsocr_row_query_value(&q, JSONBOID, ok ? dsocr_job_page_layout(page) : (Datum) 0, !ok));
	if (column[DSOCR_PART_TSVECTOR] != 0)
		side_add(&row, column[DSOCR_PART_TSVECTOR], tsvector_of(&q, work, language, text, !ok));
	if (column[DSOCR_PART_STATUS] != 0)
		side_add(&row, column[DSOCR_PART_STATUS],
				 dsocr_row_query_value(&q, TEXTOID,
									   CStringGetTextDatum(dsocr_job_page_status(page)), false));
	if (column[DSOCR_PART_CONFIDENCE] != 0)
		side_add(&row, column[DSOCR_PART_CONFIDENCE],
				 dsocr_row_query_value(&q, FLOAT8OID, Float8GetDatum(confidence), confidence < 0));
	appendStringInfoString(&q.text, "INSERT INTO ");
	appendStringInfoString(
		&q.text, quote_qualified_identifier(get_namespace_name(RelationGetNamespace(side_rel)),
											RelationGetRelationName(side_rel)));
	appendStringInfo(&q.text, " (%s) VALUES (%s)", row.columns.data, row.values.data);
	dsocr_row_query_run(&q);
}

/* Replace the rows of the document. */
static void
write_side(DsocrRowWork *work)
{
	const DsocrSide *side = &work->attachment.side;
	DsocrRunnerJob *job = work->job;
	Relation side_rel;
	char *language;
	DsocrRowQuery q;

	side_rel = relation_open(side->relid, RowExclusiveLock);
	dsocr_row_query_begin(&q);
	appendStringInfoString(&q.text, "DELETE FROM ");
	dsocr_row_query_table(&q, side_rel);
	dsocr_row_query_key(&q, side_rel, &work->key, side->key, work->key_values);
	dsocr_row_query_run(&q);
	language = side->parts.column[DSOCR_PART_TSVECTOR] != 0 ? fetch_language(work) : NULL;
	for (int i = 0; i < job->n_pages; i++)
		insert_side_row(work, side_rel, &job->pages[i], language);
	relation_close(side_rel, NoLock);
}

void
dsocr_runner_write_targets(DsocrRowWork *work)
{
	SPI_connect();
	dsocr_attach_writing = true;
	write_columns(work);
	if (OidIsValid(work->attachment.side.relid))
		write_side(work);
	dsocr_attach_writing = false;
	SPI_finish();
}
