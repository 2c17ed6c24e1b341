/*-------------------------------------------------------------------------
 *
 * encoder_weights.h
 *		What a DeepEncoder is made of; shared by encoder*.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ENCODER_WEIGHTS_H
#define DSOCR_ENCODER_WEIGHTS_H

#include "encoder.h"

#define DSOCR_MLP_RATIO 4
#define DSOCR_MAX_GRIDS 8 /* view sizes whose tables are kept */

/* A transformer layer of either tower. */
typedef struct EncoderLayer
{
	DsocrVector *norm1_w, *norm1_b; /* [dim] */
	DsocrMatrix *qkv;				/* [3 * dim, dim] */
	DsocrVector *qkv_b;				/* [3 * dim] */
	DsocrMatrix *proj;				/* [dim, dim] */
	DsocrVector *proj_b;
	DsocrVector *norm2_w, *norm2_b;
	DsocrMatrix *fc1; /* [4 * dim, dim] */
	DsocrVector *fc1_b;
	DsocrMatrix *fc2; /* [dim, 4 * dim] */
	DsocrVector *fc2_b;
	const DsocrTensor *rel_h_table, *rel_w_table; /* SAM, global: [2 * grid - 1, head_dim] */
	DsocrVector *rel_h, *rel_w;					  /* SAM, windowed: [2 * window - 1, head_dim] */
} EncoderLayer;

/* Tables of one view size. */
typedef struct EncoderGrid
{
	int side;				 /* patches; 0 = unused */
	void *sam_pos;			 /* [side^2, sam_width] */
	void *clip_pos;			 /* [1 + n, clip_width] */
	DsocrVector **rel_h;	 /* [sam_layers] of global layers */
	DsocrVector **rel_w;	 /* [2 * side - 1, head_dim] each */
	unsigned long last_used; /* the oldest makes room */
} EncoderGrid;

struct DsocrEncoder
{
	DsocrBackend *be;
	const DsocrConfig *config;
	EncoderLayer *sam;	/* [sam_layers] */
	EncoderLayer *clip; /* [clip_layers] */

	DsocrMatrix *patch;
	DsocrVector *patch_b;
	const DsocrTensor *sam_pos_table;  /* [1, grid, grid, sam_width] */
	const DsocrTensor *clip_pos_table; /* [1 + clip_grid^2, clip_width] */
	DsocrMatrix *neck1, *neck2, *net2, *net3;
	DsocrVector *neck1_w, *neck1_b, *neck2_w, *neck2_b;
	void *class_row; /* [clip_width] */
	DsocrVector *pre_w, *pre_b;
	DsocrMatrix *projector;
	DsocrVector *projector_b;
	void *newline, *separator; /* [hidden] */

	EncoderGrid grids[DSOCR_MAX_GRIDS];
	unsigned long clock;

	void *x, *n, *w, *y;
	size_t x_cap, n_cap, w_cap, y_cap; /* elements */
};

/*
 * Tables for side x side patches and side3 x side3 tokens, made when they are
 * not there.  Valid until the next call.  Errors: DSOCR_E_MEMORY.
 */
extern const EncoderGrid *dsocr_encoder_grid(DsocrEncoder *e, int side, int side3, DsocrError *err);

#endif /* DSOCR_ENCODER_WEIGHTS_H */
