/*-------------------------------------------------------------------------
 *
 * runner_frames.c
 *		Jobs of remote workers as frames: what is asked, and what is answered.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner_frames.h"

#include "engine/protocol.h"
#include "result.h"

#define MAX_ANSWER ((Size) 64 << 20) /* bytes of frames that come together */

/* ---- what is asked ---- */

/* The head of a request, and its prompt. */
static bytea *
frame_of(const DsocrRequest *r)
{
	Size prompt = r->prompt == NULL ? 0 : strlen(r->prompt);
	DsocrBuffer out = {0};
	DsocrError err = {0};
	bytea *frame;

	if (!dsocr_frame_request_head(&out, r, &err))
	{
		dsocr_buffer_free(&out);
		dsocr_error_report(ERROR, &err);
	}
	frame = palloc(VARHDRSZ + out.len + prompt);
	memcpy(VARDATA(frame), out.data, out.len);
	if (prompt > 0)
		memcpy(VARDATA(frame) + out.len, r->prompt, prompt);
	SET_VARSIZE(frame, VARHDRSZ + out.len + prompt);
	dsocr_buffer_free(&out);
	return frame;
}

DsocrRequest
dsocr_job_read_request(const DsocrRunnerJob *job, const DsocrReadOptions *o)
{
	return (DsocrRequest){.id = (uint64) job->id,
						  .kind = DSOCR_READ,
						  .task = o->task,
						  .priority = o->priority,
						  .mode = o->mode,
						  .max_tokens = o->max_tokens,
						  .ngram_size = dsocr_ngram_size,
						  .ngram_window = dsocr_ngram_window,
						  .max_pixels = dsocr_max_pixels,
						  .auto_rotate = o->auto_rotate,
						  .ladder = o->mode == DSOCR_MODE_AUTO && !o->max_tokens,
						  .prompt = o->prompt};
}

bytea *
dsocr_job_request(DsocrRunnerJob *job)
{
	DsocrReadOptions o;
	DsocrRequest r;

	dsocr_runner_job_options(job, &o);
	if (job->of_pages)
	{
		r = (DsocrRequest){.id = (uint64) job->id,
						   .kind = DSOCR_DOCUMENT,
						   .priority = o.priority,
						   .max_pixels = dsocr_max_pixels,
						   .dpi = o.dpi,
						   .max_pages = dsocr_max_pages,
						   .prompt = o.password};
		job->first_page = Max(o.first_page, 1);
		job->last_page = o.last_page;
	}
	else
		r = dsocr_job_read_request(job, &o);
	r.image_len = VARSIZE_ANY_EXHDR(DatumGetPointer(job->document));
	return frame_of(&r);
}

bytea *
dsocr_job_page_request(DsocrRunnerJob *job)
{
	DsocrReadOptions o;
	DsocrRequest r;

	dsocr_runner_job_options(job, &o);
	r = dsocr_job_read_request(job, &o);
	return frame_of(&r);
}

/* ---- what is answered ---- */

static void
refuse(const DsocrError *err)
{
	ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("the worker's answer is malformed"),
					err->message[0] ? errdetail_internal("%s", err->message) : 0));
}

/* The frame of a result of this job at the beginning of size bytes: its own size. */
static Size
check_frame(const DsocrRunnerJob *job, const char *bytes, Size size)
{
	DsocrFrameHeader header;
	DsocrError err = {0};

	if (size < sizeof(header))
		refuse(&err);
	memcpy(&header, bytes, sizeof(header));
	if (!dsocr_frame_check(&header, &err) || header.type != DSOCR_FRAME_RESULT ||
		header.length > size - sizeof(header) || header.id != (uint64) job->id)
		refuse(&err);
	return sizeof(header) + header.length;
}

/* The result belongs to the caller. */
static void
parse_frame(const char *bytes, Size size, DsocrError *status, DsocrResult *result)
{
	DsocrError err = {0};

	memset(result, 0, sizeof(*result));
	if (!dsocr_parse_result(bytes + sizeof(DsocrFrameHeader), size - sizeof(DsocrFrameHeader),
							status, result, &err))
		refuse(&err);
}

void
dsocr_job_take_pages(DsocrRunnerJob *job, const char *model, int first, bytea *answers, Size *held,
					 Size most)
{
	const char *bytes = VARDATA_ANY(answers);
	Size left = VARSIZE_ANY_EXHDR(answers);
	int64 next = (int64) job->first_page + job->n_pages;
	DsocrError err = {0};

	if (!job->of_pages || first != next || left == 0 || left > MAX_ANSWER)
	{
		dsocr_fail(&err, DSOCR_E_ARGUMENT, "these are not its next pages");
		refuse(&err);
	}
	while (left > 0)
	{
		DsocrPage page = {.number = (int32) next++};
		Size size;

		if (next > (int64) job->last_page + 1 || job->n_pages >= dsocr_max_pages)
		{
			dsocr_fail(&err, DSOCR_E_ARGUMENT, "page %d was not asked for", page.number);
			refuse(&err);
		}
		size = check_frame(job, bytes, left);
		if (*held + size + sizeof(page) > most)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("pages of the worker's jobs take too much memory")));
		parse_frame(bytes, size, &page.status, &page.result);
		strlcpy(page.model, page.status.code == DSOCR_OK ? model : "", sizeof(page.model));
		dsocr_runner_keep_page(job, &page);
		job->bytes += size + sizeof(page);
		*held += size + sizeof(page);
		bytes += size;
		left -= size;
	}
}

/* What an earlier try to write has left. */
static void
clear_answer(DsocrRunnerJob *job)
{
	if (!job->of_pages)
	{
		for (int i = 0; i < job->n_pages; i++)
			dsocr_result_free(&job->pages[i].result);
		job->n_pages = 0;
	}
	job->error = NULL;
	job->status = (DsocrError){0};
	job->dropped = job->final = job->blameless = job->lost_engine = false;
}

static void
fail(DsocrRunnerJob *job, const DsocrError *why)
{
	dsocr_runner_blame(job, why);
	job->error = MemoryContextStrdup(job->context, why->message);
	strlcpy(job->sqlstate, unpack_sql_state(dsocr_error_sqlstate(why->code)),
			sizeof(job->sqlstate));
}

/* The document has so many pages, says the worker: then these are the ones that we have. */
static void
end_pages(DsocrRunnerJob *job, int pages)
{
	const DsocrError *failure;
	DsocrError err = {0};

	if (pages < 1 || pages > dsocr_max_pages ||
		job->n_pages != Max(0, (int64) Min(job->last_page, pages) - job->first_page + 1))
	{
		dsocr_fail(&err, DSOCR_E_ARGUMENT, "a document of %d pages does not have %d of these",
				   pages, job->n_pages);
		refuse(&err);
	}
	job->document_pages = pages;
	failure = dsocr_runner_failure_of_pages(job);
	if (failure != NULL)
		fail(job, failure);
}

void
dsocr_job_take_answer(DsocrRunnerJob *job, const char *model, bytea *answer)
{
	const char *bytes = VARDATA_ANY(answer);
	Size size = VARSIZE_ANY_EXHDR(answer);
	DsocrPage page = {.number = 1};
	DsocrError none = {0};

	clear_answer(job);
	if (size > MAX_ANSWER || check_frame(job, bytes, size) != size)
		refuse(&none);
	parse_frame(bytes, size, &page.status, &page.result);
	if (page.status.code != DSOCR_OK)
		fail(job, &page.status);
	else if (job->of_pages)
	{
		int pages = page.result.pages;

		dsocr_result_free(&page.result);
		end_pages(job, pages);
	}
	else
	{
		strlcpy(page.model, model, sizeof(page.model));
		dsocr_runner_keep_page(job, &page);
		job->document_pages = 1;
	}
}
