/*-------------------------------------------------------------------------
 *
 * cache_key.c
 *		Keys of answers: everything that an answer depends on.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "cache.h"
#include "shmem.h"

#include "common/cryptohash.h"
#include "common/hashfn.h"
#include "common/sha2.h"
#include "utils/resowner.h"

StaticAssertDecl(DSOCR_DIGEST_BYTES == PG_SHA256_DIGEST_LENGTH, "keys are SHA-256");

/* Parts of what is hashed. */
typedef struct Piece
{
	const void *bytes;
	Size len;
} Piece;

/*
 * The server's own SHA-256 is that of OpenSSL where it was built with it, and
 * registers with the resource owner, of which there is none outside of
 * transactions.
 */
static bool
hash_pieces(const Piece *pieces, int n, uint8 digest[DSOCR_DIGEST_BYTES])
{
	ResourceOwner caller = CurrentResourceOwner;
	pg_cryptohash_ctx *context;
	bool ok;

	if (caller == NULL)
		CurrentResourceOwner = ResourceOwnerCreate(NULL, "dsocr key");
	context = pg_cryptohash_create(PG_SHA256);
	ok = context != NULL && pg_cryptohash_init(context) >= 0;
	for (int i = 0; ok && i < n; i++)
		ok = pg_cryptohash_update(context, pieces[i].bytes, pieces[i].len) >= 0;
	ok = ok && pg_cryptohash_final(context, digest, DSOCR_DIGEST_BYTES) >= 0;
	if (context != NULL)
		pg_cryptohash_free(context);
	if (caller == NULL)
	{
		ResourceOwner own = CurrentResourceOwner;

		CurrentResourceOwner = NULL;
		ResourceOwnerDelete(own);
	}
	return ok;
}

bool
dsocr_cache_is_on(void)
{
	return dsocr_cache_size > 0 && dsocr_cache && dsocr_shared != NULL;
}

bool
dsocr_cache_digest(const void *bytes, Size len, uint8 digest[DSOCR_DIGEST_BYTES])
{
	Piece piece = {bytes, len};

	return hash_pieces(&piece, 1, digest);
}

uint64
dsocr_cache_model(const DsocrModelInfo *info)
{
	uint64 h = hash_bytes_extended((const unsigned char *) info->fingerprint,
								   (int) strlen(info->fingerprint), 0);

	h = hash_bytes_extended((const unsigned char *) info->name, (int) strlen(info->name), h);
	h = hash_bytes_extended((const unsigned char *) info->weights, (int) strlen(info->weights), h);
	return h != 0 ? h : 1;
}

/* The model of all engines; 0 when none is known or they have different ones. */
static uint64
current_model(DsocrModelInfo *info)
{
	uint64 model = 0;
	bool same = true;

	LWLockAcquire(dsocr_queue_lock, LW_SHARED);
	for (int i = 0; i < dsocr_shared->n_devices; i++)
	{
		const DsocrDevice *d = &dsocr_shared->devices[i];
		uint64 of_device;

		if (d->of_pages || d->state != DSOCR_DEVICE_READY)
			continue;
		of_device = dsocr_cache_model(&d->info);
		same = same && (model == 0 || model == of_device);
		model = of_device;
		*info = d->info;
	}
	LWLockRelease(dsocr_queue_lock);
	return same ? model : 0;
}

bool
dsocr_cache_is_of(const char *fingerprint, const char *name)
{
	DsocrModelInfo info = {0};

	return current_model(&info) != 0 && strcmp(info.fingerprint, fingerprint) == 0 &&
		   strcmp(info.name, name) == 0;
}

bool
dsocr_cache_key(const DsocrRequest *request, const uint8 digest[DSOCR_DIGEST_BYTES], int dpi,
				DsocrCacheKey *key)
{
	DsocrModelInfo info = {0};
	uint64 model = current_model(&info);
	int64 options[] = {request->task,		   request->mode,
					   request->max_tokens,	   request->ngram_size,
					   request->ngram_window,  (int64) request->max_pixels,
					   request->auto_rotate,   request->ladder,
					   request->page,		   dpi,
					   request->prompt != NULL};
	const char *prompt = request->prompt != NULL ? request->prompt : "";
	Piece pieces[] = {{DSOCR_VERSION, sizeof(DSOCR_VERSION)},
					  {info.fingerprint, strlen(info.fingerprint) + 1},
					  {info.name, strlen(info.name) + 1},
					  {info.weights, strlen(info.weights) + 1},
					  {digest, DSOCR_DIGEST_BYTES},
					  {options, sizeof(options)},
					  {prompt, strlen(prompt)}};

	memset(key, 0, sizeof(*key));
	if (model == 0 || !hash_pieces(pieces, lengthof(pieces), key->hash))
		return false;
	key->model = model;
	return true;
}
