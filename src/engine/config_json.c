/*-------------------------------------------------------------------------
 *
 * config_json.c
 *		A JSON file of a model folder, read with checks of each value.
 *
 *-------------------------------------------------------------------------
 */
#include "config_json.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define MAX_CONFIG_BYTES ((size_t) 1 << 24)

bool
dsocr_config_fail(const DsocrConfigFile *r, const char *fmt, ...)
{
	va_list ap;
	char reason[160];

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	return dsocr_fail(r->err, DSOCR_E_MODEL, "model folder \"%.80s\": %s: %s", r->dir, r->file,
					  reason);
}

const char *
dsocr_config_printable(const char *s, char text[48])
{
	size_t n = 0;

	for (; s[n] != '\0' && n < 47; n++)
		text[n] = s[n] >= ' ' && s[n] < 127 ? s[n] : '?';
	text[n] = '\0';
	return text;
}

json_t *
dsocr_config_get(json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	return json_is_null(value) ? NULL : value;
}

bool
dsocr_config_int(const DsocrConfigFile *r, json_t *value, const char *where,
				 const DsocrIntField *field, DsocrConfig *config)
{
	json_int_t v = json_integer_value(value);

	if (!json_is_integer(value))
		return dsocr_config_fail(r, "%s%s is %s", where, field->key,
								 value == NULL ? "missing" : "not an integer");
	if (v < field->min || v > field->max)
		return dsocr_config_fail(r, "%s%s is %lld, must be %d to %d", where, field->key,
								 (long long) v, field->min, field->max);
	*(int *) ((char *) config + field->offset) = (int) v;
	return true;
}

bool
dsocr_config_ints(const DsocrConfigFile *r, json_t *object, const char *where,
				  const DsocrIntField *fields, int n, bool optional, DsocrConfig *config)
{
	for (int i = 0; i < n; i++)
	{
		json_t *value = dsocr_config_get(object, fields[i].key);

		if (value == NULL && optional)
			continue;
		if (!dsocr_config_int(r, value, where, &fields[i], config))
			return false;
	}
	return true;
}

bool
dsocr_config_load(DsocrConfigFile *r, bool optional)
{
	DsocrBuffer path = {0};
	DsocrBuffer text = {0};
	json_error_t error;
	bool ok;

	r->root = NULL;
	ok = dsocr_buffer_printf(&path, r->err, "%s/%s", r->dir, r->file);
	if (ok && access(path.data, F_OK) != 0)
	{
		dsocr_buffer_free(&path);
		return optional || dsocr_config_fail(r, "no such file");
	}
	if (ok)
	{
		ok = dsocr_read_file(path.data, MAX_CONFIG_BYTES, &text, r->err);
		if (!ok && r->err != NULL && r->err->code == DSOCR_E_IO)
			r->err->code = DSOCR_E_MODEL;
	}
	if (ok)
	{
		r->root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &error);
		if (r->root == NULL && json_error_code(&error) == json_error_out_of_memory)
			ok = dsocr_fail(r->err, DSOCR_E_MEMORY, "out of memory for %s", r->file);
		else if (r->root == NULL)
		{
			char shown[48];

			ok = dsocr_config_fail(r, "line %d: %s", error.line,
								   dsocr_config_printable(error.text, shown));
		}
		else if (!json_is_object(r->root))
		{
			json_decref(r->root);
			r->root = NULL;
			ok = dsocr_config_fail(r, "not a JSON object");
		}
	}
	dsocr_buffer_free(&path);
	dsocr_buffer_free(&text);
	return ok;
}
