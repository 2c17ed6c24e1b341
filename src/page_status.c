/*-------------------------------------------------------------------------
 *
 * page_status.c
 *		What became of a page: as a word, a comment and jsonb.
 *
 *-------------------------------------------------------------------------
 */
#include "page_status.h"

#include "encoding.h"
#include "layout.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

const char *const dsocr_ending_names[] = {"stop", "length", "loop", "error"};

const char *
dsocr_page_status(const DsocrPage *page)
{
	switch (page->status.code)
	{
		case DSOCR_OK:
			break;
		case DSOCR_E_IMAGE:
			return "undecodable";
		case DSOCR_E_TOO_LONG:
		case DSOCR_E_ARGUMENT:
		case DSOCR_E_MEMORY:
			return "refused";
		default:
			return "engine_error";
	}
	switch (page->result.finish)
	{
		case DSOCR_FINISH_STOP:
			return "ok";
		case DSOCR_FINISH_LENGTH:
			return "length";
		case DSOCR_FINISH_LOOP:
			break;
	}
	return "loop_cut";
}

char *
dsocr_page_placeholder(const DsocrPage *page)
{
	char *reason = dsocr_encoding_to_server(pstrdup(page->status.message), NULL);
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, "<!-- page %d: %s: ", page->number, dsocr_page_status(page));
	for (const char *p = reason; *p != '\0'; p++)
	{
		/* two hyphens would end the comment */
		appendStringInfoChar(&out, *p);
		if (p[0] == '-' && p[1] == '-')
			appendStringInfoChar(&out, ' ');
	}
	appendStringInfoString(&out, " -->");
	return out.data;
}

DsocrEnding
dsocr_page_ending(const DsocrPage *page)
{
	if (page->status.code != DSOCR_OK)
		return DSOCR_ENDED_ERROR;
	switch (page->result.finish)
	{
		case DSOCR_FINISH_STOP:
			return DSOCR_ENDED_STOP;
		case DSOCR_FINISH_LENGTH:
			return DSOCR_ENDED_LENGTH;
		case DSOCR_FINISH_LOOP:
			break;
	}
	return DSOCR_ENDED_LOOP;
}

static const char *
finish_name(DsocrFinish finish)
{
	switch (finish)
	{
		case DSOCR_FINISH_STOP:
			break;
		case DSOCR_FINISH_LENGTH:
			return dsocr_ending_names[DSOCR_ENDED_LENGTH];
		case DSOCR_FINISH_LOOP:
			return dsocr_ending_names[DSOCR_ENDED_LOOP];
	}
	return dsocr_ending_names[DSOCR_ENDED_STOP];
}

static void
json_mode(JsonbParseState **state, DsocrMode mode)
{
	if (mode >= 0 && mode < DSOCR_N_MODES)
		dsocr_json_text(state, "mode", (char *) dsocr_mode_names[mode]);
}

static void
json_attempts(JsonbParseState **state, const DsocrResult *r)
{
	dsocr_json_key(state, "attempts");
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < r->n_attempts; i++)
	{
		pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
		json_mode(state, r->attempts[i].mode);
		dsocr_json_text(state, "finish_reason", (char *) finish_name(r->attempts[i].finish));
		dsocr_json_int(state, "text_tokens", r->attempts[i].text_tokens);
		pushJsonbValue(state, WJB_END_OBJECT, NULL);
	}
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

static void
json_result(JsonbParseState **state, const DsocrResult *r)
{
	dsocr_json_int(state, "width", r->width);
	dsocr_json_int(state, "height", r->height);
	dsocr_json_int(state, "rotation", r->rotation);
	dsocr_json_number(state, "skew", r->skew);
	json_mode(state, r->mode);
	dsocr_json_text(state, "grid", psprintf("%dx%d", r->grid_columns, r->grid_rows));
	dsocr_json_int(state, "views", r->views);
	dsocr_json_int(state, "image_tokens", r->image_tokens);
	dsocr_json_int(state, "valid_image_tokens", r->valid_image_tokens);
	dsocr_json_int(state, "prompt_tokens", r->prompt_tokens);
	dsocr_json_int(state, "text_tokens", r->text_tokens);
	dsocr_json_text(state, "finish_reason", (char *) finish_name(r->finish));
	if (dsocr_layout_confidence(r) >= 0)
		dsocr_json_number(state, "confidence", dsocr_layout_confidence(r));
	json_attempts(state, r);
	dsocr_json_key(state, "timings");
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	dsocr_json_ms(state, "queued", r->timings.queued);
	dsocr_json_ms(state, "preprocess", r->timings.preprocess);
	dsocr_json_ms(state, "encode", r->timings.encode);
	dsocr_json_ms(state, "prefill", r->timings.prefill);
	dsocr_json_ms(state, "decode", r->timings.decode);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

Jsonb *
dsocr_page_jsonb(const DsocrPage *page)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	dsocr_json_int(&state, "page", page->number);
	dsocr_json_text(&state, "status", (char *) dsocr_page_status(page));
	if (page->status.code == DSOCR_OK)
		json_result(&state, &page->result);
	else
	{
		dsocr_json_text(&state, "error",
						dsocr_encoding_to_server(pstrdup(page->status.message), NULL));
		dsocr_json_text(&state, "sqlstate",
						pstrdup(unpack_sql_state(dsocr_error_sqlstate(page->status.code))));
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
