/*-------------------------------------------------------------------------
 *
 * protocol_wire.c
 *		Taking values off the body of a frame, none of which is believed.
 *
 *-------------------------------------------------------------------------
 */
#include "protocol_wire.h"

#include <math.h>
#include <string.h>

#include "utf8.h"

void
dsocr_wire_bad(DsocrWire *r, const char *what)
{
	if (r->ok)
		r->ok = dsocr_fail(r->err, DSOCR_E_INTERNAL, "malformed message: %s", what);
}

const void *
dsocr_wire_take(DsocrWire *r, size_t n)
{
	const unsigned char *p = r->at;

	if (r->ok && n > r->left)
		dsocr_wire_bad(r, "too short");
	if (!r->ok)
		return NULL;
	r->at += n;
	r->left -= n;
	return p;
}

static void
get(DsocrWire *r, void *v, size_t n)
{
	const void *p = dsocr_wire_take(r, n);

	if (p != NULL)
		memcpy(v, p, n);
	else
		memset(v, 0, n);
}

uint32_t
dsocr_wire_u32(DsocrWire *r)
{
	uint32_t v;

	get(r, &v, sizeof(v));
	return v;
}

int32_t
dsocr_wire_i32(DsocrWire *r)
{
	int32_t v;

	get(r, &v, sizeof(v));
	return v;
}

float
dsocr_wire_float(DsocrWire *r)
{
	float v;

	get(r, &v, sizeof(v));
	if (!isfinite(v))
		dsocr_wire_bad(r, "number");
	return v;
}

double
dsocr_wire_double(DsocrWire *r)
{
	double v;

	get(r, &v, sizeof(v));
	if (!isfinite(v))
		dsocr_wire_bad(r, "number");
	return v;
}

uint64_t
dsocr_wire_u64(DsocrWire *r)
{
	uint64_t v;

	get(r, &v, sizeof(v));
	return v;
}

int64_t
dsocr_wire_i64(DsocrWire *r)
{
	int64_t v;

	get(r, &v, sizeof(v));
	return v;
}

uint32_t
dsocr_wire_enum(DsocrWire *r, uint32_t n, const char *what)
{
	uint32_t v = dsocr_wire_u32(r);

	if (v >= n)
	{
		dsocr_wire_bad(r, what);
		return 0;
	}
	return v;
}

/* NUL-free UTF-8? */
static bool
is_text(const char *s, size_t len)
{
	size_t at = 0;

	while (at < len)
	{
		int32_t code;

		at += dsocr_utf8_next(s + at, len - at, &code);
		if (code <= 0)
			return false;
	}
	return true;
}

/* The bytes of a string: NUL-free UTF-8, NULL on failure. */
static const char *
get_text(DsocrWire *r, size_t *len)
{
	const char *s;

	*len = dsocr_wire_u32(r);
	s = dsocr_wire_take(r, *len);
	if (s != NULL && !is_text(s, *len))
		dsocr_wire_bad(r, "text is not UTF-8");
	return r->ok ? s : NULL;
}

void
dsocr_wire_field(DsocrWire *r, char *field, size_t size)
{
	size_t len;
	const char *s = get_text(r, &len);

	field[0] = '\0';
	if (s == NULL)
		return;
	if (len >= size)
	{
		dsocr_wire_bad(r, "text too long");
		return;
	}
	memcpy(field, s, len);
	field[len] = '\0';
}

char *
dsocr_wire_string(DsocrWire *r)
{
	size_t len;
	const char *s = get_text(r, &len);
	char *copy;

	if (s == NULL)
		return NULL;
	copy = dsocr_alloc(len + 1, 1, r->err);
	if (copy == NULL)
	{
		r->ok = false;
		return NULL;
	}
	memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

DsocrWire
dsocr_wire(const void *body, size_t len, DsocrError *err)
{
	return (DsocrWire){.at = body, .left = len, .ok = true, .err = err};
}

bool
dsocr_wire_end(DsocrWire *r)
{
	if (r->left > 0)
		dsocr_wire_bad(r, "too long");
	return r->ok;
}
