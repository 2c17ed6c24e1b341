/*-------------------------------------------------------------------------
 *
 * lines.c
 *		Files of lines to choose from.
 *
 *-------------------------------------------------------------------------
 */
#include "lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Lines
lines_read(const char *path)
{
	Lines l = {0};
	FILE *f = fopen(path, "rb");
	long size;
	int cap = 0;

	if (!f || fseek(f, 0, SEEK_END) || (size = ftell(f)) < 0 || fseek(f, 0, SEEK_SET))
	{
		fprintf(stderr, "render: cannot read %s\n", path);
		exit(1);
	}
	l.bytes = malloc((size_t) size + 1);
	if (!l.bytes || fread(l.bytes, 1, (size_t) size, f) != (size_t) size)
		abort();
	l.bytes[size] = 0;
	fclose(f);
	for (char *at = l.bytes; *at;)
	{
		char *end = strchr(at, '\n');

		if (l.n == cap)
		{
			cap = cap ? cap * 2 : 1024;
			l.line = realloc(l.line, sizeof(char *) * (size_t) cap);
			if (!l.line)
				abort();
		}
		if (end)
			*end = 0;
		if (*at)
			l.line[l.n++] = at;
		if (!end)
			break;
		at = end + 1;
	}
	return l;
}

/* Counts first, so that it takes two looks at each line. */
void
lines_sort(Lines *l, int (*key)(const char *), int most)
{
	const char **sorted = malloc(sizeof(char *) * (size_t) (l->n + 1));
	int *at = calloc((size_t) most + 2, sizeof(int));

	if (!sorted || !at)
		abort();
	for (int i = 0; i < l->n; i++)
		at[key(l->line[i]) + 1]++;
	for (int i = 0; i < most; i++)
		at[i + 1] += at[i];
	for (int i = 0; i < l->n; i++)
		sorted[at[key(l->line[i])]++] = l->line[i];
	free(at);
	free(l->line);
	l->line = sorted;
}

int
lines_first(const Lines *l, int (*key)(const char *), int least)
{
	int from = 0;
	int to = l->n;

	while (from < to)
	{
		int middle = (from + to) / 2;

		if (key(l->line[middle]) < least)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}
