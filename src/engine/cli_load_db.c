/*-------------------------------------------------------------------------
 *
 * cli_load_db.c
 *		The session of a load in its database.
 *
 * What rows, transactions and the progress of reading need; how it comes to its
 * table is in cli_load_table.c.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_load_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Errors of a row: data, constraints, limits, RAISE in a trigger.  All others
 * would come again with the next row.
 */
static const char *const row_states[] = {"22", "23", "44", "54", "P0"};

bool
dsocr_load_db_fail(DsocrError *err, const char *what, const char *message)
{
	int len = (int) strcspn(message, "\n");

	while (len > 0 && strncmp(message, "ERROR:  ", 8) == 0)
	{
		message += 8;
		len -= 8;
	}
	return dsocr_fail(err, DSOCR_E_IO, "%s%s%.*s", what, what[0] != '\0' ? ": " : "",
					  len > 200 ? 200 : len, message);
}

DsocrLoadDone
dsocr_load_db_failed(DsocrLoadDb *db, const PGresult *result, DsocrError *err)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	dsocr_load_db_fail(err, "", primary != NULL ? primary : PQerrorMessage(db->connection));
	for (size_t i = 0; state != NULL && i < sizeof(row_states) / sizeof(row_states[0]); i++)
	{
		if (strncmp(state, row_states[i], 2) == 0)
			return DSOCR_LOAD_REFUSED;
	}
	return DSOCR_LOAD_LOST;
}

PGresult *
dsocr_load_db_ask(DsocrLoadDb *db, const char *query, int n, const char *const *values,
				  DsocrError *err)
{
	PGresult *r = PQexecParams(db->connection, query, n, NULL, values, NULL, NULL, 0);
	ExecStatusType status = PQresultStatus(r);

	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		return r;
	dsocr_load_db_failed(db, r, err);
	PQclear(r);
	return NULL;
}

DsocrLoadDone
dsocr_load_db_command(DsocrLoadDb *db, const char *query, DsocrError *err)
{
	PGresult *r = PQexec(db->connection, query);
	DsocrLoadDone done =
		PQresultStatus(r) == PGRES_COMMAND_OK ? DSOCR_LOAD_OK : dsocr_load_db_failed(db, r, err);

	PQclear(r);
	return done;
}

const char *
dsocr_load_db_field(const PGresult *r, int column)
{
	return PQgetisnull(r, 0, column) ? NULL : PQgetvalue(r, 0, column);
}

/* ---- the session ---- */

static void
ignore_notice(void *arg, const char *message)
{
}

DsocrLoadDb *
dsocr_load_db_open(const DsocrLoadTarget *target, DsocrError *err)
{
	/* defaults first, what the user says wins, but for the encoding of names */
	const char *keywords[] = {"fallback_application_name",
							  "connect_timeout",
							  "keepalives_idle",
							  "keepalives_interval",
							  "keepalives_count",
							  "tcp_user_timeout",
							  "dbname",
							  "client_encoding",
							  NULL};
	const char *values[] = {"dsocr-engine load", "10",	 "20", "10", "3", "60000",
							target->conninfo,	 "UTF8", NULL};
	DsocrLoadDb *db = dsocr_zalloc(1, sizeof(*db), err);

	if (db == NULL)
		return NULL;
	db->target = target;
	db->connection = PQconnectdbParams(keywords, values, 1);
	if (PQstatus(db->connection) != CONNECTION_OK)
		dsocr_load_db_fail(err, "could not connect", PQerrorMessage(db->connection));
	else
	{
		PQsetNoticeProcessor(db->connection, ignore_notice, NULL);
		if (dsocr_load_db_table(db, err))
			return db;
	}
	dsocr_load_db_close(db);
	return NULL;
}

void
dsocr_load_db_close(DsocrLoadDb *db)
{
	char **texts[] = {&db->oid, &db->table, &db->path, &db->image, &db->extension, &db->started};

	PQfinish(db->connection);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		dsocr_free(*texts[i]);
	dsocr_free(db);
}

bool
dsocr_load_db_is_unique(const DsocrLoadDb *db)
{
	return db->unique;
}

int64_t
dsocr_load_db_max_bytes(const DsocrLoadDb *db)
{
	return db->max_bytes;
}

/* ---- rows ---- */

DsocrLoadDone
dsocr_load_db_begin(DsocrLoadDb *db, DsocrError *err)
{
	return dsocr_load_db_command(db, "BEGIN", err);
}

DsocrLoadDone
dsocr_load_db_commit(DsocrLoadDb *db, DsocrError *err)
{
	return dsocr_load_db_command(db, "COMMIT", err);
}

DsocrLoadDone
dsocr_load_db_rollback(DsocrLoadDb *db, DsocrError *err)
{
	return dsocr_load_db_command(db, "ROLLBACK", err);
}

DsocrLoadDone
dsocr_load_db_put(DsocrLoadDb *db, const char *name, const char *bytes, size_t len, DsocrError *err)
{
	const char *values[] = {name, bytes};
	const int lengths[] = {0, (int) len};
	static const int formats[] = {0, 1};
	PGresult *r = PQexecPrepared(db->connection, "put", 2, values, lengths, formats, 0);
	DsocrLoadDone done;

	if (PQresultStatus(r) == PGRES_COMMAND_OK)
		done = strcmp(PQcmdTuples(r), "0") == 0 ? DSOCR_LOAD_CONFLICT : DSOCR_LOAD_OK;
	else
		done = dsocr_load_db_failed(db, r, err);
	PQclear(r);
	return done;
}

/* An array of texts, as the server reads it. */
static bool
put_array(DsocrBuffer *b, const char *const *names, int n, DsocrError *err)
{
	bool ok = dsocr_buffer_append(b, "{", 1, err);

	for (int i = 0; i < n && ok; i++)
	{
		ok = dsocr_buffer_append(b, i > 0 ? ",\"" : "\"", i > 0 ? 2 : 1, err);
		for (const char *p = names[i]; *p != '\0' && ok; p++)
		{
			if (*p == '"' || *p == '\\')
				ok = dsocr_buffer_append(b, "\\", 1, err);
			ok = ok && dsocr_buffer_append(b, p, 1, err);
		}
		ok = ok && dsocr_buffer_append(b, "\"", 1, err);
	}
	return ok && dsocr_buffer_append(b, "}", 1, err);
}

DsocrLoadDone
dsocr_load_db_known(DsocrLoadDb *db, const char *const *names, DsocrLoadState *states, int n,
					DsocrError *err)
{
	DsocrBuffer array = {0};
	bool ok = put_array(&array, names, n, err);
	const char *values[] = {array.data};
	PGresult *r = ok ? PQexecPrepared(db->connection, "known", 1, values, NULL, NULL, 0) : NULL;
	DsocrLoadDone done = ok ? DSOCR_LOAD_OK : DSOCR_LOAD_LOST;

	if (ok && PQresultStatus(r) != PGRES_TUPLES_OK)
		done = dsocr_load_db_failed(db, r, err);
	for (int i = 0; done == DSOCR_LOAD_OK && i < PQntuples(r); i++)
	{
		int k = PQgetisnull(r, i, 0) ? 0 : atoi(PQgetvalue(r, i, 0));

		if (k >= 1 && k <= n && states[k - 1] == DSOCR_LOAD_PENDING)
			states[k - 1] = DSOCR_LOAD_THERE;
	}
	PQclear(r);
	dsocr_buffer_free(&array);
	return done;
}

/* ---- reading ---- */

bool
dsocr_load_db_progress(DsocrLoadDb *db, DsocrLoadProgress *p, DsocrError *err)
{
	const char *values[] = {db->oid, db->target->image_column};
	PGresult *r;

	*p = (DsocrLoadProgress){.left = -1};
	if (db->extension == NULL)
		return true;
	r = dsocr_load_db_ask(
		db,
		"SELECT p.done, p.queued, p.failed, p.pages, COALESCE(p.pages_per_second, 0),"
		" COALESCE(pg_catalog.date_part('epoch', p.time_left), -1),"
		" EXISTS (SELECT FROM dsocr.jobs AS j WHERE j.source OPERATOR(pg_catalog.=) p.source"
		" AND j.key IS NULL AND j.state OPERATOR(pg_catalog.=) ANY ('{queued,delayed}')),"
		" pg_catalog.current_setting('dsocr.run_jobs', true) IS DISTINCT FROM 'off'"
		" FROM dsocr.progress AS p WHERE p.source::pg_catalog.oid OPERATOR(pg_catalog.=)"
		" $1::pg_catalog.oid AND p.image_column OPERATOR(pg_catalog.=) $2::pg_catalog.name",
		2, values, err);
	if (r == NULL)
		return false;
	p->attached = PQntuples(r) == 1;
	if (p->attached)
	{
		p->done = strtoll(PQgetvalue(r, 0, 0), NULL, 10);
		p->queued = strtoll(PQgetvalue(r, 0, 1), NULL, 10);
		p->failed = strtoll(PQgetvalue(r, 0, 2), NULL, 10);
		p->pages = strtoll(PQgetvalue(r, 0, 3), NULL, 10);
		p->rate = strtod(PQgetvalue(r, 0, 4), NULL);
		p->left = strtod(PQgetvalue(r, 0, 5), NULL);
		p->preparing = PQgetvalue(r, 0, 6)[0] == 't';
		p->runs = PQgetvalue(r, 0, 7)[0] == 't';
	}
	PQclear(r);
	return true;
}

/* How the key of a row t is made text as jobs have it: that of an array. */
static PGresult *
key_of_rows(DsocrLoadDb *db, DsocrError *err)
{
	const char *values[] = {db->oid};

	return dsocr_load_db_ask(
		db,
		"SELECT pg_catalog.string_agg(pg_catalog.format('t.%I::pg_catalog.text', a.attname),"
		" ', ' ORDER BY k.o) FROM pg_catalog.pg_index AS i"
		" CROSS JOIN pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k(n, o)"
		" JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid"
		" AND a.attnum OPERATOR(pg_catalog.=) k.n WHERE i.indisprimary"
		" AND i.indrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid",
		1, values, err);
}

bool
dsocr_load_db_failures(DsocrLoadDb *db, int most, DsocrLoadTell tell, void *arg, DsocrError *err)
{
	const char *values[] = {db->oid, db->started};
	PGresult *key = key_of_rows(db, err);
	DsocrBuffer query = {0};
	PGresult *r = NULL;

	if (key != NULL &&
		dsocr_buffer_printf(
			&query, err,
			"SELECT COALESCE(t.%s::pg_catalog.text, f.key), f.reason FROM (SELECT f.id, f.key, "
			"f.reason"
			" FROM dsocr.failures AS f WHERE f.source::pg_catalog.oid OPERATOR(pg_catalog.=)"
			" $1::pg_catalog.oid AND f.failed OPERATOR(pg_catalog.>=) $2::pg_catalog.timestamptz"
			" ORDER BY f.id LIMIT %d) AS f LEFT JOIN %s AS t"
			" ON ARRAY[%s]::pg_catalog.text OPERATOR(pg_catalog.=) f.key ORDER BY f.id",
			db->path, most, db->table,
			dsocr_load_db_field(key, 0) != NULL ? dsocr_load_db_field(key, 0) : "NULL"))
		r = dsocr_load_db_ask(db, query.data, 2, values, err);
	for (int i = 0; r != NULL && i < PQntuples(r); i++)
		tell(arg, DSOCR_LOAD_FAILED, PQgetisnull(r, i, 0) ? "a row" : PQgetvalue(r, i, 0),
			 PQgetvalue(r, i, 1));
	dsocr_buffer_free(&query);
	PQclear(key);
	PQclear(r);
	return r != NULL;
}
