/*-------------------------------------------------------------------------
 *
 * sampling.c
 *		No-repeat n-gram rules.
 *
 * Both official forms look for earlier occurrences of the last size - 1 ids
 * and forbid what came behind them; they differ in how far they look back.
 * Candidates are rare, since the id before the next one has to match first:
 * a plain scan of 8192 ids costs a few microseconds.
 *
 *-------------------------------------------------------------------------
 */
#include "sampling.h"

#include <stdlib.h>
#include <string.h>

static bool
contains(const int32_t *ids, int n, int32_t id)
{
	for (int i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

static bool
push(DsocrBanList *list, int32_t id, DsocrError *err)
{
	if (list->n == list->cap)
	{
		int cap = list->cap ? list->cap * 2 : 16;
		int32_t *ids = dsocr_alloc((size_t) cap, sizeof(*ids), err);

		if (ids == NULL)
			return false;
		if (list->n > 0)
			memcpy(ids, list->ids, sizeof(*ids) * (size_t) list->n);
		dsocr_free(list->ids);
		list->ids = ids;
		list->cap = cap;
	}
	list->ids[list->n++] = id;
	return true;
}

static int
compare_ids(const void *a, const void *b)
{
	int32_t x = *(const int32_t *) a;
	int32_t y = *(const int32_t *) b;

	return (x > y) - (x < y);
}

/* Is ids[at .. at + n) the same as the n ids before end?  From behind: it differs sooner. */
static bool
same_tail(const int32_t *ids, int at, int end, int n)
{
	for (int i = n - 1; i >= 0; i--)
		if (ids[at + i] != ids[end - n + i])
			return false;
	return true;
}

bool
dsocr_ngram_bans(const int32_t *ids, int n, int prompt_len, int ngram_size, int window,
				 const int32_t *whitelist, int n_whitelist, DsocrBanList *banned, DsocrError *err)
{
	int first = banned->n;
	int from = 0;
	int kept;

	if (ngram_size < 1)
		return true;
	if (window > 0)
	{
		from = prompt_len;
		if (n - from > window)
			from = n - window;
	}
	else
		n_whitelist = 0;

	for (int i = from; i <= n - ngram_size; i++)
	{
		int32_t id = ids[i + ngram_size - 1];

		if (!same_tail(ids, i, n, ngram_size - 1) || contains(whitelist, n_whitelist, id))
			continue;
		if (!push(banned, id, err))
			return false;
	}
	if (banned->n == first)
		return true;

	qsort(banned->ids + first, (size_t) (banned->n - first), sizeof(int32_t), compare_ids);
	kept = first + 1;
	for (int i = first + 1; i < banned->n; i++)
		if (banned->ids[i] != banned->ids[kept - 1])
			banned->ids[kept++] = banned->ids[i];
	banned->n = kept;
	return true;
}
