/*-------------------------------------------------------------------------
 *
 * check_case.c
 *		One golden case: image, prompt, every stage, logits and tokens.
 *
 * A case with a "quirk" documents an accident of the official code: it skips
 * the vision tower of an image whose pixels happen to add up to zero.  That
 * is not imitated.  Such a case still checks views, ids and, with the plain
 * <image> embeddings the official code was left with, the whole decoder.
 *
 *-------------------------------------------------------------------------
 */
#include "check_case.h"

#include "check_stages.h"
#include "device.h"
#include "prompt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_IMAGE_BYTES ((size_t) 256 << 20)
#define MAX_PIXELS ((uint64_t) 1 << 28)
#define MAX_STEPS 4096

typedef struct CasePrompt
{
	int32_t *ids;
	size_t n;
	size_t image_at;
} CasePrompt;

static const json_t *
get(const CheckRun *r, const char *key)
{
	return json_object_get(r->json, key);
}

static bool
is_number(const json_t *j, double value)
{
	return json_is_number(j) && fabs(json_number_value(j) - value) <= 1e-12;
}

/* The case's picture: ../images of its folder or of the folder above. */
static bool
read_picture(const CheckRun *r, const char *case_json, DsocrImage *image, DsocrError *err)
{
	const char *name = json_string_value(get(r, "image"));
	const char *slash = strrchr(case_json, '/');
	int dir = slash != NULL ? (int) (slash - case_json) : 1;
	const char *base = slash != NULL ? case_json : ".";
	char path[4096];
	DsocrBuffer file = {0};
	bool ok;

	if (name == NULL || strchr(name, '/') != NULL)
		return dsocr_fail(err, DSOCR_E_IO, "case names no image");
	snprintf(path, sizeof(path), "%.*s/../images/%s", dir, base, name);
	if (access(path, R_OK) != 0)
		snprintf(path, sizeof(path), "%.*s/../../images/%s", dir, base, name);
	ok = dsocr_read_file(path, MAX_IMAGE_BYTES, &file, err) &&
		 dsocr_image_decode((const uint8_t *) file.data, file.len, MAX_PIXELS, image, err);
	dsocr_buffer_free(&file);
	return ok;
}

static DsocrViewSpec
case_spec(const CheckRun *r)
{
	const json_t *mode = get(r, "mode");
	const char *variant = json_string_value(json_object_get(mode, "variant"));
	const json_t *most = json_object_get(mode, "max_crops");
	DsocrViewSpec spec = dsocr_mode_spec(DSOCR_MODE_GUNDAM);

	spec.base_size = (int) json_integer_value(json_object_get(mode, "base_size"));
	spec.image_size = (int) json_integer_value(json_object_get(mode, "image_size"));
	spec.crop = json_is_true(json_object_get(mode, "crop_mode"));
	spec.vllm = variant != NULL && strcmp(variant, "vllm") == 0;
	if (most != NULL)
		spec.max_tiles = (int) json_integer_value(most);
	return spec;
}

/* Grid, token counts and the views' bytes. */
static void
check_views(CheckRun *r, const DsocrImage *image, const DsocrPlan *plan, const DsocrViews *views)
{
	const json_t *list = get(r, "views");
	const json_t *grid = get(r, "crop_grid");
	const json_t *wh = get(r, "image_wh");
	const json_t *valid = get(r, "valid_img_tokens");
	const json_t *ratio = get(r, "ratio");

	if (wh != NULL)
		dsocr_check(r->check,
					is_number(json_array_get(wh, 0), image->width) &&
						is_number(json_array_get(wh, 1), image->height),
					r->name, "image_wh: %d x %d", image->width, image->height);
	dsocr_check(r->check,
				is_number(json_array_get(grid, 0), plan->columns) &&
					is_number(json_array_get(grid, 1), plan->rows),
				r->name, "crop_grid: %d x %d", plan->columns, plan->rows);
	dsocr_check(r->check, is_number(get(r, "num_image_tokens"), plan->image_tokens), r->name,
				"num_image_tokens: %d", plan->image_tokens);
	if (json_is_number(valid))
		dsocr_check(r->check, is_number(valid, plan->valid_image_tokens), r->name,
					"valid_img_tokens: %d", plan->valid_image_tokens);
	if (json_is_number(ratio))
		dsocr_check(r->check, is_number(ratio, plan->ratio), r->name, "ratio: %.17g", plan->ratio);
	dsocr_check(r->check, (int) json_array_size(list) == views->n && views->n == plan->views,
				r->name, "views: %d made, %d planned", views->n, plan->views);
	for (int i = 0; i < views->n; i++)
	{
		const json_t *view = json_array_get(list, (size_t) i);
		const json_t *size = json_object_get(view, "size");
		const char *sha = json_string_value(json_object_get(view, "sha256"));
		size_t side = (size_t) views->size[i];
		char hex[65];

		dsocr_sha256_hex(views->rgb[i], side * side * 3, hex);
		dsocr_check(r->check,
					is_number(json_array_get(size, 0), (double) side) &&
						is_number(json_array_get(size, 1), (double) side) && sha != NULL &&
						strcmp(sha, hex) == 0,
					r->name, "view %d: %zu pixels, sha256 %s", i, side, hex);
	}
}

static void
check_ids(CheckRun *r, const CasePrompt *p, const DsocrPlan *plan)
{
	const json_t *ids = get(r, "input_ids");
	const json_t *runs = get(r, "image_token_runs");
	int wrong = -1;

	dsocr_check(r->check, p->n == json_array_size(ids), r->name, "num_input_ids: %zu, not %zu",
				p->n, json_array_size(ids));
	for (size_t i = 0; i < p->n && wrong < 0; i++)
		if (!is_number(json_array_get(ids, i), p->ids[i]))
			wrong = (int) i;
	dsocr_check(r->check, wrong < 0, r->name, "input_ids: another id at position %d", wrong);
	if (runs != NULL)
		dsocr_check(
			r->check,
			json_array_size(runs) == 1 &&
				is_number(json_array_get(json_array_get(runs, 0), 0), (double) p->image_at) &&
				is_number(json_array_get(json_array_get(runs, 0), 1), plan->image_tokens),
			r->name, "image_token_runs: %d tokens at %zu", plan->image_tokens, p->image_at);
}

/*
 * The pixels as the encoder sees them, as rows of 3 channels.  What a view has
 * beyond whole patches is cut off by the encoder but stored in the case.
 */
static bool
put_pixels(CheckRun *r, const uint8_t *rgb, int size, DsocrError *err)
{
	DsocrBackend *be = r->model->be;
	int patch = r->model->config.patch;
	int side = size / patch;
	size_t n = (size_t) size * (size_t) size * 3;
	float *pixels = dsocr_alloc(n, sizeof(float), err);
	float *patches = dsocr_alloc(n, sizeof(float), err);
	void *act = be->ops->alloc(be, n, err);
	bool whole = side * patch == size;
	bool ok = pixels != NULL && patches != NULL && act != NULL;

	if (ok && whole)
	{
		be->ops->patches(be, act, &rgb, 1, size, patch);
		be->ops->read(be, patches, act, n);
	}
	for (size_t i = 0; ok && i < n; i++)
	{
		int c = (int) (i % 3);
		int x = (int) (i / 3 % (size_t) size);
		int y = (int) (i / 3 / (size_t) size);
		size_t at = (size_t) (y / patch * side + x / patch) * 3 + (size_t) c;

		if (whole)
			pixels[i] = patches[(at * (size_t) patch + (size_t) (y % patch)) * (size_t) patch +
								(size_t) (x % patch)];
		else
			pixels[i] = dsocr_bf16_to_f32(dsocr_f32_to_bf16((rgb[i] / 255.0f - 0.5f) / 0.5f));
	}
	if (ok)
		dsocr_stages_put(r, r->tile ? "pixel.local" : "pixel.global", pixels, size * size, 3);
	dsocr_free(pixels);
	dsocr_free(patches);
	if (act != NULL)
		be->ops->free(be, act);
	return ok;
}

static bool
run_views(CheckRun *r, DsocrSequence *s, const DsocrViews *views, DsocrError *err)
{
	DsocrTap tap = dsocr_stages_tap(r);
	DsocrWatch watch = {.tap = &tap};

	for (int i = 0; i < views->n; i++)
	{
		const DsocrSequenceView one = {s, i, views->rgb[i]};

		r->tile = i < views->n - 1;
		r->view = r->tile ? i : 0;
		if (!put_pixels(r, views->rgb[i], views->size[i], err))
			return false;
		if (!r->quirk && !dsocr_sequence_views(&one, 1, views->size[i], r->model, &watch, err))
			return false;
	}
	r->tile = false;
	r->view = 0;
	return true;
}

/* A whole activation as stage. */
static bool
put_activation(CheckRun *r, const char *name, const void *act, int rows, int dim, DsocrError *err)
{
	size_t n = (size_t) rows * (size_t) dim;
	float *host = dsocr_alloc(n, sizeof(float), err);

	if (host == NULL)
		return false;
	r->model->be->ops->read(r->model->be, host, act, n);
	dsocr_stages_put(r, name, host, rows, dim);
	dsocr_free(host);
	return true;
}

/* The logits of the prompt's last position as stage. */
static bool
put_logits(CheckRun *r, DsocrError *err)
{
	int vocab = r->model->config.vocab;
	float *host = dsocr_alloc((size_t) vocab, sizeof(float), err);

	if (host == NULL)
		return false;
	dsocr_decoder_logits(r->model->decoder, 0, host);
	dsocr_stages_put(r, "logits", host, 1, vocab);
	dsocr_free(host);
	return true;
}

static bool
run_decoder(CheckRun *r, DsocrSequence *s, DsocrError *err)
{
	DsocrModel *m = r->model;
	DsocrTap tap = dsocr_stages_tap(r);
	DsocrRouterTap router_tap = dsocr_stages_router_tap(r);
	DsocrWatch watch = {.tap = &tap, .router_tap = &router_tap};

	if (!put_activation(r, "inputs_embeds", s->embeds, s->prompt_len, m->config.hidden, err))
		return false;
	while (s->filled < s->prompt_len)
	{
		r->base = s->filled;
		if (!dsocr_sequence_prefill(s, m, &watch, err))
			return false;
	}
	return put_logits(r, err);
}

/* The stored 50 best logits of full-size cases. */
static void
check_top(CheckRun *r)
{
	const DsocrTensor *ids = dsocr_weights_find(r->ref, "logits.top50.ids");
	const DsocrTensor *values = dsocr_weights_find(r->ref, "logits.top50.values");
	const json_t *stage = json_object_get(get(r, "stages"), "logits");
	size_t vocab = (size_t) r->model->config.vocab;
	float *host;
	double worst = 0;
	double limit;
	double spread;

	if (ids == NULL || values == NULL || ids->count != values->count)
		return;
	for (int i = 0; i < r->n_positions; i++)
		if (r->positions[i] == (int) json_array_size(get(r, "input_ids")) - 1 &&
			r->flipped[i] < r->model->config.layers)
			return;
	dsocr_stage_limits(r, "logits", &limit, &spread);
	limit *= json_number_value(json_object_get(stage, "rms"));
	if (r->check->precision == DSOCR_PRECISION_BF16 && r->real_size)
		limit = 2 * json_number_value(json_object_get(stage, "bf16_max_abs"));
	host = dsocr_alloc(vocab, sizeof(float), NULL);
	if (!dsocr_check(r->check, host != NULL, r->name, "no memory for the logits"))
		return;
	dsocr_decoder_logits(r->model->decoder, 0, host);
	for (int64_t i = 0; i < ids->count; i++)
	{
		int32_t id = (int32_t) dsocr_tensor_get(ids, i);
		double d = id >= 0 && (size_t) id < vocab ? fabs(host[id] - dsocr_tensor_get(values, i))
												  : INFINITY;

		if (!(d <= worst))
			worst = isnan(d) ? INFINITY : d;
	}
	dsocr_free(host);
	dsocr_check(r->check, worst <= limit, r->name, "logits.top50: difference %.3g, at most %.3g",
				worst, limit);
}

/* Python's round(x, 2): the decimal nearest to the exact value, unlike 100 * x made whole. */
static double
two_digits(double x)
{
	char text[64];

	snprintf(text, sizeof(text), "%.2f", x);
	return strtod(text, NULL);
}

/* Tokens of the text, written again, over valid image tokens: the official statistics. */
static void
check_compression(CheckRun *r, const DsocrPlan *plan)
{
	const json_t *stats = get(r, "test_compress");
	const json_t *text = json_object_get(json_object_get(get(r, "generate"), "hf20"), "text");
	int32_t *ids = NULL;
	size_t n = 0;

	if (!json_is_object(stats) || !json_is_string(text))
		return;
	if (dsocr_check(r->check,
					dsocr_tokenizer_encode(r->model->tokenizer, json_string_value(text),
										   json_string_length(text), &ids, &n, NULL),
					r->name, "test_compress: the text cannot be encoded"))
		dsocr_check(
			r->check,
			is_number(json_object_get(stats, "output_text_tokens"), (double) n) &&
				is_number(json_object_get(stats, "valid_image_tokens"), plan->valid_image_tokens) &&
				is_number(json_object_get(stats, "compression_ratio"),
						  two_digits((double) n / plan->valid_image_tokens)),
			r->name, "test_compress: %zu tokens of text, %d of image", n, plan->valid_image_tokens);
	dsocr_free(ids);
}

static int
longest_output(const CheckRun *r)
{
	size_t longest = 0;
	const char *name;
	json_t *value;

	json_object_foreach ((json_t *) get(r, "generate"), name, value)
	{
		size_t n = json_array_size(json_object_get(value, "ids"));

		if (n > longest)
			longest = n;
	}
	return longest > MAX_STEPS ? MAX_STEPS : (int) longest;
}

/* Everything behind the views. */
static bool
run_model(CheckRun *r, const CasePrompt *p, const DsocrPlan *plan, const DsocrViews *views,
		  DsocrError *err)
{
	DsocrModel *m = r->model;
	int cap = (int) p->n + longest_output(r) + 1;
	int image_at = r->quirk ? -1 : (int) p->image_at;
	DsocrKvCache *kv = dsocr_kv_cache_open(m->be, &m->config, dsocr_kv_pages(cap), 1, err);
	DsocrSequence s = {0};
	bool ok = kv != NULL &&
			  (r->exact == NULL || dsocr_routes_record(&r->routes, r->exact, p->ids, (int) p->n,
													   image_at, plan, views, err)) &&
			  dsocr_sequence_start(&s, m, p->ids, (int) p->n, cap, image_at, plan, err) &&
			  (dsocr_sequence_reserve(&s, m, kv) ||
			   dsocr_fail(err, DSOCR_E_MEMORY, "no pages for %d positions", cap)) &&
			  dsocr_sequence_embed(&s, m, err) && run_views(r, &s, views, err) &&
			  run_decoder(r, &s, err);

	if (ok)
	{
		dsocr_stages_compare(r);
		check_top(r);
		dsocr_check_generate(r, &s);
		check_compression(r, plan);
	}
	dsocr_routes_free(&r->routes);
	dsocr_sequence_end(&s, m);
	dsocr_kv_cache_close(kv);
	return ok;
}

static bool
run_case(CheckRun *r, const char *case_json, DsocrError *err)
{
	const DsocrModel *m = r->model;
	const char *text = json_string_value(get(r, "prompt"));
	DsocrViewSpec spec = case_spec(r);
	DsocrImage image = {0};
	DsocrViews views = {0};
	CasePrompt prompt = {0};
	DsocrPlan plan;
	bool ok;

	if (text == NULL)
		return dsocr_fail(err, DSOCR_E_IO, "case has no prompt");
	ok = read_picture(r, case_json, &image, err) &&
		 dsocr_plan(image.width, image.height, &spec, &plan, err) &&
		 dsocr_views_make(&image, &plan, &views, err) &&
		 dsocr_prompt_build(m->tokenizer, text, !spec.vllm, plan.image_tokens, m->image_id,
							m->config.bos_id, &prompt.ids, &prompt.n, &prompt.image_at, err);
	if (ok)
	{
		check_views(r, &image, &plan, &views);
		check_ids(r, &prompt, &plan);
		ok = run_model(r, &prompt, &plan, &views, err);
	}
	dsocr_free(prompt.ids);
	dsocr_views_free(&views);
	dsocr_image_free(&image);
	return ok;
}

/* "tiny-a/c01 fp32" of ".../tiny-a/cases/c01.json" */
static void
case_name(const DsocrCheck *c, const char *path, const char *checkpoint, char *name, size_t size)
{
	const char *base = strrchr(path, '/');

	base = base != NULL ? base + 1 : path;
	snprintf(name, size, "%s%s%.*s %s", checkpoint ? checkpoint : "", checkpoint ? "/" : "",
			 (int) strcspn(base, "."), base,
			 c->precision == DSOCR_PRECISION_FP32 ? "fp32" : "bf16");
}

void
dsocr_check_case_on(DsocrCheck *c, DsocrModel *model, DsocrModel *exact, const char *case_json)
{
	CheckRun r = {.check = c, .model = model, .exact = exact};
	json_t *json = json_load_file(case_json, JSON_ALLOW_NUL, NULL);
	size_t stem = strlen(case_json) - (strlen(case_json) > 5 ? 5 : 0);
	DsocrError err = {0};
	char name[128];
	char path[4096];

	case_name(c, case_json, json_string_value(json_object_get(json, "checkpoint")), name,
			  sizeof(name));
	r.name = name;
	r.json = json;
	r.real_size = json_object_get(json, "seed") != NULL;
	r.quirk = json_object_get(json, "quirk") != NULL;
	if (r.quirk)
		printf("note %s: official quirk, not imitated: vision stages are not compared\n", name);
	snprintf(path, sizeof(path), "%.*s.safetensors", (int) stem, case_json);
	r.ref = json != NULL ? dsocr_weights_open_file(path, &err) : NULL;
	if (json == NULL)
		dsocr_fail(&err, DSOCR_E_IO, "%s cannot be read", case_json);
	if (r.ref == NULL || !dsocr_stages_open(&r, &err) || !run_case(&r, case_json, &err))
		dsocr_check(c, false, name, "%s", err.message);
	dsocr_stages_close(&r);
	dsocr_weights_close(r.ref);
	json_decref(json);
}

DsocrModel *
dsocr_check_open(const DsocrCheck *c, DsocrBackend *be, const char *dir, DsocrError *err)
{
	char own[4096];

	snprintf(own, sizeof(own), "%s/tokenizer.json", dir);
	return dsocr_model_open(be, dir, access(own, R_OK) == 0 ? NULL : c->tokenizer, 1, err);
}

void
dsocr_check_case(DsocrCheck *c, const char *model_dir, const char *case_json)
{
	DsocrBackendOptions options = {.device = c->device,
								   .precision = c->precision,
								   .weights = c->weights,
								   .threads = c->threads};
	DsocrError err = {0};
	DsocrBackend *be = dsocr_device_open(&options, &err);
	DsocrModel *m = be != NULL ? dsocr_check_open(c, be, model_dir, &err) : NULL;

	if (dsocr_check(c, m != NULL, model_dir, "%s", err.message))
		dsocr_check_case_on(c, m, NULL, case_json);
	dsocr_model_close(m);
	if (be != NULL)
		be->ops->close(be);
}
