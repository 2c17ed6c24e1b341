/*-------------------------------------------------------------------------
 *
 * runner_kept.c
 *		Answers that were kept, for jobs that remote workers would read.
 *
 * Remote workers take from the cache but put nothing into it: its answers are
 * for all roles of all databases, and what a worker says of a document only
 * counts for the job that it was asked for.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner_frames.h"

#include "cache.h"
#include "engine/protocol.h"
#include "result.h"
#include "roles.h"
#include "stats.h"

static void *
get_kept(const DsocrCacheKey *key, Size *len, char *model)
{
	void *body = dsocr_cache_get(key, len, model);

	if (body != NULL)
		return body;
	body = dsocr_cache_table_get(key, len, model);
	if (body != NULL)
		dsocr_cache_put(key, body, *len, model);
	return body;
}

/* Could there be any?  Documents are not hashed for nothing where only workers read. */
static bool
may_be_kept(const char *fingerprint, const char *model)
{
	DsocrCacheStatus status;

	/* an answer of another model would not be what this worker gives */
	if (!dsocr_cache_is_on() || !dsocr_cache_is_of(fingerprint, model))
		return false;
	dsocr_cache_status(&status);
	return status.entries > 0 || dsocr_cache_table;
}

static bool
find_key(DsocrRunnerJob *job, DsocrCacheKey *key)
{
	const void *bytes = VARDATA_ANY(DatumGetPointer(job->document));
	Size len = VARSIZE_ANY_EXHDR(DatumGetPointer(job->document));
	uint8 digest[DSOCR_DIGEST_BYTES];
	DsocrReadOptions options;
	DsocrRequest request;

	dsocr_runner_job_options(job, &options);
	request = dsocr_job_read_request(job, &options);
	return dsocr_cache_digest(bytes, len, digest) && dsocr_cache_key(&request, digest, 0, key);
}

bool
dsocr_job_find_kept(DsocrRunnerJob *job, const char *fingerprint, const char *model)
{
	DsocrPage page = {.number = 1, .cached = true};
	char name[DSOCR_CACHE_MODEL_BYTES];
	DsocrCacheKey key;
	DsocrError err = {0};
	void *body;
	Size len;
	bool ok;

	if (!may_be_kept(fingerprint, model) || !find_key(job, &key) ||
		(body = get_kept(&key, &len, name)) == NULL)
		return false;
	ok = dsocr_parse_result(body, len, &page.status, &page.result, &err);
	pfree(body);
	if (!ok || page.status.code != DSOCR_OK)
		return false;
	memset(&page.result.timings, 0, sizeof(page.result.timings));
	strlcpy(page.model, name, sizeof(page.model));
	dsocr_runner_keep_page(job, &page);
	job->document_pages = 1;
	dsocr_stats_cached();
	dsocr_role_count_cached(job->role);
	return true;
}
