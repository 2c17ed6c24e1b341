/*-------------------------------------------------------------------------
 *
 * runner_frames.h
 *		Jobs of remote workers as frames: what is asked, and what is answered.
 *
 * A job whose document is one image is one request to an engine, and its
 * answer is the engine's.  One of several pages is a request to a page server,
 * and one to an engine for each page: the answers of its pages come in order,
 * some at a time, and then that of the page server says how many there are.
 * All that a worker says is checked here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_RUNNER_FRAMES_H
#define DSOCR_RUNNER_FRAMES_H

#include "engine/request.h"
#include "runner.h"

/* What an engine is asked, without image and page. */
extern DsocrRequest dsocr_job_read_request(const DsocrRunnerJob *job,
										   const DsocrReadOptions *options);

/* The frame up to the document: for an engine, or a page server if the job is of pages. */
extern bytea *dsocr_job_request(DsocrRunnerJob *job);

/* What an engine is asked for each of its pages, without image and page. */
extern bytea *dsocr_job_page_request(DsocrRunnerJob *job);

/*
 * Frames of so many pages as there are, the first of which has this number;
 * their bytes are added to those of the job and to *held, at most up to most.
 * Raises an error at the first that is wrong, and has taken those before it.
 */
extern void dsocr_job_take_pages(DsocrRunnerJob *job, const char *model, int first, bytea *answers,
								 Size *held, Size most);

/* How it ended: its result, or why there is none.  May come again, should writing fail. */
extern void dsocr_job_take_answer(DsocrRunnerJob *job, const char *model, bytea *answer);

/* ---- runner_kept.c ---- */

/* The only page of a job that is not of pages, if its answer was kept and is of this model. */
extern bool dsocr_job_find_kept(DsocrRunnerJob *job, const char *fingerprint, const char *model);

#endif /* DSOCR_RUNNER_FRAMES_H */
