/*-------------------------------------------------------------------------
 *
 * sequence.c
 *		One input sequence on its way through the model.
 *
 * Order of the image tokens (official): the tiles woven into one big picture,
 * image_newline behind each of its rows, then the global view in the same
 * way, then view_seperator.
 *
 *-------------------------------------------------------------------------
 */
#include "sequence.h"

#include <string.h>

/* Tokens along a side of a view: two halvings of the patch grid, rounded up. */
static int
token_side(const DsocrModel *m, int size)
{
	int patches = size / m->config.patch;

	return (patches + 3) / 4;
}

static bool
check_ids(const DsocrModel *m, const int32_t *ids, int n, DsocrError *err)
{
	for (int i = 0; i < n; i++)
		if (ids[i] < 0 || ids[i] >= m->config.vocab)
			return dsocr_fail(err, DSOCR_E_ARGUMENT,
							  "prompt has token %d outside the model's vocabulary of %d", ids[i],
							  m->config.vocab);
	return true;
}

bool
dsocr_sequence_start(DsocrSequence *s, const DsocrModel *m, const int32_t *ids, int n, int cap,
					 int image_at, const DsocrPlan *plan, DsocrError *err)
{
	memset(s, 0, sizeof(*s));
	if (!check_ids(m, ids, n, err))
		return false;
	if (cap < n)
		cap = n;
	s->ids = dsocr_alloc((size_t) cap, sizeof(*s->ids), err);
	if (s->ids == NULL)
		return false;
	memcpy(s->ids, ids, sizeof(*ids) * (size_t) n);
	s->n = n;
	s->cap = cap;
	s->prompt_len = n;
	s->image_at = image_at;
	s->slot = -1;
	s->plan = *plan;
	return true;
}

bool
dsocr_sequence_restart(DsocrSequence *s, DsocrModel *m, const int32_t *ids, int n, int image_at,
					   const DsocrPlan *plan, DsocrError *err)
{
	if (n > s->cap)
		return dsocr_fail(err, DSOCR_E_INTERNAL, "%d ids for a sequence of %d", n, s->cap);
	if (!check_ids(m, ids, n, err))
		return false;
	memcpy(s->ids, ids, sizeof(*ids) * (size_t) n);
	s->n = n;
	s->prompt_len = n;
	s->image_at = image_at;
	s->plan = *plan;
	if (s->kv != NULL)
		dsocr_sequence_text(s, m);
	return true;
}

static void
drop_embeds(DsocrSequence *s, DsocrModel *m)
{
	if (s->embeds != NULL && m->n_embeds > 0)
		m->embeds[m->free_embeds++] = s->embeds;
	else if (s->embeds != NULL)
		m->be->ops->free(m->be, s->embeds);
	s->embeds = NULL;
}

static void *
take_embeds(const DsocrSequence *s, DsocrModel *m, DsocrError *err)
{
	if (m->n_embeds == 0)
		return m->be->ops->alloc(m->be, (size_t) s->prompt_len * (size_t) m->config.hidden, err);
	if (m->free_embeds > 0)
		return m->embeds[--m->free_embeds];
	dsocr_fail(err, DSOCR_E_MEMORY, "more than %d prompts have embeddings", m->n_embeds);
	return NULL;
}

void
dsocr_sequence_end(DsocrSequence *s, DsocrModel *m)
{
	drop_embeds(s, m);
	if (s->kv != NULL)
	{
		dsocr_kv_release(s->kv, s->pages, s->n_pages);
		dsocr_kv_give_slot(s->kv, s->slot);
	}
	dsocr_free(s->pages);
	dsocr_free(s->ids);
	memset(s, 0, sizeof(*s));
}

void
dsocr_sequence_text(const DsocrSequence *s, DsocrModel *m)
{
	const DsocrText text = {.ids = s->ids,
							.n = s->n,
							.prompt_len = s->prompt_len,
							.pages = s->pages,
							.n_pages = s->n_pages,
							.ngram_size = s->ngram_size,
							.ngram_window = s->ngram_window};

	m->be->ops->text_start(m->be, s->slot, &text);
}

bool
dsocr_sequence_reserve(DsocrSequence *s, DsocrModel *m, DsocrKvCache *kv)
{
	int n = dsocr_kv_pages(s->cap);
	int slot;

	if (n > dsocr_kv_free(kv))
		return false;
	s->pages = dsocr_alloc((size_t) n, sizeof(*s->pages), NULL);
	slot = s->pages != NULL ? dsocr_kv_take_slot(kv) : -1;
	if (slot < 0)
	{
		dsocr_free(s->pages);
		s->pages = NULL;
		return false;
	}
	dsocr_kv_reserve(kv, s->pages, n);
	s->n_pages = n;
	s->slot = slot;
	s->kv = kv;
	dsocr_sequence_text(s, m);
	return true;
}

/* Row of the sequence where an activation of the image starts. */
static void *
image_row(const DsocrSequence *s, const DsocrModel *m, int token)
{
	return dsocr_act(m->be, s->embeds, (size_t) (s->image_at + token) * (size_t) m->config.hidden);
}

/* Image tokens before the global view. */
static int
tile_tokens(const DsocrSequence *s, const DsocrModel *m)
{
	int side = token_side(m, s->plan.tile_size);

	if (s->plan.columns * s->plan.rows <= 1)
		return 0;
	return s->plan.rows * side * (s->plan.columns * side + 1);
}

static void
place_newlines(const DsocrSequence *s, const DsocrModel *m, int first, int rows, int columns)
{
	size_t hidden = (size_t) m->config.hidden;

	m->be->ops->copy_rows(m->be, image_row(s, m, first + columns), (size_t) (columns + 1) * hidden,
						  dsocr_encoder_newline(m->encoder), 0, hidden, (size_t) rows);
}

bool
dsocr_sequence_embed(DsocrSequence *s, DsocrModel *m, DsocrError *err)
{
	int tiles = tile_tokens(s, m);
	int side = token_side(m, s->plan.global_size);
	int total = tiles + side * (side + 1) + 1;

	if (s->image_at >= 0 && (s->plan.image_tokens != total || s->image_at > s->prompt_len - total))
		return dsocr_fail(err, DSOCR_E_INTERNAL, "%d image tokens planned, %d computed",
						  s->plan.image_tokens, total);
	s->embeds = take_embeds(s, m, err);
	if (s->embeds == NULL)
		return false;
	dsocr_decoder_embed(m->decoder, s->embeds, s->ids, s->prompt_len);
	if (s->image_at < 0)
		return m->be->ops->sync(m->be, err);
	if (tiles > 0)
	{
		int tile_side = token_side(m, s->plan.tile_size);

		place_newlines(s, m, 0, s->plan.rows * tile_side, s->plan.columns * tile_side);
	}
	place_newlines(s, m, tiles, side, side);
	dsocr_act_copy(m->be, image_row(s, m, total - 1), dsocr_encoder_separator(m->encoder),
				   (size_t) m->config.hidden);
	return m->be->ops->sync(m->be, err);
}

/* Tokens of a view, [side^2, hidden], row by row into the sequence. */
static void
place_view(const DsocrSequence *s, const DsocrModel *m, const void *tokens, int side, int view)
{
	bool tile = view < s->plan.views - 1;
	int columns = tile ? s->plan.columns * side : side;
	int first = tile ? 0 : tile_tokens(s, m);
	size_t hidden = (size_t) m->config.hidden;
	size_t n = (size_t) side * hidden;

	if (tile)
		first += view / s->plan.columns * side * (columns + 1) + view % s->plan.columns * side;
	m->be->ops->copy_rows(m->be, image_row(s, m, first), (size_t) (columns + 1) * hidden, tokens, n,
						  n, (size_t) side);
}

static bool
tokens_room(DsocrModel *m, size_t n, DsocrError *err)
{
	if (n <= m->tokens_cap)
		return true;
	if (m->tokens != NULL)
		m->be->ops->free(m->be, m->tokens);
	m->tokens_cap = 0;
	m->tokens = m->be->ops->alloc(m->be, n, err);
	if (m->tokens == NULL)
		return false;
	m->tokens_cap = n;
	return true;
}

bool
dsocr_sequence_room(int n, int size, DsocrModel *m, DsocrError *err)
{
	size_t side = (size_t) token_side(m, size);

	return dsocr_encoder_reserve(m->encoder, n, size, err) &&
		   tokens_room(m, (size_t) n * side * side * (size_t) m->config.hidden, err);
}

bool
dsocr_sequence_views(const DsocrSequenceView *list, int n, int size, DsocrModel *m,
					 const DsocrWatch *watch, DsocrError *err)
{
	const uint8_t *rgb[DSOCR_MAX_TOGETHER];
	int side = token_side(m, size);
	size_t view = (size_t) side * (size_t) side * (size_t) m->config.hidden;

	for (int i = 0; i < n; i++)
		rgb[i] = list[i].rgb;
	if (!tokens_room(m, (size_t) n * view, err) ||
		!dsocr_encoder_run(m->encoder, rgb, n, size, m->tokens, watch->tap, watch->poll, err))
		return false;
	for (int i = 0; i < n; i++)
		place_view(list[i].sequence, m, dsocr_act(m->be, m->tokens, (size_t) i * view), side,
				   list[i].view);
	return m->be->ops->sync(m->be, err);
}

bool
dsocr_sequence_prefill(DsocrSequence *s, DsocrModel *m, const DsocrWatch *watch, DsocrError *err)
{
	int left = s->prompt_len - s->filled;
	int n = left < DSOCR_CHUNK ? left : DSOCR_CHUNK;
	const DsocrRows rows = {.n = n, .slots = &s->slot, .first = s->filled};
	void *x = dsocr_act(m->be, s->embeds, (size_t) s->filled * (size_t) m->config.hidden);

	if (!dsocr_decoder_chunk(m->decoder, x, &rows, dsocr_kv_memory(s->kv), n == left, watch, err))
		return false;
	s->filled += n;
	if (s->filled == s->prompt_len)
		drop_embeds(s, m);
	return true;
}

bool
dsocr_sequences_decode(DsocrSequence *const *list, int n, DsocrModel *m, const DsocrWatch *watch,
					   int32_t *ids, float *logprobs, DsocrError *err)
{
	const DsocrRows rows = {.n = m->be->ops->bucket(m->be, n), .slots = m->slots, .mixed = true};

	for (int i = 0; i < rows.n; i++)
		m->slots[i] = i < n ? list[i]->slot : -1;
	if (!dsocr_decoder_step(m->decoder, &rows, dsocr_kv_memory(list[0]->kv), watch, err))
		return false;
	m->be->ops->picked(m->be, ids, logprobs, n);
	for (int i = 0; i < n; i++)
		list[i]->filled = list[i]->n;
	return true;
}

void
dsocr_sequence_push(DsocrSequence *s, int32_t id)
{
	if (s->n < s->cap)
		s->ids[s->n++] = id;
}
