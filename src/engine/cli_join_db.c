/*-------------------------------------------------------------------------
 *
 * cli_join_db.c
 *		The session of a remote worker in its database.
 *
 * The session holds the worker's claims: when it is gone, all of them are free.
 * So an error that leaves doubt ends the session, and so does a server that is
 * silent for longer than the lease, for it does not count on us any more.
 *
 *-------------------------------------------------------------------------
 */
#include "cli.h"

#include <endian.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_join.h"

#define CHUNK_BYTES (4 << 20)
#define FIRST_BYTES (256 << 10) /* of a document, that come with the job itself */
#define BYTEA_OID 17
#define INT4_OID 23
#define INT8_OID 20

#define MAX_ARGUMENTS (3 * DSOCR_JOIN_WRITE_AT_ONCE) /* of any call: job, answer and time */

#define JOIN_PATIENCE_MS 60000 /* of the first call, before the lease is known */

/* Not worth another try without a change: no right, no database, other release, other model. */
static const char *const final_states[] = {"28", "3D", "42", "55000"};
#define OTHER_RELEASE "0A000"

struct DsocrJoinDb
{
	PGconn *connection;
	int lease_ms;
	bool lost;
	const char *what; /* before what the server says of an error */
};

/* An error of libpq or the server, in one line. */
static bool
fail(DsocrError *err, DsocrCode code, const char *what, const char *message)
{
	char line[220];
	size_t n = 0;

	for (; message[n] != '\0' && n < sizeof(line) - 1; n++)
		line[n] = message[n] == '\n' ? ' ' : message[n];
	while (n > 0 && line[n - 1] == ' ')
		n--;
	line[n] = '\0';
	return dsocr_fail(err, code, "%s: %s", what, line);
}

static DsocrCode
code_of(const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (state != NULL && strcmp(state, OTHER_RELEASE) == 0)
		return DSOCR_E_MODEL;
	for (size_t i = 0; state != NULL && i < sizeof(final_states) / sizeof(final_states[0]); i++)
	{
		if (strncmp(state, final_states[i], strlen(final_states[i])) == 0)
			return DSOCR_E_ARGUMENT;
	}
	return DSOCR_E_IO;
}

/* Wait until the socket has something for us, or takes what it did not. */
static bool
wait_for_socket(DsocrJoinDb *db, bool write, DsocrError *err)
{
	struct pollfd fd = {.fd = PQsocket(db->connection),
						.events = (short) (POLLIN | (write ? POLLOUT : 0))};
	int n = poll(&fd, 1, db->lease_ms);

	if (n < 0 && errno == EINTR && dsocr_join_stops <= 1)
		return true;
	if (n == 0)
		return dsocr_fail(err, DSOCR_E_IO, "the server has been silent for %d s",
						  db->lease_ms / 1000);
	return n > 0 || dsocr_fail(err, DSOCR_E_IO, "interrupted");
}

/* What was sent has been answered: the result, or NULL and *err. */
static PGresult *
receive(DsocrJoinDb *db, DsocrError *err)
{
	PGresult *result;
	PGresult *more;

	for (;;)
	{
		int unsent = PQflush(db->connection);

		if (unsent < 0 || PQconsumeInput(db->connection) == 0)
		{
			fail(err, DSOCR_E_IO, db->what, PQerrorMessage(db->connection));
			return NULL;
		}
		if (PQisBusy(db->connection) == 0)
			break;
		if (!wait_for_socket(db, unsent > 0, err))
			return NULL;
	}
	result = PQgetResult(db->connection);
	while (result != NULL && (more = PQgetResult(db->connection)) != NULL)
		PQclear(more);
	return result;
}

/* A call that gives rows; arguments are binary where types are named; NULL: *err says why. */
static PGresult *
call(DsocrJoinDb *db, const char *query, int n, const Oid *types, const char *const *values,
	 const int *lengths, DsocrError *err)
{
	int formats[MAX_ARGUMENTS];
	PGresult *result = NULL;

	for (int i = 0; i < n; i++)
		formats[i] = types != NULL;
	if (PQsendQueryParams(db->connection, query, n, types, values, lengths, formats, 1) == 0)
		fail(err, DSOCR_E_IO, db->what, PQerrorMessage(db->connection));
	else
		result = receive(db, err);
	if (result == NULL)
	{
		db->lost = true;
		if (err->code == DSOCR_OK)
			dsocr_fail(err, DSOCR_E_IO, "database: no result");
		return NULL;
	}
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		return result;
	fail(err, code_of(result), db->what, PQresultErrorMessage(result));
	db->lost |= PQstatus(db->connection) != CONNECTION_OK;
	PQclear(result);
	return NULL;
}

/* A number of 4 or 8 bytes. */
static uint64_t
get_int(const PGresult *result, int row, int column)
{
	const uint8_t *bytes = (const uint8_t *) PQgetvalue(result, row, column);
	int n = PQgetlength(result, row, column);
	uint64_t v = 0;

	for (int i = 0; i < n && i < 8; i++)
		v = v << 8 | bytes[i];
	return v;
}

static void
ignore_notice(void *arg, const char *message)
{
}

/* Join, with the model that the engine has loaded. */
static bool
begin(DsocrJoinDb *db, const DsocrModelInfo *info, bool opens_documents, DsocrError *err)
{
	char protocol[16];
	bool may_open;
	const char *values[] = {protocol, DSOCR_VERSION, info->fingerprint, info->name,
							opens_documents ? "true" : "false"};
	PGresult *result;

	snprintf(protocol, sizeof(protocol), "%d", DSOCR_PROTOCOL_VERSION);
	db->lease_ms = JOIN_PATIENCE_MS;
	db->what = "could not join";
	result = call(
		db,
		"SELECT dsocr_worker_begin($1, $2, $3, $4, $5),"
		" pg_catalog.has_function_privilege('dsocr_worker_pages(int8, int4, bytea)', 'EXECUTE')",
		5, NULL, values, NULL, err);
	if (result == NULL)
		return false;
	db->lease_ms = (int) get_int(result, 0, 0);
	may_open = get_int(result, 0, 1) != 0;
	db->what = "database";
	PQclear(result);
	/* before any page was read for nothing */
	if (opens_documents && !may_open)
		return dsocr_fail(err, DSOCR_E_ARGUMENT,
						  "could not join: permission denied for function dsocr_worker_pages");
	return db->lease_ms > 0 || dsocr_fail(err, DSOCR_E_IO, "the server has given no lease");
}

DsocrJoinDb *
dsocr_join_db_open(const char *conninfo, const DsocrModelInfo *info, bool opens_documents,
				   DsocrError *err)
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
	if (PQsetnonblocking(db->connection, 1) != 0 || !begin(db, info, opens_documents, err))
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

int
dsocr_join_db_lease(const DsocrJoinDb *db)
{
	return db->lease_ms;
}

bool
dsocr_join_db_lost(DsocrJoinDb *db)
{
	return PQconsumeInput(db->connection) == 0 || PQstatus(db->connection) != CONNECTION_OK;
}

/* Put the rest of the document, of which there is so much already, behind the frame. */
static bool
fetch(DsocrJoinDb *db, DsocrJoinGiven *job, uint64_t got, uint64_t bytes, DsocrError *err)
{
	static const Oid types[] = {INT8_OID, INT8_OID, INT4_OID};
	uint64_t id = htobe64(job->id);
	uint32_t length = htobe32(CHUNK_BYTES);

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
check_frame(const DsocrJoinGiven *job, uint64_t bytes, DsocrError *err)
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

/* A row of the claim: the request, the beginning of the document, and what is to be fetched. */
static bool
take_job(DsocrJoinDb *db, const PGresult *result, int row, DsocrJoinGiven *job, DsocrError *err)
{
	uint64_t bytes = get_int(result, row, 1);
	uint64_t first = (uint64_t) PQgetlength(result, row, 3);

	job->id = get_int(result, row, 0);
	if (PQgetisnull(result, row, 2))
		return true;
	job->first_page = (int32_t) get_int(result, row, 5);
	job->last_page = (int32_t) get_int(result, row, 6);
	return (PQgetisnull(result, row, 4) ||
			dsocr_buffer_append(&job->page_frame, PQgetvalue(result, row, 4),
								(size_t) PQgetlength(result, row, 4), err)) &&
		   dsocr_buffer_append(&job->frame, PQgetvalue(result, row, 2),
							   (size_t) PQgetlength(result, row, 2), err) &&
		   check_frame(job, bytes, err) &&
		   (first <= bytes ||
			dsocr_fail(err, DSOCR_E_IO, "the server sent no such part of a document")) &&
		   dsocr_buffer_append(&job->frame, PQgetvalue(result, row, 3), (size_t) first, err) &&
		   fetch(db, job, first, bytes, err);
}

int
dsocr_join_db_claim(DsocrJoinDb *db, int n, DsocrJoinGiven *jobs, DsocrError *err)
{
	static const Oid types[] = {INT4_OID, INT4_OID};
	uint32_t wanted = htobe32((uint32_t) n);
	uint32_t length = htobe32(FIRST_BYTES);
	const char *values[] = {(char *) &wanted, (char *) &length};
	const int lengths[] = {4, 4};
	PGresult *result =
		call(db,
			 "SELECT job, bytes, request, document, page_request, first_page, last_page"
			 " FROM dsocr_worker_claim($1, $2)",
			 2, types, values, lengths, err);
	int got;
	bool ok = true;

	if (result == NULL)
		return -1;
	got = PQntuples(result) < n ? PQntuples(result) : n;
	memset(jobs, 0, sizeof(*jobs) * (size_t) n);
	for (int i = 0; i < got && ok; i++)
		ok = take_job(db, result, i, &jobs[i], err);
	PQclear(result);
	if (ok)
		return got;
	for (int i = 0; i < got; i++)
	{
		dsocr_buffer_free(&jobs[i].frame);
		dsocr_buffer_free(&jobs[i].page_frame);
	}
	return -1;
}

int
dsocr_join_db_keep(DsocrJoinDb *db, int n, uint64_t *ids, DsocrError *err)
{
	PGresult *result = call(db, "SELECT * FROM dsocr_worker_keep()", 0, NULL, NULL, NULL, err);
	int got;

	if (result == NULL)
		return -1;
	got = PQntuples(result) < n ? PQntuples(result) : n;
	for (int i = 0; i < got; i++)
		ids[i] = get_int(result, i, 0);
	PQclear(result);
	return got;
}

static DsocrJoinWritten
outcome(const DsocrJoinDb *db, const PGresult *result, int column)
{
	if (result == NULL)
		return db->lost ? DSOCR_JOIN_LOST : DSOCR_JOIN_REFUSED;
	return PQgetlength(result, 0, column) == 1 && PQgetvalue(result, 0, column)[0] == 0
			   ? DSOCR_JOIN_BUSY
			   : DSOCR_JOIN_WRITTEN;
}

void
dsocr_join_db_finish(DsocrJoinDb *db, int n, const DsocrJoinAnswer *answers,
					 DsocrJoinWritten *written, DsocrError *err)
{
	Oid types[MAX_ARGUMENTS] = {0};
	uint64_t numbers[2 * DSOCR_JOIN_WRITE_AT_ONCE];
	const char *values[MAX_ARGUMENTS] = {0};
	int lengths[MAX_ARGUMENTS] = {0};
	char query[64 * DSOCR_JOIN_WRITE_AT_ONCE] = "";
	size_t len = 0;
	PGresult *result;

	for (int i = 0; i < n; i++)
	{
		numbers[2 * i] = htobe64(answers[i].id);
		numbers[2 * i + 1] = htobe64((uint64_t) answers[i].device_us);
		types[3 * i] = types[3 * i + 2] = INT8_OID;
		types[3 * i + 1] = BYTEA_OID;
		values[3 * i] = (char *) &numbers[2 * i];
		values[3 * i + 1] = (const char *) answers[i].frame->data;
		values[3 * i + 2] = (char *) &numbers[2 * i + 1];
		lengths[3 * i] = lengths[3 * i + 2] = sizeof(uint64_t);
		lengths[3 * i + 1] = (int) answers[i].frame->len;
		len += (size_t) snprintf(query + len, sizeof(query) - len,
								 "%s dsocr_worker_finish($%d, $%d, $%d)", i == 0 ? "SELECT" : ",",
								 3 * i + 1, 3 * i + 2, 3 * i + 3);
	}
	result = call(db, query, 3 * n, types, values, lengths, err);
	for (int i = 0; i < n; i++)
		written[i] = outcome(db, result, i);
	PQclear(result);
}

DsocrJoinWritten
dsocr_join_db_pages(DsocrJoinDb *db, uint64_t id, int first, const DsocrBuffer *frames,
					DsocrError *err)
{
	static const Oid types[] = {INT8_OID, INT4_OID, BYTEA_OID};
	uint64_t job = htobe64(id);
	uint32_t number = htobe32((uint32_t) first);
	const char *values[] = {(char *) &job, (char *) &number, (char *) frames->data};
	const int lengths[] = {8, 4, (int) frames->len};
	PGresult *result =
		call(db, "SELECT dsocr_worker_pages($1, $2, $3)", 3, types, values, lengths, err);
	DsocrJoinWritten written = outcome(db, result, 0);

	PQclear(result);
	return written;
}

DsocrJoinWritten
dsocr_join_db_release(DsocrJoinDb *db, uint64_t id, DsocrError *err)
{
	static const Oid types[] = {INT8_OID};
	uint64_t job = htobe64(id);
	const char *values[] = {(char *) &job};
	const int lengths[] = {8};
	PGresult *result = call(db, "SELECT dsocr_worker_release($1)", 1, types, values, lengths, err);
	DsocrJoinWritten written = outcome(db, result, 0);

	PQclear(result);
	return written;
}
