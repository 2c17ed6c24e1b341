/*-------------------------------------------------------------------------
 *
 * transcript.h
 *		From the ids that the model wrote to texts, blocks and confidences.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_TRANSCRIPT_H
#define DSOCR_TRANSCRIPT_H

#include "request.h"
#include "tokenizer.h"

typedef struct DsocrTranscript
{
	const int32_t *ids; /* [n] without end token */
	const float *logprobs;
	int n;
	bool loop; /* what followed was a loop, and is left out */
	int width; /* of the page, for boxes */
	int height;
} DsocrTranscript;

/*
 * Fill result->raw, markdown, prefix and blocks with their lines, finish being
 * of no concern here, and text_tokens, mean_logprob and confidence.  Behind a
 * cut loop, ids of unfinished markup are left out as well, and the markdown
 * closes the table that is open; raw stays what the model wrote.  Linear in
 * the length.  Errors: DSOCR_E_MEMORY; result is as before then.
 */
extern bool dsocr_transcript_fill(const DsocrTokenizer *t, const DsocrTranscript *transcript,
								  DsocrResult *result, DsocrError *err);

#endif /* DSOCR_TRANSCRIPT_H */
