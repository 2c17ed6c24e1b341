/*-------------------------------------------------------------------------
 *
 * test_figures.c
 *		Formulas and drawings that the model writes down.
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "geometry.h"
#include "smiles.h"

/* ---- SMILES ---- */

/* A copy of the exact size, so that sanitizers see a step too far. */
static DsocrSmiles
check(const char *text, size_t *at, const char **why)
{
	size_t n = strlen(text);
	char *copy = malloc(n + (n == 0));
	DsocrSmiles s;

	memcpy(copy, text, n);
	s = dsocr_smiles_check(copy, n, at, why);
	free(copy);
	return s;
}

static void
test_well_formed(void **state)
{
	static const char *const good[] = {"C",
									   "CCO",
									   " CCO\n",
									   "c1ccccc1",
									   "CC(=O)Oc1ccccc1C(=O)O",
									   "C1CCCCC1",
									   "O=C=O",
									   "C#N",
									   "[NH4+].[Cl-]",
									   "[13CH4]",
									   "[C@@H](N)(C)C(=O)O",
									   "N[C@@H](C)C(=O)O",
									   "F/C=C/F",
									   "F/C=C\\F",
									   "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
									   "c1ccc2c(c1)cccc2",
									   "C%12CCCC%12",
									   "[O-][N+](=O)c1ccccc1",
									   "C1=CC=CC=C1",
									   "OC[C@H]1OC(O)[C@H](O)[C@@H](O)[C@@H]1O",
									   "[Fe+2]",
									   "[Fe++]",
									   "[Na+].[Cl-]",
									   "BrCCBr",
									   "ClC(Cl)Cl",
									   "c1cc[nH]c1",
									   "[se]1cccc1",
									   "C(C)(C)(C)C",
									   "C1CC2CCC1CC2",
									   "[CH3:1][OH:2]",
									   "[*]C",
									   "S(=O)(=O)(O)O",
									   "C=1CCCCC=1",
									   "C1CC1.C1CC1",
									   "CC.O",
									   "[U@OH30](F)(F)(F)(F)(F)F",
									   "C(=O)([O-])C"};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		size_t at = 0;
		const char *why = "";

		if (check(good[i], &at, &why) != DSOCR_SMILES_VALID)
			fail_msg("\"%s\" at %zu: %s", good[i], at, why);
	}
}

static void
test_broken(void **state)
{
	static const struct
	{
		const char *text;
		size_t at;
	} bad[] = {
		{"C(", 2},			{"CC)", 2},		{"C()C", 1},		{"C((C))C", 1}, {"C1CCCC", 1},
		{"CC=", 3},			{"C==C", 2},	{"CC.", 3},			{"C..C", 2},	{"C(=)C", 3},
		{"[CH4", 4},		{"[Xx]C", 1},	{"[]C", 1},			{"C]C", 1},		{"C%1C", 1},
		{"C11", 3},			{"CC1C1", 5},	{"C=1CCC#1", 8},	{"cC", 0},		{"CCc", 2},
		{"C(C", 3},			{"[CH3:]C", 6}, {"Cc1ccccc1(", 10}, {"CC(=O", 5},	{"c1ccccc1c", 8},
		{"[NH4+.[Cl-]", 5}, {"C/", 2},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		size_t at = 999;
		const char *why = NULL;

		if (check(bad[i].text, &at, &why) != DSOCR_SMILES_BROKEN)
			fail_msg("\"%s\" is not broken", bad[i].text);
		assert_non_null(why);
		if (at > bad[i].at + 1 || at + 1 < bad[i].at)
			fail_msg("\"%s\" breaks at %zu: %s", bad[i].text, at, why);
		assert_int_equal(check(bad[i].text, NULL, NULL), DSOCR_SMILES_BROKEN);
	}
}

static void
test_no_smiles(void **state)
{
	static const char *const texts[] = {
		"",	   " ",	 "Cocoa", "A chart of sales", "1234", "<table><tr><td>1</td></tr></table>",
		"(C)", "=C", "x",	  "\xc3\xa9",		  "C C",  "{'Line': {}}",
		"-C",  "#C", "$x^2$"};
	char *longest = malloc(5000);

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (check(texts[i], NULL, NULL) != DSOCR_SMILES_NONE)
			fail_msg("\"%s\"", texts[i]);
	memset(longest, 'C', 5000);
	assert_int_equal(dsocr_smiles_check(longest, 5000, NULL, NULL), DSOCR_SMILES_NONE);
	assert_int_equal(dsocr_smiles_check(longest, 4095, NULL, NULL), DSOCR_SMILES_VALID);
	memset(longest, '(', 4095);
	longest[0] = 'C';
	assert_int_equal(dsocr_smiles_check(longest, 4095, NULL, NULL), DSOCR_SMILES_BROKEN);
	free(longest);
}

/* Every bracket or ring number that gets lost makes it broken. */
static void
test_lost_characters(void **state)
{
	static const char whole[] = "CC(=O)Oc1ccccc1C(=O)O[C@@H](N)[NH3+]";

	for (size_t i = 0; i < sizeof(whole) - 1; i++)
	{
		char text[sizeof(whole)];

		memcpy(text, whole, i);
		strcpy(text + i, whole + i + 1);
		if (strchr("()[]1", whole[i]) != NULL)
			assert_int_equal(check(text, NULL, NULL), DSOCR_SMILES_BROKEN);
	}
}

/* ---- geometry ---- */

static bool
parse(const char *text, DsocrGeometry *g)
{
	size_t n = strlen(text);
	char *copy = malloc(n + (n == 0));
	DsocrError err = {0};
	bool ok;

	memcpy(copy, text, n);
	ok = dsocr_geometry_parse(copy, n, g, &err);
	free(copy);
	if (!ok)
		assert_int_equal(err.code, DSOCR_E_ARGUMENT);
	return ok;
}

static void
test_drawing(void **state)
{
	DsocrGeometry g;

	assert_true(parse("{'Line': {'line': ['(0,0) -- (1,1)', '(-1.5, 2e1) -- (3, -.25)'], "
					  "'line_type': ['-', '--'], 'line_endpoint': ['A: (0,0)', \"B': (1, 1)\", "
					  "'(2,3)', 'junk']}, 'Circle': {'circle_center': ['O: (0.5,0)', 'P: (1,1)'], "
					  "'radius': [5, '2.5'], 'more': {'x': [1, [2]]}}}",
					  &g));
	assert_int_equal(g.n_lines, 2);
	assert_true(g.lines[0].from[0] == 0 && g.lines[0].to[1] == 1 && !g.lines[0].dashed);
	assert_true(g.lines[1].from[0] == -1.5 && g.lines[1].from[1] == 20);
	assert_true(g.lines[1].to[1] == -0.25 && g.lines[1].dashed);
	assert_int_equal(g.n_points, 3);
	assert_string_equal(g.points[0].label, "A");
	assert_string_equal(g.points[1].label, "B'");
	assert_string_equal(g.points[2].label, "");
	assert_true(g.points[2].at[0] == 2 && g.points[2].at[1] == 3);
	assert_int_equal(g.n_circles, 2);
	assert_string_equal(g.circles[0].label, "O");
	assert_true(g.circles[0].radius == 5 && g.circles[1].radius == 2.5);
	dsocr_geometry_free(&g);
	assert_null(g.lines);
}

/* Wrong entries are left out, and what belongs to them by its place. */
static void
test_wrong_entries(void **state)
{
	DsocrGeometry g;

	assert_true(parse("{'Line': {'line': ['(0,0) - (1,1)', '(1,1) -- (2,2)', 7], 'line_type': "
					  "['-', '--', '-']}, 'Circle': {'circle_center': ['bad', 'O: (1,2)', 'P: "
					  "(3,4)', 'Q: (5,6)'], 'radius': [1, 2, -3]}}",
					  &g));
	assert_int_equal(g.n_lines, 1);
	assert_true(g.lines[0].from[0] == 1 && g.lines[0].dashed);
	assert_int_equal(g.n_points, 0);
	assert_int_equal(g.n_circles, 1);
	assert_string_equal(g.circles[0].label, "O");
	assert_true(g.circles[0].radius == 2);
	dsocr_geometry_free(&g);
}

static void
test_no_drawing(void **state)
{
	static const char *const texts[] = {"",
										"{}",
										"{",
										"x",
										"[1]",
										"{'Line'}",
										"{'Line': }",
										"{'Line': {'line': ['(0,0) -- (1,1)']}",
										"{'Line': {'line': ['(0,0) -- (1,1)']}} and more",
										"{'Line': {'line': []}}",
										"{'Line': {'line': __import__('os').system('id')}}",
										"{'Line': 'line'}",
										"{'Circle': {'radius': [1]}}",
										"{'a': {'line_endpoint': ['A: (0,0)']}}",
										"{'Line': {'line': ['(0,0) -- (1,1)'}}",
										"{'Line': {'line_endpoint': ['A: (0,0)\\']}}"};
	char *deep = malloc(100001);
	DsocrGeometry g;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (parse(texts[i], &g))
			fail_msg("%s", texts[i]);
	memset(deep, '[', 100000);
	memcpy(deep, "{'a':", 5);
	deep[100000] = '\0';
	assert_false(parse(deep, &g));
	free(deep);
}

static void
test_numbers_and_labels(void **state)
{
	DsocrGeometry g;
	char text[300];

	/* too large for a double; a label longer than its field is cut in front of a character */
	assert_true(
		parse("{'Line': {'line_endpoint': ['A: (1e999, 0)', 'B: (1e-400, 0)', 'C: (.5,1.)', "
			  "'D: (1 2)', 'E: (nan, 0)', 'F: (0x1, 0)']}}",
			  &g));
	assert_int_equal(g.n_points, 2);
	assert_true(g.points[0].at[0] == 0 && g.points[1].at[0] == 0.5 && g.points[1].at[1] == 1);
	dsocr_geometry_free(&g);
	snprintf(text, sizeof(text), "{'Line': {'line_endpoint': ['%s: (1,2)']}}",
			 "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
			 "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9");
	assert_true(parse(text, &g));
	assert_int_equal(strlen(g.points[0].label), 30);
	dsocr_geometry_free(&g);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_well_formed), cmocka_unit_test(test_broken),
		cmocka_unit_test(test_no_smiles),	cmocka_unit_test(test_lost_characters),
		cmocka_unit_test(test_drawing),		cmocka_unit_test(test_wrong_entries),
		cmocka_unit_test(test_no_drawing),	cmocka_unit_test(test_numbers_and_labels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
