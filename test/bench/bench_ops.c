/*-------------------------------------------------------------------------
 *
 * bench_ops.c
 *		Speed of the CPU backend's operations at the official model's shapes.
 *
 *		bench_ops [bf16|fp32|int8|int4] [threads] [filter]
 *
 * Prints the median of several runs with GFLOP/s and, for operations that
 * are bound by memory, GB/s of weights.  Rates "by cpu" divide by processor
 * time instead of elapsed time: they mean something on a machine that is busy
 * with other work.  Between the runs of an operation as many bytes are read
 * plainly, and its share of that rate is printed.  Weights are rotated so that
 * the caches do not hold them.
 *
 *-------------------------------------------------------------------------
 */
#include "backend.h"
#include "quantize.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPERTS 64
#define CHOICES 6
#define HIDDEN 1280
#define INTER 896
#define LAYERS 4 /* rotated */
#define MAX_RUNS 32
#define READ_BYTES ((size_t) 1 << 30) /* that plain reading goes round in */
#define TEXTS 32
#define TEXT_IDS 2048

static DsocrBackend *be;
static const char *filter = "";
static DsocrDtype weights = DSOCR_BF16;

static uint64_t
next(void)
{
	static uint64_t seed = 1;
	uint64_t z = seed += 0x9E3779B97F4A7C15u;

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

static void *
need(void *p)
{
	if (p == NULL)
	{
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	return p;
}

static float *
floats(size_t n)
{
	float *x = need(dsocr_alloc(n, sizeof(float), NULL));

	for (size_t i = 0; i < n; i++)
		x[i] = (float) (next() >> 40) / (1 << 23) - 1.0f;
	return x;
}

/* bf16 between -2^-5 and 2^-5, quickly */
static uint16_t *
halves(size_t n)
{
	uint16_t *w = need(dsocr_alloc(n, sizeof(uint16_t), NULL));

	for (size_t i = 0; i < n; i++)
		w[i] = (uint16_t) (0x3c00 | ((i * 2654435761u >> 13) & 0x807f));
	return w;
}

static DsocrMatrix *
matrix_of(const uint16_t *data, int rows, int cols)
{
	DsocrTensor t = {.name = "w",
					 .dtype = DSOCR_BF16,
					 .ndim = 2,
					 .shape = {rows, cols},
					 .count = (int64_t) rows * cols,
					 .data = data};
	const DsocrTensor *part = &t;

	if (weights != DSOCR_BF16)
	{
		DsocrTensor q = t;
		void *bytes;

		q.dtype = weights;
		bytes = need(dsocr_alloc(dsocr_tensor_bytes(&q), 1, NULL)); /* kept until the end */
		if (!dsocr_quantize_tensor(&t, weights, bytes, be->threads, NULL))
			exit(1);
		q.data = bytes;
		t = q;
	}
	return need(be->ops->matrix(be, &part, 1, false, NULL));
}

/* Bytes of a weight, its part of a scale included. */
static double
weight_bytes(void)
{
	return weights == DSOCR_INT8   ? 1 + 2.0 / DSOCR_QUANT_GROUP_8
		   : weights == DSOCR_INT4 ? 0.5 + 2.0 / DSOCR_QUANT_GROUP_4
								   : 2;
}

/* One that is not quantized. */
static DsocrMatrix *
table_of(const uint16_t *data, int rows, int cols)
{
	DsocrDtype asked = weights;
	DsocrMatrix *m;

	weights = DSOCR_BF16;
	m = matrix_of(data, rows, cols);
	weights = asked;
	return m;
}

static DsocrVector *
vector(size_t n)
{
	float *x = floats(n);
	DsocrVector *v = need(be->ops->vector(be, x, n, NULL));

	dsocr_free(x);
	return v;
}

/* ---- plain reading ---- */

typedef struct Reader
{
	const uint64_t *data;
	size_t n;
	uint64_t sum;
} Reader;

static void *
read_all(void *arg)
{
	Reader *r = arg;
	uint64_t sum[8] = {0};

	for (size_t i = 0; i + 8 <= r->n; i += 8)
		for (int j = 0; j < 8; j++)
			sum[j] ^= r->data[i + (size_t) j];
	for (int j = 0; j < 8; j++)
		r->sum ^= sum[j];
	return NULL;
}

/* The next so many bytes of a large array, by all threads. */
static void
read_plainly(size_t bytes)
{
	static uint16_t *memory;
	static size_t at;
	pthread_t threads[64];
	Reader readers[64];
	int n = be->threads < 64 ? be->threads : 64;
	size_t each;

	if (memory == NULL)
		memory = halves(READ_BYTES / 2);
	if (bytes > READ_BYTES)
		bytes = READ_BYTES;
	if (at + bytes > READ_BYTES)
		at = 0;
	each = bytes / 8 / (size_t) n;
	for (int i = 0; i < n; i++)
	{
		readers[i] = (Reader){(const uint64_t *) memory + at / 8 + (size_t) i * each, each, 0};
		if (i > 0 && pthread_create(&threads[i], NULL, read_all, &readers[i]) != 0)
			exit(1);
	}
	read_all(&readers[0]);
	for (int i = 1; i < n; i++)
		pthread_join(threads[i], NULL);
	at += bytes;
}

/* ---- measuring ---- */

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return (x > y) - (x < y);
}

typedef void (*Work)(void *arg, int run);

static double
cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec * 1e3 + (double) t.tv_nsec * 1e-6;
}

static double
median(double *values, int n)
{
	qsort(values, (size_t) n, sizeof(values[0]), by_value);
	return values[n / 2];
}

static void
measure(const char *name, double gflop, double gbyte, int runs, Work work, void *arg)
{
	double wall[MAX_RUNS];
	double cpu[MAX_RUNS];
	double wall_share[MAX_RUNS];
	double cpu_share[MAX_RUNS];
	double w;
	double c;

	for (int i = -1; i < runs; i++)
	{
		int64_t start;
		double used;
		double plain = 0;
		double plain_cpu = 0;

		if (gbyte > 0)
		{
			start = dsocr_now_us();
			used = cpu_ms();
			read_plainly((size_t) (gbyte * 1e9));
			plain = (double) (dsocr_now_us() - start) / 1000;
			plain_cpu = cpu_ms() - used;
		}
		start = dsocr_now_us();
		used = cpu_ms();
		work(arg, i + 1);
		if (i < 0)
			continue;
		wall[i] = (double) (dsocr_now_us() - start) / 1000;
		cpu[i] = cpu_ms() - used;
		wall_share[i] = plain / wall[i];
		cpu_share[i] = plain_cpu / cpu[i];
	}
	w = median(wall, runs);
	c = median(cpu, runs);
	printf("%-28s %9.3f ms, cpu %9.3f", name, w, c);
	if (gflop > 0)
		printf(", %6.0f GFLOP/s, %5.0f by cpu, %5.0f at best", gflop / w * 1000,
			   gflop / c * 1000 * be->threads, gflop / cpu[0] * 1000 * be->threads);
	if (gbyte > 0)
		printf(", %5.1f GB/s, %5.1f by cpu, %3.0f %% of plain reading, %3.0f %% by cpu",
			   gbyte / w * 1000, gbyte / c * 1000 * be->threads, 100 * median(wall_share, runs),
			   100 * median(cpu_share, runs));
	printf("\n");
	fflush(stdout);
}

static bool
wanted(const char *name)
{
	return strstr(name, filter) != NULL;
}

/* ---- products ---- */

typedef struct Linear
{
	float *x;
	float *y;
	int rows;
	DsocrMatrix *w[16];
	int n_w;
	DsocrVector *bias;
	DsocrActivation act;
	bool mixed;
} Linear;

static void
linear_work(void *arg, int run)
{
	const Linear *l = arg;

	be->ops->linear(be, l->y, l->x, l->rows, l->w[run % l->n_w], l->bias, l->act, NULL,
					l->mixed ? DSOCR_MIXED : l->rows);
}

static void
bench_linear(const char *name, int rows, int n, int k, DsocrActivation act, bool mixed)
{
	size_t count = (size_t) n * (size_t) k;
	int copies = mixed ? (int) (((size_t) 1 << 30) / (count * 2)) + 1 : 1;
	Linear l = {.rows = rows, .act = act, .mixed = mixed};
	uint16_t *data;

	if (!wanted(name))
		return;
	l.n_w = copies > 16 ? 16 : copies;
	data = halves(count * (size_t) l.n_w);
	for (int i = 0; i < l.n_w; i++)
		l.w[i] = matrix_of(data + (size_t) i * count, n, k);
	l.bias = vector((size_t) n);
	l.x = floats((size_t) rows * (size_t) k);
	l.y = floats((size_t) rows * (size_t) n);
	measure(name, 2e-9 * rows * (double) count, mixed ? 1e-9 * weight_bytes() * (double) count : 0,
			21, linear_work, &l);
	for (int i = 0; i < l.n_w; i++)
		be->ops->matrix_free(be, l.w[i]);
	be->ops->vector_free(be, l.bias);
	dsocr_free(l.x);
	dsocr_free(l.y);
	dsocr_free(data);
}

/* ---- attention ---- */

typedef struct Attention
{
	float *qkv;
	float *out;
	int side;
	int heads;
	int head_dim;
	int window;
	DsocrVector *rel;
	DsocrVector *bias;
} Attention;

static void
attention_work(void *arg, int run)
{
	const Attention *a = arg;

	if (a->window < 0)
		be->ops->attention(be, a->out, a->qkv, 1, a->side, a->heads, a->head_dim);
	else
		be->ops->grid_attention(be, a->out, a->qkv, 1, a->side, a->heads, a->head_dim, a->window,
								a->rel, a->rel, a->bias);
}

static void
bench_attention(const char *name, int side, int heads, int head_dim, int window)
{
	size_t n = window < 0 ? (size_t) side : (size_t) side * (size_t) side;
	size_t dim = (size_t) heads * (size_t) head_dim;
	double keys = window > 0 ? window * window : (double) n;
	Attention a = {.side = side, .heads = heads, .head_dim = head_dim, .window = window};

	if (!wanted(name))
		return;
	a.qkv = floats(n * 3 * dim);
	a.out = floats(n * dim);
	a.rel = vector((2 * (size_t) side + 32) * (size_t) head_dim);
	a.bias = vector(3 * dim);
	measure(name, 4e-9 * (double) n * keys * (double) dim, 0, 5, attention_work, &a);
	be->ops->vector_free(be, a.rel);
	be->ops->vector_free(be, a.bias);
	dsocr_free(a.qkv);
	dsocr_free(a.out);
}

typedef struct Causal
{
	float *qkv;
	float *out;
	DsocrRows rows;
	DsocrKv *kv;
} Causal;

static void
causal_work(void *arg, int run)
{
	const Causal *c = arg;

	be->ops->causal_attention(be, c->out, c->qkv, &c->rows, c->kv, run % 12);
}

static void
rope_work(void *arg, int run)
{
	const Causal *c = arg;

	be->ops->rope_store(be, c->qkv, &c->rows, c->kv, run % 12, 10000.0f);
}

static void
start_text(int slot, int n, const int32_t *pages, int n_pages)
{
	static const int32_t zeros[TEXT_IDS];
	const DsocrText text = {
		.ids = zeros, .n = n, .prompt_len = n, .pages = pages, .n_pages = n_pages};

	be->ops->text_start(be, slot, &text);
}

/* n rows whose last is at position last: of one sequence, or all at last. */
static void
bench_causal(const char *name, int n, int last, bool mixed)
{
	int per = last / 16 + 1;
	DsocrKvShape shape = {.layers = 12,
						  .heads = 10,
						  .head_dim = 128,
						  .page_tokens = 16,
						  .pages = !mixed ? per : per * n};
	int32_t *slots = need(malloc((size_t) n * sizeof(*slots)));
	int32_t *pages = need(malloc((size_t) shape.pages * sizeof(*pages)));
	int texts = mixed ? n : 1;
	Causal c;
	double keys = 0;

	if (!wanted(name))
		return;
	for (int i = 0; i < shape.pages; i++)
		pages[i] = i;
	for (int r = 0; r < n; r++)
		keys += mixed ? last + 1 : last - n + 2 + r;
	for (int r = 0; r < texts; r++)
	{
		slots[r] = r;
		start_text(r, last + 1, pages + (mixed ? r * per : 0), per);
	}
	c.rows = (DsocrRows){n, slots, last - n + 1, mixed};
	c.qkv = floats((size_t) n * 3 * HIDDEN);
	c.out = floats((size_t) n * HIDDEN);
	c.kv = need(be->ops->kv_open(be, &shape, NULL));
	for (int layer = 0; layer < 12; layer++)
		for (int p = 0; p <= last; p++)
			for (int r = 0; r < texts; r++)
			{
				const DsocrRows one = {1, &slots[r], p, false};

				be->ops->rope_store(be, c.qkv, &one, c.kv, layer, 10000.0f);
			}
	measure(name, 4e-9 * keys * HIDDEN, mixed ? 4e-9 * keys * HIDDEN : 0, 9, causal_work, &c);
	measure("  rope and store", 0, 0, 9, rope_work, &c);
	be->ops->kv_close(be, c.kv);
	dsocr_free(c.qkv);
	dsocr_free(c.out);
	free(slots);
	free(pages);
}

/* ---- experts ---- */

typedef struct Moe
{
	float *x;
	float *y;
	int rows;
	int32_t *ids;
	float *weights;
	DsocrMatrix *gate;
	const DsocrMatrix *up[LAYERS][EXPERTS];
	const DsocrMatrix *down[LAYERS][EXPERTS];
	DsocrExperts *experts[LAYERS];
	bool mixed;
} Moe;

static void
experts_work(void *arg, int run)
{
	const Moe *m = arg;
	int layer = run % LAYERS;

	be->ops->experts(be, m->y, m->x, m->rows, m->ids, m->weights, CHOICES, m->experts[layer], m->x,
					 m->mixed ? DSOCR_MIXED : m->rows);
}

static void
router_work(void *arg, int run)
{
	const Moe *m = arg;
	const int32_t slot = 0;
	const DsocrRows rows = {m->rows, &slot, 0, false};

	be->ops->router(be, m->ids, m->weights, NULL, m->x, &rows, m->gate, CHOICES);
}

static void
bench_experts(Moe *m, const char *name, int rows, bool mixed)
{
	bool used[EXPERTS] = {false};
	double bytes = 0;

	if (!wanted(name))
		return;
	m->rows = rows;
	m->mixed = mixed;
	m->x = floats((size_t) rows * HIDDEN);
	m->y = floats((size_t) rows * HIDDEN);
	m->ids = need(malloc((size_t) rows * CHOICES * 4));
	m->weights = need(malloc((size_t) rows * CHOICES * 4));
	measure("router", 0, 0, 9, router_work, m);
	for (int i = 0; i < rows * CHOICES; i++)
	{
		if (!used[m->ids[i]])
			bytes += 3e-9 * weight_bytes() * INTER * HIDDEN;
		used[m->ids[i]] = true;
	}
	measure(name, 6e-9 * rows * CHOICES * INTER * HIDDEN, mixed ? bytes : 0, 21, experts_work, m);
	dsocr_free(m->x);
	dsocr_free(m->y);
	free(m->ids);
	free(m->weights);
}

static void
bench_all_experts(void)
{
	static const int mixed[] = {1, 2, 4, 8, 16, 32};
	size_t up = 2 * INTER * HIDDEN;
	size_t down = INTER * HIDDEN;
	uint16_t *data = halves((size_t) LAYERS * EXPERTS * (up + down));
	Moe m;

	for (size_t l = 0; l < LAYERS; l++)
		for (size_t e = 0; e < EXPERTS; e++)
		{
			const uint16_t *at = data + (l * EXPERTS + e) * (up + down);

			m.up[l][e] = matrix_of(at, 2 * INTER, HIDDEN);
			m.down[l][e] = matrix_of(at + up, HIDDEN, INTER);
		}
	for (size_t l = 0; l < LAYERS; l++)
		m.experts[l] = need(be->ops->experts_open(be, m.up[l], m.down[l], EXPERTS, NULL));
	m.gate = table_of(data + 12345, EXPERTS, HIDDEN);
	for (size_t i = 0; i < sizeof(mixed) / sizeof(mixed[0]); i++)
	{
		char name[64];

		snprintf(name, sizeof(name), "experts, decode %d", mixed[i]);
		bench_experts(&m, name, mixed[i], true);
	}
	bench_experts(&m, "experts, prefill 280", 280, false);
	bench_experts(&m, "experts, prefill 800", 800, false);
	dsocr_free(data);
}

/* ---- rows ---- */

typedef struct Rows
{
	float *x;
	int rows;
	int dim;
	DsocrVector *weight;
} Rows;

static void
layer_norm_work(void *arg, int run)
{
	const Rows *r = arg;

	be->ops->layer_norm(be, r->x, r->x, r->rows, r->dim, r->weight, r->weight, 1e-6f);
}

static void
pick_work(void *arg, int run)
{
	const Rows *r = arg;
	const int32_t slot = 0;
	const DsocrRows rows = {1, &slot, 0, false};

	start_text(0, 1, &slot, 1);
	be->ops->pick(be, r->x, &rows, r->dim);
}

static void
bench_rows(const char *name, int rows, int dim, Work work)
{
	Rows r = {.rows = rows, .dim = dim};

	if (!wanted(name))
		return;
	r.x = floats((size_t) rows * (size_t) dim);
	r.weight = vector((size_t) dim);
	measure(name, 0, 0, 9, work, &r);
	be->ops->vector_free(be, r.weight);
	dsocr_free(r.x);
}

int
main(int argc, char **argv)
{
	const DsocrTextShape texts = {.slots = TEXTS, .ids = TEXT_IDS, .pages = TEXT_IDS / 16};
	DsocrBackendOptions options = {.device = "cpu"};
	DsocrError err;

	if (argc > 1 && strcmp(argv[1], "fp32") == 0)
		options.precision = DSOCR_PRECISION_FP32;
	if (argc > 1 && strcmp(argv[1], "int8") == 0)
		weights = DSOCR_INT8;
	if (argc > 1 && strcmp(argv[1], "int4") == 0)
		weights = DSOCR_INT4;
	if (argc > 2)
		options.threads = atoi(argv[2]);
	if (argc > 3)
		filter = argv[3];
	be = dsocr_cpu_open(&options, &err);
	if (be == NULL)
	{
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	if (!be->ops->texts_open(be, &texts, &err))
	{
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	printf("%s\n", be->description);
	bench_linear("sam qkv 4096", 4096, 2304, 768, DSOCR_ACT_NONE, false);
	bench_linear("sam proj 4096", 4096, 768, 768, DSOCR_ACT_NONE, false);
	bench_linear("sam lin1 4096, gelu", 4096, 3072, 768, DSOCR_ACT_GELU, false);
	bench_linear("sam lin2 4096", 4096, 768, 3072, DSOCR_ACT_NONE, false);
	bench_linear("neck conv 4096", 4096, 256, 2304, DSOCR_ACT_NONE, false);
	bench_linear("net_3 conv 256", 256, 1024, 4608, DSOCR_ACT_NONE, false);
	bench_linear("clip qkv 257", 257, 3072, 1024, DSOCR_ACT_NONE, false);
	bench_linear("clip fc1 257, quick_gelu", 257, 4096, 1024, DSOCR_ACT_QUICK_GELU, false);
	bench_linear("clip fc2 257", 257, 1024, 4096, DSOCR_ACT_NONE, false);
	bench_linear("lm qkv prefill 280", 280, 3840, 1280, DSOCR_ACT_NONE, false);
	bench_linear("lm dense prefill 512", 512, 13696, 1280, DSOCR_ACT_NONE, false);
	bench_attention("sam window attention 64x64", 64, 12, 64, 14);
	bench_attention("sam global attention 64x64", 64, 12, 64, 0);
	bench_attention("clip attention 257", 257, 16, 64, -1);
	bench_attention("onehead attention", 64, 1, 64, 0);
	bench_attention("onehead plain", 4096, 1, 64, -1);
	bench_rows("layer_norm 4096x768", 4096, 768, layer_norm_work);
	bench_causal("causal prefill 280", 280, 279, false);
	bench_causal("causal prefill 256 at 1000", 256, 1000, false);
	bench_causal("causal decode 1 at 1000", 1, 1000, true);
	bench_causal("causal decode 8 at 1000", 8, 1000, true);
	bench_linear("lm qkv decode 1", 1, 3840, 1280, DSOCR_ACT_NONE, true);
	bench_linear("lm_head decode 1", 1, 129280, 1280, DSOCR_ACT_NONE, true);
	bench_linear("lm_head decode 8", 8, 129280, 1280, DSOCR_ACT_NONE, true);
	bench_linear("lm_head decode 32", 32, 129280, 1280, DSOCR_ACT_NONE, true);
	bench_rows("pick 1x129280", 1, 129280, pick_work);
	if (wanted("experts") || strstr(filter, "experts") != NULL)
		bench_all_experts();
	be->ops->close(be);
	return 0;
}
