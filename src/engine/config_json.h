/*-------------------------------------------------------------------------
 *
 * config_json.h
 *		A JSON file of a model folder, read with checks of each value.
 *
 * For config.c and config_override.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CONFIG_JSON_H
#define DSOCR_CONFIG_JSON_H

#include "config.h"

#include <jansson.h>
#include <stddef.h>

/* The file being read. */
typedef struct DsocrConfigFile
{
	const char *dir;
	const char *file;
	json_t *root;
	DsocrError *err;
} DsocrConfigFile;

typedef struct DsocrIntField
{
	const char *key;
	size_t offset; /* of an int in DsocrConfig */
	int min;
	int max;
} DsocrIntField;

/* Read DIR/NAME as a JSON object; r->root stays NULL when it may be missing and is. */
extern bool dsocr_config_load(DsocrConfigFile *r, bool optional);

/* Refuse the file; false. */
extern bool dsocr_config_fail(const DsocrConfigFile *r, const char *fmt, ...) DSOCR_PRINTF(2, 3);

/* A string from the file, fit for a message. */
extern const char *dsocr_config_printable(const char *s, char text[48]);

/* NULL for a missing key and for null. */
extern json_t *dsocr_config_get(json_t *object, const char *key);

/* where names the object for messages. */
extern bool dsocr_config_int(const DsocrConfigFile *r, json_t *value, const char *where,
							 const DsocrIntField *field, DsocrConfig *config);
extern bool dsocr_config_ints(const DsocrConfigFile *r, json_t *object, const char *where,
							  const DsocrIntField *fields, int n, bool optional,
							  DsocrConfig *config);

/* ---- config_override.c ---- */

/* dsocr.json: what a small model was trained for. */
extern bool dsocr_config_override(const DsocrConfigFile *r, DsocrConfig *c);

#endif /* DSOCR_CONFIG_JSON_H */
