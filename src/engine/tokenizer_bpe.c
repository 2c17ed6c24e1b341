/*-------------------------------------------------------------------------
 *
 * tokenizer_bpe.c
 *		Vocabulary and merge rules of a byte-level BPE.
 *
 * The order of merges is that of the Hugging Face library: of all adjacent
 * pairs the one of lowest rank, the leftmost of these; an entry of the queue
 * is stale when the pair now standing at its place gives another token.
 *
 *-------------------------------------------------------------------------
 */
#include "tokenizer_bpe.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

/* A piece of the word; next and previous are indexes, -1 at the ends. */
typedef struct DsocrBpeSymbol
{
	int32_t id; /* -1: merged into its left neighbour */
	int32_t previous;
	int32_t next;
} DsocrBpeSymbol;

typedef struct DsocrBpeCandidate
{
	int32_t rank;
	int32_t place; /* symbol on the left of the pair */
	int32_t merged;
} DsocrBpeCandidate;

/*
 * Bytes to characters: printable bytes stand for themselves, the others for
 * U+0100 and up in ascending order.
 */
static bool
is_printable_byte(int b)
{
	return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
}

static int
byte_to_code(int byte)
{
	int rank = 0;

	if (is_printable_byte(byte))
		return byte;
	for (int b = 0; b < byte; b++)
		rank += !is_printable_byte(b);
	return 0x100 + rank;
}

/* -1 for a character that stands for no byte */
static int
code_to_byte(int32_t code)
{
	if (code < 0x100)
		return code >= 0 && is_printable_byte(code) ? (int) code : -1;
	if (code <= 0x120)
		return code - 0x100; /* 0 .. 32 */
	if (code <= 0x142)
		return code - 0x121 + 0x7f; /* 127 .. 160 */
	return code == 0x143 ? 0xad : -1;
}

/* The UTF-8 of a byte's character; 1 or 2 bytes. */
static size_t
spell_byte(int byte, char text[2])
{
	int code = byte_to_code(byte);

	if (code < 0x80)
	{
		text[0] = (char) code;
		return 1;
	}
	text[0] = (char) (0xc0 | code >> 6);
	text[1] = (char) (0x80 | (code & 0x3f));
	return 2;
}

bool
dsocr_bpe_spell_bytes(const char *token, size_t len, DsocrBuffer *out, DsocrError *err)
{
	size_t before = out->len;

	for (size_t i = 0; i < len;)
	{
		int32_t code;
		size_t n = dsocr_utf8_next(token + i, len - i, &code);
		int byte = code_to_byte(code);
		char c = (char) byte;

		if (byte < 0)
		{
			out->len = before;
			return dsocr_buffer_append(out, token, len, err);
		}
		if (!dsocr_buffer_append(out, &c, 1, err))
			return false;
		i += n;
	}
	return true;
}

bool
dsocr_ids_reserve(DsocrIds *list, size_t more, DsocrError *err)
{
	size_t need, cap;
	int32_t *ids;

	if (!dsocr_add(list->n, more, &need))
		return dsocr_fail(err, DSOCR_E_MEMORY, "out of memory for a list of ids");
	if (need <= list->cap)
		return true;
	cap = list->cap + list->cap / 2;
	if (cap < need)
		cap = need;
	if (cap < 64)
		cap = 64;
	ids = dsocr_alloc(cap, sizeof(*ids), err);
	if (ids == NULL)
		return false;
	if (list->n > 0)
		memcpy(ids, list->ids, list->n * sizeof(*ids));
	dsocr_free(list->ids);
	list->ids = ids;
	list->cap = cap;
	return true;
}

bool
dsocr_ids_append(DsocrIds *list, int32_t id, DsocrError *err)
{
	if (!dsocr_ids_reserve(list, 1, err))
		return false;
	list->ids[list->n++] = id;
	return true;
}

void
dsocr_bpe_work_free(DsocrBpeWork *w)
{
	dsocr_free(w->symbols);
	dsocr_free(w->heap);
	dsocr_buffer_free(&w->spelled);
	memset(w, 0, sizeof(*w));
}

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

static const DsocrMerge *
find_merge(const DsocrBpe *b, int32_t left, int32_t right)
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
		size_t len = spell_byte(byte, text);

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

/* Is a merged before b?  Lowest rank first, then leftmost. */
static bool
comes_before(const DsocrBpeCandidate *a, const DsocrBpeCandidate *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->place < b->place;
}

static void
heap_push(DsocrBpeCandidate *heap, size_t *n, DsocrBpeCandidate c)
{
	size_t i = (*n)++;

	while (i > 0 && comes_before(&c, &heap[(i - 1) / 2]))
	{
		heap[i] = heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap[i] = c;
}

static DsocrBpeCandidate
heap_pop(DsocrBpeCandidate *heap, size_t *n)
{
	DsocrBpeCandidate top = heap[0];
	DsocrBpeCandidate last = heap[--*n];
	size_t i = 0;

	for (;;)
	{
		size_t child = 2 * i + 1;

		if (child >= *n)
			break;
		if (child + 1 < *n && comes_before(&heap[child + 1], &heap[child]))
			child++;
		if (!comes_before(&heap[child], &last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return top;
}

/* Queue the pair of symbol place and its right neighbour if it can merge. */
static void
consider(const DsocrBpe *b, DsocrBpeWork *w, size_t *heap_n, int32_t place)
{
	const DsocrBpeSymbol *s = &w->symbols[place];
	const DsocrMerge *m;

	if (s->next < 0)
		return;
	m = find_merge(b, s->id, w->symbols[s->next].id);
	if (m != NULL)
		heap_push(w->heap, heap_n, (DsocrBpeCandidate){m->rank, place, m->merged});
}

/* Room for n symbols, and for the pairs: n at first, two after each merge. */
static bool
reserve_work(DsocrBpeWork *w, size_t n, DsocrError *err)
{
	if (n > w->symbols_cap)
	{
		dsocr_free(w->symbols);
		w->symbols_cap = 0;
		w->symbols = dsocr_alloc(n, sizeof(*w->symbols), err);
		if (w->symbols == NULL)
			return false;
		w->symbols_cap = n;
	}
	if (3 * n > w->heap_cap)
	{
		dsocr_free(w->heap);
		w->heap_cap = 0;
		w->heap = dsocr_alloc(3 * n, sizeof(*w->heap), err);
		if (w->heap == NULL)
			return false;
		w->heap_cap = 3 * n;
	}
	return true;
}

/* Bytes without a token of their own vanish, as they do in the library. */
static size_t
split_bytes(const DsocrBpe *b, const char *word, size_t len, DsocrBpeSymbol *symbols)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
	{
		int32_t id = b->byte_ids[(unsigned char) word[i]];

		if (id < 0)
			continue;
		symbols[n] = (DsocrBpeSymbol){id, (int32_t) n - 1, (int32_t) n + 1};
		n++;
	}
	if (n > 0)
		symbols[n - 1].next = -1;
	return n;
}

static void
merge_symbols(const DsocrBpe *b, DsocrBpeWork *w, size_t n)
{
	DsocrBpeSymbol *symbols = w->symbols;
	size_t heap_n = 0;

	for (size_t i = 0; i < n; i++)
		consider(b, w, &heap_n, (int32_t) i);
	while (heap_n > 0)
	{
		DsocrBpeCandidate c = heap_pop(w->heap, &heap_n);
		DsocrBpeSymbol *s = &symbols[c.place];
		const DsocrMerge *m;
		int32_t right;

		if (s->id < 0 || s->next < 0)
			continue;
		right = s->next;
		m = find_merge(b, s->id, symbols[right].id);
		if (m == NULL || m->merged != c.merged)
			continue;
		s->id = c.merged;
		s->next = symbols[right].next;
		symbols[right].id = -1;
		if (s->next >= 0)
			symbols[s->next].previous = c.place;
		if (s->previous >= 0)
			consider(b, w, &heap_n, s->previous);
		consider(b, w, &heap_n, c.place);
	}
}

bool
dsocr_bpe_encode(const DsocrBpe *b, const char *word, size_t len, DsocrBpeWork *w, DsocrIds *out,
				 DsocrError *err)
{
	size_t n;

	if (len > INT32_MAX / 4)
		return dsocr_fail(err, DSOCR_E_TOO_LONG, "text has a word of %zu bytes", len);
	if (b->ignore_merges)
	{
		int32_t id;

		w->spelled.len = 0;
		for (size_t i = 0; i < len; i++)
		{
			char text[2];
			size_t k = spell_byte((unsigned char) word[i], text);

			if (!dsocr_buffer_append(&w->spelled, text, k, err))
				return false;
		}
		id = len > 0 ? dsocr_bpe_find(b, w->spelled.data, w->spelled.len) : -1;
		if (id >= 0)
			return dsocr_ids_append(out, id, err);
	}
	if (!reserve_work(w, len, err))
		return false;
	n = split_bytes(b, word, len, w->symbols);
	merge_symbols(b, w, n);
	if (!dsocr_ids_reserve(out, n, err))
		return false;
	for (size_t i = 0; i < n; i++)
	{
		if (w->symbols[i].id >= 0)
			out->ids[out->n++] = w->symbols[i].id;
	}
	return true;
}
