/*-------------------------------------------------------------------------
 *
 * tokenizer_bpe.c
 *		Words to ids by the merge rules of a byte-level BPE.
 *
 * The order of merges is that of the Hugging Face library: of all adjacent
 * pairs the one of lowest rank, the leftmost of these; an entry of the queue
 * is stale when the pair now standing at its place gives another token.
 *
 *-------------------------------------------------------------------------
 */
#include "tokenizer_bpe.h"
#include "tokenizer_bytes.h"

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
	m = dsocr_bpe_find_merge(b, s->id, w->symbols[s->next].id);
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
		m = dsocr_bpe_find_merge(b, s->id, symbols[right].id);
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
			size_t k = dsocr_bpe_spell_byte((unsigned char) word[i], text);

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
