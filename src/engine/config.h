/*-------------------------------------------------------------------------
 *
 * config.h
 *		Dimensions and defaults of a model, from its config.json.
 *
 * Official schema (DeepSeek-OCR config.json) plus the optional keys
 * sam_vit_b.neck_channels and sam_vit_b.window_size.  An optional file
 * dsocr.json in the same folder states what a small model was trained for:
 * {"mode": "small", "modes": ["small"], "prompts": {"markdown": "<image>\nFree OCR."}}.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CONFIG_H
#define DSOCR_CONFIG_H

#include "base.h"
#include "request.h"

#define DSOCR_MAX_LAYERS 256
#define DSOCR_MAX_EXPERTS 1024
#define DSOCR_MAX_TOPK 64

typedef struct DsocrConfig
{
	/* SAM */
	int image_size; /* pixels that pos_embed was made for (official 1024) */
	int patch;		/* 16 */
	int sam_width;
	int sam_layers;
	int sam_heads;
	int sam_window;	   /* default 14 */
	int neck_channels; /* default 256 */
	int net2_channels;
	int net3_channels;				   /* = clip_width */
	bool sam_global[DSOCR_MAX_LAYERS]; /* global attention in this block? */

	/* CLIP */
	int clip_width;
	int clip_layers;
	int clip_heads;
	int clip_grid; /* side of the stored position grid (official 16) */

	/* projector */
	int projector_in; /* clip_width + net3_channels */

	/* decoder */
	int hidden;
	int layers;
	int heads; /* no grouping: key/value heads are the same */
	int head_dim;
	int dense_inter;  /* intermediate_size */
	int expert_inter; /* moe_intermediate_size */
	int experts;	  /* n_routed_experts */
	int experts_per_token;
	int shared_experts;
	int first_dense; /* first_k_dense_replace */
	int vocab;
	int max_positions;
	float rms_eps;	  /* default 1e-6 */
	float rope_theta; /* default 10000 */
	int bos_id;
	int eos_id;

	/* what the model is for */
	DsocrMode auto_mode;		  /* from dsocr.json, else from candidate_resolutions */
	uint32_t modes;				  /* trained for, bits 1 << DsocrMode; all without the key */
	char *prompts[DSOCR_N_TASKS]; /* never NULL; official ones unless dsocr.json has others */
	char name[64];				  /* last component of the folder */
} DsocrConfig;

/* Read and check DIR/config.json and DIR/dsocr.json.  Errors: DSOCR_E_MODEL. */
extern bool dsocr_config_read(const char *dir, DsocrConfig *config, DsocrError *err);
extern void dsocr_config_free(DsocrConfig *config);

#endif /* DSOCR_CONFIG_H */
