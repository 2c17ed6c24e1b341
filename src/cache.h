/*-------------------------------------------------------------------------
 *
 * cache.h
 *		Answers that are kept, by everything they depend on.
 *
 * A key is a hash of the document's bytes, what was asked and the model; who
 * has not the bytes has no key.  Answers lie in the main shared memory as
 * bodies of result frames.  See docs/decisions/0023.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CACHE_H
#define DSOCR_CACHE_H

#include "dsocr.h"
#include "engine/request.h"

#define DSOCR_DIGEST_BYTES 32
#define DSOCR_CACHE_MODEL_BYTES 64 /* of the name of a model */

typedef struct DsocrCacheKey
{
	uint8 hash[DSOCR_DIGEST_BYTES];
	uint64 model; /* 0: there is no key */
} DsocrCacheKey;

/* What the cache holds. */
typedef struct DsocrCacheStatus
{
	int64 bytes; /* of the pool; 0: there is no cache */
	int64 used;
	int64 entries;
	int64 evicted; /* answers that went for others, since the server's start */
} DsocrCacheStatus;

/* ---- keys (cache_key.c) ---- */

/* Is there a cache, and does this session use it? */
extern bool dsocr_cache_is_on(void);

/* SHA-256 of a document's bytes; false when it cannot be had. */
extern bool dsocr_cache_digest(const void *bytes, Size len, uint8 digest[DSOCR_DIGEST_BYTES]);

/*
 * The key of a request to read: its image, document and id do not count, their
 * digest does.  dpi: of a page that the page server rendered, else 0.  False
 * when no model is loaded, or devices have different ones.
 */
extern bool dsocr_cache_key(const DsocrRequest *request, const uint8 digest[DSOCR_DIGEST_BYTES],
							int dpi, DsocrCacheKey *key);

/* Do all keys of this moment have this model? */
extern bool dsocr_cache_is_of(const char *fingerprint, const char *name);

/* A model as keys have it; never 0. */
extern uint64 dsocr_cache_model(const DsocrModelInfo *info);

/* ---- the pool (cache.c) ---- */

extern Size dsocr_cache_shmem_size(void);
extern void dsocr_cache_shmem_init(LWLock *lock); /* under AddinShmemInitLock */

/* Is there an answer?  Counts as nothing. */
extern bool dsocr_cache_has(const DsocrCacheKey *key);

/*
 * A copy of the answer: its body, in the current context, and the name of the
 * model.  NULL when there is none.
 */
extern void *dsocr_cache_get(const DsocrCacheKey *key, Size *len, char *model);

/* Keep an answer.  One that is too large, or there already, is not.  Raises no error. */
extern void dsocr_cache_put(const DsocrCacheKey *key, const void *body, Size len,
							const char *model);

/* Drop everything; returns how many answers that were. */
extern int64 dsocr_cache_clear(void);

/* A device is ready with this model: if it had another one, drop everything. */
extern void dsocr_cache_note_model(int device, uint64 model);

extern void dsocr_cache_status(DsocrCacheStatus *status);

/* ---- table dsocr.cache (cache_table.c) ---- */

/*
 * The same of the table, where dsocr.cache_table is on; also outside of
 * transactions.  Nothing is put in where nothing can be written: on a standby,
 * in read-only transactions and parallel queries.
 */
extern void *dsocr_cache_table_get(const DsocrCacheKey *key, Size *len, char *model);
extern void dsocr_cache_table_put(const DsocrCacheKey *key, const void *body, Size len,
								  const char *model);

#endif /* DSOCR_CACHE_H */
