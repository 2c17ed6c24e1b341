/*-------------------------------------------------------------------------
 *
 * runner_rows.c
 *		Rows of users' tables: fetch the document, write what it gave.
 *
 * All of it runs with the rights of the job's role, restricted and with a
 * search_path of the system alone, in a subtransaction: users' policies and
 * triggers may fail, and what fails is the job.  Nothing here waits for a lock
 * on a table or a row: jobs whose rows are busy come back later.
 *
 * Statements are made from the names that the columns have now, while a lock
 * on the table keeps them; plans are kept by the text of the statement.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner.h"

#include "access/detoast.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "attach.h"
#include "attachment.h"
#include "encoding.h"
#include "layout.h"
#include "read.h"
#include "result.h"
#include "runner_text.h"

#define MAX_PLANS 64
#define MAX_VALUES (INDEX_MAX_KEYS + 8)

/* ---- options ---- */

char *
dsocr_json_option(const Jsonb *json, const char *name)
{
	JsonbValue v;

	if (json == NULL || getKeyJsonValueFromContainer((JsonbContainer *) &json->root, name,
													 strlen(name), &v) == NULL)
		return NULL;
	switch (v.type)
	{
		case jbvString:
			return pnstrdup(v.val.string.val, v.val.string.len);
		case jbvNumeric:
			return DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));
		case jbvBool:
			return pstrdup(v.val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

static void
number_option(const Jsonb *json, const char *name, int32 *value)
{
	char *text = dsocr_json_option(json, name);

	if (text != NULL)
		*value = atoi(text);
}

void
dsocr_runner_read_options(const Jsonb *json, DsocrReadOptions *options)
{
	char *mode = dsocr_json_option(json, "mode");
	char *prompt = dsocr_json_option(json, "prompt");
	char *task = dsocr_json_option(json, "task");

	for (int i = 0; mode != NULL && i < DSOCR_N_MODES; i++)
	{
		if (strcmp(mode, dsocr_mode_names[i]) == 0)
			options->mode = (DsocrMode) i;
	}
	for (int i = 0; task != NULL && i < DSOCR_TASK_LOCATE; i++)
	{
		if (strcmp(task, dsocr_task_names[i]) == 0)
			options->task = (DsocrTask) i;
	}
	number_option(json, "max_tokens", &options->max_tokens);
	number_option(json, "dpi", &options->dpi);
	number_option(json, "first_page", &options->first_page);
	number_option(json, "last_page", &options->last_page);
	options->password = dsocr_json_option(json, "password");
	if (prompt != NULL)
	{
		options->task = DSOCR_TASK_GENERATE;
		options->prompt = prompt;
	}
}

/* ---- statements ---- */

typedef struct KeptPlan
{
	char *text;
	SPIPlanPtr plan;
} KeptPlan;

static KeptPlan plans[MAX_PLANS];
static int n_plans = 0;

/* A statement under construction, with its parameters. */
typedef struct RowQuery
{
	StringInfoData text;
	int n;
	Oid types[MAX_VALUES];
	Datum values[MAX_VALUES];
	char nulls[MAX_VALUES];
} RowQuery;

static SPIPlanPtr
plan_of(RowQuery *q)
{
	MemoryContext caller;
	SPIPlanPtr plan;

	for (int i = 0; i < n_plans; i++)
	{
		if (strcmp(plans[i].text, q->text.data) == 0)
			return plans[i].plan;
	}
	plan = SPI_prepare(q->text.data, q->n, q->types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	if (n_plans == MAX_PLANS)
	{
		SPI_freeplan(plans[0].plan);
		pfree(plans[0].text);
		memmove(&plans[0], &plans[1], sizeof(KeptPlan) * --n_plans);
	}
	SPI_keepplan(plan);
	caller = MemoryContextSwitchTo(TopMemoryContext);
	plans[n_plans].text = pstrdup(q->text.data);
	plans[n_plans++].plan = plan;
	MemoryContextSwitchTo(caller);
	return plan;
}

static void
query_run(RowQuery *q)
{
	int rc = SPI_execute_plan(plan_of(q), q->values, q->nulls, false, 0);

	if (rc < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(rc));
}

static void
query_begin(RowQuery *q)
{
	initStringInfo(&q->text);
	q->n = 0;
}

/* The next parameter; its name. */
static char *
query_value(RowQuery *q, Oid type, Datum value, bool isnull)
{
	q->types[q->n] = type;
	q->values[q->n] = value;
	q->nulls[q->n] = isnull ? 'n' : ' ';
	return psprintf("$%d", ++q->n);
}

static const char *
column_name(Relation rel, AttrNumber column)
{
	return quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(rel), column - 1)->attname));
}

static void
append_table(RowQuery *q, Relation rel)
{
	appendStringInfo(&q->text, "%s%s",
					 rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ? "" : "ONLY ",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												RelationGetRelationName(rel)));
}

/* " WHERE key = values": columns may be those of another table. */
static void
append_key(RowQuery *q, Relation rel, const DsocrRowKey *key, const AttrNumber *columns,
		   char **values)
{
	for (int i = 0; i < key->n; i++)
	{
		Form_pg_attribute a = TupleDescAttr(RelationGetDescr(rel), columns[i] - 1);
		Oid input;
		Oid parameter;
		char *name;

		getTypeInputInfo(a->atttypid, &input, &parameter);
		name = query_value(q, a->atttypid,
						   OidInputFunctionCall(input, values[i], parameter, a->atttypmod), false);
		appendStringInfoString(&q->text, i == 0 ? " WHERE " : " AND ");
		generate_operator_clause(&q->text, column_name(rel, columns[i]), a->atttypid,
								 key->equality[i], name, a->atttypid);
	}
}

/* ---- doing something for a job ---- */

typedef struct RowWork
{
	DsocrRunnerJob *job;
	Relation rel;
	DsocrRowKey key;
	char *key_values[INDEX_MAX_KEYS];
	DsocrAttachment attachment; /* of attached tables */
	AttrNumber image;
	DsocrRowState state;
} RowWork;

static DsocrRowState
fail(DsocrRunnerJob *job, int code, bool final, const char *error)
{
	job->error = MemoryContextStrdup(job->context, error);
	strlcpy(job->sqlstate, unpack_sql_state(code), sizeof(job->sqlstate));
	job->final = final;
	return DSOCR_ROW_FAILED;
}

/* Errors that come again however often it is tried, and those that are nobody's fault. */
static void
classify(DsocrRunnerJob *job)
{
	job->final = strncmp(job->sqlstate, "22", 2) == 0 || strncmp(job->sqlstate, "23", 2) == 0 ||
				 strncmp(job->sqlstate, "42", 2) == 0;
	job->blameless = strncmp(job->sqlstate, "40", 2) == 0 || strcmp(job->sqlstate, "55P03") == 0;
}

/* Call a function as the job's role, in a subtransaction; false: it failed. */
static bool
as_role(RowWork *work, void (*function)(RowWork *work))
{
	DsocrRunnerJob *job = work->job;
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	DsocrAsOwner before;
	volatile bool ok = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		dsocr_jobs_as_role(job->role, &before);
		function(work);
		dsocr_jobs_as_before(&before);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *e;

		MemoryContextSwitchTo(job->context);
		e = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		dsocr_attach_writing = false;
		job->error = e->message ? e->message : "unknown error";
		strlcpy(job->sqlstate, unpack_sql_state(e->sqlerrcode), sizeof(job->sqlstate));
		classify(job);
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return ok;
}

/* The column that a job without attachment reads. */
static DsocrRowState
find_column(RowWork *work)
{
	DsocrRunnerJob *job = work->job;

	work->image = get_attnum(RelationGetRelid(work->rel), job->source_column);
	if (work->image <= 0 ||
		getBaseType(get_atttype(RelationGetRelid(work->rel), work->image)) != BYTEAOID)
		return fail(job, ERRCODE_UNDEFINED_COLUMN, true,
					psprintf("column \"%s\" of the job's table is no document any more",
							 job->source_column));
	return DSOCR_ROW_OK;
}

/* Open the job's table and find out what is where. */
static DsocrRowState
open_row(RowWork *work, DsocrRunnerJob *job, LOCKMODE mode)
{
	DsocrRowState state = DSOCR_ROW_OK;

	memset(work, 0, sizeof(*work));
	work->job = job;
	if (!ConditionalLockRelationOid(job->source, mode))
		return DSOCR_ROW_LOCKED;
	work->rel = try_relation_open(job->source, NoLock);
	if (work->rel == NULL)
	{
		UnlockRelationOid(job->source, mode);
		return job->attachment ? DSOCR_ROW_GONE
							   : fail(job, ERRCODE_UNDEFINED_TABLE, true,
									  "the table of the job does not exist any more");
	}
	if (job->attachment == NULL)
		state = find_column(work);
	else if (!dsocr_attachment_find(work->rel, job->attachment, &work->attachment))
		state = DSOCR_ROW_GONE;
	else
	{
		job->role = RelationGetForm(work->rel)->relowner;
		work->image = work->attachment.parts.column[DSOCR_PART_IMAGE];
	}
	if (state == DSOCR_ROW_OK && (!dsocr_row_key_describe(work->rel, &work->key) ||
								  !dsocr_row_key_split(job->key, &work->key, work->key_values)))
		state = fail(job, ERRCODE_INVALID_FOREIGN_KEY, true,
					 "the table of the job has another primary key now");
	return state;
}

static void
close_row(RowWork *work)
{
	/* the lock stays until the end of the transaction */
	if (work->rel != NULL)
		relation_close(work->rel, NoLock);
	work->rel = NULL;
}

/* ---- fetch ---- */

static void
select_image(RowWork *work, const char *locking)
{
	RowQuery q;

	query_begin(&q);
	appendStringInfo(&q.text, "SELECT %s FROM ", column_name(work->rel, work->image));
	append_table(&q, work->rel);
	append_key(&q, work->rel, &work->key, work->key.column, work->key_values);
	appendStringInfoString(&q.text, locking);
	query_run(&q);
}

static void
fetch_image(RowWork *work)
{
	DsocrRunnerJob *job = work->job;
	struct varlena *stored;
	bool isnull = true;
	Datum image = (Datum) 0;

	SPI_connect();
	select_image(work, "");
	if (SPI_processed > 0)
		image = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull && job->attachment == NULL)
		work->state = SPI_processed > 0
						  ? fail(job, ERRCODE_NULL_VALUE_NOT_ALLOWED, true, "document is NULL")
						  : fail(job, ERRCODE_NO_DATA_FOUND, true,
								 "row does not exist, or its role may not see it");
	else if (isnull)
		work->state = DSOCR_ROW_GONE;
	else if (toast_raw_datum_size(image) - VARHDRSZ > dsocr_jobs_max_bytes())
		work->state = fail(job, ERRCODE_INVALID_BINARY_REPRESENTATION, true,
						   "document is larger than dsocr.max_document_bytes");
	else
	{
		MemoryContext caller = MemoryContextSwitchTo(job->context);

		stored = (struct varlena *) DatumGetPointer(image);
		job->has_pointer = VARATT_IS_EXTERNAL_ONDISK(stored);
		if (job->has_pointer)
			memcpy(job->pointer, stored, TOAST_POINTER_SIZE);
		job->document = PointerGetDatum(PG_DETOAST_DATUM_COPY(image));
		job->bytes = VARSIZE_ANY(DatumGetPointer(job->document));
		MemoryContextSwitchTo(caller);
	}
	SPI_finish();
}

DsocrRowState
dsocr_runner_fetch_row(DsocrRunner *r, DsocrRunnerJob *job)
{
	RowWork work;
	DsocrRowState state = open_row(&work, job, AccessShareLock);

	if (state == DSOCR_ROW_OK)
	{
		if (job->attachment != NULL)
		{
			MemoryContext caller = MemoryContextSwitchTo(job->context);

			job->options = DatumGetJsonbPCopy(JsonbPGetDatum(work.attachment.options));
			MemoryContextSwitchTo(caller);
		}
		state = as_role(&work, fetch_image) ? work.state : DSOCR_ROW_FAILED;
	}
	close_row(&work);
	return state;
}

/* ---- lock ---- */

/* Are these the bytes that were read? */
static bool
is_what_was_read(const DsocrRunnerJob *job, Datum image)
{
	struct varlena *stored = (struct varlena *) DatumGetPointer(image);
	struct varlena *read = (struct varlena *) DatumGetPointer(job->document);
	struct varlena *bytes;

	if (job->has_pointer && VARATT_IS_EXTERNAL_ONDISK(stored) &&
		memcmp(stored, job->pointer, TOAST_POINTER_SIZE) == 0)
		return true;
	if (toast_raw_datum_size(image) - VARHDRSZ != VARSIZE_ANY_EXHDR(read))
		return false;
	bytes = PG_DETOAST_DATUM_PACKED(image);
	return memcmp(VARDATA_ANY(bytes), VARDATA_ANY(read), VARSIZE_ANY_EXHDR(read)) == 0;
}

static void
lock_row(RowWork *work)
{
	bool isnull;
	Datum image;

	SPI_connect();
	select_image(work, " FOR NO KEY UPDATE SKIP LOCKED");
	if (SPI_processed > 0)
	{
		image = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		if (isnull)
			work->state = DSOCR_ROW_GONE;
		else if (!is_what_was_read(work->job, image))
			work->state = DSOCR_ROW_CHANGED;
	}
	else
	{
		select_image(work, "");
		work->state = SPI_processed > 0 ? DSOCR_ROW_LOCKED : DSOCR_ROW_GONE;
	}
	SPI_finish();
}

DsocrRowState
dsocr_runner_lock_row(DsocrRunnerJob *job)
{
	RowWork work;
	DsocrRowState state = open_row(&work, job, RowExclusiveLock);

	if (state == DSOCR_ROW_OK)
		state = as_role(&work, lock_row) ? work.state : DSOCR_ROW_FAILED;
	close_row(&work);
	return state;
}

/* ---- write ---- */

/* SQL for the text search configuration of the row. */
static char *
language_of(RowWork *work)
{
	AttrNumber column = work->attachment.parts.column[DSOCR_PART_LANGUAGE];
	char *language;

	if (column != 0)
		return psprintf(
			"COALESCE(%s::pg_catalog.text::pg_catalog.regconfig, 'simple'::pg_catalog.regconfig)",
			column_name(work->rel, column));
	language = dsocr_json_option(work->attachment.options, "language");
	return psprintf("%s::pg_catalog.regconfig", quote_literal_cstr(language ? language : "simple"));
}

static char *
tsvector_of(RowQuery *q, RowWork *work, const char *language, Datum text, bool isnull)
{
	return psprintf("pg_catalog.to_tsvector(%s, pg_catalog.left(%s, %d))", language,
					query_value(q, TEXTOID, text, isnull), DSOCR_TSVECTOR_CHARACTERS);
}

static void
append_assignment(RowQuery *q, Relation rel, AttrNumber column, const char *value, bool *first)
{
	appendStringInfo(&q->text, "%s%s = %s", *first ? " SET " : ", ", column_name(rel, column),
					 value);
	*first = false;
}

static void
write_columns(RowWork *work)
{
	const AttrNumber *column = work->attachment.parts.column;
	DsocrRunnerJob *job = work->job;
	Datum text = dsocr_job_text(job);
	bool first = true;
	RowQuery q;

	if (column[DSOCR_PART_TEXT] == 0 && column[DSOCR_PART_LAYOUT] == 0 &&
		column[DSOCR_PART_TSVECTOR] == 0)
		return;
	query_begin(&q);
	appendStringInfoString(&q.text, "UPDATE ");
	append_table(&q, work->rel);
	if (column[DSOCR_PART_TEXT] != 0)
		append_assignment(&q, work->rel, column[DSOCR_PART_TEXT],
						  query_value(&q, TEXTOID, text, false), &first);
	if (column[DSOCR_PART_LAYOUT] != 0)
		append_assignment(&q, work->rel, column[DSOCR_PART_LAYOUT],
						  query_value(&q, JSONBOID, dsocr_job_layout(job), false), &first);
	if (column[DSOCR_PART_TSVECTOR] != 0)
		append_assignment(&q, work->rel, column[DSOCR_PART_TSVECTOR],
						  tsvector_of(&q, work, language_of(work), text, false), &first);
	append_key(&q, work->rel, &work->key, work->key.column, work->key_values);
	query_run(&q);
}

/* The language of the row as text, for rows of the side table. */
static char *
fetch_language(RowWork *work)
{
	char *language = NULL;
	RowQuery q;

	if (work->attachment.parts.column[DSOCR_PART_LANGUAGE] == 0)
		return language_of(work);
	query_begin(&q);
	appendStringInfo(&q.text, "SELECT (%s)::pg_catalog.text FROM ", language_of(work));
	append_table(&q, work->rel);
	append_key(&q, work->rel, &work->key, work->key.column, work->key_values);
	query_run(&q);
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
	appendStringInfo(&row->columns, "%s%s", row->any ? ", " : "", column_name(row->rel, column));
	appendStringInfo(&row->values, "%s%s", row->any ? ", " : "", value);
	row->any = true;
}

static void
insert_side_row(RowWork *work, Relation side_rel, const DsocrPage *page, const char *language)
{
	const DsocrSide *side = &work->attachment.side;
	const AttrNumber *column = side->parts.column;
	bool ok = page->status.code == DSOCR_OK;
	double confidence = dsocr_job_page_confidence(page);
	Datum text = ok ? dsocr_job_page_text(work->job, page) : (Datum) 0;
	SideRow row = {.rel = side_rel};
	RowQuery q;

	query_begin(&q);
	initStringInfo(&row.columns);
	initStringInfo(&row.values);
	for (int i = 0; i < side->n_keys; i++)
	{
		Form_pg_attribute a = TupleDescAttr(RelationGetDescr(side_rel), side->key[i] - 1);
		Oid input;
		Oid parameter;

		getTypeInputInfo(a->atttypid, &input, &parameter);
		side_add(
			&row, side->key[i],
			query_value(&q, a->atttypid,
						OidInputFunctionCall(input, work->key_values[i], parameter, a->atttypmod),
						false));
	}
	side_add(&row, column[DSOCR_PART_PAGE],
			 query_value(&q, INT4OID, Int32GetDatum(page->number), false));
	if (column[DSOCR_PART_TEXT] != 0)
		side_add(&row, column[DSOCR_PART_TEXT], query_value(&q, TEXTOID, text, !ok));
	if (column[DSOCR_PART_LAYOUT] != 0)
		side_add(&row, column[DSOCR_PART_LAYOUT],
				 query_value(&q, JSONBOID, ok ? dsocr_job_page_layout(page) : (Datum) 0, !ok));
	if (column[DSOCR_PART_TSVECTOR] != 0)
		side_add(&row, column[DSOCR_PART_TSVECTOR], tsvector_of(&q, work, language, text, !ok));
	if (column[DSOCR_PART_STATUS] != 0)
		side_add(&row, column[DSOCR_PART_STATUS],
				 query_value(&q, TEXTOID, CStringGetTextDatum(dsocr_job_page_status(page)), false));
	if (column[DSOCR_PART_CONFIDENCE] != 0)
		side_add(&row, column[DSOCR_PART_CONFIDENCE],
				 query_value(&q, FLOAT8OID, Float8GetDatum(confidence), confidence < 0));
	appendStringInfoString(&q.text, "INSERT INTO ");
	appendStringInfoString(
		&q.text, quote_qualified_identifier(get_namespace_name(RelationGetNamespace(side_rel)),
											RelationGetRelationName(side_rel)));
	appendStringInfo(&q.text, " (%s) VALUES (%s)", row.columns.data, row.values.data);
	query_run(&q);
}

/* Replace the rows of the document. */
static void
write_side(RowWork *work)
{
	const DsocrSide *side = &work->attachment.side;
	DsocrRunnerJob *job = work->job;
	Relation side_rel;
	char *language;
	RowQuery q;

	side_rel = relation_open(side->relid, RowExclusiveLock);
	query_begin(&q);
	appendStringInfoString(&q.text, "DELETE FROM ");
	append_table(&q, side_rel);
	append_key(&q, side_rel, &work->key, side->key, work->key_values);
	query_run(&q);
	language = side->parts.column[DSOCR_PART_TSVECTOR] != 0 ? fetch_language(work) : NULL;
	for (int i = 0; i < job->n_pages; i++)
		insert_side_row(work, side_rel, &job->pages[i], language);
	relation_close(side_rel, NoLock);
}

static void
write_targets(RowWork *work)
{
	SPI_connect();
	dsocr_attach_writing = true;
	write_columns(work);
	if (OidIsValid(work->attachment.side.relid))
		write_side(work);
	dsocr_attach_writing = false;
	SPI_finish();
}

DsocrRowState
dsocr_runner_write_row(DsocrRunnerJob *job)
{
	RowWork work;
	DsocrRowState state = open_row(&work, job, RowExclusiveLock);

	if (state == DSOCR_ROW_OK && !as_role(&work, write_targets))
		state = DSOCR_ROW_FAILED;
	close_row(&work);
	return state;
}
