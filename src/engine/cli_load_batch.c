/*-------------------------------------------------------------------------
 *
 * cli_load_batch.c
 *		Files become rows, batch by batch.
 *
 * A batch is a transaction.  Where the server refuses one of its rows it is
 * rolled back and its rows are sent one by one, to find out which.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_load.h"

#include <stdio.h>
#include <string.h>

#include "utf8.h"

/* after so many rows that were refused one after the other it is not the rows */
#define MAX_REFUSED_IN_A_ROW 20

/* Files that are committed together. */
typedef struct Batch
{
	size_t at; /* of all files */
	const DsocrLoadFile *files;
	int n;
	char **names;
	DsocrLoadState states[DSOCR_LOAD_MAX_ROWS];
	int64_t bytes; /* of those that are LOADED */
} Batch;

static void
show_loading(DsocrLoad *l, size_t seen, int64_t bytes)
{
	double seconds = (double) (dsocr_now_us() - l->started_us) / 1e6;
	double rate = (double) l->counts[DSOCR_LOAD_LOADED] / (seconds > 0.001 ? seconds : 0.001);
	double part =
		l->files.bytes > 0 ? (double) (l->seen_bytes + bytes) / (double) l->files.bytes : 1;
	char left[32];
	char text[160];

	dsocr_load_time(left, sizeof(left), part > 0.001 ? seconds / part - seconds : -1);
	snprintf(text, sizeof(text), "%zu/%zu files, %.1f/s, %.1f MB/s, %s left, %lld failed", seen,
			 l->files.n, rate, (double) l->loaded_bytes / 1e6 / (seconds > 0.001 ? seconds : 0.001),
			 left, (long long) l->counts[DSOCR_LOAD_FAILED]);
	dsocr_load_show(&l->show, "loading", part, text);
}

static void
set_state(DsocrLoad *l, Batch *b, int i, DsocrLoadState state, const char *why)
{
	b->states[i] = state;
	if (state == DSOCR_LOAD_FAILED || state == DSOCR_LOAD_SKIPPED)
		dsocr_load_tell(l, state, b->files[i].path, why);
}

/* Send a file; errors of files and rows are told, LOST is not. */
static DsocrLoadDone
put(DsocrLoad *l, Batch *b, int i, DsocrError *err)
{
	char *bytes = NULL;
	size_t len = 0;
	DsocrLoadState state =
		dsocr_load_read(&b->files[i], l->follow, l->any, l->max_bytes, &bytes, &len, err);
	DsocrLoadDone done;

	if (state != DSOCR_LOAD_PENDING)
	{
		set_state(l, b, i, state, err->message);
		return DSOCR_LOAD_OK;
	}
	done = dsocr_load_db_put(l->db, b->names[i], bytes, len, err);
	dsocr_free(bytes);
	if (done == DSOCR_LOAD_OK)
	{
		set_state(l, b, i, DSOCR_LOAD_LOADED, NULL);
		b->bytes += (int64_t) len;
	}
	else if (done == DSOCR_LOAD_CONFLICT)
	{
		set_state(l, b, i, DSOCR_LOAD_THERE, NULL);
		done = DSOCR_LOAD_OK;
	}
	return done;
}

/* All rows in a transaction; REFUSED: none of them is there. */
static DsocrLoadDone
load_together(DsocrLoad *l, Batch *b, DsocrError *err)
{
	DsocrLoadDone done = dsocr_load_db_begin(l->db, err);

	for (int i = 0; i < b->n && done == DSOCR_LOAD_OK; i++)
	{
		if (dsocr_load_stop != 0 || b->bytes >= l->batch_bytes)
			b->n = i;
		else if (b->states[i] == DSOCR_LOAD_PENDING)
			done = put(l, b, i, err);
		show_loading(l, b->at + (size_t) i, b->bytes);
	}
	if (done == DSOCR_LOAD_OK)
		return dsocr_load_db_commit(l->db, err);
	if (done == DSOCR_LOAD_REFUSED && dsocr_load_db_rollback(l->db, err) != DSOCR_LOAD_OK)
		done = DSOCR_LOAD_LOST;
	return done;
}

/* The server refused one of them, or all together: find out which. */
static DsocrLoadDone
load_singly(DsocrLoad *l, Batch *b, DsocrError *err)
{
	DsocrLoadDone done = DSOCR_LOAD_OK;

	b->bytes = 0;
	for (int i = 0; i < b->n && done == DSOCR_LOAD_OK; i++)
	{
		if (b->states[i] == DSOCR_LOAD_LOADED)
			b->states[i] = DSOCR_LOAD_PENDING;
		if (b->states[i] != DSOCR_LOAD_PENDING)
			continue;
		if (dsocr_load_stop != 0)
		{
			/* those behind it were not committed */
			b->n = i;
			break;
		}
		done = put(l, b, i, err);
		if (done != DSOCR_LOAD_REFUSED)
		{
			l->refused = 0;
			continue;
		}
		set_state(l, b, i, DSOCR_LOAD_FAILED, err->message);
		if (++l->refused < MAX_REFUSED_IN_A_ROW)
			done = DSOCR_LOAD_OK;
		else
			dsocr_fail(err, DSOCR_E_IO, "%d rows in a row were refused", l->refused);
	}
	return done;
}

/* A name that the database cannot have; told of when its turn comes. */
static void
give_up_name(Batch *b, int i)
{
	b->states[i] = DSOCR_LOAD_FAILED;
	b->names[i][0] = '\0';
}

static bool
is_utf8(const char *name)
{
	size_t len = strlen(name);
	int32_t code = 0;

	for (size_t at = 0; at < len && code >= 0;)
		at += dsocr_utf8_next(name + at, len - at, &code);
	return code >= 0;
}

/* Which of them are there?  One bad name must not spoil the question for all. */
static DsocrLoadDone
find_known(DsocrLoad *l, Batch *b, DsocrError *err)
{
	const char *const *names = (const char *const *) b->names;
	DsocrLoadDone done;

	for (int i = 0; i < b->n; i++)
	{
		if (!is_utf8(b->names[i]))
			give_up_name(b, i);
	}
	done = dsocr_load_db_known(l->db, names, b->states, b->n, err);
	for (int i = 0, all = done; all == DSOCR_LOAD_REFUSED && i < b->n; i++)
	{
		done = dsocr_load_db_known(l->db, names + i, b->states + i, 1, err);
		if (done == DSOCR_LOAD_LOST)
			break;
		if (done == DSOCR_LOAD_REFUSED)
			give_up_name(b, i);
		done = DSOCR_LOAD_OK;
	}
	return done;
}

static bool
load_batch(DsocrLoad *l, Batch *b, DsocrError *err)
{
	DsocrLoadDone done;

	if (find_known(l, b, err) != DSOCR_LOAD_OK)
		return false;
	done = load_together(l, b, err);
	if (done == DSOCR_LOAD_REFUSED)
		done = load_singly(l, b, err);
	if (done != DSOCR_LOAD_OK)
		return false;
	for (int i = 0; i < b->n; i++)
	{
		if (b->names[i][0] == '\0')
			dsocr_load_tell(l, DSOCR_LOAD_FAILED, b->files[i].path,
							"the database cannot have its name");
		/* tell counted the others */
		if (b->states[i] == DSOCR_LOAD_LOADED || b->states[i] == DSOCR_LOAD_THERE)
			l->counts[b->states[i]]++;
		l->seen_bytes += b->files[i].bytes;
	}
	l->loaded_bytes += b->bytes;
	return true;
}

static bool
take_names(const DsocrLoad *l, Batch *b, DsocrError *err)
{
	for (int i = 0; i < b->n; i++)
	{
		DsocrBuffer name = {0};

		if (!dsocr_buffer_printf(&name, err, "%s%s", l->prefix, b->files[i].name))
			return false;
		b->names[i] = name.data;
	}
	return true;
}

bool
dsocr_load_all(DsocrLoad *l, DsocrError *err)
{
	Batch *b = dsocr_zalloc(1, sizeof(*b), err);
	char **names = dsocr_zalloc((size_t) l->batch_rows, sizeof(*names), err);
	bool ok = b != NULL && names != NULL;

	l->started_us = dsocr_now_us();
	for (size_t at = 0; ok && at < l->files.n && dsocr_load_stop == 0; at += (size_t) b->n)
	{
		size_t rest = l->files.n - at;
		int n = rest < (size_t) l->batch_rows ? (int) rest : (int) l->batch_rows;

		*b = (Batch){.at = at, .files = l->files.files + at, .n = n, .names = names};
		ok = take_names(l, b, err) && load_batch(l, b, err);
		for (int i = 0; i < n; i++)
		{
			DsocrBuffer name = {.data = names[i]};

			dsocr_buffer_free(&name);
			names[i] = NULL;
		}
		if (ok)
			show_loading(l, at + (size_t) b->n, 0);
	}
	dsocr_free(names);
	dsocr_free(b);
	return ok;
}
