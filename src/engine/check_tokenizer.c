/*-------------------------------------------------------------------------
 *
 * check_tokenizer.c
 *		Ids, texts and prompts against those of the official tokenizer.
 *
 * Everything must be equal.
 *
 *-------------------------------------------------------------------------
 */
#include "check.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "prompt.h"
#include "tokenizer.h"

#define MAX_CASES_BYTES ((size_t) 1 << 30)
#define BOS_TOKEN "<｜begin▁of▁sentence｜>"

typedef struct TokenizerCheck
{
	DsocrCheck *check;
	const DsocrTokenizer *tokenizer;
	const char *dir;
	char name[64]; /* of the case: "cases.jsonl:12" */
} TokenizerCheck;

/* One JSON value of a file of the folder. */
typedef void (*CaseHandler)(TokenizerCheck *t, json_t *entry);

static bool
equal_ids(const json_t *expected, const int32_t *ids, size_t n)
{
	if (json_array_size(expected) != n)
		return false;
	for (size_t i = 0; i < n; i++)
	{
		if (json_integer_value(json_array_get(expected, i)) != ids[i])
			return false;
	}
	return true;
}

/* The ids of a list; NULL without memory or when it is no list of ids. */
static int32_t *
read_ids(const json_t *list, size_t *n)
{
	int32_t *ids = dsocr_alloc(json_array_size(list), sizeof(*ids), NULL);

	*n = json_array_size(list);
	for (size_t i = 0; ids != NULL && i < *n; i++)
	{
		const json_t *id = json_array_get(list, i);

		if (!json_is_integer(id))
		{
			dsocr_free(ids);
			return NULL;
		}
		ids[i] = (int32_t) json_integer_value(id);
	}
	return ids;
}

/* Encode a case's text and compare; bos is put in front unless it is negative. */
static void
compare_encoding(TokenizerCheck *t, const json_t *entry, int32_t bos)
{
	const json_t *text = json_object_get(entry, "text");
	const json_t *expected = json_object_get(entry, "ids");
	DsocrError err = {0};
	int32_t *ids = NULL;
	size_t n = 0;
	bool ok = json_is_string(text) && json_is_array(expected);

	if (ok)
		ok = dsocr_tokenizer_encode(t->tokenizer, json_string_value(text), json_string_length(text),
									&ids, &n, &err);
	if (ok && bos >= 0)
	{
		int32_t *with_bos = dsocr_alloc(n + 1, sizeof(*with_bos), &err);

		ok = with_bos != NULL;
		if (ok)
		{
			with_bos[0] = bos;
			memcpy(with_bos + 1, ids, n * sizeof(*ids));
			n++;
		}
		dsocr_free(ids);
		ids = with_bos;
	}
	dsocr_check(t->check, ok && equal_ids(expected, ids, n), t->name,
				"encoding: %zu ids, expected %zu %s", n, json_array_size(expected), err.message);
	dsocr_free(ids);
}

static void
compare_decoding(TokenizerCheck *t, const int32_t *ids, size_t n, bool skip_special,
				 const json_t *expected)
{
	DsocrBuffer bytes = {0};
	DsocrBuffer text = {0};
	DsocrError err = {0};
	bool ok = ids != NULL && json_is_string(expected) &&
			  dsocr_tokenizer_decode(t->tokenizer, ids, n, skip_special, &bytes, &err) &&
			  dsocr_utf8_repair(bytes.data, bytes.len, &text, NULL, &err);

	dsocr_check(t->check,
				ok && text.len == json_string_length(expected) &&
					memcmp(text.data, json_string_value(expected), text.len) == 0,
				t->name, "decoding of %zu ids%s: %zu bytes, expected %zu %s", n,
				skip_special ? " without special tokens" : "", text.len,
				json_string_length(expected), err.message);
	dsocr_buffer_free(&bytes);
	dsocr_buffer_free(&text);
}

static void
check_text(TokenizerCheck *t, json_t *entry)
{
	const json_t *decoded = json_object_get(entry, "decoded");
	const json_t *skipped = json_object_get(entry, "decoded_skip_special");
	size_t n;
	int32_t *ids = read_ids(json_object_get(entry, "ids"), &n);

	compare_encoding(t, entry, -1);
	compare_decoding(t, ids, n, false, decoded);
	compare_decoding(t, ids, n, true, skipped != NULL ? skipped : decoded);
	dsocr_free(ids);
}

static void
check_stream(TokenizerCheck *t, json_t *entry)
{
	const json_t *texts = json_object_get(entry, "texts");
	size_t n;
	int32_t *ids = read_ids(json_object_get(entry, "ids"), &n);

	dsocr_check(t->check, ids != NULL && n == json_array_size(texts), t->name,
				"%zu ids but %zu texts", n, json_array_size(texts));
	for (size_t k = 0; ids != NULL && k < n && k < json_array_size(texts); k++)
		compare_decoding(t, ids, k + 1, false, json_array_get(texts, k));
	dsocr_free(ids);
}

static void
check_with_bos(TokenizerCheck *t, json_t *entry)
{
	compare_encoding(t, entry, dsocr_tokenizer_id(t->tokenizer, BOS_TOKEN));
}

static void
check_prompt(TokenizerCheck *t, json_t *entry)
{
	const json_t *prompt = json_object_get(entry, "prompt");
	const json_t *formatted = json_object_get(entry, "formatted");
	const json_t *expected = json_object_get(entry, "input_ids");
	int image_tokens = (int) json_integer_value(json_object_get(entry, "num_image_tokens"));
	int32_t image_id = dsocr_tokenizer_id(t->tokenizer, DSOCR_IMAGE_MARK);
	int32_t bos_id = dsocr_tokenizer_id(t->tokenizer, BOS_TOKEN);
	DsocrError err = {0};
	int32_t *ids = NULL;
	size_t n = 0, image_at = 0, from, to;
	bool ok;

	if (!dsocr_check(t->check, json_is_string(prompt) && json_is_string(formatted), t->name,
					 "no prompt"))
		return;
	dsocr_utf8_strip(json_string_value(prompt), json_string_length(prompt), &from, &to);
	dsocr_check(
		t->check,
		to - from == json_string_length(formatted) &&
			memcmp(json_string_value(prompt) + from, json_string_value(formatted), to - from) == 0,
		t->name, "formatted prompt has %zu bytes, expected %zu", to - from,
		json_string_length(formatted));

	ok = dsocr_prompt_build(t->tokenizer, json_string_value(prompt), true, image_tokens, image_id,
							bos_id, &ids, &n, &image_at, &err);
	dsocr_check(t->check, ok && equal_ids(expected, ids, n), t->name,
				"input: %zu ids, expected %zu %s", n, json_array_size(expected), err.message);
	if (ok)
		dsocr_check(
			t->check,
			image_at + (size_t) image_tokens <= n &&
				(image_tokens == 0 || (ids[image_at] == image_id && ids[image_at - 1] != image_id)),
			t->name, "image at %zu", image_at);
	dsocr_free(ids);
}

/* Run the handler over a JSON list, or over the lines of a .jsonl file. */
static void
check_file(TokenizerCheck *t, const char *file, CaseHandler handler)
{
	bool lines = strstr(file, ".jsonl") != NULL;
	char path[PATH_MAX];
	DsocrBuffer text = {0};
	DsocrError err = {0};
	json_t *list = NULL;
	size_t at = 0;
	int n = 0;

	snprintf(path, sizeof(path), "%s/%s", t->dir, file);
	if (!dsocr_check(t->check, dsocr_read_file(path, MAX_CASES_BYTES, &text, &err), file, "%s",
					 err.message))
		return;
	if (!lines)
		list = json_loadb(text.data, text.len, JSON_ALLOW_NUL, NULL);
	for (;;)
	{
		json_t *entry;

		if (lines)
		{
			const char *end;

			if (at >= text.len)
				break;
			end = memchr(text.data + at, '\n', text.len - at);
			if (end == NULL)
				end = text.data + text.len;
			entry =
				json_loadb(text.data + at, (size_t) (end - text.data) - at, JSON_ALLOW_NUL, NULL);
			at = (size_t) (end - text.data) + 1;
		}
		else
		{
			if ((size_t) n >= json_array_size(list))
				break;
			entry = json_incref(json_array_get(list, (size_t) n));
		}
		n++;
		snprintf(t->name, sizeof(t->name), "%s:%d", file, n);
		if (dsocr_check(t->check, json_is_object(entry), t->name, "not a JSON object"))
			handler(t, entry);
		json_decref(entry);
	}
	dsocr_check(t->check, n > 0, file, "no cases");
	json_decref(list);
	dsocr_buffer_free(&text);
}

/* The folder's own tokenizer, the one that was named, or that of the reference files. */
static DsocrTokenizer *
open_tokenizer(const DsocrCheck *c, const char *dir, DsocrError *err)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/tokenizer.json", dir);
	if (access(path, F_OK) == 0)
		return dsocr_tokenizer_open(path, err);
	if (c->tokenizer != NULL)
		return dsocr_tokenizer_open(c->tokenizer, err);
	snprintf(path, sizeof(path), "%s/../../reference/deepseek-ocr/tokenizer.json", dir);
	return dsocr_tokenizer_open(path, err);
}

void
dsocr_check_tokenizer(DsocrCheck *c, const char *dir)
{
	static const struct
	{
		const char *file;
		CaseHandler handler;
	} files[] = {
		{"cases.jsonl", check_text},
		{"stream.jsonl", check_stream},
		{"with_bos.json", check_with_bos},
		{"prompts.json", check_prompt},
	};
	DsocrError err = {0};
	DsocrTokenizer *tokenizer = open_tokenizer(c, dir, &err);
	TokenizerCheck t = {.check = c, .tokenizer = tokenizer, .dir = dir};

	if (!dsocr_check(c, tokenizer != NULL, "tokenizer", "%s", err.message))
		return;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		check_file(&t, files[i].file, files[i].handler);
	dsocr_tokenizer_close(tokenizer);
}
