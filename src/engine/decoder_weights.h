/*-------------------------------------------------------------------------
 *
 * decoder_weights.h
 *		Weights of the decoder's layers; shared by decoder*.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_DECODER_WEIGHTS_H
#define DSOCR_DECODER_WEIGHTS_H

#include "decoder.h"

#include "load.h"

typedef struct DecoderLayer
{
	DsocrVector *norm1;			  /* [hidden] */
	DsocrMatrix *qkv;			  /* [3 * heads * head_dim, hidden] */
	DsocrMatrix *o;				  /* [hidden, heads * head_dim] */
	DsocrVector *norm2;			  /* [hidden] */
	DsocrMatrix *gate_up;		  /* dense or shared experts: [2 * inter, hidden] */
	DsocrMatrix *down;			  /* [hidden, inter] */
	int inter;					  /* 0: no shared experts */
	DsocrMatrix *router;		  /* [experts, hidden]; NULL in a dense layer */
	DsocrMatrix **expert_gate_up; /* [experts] of [2 * expert_inter, hidden] */
	DsocrMatrix **expert_down;	  /* [experts] of [hidden, expert_inter] */
	DsocrExperts *experts;
} DecoderLayer;

/* Layer index of the decoder; the loader says whether it failed. */
extern void dsocr_decoder_load_layer(DsocrLoader *l, const DsocrConfig *c, DecoderLayer *layer,
									 int index);
extern void dsocr_decoder_free_layer(DsocrBackend *be, const DsocrConfig *c, DecoderLayer *layer);

#endif /* DSOCR_DECODER_WEIGHTS_H */
