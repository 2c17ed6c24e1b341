/*-------------------------------------------------------------------------
 *
 * test_output.c
 *		References, boxes and markdown of ordinary and of hostile text.
 *
 * The reference data (dsocr-engine check) covers what the official code
 * does; here is what it does not: limits, NUL, time, odd box lists.
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

#include <cmocka.h>

#include "output.h"

static DsocrResult
parse(const char *text, size_t len, int width, int height)
{
	DsocrResult r = {0};
	DsocrError err = {0};

	/* a copy of the exact size, so that sanitizers see a step too far */
	char *copy = malloc(len + (len == 0));

	memcpy(copy, text, len);
	assert_true(dsocr_output_parse(copy, len, width, height, &r, &err));
	free(copy);
	return r;
}

/* Boxes of one block with this box list, in an image of 999 x 999 pixels. */
static void
expect_boxes(const char *det, int n, const int32_t boxes[][4])
{
	char text[1024];
	DsocrResult r;

	snprintf(text, sizeof(text), "<|ref|>text<|/ref|><|det|>%s<|/det|>", det);
	r = parse(text, strlen(text), 999, 999);
	assert_int_equal(r.n_blocks, 1);
	if (r.blocks[0].n_boxes != n)
		fail_msg("%d boxes in \"%s\"", r.blocks[0].n_boxes, det);
	for (int i = 0; i < n; i++)
		assert_memory_equal(r.blocks[0].boxes[i], boxes[i], sizeof(boxes[i]));
	dsocr_result_free(&r);
}

static void
test_box_lists(void **state)
{
	static const int32_t one[][4] = {{1, 2, 3, 4}};
	static const int32_t two[][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
	static const int32_t signs[][4] = {{-1, 0, 0, 1000}};

	expect_boxes("[[1, 2, 3, 4]]", 1, one);
	expect_boxes("[[1,2,3,4],[5,6,7,8]]", 2, two);
	expect_boxes(" [ [ 1 , 2 ,\t3 ,\n4 , ] , [5,6,7,8] , ] ", 2, two);
	expect_boxes("[[-1,-0,0,1000]]", 1, signs);
	/* the first element that is no box ends the list */
	expect_boxes("[[1,2,3,4],[5,6,7]]", 1, one);
	expect_boxes("[[1,2,3,4],[5,6,7,8,9]]", 1, one);
	expect_boxes("[[1,2,3,4],5]", 1, one);
	expect_boxes("[[1,2,3,4],[[5,6,7,8]]]", 1, one);
	expect_boxes("[[1,2,3,4],[5,6,7,[8]]]", 1, one);
	expect_boxes("[[1,2,3,4],[]]", 1, one);
	expect_boxes("[5,[1,2,3,4]]", 0, NULL);
	/* no list of boxes at all */
	expect_boxes("", 0, NULL);
	expect_boxes("[]", 0, NULL);
	expect_boxes("[[]]", 0, NULL);
	expect_boxes("[,]", 0, NULL);
	expect_boxes("[[,]]", 0, NULL);
	expect_boxes("[1,2,3,4]", 0, NULL);
	expect_boxes("5", 0, NULL);
	expect_boxes("[[1,2,3,4]", 0, NULL);
	expect_boxes("[1,2,3,4]]", 0, NULL);
	expect_boxes("[[1,2,3,4]]]", 0, NULL);
	expect_boxes("[[1,2,3,4]] [[1,2,3,4]]", 0, NULL);
	expect_boxes("[[1,2,3,4]][0]", 0, NULL);
	expect_boxes("[1,2,3,4],[5,6,7,8]", 0, NULL);
	expect_boxes("[[1,2,3,4] [5,6,7,8]]", 0, NULL);
	expect_boxes("[[1,2,3,4],,[5,6,7,8]]", 0, NULL);
	expect_boxes("[[1 2,3,4]]", 0, NULL);
	expect_boxes("[[- 1,2,3,4]]", 0, NULL);
	expect_boxes("[[--1,2,3,4]]", 0, NULL);
	expect_boxes("[[01,2,3,4]]", 0, NULL);
	expect_boxes("[[1.0,2,3,4]]", 0, NULL);
	expect_boxes("[[1e2,2,3,4]]", 0, NULL);
	expect_boxes("((1,2,3,4),)", 0, NULL);
	expect_boxes("__import__('os').system('id')", 0, NULL);
}

static void
test_pixels(void **state)
{
	const char *text = "<|ref|>a<|/ref|><|det|>[[-500, 998, 999, 99999999999999999999]]<|/det|>";
	DsocrResult r = parse(text, strlen(text), 333, 777);

	/* toward zero, not clamped; nonsense stays finite */
	assert_int_equal(r.blocks[0].boxes[0][0], -166);
	assert_int_equal(r.blocks[0].boxes[0][1], 776);
	assert_int_equal(r.blocks[0].boxes[0][2], 333);
	assert_true(r.blocks[0].boxes[0][3] > 100000000);
	dsocr_result_free(&r);
	r = parse(text, strlen(text), INT32_MAX, INT32_MAX);
	assert_true(r.blocks[0].boxes[0][3] > 100000000);
	dsocr_result_free(&r);
}

static void
test_markdown(void **state)
{
	const char *text = "a<|ref|>image<|/ref|><|det|>[[1,1,2,2]]<|/det|>b"
					   "<|ref|>text<|/ref|><|det|>[[1,1,2,2]]<|/det|>\\coloneqq "
					   "<|ref|>image<|/ref|><|det|>[[1,1,2,2]]<|/det|>\\eqqcolon \\colon";
	DsocrResult r = parse(text, strlen(text), 10, 10);

	assert_string_equal(r.raw, text);
	assert_string_equal(r.markdown, "a![](images/0.jpg)\nb:= ![](images/1.jpg)\n=: \\colon");
	assert_string_equal(r.prefix, "a");
	assert_int_equal(r.n_blocks, 3);
	assert_string_equal(r.blocks[0].label, "image");
	assert_string_equal(r.blocks[0].content, "b");
	assert_string_equal(r.blocks[1].content, "\\coloneqq");
	assert_string_equal(r.blocks[2].content, "\\eqqcolon \\colon");
	dsocr_result_free(&r);
}

static void
test_no_reference(void **state)
{
	static const char *const texts[] = {
		"",
		"x",
		"<|ref|>",
		"<|ref|>a<|/ref|>",
		"<|ref|>a<|/ref|><|det|>[[1,2,3,4]]",
		"<|/ref|><|det|>[[1,2,3,4]]<|/det|>",
		"<|ref|>a<|/ref|> <|det|>[[1,2,3,4]]<|/det|>",
		"<|ref|>a<|ref|>b<|det|>[[1,2,3,4]]<|/det|>",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		DsocrResult r = parse(texts[i], strlen(texts[i]), 10, 10);

		assert_int_equal(r.n_blocks, 0);
		assert_string_equal(r.raw, texts[i]);
		assert_string_equal(r.markdown, texts[i]);
		assert_string_equal(r.prefix, texts[i]);
		dsocr_result_free(&r);
	}
}

static void
test_nul(void **state)
{
	const char text[] = "\0a<|ref|>b\0<|/ref|><|det|>[[1,2,\0003,4]]<|/det|>c\0";
	DsocrResult r = parse(text, sizeof(text) - 1, 999, 999);

	assert_string_equal(r.markdown, "\xef\xbf\xbd"
									"ac\xef\xbf\xbd");
	assert_int_equal(r.n_blocks, 1);
	assert_string_equal(r.blocks[0].label, "b\xef\xbf\xbd");
	assert_string_equal(r.blocks[0].content, "c\xef\xbf\xbd");
	assert_int_equal(r.blocks[0].n_boxes, 0);
	dsocr_result_free(&r);
}

static void
test_strip(void **state)
{
	size_t from;
	size_t to;

	dsocr_output_strip(" a <eos>", 8, "<eos>", &from, &to);
	assert_true(from == 1 && to == 2);
	/* only one, and only at the very end */
	dsocr_output_strip("a<eos><eos>", 11, "<eos>", &from, &to);
	assert_true(from == 0 && to == 6);
	dsocr_output_strip("a<eos> ", 7, "<eos>", &from, &to);
	assert_true(from == 0 && to == 6);
	dsocr_output_strip("a<eos>", 6, NULL, &from, &to);
	assert_true(from == 0 && to == 6);
	dsocr_output_strip("<eos>", 5, "<eos>", &from, &to);
	assert_true(from == to);
	/* the blanks of Unicode */
	dsocr_output_strip("\xc2\xa0\xe3\x80\x80x\x1c\xe2\x80\x89", 10, NULL, &from, &to);
	assert_true(from == 5 && to == 6);
}

/* piece repeated to about bytes, parsed in time that grows with the length alone */
static void
expect_linear(const char *piece, const char *tail)
{
	const size_t bytes = (size_t) 8 << 20;
	size_t n = strlen(piece);
	size_t count = bytes / n;
	char *text = malloc(count * n + strlen(tail) + 1);
	int64_t start;
	DsocrResult r;

	for (size_t i = 0; i < count; i++)
		memcpy(text + i * n, piece, n);
	strcpy(text + count * n, tail);
	start = dsocr_now_us();
	r = parse(text, strlen(text), 1000, 1000);
	/* a quadratic scan of 8 MiB takes hours */
	assert_true(dsocr_now_us() - start < 20 * 1000000);
	assert_true(strlen(r.markdown) <= strlen(text));
	dsocr_result_free(&r);
	free(text);
}

static void
test_long_texts(void **state)
{
	expect_linear("<|ref|>", "");
	expect_linear("<|/ref|><|det|>", "");
	expect_linear("<|ref|><|/ref|>", "<|det|>");
	expect_linear("<|ref|>image<|/ref|><|det|>", "");
	expect_linear("<|ref|>image<|/ref|><|det|>", "<|/det|>");
	expect_linear("<|ref|>image<|/ref|><|det|><|/det|>", "");
	expect_linear("<|ref|>text<|/ref|><|det|>[[1,2,3,4]]<|/det|>", "");
	expect_linear("<|ref|>x<|/ref|><|det|>[[[[[[[[[[[[[[[[[[[[[[[[[[", "<|/det|>");
	expect_linear("[", "");
	expect_linear("\\coloneqq", "");
	expect_linear("\\", "");
	expect_linear("<|", "");
	expect_linear(" ", "");
}

/* One block with a box list of 8 MiB of brackets: no recursion. */
static void
test_deep_brackets(void **state)
{
	const size_t depth = (size_t) 8 << 20;
	char *text = malloc(depth + 64);
	size_t n = (size_t) sprintf(text, "<|ref|>x<|/ref|><|det|>[[1,2,3,4],");
	DsocrResult r;

	memset(text + n, '[', depth / 2);
	memset(text + n + depth / 2, ']', depth / 2 + 1);
	strcpy(text + n + depth + 1, "<|/det|>");
	r = parse(text, strlen(text), 999, 999);
	assert_int_equal(r.n_blocks, 1);
	assert_int_equal(r.blocks[0].n_boxes, 1);
	dsocr_result_free(&r);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_box_lists),  cmocka_unit_test(test_pixels),
		cmocka_unit_test(test_markdown),   cmocka_unit_test(test_no_reference),
		cmocka_unit_test(test_nul),		   cmocka_unit_test(test_strip),
		cmocka_unit_test(test_long_texts), cmocka_unit_test(test_deep_brackets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
