/*-------------------------------------------------------------------------
 *
 * sampling.h
 *		No-repeat n-gram rules and stop rules.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SAMPLING_H
#define DSOCR_SAMPLING_H

#include "base.h"

/*
 * Ids that would complete an n-gram of the given size that has been seen.
 * window 0: over all n ids (prompt included).  Otherwise over the last window
 * ids behind prompt_len, and ids of whitelist are never banned.  *banned is
 * appended to (ascending, no duplicates); capacity grows with dsocr_alloc.
 */
typedef struct DsocrBanList
{
	int32_t *ids;
	int n;
	int cap;
} DsocrBanList;

extern bool dsocr_ngram_bans(const int32_t *ids, int n, int prompt_len, int ngram_size, int window,
							 const int32_t *whitelist, int n_whitelist, DsocrBanList *banned,
							 DsocrError *err);

#endif /* DSOCR_SAMPLING_H */
