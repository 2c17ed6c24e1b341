/*-------------------------------------------------------------------------
 *
 * sampling.c
 *		Texts of sequences and the best next token of each.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <math.h>
#include <string.h>

#define PICK_ROWS 512 /* rows of a run when there are fewer slots */

/* ---- texts ---- */

void
dsocr_cpu_texts_close(DsocrCpu *cpu)
{
	DsocrCpuTexts *t = &cpu->texts;

	for (int i = 0; i < t->n_bans; i++)
		dsocr_free(t->bans[i].ids);
	dsocr_free(t->bans);
	dsocr_free(t->list);
	dsocr_free(t->ids);
	dsocr_free(t->pages);
	dsocr_free(t->whitelist);
	dsocr_free(t->picked);
	dsocr_free(t->logprobs);
	memset(t, 0, sizeof(*t));
}

static bool
texts_alloc(DsocrCpu *cpu, DsocrError *err)
{
	DsocrCpuTexts *t = &cpu->texts;
	size_t slots = (size_t) t->shape.slots;
	size_t picks = slots > PICK_ROWS ? slots : PICK_ROWS;
	size_t ids = 0;
	size_t pages = 0;

	if (!dsocr_mul(slots, (size_t) t->shape.ids, &ids) ||
		!dsocr_mul(slots, (size_t) t->shape.pages, &pages))
		return dsocr_fail(err, DSOCR_E_MEMORY, "texts of %d ids are too long", t->shape.ids);
	t->list = dsocr_zalloc(slots, sizeof(*t->list), err);
	t->ids = dsocr_alloc(ids, sizeof(*t->ids), err);
	t->pages = dsocr_alloc(pages, sizeof(*t->pages), err);
	t->whitelist = dsocr_alloc((size_t) t->shape.n_whitelist, sizeof(*t->whitelist), err);
	t->picked = dsocr_zalloc(picks, sizeof(*t->picked), err);
	t->logprobs = dsocr_zalloc(picks, sizeof(*t->logprobs), err);
	t->bans = dsocr_zalloc((size_t) cpu->be.threads, sizeof(*t->bans), err);
	if (!t->list || !t->ids || !t->pages || !t->whitelist || !t->picked || !t->logprobs || !t->bans)
		return false;
	t->n_bans = cpu->be.threads;
	for (int i = 0; i < t->n_bans; i++)
	{
		/* a text of n ids bans fewer than n */
		t->bans[i].cap = t->shape.ids;
		t->bans[i].ids = dsocr_alloc((size_t) t->shape.ids, sizeof(int32_t), err);
		if (t->bans[i].ids == NULL)
			return false;
	}
	return true;
}

bool
dsocr_cpu_texts_open(DsocrBackend *be, const DsocrTextShape *shape, DsocrError *err)
{
	DsocrCpu *cpu = (DsocrCpu *) be;
	DsocrCpuTexts *t = &cpu->texts;

	dsocr_cpu_texts_close(cpu);
	t->shape = *shape;
	if (!texts_alloc(cpu, err))
	{
		dsocr_cpu_texts_close(cpu);
		return false;
	}
	if (shape->n_whitelist > 0)
		memcpy(t->whitelist, shape->whitelist, sizeof(int32_t) * (size_t) shape->n_whitelist);
	t->shape.whitelist = t->whitelist;
	for (int i = 0; i < shape->slots; i++)
	{
		t->list[i].ids = t->ids + (size_t) i * (size_t) shape->ids;
		t->list[i].pages = t->pages + (size_t) i * (size_t) shape->pages;
	}
	return true;
}

void
dsocr_cpu_text_start(DsocrBackend *be, int slot, const DsocrText *text)
{
	DsocrCpuText *to = &((DsocrCpu *) be)->texts.list[slot];

	memcpy(to->ids, text->ids, sizeof(int32_t) * (size_t) text->n);
	if (text->n_pages > 0)
		memcpy(to->pages, text->pages, sizeof(int32_t) * (size_t) text->n_pages);
	to->n = text->n;
	to->prompt_len = text->prompt_len;
	to->ngram_size = text->ngram_size;
	to->ngram_window = text->ngram_window;
}

/* ---- the next token ---- */

typedef struct Pick
{
	DsocrCpu *cpu;
	const float *logits;
	int vocab;
	const DsocrRows *rows;
} Pick;

static bool
pick_banned(const DsocrBanList *bans, int id)
{
	for (int i = 0; i < bans->n; i++)
		if (bans->ids[i] == id)
			return true;
	return false;
}

/*
 * The list of bans is short and the best ids are rarely on it, so it is
 * searched only for ids that would win.  Always an id of the vocabulary,
 * even if all are banned or nothing is a number.
 */
static void
pick_task(void *arg, int row, int worker)
{
	const Pick *p = arg;
	DsocrCpuTexts *t = &p->cpu->texts;
	DsocrBanList *bans = &t->bans[worker];
	int slot = p->rows->slots[row];
	const float *x = p->logits + (size_t) row * (size_t) p->vocab;
	DsocrCpuText *text;
	float top;
	int best = -1;

	t->picked[row] = 0;
	t->logprobs[row] = 0;
	if (slot < 0)
		return;
	text = &t->list[slot];
	bans->n = 0;
	if (!dsocr_ngram_bans(text->ids, text->n, text->prompt_len, text->ngram_size,
						  text->ngram_window, t->whitelist, t->shape.n_whitelist, bans, NULL))
		__atomic_store_n(&p->cpu->broken, 1, __ATOMIC_RELAXED);
	top = p->cpu->isa->vec->max(x, (size_t) p->vocab);
	for (int i = 0; i < p->vocab; i++)
		if ((best < 0 || x[i] > x[best]) && !pick_banned(bans, i))
			best = i;
	best = best < 0 ? 0 : best;
	t->picked[row] = best;
	t->logprobs[row] = (float) ((double) x[best] - top -
								log(p->cpu->isa->vec->sum_exp(x, (size_t) p->vocab, top)));
	if (text->n < t->shape.ids)
		text->ids[text->n++] = best;
}

void
dsocr_cpu_pick(DsocrBackend *be, const float *logits, const DsocrRows *rows, int vocab)
{
	Pick p = {(DsocrCpu *) be, logits, vocab, rows};

	dsocr_pool_run(p.cpu->pool, rows->mixed ? rows->n : 1, pick_task, &p);
}

void
dsocr_cpu_picked(DsocrBackend *be, int32_t *ids, float *logprobs, int n)
{
	const DsocrCpuTexts *t = &((DsocrCpu *) be)->texts;

	memcpy(ids, t->picked, sizeof(*ids) * (size_t) n);
	memcpy(logprobs, t->logprobs, sizeof(*logprobs) * (size_t) n);
}
