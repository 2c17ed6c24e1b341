/*-------------------------------------------------------------------------
 *
 * test_products.c
 *		Products with weights, router and experts of the CUDA backend.
 *
 * Compared with the reference over odd shapes; and bit by bit with
 * themselves, for any number of rows, any place among them and any tile: the
 * number of multiprocessors that the emulated device claims changes the tiles
 * that are chosen.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#include "../reference/fixture.h"

#define SLOT_IDS 64

static const char *const sms[] = {"132", "16", "1"};

static void
open_backends(DsocrPrecision precision, const char *multiprocessors)
{
	const DsocrTextShape texts = {.slots = FX_SLOTS, .ids = SLOT_IDS, .pages = 4};
	DsocrBackendOptions options = {.device = "cuda:0", .precision = precision};
	DsocrError err;

	setenv("DSOCR_EMU_SMS", multiprocessors, 1);
	fx_precision = precision;
	fx_seed = 1;
	fx_both[0] = dsocr_reference_open(&options, &err);
	assert_non_null(fx_both[0]);
	fx_both[1] = dsocr_cuda_open(&options, &err);
	if (fx_both[1] == NULL)
		fail_msg("%s", err.message);
	for (int b = 0; b < 2; b++)
		assert_true(fx_both[b]->ops->texts_open(fx_both[b], &texts, &err));
}

/* fp32 sums in another order, or a result rounded to bf16. */
static double
tolerance(void)
{
	return fx_precision == DSOCR_PRECISION_FP32 ? FX_TIGHT : FX_ROUNDED;
}

/* ---- matrices ---- */

/* A tensor of random elements of a type, every bit pattern of F16 and BF16 numbers among them. */
static DsocrTensor
some_tensor(DsocrDtype dtype, int rows, int cols, bool four)
{
	DsocrTensor t = {.name = "t", .dtype = dtype, .ndim = four ? 4 : 2, .shape = {rows, cols}};
	size_t size = dsocr_dtype_size(dtype);
	char *bytes;

	if (four)
	{
		t.shape[1] = cols / 6;
		t.shape[2] = 2;
		t.shape[3] = 3;
	}
	t.count = (int64_t) rows * cols;
	bytes = dsocr_alloc((size_t) t.count * size + 1, 1, NULL);
	for (int64_t i = 0; i < t.count; i++)
	{
		float f = (float) (fx_next() >> 40) / 100;
		uint32_t bits = (uint32_t) fx_next();

		if (dtype == DSOCR_F16)
			bits &= 0xbfff; /* neither infinite nor NaN */
		else if (dtype == DSOCR_BF16)
			bits &= 0xff7f;
		else
			memcpy(&bits, &f, sizeof(bits));
		memcpy(bytes + 1 + (size_t) i * size, &bits, size);
	}
	t.data = bytes + 1;
	return t;
}

static void
tensor_free(DsocrTensor *t)
{
	dsocr_free((char *) t->data - 1);
}

/* Rows of a matrix of two tensors, read through embed, are what they should be to the bit. */
static void
check_matrix(DsocrDtype dtype, int rows, int cols, bool four, bool channel_last)
{
	DsocrBackend *be = fx_both[1];
	DsocrTensor t[2] = {some_tensor(dtype, rows, cols, four), some_tensor(dtype, 3, cols, four)};
	const DsocrTensor *parts[2] = {&t[0], &t[1]};
	DsocrMatrix *m = be->ops->matrix(be, parts, 2, channel_last, NULL);
	int pixels = four && channel_last ? 6 : 1;
	int channels = cols / pixels;
	int32_t ids[5] = {0, 1, rows - 1, rows, rows + 2};
	float *got = fx_numbers(5 * (size_t) cols, 0);
	void *out = be->ops->alloc(be, 5 * (size_t) cols, NULL);

	assert_non_null(m);
	be->ops->embed(be, out, m, ids, 5);
	be->ops->read(be, got, out, 5 * (size_t) cols);
	for (int i = 0; i < 5; i++)
		for (int c = 0; c < cols; c++)
		{
			const DsocrTensor *from = ids[i] < rows ? &t[0] : &t[1];
			int64_t row = ids[i] < rows ? ids[i] : ids[i] - rows;
			/* place c is channel c % channels of pixel c / channels */
			int64_t at = pixels == 1 ? c : (int64_t) (c % channels) * pixels + c / channels;
			float want = dsocr_tensor_get(from, row * cols + at);

			if (fx_precision == DSOCR_PRECISION_BF16)
				want = dsocr_bf16_to_f32(dsocr_f32_to_bf16(want));
			if (memcmp(&want, &got[i * cols + c], sizeof(want)) != 0)
				fail_msg("type %d of %d x %d, row %d column %d: %a, not %a", (int) dtype, rows,
						 cols, (int) ids[i], c, (double) got[i * cols + c], (double) want);
		}
	be->ops->free(be, out);
	be->ops->matrix_free(be, m);
	dsocr_free(got);
	tensor_free(&t[0]);
	tensor_free(&t[1]);
}

static void
test_matrix(void **state)
{
	static const DsocrDtype types[] = {DSOCR_BF16, DSOCR_F16, DSOCR_F32};

	for (int precision = 0; precision < 2; precision++)
	{
		open_backends((DsocrPrecision) precision, "132");
		for (int i = 0; i < 3; i++)
		{
			check_matrix(types[i], 7, 24, false, false);
			check_matrix(types[i], 4, 30, false, true);
			check_matrix(types[i], 5, 42, true, false);
			check_matrix(types[i], 5, 42, true, true);
			check_matrix(types[i], 4, 48, true, true);
		}
		check_matrix(DSOCR_BF16, 1500, 1503, false, false); /* several pieces */
		fx_close();
	}
}

static void
refuse_matrix(const DsocrTensor *a, const DsocrTensor *b, DsocrCode code)
{
	const DsocrTensor *parts[2] = {a, b};
	DsocrError err = {0};

	assert_null(fx_both[1]->ops->matrix(fx_both[1], parts, b != NULL ? 2 : 1, false, &err));
	assert_int_equal(err.code, code);
	assert_true(err.message[0] != '\0');
}

static void
test_refused(void **state)
{
	static const float zeros[64];
	const DsocrTensor good = {"g", DSOCR_F32, 2, {2, 4}, 8, zeros};
	const DsocrTensor odd = {"o", DSOCR_F32, 3, {2, 2, 2}, 8, zeros};
	const DsocrTensor wide = {"w", DSOCR_F32, 2, {2, 5}, 10, zeros};
	const DsocrTensor none = {"n", DSOCR_F32, 2, {0, 4}, 0, zeros};
	const DsocrTensor large = {"l", DSOCR_F32, 2, {INT32_MAX, 4}, (int64_t) INT32_MAX * 4, zeros};
	const DsocrTensor *part = &good;
	const DsocrTensor *other = &wide;
	DsocrMatrix *m[2];
	DsocrError err = {0};
	size_t before;

	open_backends(DSOCR_PRECISION_BF16, "132");
	before = fx_both[1]->ops->memory(fx_both[1]);
	refuse_matrix(&odd, NULL, DSOCR_E_MODEL);
	refuse_matrix(&none, NULL, DSOCR_E_MODEL);
	refuse_matrix(&good, &wide, DSOCR_E_MODEL);
	refuse_matrix(&large, &good, DSOCR_E_MODEL);
	refuse_matrix(&large, NULL, DSOCR_E_MEMORY);
	m[0] = fx_both[1]->ops->matrix(fx_both[1], &part, 1, false, NULL);
	m[1] = fx_both[1]->ops->matrix(fx_both[1], &other, 1, false, NULL);
	assert_null(fx_both[1]->ops->experts_open(fx_both[1], (const DsocrMatrix *const *) &m[0],
											  (const DsocrMatrix *const *) &m[1], 1, &err));
	assert_int_equal(err.code, DSOCR_E_INTERNAL);
	assert_null(fx_both[1]->ops->vector(fx_both[1], zeros, SIZE_MAX / 2, &err));
	assert_int_equal(err.code, DSOCR_E_MEMORY);
	fx_both[1]->ops->matrix_free(fx_both[1], m[0]);
	fx_both[1]->ops->matrix_free(fx_both[1], m[1]);
	assert_int_equal(fx_both[1]->ops->memory(fx_both[1]), before);
	fx_close();
}

/* ---- linear ---- */

static void
check_linear(int rows, int n, int k, bool with_bias, DsocrActivation act, int residual, int unit)
{
	FxMatrix w = fx_matrix(n, k, n > 3 ? 2 : 1, false, 1.0f / sqrtf((float) k));
	FxVector bias = fx_vector((size_t) n, 0.5f, 0);
	size_t count = (size_t) rows * (size_t) n;
	float *x = fx_numbers((size_t) rows * (size_t) k, 1);
	float *add = fx_numbers(count, 1);
	void *y[2];
	char what[128];

	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *in = fx_act(be, x, (size_t) rows * (size_t) k);
		void *other = fx_act(be, add, count);

		y[b] = fx_act(be, add, count);
		be->ops->linear(be, y[b], in, rows, w.m[b], with_bias ? bias.v[b] : NULL, act,
						residual == 0	? NULL
						: residual == 1 ? y[b]
										: other,
						unit);
		be->ops->free(be, in);
		be->ops->free(be, other);
	}
	snprintf(what, sizeof(what), "linear m %d n %d k %d act %d residual %d unit %d", rows, n, k,
			 (int) act, residual, unit);
	fx_compare(what, y[0], y[1], count, tolerance());
	dsocr_free(x);
	dsocr_free(add);
	fx_vector_free(&bias);
	fx_matrix_free(&w);
}

static void
check_linears(void)
{
	static const int shapes[][3] = {
		{1, 1, 1},	  {1, 7, 3},	 {5, 33, 17},	 {3, 8, 8},		{1, 130, 72},  {16, 65, 200},
		{17, 34, 64}, {33, 127, 24}, {64, 128, 136}, {65, 96, 40},	{129, 70, 56}, {130, 300, 72},
		{2, 513, 33}, {40, 250, 90}, {4, 60, 6848},	 {3, 18, 1608}, {20, 40, 1000}};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		for (int unit = 0; unit < 2; unit++)
			check_linear(shapes[i][0], shapes[i][1], shapes[i][2], i % 2 == 0,
						 (DsocrActivation) (i % 3), (int) ((i + (size_t) unit) % 3),
						 unit * shapes[i][0]);
}

static void
check_swiglu(int rows, int n, int k, int unit)
{
	FxMatrix w = fx_matrix(2 * n, k, 2, false, 1.0f / sqrtf((float) k));
	float *x = fx_numbers((size_t) rows * (size_t) k, 1);
	void *y[2];
	char what[128];

	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *in = fx_act(be, x, (size_t) rows * (size_t) k);
		void *wide = be->ops->alloc(be, 2 * (size_t) rows * (size_t) n, NULL);

		y[b] = be->ops->alloc(be, (size_t) rows * (size_t) n, NULL);
		be->ops->swiglu(be, y[b], wide, in, rows, w.m[b], unit);
		be->ops->free(be, in);
		be->ops->free(be, wide);
	}
	snprintf(what, sizeof(what), "swiglu m %d n %d k %d unit %d", rows, n, k, unit);
	fx_compare(what, y[0], y[1], (size_t) rows * (size_t) n, tolerance());
	dsocr_free(x);
	fx_matrix_free(&w);
}

static void
check_logits(int rows, int n, int k)
{
	FxMatrix w = fx_matrix(n, k, 1, false, 1.0f / sqrtf((float) k));
	size_t count = (size_t) rows * (size_t) n;
	float *x = fx_numbers((size_t) rows * (size_t) k, 1);
	float *y[2];
	char what[128];

	for (int b = 0; b < 2; b++)
	{
		DsocrBackend *be = fx_both[b];
		void *in = fx_act(be, x, (size_t) rows * (size_t) k);
		float *logits = be->ops->raw_alloc(be, count * sizeof(float), NULL);

		be->ops->logits(be, logits, in, rows, w.m[b]);
		y[b] = fx_numbers(count, 0);
		be->ops->raw_read(be, y[b], logits, count * sizeof(float));
		be->ops->raw_free(be, logits);
		be->ops->free(be, in);
	}
	snprintf(what, sizeof(what), "logits m %d n %d k %d", rows, n, k);
	fx_compare_floats(what, y[0], y[1], count, FX_TIGHT);
	dsocr_free(x);
	dsocr_free(y[0]);
	dsocr_free(y[1]);
	fx_matrix_free(&w);
}

static void
check_products(void)
{
	check_linears();
	for (int unit = 0; unit < 2; unit++)
	{
		check_swiglu(1, 5, 7, unit);
		check_swiglu(3, 20, 40, 3 * unit);
		check_swiglu(20, 33, 72, 20 * unit);
		check_swiglu(50, 64, 24, 50 * unit);
		check_swiglu(140, 90, 136, 140 * unit);
	}
	check_logits(1, 33, 9);
	check_logits(1, 300, 72);
	check_logits(18, 131, 64);
	check_logits(70, 200, 136);
	check_logits(140, 150, 840);
}

/* ---- rows alone and together ---- */

/* Outputs of rows [first, first + rows) of x as they lie in memory. */
static void
run_alone(char *out, const float *x, int first, int rows, int n, int k, const DsocrMatrix *w,
		  bool pairs)
{
	DsocrBackend *be = fx_both[1];
	size_t count = (size_t) rows * (size_t) n;
	void *in = fx_act(be, x + (size_t) first * (size_t) k, (size_t) rows * (size_t) k);
	void *y = be->ops->alloc(be, count, NULL);
	void *wide = be->ops->alloc(be, 2 * count, NULL);

	if (pairs)
		be->ops->swiglu(be, y, wide, in, rows, w, DSOCR_MIXED);
	else
		be->ops->linear(be, y, in, rows, w, NULL, DSOCR_ACT_NONE, NULL, DSOCR_MIXED);
	be->ops->raw_read(be, out, y, count * be->act_size);
	be->ops->free(be, in);
	be->ops->free(be, y);
	be->ops->free(be, wide);
}

static const int counts[] = {1, 3, 16, 17, 31, 33, 64, 65, 129};

/* The rows of a product by one count after another against all at once on 132 multiprocessors. */
static void
check_alone(int n, int k, bool pairs)
{
	const int rows = 150;
	char *want = NULL;

	for (size_t s = 0; s < sizeof(sms) / sizeof(sms[0]); s++)
	{
		FxMatrix w;
		float *x;
		size_t row;
		char *got;

		open_backends(DSOCR_PRECISION_BF16, sms[s]);
		row = (size_t) n * fx_both[1]->act_size;
		got = dsocr_zalloc((size_t) rows, row, NULL);
		w = fx_matrix(pairs ? 2 * n : n, k, 1, false, 0.5f);
		x = fx_numbers((size_t) rows * (size_t) k, 1);
		if (want == NULL)
		{
			want = dsocr_zalloc((size_t) rows, row, NULL);
			run_alone(want, x, 0, rows, n, k, w.m[1], pairs);
		}
		for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		{
			int first = rows - counts[i] - (int) i;

			run_alone(got, x, first, counts[i], n, k, w.m[1], pairs);
			if (memcmp(got, want + (size_t) first * row, (size_t) counts[i] * row) != 0)
				fail_msg("%d rows of n %d k %d differ on %s multiprocessors", counts[i], n, k,
						 sms[s]);
		}
		dsocr_free(x);
		dsocr_free(got);
		fx_matrix_free(&w);
		fx_close();
	}
	dsocr_free(want);
}

static void
test_alone(void **state)
{
	check_alone(270, 136, false);
	check_alone(70, 904, true);
	check_alone(33, 50, false);
}

/* ---- router and experts ---- */

typedef struct Moe
{
	int rows;
	int hidden;
	int inter;
	int experts;
	int k;
	bool mixed;
	float *x;
	FxMatrix gate;
	FxMatrix *gate_up;
	FxMatrix *down;
	DsocrExperts *e[2];
} Moe;

static Moe
moe_open(int rows, int hidden, int inter, int experts, int k, bool mixed)
{
	Moe m = {rows, hidden, inter, experts, k, mixed};

	m.x = fx_numbers((size_t) rows * (size_t) hidden, 1);
	m.gate = fx_matrix(experts, hidden, 1, false, 1.0f / sqrtf((float) hidden));
	m.gate_up = dsocr_zalloc((size_t) experts, sizeof(FxMatrix), NULL);
	m.down = dsocr_zalloc((size_t) experts, sizeof(FxMatrix), NULL);
	for (int i = 0; i < experts; i++)
	{
		m.gate_up[i] = fx_matrix(2 * inter, hidden, 2, false, 1.0f / sqrtf((float) hidden));
		m.down[i] = fx_matrix(hidden, inter, 1, false, 1.0f / sqrtf((float) inter));
	}
	for (int b = 0; b < 2; b++)
	{
		const DsocrMatrix *up[256];
		const DsocrMatrix *down[256];

		for (int i = 0; i < experts; i++)
		{
			up[i] = m.gate_up[i].m[b];
			down[i] = m.down[i].m[b];
		}
		m.e[b] = fx_both[b]->ops->experts_open(fx_both[b], up, down, experts, NULL);
		assert_non_null(m.e[b]);
	}
	return m;
}

static void
moe_close(Moe *m)
{
	for (int b = 0; b < 2; b++)
		fx_both[b]->ops->experts_close(fx_both[b], m->e[b]);
	for (int i = 0; i < m->experts; i++)
	{
		fx_matrix_free(&m->gate_up[i]);
		fx_matrix_free(&m->down[i]);
	}
	fx_matrix_free(&m->gate);
	dsocr_free(m->gate_up);
	dsocr_free(m->down);
	dsocr_free(m->x);
}

/* What a backend gives for rows [first, first + rows), in host memory. */
typedef struct MoeResult
{
	int32_t *ids;
	float *weights;
	float *logits;
	float *y;
	char *raw; /* y as it lies in memory */
} MoeResult;

static MoeResult
moe_run(const Moe *m, int b, int first, int rows, bool residual)
{
	DsocrBackend *be = fx_both[b];
	size_t choices = (size_t) rows * (size_t) m->k;
	size_t count = (size_t) rows * (size_t) m->hidden;
	int32_t slots[256];
	int32_t zero = 0;
	DsocrRows run = {.n = rows, .slots = slots, .first = 0, .mixed = m->mixed};
	float *from = m->x + (size_t) first * (size_t) m->hidden;
	void *x = fx_act(be, from, count);
	void *y = fx_act(be, from, count);
	int32_t *d_ids = be->ops->raw_alloc(be, choices * 4, NULL);
	float *d_weights = be->ops->raw_alloc(be, choices * 4, NULL);
	float *d_logits = be->ops->raw_alloc(be, (size_t) rows * (size_t) m->experts * 4, NULL);
	MoeResult r;

	be->ops->text_start(
		be, 0, &(DsocrText){.ids = &zero, .n = 1, .prompt_len = 1, .pages = &zero, .n_pages = 1});
	for (int i = 0; i < rows; i++)
		slots[i] = m->mixed && (first + i) % 7 == 3 ? -1 : 0;
	be->ops->run_begin(be, &run, false);
	be->ops->router(be, d_ids, d_weights, d_logits, x, &run, m->gate.m[b], m->k);
	be->ops->experts(be, y, x, rows, d_ids, d_weights, m->k, m->e[b], residual ? y : NULL,
					 m->mixed ? DSOCR_MIXED : rows);
	be->ops->run_end(be);
	r.ids = dsocr_zalloc(choices, 4, NULL);
	r.weights = dsocr_zalloc(choices, 4, NULL);
	r.logits = dsocr_zalloc((size_t) rows * (size_t) m->experts, 4, NULL);
	r.y = dsocr_zalloc(count, 4, NULL);
	r.raw = dsocr_zalloc(count, be->act_size, NULL);
	assert_true(be->ops->sync(be, NULL));
	be->ops->raw_read(be, r.ids, d_ids, choices * 4);
	be->ops->raw_read(be, r.weights, d_weights, choices * 4);
	be->ops->raw_read(be, r.logits, d_logits, (size_t) rows * (size_t) m->experts * 4);
	be->ops->raw_read(be, r.raw, y, count * be->act_size);
	be->ops->read(be, r.y, y, count);
	be->ops->free(be, x);
	be->ops->free(be, y);
	be->ops->raw_free(be, d_ids);
	be->ops->raw_free(be, d_weights);
	be->ops->raw_free(be, d_logits);
	return r;
}

static void
moe_result_free(MoeResult *r)
{
	dsocr_free(r->ids);
	dsocr_free(r->weights);
	dsocr_free(r->logits);
	dsocr_free(r->y);
	dsocr_free(r->raw);
}

static void
check_moe(int rows, int hidden, int inter, int experts, int k, bool mixed, bool residual)
{
	Moe m = moe_open(rows, hidden, inter, experts, k, mixed);
	MoeResult want = moe_run(&m, 0, 0, rows, residual);
	MoeResult got = moe_run(&m, 1, 0, rows, residual);
	char what[128];

	snprintf(what, sizeof(what), "moe rows %d hidden %d inter %d experts %d k %d mixed %d", rows,
			 hidden, inter, experts, k, (int) mixed);
	fx_compare_floats(what, want.logits, got.logits, (size_t) rows * (size_t) experts, FX_TIGHT);
	for (int i = 0; i < rows * k; i++)
		if (want.ids[i] != got.ids[i])
			fail_msg("%s: choice %d is %d, not %d", what, i, (int) got.ids[i], (int) want.ids[i]);
	for (int i = 0; i < rows; i++)
		if (mixed && i % 7 == 3)
			assert_int_equal(got.ids[i * k], -1);
		else
			fx_compare_floats(what, want.weights + i * k, got.weights + i * k, (size_t) k,
							  FX_TIGHT);
	fx_compare_floats(what, want.y, got.y, (size_t) rows * (size_t) hidden,
					  fx_precision == DSOCR_PRECISION_FP32 ? FX_TIGHT : FX_ROUNDED);
	moe_result_free(&want);
	moe_result_free(&got);
	moe_close(&m);
}

static void
check_moes(void)
{
	check_moe(1, 8, 8, 1, 1, false, false);
	check_moe(1, 64, 24, 16, 6, false, true);
	check_moe(9, 20, 12, 5, 3, true, true);
	check_moe(24, 72, 40, 8, 4, true, true);
	check_moe(40, 64, 48, 4, 2, false, false);
	check_moe(100, 40, 24, 6, 3, true, true);
	check_moe(5, 33, 7, 70, 20, true, false);
}

static void
test_moe_alone(void **state)
{
	char *want = NULL;
	const int rows = 150;
	const int hidden = 72;

	for (size_t s = 0; s < sizeof(sms) / sizeof(sms[0]); s++)
	{
		Moe m;
		size_t row;
		MoeResult r;

		open_backends(DSOCR_PRECISION_BF16, sms[s]);
		m = moe_open(rows, hidden, 136, 6, 3, true);
		row = (size_t) hidden * fx_both[1]->act_size;
		if (want == NULL)
		{
			r = moe_run(&m, 1, 0, rows, true);
			want = dsocr_zalloc((size_t) rows, row, NULL);
			memcpy(want, r.raw, (size_t) rows * row);
			moe_result_free(&r);
		}
		for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		{
			int first = rows - counts[i] - (int) i;

			r = moe_run(&m, 1, first, counts[i], true);
			if (memcmp(r.raw, want + (size_t) first * row, (size_t) counts[i] * row) != 0)
				fail_msg("experts: %d rows differ on %s multiprocessors", counts[i], sms[s]);
			moe_result_free(&r);
		}
		moe_close(&m);
		fx_close();
	}
	dsocr_free(want);
}

/* ---- all of it ---- */

static void
run_all(DsocrPrecision precision)
{
	for (size_t s = 0; s < sizeof(sms) / sizeof(sms[0]); s++)
	{
		open_backends(precision, sms[s]);
		check_products();
		check_moes();
		fx_close();
	}
}

static void
test_bf16(void **state)
{
	run_all(DSOCR_PRECISION_BF16);
}

static void
test_fp32(void **state)
{
	run_all(DSOCR_PRECISION_FP32);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matrix), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_fp32),   cmocka_unit_test(test_bf16),
		cmocka_unit_test(test_alone),  cmocka_unit_test(test_moe_alone)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
