/*-------------------------------------------------------------------------
 *
 * test_model.c
 *		The model on the reference backend, and that its check can fail.
 *
 * The naive operations and the official values agree on all small cases; a
 * model with one value changed does not pass.  The reference data is
 * unpacked by `make golden`; DSOCR_TEST_GOLDEN names another place.
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
#include <unistd.h>

#include <cmocka.h>

#include "check_case.h"

#define SMALL_TOKENS 120 /* input ids of a case that is small enough to be computed naively */
#define COPY "test_model.copy"

static bool quiet; /* failures are expected */

bool
dsocr_check(DsocrCheck *c, bool ok, const char *what, const char *fmt, ...)
{
	va_list ap;

	if (ok)
		c->passed++;
	else
		c->failed++;
	if (ok || quiet)
		return ok;
	printf("FAIL %s: ", what);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	return ok;
}

static const char *
golden(void)
{
	const char *dir = getenv("DSOCR_TEST_GOLDEN");

	return dir != NULL ? dir : "build/golden";
}

/* Number behind a key of a case file, without reading all of it as JSON. */
static int
number_of(const char *path, const char *key)
{
	DsocrBuffer file = {0};
	const char *at = NULL;
	int n = -1;

	if (dsocr_read_file(path, (size_t) 1 << 24, &file, NULL))
		at = strstr(file.data, key);
	if (at != NULL)
		n = atoi(at + strlen(key));
	dsocr_buffer_free(&file);
	return n;
}

/* A model on a reference backend of its own. */
static DsocrModel *
open_model(const char *dir)
{
	const DsocrBackendOptions options = {.precision = DSOCR_PRECISION_FP32};
	DsocrError err = {0};
	DsocrBackend *be = dsocr_reference_open(&options, &err);
	DsocrModel *m = be != NULL ? dsocr_model_open(be, dir, NULL, 1, &err) : NULL;

	if (m == NULL)
		fail_msg("%s", err.message);
	return m;
}

static void
close_model(DsocrModel *m)
{
	DsocrBackend *be = m->be;

	dsocr_model_close(m);
	be->ops->close(be);
}

/* All small cases of a checkpoint on a model folder; how many there were. */
static int
run_cases(DsocrCheck *c, const char *checkpoint, const char *model)
{
	DsocrModel *m = open_model(model);
	int n = 0;

	for (int i = 1; i < 100; i++)
	{
		char path[512];
		int ids;

		snprintf(path, sizeof(path), "%s/%s/cases/c%02d.json", golden(), checkpoint, i);
		ids = access(path, R_OK) == 0 ? number_of(path, "\"num_input_ids\":") : -1;
		if (ids < 1 || ids > SMALL_TOKENS)
			continue;
		dsocr_check_case_on(c, m, NULL, path);
		n++;
	}
	close_model(m);
	return n;
}

static void
check_checkpoint(const char *checkpoint)
{
	DsocrCheck c = {.precision = DSOCR_PRECISION_FP32};
	char model[512];
	int cases;

	snprintf(model, sizeof(model), "%s/%s", golden(), checkpoint);
	cases = run_cases(&c, checkpoint, model);
	assert_true(cases >= 4);
	assert_int_equal(c.failed, 0);
	assert_true(c.passed > 40 * cases);
}

static void
test_tiny_a(void **state)
{
	check_checkpoint("tiny-a");
}

static void
test_tiny_b(void **state)
{
	check_checkpoint("tiny-b");
}

static void
copy_file(const char *from, const char *name)
{
	char path[512];
	DsocrBuffer file = {0};
	FILE *f;

	snprintf(path, sizeof(path), "%s/tiny-a/%s", from, name);
	assert_true(dsocr_read_file(path, (size_t) 1 << 28, &file, NULL));
	snprintf(path, sizeof(path), COPY "/%s", name);
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(file.data, 1, file.len, f), file.len);
	assert_int_equal(fclose(f), 0);
	dsocr_buffer_free(&file);
}

/* Put a wrong first value into a tensor of the copied weights. */
static void
damage(const char *tensor)
{
	DsocrWeights *w = dsocr_weights_open(COPY, NULL);
	const DsocrTensor *t = dsocr_weights_find(w, tensor);
	DsocrBuffer file = {0};
	uint16_t value = dsocr_f32_to_bf16(-40.0f);
	char *at;
	FILE *f;

	assert_non_null(t);
	assert_true(dsocr_read_file(COPY "/model.safetensors", (size_t) 1 << 28, &file, NULL));
	at = memmem(file.data, file.len, t->data, (size_t) t->count * 2);
	assert_non_null(at);
	memcpy(at, &value, 2);
	dsocr_weights_close(w);
	f = fopen(COPY "/model.safetensors", "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(file.data, 1, file.len, f), file.len);
	assert_int_equal(fclose(f), 0);
	dsocr_buffer_free(&file);
}

/* One wrong weight anywhere must be noticed. */
static void
test_damaged_weights_fail(void **state)
{
	static const char *const tensors[] = {"model.sam_model.pos_embed",
										  "model.sam_model.blocks.1.attn.rel_pos_w",
										  "model.sam_model.net_3.weight",
										  "model.vision_model.embeddings.class_embedding",
										  "model.image_newline",
										  "model.view_seperator",
										  "model.projector.layers.bias",
										  "model.layers.0.mlp.down_proj.weight",
										  "model.layers.1.mlp.gate.weight",
										  "model.layers.2.mlp.shared_experts.up_proj.weight",
										  "lm_head.weight"};
	static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors",
										"model.safetensors.index.json"};
	char path[512];

	snprintf(path, sizeof(path), "%s/tiny-a/cases/c01.json", golden());
	assert_int_equal(system("rm -rf " COPY " && mkdir " COPY), 0);
	quiet = true;
	for (size_t i = 0; i < sizeof(tensors) / sizeof(*tensors); i++)
	{
		DsocrCheck c = {.precision = DSOCR_PRECISION_FP32};
		DsocrModel *m;

		for (size_t j = 0; j < sizeof(files) / sizeof(*files); j++)
			copy_file(golden(), files[j]);
		damage(tensors[i]);
		m = open_model(COPY);
		dsocr_check_case_on(&c, m, NULL, path);
		close_model(m);
		if (c.failed == 0)
			fail_msg("a wrong value of %s was not noticed", tensors[i]);
	}
	quiet = false;
	assert_int_equal(system("rm -rf " COPY), 0);
}

/* The fingerprint changes with the weights and the small files. */
static void
test_fingerprint(void **state)
{
	static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors",
										"model.safetensors.index.json"};
	char before[33];
	char same[33];
	char after[33];
	char path[512];
	DsocrModel *m;
	FILE *f;

	assert_int_equal(system("rm -rf " COPY " && mkdir " COPY), 0);
	for (size_t j = 0; j < sizeof(files) / sizeof(*files); j++)
		copy_file(golden(), files[j]);
	snprintf(path, sizeof(path), "%s/tiny-a", golden());
	m = open_model(path);
	assert_true(dsocr_model_fingerprint(m, path, before, NULL));
	close_model(m);
	m = open_model(COPY);
	assert_true(dsocr_model_fingerprint(m, COPY, same, NULL));
	assert_string_equal(before, same);
	f = fopen(COPY "/dsocr.json", "w");
	assert_non_null(f);
	fputs("{\"mode\": \"tiny\"}", f);
	fclose(f);
	assert_true(dsocr_model_fingerprint(m, COPY, after, NULL));
	assert_string_not_equal(before, after);
	close_model(m);
	assert_int_equal(remove(COPY "/dsocr.json"), 0);
	damage("model.norm.weight");
	m = open_model(COPY);
	assert_true(dsocr_model_fingerprint(m, COPY, after, NULL));
	assert_string_not_equal(before, after);
	close_model(m);
	assert_int_equal(system("rm -rf " COPY), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tiny_a),
		cmocka_unit_test(test_tiny_b),
		cmocka_unit_test(test_damaged_weights_fail),
		cmocka_unit_test(test_fingerprint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
