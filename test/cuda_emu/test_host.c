/*-------------------------------------------------------------------------
 *
 * test_host.c
 *		The host's side of the CUDA backend: memory, steps, a broken device.
 *
 * Cases that break the device or change its settings are children of their
 * own, since the emulated device reads its settings once.
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
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "backend.h"
#include "../reference/fixture.h"

#define VOCAB 96
#define DIM 40
#define SLOTS 20
#define IDS 64

static int n_logged;
static char logged[256];

static void
remember(const char *message)
{
	n_logged++;
	snprintf(logged, sizeof(logged), "%s", message);
}

static DsocrBackend *
open_cuda(DsocrPrecision precision, size_t memory)
{
	DsocrBackendOptions o = {
		.device = "cuda:0", .precision = precision, .memory = memory, .log = remember};
	DsocrError err = {0};
	DsocrBackend *be = dsocr_cuda_open(&o, &err);

	if (be == NULL)
		fail_msg("%s", err.message);
	return be;
}

/* Run a case in a child; it must leave by itself. */
static void
in_child(void (*run)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
	{
		run();
		_exit(0);
	}
	assert_true(waitpid(pid, &status, 0) == pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* For children: a failed assertion must not return into the parent's tests. */
static void
need(bool ok, int line)
{
	if (ok)
		return;
	fprintf(stderr, "test_host.c:%d failed\n", line);
	_exit(1);
}

#define NEED(condition) need((condition), __LINE__)

/* ---- memory ---- */

typedef struct Piece
{
	float *act; /* NULL: none */
	size_t n;
	float first;
} Piece;

static void
check_piece(DsocrBackend *be, const Piece *p)
{
	float *values = malloc(p->n * sizeof(float));

	be->ops->read(be, values, p->act, p->n);
	for (size_t i = 0; i < p->n; i++)
		if (values[i] != p->first + (float) i)
			fail_msg("element %zu of %zu is %g, not %g", i, p->n, values[i], p->first + (float) i);
	free(values);
}

static void
fill_piece(DsocrBackend *be, Piece *p, size_t n, float first)
{
	DsocrError err = {0};
	float *values;

	p->act = be->ops->alloc(be, n, &err);
	if (p->act == NULL)
	{
		assert_int_equal(err.code, DSOCR_E_MEMORY);
		return;
	}
	p->n = n;
	p->first = first;
	values = malloc(n * sizeof(float));
	for (size_t i = 0; i < n; i++)
		values[i] = first + (float) i;
	be->ops->write(be, p->act, values, n);
	free(values);
}

/* Pieces come and go; none touches another, and all of the region comes back. */
static void
check_memory(const char *separate)
{
	enum
	{
		N = 60
	};
	Piece pieces[N] = {0};
	DsocrBackend *be;
	size_t before;
	int refused = 0;

	setenv("DSOCR_CUDA_SEPARATE", separate, 1);
	be = open_cuda(DSOCR_PRECISION_FP32, (size_t) 1 << 20);
	before = be->ops->memory(be);
	fx_seed = 7;
	for (int round = 0; round < 3000; round++)
	{
		Piece *p = &pieces[fx_between(0, N - 1)];

		if (p->act == NULL)
		{
			fill_piece(be, p, (size_t) fx_between(1, 20000), (float) round);
			if (p->act == NULL)
				refused++;
			else
				assert_int_equal((uintptr_t) p->act % 16, 0);
			continue;
		}
		check_piece(be, p);
		be->ops->free(be, p->act);
		p->act = NULL;
	}
	assert_true(refused > 0 && refused < 2000);
	for (int i = 0; i < N; i++)
	{
		if (pieces[i].act != NULL)
			check_piece(be, &pieces[i]);
		be->ops->free(be, pieces[i].act);
	}
	assert_true(be->ops->sync(be, NULL));
	assert_int_equal(be->ops->memory(be), before);
	be->ops->close(be);
	unsetenv("DSOCR_CUDA_SEPARATE");
}

static void
test_region(void **state)
{
	check_memory("0");
}

static void
test_separate(void **state)
{
	check_memory("1");
}

static void
test_too_large(void **state)
{
	static const size_t sizes[] = {(size_t) 8 << 20, SIZE_MAX, SIZE_MAX - 100, SIZE_MAX / 4};
	DsocrBackend *be;
	void *p;

	setenv("DSOCR_CUDA_SEPARATE", "0", 1);
	be = open_cuda(DSOCR_PRECISION_FP32, (size_t) 4 << 20);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		DsocrError err = {0};

		assert_null(be->ops->raw_alloc(be, sizes[i], &err));
		assert_int_equal(err.code, DSOCR_E_MEMORY);
		assert_null(be->ops->alloc(be, sizes[i], &err));
	}
	p = be->ops->raw_alloc(be, (size_t) 3 << 20, NULL);
	assert_non_null(p);
	be->ops->raw_free(be, p);
	be->ops->close(be);
	unsetenv("DSOCR_CUDA_SEPARATE");
}

/* W[VOCAB, DIM] of bf16 numbers. */
static DsocrMatrix *
make_matrix(DsocrBackend *be, uint64_t seed)
{
	static uint16_t values[VOCAB * DIM];
	const DsocrTensor t = {.name = "w",
						   .dtype = DSOCR_BF16,
						   .ndim = 2,
						   .shape = {VOCAB, DIM},
						   .count = VOCAB * DIM,
						   .data = values};
	const DsocrTensor *parts[1] = {&t};
	DsocrError err = {0};
	DsocrMatrix *m;

	fx_seed = seed;
	for (int i = 0; i < VOCAB * DIM; i++)
		values[i] = dsocr_f32_to_bf16(fx_number(1));
	m = be->ops->matrix(be, parts, 1, false, &err);
	if (m == NULL)
		fail_msg("%s", err.message);
	return m;
}

/* An operation without scratch memory says so once, and the next one works. */
static void
test_scratch_shortage(void **state)
{
	DsocrBackend *be = open_cuda(DSOCR_PRECISION_FP32, (size_t) 1 << 20);
	void *taken[64];
	int n = 0;
	DsocrMatrix *w = make_matrix(be, 1);
	void *out = be->ops->alloc(be, 64 * DIM, NULL);
	static int32_t ids[64];
	DsocrError err = {0};

	/* half, a quarter ... of what is left */
	for (size_t size = (size_t) 512 << 10; size >= 256 && n < 64; size /= 2)
		while (n < 64 && (taken[n] = be->ops->raw_alloc(be, size, NULL)) != NULL)
			n++;
	be->ops->embed(be, out, w, ids, 64);
	assert_false(be->ops->sync(be, &err));
	assert_int_equal(err.code, DSOCR_E_MEMORY);
	assert_true(be->ops->sync(be, &err));
	while (n > 0)
		be->ops->raw_free(be, taken[--n]);
	be->ops->embed(be, out, w, ids, 64);
	assert_true(be->ops->sync(be, &err));
	be->ops->free(be, out);
	be->ops->matrix_free(be, w);
	be->ops->close(be);
}

/* ---- steps ---- */

typedef struct Steps
{
	DsocrBackend *be;
	DsocrMatrix *table; /* [VOCAB, DIM] */
	DsocrMatrix *head;	/* the same shape */
	void *x;			/* [SLOTS, DIM] */
	float *logits;		/* [SLOTS, VOCAB] */
	int32_t ids[SLOTS];
	float logprobs[SLOTS];
	bool asked; /* run_begin wanted the operations */
} Steps;

static void
open_steps(Steps *s)
{
	const DsocrTextShape shape = {.slots = SLOTS, .ids = IDS, .pages = 2};

	s->be = open_cuda(DSOCR_PRECISION_BF16, (size_t) 4 << 20);
	s->table = make_matrix(s->be, 1);
	s->head = make_matrix(s->be, 2);
	s->x = s->be->ops->alloc(s->be, SLOTS * DIM, NULL);
	s->logits = s->be->ops->raw_alloc(s->be, SLOTS * VOCAB * sizeof(float), NULL);
	assert_non_null(s->x);
	assert_non_null(s->logits);
	assert_true(s->be->ops->texts_open(s->be, &shape, NULL));
	for (int i = 0; i < SLOTS; i++)
	{
		int32_t ids[3] = {i, 2 * i % VOCAB, 5 * i % VOCAB};
		int32_t pages[1] = {0};
		const DsocrText text = {.ids = ids,
								.n = 3,
								.prompt_len = 2,
								.pages = pages,
								.n_pages = 1,
								.ngram_size = i % 3,
								.ngram_window = 0};

		s->be->ops->text_start(s->be, i, &text);
	}
}

static void
close_steps(Steps *s)
{
	s->be->ops->raw_free(s->be, s->logits);
	s->be->ops->free(s->be, s->x);
	s->be->ops->matrix_free(s->be, s->head);
	s->be->ops->matrix_free(s->be, s->table);
	s->be->ops->close(s->be);
}

/* One step for n sequences from slot `first` on; the rest up to the bucket is empty. */
static bool
step(Steps *s, int first, int n, bool whole, bool spoil, DsocrError *err)
{
	const DsocrBackendOps *ops = s->be->ops;
	int32_t slots[SLOTS];
	DsocrRows rows = {.n = ops->bucket(s->be, n), .slots = slots, .mixed = true};

	assert_in_range(rows.n, n, SLOTS);
	for (int i = 0; i < rows.n; i++)
		slots[i] = i < n ? (first + i) % SLOTS : -1;
	s->asked = ops->run_begin(s->be, &rows, whole);
	if (s->asked)
	{
		float seen;

		ops->embed_last(s->be, s->x, s->table, &rows);
		if (spoil)
			ops->raw_read(s->be, &seen, s->logits, sizeof(seen));
		ops->logits(s->be, s->logits, s->x, rows.n, s->head);
		ops->pick(s->be, s->logits, &rows, VOCAB);
	}
	ops->run_end(s->be);
	if (!ops->sync(s->be, err))
		return false;
	ops->picked(s->be, s->ids, s->logprobs, rows.n);
	return true;
}

static void
both_step(Steps *recorded, Steps *plain, int first, int n, bool asked)
{
	assert_true(step(recorded, first, n, true, false, NULL));
	assert_true(step(plain, first, n, false, false, NULL));
	assert_true(plain->asked);
	assert_int_equal(recorded->asked, asked);
	assert_memory_equal(recorded->ids, plain->ids, (size_t) n * sizeof(int32_t));
	assert_memory_equal(recorded->logprobs, plain->logprobs, (size_t) n * sizeof(float));
}

/* What is replayed equals what is launched, for changing slots and numbers. */
static void
test_recorded(void **state)
{
	Steps recorded;
	Steps plain;
	void *held;

	n_logged = 0;
	open_steps(&recorded);
	open_steps(&plain);
	for (int i = 0; i < 6; i++)
		both_step(&recorded, &plain, i, 3, i < 2);
	/* another number of rows, and fewer than a bucket has */
	for (int i = 0; i < 4; i++)
		both_step(&recorded, &plain, 3 * i, 12 - i, i < 2);
	/* more scratch memory for more rows has dropped the first recording */
	both_step(&recorded, &plain, 1, 3, true);
	both_step(&recorded, &plain, 2, 3, false);
	/* memory that was there before a recording may be what it uses */
	recorded.be->ops->raw_free(recorded.be, recorded.logits);
	held = recorded.be->ops->raw_alloc(recorded.be, 64, NULL);
	recorded.logits = recorded.be->ops->raw_alloc(recorded.be, SLOTS * VOCAB * sizeof(float), NULL);
	for (int i = 0; i < 4; i++)
		both_step(&recorded, &plain, i, 3, i < 1);
	recorded.be->ops->raw_free(recorded.be, held);
	both_step(&recorded, &plain, 2, 3, true);
	/* memory that came and went since is not */
	held = recorded.be->ops->raw_alloc(recorded.be, 64, NULL);
	recorded.be->ops->raw_free(recorded.be, held);
	both_step(&recorded, &plain, 3, 3, false);
	assert_int_equal(n_logged, 0);
	close_steps(&recorded);
	close_steps(&plain);
}

/* A step that cannot be recorded is reported, repeated, and none is recorded any more. */
static void
test_not_recorded(void **state)
{
	Steps recorded;
	Steps plain;
	DsocrError err = {0};

	n_logged = 0;
	open_steps(&recorded);
	open_steps(&plain);
	both_step(&recorded, &plain, 0, 4, true);
	assert_false(step(&recorded, 0, 4, true, true, &err));
	assert_int_equal(err.code, DSOCR_E_MEMORY);
	assert_int_equal(n_logged, 1);
	assert_non_null(strstr(logged, "not recorded"));
	for (int i = 0; i < 4; i++)
		both_step(&recorded, &plain, 0, 4, true);
	assert_int_equal(n_logged, 1);
	close_steps(&recorded);
	close_steps(&plain);
}

/* ---- a broken device ---- */

static void
use_and_expect(const char *text, int64_t within_us)
{
	DsocrBackend *be = open_cuda(DSOCR_PRECISION_FP32, (size_t) 1 << 20);
	void *x = be->ops->alloc(be, 1000, NULL);
	void *y = be->ops->alloc(be, 500, NULL);
	float ones[1000];
	DsocrError err = {0};
	int64_t start = dsocr_now_us();

	for (int i = 0; i < 1000; i++)
		ones[i] = 1;
	be->ops->write(be, x, ones, 1000);
	for (int i = 0; i < 10; i++)
		be->ops->silu_mul(be, y, x, 10, 50);
	NEED(!be->ops->sync(be, &err));
	NEED(err.code == DSOCR_E_DEVICE);
	fprintf(stderr, "%s\n", err.message);
	NEED(strstr(err.message, "cuda:0") != NULL && strstr(err.message, text) != NULL);
	/* for good, and nothing of it is taken for a result */
	NEED(!be->ops->sync(be, NULL));
	be->ops->read(be, ones, y, 500);
	for (int i = 0; i < 500; i++)
		NEED(ones[i] == 0);
	be->ops->free(be, x);
	be->ops->close(be);
	NEED(dsocr_now_us() - start < within_us);
}

static void
sticky(void)
{
	setenv("DSOCR_EMU_FAIL_STICKY", "4", 1);
	use_and_expect("illegal", 1000000);
}

static void
hang(void)
{
	setenv("DSOCR_EMU_HANG", "3", 1);
	setenv("DSOCR_CUDA_TIMEOUT", "1", 1);
	use_and_expect("within 1 s", 2000000);
}

static void
test_sticky(void **state)
{
	in_child(sticky);
}

static void
test_hang(void **state)
{
	in_child(hang);
}

/* ---- opening ---- */

static void
refuse(const char *name, const char *value, const char *device, DsocrCode code, const char *text)
{
	DsocrBackendOptions o = {.device = device};
	DsocrError err = {0};

	if (name != NULL)
		setenv(name, value, 1);
	NEED(dsocr_cuda_open(&o, &err) == NULL);
	fprintf(stderr, "%s\n", err.message);
	NEED(err.code == code && strstr(err.message, text) != NULL);
}

static void
none(void)
{
	refuse("DSOCR_EMU_DEVICES", "0", "cuda:0", DSOCR_E_DEVICE, "no CUDA");
}

static void
old(void)
{
	refuse("DSOCR_EMU_CAPABILITY", "75", "cuda:0", DSOCR_E_DEVICE, "7.5");
}

static void
far(void)
{
	refuse(NULL, NULL, "cuda:3", DSOCR_E_DEVICE, "1 CUDA device");
}

static void
misspelt(void)
{
	static const char *const names[] = {"cuda:", "cuda:x", "cuda:0x", "cuda0", "cuda:99999999999"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		refuse(NULL, NULL, names[i], DSOCR_E_DEVICE, "\"cuda");
}

static void
test_open(void **state)
{
	char line[128];
	DsocrBackendOptions o = {.device = "cuda:0", .memory = (size_t) 1 << 45};
	DsocrError err = {0};

	in_child(none);
	in_child(old);
	in_child(far);
	in_child(misspelt);
	assert_null(dsocr_cuda_open(&o, &err));
	assert_int_equal(err.code, DSOCR_E_MEMORY);
	assert_int_equal(dsocr_cuda_list(0, line, sizeof(line), &err), 1);
	assert_non_null(strstr(line, "capability 9.0"));
	assert_int_equal(dsocr_cuda_list(1, line, sizeof(line), &err), 1);
	assert_string_equal(line, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		/* children inherit what the device has read, so these are first */
		cmocka_unit_test(test_sticky),
		cmocka_unit_test(test_hang),
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_region),
		cmocka_unit_test(test_separate),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_scratch_shortage),
		cmocka_unit_test(test_recorded),
		cmocka_unit_test(test_not_recorded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
