/*-------------------------------------------------------------------------
 *
 * encoder.h
 *		DeepEncoder: a view to vision tokens.
 *
 * SAM-base with window attention -> 16x convolutional compressor ->
 * CLIP-large -> projector (DeepSeek-OCR, arXiv 2510.18234, section 3.2).
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ENCODER_H
#define DSOCR_ENCODER_H

#include "backend.h"
#include "config.h"

typedef struct DsocrEncoder DsocrEncoder;

/*
 * Looks at intermediate values, in tests: name as in the golden data without
 * "global." / "local." ("sam.block.0"), rows x dim values, channel-last.
 */
typedef struct DsocrTap
{
	void (*see)(void *arg, const char *name, const float *values, int rows, int dim);
	void *arg;
} DsocrTap;

/* Check all encoder tensors and prepare them.  Errors: DSOCR_E_MODEL, DSOCR_E_MEMORY. */
extern DsocrEncoder *dsocr_encoder_open(DsocrBackend *be, const DsocrConfig *config,
										const DsocrWeights *weights, DsocrError *err);
extern void dsocr_encoder_close(DsocrEncoder *e);

/*
 * Encode views of size x size pixels together: with s = ceil(floor(size/16) / 4)
 * tokens receives s^2 rows of config->hidden activations for each, the same as
 * for the view alone.  tap (which sees the rows of all views) and poll may be
 * NULL.  Errors: DSOCR_E_MEMORY, DSOCR_E_CANCELLED, DSOCR_E_DEVICE.
 */
extern bool dsocr_encoder_run(DsocrEncoder *e, const uint8_t *const *rgb, int views, int size,
							  void *tokens, const DsocrTap *tap, const DsocrPoll *poll,
							  DsocrError *err);

/* Make the buffers for so many views of a size now.  Errors: DSOCR_E_MEMORY. */
extern bool dsocr_encoder_reserve(DsocrEncoder *e, int views, int size, DsocrError *err);

/* image_newline and view_seperator: config->hidden activations each. */
extern const void *dsocr_encoder_newline(const DsocrEncoder *e);
extern const void *dsocr_encoder_separator(const DsocrEncoder *e);

#endif /* DSOCR_ENCODER_H */
