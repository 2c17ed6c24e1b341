/*-------------------------------------------------------------------------
 *
 * safetensors.h
 *		One safetensors file, mapped and checked.
 *
 * Format: 8 bytes little endian N, N bytes of JSON, tensor bytes.  The JSON
 * names each tensor's type, shape and byte range behind the header; the
 * ranges must follow each other without hole or overlap to the file's end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SAFETENSORS_H
#define DSOCR_SAFETENSORS_H

#include "weights.h"

#define DSOCR_MAX_HEADER_BYTES ((size_t) 100000000)
#define DSOCR_MAX_TENSORS 100000

typedef struct DsocrSafetensors
{
	void *map; /* whole file, read-only, or NULL */
	size_t map_size;
	int n;
	DsocrTensor *tensors; /* by place in the file */
	char *names;		  /* what the tensors' names point into */
} DsocrSafetensors;

/*
 * Map a file and check all of its header.  Errors: DSOCR_E_MODEL naming the
 * file, the tensor and the reason; DSOCR_E_MEMORY.
 */
extern bool dsocr_safetensors_open(const char *path, DsocrSafetensors *s, DsocrError *err);
extern void dsocr_safetensors_close(DsocrSafetensors *s);

/* A name from a file, fit for a message: printable ASCII, at most 79 bytes. */
extern const char *dsocr_safetensors_printable(const char *name, char text[80]);

#endif /* DSOCR_SAFETENSORS_H */
