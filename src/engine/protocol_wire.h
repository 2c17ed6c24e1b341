/*-------------------------------------------------------------------------
 *
 * protocol_wire.h
 *		Taking values off the body of a frame, none of which is believed.
 *
 * The first thing that is wrong ends the reading; what follows it sees no more
 * bytes, and gets zeros.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PROTOCOL_WIRE_H
#define DSOCR_PROTOCOL_WIRE_H

#include "base.h"

typedef struct DsocrWire
{
	const unsigned char *at;
	size_t left;
	bool ok;		 /* false as soon as anything was missing or wrong */
	DsocrError *err; /* set when ok became false */
} DsocrWire;

extern DsocrWire dsocr_wire(const void *body, size_t len, DsocrError *err);

/* All of it was read, and nothing was wrong. */
extern bool dsocr_wire_end(DsocrWire *r);

/* Something is wrong. */
extern void dsocr_wire_bad(DsocrWire *r, const char *what);

/* The next n bytes where they lie; NULL on failure. */
extern const void *dsocr_wire_take(DsocrWire *r, size_t n);

extern uint32_t dsocr_wire_u32(DsocrWire *r);
extern int32_t dsocr_wire_i32(DsocrWire *r);
extern uint64_t dsocr_wire_u64(DsocrWire *r);
extern int64_t dsocr_wire_i64(DsocrWire *r);
extern float dsocr_wire_float(DsocrWire *r);   /* finite */
extern double dsocr_wire_double(DsocrWire *r); /* finite */

/* A number below n; 0 when it is not. */
extern uint32_t dsocr_wire_enum(DsocrWire *r, uint32_t n, const char *what);

/* A string into a field of size bytes: NUL-free UTF-8. */
extern void dsocr_wire_field(DsocrWire *r, char *field, size_t size);

/* A string into memory of its own; NULL on failure. */
extern char *dsocr_wire_string(DsocrWire *r);

#endif /* DSOCR_PROTOCOL_WIRE_H */
