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

bool
dsocr_sequence_start(DsocrSequence *s, const DsocrModel *m, const int32_t *ids, int n, int cap,
					 int image_at, const DsocrPlan *plan, DsocrError *err)
{
	memset(s, 0, sizeof(*s));
	for (int i = 0; i < n; i++)
		if (ids[i] < 0 || ids[i] >= m->config.vocab)
			return dsocr_fail(err, DSOCR_E_ARGUMENT,
							  "prompt has token %d outside the model's vocabulary of %d", ids[i],
							  m->config.vocab);
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
	s->plan = *plan;
	return true;
}

static void
drop_embeds(DsocrSequence *s, const DsocrModel *m)
{
	if (s->embeds != NULL)
		m->be->ops->free(m->be, s->embeds);
	s->embeds = NULL;
}

void
dsocr_sequence_end(DsocrSequence *s, const DsocrModel *m)
{
	drop_embeds(s, m);
	if (s->kv != NULL)
		dsocr_kv_release(s->kv, s->pages, s->n_pages);
	dsocr_free(s->pages);
	dsocr_free(s->ids);
	memset(s, 0, sizeof(*s));
}

bool
dsocr_sequence_reserve(DsocrSequence *s, DsocrKvCache *kv)
{
	int n = dsocr_kv_pages(s->cap);

	if (n > dsocr_kv_free(kv))
		return false;
	s->pages = dsocr_alloc((size_t) n, sizeof(*s->pages), NULL);
	if (s->pages == NULL || !dsocr_kv_reserve(kv, s->pages, n))
		return false;
	s->n_pages = n;
	s->kv = kv;
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
	const void *newline = dsocr_encoder_newline(m->encoder);

	for (int y = 0; y < rows; y++)
		m->be->ops->copy(m->be, image_row(s, m, first + y * (columns + 1) + columns), newline,
						 (size_t) m->config.hidden);
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
	s->embeds = m->be->ops->alloc(m->be, (size_t) s->prompt_len * (size_t) m->config.hidden, err);
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
	m->be->ops->copy(m->be, image_row(s, m, total - 1), dsocr_encoder_separator(m->encoder),
					 (size_t) m->config.hidden);
	return m->be->ops->sync(m->be, err);
}

/* Tokens of a view, [side^2, hidden], row by row into the sequence. */
static void
place_view(const DsocrSequence *s, const DsocrModel *m, int side, int view)
{
	bool tile = view < s->plan.views - 1;
	int columns = tile ? s->plan.columns * side : side;
	int first = tile ? 0 : tile_tokens(s, m);

	if (tile)
		first += view / s->plan.columns * side * (columns + 1) + view % s->plan.columns * side;
	for (int y = 0; y < side; y++)
	{
		size_t n = (size_t) side * (size_t) m->config.hidden;

		m->be->ops->copy(m->be, image_row(s, m, first + y * (columns + 1)),
						 dsocr_act(m->be, m->tokens, (size_t) y * n), n);
	}
}

bool
dsocr_sequence_view(DsocrSequence *s, DsocrModel *m, const uint8_t *rgb, int size, int view,
					const DsocrWatch *watch, DsocrError *err)
{
	int side = token_side(m, size);
	size_t n = (size_t) side * (size_t) side * (size_t) m->config.hidden;

	if (n > m->tokens_cap)
	{
		if (m->tokens != NULL)
			m->be->ops->free(m->be, m->tokens);
		m->tokens_cap = 0;
		m->tokens = m->be->ops->alloc(m->be, n, err);
		if (m->tokens == NULL)
			return false;
		m->tokens_cap = n;
	}
	if (!dsocr_encoder_run(m->encoder, rgb, size, m->tokens, watch->tap, watch->poll, err))
		return false;
	place_view(s, m, side, view);
	return m->be->ops->sync(m->be, err);
}

bool
dsocr_sequence_prefill(DsocrSequence *s, DsocrModel *m, const DsocrWatch *watch, DsocrError *err)
{
	int left = s->prompt_len - s->filled;
	int n = left < DSOCR_CHUNK ? left : DSOCR_CHUNK;
	int32_t last = n - 1;
	DsocrRows rows = {.kind = DSOCR_ROWS_ONE, .n = n, .positions = m->positions, .pages = m->pages};
	void *x = dsocr_act(m->be, s->embeds, (size_t) s->filled * (size_t) m->config.hidden);

	for (int i = 0; i < n; i++)
	{
		m->positions[i] = s->filled + i;
		m->pages[i] = s->pages;
	}
	if (!dsocr_decoder_run(m->decoder, x, &rows, dsocr_kv_memory(s->kv), &last, n == left,
						   watch->tap, watch->router_tap, watch->poll, err))
		return false;
	s->filled += n;
	if (s->filled == s->prompt_len)
		drop_embeds(s, m);
	return true;
}

bool
dsocr_sequences_decode(DsocrSequence *const *list, int n, void *x, DsocrModel *m,
					   const DsocrWatch *watch, DsocrError *err)
{
	DsocrRows rows = {
		.kind = DSOCR_ROWS_MIXED, .n = n, .positions = m->positions, .pages = m->pages};
	int32_t index[DSOCR_CHUNK];

	for (int i = 0; i < n; i++)
	{
		const DsocrSequence *s = list[i];

		dsocr_decoder_embed(m->decoder, dsocr_act(m->be, x, (size_t) i * (size_t) m->config.hidden),
							&s->ids[s->n - 1], 1);
		m->positions[i] = s->n - 1;
		m->pages[i] = s->pages;
		index[i] = i;
	}
	if (!dsocr_decoder_run(m->decoder, x, &rows, dsocr_kv_memory(list[0]->kv), index, n, watch->tap,
						   watch->router_tap, watch->poll, err))
		return false;
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
