/*-------------------------------------------------------------------------
 *
 * test_config.c
 *		config.json and dsocr.json: what is read and what is refused.
 *
 * Every test starts from one sound configuration and changes one thing.
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
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include <jansson.h>

#include "config.h"

static char dir[64];
static char file[128];

static const char sound[] =
	"{'architectures':['DeepseekOCRForCausalLM'],'model_type':'deepseek_vl_v2',"
	"'candidate_resolutions':[[640,640]],"
	"'language_config':{'architectures':['DeepseekV2ForCausalLM'],'bos_token_id':0,"
	"'eos_token_id':1,'first_k_dense_replace':1,'hidden_size':96,'intermediate_size':208,"
	"'kv_lora_rank':null,'max_position_embeddings':4096,'moe_intermediate_size':32,"
	"'n_routed_experts':6,'n_shared_experts':2,'num_attention_heads':6,'num_experts_per_tok':3,"
	"'num_hidden_layers':4,'num_key_value_heads':6,'topk_method':'greedy','use_mla':false,"
	"'vocab_size':1760},"
	"'hidden_size':96,'vocab_size':1760,"
	"'projector_config':{'input_dim':96,'n_embed':96,'projector_type':'linear'},"
	"'vision_config':{'image_size':512,'mlp_ratio':3.7362,'width':{"
	"'clip-l-14-224':{'heads':3,'image_size':112,'layers':5,'patch_size':14,'width':48},"
	"'sam_vit_b':{'downsample_channels':[40,48],'global_attn_indexes':[1,3],'heads':2,"
	"'layers':4,'width':64}}}}";

static void
write_text(const char *name, const char *text)
{
	FILE *f;

	snprintf(file, sizeof(file), "%s/%s", dir, name);
	f = fopen(file, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void
remove_file(const char *name)
{
	snprintf(file, sizeof(file), "%s/%s", dir, name);
	unlink(file);
}

/* JSON with ' for " */
static json_t *
parse(const char *text)
{
	char *copy = strdup(text);
	json_t *value;

	assert_non_null(copy);
	for (char *p = copy; *p != '\0'; p++)
		if (*p == '\'')
			*p = '"';
	value = json_loads(copy, JSON_DECODE_ANY, NULL);
	if (value == NULL)
		fail_msg("test data is no JSON: %s", copy);
	free(copy);
	return value;
}

/* Write the sound configuration with path "a.b.c" set to value, or removed. */
static void
write_changed(const char *path, const char *value)
{
	json_t *root = parse(sound);
	json_t *object = root;
	char *copy = strdup(path);
	char *part;
	char *rest = copy;
	char *text;

	assert_non_null(copy);
	while ((part = strsep(&rest, ".")) != NULL && rest != NULL)
		object = json_object_get(object, part);
	assert_non_null(object);
	if (value == NULL)
		assert_int_equal(json_object_del(object, part), 0);
	else
		assert_int_equal(json_object_set_new(object, part, parse(value)), 0);
	text = json_dumps(root, 0);
	write_text("config.json", text);
	free(text);
	free(copy);
	json_decref(root);
}

static void
expect_refusal(const char *words)
{
	DsocrConfig c;
	DsocrError err = {0};

	if (dsocr_config_read(dir, &c, &err))
		fail_msg("accepted, expected: %s", words);
	assert_int_equal(err.code, DSOCR_E_MODEL);
	if (strstr(err.message, words) == NULL || strstr(err.message, dir) == NULL)
		fail_msg("\"%s\" does not say %s", err.message, words);
	for (int i = 0; i < DSOCR_N_TASKS; i++)
		assert_null(c.prompts[i]);
}

static DsocrConfig
expect_config(void)
{
	DsocrConfig c;
	DsocrError err = {0};

	if (!dsocr_config_read(dir, &c, &err))
		fail_msg("%s", err.message);
	return c;
}

static void
test_fields(void **state)
{
	DsocrConfig c;

	write_changed("tile_tag", "'2D'");
	c = expect_config();
	assert_int_equal(c.image_size, 512);
	assert_int_equal(c.patch, 16);
	assert_int_equal(c.sam_width, 64);
	assert_int_equal(c.sam_layers, 4);
	assert_int_equal(c.sam_heads, 2);
	assert_int_equal(c.sam_window, 14);
	assert_int_equal(c.neck_channels, 256);
	assert_int_equal(c.net2_channels, 40);
	assert_int_equal(c.net3_channels, 48);
	for (int i = 0; i < DSOCR_MAX_LAYERS; i++)
		assert_int_equal(c.sam_global[i], i == 1 || i == 3);
	assert_int_equal(c.clip_width, 48);
	assert_int_equal(c.clip_layers, 5);
	assert_int_equal(c.clip_heads, 3);
	assert_int_equal(c.clip_grid, 8);
	assert_int_equal(c.projector_in, 96);
	assert_int_equal(c.hidden, 96);
	assert_int_equal(c.layers, 4);
	assert_int_equal(c.heads, 6);
	assert_int_equal(c.head_dim, 16);
	assert_int_equal(c.dense_inter, 208);
	assert_int_equal(c.expert_inter, 32);
	assert_int_equal(c.experts, 6);
	assert_int_equal(c.experts_per_token, 3);
	assert_int_equal(c.shared_experts, 2);
	assert_int_equal(c.first_dense, 1);
	assert_int_equal(c.vocab, 1760);
	assert_int_equal(c.max_positions, 4096);
	assert_true(c.rms_eps == 1e-6f);
	assert_true(c.rope_theta == 10000.0f);
	assert_int_equal(c.bos_id, 0);
	assert_int_equal(c.eos_id, 1);
	assert_int_equal(c.auto_mode, DSOCR_MODE_SMALL);
	assert_string_equal(c.name, strrchr(dir, '/') + 1);
	assert_string_equal(c.prompts[DSOCR_TASK_MARKDOWN],
						"<image>\n<|grounding|>Convert the document to markdown.");
	assert_string_equal(c.prompts[DSOCR_TASK_TEXT], "<image>\nFree OCR.");
	assert_string_equal(c.prompts[DSOCR_TASK_FIGURE], "<image>\nParse the figure.");
	assert_string_equal(c.prompts[DSOCR_TASK_DESCRIBE], "<image>\nDescribe this image in detail.");
	assert_string_equal(c.prompts[DSOCR_TASK_LOCATE],
						"<image>\nLocate <|ref|>%s<|/ref|> in the image.");
	assert_string_equal(c.prompts[DSOCR_TASK_GENERATE], "%s");
	dsocr_config_free(&c);
}

static void
test_optional_fields(void **state)
{
	DsocrConfig c;

	write_changed("vision_config.width.sam_vit_b.neck_channels", "24");
	c = expect_config();
	assert_int_equal(c.neck_channels, 24);
	dsocr_config_free(&c);
	write_changed("vision_config.width.sam_vit_b.window_size", "7");
	c = expect_config();
	assert_int_equal(c.sam_window, 7);
	dsocr_config_free(&c);
	write_changed("language_config.rms_norm_eps", "1e-5");
	c = expect_config();
	assert_true(c.rms_eps == 1e-5f);
	dsocr_config_free(&c);
	write_changed("rope_theta", "500000");
	c = expect_config();
	assert_true(c.rope_theta == 500000.0f);
	dsocr_config_free(&c);

	/* the official code knows models without shared experts */
	for (int i = 0; i < 3; i++)
	{
		write_changed("language_config.n_shared_experts", (const char *[]){"0", "null", NULL}[i]);
		c = expect_config();
		assert_int_equal(c.shared_experts, 0);
		dsocr_config_free(&c);
	}

	/* a key of the language model may stand at top level alone */
	write_changed("language_config.hidden_size", NULL);
	c = expect_config();
	assert_int_equal(c.hidden, 96);
	dsocr_config_free(&c);
	write_changed("language_config.num_key_value_heads", NULL);
	c = expect_config();
	dsocr_config_free(&c);
	write_changed("architectures", NULL);
	c = expect_config();
	dsocr_config_free(&c);
}

/* What the code computes may be said, too. */
static void
test_accepted_variants(void **state)
{
	static const char *const said[][2] = {
		{"routed_scaling_factor", "1.0"},
		{"routed_scaling_factor", "1"},
		{"norm_topk_prob", "false"},
		{"scoring_func", "'softmax'"},
		{"moe_layer_freq", "1"},
		{"attention_bias", "false"},
		{"hidden_act", "'silu'"},
		{"tie_word_embeddings", "false"},
		{"rope_scaling", "null"},
		{"topk_method", "'greedy'"},
		{"use_mla", "null"},
		{"head_dim", "16"},
	};

	for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++)
	{
		DsocrConfig c;

		write_changed(said[i][0], said[i][1]);
		c = expect_config();
		dsocr_config_free(&c);
	}
}

static const struct
{
	const char *path;
	const char *value; /* NULL: removed */
	const char *words;
} refused[] = {
	/* other families */
	{"architectures", "['LlamaForCausalLM']", "holds LlamaForCausalLM, not DeepseekOCRForCausalLM"},
	{"architectures", "[]", "architectures"},
	{"architectures", "'DeepseekOCRForCausalLM'", "architectures"},
	{"model_type", "'llama'", "model_type is \"llama\""},
	{"language_config.architectures", "['Qwen2ForCausalLM']", "holds Qwen2ForCausalLM"},
	/* what is not implemented */
	{"language_config.use_mla", "true", "use_mla is true"},
	{"use_mla", "true", "use_mla"},
	{"language_config.num_key_value_heads", "2", "num_key_value_heads"},
	{"language_config.norm_topk_prob", "true", "norm_topk_prob is true"},
	{"language_config.routed_scaling_factor", "2.5", "routed_scaling_factor is 2.5"},
	{"language_config.scoring_func", "'sigmoid'", "scoring_func"},
	{"language_config.topk_method", "'group_limited_greedy'", "topk_method"},
	{"language_config.topk_method", "'noaux_tc'", "topk_method"},
	{"language_config.moe_layer_freq", "2", "moe_layer_freq is 2"},
	{"language_config.attention_bias", "true", "attention_bias"},
	{"language_config.hidden_act", "'gelu'", "hidden_act"},
	{"tie_word_embeddings", "true", "tie_word_embeddings"},
	{"rope_scaling", "{'type':'yarn'}", "rope_scaling"},
	{"head_dim", "32", "head_dim"},
	{"projector_config.projector_type", "'downsample_mlp_gelu'", "downsample_mlp_gelu"},
	{"projector_config.projector_type", NULL, "projector_type"},
	/* the two places disagree */
	{"hidden_size", "128", "differs"},
	{"vocab_size", "1761", "differs"},
	/* sizes */
	{"language_config.num_hidden_layers", "0", "num_hidden_layers is 0"},
	{"language_config.num_hidden_layers", "257", "num_hidden_layers"},
	{"language_config.num_hidden_layers", "-4", "num_hidden_layers is -4"},
	{"language_config.num_hidden_layers", "4.0", "not an integer"},
	{"language_config.num_hidden_layers", "'4'", "not an integer"},
	{"language_config.num_hidden_layers", "true", "not an integer"},
	{"language_config.num_hidden_layers", NULL, "num_hidden_layers is missing"},
	{"language_config.num_hidden_layers", "null", "num_hidden_layers is missing"},
	{"language_config.num_attention_heads", "0", "num_attention_heads"},
	{"language_config.num_attention_heads", "7", "num_"},
	{"language_config.intermediate_size", "0", "intermediate_size"},
	{"language_config.intermediate_size", "2147483648", "intermediate_size"},
	{"language_config.moe_intermediate_size", "4294967328", "moe_intermediate_size"},
	{"language_config.n_routed_experts", "1025", "n_routed_experts"},
	{"language_config.n_routed_experts", "null", "n_routed_experts"},
	{"language_config.n_routed_experts", "2", "num_experts_per_tok 3 is more"},
	{"language_config.num_experts_per_tok", "0", "num_experts_per_tok"},
	{"language_config.num_experts_per_tok", "65", "num_experts_per_tok"},
	{"language_config.n_shared_experts", "-1", "n_shared_experts is -1"},
	{"language_config.n_shared_experts", "65", "n_shared_experts is 65"},
	{"language_config.first_k_dense_replace", "5", "first_k_dense_replace"},
	{"language_config.first_k_dense_replace", "-1", "first_k_dense_replace"},
	{"language_config.max_position_embeddings", "0", "max_position_embeddings"},
	{"language_config.max_position_embeddings", "99999999", "max_position_embeddings"},
	{"language_config.bos_token_id", "1760", "bos_token_id"},
	{"language_config.eos_token_id", "-1", "eos_token_id"},
	{"language_config.eos_token_id", "[1,2]", "eos_token_id"},
	{"language_config.rms_norm_eps", "0", "rms_norm_eps"},
	{"language_config.rms_norm_eps", "-1e-6", "rms_norm_eps"},
	{"language_config.rms_norm_eps", "'x'", "rms_norm_eps"},
	{"language_config.rope_theta", "0", "rope_theta"},
	{"language_config.rope_theta", "1e300", "rope_theta"},
	{"language_config", "7", "language_config"},
	/* vision */
	{"vision_config", NULL, "sam_vit_b"},
	{"vision_config.width.sam_vit_b", NULL, "sam_vit_b"},
	{"vision_config.width.clip-l-14-224", NULL, "clip-l-14-224"},
	{"vision_config.image_size", "500", "image_size"},
	{"vision_config.image_size", "0", "image_size"},
	{"vision_config.image_size", "16384", "image_size"},
	{"vision_config.width.sam_vit_b.width", "65", "not a multiple"},
	{"vision_config.width.sam_vit_b.width", "65540", "sam_vit_b.width"},
	{"vision_config.width.sam_vit_b.heads", "0", "sam_vit_b.heads"},
	{"vision_config.width.sam_vit_b.layers", "300", "sam_vit_b.layers"},
	{"vision_config.width.sam_vit_b.window_size", "0", "window_size"},
	{"vision_config.width.sam_vit_b.neck_channels", "-1", "neck_channels"},
	{"vision_config.width.sam_vit_b.downsample_channels", "[40]", "downsample_channels"},
	{"vision_config.width.sam_vit_b.downsample_channels", "[40,48,9]", "downsample_channels"},
	{"vision_config.width.sam_vit_b.downsample_channels", "[0,48]", "downsample_channels"},
	{"vision_config.width.sam_vit_b.downsample_channels", "[40,56]", "differs"},
	{"vision_config.width.sam_vit_b.global_attn_indexes", "[4]", "global_attn_indexes"},
	{"vision_config.width.sam_vit_b.global_attn_indexes", "[-1]", "global_attn_indexes"},
	{"vision_config.width.sam_vit_b.global_attn_indexes", "null", "global_attn_indexes"},
	{"vision_config.width.clip-l-14-224.width", "49", "not a multiple"},
	{"vision_config.width.clip-l-14-224.patch_size", "0", "patch_size"},
	{"vision_config.width.clip-l-14-224.patch_size", "15", "patch_size"},
	{"vision_config.width.clip-l-14-224.image_size", "7", "patch_size"},
	{"projector_config", NULL, "projector_config"},
	{"projector_config.input_dim", "97", "input_dim"},
	{"projector_config.n_embed", "64", "n_embed"},
};

static void
test_refused(void **state)
{
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		write_changed(refused[i].path, refused[i].value);
		expect_refusal(refused[i].words);
	}
}

/* hidden_size stands twice, so these change both. */
static void
test_head_size(void **state)
{
	static const struct
	{
		int hidden, heads;
		const char *words;
	} sizes[] = {{96, 7, "not a multiple"}, {90, 6, "odd"}, {0, 1, "hidden_size is 0"}};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		json_t *root = parse(sound);
		json_t *language = json_object_get(root, "language_config");
		char *text;

		json_object_set_new(root, "hidden_size", json_integer(sizes[i].hidden));
		json_object_set_new(language, "hidden_size", json_integer(sizes[i].hidden));
		json_object_set_new(language, "num_attention_heads", json_integer(sizes[i].heads));
		json_object_set_new(language, "num_key_value_heads", json_integer(sizes[i].heads));
		text = json_dumps(root, 0);
		write_text("config.json", text);
		free(text);
		json_decref(root);
		expect_refusal(sizes[i].words);
	}
}

static void
test_no_family(void **state)
{
	json_t *root = parse(sound);
	char *text;

	json_object_del(root, "architectures");
	json_object_del(root, "model_type");
	text = json_dumps(root, 0);
	write_text("config.json", text);
	free(text);
	json_decref(root);
	expect_refusal("neither architectures nor model_type");
}

static void
test_not_json(void **state)
{
	write_text("config.json", "");
	expect_refusal("config.json");
	write_text("config.json", "{\"a\":1,\n\"b\":}");
	expect_refusal("line 2");
	write_text("config.json", "[]");
	expect_refusal("not a JSON object");
	write_text("config.json", "{\"a\":1,\"a\":2}");
	expect_refusal("duplicate");
	write_text("config.json", "{\"a\":\"\xff\"}");
	expect_refusal("config.json");
	remove_file("config.json");
	expect_refusal("no such file");
	snprintf(file, sizeof(file), "%s/config.json", dir);
	assert_int_equal(mkdir(file, 0700), 0);
	expect_refusal("config.json");
	rmdir(file);
}

static void
test_resolutions(void **state)
{
	static const struct
	{
		const char *value;
		DsocrMode mode;
	} cases[] = {
		{"[[512,512]]", DSOCR_MODE_TINY},
		{"[[640,640]]", DSOCR_MODE_SMALL},
		{"[[1024,1024]]", DSOCR_MODE_GUNDAM},
		{"[[1280,1280]]", DSOCR_MODE_LARGE},
		{"[[777,777]]", DSOCR_MODE_GUNDAM},
		{"[]", DSOCR_MODE_GUNDAM},
		{NULL, DSOCR_MODE_GUNDAM},
		{"7", DSOCR_MODE_GUNDAM},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DsocrConfig c;

		write_changed("candidate_resolutions", cases[i].value);
		c = expect_config();
		assert_int_equal(c.auto_mode, cases[i].mode);
		dsocr_config_free(&c);
	}
}

static void
test_override(void **state)
{
	static const char *const wrong[][2] = {
		{"{\"mode\":\"huge\"}", "huge"},
		{"{\"mode\":7}", "mode"},
		{"{\"modes\":\"small\"}", "modes"},
		{"{\"modes\":[]}", "modes"},
		{"{\"modes\":[\"huge\"]}", "huge"},
		{"{\"modes\":[\"auto\"]}", "auto"},
		{"{\"modes\":[7]}", "modes"},
		{"{\"mode\":\"base\",\"modes\":[\"tiny\",\"large\"]}", "base"},
		{"{\"prompts\":[]}", "prompts"},
		{"{\"prompts\":{\"poem\":\"<image>\"}}", "poem"},
		{"{\"prompts\":{\"text\":7}}", "text"},
		{"{\"prompts\":{\"text\":\"no picture\"}}", "<image>"},
		{"{\"prompts\":{\"text\":\"<image><image>\"}}", "<image>"},
		{"{\"prompts\":{\"locate\":\"<image> where\"}}", "%s"},
		{"{\"prompts\":{\"locate\":\"<image> %s %s\"}}", "%s"},
		{"{\"prompts\":{\"generate\":\"fixed\"}}", "%s"},
		{"{", "dsocr.json"},
		{"[]", "dsocr.json"},
	};
	DsocrConfig c;

	write_changed("tile_tag", "'2D'");
	write_text("dsocr.json", "{\"mode\":\"gundam_m\",\"prompts\":{\"markdown\":\"<image>Go 100%.\","
							 "\"locate\":\"<image>\\n%s?\"}}");
	c = expect_config();
	assert_int_equal(c.auto_mode, DSOCR_MODE_GUNDAM_M);
	assert_string_equal(c.prompts[DSOCR_TASK_MARKDOWN], "<image>Go 100%.");
	assert_string_equal(c.prompts[DSOCR_TASK_LOCATE], "<image>\n%s?");
	assert_string_equal(c.prompts[DSOCR_TASK_TEXT], "<image>\nFree OCR.");
	dsocr_config_free(&c);
	write_text("dsocr.json", "{\"mode\":\"auto\"}");
	c = expect_config();
	assert_int_equal(c.auto_mode, DSOCR_MODE_SMALL);
	assert_int_equal(c.modes, DSOCR_ALL_MODES);
	assert_int_equal(c.modes, 0x7e);
	dsocr_config_free(&c);
	write_text("dsocr.json", "{\"modes\":[\"base\",\"small\"],\"mode\":\"base\"}");
	c = expect_config();
	assert_int_equal(c.auto_mode, DSOCR_MODE_BASE);
	assert_int_equal(c.modes, 1U << DSOCR_MODE_SMALL | 1U << DSOCR_MODE_BASE);
	dsocr_config_free(&c);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		write_text("dsocr.json", wrong[i][0]);
		expect_refusal(wrong[i][1]);
	}
	remove_file("dsocr.json");
}

static void
expect_name(const char *folder, const char *name)
{
	DsocrConfig c;
	DsocrError err = {0};

	if (!dsocr_config_read(folder, &c, &err))
		fail_msg("%s", err.message);
	assert_string_equal(c.name, name);
	dsocr_config_free(&c);
}

static void
test_name(void **state)
{
	const char *base = strrchr(dir, '/') + 1;
	char path[400];
	char before[200];
	DsocrError err = {0};
	DsocrConfig c;

	write_changed("tile_tag", "'2D'");
	snprintf(path, sizeof(path), "%s///", dir);
	expect_name(path, base);
	snprintf(path, sizeof(path), "%s/.", dir);
	expect_name(path, base);
	assert_non_null(getcwd(before, sizeof(before)));
	assert_int_equal(chdir(dir), 0);
	expect_name(".", base);
	expect_name("./", base);
	assert_int_equal(chdir(before), 0);

	/* 70 bytes of two-byte characters: cut at one */
	snprintf(path, sizeof(path), "%s/", dir);
	for (int i = 0; i < 35; i++)
		strcat(path, "\xc3\xa9");
	assert_int_equal(symlink(dir, path), 0);
	assert_true(dsocr_config_read(path, &c, &err));
	assert_int_equal(strlen(c.name), 62);
	dsocr_config_free(&c);
	unlink(path);

	assert_false(dsocr_config_read("/nonexistent/folder", &c, &err));
	assert_int_equal(err.code, DSOCR_E_MODEL);
	assert_non_null(strstr(err.message, "/nonexistent/folder"));
	assert_false(dsocr_config_read("", &c, &err));
}

static int
set_up(void **state)
{
	strcpy(dir, "/tmp/dsocr_config_XXXXXX");
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int
tear_down(void **state)
{
	remove_file("config.json");
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_optional_fields),
		cmocka_unit_test(test_accepted_variants),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_head_size),
		cmocka_unit_test(test_no_family),
		cmocka_unit_test(test_not_json),
		cmocka_unit_test(test_resolutions),
		cmocka_unit_test(test_override),
		cmocka_unit_test(test_name),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
