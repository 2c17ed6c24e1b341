/*-------------------------------------------------------------------------
 *
 * check_decode.c
 *		No-repeat n-gram rules against the official processors.
 *
 * ngram.jsonl: one sequence a line, with the ids that each rule forbids next;
 * hf rules are named by their size, vllm rules by size and window.
 *
 *-------------------------------------------------------------------------
 */
#include "check.h"
#include "sampling.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define MAX_FILE_BYTES ((size_t) 256 << 20)
#define MAX_WHITELIST 64

typedef struct NgramRules
{
	int32_t whitelist[MAX_WHITELIST];
	int n_whitelist;
} NgramRules;

/* The whitelist that the vllm rules were run with. */
static bool
read_rules(const char *dir, NgramRules *rules)
{
	char path[4096];
	json_t *root;
	const json_t *list;
	size_t n;

	snprintf(path, sizeof(path), "%s/ngram.json", dir);
	root = json_load_file(path, 0, NULL);
	list = json_object_get(root, "whitelist");
	n = json_array_size(list);
	if (n <= MAX_WHITELIST)
		for (size_t i = 0; i < n; i++)
			rules->whitelist[rules->n_whitelist++] =
				(int32_t) json_integer_value(json_array_get(list, i));
	json_decref(root);
	return n > 0 && n <= MAX_WHITELIST;
}

static bool
same_ids(const DsocrBanList *bans, const json_t *expected)
{
	if ((size_t) bans->n != json_array_size(expected))
		return false;
	for (int i = 0; i < bans->n; i++)
		if (json_integer_value(json_array_get(expected, (size_t) i)) != bans->ids[i])
			return false;
	return true;
}

/* All rules of one kind on one sequence. */
static void
check_rules(DsocrCheck *c, const char *what, json_t *expected, bool window_rules,
			const int32_t *ids, int n, int prompt_len, const NgramRules *rules)
{
	const char *name;
	json_t *value;

	json_object_foreach (expected, name, value)
	{
		DsocrBanList bans = {0};
		int size = 0;
		int window = 0;
		int fields = sscanf(name, "%d_%d", &size, &window);
		bool ok = fields == (window_rules ? 2 : 1) &&
				  dsocr_ngram_bans(ids, n, prompt_len, size, window, rules->whitelist,
								   rules->n_whitelist, &bans, NULL) &&
				  same_ids(&bans, value);

		dsocr_check(c, ok, what, "%s %s forbids %d ids, expected %zu", window_rules ? "vllm" : "hf",
					name, bans.n, json_array_size(value));
		dsocr_free(bans.ids);
	}
}

static void
check_line(DsocrCheck *c, const char *what, const char *line, size_t len, const NgramRules *rules)
{
	json_t *root = json_loadb(line, len, 0, NULL);
	const json_t *list = json_object_get(root, "ids");
	size_t n = json_array_size(list);
	int32_t *ids = dsocr_alloc(n, sizeof(*ids), NULL);
	int prompt_len = (int) json_integer_value(json_object_get(root, "prompt_len"));

	if (dsocr_check(c, ids != NULL && prompt_len >= 0 && (size_t) prompt_len <= n, what,
					"line cannot be read"))
	{
		for (size_t i = 0; i < n; i++)
			ids[i] = (int32_t) json_integer_value(json_array_get(list, i));
		check_rules(c, what, json_object_get(root, "hf"), false, ids, (int) n, prompt_len, rules);
		check_rules(c, what, json_object_get(root, "vllm"), true, ids, (int) n, prompt_len, rules);
	}
	dsocr_free(ids);
	json_decref(root);
}

void
dsocr_check_decode(DsocrCheck *c, const char *dir)
{
	NgramRules rules = {.n_whitelist = 0};
	DsocrBuffer file = {0};
	DsocrError err = {0};
	char path[4096];
	int number = 0;

	snprintf(path, sizeof(path), "%s/ngram.jsonl", dir);
	if (dsocr_check(c, read_rules(dir, &rules), dir, "ngram.json has no whitelist") &&
		dsocr_check(c, dsocr_read_file(path, MAX_FILE_BYTES, &file, &err), dir, "%s", err.message))
		for (size_t at = 0; at < file.len;)
		{
			const char *end = memchr(file.data + at, '\n', file.len - at);
			size_t len = end != NULL ? (size_t) (end - file.data) - at : file.len - at;
			char what[64];

			snprintf(what, sizeof(what), "ngram line %d", ++number);
			if (len > 0)
				check_line(c, what, file.data + at, len, &rules);
			at += len + 1;
		}
	dsocr_buffer_free(&file);
}
