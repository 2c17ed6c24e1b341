/*-------------------------------------------------------------------------
 *
 * runner_text.c
 *		What a job gave, as values for tables.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner_text.h"

#include "catalog/namespace.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "access/relation.h"
#include "encoding.h"
#include "layout.h"
#include "answer.h"
#include "page_status.h"

static Datum
answer_of(const DsocrRunnerJob *job, DsocrAnswerForm form, FunctionCallInfo fcinfo)
{
	DsocrAnswer *answer = dsocr_answer_create(form, NULL);
	Datum value;

	for (int i = 0; i < job->n_pages; i++)
		dsocr_answer_add(answer, &job->pages[i], job->document_pages);
	value = dsocr_answer_datum(answer, fcinfo);
	dsocr_answer_delete(answer);
	return value;
}

Datum
dsocr_job_text(const DsocrRunnerJob *job)
{
	return answer_of(job, job->plain ? DSOCR_ANSWER_RAW : DSOCR_ANSWER_MARKDOWN, NULL);
}

Datum
dsocr_job_layout(const DsocrRunnerJob *job)
{
	return answer_of(job, DSOCR_ANSWER_LAYOUT, NULL);
}

/* The function dsocr_wait of the extension, which returns a dsocr_result. */
static Oid
result_function(void)
{
	Oid types[] = {INT8OID, INTERVALOID};
	Relation queue = relation_open(
		get_relname_relid("job_queue", get_namespace_oid("dsocr", false)), AccessShareLock);
	Oid schema = InvalidOid;

	/* The trigger of the queue lies where all functions lie. */
	for (int i = 0; queue->trigdesc != NULL && i < queue->trigdesc->numtriggers; i++)
	{
		if (strcmp(queue->trigdesc->triggers[i].tgname, "dsocr_job_queued") == 0)
			schema = get_func_namespace(queue->trigdesc->triggers[i].tgfoid);
	}
	relation_close(queue, NoLock);
	if (!OidIsValid(schema))
		elog(ERROR, "trigger dsocr_job_queued of dsocr.job_queue is missing");
	return LookupFuncName(
		list_make2(makeString(get_namespace_name(schema)), makeString("dsocr_wait")), 2, types,
		false);
}

Oid
dsocr_job_result_type(void)
{
	return get_func_rettype(result_function());
}

Datum
dsocr_job_result(const DsocrRunnerJob *job)
{
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo function;

	fmgr_info(result_function(), &function);
	InitFunctionCallInfoData(*fcinfo, &function, 2, InvalidOid, NULL, NULL);
	return answer_of(job, DSOCR_ANSWER_RESULT, fcinfo);
}

Datum
dsocr_job_page_text(const DsocrRunnerJob *job, const DsocrPage *page)
{
	char *text = page->result.raw;

	if (!job->plain)
		text =
			dsocr_layout_link_images(page->result.markdown, page->number, job->document_pages > 1);
	return CStringGetTextDatum(dsocr_encoding_to_server(text, NULL));
}

Datum
dsocr_job_page_layout(const DsocrPage *page)
{
	return JsonbPGetDatum(dsocr_layout_page(page, NULL));
}

double
dsocr_job_page_confidence(const DsocrPage *page)
{
	return page->status.code == DSOCR_OK ? dsocr_layout_confidence(&page->result) : -1;
}

const char *
dsocr_job_page_status(const DsocrPage *page)
{
	return dsocr_page_status(page);
}
