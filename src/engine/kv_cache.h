/*-------------------------------------------------------------------------
 *
 * kv_cache.h
 *		Pages of key/value memory and slots for texts, and who owns them.
 *
 * A sequence reserves all the pages it can ever need when it is admitted and
 * gives them back in one go.  So it never waits for memory half way, never
 * has to be thrown out and computed again, and its text cannot depend on how
 * full the memory is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_KV_CACHE_H
#define DSOCR_KV_CACHE_H

#include "backend.h"
#include "config.h"

#define DSOCR_PAGE_TOKENS 32

typedef struct DsocrKvCache DsocrKvCache;

/* Bytes one page takes on this backend. */
extern size_t dsocr_kv_page_bytes(const DsocrBackend *be, const DsocrConfig *config);

/* Pages for that many positions. */
extern int dsocr_kv_pages(int tokens);

/* Errors: DSOCR_E_MEMORY. */
extern DsocrKvCache *dsocr_kv_cache_open(DsocrBackend *be, const DsocrConfig *config, int pages,
										 int slots, DsocrError *err);
extern void dsocr_kv_cache_close(DsocrKvCache *c);

/* Take n pages; false and nothing taken when fewer are free. */
extern bool dsocr_kv_reserve(DsocrKvCache *c, int32_t *pages, int n);

/* Give back n pages.  False when one of them is not taken: then none is given back. */
extern bool dsocr_kv_release(DsocrKvCache *c, const int32_t *pages, int n);

/* Take a slot, -1 when none is free; give it back. */
extern int dsocr_kv_take_slot(DsocrKvCache *c);
extern void dsocr_kv_give_slot(DsocrKvCache *c, int slot);

extern int dsocr_kv_total(const DsocrKvCache *c);
extern int dsocr_kv_free(const DsocrKvCache *c);
extern DsocrKv *dsocr_kv_memory(const DsocrKvCache *c);

#endif /* DSOCR_KV_CACHE_H */
