/*-------------------------------------------------------------------------
 *
 * lines.h
 *		Files of lines to choose from.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RENDER_LINES_H
#define RENDER_LINES_H

typedef struct Lines
{
	char *bytes;
	const char **line;
	int n;
} Lines;

/* Without empty lines; a file that cannot be read ends the program. */
extern Lines lines_read(const char *path);

/* By a number from 0 to most that each line has; lines of the same number stay in their order. */
extern void lines_sort(Lines *l, int (*key)(const char *), int most);

/* Index of the first line whose number is not less; n if there is none.  Of sorted lines. */
extern int lines_first(const Lines *l, int (*key)(const char *), int least);

#endif
