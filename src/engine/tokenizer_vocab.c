/*-------------------------------------------------------------------------
 *
 * tokenizer_vocab.c
 *		Vocabulary and merge rules of a byte-level BPE: read, and looked up.
 *
 *-------------------------------------------------------------------------
 */
#include "tokenizer_bpe.h"
#include "tokenizer_bytes.h"

#include <string.h>

static uint32_t
hash_token(const char *token, size_t len)
{
	uint64_t h = 0xcbf29ce484222325;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char) token[i]) * 0x100000001b3;
	return (uint32_t) (h ^ h >> 32);
}

static uint32_t
hash_pair(int32_t left, int32_t right)
{
	uint64_t h = ((uint64_t) (uint32_t) left << 32 | (uint32_t) right) * 0x9e3779b97f4a7c15;

	return (uint32_t) (h >> 32);
}

/* A power of two that leaves at least half of a table of n entries free. */
static uint32_t
table_size(size_t n)
{
	uint32_t size = 16;

	while (size < 2 * n)
		size *= 2;
	return size;
}

int32_t
dsocr_bpe_find(const DsocrBpe *b, const char *token, size_t len)
{
	for (uint32_t i = hash_token(token, len) & b->slot_mask;; i = (i + 1) & b->slot_mask)
	{
		int32_t id = b->slots[i];

		if (id < 0)
			return -1;
		if ((size_t) b->length[id] == len && memcmp(b->pool + b->start[id], token, len) == 0)
			return id;
	}
}

const DsocrMerge *
dsocr_bpe_find_merge(const DsocrBpe *b, int32_t left, int32_t right)
{
	for (uint32_t i = hash_pair(left, right) & b->merge_mask;; i = (i + 1) & b->merge_mask)
	{
		const DsocrMerge *m = &b->merges[i];

		if (m->left < 0)
			return NULL;
		if (m->left == left && m->right == right)
			return m;
	}
}

static bool
read_vocabulary(DsocrBpe *b, json_t *vocab, DsocrError *err)
{
	const char *token;
	json_t *value;
	size_t pool_size = 0;
	size_t used = 0;

	if (!json_is_object(vocab) || json_object_size(vocab) == 0)
		return dsocr_fail(err, DSOCR_E_MODEL, "no vocabulary");
	json_object_foreach (vocab, token, value)
	{
		json_int_t id = json_integer_value(value);

		if (!json_is_integer(value) || id < 0 || id > DSOCR_MAX_TOKEN_ID)
			return dsocr_fail(err, DSOCR_E_MODEL, "vocabulary has an entry without a valid id");
		if (id >= b->size)
			b->size = (int32_t) id + 1;
		pool_size += strlen(token);
	}
	if (pool_size > UINT32_MAX)
		return dsocr_fail(err, DSOCR_E_MODEL, "vocabulary is too large");

	b->slot_mask = table_size(json_object_size(vocab)) - 1;
	b->pool = dsocr_alloc(pool_size, 1, err);
	b->start = dsocr_alloc((size_t) b->size, sizeof(*b->start), err);
	b->length = dsocr_alloc((size_t) b->size, sizeof(*b->length), err);
	b->slots = dsocr_alloc((size_t) b->slot_mask + 1, sizeof(*b->slots), err);
	if (b->pool == NULL || b->start == NULL || b->length == NULL || b->slots == NULL)
		return false;
	memset(b->length, -1, (size_t) b->size * sizeof(*b->length));
	memset(b->slots, -1, ((size_t) b->slot_mask + 1) * sizeof(*b->slots));

	json_object_foreach (vocab, token, value)
	{
		int32_t id = (int32_t) json_integer_value(value);
		size_t len = strlen(token);
		uint32_t i = hash_token(token, len) & b->slot_mask;

		if (b->length[id] >= 0)
			return dsocr_fail(err, DSOCR_E_MODEL, "vocabulary has two tokens with id %d", (int) id);
		memcpy(b->pool + used, token, len);
		b->start[id] = (uint32_t) used;
		b->length[id] = (int32_t) len;
		used += len;
		b->n++;
		while (b->slots[i] >= 0)
			i = (i + 1) & b->slot_mask;
		b->slots[i] = id;
	}
	for (int byte = 0; byte < 256; byte++)
	{
		char text[2];
		size_t len = dsocr_bpe_spell_byte(byte, text);

		b->byte_ids[byte] = dsocr_bpe_find(b, text, len);
	}
	return true;
}

/* "a b" or ["a", "b"]; the two parts point into the JSON. */
static bool
split_merge(json_t *entry, const char **left, size_t *left_len, const char **right,
			size_t *right_len)
{
	if (json_is_string(entry))
	{
		const char *space = strchr(json_string_value(entry), ' ');

		if (space == NULL || strchr(space + 1, ' ') != NULL)
			return false;
		*left = json_string_value(entry);
		*left_len = (size_t) (space - *left);
		*right = space + 1;
		*right_len = strlen(*right);
		return true;
	}
	*left = json_string_value(json_array_get(entry, 0));
	*right = json_string_value(json_array_get(entry, 1));
	if (json_array_size(entry) != 2 || *left == NULL || *right == NULL)
		return false;
	*left_len = strlen(*left);
	*right_len = strlen(*right);
	return true;
}

/* A pair given twice keeps its last rank. */
static void
add_merge(DsocrBpe *b, int32_t left, int32_t right, int32_t rank, int32_t merged)
{
	uint32_t i = hash_pair(left, right) & b->merge_mask;

	while (b->merges[i].left >= 0 && (b->merges[i].left != left || b->merges[i].right != right))
		i = (i + 1) & b->merge_mask;
	b->merges[i] = (DsocrMerge){left, right, rank, merged};
}

static bool
read_merges(DsocrBpe *b, json_t *merges, DsocrError *err)
{
	DsocrBuffer joined = {0};
	size_t index;
	json_t *entry;
	int32_t rank = 0;
	bool ok = true;

	if (!json_is_array(merges) || json_array_size(merges) > DSOCR_MAX_TOKEN_ID)
		return dsocr_fail(err, DSOCR_E_MODEL, "no list of merges");
	b->merge_mask = table_size(json_array_size(merges)) - 1;
	b->merges = dsocr_alloc((size_t) b->merge_mask + 1, sizeof(*b->merges), err);
	if (b->merges == NULL)
		return false;
	memset(b->merges, -1, ((size_t) b->merge_mask + 1) * sizeof(*b->merges));

	json_array_foreach (merges, index, entry)
	{
		const char *left, *right;
		size_t left_len, right_len;
		int32_t left_id, right_id, merged = -1;

		if (json_is_string(entry) && strncmp(json_string_value(entry), "#version", 8) == 0)
			continue;
		if (!split_merge(entry, &left, &left_len, &right, &right_len))
		{
			ok = dsocr_fail(err, DSOCR_E_MODEL, "merge %zu is not a pair", index);
			break;
		}
		joined.len = 0;
		ok = dsocr_buffer_append(&joined, left, left_len, err) &&
			 dsocr_buffer_append(&joined, right, right_len, err);
		if (!ok)
			break;
		left_id = dsocr_bpe_find(b, left, left_len);
		right_id = dsocr_bpe_find(b, right, right_len);
		if (left_id >= 0 && right_id >= 0)
			merged = dsocr_bpe_find(b, joined.data, joined.len);
		if (merged < 0)
		{
			ok = dsocr_fail(err, DSOCR_E_MODEL, "merge %zu has a token outside the vocabulary",
							index);
			break;
		}
		add_merge(b, left_id, right_id, rank++, merged);
	}
	dsocr_buffer_free(&joined);
	return ok;
}

/* Absent, null, false, 0 or an empty string. */
static bool
is_unset(json_t *value)
{
	return value == NULL || json_is_null(value) || json_is_false(value) ||
		   (json_is_number(value) && json_number_value(value) == 0) ||
		   (json_is_string(value) && json_string_length(value) == 0);
}

bool
dsocr_bpe_read(DsocrBpe *b, json_t *model, DsocrError *err)
{
	static const char *const unsupported[] = {"dropout", "unk_token", "continuing_subword_prefix",
											  "end_of_word_suffix", "byte_fallback"};
	const char *type = json_string_value(json_object_get(model, "type"));

	memset(b, 0, sizeof(*b));
	if (type == NULL || strcmp(type, "BPE") != 0)
		return dsocr_fail(err, DSOCR_E_MODEL, "model is not of type BPE");
	for (size_t i = 0; i < sizeof(unsupported) / sizeof(unsupported[0]); i++)
	{
		if (!is_unset(json_object_get(model, unsupported[i])))
			return dsocr_fail(err, DSOCR_E_MODEL, "%s of the BPE model is not supported",
							  unsupported[i]);
	}
	b->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
	if (!read_vocabulary(b, json_object_get(model, "vocab"), err) ||
		!read_merges(b, json_object_get(model, "merges"), err))
	{
		dsocr_bpe_free(b);
		return false;
	}
	return true;
}

void
dsocr_bpe_free(DsocrBpe *b)
{
	dsocr_free(b->pool);
	dsocr_free(b->start);
	dsocr_free(b->length);
	dsocr_free(b->slots);
	dsocr_free(b->merges);
	memset(b, 0, sizeof(*b));
}
