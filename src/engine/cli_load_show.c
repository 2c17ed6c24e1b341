/*-------------------------------------------------------------------------
 *
 * cli_load_show.c
 *		What is seen of a load: a bar on a terminal, lines elsewhere.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_load.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "utf8.h"

#define BAR_WIDTH 24
#define NARROW 110 /* columns, below which the bar is shorter */
#define REDRAW_US 200000

void
dsocr_load_show_init(DsocrLoadShow *s, int seconds)
{
	const char *term = getenv("TERM");

	*s = (DsocrLoadShow){.line_us = (int64_t) seconds * 1000000, .shown_us = dsocr_now_us()};
	s->terminal = isatty(STDERR_FILENO) && (term == NULL || strcmp(term, "dumb") != 0);
	if (s->terminal)
		s->shown_us = 0;
}

static void
clear_line(DsocrLoadShow *s)
{
	if (s->line_open)
		fputs("\r\033[K", stderr);
	s->line_open = false;
}

static int
terminal_width(void)
{
	struct winsize w;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) != 0 || w.ws_col == 0)
		return 80;
	return w.ws_col;
}

void
dsocr_load_show(DsocrLoadShow *s, const char *what, double part, const char *text)
{
	int64_t now = dsocr_now_us();
	int width = terminal_width();
	int cells = width < NARROW ? BAR_WIDTH / 2 : BAR_WIDTH;
	char bar[BAR_WIDTH + 1];
	char line[256];

	if (now - s->shown_us < (s->terminal ? REDRAW_US : s->line_us))
		return;
	s->shown_us = now;
	part = part < 0 ? 0 : part > 1 ? 1 : part;
	if (!s->terminal)
	{
		fprintf(stderr, "dsocr-engine: %s %.0f %%: %s\n", what, part * 100, text);
		return;
	}
	memset(bar, '.', (size_t) cells);
	memset(bar, '#', (size_t) (part * cells));
	bar[cells] = '\0';
	snprintf(line, sizeof(line), "%s [%s] %3.0f %%  %s", what, bar, part * 100, text);
	clear_line(s);
	fprintf(stderr, "%.*s", width - 1, line);
	fflush(stderr);
	s->line_open = true;
}

void
dsocr_load_say(DsocrLoadShow *s, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	/* names of files are whatever somebody called them */
	for (size_t at = 0, n; line[at] != '\0'; at += n)
	{
		int32_t code;

		n = dsocr_utf8_next(line + at, strlen(line + at), &code);
		if (code < ' ' || (code >= 0x7f && code < 0xa0))
			memset(line + at, '?', n);
	}
	clear_line(s);
	fprintf(stderr, "dsocr-engine: %s\n", line);
}

void
dsocr_load_show_end(DsocrLoadShow *s)
{
	clear_line(s);
	fflush(stderr);
}

void
dsocr_load_time(char *text, size_t size, double seconds)
{
	long long minutes = (long long) (seconds / 60 + 0.5);

	if (!(seconds >= 0) || seconds > 1e9)
		snprintf(text, size, "?");
	else if (seconds < 99.5)
		snprintf(text, size, "%.0f s", seconds);
	else if (minutes < 100)
		snprintf(text, size, "%lld min", minutes);
	else
		snprintf(text, size, "%lld h %02lld min", minutes / 60, minutes % 60);
}
