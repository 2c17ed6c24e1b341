/*-------------------------------------------------------------------------
 *
 * cache.c
 *		The pool of answers that are kept.
 *
 * The pool is cut into blocks; an answer is a chain of them, so there is room
 * for it as soon as enough blocks are free, wherever they are.  Entries are
 * found by buckets of their hashes.  All of it is one array after the other in
 * one piece of shared memory, and links are indexes, -1 at the end.
 *
 * Who reads holds the lock shared and sets a mark on the entry; who needs room
 * goes round, takes marks away and drops the entries that have none.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "cache.h"

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#define BLOCK_BYTES 1024

/* Blocks of an entry, by which the number of entries is chosen. */
#define BLOCKS_PER_ENTRY 2

/* The largest answer is one of so many parts of the pool. */
#define LARGEST_PART 16

#define NONE (-1)

typedef struct Entry
{
	DsocrCacheKey key;
	pg_atomic_uint32 used; /* since the hand went by */
	bool valid;
	int32 next; /* in its bucket, or of those that are free */
	int32 first_block;
	int32 n_blocks;
	Size len;
	char model[64];
} Entry;

typedef struct Pool
{
	int32 n_blocks;
	int32 n_entries;
	int32 n_buckets;
	int32 free_block;
	int32 n_free_blocks;
	int32 free_entry;
	int32 hand;
	int64 n_valid;
	int64 evicted;					  /* since the server's start */
	uint64 models[DSOCR_MAX_WORKERS]; /* of the devices, 0 = not known yet */
} Pool;

static Pool *pool = NULL;
static LWLock *lock = NULL;
static int32 *buckets;
static Entry *entries;
static int32 *next_block;
static char *blocks;

/* ---- layout ---- */

static int32
block_count(void)
{
	Size per_block =
		BLOCK_BYTES + sizeof(int32) + (sizeof(Entry) + sizeof(int32)) / BLOCKS_PER_ENTRY;

	return (int32) ((Size) dsocr_cache_size * 1024 / per_block);
}

static int32
entry_count(void)
{
	return block_count() / BLOCKS_PER_ENTRY + 1;
}

static Size
head_size(void)
{
	return MAXALIGN(sizeof(Pool)) + MAXALIGN(sizeof(int32) * (Size) entry_count()) +
		   MAXALIGN(sizeof(Entry) * (Size) entry_count());
}

Size
dsocr_cache_shmem_size(void)
{
	Size n = block_count();

	if (dsocr_cache_size == 0)
		return 0;
	return head_size() + MAXALIGN(sizeof(int32) * n) + n * BLOCK_BYTES;
}

/* Everything is free. */
static void
clear_pool(void)
{
	for (int32 i = 0; i < pool->n_buckets; i++)
		buckets[i] = NONE;
	for (int32 i = 0; i < pool->n_entries; i++)
	{
		entries[i].valid = false;
		entries[i].next = i + 1 < pool->n_entries ? i + 1 : NONE;
	}
	for (int32 i = 0; i < pool->n_blocks; i++)
		next_block[i] = i + 1 < pool->n_blocks ? i + 1 : NONE;
	pool->free_entry = 0;
	pool->free_block = pool->n_blocks > 0 ? 0 : NONE;
	pool->n_free_blocks = pool->n_blocks;
	pool->hand = 0;
	pool->n_valid = 0;
}

void
dsocr_cache_shmem_init(LWLock *cache_lock)
{
	bool found;
	char *at;

	lock = cache_lock;
	if (dsocr_cache_size == 0)
		return;
	at = ShmemInitStruct("dsocr answers", dsocr_cache_shmem_size(), &found);
	pool = (Pool *) at;
	at += MAXALIGN(sizeof(Pool));
	buckets = (int32 *) at;
	at += MAXALIGN(sizeof(int32) * (Size) entry_count());
	entries = (Entry *) at;
	at += MAXALIGN(sizeof(Entry) * (Size) entry_count());
	next_block = (int32 *) at;
	at += MAXALIGN(sizeof(int32) * (Size) block_count());
	blocks = at;
	if (found)
		return;
	memset(pool, 0, sizeof(Pool));
	pool->n_blocks = block_count();
	pool->n_entries = entry_count();
	pool->n_buckets = entry_count();
	for (int32 i = 0; i < pool->n_entries; i++)
		pg_atomic_init_u32(&entries[i].used, 0);
	clear_pool();
}

/* ---- entries; the lock is held ---- */

static char *
block_at(int32 block)
{
	return blocks + (Size) block * BLOCK_BYTES;
}

static int32 *
bucket_of(const DsocrCacheKey *key)
{
	uint64 h;

	memcpy(&h, key->hash, sizeof(h));
	return &buckets[h % pool->n_buckets];
}

static Entry *
find(const DsocrCacheKey *key)
{
	for (int32 i = *bucket_of(key); i != NONE; i = entries[i].next)
	{
		if (entries[i].key.model == key->model &&
			memcmp(entries[i].key.hash, key->hash, sizeof(key->hash)) == 0)
			return &entries[i];
	}
	return NULL;
}

static void
drop(Entry *e)
{
	int32 index = (int32) (e - entries);
	int32 *link = bucket_of(&e->key);
	int32 last = e->first_block;

	while (*link != index)
		link = &entries[*link].next;
	*link = e->next;
	while (next_block[last] != NONE)
		last = next_block[last];
	next_block[last] = pool->free_block;
	pool->free_block = e->first_block;
	pool->n_free_blocks += e->n_blocks;
	e->valid = false;
	e->next = pool->free_entry;
	pool->free_entry = index;
	pool->n_valid--;
}

/* Drop what was not used lately until there is room. */
static void
make_room(int32 n_blocks)
{
	while (pool->n_free_blocks < n_blocks || pool->free_entry == NONE)
	{
		Entry *e = &entries[pool->hand];

		pool->hand = (pool->hand + 1) % pool->n_entries;
		if (!e->valid)
			continue;
		if (pg_atomic_read_u32(&e->used) != 0)
		{
			pg_atomic_write_u32(&e->used, 0);
			continue;
		}
		drop(e);
		pool->evicted++;
	}
}

/* Take blocks off the free ones and copy the body into them; the first one. */
static int32
fill_blocks(const char *body, Size len)
{
	int32 first = pool->free_block;
	int32 block = first;

	for (;;)
	{
		Size part = Min(len, BLOCK_BYTES);

		memcpy(block_at(block), body, part);
		body += part;
		len -= part;
		pool->n_free_blocks--;
		if (len == 0)
			break;
		block = next_block[block];
	}
	pool->free_block = next_block[block];
	next_block[block] = NONE;
	return first;
}

/* ---- the public face ---- */

bool
dsocr_cache_has(const DsocrCacheKey *key)
{
	bool has;

	if (pool == NULL || key->model == 0)
		return false;
	LWLockAcquire(lock, LW_SHARED);
	has = find(key) != NULL;
	LWLockRelease(lock);
	return has;
}

void *
dsocr_cache_get(const DsocrCacheKey *key, Size *len, char *model)
{
	char *body = NULL;
	Entry *e;

	if (pool == NULL || key->model == 0)
		return NULL;
	LWLockAcquire(lock, LW_SHARED);
	e = find(key);
	if (e != NULL)
		body = palloc_extended(e->len, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (body != NULL)
	{
		Size done = 0;

		for (int32 b = e->first_block; b != NONE; b = next_block[b])
		{
			Size part = Min(e->len - done, BLOCK_BYTES);

			memcpy(body + done, block_at(b), part);
			done += part;
		}
		*len = e->len;
		strlcpy(model, e->model, sizeof(e->model));
		pg_atomic_write_u32(&e->used, 1);
	}
	LWLockRelease(lock);
	return body;
}

void
dsocr_cache_put(const DsocrCacheKey *key, const void *body, Size len, const char *model)
{
	int32 n_blocks;
	Entry *e;
	int32 *bucket;

	if (pool == NULL || key->model == 0 || len == 0 ||
		len > (Size) pool->n_blocks / LARGEST_PART * BLOCK_BYTES)
		return;
	n_blocks = (int32) ((len + BLOCK_BYTES - 1) / BLOCK_BYTES);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (find(key) != NULL)
	{
		LWLockRelease(lock);
		return;
	}
	make_room(n_blocks);
	e = &entries[pool->free_entry];
	pool->free_entry = e->next;
	e->key = *key;
	e->len = len;
	e->n_blocks = n_blocks;
	e->first_block = fill_blocks(body, len);
	e->valid = true;
	pg_atomic_write_u32(&e->used, 0);
	strlcpy(e->model, model, sizeof(e->model));
	bucket = bucket_of(key);
	e->next = *bucket;
	*bucket = (int32) (e - entries);
	pool->n_valid++;
	LWLockRelease(lock);
}

int64
dsocr_cache_clear(void)
{
	int64 n;

	if (pool == NULL)
		return 0;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	n = pool->n_valid;
	clear_pool();
	LWLockRelease(lock);
	return n;
}

void
dsocr_cache_note_model(int device, uint64 model)
{
	if (pool == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (pool->models[device] != 0 && pool->models[device] != model)
		clear_pool();
	pool->models[device] = model;
	LWLockRelease(lock);
}

void
dsocr_cache_status(DsocrCacheStatus *status)
{
	memset(status, 0, sizeof(*status));
	if (pool == NULL)
		return;
	LWLockAcquire(lock, LW_SHARED);
	status->bytes = (int64) pool->n_blocks * BLOCK_BYTES;
	status->used = (int64) (pool->n_blocks - pool->n_free_blocks) * BLOCK_BYTES;
	status->entries = pool->n_valid;
	status->evicted = pool->evicted;
	LWLockRelease(lock);
}
