/*-------------------------------------------------------------------------
 *
 * sha256.h
 *		SHA-256 (FIPS 180-4) of bytes that come in pieces.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SHA256_H
#define DSOCR_SHA256_H

#include "base.h"

typedef struct DsocrSha256
{
	uint32_t state[8];
	uint64_t bytes;			 /* hashed so far, with those in the block */
	unsigned char block[64]; /* not yet hashed: bytes % 64 of them */
} DsocrSha256;

extern void dsocr_sha256_init(DsocrSha256 *s);
extern void dsocr_sha256_update(DsocrSha256 *s, const void *bytes, size_t len);

/* 64 hex digits and NUL; s must be initialised again before its next use. */
extern void dsocr_sha256_finish(DsocrSha256 *s, char hex[65]);

/* All at once. */
extern void dsocr_sha256_hex(const void *bytes, size_t len, char hex[65]);

#endif /* DSOCR_SHA256_H */
