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

#include <jansson.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARCHITECTURE "DeepseekOCRForCausalLM"
#define LANGUAGE_ARCHITECTURE "DeepseekV2ForCausalLM"
#define MODEL_TYPE "deepseek_vl_v2"

#define MAX_CONFIG_BYTES ((size_t) 1 << 24)
#define MAX_WIDTH 65536
#define MAX_VOCAB (1 << 22)
#define MAX_POSITIONS (1 << 20)
#define MAX_IMAGE_SIZE 8192
#define MAX_PROMPT_BYTES 65536
#define SAM_PATCH 16

static const char *const official_prompts[DSOCR_N_TASKS] = {
	[DSOCR_TASK_MARKDOWN] = "<image>\n<|grounding|>Convert the document to markdown.",
	[DSOCR_TASK_TEXT] = "<image>\nFree OCR.",
	[DSOCR_TASK_FIGURE] = "<image>\nParse the figure.",
	[DSOCR_TASK_DESCRIBE] = "<image>\nDescribe this image in detail.",
	[DSOCR_TASK_LOCATE] = "<image>\nLocate <|ref|>%s<|/ref|> in the image.",
	[DSOCR_TASK_GENERATE] = "%s",
};

/* The file being read; where names the object for messages. */
typedef struct Reader
{
	const char *dir;
	const char *file;
	json_t *root;
	DsocrError *err;
} Reader;

typedef struct IntField
{
	const char *key;
	size_t offset; /* of an int in DsocrConfig */
	int min;
	int max;
} IntField;

#define FIELD(key, member, min, max)                                                               \
	{                                                                                              \
		key, offsetof(DsocrConfig, member), min, max                                               \
	}

static const IntField language_fields[] = {
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
static const IntField shared_experts_field = FIELD("n_shared_experts", shared_experts, 0, 64);

static const IntField sam_fields[] = {
	FIELD("width", sam_width, 1, MAX_WIDTH),
	FIELD("layers", sam_layers, 1, DSOCR_MAX_LAYERS),
	FIELD("heads", sam_heads, 1, MAX_WIDTH),
};

static const IntField sam_optional_fields[] = {
	FIELD("window_size", sam_window, 1, MAX_IMAGE_SIZE / SAM_PATCH),
	FIELD("neck_channels", neck_channels, 1, MAX_WIDTH),
};

static const IntField clip_fields[] = {
	FIELD("width", clip_width, 1, MAX_WIDTH),
	FIELD("layers", clip_layers, 1, DSOCR_MAX_LAYERS),
	FIELD("heads", clip_heads, 1, MAX_WIDTH),
};

#define LENGTH(array) ((int) (sizeof(array) / sizeof((array)[0])))

static bool fail(const Reader *r, const char *fmt, ...) DSOCR_PRINTF(2, 3);

static bool
fail(const Reader *r, const char *fmt, ...)
{
	va_list ap;
	char reason[160];

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	return dsocr_fail(r->err, DSOCR_E_MODEL, "model folder \"%.80s\": %s: %s", r->dir, r->file,
					  reason);
}

/* A string from the file, fit for a message. */
static const char *
printable(const char *s, char text[48])
{
	size_t n = 0;

	for (; s[n] != '\0' && n < 47; n++)
		text[n] = s[n] >= ' ' && s[n] < 127 ? s[n] : '?';
	text[n] = '\0';
	return text;
}

/* NULL for a missing key and for null. */
static json_t *
get(json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	return json_is_null(value) ? NULL : value;
}

/*
 * A key of the language model: the file says it twice, in language_config and
 * at top level, and the two must agree.
 */
static bool
get_language(const Reader *r, const char *key, json_t **value)
{
	json_t *top = get(r->root, key);

	*value = get(get(r->root, "language_config"), key);
	if (*value == NULL)
		*value = top;
	else if (top != NULL && !json_equal(top, *value))
		return fail(r, "%s differs between language_config and the top level", key);
	return true;
}

static bool
read_int(const Reader *r, json_t *value, const char *where, const IntField *field,
		 DsocrConfig *config)
{
	json_int_t v = json_integer_value(value);

	if (!json_is_integer(value))
		return fail(r, "%s%s is %s", where, field->key,
					value == NULL ? "missing" : "not an integer");
	if (v < field->min || v > field->max)
		return fail(r, "%s%s is %lld, must be %d to %d", where, field->key, (long long) v,
					field->min, field->max);
	*(int *) ((char *) config + field->offset) = (int) v;
	return true;
}

static bool
read_ints(const Reader *r, json_t *object, const char *where, const IntField *fields, int n,
		  bool optional, DsocrConfig *config)
{
	for (int i = 0; i < n; i++)
	{
		json_t *value = get(object, fields[i].key);

		if (value == NULL && optional)
			continue;
		if (!read_int(r, value, where, &fields[i], config))
			return false;
	}
	return true;
}

static bool
read_float(const Reader *r, const char *key, double min, double max, float *out)
{
	json_t *value;
	double v;

	if (!get_language(r, key, &value))
		return false;
	if (value == NULL)
		return true;
	v = json_number_value(value);
	if (!json_is_number(value) || !(v >= min && v <= max))
		return fail(r, "%s is not a number from %g to %g", key, min, max);
	*out = (float) v;
	return true;
}

/* Does the list name this architecture?  A missing list is not held against it. */
static bool
check_architecture(const Reader *r, json_t *list, const char *expected)
{
	const char *name = json_string_value(json_array_get(list, 0));
	char text[48];

	if (list == NULL)
		return true;
	if (name == NULL)
		return fail(r, "architectures is not a list of names");
	if (strcmp(name, expected) != 0)
		return dsocr_fail(r->err, DSOCR_E_MODEL, "model folder \"%.80s\" holds %s, not %s", r->dir,
						  printable(name, text), expected);
	return true;
}

static bool
check_family(const Reader *r)
{
	json_t *list = get(r->root, "architectures");
	const char *type = json_string_value(get(r->root, "model_type"));
	char text[48];

	if (!check_architecture(r, list, ARCHITECTURE))
		return false;
	if (list == NULL && type == NULL)
		return fail(r, "neither architectures nor model_type is there");
	if (type != NULL && strcmp(type, MODEL_TYPE) != 0 && strcmp(type, "DeepseekOCR") != 0)
		return fail(r, "model_type is \"%s\", not \"%s\"", printable(type, text), MODEL_TYPE);
	return check_architecture(r, get(get(r->root, "language_config"), "architectures"),
							  LANGUAGE_ARCHITECTURE);
}

/* A key that, if it is there, must have one of the values the code computes. */
static bool
must_be(const Reader *r, const char *key, const char *values)
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

		fail(r, "%s is %s, supported is %s", key, printable(found != NULL ? found : "?", text),
			 values);
		free(found);
	}
	return ok;
}

/* Variants of the DeepSeek-V2 decoder that other models of the family use. */
static bool
check_variants(const Reader *r)
{
	json_t *value;

	if (!get_language(r, "rope_scaling", &value))
		return false;
	if (value != NULL)
		return fail(r, "rope_scaling is not supported");
	return must_be(r, "use_mla", "[false]") && must_be(r, "norm_topk_prob", "[false]") &&
		   must_be(r, "routed_scaling_factor", "[1.0, 1]") &&
		   must_be(r, "scoring_func", "[\"softmax\"]") &&
		   /* the official default is misspelt */
		   must_be(r, "topk_method", "[\"greedy\", \"gready\"]") &&
		   must_be(r, "moe_layer_freq", "[1]") && must_be(r, "attention_bias", "[false]") &&
		   must_be(r, "hidden_act", "[\"silu\"]") && must_be(r, "tie_word_embeddings", "[false]");
}

static bool
read_language(const Reader *r, DsocrConfig *c)
{
	json_t *value;

	if (get(r->root, "language_config") != NULL && !json_is_object(get(r->root, "language_config")))
		return fail(r, "language_config is not an object");
	if (!check_variants(r))
		return false;
	for (int i = 0; i < LENGTH(language_fields); i++)
	{
		if (!get_language(r, language_fields[i].key, &value) ||
			!read_int(r, value, "", &language_fields[i], c))
			return false;
	}
	if (!get_language(r, shared_experts_field.key, &value) ||
		(value != NULL && !read_int(r, value, "", &shared_experts_field, c)))
		return false;
	if (!read_float(r, "rms_norm_eps", 1e-12, 0.1, &c->rms_eps) ||
		!read_float(r, "rope_theta", 1, 1e9, &c->rope_theta))
		return false;

	if (!get_language(r, "num_key_value_heads", &value))
		return false;
	if (value != NULL && (!json_is_integer(value) || json_integer_value(value) != c->heads))
		return fail(r, "num_key_value_heads differs from num_attention_heads: not supported");
	if (c->hidden % c->heads != 0)
		return fail(r, "hidden_size %d is not a multiple of num_attention_heads %d", c->hidden,
					c->heads);
	c->head_dim = c->hidden / c->heads;
	if (c->head_dim % 2 != 0)
		return fail(r, "size of a head %d is odd", c->head_dim);
	if (!get_language(r, "head_dim", &value))
		return false;
	if (value != NULL && (!json_is_integer(value) || json_integer_value(value) != c->head_dim))
		return fail(r, "head_dim is not hidden_size / num_attention_heads: not supported");
	if (c->first_dense > c->layers)
		return fail(r, "first_k_dense_replace %d is more than num_hidden_layers %d", c->first_dense,
					c->layers);
	if (c->experts_per_token > c->experts)
		return fail(r, "num_experts_per_tok %d is more than n_routed_experts %d",
					c->experts_per_token, c->experts);
	if (c->bos_id >= c->vocab || c->eos_id >= c->vocab)
		return fail(r, "bos_token_id or eos_token_id is not below vocab_size");
	return true;
}

static bool
read_sam(const Reader *r, DsocrConfig *c)
{
	static const IntField image_size = FIELD("image_size", image_size, SAM_PATCH, MAX_IMAGE_SIZE);
	static const IntField net2 = FIELD("downsample_channels", net2_channels, 1, MAX_WIDTH);
	static const IntField net3 = FIELD("downsample_channels", net3_channels, 1, MAX_WIDTH);
	json_t *vision = get(r->root, "vision_config");
	json_t *sam = get(get(vision, "width"), "sam_vit_b");
	json_t *channels = get(sam, "downsample_channels");
	json_t *global = get(sam, "global_attn_indexes");

	if (!json_is_object(sam))
		return fail(r, "vision_config.width.sam_vit_b is missing");
	if (!read_int(r, get(vision, "image_size"), "vision_config.", &image_size, c) ||
		!read_ints(r, sam, "sam_vit_b.", sam_fields, LENGTH(sam_fields), false, c) ||
		!read_ints(r, sam, "sam_vit_b.", sam_optional_fields, LENGTH(sam_optional_fields), true, c))
		return false;
	if (c->image_size % c->patch != 0)
		return fail(r, "vision_config.image_size %d is not a multiple of %d", c->image_size,
					c->patch);
	if (c->sam_width % c->sam_heads != 0)
		return fail(r, "sam_vit_b.width %d is not a multiple of heads %d", c->sam_width,
					c->sam_heads);
	if (json_array_size(channels) != 2)
		return fail(r, "sam_vit_b.downsample_channels is not a pair");
	if (!read_int(r, json_array_get(channels, 0), "sam_vit_b.", &net2, c) ||
		!read_int(r, json_array_get(channels, 1), "sam_vit_b.", &net3, c))
		return false;
	if (!json_is_array(global))
		return fail(r, "sam_vit_b.global_attn_indexes is missing");
	for (size_t i = 0; i < json_array_size(global); i++)
	{
		json_t *index = json_array_get(global, i);

		if (!json_is_integer(index) || json_integer_value(index) < 0 ||
			json_integer_value(index) >= c->sam_layers)
			return fail(r, "sam_vit_b.global_attn_indexes has an entry that is no layer");
		c->sam_global[json_integer_value(index)] = true;
	}
	return true;
}

static bool
read_clip(const Reader *r, DsocrConfig *c)
{
	json_t *clip = get(get(get(r->root, "vision_config"), "width"), "clip-l-14-224");
	json_int_t size = json_integer_value(get(clip, "image_size"));
	json_int_t patch = json_integer_value(get(clip, "patch_size"));

	if (!json_is_object(clip))
		return fail(r, "vision_config.width.clip-l-14-224 is missing");
	if (!read_ints(r, clip, "clip-l-14-224.", clip_fields, LENGTH(clip_fields), false, c))
		return false;
	if (c->clip_width % c->clip_heads != 0)
		return fail(r, "clip-l-14-224.width %d is not a multiple of heads %d", c->clip_width,
					c->clip_heads);
	if (patch < 1 || size < patch || size > MAX_IMAGE_SIZE || size % patch != 0)
		return fail(r, "clip-l-14-224.image_size is not a multiple of patch_size");
	c->clip_grid = (int) (size / patch);
	if (c->clip_width != c->net3_channels)
		return fail(r, "clip-l-14-224.width %d differs from sam_vit_b.downsample_channels[1] %d",
					c->clip_width, c->net3_channels);
	return true;
}

static bool
read_projector(const Reader *r, DsocrConfig *c)
{
	json_t *projector = get(r->root, "projector_config");
	const char *type = json_string_value(get(projector, "projector_type"));
	json_int_t n_embed = json_integer_value(get(projector, "n_embed"));
	char text[48];

	if (!json_is_object(projector))
		return fail(r, "projector_config is missing");
	if (type == NULL || strcmp(type, "linear") != 0)
		return fail(r, "projector_type is \"%s\", supported is \"linear\"",
					printable(type != NULL ? type : "", text));
	c->projector_in = c->clip_width + c->net3_channels;
	if (json_integer_value(get(projector, "input_dim")) != c->projector_in)
		return fail(r, "projector_config.input_dim is not %d, the width of CLIP and SAM together",
					c->projector_in);
	if (n_embed != c->hidden)
		return fail(r, "projector_config.n_embed is not hidden_size %d", c->hidden);
	return true;
}

/* The resolution that the model's makers name first. */
static DsocrMode
mode_of_resolution(json_t *root)
{
	json_t *first = json_array_get(get(root, "candidate_resolutions"), 0);

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

/* Read DIR/NAME as a JSON object; *root stays NULL when it may be missing and is. */
static bool
read_json(Reader *r, bool optional)
{
	DsocrBuffer path = {0};
	DsocrBuffer text = {0};
	json_error_t error;
	bool ok;

	r->root = NULL;
	ok = dsocr_buffer_printf(&path, r->err, "%s/%s", r->dir, r->file);
	if (ok && access(path.data, F_OK) != 0)
	{
		dsocr_buffer_free(&path);
		return optional || fail(r, "no such file");
	}
	if (ok)
	{
		ok = dsocr_read_file(path.data, MAX_CONFIG_BYTES, &text, r->err);
		if (!ok && r->err != NULL && r->err->code == DSOCR_E_IO)
			r->err->code = DSOCR_E_MODEL;
	}
	if (ok)
	{
		r->root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &error);
		if (r->root == NULL && json_error_code(&error) == json_error_out_of_memory)
			ok = dsocr_fail(r->err, DSOCR_E_MEMORY, "out of memory for %s", r->file);
		else if (r->root == NULL)
		{
			char shown[48];

			ok = fail(r, "line %d: %s", error.line, printable(error.text, shown));
		}
		else if (!json_is_object(r->root))
		{
			json_decref(r->root);
			r->root = NULL;
			ok = fail(r, "not a JSON object");
		}
	}
	dsocr_buffer_free(&path);
	dsocr_buffer_free(&text);
	return ok;
}

static int
count_of(const char *text, const char *what)
{
	int n = 0;

	while ((text = strstr(text, what)) != NULL)
	{
		n++;
		text += strlen(what);
	}
	return n;
}

static bool
read_prompt(const Reader *r, int task, json_t *value, DsocrConfig *c)
{
	const char *text = json_string_value(value);
	bool has_argument = task == DSOCR_TASK_LOCATE || task == DSOCR_TASK_GENERATE;
	char *copy;

	if (text == NULL || strlen(text) > MAX_PROMPT_BYTES)
		return fail(r, "prompt of %s is not a text of at most %d bytes", dsocr_task_names[task],
					MAX_PROMPT_BYTES);
	if (has_argument && count_of(text, "%s") != 1)
		return fail(r, "prompt of %s does not have exactly one %%s", dsocr_task_names[task]);
	if (task != DSOCR_TASK_GENERATE && count_of(text, "<image>") != 1)
		return fail(r, "prompt of %s does not have exactly one <image>", dsocr_task_names[task]);
	copy = dsocr_strdup(text, r->err);
	if (copy == NULL)
		return false;
	dsocr_free(c->prompts[task]);
	c->prompts[task] = copy;
	return true;
}

/* A mode by its name; DSOCR_N_MODES if it is none. */
static int
mode_named(json_t *value)
{
	const char *name = json_string_value(value);
	int m = DSOCR_MODE_AUTO;

	while (m < DSOCR_N_MODES && (name == NULL || strcmp(name, dsocr_mode_names[m]) != 0))
		m++;
	return m;
}

/* The modes that the model was trained for; the one it is configured for is among them. */
static bool
read_modes(const Reader *r, json_t *modes, DsocrConfig *c)
{
	size_t i;
	json_t *value;
	char text[48];

	if (modes == NULL)
		return true;
	if (!json_is_array(modes) || json_array_size(modes) == 0)
		return fail(r, "modes is not a list of names");
	c->modes = 0;
	json_array_foreach (modes, i, value)
	{
		int m = mode_named(value);
		const char *name = json_string_value(value);

		if (m == DSOCR_N_MODES || m == DSOCR_MODE_AUTO)
			return fail(r, "modes has \"%s\", which is none",
						printable(name != NULL ? name : "", text));
		c->modes |= 1U << m;
	}
	if ((c->modes >> c->auto_mode & 1) == 0)
		return fail(r, "modes lacks the mode of the model, %s", dsocr_mode_names[c->auto_mode]);
	return true;
}

/* dsocr.json: what a small model was trained for. */
static bool
read_override(const Reader *r, DsocrConfig *c)
{
	json_t *mode = get(r->root, "mode");
	json_t *prompts = get(r->root, "prompts");
	const char *key;
	json_t *value;
	char text[48];

	if (mode != NULL)
	{
		const char *name = json_string_value(mode);
		int m = mode_named(mode);

		if (m == DSOCR_N_MODES)
			return fail(r, "mode is \"%s\", which is none",
						printable(name != NULL ? name : "", text));
		if (m != DSOCR_MODE_AUTO)
			c->auto_mode = (DsocrMode) m;
	}
	if (!read_modes(r, get(r->root, "modes"), c))
		return false;
	if (prompts != NULL && !json_is_object(prompts))
		return fail(r, "prompts is not an object");
	json_object_foreach (prompts, key, value)
	{
		int task = 0;

		while (task < DSOCR_N_TASKS && strcmp(key, dsocr_task_names[task]) != 0)
			task++;
		if (task == DSOCR_N_TASKS)
			return fail(r, "prompts has \"%s\", which is no task", printable(key, text));
		if (!read_prompt(r, task, value, c))
			return false;
	}
	return true;
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
	Reader r = {.dir = dir, .file = "config.json", .err = err};
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
	ok = ok && read_json(&r, false);
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
		ok = read_json(&r, true) && (r.root == NULL || read_override(&r, config));
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
