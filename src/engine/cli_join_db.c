/*-------------------------------------------------------------------------
 *
 * cli_join_db.c
 *		The session of a remote worker in its database.
 *
 * The session holds the worker's claims: when it is gone, all of them are free.
 * So an error that leaves doubt ends the session.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_join.h"

#include <endian.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (4 << 20)
#define BYTEA_OID 17
#define INT4_OID 23
#define INT8_OID 20

/* Not worth another try without a change: no right, other release, other model. */
static const char *const final_states[] = {"28", "3D", "42", "0A", "55000"};

struct DsocrJoinDb
{
	PGconn *connection;
};

/* An error of libpq or the server in one line. */
static bool
fail(DsocrError *err, DsocrCode code, const char *what, const char *message)
{
	int len = (int) strcspn(message, "\n");

	return dsocr_fail(err, code, "%s: %.*s", what, len > 180 ? 180 : len, message);
}

static DsocrCode
code_of(const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	for (size_t i = 0; state != NULL && i < sizeof(final_states) / sizeof(final_states[0]); i++)
	{
		if (strncmp(state, final_states[i], strlen(final_states[i])) == 0)
			return DSOCR_E_ARGUMENT;
	}
	return DSOCR_E_IO;
}

/* A call of up to three binary arguments that gives rows; NULL: *err says why. */
static PGresult *
call(DsocrJoinDb *db, const char *query, int n, const Oid *types, const char *const *values,
	 const int *lengths, DsocrError *err)
{
	static const int binary[] = {1, 1, 1};
	PGresult *result = PQexecParams(db->connection, query, n, types, values, lengths, binary, 1);

	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		return result;
	fail(err, code_of(result), "database", PQerrorMessage(db->connection));
	PQclear(result);
	return NULL;
}

static uint64_t
get_int8(const PGresult *result, int row, int column)
{
	uint64_t v = 0;

	if (PQgetlength(result, row, column) == sizeof(v))
		memcpy(&v, PQgetvalue(result, row, column), sizeof(v));
	return be64toh(v);
}

static void
ignore_notice(void *arg, const char *message)
{
}

/* Join, with the model that the engine has loaded. */
static bool
begin(DsocrJoinDb *db, const DsocrModelInfo *info, DsocrError *err)
{
	char protocol[16];
	const char *values[] = {protocol, info->fingerprint, info->name};
	PGresult *result;
	bool ok;

	snprintf(protocol, sizeof(protocol), "%d", DSOCR_PROTOCOL_VERSION);
	result = PQexecParams(db->connection, "SELECT dsocr_worker_begin($1, $2, $3)", 3, NULL, values,
						  NULL, NULL, 0);
	ok = PQresultStatus(result) == PGRES_TUPLES_OK;
	if (!ok)
		fail(err, code_of(result), "could not join", PQerrorMessage(db->connection));
	PQclear(result);
	return ok;
}

DsocrJoinDb *
dsocr_join_db_open(const char *conninfo, const DsocrModelInfo *info, DsocrError *err)
{
	/* defaults first, what the user says wins */
	const char *keywords[] = {
		"fallback_application_name", "connect_timeout",	 "keepalives_idle", "keepalives_interval",
		"keepalives_count",			 "tcp_user_timeout", "dbname",			NULL};
	const char *values[] = {"dsocr-engine join", "10", "20", "10", "3", "60000", conninfo, NULL};
	DsocrJoinDb *db = dsocr_zalloc(1, sizeof(*db), err);

	if (db == NULL)
		return NULL;
	db->connection = PQconnectdbParams(keywords, values, 1);
	if (PQstatus(db->connection) != CONNECTION_OK)
	{
		fail(err, DSOCR_E_IO, "could not connect", PQerrorMessage(db->connection));
		dsocr_join_db_close(db);
		return NULL;
	}
	PQsetNoticeProcessor(db->connection, ignore_notice, NULL);
	if (!begin(db, info, err))
	{
		dsocr_join_db_close(db);
		return NULL;
	}
	return db;
}

void
dsocr_join_db_close(DsocrJoinDb *db)
{
	if (db == NULL)
		return;
	PQfinish(db->connection);
	dsocr_free(db);
}

int
dsocr_join_db_socket(const DsocrJoinDb *db)
{
	return PQsocket(db->connection);
}

bool
dsocr_join_db_lost(DsocrJoinDb *db)
{
	return PQconsumeInput(db->connection) == 0 || PQstatus(db->connection) != CONNECTION_OK;
}

/* Put the document behind the head of the frame. */
static bool
fetch(DsocrJoinDb *db, DsocrJoinJob *job, uint64_t bytes, DsocrError *err)
{
	static const Oid types[] = {INT8_OID, INT8_OID, INT4_OID};
	uint64_t id = htobe64(job->id);
	uint32_t length = htobe32(CHUNK_BYTES);
	uint64_t got = 0;

	while (got < bytes)
	{
		uint64_t first = htobe64(got);
		const char *values[] = {(char *) &id, (char *) &first, (char *) &length};
		const int lengths[] = {8, 8, 4};
		PGresult *result =
			call(db, "SELECT dsocr_worker_fetch($1, $2, $3)", 3, types, values, lengths, err);
		int n;
		bool ok;

		if (result == NULL)
			return false;
		n = PQgetlength(result, 0, 0);
		ok = n > 0 && (uint64_t) n <= bytes - got
				 ? dsocr_buffer_append(&job->frame, PQgetvalue(result, 0, 0), (size_t) n, err)
				 : dsocr_fail(err, DSOCR_E_IO, "the server sent no such part of a document");
		PQclear(result);
		if (!ok)
			return false;
		got += (uint64_t) n;
	}
	return true;
}

/* A frame of a request, of this job and of the right length? */
static bool
check_frame(const DsocrJoinJob *job, uint64_t bytes, DsocrError *err)
{
	DsocrFrameHeader h;

	if (job->frame.len < sizeof(h))
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "the server sent no request");
	memcpy(&h, job->frame.data, sizeof(h));
	if (!dsocr_frame_check(&h, err))
		return false;
	if (h.type != DSOCR_FRAME_REQUEST || h.id != job->id ||
		h.length != job->frame.len - sizeof(h) + bytes)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "the server sent a malformed request");
	return true;
}

int
dsocr_join_db_claim(DsocrJoinDb *db, int n, DsocrJoinJob *jobs, DsocrError *err)
{
	static const Oid types[] = {INT4_OID};
	uint32_t wanted = htobe32((uint32_t) n);
	const char *values[] = {(char *) &wanted};
	const int lengths[] = {4};
	PGresult *result = call(db, "SELECT job, bytes, request FROM dsocr_worker_claim($1)", 1, types,
							values, lengths, err);
	int got;
	bool ok = true;

	if (result == NULL)
		return -1;
	got = PQntuples(result) < n ? PQntuples(result) : n;
	memset(jobs, 0, sizeof(*jobs) * (size_t) n);
	for (int i = 0; i < got && ok; i++)
	{
		uint64_t bytes = get_int8(result, i, 1);

		jobs[i].id = get_int8(result, i, 0);
		ok = dsocr_buffer_append(&jobs[i].frame, PQgetvalue(result, i, 2),
								 (size_t) PQgetlength(result, i, 2), err) &&
			 check_frame(&jobs[i], bytes, err) && fetch(db, &jobs[i], bytes, err);
	}
	PQclear(result);
	if (ok)
		return got;
	for (int i = 0; i < got; i++)
		dsocr_buffer_free(&jobs[i].frame);
	return -1;
}

static DsocrJoinWritten
written(DsocrJoinDb *db, PGresult *result)
{
	bool busy;

	if (result == NULL)
		return PQstatus(db->connection) == CONNECTION_OK ? DSOCR_JOIN_REFUSED : DSOCR_JOIN_LOST;
	busy = PQgetlength(result, 0, 0) == 1 && PQgetvalue(result, 0, 0)[0] == 0;
	PQclear(result);
	return busy ? DSOCR_JOIN_BUSY : DSOCR_JOIN_WRITTEN;
}

DsocrJoinWritten
dsocr_join_db_finish(DsocrJoinDb *db, uint64_t id, const void *frame, size_t len, DsocrError *err)
{
	static const Oid types[] = {INT8_OID, BYTEA_OID};
	uint64_t job = htobe64(id);
	const char *values[] = {(char *) &job, frame};
	const int lengths[] = {8, (int) len};

	return written(db,
				   call(db, "SELECT dsocr_worker_finish($1, $2)", 2, types, values, lengths, err));
}

DsocrJoinWritten
dsocr_join_db_release(DsocrJoinDb *db, uint64_t id, DsocrError *err)
{
	static const Oid types[] = {INT8_OID};
	uint64_t job = htobe64(id);
	const char *values[] = {(char *) &job};
	const int lengths[] = {8};

	return written(db, call(db, "SELECT dsocr_worker_release($1)", 1, types, values, lengths, err));
}
