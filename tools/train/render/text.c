/*-------------------------------------------------------------------------
 *
 * text.c
 *		What is written on the pages.
 *
 *-------------------------------------------------------------------------
 */
#include "text.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "lines.h"
#include "molecules.h"

#define MAX_LANGUAGES 64
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"
#define MARKS "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

typedef struct Split
{
	Lines prose;
	Lines molecules; /* none until molecules.py has run */
	Lines words[MAX_LANGUAGES];
	int n_words;
} Split;

struct Texts
{
	Split train, held;
};

/* ---- files ---- */

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Of a molecule's line, where they are between the first tab and the second with blanks between them */
static int
atoms_of(const char *line)
{
	const char *c = strchr(line, '\t');
	int n = 1;

	while (c && *++c && *c != '\t')
		n += *c == ' ';
	return n < MAX_ATOMS ? n : MAX_ATOMS;
}

static void
open_split(Split *s, const char *dir, const char *name)
{
	char path[4096];
	char *files[MAX_LANGUAGES];
	struct dirent *e;
	DIR *d;
	int n = 0;

	snprintf(path, sizeof(path), "%s/%s/prose.txt", dir, name);
	s->prose = lines_read(path);
	snprintf(path, sizeof(path), "%s/%s/molecules.txt", dir, name);
	if (access(path, F_OK) == 0)
	{
		s->molecules = lines_read(path);
		lines_sort(&s->molecules, atoms_of, MAX_ATOMS);
	}
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	d = opendir(path);
	while (d && (e = readdir(d)))
		if (strncmp(e->d_name, "words.", 6) == 0 && n < MAX_LANGUAGES)
			files[n++] = strdup(e->d_name);
	if (d)
		closedir(d);
	if (n == 0 || s->prose.n == 0)
	{
		fprintf(stderr, "render: no texts in %s\n", path);
		exit(1);
	}
	qsort(files, (size_t) n, sizeof(char *), by_name);
	for (int i = 0; i < n; i++)
	{
		snprintf(path, sizeof(path), "%s/%s/%s", dir, name, files[i]);
		s->words[s->n_words++] = lines_read(path);
		free(files[i]);
	}
}

Texts *
texts_open(const char *dir)
{
	Texts *t = calloc(1, sizeof(Texts));

	if (!t)
		abort();
	open_split(&t->train, dir, "train");
	open_split(&t->held, dir, "held");
	return t;
}

/* ---- words ---- */

static const Split *
split_of(const Page *p)
{
	return p->request->held_text ? &p->texts->held : &p->texts->train;
}

/* Takes one word from UTF-8 text that our own tools wrote; returns its end. */
static const char *
take_word(const char *s, Word *w)
{
	w->n = 0;
	while (*s == ' ')
		s++;
	while (*s && *s != ' ')
	{
		unsigned char b = (unsigned char) *s++;
		uint32_t c = b;
		int more = b >= 0xf0 ? 3 : b >= 0xe0 ? 2 : b >= 0xc0 ? 1 : 0;

		if (more)
			c = b & (0x3fu >> more);
		for (; more && (*s & 0xc0) == 0x80; more--)
			c = c << 6 | ((unsigned char) *s++ & 0x3f);
		if (w->n < WORD_MAX)
			w->c[w->n++] = c;
	}
	return s;
}

static Word
format(const char *fmt, ...)
{
	char s[64];
	va_list args;

	va_start(args, fmt);
	vsnprintf(s, sizeof(s), fmt, args);
	va_end(args);
	return word_of(s);
}

static Word
from_set(Rng *r, const char *set, int lo, int hi)
{
	Word w = {0};
	int n = rng_int(r, lo, hi);
	int size = (int) strlen(set);

	while (w.n < n)
		w.c[w.n++] = (unsigned char) rng_letter(r, set, size);
	return w;
}

static Word
join(Word a, const char *between, Word b)
{
	Word m = word_of(between);

	for (int i = 0; i < m.n && a.n < WORD_MAX; i++)
		a.c[a.n++] = m.c[i];
	for (int i = 0; i < b.n && a.n < WORD_MAX; i++)
		a.c[a.n++] = b.c[i];
	return a;
}

static uint32_t
to_upper(uint32_t c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 0xe0 && c <= 0xfe && c != 0xf7) ||
		(c >= 0x3b1 && c <= 0x3c9 && c != 0x3c2) || (c >= 0x430 && c <= 0x44f))
		return c - 32;
	if (c >= 0x450 && c <= 0x45f)
		return c - 80;
	if ((c >= 0x100 && c <= 0x137 && c != 0x131) || (c >= 0x14a && c <= 0x177))
		return c & ~1u;
	if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17e))
		return c - !(c & 1);
	return c;
}

static void
raise_word(Word *w, bool all)
{
	for (int i = 0; i < (all ? w->n : w->n ? 1 : 0); i++)
		w->c[i] = to_upper(w->c[i]);
}

static Word
dictionary(Page *p, int language)
{
	const Split *s = split_of(p);
	const Lines *l = &s->words[language < 0 ? rng_int(p->rng, 0, s->n_words - 1) : language];
	Word w;

	take_word(l->line[rng_int(p->rng, 0, l->n - 1)], &w);
	return w;
}

Word
text_number(Page *p)
{
	Rng *r = p->rng;
	int d = rng_int(r, 0, 999999);

	switch (rng_int(r, 0, 7))
	{
		case 0:
			return format("%d", d % 10);
		case 1:
			return format("%d", d % 100);
		case 2:
			return format("%d,%03d", rng_int(r, 1, 999), d % 1000);
		case 3:
			return format("%d.%02d", d % 1000, rng_int(r, 0, 99));
		case 4:
			return format("%d,%02d", d % 1000, rng_int(r, 0, 99));
		case 5:
			return format("%d%%", d % 101);
		case 6:
			return format("-%d.%d", d % 100, rng_int(r, 0, 9));
		default:
			return format("%d", d);
	}
}

static Word
address(Page *p)
{
	static const char *const ends[] = {".com", ".org", ".de", ".net", ".fr", ".eu", ".io"};
	Rng *r = p->rng;
	Word host = join(dictionary(p, 0), "", word_of(ends[rng_int(r, 0, 6)]));

	switch (rng_int(r, 0, 3))
	{
		case 0:
			return join(join(dictionary(p, 0), rng_chance(r, .5f) ? "." : "_", dictionary(p, 0)),
						"@", host);
		case 1:
			return join(word_of("https://www."), "", host);
		case 2:
			return join(word_of("/usr/share/"), "", dictionary(p, 0));
		default:
			return join(word_of("http://"), "", join(host, "/", from_set(r, LOWER DIGITS, 1, 6)));
	}
}

static Word
code(Page *p)
{
	static const char *const money[] = {"$", "", "", "EUR", "USD", "-", "+"};
	Rng *r = p->rng;
	int day = rng_int(r, 1, 31);
	int month = rng_int(r, 1, 12);
	int year = rng_int(r, 1950, 2035);
	Word w;

	switch (rng_int(r, 0, 15))
	{
		case 0:
			return format("%02d.%02d.%d", day, month, year);
		case 1:
			return format("%d-%02d-%02d", year, month, day);
		case 2:
			return format("%d/%d/%d", month, day, year);
		case 3:
			return format("%s%d,%03d.%02d", money[rng_int(r, 0, 6)], day, rng_int(r, 0, 999),
						  month);
		case 4:
			w = format("%d,%02d", rng_int(r, 0, 9999), rng_int(r, 0, 99));
			w.c[w.n++] = rng_chance(r, .5f) ? 0x20ac : '%';
			return w;
		case 5:
			return address(p);
		case 6:
			return join(from_set(r, UPPER, 2, 4), "-", from_set(r, DIGITS, 2, 5));
		case 7:
			return join(join(dictionary(p, 0), "_", dictionary(p, 0)), "",
						word_of(rng_chance(r, .5f) ? "()" : ";"));
		case 8:
			return from_set(r, UPPER LOWER DIGITS, 3, 10);
		case 9:
			return format("+%d-%d-%d", rng_int(r, 1, 99), rng_int(r, 100, 999),
						  rng_int(r, 1000, 99999));
		case 10:
			return format("%02d:%02d", rng_int(r, 0, 23), rng_int(r, 0, 59));
		case 11:
			return from_set(r, DIGITS, 1, 8);
		case 12:
			return from_set(r, MARKS, 1, 4);
		case 13:
			return from_set(r, UPPER DIGITS, 4, 9);
		case 14:
			return from_set(r, "0123456789abcdef", 4, 16);
		default:
			return text_number(p);
	}
}

/* Changes letters of a word, so that it is no word any more. */
static void
scramble(Rng *r, Word *w)
{
	for (int i = 0; i < w->n; i++)
		if (w->c[i] >= 'a' && w->c[i] <= 'z' && rng_chance(r, .4f))
			w->c[i] = (uint32_t) rng_letter(r, LOWER, 26);
}

static Word
punctuate(Rng *r, Word w)
{
	static const uint32_t open[] = {'(', '"', 0x201c, '[', '\'', 0x2018, 0xab, 0x201e};
	static const uint32_t close[] = {')', '"', 0x201d, ']', '\'', 0x2019, 0xbb, 0x201c};
	float u = rng_unit(r);

	if (u < .17f && w.n < WORD_MAX)
		w.c[w.n++] = (uint32_t) rng_letter(r, ",,,..;:!?", 9);
	else if (u < .23f && w.n < WORD_MAX - 2)
	{
		int k = rng_int(r, 0, 7);

		memmove(w.c + 1, w.c, sizeof(w.c[0]) * (size_t) w.n);
		w.c[0] = open[k];
		w.c[w.n + 1] = close[k];
		w.n += 2;
	}
	return w;
}

static Word
random_word(Page *p, int language)
{
	Rng *r = p->rng;
	float u = rng_unit(r);
	Word w;

	if (u < .2f)
		return code(p);
	if (u < .32f)
		return from_set(r, LOWER, 1, 10);
	w = dictionary(p, rng_chance(r, .6f) ? language : -1);
	if (u < .42f)
		scramble(r, &w);
	if (rng_chance(r, .2f))
		raise_word(&w, rng_chance(r, .25f));
	return punctuate(r, w);
}

Word
text_name(Page *p, const Style *s)
{
	Word w;

	for (int i = 0; i < 8; i++)
	{
		w = dictionary(p, -1);
		raise_word(&w, false);
		if (page_can_draw(p, s, &w))
			return w;
	}
	return word_of("Total");
}

/* Of each number of atoms as many: most of those that there are have many. */
const char *
text_molecule(Page *p)
{
	const Lines *l = &split_of(p)->molecules;
	int from, to;

	if (l->n == 0)
	{
		fprintf(stderr, "render: no molecules.txt: run tools/train/run setup\n");
		exit(1);
	}
	do
	{
		int atoms = rng_int(p->rng, 2, atoms_of(l->line[l->n - 1]));

		from = lines_first(l, atoms_of, atoms);
		to = lines_first(l, atoms_of, atoms + 1);
	} while (from == to);
	return l->line[rng_int(p->rng, from, to - 1)];
}

TextKind
text_kind(Page *p)
{
	float u = rng_unit(p->rng);

	if (u >= p->request->random)
		return TEXT_PROSE;
	return rng_chance(p->rng, .12f) ? TEXT_CODES : TEXT_RANDOM;
}

static void
prose(Page *p, Word *out, int n)
{
	const Lines *l = &split_of(p)->prose;
	Rng *r = p->rng;
	const char *s = l->line[rng_int(r, 0, l->n - 1)];

	/* from the middle of a paragraph as often as from its beginning */
	if (rng_chance(r, .6f))
	{
		const char *at = s + rng_int(r, 0, (int) strlen(s) / 2);

		at = strchr(at, ' ');
		s = at ? at : s;
	}
	for (int i = 0; i < n;)
	{
		s = take_word(s, &out[i]);
		if (out[i].n)
			i++;
		else
			s = l->line[rng_int(r, 0, l->n - 1)];
	}
}

void
text_words(Page *p, const Style *s, TextKind kind, Word *out, int n)
{
	Rng *r = p->rng;
	float raised = rng_unit(r);
	int language = rng_chance(r, .4f) ? 0 : rng_int(r, 0, split_of(p)->n_words - 1);

	if (kind == TEXT_PROSE)
		prose(p, out, n);
	for (int i = 0; i < n; i++)
	{
		if (kind != TEXT_PROSE)
			out[i] = kind == TEXT_CODES ? code(p) : random_word(p, language);
		else if (rng_chance(r, .03f))
			scramble(r, &out[i]);
		if (raised < .12f)
			raise_word(&out[i], raised < .06f);
		for (int k = 0; k < 4 && !page_can_draw(p, s, &out[i]); k++)
			out[i] = k < 3 ? random_word(p, language) : from_set(r, LOWER, 2, 8);
	}
}
