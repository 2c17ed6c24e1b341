/*-------------------------------------------------------------------------
 *
 * cli_load_table.c
 *		How a load comes to its table.
 *
 * Names are resolved and quoted by the server, and everything that is not the
 * user's is named with its schema: whatever search_path says, only his own
 * objects are used.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_load_db.h"

#include <stdlib.h>
#include <string.h>

#define BYTEA_OID 17
#define TEXT_OID 25

/* Take a table with its schema and oid; false without an error: it is not there. */
static bool
resolve(DsocrLoadDb *db, DsocrError *err)
{
	const char *values[] = {db->target->table};
	PGresult *r = dsocr_load_db_ask(
		db,
		"SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname)"
		" FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n"
		" ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
		" WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)::pg_catalog.oid",
		1, values, err);

	if (r == NULL)
		return false;
	if (PQntuples(r) == 1)
	{
		db->oid = dsocr_strdup(PQgetvalue(r, 0, 0), err);
		db->table = dsocr_strdup(PQgetvalue(r, 0, 1), err);
	}
	PQclear(r);
	return db->oid != NULL && db->table != NULL;
}

static bool
create(DsocrLoadDb *db, DsocrError *err)
{
	const char *values[] = {db->target->table};
	PGresult *r = dsocr_load_db_ask(
		db,
		"SELECT pg_catalog.string_agg(pg_catalog.quote_ident(p), '.' ORDER BY n)"
		" FROM pg_catalog.unnest(pg_catalog.parse_ident($1)) WITH ORDINALITY AS u(p, n)",
		1, values, err);
	DsocrBuffer query = {0};
	bool ok = r != NULL;

	/* images are packed already, so compressing them again is time wasted */
	ok = ok &&
		 dsocr_buffer_printf(&query, err,
							 "CREATE TABLE IF NOT EXISTS %s (id pg_catalog.int8 GENERATED ALWAYS AS"
							 " IDENTITY PRIMARY KEY, %s pg_catalog.text NOT NULL UNIQUE,"
							 " %s pg_catalog.bytea NOT NULL);"
							 " ALTER TABLE %s ALTER COLUMN %s SET STORAGE EXTERNAL",
							 PQgetvalue(r, 0, 0), db->path, db->image, PQgetvalue(r, 0, 0),
							 db->image) &&
		 dsocr_load_db_command(db, query.data, err) == DSOCR_LOAD_OK;
	dsocr_buffer_free(&query);
	PQclear(r);
	return ok;
}

/* Is there a unique index of the path alone?  Which schema has dsocr, and what does it take? */
static bool
look(DsocrLoadDb *db, DsocrError *err)
{
	const char *values[] = {db->oid, db->target->path_column, db->target->image_column};
	PGresult *r = dsocr_load_db_ask(
		db,
		"SELECT EXISTS (SELECT FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_attribute AS a"
		" ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid AND a.attnum OPERATOR(pg_catalog.=)"
		" i.indkey[0] WHERE i.indrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND i.indisunique"
		" AND i.indnkeyatts OPERATOR(pg_catalog.=) 1 AND i.indpred IS NULL"
		" AND a.attname OPERATOR(pg_catalog.=) $2::pg_catalog.name),"
		" (SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension AS e"
		" JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace"
		" WHERE e.extname OPERATOR(pg_catalog.=) 'dsocr'),"
		" GREATEST(pg_catalog.pg_size_bytes(pg_catalog.current_setting('dsocr.max_image_bytes', "
		"true)),"
		" pg_catalog.pg_size_bytes(pg_catalog.current_setting('dsocr.max_document_bytes', true))),"
		" pg_catalog.clock_timestamp(),"
		" (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute AS a"
		" WHERE a.attrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND NOT a.attisdropped"
		" AND a.attname OPERATOR(pg_catalog.=) ANY (ARRAY[$2, $3]::pg_catalog.name[]))",
		3, values, err);
	bool ok = r != NULL;

	if (ok && strcmp(PQgetvalue(r, 0, 4), "2") != 0)
		ok =
			dsocr_fail(err, DSOCR_E_ARGUMENT, "table %.100s has no columns \"%.40s\" and \"%.40s\"",
					   db->table, db->target->path_column, db->target->image_column);
	if (ok)
	{
		db->unique = PQgetvalue(r, 0, 0)[0] == 't';
		db->extension =
			dsocr_load_db_field(r, 1) != NULL ? dsocr_strdup(dsocr_load_db_field(r, 1), err) : NULL;
		db->max_bytes =
			dsocr_load_db_field(r, 2) != NULL ? strtoll(dsocr_load_db_field(r, 2), NULL, 10) : 0;
		db->started = dsocr_strdup(PQgetvalue(r, 0, 3), err);
	}
	PQclear(r);
	return ok && db->started != NULL;
}

/* Have its documents read, unless they are. */
static bool
attach(DsocrLoadDb *db, DsocrError *err)
{
	const DsocrLoadTarget *t = db->target;
	const char *values[] = {db->oid, t->image_column, t->text_column, t->side_table, t->language};
	DsocrLoadProgress progress;
	DsocrBuffer query = {0};
	PGresult *r = NULL;
	bool ok = true;

	if (db->extension == NULL)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "the extension dsocr is not in this database");
	if (!dsocr_load_db_progress(db, &progress, err))
		return false;
	if (progress.attached)
		return true;
	/* a row for each page where nothing else was said */
	ok = dsocr_buffer_printf(
		&query, err,
		"SELECT %s.dsocr_attach(source => $1::pg_catalog.oid::pg_catalog.regclass,"
		" image_column => $2::pg_catalog.name, text_column => $3::pg_catalog.name,"
		" side_table => COALESCE($4::pg_catalog.name, CASE WHEN $3 IS NULL THEN (SELECT"
		" (pg_catalog.left(c.relname::pg_catalog.text, 57) OPERATOR(pg_catalog.||) "
		"'_pages')::pg_catalog.name"
		" FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid) "
		"END),"
		" tsvector_column => CASE WHEN $3 IS NOT NULL AND $4 IS NULL THEN"
		" (pg_catalog.left($3::pg_catalog.name::pg_catalog.text, 57) OPERATOR(pg_catalog.||) "
		"'_words')::pg_catalog.name END,"
		" language => COALESCE($5::pg_catalog.regconfig, 'pg_catalog.simple'))",
		db->extension);
	if (ok)
		r = dsocr_load_db_ask(db, query.data, 5, values, err);
	ok = r != NULL;
	PQclear(r);
	dsocr_buffer_free(&query);
	return ok;
}

static bool
prepare(DsocrLoadDb *db, DsocrError *err)
{
	static const Oid types[] = {TEXT_OID, BYTEA_OID};
	DsocrBuffer put = {0};
	DsocrBuffer known = {0};
	PGresult *r;
	bool ok = dsocr_buffer_printf(&put, err,
								  "INSERT INTO %s (%s, %s) VALUES ($1, $2) ON CONFLICT DO NOTHING",
								  db->table, db->path, db->image) &&
			  dsocr_buffer_printf(&known, err,
								  "SELECT pg_catalog.array_position($1::pg_catalog.text[],"
								  " t.%s::pg_catalog.text) FROM %s AS t"
								  " WHERE t.%s OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[])",
								  db->path, db->table, db->path);

	for (int i = 0; i < 2 && ok; i++)
	{
		r = i == 0 ? PQprepare(db->connection, "put", put.data, 2, types)
				   : PQprepare(db->connection, "known", known.data, 0, NULL);
		ok = PQresultStatus(r) == PGRES_COMMAND_OK;
		if (!ok)
			dsocr_load_db_failed(db, r, err);
		PQclear(r);
	}
	dsocr_buffer_free(&put);
	dsocr_buffer_free(&known);
	return ok;
}

static char *
quoted(DsocrLoadDb *db, const char *name, DsocrError *err)
{
	char *q = PQescapeIdentifier(db->connection, name, strlen(name));
	char *copy = NULL;

	if (q == NULL)
		dsocr_load_db_fail(err, name, PQerrorMessage(db->connection));
	else
		copy = dsocr_strdup(q, err);
	PQfreemem(q);
	return copy;
}

static bool
find_or_make(DsocrLoadDb *db, DsocrError *err)
{
	const DsocrLoadTarget *t = db->target;

	err->code = DSOCR_OK;
	if (resolve(db, err))
		return true;
	if (err->code != DSOCR_OK)
		return false;
	if (!t->create)
	{
		dsocr_fail(err, DSOCR_E_ARGUMENT, "table %.160s does not exist", t->table);
		return dsocr_hint(err, "--create makes it");
	}
	if (!create(db, err))
		return false;
	return resolve(db, err) ||
		   (err->code == DSOCR_OK && dsocr_fail(err, DSOCR_E_IO, "table %.160s is gone", t->table));
}

bool
dsocr_load_db_table(DsocrLoadDb *db, DsocrError *err)
{
	const DsocrLoadTarget *t = db->target;

	db->path = quoted(db, t->path_column, err);
	db->image = db->path != NULL ? quoted(db, t->image_column, err) : NULL;
	/* a table is made and attached, or neither */
	return db->image != NULL && dsocr_load_db_begin(db, err) == DSOCR_LOAD_OK &&
		   find_or_make(db, err) && look(db, err) && (!t->attach || attach(db, err)) &&
		   dsocr_load_db_commit(db, err) == DSOCR_LOAD_OK && prepare(db, err);
}
