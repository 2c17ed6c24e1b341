/*-------------------------------------------------------------------------
 *
 * tokenizer.c
 *		Byte-level BPE from a Hugging Face tokenizer.json, exact.
 *
 * Text to ids: added tokens are cut out, the rest is cut into words by the
 * patterns, each word is merged on its own.  A tokenizer that wants anything
 * else is refused when it is opened.
 *
 *-------------------------------------------------------------------------
 */
#include "tokenizer.h"
#include "added_tokens.h"
#include "pretokenize.h"
#include "tokenizer_bpe.h"
#include "tokenizer_bytes.h"

#include <jansson.h>
#include <string.h>

#define MAX_TOKENIZER_BYTES ((size_t) 1 << 28)
#define MAX_TEXT_BYTES ((size_t) 1 << 28)

struct DsocrTokenizer
{
	DsocrBpe bpe;
	DsocrAddedTokens added;
	DsocrPretokenizer pretokenizer;
};

typedef struct Encoding
{
	const DsocrTokenizer *t;
	DsocrBpeWork work;
	DsocrIds ids;
} Encoding;

static bool
is_null(json_t *root, const char *key)
{
	json_t *value = json_object_get(root, key);

	return value == NULL || json_is_null(value);
}

/* The parts that must be there in one form, or not at all. */
static bool
check_pipeline(json_t *root, DsocrError *err)
{
	json_t *normalizer = json_object_get(root, "normalizer");
	const char *decoder =
		json_string_value(json_object_get(json_object_get(root, "decoder"), "type"));

	if (!is_null(root, "truncation") || !is_null(root, "padding"))
		return dsocr_fail(err, DSOCR_E_MODEL, "truncation and padding are not supported");
	if (normalizer != NULL && !json_is_null(normalizer))
	{
		const char *type = json_string_value(json_object_get(normalizer, "type"));
		json_t *steps = json_object_get(normalizer, "normalizers");

		if (type == NULL || strcmp(type, "Sequence") != 0 || !json_is_array(steps) ||
			json_array_size(steps) != 0)
			return dsocr_fail(err, DSOCR_E_MODEL, "a normalizer is not supported");
	}
	if (decoder == NULL || strcmp(decoder, "ByteLevel") != 0)
		return dsocr_fail(err, DSOCR_E_MODEL, "decoder is not ByteLevel");
	return true;
}

/* An added token that is also in the vocabulary has the same id in both. */
static bool
check_added(const DsocrTokenizer *t, DsocrError *err)
{
	for (int32_t i = 0; i < t->added.n; i++)
	{
		const DsocrAddedToken *a = &t->added.tokens[i];
		int32_t id = dsocr_bpe_find(&t->bpe, a->content, a->len);
		bool taken = a->id < t->bpe.size && t->bpe.length[a->id] >= 0;

		if (id >= 0 ? id != a->id : taken)
			return dsocr_fail(err, DSOCR_E_MODEL, "added token %d contradicts the vocabulary",
							  (int) a->id);
	}
	return true;
}

static json_t *
read_json(const char *path, DsocrError *err)
{
	DsocrBuffer text = {0};
	json_error_t error;
	json_t *root = NULL;

	if (dsocr_read_file(path, MAX_TOKENIZER_BYTES, &text, err))
	{
		root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &error);
		if (root == NULL && json_error_code(&error) == json_error_out_of_memory)
			dsocr_fail(err, DSOCR_E_MEMORY, "out of memory");
		else if (root == NULL)
			dsocr_fail(err, DSOCR_E_MODEL, "not valid JSON in line %d", error.line);
		else if (!json_is_object(root))
		{
			json_decref(root);
			root = NULL;
			dsocr_fail(err, DSOCR_E_MODEL, "not a JSON object");
		}
	}
	else if (err != NULL && err->code == DSOCR_E_IO)
		err->code = DSOCR_E_MODEL;
	dsocr_buffer_free(&text);
	return root;
}

DsocrTokenizer *
dsocr_tokenizer_open(const char *path, DsocrError *err)
{
	DsocrError reason = {0};
	DsocrTokenizer *t = dsocr_zalloc(1, sizeof(*t), err);
	json_t *root;
	bool ok;

	if (t == NULL)
		return NULL;
	root = read_json(path, &reason);
	ok = root != NULL && check_pipeline(root, &reason) &&
		 dsocr_bpe_read(&t->bpe, json_object_get(root, "model"), &reason) &&
		 dsocr_added_read(&t->added, json_object_get(root, "added_tokens"), &reason) &&
		 dsocr_pretokenizer_read(&t->pretokenizer, json_object_get(root, "pre_tokenizer"),
								 &reason) &&
		 check_added(t, &reason);
	json_decref(root);
	if (!ok)
	{
		dsocr_tokenizer_close(t);
		dsocr_fail(err, reason.code, "tokenizer \"%.100s\": %s", path, reason.message);
		return NULL;
	}
	return t;
}

void
dsocr_tokenizer_close(DsocrTokenizer *t)
{
	if (t == NULL)
		return;
	dsocr_bpe_free(&t->bpe);
	dsocr_added_free(&t->added);
	dsocr_pretokenizer_free(&t->pretokenizer);
	dsocr_free(t);
}

static bool
encode_word(void *arg, const char *word, size_t len, DsocrError *err)
{
	Encoding *e = arg;

	return dsocr_bpe_encode(&e->t->bpe, word, len, &e->work, &e->ids, err);
}

/* What is left after all added tokens are cut out. */
static bool
encode_inner_piece(void *arg, const char *text, size_t len, int32_t id, DsocrError *err)
{
	Encoding *e = arg;

	if (id >= 0)
		return dsocr_ids_append(&e->ids, id, err);
	return dsocr_pretokenizer_split(&e->t->pretokenizer, text, len, encode_word, e, err);
}

/* What is left after the tokens that are not normalized are cut out. */
static bool
encode_outer_piece(void *arg, const char *text, size_t len, int32_t id, DsocrError *err)
{
	Encoding *e = arg;

	if (id >= 0)
		return dsocr_ids_append(&e->ids, id, err);
	return dsocr_added_split(&e->t->added, true, text, len, encode_inner_piece, e, err);
}

bool
dsocr_tokenizer_encode(const DsocrTokenizer *t, const char *text, size_t len, int32_t **ids,
					   size_t *n, DsocrError *err)
{
	Encoding e = {.t = t};
	DsocrBuffer valid = {0};
	bool ok;

	*ids = NULL;
	*n = 0;
	if (len > MAX_TEXT_BYTES)
		return dsocr_fail(err, DSOCR_E_TOO_LONG, "text of %zu bytes is longer than %zu", len,
						  MAX_TEXT_BYTES);
	ok = dsocr_utf8_repair(text, len, &valid, NULL, err) &&
		 dsocr_added_split(&t->added, false, valid.data, valid.len, encode_outer_piece, &e, err) &&
		 /* the list is never NULL, even when it is empty */
		 dsocr_ids_reserve(&e.ids, 1, err);
	dsocr_buffer_free(&valid);
	dsocr_bpe_work_free(&e.work);
	if (!ok)
	{
		dsocr_free(e.ids.ids);
		return false;
	}
	*ids = e.ids.ids;
	*n = e.ids.n;
	return true;
}

bool
dsocr_tokenizer_decode(const DsocrTokenizer *t, const int32_t *ids, size_t n, bool skip_special,
					   DsocrBuffer *out, DsocrError *err)
{
	for (size_t i = 0; i < n; i++)
	{
		const DsocrAddedToken *added = dsocr_added_by_id(&t->added, ids[i]);
		bool ok = true;

		if (added != NULL)
		{
			if (!added->special || !skip_special)
				ok = dsocr_bpe_spell_bytes(added->content, added->len, out, err);
		}
		else if (ids[i] >= 0 && ids[i] < t->bpe.size && t->bpe.length[ids[i]] >= 0)
			ok = dsocr_bpe_spell_bytes(t->bpe.pool + t->bpe.start[ids[i]],
									   (size_t) t->bpe.length[ids[i]], out, err);
		if (!ok)
			return false;
	}
	return dsocr_buffer_append(out, "", 0, err);
}

int32_t
dsocr_tokenizer_id(const DsocrTokenizer *t, const char *content)
{
	const DsocrAddedToken *added = dsocr_added_by_content(&t->added, content);

	return added != NULL ? added->id : dsocr_bpe_find(&t->bpe, content, strlen(content));
}

int32_t
dsocr_tokenizer_size(const DsocrTokenizer *t)
{
	int32_t size = t->bpe.size;

	if (t->added.n > 0 && t->added.tokens[t->added.n - 1].id >= size)
		size = t->added.tokens[t->added.n - 1].id + 1;
	return size;
}
