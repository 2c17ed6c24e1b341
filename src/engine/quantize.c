/*-------------------------------------------------------------------------
 *
 * quantize.c
 *		Matrices in 8 or 4 bits: how they are made.
 *
 * In 8 bits the largest value of a group gets the largest code.  In 4 bits
 * the codebook is tried in both directions and with two ranges; each time the
 * scale is fitted to the codes by least squares, and the best one is kept.
 *
 *-------------------------------------------------------------------------
 */
#include "quantize.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGEST_8 127
#define LARGEST_VALUE 4096.0f /* its scale is a number in half precision */
#define LANES 4				  /* partial sums, so that a compiler can use vectors */
#define LOOKUP 512			  /* codes of -128 .. 128 in steps of a half */
#define MIDDLE_CODE 8		  /* of values without scale */
#define PANELS_A_TASK 4
#define MAX_THREADS 256

typedef struct Lookup
{
	uint8_t code[LOOKUP]; /* nearest to i / 2 - 128 and a little more */
	float level[LOOKUP];  /* its level */
} Lookup;

struct DsocrQuantized
{
	void *memory; /* of all matrices */
	size_t size;
	DsocrTensor *tensors;
};

static const uint8_t levels[16] = DSOCR_QUANT_LEVELS;

const char *
dsocr_quant_name(DsocrDtype dtype)
{
	return dtype == DSOCR_INT8 ? "int8" : dtype == DSOCR_INT4 ? "int4" : "bf16";
}

static bool
ends_with(const char *name, const char *end)
{
	size_t n = strlen(name);
	size_t m = strlen(end);

	return n >= m && strcmp(name + n - m, end) == 0;
}

bool
dsocr_quantize_wants(const DsocrTensor *t)
{
	if (t->ndim != 2 || t->count == 0 ||
		(t->dtype != DSOCR_BF16 && t->dtype != DSOCR_F16 && t->dtype != DSOCR_F32))
		return false;
	return strcmp(t->name, "lm_head.weight") == 0 ||
		   (strncmp(t->name, "model.layers.", 13) == 0 && ends_with(t->name, "_proj.weight"));
}

/* ---- one group of one row ---- */

static uint16_t
to_half(float f)
{
	union
	{
		float f;
		uint32_t u;
	} v = {.f = f};
	uint32_t sign = v.u >> 16 & 0x8000;
	uint32_t u = v.u & 0x7fffffff;
	uint32_t lost;
	int shift;

	if (u >= 0x38800000) /* normal; the caller knows that it is not too large */
		return (uint16_t) (sign | ((u + 0xfff + (u >> 13 & 1)) - 0x38000000) >> 13);
	shift = 126 - (int) (u >> 23);
	if (shift > 24)
		return (uint16_t) sign;
	u = (u & 0x7fffff) | 0x800000;
	lost = u & ((1u << shift) - 1);
	u >>= shift;
	return (uint16_t) (sign |
					   (u + (lost > 1u << (shift - 1) || (lost == 1u << (shift - 1) && (u & 1)))));
}

static float
from_half(uint16_t h)
{
	int exponent = h >> 10 & 31;
	float magnitude = exponent == 0 ? (float) (h & 1023) * 0x1p-24f
									: ldexpf((float) (1024 + (h & 1023)), exponent - 25);

	return h & 0x8000 ? -magnitude : magnitude;
}

/* The stored scale, and its value. */
static uint16_t
scale_of(float scale, float *value)
{
	uint16_t h = to_half(scale / DSOCR_QUANT_SCALE);

	*value = from_half(h) * DSOCR_QUANT_SCALE;
	return h;
}

/* The bits of the largest magnitude; those of a NaN are larger than any number's. */
static uint32_t
largest(const float *x, size_t n)
{
	uint32_t top = 0;

	for (size_t i = 0; i < n; i++)
	{
		uint32_t u;

		memcpy(&u, x + i, sizeof(u));
		u &= 0x7fffffff;
		top = u > top ? u : top;
	}
	return top;
}

static uint16_t
encode_8(const float x[DSOCR_QUANT_GROUP_8], float top, uint8_t codes[DSOCR_QUANT_GROUP_8])
{
	float scale;
	uint16_t h = scale_of(top / LARGEST_8, &scale);
	float inverse = scale > 0 ? 1 / scale : 0;

	for (size_t i = 0; i < DSOCR_QUANT_GROUP_8; i++)
	{
		float v = x[i] * inverse;

		v = v > LARGEST_8 ? LARGEST_8 : v;
		v = v < -LARGEST_8 ? -LARGEST_8 : v;
		/* adding 1.5 * 2^23 rounds to the nearest integer, half to even */
		codes[i] = (uint8_t) ((int) (v + 12582912.0f - 12582912.0f) + DSOCR_QUANT_ZERO);
	}
	return h;
}

/* Twice x / scale, as places in the lookup tables. */
static void
places_4(const float x[DSOCR_QUANT_GROUP_4], float scale, int places[DSOCR_QUANT_GROUP_4])
{
	float inverse = 2 / scale;

	for (size_t i = 0; i < DSOCR_QUANT_GROUP_4; i++)
	{
		float v = x[i] * inverse + 256;

		v = v > LOOKUP - 1 ? LOOKUP - 1 : v;
		v = v < 0 ? 0 : v;
		places[i] = (int) v;
	}
}

/* The scale that fits best to the levels nearest to x / scale, and what it gains. */
static uint16_t
fit_4(const float x[DSOCR_QUANT_GROUP_4], float scale, const Lookup *lookup, float *gain)
{
	int places[DSOCR_QUANT_GROUP_4];
	float near[DSOCR_QUANT_GROUP_4];
	float products[LANES] = {0};
	float squares[LANES] = {0};
	float product;
	float square;
	uint16_t h;

	places_4(x, scale, places);
	for (size_t i = 0; i < DSOCR_QUANT_GROUP_4; i++)
		near[i] = lookup->level[places[i]];
	for (size_t i = 0; i < DSOCR_QUANT_GROUP_4; i += LANES)
		for (size_t j = 0; j < LANES; j++)
		{
			products[j] += near[i + j] * x[i + j];
			squares[j] += near[i + j] * near[i + j];
		}
	product = (products[0] + products[2]) + (products[1] + products[3]);
	square = (squares[0] + squares[2]) + (squares[1] + squares[3]);
	*gain = 0;
	if (square == 0)
		return 0;
	h = scale_of(product / square, &scale);
	/* the error is sum(x^2) less this */
	*gain = scale * (2 * product - scale * square);
	return h;
}

static uint16_t
encode_4(const float x[DSOCR_QUANT_GROUP_4], float top, const Lookup *lookup,
		 uint8_t codes[DSOCR_QUANT_GROUP_4])
{
	static const float ranges[] = {1.0f / 127, 0.9f / 127, -1.0f / 127, -0.9f / 127};
	int places[DSOCR_QUANT_GROUP_4];
	float best = 0;
	float range = 0;
	uint16_t chosen = 0;

	memset(codes, MIDDLE_CODE, DSOCR_QUANT_GROUP_4);
	for (int i = 0; top >= 0x1p-60f && i < 4; i++)
	{
		float gain;
		uint16_t h = fit_4(x, top * ranges[i], lookup, &gain);

		if (gain > best)
		{
			best = gain;
			chosen = h;
			range = ranges[i];
		}
	}
	if (best == 0)
		return 0;
	places_4(x, top * range, places);
	for (size_t i = 0; i < DSOCR_QUANT_GROUP_4; i++)
		codes[i] = lookup->code[places[i]];
	return chosen;
}

static void
make_lookup(Lookup *lookup)
{
	int code = 0;

	for (int i = 0; i < LOOKUP; i++)
	{
		/* the middle between two levels is a multiple of a half, and belongs to the upper one */
		while (code < 15 && i >= levels[code] + levels[code + 1])
			code++;
		lookup->code[i] = (uint8_t) code;
		lookup->level[i] = (float) (levels[code] - DSOCR_QUANT_ZERO);
	}
}

/* Codes of one row to their places, four columns at a time. */
static void
put_codes(char *group, size_t r, const uint8_t *codes, DsocrDtype dtype)
{
	size_t words = dtype == DSOCR_INT8 ? DSOCR_QUANT_GROUP_8 / 4 : DSOCR_QUANT_GROUP_4 / 8;

	for (size_t i = 0; i < words; i++)
	{
		uint32_t low;
		uint32_t high = 0;

		memcpy(&low, codes + i * 4, sizeof(low));
		if (dtype == DSOCR_INT4)
			memcpy(&high, codes + DSOCR_QUANT_GROUP_4 / 2 + i * 4, sizeof(high));
		low |= high << 4;
		memcpy(group + (i * DSOCR_QUANT_ROWS + r) * 4, &low, sizeof(low));
	}
}

/* ---- matrices ---- */

static bool
encode_panel(const DsocrTensor *t, DsocrDtype dtype, const DsocrQuantShape *s, const Lookup *lookup,
			 float *row, size_t panel, char *out)
{
	size_t rows = (size_t) t->shape[0];
	size_t cols = (size_t) t->shape[1];

	memset(out, 0, s->panel_bytes);
	for (size_t r = 0; r < DSOCR_QUANT_ROWS && panel * DSOCR_QUANT_ROWS + r < rows; r++)
	{
		dsocr_tensor_row(t, (int64_t) (panel * DSOCR_QUANT_ROWS + r), row);
		memset(row + cols, 0, (s->groups * s->group - cols) * sizeof(float));
		for (size_t g = 0; g < s->groups; g++)
		{
			const float *x = row + g * s->group;
			uint8_t codes[DSOCR_QUANT_GROUP_8];
			uint32_t bits = largest(x, s->group);
			float top;
			uint16_t h;

			memcpy(&top, &bits, sizeof(top));
			if (!(top <= LARGEST_VALUE))
				return false;
			h = dtype == DSOCR_INT4 ? encode_4(x, top, lookup, codes) : encode_8(x, top, codes);
			memcpy(out + (g * DSOCR_QUANT_ROWS + r) * sizeof(h), &h, sizeof(h));
			put_codes(out + s->codes + g * s->group_bytes, r, codes, dtype);
		}
	}
	return true;
}

bool
dsocr_quantize_panels(const DsocrTensor *t, DsocrDtype dtype, size_t from, size_t to, void *out,
					  DsocrError *err)
{
	Lookup lookup;
	DsocrQuantShape s;
	float *row;
	bool ok = true;

	if (!dsocr_quant_shape(dtype, (size_t) t->shape[0], (size_t) t->shape[1], &s))
		return dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" is too large", t->name);
	row = dsocr_alloc(s.groups, s.group * sizeof(float), err);
	if (row == NULL)
		return false;
	make_lookup(&lookup);
	for (size_t p = from; ok && p < to; p++)
		ok = encode_panel(t, dtype, &s, &lookup, row, p, (char *) out + (p - from) * s.panel_bytes);
	dsocr_free(row);
	return ok || dsocr_fail(err, DSOCR_E_MODEL,
							"tensor \"%s\" holds values that are not finite or too large to be "
							"quantized",
							t->name);
}

/* ---- threads ---- */

/* Panels of one matrix that threads take one after the other. */
typedef struct Team
{
	const DsocrTensor *from;
	DsocrDtype dtype;
	DsocrQuantShape shape;
	char *out;
	atomic_size_t next; /* panel */
	atomic_bool failed;
	pthread_mutex_t lock;
	DsocrError *err; /* under lock */
} Team;

static void *
team_work(void *arg)
{
	Team *team = arg;
	size_t from;

	while (!atomic_load(&team->failed) &&
		   (from = atomic_fetch_add(&team->next, PANELS_A_TASK)) < team->shape.panels)
	{
		size_t left = team->shape.panels - from;
		DsocrError err = {0};

		if (dsocr_quantize_panels(team->from, team->dtype, from,
								  from + (left < PANELS_A_TASK ? left : PANELS_A_TASK),
								  team->out + from * team->shape.panel_bytes, &err))
			continue;
		pthread_mutex_lock(&team->lock);
		if (!atomic_exchange(&team->failed, true) && team->err != NULL)
			*team->err = err;
		pthread_mutex_unlock(&team->lock);
	}
	return NULL;
}

bool
dsocr_quantize_tensor(const DsocrTensor *t, DsocrDtype dtype, void *out, int threads,
					  DsocrError *err)
{
	Team team = {
		.from = t, .dtype = dtype, .out = out, .lock = PTHREAD_MUTEX_INITIALIZER, .err = err};
	pthread_t others[MAX_THREADS];
	int n = 0;

	if (!dsocr_quant_shape(dtype, (size_t) t->shape[0], (size_t) t->shape[1], &team.shape))
		return dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" is too large", t->name);
	/* with fewer threads it takes longer, no more */
	while (n + 1 < threads && n < MAX_THREADS &&
		   (size_t) (n + 1) * PANELS_A_TASK < team.shape.panels &&
		   pthread_create(&others[n], NULL, team_work, &team) == 0)
		n++;
	team_work(&team);
	while (n > 0)
		pthread_join(others[--n], NULL);
	return !atomic_load(&team.failed);
}

/* ---- models ---- */

/* The mapping's pages of a tensor that is not read again need not stay in memory. */
static void
forget(const DsocrTensor *t)
{
	uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);
	uintptr_t from = ((uintptr_t) t->data + page - 1) / page * page;
	uintptr_t to = ((uintptr_t) t->data + dsocr_tensor_bytes(t)) / page * page;

	if (to > from)
		madvise((void *) from, to - from, MADV_DONTNEED);
}

/* Room for everything that will be quantized. */
static DsocrQuantized *
quantized_new(const DsocrWeights *w, DsocrDtype dtype, DsocrError *err)
{
	DsocrQuantized *q = dsocr_zalloc(1, sizeof(*q), err);
	int n = dsocr_weights_count(w);

	if (q == NULL)
		return NULL;
	q->tensors = dsocr_alloc((size_t) n, sizeof(*q->tensors), err);
	for (int i = 0; q->tensors != NULL && i < n; i++)
	{
		const DsocrTensor *t = dsocr_weights_at(w, i);
		DsocrQuantShape s;

		if (dsocr_quantize_wants(t) &&
			(!dsocr_quant_shape(dtype, (size_t) t->shape[0], (size_t) t->shape[1], &s) ||
			 !dsocr_add(q->size, s.bytes, &q->size)))
		{
			dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" is too large", t->name);
			dsocr_quantized_free(q);
			return NULL;
		}
	}
	if (q->tensors != NULL && q->size > 0)
	{
		q->memory = mmap(NULL, q->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (q->memory == MAP_FAILED)
		{
			q->memory = NULL;
			dsocr_fail(err, DSOCR_E_MEMORY, "out of memory for %zu bytes of quantized weights",
					   q->size);
		}
		else
			madvise(q->memory, q->size, MADV_HUGEPAGE); /* a wish; it may be refused */
	}
	if (q->tensors == NULL || (q->memory == NULL && q->size > 0))
	{
		dsocr_quantized_free(q);
		return NULL;
	}
	return q;
}

DsocrQuantized *
dsocr_quantize_weights(DsocrWeights *w, DsocrDtype dtype, int threads, DsocrError *err)
{
	DsocrQuantized *q = quantized_new(w, dtype, err);
	char *at = q != NULL ? q->memory : NULL;
	int n = dsocr_weights_count(w);

	for (int i = 0; q != NULL && i < n; i++)
	{
		const DsocrTensor *t = dsocr_weights_at(w, i);
		DsocrTensor *to = &q->tensors[i];

		if (!dsocr_quantize_wants(t))
			continue;
		*to = *t;
		to->dtype = dtype;
		to->data = at;
		if (!dsocr_quantize_tensor(t, dtype, at, threads, err))
		{
			dsocr_quantized_free(q);
			return NULL;
		}
		at += dsocr_tensor_bytes(to);
		dsocr_weights_replace(w, i, to);
		forget(t);
	}
	if (q != NULL && q->memory != NULL)
		mprotect(q->memory, q->size, PROT_READ);
	return q;
}

void
dsocr_quantized_free(DsocrQuantized *q)
{
	if (q == NULL)
		return;
	if (q->memory != NULL)
		munmap(q->memory, q->size);
	dsocr_free(q->tensors);
	dsocr_free(q);
}

DsocrDtype
dsocr_quantized_dtype(const DsocrWeights *w)
{
	for (int i = 0; i < dsocr_weights_count(w); i++)
		if (dsocr_is_quantized(dsocr_weights_at(w, i)->dtype))
			return dsocr_weights_at(w, i)->dtype;
	return DSOCR_BF16;
}
