/*-------------------------------------------------------------------------
 *
 * kv_cache.c
 *		Pages of key/value memory and slots for texts, and who owns them.
 *
 * Free pages are a stack: the page given back last is taken first, so that
 * memory which was never needed is never touched.  Slots likewise.
 *
 *-------------------------------------------------------------------------
 */
#include "kv_cache.h"

struct DsocrKvCache
{
	DsocrBackend *be;
	DsocrKv *memory;
	int total;
	int n_free;
	int32_t *stack; /* [total], the first n_free are free */
	bool *taken;	/* [total] */
	int n_free_slots;
	int32_t *slots; /* the first n_free_slots are free */
};

static DsocrKvShape
kv_shape(const DsocrConfig *config, int pages)
{
	return (DsocrKvShape){.layers = config->layers,
						  .heads = config->heads,
						  .head_dim = config->head_dim,
						  .page_tokens = DSOCR_PAGE_TOKENS,
						  .pages = pages};
}

size_t
dsocr_kv_page_bytes(const DsocrBackend *be, const DsocrConfig *config)
{
	DsocrKvShape shape = kv_shape(config, 1);

	return be->ops->kv_bytes(be, &shape);
}

int
dsocr_kv_pages(int tokens)
{
	return tokens / DSOCR_PAGE_TOKENS + (tokens % DSOCR_PAGE_TOKENS != 0);
}

DsocrKvCache *
dsocr_kv_cache_open(DsocrBackend *be, const DsocrConfig *config, int pages, int slots,
					DsocrError *err)
{
	DsocrKvShape shape = kv_shape(config, pages);
	DsocrKvCache *c = dsocr_zalloc(1, sizeof(*c), err);

	if (c == NULL)
		return NULL;
	c->be = be;
	c->total = pages;
	c->n_free = pages;
	c->stack = dsocr_alloc((size_t) pages, sizeof(*c->stack), err);
	c->taken = dsocr_zalloc((size_t) pages, sizeof(*c->taken), err);
	c->slots = dsocr_alloc((size_t) slots, sizeof(*c->slots), err);
	if (c->stack != NULL && c->taken != NULL && c->slots != NULL)
		c->memory = be->ops->kv_open(be, &shape, err);
	if (c->memory == NULL)
	{
		dsocr_kv_cache_close(c);
		return NULL;
	}
	for (int i = 0; i < pages; i++)
		c->stack[i] = pages - 1 - i;
	c->n_free_slots = slots;
	for (int i = 0; i < slots; i++)
		c->slots[i] = slots - 1 - i;
	return c;
}

void
dsocr_kv_cache_close(DsocrKvCache *c)
{
	if (c == NULL)
		return;
	if (c->memory != NULL)
		c->be->ops->kv_close(c->be, c->memory);
	dsocr_free(c->stack);
	dsocr_free(c->taken);
	dsocr_free(c->slots);
	dsocr_free(c);
}

bool
dsocr_kv_reserve(DsocrKvCache *c, int32_t *pages, int n)
{
	if (n < 0 || n > c->n_free)
		return false;
	for (int i = 0; i < n; i++)
	{
		pages[i] = c->stack[--c->n_free];
		c->taken[pages[i]] = true;
	}
	return true;
}

bool
dsocr_kv_release(DsocrKvCache *c, const int32_t *pages, int n)
{
	int i;

	for (i = 0; i < n; i++)
	{
		if (pages[i] < 0 || pages[i] >= c->total || !c->taken[pages[i]])
			break;
		c->taken[pages[i]] = false;
	}
	if (i < n)
	{
		while (--i >= 0)
			c->taken[pages[i]] = true;
		return false;
	}
	while (--i >= 0)
		c->stack[c->n_free++] = pages[i];
	return true;
}

int
dsocr_kv_take_slot(DsocrKvCache *c)
{
	return c->n_free_slots > 0 ? c->slots[--c->n_free_slots] : -1;
}

void
dsocr_kv_give_slot(DsocrKvCache *c, int slot)
{
	c->slots[c->n_free_slots++] = slot;
}

int
dsocr_kv_total(const DsocrKvCache *c)
{
	return c->total;
}

int
dsocr_kv_free(const DsocrKvCache *c)
{
	return c->n_free;
}

DsocrKv *
dsocr_kv_memory(const DsocrKvCache *c)
{
	return c->memory;
}
