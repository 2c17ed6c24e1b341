/*-------------------------------------------------------------------------
 *
 * decoder_weights.c
 *		Weights of the decoder's layers.
 *
 *-------------------------------------------------------------------------
 */
#include "decoder_weights.h"

#include <stdio.h>

static void
load_swiglu(DsocrLoader *l, DecoderLayer *layer, const char *part, int inter, int hidden)
{
	char gate[DSOCR_NAME_MAX];
	char up[DSOCR_NAME_MAX];
	char down[DSOCR_NAME_MAX];
	const char *names[2] = {gate, up};

	snprintf(gate, sizeof(gate), "%sgate_proj.weight", part);
	snprintf(up, sizeof(up), "%sup_proj.weight", part);
	snprintf(down, sizeof(down), "%sdown_proj.weight", part);
	layer->inter = inter;
	layer->gate_up = dsocr_load_stack(l, names, 2, inter, hidden);
	layer->down = dsocr_load_matrix(l, down, hidden, inter);
}

static void
load_experts(DsocrLoader *l, const DsocrConfig *c, DecoderLayer *layer, int index)
{
	static const char *const names[2] = {"gate_proj.weight", "up_proj.weight"};

	layer->router = dsocr_load_table(l, "mlp.gate.weight", c->experts, c->hidden);
	layer->expert_gate_up =
		dsocr_zalloc((size_t) c->experts, sizeof(*layer->expert_gate_up), l->err);
	layer->expert_down = dsocr_zalloc((size_t) c->experts, sizeof(*layer->expert_down), l->err);
	if (layer->expert_gate_up == NULL || layer->expert_down == NULL)
	{
		l->failed = true;
		return;
	}
	for (int i = 0; i < c->experts && !l->failed; i++)
	{
		dsocr_load_prefix(l, "model.layers.%d.mlp.experts.%d.", index, i);
		layer->expert_gate_up[i] = dsocr_load_stack(l, names, 2, c->expert_inter, c->hidden);
		layer->expert_down[i] =
			dsocr_load_matrix(l, "down_proj.weight", c->hidden, c->expert_inter);
	}
	if (l->failed)
		return;
	layer->experts = l->be->ops->experts_open(
		l->be, (const DsocrMatrix *const *) layer->expert_gate_up,
		(const DsocrMatrix *const *) layer->expert_down, c->experts, l->err);
	l->failed = layer->experts == NULL;
}

void
dsocr_decoder_load_layer(DsocrLoader *l, const DsocrConfig *c, DecoderLayer *layer, int index)
{
	static const char *const qkv[3] = {"self_attn.q_proj.weight", "self_attn.k_proj.weight",
									   "self_attn.v_proj.weight"};
	int dim = c->heads * c->head_dim;

	dsocr_load_prefix(l, "model.layers.%d.", index);
	layer->norm1 = dsocr_load_vector(l, "input_layernorm.weight", c->hidden);
	layer->norm2 = dsocr_load_vector(l, "post_attention_layernorm.weight", c->hidden);
	layer->qkv = dsocr_load_stack(l, qkv, 3, dim, c->hidden);
	layer->o = dsocr_load_matrix(l, "self_attn.o_proj.weight", c->hidden, dim);
	if (index < c->first_dense)
	{
		load_swiglu(l, layer, "mlp.", c->dense_inter, c->hidden);
		return;
	}
	if (c->shared_experts > 0)
		load_swiglu(l, layer, "mlp.shared_experts.", c->shared_experts * c->expert_inter,
					c->hidden);
	load_experts(l, c, layer, index);
}

void
dsocr_decoder_free_layer(DsocrBackend *be, const DsocrConfig *c, DecoderLayer *layer)
{
	DsocrMatrix *m[] = {layer->qkv, layer->o, layer->gate_up, layer->down, layer->router};

	for (int i = 0; i < 5; i++)
		if (m[i])
			be->ops->matrix_free(be, m[i]);
	if (layer->norm1)
		be->ops->vector_free(be, layer->norm1);
	if (layer->norm2)
		be->ops->vector_free(be, layer->norm2);
	for (int i = 0; i < c->experts; i++)
	{
		if (layer->expert_gate_up && layer->expert_gate_up[i])
			be->ops->matrix_free(be, layer->expert_gate_up[i]);
		if (layer->expert_down && layer->expert_down[i])
			be->ops->matrix_free(be, layer->expert_down[i]);
	}
	if (layer->experts)
		be->ops->experts_close(be, layer->experts);
	dsocr_free(layer->expert_gate_up);
	dsocr_free(layer->expert_down);
}
