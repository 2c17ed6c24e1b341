/*-------------------------------------------------------------------------
 *
 * config_override.c
 *		dsocr.json: modes and prompts that a small model was trained for.
 *
 *-------------------------------------------------------------------------
 */
#include "config_json.h"

#include <string.h>

#define MAX_PROMPT_BYTES 65536

static int
count_of(const char *text, const char *what)
{
	int n = 0;

	while ((text = strstr(text, what)) != NULL)
	{
		n++;
		text += strlen(what);
	}
	return n;
}

static bool
read_prompt(const DsocrConfigFile *r, int task, json_t *value, DsocrConfig *c)
{
	const char *text = json_string_value(value);
	bool has_argument = task == DSOCR_TASK_LOCATE || task == DSOCR_TASK_GENERATE;
	char *copy;

	if (text == NULL || strlen(text) > MAX_PROMPT_BYTES)
		return dsocr_config_fail(r, "prompt of %s is not a text of at most %d bytes",
								 dsocr_task_names[task], MAX_PROMPT_BYTES);
	if (has_argument && count_of(text, "%s") != 1)
		return dsocr_config_fail(r, "prompt of %s does not have exactly one %%s",
								 dsocr_task_names[task]);
	if (task != DSOCR_TASK_GENERATE && count_of(text, "<image>") != 1)
		return dsocr_config_fail(r, "prompt of %s does not have exactly one <image>",
								 dsocr_task_names[task]);
	copy = dsocr_strdup(text, r->err);
	if (copy == NULL)
		return false;
	dsocr_free(c->prompts[task]);
	c->prompts[task] = copy;
	return true;
}

/* A mode by its name; DSOCR_N_MODES if it is none. */
static int
mode_named(json_t *value)
{
	const char *name = json_string_value(value);
	int m = DSOCR_MODE_AUTO;

	while (m < DSOCR_N_MODES && (name == NULL || strcmp(name, dsocr_mode_names[m]) != 0))
		m++;
	return m;
}

/* The modes that the model was trained for; the one it is configured for is among them. */
static bool
read_modes(const DsocrConfigFile *r, json_t *modes, DsocrConfig *c)
{
	size_t i;
	json_t *value;
	char text[48];

	if (modes == NULL)
		return true;
	if (!json_is_array(modes) || json_array_size(modes) == 0)
		return dsocr_config_fail(r, "modes is not a list of names");
	c->modes = 0;
	json_array_foreach (modes, i, value)
	{
		int m = mode_named(value);
		const char *name = json_string_value(value);

		if (m == DSOCR_N_MODES || m == DSOCR_MODE_AUTO)
			return dsocr_config_fail(r, "modes has \"%s\", which is none",
									 dsocr_config_printable(name != NULL ? name : "", text));
		c->modes |= 1U << m;
	}
	if ((c->modes >> c->auto_mode & 1) == 0)
		return dsocr_config_fail(r, "modes lacks the mode of the model, %s",
								 dsocr_mode_names[c->auto_mode]);
	return true;
}

bool
dsocr_config_override(const DsocrConfigFile *r, DsocrConfig *c)
{
	json_t *mode = dsocr_config_get(r->root, "mode");
	json_t *prompts = dsocr_config_get(r->root, "prompts");
	const char *key;
	json_t *value;
	char text[48];

	if (mode != NULL)
	{
		const char *name = json_string_value(mode);
		int m = mode_named(mode);

		if (m == DSOCR_N_MODES)
			return dsocr_config_fail(r, "mode is \"%s\", which is none",
									 dsocr_config_printable(name != NULL ? name : "", text));
		if (m != DSOCR_MODE_AUTO)
			c->auto_mode = (DsocrMode) m;
	}
	if (!read_modes(r, dsocr_config_get(r->root, "modes"), c))
		return false;
	if (prompts != NULL && !json_is_object(prompts))
		return dsocr_config_fail(r, "prompts is not an object");
	json_object_foreach (prompts, key, value)
	{
		int task = 0;

		while (task < DSOCR_N_TASKS && strcmp(key, dsocr_task_names[task]) != 0)
			task++;
		if (task == DSOCR_N_TASKS)
			return dsocr_config_fail(r, "prompts has \"%s\", which is no task",
									 dsocr_config_printable(key, text));
		if (!read_prompt(r, task, value, c))
			return false;
	}
	return true;
}
