/*-------------------------------------------------------------------------
 *
 * model.c
 *		A model folder, loaded: config, tokenizer, weights and both networks.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include "fault.h"
#include "kv_cache.h"
#include "sha256.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_SMALL_FILE ((size_t) 256 << 20) /* config.json, tokenizer.json, dsocr.json */
#define SAMPLES 8							/* places looked at in each tensor */
#define SAMPLE_BYTES 64

static void
find_special_tokens(DsocrModel *m)
{
	static const char *const cells[DSOCR_MAX_WHITELIST] = {"<td>", "</td>"};

	m->image_id = dsocr_tokenizer_id(m->tokenizer, "<image>");
	for (int i = 0; i < DSOCR_MAX_WHITELIST; i++)
	{
		int32_t id = dsocr_tokenizer_id(m->tokenizer, cells[i]);

		if (id >= 0)
			m->whitelist[m->n_whitelist++] = id;
	}
}

static bool
open_texts(DsocrModel *m, DsocrError *err)
{
	const DsocrTextShape shape = {.slots = m->max_sequences,
								  .ids = m->config.max_positions,
								  .pages = dsocr_kv_pages(m->config.max_positions),
								  .whitelist = m->whitelist,
								  .n_whitelist = m->n_whitelist};

	return m->be->ops->texts_open(m->be, &shape, err);
}

/* Weights in the type that was asked for: the folder's own, or made now. */
static bool
quantize(DsocrModel *m, DsocrError *err)
{
	DsocrDtype wish = m->be->weights;
	DsocrDtype have = dsocr_quantized_dtype(m->weights);
	int64_t start = dsocr_now_us();

	if (wish == DSOCR_BF16 || wish == have)
		return true;
	if (have != DSOCR_BF16)
	{
		dsocr_fail(err, DSOCR_E_MODEL, "model folder holds %s weights, asked for were %s",
				   dsocr_quant_name(have), dsocr_quant_name(wish));
		return dsocr_hint(err, "Set dsocr.weights to %s, or dsocr.model to the original folder.",
						  dsocr_quant_name(have));
	}
	m->quantized = dsocr_quantize_weights(m->weights, wish, m->be->threads, err);
	m->quantize_us = dsocr_now_us() - start;
	return m->quantized != NULL;
}

static bool
open_parts(DsocrModel *m, const char *dir, const char *tokenizer, DsocrError *err)
{
	char path[4096];

	if (!dsocr_config_read(dir, &m->config, err))
		return false;
	if (tokenizer == NULL)
	{
		if (snprintf(path, sizeof(path), "%s/tokenizer.json", dir) >= (int) sizeof(path))
			return dsocr_fail(err, DSOCR_E_MODEL, "path of the model folder is too long");
		tokenizer = path;
	}
	m->tokenizer = dsocr_tokenizer_open(tokenizer, err);
	if (m->tokenizer == NULL)
		return false;
	find_special_tokens(m);
	if (m->image_id < 0 || m->image_id >= m->config.vocab)
		return dsocr_fail(err, DSOCR_E_MODEL, "tokenizer has no usable token <image>");
	DSOCR_FAULT("load");
	m->weights = dsocr_weights_open(dir, err);
	if (m->weights == NULL)
		return false;
	if (!quantize(m, err))
		return false;
	m->encoder = dsocr_encoder_open(m->be, &m->config, m->weights, err);
	if (m->encoder == NULL)
		return false;
	m->decoder = dsocr_decoder_open(m->be, &m->config, m->weights, DSOCR_CHUNK,
									m->be->ops->bucket(m->be, m->max_sequences), err);
	if (m->decoder == NULL)
		return false;
	m->slots = dsocr_alloc(DSOCR_CHUNK, sizeof(*m->slots), err);
	m->kinds = dsocr_token_kinds(m->tokenizer, m->config.vocab, err);
	return m->slots != NULL && m->kinds != NULL && open_texts(m, err);
}

DsocrModel *
dsocr_model_open(DsocrBackend *be, const char *dir, const char *tokenizer, int max_sequences,
				 DsocrError *err)
{
	DsocrModel *m = dsocr_zalloc(1, sizeof(*m), err);

	if (m == NULL)
		return NULL;
	m->be = be;
	m->max_sequences = max_sequences;
	if (!open_parts(m, dir, tokenizer, err))
	{
		dsocr_model_close(m);
		return NULL;
	}
	return m;
}

void
dsocr_model_close(DsocrModel *m)
{
	if (m == NULL)
		return;
	if (m->tokens != NULL)
		m->be->ops->free(m->be, m->tokens);
	for (int i = 0; i < m->free_embeds; i++)
		m->be->ops->free(m->be, m->embeds[i]);
	dsocr_free(m->embeds);
	dsocr_free(m->slots);
	dsocr_free(m->kinds);
	dsocr_decoder_close(m->decoder);
	dsocr_encoder_close(m->encoder);
	dsocr_weights_close(m->weights);
	dsocr_quantized_free(m->quantized);
	dsocr_tokenizer_close(m->tokenizer);
	dsocr_config_free(&m->config);
	dsocr_free(m);
}

bool
dsocr_model_reserve_embeds(DsocrModel *m, int n, DsocrError *err)
{
	size_t count = (size_t) m->config.max_positions * (size_t) m->config.hidden;

	m->embeds = dsocr_alloc((size_t) n, sizeof(*m->embeds), err);
	if (m->embeds == NULL)
		return false;
	for (; m->n_embeds < n; m->n_embeds++)
	{
		void *act = m->be->ops->alloc(m->be, count, err);

		if (act == NULL)
			return false;
		m->embeds[m->free_embeds++] = act;
	}
	return true;
}

bool
dsocr_model_embeds_left(const DsocrModel *m)
{
	return m->n_embeds == 0 || m->free_embeds > 0;
}

/* Append a file of the folder, length first; a file that is not there counts as empty. */
static bool
append_file(DsocrBuffer *b, const char *dir, const char *name, DsocrError *err)
{
	char path[4096];
	DsocrBuffer file = {0};
	bool ok = true;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (access(path, F_OK) == 0)
		ok = dsocr_read_file(path, MAX_SMALL_FILE, &file, err);
	ok = ok && dsocr_buffer_printf(b, err, "%s %zu\n", name, file.len) &&
		 (file.len == 0 || dsocr_buffer_append(b, file.data, file.len, err));
	dsocr_buffer_free(&file);
	return ok;
}

/* Append what identifies a tensor: its header entry and samples of its bytes. */
static bool
append_tensor(DsocrBuffer *b, const DsocrTensor *t, DsocrError *err)
{
	size_t size = dsocr_tensor_bytes(t);
	size_t piece = size < SAMPLE_BYTES ? size : SAMPLE_BYTES;

	if (!dsocr_buffer_printf(b, err, "%s %d", t->name, (int) t->dtype))
		return false;
	for (int i = 0; i < t->ndim; i++)
		if (!dsocr_buffer_printf(b, err, " %lld", (long long) t->shape[i]))
			return false;
	for (size_t i = 0; i < SAMPLES; i++)
	{
		size_t at = (size - piece) / (SAMPLES - 1) * i;

		if (!dsocr_buffer_append(b, (const char *) t->data + at, piece, err))
			return false;
	}
	return true;
}

bool
dsocr_model_fingerprint(const DsocrModel *m, const char *dir, char out[33], DsocrError *err)
{
	DsocrBuffer b = {0};
	char hex[65];
	bool ok = append_file(&b, dir, "config.json", err) &&
			  append_file(&b, dir, "tokenizer.json", err) &&
			  append_file(&b, dir, "dsocr.json", err);

	for (int i = 0; ok && i < dsocr_weights_count(m->weights); i++)
		ok = append_tensor(&b, dsocr_weights_at(m->weights, i), err);
	if (ok)
	{
		dsocr_sha256_hex(b.data, b.len, hex);
		memcpy(out, hex, 32);
		out[32] = '\0';
	}
	dsocr_buffer_free(&b);
	return ok;
}
