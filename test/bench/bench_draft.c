/*-------------------------------------------------------------------------
 *
 * bench_draft.c
 *		What drafts taken from a text's own past would save in writing it.
 *
 * bench_draft TOKENIZER <TEXTS: a JSON object {"name", "text"} a line.  A step
 * feeds the last id and a draft: what followed when the last `match` ids stood
 * in the text before, at most `most` ids.  Ids up to the first wrong one count,
 * and one more.  A step of n rows costs c(n), in steps of one row: for the
 * official model, whose speed on a CPU is that of reading weights, the weights
 * that n rows touch when each chooses its experts anew; at best, the rows of a
 * draft choose the same.  Prints a line for each name and rule, and the limit:
 * drafts that are always as long as what is right of them.
 *
 *-------------------------------------------------------------------------
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

#define MOST 8	  /* ids of a draft */
#define NAMES 32  /* different ones */
#define IDS 20000 /* of a text; the rest is left out */

typedef struct Rule
{
	int match;
	int most;
	bool knowing; /* drafts no id that is wrong */
} Rule;

static const Rule rules[] = {{2, 1, false}, {2, 3, false}, {3, 1, false}, {3, 3, false},
							 {4, 1, false}, {4, 3, false}, {4, 7, false}, {6, 3, false},
							 {6, 7, false}, {8, 7, false}, {2, 7, true}};

#define RULES (sizeof(rules) / sizeof(rules[0]))

typedef struct Sum
{
	double ids;
	double steps;
	double drafted;
	double accepted;
	double cost;
	double best_cost;
} Sum;

static char *names[NAMES];
static Sum sums[NAMES][RULES];

/* Millions of weights that a step of n rows reads; experts of all MoE layers together. */
static double
touched(double experts)
{
	return 345.6 + 37.85 * experts;
}

static double
cost(int rows)
{
	return touched(64 * (1 - pow(1 - 6 / 64.0, rows))) / touched(6);
}

/* At best all rows choose the same experts: a step costs what one row costs. */
static double
best_cost(int rows)
{
	return 1;
}

/* Where the last `match` ids before i stood last before, behind them; -1: nowhere. */
static int
find(const int32_t *ids, int i, int match)
{
	for (int j = i - 1; j >= match; j--)
		if (memcmp(ids + j - match, ids + i - match, (size_t) match * sizeof(*ids)) == 0)
			return j;
	return -1;
}

static void
write_text(const int32_t *ids, int n, const Rule *rule, Sum *s)
{
	for (int i = 0; i < n;)
	{
		int from = i >= rule->match ? find(ids, i, rule->match) : -1;
		int most = from < 0 ? 0 : i - from < rule->most ? i - from : rule->most;
		int right = 0;

		while (right < most && i + right < n && ids[from + right] == ids[i + right])
			right++;
		if (rule->knowing)
			most = right;
		s->steps++;
		s->drafted += most;
		s->accepted += right;
		s->cost += cost(most + 1);
		s->best_cost += best_cost(most + 1);
		i += right + 1;
	}
	s->ids += n;
}

static Sum *
sums_of(const char *name)
{
	int i = 0;

	while (i < NAMES - 1 && names[i] != NULL && strcmp(names[i], name) != 0)
		i++;
	if (names[i] == NULL)
		names[i] = strdup(name);
	return sums[i];
}

int
main(int argc, char **argv)
{
	DsocrError err = {0};
	DsocrTokenizer *t = argc == 2 ? dsocr_tokenizer_open(argv[1], &err) : NULL;
	char *line = NULL;
	size_t room = 0;

	if (t == NULL)
	{
		fprintf(stderr, "usage: bench_draft TOKENIZER <TEXTS\n%s\n", err.message);
		return 2;
	}
	while (getline(&line, &room, stdin) > 0)
	{
		json_t *o = json_loads(line, 0, NULL);
		const char *text = json_string_value(json_object_get(o, "text"));
		Sum *s = sums_of(json_string_value(json_object_get(o, "name")));
		int32_t *ids = NULL;
		size_t n = 0;

		if (text == NULL || !dsocr_tokenizer_encode(t, text, strlen(text), &ids, &n, &err))
			return 1;
		for (size_t r = 0; r < RULES; r++)
			write_text(ids, n < IDS ? (int) n : IDS, &rules[r], &s[r]);
		dsocr_free(ids);
		json_decref(o);
	}
	printf("name\tmatch\tmost\tids\tids a step\taccepted\tspeed\tat best\n");
	for (int i = 0; i < NAMES && names[i] != NULL; i++)
		for (size_t r = 0; r < RULES; r++)
		{
			const Sum *s = &sums[i][r];

			printf("%s\t%d\t%d%s\t%.0f\t%.2f\t%.0f %%\t%.2f\t%.2f\n", names[i], rules[r].match,
				   rules[r].most, rules[r].knowing ? " right" : "", s->ids, s->ids / s->steps,
				   s->drafted > 0 ? 100 * s->accepted / s->drafted : 0, s->ids / s->cost,
				   s->ids / s->best_cost);
		}
	free(line);
	dsocr_tokenizer_close(t);
	return 0;
}
