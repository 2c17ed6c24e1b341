/*-------------------------------------------------------------------------
 *
 * added_tokens.c
 *		Tokens that are recognised in the text before anything else.
 *
 *-------------------------------------------------------------------------
 */
#include "added_tokens.h"
#include "tokenizer_bpe.h"
#include "utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ADDED_TOKENS 100000

/* Bounds the work at each place of a text. */
#define MAX_CONTENT_BYTES 1024

/* \w of Rust's regular expressions */
#define WORD_PATTERN "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}]"

static void
trie_init(DsocrTrie *t)
{
	memset(t->roots, -1, sizeof(t->roots));
}

/* The child of parent (-1: the root) for byte, made if need be; -1 without memory. */
static int32_t
trie_child(DsocrTrie *t, int32_t parent, unsigned char byte, DsocrError *err)
{
	int32_t *link = parent < 0 ? &t->roots[byte] : &t->nodes[parent].child;
	int32_t node = *link;

	while (node >= 0 && t->nodes[node].byte != byte)
		node = t->nodes[node].sibling;
	if (node >= 0)
		return node;
	if (t->n == t->cap)
	{
		int32_t cap = t->cap > 0 ? t->cap * 2 : 256;
		DsocrTrieNode *nodes = dsocr_alloc((size_t) cap, sizeof(*nodes), err);

		if (nodes == NULL)
			return -1;
		if (t->n > 0)
			memcpy(nodes, t->nodes, (size_t) t->n * sizeof(*nodes));
		dsocr_free(t->nodes);
		t->nodes = nodes;
		t->cap = cap;
		link = parent < 0 ? &t->roots[byte] : &t->nodes[parent].child;
	}
	node = t->n++;
	t->nodes[node] = (DsocrTrieNode){byte, -1, *link, -1};
	*link = node;
	return node;
}

static bool
trie_add(DsocrTrie *t, const char *content, size_t len, int32_t token, DsocrError *err)
{
	int32_t node = -1;

	for (size_t i = 0; i < len; i++)
	{
		node = trie_child(t, node, (unsigned char) content[i], err);
		if (node < 0)
			return false;
	}
	t->nodes[node].token = token;
	return true;
}

/* The longest token at the start of the text, -1 if there is none. */
static int32_t
trie_match(const DsocrTrie *t, const char *text, size_t len)
{
	int32_t found = -1;
	int32_t node = t->roots[(unsigned char) text[0]];

	for (size_t i = 1; node >= 0; i++)
	{
		if (t->nodes[node].token >= 0)
			found = t->nodes[node].token;
		if (i == len)
			break;
		node = t->nodes[node].child;
		while (node >= 0 && t->nodes[node].byte != (unsigned char) text[i])
			node = t->nodes[node].sibling;
	}
	return found;
}

static bool
read_token(DsocrAddedToken *t, json_t *entry, DsocrError *err)
{
	const char *content = json_string_value(json_object_get(entry, "content"));
	json_t *id = json_object_get(entry, "id");

	if (content == NULL || !json_is_integer(id) || json_integer_value(id) < 0 ||
		json_integer_value(id) > DSOCR_MAX_TOKEN_ID)
		return dsocr_fail(err, DSOCR_E_MODEL, "an added token has no content or no valid id");
	t->len = strlen(content);
	if (t->len == 0 || t->len > MAX_CONTENT_BYTES)
		return dsocr_fail(err, DSOCR_E_MODEL, "an added token is empty or longer than %d bytes",
						  MAX_CONTENT_BYTES);
	t->content = dsocr_strdup(content, err);
	if (t->content == NULL)
		return false;
	t->id = (int32_t) json_integer_value(id);
	t->special = json_is_true(json_object_get(entry, "special"));
	t->normalized = json_is_true(json_object_get(entry, "normalized"));
	t->single_word = json_is_true(json_object_get(entry, "single_word"));
	t->lstrip = json_is_true(json_object_get(entry, "lstrip"));
	t->rstrip = json_is_true(json_object_get(entry, "rstrip"));
	return true;
}

static int
compare_ids(const void *a, const void *b)
{
	int32_t x = ((const DsocrAddedToken *) a)->id;
	int32_t y = ((const DsocrAddedToken *) b)->id;

	return (x > y) - (x < y);
}

static bool
compile_word(DsocrAddedTokens *a, DsocrError *err)
{
	int number;
	PCRE2_SIZE offset;

	if (a->word == NULL)
		a->word = pcre2_compile((PCRE2_SPTR) WORD_PATTERN, PCRE2_ZERO_TERMINATED,
								PCRE2_UTF | PCRE2_UCP, &number, &offset, NULL);
	return a->word != NULL ||
		   dsocr_fail(err, DSOCR_E_MODEL, "added tokens with single_word are not supported here");
}

static bool
index_tokens(DsocrAddedTokens *a, DsocrError *err)
{
	qsort(a->tokens, (size_t) a->n, sizeof(*a->tokens), compare_ids);
	for (int32_t i = 0; i < a->n; i++)
	{
		const DsocrAddedToken *t = &a->tokens[i];

		if (i > 0 && t->id == a->tokens[i - 1].id)
			return dsocr_fail(err, DSOCR_E_MODEL, "two added tokens have id %d", (int) t->id);
		if (dsocr_added_by_content(a, t->content) != NULL)
			return dsocr_fail(err, DSOCR_E_MODEL, "two added tokens have the same content");
		if (!trie_add(&a->tries[t->normalized], t->content, t->len, i, err))
			return false;
		if (t->single_word && !compile_word(a, err))
			return false;
	}
	return true;
}

bool
dsocr_added_read(DsocrAddedTokens *a, json_t *list, DsocrError *err)
{
	size_t n = json_array_size(list);
	bool ok = true;

	memset(a, 0, sizeof(*a));
	trie_init(&a->tries[0]);
	trie_init(&a->tries[1]);
	if (list != NULL && !json_is_null(list) && !json_is_array(list))
		return dsocr_fail(err, DSOCR_E_MODEL, "added_tokens is not a list");
	if (n > MAX_ADDED_TOKENS)
		return dsocr_fail(err, DSOCR_E_MODEL, "more than %d added tokens", MAX_ADDED_TOKENS);
	a->tokens = dsocr_zalloc(n, sizeof(*a->tokens), err);
	if (a->tokens == NULL)
		return false;
	for (size_t i = 0; ok && i < n; i++)
	{
		ok = read_token(&a->tokens[i], json_array_get(list, i), err);
		a->n++;
	}
	if (ok && index_tokens(a, err))
		return true;
	dsocr_added_free(a);
	return false;
}

void
dsocr_added_free(DsocrAddedTokens *a)
{
	for (int32_t i = 0; i < a->n; i++)
		dsocr_free(a->tokens[i].content);
	dsocr_free(a->tokens);
	dsocr_free(a->tries[0].nodes);
	dsocr_free(a->tries[1].nodes);
	pcre2_code_free(a->word);
	memset(a, 0, sizeof(*a));
}

const DsocrAddedToken *
dsocr_added_by_id(const DsocrAddedTokens *a, int32_t id)
{
	DsocrAddedToken key = {.id = id};

	return bsearch(&key, a->tokens, (size_t) a->n, sizeof(*a->tokens), compare_ids);
}

const DsocrAddedToken *
dsocr_added_by_content(const DsocrAddedTokens *a, const char *content)
{
	size_t len = strlen(content);

	for (int i = 0; i < 2 && len > 0; i++)
	{
		int32_t found = trie_match(&a->tries[i], content, len);

		if (found >= 0 && a->tokens[found].len == len)
			return &a->tokens[found];
	}
	return NULL;
}

static bool
is_word(const DsocrAddedTokens *a, const char *character, size_t len)
{
	pcre2_match_data *match = pcre2_match_data_create(1, NULL);
	bool found =
		match != NULL && pcre2_match(a->word, (PCRE2_SPTR) character, len, 0, 0, match, NULL) >= 0;

	pcre2_match_data_free(match);
	return found;
}

/* Start of the character that ends at end > 0. */
static size_t
character_before(const char *text, size_t end)
{
	do
		end--;
	while (end > 0 && ((unsigned char) text[end] & 0xc0) == 0x80);
	return end;
}

/* Does a letter touch text[start, stop)? */
static bool
touches_word(const DsocrAddedTokens *a, const char *text, size_t len, size_t start, size_t stop)
{
	int32_t code;

	if (start > 0)
	{
		size_t before = character_before(text, start);

		if (is_word(a, text + before, start - before))
			return true;
	}
	return stop < len && is_word(a, text + stop, dsocr_utf8_next(text + stop, len - stop, &code));
}

static size_t
spaces_before(const char *text, size_t end)
{
	int32_t code;

	while (end > 0)
	{
		size_t before = character_before(text, end);

		dsocr_utf8_next(text + before, end - before, &code);
		if (!dsocr_utf8_is_space(code))
			break;
		end = before;
	}
	return end;
}

static size_t
spaces_behind(const char *text, size_t len, size_t start)
{
	int32_t code;

	while (start < len)
	{
		size_t n = dsocr_utf8_next(text + start, len - start, &code);

		if (!dsocr_utf8_is_space(code))
			break;
		start += n;
	}
	return start;
}

bool
dsocr_added_split(const DsocrAddedTokens *a, bool normalized, const char *text, size_t len,
				  DsocrPieceHandler handler, void *arg, DsocrError *err)
{
	const DsocrTrie *trie = &a->tries[normalized];
	size_t done = 0; /* text before this has been handed out */
	size_t i = 0;

	while (i < len)
	{
		int32_t found = trie_match(trie, text + i, len - i);
		const DsocrAddedToken *t = &a->tokens[found];
		size_t start = i;
		size_t stop;

		if (found < 0)
		{
			i++;
			continue;
		}
		stop = i + t->len;
		i = stop;
		if (t->single_word && touches_word(a, text, len, start, stop))
			continue;
		if (t->lstrip)
		{
			start = spaces_before(text, start);
			if (start < done)
				start = done;
		}
		if (t->rstrip)
			stop = spaces_behind(text, len, stop);
		/* all of it went to the token before, with the white space behind that */
		if (stop <= start)
			continue;
		if (done < start && !handler(arg, text + done, start - done, -1, err))
			return false;
		if (!handler(arg, text + start, stop - start, t->id, err))
			return false;
		done = stop;
	}
	return done >= len || handler(arg, text + done, len - done, -1, err);
}
