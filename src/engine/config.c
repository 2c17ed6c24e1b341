/*-------------------------------------------------------------------------
 *
 * config.c
 *		Dimensions and defaults of a model, from its config.json.
 *
 * Whatever the rest of the engine does not compute is refused here, by name:
 * a model of another family must not produce plausible nonsense.  Defaults
 * are those of the official configuration_deepseek_v2.py.
 *
 *-------------------------------------------------------------------------
 */
#include "config.h"
#include "config_json.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARCHITECTURE "DeepseekOCRForCausalLM"
#define LANGUAGE_ARCHITECTURE "DeepseekV2ForCausalLM"
#define MODEL_TYPE "deepseek_vl_v2"

#define MAX_WIDTH 65536
#define MAX_VOCAB (1 << 22)
#define MAX_POSITIONS (1 << 20)
#define MAX_IMAGE_SIZE 8192
#define SAM_PATCH 16

static const char *const official_prompts[DSOCR_N_TASKS] = {
	[DSOCR_TASK_MARKDOWN] = "<image>\n<|grounding|>Convert the document to markdown.",
	[DSOCR_TASK_TEXT] = "<image>\nFree OCR.",
	[DSOCR_TASK_FIGURE] = "<image>\nParse the figure.",
	[DSOCR_TASK_DESCRIBE] = "<image>\nDescribe this image in detail.",
	[DSOCR_TASK_LOCATE] = "<image>\nLocate <|ref|>%s<|/ref|> in the image.",
	[DSOCR_TASK_GENERATE] = "%s",
};

#define FIELD(key, member, min, max)                                                               \
	{                                                                                              \
		key, offsetof(DsocrConfig, member), min, max                                               \
	}

static const DsocrIntField language_fields[] = {
	FIELD("hidden_size", hidden, 1, MAX_WIDTH),
	FIELD("num_hidden_layers", layers, 1, DSOCR_MAX_LAYERS),
	FIELD("num_attention_heads", heads, 1, MAX_WIDTH),
	FIELD("intermediate_size", dense_inter, 1, MAX_WIDTH),
	FIELD("moe_intermediate_size", expert_inter, 1, MAX_WIDTH),
	FIELD("n_routed_experts", experts, 1, DSOCR_MAX_EXPERTS),
	FIELD("num_experts_per_tok", experts_per_token, 1, DSOCR_MAX_TOPK),
	FIELD("first_k_dense_replace", first_dense, 0, DSOCR_MAX_LAYERS),
	FIELD("vocab_size", vocab, 1, MAX_VOCAB),
	FIELD("max_position_embeddings", max_positions, 1, MAX_POSITIONS),
	FIELD("bos_token_id", bos_id, 0, MAX_VOCAB - 1),
	FIELD("eos_token_id", eos_id, 0, MAX_VOCAB - 1),
};

/* none unless the file says so, as officially */
static const DsocrIntField shared_experts_field = FIELD("n_shared_experts", shared_experts, 0, 64);

static const DsocrIntField sam_fields[] = {
	FIELD("width", sam_width, 1, MAX_WIDTH),
	FIELD("layers", sam_layers, 1, DSOCR_MAX_LAYERS),
	FIELD("heads", sam_heads, 1, MAX_WIDTH),
};

static const DsocrIntField sam_optional_fields[] = {
	FIELD("window_size", sam_window, 1, MAX_IMAGE_SIZE / SAM_PATCH),
	FIELD("neck_channels", neck_channels, 1, MAX_WIDTH),
};

static const DsocrIntField clip_fields[] = {
	FIELD("width", clip_width, 1, MAX_WIDTH),
	FIELD("layers", clip_layers, 1, DSOCR_MAX_LAYERS),
	FIELD("heads", clip_heads, 1, MAX_WIDTH),
};

#define LENGTH(array) ((int) (sizeof(array) / sizeof((array)[0])))

/*
 * A key of the language model: the file says it twice, in language_config and
 * at top level, and the two must agree.
 */
static bool
get_language(const DsocrConfigFile *r, const char *key, json_t **value)
{
	json_t *top = dsocr_config_get(r->root, key);

	*value = dsocr_config_get(dsocr_config_get(r->root, "language_config"), key);
	if (*value == NULL)
		*value = top;
	else if (top != NULL && !json_equal(top, *value))
		return dsocr_config_fail(r, "%s differs between language_config and the top level", key);
	return true;
}

static bool
read_float(const DsocrConfigFile *r, const char *key, double min, double max, float *out)
{
	json_t *value;
	double v;

	if (!get_language(r, key, &value))
		return false;
	if (value == NULL)
		return true;
	v = json_number_value(value);
	if (!json_is_number(value) || !(v >= min && v <= max))
		return dsocr_config_fail(r, "%s is not a number from %g to %g", key, min, max);
	*out = (float) v;
	return true;
}

/* Does the list name this architecture?  A missing list is not held against it. */
static bool
check_architecture(const DsocrConfigFile *r, json_t *list, const char *expected)
{
	const char *name = json_string_value(json_array_get(list, 0));
	char text[48];

	if (list == NULL)
		return true;
	if (name == NULL)
		return dsocr_config_fail(r, "architectures is not a list of names");
	if (strcmp(name, expected) != 0)
		return dsocr_fail(r->err, DSOCR_E_MODEL, "model folder \"%.80s\" holds %s, not %s", r->dir,
						  dsocr_config_printable(name, text), expected);
	return true;
}

static bool
check_family(const DsocrConfigFile *r)
{
	json_t *list = dsocr_config_get(r->root, "architectures");
	const char *type = json_string_value(dsocr_config_get(r->root, "model_type"));
	char text[48];

	if (!check_architecture(r, list, ARCHITECTURE))
		return false;
	if (list == NULL && type == NULL)
		return dsocr_config_fail(r, "neither architectures nor model_type is there");
	if (type != NULL && strcmp(type, MODEL_TYPE) != 0 && strcmp(type, "DeepseekOCR") != 0)
		return dsocr_config_fail(r, "model_type is \"%s\", not \"%s\"",
								 dsocr_config_printable(type, text), MODEL_TYPE);
	return check_architecture(
		r, dsocr_config_get(dsocr_config_get(r->root, "language_config"), "architectures"),
		LANGUAGE_ARCHITECTURE);
}

/* A key that, if it is there, must have one of the values the code computes. */
static bool
must_be(const DsocrConfigFile *r, const char *key, const char *values)
{
	json_t *value;
	json_t *allowed;
	bool ok = false;

	if (!get_language(r, key, &value))
		return false;
	if (value == NULL)
		return true;
	allowed = json_loads(values, 0, NULL);
	if (allowed == NULL)
		return dsocr_fail(r->err, DSOCR_E_MEMORY, "out of memory for a setting");
	for (size_t i = 0; i < json_array_size(allowed); i++)
		ok = ok || json_equal(value, json_array_get(allowed, i));
	json_decref(allowed);
	if (!ok)
	{
		char *found = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
		char text[48];

		dsocr_config_fail(r, "%s is %s, supported is %s", key,
						  dsocr_config_printable(found != NULL ? found : "?", text), values);
		free(found);
	}
	return ok;
}

/* Variants of the DeepSeek-V2 decoder that other models of the family use. */
static bool
check_variants(const DsocrConfigFile *r)
{
	json_t *value;

	if (!get_language(r, "rope_scaling", &value))
		return false;
	if (value != NULL)
		return dsocr_config_fail(r, "rope_scaling is not supported");
	return must_be(r, "use_mla", "[false]") && must_be(r, "norm_topk_prob", "[false]") &&
		   must_be(r, "routed_scaling_factor", "[1.0, 1]") &&
		   must_be(r, "scoring_func", "[\"softmax\"]") &&
		   /* the official default is misspelt */
		   must_be(r, "topk_method", "[\"greedy\", \"gready\"]") &&
		   must_be(r, "moe_layer_freq", "[1]") && must_be(r, "attention_bias", "[false]") &&
		   must_be(r, "hidden_act", "[\"silu\"]") && must_be(r, "tie_word_embeddings", "[false]");
}

static bool
read_language(const DsocrConfigFile *r, DsocrConfig *c)
{
	json_t *value;

	if (dsocr_config_get(r->root, "language_config") != NULL &&
		!json_is_object(dsocr_config_get(r->root, "language_config")))
		return dsocr_config_fail(r, "language_config is not an object");
	if (!check_variants(r))
		return false;
	for (int i = 0; i < LENGTH(language_fields); i++)
	{
		if (!get_language(r, language_fields[i].key, &value) ||
			!dsocr_config_int(r, value, "", &language_fields[i], c))
			return false;
	}
	if (!get_language(r, shared_experts_field.key, &value) ||
		(value != NULL && !dsocr_config_int(r, value, "", &shared_experts_field, c)))
		return false;
	if (!read_float(r, "rms_norm_eps", 1e-12, 0.1, &c->rms_eps) ||
		!read_float(r, "rope_theta", 1, 1e9, &c->rope_theta))
		return false;

	if (!get_language(r, "num_key_value_heads", &value))
		return false;
	if (value != NULL && (!json_is_integer(value) || json_integer_value(value) != c->heads))
		return dsocr_config_fail(
			r, "num_key_value_heads differs from num_attention_heads: not supported");
	if (c->hidden % c->heads != 0)
		return dsocr_config_fail(r, "hidden_size %d is not a multiple of num_attention_heads %d",
								 c->hidden, c->heads);
	c->head_dim = c->hidden / c->heads;
	if (c->head_dim % 2 != 0)
		return dsocr_config_fail(r, "size of a head %d is odd", c->head_dim);
	if (!get_language(r, "head_dim", &value))
		return false;
	if (value != NULL && (!json_is_integer(value) || json_integer_value(value) != c->head_dim))
		return dsocr_config_fail(
			r, "head_dim is not hidden_size / num_attention_heads: not supported");
	if (c->first_dense > c->layers)
		return dsocr_config_fail(r, "first_k_dense_replace %d is more than num_hidden_layers %d",
								 c->first_dense, c->layers);
	if (c->experts_per_token > c->experts)
		return dsocr_config_fail(r, "num_experts_per_tok %d is more than n_routed_experts %d",
								 c->experts_per_token, c->experts);
	if (c->bos_id >= c->vocab || c->eos_id >= c->vocab)
		return dsocr_config_fail(r, "bos_token_id or eos_token_id is not below vocab_size");
	return true;
}

static bool
read_sam(const DsocrConfigFile *r, DsocrConfig *c)
{
	static const DsocrIntField image_size =
		FIELD("image_size", image_size, SAM_PATCH, MAX_IMAGE_SIZE);
	static const DsocrIntField net2 = FIELD("downsample_channels", net2_channels, 1, MAX_WIDTH);
	static const DsocrIntField net3 = FIELD("downsample_channels", net3_channels, 1, MAX_WIDTH);
	json_t *vision = dsocr_config_get(r->root, "vision_config");
	json_t *sam = dsocr_config_get(dsocr_config_get(vision, "width"), "sam_vit_b");
	json_t *channels = dsocr_config_get(sam, "downsample_channels");
	json_t *global = dsocr_config_get(sam, "global_attn_indexes");

	if (!json_is_object(sam))
		return dsocr_config_fail(r, "vision_config.width.sam_vit_b is missing");
	if (!dsocr_config_int(r, dsocr_config_get(vision, "image_size"), "vision_config.", &image_size,
						  c) ||
		!dsocr_config_ints(r, sam, "sam_vit_b.", sam_fields, LENGTH(sam_fields), false, c) ||
		!dsocr_config_ints(r, sam, "sam_vit_b.", sam_optional_fields, LENGTH(sam_optional_fields),
						   true, c))
		return false;
	if (c->image_size % c->patch != 0)
		return dsocr_config_fail(r, "vision_config.image_size %d is not a multiple of %d",
								 c->image_size, c->patch);
	if (c->sam_width % c->sam_heads != 0)
		return dsocr_config_fail(r, "sam_vit_b.width %d is not a multiple of heads %d",
								 c->sam_width, c->sam_heads);
	if (json_array_size(channels) != 2)
		return dsocr_config_fail(r, "sam_vit_b.downsample_channels is not a pair");
	if (!dsocr_config_int(r, json_array_get(channels, 0), "sam_vit_b.", &net2, c) ||
		!dsocr_config_int(r, json_array_get(channels, 1), "sam_vit_b.", &net3, c))
		return false;
	if (!json_is_array(global))
		return dsocr_config_fail(r, "sam_vit_b.global_attn_indexes is missing");
	for (size_t i = 0; i < json_array_size(global); i++)
	{
		json_t *index = json_array_get(global, i);

		if (!json_is_integer(index) || json_integer_value(index) < 0 ||
			json_integer_value(index) >= c->sam_layers)
			return dsocr_config_fail(r,
									 "sam_vit_b.global_attn_indexes has an entry that is no layer");
		c->sam_global[json_integer_value(index)] = true;
	}
	return true;
}

static bool
read_clip(const DsocrConfigFile *r, DsocrConfig *c)
{
	json_t *clip = dsocr_config_get(
		dsocr_config_get(dsocr_config_get(r->root, "vision_config"), "width"), "clip-l-14-224");
	json_int_t size = json_integer_value(dsocr_config_get(clip, "image_size"));
	json_int_t patch = json_integer_value(dsocr_config_get(clip, "patch_size"));

	if (!json_is_object(clip))
		return dsocr_config_fail(r, "vision_config.width.clip-l-14-224 is missing");
	if (!dsocr_config_ints(r, clip, "clip-l-14-224.", clip_fields, LENGTH(clip_fields), false, c))
		return false;
	if (c->clip_width % c->clip_heads != 0)
		return dsocr_config_fail(r, "clip-l-14-224.width %d is not a multiple of heads %d",
								 c->clip_width, c->clip_heads);
	if (patch < 1 || size < patch || size > MAX_IMAGE_SIZE || size % patch != 0)
		return dsocr_config_fail(r, "clip-l-14-224.image_size is not a multiple of patch_size");
	c->clip_grid = (int) (size / patch);
	if (c->clip_width != c->net3_channels)
		return dsocr_config_fail(
			r, "clip-l-14-224.width %d differs from sam_vit_b.downsample_channels[1] %d",
			c->clip_width, c->net3_channels);
	return true;
}

static bool
read_projector(const DsocrConfigFile *r, DsocrConfig *c)
{
	json_t *projector = dsocr_config_get(r->root, "projector_config");
	const char *type = json_string_value(dsocr_config_get(projector, "projector_type"));
	json_int_t n_embed = json_integer_value(dsocr_config_get(projector, "n_embed"));
	char text[48];

	if (!json_is_object(projector))
		return dsocr_config_fail(r, "projector_config is missing");
	if (type == NULL || strcmp(type, "linear") != 0)
		return dsocr_config_fail(r, "projector_type is \"%s\", supported is \"linear\"",
								 dsocr_config_printable(type != NULL ? type : "", text));
	c->projector_in = c->clip_width + c->net3_channels;
	if (json_integer_value(dsocr_config_get(projector, "input_dim")) != c->projector_in)
		return dsocr_config_fail(
			r, "projector_config.input_dim is not %d, the width of CLIP and SAM together",
			c->projector_in);
	if (n_embed != c->hidden)
		return dsocr_config_fail(r, "projector_config.n_embed is not hidden_size %d", c->hidden);
	return true;
}

/* The resolution that the model's makers name first. */
static DsocrMode
mode_of_resolution(json_t *root)
{
	json_t *first = json_array_get(dsocr_config_get(root, "candidate_resolutions"), 0);

	switch (json_integer_value(json_array_get(first, 0)))
	{
		case 512:
			return DSOCR_MODE_TINY;
		case 640:
			return DSOCR_MODE_SMALL;
		case 1280:
			return DSOCR_MODE_LARGE;
		default:
			return DSOCR_MODE_GUNDAM;
	}
}

/* The folder's last component, or that of its real path for "." and the like. */
static void
set_name(const char *dir, char *name, size_t size)
{
	char *real = NULL;
	size_t end, start, len;

	for (int attempt = 0; attempt < 2; attempt++)
	{
		end = strlen(dir);
		while (end > 0 && dir[end - 1] == '/')
			end--;
		start = end;
		while (start > 0 && dir[start - 1] != '/')
			start--;
		len = end - start;
		if (real != NULL || (len > 0 && strspn(dir + start, "./") < len))
			break;
		real = realpath(dir, NULL);
		if (real == NULL)
			break;
		dir = real;
	}
	if (len >= size)
	{
		len = size - 1;
		while (len > 0 && ((unsigned char) dir[start + len] & 0xc0) == 0x80)
			len--;
	}
	memcpy(name, dir + start, len);
	name[len] = '\0';
	free(real);
}

bool
dsocr_config_read(const char *dir, DsocrConfig *config, DsocrError *err)
{
	DsocrConfigFile r = {.dir = dir, .file = "config.json", .err = err};
	bool ok = true;

	memset(config, 0, sizeof(*config));
	config->patch = SAM_PATCH;
	config->sam_window = 14;
	config->neck_channels = 256;
	config->modes = DSOCR_ALL_MODES;
	config->rms_eps = 1e-6f;
	config->rope_theta = 10000.0f;
	set_name(dir, config->name, sizeof(config->name));
	for (int i = 0; ok && i < DSOCR_N_TASKS; i++)
	{
		config->prompts[i] = dsocr_strdup(official_prompts[i], err);
		ok = config->prompts[i] != NULL;
	}

	if (ok && access(dir, F_OK) != 0)
		ok = dsocr_fail(err, DSOCR_E_MODEL, "model folder \"%.160s\" does not exist", dir);
	ok = ok && dsocr_config_load(&r, false);
	if (ok)
	{
		ok = check_family(&r) && read_language(&r, config) && read_sam(&r, config) &&
			 read_clip(&r, config) && read_projector(&r, config);
		config->auto_mode = mode_of_resolution(r.root);
		json_decref(r.root);
	}
	if (ok)
	{
		r.file = "dsocr.json";
		ok = dsocr_config_load(&r, true) && (r.root == NULL || dsocr_config_override(&r, config));
		json_decref(r.root);
	}
	if (!ok)
		dsocr_config_free(config);
	return ok;
}

void
dsocr_config_free(DsocrConfig *config)
{
	for (int i = 0; i < DSOCR_N_TASKS; i++)
	{
		dsocr_free(config->prompts[i]);
		config->prompts[i] = NULL;
	}
}
