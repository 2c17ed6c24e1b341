/*-------------------------------------------------------------------------
 *
 * job_check.c
 *		May a request be served?  Its arguments, before anything is done.
 *
 *-------------------------------------------------------------------------
 */
#include "job.h"

#include "prompt.h"

#include <string.h>

/*
 * More bytes than any prompt of words that fits the context.  Tokens are
 * counted between steps, so a longer text would cost everybody time.
 */
#define MAX_PROMPT_BYTES ((size_t) 65536)

static int
count(const char *text, const char *what)
{
	int n = 0;

	for (const char *p = strstr(text, what); p != NULL; p = strstr(p + strlen(what), what))
		n++;
	return n;
}

/*
 * What LOCATE looks for must stay text: a tokenizer recognises its special
 * tokens anywhere, so text that contains one could rewrite the prompt.
 */
static bool
check_sought(const char *what, const DsocrModel *m, DsocrError *err)
{
	DsocrBuffer with = {0};
	DsocrBuffer without = {0};
	int32_t *ids = NULL;
	size_t n = 0;
	bool plain = strstr(what, DSOCR_IMAGE_MARK) == NULL && strstr(what, "<|") == NULL;
	bool ok = dsocr_tokenizer_encode(m->tokenizer, what, strlen(what), &ids, &n, err) &&
			  dsocr_tokenizer_decode(m->tokenizer, ids, n, false, &with, err) &&
			  dsocr_tokenizer_decode(m->tokenizer, ids, n, true, &without, err);

	plain = plain && with.len == without.len;
	dsocr_free(ids);
	dsocr_buffer_free(&with);
	dsocr_buffer_free(&without);
	if (!ok)
		return false;
	if (!plain)
	{
		dsocr_fail(err, DSOCR_E_ARGUMENT, "text to locate contains a special token of the model");
		return dsocr_hint(err, "Give plain words as they stand in the image.");
	}
	return true;
}

static bool
check_prompt(const DsocrRequest *r, const DsocrModel *m, DsocrError *err)
{
	if (r->task != DSOCR_TASK_GENERATE && r->task != DSOCR_TASK_LOCATE)
		return true;
	if (r->prompt == NULL || r->prompt[0] == '\0')
		return dsocr_fail(err, DSOCR_E_ARGUMENT,
						  r->task == DSOCR_TASK_LOCATE ? "text to locate is empty"
													   : "prompt is empty");
	if (strlen(r->prompt) > MAX_PROMPT_BYTES)
	{
		dsocr_fail(err, DSOCR_E_TOO_LONG, "prompt is longer than %zu bytes", MAX_PROMPT_BYTES);
		return dsocr_hint(err, "Use a shorter prompt.");
	}
	if (r->task == DSOCR_TASK_LOCATE)
		return check_sought(r->prompt, m, err);
	if (count(r->prompt, DSOCR_IMAGE_MARK) != 1)
	{
		dsocr_fail(err, DSOCR_E_ARGUMENT, "prompt has " DSOCR_IMAGE_MARK " %d times, not once",
				   count(r->prompt, DSOCR_IMAGE_MARK));
		return dsocr_hint(err, "Write " DSOCR_IMAGE_MARK
							   " once, where the image belongs: usually at the beginning.");
	}
	return true;
}

bool
dsocr_job_check(const DsocrRequest *r, const DsocrModel *m, DsocrError *err)
{
	if (r->kind != DSOCR_READ && r->kind != DSOCR_PROBE)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "request kind %d is unknown", (int) r->kind);
	if ((int) r->task < 0 || r->task >= DSOCR_N_TASKS)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "task %d is unknown", (int) r->task);
	if ((int) r->mode < 0 || r->mode > DSOCR_MODE_CUSTOM)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "mode %d is unknown", (int) r->mode);
	if (r->priority != DSOCR_INTERACTIVE && r->priority != DSOCR_BULK)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "priority %d is unknown", (int) r->priority);
	if (r->max_tokens < 0)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "max_tokens is %d, less than 0", r->max_tokens);
	if (r->ngram_size < 0 || r->ngram_window < 0)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "n-gram size and window are %d and %d",
						  r->ngram_size, r->ngram_window);
	if (r->kind == DSOCR_PROBE)
		return true;
	return check_prompt(r, m, err);
}
