/*-------------------------------------------------------------------------
 *
 * payload.h
 *		Memory of images and results: one shared segment for each.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_PAYLOAD_H
#define DSOCR_PAYLOAD_H

#include "dsocr.h"

#include "storage/dsm.h"

/*
 * Copy two pieces, one behind the other, into a new segment that lives until
 * it is freed.  DSM_HANDLE_INVALID when the server has no more segments;
 * raises ERROR when the system has no memory for it.
 */
extern dsm_handle dsocr_payload_create(const void *head, Size head_len, const void *tail,
									   Size tail_len);

/* Free it; processes that have it mapped keep it until they let go. */
extern void dsocr_payload_free(dsm_handle payload);

/* Map it; to be let go of by dsm_detach.  Raises ERROR when that cannot be done. */
extern dsm_segment *dsocr_payload_map(dsm_handle payload);

#endif /* DSOCR_PAYLOAD_H */
