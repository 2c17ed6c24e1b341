/*-------------------------------------------------------------------------
 *
 * test_tokenizer.c
 *		Encoding, decoding, prompts, and what is refused.
 *
 * The expected ids were computed with the Hugging Face library for the small
 * tokenizer that set_up writes: ids 0 to 255 are the bytes, then come the
 * merges and the added tokens, one with each flag.
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
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <jansson.h>

#include "pretokenize.h"
#include "prompt.h"
#include "tokenizer.h"

static char path[] = "/tmp/dsocr_tokenizer_XXXXXX";
static DsocrTokenizer *tokenizer;

static const char *const merges[][2] = {
	{"a", "b"},
	{"b", "c"},
	{"ab", "c"},
	{"a", "bc"},
	{"h", "e"},
	{"\xc4\xa0", "t"},
	{"\xc4\xa0t", "he"},
	{"t", "he"},
	{"\xc4\xa0", "\xc4\xa0"},
	{"\xc4\xa0\xc4\xa0", "\xc4\xa0\xc4\xa0"},
	{"\xc4\x8a", "\xc4\x8a"},
	{"1", "2"},
	{"12", "3"},
	{"\xc3\x83", "\xc2\xa9"},
	{"\xc4\x8a", "\xc4\x8a\xc4\x8a"},
	{"z", "z"},
	{"zz", "z"},
	{"z", "zz"},
	{"zz", "zz"},
};

static const struct
{
	const char *content;
	bool single_word, lstrip, rstrip, normalized, special;
} added[] = {
	{"<image>", 0, 0, 0, 0, 1}, {"<td>", 0, 0, 0, 1, 0},
	{"<w>", 1, 0, 0, 0, 0},		{"<l>", 0, 1, 0, 0, 0},
	{"<r>", 0, 0, 1, 0, 1},		{"<\xef\xbd\x9cx\xef\xbd\x9c>", 0, 0, 0, 0, 1},
	{"<im", 0, 0, 0, 0, 0},		{"\xc3\xa9", 0, 0, 0, 1, 0},
};

#define FIRST_ADDED 273
#define LETTER_ID 233 /* the last one is in the vocabulary as well, as a byte */
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* The patterns of the official tokenizer. */
static const char *const patterns[] = {
	"\\p{N}{1,3}",
	"[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+",
	"[!\"#$%&'()*+,\\-./"
	":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
	"| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
};

typedef struct Case
{
	const char *text;
	size_t len;
	size_t n;
	int32_t ids[20];
	bool decodes; /* to the text */
	bool decodes_without_special;
} Case;

static const Case cases[] = {
	{"", 0, 0, {0}, 1, 1},
	{"a", 1, 1, {97}, 1, 1},
	{"abc", 3, 1, {258}, 1, 1},
	{"abcabc", 6, 2, {258, 258}, 1, 1},
	{"the the", 7, 2, {262, 261}, 1, 1},
	{"  the", 5, 2, {32, 261}, 1, 1},
	{"    x", 5, 4, {263, 32, 32, 120}, 1, 1},
	{"a  b", 4, 4, {97, 32, 32, 98}, 1, 1},
	{"a \012 b", 5, 5, {97, 32, 10, 32, 98}, 1, 1},
	{"\012\012\012", 3, 2, {265, 10}, 1, 1},
	{"\015\012", 2, 2, {13, 10}, 1, 1},
	{"12345", 5, 3, {267, 52, 53}, 1, 1},
	{"1a2", 3, 3, {49, 97, 50}, 1, 1},
	{"x1 2", 4, 4, {120, 49, 32, 50}, 1, 1},
	{"\011q", 2, 2, {9, 113}, 1, 1},
	{"\341\240\216 x", 5, 5, {225, 160, 142, 32, 120}, 1, 1},
	{"a\343\200\200b", 5, 5, {97, 227, 128, 128, 98}, 1, 1},
	{"\303\251", 2, 1, {233}, 0, 0},
	{"caf\303\251!", 6, 5, {99, 97, 102, 233, 33}, 0, 0},
	{"\346\227\245\346\234\254", 6, 6, {230, 151, 165, 230, 156, 172}, 1, 1},
	{"\346\274\242\345\255\227\343\201\213\343\201\252\343\202\253\343\203\212ab",
	 20,
	 19,
	 {230, 188, 162, 229, 173, 151, 227, 129, 139, 227, 129, 170, 227, 130, 171, 227, 131, 138,
	  256},
	 1,
	 1},
	{" .,\012\012x", 6, 5, {32, 46, 44, 265, 120}, 1, 1},
	{".ab", 3, 2, {46, 256}, 1, 1},
	{"..ab", 4, 3, {46, 46, 256}, 1, 1},
	{"<image>", 7, 1, {273}, 1, 0},
	{"<image>abc<image>", 17, 3, {273, 258, 273}, 1, 0},
	{"<ima", 4, 2, {279, 97}, 1, 1},
	{"<imag e>", 8, 6, {279, 97, 103, 32, 101, 62}, 1, 1},
	{"<td>x</td>", 10, 7, {274, 120, 60, 47, 116, 100, 62}, 1, 1},
	{"a<w>b", 5, 5, {97, 60, 119, 62, 98}, 1, 1},
	{"a <w> b", 7, 5, {97, 32, 275, 32, 98}, 1, 1},
	{"<w>", 3, 1, {275}, 1, 1},
	{"_<w>", 4, 4, {95, 60, 119, 62}, 1, 1},
	{"  <l>  x", 8, 4, {276, 32, 32, 120}, 0, 0},
	{"x<r>  \012 y", 9, 3, {120, 277, 121}, 0, 0},
	{"<r> <l>", 7, 2, {277, 276}, 0, 0},
	{"<\357\275\234x\357\275\234>", 9, 1, {278}, 1, 0},
	{"zzz", 3, 1, {271}, 1, 1},
	{"zzzzz", 5, 2, {270, 271}, 1, 1},
	{"zzzzzz", 6, 2, {272, 270}, 1, 1},
	{"\000\001", 2, 2, {0, 1}, 1, 1},
	{"e\314\201x", 4, 4, {101, 204, 129, 120}, 1, 1},
	{"\342\200\213ab", 5, 4, {226, 128, 139, 256}, 1, 1},
	{"\360\237\221\215\360\237\217\275", 8, 8, {240, 159, 145, 141, 240, 159, 143, 189}, 1, 1},
	{"don't", 5, 5, {100, 111, 110, 39, 116}, 1, 1},
	{"a\302\240b", 4, 4, {97, 194, 160, 98}, 1, 1},
	{"\302\262\302\263", 4, 4, {194, 178, 194, 179}, 1, 1},
	{"\331\241\331\242\331\243\331\244", 8, 8, {217, 161, 217, 162, 217, 163, 217, 164}, 1, 1},
	{"\302\205x", 3, 3, {194, 133, 120}, 1, 1},
	{"- ab", 4, 3, {45, 32, 256}, 1, 1},
	{"xxxxxxx         y", 17, 11, {120, 120, 120, 120, 120, 120, 120, 264, 264, 32, 121}, 1, 1},
};

/* ---- the tokenizer's file ---- */

/* The character that stands for a byte, counted out as the definition does. */
static json_t *
byte_character(int byte)
{
	int code = 256;
	char text[3] = {0};

	for (int b = 0; b <= byte; b++)
	{
		bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

		if (b == byte && printable)
			code = b;
		else if (b < byte && !printable)
			code++;
	}
	if (code < 128)
		text[0] = (char) code;
	else
	{
		text[0] = (char) (0xc0 | code >> 6);
		text[1] = (char) (0x80 | (code & 63));
	}
	return json_string(text);
}

static json_t *
build_model(void)
{
	json_t *vocab = json_object();
	json_t *list = json_array();

	for (int b = 0; b < 256; b++)
	{
		json_t *key = byte_character(b);

		json_object_set_new(vocab, json_string_value(key), json_integer(b));
		json_decref(key);
	}
	for (size_t i = 0; i < LENGTH(merges); i++)
	{
		char merged[32];

		snprintf(merged, sizeof(merged), "%s%s", merges[i][0], merges[i][1]);
		if (json_object_get(vocab, merged) == NULL)
			json_object_set_new(vocab, merged, json_integer((json_int_t) json_object_size(vocab)));
		json_array_append_new(list, json_pack("[s, s]", merges[i][0], merges[i][1]));
	}
	return json_pack("{s:s, s:n, s:b, s:o, s:o}", "type", "BPE", "unk_token", "ignore_merges", 0,
					 "vocab", vocab, "merges", list);
}

static int
added_id(size_t i)
{
	return i + 1 < LENGTH(added) ? (int) (FIRST_ADDED + i) : LETTER_ID;
}

static json_t *
build_tokenizer(void)
{
	json_t *steps = json_array();
	json_t *tokens = json_array();

	for (size_t i = 0; i < LENGTH(patterns); i++)
		json_array_append_new(steps,
							  json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern",
										"Regex", patterns[i], "behavior", "Isolated", "invert", 0));
	json_array_append_new(steps,
						  json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
									0, "trim_offsets", 1, "use_regex", 0));
	for (size_t i = 0; i < LENGTH(added); i++)
		json_array_append_new(
			tokens, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", added_id(i), "content",
							  added[i].content, "single_word", added[i].single_word, "lstrip",
							  added[i].lstrip, "rstrip", added[i].rstrip, "normalized",
							  added[i].normalized, "special", added[i].special));
	return json_pack("{s:s, s:n, s:n, s:o, s:{s:s, s:[]}, s:{s:s, s:o}, s:{s:s}, s:o}", "version",
					 "1.0", "truncation", "padding", "added_tokens", tokens, "normalizer", "type",
					 "Sequence", "normalizers", "pre_tokenizer", "type", "Sequence",
					 "pretokenizers", steps, "decoder", "type", "ByteLevel", "model",
					 build_model());
}

/* Write the JSON, which is given up, and open it. */
static DsocrTokenizer *
open_json(json_t *root, DsocrError *err)
{
	assert_non_null(root);
	assert_int_equal(json_dump_file(root, path, 0), 0);
	json_decref(root);
	return dsocr_tokenizer_open(path, err);
}

/* ---- tests ---- */

static void
check_encode(const DsocrTokenizer *t, const char *text, size_t len, const int32_t *expected,
			 size_t n)
{
	DsocrError err = {0};
	int32_t *ids;
	size_t found;

	if (!dsocr_tokenizer_encode(t, text, len, &ids, &found, &err))
		fail_msg("%s", err.message);
	if (found != n || memcmp(ids, expected, n * sizeof(*ids)) != 0)
		fail_msg("\"%s\": %zu ids, expected %zu, or others", text, found, n);
	dsocr_free(ids);
}

static void
test_encode(void **state)
{
	for (size_t i = 0; i < LENGTH(cases); i++)
		check_encode(tokenizer, cases[i].text, cases[i].len, cases[i].ids, cases[i].n);
}

static void
test_decode(void **state)
{
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		const Case *c = &cases[i];

		for (int skip = 0; skip < 2; skip++)
		{
			DsocrBuffer text = {0};
			bool expected = skip ? c->decodes_without_special : c->decodes;

			assert_true(dsocr_tokenizer_decode(tokenizer, c->ids, c->n, skip, &text, NULL));
			assert_int_equal(text.len == c->len && memcmp(text.data, c->text, c->len) == 0,
							 expected);
			dsocr_buffer_free(&text);
		}
	}
}

static void
test_decode_unknown(void **state)
{
	static const int32_t ids[] = {97, -1, 100000, 281, INT32_MIN, INT32_MAX, 98};
	DsocrBuffer text = {0};

	assert_true(dsocr_tokenizer_decode(tokenizer, ids, LENGTH(ids), false, &text, NULL));
	assert_string_equal(text.data, "ab");
	/* an added token that spells a byte is that byte, as in the library */
	text.len = 0;
	assert_true(dsocr_tokenizer_decode(tokenizer, (int32_t[]){LETTER_ID}, 1, false, &text, NULL));
	assert_string_equal(text.data, "\xe9");
	dsocr_buffer_free(&text);
}

static void
test_ids(void **state)
{
	assert_int_equal(dsocr_tokenizer_id(tokenizer, "<image>"), FIRST_ADDED);
	assert_int_equal(dsocr_tokenizer_id(tokenizer, "<td>"), FIRST_ADDED + 1);
	assert_int_equal(dsocr_tokenizer_id(tokenizer, "abc"), 258);
	assert_int_equal(dsocr_tokenizer_id(tokenizer, "<imag"), -1);
	assert_int_equal(dsocr_tokenizer_id(tokenizer, ""), -1);
	assert_int_equal(dsocr_tokenizer_size(tokenizer), FIRST_ADDED + LENGTH(added) - 1);
}

static void
test_invalid_utf8(void **state)
{
	check_encode(tokenizer,
				 "a\xff"
				 "b",
				 3, (int32_t[]){97, 0xef, 0xbf, 0xbd, 98}, 5);
	check_encode(tokenizer, "\xe4\xb8", 2, (int32_t[]){0xef, 0xbf, 0xbd}, 3);
	check_encode(tokenizer, "<image\xc3>", 8, (int32_t[]){279, 97, 103, 101, 0xef, 0xbf, 0xbd, 62},
				 8);
}

/* A million characters, of kinds that invite quadratic work or deep recursion. */
static void
test_long_texts(void **state)
{
	static const char *const units[] = {"a",
										"z",
										" ",
										"\n",
										"1",
										"<",
										" \n",
										"ab",
										"\xe4\xb8\xad",
										"<image>",
										"\xe2\x80\x8b",
										"<l> ",
										"x ",
										".a",
										"e\xcc\x81",
										" z"};
	size_t size = 1000000;
	char *text = malloc(size + 1);

	assert_non_null(text);
	for (size_t i = 0; i < LENGTH(units); i++)
	{
		size_t unit = strlen(units[i]);
		size_t len = size / unit * unit;
		DsocrError err = {0};
		DsocrBuffer back = {0};
		int32_t *ids;
		size_t n;
		clock_t start = clock();

		for (size_t at = 0; at < len; at += unit)
			memcpy(text + at, units[i], unit);
		if (!dsocr_tokenizer_encode(tokenizer, text, len, &ids, &n, &err))
			fail_msg("%s", err.message);
		assert_true(clock() - start < 20 * CLOCKS_PER_SEC);
		assert_true(n > 0 && n <= len);
		assert_true(dsocr_tokenizer_decode(tokenizer, ids, n, false, &back, &err));
		if (strchr(units[i], 'l') == NULL)
		{
			assert_int_equal(back.len, len);
			assert_memory_equal(back.data, text, len);
		}
		dsocr_buffer_free(&back);
		dsocr_free(ids);
	}
	free(text);
}

static void
test_ignore_merges(void **state)
{
	json_t *root = build_tokenizer();
	json_t *model = json_object_get(root, "model");
	DsocrError err = {0};
	DsocrTokenizer *t;

	/* a token that no merge makes */
	json_object_set_new(json_object_get(model, "vocab"), "hello", json_integer(900));
	json_object_set_new(model, "ignore_merges", json_true());
	t = open_json(root, &err);
	if (t == NULL)
		fail_msg("%s", err.message);
	check_encode(t, "hello", 5, (int32_t[]){900}, 1);
	check_encode(t, "hellos", 6, (int32_t[]){259, 'l', 'l', 'o', 's'}, 5);
	check_encode(t, "zzzz", 4, (int32_t[]){272}, 1);
	assert_int_equal(dsocr_tokenizer_size(t), 901);
	dsocr_tokenizer_close(t);
}

static void
test_merges_as_strings(void **state)
{
	json_t *root = build_tokenizer();
	json_t *model = json_object_get(root, "model");
	json_t *list = json_array();
	DsocrError err = {0};
	DsocrTokenizer *t;

	json_array_append_new(list, json_string("#version: 0.2"));
	for (size_t i = 0; i < LENGTH(merges); i++)
		json_array_append_new(list, json_sprintf("%s %s", merges[i][0], merges[i][1]));
	json_object_set_new(model, "merges", list);
	t = open_json(root, &err);
	if (t == NULL)
		fail_msg("%s", err.message);
	for (size_t i = 0; i < LENGTH(cases); i++)
		check_encode(t, cases[i].text, cases[i].len, cases[i].ids, cases[i].n);
	dsocr_tokenizer_close(t);
}

/* A byte without token vanishes. */
static void
test_missing_byte(void **state)
{
	json_t *root = build_tokenizer();
	DsocrError err = {0};
	DsocrTokenizer *t;

	json_object_del(json_object_get(json_object_get(root, "model"), "vocab"), "q");
	t = open_json(root, &err);
	if (t == NULL)
		fail_msg("%s", err.message);
	check_encode(t, "aqbqc", 5, (int32_t[]){258}, 1);
	check_encode(t, "q", 1, (int32_t[]){0}, 0);
	dsocr_tokenizer_close(t);
}

/* ---- refusals ---- */

/* Set a.b.c (a number is a place in a list) to value, or remove it. */
static void
change(json_t *root, const char *where, const char *value)
{
	char *copy = strdup(where);
	char *rest = copy;
	char *part;
	json_t *new = value != NULL ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;

	assert_non_null(copy);
	assert_true(value == NULL || new != NULL);
	while ((part = strsep(&rest, ".")) != NULL && rest != NULL)
		root = json_is_array(root) ? json_array_get(root, (size_t) atoi(part))
								   : json_object_get(root, part);
	assert_non_null(root);
	if (new == NULL)
		assert_int_equal(json_object_del(root, part), 0);
	else if (json_is_array(root))
		assert_int_equal(json_array_set_new(root, (size_t) atoi(part), new), 0);
	else
		assert_int_equal(json_object_set_new(root, part, new), 0);
	free(copy);
}

static const struct
{
	const char *where, *value, *words;
} refused[] = {
	{"truncation", "{\"max_length\":5}", "truncation"},
	{"padding", "{}", "padding"},
	{"normalizer", "{\"type\":\"NFC\"}", "normalizer"},
	{"normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}", "normalizer"},
	{"decoder", "{\"type\":\"WordPiece\"}", "ByteLevel"},
	{"decoder", NULL, "ByteLevel"},
	{"model", NULL, "BPE"},
	{"model.type", "\"WordPiece\"", "BPE"},
	{"model.type", "\"Unigram\"", "BPE"},
	{"model.dropout", "0.1", "dropout"},
	{"model.unk_token", "\"<unk>\"", "unk_token"},
	{"model.continuing_subword_prefix", "\"##\"", "continuing_subword_prefix"},
	{"model.end_of_word_suffix", "\"</w>\"", "end_of_word_suffix"},
	{"model.byte_fallback", "true", "byte_fallback"},
	{"model.vocab", "{}", "no vocabulary"},
	{"model.vocab", "[]", "no vocabulary"},
	{"model.vocab.abc", "-1", "valid id"},
	{"model.vocab.abc", "1.5", "valid id"},
	{"model.vocab.abc", "16777216", "valid id"},
	{"model.vocab.abc", "97", "two tokens with id 97"},
	{"model.vocab.abc", NULL, "outside the vocabulary"},
	{"model.merges", "7", "merges"},
	{"model.merges.3", "\"ab\"", "merge 3"},
	{"model.merges.3", "\"a b c\"", "merge 3"},
	{"model.merges.3", "[\"a\"]", "merge 3"},
	{"model.merges.3", "[\"a\",\"b\",\"c\"]", "merge 3"},
	{"model.merges.3", "[1,2]", "merge 3"},
	{"model.merges.3", "[\"q\",\"q\"]", "outside the vocabulary"},
	{"added_tokens", "{}", "added_tokens"},
	{"added_tokens.2", "7", "added token"},
	{"added_tokens.2.id", "-1", "added token"},
	{"added_tokens.2.id", "274", "two added tokens have id 274"},
	{"added_tokens.2.id", "97", "contradicts"},
	{"added_tokens.2.content", "\"\"", "empty"},
	{"added_tokens.2.content", "\"<td>\"", "same content"},
	{"added_tokens.2.content", "\"abc\"", "contradicts"},
	{"added_tokens.2.content", NULL, "no content"},
	{"pre_tokenizer", "null", "Sequence"},
	{"pre_tokenizer", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}",
	 "Sequence"},
	{"pre_tokenizer.pretokenizers", "[]", "ByteLevel"},
	{"pre_tokenizer.pretokenizers.0", "{\"type\":\"Whitespace\"}", "Splits"},
	{"pre_tokenizer.pretokenizers.3", "{\"type\":\"Whitespace\"}", "ByteLevel"},
	{"pre_tokenizer.pretokenizers.3.use_regex", "true", "ByteLevel"},
	{"pre_tokenizer.pretokenizers.3.use_regex", NULL, "ByteLevel"},
	{"pre_tokenizer.pretokenizers.3.add_prefix_space", "true", "ByteLevel"},
	{"pre_tokenizer.pretokenizers.0.behavior", "\"Removed\"", "Isolated"},
	{"pre_tokenizer.pretokenizers.0.invert", "true", "Isolated"},
	{"pre_tokenizer.pretokenizers.0.pattern", "{\"String\":\" \"}", "Regex"},
	{"pre_tokenizer.pretokenizers.0.pattern.Regex", "\"\"", "empty"},
	{"pre_tokenizer.pretokenizers.0.pattern.Regex", "\"a*\"", "empty"},
	{"pre_tokenizer.pretokenizers.0.pattern.Regex", "\"(\"", "wrong"},
};

static void
expect_refusal(json_t *root, const char *words)
{
	DsocrError err = {0};

	if (open_json(root, &err) != NULL)
		fail_msg("accepted, expected: %s", words);
	assert_int_equal(err.code, DSOCR_E_MODEL);
	if (strstr(err.message, words) == NULL || strstr(err.message, path) == NULL)
		fail_msg("\"%s\" does not say %s", err.message, words);
}

static void
test_refused(void **state)
{
	for (size_t i = 0; i < LENGTH(refused); i++)
	{
		json_t *root = build_tokenizer();

		change(root, refused[i].where, refused[i].value);
		expect_refusal(root, refused[i].words);
	}
}

static void
test_refused_files(void **state)
{
	static const char *const texts[] = {
		"", "{", "[]", "7", "{\"a\":1,\"a\":1}", "{\"a\":\"\xff\"}"};
	DsocrError err = {0};

	for (size_t i = 0; i < LENGTH(texts); i++)
	{
		FILE *f = fopen(path, "w");

		assert_non_null(f);
		fputs(texts[i], f);
		assert_int_equal(fclose(f), 0);
		err.code = DSOCR_OK;
		assert_null(dsocr_tokenizer_open(path, &err));
		assert_int_equal(err.code, DSOCR_E_MODEL);
	}
	assert_null(dsocr_tokenizer_open("/nonexistent/tokenizer.json", &err));
	assert_int_equal(err.code, DSOCR_E_MODEL);
	assert_null(dsocr_tokenizer_open("/tmp", NULL));
	dsocr_tokenizer_close(NULL);
}

/* ---- patterns ---- */

static void
test_translation(void **state)
{
	static const char *const kept[] = {
		"a|b",		   "[^a-z]+",	   "\\p{L}\\P{Nd}", "(?:ab)*?", "x{1,3}y{2}z{4,}", "\\[\\]",
		"(?=a)b(?!c)", "[\\-\\]\\\\]", "\\r\\n\\t",		"[&a]",		" ?#\xc3\xa9",
	};
	static const char *const refused_patterns[] = {
		"\\w",	 "\\b",		"\\h",	 "\\v",	  "\\R",		 "\\X",		"\\1",
		"\\x41", "\\K",		"\\G",	 "\\A",	  "[[:alpha:]]", "[a[b]]",	"[a&&b]",
		"[]a]",	 "[^]a]",	"[a",	 "a++",	  "a*+",		 "a{2}?",	"a{2}+",
		"a{,3}", "a{x}",	"a{",	 "}",	  "]",			 "^a",		"a$",
		"(?i)a", "(?<=a)b", "(?>a)", "(?#x)", "\\p{Han}",	 "\\p{^L}", "\\pL",
		"\\p{L", "[\\S]",	"a\\",	 "*a",	  "a|*",		 "(+a)",
	};
	DsocrBuffer out = {0};
	DsocrError err = {0};

	for (size_t i = 0; i < LENGTH(kept); i++)
	{
		out.len = 0;
		if (!dsocr_pretokenizer_translate(kept[i], &out, &err))
			fail_msg("%s: %s", kept[i], err.message);
		assert_string_equal(out.data, kept[i]);
	}
	for (size_t i = 0; i < LENGTH(refused_patterns); i++)
	{
		out.len = 0;
		err.code = DSOCR_OK;
		if (dsocr_pretokenizer_translate(refused_patterns[i], &out, &err))
			fail_msg("%s accepted", refused_patterns[i]);
		assert_int_equal(err.code, DSOCR_E_MODEL);
	}
	out.len = 0;
	assert_true(dsocr_pretokenizer_translate(".\\d\\s\\S[\\s]", &out, &err));
	assert_non_null(strstr(out.data, "[^\\n]\\p{Nd}[\\x{9}-\\x{d}"));
	assert_null(strstr(out.data, "180e"));
	dsocr_buffer_free(&out);
}

/* ---- prompts ---- */

#define BOS 1000
#define IMAGE 2000

static void
check_prompt(const char *prompt, bool strip, int image_tokens, size_t image_at,
			 const int32_t *expected, size_t n)
{
	DsocrError err = {0};
	int32_t *ids;
	size_t found, at;

	if (!dsocr_prompt_build(tokenizer, prompt, strip, image_tokens, IMAGE, BOS, &ids, &found, &at,
							&err))
		fail_msg("%s", err.message);
	assert_int_equal(found, n);
	assert_int_equal(at, image_at);
	assert_memory_equal(ids, expected, n * sizeof(*ids));
	dsocr_free(ids);
}

static void
test_prompts(void **state)
{
	check_prompt("<image>", true, 2, 1, (int32_t[]){BOS, IMAGE, IMAGE}, 3);
	check_prompt("<image>\nx. ", true, 1, 1, (int32_t[]){BOS, IMAGE, 10, 'x', '.'}, 5);
	check_prompt("<image>\nx. ", false, 1, 1, (int32_t[]){BOS, IMAGE, 10, 'x', '.', ' '}, 6);
	check_prompt(" \n<image> x\xc2\xa0", true, 1, 1, (int32_t[]){BOS, IMAGE, ' ', 'x'}, 4);
	check_prompt("x <image>y", true, 2, 3, (int32_t[]){BOS, 'x', ' ', IMAGE, IMAGE, 'y'}, 6);
	check_prompt("x<image>", true, 0, 2, (int32_t[]){BOS, 'x'}, 2);
	/* without a mark the text stands on both sides, between two it is lost */
	check_prompt("xy", true, 1, 3, (int32_t[]){BOS, 'x', 'y', IMAGE, 'x', 'y'}, 6);
	check_prompt("x<image>y<image>w", true, 1, 2, (int32_t[]){BOS, 'x', IMAGE, 'w'}, 4);
	check_prompt("x<image><image><image>", true, 1, 2, (int32_t[]){BOS, 'x', IMAGE}, 3);
	check_prompt("", true, 1, 1, (int32_t[]){BOS, IMAGE}, 2);
	/* the parts are encoded each on its own */
	check_prompt("a<image>b", true, 1, 2, (int32_t[]){BOS, 'a', IMAGE, 'b'}, 4);
}

static int
set_up(void **state)
{
	DsocrError err = {0};
	int fd = mkstemp(path);

	if (fd < 0)
		return -1;
	close(fd);
	tokenizer = open_json(build_tokenizer(), &err);
	if (tokenizer == NULL)
		fprintf(stderr, "%s\n", err.message);
	return tokenizer != NULL ? 0 : -1;
}

static int
tear_down(void **state)
{
	dsocr_tokenizer_close(tokenizer);
	return unlink(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_encode),		   cmocka_unit_test(test_decode),
		cmocka_unit_test(test_decode_unknown), cmocka_unit_test(test_ids),
		cmocka_unit_test(test_invalid_utf8),   cmocka_unit_test(test_long_texts),
		cmocka_unit_test(test_ignore_merges),  cmocka_unit_test(test_merges_as_strings),
		cmocka_unit_test(test_missing_byte),   cmocka_unit_test(test_refused),
		cmocka_unit_test(test_refused_files),  cmocka_unit_test(test_translation),
		cmocka_unit_test(test_prompts),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
