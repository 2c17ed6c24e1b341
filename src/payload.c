/*-------------------------------------------------------------------------
 *
 * payload.c
 *		Memory of images and results: one shared segment for each.
 *
 * Images are large, few, and come in all sizes.  In an area that all share,
 * small ones would cut up the room for large ones, and room once taken would
 * never go back to the system; a segment of its own costs an image some system
 * calls, and is gone when it is freed.  Freeing takes no mapping and raises no
 * error, so it can be done while a transaction aborts.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"
#include "payload.h"

dsm_handle
dsocr_payload_create(const void *head, Size head_len, const void *tail, Size tail_len)
{
	dsm_segment *segment = dsm_create(add_size(head_len, tail_len), DSM_CREATE_NULL_IF_MAXSEGMENTS);
	dsm_handle payload;
	char *to;

	if (segment == NULL)
		return DSM_HANDLE_INVALID;
	to = dsm_segment_address(segment);
	if (head_len > 0)
		memcpy(to, head, head_len);
	if (tail_len > 0)
		memcpy(to + head_len, tail, tail_len);
	payload = dsm_segment_handle(segment);
	dsm_pin_segment(segment);
	dsm_detach(segment);
	return payload;
}

void
dsocr_payload_free(dsm_handle payload)
{
	if (payload != DSM_HANDLE_INVALID)
		dsm_unpin_segment(payload);
}

dsm_segment *
dsocr_payload_map(dsm_handle payload)
{
	dsm_segment *segment = dsm_attach(payload);

	if (segment == NULL)
		elog(ERROR, "shared memory of a dsocr request was not found");
	return segment;
}
