/*-------------------------------------------------------------------------
 *
 * bench_loop.c
 *		What the loop detector makes of texts, and how long it takes.
 *
 * bench_loop TOKENIZER <TEXTS: a JSON object {"name", "text"} a line.  Prints
 * name, ids, the id at which a loop was seen (-1: none) and the ids kept.
 *
 *-------------------------------------------------------------------------
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

static int64_t spent;
static int64_t pushed;

static void
look(const DsocrTokenizer *t, const DsocrTokenKind *kinds, const char *name, const char *text)
{
	DsocrError err = {0};
	DsocrLoop *l = dsocr_loop_new(kinds, dsocr_tokenizer_size(t), &err);
	int32_t *ids = NULL;
	size_t n = 0;
	size_t seen = 0;
	int keep = -1;
	int64_t start;

	if (l == NULL || !dsocr_tokenizer_encode(t, text, strlen(text), &ids, &n, &err))
	{
		fprintf(stderr, "%s\n", err.message);
		exit(1);
	}
	start = dsocr_now_us();
	while (keep < 0 && seen < n)
		keep = dsocr_loop_push(l, ids[seen++]);
	spent += dsocr_now_us() - start;
	pushed += (int64_t) seen;
	printf("%s\t%zu\t%d\t%d\n", name, n, keep < 0 ? -1 : (int) seen, keep);
	dsocr_free(ids);
	dsocr_loop_free(l);
}

int
main(int argc, char **argv)
{
	DsocrError err = {0};
	DsocrTokenizer *t = argc == 2 ? dsocr_tokenizer_open(argv[1], &err) : NULL;
	DsocrTokenKind *kinds = t ? dsocr_token_kinds(t, dsocr_tokenizer_size(t), &err) : NULL;
	char *line = NULL;
	size_t room = 0;

	if (kinds == NULL)
	{
		fprintf(stderr, "usage: bench_loop TOKENIZER <TEXTS\n%s\n", err.message);
		return 2;
	}
	while (getline(&line, &room, stdin) > 0)
	{
		json_t *o = json_loads(line, 0, NULL);
		const char *text = json_string_value(json_object_get(o, "text"));

		if (text != NULL)
			look(t, kinds, json_string_value(json_object_get(o, "name")), text);
		json_decref(o);
	}
	free(line);
	fprintf(stderr, "%.2f us an id\n", pushed > 0 ? (double) spent / (double) pushed : 0);
	dsocr_free(kinds);
	dsocr_tokenizer_close(t);
	return 0;
}
