/*-------------------------------------------------------------------------
 *
 * reference.h
 *		What the files of the reference backend share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_TEST_REFERENCE_H
#define DSOCR_TEST_REFERENCE_H

#include "backend.h"

struct DsocrMatrix
{
	size_t rows;
	size_t cols;
	float *w; /* [rows, cols] */
};

struct DsocrVector
{
	size_t n;
	float *v;
};

struct DsocrExperts
{
	int n;
	const DsocrMatrix **gate_up; /* [n] */
	const DsocrMatrix **down;
};

#define REF_MAX_ROWS 512

typedef struct RefText
{
	int32_t *ids; /* [shape.ids] */
	int n;
	int prompt_len;
	int32_t *pages; /* [shape.pages] */
	int ngram_size;
	int ngram_window;
} RefText;

typedef struct RefBackend
{
	DsocrBackend be; /* must be first */
	DsocrTextShape shape;
	int32_t *whitelist;
	RefText *texts; /* [shape.slots] */
	int32_t picked[REF_MAX_ROWS];
	float logprobs[REF_MAX_ROWS];
} RefBackend;

/* The text of a row, NULL without slot, and the row's position in it. */
extern const RefText *dsocr_ref_text(DsocrBackend *be, const DsocrRows *rows, int r);
extern int dsocr_ref_position(const RefText *text, const DsocrRows *rows, int r);

struct DsocrKv
{
	DsocrKvShape shape;
	float *data; /* [layers, pages, page_tokens, 2, heads * head_dim] */
};

extern double dsocr_ref_dot(const float *a, const float *b, size_t n);
extern void dsocr_ref_softmax(double *scores, int n);

extern void dsocr_ref_grid_attention(DsocrBackend *be, void *out, const void *qkv, int views,
									 int side, int heads, int head_dim, int window,
									 const DsocrVector *rel_h, const DsocrVector *rel_w,
									 const DsocrVector *qkv_bias);
extern void dsocr_ref_attention(DsocrBackend *be, void *out, const void *qkv, int views, int n,
								int heads, int head_dim);
extern size_t dsocr_ref_kv_bytes(const DsocrBackend *be, const DsocrKvShape *s);
extern DsocrKv *dsocr_ref_kv_open(DsocrBackend *be, const DsocrKvShape *shape, DsocrError *err);
extern void dsocr_ref_kv_close(DsocrBackend *be, DsocrKv *kv);
extern void dsocr_ref_rope_store(DsocrBackend *be, void *qkv, const DsocrRows *rows, DsocrKv *kv,
								 int layer, float theta);
extern void dsocr_ref_causal_attention(DsocrBackend *be, void *out, const void *qkv,
									   const DsocrRows *rows, DsocrKv *kv, int layer);

#endif /* DSOCR_TEST_REFERENCE_H */
