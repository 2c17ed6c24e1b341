/*-------------------------------------------------------------------------
 *
 * base.c
 *		Errors, allocation, byte buffers, reading files, the clock.
 *
 * Linked into the engine and into the PostgreSQL module: nothing here prints,
 * exits or keeps state.
 *
 *-------------------------------------------------------------------------
 */
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ALIGNMENT 64
#define READ_CHUNK (1 << 16)

static void format_field(char *field, size_t size, const char *fmt, va_list ap) DSOCR_PRINTF(3, 0);

/*
 * Format into a field of an error.  The arguments may point into that error
 * ("%s: %s" around an earlier message); a text cut off ends at a character.
 */
static void
format_field(char *field, size_t size, const char *fmt, va_list ap)
{
	char text[sizeof(((DsocrError *) NULL)->message) + 1];
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	size_t len = n < 0 ? 0 : (size_t) n;

	if (len >= size)
	{
		size_t end = size - 1;

		for (len = end; end - len < 3 && ((unsigned char) text[len] & 0xc0) == 0x80;)
			len--;
	}
	memcpy(field, text, len);
	field[len] = '\0';
}

bool
dsocr_fail(DsocrError *err, DsocrCode code, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return false;
	va_start(ap, fmt);
	format_field(err->message, sizeof(err->message), fmt, ap);
	va_end(ap);
	err->code = code;
	err->hint[0] = '\0';
	return false;
}

bool
dsocr_hint(DsocrError *err, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return false;
	va_start(ap, fmt);
	format_field(err->hint, sizeof(err->hint), fmt, ap);
	va_end(ap);
	return false;
}

void *
dsocr_alloc(size_t count, size_t size, DsocrError *err)
{
	size_t bytes;
	void *p = NULL;

	/* aligned_alloc wants a multiple of the alignment */
	if (dsocr_mul(count, size, &bytes) && dsocr_add(bytes, ALIGNMENT - 1, &bytes))
	{
		bytes &= ~(size_t) (ALIGNMENT - 1);
		p = aligned_alloc(ALIGNMENT, bytes > 0 ? bytes : ALIGNMENT);
	}
	if (p == NULL)
		dsocr_fail(err, DSOCR_E_MEMORY, "out of memory for %zu elements of %zu bytes", count, size);
	return p;
}

void *
dsocr_zalloc(size_t count, size_t size, DsocrError *err)
{
	void *p = dsocr_alloc(count, size, err);

	if (p != NULL)
		memset(p, 0, count * size);
	return p;
}

void
dsocr_free(void *p)
{
	free(p);
}

char *
dsocr_strdup(const char *s, DsocrError *err)
{
	size_t n = strlen(s) + 1;
	char *copy = dsocr_alloc(n, 1, err);

	if (copy != NULL)
		memcpy(copy, s, n);
	return copy;
}

/* Make room for n more bytes and the NUL behind them. */
static bool
buffer_reserve(DsocrBuffer *b, size_t n, DsocrError *err)
{
	size_t need;
	size_t cap = b->cap > 0 ? b->cap : 64;
	char *data;

	if (!dsocr_add(b->len, n, &need) || !dsocr_add(need, 1, &need))
		return dsocr_fail(err, DSOCR_E_MEMORY, "out of memory for a buffer of %zu bytes", n);
	if (need <= b->cap)
		return true;
	while (cap < need)
	{
		if (!dsocr_mul(cap, 2, &cap))
			cap = need;
	}
	data = realloc(b->data, cap);
	if (data == NULL)
		return dsocr_fail(err, DSOCR_E_MEMORY, "out of memory for a buffer of %zu bytes", need);
	b->data = data;
	b->cap = cap;
	return true;
}

bool
dsocr_buffer_append(DsocrBuffer *b, const void *bytes, size_t n, DsocrError *err)
{
	if (!buffer_reserve(b, n, err))
		return false;
	if (n > 0)
		memcpy(b->data + b->len, bytes, n);
	b->len += n;
	b->data[b->len] = '\0';
	return true;
}

bool
dsocr_buffer_printf(DsocrBuffer *b, DsocrError *err, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return dsocr_fail(err, DSOCR_E_INTERNAL, "could not format a string");
	if (!buffer_reserve(b, (size_t) n, err))
		return false;
	va_start(ap, fmt);
	vsnprintf(b->data + b->len, (size_t) n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t) n;
	return true;
}

void
dsocr_buffer_free(DsocrBuffer *b)
{
	free(b->data);
	b->data = NULL;
	b->len = 0;
	b->cap = 0;
}

bool
dsocr_read_file(const char *path, size_t limit, DsocrBuffer *out, DsocrError *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool ok = false;

	memset(out, 0, sizeof(*out));
	if (fd < 0)
		return dsocr_fail(err, DSOCR_E_IO, "could not open \"%s\": %s", path, strerror(errno));
	if (fstat(fd, &st) != 0)
		dsocr_fail(err, DSOCR_E_IO, "could not read \"%s\": %s", path, strerror(errno));
	else if (S_ISDIR(st.st_mode))
		dsocr_fail(err, DSOCR_E_IO, "could not read \"%s\": %s", path, strerror(EISDIR));
	else if (st.st_size > 0 && (uint64_t) st.st_size > limit)
		dsocr_fail(err, DSOCR_E_IO, "file \"%s\" is larger than %zu bytes", path, limit);
	else
	{
		/* the size is a hint only: the file may grow, or be a pipe */
		size_t chunk = st.st_size > 0 ? (size_t) st.st_size : READ_CHUNK;

		for (;;)
		{
			ssize_t n;

			if (!buffer_reserve(out, chunk, err))
				break;
			n = read(fd, out->data + out->len, chunk);
			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
			{
				dsocr_fail(err, DSOCR_E_IO, "could not read \"%s\": %s", path, strerror(errno));
				break;
			}
			out->len += (size_t) n;
			out->data[out->len] = '\0';
			if (out->len > limit)
			{
				dsocr_fail(err, DSOCR_E_IO, "file \"%s\" is larger than %zu bytes", path, limit);
				break;
			}
			if (n == 0)
			{
				ok = true;
				break;
			}
			chunk = READ_CHUNK;
		}
	}
	close(fd);
	if (!ok)
		dsocr_buffer_free(out);
	return ok;
}

int64_t
dsocr_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
