/*-------------------------------------------------------------------------
 *
 * kv_attention.c
 *		Key/value pages, rotary embedding, causal attention.
 *
 * A page of a layer holds, for each head, page_tokens keys and then
 * page_tokens values: [heads][2][page_tokens][head_dim], bf16 or (precision
 * fp32) fp32.  The layers of a page lie together, so that a text fills huge
 * pages one after the other and leaves those of its later pages untouched.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <math.h>
#include <string.h>

struct DsocrKv
{
	DsocrKvShape shape;
	size_t page_bytes; /* of one layer */
	size_t step;	   /* from page to page: all layers */
	size_t element;
	char *data; /* [pages][layers][page_bytes] */
};

static bool
kv_size(const DsocrBackend *be, const DsocrKvShape *s, size_t *page, size_t *all)
{
	size_t n = be->precision == DSOCR_PRECISION_FP32 ? sizeof(float) : sizeof(uint16_t);

	if (s->layers <= 0 || s->heads <= 0 || s->head_dim <= 0 || s->page_tokens <= 0 || s->pages <= 0)
		return false;
	return dsocr_mul(n, 2 * (size_t) s->heads, &n) && dsocr_mul(n, (size_t) s->head_dim, &n) &&
		   dsocr_mul(n, (size_t) s->page_tokens, page) && dsocr_mul(*page, (size_t) s->pages, &n) &&
		   dsocr_mul(n, (size_t) s->layers, all);
}

size_t
dsocr_cpu_kv_bytes(const DsocrBackend *be, const DsocrKvShape *shape)
{
	size_t page;
	size_t all;

	return kv_size(be, shape, &page, &all) ? all : 0;
}

DsocrKv *
dsocr_cpu_kv_open(DsocrBackend *be, const DsocrKvShape *shape, DsocrError *err)
{
	DsocrKv *kv = dsocr_zalloc(1, sizeof(*kv), err);
	size_t all;

	if (kv == NULL)
		return NULL;
	kv->shape = *shape;
	kv->element = be->precision == DSOCR_PRECISION_FP32 ? sizeof(float) : sizeof(uint16_t);
	if (!kv_size(be, shape, &kv->page_bytes, &all))
		dsocr_fail(err, DSOCR_E_MEMORY, "the key/value memory has an impossible size");
	else
		kv->data = dsocr_cpu_memory(all, 1, err);
	if (kv->data == NULL)
	{
		dsocr_free(kv);
		return NULL;
	}
	kv->step = (size_t) shape->layers * kv->page_bytes;
	return kv;
}

void
dsocr_cpu_kv_close(DsocrBackend *be, DsocrKv *kv)
{
	if (kv != NULL)
		dsocr_free(kv->data);
	dsocr_free(kv);
}

static char *
kv_layer(const DsocrKv *kv, int layer)
{
	return kv->data + (size_t) layer * kv->page_bytes;
}

static size_t
kv_head_bytes(const DsocrKv *kv)
{
	return (size_t) kv->shape.page_tokens * (size_t) kv->shape.head_dim * kv->element;
}

/* ---- rotary embedding ---- */

/* Cosines and sines up to a position; powers and angles in fp32 like the official code. */
static bool
kv_rope_table(DsocrCpu *cpu, int position, int head_dim, float theta)
{
	int half = head_dim / 2;
	int have = cpu->rope_dim == head_dim && cpu->rope_theta == theta ? cpu->rope_positions : 0;
	int want = (position / 1024 + 1) * 1024;
	float *table;

	if (position < have)
		return true;
	table = dsocr_alloc((size_t) want, (size_t) head_dim * sizeof(float), NULL);
	if (table == NULL)
		return false;
	if (have > 0)
		memcpy(table, cpu->rope, (size_t) have * (size_t) head_dim * sizeof(float));
	for (int i = 0; i < half; i++)
	{
		float frequency = 1.0f / powf(theta, 2.0f * (float) i / (float) head_dim);

		for (int p = have; p < want; p++)
		{
			float angle = (float) p * frequency;
			float *at = table + (size_t) p * (size_t) head_dim;

			at[i] = (float) cos((double) angle);
			at[half + i] = (float) sin((double) angle);
		}
	}
	dsocr_free(cpu->rope);
	cpu->rope = table;
	cpu->rope_positions = want;
	cpu->rope_dim = head_dim;
	cpu->rope_theta = theta;
	return true;
}

typedef struct Rope
{
	float *qkv;
	const DsocrRows *rows;
	DsocrKv *kv;
	char *layer;
} Rope;

/* four floats, anywhere */
typedef float KvFour __attribute__((vector_size(16), aligned(4), may_alias));

static void
kv_rotate(float *x, const float *table, int half)
{
	int i = 0;

	for (; i + 4 <= half; i += 4)
	{
		KvFour *low = (KvFour *) (x + i);
		KvFour *high = (KvFour *) (x + i + half);
		KvFour a = *low;
		KvFour b = *high;
		KvFour cosine = *(const KvFour *) (table + i);
		KvFour sine = *(const KvFour *) (table + half + i);

		*low = a * cosine - b * sine;
		*high = b * cosine + a * sine;
	}
	for (; i < half; i++)
	{
		float a = x[i];
		float b = x[i + half];

		x[i] = a * table[i] - b * table[half + i];
		x[i + half] = b * table[i] + a * table[half + i];
	}
}

static void
kv_put(DsocrCpu *cpu, const DsocrKv *kv, char *to, const float *from)
{
	if (kv->element == sizeof(float))
		memcpy(to, from, (size_t) kv->shape.head_dim * sizeof(float));
	else
		cpu->isa->vec->to_bf16((uint16_t *) to, from, (size_t) kv->shape.head_dim);
}

static void
kv_rope_rows(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const Rope *o = arg;
	const DsocrKvShape *s = &o->kv->shape;
	size_t head_dim = (size_t) s->head_dim;
	size_t dim = (size_t) s->heads * head_dim;
	size_t head_bytes = kv_head_bytes(o->kv);

	for (size_t r = from; r < to; r++)
	{
		const DsocrCpuText *text = dsocr_cpu_row_text(cpu, o->rows, (int) r);
		int position = text == NULL ? 0 : dsocr_cpu_row_position(text, o->rows, (int) r);
		const float *table = cpu->rope + (size_t) position * head_dim;
		float *q = o->qkv + r * 3 * dim;
		char *slot;

		if (text == NULL)
			continue;
		slot = o->layer + (size_t) text->pages[position / s->page_tokens] * o->kv->step +
			   (size_t) (position % s->page_tokens) * head_dim * o->kv->element;

		for (size_t h = 0; h < (size_t) s->heads; h++)
		{
			float *at = q + h * head_dim;

			kv_rotate(at, table, s->head_dim / 2);
			kv_rotate(at + dim, table, s->head_dim / 2);
			kv_put(cpu, o->kv, slot + 2 * h * head_bytes, at + dim);
			kv_put(cpu, o->kv, slot + (2 * h + 1) * head_bytes, at + 2 * dim);
		}
	}
}

void
dsocr_cpu_rope_store(DsocrBackend *be, void *qkv, const DsocrRows *rows, DsocrKv *kv, int layer,
					 float theta)
{
	DsocrCpu *cpu = (DsocrCpu *) be;
	Rope o = {qkv, rows, kv, kv_layer(kv, layer)};
	int last = 0;

	for (int r = 0; r < rows->n; r++)
	{
		const DsocrCpuText *text = dsocr_cpu_row_text(cpu, rows, r);

		if (text != NULL && dsocr_cpu_row_position(text, rows, r) > last)
			last = dsocr_cpu_row_position(text, rows, r);
	}
	if (kv_rope_table(cpu, last, kv->shape.head_dim, theta))
		dsocr_cpu_ranges(cpu, (size_t) rows->n, 16, kv_rope_rows, &o);
	else
		cpu->broken = 1;
}

/* ---- causal attention ---- */

typedef struct Causal
{
	DsocrCpu *cpu;
	float *out;
	const float *qkv;
	const DsocrRows *rows;
	DsocrKv *kv;
	char *layer;
	size_t dim;
	const DsocrAttendOps *ops;
	int n;		/* keys of the last row */
	char *keys; /* [heads] packed */
	char *values;
} Causal;

static void
kv_row_task(void *arg, int task, int worker)
{
	const Causal *c = arg;
	const DsocrKvShape *s = &c->kv->shape;
	int row = task / s->heads;
	const DsocrCpuText *text = dsocr_cpu_row_text(c->cpu, c->rows, row);
	int n = text == NULL ? 0 : dsocr_cpu_row_position(text, c->rows, row) + 1;
	size_t head = (size_t) (task % s->heads);
	size_t at = head * (size_t) s->head_dim;
	float *out = c->out + (size_t) row * c->dim + at;
	float *scores =
		n == 0 ? NULL
			   : dsocr_cpu_scratch(c->cpu, worker, DSOCR_SLOT_SCORES, (size_t) n, sizeof(float));
	DsocrPaged p = {.layer = c->layer,
					.page_bytes = c->kv->step,
					.value_offset = kv_head_bytes(c->kv),
					.head_offset = 2 * head * kv_head_bytes(c->kv),
					.pages = text == NULL ? NULL : text->pages,
					.page_tokens = s->page_tokens,
					.n = n,
					.fp32 = c->kv->element == sizeof(float),
					.head_dim = s->head_dim};

	if (scores != NULL)
		c->cpu->isa->paged(out, c->qkv + (size_t) row * 3 * c->dim + at, &p, scores);
	else
		memset(out, 0, (size_t) s->head_dim * sizeof(float));
}

/*
 * Pointers to the keys (part 0) or values (part 1) of one head of the
 * sequence, which fp32 pages hold and bf16 pages are widened for.
 */
static void
kv_gather(const Causal *c, int head, int part, const float **rows, float *wide)
{
	const DsocrKvShape *s = &c->kv->shape;
	const int32_t *pages = dsocr_cpu_row_text(c->cpu, c->rows, 0)->pages;
	size_t head_dim = (size_t) s->head_dim;
	size_t tokens = (size_t) s->page_tokens;

	for (size_t from = 0; from < (size_t) c->n; from += tokens)
	{
		const char *page = c->layer + (size_t) pages[from / tokens] * c->kv->step +
						   (2 * (size_t) head + (size_t) part) * kv_head_bytes(c->kv);
		size_t count = (size_t) c->n - from < tokens ? (size_t) c->n - from : tokens;
		const float *first = (const float *) page;

		if (c->kv->element != sizeof(float))
		{
			c->cpu->isa->vec->to_f32(wide + from * head_dim, page, count * head_dim);
			first = wide + from * head_dim;
		}
		for (size_t t = 0; t < count; t++)
			rows[from + t] = first + t * head_dim;
	}
}

static void
kv_pack_task(void *arg, int task, int worker)
{
	const Causal *c = arg;
	size_t n = (size_t) c->n;
	size_t head_dim = (size_t) c->kv->shape.head_dim;
	const float **rows = dsocr_cpu_scratch(c->cpu, worker, DSOCR_SLOT_X_TILE, n, sizeof(*rows));
	float *wide = dsocr_cpu_scratch(c->cpu, worker, DSOCR_SLOT_W_KEYS, n * head_dim, sizeof(float));

	if (rows == NULL || wide == NULL)
		return;
	kv_gather(c, task, 0, rows, wide);
	c->ops->pack_keys(c->keys + (size_t) task * c->ops->keys_bytes(n, head_dim), rows, n, head_dim);
	kv_gather(c, task, 1, rows, wide);
	c->ops->pack_values(c->values + (size_t) task * c->ops->values_bytes(n, head_dim), rows, n,
						head_dim);
}

static void
kv_block_task(void *arg, int task, int worker)
{
	const Causal *c = arg;
	int blocks = (c->rows->n + DSOCR_ATTEND_ROWS - 1) / DSOCR_ATTEND_ROWS;
	size_t head = (size_t) (task / blocks);
	int from = task % blocks * DSOCR_ATTEND_ROWS;
	int left = c->rows->n - from;
	size_t n = (size_t) c->n;
	size_t head_dim = (size_t) c->kv->shape.head_dim;
	const float *q[DSOCR_ATTEND_ROWS];
	float *out[DSOCR_ATTEND_ROWS];
	DsocrAttend b = {.q = q,
					 .out = out,
					 .rows = left < DSOCR_ATTEND_ROWS ? left : DSOCR_ATTEND_ROWS,
					 .head_dim = (int) head_dim,
					 .scale = 1.0f / sqrtf((float) head_dim),
					 .keys = c->keys + head * c->ops->keys_bytes(n, head_dim),
					 .values = c->values + head * c->ops->values_bytes(n, head_dim),
					 .n = c->n,
					 .causal = c->rows->first + from + 1};

	for (int r = 0; r < b.rows; r++)
	{
		size_t row = (size_t) (from + r);

		q[r] = c->qkv + row * 3 * c->dim + head * head_dim;
		out[r] = c->out + row * c->dim + head * head_dim;
	}
	b.scratch = dsocr_cpu_scratch(c->cpu, worker, DSOCR_SLOT_SCORES,
								  c->ops->scratch(n, head_dim, 0), sizeof(float));
	if (b.scratch != NULL)
		c->ops->block(&b);
	else
		for (int r = 0; r < b.rows; r++)
			memset(out[r], 0, head_dim * sizeof(float));
}

/* Consecutive positions of one sequence: its keys are shared by blocks of queries. */
static void
kv_attend_sequence(Causal *c)
{
	size_t heads = (size_t) c->kv->shape.heads;
	size_t head_dim = (size_t) c->kv->shape.head_dim;
	int blocks = (c->rows->n + DSOCR_ATTEND_ROWS - 1) / DSOCR_ATTEND_ROWS;
	size_t n;

	c->ops = dsocr_cpu_attend(c->cpu);
	c->n = c->rows->first + c->rows->n;
	n = (size_t) c->n;
	c->keys =
		dsocr_cpu_scratch(c->cpu, -1, DSOCR_SLOT_KEYS, heads, c->ops->keys_bytes(n, head_dim));
	c->values =
		dsocr_cpu_scratch(c->cpu, -1, DSOCR_SLOT_VALUES, heads, c->ops->values_bytes(n, head_dim));
	if (c->keys == NULL || c->values == NULL)
	{
		memset(c->out, 0, (size_t) c->rows->n * c->dim * sizeof(float));
		return;
	}
	dsocr_pool_run(c->cpu->pool, (int) heads, kv_pack_task, c);
	dsocr_pool_run(c->cpu->pool, (int) heads * blocks, kv_block_task, c);
}

void
dsocr_cpu_causal_attention(DsocrBackend *be, void *out, const void *qkv, const DsocrRows *rows,
						   DsocrKv *kv, int layer)
{
	Causal c = {.cpu = (DsocrCpu *) be,
				.out = out,
				.qkv = qkv,
				.rows = rows,
				.kv = kv,
				.layer = kv_layer(kv, layer),
				.dim = (size_t) kv->shape.heads * (size_t) kv->shape.head_dim};

	if (rows->n <= 0)
		return;
	if (!rows->mixed)
		kv_attend_sequence(&c);
	else
		dsocr_pool_run(c.cpu->pool, rows->n * kv->shape.heads, kv_row_task, &c);
}
