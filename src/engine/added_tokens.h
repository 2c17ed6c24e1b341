/*-------------------------------------------------------------------------
 *
 * added_tokens.h
 *		Tokens that are recognised in the text before anything else.
 *
 * "<image>", "<|ref|>" and so on: whole texts with an id of their own, with
 * the flags of the Hugging Face library.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ADDED_TOKENS_H
#define DSOCR_ADDED_TOKENS_H

#include "base.h"

#include <jansson.h>

typedef struct DsocrAddedToken
{
	char *content;
	size_t len;
	int32_t id;
	bool special;	  /* left out by decode on request */
	bool normalized;  /* looked for after all that are not */
	bool single_word; /* not inside a word */
	bool lstrip;	  /* takes the white space before it */
	bool rstrip;	  /* and behind it */
} DsocrAddedToken;

typedef struct DsocrTrieNode
{
	unsigned char byte;
	int32_t child;	 /* -1 if none */
	int32_t sibling; /* -1 if none */
	int32_t token;	 /* that ends here, -1 if none */
} DsocrTrieNode;

typedef struct DsocrTrie
{
	int32_t roots[256];
	int32_t n;
	int32_t cap;
	DsocrTrieNode *nodes;
} DsocrTrie;

typedef struct DsocrAddedTokens
{
	int32_t n;
	DsocrAddedToken *tokens;		/* sorted by id */
	DsocrTrie tries[2];				/* [normalized] */
	struct pcre2_real_code_8 *word; /* \w of one character, if a token needs it */
} DsocrAddedTokens;

/* A piece of the text: an added token, or (id -1) what is between them. */
typedef bool (*DsocrPieceHandler)(void *arg, const char *text, size_t len, int32_t id,
								  DsocrError *err);

/* Read the "added_tokens" list.  Errors: DSOCR_E_MODEL, DSOCR_E_MEMORY. */
extern bool dsocr_added_read(DsocrAddedTokens *a, json_t *list, DsocrError *err);
extern void dsocr_added_free(DsocrAddedTokens *a);

/* NULL when there is none. */
extern const DsocrAddedToken *dsocr_added_by_id(const DsocrAddedTokens *a, int32_t id);
extern const DsocrAddedToken *dsocr_added_by_content(const DsocrAddedTokens *a,
													 const char *content);

/* Cut valid UTF-8 at the tokens that are, or are not, normalized: leftmost, longest. */
extern bool dsocr_added_split(const DsocrAddedTokens *a, bool normalized, const char *text,
							  size_t len, DsocrPieceHandler handler, void *arg, DsocrError *err);

#endif /* DSOCR_ADDED_TOKENS_H */
