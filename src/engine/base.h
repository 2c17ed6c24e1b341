/*-------------------------------------------------------------------------
 *
 * base.h
 *		Errors, checked size arithmetic, byte buffers.
 *
 * Everything in src/engine and kernels may include this file; it includes
 * nothing of ours.  Library code never exits and never prints: a function
 * that can fail takes a DsocrError, fills it and returns false or NULL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_BASE_H
#define DSOCR_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why a request failed.  The numbers travel over the wire: only append. */
typedef enum DsocrCode
{
	DSOCR_OK = 0,
	DSOCR_E_IMAGE = 1,		 /* not a readable image, or over an image limit: 22P03 */
	DSOCR_E_ARGUMENT = 2,	 /* an option or prompt is wrong: 22023 */
	DSOCR_E_TOO_LONG = 3,	 /* prompt and image exceed the context: 54000 */
	DSOCR_E_MODEL = 4,		 /* model folder missing, corrupt or foreign: 58P01 */
	DSOCR_E_MEMORY = 5,		 /* host or device memory exhausted: 53200 */
	DSOCR_E_CANCELLED = 6,	 /* the caller cancelled the request: 57014 */
	DSOCR_E_DEVICE = 7,		 /* the compute device failed: 58000 */
	DSOCR_E_ENGINE_LOST = 8, /* the engine died on this request: 58000 */
	DSOCR_E_IO = 9,			 /* a file could not be read or written: 58030 */
	DSOCR_E_INTERNAL = 10	 /* a bug: XX000 */
} DsocrCode;

typedef struct DsocrError
{
	DsocrCode code;
	char message[256]; /* one short factual line, no full stop */
	char hint[256];	   /* what the user can do, or empty */
} DsocrError;

/*
 * Called in the course of long work, between layers of the model or rows of
 * an image; false makes it stop with DSOCR_E_CANCELLED.
 */
typedef struct DsocrPoll
{
	bool (*go_on)(void *arg);
	void *arg;
} DsocrPoll;

#define DSOCR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/*
 * Fill err (which may be NULL) and return false, so that a failure reads
 * "return dsocr_fail(err, DSOCR_E_IMAGE, ...)".
 */
extern bool dsocr_fail(DsocrError *err, DsocrCode code, const char *fmt, ...) DSOCR_PRINTF(3, 4);

/* Add a hint to an error that was just set; returns false like dsocr_fail. */
extern bool dsocr_hint(DsocrError *err, const char *fmt, ...) DSOCR_PRINTF(2, 3);

/* Checked arithmetic on sizes: false on overflow, *out untouched. */
static inline bool
dsocr_mul(size_t a, size_t b, size_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}

static inline bool
dsocr_add(size_t a, size_t b, size_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}

/*
 * Allocate count elements of the given size, 64-byte aligned, contents
 * undefined.  Sets DSOCR_E_MEMORY and returns NULL on overflow or when no
 * memory is left.  A count of 0 gives a valid pointer.  Free with dsocr_free.
 */
extern void *dsocr_alloc(size_t count, size_t size, DsocrError *err);
extern void *dsocr_zalloc(size_t count, size_t size, DsocrError *err);
extern void dsocr_free(void *p);
extern char *dsocr_strdup(const char *s, DsocrError *err);

/* A growing byte string; data is always NUL-terminated behind len. */
typedef struct DsocrBuffer
{
	char *data; /* NULL until the first append */
	size_t len; /* bytes used, without the NUL */
	size_t cap; /* bytes allocated */
} DsocrBuffer;

extern bool dsocr_buffer_append(DsocrBuffer *b, const void *bytes, size_t n, DsocrError *err);
extern bool dsocr_buffer_printf(DsocrBuffer *b, DsocrError *err, const char *fmt, ...)
	DSOCR_PRINTF(3, 4);
extern void dsocr_buffer_free(DsocrBuffer *b);

/* Read a whole file of at most limit bytes; *data is NUL-terminated behind len. */
extern bool dsocr_read_file(const char *path, size_t limit, DsocrBuffer *out, DsocrError *err);

/* bf16 <-> fp32, round to nearest even (NaN stays NaN). */
static inline float
dsocr_bf16_to_f32(uint16_t h)
{
	union
	{
		uint32_t u;
		float f;
	} v = {.u = (uint32_t) h << 16};

	return v.f;
}

static inline uint16_t
dsocr_f32_to_bf16(float f)
{
	union
	{
		float f;
		uint32_t u;
	} v = {.f = f};

	if ((v.u & 0x7fffffff) > 0x7f800000)
		return (uint16_t) ((v.u >> 16) | 0x40);
	return (uint16_t) ((v.u + 0x7fff + ((v.u >> 16) & 1)) >> 16);
}

/* Monotonic time in microseconds. */
extern int64_t dsocr_now_us(void);

#endif /* DSOCR_BASE_H */
