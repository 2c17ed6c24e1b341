/*-------------------------------------------------------------------------
 *
 * runner_options.c
 *		Read options as a job or an attachment has them: jsonb.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "runner.h"

#include "read.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

char *
dsocr_json_option(const Jsonb *json, const char *name)
{
	JsonbValue v;

	if (json == NULL || getKeyJsonValueFromContainer((JsonbContainer *) &json->root, name,
													 strlen(name), &v) == NULL)
		return NULL;
	switch (v.type)
	{
		case jbvString:
			return pnstrdup(v.val.string.val, v.val.string.len);
		case jbvNumeric:
			return DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));
		case jbvBool:
			return pstrdup(v.val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

static void
number_option(const Jsonb *json, const char *name, int32 *value)
{
	char *text = dsocr_json_option(json, name);

	if (text != NULL)
		*value = atoi(text);
}

void
dsocr_runner_read_options(const Jsonb *json, DsocrReadOptions *options)
{
	char *mode = dsocr_json_option(json, "mode");
	char *prompt = dsocr_json_option(json, "prompt");
	char *task = dsocr_json_option(json, "task");

	for (int i = 0; mode != NULL && i < DSOCR_N_MODES; i++)
	{
		if (strcmp(mode, dsocr_mode_names[i]) == 0)
			options->mode = (DsocrMode) i;
	}
	for (int i = 0; task != NULL && i < DSOCR_TASK_LOCATE; i++)
	{
		if (strcmp(task, dsocr_task_names[i]) == 0)
			options->task = (DsocrTask) i;
	}
	number_option(json, "max_tokens", &options->max_tokens);
	number_option(json, "dpi", &options->dpi);
	number_option(json, "first_page", &options->first_page);
	number_option(json, "last_page", &options->last_page);
	options->password = dsocr_json_option(json, "password");
	if (prompt != NULL)
	{
		options->task = DSOCR_TASK_GENERATE;
		options->prompt = prompt;
	}
}
